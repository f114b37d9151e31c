//! Requests byte for byte: lengths, chunks, versions, lines, what is promised and does not come.

use super::wire::Case;
use crate::rbac::Dice;

const KEPT: &str = "/api/v1/namespaces/bad/configmaps/kept";
const MADE: &str = "/api/v1/namespaces/bad/configmaps?dryRun=All";
const BODY: &str = r#"{"metadata":{"name":"made"}}"#;
/// Upstream's largest body.
const LARGEST: usize = 3 * 1024 * 1024;

/// A request of these header lines, with what is sent behind its head.
fn head(line: &str, headers: &[&str], rest: &str) -> Vec<u8> {
    let mut out = format!("{line}\r\nhost: 127.0.0.1\r\nuser-agent: test\r\n");
    for header in headers {
        out.push_str(header);
        out.push_str("\r\n");
    }
    out.push_str("\r\n");
    out.push_str(rest);
    out.into_bytes()
}

fn get(headers: &[&str], rest: &str) -> Vec<u8> {
    head(&format!("GET {KEPT} HTTP/1.1"), headers, rest)
}

fn post(headers: &[&str], rest: &str) -> Vec<u8> {
    head(&format!("POST {MADE} HTTP/1.1"), &[&["content-type: application/json"][..], headers].concat(), rest)
}

fn chunked(rest: &str) -> Vec<u8> {
    post(&["transfer-encoding: chunked"], rest)
}

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    lengths(&mut out);
    chunks(&mut out, dice);
    encodings(&mut out);
    lines(&mut out);
    expectations(&mut out);
    sizes(&mut out);
    pipelines(&mut out, dice);
    endings(&mut out, dice);
    out
}

fn lengths(out: &mut Vec<Case>) {
    let length = BODY.len();
    for value in [
        format!("{length}"),
        format!("00{length}"),
        format!("+{length}"),
        format!("-{length}"),
        format!("0x{length:x}"),
        format!("{length}, {length}"),
        format!("{length},{length}"),
        format!("{length} "),
        format!("{length}.0"),
        format!("{length} {length}"),
        format!("{length}_"),
        format!("\"{length}\""),
        "1e2".to_owned(),
        String::new(),
        "abc".to_owned(),
        "-1".to_owned(),
        "0".to_owned(),
        "18446744073709551615".to_owned(),
        "18446744073709551644".to_owned(),
        "9223372036854775808".to_owned(),
        "99999999999999999999999".to_owned(),
        "\u{661}".to_owned(),
    ] {
        let header = format!("content-length: {value}");
        // What is longer than it says becomes the next request.
        out.push(Case::wire("length", post(&[&header], BODY)));
        out.push(Case::wire("length", get(&[&header], BODY)));
    }
    let (own, other) = (format!("content-length: {length}"), format!("content-length: {}", length - 1));
    out.push(Case::wire("two lengths", post(&[&own, &own], BODY)));
    out.push(Case::wire("two lengths", post(&[&own, &other], BODY)));
    out.push(Case::wire("two lengths", post(&[&other, &own], BODY)));
    out.push(Case::wire("two lengths", get(&["content-length: 0", "content-length: 0"], "")));
    let sent = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    for headers in [
        [own.as_str(), "transfer-encoding: chunked"],
        ["transfer-encoding: chunked", own.as_str()],
        ["content-length: 0", "transfer-encoding: chunked"],
        ["transfer-encoding: chunked", "content-length: odd"],
        ["content-length: odd", "transfer-encoding: chunked"],
    ] {
        out.push(Case::wire("length and chunks", post(&headers, &sent)));
        out.push(Case::wire("length and chunks", get(&headers, &sent)));
    }
}

fn chunks(out: &mut Vec<Case>, dice: &Dice) {
    let length = BODY.len();
    let whole = |size: &str, end: &str| format!("{size}\r\n{BODY}\r\n{end}");
    for size in [
        format!("{length:x}"),
        format!("{length:X}"),
        format!("000{length:x}"),
        format!("{length:x};a=b"),
        format!("{length:x};a=\"b\""),
        format!("{length:x} ;a=b"),
        format!("{length:x};"),
        format!("{length:x} "),
        format!("{length:x}\t"),
        format!(" {length:x}"),
        format!("{length:x};a\nb"),
        format!("{length:x};a\rb"),
        format!("+{length:x}"),
        format!("-{length:x}"),
        format!("0x{length:x}"),
        format!("{length:x}g"),
        String::new(),
        ";".to_owned(),
        format!("{:x}", length - 1),
        format!("{:x}", length + 1),
        "fffffffffffffffff".to_owned(),
        format!("1000000000000000{length:x}"),
    ] {
        out.push(Case::wire("size of a chunk", chunked(&whole(&size, "0\r\n\r\n"))));
    }
    out.push(Case::wire("size of a chunk", chunked(&whole("ffffffffffffffff", "0\r\n\r\n"))).ends());
    for end in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "0;a=b\r\n\r\n",
        "0\r\na: b\r\n\r\n",
        "0\r\ncontent-length: 5\r\n\r\n",
        "0\r\ntransfer-encoding: chunked\r\n\r\n",
        "0\r\nhost: b\r\nauthorization: Bearer x\r\n\r\n",
        "0\r\nodd\r\n\r\n",
        "0\r\n: odd\r\n\r\n",
        "0\r\na b: odd\r\n\r\n",
        "0\n\n",
        "0\r\nxx",
        "-0\r\n\r\n",
        "odd\r\n\r\n",
    ] {
        out.push(Case::wire("end of chunks", chunked(&whole(&format!("{length:x}"), end))));
    }
    out.push(Case::wire("end of chunks", chunked(&whole(&format!("{length:x}"), "0\r\n\n"))).ends());
    out.push(Case::wire("end of chunks", chunked(&format!("{length:x}\r\n{BODY}0\r\n\r\n"))));
    out.push(Case::wire("end of chunks", chunked(&format!("{length:x}\n{BODY}\n0\n\n"))));
    out.push(Case::wire("end of chunks", chunked(&format!("{length:x}\r\n{BODY}\n0\r\n\r\n"))));
    out.push(Case::wire("end of chunks", chunked(&format!("{length:x}\r\n{BODY}xx0\r\n\r\n"))));
    let single: String = BODY.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    out.push(Case::wire("small chunks", chunked(&format!("{single}0\r\n\r\n"))));
    for _ in 0..10 {
        let (mut rest, mut sent) = (BODY, String::new());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + dice.below(rest.len()));
            let extension = dice.word(&["", "", ";x", ";x=y", ";x=\"y\""]);
            sent.push_str(&format!("{:x}{extension}\r\n{piece}\r\n", piece.len()));
            rest = after;
        }
        out.push(Case::wire("small chunks", chunked(&format!("{sent}0\r\n\r\n"))));
    }
    for length in [4_000, 20_000] {
        let long = "x".repeat(length);
        out.push(Case::wire("long extension", chunked(&whole(&format!("{:x};{long}", BODY.len()), "0\r\n\r\n"))));
        out.push(Case::wire(
            "long trailer",
            chunked(&whole(&format!("{:x}", BODY.len()), &format!("0\r\nx: {long}\r\n\r\n"))),
        ));
    }
}

fn encodings(out: &mut Vec<Case>) {
    let sent = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    for value in [
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "Chunked",
        "CHUNKED",
        "chunked ",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked;q=1",
        "chunked identity",
        "",
        "odd",
        "\u{b}chunked",
    ] {
        let header = format!("transfer-encoding: {value}");
        out.push(Case::wire("transfer encoding", post(&[&header], &sent)));
        out.push(Case::wire("transfer encoding", get(&[&header], "")));
    }
    for headers in [
        ["transfer-encoding: chunked", "transfer-encoding: chunked"],
        ["transfer-encoding: identity", "transfer-encoding: chunked"],
        ["transfer-encoding: chunked", "transfer-encoding: identity"],
    ] {
        out.push(Case::wire("transfer encoding", post(&headers, &sent)));
    }
    let line = format!("POST {MADE} HTTP/1.0");
    out.push(Case::wire("transfer encoding", head(&line, &["transfer-encoding: chunked"], &sent)));
    for value in ["gzip", "identity", "odd", ""] {
        let (length, encoding) = (format!("content-length: {}", BODY.len()), format!("content-encoding: {value}"));
        out.push(Case::wire("content encoding", post(&[&length, &encoding], BODY)));
    }
}

fn lines(out: &mut Vec<Case>) {
    for version in [
        "HTTP/1.0",
        "HTTP/1.1",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/0.9",
        "HTTP/1.10",
        "HTTP/1",
        "HTTP/11",
        "HTTP/1.1 ",
        "HTTP/1.1x",
        "http/1.1",
        "Http/1.1",
        "FOO/1.1",
        "HTTP",
        "1.1",
        "HTTP/-1.1",
        "HTTP/1.+1",
    ] {
        out.push(Case::wire("version", head(&format!("GET {KEPT} {version}"), &[], "")));
    }
    out.push(Case::wire("version", head(&format!("GET {KEPT}"), &[], "")));
    out.push(Case::wire("version", head(&format!("GET {KEPT} HTTP/1.0"), &["connection: keep-alive"], "")));
    out.push(Case::wire("version", head(&format!("GET {KEPT} HTTP/1.1"), &["connection: close"], "")));
    out.push(Case::wire("version", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()));
    for line in [
        format!("GET  {KEPT} HTTP/1.1"),
        format!("GET {KEPT}  HTTP/1.1"),
        format!("GET\t{KEPT}\tHTTP/1.1"),
        format!(" GET {KEPT} HTTP/1.1"),
        format!("\r\nGET {KEPT} HTTP/1.1"),
        format!("\r\n\r\nGET {KEPT} HTTP/1.1"),
        format!("GET https://127.0.0.1{KEPT} HTTP/1.1"),
        format!("GET http://other.example{KEPT} HTTP/1.1"),
        format!("GET //127.0.0.1{KEPT} HTTP/1.1"),
        format!("GET {KEPT}#odd HTTP/1.1"),
        format!("GET {KEPT}\u{e9} HTTP/1.1"),
        format!("GET {KEPT}%zz HTTP/1.1"),
        format!("GET {KEPT}\u{7f} HTTP/1.1"),
        format!("GET {KEPT}\u{1} HTTP/1.1"),
        format!("GET {KEPT}<> HTTP/1.1"),
        "GET * HTTP/1.1".to_owned(),
        "OPTIONS * HTTP/1.1".to_owned(),
        "GET 127.0.0.1:80 HTTP/1.1".to_owned(),
        "CONNECT 127.0.0.1:80 HTTP/1.1".to_owned(),
        "GET  HTTP/1.1".to_owned(),
        format!("G(T {KEPT} HTTP/1.1"),
        format!("{} {KEPT} HTTP/1.1", "X".repeat(500)),
        "odd".to_owned(),
        String::new(),
    ] {
        out.push(Case::wire("request line", head(&line, &[], "")));
    }
    let newlines = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace("\r\n", "\n").into_bytes();
    out.push(Case::wire("line ends", newlines(get(&[], ""))));
    out.push(Case::wire("line ends", newlines(get(&["accept: */*"], ""))));
    for (from, to) in [
        ("test\r\n", "test\r"),
        ("test\r\n", "te\rst\r\n"),
        ("test\r\n", "te\nst\r\n"),
        ("\r\n\r\n", "\n\r\n"),
        ("\r\n\r\n", "\r\n\n"),
    ] {
        let bytes = String::from_utf8(get(&[], "")).unwrap().replacen(from, to, 1).into_bytes();
        out.push(Case::wire("line ends", bytes));
    }
    for header in [
        "host: other",
        "host:",
        "content-length : 0",
        "transfer-encoding : chunked",
        " folded",
        "\tfolded",
        "a:b",
        "odd",
        ":",
        "a\0b: c",
        "a: b\0c",
        "a: b\u{7f}c",
        "x-\u{e9}: a",
        "a\u{b}: b",
    ] {
        out.push(Case::wire("header line", get(&[header], "")));
    }
    out.push(Case::wire("host", format!("GET {KEPT} HTTP/1.1\r\nuser-agent: test\r\n\r\n").into_bytes()));
    out.push(Case::wire("host", format!("GET {KEPT} HTTP/1.0\r\nuser-agent: test\r\n\r\n").into_bytes()));
    for host in ["", "a b", "a/b", "a@b", "[::1", "127.0.0.1:odd", "a,b", "\u{e9}", "a?b", "a#b", "%41"] {
        out.push(Case::wire(
            "host",
            format!("GET {KEPT} HTTP/1.1\r\nhost: {host}\r\nuser-agent: test\r\n\r\n").into_bytes(),
        ));
    }
}

fn expectations(out: &mut Vec<Case>) {
    let length = format!("content-length: {}", BODY.len());
    for value in ["100-continue", "100-Continue", "100-continue, odd", "odd", "", "200-ok", "100-continue;q=1"] {
        let expect = format!("expect: {value}");
        out.push(Case::wire("expect", post(&[&length, &expect], BODY)));
        out.push(Case::wire("expect", get(&[&expect], "")));
        let line = format!("POST {MADE} HTTP/1.0");
        out.push(Case::wire("expect", head(&line, &[&length, &expect], BODY)));
        out.push(Case::wire("expect", post(&["content-length: 0", &expect], "")));
        out.push(Case::wire("expect", post(&[&length, &expect], BODY)).nobody());
    }
}

fn sizes(out: &mut Vec<Case>) {
    for over in [0, 1, 100_000, 600_000] {
        let body = format!("{BODY}{}", " ".repeat(LARGEST - BODY.len() + over));
        let length = format!("content-length: {}", body.len());
        out.push(Case::wire("large body", post(&[&length], &body)));
        out.push(Case::wire("large body", chunked(&format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))));
        if over == 100_000 {
            out.push(Case::wire(
                "large body",
                head(&format!("PUT {KEPT}?dryRun=All HTTP/1.1"), &["content-type: application/json", &length], &body),
            ));
            out.push(Case::wire("large body", head(&format!("DELETE {KEPT}?dryRun=All HTTP/1.1"), &[&length], &body)));
            out.push(Case::wire("large body", head("POST /nothing HTTP/1.1", &[&length], &body)));
            out.push(Case::wire("large body", get(&[&length], &body)));
            out.push(Case::wire("large body", post(&[&length], &body)).nobody());
        }
    }
    for (count, length) in [
        (60, 10),
        (90, 10),
        (97, 10),
        (98, 10),
        (120, 10),
        (1_000, 10),
        (1, 60_000),
        (1, 70_000),
        (1, 1_100_000),
        (20, 60_000),
    ] {
        let headers: Vec<String> = (0..count).map(|number| format!("x-{number}: {}", "x".repeat(length))).collect();
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        out.push(Case::wire("large head", get(&headers, "")));
    }
    for length in [8_000, 60_000, 70_000, 1_100_000] {
        out.push(Case::wire("large head", head(&format!("GET {KEPT}?{} HTTP/1.1", "x".repeat(length)), &[], "")));
    }
    for line in [
        format!("DELETE {KEPT}?dryRun=All HTTP/1.1"),
        format!("GET {KEPT} HTTP/1.1"),
        "GET /version HTTP/1.1".to_owned(),
        "OPTIONS / HTTP/1.1".to_owned(),
    ] {
        for body in [r#"{"kind":"DeleteOptions","apiVersion":"v1","dryRun":["All"]}"#, "odd"] {
            let (length, kind) = (format!("content-length: {}", body.len()), "content-type: application/json");
            out.push(Case::wire("needless body", head(&line, &[kind, &length], body)));
            out.push(Case::wire(
                "needless body",
                head(&line, &[kind, "transfer-encoding: chunked"], &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())),
            ));
        }
    }
    out.push(Case::wire("no body", post(&[], "")));
    out.push(Case::wire("no body", post(&["content-length: 0"], "")));
    out.push(Case::wire("no body", chunked("0\r\n\r\n")));
}

fn pipelines(out: &mut Vec<Case>, dice: &Dice) {
    let length = format!("content-length: {}", BODY.len());
    let parts = [
        get(&[], ""),
        post(&[&length], BODY),
        chunked(&format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len())),
        head("GET /api/v1/namespaces/bad HTTP/1.1", &[], ""),
        head("GET /nothing HTTP/1.1", &[], ""),
        head("GET /api/v1/things HTTP/1.1", &[], ""),
        head(&format!("DELETE {KEPT}?dryRun=All HTTP/1.1"), &[], ""),
        head(&format!("GET {KEPT} HTTP/1.1"), &["authorization: Bearer odd"], ""),
    ];
    for _ in 0..20 {
        let bytes = (0..2 + dice.below(4)).flat_map(|_| parts[dice.below(parts.len())].clone()).collect();
        out.push(Case::wire("pipeline", bytes));
    }
    for last in [
        "odd\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /api/v1/things HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        out.push(Case::wire("pipeline", [get(&[], ""), last.as_bytes().to_vec()].concat()));
        out.push(Case::wire("pipeline", [post(&[&length], BODY), last.as_bytes().to_vec()].concat()));
    }
}

/// What a client sends that goes too early.
fn endings(out: &mut Vec<Case>, dice: &Dice) {
    let length = format!("content-length: {}", BODY.len());
    let whole = post(&[&length], BODY);
    let pieces = chunked(&format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len()));
    for bytes in [&whole, &pieces] {
        let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        for _ in 0..4 {
            out.push(Case::wire("cut head", bytes[..1 + dice.below(body - 2)].to_vec()).ends());
            out.push(Case::wire("cut body", bytes[..body + dice.below(bytes.len() - body)].to_vec()).ends());
        }
    }
    out.push(Case::wire("cut head", Vec::new()).ends());
    out.push(Case::wire("cut body", get(&[&length], &BODY[..5])).ends());
    out.push(Case::wire("cut body", post(&[&length], &BODY[..5])).nobody().ends());
    out.push(Case::wire("cut body", post(&["content-length: 3000000"], BODY)).ends());
}
