//! CEL in a file: mappings and rules that hold, that do not, that fail, and that do not compile, on claims of every type.
//!
//! What CEL itself does is compared in `portcullis-cel`; here it is what becomes of it.

use std::sync::Arc;

use serde_json::json;

use super::make::Sample;
use crate::draft::{Case, World};
use crate::families::ANY_VALUE;
use crate::tree::{Tree, map, text};

const USERNAMES: [&str; 16] = [
    "claims.sub",
    "'oidc:' + claims.sub",
    "claims.email_verified == true ? claims.email : claims.sub",
    "has(claims.email) && claims.?email_verified.orValue(false) ? claims.email : claims.sub",
    "claims['email']",
    "dyn(claims).email",
    "claims.sub.lowerAscii()",
    "claims.sub.split('-')[0]",
    "string(int(claims.exp))",
    "string(claims.exp)",
    "claims.o.k",
    "claims.a__dot__b",
    "claims['a.b']",
    "dyn(claims.groups).map(x, x + '!')[0]",
    "claims.o.l[1]",
    "claims.sub == 'jane-0' ? 'root' : 'x'",
];

const ODD_USERNAMES: [&str; 14] = [
    "claims.email",
    "claims.?email.orValue(claims.sub)",
    "claims.exp",
    "''",
    "claims.missing",
    "claims.?missing",
    "claims.groups",
    "claims.groups.map(x, x)",
    "claims.sub + 1",
    "foo",
    "null",
    "type(claims.exp)",
    "optional.of('x')",
    "claims.",
];

const LISTS: [&str; 20] = [
    "claims.groups",
    "claims.sub",
    "['a', 'b']",
    "['a'] + claims.groups",
    "dyn(claims.groups).filter(g, g.startsWith('d'))",
    "dyn(claims.groups).map(g, 'x:' + g)",
    "claims.o.l.map(x, x)",
    "claims.s.split(',').map(x, x)",
    "claims.?missing.orValue([])",
    "has(claims.missing) ? claims.missing : null",
    "''",
    "['', 'a', '']",
    "claims.t ? ['yes'] : ['no']",
    "[type(1), type('a')]",
    "[optional.of('a')]",
    "claims.groups + claims.groups",
    "dyn(claims.groups).map(g, g).sort()",
    "[string(claims.t)]",
    "claims.o.l",
    "claims.nothing",
];

const ODD_LISTS: [&str; 14] = [
    "claims.s.split(',')",
    "claims.exp",
    "[1]",
    "claims.o",
    "claims.?groups",
    "claims.missing",
    "[claims.sub, 'a']",
    "['a', claims.sub]",
    "optional.of('a')",
    "claims.groups.exists(g, true)",
    "[dyn('a'), dyn(1)]",
    "{'a': 'b'}",
    "size(claims)",
    "'a' in claims",
];

const UIDS: [&str; 8] =
    ["claims.sub", "''", "claims.o.k", "string(claims.exp)", "claims.exp", "claims.?uid", "claims.missing", "bar"];

const CLAIM_RULES: [&str; 16] = [
    "true",
    "claims.exp > 0",
    "claims.sub != ''",
    "'dev' in claims.groups",
    "has(claims.o.k)",
    "claims.email_verified == true",
    "claims.t == true",
    "claims.exp - claims.exp <= 86400",
    "claims.o.l.all(x, x.size() == 1)",
    "false",
    "'nobody' in claims.groups",
    "claims.missing == 'a'",
    "claims.t",
    "claims.sub",
    "claims.groups.all(g, true)",
    "claims.email_verified || true",
];

const USER_RULES: [&str; 16] = [
    "!user.username.startsWith('system:')",
    "user.groups.all(g, !g.startsWith('system:'))",
    "user.uid == ''",
    "has(user.uid)",
    "has(user.extra)",
    "user.groups.size() >= 0",
    "!('acme.io/x' in user.extra) || user.extra['acme.io/x'].size() > 0",
    "user.username.size() < 64",
    "user.username == 'jane-0'",
    "user.groups == ['dev', 'ops']",
    "user.extra.exists(k, k.startsWith('authentication.kubernetes.io/'))",
    "user.extra['missing'].size() > 0",
    "user.groups.exists(g, g == 'dev')",
    "user.name == 'a'",
    "claims.sub == 'a'",
    "user.username",
];

/// Mostly one of the first, else one of the second.
fn mostly(world: &World, good: &[&'static str], odd: &[&'static str]) -> &'static str {
    world.pick(if world.chance(5) { odd } else { good })
}

fn expression(text_of: &str) -> Tree {
    map([("expression", text(text_of))])
}

/// User name, groups, uid and further attributes.
pub(crate) fn mappings(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for n in 0..USERNAMES.len() + ODD_USERNAMES.len() + LISTS.len() + ODD_LISTS.len() + 80 {
        let mut mappings = map([("username", expression(mostly(world, &USERNAMES, &ODD_USERNAMES)))]);
        if world.chance(2) {
            mappings = mappings.with("groups", expression(mostly(world, &LISTS, &ODD_LISTS)));
        }
        if world.chance(3) {
            mappings = mappings.with("uid", expression(world.pick(&UIDS)));
        }
        if world.chance(2) {
            let one = |key: &str| {
                let value = text(mostly(world, &LISTS, &ODD_LISTS));
                map([("key", text(key))]).with("valueExpression", value)
            };
            mappings = mappings.with("extra", Tree::List(vec![one("acme.io/x"), one("acme.io/y")]));
        }
        // Each expression once by itself.
        let all = [&USERNAMES[..], &ODD_USERNAMES, &LISTS, &ODD_LISTS].concat();
        if let Some(alone) = all.get(n) {
            let name = if n < USERNAMES.len() + ODD_USERNAMES.len() { "username" } else { "groups" };
            mappings = map([("username", map([("claim", text("sub")), ("prefix", text(""))]))]);
            mappings = match name {
                "username" => map([(name, expression(alone))]),
                _ => mappings.with(name, expression(alone)),
            };
        }
        out.push(case(world, family, Some(mappings), None, None));
    }
}

/// Rules about claims and about the user.
pub(crate) fn conditions(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let rules = |from: &[&'static str], many: usize| {
        let rule = || {
            let rule = expression(world.pick(from));
            if world.chance(2) { rule.with("message", text("no")) } else { rule }
        };
        Tree::List((0..many).map(|_| rule()).collect())
    };
    for n in 0..CLAIM_RULES.len() + USER_RULES.len() + 80 {
        let all = [CLAIM_RULES, USER_RULES].concat();
        let (claims, user) = match all.get(n) {
            Some(alone) if n < CLAIM_RULES.len() => (Some(Tree::List(vec![expression(alone)])), None),
            Some(alone) => (None, Some(Tree::List(vec![expression(alone)]))),
            None => {
                // Most of each list hold.
                let (claims, user) = if world.chance(4) {
                    (&CLAIM_RULES[..], &USER_RULES[..])
                } else {
                    (&CLAIM_RULES[..9], &USER_RULES[..8])
                };
                (
                    world.chance(2).then(|| rules(claims, world.pick(&[1, 2]))),
                    world.chance(2).then(|| rules(user, world.pick(&[1, 2, 3]))),
                )
            }
        };
        let mappings = world.chance(4).then(|| map([("username", expression("claims.sub"))]));
        out.push(case(world, family, mappings, claims, user));
    }
}

fn case(
    world: &Arc<World>,
    family: &'static str,
    mappings: Option<Tree>,
    claim_rules: Option<Tree>,
    user_rules: Option<Tree>,
) -> Case {
    let sample = Sample::plain(world, 1);
    let mut tree = sample.file(world);
    let entry = tree.get_mut("jwt").at_mut(0);
    if let Some(mappings) = mappings {
        *entry.get_mut("claimMappings") = mappings;
    }
    for (name, rules) in [("claimValidationRules", claim_rules), ("userValidationRules", user_rules)] {
        if let Some(rules) = rules {
            *entry = entry.clone().with(name, rules);
        }
    }
    let mut claims = vec![
        ("o", r#"{"k":"v","l":["x","y"],"n":{"a":1}}"#.to_owned()),
        ("a.b", json!("dot").to_string()),
        ("s", json!("a,b").to_string()),
        ("t", "true".to_owned()),
        ("nothing", "null".to_owned()),
        ("email", json!("jane@example.com").to_string()),
        ("email_verified", "true".to_owned()),
    ];
    if world.chance(3) {
        claims.push(("jti", json!("id").to_string()));
    }
    if world.chance(4) {
        let name = world.pick(&["o", "a.b", "s", "t", "email", "email_verified", "groups", "uid", "missing"]);
        let value = world.pick(&ANY_VALUE).to_owned();
        claims.retain(|(other, _)| *other != name);
        claims.push((name, value));
    }
    let mut case = sample.case_with(family, sample.token(0, 0, &claims));
    case.file = tree.json();
    case
}
