//! Families about the mapping from claims to a user.

use std::sync::Arc;

use portcullis_authn::PrefixedClaim;
use serde_json::json;

use super::ANY_VALUE;
use crate::draft::{Case, World};

pub(crate) fn username(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for claim in ["sub", "name", "preferred_username", "a.b", "https://x/y", "Sub", "iss", "exp", "ünï"] {
        for value in ["\"jane\"", "\"\"", "null", "42", "[\"jane\"]", "true", "\"Jane Dœ 🦀\""] {
            let prefix = world.pick(&["", "u:", "https://issuer.example#"]);
            let draft =
                world.draft().config(|c| c.username = PrefixedClaim { claim: claim.into(), prefix: prefix.into() });
            let draft = if matches!(claim, "iss" | "exp") { draft } else { draft.claim(claim, value) };
            out.push(draft.into_case(family));
        }
        let claim_only = world.draft().config(|c| c.username.claim = claim.into());
        out.push(claim_only.into_case(family));
    }
}

pub(crate) fn email_verified(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let email = |prefix: &str| {
        let mapping = PrefixedClaim { claim: "email".into(), prefix: prefix.into() };
        world.draft().config(|c| c.username = mapping).claim("email", "\"jane@example.com\"")
    };
    out.push(email("").into_case(family));
    out.push(email("").without("email").into_case(family));
    for value in ANY_VALUE {
        out.push(email(world.pick(&["", "e:"])).claim("email_verified", value).into_case(family));
        out.push(email("").claim("email", value).claim("email_verified", "true").into_case(family));
        // The claim matters only to the claim `email`.
        out.push(world.draft().claim("email_verified", value).into_case(family));
    }
    for (first, second) in [("true", "false"), ("false", "true"), ("\"x\"", "true"), ("true", "null")] {
        out.push(email("").claim("email_verified", first).also("email_verified", second).into_case(family));
        out.push(email("").claim("email_verified", first).also("Email_Verified", second).into_case(family));
    }
}

pub(crate) fn groups(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let shapes = [
        r#"["a","b"]"#,
        r#"["a","b","a"]"#,
        r#""a""#,
        r#""""#,
        "[]",
        "null",
        "[null]",
        r#"["a",null,""]"#,
        r#"["a",1]"#,
        r#"["a",["b"]]"#,
        r#"[{"a":"b"}]"#,
        "{}",
        "42",
        "true",
        r#"["system:masters"]"#,
        r#"["system:unauthenticated"]"#,
        r#"["\u00fc","\ud83e\udd80","\ud800"]"#,
        r#"[ "a" , "b" ]"#,
        r#"[true,"a"]"#,
    ];
    for shape in shapes {
        for prefix in ["", "p:", "-", "oidc:"] {
            let claim = world.pick(&["groups", "roles", "Groups", "https://x/groups"]);
            let mapping = PrefixedClaim { claim: claim.into(), prefix: prefix.into() };
            out.push(world.draft().config(|c| c.groups = Some(mapping)).claim(claim, shape).into_case(family));
        }
    }
    out.push(world.draft().into_case(family));
    out.push(world.draft().config(|c| c.groups = None).claim("groups", "[\"a\"]").into_case(family));
    out.push(world.draft().claim("Groups", "[\"a\"]").into_case(family));
    out.push(world.draft().claim("groups", "[\"a\"]").also("groups", "null").into_case(family));
    let many: Vec<String> = (0..500).map(|n| format!("group-{n}")).collect();
    out.push(world.draft().claim("groups", json!(many).to_string()).into_case(family));
}

pub(crate) fn uid(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let draft = || world.draft().config(|c| c.uid_claim = Some("oid".into()));
    out.push(draft().into_case(family));
    for value in ANY_VALUE {
        out.push(draft().claim("oid", value).into_case(family));
        out.push(draft().claim("oid", "\"first\"").also("oid", value).into_case(family));
    }
    out.push(draft().claim("OID", "\"x\"").into_case(family));
    out.push(world.draft().config(|c| c.uid_claim = Some("sub".into())).into_case(family));
}

pub(crate) fn jti(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for value in ANY_VALUE {
        out.push(world.draft().claim("jti", value).into_case(family));
    }
    for value in ["\"0b8c6a4e\"", "\"JTI=x\"", "\" \"", "\"\\u0000\"", "\"é\""] {
        out.push(world.draft().claim("jti", value).into_case(family));
        out.push(world.draft().claim("JTI", value).into_case(family));
        out.push(world.draft().claim("jti", "1").also("jti", value).into_case(family));
    }
}

pub(crate) fn required(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let rule = |claim: &str, value: &str| {
        let rule = (claim.to_owned(), value.to_owned());
        world.draft().config(|c| c.required_claims = vec![rule])
    };
    for value in ANY_VALUE.into_iter().chain(["\"example.com\"", "\"Example.com\"", "\"example.com \""]) {
        out.push(rule("hd", "example.com").claim("hd", value).into_case(family));
        out.push(rule("hd", "").claim("hd", value).into_case(family));
        out.push(rule("hd", "x").claim("hd", value).into_case(family));
    }
    for claims in [&[("a", "1")][..], &[("a", "1"), ("b", "2")], &[("a", "1"), ("b", "2"), ("sub", "jane")]] {
        let rules: Vec<(String, String)> = claims.iter().map(|(c, v)| ((*c).to_owned(), (*v).to_owned())).collect();
        let draft = world.draft().config(|c| c.required_claims = rules);
        out.push(draft.clone().into_case(family));
        out.push(draft.clone().claim("a", "\"1\"").into_case(family));
        out.push(draft.clone().claim("a", "\"1\"").claim("b", "\"2\"").into_case(family));
        out.push(draft.claim("A", "\"1\"").claim("b", "\"2\"").into_case(family));
    }
    // A mapping that fails hides a rule that fails.
    out.push(rule("hd", "x").claim("sub", "1").into_case(family));
    out.push(rule("hd", "x").claim("groups", "1").into_case(family));
    out.push(rule("iss", crate::draft::ISSUER).into_case(family));
}

pub(crate) fn distributed(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let unreachable = "https://127.0.0.1:1/claims";
    let names = [
        r#"{"groups":"src"}"#,
        r#"{"groups":""}"#,
        r#"{"groups":null}"#,
        r#"{"groups":1}"#,
        r#"{"other":"src"}"#,
        "{}",
        "null",
        "[]",
        "\"x\"",
        r#"{"groups":"src","groups":"other"}"#,
        r#"{"groups":"missing"}"#,
        r#"{"Groups":"src"}"#,
    ];
    let endpoint = format!(r#"{{"src":{{"endpoint":"{unreachable}","access_token":"t"}}}}"#);
    let sources = [
        endpoint.as_str(),
        r#"{"src":{"JWT":"a.b.c"}}"#,
        r#"{"src":{}}"#,
        r#"{"src":null}"#,
        r#"{"src":"x"}"#,
        r#"{"src":{"endpoint":1}}"#,
        r#"{"src":{"access_token":[]}}"#,
        r#"{"src":{"JWT":5}}"#,
        r#"{"src":{"ENDPOINT":null}}"#,
        "{}",
        "null",
        "[]",
        "7",
    ];
    for name in names {
        out.push(world.draft().claim("_claim_names", name).into_case(family));
        out.push(world.draft().claim("_claim_names", name).claim("groups", "[\"a\"]").into_case(family));
        for source in sources {
            let mut draft = world.draft().claim("_claim_names", name).claim("_claim_sources", source);
            if world.chance(3) {
                draft = draft.config(|c| c.groups = None);
            } else if world.chance(3) {
                draft = draft.claim("groups", world.pick(&["null", "[]", "\"direct\""]));
            }
            out.push(draft.into_case(family));
        }
    }
    for source in sources {
        out.push(world.draft().claim("_claim_sources", source).into_case(family));
    }
    // Two objects add up in the verification stage, and only the last counts in the mapping stage.
    let two = world.draft().claim("_claim_names", r#"{"groups":"src"}"#).claim("_claim_sources", r#"{"src":{}}"#);
    out.push(two.clone().also("_claim_sources", r#"{"other":{}}"#).into_case(family));
    out.push(two.clone().also("_Claim_Sources", r#"{"other":{}}"#).into_case(family));
    out.push(two.clone().also("_claim_names", "null").into_case(family));
    out.push(two.clone().also("_CLAIM_NAMES", r#"{"x":"gone"}"#).into_case(family));
    out.push(two.also("_claim_sources", "null").into_case(family));
}

pub(crate) fn strings(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for value in [
        r#""\u006aane""#,
        r#""\ud83e\udd80""#,
        r#""\ud83e""#,
        r#""\ud83ex""#,
        r#""\udd80\ud83e""#,
        r#""a\/b""#,
        r#""\b\f\n\r\t""#,
        r#""\"\\""#,
        "\"\u{7f}\"",
        "\"\u{fffd}\"",
        "\"\u{feff}x\"",
        "\"\u{2028}\"",
        r#""\u0000""#,
        r#""\uFFFF""#,
    ] {
        out.push(world.draft().claim("sub", value).into_case(family));
        out.push(world.draft().claim("groups", format!("[{value}]")).into_case(family));
    }
    // Bytes that are not UTF-8: each becomes a replacement character.
    for bytes in
        [&b"\xff"[..], b"a\xc3", b"\xe2\x82", b"\xf0\x9f\xa6", b"\xed\xa0\x80", b"\xc0\xaf", b"\x80\x80", b"ok\xfe!"]
    {
        for name in ["sub", "groups", "jti", "x"] {
            let draft = world.draft().without(name);
            let mut payload = draft.payload();
            payload.pop();
            payload.extend_from_slice(format!(",\"{name}\":\"").as_bytes());
            payload.extend_from_slice(bytes);
            payload.extend_from_slice(b"\"}");
            let mut draft = draft;
            draft.raw_payload = Some(payload);
            out.push(draft.into_case(family));
        }
    }
    // Names are decoded before they are compared.
    out.push(world.draft().without("sub").also(r#""\u0073ub""#, "\"jane\"").into_case(family));
    out.push(world.draft().also(r#""\u0073ub""#, "\"john\"").into_case(family));
    out.push(world.draft().without("iss").also(r#""\u0069ss""#, "\"https:\\/\\/issuer.example\"").into_case(family));
}
