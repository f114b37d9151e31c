//! Families about issuer, audience, times and the types of claims.

use std::sync::Arc;

use serde_json::json;

use super::ANY_VALUE;
use crate::draft::{CLIENT, Case, Draft, ISSUER, World};

pub(crate) fn issuer(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for value in ANY_VALUE {
        out.push(world.draft().claim("iss", value).into_case(family));
    }
    for iss in [
        "https://issuer.example/",
        "https://ISSUER.example",
        "http://issuer.example",
        "issuer.example",
        "https://issuer.example ",
        "https://issuer.example",
        "accounts.google.com",
        "https://accounts.google.com",
    ] {
        for url in [ISSUER, "https://issuer.example/", "https://accounts.google.com"] {
            let draft = world.draft().config(|c| c.issuer_url = url.to_owned());
            out.push(draft.claim("iss", json!(iss).to_string()).into_case(family));
        }
    }
    out.push(world.draft().claim("iss", r#""https:\/\/issuer.example""#).into_case(family));
    out.push(world.draft().without("iss").into_case(family));
}

pub(crate) fn audience(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for value in ANY_VALUE {
        out.push(world.draft().claim("aud", value).into_case(family));
    }
    for value in [
        r#""my-client""#,
        r#"["my-client"]"#,
        r#"["x","my-client","y"]"#,
        r#"["x"]"#,
        r#""My-Client""#,
        r#""my-client ""#,
        r#"["my-client",null]"#,
        r#"["my-client",1]"#,
        r#"[["my-client"]]"#,
        r#"{"0":"my-client"}"#,
        r#"[null]"#,
    ] {
        out.push(world.draft().claim("aud", value).into_case(family));
        out.push(world.draft().claim("aud", value).claim("azp", "\"someone-else\"").into_case(family));
    }
    out.push(world.draft().without("aud").into_case(family));
    out.push(world.draft().config(|c| c.audiences = vec!["bad-client".into()]).into_case(family));
}

pub(crate) fn audiences(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for value in [
        r#""my-client""#,
        r#"["b"]"#,
        r#"["b","my-client"]"#,
        r#""x""#,
        r#"["x","y\""]"#,
        "[]",
        "null",
        "1",
        r#"["b",1]"#,
        r#"["x",null]"#,
        r#""c d""#,
    ] {
        for expired in [false, true] {
            let mut draft = world.draft().claim("aud", value).config(|c| {
                c.audiences = vec![CLIENT.into(), "c d".into(), "b".into()];
                c.audience_match_policy = "MatchAny".into();
            });
            if expired {
                let past = draft.world.times.past.to_string();
                draft = draft.claim("exp", past);
            }
            out.push(draft.into_case(family));
        }
    }
    let single = world.draft().config(|c| c.audience_match_policy = "MatchAny".into());
    out.push(single.into_case(family));
}

pub(crate) fn expiry(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let times = world.times;
    let values = [
        times.future.to_string(),
        times.past.to_string(),
        format!("\"{}\"", times.future),
        format!("\"{}\"", times.past),
        format!("{}.9", times.future),
        format!("{}.5e0", times.future),
        "1e12".into(),
        "1E+12".into(),
        "\"1e12\"".into(),
        "4e9".into(),
        "0".into(),
        "-0".into(),
        "-1".into(),
        "1e30".into(),
        "-1e30".into(),
        "1e999".into(),
        "\"1e999\"".into(),
        "null".into(),
        "true".into(),
        "\"\"".into(),
        "\"x\"".into(),
        "\" 4102444800\"".into(),
        "\"4102444800 \"".into(),
        "\"+4102444800\"".into(),
        "\"0x10\"".into(),
        "\"Infinity\"".into(),
        "\"\\u0034102444800\"".into(),
        "\"04102444800\"".into(),
        "\"4_102_444_800\"".into(),
        "[4102444800]".into(),
        "{}".into(),
        "9223372036854775807".into(),
        "9223372036854775808".into(),
        "9223371974719179007".into(),
        "9223371974719179008".into(),
        "253402300800".into(),
        "18446744073709551616".into(),
        "4102444800.0000000000000000000000000000000001".into(),
    ];
    for value in values {
        out.push(world.draft().claim("exp", value.clone()).into_case(family));
        out.push(world.draft().claim("exp", times.future.to_string()).also("EXP", value).into_case(family));
    }
    out.push(world.draft().without("exp").into_case(family));
}

pub(crate) fn not_before(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let times = world.times;
    let values = [
        times.past.to_string(),
        times.soon.to_string(),
        times.future.to_string(),
        format!("\"{}\"", times.past),
        format!("\"{}\"", times.future),
        format!("{}.5", times.past),
        "1e30".into(),
        "-1".into(),
        "null".into(),
        "\"\"".into(),
        "\"x\"".into(),
        "true".into(),
        "[]".into(),
        "{}".into(),
        "9223372036854775807".into(),
        "1e999".into(),
        "1e12".into(),
        "0".into(),
    ];
    for value in values {
        out.push(world.draft().claim("nbf", value.clone()).into_case(family));
        out.push(world.draft().claim("nbf", times.future.to_string()).also("nbf", value.clone()).into_case(family));
        out.push(world.draft().claim("Nbf", value).into_case(family));
    }
}

pub(crate) fn issued_at(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for value in ANY_VALUE.into_iter().chain(["\"1e3\"", "1e999", "99999999999999999999", "\"abc\""]) {
        out.push(world.draft().claim("iat", value).into_case(family));
    }
    out.push(world.draft().claim("iat", world.times.future.to_string()).into_case(family));
    out.push(world.draft().without("iat").into_case(family));
}

pub(crate) fn types(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let by_name = |draft: Draft| draft.config(|c| c.username.claim = "name".into()).claim("name", "\"jane\"");
    for name in ["sub", "nonce", "at_hash"] {
        for value in ANY_VALUE {
            out.push(by_name(world.draft()).claim(name, value).into_case(family));
        }
    }
    for name in ["azp", "typ", "auth_time", "acr", "amr", "c_hash", "name", "x", "isss", "au", "_claim_name"] {
        let value = world.pick(&ANY_VALUE);
        out.push(world.draft().claim(name, value).into_case(family));
    }
}

pub(crate) fn duplicates(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let future = world.times.future.to_string();
    let past = world.times.past.to_string();
    let pairs = [
        ("iss", "\"https://other.example\""),
        ("iss", "null"),
        ("iss", "1"),
        ("sub", "\"john\""),
        ("sub", "null"),
        ("sub", "1"),
        ("aud", "\"x\""),
        ("aud", "null"),
        ("aud", "[]"),
        ("exp", past.as_str()),
        ("exp", future.as_str()),
        ("exp", "null"),
        ("groups", "[\"b\"]"),
        ("groups", "1"),
        ("iat", "\"x\""),
        ("nonce", "1"),
        ("jti", "\"second\""),
    ];
    for (name, value) in pairs {
        out.push(world.draft().also(name, value).into_case(family));
        let mut first = world.draft();
        first.claims.insert(0, (name.to_owned(), value.to_owned()));
        out.push(first.into_case(family));
        out.push(world.draft().also(name, value).also(name, "\"third\"").into_case(family));
    }
}

pub(crate) fn case(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let future = world.times.future.to_string();
    let odd = |name: &str| match world.rng.below(3) {
        0 => name.to_uppercase(),
        1 => name.replace('s', "ſ"),
        _ => name.chars().enumerate().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect(),
    };
    for name in ["iss", "aud", "exp", "iat", "sub", "nonce", "nbf", "at_hash", "groups", "email"] {
        let value = match name {
            "iss" => json!(ISSUER).to_string(),
            "aud" => json!(CLIENT).to_string(),
            "exp" => future.clone(),
            "iat" | "nbf" => world.times.past.to_string(),
            _ => "\"text\"".to_owned(),
        };
        out.push(world.draft().without(name).claim(&odd(name), value.clone()).into_case(family));
        out.push(world.draft().claim(&odd(name), value.clone()).into_case(family));
        for wrong in ["null", "1", "\"other\"", "[]"] {
            out.push(world.draft().claim(&odd(name), wrong).into_case(family));
            let mut before = world.draft();
            before.claims.insert(0, (odd(name), wrong.to_owned()));
            out.push(before.into_case(family));
        }
    }
}
