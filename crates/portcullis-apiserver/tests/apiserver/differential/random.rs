//! Random patches of random objects, to a real kube-apiserver and to ours: status, warnings and body have to be the same.
//!
//! Choices are fresh in each run; `PORTCULLIS_SEED` repeats those of a run that failed. Both servers keep the same state, so
//! each patch meets what the patches before it left.

use portcullis_testkit::ControlPlane;
use serde_json::{Map, Value, json};

use super::script::Step;
use super::{Answer, Side, difference, make_namespace, settled};
use crate::bench::Bench;
use crate::rbac::Dice;

const CASES: usize = 600;
/// Patches of one object, one after the other.
const PATCHES: usize = 12;
/// How often the real server is asked again when it refuses in other words: it walks maps in random order.
const AGAIN: usize = 50;
const NAMESPACE: &str = "random";
/// What only a server sets, and what says which object it is.
const FIXED: [&str; 10] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "name",
    "namespace",
    "status",
    "apiVersion",
    "kind",
    "deprecated.daemonset.template.generation",
];
/// Lists that a strategic patch merges, and by what.
const MERGED: [(&str, &str); 6] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("env", "name"),
    ("volumes", "name"),
    ("imagePullSecrets", "name"),
    ("secrets", "name"),
];

#[tokio::test(flavor = "multi_thread")]
async fn random_patches_are_answered_as_a_real_kube_apiserver_does() {
    let dice = Dice::roll();
    let plane = ControlPlane::start(&[]).await;
    let bench = Bench::start().await;
    settled(&plane).await;
    make_namespace(&plane, &bench, NAMESPACE).await;
    let mut real = Side::new(plane.url().to_owned(), plane.admin_client());
    let mut ours = Side::new(bench.url(""), bench.client(Some(("admin", &["system:masters"]))));
    let (mut differences, mut applied, mut refused, mut number) = (Vec::new(), 0, 0, 0);
    while applied + refused < CASES {
        number += 1;
        let (collection, mut object) = object(&dice, number);
        object["metadata"] = metadata(&dice, &format!("o{number}"));
        let create = step("POST", collection.to_owned(), None, object.to_string());
        let (want, got) = (real.ask(&create).await, ours.ask(&create).await);
        assert!(want == got && want.0 == 201, "{}\n{}", create.body, difference(&want, &got));
        let mut current: Value = serde_json::from_str(&want.3).unwrap();
        for _ in 0..PATCHES {
            let patch = patch(&dice, &current, &format!("{collection}/o{number}"));
            let (want, mut got) = (real.try_ask(&patch).await, ours.ask(&patch).await);
            // Upstream's code panics.
            let Some(mut want) = want else {
                assert_eq!(got.0, 500, "{} {}\n{}", patch.path, patch.body, got.3);
                refused += 1;
                continue;
            };
            // An empty map of labels is shown as none.
            let shown = |answer: &mut Answer| {
                answer.3 = answer
                    .3
                    .replace("labels: Invalid value: {}", "labels: Invalid value: null")
                    .replace("Invalid value: {}: `selector`", "Invalid value: null: `selector`")
            };
            shown(&mut want);
            shown(&mut got);
            for _ in 0..AGAIN {
                if want == got || want.0 < 400 || want.0 != got.0 {
                    break;
                }
                want = real.ask(&patch).await;
            }
            if want != got {
                let media = &patch.headers[0].1;
                let before = current.to_string();
                let what = difference(&want, &got);
                differences.push(format!("== {} {media} {}\nof {before}\n{what}", patch.path, patch.body));
                break;
            }
            if want.0 == 200 {
                applied += 1;
                if !patch.path.contains("dryRun") {
                    current = serde_json::from_str(&want.3).unwrap();
                }
            } else {
                refused += 1;
            }
        }
        if differences.len() > 25 {
            break;
        }
    }
    assert!(differences.is_empty(), "{} differ\n{}", differences.len(), differences.join("\n"));
    assert!(applied >= CASES / 4 && refused >= CASES / 10, "{applied} applied, {refused} refused");
    bench.stop().await;
}

fn step(method: &str, path: String, media: Option<&str>, body: String) -> Step {
    let headers = media.map(|media| ("content-type".to_owned(), media.to_owned())).into_iter().collect();
    Step { method: method.to_owned(), path, headers, body }
}

fn metadata(dice: &Dice, name: &str) -> Value {
    let mut metadata = json!({"name": name});
    if dice.percent(60) {
        metadata["labels"] = json!({"app": "a", "tier": dice.word(&["x", "y"])});
    }
    if dice.percent(40) {
        metadata["annotations"] = json!({"note": "\"q\"\\", "example.com/n": dice.word(&["1", "2"])});
    }
    if dice.percent(20) {
        metadata["finalizers"] = json!(["example.com/a", "example.com/b"]);
    }
    metadata
}

/// Where objects of a kind are, and one of them without metadata.
fn object(dice: &Dice, number: usize) -> (&'static str, Value) {
    let selector = json!({"matchLabels": {"app": "a"}});
    let pods = || json!({"metadata": {"labels": {"app": "a"}}, "spec": pod_spec(dice)});
    match number % 12 {
        0 => (
            "/api/v1/namespaces/random/configmaps",
            json!({"data": {"a": "1", "b": "<&>", "c": ""}, "binaryData": {"x": "aGk="}}),
        ),
        1 => ("/api/v1/namespaces/random/secrets", json!({"stringData": {"a": "1", "b": "2"}})),
        2 => (
            "/api/v1/namespaces/random/services",
            json!({"spec": {"clusterIP": "None", "selector": {"app": "a"}, "ports": [{"name": "h", "port": 80}, {"name": "d", "port": 53, "protocol": "UDP"}]}}),
        ),
        3 => (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/random/roles",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get"]}]}),
        ),
        4 => (
            "/api/v1/namespaces/random/serviceaccounts",
            json!({"secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "p"}, {"name": "q"}]}),
        ),
        5 => (
            "/apis/networking.k8s.io/v1/namespaces/random/networkpolicies",
            json!({"spec": {"podSelector": selector, "ingress": [{"ports": [{"port": 80}], "from": [{"podSelector": {}}]}]}}),
        ),
        6 => (
            "/apis/batch/v1/namespaces/random/cronjobs",
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}}),
        ),
        7 => {
            ("/apis/apps/v1/namespaces/random/daemonsets", json!({"spec": {"selector": selector, "template": pods()}}))
        }
        8 => (
            "/apis/apps/v1/namespaces/random/statefulsets",
            json!({"spec": {"selector": selector, "serviceName": "s", "template": pods()}}),
        ),
        9 => (
            "/api/v1/namespaces/random/limitranges",
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2", "memory": "1Gi"}, "default": {"cpu": "500m"}}]}}),
        ),
        _ => (
            "/apis/apps/v1/namespaces/random/deployments",
            json!({"spec": {"replicas": 2, "selector": selector, "template": pods()}}),
        ),
    }
}

fn pod_spec(dice: &Dice) -> Value {
    let container = |name: &str| {
        let mut container = json!({"name": name, "image": dice.word(&["i:1", "i:2"])});
        if dice.percent(50) {
            container["env"] = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C"}]);
        }
        if dice.percent(30) {
            container["args"] = json!(["x", "y"]);
        }
        if dice.percent(30) {
            container["resources"] = json!({"requests": {"cpu": "100m", "memory": "1Mi"}});
        }
        container
    };
    let mut spec =
        json!({"containers": (0..=dice.below(3)).map(|at| container(["c", "d", "e"][at])).collect::<Vec<_>>()});
    if dice.percent(40) {
        spec["volumes"] = json!([{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "m"}}]);
    }
    if dice.percent(30) {
        spec["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    }
    if dice.percent(20) {
        spec["imagePullSecrets"] = json!([{"name": "p"}, {"name": "q"}]);
    }
    if dice.percent(20) {
        spec["initContainers"] = json!([container("i")]);
    }
    spec
}

fn patch(dice: &Dice, current: &Value, path: &str) -> Step {
    let query = dice.word(&["", "", "", "", "?fieldValidation=Strict", "?fieldValidation=Ignore", "?dryRun=All"]);
    let path = format!("{path}{query}");
    let (media, body) = match dice.below(3) {
        0 => ("application/json-patch+json", json_patch(dice, current)),
        1 => ("application/merge-patch+json", change(dice, current, false)),
        _ => ("application/strategic-merge-patch+json", change(dice, current, true)),
    };
    step("PATCH", path, Some(media), body.to_string())
}

/// Operations on places that are there, and on some that are not.
fn json_patch(dice: &Dice, current: &Value) -> Value {
    let mut places = Vec::new();
    collect(current, &mut String::new(), &mut places);
    if places.is_empty() {
        places.push(("/data".to_owned(), Value::Null));
    }
    let place = || places[dice.below(places.len())].clone();
    let operation = |_| {
        let (at, value) = place();
        match dice.below(12) {
            0..=3 => json!({"op": "replace", "path": at, "value": other(dice, &value)}),
            4 => json!({"op": "remove", "path": at}),
            5 => json!({"op": "test", "path": at, "value": value}),
            6 => json!({"op": "test", "path": at, "value": other(dice, &value)}),
            7 => json!({"op": "copy", "from": at, "path": format!("{}/copied", parent(&at))}),
            8 => json!({"op": "move", "from": at, "path": place().0}),
            9 => json!({"op": "add", "path": format!("{}/-", parent(&at)), "value": value}),
            10 => json!({"op": "add", "path": format!("{}/added", parent(&at)), "value": other(dice, &value)}),
            _ => json!({"op": "add", "path": at, "value": other(dice, &value)}),
        }
    };
    (0..=dice.below(3)).map(operation).collect()
}

fn parent(pointer: &str) -> &str {
    pointer.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn collect(value: &Value, at: &mut String, out: &mut Vec<(String, Value)>) {
    let mut visit = |name: &str, value: &Value| {
        let before = at.len();
        at.push('/');
        at.push_str(&name.replace('~', "~0").replace('/', "~1"));
        // Moved elsewhere, metadata would show who manages the fields.
        if at != "/metadata" {
            out.push((at.clone(), value.clone()));
        }
        collect(value, at, out);
        at.truncate(before);
    };
    match value {
        Value::Object(members) => {
            members
                .iter()
                .filter(|(name, _)| !FIXED.contains(&name.as_str()))
                .for_each(|(name, value)| visit(name, value));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| visit(&index.to_string(), value)),
        _ => {}
    }
}

/// A value to put in the place of another: mostly of its type.
fn other(dice: &Dice, value: &Value) -> Value {
    if dice.percent(8) {
        return Value::Null;
    }
    if dice.percent(8) {
        let others = [json!("x"), json!(5), json!(true), json!({}), json!([]), json!({"a": "b"}), json!(["x"])];
        return others[dice.below(others.len())].clone();
    }
    match value {
        Value::Bool(flag) => json!(!flag),
        Value::Number(_) => json!([0, 1, 2, 30, 443, 8080][dice.below(6)]),
        Value::String(_) => json!(dice.word(&["x", "a-b", "", "1", "Always", "TCP", "UDP", "i:3", "Not OK!"])),
        Value::Array(items) => items.iter().rev().cloned().collect(),
        Value::Object(members) => {
            let mut members = members.clone();
            if let Some(name) = members.keys().nth(dice.below(members.len().max(1))).cloned() {
                members.shift_remove(&name);
            }
            Value::Object(members)
        }
        Value::Null => json!({}),
    }
}

/// A merge patch, or a strategic one, of one or two members of an object.
fn change(dice: &Dice, current: &Value, strategic: bool) -> Value {
    let Value::Object(members) = current else { return other(dice, current) };
    let names: Vec<&String> = members.keys().filter(|name| !FIXED.contains(&name.as_str())).collect();
    let mut patch = Map::new();
    for _ in 0..=dice.below(2) {
        if names.is_empty() || dice.percent(6) {
            patch.insert(dice.word(&["added", "unknown", "example.com~x"]).to_owned(), json!(dice.word(&["1", "y"])));
            continue;
        }
        let name = names[dice.below(names.len())];
        let value = &members[name];
        if strategic && list(dice, name, value, &mut patch) {
            continue;
        }
        let value = match value {
            _ if dice.percent(5) => Value::Null,
            Value::Object(_) if dice.percent(92) => change(dice, value, strategic),
            Value::Array(items) if dice.percent(60) && items.iter().all(Value::is_object) => {
                items.iter().map(|item| if dice.percent(60) { item.clone() } else { changed(dice, item) }).collect()
            }
            value => other(dice, value),
        };
        patch.insert(name.clone(), value);
    }
    if strategic && dice.percent(4) {
        let directive = dice.word(&["replace", "delete", "merge"]);
        patch.insert("$patch".to_owned(), json!(directive));
    }
    if strategic && dice.percent(4) {
        let kept: Vec<Value> = patch.keys().filter(|name| !name.starts_with('$')).map(|name| json!(name)).collect();
        patch.insert("$retainKeys".to_owned(), Value::Array(kept));
    }
    Value::Object(patch)
}

/// An element with a member changed.
fn changed(dice: &Dice, item: &Value) -> Value {
    let mut item = item.clone();
    if let Value::Object(members) = &mut item
        && let Some(name) = members.keys().nth(dice.below(members.len().max(1))).cloned()
    {
        let value = other(dice, &members[&name]);
        members.insert(name, value);
    }
    item
}

/// A change of a list that is merged: elements by key, directives, an order. False when it is not such a list.
fn list(dice: &Dice, name: &str, value: &Value, patch: &mut Map<String, Value>) -> bool {
    let Value::Array(items) = value else { return false };
    // Compat: in which order doubles come out depends on the room that Go's slices happen to have.
    if items.iter().enumerate().any(|(at, item)| items[..at].contains(item)) {
        return false;
    }
    if name == "finalizers" {
        match dice.below(3) {
            0 => drop(patch.insert(name.to_owned(), json!(["example.com/c", "example.com/a"]))),
            1 => drop(patch.insert("$deleteFromPrimitiveList/finalizers".to_owned(), json!(["example.com/b"]))),
            _ => {
                patch.insert("$setElementOrder/finalizers".to_owned(), json!(["example.com/d", "example.com/a"]));
                patch.insert(name.to_owned(), json!(["example.com/d"]));
            }
        }
        return true;
    }
    let key = match (name, items.first()) {
        ("ports", Some(first)) if first.get("containerPort").is_some() => "containerPort",
        ("ports", Some(first)) if first.get("targetPort").is_some() => "port",
        _ => match MERGED.iter().find(|(list, _)| *list == name) {
            Some((_, key)) => key,
            None => return false,
        },
    };
    let mut elements = Vec::new();
    for item in items.iter().filter(|_| dice.percent(60)) {
        let mut element = match dice.below(6) {
            0 => json!({"$patch": "delete"}),
            1 => item.clone(),
            _ => change(dice, item, true),
        };
        element[key] = if dice.percent(5) { json!("new") } else { item[key].clone() };
        elements.push(element);
    }
    if dice.percent(30) {
        elements.push(json!({key: "new", "image": "new"}));
    }
    if dice.percent(4) {
        elements.push(json!({"image": "no-key"}));
    }
    if dice.percent(4) {
        elements.insert(0, json!({"$patch": "replace"}));
    }
    if dice.percent(35) {
        let mut order: Vec<Value> = elements
            .iter()
            .filter(|element| element.get("$patch").is_none())
            .map(|element| json!({key: element[key]}))
            .collect();
        if dice.percent(50) {
            order.reverse();
        }
        if let Some(item) = items.first().filter(|_| dice.percent(40)) {
            order.push(json!({key: item[key]}));
        }
        patch.insert(format!("$setElementOrder/{name}"), Value::Array(order));
    }
    patch.insert(name.to_owned(), Value::Array(elements));
    true
}
