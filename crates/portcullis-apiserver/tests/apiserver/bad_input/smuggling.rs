//! Requests whose end two readers could see in different places: a proxy before the server, and the server. What stands
//! behind the end that the server sees is never answered.

use super::wire::{Case, Wire};
use crate::bench::Bench;

/// What is smuggled: its answer is known by this word.
const SECOND: &str = "GET /version HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
const TOLD: &str = "gitVersion";

/// Header lines, the rest, and whether the first request is answered at all: where chunks and a length are both declared, the
/// chunks count (RFC 9112 section 6.3), and the connection ends.
fn hazards() -> Vec<(Vec<String>, String, bool)> {
    let chunks = format!("2\r\n{{}}\r\n0\r\n\r\n{SECOND}");
    let lengths = |value: &str| vec![format!("content-length: {value}")];
    let encoded = |line: &str| vec![line.to_owned(), format!("content-length: {}", chunks.len())];
    let mut out = Vec::new();
    for length in [0, 2, 5, chunks.len()] {
        let both = ["transfer-encoding: chunked".to_owned(), format!("content-length: {length}")];
        out.push((both.to_vec(), chunks.clone(), true));
        out.push((both.into_iter().rev().collect(), chunks.clone(), true));
    }
    for value in ["+2", "-2", "0x2", "2, 3", "2,2", "2 3", "2_", "\"2\"", "2;", "", "18446744073709551618"] {
        out.push((lengths(value), format!("{{}}{SECOND}"), false));
    }
    out.push(([lengths("2"), lengths("44")].concat(), format!("{{}}{SECOND}"), false));
    out.push(([lengths("44"), lengths("2")].concat(), format!("{{}}{SECOND}"), false));
    for line in [
        "transfer-encoding: xchunked",
        "transfer-encoding: chunkedx",
        "transfer-encoding: identity, chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding: \u{a0}chunked",
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        "transfer-encoding:\r\n chunked",
        " transfer-encoding: chunked",
        "x: y\rtransfer-encoding: chunked",
        "transfer-encoding: chunked\0",
        "transfer-encoding",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
    ] {
        out.push((encoded(line), chunks.clone(), false));
    }
    for size in ["+2", "-2", "0x2", " 2", "", "2\0", "2;a\nb", "2;a\rb", "2\n", "10000000000000002", "2g"] {
        let rest = format!("{size}\r\n{{}}\r\n0\r\n\r\n{SECOND}");
        out.push((vec!["transfer-encoding: chunked".to_owned()], rest, false));
    }
    for end in ["{}0\r\n\r\n", "{}\n0\r\n\r\n", "{}xx0\r\n\r\n", "{}\r\n0\r\nx\r\n\r\n", "{}\r\n0\r\n x: y\r\n\r\n"] {
        out.push((vec!["transfer-encoding: chunked".to_owned()], format!("2\r\n{end}{SECOND}"), false));
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_readers_could_end_in_different_places_is_the_last_of_its_connection() {
    let bench = Bench::start().await;
    let leaf = bench.ca.client("admin", &["system:masters"]);
    let wire = Wire::new(bench.running.addr().port(), &bench.ca, Some(&leaf));
    let target = "/api/v1/namespaces/default/configmaps?dryRun=All";
    for (headers, rest, answered) in hazards() {
        let head = format!("POST {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n");
        let request = format!("{head}{}\r\n\r\n{rest}", headers.join("\r\n"));
        let raw = wire.transfer(&Case::wire("smuggling", request.clone().into_bytes())).await;
        let said = String::from_utf8_lossy(&raw.body);
        assert!(raw.closed && !said.contains(TOLD), "{request}\n\n{} {said}", raw.status);
        assert!(answered || matches!(raw.status, 400 | 431 | 500 | 501), "{request}\n\n{} {said}", raw.status);
    }
    // The same request is answered where it stands behind one that is clear.
    let head = format!("POST {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n");
    for clear in ["content-length: 2\r\n\r\n{}", "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"] {
        let raw = wire.transfer(&Case::wire("smuggling", format!("{head}{clear}{SECOND}").into_bytes())).await;
        assert!(!raw.closed && String::from_utf8_lossy(&raw.body).contains(TOLD), "{clear}");
    }
    bench.stop().await;
}
