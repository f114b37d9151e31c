//! The family of random combinations: one to three changes at once, so that the order of the checks shows.

use std::sync::Arc;

use portcullis_jose::Algorithm;
use serde_json::json;

use super::ANY_VALUE;
use crate::draft::{Case, Draft, World};

const NAMES: [&str; 22] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "nonce",
    "at_hash",
    "jti",
    "groups",
    "email",
    "email_verified",
    "_claim_names",
    "_claim_sources",
    "name",
    "hd",
    "ISS",
    "Sub",
    "AUD",
    "Exp",
    "Groups",
    "x",
];

pub(crate) fn mutations(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for _ in 0..300 {
        let mut draft = world.draft().algorithm(world.pick(&[
            Algorithm::Rs256,
            Algorithm::Es256,
            Algorithm::Ps256,
            Algorithm::Es384,
        ]));
        for _ in 0..=world.rng.below(3) {
            draft = mutate(draft);
        }
        out.push(draft.into_case(family));
    }
}

fn mutate(draft: Draft) -> Draft {
    let world = Arc::clone(&draft.world);
    let times = world.times;
    let value = |world: &World| -> String {
        match world.rng.below(6) {
            0 => times.future.to_string(),
            1 => format!("\"{}\"", times.past),
            2 => json!(crate::draft::CLIENT).to_string(),
            3 => r#"{"groups":"src"}"#.to_owned(),
            _ => world.pick(&ANY_VALUE).to_owned(),
        }
    };
    match world.rng.below(12) {
        0 | 1 => draft.claim(world.pick(&NAMES), value(&world)),
        2 | 3 => draft.also(world.pick(&NAMES), value(&world)),
        4 => draft.without(world.pick(&NAMES[..6])),
        5 => draft.config(|c| c.username.claim = world.pick(&["email", "name", "jti", "sub"]).to_owned()),
        6 => draft
            .config(|c| c.groups.iter_mut().for_each(|g| g.claim = world.pick(&["groups", "name", "aud"]).to_owned())),
        7 => draft.config(|c| {
            c.required_claims = vec![(world.pick(&["hd", "sub"]).to_owned(), world.pick(&["x", "jane", ""]).to_owned())]
        }),
        8 => draft.config(|c| c.uid_claim = Some(world.pick(&["sub", "jti", "x"]).to_owned())),
        9 => draft.config(|c| {
            c.audiences = vec!["my-client".into(), "x".into()];
            c.audience_match_policy = "MatchAny".into();
        }),
        10 => draft.header("kid", world.pick(&["\"rsa\"", "\"other\"", "\"\""])),
        _ => {
            let at = world.rng.below(u32::try_from(draft.claims.len()).expect("few claims")) as usize;
            let mut draft = draft;
            draft.claims.swap(0, at);
            draft
        }
    }
}
