//! Headers: who asks, for whom, and what no client should send.

use super::wire::Case;
use crate::rbac::Dice;

const MAPS: &str = "/api/v1/namespaces/bad/configmaps";
const KEPT: &str = "/api/v1/namespaces/bad/configmaps/kept";
const AUTHORIZATIONS: &[&str] = &[
    "",
    " ",
    "Bearer",
    "Bearer ",
    "Bearer  ",
    "Bearer x",
    "bearer x",
    "BEARER x",
    "Bearer x y",
    " Bearer x",
    "Bearer\tx",
    "Bearer a.b.c",
    "Bearer ...",
    "Bearer a,b",
    "Bearer e30.e30.e30",
    "Bearer eyJhbGciOiJub25lIn0.e30.",
    "Bearer eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJ4In0.AAAA",
    "Bearer \u{e9}",
    "Basic",
    "Basic YTpi",
    "Basic !!",
    "Digest x",
    "Negotiate x",
    "x",
    ":",
    "Bearer:x",
];
/// Groups of `Impersonate-*` headers.
const IMPERSONATIONS: &[&[(&str, &str)]] = &[
    &[("impersonate-user", "")],
    &[("impersonate-user", " ")],
    &[("impersonate-user", "jane")],
    &[("impersonate-user", "jane"), ("impersonate-user", "joe")],
    &[("impersonate-user", "jane doe")],
    &[("impersonate-user", "j\u{e4}ne")],
    &[("impersonate-user", "a,b")],
    &[("impersonate-user", "system:anonymous")],
    &[("impersonate-user", "system:serviceaccount:")],
    &[("impersonate-user", "system:serviceaccount:a")],
    &[("impersonate-user", "system:serviceaccount:a:b")],
    &[("impersonate-user", "system:serviceaccount:a:b:c")],
    &[("impersonate-user", "system:serviceaccount:A:b")],
    &[("impersonate-user", "system:serviceaccount::b")],
    &[("impersonate-user", "system:node:n")],
    &[("impersonate-user", "system:node:")],
    &[("impersonate-group", "g")],
    &[("impersonate-group", "")],
    &[("impersonate-uid", "u")],
    &[("impersonate-uid", "")],
    &[("impersonate-extra-a", "x")],
    &[("impersonate-extra-", "x")],
    &[("impersonate-user", "jane"), ("impersonate-group", "")],
    &[("impersonate-user", "jane"), ("impersonate-group", "a"), ("impersonate-group", "a")],
    &[("impersonate-user", "jane"), ("impersonate-group", "a,b")],
    &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")],
    &[("impersonate-user", "jane"), ("impersonate-group", "system:unauthenticated")],
    &[("impersonate-user", "jane"), ("impersonate-uid", "")],
    &[("impersonate-user", "jane"), ("impersonate-uid", "a"), ("impersonate-uid", "b")],
    &[("impersonate-user", "jane"), ("impersonate-extra-", "x")],
    &[("impersonate-user", "jane"), ("impersonate-extra-a", "")],
    &[("impersonate-user", "jane"), ("impersonate-extra-a%2Fb", "x")],
    &[("impersonate-user", "jane"), ("impersonate-extra-%zz", "x")],
    &[("impersonate-user", "jane"), ("impersonate-extra-%FF", "x")],
    &[("impersonate-user", "jane"), ("IMPERSONATE-EXTRA-UPPER", "x")],
    &[("impersonate-user", "jane"), ("impersonate-odd", "x")],
    &[("impersonate-odd", "x")],
    &[("impersonate", "x")],
    &[("impersonate-userx", "jane")],
];
/// Other headers.
const OTHERS: &[(&str, &[u8])] = &[
    ("x-odd", b""),
    ("x-odd", b"\xff\xfe"),
    ("x-odd", b"a\tb"),
    ("x-odd", b"a\x00b"),
    ("x-odd", b"a\x01b"),
    ("x-odd", b"a\x7fb"),
    ("x odd", b"a"),
    ("x-odd ", b"a"),
    (" x-odd", b"a"),
    ("x(odd", b"a"),
    ("x-\u{f6}dd", b"a"),
    ("", b"a"),
    ("accept", b"\xff"),
    ("accept", b"application/json;a=\xff"),
    ("content-type", b"\xff"),
    ("user-agent", b""),
    ("user-agent", b"\xff"),
    ("user-agent", b"curl/8"),
    ("user-agent", b"Mozilla/5.0 (X11)"),
    ("host", b""),
    ("host", b"other.example"),
    ("host", b"a b"),
    ("host", b"a/b"),
    ("host", b"\xff"),
    ("host", b"[::1"),
    ("audit-id", b""),
    ("audit-id", b"odd id"),
    ("origin", b"https://evil.example"),
    ("origin", b"null"),
    ("connection", b"close"),
    ("connection", b"odd"),
    ("connection", b"upgrade"),
    ("upgrade", b"websocket"),
    ("upgrade", b"h2c"),
    ("expect", b"100-continue"),
    ("expect", b"odd"),
    ("range", b"bytes=0-1"),
    ("if-match", b"x"),
    ("if-none-match", b"*"),
    ("if-modified-since", b"x"),
    ("accept-encoding", b"gzip;q=0"),
    ("accept-encoding", b"br"),
    ("accept-encoding", b"odd, identity;q=0"),
    ("accept-charset", b"latin1"),
    ("x-forwarded-for", b"1.2.3.4"),
    ("x-remote-user", b"admin"),
    ("x-http-method-override", b"DELETE"),
    ("traceparent", b"odd"),
    ("te", b"trailers"),
    ("trailer", b"x"),
    ("cookie", b"a=b"),
    ("warning", b"299 - \"x\""),
];

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    for value in AUTHORIZATIONS {
        for target in [KEPT, "/version", "/nothing"] {
            out.push(Case::new("authorization", "GET", target).header("authorization", value));
            out.push(Case::new("authorization", "GET", target).header("authorization", value).nobody());
        }
        out.push(Case::new("authorization", "POST", MAPS).header("authorization", value).nobody().json("{}"));
    }
    out.push(
        Case::new("authorization", "GET", KEPT).header("authorization", "Bearer a").header("authorization", "Basic b"),
    );
    for headers in IMPERSONATIONS {
        for target in [KEPT, "/version", "/apis/authentication.k8s.io/v1/selfsubjectreviews"] {
            let method = if target.ends_with("reviews") { "POST" } else { "GET" };
            let mut case = Case::new("impersonation", method, target);
            for (name, value) in *headers {
                case = case.header(name, value);
            }
            if method == "GET" {
                out.push(case.clone().nobody());
                out.push(case);
            } else {
                out.push(case.json("{}"));
            }
        }
    }
    for (name, value) in OTHERS {
        out.push(Case::new("header", "GET", KEPT).header(name, value));
        out.push(Case::new("header", "POST", MAPS).header(name, value).json(r#"{"metadata":{"name":"made"}}"#));
        out.push(Case::new("header", "GET", "/version").header(name, value).nobody());
    }
    for (times, length) in [(1, 1_000), (1, 8_000), (1, 30_000), (50, 100), (90, 10)] {
        let mut case = Case::new("huge header", "GET", KEPT);
        for number in 0..times {
            case = case.header(&format!("x-odd-{number}"), "x".repeat(length));
        }
        out.push(case);
    }
    for _ in 0..100 {
        let mut case =
            Case::new("mixed headers", dice.word(&["GET", "HEAD"]), dice.word(&[KEPT, MAPS, "/version", "/api"]));
        for _ in 0..1 + dice.below(3) {
            let (name, value) = OTHERS[dice.below(OTHERS.len())];
            // What decides about the connection is a matter of its own, and so is what no parser takes.
            if !["", "x odd", "x-odd ", " x-odd", "x(odd", "host", "expect", "upgrade", "connection", "te"]
                .contains(&name)
                && name.is_ascii()
                && !value.iter().any(u8::is_ascii_control)
            {
                case = case.header(name, value);
            }
        }
        out.push(case);
    }
    out
}
