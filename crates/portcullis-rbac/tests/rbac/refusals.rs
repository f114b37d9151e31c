//! The 403s and the audit annotations of a real server beside ours, and with them how both read a URL: the sentence of a refusal
//! and an audit event name verb, group, resource, subresource, namespace and name.

use std::collections::BTreeMap;

use portcullis_kube::UserInfo;
use portcullis_kube::rbac::{ClusterRoleBinding, Subject};
use portcullis_rbac::{Policy, RequestInfo, authorize, bootstrap, forbidden};
use portcullis_testkit::{HttpClient, HttpResponse, temp_dir};
use serde_json::{Value, json};

use crate::deciding::Deciding;
use crate::dice::Dice;
use crate::real::{RBAC, Real};

const REQUESTS: usize = 1_500;

/// Who asks: somebody without rights, somebody with some, and somebody bound to a role that is not there.
const ASKING: [(&str, &[&str]); 3] = [("no<bo&dy", &["system:x"]), ("viewer", &[]), ("lost", &["devs"])];

fn url(dice: &Dice) -> String {
    let mut path = String::new();
    match dice.below(10) {
        0..4 => path.push_str("/api/v1"),
        4..8 => path.push_str(&format!(
            "/apis/{}/v1",
            dice.text(&["apps", "batch", "example.com", "rbac.authorization.k8s.io"])
        )),
        8 => path.push_str(&dice.text(&[
            "/api",
            "/apis",
            "/apis/apps",
            "/healthz",
            "/metrics",
            "/logs",
            "/version",
            "/api/",
        ])),
        _ => path.push_str(&format!(
            "/{}",
            dice.text(&["", "apix", "api/v1/", "apis/a/b", "openapi", "readyz", "x%2Fy", "%C3%A9"])
        )),
    }
    let parts = dice.below(7);
    for _ in 0..parts {
        let part = match dice.below(10) {
            0..2 => "namespaces".to_owned(),
            2 => dice.text(&["watch", "proxy"]),
            3..6 => {
                dice.text(&["pods", "deployments", "nodes", "secrets", "configmaps", "jobs", "clusterroles", "Pods"])
            }
            6..8 => dice.text(&["dev", "web-0", "a.b", "default", "x:y", "UPPER", "a%20b", "%2F", "%3Cb%3E"]),
            8 => dice.text(&["log", "status", "finalize", "scale", "exec", "token", "proxy"]),
            _ => dice.text(&["", "a+b", "a&b", "%22q%22", "é", "*", "a%25b", "~", "x"]),
        };
        path.push('/');
        path.push_str(&part);
    }
    let mut query = Vec::new();
    for _ in 0..dice.below(4) {
        query.push(dice.text(&[
            "watch=1",
            "watch=false",
            "watch",
            "limit=5",
            "limit=x",
            "timeoutSeconds=",
            "fieldSelector=metadata.name=web-0",
            "fieldSelector=metadata.name%3Da%2Cspec.x%3Db",
            "fieldSelector=metadata.name!=web-0",
            "fieldSelector=metadata.name==a/b",
            "fieldSelector=oops",
            "fieldSelector=spec.nodeName%3Dn1",
            "fieldSelector=metadata.name%3Dx%5C%2Cy",
            "labelSelector=a%3Db",
            "labelSelector=a+in+(b,c)",
            "labelSelector=a%3Db%3Dc",
            "labelSelector=!x,y>1",
            "labelSelector=(",
            "resourceVersion=0",
            "sendInitialEvents=maybe",
            "%zz=1",
            "a=b;c",
            "watch=%74rue",
        ]));
    }
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

fn method(dice: &Dice) -> &'static str {
    dice.word(&["GET", "GET", "GET", "GET", "POST", "PUT", "PATCH", "DELETE", "DELETE", "OPTIONS"])
}

fn policy() -> Policy {
    let mut policy = bootstrap::policy();
    policy.set_cluster_role_binding(ClusterRoleBinding::new("viewers", "view", vec![Subject::user("viewer")]));
    policy.set_cluster_role_binding(ClusterRoleBinding::new("lost", "go<ne>", vec![Subject::group("devs")]));
    policy
}

/// What was asked, and what came back.
struct Asked {
    user: UserInfo,
    info: RequestInfo,
    /// Path and query as they went over the wire.
    target: String,
    answer: HttpResponse,
}

async fn ask(real: &Real, client: &HttpClient, user: (&str, &[&str]), method: &str, target: &str) -> Asked {
    let url = format!("{}{target}", real.plane.url());
    let body = matches!(method, "POST" | "PUT" | "PATCH").then(|| "{".into());
    let headers = [("content-type", "application/json"), ("user-agent", "test")];
    let answer = client.request(method.parse().unwrap(), &url, &headers, body).await.expect("an answer");
    // The client writes some bytes in another way than they were given; what it sent is what counts.
    let target = answer.url.strip_prefix(real.plane.url()).expect("no redirect").to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let info = RequestInfo::parse(method, path, query);
    let info = info.unwrap_or_else(|error| panic!("{method} {target}: {error}; {}", answer.status));
    let user = UserInfo::new(user.0, user.1.iter().copied()).with_authenticated_group();
    Asked { user, info, target, answer }
}

/// A URL that upstream cannot read has no verdict; what it answers instead is not RBAC's business.
fn readable(method: &str, target: &str) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    RequestInfo::parse(method, path, query).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_audit_events_are_those_of_a_real_server() {
    let folder = temp_dir();
    let (rules, log) = (folder.path().join("audit.yaml"), folder.path().join("audit.log"));
    let audit =
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";
    std::fs::write(&rules, audit).unwrap();
    let flags = [
        format!("--audit-policy-file={}", rules.display()),
        format!("--audit-log-path={}", log.display()),
        "--audit-log-mode=blocking-strict".to_owned(),
    ];
    let mut real = Real::start(&flags).await;
    let policy = policy();
    for name in ["viewers", "lost"] {
        let binding = portcullis_rbac::PolicySource::cluster_role_bindings(&policy).find(|b| b.metadata.name == name);
        real.create(&format!("{RBAC}/clusterrolebindings"), &json!(binding.unwrap())).await;
    }
    let clients: Vec<HttpClient> = ASKING.iter().map(|(name, groups)| real.plane.client(name, groups)).collect();
    let [viewer, lost] = [&clients[1], &clients[2]];
    real.wait_for("the new bindings", async |real| {
        let shown = ask(real, viewer, ASKING[1], "GET", "/api/v1/pods").await.answer.status == 200;
        shown
            && ask(real, lost, ASKING[2], "GET", "/api/v1/pods")
                .await
                .answer
                .body
                .ends_with(b"not found\",\"reason\":\"Forbidden\",\"details\":{\"kind\":\"pods\"},\"code\":403}\n")
    })
    .await;

    let dice = Dice::roll();
    let mut wanted = Vec::new();
    while wanted.len() < REQUESTS {
        // A number in the query finds the event of each request again; a watch that is allowed must end.
        let (method, mut target) = (method(&dice), url(&dice));
        let mark = if target.contains('?') { "&" } else { "?" };
        target.push_str(&format!("{mark}timeoutSeconds=1&n={}", wanted.len()));
        if readable(method, &target) {
            wanted.push((dice.below(ASKING.len()), method, target));
        }
    }
    let asked = real
        .each(&wanted, async |real, (who, method, target)| {
            ask(real, &clients[*who], ASKING[*who], method, target).await
        })
        .await;

    let (mut refused, mut resources, mut watches) = (0, 0, 0);
    let mut wrong = Vec::new();
    for Asked { user, info, target, answer } in &asked {
        let attributes = info.attributes(user);
        let decision = authorize(&policy, &attributes);
        if decision.allowed != (answer.status != 403) {
            wrong.push(format!("{target}: ours {decision:?}, theirs {}", answer.status));
        }
        if decision.allowed {
            continue;
        }
        refused += 1;
        resources += usize::from(info.is_resource_request);
        watches += usize::from(info.verb == "watch");
        let ours = forbidden(&attributes, &decision.reason).to_body();
        if *answer.body != *ours || answer.header("x-content-type-options") != Some("nosniff") {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            wrong.push(format!("{target}\n  theirs {}\n  ours   {}", text(&answer.body), text(&ours)));
        }
    }
    let deciding = Deciding::new(&policy);
    let events = events(&std::fs::read_to_string(&log).unwrap());
    for (n, asked) in asked.iter().enumerate() {
        let Some(event) = events.get(&n) else {
            wrong.push(format!("{}: no audit event", asked.target));
            continue;
        };
        let attributes = asked.info.attributes(&asked.user);
        let mut decision = authorize(&policy, &attributes);
        let reason = event["annotations"]["authorization.k8s.io/reason"].as_str().unwrap_or_default();
        if decision.allowed && deciding.may_be(&attributes, reason) {
            reason.clone_into(&mut decision.reason);
        }
        let annotations: BTreeMap<&str, &str> = decision.audit_annotations().into();
        let theirs = (&event["verb"], &event["objectRef"], &event["annotations"]);
        let ours = (json!(asked.info.verb), object(&asked.info), json!(annotations));
        if theirs != (&ours.0, &ours.1, &ours.2) {
            wrong.push(format!("{}\n  their event {theirs:?}\n  ours        {ours:?}", asked.target));
        }
    }
    println!("{} requests, {refused} refused, {resources} of resources, {watches} watches", asked.len());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
    assert!(refused >= 700 && resources >= 400 && watches >= 20, "the random requests say too little");
}

/// The audit events of the numbered requests.
fn events(log: &str) -> BTreeMap<usize, Value> {
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("an audit event"));
    events
        .filter_map(|event| {
            let (_, number) = event["requestURI"].as_str()?.rsplit_once("timeoutSeconds=1&n=")?;
            Some((number.parse().ok()?, event))
        })
        .collect()
}

/// What an audit event calls the object of a request.
fn object(info: &RequestInfo) -> Value {
    if !info.is_resource_request {
        return Value::Null;
    }
    let mut object = json!({});
    for (member, value) in [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.api_group),
        ("apiVersion", &info.api_version),
        ("subresource", &info.subresource),
    ] {
        if !value.is_empty() {
            object[member] = json!(value);
        }
    }
    object
}
