//! The same requests to a real kube-apiserver and to ours: status and body must be the same, but for ids, versions, times,
//! managed fields and the words of column descriptions. `docs/compat/kube-apiserver.md` lists what is known to differ.

use std::collections::BTreeMap;

use portcullis_runtime::http_client::{HttpClient, HttpClientConfig};
use portcullis_testkit::ControlPlane;
use serde_json::Value;

use crate::bench::Bench;

const NS: &str = "/api/v1/namespaces";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const MERGE: &str = "application/merge-patch+json";

/// Method, path (`NS` and `RBAC` stand for the two roots), body, extra header.
type Step = (&'static str, &'static str, &'static str, Option<(&'static str, &'static str)>);

const POD: &str =
    r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"q"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;

const STEPS: &[Step] = &[
    ("GET", "/version/", "", None),
    ("GET", "/nope", "", None),
    ("GET", "/api/v1/nope", "", None),
    ("GET", "/api/v2", "", None),
    ("GET", "/apis/foo", "", None),
    ("GET", "/apis/foo/v1/x", "", None),
    ("GET", "/apis/rbac.authorization.k8s.io/v2/x", "", None),
    ("GET", "/apis/rbac.authorization.k8s.io", "", None),
    ("GET", "/apis/rbac.authorization.k8s.io/v1", "", None),
    ("GET", "/apis/authentication.k8s.io/v1", "", None),
    ("GET", "/apis/authorization.k8s.io/v1/", "", None),
    ("GET", "/livez/nope", "", None),
    ("GET", "/livez", "", None),
    ("GET", "NS//x", "", None),
    ("PUT", "NS", "{}", None),
    ("DELETE", "NS", "", None),
    ("POST", "NS/default", "{}", None),
    ("OPTIONS", "NS/default", "", None),
    ("POST", "/api/v1/pods", POD, None),
    ("GET", "/api/v1/events?limit=1", "", Some(("accept", TABLE))),
    ("GET", "/api/v1/pods", "", Some(("accept", "text/foo"))),
    ("GET", "/api/v1/pods", "", Some(("accept", "application/json;as=Odd;v=v1;g=meta.k8s.io"))),
    ("POST", "NS", r#"{"metadata":{"name":"t1"}}"#, None),
    ("POST", "NS", r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"t1"}}"#, None),
    ("POST", "NS", r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"Bad_Name"}}"#, None),
    ("POST", "NS", r#"{"metadata":{"name":"a.b"}}"#, None),
    ("POST", "NS", r#"{"kind":"Namespace","apiVersion":"v1","metadata":{}}"#, None),
    (
        "POST",
        "NS?fieldValidation=Strict",
        r#"{"metadata":{"generateName":"gen-","name2":"x"},"foo":1,"spec":{"bar":2,"bar":2}}"#,
        None,
    ),
    ("POST", "NS?fieldValidation=Strict", r#"{"metadata":{"name":"x","name":"y"}}"#, None),
    ("POST", "NS?fieldValidation=Odd", r#"{"metadata":{"name":"x"}}"#, None),
    ("POST", "NS?dryRun=All", r#"{"metadata":{"name":"dry"}}"#, None),
    ("POST", "NS?dryRun=Some", r#"{"metadata":{"name":"dry"}}"#, None),
    ("GET", "NS/dry", "", None),
    ("POST", "NS", r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"t1"}}"#, None),
    ("POST", "NS", r#"{"kind":"Namespace","apiVersion":"v2","metadata":{"name":"t1"}}"#, None),
    ("POST", "NS", r#"{"metadata":{"name":5}}"#, None),
    ("POST", "NS", r#"{"metadata":{"name":"q","labels":{"a":1}}}"#, None),
    ("POST", "NS", r#"{"metadata":{"name":"q","labels":{"a b":"c d"}}}"#, None),
    ("POST", "NS", r#"{"metadata":{"name":"q","resourceVersion":"5"}}"#, None),
    ("POST", "NS", "[]", None),
    ("POST", "NS", "\"x\"", None),
    ("POST", "NS", "null", None),
    ("POST", "NS", "{}", None),
    ("POST", "NS", "{", None),
    ("POST", "NS", r#"{"metadata":{"name":"q"}} trailing"#, None),
    ("POST", "NS", "{}", Some(("content-type", "text/foo"))),
    ("GET", "NS/default", "", Some(("accept", "text/foo"))),
    ("GET", "NS/default", "", Some(("accept", "*/*"))),
    ("GET", "NS/default", "", Some(("accept", "application/yaml"))),
    ("GET", "NS/default?pretty=true", "", None),
    ("GET", "NS/default", "", Some(("accept", TABLE))),
    ("GET", "NS/default", "", Some(("accept", PARTIAL))),
    ("GET", "NS/nonexist", "", None),
    ("GET", "NS/nonexist/pods", "", None),
    ("POST", "NS/nonexist/pods", POD, None),
    (
        "POST",
        "NS/default/pods",
        r#"{"metadata":{"name":"q","namespace":"kube-system"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
        None,
    ),
    ("POST", "NS/default/pods", r#"{"metadata":{"name":"q"},"spec":{}}"#, None),
    (
        "POST",
        "NS/default/pods",
        r#"{"metadata":{"name":"q"},"spec":{"containers":[{"name":"C","image":""},{"name":"a"}]}}"#,
        None,
    ),
    (
        "POST",
        "NS/default/pods",
        r#"{"metadata":{"name":"q"},"spec":{"containers":[{"name":"c","image":"i","image":"j","x":1}]}}"#,
        None,
    ),
    ("POST", "NS/default/pods", POD, None),
    (
        "POST",
        "NS/default/pods?fieldValidation=Strict",
        r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":5}]}}"#,
        None,
    ),
    ("GET", "NS/default/pods/none", "", None),
    ("GET", "NS/default/pods/q?resourceVersion=99999", "", None),
    ("DELETE", "NS/default/pods/none", "", None),
    ("DELETE", "NS/default/pods/q", r#"{"propagationPolicy":"Odd"}"#, None),
    ("DELETE", "NS/default/pods/q", "", None),
    ("GET", "NS/default/pods/q", "", None),
    ("DELETE", "NS/default", "", None),
    ("DELETE", "NS/default/pods", "", None),
    ("GET", "NS/default/pods?limit=abc", "", None),
    ("GET", "NS/default/pods?limit=-1", "", None),
    ("GET", "NS/default/pods?continue=abc", "", None),
    ("GET", "NS/default/pods?resourceVersion=abc", "", None),
    ("GET", "NS/default/pods?resourceVersion=99999", "", None),
    ("GET", "NS/default/pods?resourceVersionMatch=Exact", "", None),
    ("GET", "NS/default/pods?resourceVersionMatch=Odd&resourceVersion=5", "", None),
    ("GET", "NS/default/pods?sendInitialEvents=true", "", None),
    ("GET", "NS/default/pods?fieldSelector=spec.foo=zz", "", None),
    ("GET", "NS/default/pods?watch=1&timeoutSeconds=abc", "", None),
    ("GET", "NS/default/pods?watch=1&resourceVersion=abc", "", None),
    ("GET", "NS/default/pods?watch=1&sendInitialEvents=true", "", None),
    ("GET", "NS/default/pods?watch=1&resourceVersionMatch=Exact&resourceVersion=3", "", None),
    ("GET", "NS?watch=1&timeoutSeconds=1&fieldSelector=metadata.name=default", "", None),
    ("GET", "NS?watch=1&timeoutSeconds=1&fieldSelector=metadata.name=default", "", Some(("accept", TABLE))),
    (
        "GET",
        "NS?watch=1&timeoutSeconds=1&fieldSelector=metadata.name=none&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        "",
        None,
    ),
    ("GET", "/api/v1/watch/namespaces/default?timeoutSeconds=1", "", None),
    ("GET", "NS?fieldSelector=metadata.name=default", "", Some(("accept", TABLE))),
    ("GET", "NS?fieldSelector=metadata.name=default&includeObject=None", "", Some(("accept", TABLE))),
    ("GET", "NS?fieldSelector=metadata.name=default&includeObject=Object", "", Some(("accept", TABLE))),
    ("GET", "NS?labelSelector=a=b=c", "", None),
    ("GET", "NS?labelSelector=a%20in%20(b,", "", None),
    ("GET", "NS?labelSelector=a%20b", "", None),
    ("GET", "NS?fieldSelector=foo", "", None),
    ("GET", "RBAC/namespaces/default/roles?fieldSelector=foo=zz", "", None),
    ("GET", "NS/default/pods", "", Some(("accept", TABLE))),
    ("GET", "NS/default/serviceaccounts", "", Some(("accept", TABLE))),
    ("GET", "RBAC/clusterrolebindings?limit=2", "", Some(("accept", TABLE))),
    ("GET", "RBAC/clusterroles?limit=3", "", Some(("accept", TABLE))),
    ("GET", "RBAC/clusterroles", "", None),
    ("GET", "RBAC/clusterrolebindings", "", None),
    ("GET", "RBAC/roles", "", None),
    ("GET", "RBAC/rolebindings", "", None),
    (
        "POST",
        "RBAC/clusterrolebindings",
        r#"{"metadata":{"name":"b1"},"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"User","name":"u"},{"kind":"Group","name":"g"},{"kind":"ServiceAccount","name":"s","namespace":"ns"}]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/clusterrolebindings",
        r#"{"metadata":{"name":"b1"},"roleRef":{"kind":"ClusterRole","name":"view"}}"#,
        None,
    ),
    (
        "POST",
        "RBAC/clusterrolebindings",
        r#"{"metadata":{"name":"b/2"},"roleRef":{"kind":"Role","name":""},"subjects":[{"kind":"Usr","name":"u"},{"kind":"ServiceAccount","name":"s"},{"kind":"User","name":""}]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/clusterroles",
        r#"{"metadata":{"name":"r1"},"rules":[{"apiGroups":[""],"resources":["pods"]},{"verbs":["get"]},{"verbs":["get"],"nonResourceURLs":["/x"],"resources":["y"]}]}"#,
        None,
    ),
    ("POST", "RBAC/clusterroles", r#"{"metadata":{"name":"r2"}}"#, None),
    (
        "POST",
        "RBAC/namespaces/default/roles",
        r#"{"metadata":{"name":"r1"},"rules":[{"verbs":["get"],"nonResourceURLs":["/x"]}]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/namespaces/default/roles",
        r#"{"metadata":{"name":"r1","labels":{"a":"b"}},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}"#,
        None,
    ),
    ("GET", "RBAC/namespaces/default/roles?labelSelector=a=b", "", None),
    (
        "POST",
        "RBAC/namespaces/default/rolebindings",
        r#"{"metadata":{"name":"rb1"},"roleRef":{"kind":"Role","name":"r1"},"subjects":[{"kind":"User","name":"jane"}]}"#,
        None,
    ),
    (
        "PUT",
        "RBAC/namespaces/default/rolebindings/rb1",
        r#"{"metadata":{"name":"rb1"},"roleRef":{"kind":"Role","name":"r2"}}"#,
        None,
    ),
    (
        "PUT",
        "RBAC/namespaces/default/rolebindings/rb1",
        r#"{"metadata":{"name":"rb1","resourceVersion":"1"},"roleRef":{"kind":"Role","name":"r1"}}"#,
        None,
    ),
    (
        "PUT",
        "RBAC/namespaces/default/rolebindings/rb1",
        r#"{"metadata":{"name":"rb9"},"roleRef":{"kind":"Role","name":"r1"}}"#,
        None,
    ),
    (
        "PUT",
        "RBAC/namespaces/default/rolebindings/rb9",
        r#"{"metadata":{"name":"rb9"},"roleRef":{"kind":"Role","name":"r1"}}"#,
        None,
    ),
    ("PATCH", "RBAC/namespaces/default/rolebindings/rb1", "{}", Some(("content-type", "application/json"))),
    (
        "PATCH",
        "RBAC/namespaces/default/rolebindings/rb1",
        r#"{"metadata":{"labels":{"x":"y"}}}"#,
        Some(("content-type", MERGE)),
    ),
    ("PATCH", "RBAC/namespaces/default/rolebindings/none", "{}", Some(("content-type", MERGE))),
    ("DELETE", "RBAC/namespaces/default/rolebindings/rb1", "", None),
    (
        "DELETE",
        "RBAC/clusterrolebindings/b1",
        r#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#,
        None,
    ),
    ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}", None),
    ("GET", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "", None),
    ("POST", "/apis/authentication.k8s.io/v1beta1/selfsubjectreviews", "{}", None),
    (
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        r#"{"spec":{"resourceAttributes":{"verb":"list","resource":"pods"}}}"#,
        None,
    ),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", r#"{"spec":{}}"#, None),
    (
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        r#"{"spec":{"resourceAttributes":{"verb":"list","resource":"pods"}}}"#,
        None,
    ),
    (
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        r#"{"spec":{"user":"jane","groups":["system:authenticated"],"extra":{"A":["b"]},"nonResourceAttributes":{"verb":"get","path":"/healthz"}}}"#,
        None,
    ),
    (
        "POST",
        "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
        r#"{"spec":{"user":"jane","resourceAttributes":{"verb":"list","resource":"pods","namespace":"other"}}}"#,
        None,
    ),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", r#"{"spec":{}}"#, None),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", r#"{"spec":{"namespace":"default"}}"#, None),
    (
        "POST",
        "RBAC/clusterroles",
        r#"{"metadata":{"name":"writer"},"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["*"],"verbs":["create","get"]},{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/clusterrolebindings",
        r#"{"metadata":{"name":"writer"},"roleRef":{"kind":"ClusterRole","name":"writer"},"subjects":[{"kind":"User","name":"jane"}]}"#,
        None,
    ),
];

/// What a user without rights gets, and then what one gets who may write RBAC objects but holds little.
const AS_JANE: &[Step] = &[
    ("GET", "/api/v1/pods", "", None),
    ("GET", "/metrics", "", None),
    ("GET", "/nope?a=<b>", "", None),
    ("GET", "NS/x/pods/y/log", "", None),
    ("POST", "NS/x/pods", "{", None),
    ("DELETE", "RBAC/clusterroles/x", "", None),
    ("DELETE", "NS/x/pods", "", None),
    ("GET", "NS?watch=true&fieldSelector=metadata.name=a", "", None),
    ("GET", "NS/default", "", Some(("impersonate-user", "admin"))),
    (
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        r#"{"spec":{"resourceAttributes":{"verb":"list","resource":"pods"}}}"#,
        None,
    ),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", r#"{"spec":{"namespace":"default"}}"#, None),
    (
        "POST",
        "RBAC/clusterroles",
        r#"{"metadata":{"name":"own"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/clusterroles",
        r#"{"metadata":{"name":"more"},"rules":[{"apiGroups":["","apps"],"resources":["pods","secrets"],"verbs":["get","list"]},{"nonResourceURLs":["/x"],"verbs":["get"]}]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/clusterroles",
        r#"{"metadata":{"name":"sum"},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]},"rules":[]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/clusterrolebindings",
        r#"{"metadata":{"name":"grab"},"roleRef":{"kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","name":"jane"}]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/clusterrolebindings",
        r#"{"metadata":{"name":"void"},"roleRef":{"kind":"ClusterRole","name":"none"},"subjects":[{"kind":"User","name":"jane"}]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/clusterrolebindings",
        r#"{"metadata":{"name":"fine"},"roleRef":{"kind":"ClusterRole","name":"writer"},"subjects":[{"kind":"User","name":"x"}]}"#,
        None,
    ),
    (
        "POST",
        "RBAC/namespaces/default/rolebindings",
        r#"{"metadata":{"name":"view"},"roleRef":{"kind":"ClusterRole","name":"system:node-proxier"},"subjects":[{"kind":"User","name":"x"}]}"#,
        None,
    ),
];

/// Steps that differ, and why. A step that no longer does fails the test.
const KNOWN: &[(&str, &str)] =
    &[("DELETE NS/default/pods/q ", "ours says in a condition why the pod was never scheduled")];

struct Side {
    base: String,
    client: HttpClient,
}

impl Side {
    async fn ask(&self, (method, path, body, header): &Step) -> (u16, String, String) {
        let path = path.replacen("NS", NS, 1).replacen("RBAC", RBAC, 1);
        let mut headers = vec![("user-agent", "test")];
        if !body.is_empty() && header.is_none_or(|(name, _)| name != "content-type") {
            headers.push(("content-type", "application/json"));
        }
        headers.extend(*header);
        let body = (!body.is_empty()).then(|| body.to_string().into());
        let url = format!("{}{path}", self.base);
        let response = self.client.request(method.parse().unwrap(), &url, &headers, body).await.unwrap();
        let kind =
            response.headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
        (response.status, kind, normalise(std::str::from_utf8(&response.body).unwrap(), &self.base))
    }
}

/// Ids, versions and times out; one JSON value a line.
fn normalise(body: &str, base: &str) -> String {
    let lines = body.lines().map(|line| match serde_json::from_str::<Value>(line) {
        Ok(mut value) => {
            scrub(&mut value);
            value.to_string()
        }
        Err(_) => line.to_owned(),
    });
    let whole = match serde_json::from_str::<Value>(body) {
        Ok(mut value) => {
            scrub(&mut value);
            serde_json::to_string_pretty(&value).unwrap()
        }
        Err(_) => lines.collect::<Vec<_>>().join("\n"),
    };
    let host = base.trim_start_matches("https://");
    scrub_text(&whole.replace(host, "HOST"))
}

fn scrub(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.shift_remove("managedFields");
            if members.contains_key("aggregationRule") {
                // Without a controller manager the real server leaves these empty.
                members.shift_remove("rules");
            }
            for (key, value) in members.iter_mut() {
                let scrubbed = match key.as_str() {
                    "uid" | "resourceVersion" | "continue" | "creationTimestamp" | "deletionTimestamp"
                    | "description" | "gitVersion" | "gitCommit" | "goVersion" | "compiler" | "platform" => {
                        value.is_string()
                    }
                    // Which of several bindings gives the reason depends on the real server's cache.
                    "reason" => value.as_str().is_some_and(|reason| reason.starts_with("RBAC: allowed by")),
                    "resourceRules" | "nonResourceRules" => {
                        if let Some(rules) = value.as_array_mut() {
                            rules.sort_by_key(ToString::to_string);
                        }
                        false
                    }
                    "cells" => {
                        scrub_cells(value);
                        false
                    }
                    _ => false,
                };
                if scrubbed {
                    *value = Value::from("-");
                }
                scrub(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(scrub),
        _ => {}
    }
}

fn scrub_cells(cells: &mut Value) {
    for cell in cells.as_array_mut().into_iter().flatten() {
        let text = cell.as_str().unwrap_or_default();
        let age = text.ends_with('s') && text.starts_with(|c: char| c.is_ascii_digit());
        if age || (text.ends_with('Z') && text.contains('T')) {
            *cell = Value::from("-");
        }
    }
}

/// What stands inside messages and YAML.
fn scrub_text(text: &str) -> String {
    let managed = text.lines().scan(false, |inside, line| {
        *inside =
            line.starts_with("  managedFields:") || (*inside && (line.starts_with("  -") || line.starts_with("   ")));
        Some((!*inside).then_some(line))
    });
    let lines = managed.flatten().map(|line| {
        let key = line.trim_start().split(':').next().unwrap_or_default();
        let yaml = ["uid", "resourceVersion", "creationTimestamp"].contains(&key);
        let line = if yaml { format!("{key}: -") } else { line.to_owned() };
        match line.find("current: ") {
            Some(at) => {
                format!("{}current: N{}", &line[..at], line[at + 9..].trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            None => line,
        }
    });
    let joined = lines.collect::<Vec<_>>().join("\n");
    match joined.find("X509SHA256=") {
        Some(at) => format!("{}X509SHA256=-{}", &joined[..at], &joined[at + 75..]),
        None => joined,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_a_real_kube_apiserver() {
    let real = ControlPlane::start(&["--disable-admission-plugins=ServiceAccount".to_owned()]).await;
    let ours = Bench::start().await;
    settled(&real).await;
    let mut differences = BTreeMap::new();
    let mut compared = 0;
    for (name, groups, steps) in [("admin", &["system:masters"][..], STEPS), ("jane", &["devs", "ops"][..], AS_JANE)] {
        let identity = real.ca().client(name, groups).client_identity();
        let config =
            HttpClientConfig { identity: Some(identity), max_body: 16 << 20, ..real.ca().http_client_config() };
        let real = Side { base: real.url().to_owned(), client: HttpClient::new(config).unwrap() };
        let ours = Side { base: ours.url(""), client: ours.client(Some((name, groups))) };
        for step in steps {
            let (want, got) = (real.ask(step).await, ours.ask(step).await);
            compared += 1;
            if want != got {
                let (method, path, body, _) = step;
                let differing = first_difference(&want.2, &got.2);
                differences.insert(
                    format!("{compared:03} {name}: {method} {path} {body}"),
                    format!("real: {} {}\nours: {} {}\n{differing}", want.0, want.1, got.0, got.1),
                );
            }
        }
    }
    let unknown = differences.iter().filter(|(step, _)| !KNOWN.iter().any(|(known, _)| step.contains(known)));
    let report: Vec<String> = unknown.map(|(step, what)| format!("== {step}\n{what}")).collect();
    assert!(report.is_empty(), "{} of {compared} answers differ\n{}", report.len(), report.join("\n"));
    for (known, why) in KNOWN {
        assert!(
            differences.keys().any(|step| step.contains(known)),
            "{known} no longer differs ({why}): take it off the list"
        );
    }
    ours.stop().await;
}

/// Waits until the real server's own controllers have made what they make at start.
async fn settled(real: &ControlPlane) {
    let client = real.admin_client();
    for path in [
        "/api/v1/namespaces/kube-node-lease",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/rolebindings/system:controller:bootstrap-signer",
    ] {
        for attempt in 0.. {
            if client.get(&format!("{}{path}", real.url()), &[]).await.unwrap().status == 200 {
                break;
            }
            assert!(attempt < 200, "{path} does not appear");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

fn first_difference(want: &str, got: &str) -> String {
    let (mut want_lines, mut got_lines) = (want.lines(), got.lines());
    loop {
        match (want_lines.next(), got_lines.next()) {
            (None, None) => return "(the bodies are equal)".to_owned(),
            (left, right) if left != right => {
                return format!("real> {}\nours> {}", left.unwrap_or("(end)"), right.unwrap_or("(end)"));
            }
            _ => {}
        }
    }
}
