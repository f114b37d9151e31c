//! Events of both servers under one policy after the other.
//!
//! Each request has an `Audit-Id` of its own, under which its events are found in both logs.

use std::collections::BTreeMap;

use portcullis_apiserver::{AuditMode, AuditOptions};
use portcullis_runtime::http_client::HttpClient;
use portcullis_testkit::ControlPlane;
use serde_json::Value;

use super::{bench, options, wait_for};
use crate::bench::Bench;
use crate::differential::scrub;

const EVERYTHING: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitManagedFields: true\nrules: [{level: RequestResponse}]\n";
const REQUESTS_ONLY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Request, omitManagedFields: true}]\n";
/// Each way to choose, at least once.
const CHOSEN: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
metadata: {name: chosen}
omitManagedFields: true
omitStages: [ResponseStarted]
rules:
- {level: None, users: [jane], verbs: [list]}
- {level: None, nonResourceURLs: ["/healthz*", "/version"]}
- {level: Metadata, userGroups: [devs, nobody], omitStages: [RequestReceived]}
- level: Metadata
  resources: [{group: "", resources: [secrets, serviceaccounts/token]}, {group: authentication.k8s.io}]
- level: RequestResponse
  namespaces: [audited]
  resources: [{group: "", resources: ["configmaps"], resourceNames: [one]}]
- {level: None, namespaces: [audited], resources: [{group: "", resources: ["configmaps"]}]}
- {level: Request, verbs: [create, update, patch], resources: [{group: "*", resources: ["*/status", "deployments/*"]}]}
- {level: Metadata, namespaces: [""], omitStages: [ResponseComplete]}
- {level: RequestResponse, nonResourceURLs: ["*"]}
- {level: Metadata}
"#;

/// User, request, headers, body.
type Asked = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];
const TABLE: &[(&str, &str)] = &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];

const REQUESTS: &[Asked] = &[
    ("admin", "POST /api/v1/namespaces", JSON, r#"{"metadata":{"name":"audited"}}"#),
    (
        "admin",
        "POST /api/v1/namespaces/audited/configmaps",
        JSON,
        r#"{"metadata":{"name":"one","labels":{"a":"<b>"}},"data":{"k":"v & w"}}"#,
    ),
    (
        "admin",
        "POST /api/v1/namespaces/audited/configmaps",
        JSON,
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"generateName":"gen-"}}"#,
    ),
    (
        "admin",
        "POST /api/v1/namespaces/audited/configmaps?dryRun=All&fieldValidation=Warn",
        JSON,
        r#"{"metadata":{"name":"dry"},"more":1}"#,
    ),
    (
        "admin",
        "POST /api/v1/namespaces/audited/configmaps?fieldValidation=Strict",
        JSON,
        r#"{"metadata":{"name":"strict"},"more":1}"#,
    ),
    ("admin", "POST /api/v1/namespaces/audited/configmaps", JSON, r#"{"metadata":{"name":"one"}}"#),
    ("admin", "POST /api/v1/namespaces/audited/configmaps", JSON, "{"),
    ("admin", "POST /api/v1/namespaces/audited/configmaps", &[("content-type", "text/odd")], "{}"),
    (
        "admin",
        "POST /api/v1/namespaces/audited/configmaps",
        &[("content-type", "application/yaml")],
        "metadata: {name: from-yaml}\ndata: {a: b}\n",
    ),
    ("admin", "POST /api/v1/namespaces/audited/configmaps", JSON, r#"{"metadata":{"name":"BAD_NAME"}}"#),
    ("admin", "POST /api/v1/namespaces/nowhere/configmaps", JSON, r#"{"metadata":{"name":"one"}}"#),
    ("admin", "GET /api/v1/namespaces/audited/configmaps/one", &[], ""),
    ("admin", "GET /api/v1/namespaces/audited/configmaps/one?pretty=true", &[("accept", "application/yaml")], ""),
    ("admin", "GET /api/v1/namespaces/audited/configmaps/one", TABLE, ""),
    ("admin", "GET /api/v1/namespaces/audited/configmaps/one", &[("accept", "text/odd")], ""),
    ("admin", "GET /api/v1/namespaces/audited/configmaps/none", &[], ""),
    ("admin", "GET /api/v1/namespaces/audited/configmaps?fieldSelector=metadata.name%3Done", &[], ""),
    ("admin", "GET /api/v1/namespaces/audited/configmaps?labelSelector=a%20in%20(", &[], ""),
    ("admin", "GET /api/v1/namespaces/audited/configmaps?limit=1&resourceVersion=99999999", &[], ""),
    ("admin", "GET /api/v1/secrets?fieldSelector=metadata.namespace%3Daudited", TABLE, ""),
    (
        "admin",
        "GET /api/v1/namespaces/audited/configmaps?fieldSelector=metadata.name%3Done",
        &[("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")],
        "",
    ),
    (
        "admin",
        "GET /api/v1/namespaces/audited/configmaps?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Done",
        &[],
        "",
    ),
    ("admin", "GET /api/v1/namespaces/audited/secrets?watch=true&timeoutSeconds=1", &[], ""),
    ("admin", "GET /api/v1/namespaces/audited/configmaps?watch=true&resourceVersion=x", &[], ""),
    (
        "admin",
        "PUT /api/v1/namespaces/audited/configmaps/one",
        JSON,
        r#"{"metadata":{"name":"one","labels":{"a":"c"},"managedFields":[{"manager":"m","operation":"Update"}]},"data":{"k":"w"}}"#,
    ),
    ("admin", "PUT /api/v1/namespaces/audited/configmaps/one", JSON, r#"{"metadata":{"name":"two"}}"#),
    (
        "admin",
        "PUT /api/v1/namespaces/audited/configmaps/one",
        JSON,
        r#"{"metadata":{"name":"one","resourceVersion":"1","uid":"u"}}"#,
    ),
    (
        "admin",
        "PATCH /api/v1/namespaces/audited/configmaps/one",
        MERGE,
        "{ \"data\" : {\"p\": \"<q> \\\" r\", \"k\": null} }",
    ),
    ("admin", "PATCH /api/v1/namespaces/audited/configmaps/none", MERGE, r#"{"data":{}}"#),
    ("admin", "PATCH /api/v1/namespaces/audited/configmaps/one", &[("content-type", "text/odd")], "{}"),
    ("admin", "POST /api/v1/namespaces/audited/secrets", JSON, r#"{"metadata":{"name":"s"},"stringData":{"a":"b"}}"#),
    ("admin", "GET /api/v1/namespaces/audited/secrets/s", &[], ""),
    ("admin", "DELETE /api/v1/namespaces/audited/secrets/s", &[], ""),
    ("admin", "POST /api/v1/namespaces/audited/serviceaccounts", JSON, r#"{"metadata":{"name":"robot"}}"#),
    (
        "admin",
        "POST /api/v1/namespaces/audited/serviceaccounts/robot/token",
        JSON,
        r#"{"spec":{"expirationSeconds":600}}"#,
    ),
    ("admin", "POST /api/v1/namespaces/audited/serviceaccounts/none/token", JSON, "{}"),
    (
        "admin",
        "POST /api/v1/namespaces/audited/serviceaccounts/robot/token",
        JSON,
        r#"{"spec":{"expirationSeconds":1}}"#,
    ),
    ("admin", "POST /apis/authentication.k8s.io/v1/tokenreviews", JSON, r#"{"spec":{"token":"abc"}}"#),
    ("admin", "POST /apis/authentication.k8s.io/v1/selfsubjectreviews", JSON, "{}"),
    (
        "admin",
        "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        JSON,
        r#"{"spec":{"resourceAttributes":{"verb":"get","resource":"pods","namespace":"audited"}}}"#,
    ),
    (
        "admin",
        "POST /apis/authorization.k8s.io/v1/namespaces/audited/localsubjectaccessreviews",
        JSON,
        r#"{"spec":{"user":"x","resourceAttributes":{"verb":"get","resource":"pods","namespace":"audited"}}}"#,
    ),
    (
        "admin",
        "POST /apis/apps/v1/namespaces/audited/deployments",
        JSON,
        r#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i:1"}]}}}}"#,
    ),
    ("admin", "GET /apis/apps/v1/namespaces/audited/deployments/web/scale", &[], ""),
    ("admin", "PATCH /apis/apps/v1/namespaces/audited/deployments/web/scale", MERGE, r#"{"spec":{"replicas":2}}"#),
    ("admin", "PATCH /apis/apps/v1/namespaces/audited/deployments/web/status", MERGE, r#"{"status":{"replicas":2}}"#),
    (
        "admin",
        "PUT /apis/apps/v1/namespaces/audited/deployments/web/scale",
        JSON,
        r#"{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"web","namespace":"audited"},"spec":{"replicas":3}}"#,
    ),
    ("admin", "GET /api/v1/namespaces/audited/endpoints", &[], ""),
    (
        "admin",
        "POST /api/v1/namespaces/audited/pods",
        JSON,
        r#"{"metadata":{"name":"p"},"spec":{"serviceAccountName":"robot","containers":[{"name":"c","image":"i:1"}]}}"#,
    ),
    (
        "admin",
        "POST /api/v1/namespaces/audited/pods?dryRun=All",
        JSON,
        r#"{"metadata":{"name":"q"},"spec":{"serviceAccountName":"robot","containers":[{"name":"C"}]}}"#,
    ),
    ("admin", "PATCH /api/v1/namespaces/audited/pods/p", MERGE, r#"{"metadata":{"labels":{"a":"b"}}}"#),
    ("admin", "DELETE /api/v1/namespaces/audited/pods/p?gracePeriodSeconds=0", &[], ""),
    (
        "admin",
        "DELETE /api/v1/namespaces/audited/configmaps/from-yaml",
        JSON,
        r#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#,
    ),
    (
        "admin",
        "DELETE /api/v1/namespaces/audited/configmaps/one",
        JSON,
        r#"{"kind":"DeleteOptions","apiVersion":"meta.k8s.io/v1","preconditions":{"uid":"other"}}"#,
    ),
    ("admin", "DELETE /api/v1/namespaces/audited/configmaps/none", &[], ""),
    ("admin", "DELETE /api/v1/namespaces/audited/configmaps/one?propagationPolicy=Odd", &[], ""),
    ("admin", "DELETE /api/v1/namespaces/audited/configmaps?labelSelector=a%3Dc", &[], ""),
    ("admin", "GET /api", &[], ""),
    ("admin", "GET /version", &[], ""),
    ("admin", "GET /healthz", &[], ""),
    ("admin", "GET /nothing/here", &[], ""),
    ("admin", "GET /apis/none.example/v1/things", &[], ""),
    ("admin", "GET /api/v1/nothings", &[], ""),
    ("admin", "POST /api/v1", JSON, "{}"),
    (
        "admin",
        "GET /api/v1/persistentvolumes",
        &[("user-agent", "curl/8"), ("x-forwarded-for", "1.2.3.4, bad, 2001:db8::1")],
        "",
    ),
    ("admin", "GET /api/v1/persistentvolumes", &[("x-real-ip", "9.9.9.9")], ""),
    (
        "admin",
        "GET /api/v1/namespaces/audited/configmaps",
        &[("impersonate-user", "jane"), ("impersonate-group", "devs"), ("impersonate-extra-a%2fb", "c")],
        "",
    ),
    (
        "admin",
        "GET /version",
        &[("impersonate-user", "system:serviceaccount:audited:robot"), ("impersonate-uid", "u-1")],
        "",
    ),
    ("admin", "GET /version", &[("impersonate-group", "devs")], ""),
    ("jane", "GET /version", &[("impersonate-user", "admin")], ""),
    ("jane", "GET /version", &[], ""),
    ("jane", "GET /api/v1/namespaces/audited/configmaps", &[], ""),
    ("jane", "GET /api/v1/namespaces/audited/configmaps/one", &[], ""),
    ("jane", "POST /api/v1/namespaces/audited/configmaps", JSON, r#"{"metadata":{"name":"of-jane"}}"#),
    ("jane", "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews", JSON, r#"{"spec":{"namespace":"audited"}}"#),
    ("bob", "DELETE /api/v1/nodes/none", &[], ""),
    ("bob", "GET /api/v1/namespaces/audited/pods?watch=true", &[], ""),
    ("bob", "GET /api/v1/namespaces/audited/pods/none/log", &[], ""),
    ("", "GET /version", &[], ""),
    ("", "GET /api/v1/pods", &[], ""),
    ("", "GET /api/v1/pods", &[("authorization", "Bearer wrong")], ""),
    ("", "GET /version?access_token=x", &[("authorization", "Bearer wrong")], ""),
    (
        "",
        "POST /api/v1/namespaces",
        &[("authorization", "Bearer wrong"), ("content-type", "application/json")],
        r#"{"metadata":{"name":"x"}}"#,
    ),
    ("admin", "DELETE /api/v1/namespaces/audited", &[], ""),
];

async fn ask(client: &HttpClient, base: &str, id: &str, (_, request, headers, body): &Asked) {
    let (method, path) = request.split_once(' ').unwrap();
    let mut all = vec![("audit-id", id)];
    if !headers.iter().any(|(name, _)| *name == "user-agent") {
        all.push(("user-agent", "test"));
    }
    all.extend_from_slice(headers);
    let body = (!body.is_empty()).then(|| (*body).into());
    let answer = client.request(method.parse().unwrap(), &format!("{base}{path}"), &all, body).await.unwrap();
    assert_eq!(answer.headers["audit-id"], id, "{request}");
}

/// The events of each request, without what no two servers have in common.
pub(super) fn by_request(events: Vec<Value>, base: &str) -> BTreeMap<usize, Vec<String>> {
    let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for mut event in events {
        let Some(number) = event["auditID"].as_str().and_then(|id| id.strip_prefix("request-")) else { continue };
        let number = number.parse().unwrap();
        for time in ["requestReceivedTimestamp", "stageTimestamp"] {
            let shown = event[time].as_str().unwrap();
            assert!(shown.len() == 27 && shown.ends_with('Z'), "{time}: {shown}");
            event[time] = "-".into();
        }
        secrets(&mut event);
        found.entry(number).or_default().push(scrub::body(&event.to_string(), base));
    }
    found
}

fn secrets(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                let drawn = matches!(
                    key.as_str(),
                    "token" | "expirationTimestamp" | "authentication.kubernetes.io/issued-credential-id"
                );
                if drawn && value.is_string() {
                    *value = "-".into();
                }
                secrets(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(secrets),
        Value::String(text) => {
            // Which of several bindings gives the reason depends on the real server's cache.
            for drawn in ["X509SHA256=", "RBAC: allowed by ", "gen-", "kube-api-access-"] {
                if text.starts_with(drawn) {
                    drawn.clone_into(text);
                }
            }
        }
        _ => {}
    }
}

/// Differences by decision: the beginning of the request, and why.
const KNOWN: &[(&str, &str)] = &[(
    "GET /api/v1/namespaces/audited/configmaps?limit=1&resourceVersion=99999999",
    "the real server waits for three seconds, and says so",
)];

async fn compare(policy: &str) -> usize {
    let folder = portcullis_testkit::temp_dir();
    let ours_options = AuditOptions { mode: AuditMode::Blocking, ..options(folder.path(), policy) };
    let real_log = folder.path().join("real.log");
    let flags = [
        format!("--audit-policy-file={}", folder.path().join("policy.yaml").display()),
        format!("--audit-log-path={}", real_log.display()),
        "--audit-log-mode=blocking-strict".to_owned(),
    ];
    let plane = ControlPlane::start(&flags).await;
    crate::differential::settled(&plane).await;
    let bench = bench(&ours_options).await;
    let users: [(&str, &[&str]); 3] = [("admin", &["system:masters"]), ("jane", &["devs"]), ("bob", &[])];
    for (number, asked) in REQUESTS.iter().enumerate() {
        let id = format!("request-{number}");
        let user = users.iter().find(|(name, _)| *name == asked.0);
        let real = user.map_or_else(|| plane.http_client(), |(name, groups)| plane.client(name, groups));
        ask(&real, plane.url(), &id, asked).await;
        ask(&bench.client(user.copied()), &bench.url(""), &id, asked).await;
    }
    let base = bench.url("");
    let ours_log = folder.path().join("audit.log");
    let theirs = by_request(wait_for(&real_log, |events| !events.is_empty()).await, plane.url());
    let want = |events: &[Value]| {
        let found = by_request(events.to_vec(), &base);
        theirs.iter().all(|(number, wanted)| found.get(number).is_some_and(|found| found.len() >= wanted.len()))
    };
    // What does not come is shown as a difference below.
    let deadline = std::time::Instant::now() + super::PATIENCE;
    let ours = loop {
        let events = wait_for(&ours_log, |events| !events.is_empty()).await;
        if want(&events) || std::time::Instant::now() > deadline {
            break by_request(events, &base);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    bench.stop().await;
    let mut wrong = Vec::new();
    for (number, asked) in REQUESTS.iter().enumerate() {
        if KNOWN.iter().any(|(known, _)| asked.1.starts_with(known)) {
            continue;
        }
        let (theirs, ours) = (theirs.get(&number), ours.get(&number));
        if theirs != ours {
            wrong.push(format!("== {number} {} {} {}\n{}", asked.0, asked.1, asked.3, difference(theirs, ours)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), REQUESTS.len(), wrong.join("\n"));
    theirs.values().map(Vec::len).sum()
}

pub(super) fn difference(theirs: Option<&Vec<String>>, ours: Option<&Vec<String>>) -> String {
    let (none, mut out) = (Vec::new(), Vec::new());
    let (theirs, ours) = (theirs.unwrap_or(&none), ours.unwrap_or(&none));
    if theirs.len() != ours.len() {
        out.push(format!("real: {} events, ours: {}", theirs.len(), ours.len()));
    }
    for index in 0..theirs.len().max(ours.len()) {
        let lines = |list: &[String]| -> Vec<String> {
            list.get(index).map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default()
        };
        let (theirs, ours) = (lines(theirs), lines(ours));
        if theirs == ours {
            continue;
        }
        let same = theirs.iter().zip(&ours).take_while(|(theirs, ours)| theirs == ours).count();
        let shown = |lines: &[String]| {
            lines.iter().skip(same.saturating_sub(1)).take(7).cloned().collect::<Vec<_>>().join("\n     ")
        };
        out.push(format!("event {index}\nreal {}\nours {}", shown(&theirs), shown(&ours)));
    }
    out.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_every_request_is_that_of_a_real_server() {
    let events = compare(EVERYTHING).await;
    assert!(events > 150, "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_at_the_level_request_without_a_first_stage() {
    let events = compare(REQUESTS_ONLY).await;
    assert!(events > 75, "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_under_a_policy_that_chooses_in_every_way() {
    let events = compare(CHOSEN).await;
    assert!(events > 60, "{events}");
}

/// A request that breaks off is written down as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_client_goes_ends_in_the_log() {
    let folder = portcullis_testkit::temp_dir();
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
    let bench: Bench = bench(&options(folder.path(), policy)).await;
    let client = bench.client(Some(("admin", &["system:masters"])));
    let url = bench.url("/api/v1/namespaces?watch=true");
    let watch = tokio::time::timeout(std::time::Duration::from_millis(300), client.get(&url, &[])).await;
    assert!(watch.is_err(), "it lasts for longer");
    drop(client);
    let events = wait_for(&folder.path().join("audit.log"), |events| events.len() == 3).await;
    let stages: Vec<&Value> = events.iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    bench.stop().await;
}
