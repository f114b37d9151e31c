//! Takes out of what kubectl prints what no two runs have in common: ids, times, ages, versions, given addresses and ports.

use crate::differential::scrub::is_age;

/// What is this side's own.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// Host and port of its server.
    pub(super) host: String,
    /// Its folder.
    pub(super) folder: String,
}

/// The text as every side would print it.
pub(super) fn text(text: &str, own: &Own) -> String {
    let port = own.host.rsplit(':').next().unwrap_or_default();
    let text = text.replace(&own.host, "HOST").replace(&own.folder, "FOLDER").replace("v1.37.2+portcullis", "v1.37.2");
    let mut lines: Vec<String> = text.lines().map(|line| words(&keyed(line), port)).collect();
    if lines.iter().any(|line| line.contains("ADDRESS")) {
        // Columns are as wide as what was given.
        lines = lines.iter().map(|line| columns(line)).collect();
    }
    let ends = if text.ends_with('\n') { "\n" } else { "" };
    lines.join("\n") + ends
}

/// Members whose values differ by nature.
const KEYS: [&str; 8] = [
    "resourceVersion",
    "Resource Version",
    "buildDate",
    "compiler",
    "gitCommit",
    "goVersion",
    "platform",
    "gitTreeState",
];

fn keyed(line: &str) -> String {
    let bare = line.trim_start();
    let lead = &line[..line.len() - bare.len()];
    if let Some(name) = ["--- /tmp/", "+++ /tmp/", "diff -u -N /tmp/"].iter().find(|start| bare.starts_with(**start)) {
        return format!("{lead}{name}...");
    }
    if let Some((said, _)) = bare.split_once(", was ").filter(|(said, _)| said.contains("resource version to be")) {
        return format!("{lead}{said}, was -");
    }
    for key in KEYS {
        for form in [format!("{key}: "), format!("\"{key}\": ")] {
            if let Some(place) = bare.find(&form).filter(|place| bare[..*place].chars().all(|c| "+- ".contains(c))) {
                let comma = if bare.ends_with(',') { "," } else { "" };
                return format!("{lead}{}{form}-{comma}", &bare[..place]);
            }
        }
    }
    compact(line)
}

/// Versions in JSON of one line.
fn compact(line: &str) -> String {
    let mut text = line.to_owned();
    for member in ["\"resourceVersion\":\"", "\\\"resourceVersion\\\":\\\""] {
        let mut parts = text.split(member);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push_str(member);
            out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        text = out;
    }
    text
}

/// A line with the words replaced that differ by nature. Blanks stay, but for those after an age or an address.
fn words(line: &str, port: &str) -> String {
    let line = dates(line);
    let mut out = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(first) = rest.chars().next() {
        if !is_word(first) {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let blank_before = out.is_empty() || out.ends_with([' ', '(', '\t']);
        let blank_after = after.is_empty() || after.starts_with([' ', ')', ',']);
        if blank_before && blank_after && is_age(word) {
            out.push_str("AGE");
            if rest.starts_with("  ") {
                out.push_str("  ");
                rest = rest.trim_start_matches(' ');
            }
        } else {
            out.push_str(&one(word, port));
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._:+~".contains(c)
}

fn one(word: &str, port: &str) -> String {
    if is_uid(word) {
        return "UID".to_owned();
    }
    if is_time(word) {
        return "TIME".to_owned();
    }
    if word.starts_with("eyJ") && word.matches('.').count() == 2 {
        return "TOKEN".to_owned();
    }
    if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return "HASH".to_owned();
    }
    for stem in ["kubectl-edit-", "LIVE-", "MERGED-"] {
        if let Some(tail) = word.strip_prefix(stem) {
            return format!("{stem}N{}", tail.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
    }
    if let Some(tail) = word.strip_prefix("kube-api-access-") {
        return format!("kube-api-access-N{}", tail.get(5..).unwrap_or_default());
    }
    let parts: Vec<String> = word.split(':').map(|part| number(part, port)).collect();
    parts.join(":")
}

/// Ports and addresses that were given, not asked for: those that the script asks for lie at the beginning of the ranges.
fn number(part: &str, port: &str) -> String {
    if part == port {
        return "PORT".to_owned();
    }
    if part.len() == 5 && part.parse::<u32>().is_ok_and(|given| (30_086..32_768).contains(&given)) {
        return "NODEPORT".to_owned();
    }
    let given = part.parse::<std::net::Ipv4Addr>().is_ok_and(|address| {
        let [first, second, third, _] = address.octets();
        first == 10 && (96..112).contains(&second) && (second, third) != (96, 0)
    });
    if given { "ADDRESS".to_owned() } else { part.to_owned() }
}

fn is_uid(word: &str) -> bool {
    const PARTS: [usize; 5] = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = word.split('-').collect();
    parts.len() == PARTS.len()
        && parts
            .iter()
            .zip(PARTS)
            .all(|(part, length)| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// RFC 3339.
fn is_time(word: &str) -> bool {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let shape = shape.split_once('.').map_or(shape.clone(), |(start, _)| format!("{start}Z"));
    shape == "0000-00-00T00:00:00Z" && word.ends_with('Z')
}

/// `Thu, 26 Nov 2026 06:22:50 +0000`, as `describe` prints it.
fn dates(line: &str) -> String {
    const DAYS: [&str; 7] = ["Mon, ", "Tue, ", "Wed, ", "Thu, ", "Fri, ", "Sat, ", "Sun, "];
    let mut out = line.to_owned();
    while let Some(place) = DAYS.iter().find_map(|day| out.find(day)) {
        let end = out[place..].find(" +0000").map(|end| place + end + " +0000".len());
        let Some(end) = end.filter(|end| end - place <= 31) else { break };
        out.replace_range(place..end, "TIME");
    }
    // As Go prints a time by itself: a date, a time, an offset and a zone.
    if let Some(place) = out.find(" +0000 UTC") {
        let start = place.checked_sub("2026-11-26 06:22:50".len());
        let shape = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
        if let Some(start) =
            start.filter(|start| out.get(*start..place).map(shape).as_deref() == Some("0000-00-00 00:00:00"))
        {
            out.replace_range(start..place + " +0000 UTC".len(), "TIME");
        }
    }
    out
}

/// A line with its columns two blanks apart.
pub(super) fn columns(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if !(c == ' ' && out.ends_with("  ")) {
            out.push(c);
        }
    }
    out.trim_end().to_owned()
}

#[test]
fn what_differs_by_nature_is_taken_out() {
    let own = Own { host: "127.0.0.1:4711".to_owned(), folder: "/tmp/x".to_owned() };
    for (printed, want) in [
        ("web   0/1     Pending   0          5s\n", "web   0/1     Pending   0          AGE\n"),
        ("3s          Normal", "AGE  Normal"),
        ("  uid: 0d7f3c3e-9f4b-4c6e-8a5e-0123456789ab", "  uid: UID"),
        ("  creationTimestamp: \"2026-11-26T06:22:50Z\"", "  creationTimestamp: \"TIME\""),
        ("CreationTimestamp:  Thu, 26 Nov 2026 06:22:50 +0000", "CreationTimestamp:  TIME"),
        ("Created on:   2026-11-26 06:22:50 +0000 UTC", "Created on:   TIME"),
        ("  resourceVersion: \"123\"", "  resourceVersion: -"),
        ("    \"resourceVersion\": \"123\",", "    \"resourceVersion\": -,"),
        ("at https://127.0.0.1:4711/x (/tmp/x/home)", "at https://HOST/x (FOLDER/home)"),
        ("svc  NodePort    10.96.7.9    <none>  80:31234/TCP", "svc  NodePort  ADDRESS  <none>  80:NODEPORT/TCP"),
        ("svc  10.96.0.9  80:30001/TCP", "svc  10.96.0.9  80:30001/TCP"),
        ("/tmp/kubectl-edit-12345.yaml", "/tmp/kubectl-edit-N.yaml"),
        ("{\\\"resourceVersion\\\":\\\"26\\\"}", "{\\\"resourceVersion\\\":\\\"\\\"}"),
        ("[X509SHA256=aa9c09ce4cb68aa00e03e3d1a94b7faf948a3492a0690b28737458fa57eb2413]", "[X509SHA256=HASH]"),
        ("error: Expected resource version to be 1, was 283", "error: Expected resource version to be 1, was -"),
        ("  kube-api-access-x7k2p:", "  kube-api-access-N:"),
        ("timed out waiting --timeout=5s", "timed out waiting --timeout=5s"),
    ] {
        assert_eq!(text(printed, &own), want);
    }
}
