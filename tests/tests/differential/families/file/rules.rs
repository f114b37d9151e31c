//! Every rule of validation, several broken at once, so that their order shows too.

use std::sync::Arc;

use serde_json::json;

use super::bare;
use super::make::{certificate, file};
use crate::draft::{Case, World};
use crate::tree::{Tree, map, text};

const URLS: [&str; 14] = [
    "https://a.example",
    "https://b.example",
    "https://a.example/",
    "https://c.example/x",
    "",
    "http://a.example",
    "https://a.example?q=1",
    "https://a.example#f",
    "https://u:p@a.example",
    "https://a.example:x",
    "://a",
    "https://a b",
    "HTTPS://a.example",
    "https://kubernetes.default.svc",
];

const KEYS: [&str; 18] = [
    "acme.io/foo",
    "acme.io/foo",
    "acme.io/foo/bar",
    "",
    "foo",
    "/foo",
    "acme.io/",
    "Acme.io/foo",
    "acme.io/Foo",
    "acme_x/foo",
    "acme.io/fo o",
    "acme.io/é",
    "k8s.io/foo",
    "a.k8s.io/foo",
    "kubernetes.io/x",
    "x.kubernetes.io/x",
    "xkubernetes.io/x",
    "-a/b",
];

pub(crate) fn rules(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for _ in 0..400 {
        let entries = (0..world.pick(&[1, 1, 2, 3])).map(|_| entry(world)).collect();
        let mut tree = file(world, entries);
        if world.chance(6) {
            if let Tree::Map(members) = &mut tree {
                members.retain(|(name, _)| name != "anonymous");
            }
            let raw = world.pick(&[
                r#"{"enabled":false,"conditions":[{"path":"/a"}]}"#,
                r#"{"conditions":[{"path":"<a>"},{"path":""}]}"#,
                r#"{"enabled":false}"#,
                r#"{"enabled":true,"conditions":[{}]}"#,
                "{}",
                r#"{"conditions":[]}"#,
            ]);
            tree = tree.with("anonymous", Tree::Raw(raw.to_owned()));
        }
        let mut case = bare(family, tree.json());
        if world.chance(4) {
            case.disallowed = vec!["https://kubernetes.default.svc".to_owned(), "https://b.example".to_owned()];
        }
        // A good file of the same head has to be there before a reload.
        if world.chance(4) && !case.file.contains("anonymous") {
            case.initial = Some(file_of_nobody());
        }
        out.push(case);
    }
}

fn file_of_nobody() -> String {
    json!({ "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [] }).to_string()
}

/// Mostly the good value, else one of the others.
fn mostly<'t>(world: &World, good: &'t str, others: &[&'t str]) -> Tree {
    text(if world.chance(4) { world.pick(others) } else { good })
}

fn entry(world: &Arc<World>) -> Tree {
    let unique = format!("https://i{}.example", world.rng.below(1_000));
    let mut issuer = map([("url", mostly(world, &unique, &URLS))]);
    let audiences = world.pick(&[&["c"][..], &["c"], &["c", "d"], &["c", "c"], &[""], &["", ""], &[]]);
    issuer = issuer.with("audiences", Tree::List(audiences.iter().map(|audience| text(audience)).collect()));
    if world.chance(2) {
        let policy = world.pick(&["MatchAny", "MatchAny", "MatchAll", "", "<x>"]);
        issuer = issuer.with("audienceMatchPolicy", text(policy));
    }
    if world.chance(4) {
        issuer = issuer.with("discoveryURL", text(world.pick(&URLS)));
    }
    if world.chance(6) {
        let cut = "-----BEGIN CERTIFICATE-----\nMAAB\n-----END CERTIFICATE-----\n";
        let other = "-----BEGIN EC PRIVATE KEY-----\nMAAB\n-----END EC PRIVATE KEY-----\n";
        let both = format!("{}{other}{}", certificate(), certificate());
        let pem = world.pick(&[certificate(), &both, "junk", cut, other, " "]).to_owned();
        issuer = issuer.with("certificateAuthority", text(&pem));
    }
    if world.chance(8) {
        let selector = world.pick(&["cluster", "controlplane", "etcd", "master", "", "<"]);
        issuer = issuer.with("egressSelectorType", text(selector));
    }
    let mut mappings = map([("username", prefixed(world, true))]);
    if world.chance(2) {
        mappings = mappings.with("groups", prefixed(world, false));
    }
    if world.chance(3) {
        let uid = match world.rng.below(3) {
            0 => map([("claim", text("uid")), ("expression", text("claims.uid"))]),
            1 => map([("claim", text(""))]),
            _ => map([("claim", text("uid"))]),
        };
        mappings = mappings.with("uid", uid);
    }
    if world.chance(4) {
        // A value without an expression is one more broken rule; one with is not this family's.
        let keys =
            (0..world.pick(&[1, 2])).map(|_| map([("key", text(world.pick(&KEYS)))]).with("valueExpression", text("")));
        mappings = mappings.with("extra", Tree::List(keys.collect()));
    }
    let mut entry = map([("issuer", issuer), ("claimMappings", mappings)]);
    if world.chance(3) {
        let rules = (0..world.pick(&[1, 2, 3])).map(|_| claim_rule(world)).collect();
        entry = entry.with("claimValidationRules", Tree::List(rules));
    }
    if world.chance(8) {
        entry = entry.with("userValidationRules", Tree::List(vec![map([("message", text("m"))]); 2]));
    }
    entry
}

fn prefixed(world: &World, username: bool) -> Tree {
    match world.rng.below(8) {
        0 => map([("claim", text("sub"))]),
        1 => map([("claim", text("sub")), ("prefix", text("p:")), ("expression", text("claims.sub"))]),
        2 => map([("claim", text("sub")), ("expression", text("claims.sub"))]),
        3 => map([("prefix", text("p:"))]),
        4 if !username => Tree::Map(Vec::new()),
        5 => map([("claim", text("")), ("prefix", Tree::Raw("null".to_owned()))]),
        _ => map([("claim", text("sub")), ("prefix", text(""))]),
    }
}

fn claim_rule(world: &World) -> Tree {
    let claim = world.pick(&["hd", "hd", "tenant", "\"q\""]);
    match world.rng.below(6) {
        0 => map([("claim", text(claim)), ("expression", text("true"))]),
        1 => map([("requiredValue", text("x"))]),
        2 => map([("claim", text(claim)), ("message", text("no"))]),
        3 => map([("claim", text(claim))]),
        _ => map([("claim", text(claim)), ("requiredValue", text("x"))]),
    }
}
