//! The family about the token's outer form: what is a compact JWT at all, and in how many spellings.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::draft::{Case, World};

pub(crate) fn form(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let draft = world.draft();
    let [header, payload, signature] = draft.parts();
    let token = format!("{header}.{payload}.{signature}");
    let mut add = |token: String| out.push(world_case(world, family, token, &draft));
    for other in [
        String::new(),
        "opaque".into(),
        "a.b.c".into(),
        "..".into(),
        ".".into(),
        format!("{token}."),
        format!(".{token}"),
        format!("{header}.{payload}"),
        format!("{token}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}.{payload}="),
        format!("{header}.{payload}=.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}=.{payload}.{signature}"),
        format!("!{header}.{payload}.{signature}"),
        format!("{header}.{payload}.!{signature}"),
        json!({ "payload": payload, "protected": header, "signature": signature }).to_string(),
        json!({ "payload": payload, "signatures": [{ "protected": header, "signature": signature }] }).to_string(),
        format!(" {{{token}"),
        format!("Bearer {token}"),
    ] {
        add(other);
    }
    // White space: skipped by go-jose everywhere, by the router only as line breaks inside the payload.
    for space in [" ", "\n", "\r\n", "\t", "\u{a0}", "\u{85}", "\u{2003}", "\u{200b}", "\0"] {
        let mid = payload.len() / 2;
        let inner = format!("{}{space}{}", &payload[..mid], &payload[mid..]);
        add(format!("{space}{token}"));
        add(format!("{token}{space}"));
        add(format!("{header}.{inner}.{signature}"));
        add(format!("{}{space}{}.{payload}.{signature}", &header[..4], &header[4..]));
        add(format!("{header}.{payload}.{}{space}{}", &signature[..9], &signature[9..]));
    }
    // Unused bits of the last character.
    for part in 0..3 {
        let mut parts = [header.clone(), payload.clone(), signature.clone()];
        parts[part] = with_unused_bits(&parts[part]);
        add(parts.join("."));
    }
    // Payloads that are no object, or not only one.
    for raw in [
        "null",
        "[]",
        "1",
        "\"x\"",
        "",
        "{",
        "{}",
        "{} ",
        " {}",
        "{}x",
        "{}{}",
        "{\"iss\":\"https://issuer.example\",}",
    ] {
        let mut draft = world.draft();
        draft.raw_payload = Some(raw.as_bytes().to_vec());
        out.push(draft.into_case(family));
    }
    for (before, after) in [(" ", ""), ("", "\n"), ("\t\r\n", " "), ("\u{feff}", ""), ("", "x"), ("", "\0")] {
        let mut draft = world.draft();
        let mut raw = before.as_bytes().to_vec();
        raw.extend(draft.payload());
        raw.extend_from_slice(after.as_bytes());
        draft.raw_payload = Some(raw);
        out.push(draft.into_case(family));
    }
    // Depth and size.
    for depth in [10, 1_000, 9_998, 9_999, 10_000, 20_000] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        out.push(world.draft().claim("deep", nested).into_case(family));
    }
    out.push(world.draft().claim("long", format!("\"{}\"", "x".repeat(30_000))).into_case(family));
    out.push(world.draft().claim("digits", "9".repeat(5_000)).into_case(family));
}

fn world_case(world: &Arc<World>, family: &'static str, token: String, like: &crate::draft::Draft) -> Case {
    let mut draft = world.draft();
    draft.jwks = like.jwks.clone();
    draft.into_case_with(family, token)
}

/// Another spelling of the same bytes, when there is one; otherwise the same text.
fn with_unused_bits(text: &str) -> String {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let unused = match text.len() % 4 {
        2 => 0b1111,
        3 => 0b11,
        _ => return text.to_owned(),
    };
    let last = text.chars().last().and_then(|c| alphabet.find(c)).expect("base64url");
    let other = alphabet.as_bytes()[last | unused] as char;
    let spelled = format!("{}{other}", &text[..text.len() - 1]);
    assert!(URL_SAFE_NO_PAD.decode(&spelled).is_err(), "Rust's strict decoder refuses it");
    spelled
}
