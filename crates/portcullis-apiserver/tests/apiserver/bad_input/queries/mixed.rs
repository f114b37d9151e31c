//! What all verbs and paths have in common: encodings, repetitions, lengths, and parameters that are not theirs.

use super::super::wire::Case;
use super::selectors::{FIELDS, LABELS};
use super::values::*;
use super::{KEPT, LIST, MAPS, ONE, POD, ask, pair};
use crate::rbac::Dice;

/// Places of every sort.
const PLACES: &[(&str, &str)] = &[
    ("GET", LIST),
    ("GET", ONE),
    ("GET", "/api/v1/namespaces/odd/pods"),
    ("GET", "/api/v1/watch/namespaces/odd/configmaps"),
    ("HEAD", ONE),
    ("POST", MAPS),
    ("PUT", KEPT),
    ("PATCH", KEPT),
    ("DELETE", KEPT),
    ("DELETE", "/api/v1/namespaces/odd/podtemplates"),
    ("GET", "/api/v1/namespaces/odd/pods/waiting/log"),
    ("POST", "/api/v1/namespaces/odd/pods/waiting/exec"),
    ("GET", "/api/v1/namespaces/odd/pods/waiting/portforward"),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ("GET", "/version"),
    ("GET", "/api"),
    ("GET", "/apis/apps"),
    ("GET", "/api/v1"),
    ("GET", "/openapi/v3"),
    ("GET", "/openapi/v3/version"),
    ("GET", "/healthz"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/livez/ping"),
    ("GET", "/.well-known/openid-configuration"),
    ("GET", "/nothing"),
    ("GET", "/api/v1/namespaces/odd/things"),
    ("GET", "/apis/nothing/v1/things"),
];
/// Whole queries, as they are sent.
const ODD: &[&str] = &[
    "",
    "&",
    "&&&",
    "=",
    "==",
    "=x",
    "&=&",
    "?",
    "??",
    "?limit=x",
    "limit=x",
    "limit",
    "limit&limit=x",
    "limit=1&limit=x",
    "limit=x&limit=1",
    "Limit=x",
    "LIMIT=x",
    "limit =x",
    "limit%20=x",
    "%6Cimit=x",
    "limit%3Dx",
    "limit[]=x",
    "limit=%",
    "limit=%4",
    "limit=%zz",
    "limit=%%",
    "limit=%31",
    "limit=1%",
    "limit=%u0031",
    "limit=x;a=b",
    "a=b;limit=x",
    ";limit=x",
    "limit=x;",
    "a;b",
    "limit=+1",
    "limit=%2B1",
    "limit=1+",
    "+limit=x",
    "limit=%00",
    "limit=1%00",
    "limit=%ff",
    "%ff=x",
    "%00=x",
    "%=x",
    "labelSelector=%ff",
    "labelSelector=a%3D%ff",
    "fieldSelector=%ff%3Dx",
    "fieldSelector=metadata.name%3D%ff",
    "fieldManager=%ff",
    "fieldManager=%C3",
    "dryRun=%ff",
    "resourceVersion=%ff",
    "continue=%ff",
    "timeout=%ff",
    "labelSelector=a+in+(x)",
    "labelSelector=a%20in%20(x)",
    "labelSelector=a=x",
    "labelSelector=a=x,n=5",
    "labelSelector=a==x",
    "labelSelector=!a",
    "labelSelector={a}",
    "labelSelector=[a]",
    "labelSelector=a|b",
    "labelSelector=a\\b",
    "labelSelector=a^b",
    "labelSelector=a`b",
    "labelSelector=a'b",
    "labelSelector=a\"b",
    "labelSelector=\"a\"",
    "labelSelector=a<5",
    "labelSelector=n>4",
    "labelSelector=<a>",
    "labelSelector=a#b",
    "#",
    "#limit=x",
    "labelSelector=\u{e9}",
    "\u{e9}=x",
    "labelSelector=a=x&labelSelector=b",
    "labelSelector=&labelSelector==",
    "fieldSelector=a=b",
    "fieldSelector=metadata.name=c",
    "pretty",
    "pretty=",
    "pretty=0",
    "pretty=x",
    "pretty=false",
    "Pretty=1",
    "watch",
    "watch=0",
    "watch=false&watch=true",
    "watch=true&watch=false",
    "WATCH=1",
    "watch=%",
    "timeout",
    "timeout=x",
    "timeout=x&timeout=1h",
    "timeout=1h&timeout=x",
    "Timeout=x",
    "timeout=%",
    "timeout=1h;",
    "timeoutSeconds=x",
    "resourceVersion=x",
    "dryRun",
    "dryRun=All&dryRun=All",
    "dryRun=All&dryRun=x",
    "dryRun=x&dryRun=All",
    "dryRun=&dryRun=",
    "dryrun=x",
    "fieldValidation=x",
    "fieldValidation=Strict&fieldValidation=x",
    "fieldManager=a&fieldManager=%00",
    "export=1",
    "export",
    "verbose",
    "verbose=0",
    "exclude=ping",
    "exclude=nothing",
    "verbose&exclude=a&exclude=b",
    "apiVersion=v2",
    "kind=Odd",
    "namespace=bad",
    "name=c",
    "access_token=x",
    "labels=a",
    "field=x",
];
/// Bytes that have no place in a request line, or hardly one.
const RAW: &[&str] = &["a b", "a\tb", "a\u{1}b", "a\u{7f}b", "a\0b", " ", "a  HTTP/1.1"];

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    for query in ODD {
        for _ in 0..4 {
            let (method, path) = PLACES[dice.below(PLACES.len())];
            out.push(ask("odd", method, path, query));
        }
    }
    for query in RAW {
        for (method, path) in [("GET", LIST), ("GET", "/version"), ("POST", MAPS)] {
            out.push(ask("raw", method, path, &format!("x={query}")));
        }
    }
    for (method, path) in PLACES {
        for _ in 0..3 {
            out.push(ask("pretty", method, path, &pair("pretty", dice.word(BOOLS))));
        }
        for _ in 0..2 {
            out.push(ask("timeout", method, path, &pair("timeout", time_for(path, dice.word(TIMEOUTS)))));
        }
    }
    for value in TIMEOUTS {
        out.push(ask("timeout", "GET", ONE, &pair("timeout", value)));
        let path = dice.word(&[LIST, "/version", "/nothing"]);
        out.push(ask("timeout", "GET", path, &pair("timeout", time_for(path, value))).nobody());
    }
    out.extend(lengths());
    out.extend(foreign(dice));
    out
}

/// Lengths and counts.
fn lengths() -> Vec<Case> {
    let mut out = Vec::new();
    for name in [
        "labelSelector",
        "fieldSelector",
        "fieldManager",
        "fieldValidation",
        "continue",
        "resourceVersion",
        "limit",
        "dryRun",
        "timeout",
        "propagationPolicy",
        "sinceTime",
        "x",
    ] {
        for length in [64, 129, 1_000, 8_000, 40_000] {
            let query = format!("{name}={}", "x".repeat(length));
            let (method, path) = match name {
                "fieldManager" | "fieldValidation" | "dryRun" => ("POST", MAPS.to_owned()),
                "propagationPolicy" => ("DELETE", KEPT.to_owned()),
                "sinceTime" => ("GET", format!("{POD}/log")),
                _ => ("GET", LIST.to_owned()),
            };
            out.push(ask("length", method, &path, &query));
        }
    }
    for count in [2, 100, 127, 128, 129, 1_000, 9_999, 10_000, 10_001] {
        let many = "a&".repeat(count - 1);
        out.push(ask("count", "GET", LIST, &format!("{many}limit=x")));
        out.push(ask("count", "GET", LIST, &format!("limit=x&{}", many.trim_end_matches('&'))));
        out.push(ask("count", "DELETE", KEPT, &format!("{many}orphanDependents=1")));
    }
    for count in [100, 255, 256, 257, 1_000] {
        let labels: Vec<String> = (0..count).map(|number| format!("!k{number}")).collect();
        out.push(ask("count", "GET", LIST, &pair("labelSelector", &labels.join(","))));
        let values: Vec<String> = (0..count).map(|number| format!("v{number}")).collect();
        out.push(ask("count", "GET", LIST, &pair("labelSelector", &format!("a notin ({})", values.join(",")))));
        let fields: Vec<String> = (0..count).map(|number| format!("metadata.name!=m{number}")).collect();
        out.push(ask("count", "GET", LIST, &format!("fieldSelector={}", fields.join(","))));
        out.push(ask("count", "POST", MAPS, &vec!["dryRun=All"; count].join("&")));
    }
    out
}

/// Parameters where they do not belong.
fn foreign(dice: &Dice) -> Vec<Case> {
    const ALL: &[(&str, &[&str])] = &[
        ("labelSelector", LABELS),
        ("fieldSelector", FIELDS),
        ("limit", NUMBERS),
        ("continue", TOKENS),
        ("resourceVersion", &["", "0", "x"]),
        ("resourceVersionMatch", MATCHES),
        ("sendInitialEvents", BOOLS),
        ("allowWatchBookmarks", BOOLS),
        ("timeoutSeconds", &["", "0", "1", "x", "1.5"]),
        ("dryRun", DRY_RUNS),
        ("fieldValidation", VALIDATIONS),
        ("fieldManager", MANAGERS),
        ("force", BOOLS),
        ("pretty", BOOLS),
        ("propagationPolicy", POLICIES),
        ("orphanDependents", BOOLS),
        ("gracePeriodSeconds", &["", "0", "x", "-1"]),
        ("includeObject", INCLUDES),
        ("shardSelector", WORDS),
        ("ports", PORTS),
        ("container", WORDS),
        ("tailLines", NUMBERS),
        ("exclude", WORDS),
        ("unknown", WORDS),
    ];
    let mut out = Vec::new();
    for _ in 0..300 {
        let (method, path) = PLACES[dice.below(PLACES.len())];
        let mut query: Vec<String> = (0..1 + dice.below(4))
            .map(|_| ALL[dice.below(ALL.len())])
            .map(|(name, values)| pair(name, dice.word(values)))
            .collect();
        if dice.percent(15) {
            query.push(dice.word(ODD).to_owned());
        }
        out.push(ask("foreign", method, path, &query.join("&")));
    }
    out
}

/// A time for requests there. What needs no store may be answered within a microsecond or not: that is no difference.
fn time_for<'a>(path: &str, time: &'a str) -> &'a str {
    let tiny = ["1ns", "1us", "1\u{b5}s", "1\u{3bc}s"].contains(&time);
    if tiny && !path.starts_with("/api") { "1h" } else { time }
}
