//! Families of cases, after the list of upstream's own tests and the traps found beside them.
//!
//! Each family is a function that adds its cases; the numbers are the families' weights. Every case starts from a token
//! that is accepted and changes one thing, except in `mutations`, which change several.

mod claims;
mod config;
pub(crate) mod file;
mod form;
mod mutations;
mod signature;
mod verification;

use std::sync::Arc;

use crate::draft::{Case, World};

/// A family: its name, and what makes one case of it.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) cases: Vec<Case>,
}

type Make = fn(&Arc<World>, &'static str, &mut Vec<Case>);

const MAKERS: [(&str, Make); 39] = [
    ("username", claims::username),
    ("email_verified", claims::email_verified),
    ("groups", claims::groups),
    ("uid", claims::uid),
    ("jti", claims::jti),
    ("required claims", claims::required),
    ("distributed claims", claims::distributed),
    ("strings", claims::strings),
    ("issuer", verification::issuer),
    ("audience", verification::audience),
    ("audiences", verification::audiences),
    ("exp", verification::expiry),
    ("nbf", verification::not_before),
    ("iat", verification::issued_at),
    ("claim types", verification::types),
    ("duplicates", verification::duplicates),
    ("case", verification::case),
    ("algorithm", signature::algorithm),
    ("kid", signature::kid),
    ("signature", signature::signature),
    ("key set", signature::key_set),
    ("header", signature::header),
    ("token form", form::form),
    ("configuration", config::configuration),
    ("mutations", mutations::mutations),
    ("file issuers", file::issuers),
    ("file features", file::features),
    ("file rules", file::rules),
    ("file heads", file::heads),
    ("file mutations", file::mutations),
    ("file yaml", file::yaml),
    ("file scalars", file::scalars),
    ("file forms", file::forms),
    ("file syntax", file::syntax),
    ("file limits", file::limits),
    ("file reload", file::reload),
    ("file mappings", file::mappings),
    ("file conditions", file::conditions),
    ("generated", file::generated),
];

/// Families that are not about tokens: their cases have almost the same token each, and another key set or configuration.
const NOT_OF_TOKENS: [&str; 2] = ["key set", "configuration"];

/// All families, each with its cases repeated in `rounds` with fresh random choices.
pub(crate) fn all(world: &Arc<World>, rounds: usize) -> Vec<Family> {
    MAKERS.map(|(name, make)| family(world, name, make, rounds)).into()
}

/// The families about tokens of one issuer, [`crate::draft::ISSUER`].
pub(crate) fn of_tokens(world: &Arc<World>) -> Vec<Family> {
    let of_files = |name: &str| name.starts_with("file ") || name == "generated";
    let chosen = MAKERS.into_iter().filter(|(name, _)| !of_files(name) && !NOT_OF_TOKENS.contains(name));
    chosen.map(|(name, make)| family(world, name, make, 1)).collect()
}

fn family(world: &Arc<World>, name: &'static str, make: Make, rounds: usize) -> Family {
    let mut cases = Vec::new();
    for _ in 0..rounds {
        make(world, name, &mut cases);
    }
    Family { name, cases }
}

/// Cases in which we refuse by decision what kube-apiserver accepts.
pub(crate) fn deliberate(world: &Arc<World>) -> Vec<Case> {
    let mut cases = Vec::new();
    signature::deliberate(world, &mut cases);
    cases
}

/// Cases in which kube-apiserver refuses and we do not.
pub(crate) fn wider(world: &Arc<World>) -> Vec<Case> {
    let mut cases = Vec::new();
    signature::wider(world, &mut cases);
    cases
}

/// JSON values of every kind, for places that want one kind.
pub(crate) const ANY_VALUE: [&str; 16] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1.5",
    "1e30",
    "\"\"",
    "\"x\"",
    "\"1999999999\"",
    "[]",
    "[\"x\"]",
    "[1]",
    "{}",
    "{\"a\":\"b\"}",
    "[[]]",
];
