//! Whole files and whole tokens at once: entries of every feature with expressions from a grammar, keys in any order, and tokens
//! whose claims have other types, come twice or in other letters.
//!
//! What the other families change one at a time meets here, so that the order of the checks shows, and what one feature does
//! to the next.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_authn::TrustConfiguration;
use portcullis_jose::{Algorithm, SigningKey};
use serde_json::{Value, json};

use super::make;
pub(crate) use super::make::Trusted;
use crate::draft::{Case, World, object};
use crate::families::ANY_VALUE;
use crate::tree::{Tree, map, text};

/// Cases a round.
const CASES: usize = 4_000;
/// How deep expressions are nested in each other.
const DEPTH: usize = 3;

/// Productions of one type. Those before `leaves` have no hole.
struct Productions {
    hole: &'static str,
    leaves: usize,
    forms: &'static [&'static str],
}

const GRAMMAR: [Productions; 5] = [
    Productions {
        hole: "{S}",
        leaves: 10,
        forms: &[
            "claims.sub",
            "claims.sub",
            "'x-y'",
            "claims.o.k",
            "claims['a.b']",
            "claims.a__dot__b",
            "claims.s",
            "string(claims.t)",
            "string(claims.big)",
            "string(int(claims.big))",
            "({S} + {S})",
            "({B} ? {S} : {S})",
            "claims.?{name}.orValue({S})",
            "claims.{name}",
            "string({S}).lowerAscii()",
            "string({S}).upperAscii()",
            "{S}.replace('a', 'b')",
            "{S}.split('-')[0]",
            "string({I})",
            "{L}[0]",
            "dyn({L}).join('/')",
            "optional.of({S}).value()",
        ],
    },
    Productions {
        hole: "{I}",
        leaves: 4,
        forms: &[
            "7",
            "claims.exp",
            "int(claims.exp)",
            "claims.big",
            "size({S})",
            "{L}.size()",
            "({I} + {I})",
            "({I} - 1)",
            "({I} * 2)",
        ],
    },
    Productions {
        hole: "{L}",
        leaves: 5,
        forms: &[
            "claims.groups",
            "claims.groups",
            "['a', 'b']",
            "claims.o.l",
            "claims.?groups.orValue([])",
            "[{S}]",
            "[{S}, {S}]",
            "({L} + {L})",
            "dyn({L}).filter(g, {B})",
            "dyn({L}).map(g, 'g:' + string(g))",
            "dyn({L}).map(g, {S})",
            "({B} ? {L} : {L})",
            "claims.?{listed}.orValue({L})",
            "{S}.split(',').map(x, x)",
        ],
    },
    Productions {
        hole: "{B}",
        leaves: 7,
        forms: &[
            "true",
            "claims.exp > 0",
            "claims.big == 9007199254740992",
            "type(claims.big) == double",
            "claims.t == true",
            "claims.email_verified == true",
            "claims.sub != ''",
            "({S} == {S})",
            "({S} != {S})",
            "{S}.startsWith('j')",
            "({S} in {L})",
            "('dev' in {L})",
            "has(claims.{name})",
            "({I} >= {I})",
            "({B} && {B})",
            "({B} || {B})",
            "!({B})",
            "dyn({L}).exists(g, g == {S})",
            "dyn({L}).all(g, {B})",
            "string({S}).matches('^[a-z-]+[0-9]$')",
            "(dyn(claims.{name}) == null)",
        ],
    },
    Productions {
        hole: "{U}",
        leaves: 6,
        forms: &[
            "true",
            "user.username != ''",
            "user.groups.all(g, g != 'system:masters')",
            "user.username.size() < 64",
            "user.extra.all(k, user.extra[k].size() > 0)",
            "user.groups.size() < 9",
            "('dev' in user.groups)",
            "(user.uid == '')",
            "has(user.extra)",
            "user.username.startsWith('j')",
            "({U} && {U})",
            "({U} || {U})",
            "!({U})",
            "user.groups.exists(g, {U})",
        ],
    },
];

const NAMES: [&str; 17] = [
    "sub",
    "email",
    "email_verified",
    "groups",
    "o",
    "s",
    "t",
    "nothing",
    "missing",
    "exp",
    "uid",
    "jti",
    "aud",
    "n",
    "big",
    "nbf",
    "_claim_names",
];

const OTHER_LETTERS: [&str; 10] =
    ["Sub", "SUB", "Groups", "EMAIL", "Email_Verified", "Exp", "AUD", "Iss", "\"\\u0073ub\"", "nbf"];

/// Integers around those that a floating-point number holds: row #101 of upstream's cases.
const BIG: [&str; 8] = [
    "9007199254740991",
    "9007199254740993",
    "-9007199254740993",
    "1999999999",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e21",
];

/// Which claims are said to be elsewhere.
const CLAIM_NAMES: [&str; 8] = [
    r#"{"groups":"src"}"#,
    r#"{"groups":"missing"}"#,
    r#"{"groups":""}"#,
    r#"{"other":"src"}"#,
    r#"{"Groups":"src"}"#,
    r#"{"groups":"src","uid":"src"}"#,
    "{}",
    "null",
];

/// Where they are said to be. Nobody listens at that port.
const CLAIM_SOURCES: [&str; 7] = [
    r#"{"src":{"endpoint":"https://127.0.0.1:1/claims","access_token":"t"}}"#,
    r#"{"src":{"endpoint":"https://127.0.0.1:1/claims"},"missing":{}}"#,
    r#"{"src":{"JWT":"a.b.c"}}"#,
    r#"{"src":{}}"#,
    r#"{"other":{}}"#,
    "{}",
    "null",
];

/// An expression of the type that `hole` names.
fn expression(world: &World, hole: &str, depth: usize) -> String {
    let of = GRAMMAR.iter().find(|productions| productions.hole == hole).expect("a type");
    let form = if depth == 0 { world.pick(&of.forms[..of.leaves]) } else { world.pick(of.forms) };
    let mut text = String::new();
    let mut rest = form;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').expect("a hole");
        text.push_str(before);
        match name {
            "name" => text.push_str(world.pick(&NAMES)),
            // A map of several entries is walked in a random order there (docs/compat/kube-apiserver-cel.md).
            "listed" => text.push_str(world.pick(&NAMES.map(|name| if name == "o" { "groups" } else { name }))),
            name => text.push_str(&expression(world, &format!("{{{name}}}"), depth - 1)),
        }
        rest = after;
    }
    text + rest
}

fn of(world: &World, hole: &str) -> Tree {
    text(&expression(world, hole, world.rng.below(u32::try_from(DEPTH + 1).expect("few")) as usize))
}

/// One that is of this type in most cases.
fn mostly(world: &World, hole: &str) -> Tree {
    of(world, if world.chance(20) { world.pick(&["{S}", "{L}", "{B}", "{I}"]) } else { hole })
}

/// Gives an entry expressions where it may have them, and now and then beside what they exclude.
fn with_expressions(world: &World, entry: &mut Tree) {
    let besides = |tree: Tree, name: &str, value: Tree| if world.chance(60) { tree.with(name, value) } else { tree };
    let claim = |name: &str| {
        let claim = map([("claim", text(name)), ("prefix", text(world.pick(&["", "p:"])))]);
        besides(claim, "expression", text("claims.sub"))
    };
    let said = |hole: &str| {
        let said = map([("expression", mostly(world, hole))]);
        besides(besides(said, "prefix", text(world.pick(&["", "p:"]))), "claim", text(world.pick(&["", "sub"])))
    };
    let mut mappings = map([("username", if world.chance(3) { claim("sub") } else { said("{S}") })]);
    match world.rng.below(4) {
        0 => {}
        1 => mappings = mappings.with("groups", claim("groups")),
        _ => mappings = mappings.with("groups", said("{L}")),
    }
    match world.rng.below(4) {
        0 => mappings = mappings.with("uid", map([("claim", text(world.pick(&["uid", "sub", "jti"])))])),
        1 => {
            let uid = map([("expression", mostly(world, "{S}"))]);
            mappings = mappings.with("uid", besides(uid, "claim", text("uid")));
        }
        _ => {}
    }
    if world.chance(3) {
        let key = |n| world.pick(&["acme.io/a", "acme.io/b", "x.example/c/d", "Acme.io/a"][n..]);
        let one = |n| {
            let hole = world.pick(&["{S}", "{L}"]);
            map([("key", text(key(n))), ("valueExpression", mostly(world, hole))])
        };
        mappings = mappings.with("extra", Tree::List((0..world.pick(&[1, 1, 2])).map(one).collect()));
    }
    *entry.get_mut("claimMappings") = mappings;
    let rule = |hole: &str| {
        let mut rule = match world.rng.below(4) {
            0 => map([("expression", of(world, hole))]),
            1 => map([("expression", text("true"))]),
            _ => map([("expression", text(&format!("{} || true", expression(world, hole, 2))))]),
        };
        if hole == "{B}" {
            rule = besides(rule, "requiredValue", text(world.pick(&["", "example.com"])));
            rule = besides(rule, "claim", text(world.pick(&["", "hd"])));
        }
        if world.chance(2) {
            rule = rule.with("message", text(world.pick(&["no", "not \"here\"", "é"])));
        }
        rule
    };
    if world.chance(3) {
        let rules = (0..world.pick(&[1, 1, 2])).map(|_| rule("{B}")).collect();
        *entry = entry.clone().without("claimValidationRules").with("claimValidationRules", Tree::List(rules));
    }
    if world.chance(3) {
        let rules = (0..world.pick(&[1, 1, 2])).map(|_| rule("{U}")).collect();
        *entry = entry.clone().with("userValidationRules", Tree::List(rules));
    }
}

/// One to three changes of the claims.
fn change(world: &World, claims: &mut Vec<(String, String)>) {
    for _ in 0..=world.rng.below(3) {
        let value = || match world.rng.below(6) {
            0 => world.times.future.to_string(),
            1 => world.times.past.to_string(),
            _ => world.pick(&ANY_VALUE).to_owned(),
        };
        let at = world.rng.below(u32::try_from(claims.len()).expect("few claims")) as usize;
        match world.rng.below(8) {
            0 | 1 => claims[at].1 = value(),
            2 => {
                let name = claims[at].0.clone();
                claims.push((name, value()));
            }
            3 | 4 => claims.push((world.pick(&OTHER_LETTERS).to_owned(), value())),
            5 if claims.len() > 1 => drop(claims.remove(at)),
            6 => claims.push((world.pick(&NAMES).to_owned(), value())),
            _ => claims.swap(0, at),
        }
    }
}

/// When the token begins to hold.
fn begin(world: &World, claims: &mut Vec<(String, String)>) {
    let times = world.times;
    let value = match world.rng.below(8) {
        0 | 1 => times.past.to_string(),
        2 => times.soon.to_string(),
        3 => times.future.to_string(),
        4 => format!("\"{}\"", world.pick(&[times.past, times.future])),
        5 => format!("{}.5", world.pick(&[times.past, times.future])),
        _ => world.pick(&ANY_VALUE).to_owned(),
    };
    claims.push(("nbf".to_owned(), value));
}

/// Says that claims are elsewhere, in most cases those of the groups, and that the token does not hold them.
fn elsewhere(world: &World, claims: &mut Vec<(String, String)>) {
    if !world.chance(3) {
        claims.retain(|(name, _)| name != "groups");
    }
    for (name, values) in [("_claim_names", &CLAIM_NAMES[..]), ("_claim_sources", &CLAIM_SOURCES)] {
        let value = match world.rng.below(12) {
            0 => continue,
            1 => world.pick(&ANY_VALUE),
            2..6 => values[0],
            _ => world.pick(values),
        };
        claims.push((name.to_owned(), value.to_owned()));
    }
}

/// The algorithms of an RSA key.
const RSA: [Algorithm; 6] =
    [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];

/// Which header and key a token has: mostly those that it should.
fn signed(world: &World, key: &SigningKey, claims: &[(String, String)]) -> String {
    let (mut key, mut algorithm) = (key, key.default_algorithm());
    if algorithm == Algorithm::Rs256 {
        algorithm = world.pick(&RSA);
    }
    let mut header = vec![("alg".to_owned(), json!(algorithm.to_string()).to_string())];
    if !world.chance(4) {
        header.push(("kid".to_owned(), json!(key.kid()).to_string()));
    }
    match world.rng.below(40) {
        0 => {
            algorithm =
                world.pick(&[Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::Es512, Algorithm::EdDsa]);
            key = world.keys.for_algorithm(algorithm);
        }
        1 => header[0].1 = json!(world.pick(&["RS256", "ES256", "HS256", "none", "es256", "EdDSA"])).to_string(),
        2 => header.push(("kid".to_owned(), world.pick(&["\"p256\"", "\"rsa\"", "\"\"", "1"]).to_owned())),
        // `crit`, and a `typ` that is no text, are refused by decision: `families::deliberate`.
        3 if world.chance(3) => header.push(("typ".to_owned(), "\"at+jwt\"".to_owned())),
        3 => {
            let name = world.pick(&["b64", "jku", "cty", "x"]);
            header.push((name.to_owned(), world.pick(&ANY_VALUE).to_owned()));
        }
        4 => header.reverse(),
        _ => {}
    }
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(object(&header)), URL_SAFE_NO_PAD.encode(object(claims)));
    let signature = key.sign(algorithm, input.as_bytes()).expect("a signature");
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The key among others, in any order.
pub(crate) fn key_set(world: &World, key: &SigningKey) -> String {
    let keys = &world.keys;
    let mut set: Vec<Value> = vec![key.public().to_json()];
    for _ in 0..world.pick(&[0, 0, 1, 3]) {
        let other = world.pick(&[&keys.rsa[1], &keys.p256[1], &keys.p384, &keys.p521, &keys.ed25519]);
        let mut other = other.public().to_json();
        match world.rng.below(6) {
            0 => other["kid"] = json!(key.kid()),
            1 => other["use"] = json!("enc"),
            _ => {}
        }
        let at = world.rng.below(u32::try_from(set.len() + 1).expect("few keys")) as usize;
        set.insert(at, other);
    }
    json!({ "keys": set }).to_string()
}

/// An issuer with features and expressions chosen at random, the number `n` of a file.
pub(crate) fn issuer(world: &Arc<World>, n: usize) -> Trusted {
    let mut issuer = make::issuer(world, n, true);
    if world.chance(3) {
        issuer.key = world.pick(&[&world.keys.rsa[0], &world.keys.p521]).clone();
    }
    if !world.chance(6) {
        with_expressions(world, &mut issuer.entry);
    }
    issuer
}

/// A token that says it is this issuer's, and in most cases is.
pub(crate) fn token(world: &World, issuer: &Trusted, signer: &SigningKey) -> String {
    let mut claims = issuer.claims.clone();
    for (name, value) in [
        ("o", r#"{"k":"v","l":["x","y"],"n":{"a":1}}"#),
        ("a.b", "\"dot\""),
        ("s", "\"a,b\""),
        ("t", "true"),
        ("n", "1.5"),
        ("big", world.pick(&BIG)),
        ("nothing", "null"),
        ("email", "\"jane@example.com\""),
        ("email_verified", "true"),
    ] {
        if claims.iter().all(|(other, _)| other != name) {
            claims.push((name.to_owned(), value.to_owned()));
        }
    }
    if world.chance(8) {
        begin(world, &mut claims);
    }
    if world.chance(8) {
        elsewhere(world, &mut claims);
    }
    if world.chance(3) {
        change(world, &mut claims);
    }
    signed(world, signer, &claims)
}

/// A file that the server may have started with before `file` came; `None` when chance makes one that does not load.
fn before(world: &Arc<World>, file: &Tree) -> Option<String> {
    let mut before = file.clone();
    let entries = (0..world.pick(&[0, 1, 1, 2])).map(|n| issuer(world, n).entry).collect();
    // What it says of anonymous requests may not change.
    *before.get_mut("jwt") = Tree::List(entries);
    let text = before.json();
    TrustConfiguration::load(text.as_bytes(), &[]).is_ok().then_some(text)
}

/// Whole files, each with a token; some in the place of another file.
pub(crate) fn generated(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for _ in 0..CASES {
        let issuers: Vec<Trusted> = (0..world.pick(&[1, 1, 1, 2, 3])).map(|n| issuer(world, n)).collect();
        let some = || &issuers[world.rng.below(u32::try_from(issuers.len()).expect("few")) as usize];
        let whose = some();
        let signer = if world.chance(30) { some() } else { whose };
        let token = token(world, whose, &signer.key);
        let file = make::file(world, issuers.iter().map(|issuer| issuer.entry.clone()).collect());
        let initial = if world.chance(6) { before(world, &file) } else { None };
        out.push(Case {
            initial,
            jwks: key_set(world, &issuers[0].key),
            issuer_jwks: issuers.iter().map(|issuer| (issuer.url.clone(), key_set(world, &issuer.key))).collect(),
            token,
            ..super::bare(family, if world.chance(4) { file.yaml(world) } else { file.json() })
        });
    }
}
