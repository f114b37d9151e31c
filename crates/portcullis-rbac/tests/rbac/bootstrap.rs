//! What a new cluster holds, and what follows from it, beside a real one.

use std::time::{Duration, Instant};

use portcullis_kube::UserInfo;
use portcullis_kube::authorization::SubjectAccessReviewSpec;
use portcullis_rbac::{PolicySource as _, Target, bootstrap, review};
use serde_json::{Map, Value, json};

use crate::matrix;
use crate::real::{AUTHORIZATION, PATIENCE, RBAC, Real};

/// Members of metadata that each server makes for itself.
const OWN: [&str; 4] = ["uid", "resourceVersion", "creationTimestamp", "managedFields"];

/// A list of the real server without what is its own, by namespace and name.
fn items(list: &Value) -> Vec<Value> {
    let mut items = list["items"].as_array().expect("a list").clone();
    for item in &mut items {
        let metadata = item["metadata"].as_object_mut().expect("metadata");
        metadata.retain(|name, _| !OWN.contains(&name.as_str()));
    }
    sort(&mut items);
    items
}

/// Our objects as lists show them.
fn ours<'a, T: serde::Serialize + 'a>(objects: impl Iterator<Item = &'a T>) -> Vec<Value> {
    let mut items: Vec<Value> = objects
        .map(|object| {
            let mut members: Map<String, Value> = serde_json::from_value(json!(object)).expect("an object");
            members.shift_remove("kind");
            members.shift_remove("apiVersion");
            Value::Object(members)
        })
        .collect();
    sort(&mut items);
    items
}

fn sort(items: &mut [Value]) {
    let key = |item: &Value, member: &str| item["metadata"][member].as_str().unwrap_or_default().to_owned();
    items.sort_by_key(|item| (key(item, "namespace"), key(item, "name")));
}

fn assert_same(what: &str, real: &[Value], ours: &[Value]) {
    let names = |items: &[Value]| items.iter().map(|item| item["metadata"]["name"].to_string()).collect::<Vec<_>>();
    assert_eq!(names(real), names(ours), "{what}");
    for (real, ours) in real.iter().zip(ours) {
        assert_eq!(real, ours, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_holds_what_a_real_one_holds_and_decides_alike() {
    let real = Real::start(&[]).await;
    let policy = bootstrap::policy();

    let lists = [
        ("clusterroles", ours(policy.cluster_roles().map(AsRef::as_ref))),
        ("clusterrolebindings", ours(policy.cluster_role_bindings())),
        ("roles", ours(policy.roles().map(AsRef::as_ref))),
        ("rolebindings", ours(policy.all_role_bindings().map(AsRef::as_ref))),
    ];
    // The real server makes its objects one by one, and its controller fills some of them twice.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut theirs = Vec::new();
        for (what, _) in &lists {
            theirs.push(items(&real.get(&format!("{RBAC}/{what}")).await));
        }
        if Instant::now() > deadline || lists.iter().zip(&theirs).all(|((_, ours), theirs)| ours == theirs) {
            for ((what, ours), theirs) in lists.iter().zip(&theirs) {
                println!("{what}: {}", theirs.len());
                assert_same(what, theirs, ours);
            }
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    real.create("/api/v1/namespaces", &json!({"metadata": {"name": "dev"}})).await;
    let mut bound = policy.clone();
    matrix::bind_people_in_dev(&mut bound);
    for binding in bound.all_role_bindings().filter(|binding| binding.metadata.namespace == "dev") {
        real.create(&format!("{RBAC}/namespaces/dev/rolebindings"), &json!(binding.as_ref())).await;
    }
    let demo = bound.cluster_role_bindings().find(|binding| binding.metadata.name == matrix::DEMO_BINDING);
    real.create(&format!("{RBAC}/clusterrolebindings"), &json!(demo.expect("the demo binding"))).await;
    let mut real = real;
    real.wait_for("the new bindings", async |real| {
        for (user, namespace) in [("viewer", "dev"), ("editor", "dev"), ("owner", "dev"), (matrix::DEMO_USER, "")] {
            let asked = json!({"spec": {"user": user, "resourceAttributes":
                {"verb": "get", "resource": "pods", "namespace": namespace}}});
            let (_, answer) = real.post(&format!("{AUTHORIZATION}/subjectaccessreviews"), &asked, &[]).await;
            if answer["status"]["allowed"] != true {
                return false;
            }
        }
        true
    })
    .await;

    // Every cell of the golden matrix, as the real server sees it.
    let cells: Vec<(String, Value)> = matrix::cells().map(|(label, info, user)| (label, spec(&info, &user))).collect();
    let answers = real
        .each(&cells, async |real, (_, spec)| {
            real.post(&format!("{AUTHORIZATION}/subjectaccessreviews"), &json!({"spec": spec}), &[]).await.1
        })
        .await;
    let mut allowed = 0;
    for ((label, asked), answer) in cells.iter().zip(&answers) {
        let asked: SubjectAccessReviewSpec = serde_json::from_value(asked.clone()).expect("a spec");
        let ours = review::access(&bound, &review::subject(&asked), &asked);
        assert_eq!(answer["status"]["allowed"], ours.allowed, "{label}: {answer}");
        allowed += usize::from(ours.allowed);
    }
    println!("matrix: {} cells, {allowed} allowed", cells.len());
    assert!(cells.len() >= 400 && allowed >= 100);
}

/// A request as a review asks about it.
fn spec(info: &portcullis_rbac::RequestInfo, user: &UserInfo) -> Value {
    let mut spec = json!({"user": user.username, "groups": user.groups});
    match info.attributes(user).target {
        Target::Path(path) => spec["nonResourceAttributes"] = json!({"verb": info.verb, "path": path}),
        Target::Resource(target) => {
            spec["resourceAttributes"] = json!({"verb": info.verb, "group": target.api_group,
                "version": target.api_version, "resource": target.resource, "subresource": target.subresource,
                "namespace": target.namespace, "name": target.name});
        }
    }
    spec
}
