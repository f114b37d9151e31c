//! What a PATCH may cost, what becomes of patches that meet, and kubectl's commands that patch.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use portcullis_runtime::http_client::HttpClient;
use serde_json::{Value, json};

use crate::bench::Bench;

const MAP: &str = "/api/v1/namespaces/default/configmaps/c";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/d";
const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

async fn send(bench: &Bench, client: &HttpClient, method: &str, path: &str, media: &str, body: String) -> (u16, Value) {
    let headers = [("content-type", media)];
    let answer = client.request(method.parse().unwrap(), &bench.url(path), &headers, Some(body.into())).await.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

async fn make(bench: &Bench, client: &HttpClient, path: &str, object: Value) {
    let collection = path.rsplit_once('/').unwrap().0;
    let (code, answer) = send(bench, client, "POST", collection, "application/json", object.to_string()).await;
    assert_eq!(code, 201, "{answer}");
}

fn deployment() -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_over_a_limit_are_too_large_and_change_nothing() {
    let bench = Bench::start().await;
    let admin = bench.client(Some(("admin", &["system:masters"])));
    make(&bench, &admin, MAP, json!({"metadata": {"name": "c"}, "data": {"k": "x".repeat(1_000)}})).await;
    make(&bench, &admin, DEPLOYMENT, deployment()).await;
    let nested = |depth: usize| format!(r#"{{"x":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let values = format!(r#"{{"x":[{}0]}}"#, "0,".repeat(200_000));
    let copies = format!(
        r#"[{{"op":"copy","from":"/data","path":"/x"}}{}]"#,
        r#",{"op":"copy","from":"/data/k","path":"/x/y"}"#.repeat(4_000)
    );
    let insertions = format!(
        r#"[{{"op":"add","path":"/x","value":[{}0]}}{}]"#,
        "0,".repeat(150_000),
        r#",{"op":"add","path":"/x/0","value":0}"#.repeat(9_000)
    );
    let operations = format!("[{{}}{}]", ",{}".repeat(10_000));
    for (media, body, want) in [
        (MERGE, nested(130), "the limit is 127 levels of nested objects and lists"),
        (STRATEGIC, nested(130), "the limit is 127 levels of nested objects and lists"),
        (STRATEGIC, nested(100_000), "the limit is 127 levels of nested objects and lists"),
        (MERGE, values, "the limit is 200000 values in one JSON text"),
        (JSON, insertions, "the operations move or look at more than 50000000 elements"),
        (JSON, operations, "The allowed maximum operations in a JSON patch is 10000, got 10001"),
        (MERGE, format!("{{}}{}", " ".repeat(3 << 20)), "limit is 3145728"),
    ] {
        let (code, answer) = send(&bench, &admin, "PATCH", MAP, media, body).await;
        let message = answer["message"].as_str().unwrap();
        assert!(code == 413 && message.contains(want), "{code} {message}");
    }
    // What is copied is bounded as upstream bounds it, and refused in its words.
    let (code, answer) = send(&bench, &admin, "PATCH", MAP, JSON, copies).await;
    assert_eq!((code, answer["reason"].as_str()), (422, Some("Invalid")));
    // Upstream's code panics here, and the connection breaks off.
    let panics = r#"[{"op":"replace","path":""}]"#.to_owned();
    let (code, answer) = send(&bench, &admin, "PATCH", MAP, JSON, panics).await;
    assert_eq!(code, 500, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("operation 0 of the JSON patch cannot be applied"),
        "{answer}"
    );
    let panics = r#"{"spec":{"template":{"spec":{"containers":[null]}}}}"#.to_owned();
    assert_eq!(send(&bench, &admin, "PATCH", DEPLOYMENT, STRATEGIC, panics).await.0, 500);
    let now = admin.get(&bench.url(MAP), &[]).await.unwrap();
    let now: Value = serde_json::from_slice(&now.body).unwrap();
    assert_eq!(now["data"], json!({"k": "x".repeat(1_000)}));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_that_meet_all_count_and_a_named_version_counts_once() {
    const WRITERS: usize = 8;
    const PATCHES: usize = 40;
    let bench = Arc::new(Bench::start().await);
    let admin = bench.client(Some(("admin", &["system:masters"])));
    make(&bench, &admin, MAP, json!({"metadata": {"name": "c"}})).await;
    let version = |answer: &Value| answer["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let (_, first) = send(&bench, &admin, "PATCH", MAP, MERGE, "{}".to_owned()).await;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let bench = Arc::clone(&bench);
            let client = bench.client(Some(("admin", &["system:masters"])));
            tokio::spawn(async move {
                for number in 0..PATCHES {
                    let media = [MERGE, STRATEGIC][writer % 2];
                    let body = json!({"data": {format!("{writer}-{number}"): "x"}}).to_string();
                    let (code, answer) = send(&bench, &client, "PATCH", MAP, media, body).await;
                    assert_eq!(code, 200, "{answer}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (_, last) = send(&bench, &admin, "PATCH", MAP, MERGE, "{}".to_owned()).await;
    assert_eq!(last["data"].as_object().unwrap().len(), WRITERS * PATCHES);
    let pinned = |to: String| json!({"metadata": {"resourceVersion": to}, "data": {"pinned": "yes"}}).to_string();
    assert_eq!(send(&bench, &admin, "PATCH", MAP, MERGE, pinned(version(&first))).await.0, 409);
    let (code, answer) = send(&bench, &admin, "PATCH", MAP, MERGE, pinned(version(&last))).await;
    assert_eq!(code, 200);
    assert_eq!(send(&bench, &admin, "PATCH", MAP, MERGE, pinned(version(&last))).await.0, 409);
    // What changes nothing makes no version.
    let (_, same) = send(&bench, &admin, "PATCH", MAP, JSON, "[]".to_owned()).await;
    assert_eq!(version(&same), version(&answer));
    Arc::into_inner(bench).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_compares_edits_and_reconciles() {
    let bench = Bench::start().await;
    let kubeconfig = bench.kubeconfig("admin", &["system:masters"]);
    let folder = bench.folder.path().to_owned();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let say = async |command: &str, code: i32, want: &str| {
        let args: Vec<&str> = command.split(' ').collect();
        let output = bench.kubectl(&kubeconfig, &args).await;
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.code() == Some(code) && (out.contains(want) || error.contains(want)),
            "{command}: {:?}, not {want}\n{out}{error}",
            output.status
        );
    };
    let manifest = |containers: Value, data: Value| {
        let mut made = deployment();
        made["apiVersion"] = json!("apps/v1");
        made["kind"] = json!("Deployment");
        made["spec"]["template"]["spec"]["containers"] = containers;
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
        json!({"apiVersion": "v1", "kind": "List", "items": [made, map]}).to_string()
    };
    let two = json!([{"name": "one", "image": "i:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"name": "two", "image": "i:2"}]);
    write("first.json", &manifest(two, json!({"a": "1", "b": "2"})));
    let one = json!([{"name": "one", "image": "i:9", "env": [{"name": "B", "value": "2"}]}]);
    write("second.json", &manifest(one, json!({"a": "1", "c": "3"})));
    say("apply -f first.json", 0, "deployment.apps/d created").await;
    say("apply -f first.json", 0, "deployment.apps/d unchanged").await;
    say("label deployment d other=label", 0, "labeled").await;
    say("diff -f second.json", 1, "+        image: i:9").await;
    say("apply -f second.json", 0, "deployment.apps/d configured\nconfigmap/m configured").await;
    say("diff -f second.json", 0, "").await;
    let shown = "get deployment d -o jsonpath={.metadata.labels}{.spec.template.spec.containers[*].name}{.spec.template.spec.containers[0].env}";
    say(shown, 0, r#"{"other":"label"}one[{"name":"B","value":"2"}]"#).await;
    say("get configmap m -o jsonpath={.data}", 0, r#"{"a":"1","c":"3"}"#).await;
    say(
        r#"patch deployment d --subresource=scale --type=merge -p {"spec":{"replicas":4}}"#,
        0,
        "scale.autoscaling/d patched",
    )
    .await;
    say(r#"patch deployment d --subresource=status -p {"status":{"replicas":3}}"#, 0, "deployment.apps/d patched")
        .await;
    say(r#"patch deployment d --type=json -p [{"op":"replace","path":"/spec/replicas","value":5}]"#, 0, "patched")
        .await;
    say("set image deployment/d one=i:10", 0, "image updated").await;
    say("set env deployment/d X=1 B-", 0, "env updated").await;
    say("rollout restart deployment d", 0, "restarted").await;
    say("scale deployment d --replicas=2", 0, "scaled").await;
    let shown = "get deployment d -o jsonpath={.spec.replicas}{.status.replicas}{.spec.template.spec.containers[0].image}{.spec.template.spec.containers[0].env}";
    say(shown, 0, r#"23i:10[{"name":"X","value":"1"}]"#).await;
    write("editor", "#!/bin/sh\nsed -i 's/replicas: 2/replicas: 6/' \"$1\"\n");
    std::fs::set_permissions(folder.join("editor"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = bench.kubectl_with(&kubeconfig, &["edit", "deployment", "d"], "KUBE_EDITOR", "./editor").await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "deployment.apps/d edited\n");
    say("get deployment d -o jsonpath={.spec.replicas}", 0, "6").await;
    let role = |verbs: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r", "namespace": "default"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]})
        .to_string()
    };
    write("role.json", &role(json!(["get"])));
    say("auth reconcile -f role.json", 0, "reconciliation required create").await;
    write("role.json", &role(json!(["get", "list"])));
    say("auth reconcile -f role.json", 0, "reconciliation required update").await;
    say("replace -f first.json", 0, "deployment.apps/d replaced").await;
    let refused = bench.kubectl(&kubeconfig, &["apply", "--server-side", "-f", "first.json"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).starts_with("Server-side apply not available on the server"));
    bench.stop().await;
}
