//! The same patches to a real kube-apiserver, to see that the packages that `patch-oracle` asks are what it answers with:
//! the patched object, the class and the message of a refusal, the warnings, and the patch that is named as invalid.

use portcullis_patch::{Answer, FieldValidation, JsonPatch, MergePatch, PatchText, StrategicPatch};
use portcullis_testkit::ControlPlane;
use serde_json::{Map, Value, json};

use crate::oracle::Op;
use crate::types::TYPES;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/d";
const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/r";

/// Patches of the deployment and of the role, applied one after the other.
fn steps() -> Vec<(Op, &'static str, &'static str, Value)> {
    let deployment = |op, patch| (op, "Deployment", DEPLOYMENT, patch);
    let role = |op, patch| (op, "ClusterRole", ROLE, patch);
    let template = |spec: Value| json!({ "spec": { "template": { "spec": spec } } });
    vec![
        deployment(
            Op::Strategic,
            json!({ "metadata": { "labels": { "a": "b", "gone": null } }, "spec": { "replicas": 3 } }),
        ),
        deployment(
            Op::Strategic,
            template(
                json!({ "containers": [{ "name": "side", "image": "s" }, { "name": "c", "env": [{ "name": "X", "value": "1" }] }] }),
            ),
        ),
        deployment(
            Op::Strategic,
            template(
                json!({ "$setElementOrder/containers": [{ "name": "new" }], "containers": [{ "name": "c", "$patch": "delete" }, { "name": "new", "image": "n" }] }),
            ),
        ),
        deployment(
            Op::Strategic,
            template(
                json!({ "containers": [{ "$patch": "replace" }, { "name": "only", "image": "o", "ports": [{ "containerPort": 80 }] }] }),
            ),
        ),
        deployment(
            Op::Strategic,
            template(
                json!({ "tolerations": [{ "key": "a", "operator": "Exists" }], "volumes": [{ "name": "v", "emptyDir": {} }] }),
            ),
        ),
        deployment(
            Op::Strategic,
            template(
                json!({ "volumes": [{ "name": "v", "$retainKeys": ["name", "configMap"], "configMap": { "name": "m" } }] }),
            ),
        ),
        deployment(Op::Strategic, json!({ "spec": { "strategy": { "$retainKeys": ["type"], "type": "Recreate" } } })),
        deployment(Op::Strategic, json!({ "metadata": { "finalizers": ["x.io/a", "x.io/b"] } })),
        deployment(Op::Strategic, json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["x.io/a"] } })),
        deployment(Op::Strategic, template(json!({ "containers": [{ "image": "x" }] }))),
        deployment(Op::Strategic, template(json!({ "$setElementOrder/contaners": [] }))),
        deployment(Op::Strategic, template(json!({ "$retainKeys": 1 }))),
        deployment(Op::Strategic, json!({ "metadata": { "finalizers": [[]] } })),
        deployment(Op::Strategic, template(json!({ "containers": [null] }))),
        deployment(Op::Strategic, json!([])),
        deployment(
            Op::Json,
            json!([{ "op": "replace", "path": "/spec/replicas", "value": 5 }, { "op": "test", "path": "/spec/replicas", "value": 5, "vale": 1 }]),
        ),
        deployment(
            Op::Json,
            json!([{ "op": "add", "path": "/spec/template/spec/containers/-", "value": { "name": "more", "image": "m" } }]),
        ),
        deployment(
            Op::Json,
            json!([{ "op": "move", "from": "/spec/template/spec/containers/-1", "path": "/spec/template/spec/containers/0" }]),
        ),
        deployment(Op::Json, json!([{ "op": "copy", "from": "/metadata/labels/a", "path": "/metadata/labels/x~1y" }])),
        deployment(Op::Json, json!([{ "op": "remove", "path": "/spec/nothing" }])),
        deployment(Op::Json, json!([{ "op": "test", "path": "/spec/replicas", "value": "5" }])),
        deployment(Op::Json, json!([{ "op": "replace", "path": "" }])),
        deployment(Op::Json, json!({ "op": "add" })),
        deployment(Op::Json, json!([{ "op": 1 }])),
        deployment(Op::Json, json!(vec![json!({}); 10_001])),
        role(
            Op::Merge,
            json!({ "metadata": { "annotations": { "a": "<b>&", "n": null } }, "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] }),
        ),
        role(Op::Merge, json!({ "metadata": { "annotations": null } })),
        role(Op::Merge, json!({ "rules": null })),
        role(Op::Merge, json!([1])),
        role(Op::Merge, Value::Null),
        role(
            Op::Strategic,
            json!({ "rules": [{ "apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"] }] }),
        ),
        role(Op::Strategic, Value::Null),
        role(Op::Strategic, json!({ "metadata": { "$patch": "unknown" } })),
    ]
}

/// What we say: the result and what is reported, or a refusal.
fn ours(op: Op, kind: &str, document: &[u8], patch: &[u8]) -> Result<(Value, Vec<String>, String), (Answer, String)> {
    let text = PatchText::check(patch).map_err(|error| (error.answer(), error.to_string()))?;
    let read = |text: Vec<u8>| serde_json::from_slice(&text).expect("JSON");
    match op {
        Op::Json => JsonPatch::decode(text, FieldValidation::Report)
            .and_then(|patch| {
                let result = patch.apply(document)?;
                let shown = String::from_utf8_lossy(&result).into_owned();
                Ok((read(result), patch.findings().to_vec(), shown))
            })
            .map_err(|error| (error.answer(), error.to_string())),
        Op::Merge => MergePatch::decode(text, FieldValidation::Report)
            .and_then(|patch| {
                let result = patch.apply(document)?;
                let shown = String::from_utf8_lossy(&result).into_owned();
                Ok((read(result), patch.findings().to_vec(), shown))
            })
            .map_err(|error| (error.answer(), error.to_string())),
        Op::Strategic => StrategicPatch::decode(text, FieldValidation::Report)
            .and_then(|patch| {
                let original: Map<String, Value> = serde_json::from_slice(document).expect("an object");
                let merged = patch.apply(original, &TYPES.of_kind(kind))?;
                let left = merged.left();
                Ok((Value::Object(merged.members), patch.findings().to_vec(), left))
            })
            .map_err(|error| (error.answer(), error.to_string())),
    }
}

/// What every write changes is not compared; defaults that a result lacks are taken from the server's answer.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let passing = |name: &str| matches!(name, "resourceVersion" | "generation" | "managedFields");
            ours.iter().all(|(name, ours)| {
                passing(name) || theirs.get(name).map_or_else(|| empty(ours), |theirs| same(ours, theirs))
            })
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
        }
        _ => ours == theirs,
    }
}

/// Go leaves such members out.
fn empty(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.values().all(empty),
        Value::Array(items) => items.is_empty(),
        _ => value.is_null(),
    }
}

const fn media(op: Op) -> &'static str {
    match op {
        Op::Json => "application/json-patch+json",
        Op::Merge => "application/merge-patch+json",
        Op::Strategic => "application/strategic-merge-patch+json",
    }
}

#[tokio::test]
async fn a_real_api_server_answers_what_the_packages_say() {
    let plane = ControlPlane::start(&[]).await;
    let client = plane.admin_client();
    let ask = async |method: &str, path: &str, media: &str, body: &str| {
        let url = format!("{}{path}", plane.url());
        let body = (!body.is_empty()).then(|| body.to_owned().into());
        client.request(method.parse().expect("a method"), &url, &[("content-type", media)], body).await
    };
    let selector = json!({ "app": "d" });
    let deployment = json!({
        "metadata": { "name": "d", "labels": { "gone": "x" } },
        "spec": {
            "selector": { "matchLabels": selector },
            "template": { "metadata": { "labels": selector }, "spec": { "containers": [{ "name": "c", "image": "i" }] } },
        },
    });
    let role = json!({ "metadata": { "name": "r", "annotations": { "n": "1" } }, "rules": [] });
    for (path, object) in [(DEPLOYMENT, deployment), (ROLE, role)] {
        let collection = path.rsplit_once('/').expect("a path").0;
        let made = ask("POST", collection, "application/json", &object.to_string()).await.expect("an answer");
        assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    }
    let (mut applied, mut refused) = (0, 0);
    for (op, kind, path, patch) in steps() {
        let before = ask("GET", path, "application/json", "").await.expect("an answer");
        let document = before.body.trim_ascii_end().to_vec();
        let text = patch.to_string();
        let answer = ask("PATCH", path, media(op), &text).await;
        let shown: String = text.chars().take(300).collect();
        let ours = ours(op, kind, &document, text.as_bytes());
        let Ok(answer) = answer else {
            assert!(matches!(ours, Err((Answer::Crash, _))), "{shown}: the connection broke, ours is {ours:?}");
            refused += 1;
            continue;
        };
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let status: Value = serde_json::from_str(&body).unwrap_or_default();
        match ours {
            Ok((result, findings, _)) => {
                assert_eq!(answer.status, 200, "{shown}: {body}");
                assert!(same(&result, &status), "{shown}\nours   {result}\ntheirs {body}");
                for finding in findings {
                    let warned = answer.headers.get_all("warning").iter().any(|warning| {
                        let warning = warning.to_str().unwrap_or_default().replace("\\\"", "\"");
                        warning.contains(&finding)
                    });
                    assert!(warned, "{shown}: no warning {finding}: {:?}", answer.headers);
                }
                applied += 1;
            }
            Err((class, text)) => {
                let invalid = "the server rejected our request due to an error in our request";
                let (code, message) = match class {
                    Answer::BadRequest => (400, text),
                    Answer::TooLarge => (413, format!("Request entity too large: {text}")),
                    Answer::Invalid => (422, invalid.to_owned()),
                    Answer::Failure => (500, text),
                    Answer::Crash => panic!("{shown}: upstream lives: {body}"),
                };
                assert_eq!(
                    (answer.status, status["message"].as_str()),
                    (code, Some(message.as_str())),
                    "{shown}: {body}"
                );
                refused += 1;
            }
        }
    }
    println!("{applied} patches applied, {refused} refused");
    assert!(applied >= 15 && refused >= 12);

    // What does not fit the type is named: the whole result, or what is left of a strategic patch.
    for (op, patch) in [
        (
            Op::Strategic,
            json!({ "metadata": { "labels": { "a": null } }, "spec": { "$setElementOrder/x": null, "nothing": 1 } }),
        ),
        (
            Op::Strategic,
            json!({ "spec": { "nothing": 1, "template": { "spec": { "$setElementOrder/containers": [{ "name": "only" }], "containers": [{ "name": "only", "odd": 1.5 }] } } } }),
        ),
        (Op::Json, json!([{ "op": "add", "path": "/spec/nothing", "value": { "b": "<", "a": 1.0 } }])),
        (Op::Merge, json!({ "spec": { "nothing": { "b": "<", "a": [1.5] } } })),
    ] {
        let before = ask("GET", DEPLOYMENT, "application/json", "").await.expect("an answer");
        let document = before.body.trim_ascii_end().to_vec();
        let text = patch.to_string();
        let answer =
            ask("PATCH", &format!("{DEPLOYMENT}?fieldValidation=Strict"), media(op), &text).await.expect("an answer");
        let status: Value = serde_json::from_slice(&answer.body).expect("a Status");
        let message = status["message"].as_str().unwrap_or_default();
        match ours(op, "Deployment", &document, text.as_bytes()) {
            Ok((_, _, named)) => {
                assert_eq!(answer.status, 422, "{message}");
                // Quoted by Go; for ASCII Rust quotes alike.
                assert!(message.contains(&format!("{named:?}")), "{message}\n{named:?}");
            }
            Err((_, text)) => assert_eq!(message, text),
        }
    }
}
