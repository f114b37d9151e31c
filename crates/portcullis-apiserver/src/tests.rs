//! Requests through the whole server without a listener.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use portcullis_kube::UserInfo;
use portcullis_kube::rbac::{ClusterRoleBinding, Subject};
use serde_json::{Value, json};

use crate::authenticate::TokenAuthenticator;
use crate::controllers::Controllers;
use crate::http::Call;
use crate::http::reply::Payload;
use crate::parts::{Part, PartPort, PartStatus, Parts};
use crate::resources;
use crate::store::StoreLimits;
use crate::world::{world, world_with};

const NS: &str = "/api/v1/namespaces";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const POD: &str =
    r#"{"metadata":{"name":"web","labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn who_is_unknown_gets_401_and_who_is_nobody_gets_only_what_everyone_gets() {
    let world = world();
    let (code, body) = world.call("stranger", "GET /version", "").await;
    let want = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "Unauthorized",
        "reason": "Unauthorized", "code": 401});
    assert_eq!((code, body), (401, want));
    for (line, want) in
        [("GET /version", 200), ("GET /livez", 200), ("GET /api", 403), ("GET /", 403), ("GET /nope", 403)]
    {
        assert_eq!(world.code("", line, "").await, want, "{line}");
    }
    for (line, want) in [("GET /api", 200), ("GET /nope", 403), ("GET /api/v1/pods", 403)] {
        assert_eq!(world.code("jane", line, "").await, want, "{line}");
    }
}

#[tokio::test]
async fn a_binding_opens_and_its_removal_closes_at_once() {
    let world = world();
    let binding = r#"{"metadata":{"name":"b"},"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"Group","name":"devs"}]}"#;
    assert_eq!(world.code("jane", "GET /api/v1/pods", "").await, 403);
    world.admin(&format!("POST {RBAC}/clusterrolebindings"), binding).await;
    assert_eq!(world.code("jane", "GET /api/v1/pods", "").await, 200);
    assert_eq!(world.code("jane", "GET /api/v1/nodes", "").await, 403, "view does not show nodes");
    world.admin(&format!("DELETE {RBAC}/clusterrolebindings/b"), "").await;
    assert_eq!(world.code("jane", "GET /api/v1/pods", "").await, 403);
}

#[tokio::test]
async fn a_namespace_takes_its_bindings_with_it_and_a_new_one_of_that_name_has_none() {
    let world = world();
    world.admin(&format!("POST {NS}"), r#"{"metadata":{"name":"n"}}"#).await;
    let binding = r#"{"metadata":{"name":"b"},"roleRef":{"kind":"ClusterRole","name":"edit"},"subjects":[{"kind":"User","name":"jane"}]}"#;
    world.admin(&format!("POST {RBAC}/namespaces/n/rolebindings"), binding).await;
    assert_eq!(world.code("jane", &format!("POST {NS}/n/pods"), POD).await, 201);
    let gone = world.admin(&format!("DELETE {NS}/n"), "").await;
    assert_eq!(
        (&gone["status"]["phase"], gone["metadata"]["deletionTimestamp"].is_string()),
        (&json!("Terminating"), true)
    );
    assert_eq!(world.code("admin", &format!("GET {NS}/n"), "").await, 404);
    world.admin(&format!("POST {NS}"), r#"{"metadata":{"name":"n"}}"#).await;
    assert_eq!(world.code("jane", &format!("GET {NS}/n/pods"), "").await, 403);
    assert!(names(&world.admin(&format!("GET {NS}/n/pods"), "").await).is_empty());
}

#[tokio::test]
async fn a_terminating_namespace_takes_nothing_new_and_waits_for_finalizers() {
    let world = world();
    world.admin(&format!("POST {NS}"), r#"{"metadata":{"name":"n"}}"#).await;
    let held = r#"{"metadata":{"name":"h","finalizers":["example.com/hold"]},"rules":[]}"#;
    world.admin(&format!("POST {RBAC}/namespaces/n/roles"), held).await;
    world.admin(&format!("DELETE {NS}/n"), "").await;
    let (code, body) = world.call("admin", &format!("POST {NS}/n/pods"), POD).await;
    assert_eq!((code, body["details"]["causes"][0]["reason"].as_str()), (403, Some("NamespaceTerminating")));
    let role = world.admin(&format!("GET {RBAC}/namespaces/n/roles/h"), "").await;
    assert!(role["metadata"]["deletionTimestamp"].is_string());
    let mut free = role;
    free["metadata"]["finalizers"] = json!([]);
    world.admin(&format!("PUT {RBAC}/namespaces/n/roles/h"), &free.to_string()).await;
    assert_eq!(world.code("admin", &format!("GET {NS}/n"), "").await, 404);
}

#[tokio::test]
async fn nobody_binds_or_writes_more_than_they_hold() {
    let world = world();
    let writer = r#"{"metadata":{"name":"writer"},"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["*"],"verbs":["*"]},{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}"#;
    let writer = writer.replace("\"verbs\":[\"*\"]", "\"verbs\":[\"create\",\"get\",\"update\"]");
    world.admin(&format!("POST {RBAC}/clusterroles"), &writer).await;
    let bind = ClusterRoleBinding::new("w", "writer", vec![Subject::user("jane")]);
    world.seed().cluster_role_binding(&bind).unwrap();
    let role = |name: &str, resource: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"rules":[{{"apiGroups":[""],"resources":["{resource}"],"verbs":["get"]}}]}}"#
        )
    };
    assert_eq!(world.code("jane", &format!("POST {RBAC}/clusterroles"), &role("a", "pods")).await, 201);
    assert_eq!(world.code("jane", &format!("POST {RBAC}/clusterroles"), &role("b", "secrets")).await, 403);
    assert_eq!(world.code("jane", &format!("PUT {RBAC}/clusterroles/a"), &role("a", "secrets")).await, 403);
    let grab = r#"{"metadata":{"name":"grab"},"roleRef":{"kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","name":"jane"}]}"#;
    let (code, body) = world.call("jane", &format!("POST {RBAC}/clusterrolebindings"), grab).await;
    assert_eq!(code, 403);
    assert!(
        body["message"].as_str().unwrap().contains("attempting to grant RBAC permissions not currently held"),
        "{body}"
    );
    assert_eq!(world.code("jane", &format!("GET {RBAC}/clusterrolebindings/grab"), "").await, 404);
}

#[tokio::test]
async fn pages_show_one_moment_even_when_the_world_moves_on() {
    let world = world();
    for name in ["a", "b", "c", "d"] {
        world.admin(&format!("POST {NS}/default/secrets"), &format!(r#"{{"metadata":{{"name":"{name}"}}}}"#)).await;
    }
    let first = world.admin(&format!("GET {NS}/default/secrets?limit=2"), "").await;
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(2)));
    world.admin(&format!("DELETE {NS}/default/secrets/c"), "").await;
    world.admin(&format!("POST {NS}/default/secrets"), r#"{"metadata":{"name":"cc"}}"#).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = world.admin(&format!("GET {NS}/default/secrets?limit=2&continue={token}"), "").await;
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"].get("continue"), None);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_page_whose_moment_is_forgotten_is_410() {
    let world = world_with(StoreLimits { log_events: 5, ..StoreLimits::default() });
    let list = world.admin(&format!("GET {RBAC}/clusterroles?limit=1"), "").await;
    for number in 0..10 {
        world
            .admin(
                &format!("POST {RBAC}/clusterroles"),
                &format!(r#"{{"metadata":{{"name":"r{number}"}},"rules":[]}}"#),
            )
            .await;
    }
    let token = list["metadata"]["continue"].as_str().unwrap();
    let (code, body) = world.call("admin", &format!("GET {RBAC}/clusterroles?limit=1&continue={token}"), "").await;
    assert_eq!((code, &body["reason"]), (410, &json!("Expired")));
    let old = list["metadata"]["resourceVersion"].as_str().unwrap();
    let line = format!("GET {RBAC}/clusterroles?resourceVersion={old}&resourceVersionMatch=Exact");
    assert_eq!(world.code("admin", &line, "").await, 410);
}

#[tokio::test]
async fn writes_on_an_old_version_conflict_and_writes_of_nothing_change_nothing() {
    let world = world();
    let made = world.admin(&format!("POST {NS}"), r#"{"metadata":{"name":"n"}}"#).await;
    let same = world.admin(&format!("PUT {NS}/n"), &made.to_string()).await;
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let mut changed = made.clone();
    changed["metadata"]["labels"]["a"] = json!("b");
    let new = world.admin(&format!("PUT {NS}/n"), &changed.to_string()).await;
    assert_ne!(new["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let (code, body) = world.call("admin", &format!("PUT {NS}/n"), &changed.to_string()).await;
    assert_eq!((code, &body["reason"]), (409, &json!("Conflict")));
    let uid = r#"{"metadata":{"name":"n","uid":"another"}}"#;
    assert_eq!(world.code("admin", &format!("PUT {NS}/n"), uid).await, 409);
    assert_eq!(world.code("admin", &format!("DELETE {NS}/n"), r#"{"preconditions":{"uid":"another"}}"#).await, 409);
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let world = world();
    let before = world.engine.store.version();
    assert_eq!(world.code("admin", &format!("POST {NS}?dryRun=All"), r#"{"metadata":{"name":"n"}}"#).await, 201);
    assert_eq!(world.code("admin", &format!("POST {NS}/default/pods?dryRun=All"), POD).await, 201);
    assert_eq!(world.code("admin", &format!("POST {NS}/nowhere/pods?dryRun=All"), POD).await, 404);
    assert_eq!(world.code("admin", &format!("DELETE {RBAC}/clusterroles/view?dryRun=All"), "").await, 200);
    assert_eq!(world.code("admin", &format!("DELETE {NS}/kube-node-lease"), r#"{"dryRun":["All"]}"#).await, 200);
    assert_eq!(world.engine.store.version(), before);
}

#[tokio::test]
async fn a_users_pod_waits_and_says_why() {
    let world = world();
    world.admin(&format!("POST {NS}/default/pods"), POD).await;
    let pod = world.admin(&format!("GET {NS}/default/pods/web"), "").await;
    assert_eq!(
        (&pod["status"]["phase"], &pod["status"]["conditions"][0]["reason"]),
        (&json!("Pending"), &json!("Unschedulable"))
    );
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let events =
        world.admin(&format!("GET {NS}/default/events?fieldSelector=involvedObject.uid={uid},type=Warning"), "").await;
    assert_eq!(events["items"][0]["reason"], "FailedScheduling");
    let gone = world.admin(&format!("DELETE {NS}/default/pods/web"), "").await;
    assert_eq!((&gone["kind"], &gone["metadata"]["deletionGracePeriodSeconds"]), (&json!("Pod"), &json!(0)));
}

#[tokio::test]
async fn a_part_comes_back_under_a_new_identity_until_it_is_taken_off() {
    let world = world();
    let part = Part {
        namespace: "mural-system".to_owned(),
        name: "dex-0".to_owned(),
        labels: BTreeMap::new(),
        container: "dex".to_owned(),
        image: "portcullis".to_owned(),
        ports: vec![PartPort::open(5554)],
        logs: Default::default(),
        control: Default::default(),
        started: world.engine.clock.now(),
    };
    world.seed().part(&part).unwrap();
    let path = format!("{NS}/mural-system/pods/dex-0");
    let before = world.admin(&format!("GET {path}"), "").await;
    let running = PartStatus::running(part.started);
    let status = PartStatus { ready: false, restarts: 1, ..running };
    assert!(world.seed().part_status("mural-system", "dex-0", &status));
    assert!(!world.seed().part_status("mural-system", "dex-1", &status));
    world.seed().part(&part).unwrap();
    let restarted = world.admin(&format!("GET {path}"), "").await;
    assert_eq!(restarted["status"]["containerStatuses"][0]["restartCount"], 1);
    assert_eq!(restarted["metadata"]["uid"], before["metadata"]["uid"]);
    world.admin(&format!("DELETE {path}"), "").await;
    let again = world.admin(&format!("GET {path}"), "").await;
    assert_ne!(again["metadata"]["uid"], before["metadata"]["uid"]);
    assert!(world.seed().remove_part("mural-system", "dex-0"));
    assert_eq!(world.code("admin", &format!("GET {path}"), "").await, 404);
    assert!(!world.seed().remove_part("mural-system", "dex-0"));
}

#[tokio::test]
async fn a_watch_over_http_shows_what_happens() {
    let world = world();
    let version = world.engine.store.version();
    let line = format!("GET {NS}?watch=true&resourceVersion={version}&timeoutSeconds=5");
    let reply = world.send(Call::test(&line, "").with("authorization", "Bearer admin")).await;
    let Payload::Pieces(pieces) = reply.payload else { panic!("a watch is a stream") };
    world.admin(&format!("POST {NS}"), r#"{"metadata":{"name":"n"}}"#).await;
    world.admin(&format!("DELETE {NS}/n"), "").await;
    world.hand.advance(std::time::Duration::from_secs(6));
    let bytes: Vec<u8> = pieces.map(|piece| piece.unwrap().to_vec()).concat().await;
    let kinds: Vec<String> = String::from_utf8(bytes)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    // Marked, emptied (conditions), gone.
    assert_eq!(kinds, ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]);
}

#[tokio::test]
async fn merge_patches_change_what_they_name() {
    let world = world();
    world
        .admin(&format!("POST {NS}/default/serviceaccounts"), r#"{"metadata":{"name":"s","labels":{"a":"1","b":"2"}}}"#)
        .await;
    let patch = |body: &'static str| {
        let call = Call::test(&format!("PATCH {NS}/default/serviceaccounts/s"), body)
            .with("content-type", "application/merge-patch+json");
        world.send(call.with("authorization", "Bearer admin"))
    };
    let patched = patch(r#"{"metadata":{"labels":{"a":null,"c":"3"}}}"#).await;
    let patched: Value = serde_json::from_slice(patched.bytes()).unwrap();
    assert_eq!(patched["metadata"]["labels"], json!({"b": "2", "c": "3"}));
    for (body, code) in [
        (r#"{"metadata":{"resourceVersion":"1"}}"#, 409),
        (r#"{"metadata":{"labels":{"a b":"c"}}}"#, 422),
        (r#"{"metadata":{"labels":5}}"#, 422),
        ("[]", 400),
        ("{", 400),
    ] {
        assert_eq!(patch(body).await.status.as_u16(), code, "{body}");
    }
}

#[tokio::test]
async fn unknown_fields_are_warned_about_unless_asked_otherwise() {
    let world = world();
    let send = |query: &str| {
        let body = r#"{"metadata":{"generateName":"g-"},"foo":1}"#;
        world.send(Call::test(&format!("POST {NS}{query}"), body).with("authorization", "Bearer admin"))
    };
    assert_eq!(send("").await.headers[http::header::WARNING], "299 - \"unknown field \\\"foo\\\"\"");
    assert!(!send("?fieldValidation=Ignore").await.headers.contains_key(http::header::WARNING));
    assert_eq!(send("?fieldValidation=Strict").await.status.as_u16(), 400);
}

#[tokio::test]
async fn a_generated_name_that_is_taken_is_made_anew_eight_times() {
    let mut taken = Vec::<String>::new();
    for line in [format!("POST {NS}"), format!("POST {NS}?dryRun=All")] {
        taken.clear();
        for attempt in 1..=9 {
            // The same chance in each world: the first names are those of the worlds before.
            let world = world();
            for name in &taken {
                let members = json!({"metadata": {"name": name, "uid": format!("uid-{name}")}});
                world.engine.store.create(resources::namespaces(), members.as_object().unwrap().clone()).unwrap();
            }
            let (code, answer) = world.call("admin", &line, r#"{"metadata":{"generateName":"g-"}}"#).await;
            if attempt == 9 {
                let name = &taken[7];
                let words = format!(
                    "namespaces \"{name}\" already exists, the server was not able to generate a unique name for the object"
                );
                assert_eq!((code, answer["message"].as_str().unwrap()), (409, words.as_str()));
                continue;
            }
            let name = answer["metadata"]["name"].as_str().unwrap().to_owned();
            assert!(code == 201 && name.starts_with("g-") && !taken.contains(&name), "{attempt}: {code} {answer}");
            taken.push(name);
        }
    }
    let world = world();
    world.admin(&format!("POST {NS}"), r#"{"metadata":{"name":"here"}}"#).await;
    let (code, answer) =
        world.call("admin", &format!("POST {NS}"), r#"{"metadata":{"name":"here","generateName":"g-"}}"#).await;
    assert_eq!((code, &answer["details"]["name"]), (409, &json!("here")), "a name that was given stays");
}

#[tokio::test]
async fn our_own_events_do_not_fill_the_store() {
    let world = world();
    world.admin(&format!("POST {NS}/default/pods"), POD).await;
    let pod = world.engine.store.get(resources::pods(), "default", "web").unwrap();
    for _ in 0..1_200 {
        world.engine.record(resources::pods(), &pod, "Normal", "Test", "again");
    }
    let left = world.engine.store.all(resources::events(), "");
    assert!((900..=1_000).contains(&left.len()), "{}", left.len());
    assert!(left.iter().any(|event| event.version == world.engine.store.version()), "the newest one stays");
}

#[tokio::test]
async fn tokens_are_those_of_the_authenticator_of_the_moment() {
    let world = world();
    let asked = |token: &'static str| {
        let call = Call::test(&format!("GET {NS}"), "").with("authorization", &format!("Bearer {token}"));
        let engine = Arc::clone(&world.engine);
        async move { engine.admit(&call).await.is_ok() }
    };
    assert!(asked("admin").await && !asked("new").await);
    let users = BTreeMap::from([("new".to_owned(), UserInfo::new("new", ["system:masters"]))]);
    *world.engine.tokens.write().unwrap() = Arc::new(TokenAuthenticator::Fixed(users));
    assert!(!asked("admin").await && asked("new").await);
}

#[tokio::test]
async fn tokens_are_reviewed() {
    let world = world();
    let review = |token: &str| format!(r#"{{"spec":{{"token":"{token}"}}}}"#);
    let path = "POST /apis/authentication.k8s.io/v1/tokenreviews";
    let good = world.admin(path, &review("jane")).await;
    assert_eq!(good["status"]["user"], json!({"username": "jane", "groups": ["devs", "system:authenticated"]}));
    assert_eq!(world.admin(path, &review("bad")).await["status"], json!({"user": {}, "error": "invalid bearer token"}));
    assert_eq!(world.code("admin", path, "{}").await, 400);
    assert_eq!(world.code("jane", path, &review("jane")).await, 403);
}

#[tokio::test]
async fn a_bodys_warnings_are_told_whatever_becomes_of_the_request() {
    let world = world();
    for (name, code) in [("fine", 201), ("Not_Fine", 422)] {
        let body = format!(r#"{{"metadata":{{"name":"{name}","nam":"x"}}}}"#);
        let call = Call::test(&format!("POST {NS}"), body).with("authorization", "Bearer admin");
        let reply = world.send(call).await;
        let warnings: Vec<&str> =
            reply.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!((reply.status.as_u16(), warnings), (code, vec![r#"299 - "unknown field \"metadata.nam\"""#]));
    }
}

#[tokio::test]
async fn a_start_on_what_was_kept_shows_this_process_and_not_the_one_before() {
    let world = world();
    let part = Part {
        namespace: "kube-system".to_owned(),
        name: "lost".to_owned(),
        labels: BTreeMap::new(),
        container: "c".to_owned(),
        image: "i".to_owned(),
        ports: vec![PartPort::open(1)],
        logs: portcullis_runtime::LogRing::default(),
        control: crate::PartControl::default(),
        started: world.engine.clock.now(),
    };
    world.seed().part(&part).unwrap();
    world.seed().namespace("mine").unwrap();
    let mut engine = Arc::into_inner(world.engine).unwrap();
    engine.parts = Parts::default();
    engine.controllers = Controllers { root_ca: "OTHER".to_owned(), port: 7443, ..Controllers::default() };
    engine.bootstrap("node", "v9").unwrap();
    let members = |resource, namespace, name| engine.store.get(resource, namespace, name).map(|found| found.members());
    assert!(members(resources::pods(), "kube-system", "lost").is_none(), "its process is gone");
    let text = |found: Option<resources::tree::Members>| Value::Object(found.unwrap());
    let service = text(members(resources::services(), "default", "kubernetes"));
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 7443);
    let node = text(members(resources::nodes(), "", "node"));
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v9");
    let authorities = text(members(resources::config_maps(), "mine", "kube-root-ca.crt"));
    assert_eq!(authorities["data"]["ca.crt"], "OTHER");
}
