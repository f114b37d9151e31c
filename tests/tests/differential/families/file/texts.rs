//! Scalars as YAML 1.1 reads them, and texts with a byte too many, too few, or another.

use std::sync::Arc;

use super::bare;
use super::make::Sample;
use crate::draft::{Case, World};
use crate::tree::Tree;

const PLAIN: [&str; 64] = [
    "yes",
    "Yes",
    "YES",
    "yEs",
    "no",
    "on",
    "Off",
    "y",
    "N",
    "true",
    "True",
    "tRue",
    "~",
    "null",
    "Null",
    "nULL",
    "1",
    "-1",
    "+1",
    "0",
    "007",
    "08",
    "0o7",
    "0x1f",
    "0X1F",
    "0b11",
    "-0b1",
    "1_000",
    "_1",
    "1.5",
    ".5",
    "5.",
    "1e3",
    "1E+3",
    ".inf",
    "-.inf",
    "+.INF",
    ".nan",
    ".NaN",
    "2001-12-14",
    "2001-12-14T21:59:43Z",
    "12:30:45",
    "1,000",
    "0x",
    "--1",
    "<<",
    "=",
    "!!str yes",
    "!!int 7",
    "!!int x",
    "!!float 1",
    "!!bool yes",
    "!!bool 1",
    "!!null ~",
    "!!binary aGk=",
    "!!binary '%'",
    "!custom yes",
    "! yes",
    "! 'yes'",
    "!!timestamp 2001-01-01",
    "'yes'",
    "\"no\"",
    "18446744073709551615",
    "99999999999999999999",
];

/// Every scalar in every place that wants a text, a truth value or more.
pub(crate) fn scalars(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for plain in PLAIN {
        for place in 0..7 {
            let sample = Sample::plain(world, 1);
            let mut tree = sample.file(world);
            let scalar = Tree::Plain(plain.to_owned());
            let entry = tree.get_mut("jwt").at_mut(0);
            match place {
                0 => *entry.get_mut("claimMappings").get_mut("username").get_mut("prefix") = scalar,
                1 => *entry.get_mut("claimMappings").get_mut("username").get_mut("claim") = scalar,
                2 => *entry.get_mut("issuer").get_mut("audiences") = Tree::List(vec![scalar]),
                3 => *entry.get_mut("issuer").get_mut("audiences") = scalar,
                4 => *entry.get_mut("issuer") = scalar,
                5 => {
                    if let Tree::Map(members) = &mut tree {
                        members.retain(|(name, _)| name != "anonymous");
                    }
                    tree = tree.with("anonymous", Tree::Map(vec![("enabled".to_owned(), scalar)]));
                }
                _ => tree = tree.with("unknown", scalar),
            }
            let mut case = sample.case(family, 0);
            case.file = tree.yaml(world);
            out.push(case);
        }
        let key = plain.replace(['!', '\'', '"'], "");
        out.push(bare(
            family,
            format!("{key}: 1\n{}", Sample::plain(world, 1).file(world).yaml(world).replace("---\n", "")),
        ));
    }
}

/// One to three bytes of a good text inserted, removed or replaced.
pub(crate) fn syntax(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for n in 0..300 {
        let sample = Sample::new(world, 1);
        let mut tree = sample.file(world);
        // Go's certificate parser looks closer than ours (docs/compat/kube-apiserver-authn.md).
        if let Tree::Map(issuer) = tree.get_mut("jwt").at_mut(0).get_mut("issuer") {
            issuer.retain(|(name, _)| name != "certificateAuthority");
        }
        let text = if n % 2 == 0 { tree.json() } else { tree.yaml(world) };
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=world.rng.below(3) {
            let at = world.rng.below(u32::try_from(chars.len()).expect("short")) as usize;
            let new = world.pick(&[
                '{', '}', '[', ']', ',', ':', '"', '\'', '\\', ' ', '\n', '\t', '-', '#', '&', '*', '!', '|', '>', '%',
                '@', '`', '?', '~', '0', 'x', 'é', '\u{1}', '\r', '.', 'e', 'n',
            ]);
            match world.rng.below(4) {
                0 => chars.insert(at, new),
                1 => {
                    chars.remove(at);
                }
                2 => chars.truncate(at.max(1)),
                _ => chars[at] = new,
            }
            if chars.is_empty() {
                chars.push(new);
            }
        }
        let mut case = sample.case(family, 0);
        case.file = chars.into_iter().collect();
        out.push(case);
    }
}
