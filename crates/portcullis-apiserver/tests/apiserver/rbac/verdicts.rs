//! The random worlds and questions of the RBAC library's own comparison, through this server's endpoints: access reviews of all
//! sorts and lists of rules. Whole answers are the same.

#[path = "../../../../portcullis-rbac/tests/rbac/verdicts/case.rs"]
#[expect(clippy::expect_used, dead_code, reason = "the library's own comparison asks for more of it")]
mod case;
#[path = "../../../../portcullis-rbac/tests/rbac/verdicts/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::Instant;

use portcullis_kube::ObjectMeta;
use portcullis_kube::authorization::SubjectAccessReviewSpec;
use portcullis_rbac::{Attributes, bootstrap, review};
use serde_json::{Value, json};

use self::case::Case;
use self::world::World;
use super::{AUTHORIZATION, Asked, PATIENCE, Pair, RBAC, assert_none};
use crate::deciding::{Deciding, sorted};
use crate::dice::Dice;

const WORLDS: usize = 10;
/// Questions, of which a fifth ask for a list of rules.
const CASES: usize = 3_000;
/// Each sort of review has answered so many.
const LEAST: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn random_questions_get_the_real_servers_answers_over_http() {
    let dice = Dice::roll();
    let worlds: Vec<World> = (0..WORLDS).map(|number| World::random(&dice, number)).collect();
    let mut policy = bootstrap::policy();
    worlds.iter().for_each(|world| world.enter(&mut policy));
    policy.aggregate();
    let pair = Pair::start(&[("admin", &["system:masters"])]).await;
    write(&pair, &worlds).await;

    let deciding = Deciding::new(&policy);
    let (mut wrong, mut counts, mut allowed) = (Vec::new(), BTreeMap::<&str, usize>::new(), 0);
    for number in 0..CASES {
        let case = case::random(&dice, &worlds[number % WORLDS], &policy);
        let (through, asked) = asked(&case, number % 5);
        let (theirs, ours) = (pair.real.ask(&asked).await, pair.ours.ask(&asked).await);
        assert_eq!(theirs.0, 201, "{asked:?}: {}", theirs.1);
        let same = theirs == ours || {
            let (mut theirs, mut ours) = (theirs.1.clone(), ours.1.clone());
            [&mut theirs, &mut ours].into_iter().for_each(in_order);
            // Where several bindings allow, the real server names whichever its cache gives first.
            let reasons = [&mut theirs, &mut ours].map(|answer| answer["status"]["reason"].take());
            theirs == ours && may_be(&deciding, &case, through, &ours, &reasons)
        };
        if !same {
            wrong.push(format!("{asked:?}\n  theirs {}\n  ours   {} {}", theirs.1, ours.0, ours.1));
        }
        *counts.entry(through).or_default() += 1;
        allowed += usize::from(ours.1["status"]["allowed"] == true);
    }
    println!("questions over HTTP: {counts:?}, {allowed} allowed");
    assert_none(&wrong, CASES);
    assert!(counts.len() == 4 && counts.values().all(|count| *count >= LEAST), "{counts:?}");
    assert!(allowed * 4 >= CASES, "only {allowed} of {CASES} are allowed");
    pair.stop().await;
}

/// Writes the worlds to both, and waits until the real server has gathered and seen everything.
async fn write(pair: &Pair, worlds: &[World]) {
    let of = |metadata: &ObjectMeta, resource: &str| format!("{RBAC}/namespaces/{}/{resource}", metadata.namespace);
    for world in worlds {
        for namespace in &world.namespaces {
            pair.both("POST", "/api/v1/namespaces", json!({"metadata": {"name": namespace}})).await;
        }
        for role in &world.cluster_roles {
            pair.both("POST", &format!("{RBAC}/clusterroles"), json!(role)).await;
        }
        for role in &world.roles {
            pair.both("POST", &of(&role.metadata, "roles"), json!(role)).await;
        }
        for binding in &world.cluster_role_bindings {
            pair.both("POST", &format!("{RBAC}/clusterrolebindings"), json!(binding)).await;
        }
        for binding in &world.role_bindings {
            pair.both("POST", &of(&binding.metadata, "rolebindings"), json!(binding)).await;
        }
    }
    let roles = Asked::new("admin", "GET", format!("{RBAC}/clusterroles"), Value::Null);
    let gathered = |(_, list): (u16, Value)| {
        let items = list["items"].as_array().unwrap().iter().filter(|item| item["aggregationRule"].is_object());
        items.map(|item| (item["metadata"]["name"].clone(), item["rules"].clone())).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + PATIENCE;
    while gathered(pair.real.ask(&roles).await) != gathered(pair.ours.ask(&roles).await) {
        assert!(Instant::now() < deadline, "the real server does not gather its rules");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    pair.settle("default").await;
}

/// The sort of review, and the request that asks the question. What a sort cannot ask, the one about anybody does.
fn asked(case: &Case, sort: usize) -> (&'static str, Asked) {
    let mut spec = case.spec.clone();
    let namespace = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default().to_owned();
    let request = |path: String, spec: Value| {
        Asked::new("admin", "POST", format!("{AUTHORIZATION}/{path}"), json!({"spec": spec}))
    };
    match sort {
        0 if !namespace.is_empty() && namespace != "elsewhere" => {
            ("local", request(format!("namespaces/{namespace}/localsubjectaccessreviews"), spec))
        }
        1 | 2 if can_be_impersonated(&spec) => {
            spec.as_object_mut().unwrap().retain(|member, _| member.ends_with("Attributes"));
            let mut asked = request("selfsubjectaccessreviews".to_owned(), spec);
            asked.headers = acting_as(&case.spec);
            ("own", asked)
        }
        3 if can_be_impersonated(&spec) => {
            let namespace = if namespace.is_empty() { "default" } else { &namespace };
            let mut asked = request("selfsubjectrulesreviews".to_owned(), json!({"namespace": namespace}));
            asked.headers = acting_as(&case.spec);
            ("rules", asked)
        }
        _ => ("subject", request("subjectaccessreviews".to_owned(), spec)),
    }
}

/// Whether impersonation gives exactly this user, who may then ask about oneself.
fn can_be_impersonated(spec: &Value) -> bool {
    let user = spec["user"].as_str().unwrap_or_default();
    let groups = spec["groups"].as_array();
    let unauthenticated = groups.is_some_and(|groups| groups.iter().any(|group| group == "system:unauthenticated"));
    let odd = user.is_empty() || user == "system:anonymous" || user.starts_with("system:serviceaccount:");
    !odd && !unauthenticated && spec.get("uid").is_none()
}

fn acting_as(spec: &Value) -> Vec<(String, String)> {
    let header = |name: &str, value: &Value| (format!("impersonate-{name}"), value.as_str().unwrap().to_owned());
    let groups = spec["groups"].as_array().into_iter().flatten().map(|group| header("group", group));
    std::iter::once(header("user", &spec["user"])).chain(groups).collect()
}

/// Whether both reasons are right: refusals have one, an allowed question one of those that its bindings give.
fn may_be(deciding: &Deciding<'_>, case: &Case, through: &str, ours: &Value, reasons: &[Value; 2]) -> bool {
    let reasons = reasons.each_ref().map(|reason| reason.as_str().unwrap_or_default());
    if ours["status"]["allowed"] != true {
        return sorted(reasons[0]) == sorted(reasons[1]);
    }
    let spec: SubjectAccessReviewSpec = serde_json::from_value(case.spec.clone()).unwrap();
    let user = review::subject(&spec);
    let user = if through == "own" { user.with_authenticated_group() } else { user };
    let attributes = Attributes::from_review(&user, &spec).unwrap();
    reasons.iter().all(|reason| deciding.may_be(&attributes, reason))
}

/// Lists in an order of their own: the real server's have none.
fn in_order(answer: &mut Value) {
    let status = &mut answer["status"];
    for list in ["resourceRules", "nonResourceRules"] {
        if let Some(rules) = status.get_mut(list).and_then(Value::as_array_mut) {
            rules.sort_by_key(ToString::to_string);
        }
    }
    if let Some(Value::String(error)) = status.get_mut("evaluationError") {
        let mut missing: Vec<&str> = error.trim_matches(['[', ']']).split(", ").collect();
        missing.sort_unstable();
        *error = missing.join(", ");
    }
}
