//! Lists, watches, single objects, logs and connections.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::wire::Case;
use super::selectors::{FIELDS, LABELS};
use super::values::*;
use super::{LIST, NO_POD, ONE, POD, ask, pair};
use crate::rbac::Dice;

/// Lists of kinds whose fields differ.
const KINDS: &[&str] = &[
    LIST,
    "/api/v1/namespaces/odd/secrets",
    "/api/v1/namespaces/odd/pods",
    "/api/v1/pods",
    "/api/v1/namespaces/odd/events",
    "/api/v1/namespaces/odd/replicationcontrollers",
    "/api/v1/namespaces/odd/services",
    "/apis/batch/v1/namespaces/odd/jobs",
    "/apis/apps/v1/namespaces/odd/replicasets",
    "/apis/apps/v1/namespaces/odd/deployments",
    "/apis/certificates.k8s.io/v1/certificatesigningrequests",
    "/api/v1/persistentvolumes",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/odd/roles",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
];
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let mut out = selectors(dice);
    out.extend(pages(dice));
    out.extend(versions(dice));
    out.extend(single(dice));
    out.extend(pods(dice));
    out
}

fn selectors(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    for (index, value) in LABELS.iter().enumerate() {
        let query = pair("labelSelector", value);
        out.push(ask("labels", "GET", LIST, &query));
        match index % 4 {
            0 => out.push(ask("labels", "GET", LIST, &format!("watch=1&{query}"))),
            1 => out.push(ask("labels", "DELETE", "/api/v1/namespaces/odd/podtemplates", &query)),
            2 => out.push(ask("labels", "GET", dice.word(KINDS), &query)),
            _ => out.push(ask("labels", "GET", ONE, &query)),
        }
    }
    for (index, value) in FIELDS.iter().enumerate() {
        let query = pair("fieldSelector", value);
        out.push(ask("fields", "GET", LIST, &query));
        out.push(ask("fields", "GET", dice.word(KINDS), &query));
        match index % 4 {
            0 => out.push(ask("fields", "GET", LIST, &format!("watch=1&{query}"))),
            1 => out.push(ask("fields", "DELETE", "/api/v1/namespaces/odd/podtemplates", &query)),
            2 => out.push(ask("fields", "GET", dice.word(KINDS), &query)),
            _ => out.push(ask("fields", "GET", "/api/v1/watch/namespaces/odd/configmaps/c", &query)),
        }
    }
    for _ in 0..80 {
        let labels = pair("labelSelector", dice.word(LABELS));
        let fields = pair("fieldSelector", dice.word(FIELDS));
        out.push(ask("both selectors", "GET", dice.word(KINDS), &format!("{labels}&{fields}")));
    }
    out
}

fn pages(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    for value in NUMBERS {
        out.push(ask("limit", "GET", LIST, &pair("limit", value)));
        let query = format!("{}&{}", pair("limit", value), pair("labelSelector", dice.word(LABELS)));
        out.push(ask("limit", "GET", dice.word(KINDS), &query));
    }
    let inside = INSIDE.iter().map(|text| URL_SAFE_NO_PAD.encode(text));
    for token in TOKENS.iter().map(|token| (*token).to_owned()).chain(inside) {
        let query = pair("continue", &token);
        out.push(ask("continue", "GET", LIST, &query));
        let more = match dice.below(5) {
            0 => pair("limit", dice.word(NUMBERS)),
            1 => pair("resourceVersion", dice.word(VERSIONS)),
            2 => pair("resourceVersionMatch", dice.word(MATCHES)),
            3 => pair("fieldSelector", dice.word(FIELDS)),
            _ => pair("limit", "1"),
        };
        out.push(ask("continue", "GET", LIST, &format!("{query}&{more}")));
        out.push(ask("continue", "GET", "/api/v1/namespaces/odd/secrets", &format!("limit=1&{query}")));
    }
    out
}

fn versions(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    for value in VERSIONS {
        let query = pair("resourceVersion", value);
        out.push(ask("version", "GET", ONE, &query));
        out.push(ask("version", "GET", LIST, &query));
        out.push(ask("version", "GET", LIST, &format!("watch=1&{query}")));
        for rule in ["Exact", "NotOlderThan"] {
            out.push(ask("version", "GET", LIST, &format!("{query}&resourceVersionMatch={rule}")));
        }
    }
    for value in MATCHES {
        let query = pair("resourceVersionMatch", value);
        for before in
            ["", "resourceVersion=0&", "resourceVersion={version}&", "watch=1&", "watch=1&sendInitialEvents=1&"]
        {
            out.push(ask("match", "GET", LIST, &format!("{before}{query}")));
        }
    }
    for _ in 0..90 {
        let watch = if dice.percent(60) { "watch=1&" } else { "" };
        let mut query = format!("{watch}{}", pair("resourceVersion", dice.word(&["", "0", "{version}", "x"])));
        if dice.percent(50) {
            query.push_str(&format!("&{}", pair("sendInitialEvents", dice.word(BOOLS))));
        }
        if dice.percent(60) {
            query.push_str(&format!("&{}", pair("resourceVersionMatch", dice.word(&MATCHES[..4]))));
        }
        if dice.percent(40) {
            query.push_str(&format!("&{}", pair("allowWatchBookmarks", dice.word(BOOLS))));
        }
        if dice.percent(15) {
            query.push_str(&format!("&{}", pair("continue", dice.word(TOKENS))));
        }
        if dice.percent(15) {
            query.push_str(&format!("&{}", pair("limit", dice.word(NUMBERS))));
        }
        out.push(ask("version options", "GET", LIST, &query));
    }
    for value in BOOLS {
        for name in ["watch", "sendInitialEvents", "follow", "export"] {
            out.push(ask("boolean", "GET", LIST, &pair(name, value)));
        }
        out.push(ask("boolean", "GET", LIST, &format!("watch=1&{}", pair("allowWatchBookmarks", value))));
        out.push(ask("boolean", "GET", ONE, &pair("export", value)));
        out.push(ask("boolean", "GET", ONE, &pair("watch", value)));
    }
    for value in NUMBERS {
        out.push(ask("seconds", "GET", LIST, &pair("timeoutSeconds", value)));
        // What ends at once is a matter of its own.
        if !value.starts_with('-') && !value.starts_with("9223372036854775807") {
            out.push(ask("seconds", "GET", LIST, &format!("watch=1&{}", pair("timeoutSeconds", value))));
        }
    }
    out
}

/// One object, and in which form.
fn single(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    for value in INCLUDES {
        let query = pair("includeObject", value);
        for path in [ONE, LIST, "/api/v1/namespaces/odd/configmaps/none"] {
            out.push(ask("includeObject", "GET", path, &query).header("accept", TABLE));
        }
        out.push(ask("includeObject", "GET", LIST, &format!("watch=1&{query}")).header("accept", TABLE));
        out.push(ask("includeObject", "GET", ONE, &query));
    }
    for path in ["/api/v1/namespaces/odd/configmaps/none", "/apis/apps/v1/namespaces/odd/deployments/none/scale", POD] {
        for value in VERSIONS {
            out.push(ask("version", "GET", path, &pair("resourceVersion", value)));
        }
    }
    for _ in 0..60 {
        let query = format!("{}&{}", pair("pretty", dice.word(BOOLS)), pair("resourceVersion", dice.word(VERSIONS)));
        out.push(ask("single", dice.word(&["GET", "HEAD"]), dice.word(&[ONE, LIST, POD, NO_POD]), &query));
    }
    out
}

/// `log`, `exec`, `attach` and `portforward`.
fn pods(dice: &Dice) -> Vec<Case> {
    const LOGS: &[(&str, &[&str])] = &[
        ("sinceSeconds", NUMBERS),
        ("tailLines", NUMBERS),
        ("limitBytes", NUMBERS),
        ("sinceTime", TIMES),
        ("container", WORDS),
        ("follow", BOOLS),
        ("previous", BOOLS),
        ("timestamps", BOOLS),
        ("insecureSkipTLSVerifyBackend", BOOLS),
        ("stream", STREAMS),
        ("pretty", BOOLS),
        ("timeout", TIMEOUTS),
    ];
    let mut out = Vec::new();
    for (name, values) in LOGS {
        for value in *values {
            let pod = if dice.percent(70) { POD } else { NO_POD };
            out.push(ask("log", "GET", &format!("{pod}/log"), &pair(name, value)));
        }
    }
    for _ in 0..80 {
        let pod = if dice.percent(70) { POD } else { NO_POD };
        let query: Vec<String> = (0..2 + dice.below(3))
            .map(|_| LOGS[dice.below(LOGS.len())])
            .map(|(name, values)| pair(name, dice.word(values)))
            .collect();
        out.push(ask("log", "GET", &format!("{pod}/log"), &query.join("&")));
    }
    for value in PORTS {
        for method in ["GET", "POST"] {
            out.push(ask("connect", method, &format!("{POD}/portforward"), &pair("ports", value)));
        }
    }
    for value in BOOLS {
        let name = dice.word(&["stdin", "stdout", "stderr", "tty"]);
        let query = format!("{}&command=x", pair(name, value));
        out.push(ask("connect", dice.word(&["GET", "POST"]), &format!("{POD}/exec"), &query));
    }
    for value in WORDS {
        for name in ["container", "command"] {
            let pod = dice.word(&[POD, NO_POD]);
            out.push(ask("connect", "POST", &format!("{pod}/exec"), &format!("stdout=1&{}", pair(name, value))));
        }
        out.push(ask("connect", "GET", &format!("{POD}/exec"), &format!("stdout=1&{}", pair("dryRun", value))));
    }
    out
}
