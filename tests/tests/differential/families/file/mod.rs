//! Families about whole files: several issuers, every feature that needs no expression, every rule, and texts that are wrong
//! in some place. Whatever is said of a file must be the same on both sides, word by word.

mod expressions;
mod forms;
pub(crate) mod generated;
mod make;
mod rules;
mod texts;

use std::sync::Arc;

use serde_json::json;

use super::ANY_VALUE;
use crate::draft::{CLIENT, Case, World};
use crate::tree::{Tree, map, text};
use make::Sample;

pub(crate) use expressions::{conditions, mappings};
pub(crate) use forms::forms;
pub(crate) use generated::generated;
pub(crate) use rules::rules;
pub(crate) use texts::{scalars, syntax};

/// Several issuers, tokens of each of them and of others, with the right keys and with another issuer's.
pub(crate) fn issuers(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for _ in 0..120 {
        let sample = Sample::new(world, world.pick(&[1, 2, 2, 3, 3, 5, 9]));
        let whose = world.rng.below(u32::try_from(sample.issuers.len()).expect("few")) as usize;
        let mut case = sample.case(family, whose);
        match world.rng.below(8) {
            // Keys of another issuer of the same file.
            0 if sample.issuers.len() > 1 => {
                let other = (whose + 1) % sample.issuers.len();
                case.token = sample.token(whose, other, &[]);
            }
            1 => case.token = sample.token(whose, whose, &[("iss", json!("https://unknown.example").to_string())]),
            2 => {
                let slash = format!("{}/", sample.issuers[whose].url);
                case.token = sample.token(whose, whose, &[("iss", json!(slash).to_string())]);
            }
            _ => {}
        }
        out.push(case);
    }
    let nobody = Sample::new(world, 0);
    for token in ["opaque", "a.b.c", ""] {
        let mut case = nobody.case_with(family, token.to_owned());
        out.push(case);
        case = Sample::new(world, 2).case_with(family, token.to_owned());
        out.push(case);
    }
    out.push(nobody.case_with(family, world.draft().parts().join(".")));
    for _ in 0..4 {
        let mut google = Sample::new(world, 2);
        google.rename(1, "https://accounts.google.com");
        let iss = world.pick(&["accounts.google.com", "https://accounts.google.com", "accounts.google.com/"]);
        let token = google.token(1, 1, &[("iss", json!(iss).to_string())]);
        out.push(google.case_with(family, token));
    }
}

/// Everything that an entry may say without an expression, on tokens that fit more or less.
pub(crate) fn features(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for _ in 0..250 {
        let sample = Sample::new(world, world.pick(&[1, 1, 2]));
        let whose = sample.issuers.len() - 1;
        let mut claims = Vec::new();
        if world.chance(4) {
            let name = world.pick(&["sub", "groups", "uid", "email", "email_verified", "hd", "aud", "exp"]);
            claims.push((name, world.pick(&ANY_VALUE).to_owned()));
        }
        let token = sample.token(whose, whose, &claims);
        let mut case = sample.case_with(family, token);
        if world.chance(3) {
            case.file = sample.file(world).yaml(world);
        }
        out.push(case);
    }
}

/// `kind` and `apiVersion`.
pub(crate) fn heads(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let kinds = [
        Some("AuthenticationConfiguration"),
        Some("authenticationconfiguration"),
        Some("AuthorizationConfiguration"),
        Some("EncryptionConfiguration"),
        Some("TracingConfiguration"),
        Some("AdmissionConfiguration"),
        Some("EgressSelectorConfiguration"),
        Some("EncryptionConfig"),
        Some("Pod"),
        Some(""),
        Some("\"<&>"),
        None,
    ];
    let versions = [
        Some("apiserver.config.k8s.io/v1"),
        Some("apiserver.config.k8s.io/v1beta1"),
        Some("apiserver.config.k8s.io/v1alpha1"),
        Some("apiserver.config.k8s.io/v2"),
        Some("apiserver.config.k8s.io/V1"),
        Some("apiserver.config.k8s.io"),
        Some("apiserver.config.k8s.io/"),
        Some("apiserver.config.k8s.io/v1/x"),
        Some("apiserver.k8s.io/v1alpha1"),
        Some("apiserver.k8s.io/v1beta1"),
        Some("v1"),
        Some("/"),
        Some("/v1"),
        Some(""),
        None,
    ];
    for kind in kinds {
        for version in versions {
            let mut tree = Tree::Map(Vec::new());
            if let Some(kind) = kind {
                tree = tree.with(world.pick(&["kind", "kind", "kind", "Kind"]), text(kind));
            }
            if let Some(version) = version {
                tree = tree.with("apiVersion", text(version));
            }
            let other = kind.is_some_and(|kind| kind != "AuthenticationConfiguration" && kind.contains("Config"));
            // Files of other kinds have other members.
            if !other {
                tree = tree.with("jwt", Tree::List(Vec::new()));
            }
            out.push(bare(family, if world.chance(2) { tree.json() } else { tree.yaml(world) }));
        }
    }
    for raw in ["1", "[]", "{}", "null", "true"] {
        for (name, other) in
            [("kind", "apiVersion"), ("apiVersion", "kind"), ("KIND", "apiVersion"), ("APIversion", "kind")]
        {
            let good = if other == "kind" { "AuthenticationConfiguration" } else { "apiserver.config.k8s.io/v1" };
            let tree = map([(other, text(good)), (name, Tree::Raw(raw.to_owned())), (name, text(good))]);
            out.push(bare(family, tree.json()));
        }
    }
}

/// One to three changes of a good file, as JSON.
pub(crate) fn mutations(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for _ in 0..500 {
        let sample = Sample::new(world, world.pick(&[1, 1, 2, 3]));
        let mut tree = sample.file(world);
        for _ in 0..=world.rng.below(3) {
            mutate(world, &mut tree);
        }
        let mut case = sample.case(family, 0);
        case.file = tree.json();
        out.push(case);
    }
}

/// The same as YAML.
pub(crate) fn yaml(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for _ in 0..500 {
        let sample = Sample::new(world, world.pick(&[1, 1, 2, 3]));
        let mut tree = sample.file(world);
        for _ in 0..world.rng.below(3) {
            mutate(world, &mut tree);
        }
        let mut case = sample.case(family, 0);
        case.file = tree.yaml(world);
        out.push(case);
    }
}

/// As many issuers as may be, and more; very many mistakes; long texts.
pub(crate) fn limits(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for issuers in [63, 64, 65, 66, 100] {
        let sample = Sample::plain(world, issuers);
        out.push(sample.case(family, issuers - 1));
        out.push(sample.case(family, 0));
        let mut twice = sample;
        let first = twice.issuers[0].url.clone();
        twice.rename(issuers - 1, &first);
        out.push(twice.case(family, 0));
    }
    for unknown in [1, 99, 100, 101, 150] {
        let mut tree = Sample::plain(world, 1).file(world);
        for n in 0..unknown {
            tree = tree.with(&format!("x{n:03}"), Tree::Raw("1".to_owned()));
        }
        out.push(bare(family, tree.json()));
        out.push(bare(family, tree.yaml(world)));
    }
    for many in [1_000, 5_000] {
        let mut tree = Sample::plain(world, 1).file(world);
        let audiences = (0..many).map(|n| text(&format!("a{}", n % (many - 3)))).chain([text(CLIENT)]).collect();
        *tree.get_mut("jwt").at_mut(0).get_mut("issuer").get_mut("audiences") = Tree::List(audiences);
        out.push(bare(family, tree.json()));
        let mut long = Sample::plain(world, 1).file(world);
        *long.get_mut("jwt").at_mut(0).get_mut("claimMappings").get_mut("username").get_mut("claim") =
            text(&"x".repeat(many * 10));
        out.push(bare(family, long.json()));
    }
}

/// A file that takes the place of another.
pub(crate) fn reload(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for _ in 0..120 {
        let before = Sample::new(world, world.pick(&[0, 1, 2]));
        let sample = Sample::new(world, world.pick(&[1, 1, 2, 3]));
        let mut initial = before.file(world);
        let mut tree = sample.file(world);
        for tree in [&mut initial, &mut tree] {
            if let Tree::Map(members) = tree {
                members.retain(|(name, _)| name != "anonymous");
                let anonymous = world.pick(&[None, Some("[{\"path\":\"/a\"}]"), Some("[{\"path\":\"/b\"}]"), None]);
                if let Some(conditions) = anonymous {
                    let value = map([
                        ("enabled", Tree::Raw("true".to_owned())),
                        ("conditions", Tree::Raw(conditions.to_owned())),
                    ]);
                    members.push(("anonymous".to_owned(), value));
                }
            }
        }
        if world.chance(4) {
            mutate(world, &mut tree);
        }
        let mut case = sample.case(family, 0);
        case.file = tree.json();
        case.initial = Some(initial.json());
        if world.chance(4) {
            // Not an issuer of the initial file, which has to load.
            let url = sample.issuers[0].url.clone();
            if !before.issuers.iter().any(|issuer| issuer.url == url) {
                case.disallowed = vec!["https://kubernetes.default.svc".to_owned(), url];
            }
        }
        out.push(case);
    }
}

/// A case in which only the file matters.
fn bare(family: &'static str, file: String) -> Case {
    Case {
        family,
        file,
        initial: None,
        algs: portcullis_authn::ALL_SIGNING_ALGS.map(str::to_owned).to_vec(),
        disallowed: Vec::new(),
        jwks: r#"{"keys":[]}"#.to_owned(),
        issuer_jwks: Vec::new(),
        token: "opaque".to_owned(),
    }
}

/// Changes one place.
fn mutate(world: &Arc<World>, tree: &mut Tree) {
    const TEXTS: [&str; 16] = [
        "",
        "a",
        "http://x.example",
        "https://x.example?q",
        "https://u@x.example",
        "https://x.example/%zz",
        "MatchAny",
        "matchany",
        "cluster",
        "<&>\u{2028}",
        "é\u{7f}",
        "sub",
        "email",
        "my-client",
        "\"q\"",
        "acme.io/x",
    ];
    const UNKNOWN: [&str; 10] =
        ["foo", "Issuer", "JWT", "url ", "", "claim.x", "q\"", "é", "valueexpression", "enabled"];
    let place = world.rng.below(tree.count());
    let spot = tree.nth_mut(place);
    match (world.rng.below(9), &mut *spot) {
        (0 | 1, spot) => *spot = Tree::Raw(world.pick(&ANY_VALUE).to_owned()),
        (2, Tree::Map(members)) if !members.is_empty() => {
            let at = world.rng.below(u32::try_from(members.len()).expect("few")) as usize;
            let mut twice = members[at].clone();
            if world.chance(2) {
                twice.1 = Tree::Raw(world.pick(&ANY_VALUE).to_owned());
            }
            members.push(twice);
        }
        (3, Tree::Map(members)) if !members.is_empty() => {
            let at = world.rng.below(u32::try_from(members.len()).expect("few")) as usize;
            let name = &mut members[at].0;
            *name = match world.rng.below(3) {
                0 => name.to_uppercase(),
                1 => name.to_lowercase(),
                _ => name.chars().enumerate().map(|(n, c)| if n == 0 { c.to_ascii_uppercase() } else { c }).collect(),
            };
        }
        (4, Tree::Map(members)) => {
            let value = Tree::Raw(world.pick(&ANY_VALUE).to_owned());
            members.push((world.pick(&UNKNOWN).to_owned(), value));
        }
        (5, Tree::Map(members)) if !members.is_empty() => {
            let at = world.rng.below(u32::try_from(members.len()).expect("few")) as usize;
            members.remove(at);
        }
        (6, Tree::List(items)) if !items.is_empty() => {
            let at = world.rng.below(u32::try_from(items.len()).expect("few")) as usize;
            let twice = items[at].clone();
            items.push(twice);
        }
        (7, Tree::List(items)) => items.clear(),
        (_, spot @ (Tree::Text(_) | Tree::Raw(_))) => *spot = text(world.pick(&TEXTS)),
        (_, Tree::Map(members)) => members.reverse(),
        (_, Tree::List(items)) => items.reverse(),
        (_, Tree::Plain(_)) => {}
    }
}
