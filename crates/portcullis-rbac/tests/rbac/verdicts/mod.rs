//! Differential test: the same roles, bindings and question into a real kube-apiserver's access reviews and into ours.
//!
//! Flow: many small worlds of random roles and bindings are written to the real server and into one policy of ours; upstream's
//! controller fills the aggregated roles; when the server's informers have seen the last of it, 20,000 questions are asked.
//! Verdict, reason and evaluation error must be the same. Where several bindings allow, the real server names whichever its
//! cache gives first, so there its reason must be one of those that are right.

mod case;
mod features;
mod world;

use std::time::Instant;

use case::Case;
use features::Counts;
use portcullis_kube::UserInfo;
use portcullis_kube::authorization::{SubjectAccessReviewSpec, SubjectAccessReviewStatus, SubjectRulesReviewStatus};
use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use portcullis_kube::{ObjectMeta, go};
use portcullis_rbac::{Attributes, Policy, PolicySource as _, bootstrap, review};
use serde_json::{Value, json};
use world::World;

use crate::deciding::{Deciding, sorted};
use crate::dice::Dice;
use crate::real::{AUTHORIZATION, RBAC, Real};

const WORLDS: usize = 40;
const CASES: usize = 20_000;
/// Users whose whole lists of rules are compared.
const LISTS: usize = 400;
/// Every feature must have decided in so many cases.
const LEAST: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_and_reasons_are_those_of_a_real_server() {
    let dice = Dice::roll();
    let worlds: Vec<World> = (0..WORLDS).map(|number| World::random(&dice, number)).collect();
    let mut policy = bootstrap::policy();
    worlds.iter().for_each(|world| world.enter(&mut policy));
    policy.aggregate();

    let mut real = Real::start(&[]).await;
    let start = Instant::now();
    write(&mut real, &worlds, &policy).await;
    println!("{WORLDS} worlds written and seen in {:.1} s", start.elapsed().as_secs_f64());

    let cases: Vec<Case> = (0..CASES).map(|n| case::random(&dice, &worlds[n % WORLDS], &policy)).collect();
    let start = Instant::now();
    let answers = real.each(&cases, async |real, case| ask(real, case).await).await;
    println!("{CASES} cases asked in {:.1} s", start.elapsed().as_secs_f64());
    let deciding = Deciding::new(&policy);
    let mut counts = Counts::default();
    let mut wrong = Vec::new();
    for (case, theirs) in cases.iter().zip(&answers) {
        compare(&policy, &deciding, case, theirs, &mut counts, &mut wrong);
    }
    counts.print();
    assert!(wrong.is_empty(), "{} of {CASES} differ:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
    assert!(counts.allowed * 10 >= CASES * 3, "only {} of {CASES} are allowed", counts.allowed);
    let rare = counts.rarer_than(LEAST);
    assert!(rare.is_empty(), "decided too rarely: {rare:?}");

    let users: Vec<Case> = (0..LISTS).map(|n| case::random(&dice, &worlds[n % WORLDS], &policy)).collect();
    compare_lists(&real, &policy, &users).await;
}

/// Writes the worlds, and waits until the real server has gathered and seen everything.
async fn write(real: &mut Real, worlds: &[World], policy: &Policy) {
    let mut objects: Vec<(String, Value)> = Vec::new();
    for world in worlds {
        for namespace in &world.namespaces {
            real.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await;
        }
        objects.extend(world.cluster_roles.iter().map(|role| (format!("{RBAC}/clusterroles"), json!(role))));
        objects.extend(world.roles.iter().map(|role| (of(&role.metadata, "roles"), json!(role))));
        let bindings = world.cluster_role_bindings.iter();
        objects.extend(bindings.map(|binding| (format!("{RBAC}/clusterrolebindings"), json!(binding))));
        let bindings = world.role_bindings.iter();
        objects.extend(bindings.map(|binding| (of(&binding.metadata, "rolebindings"), json!(binding))));
    }
    real.each(&objects, async |real, (path, object)| real.create(path, object).await).await;
    real.wait_for("the gathered rules", async |real| {
        let list = real.get(&format!("{RBAC}/clusterroles")).await;
        let differs = list["items"].as_array().unwrap().iter().find(|item| {
            let ours = policy.cluster_role(item["metadata"]["name"].as_str().unwrap()).map(|role| &role.rules);
            item["aggregationRule"].is_object() && ours.is_none_or(|ours| json!(ours) != no_null(&item["rules"]))
        });
        differs.is_none()
    })
    .await;
    // Informers show objects in the order of their making, each kind on its own: when they show these, they show all.
    let everything = PolicyRule {
        verbs: vec!["get".to_owned()],
        api_groups: vec!["sentinel".to_owned()],
        resources: vec!["things".to_owned()],
        ..PolicyRule::default()
    };
    let rules = vec![everything];
    let seer = vec![Subject::user("seer")];
    let cluster_role =
        ClusterRole { metadata: ObjectMeta::named("seer"), rules: rules.clone(), ..ClusterRole::default() };
    real.create(&format!("{RBAC}/clusterroles"), &json!(cluster_role)).await;
    real.create(&format!("{RBAC}/clusterrolebindings"), &json!(ClusterRoleBinding::new("seer", "seer", seer))).await;
    let metadata = ObjectMeta::namespaced("default", "local-seer");
    let role = Role { metadata: metadata.clone(), rules, ..Role::default() };
    real.create(&of(&metadata, "roles"), &json!(role)).await;
    let subjects = vec![Subject::user("local-seer")];
    let binding = RoleBinding { metadata, subjects, role_ref: RoleRef::role("local-seer"), ..RoleBinding::default() };
    real.create(&of(&binding.metadata, "rolebindings"), &json!(binding)).await;
    for user in ["seer", "local-seer"] {
        real.wait_for("the last binding", async |real| {
            let asked = json!({"spec": {"user": user, "resourceAttributes":
                {"verb": "get", "group": "sentinel", "resource": "things", "namespace": "default"}}});
            let (_, answer) = real.post(&format!("{AUTHORIZATION}/subjectaccessreviews"), &asked, &[]).await;
            answer["status"]["allowed"] == true
        })
        .await;
    }
}

fn of(metadata: &ObjectMeta, resource: &str) -> String {
    format!("{RBAC}/namespaces/{}/{resource}", metadata.namespace)
}

fn no_null(value: &Value) -> Value {
    if value.is_null() { json!([]) } else { value.clone() }
}

/// Which review asks the question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    /// About anybody.
    Subject,
    /// About anybody, in its namespace.
    Local,
    /// As the user.
    Own,
}

impl Through {
    /// A matter of the question itself, so that a seed repeats it.
    fn of(spec: &Value) -> Self {
        let namespace = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
        match spec.to_string().len() % 10 {
            0 if !namespace.is_empty() && namespace != "elsewhere" => Self::Local,
            1 if can_be_impersonated(spec) => Self::Own,
            _ => Self::Subject,
        }
    }
}

async fn ask(real: &Real, case: &Case) -> SubjectAccessReviewStatus {
    let mut body = case.spec.clone();
    let (path, headers) = match Through::of(&case.spec) {
        Through::Subject => (format!("{AUTHORIZATION}/subjectaccessreviews"), Vec::new()),
        Through::Local => {
            let namespace = body["resourceAttributes"]["namespace"].as_str().unwrap();
            (format!("{AUTHORIZATION}/namespaces/{namespace}/localsubjectaccessreviews"), Vec::new())
        }
        Through::Own => {
            body.as_object_mut().unwrap().retain(|member, _| member.ends_with("Attributes"));
            (format!("{AUTHORIZATION}/selfsubjectaccessreviews"), acting_as(&case.spec))
        }
    };
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (status, answer) = real.post(&path, &json!({"spec": body}), &headers).await;
    assert_eq!(status, 201, "{path} {body}: {answer}");
    serde_json::from_value(answer["status"].clone()).expect("a status")
}

/// Whether impersonation gives exactly this user, who may then ask about oneself: a header holds no line breaks and no empty
/// name, a service account gets groups that the case may not have, and the anonymous may ask nothing.
fn can_be_impersonated(spec: &Value) -> bool {
    let user = spec["user"].as_str().unwrap_or_default();
    let groups = spec["groups"].as_array().into_iter().flatten();
    let unauthenticated = groups.into_iter().any(|group| group == "system:unauthenticated");
    !user.is_empty()
        && user != "system:anonymous"
        && !user.starts_with("system:serviceaccount:")
        && !unauthenticated
        && spec.get("uid").is_none()
}

fn acting_as(spec: &Value) -> Vec<(&'static str, String)> {
    let user = ("impersonate-user", spec["user"].as_str().unwrap().to_owned());
    let groups = spec["groups"].as_array().into_iter().flatten();
    let groups = groups.map(|group| ("impersonate-group", group.as_str().unwrap().to_owned()));
    std::iter::once(user).chain(groups).collect()
}

/// Whom our side asks about: the review's subject, with the group that everyone gets who is impersonated.
fn subject(spec: &SubjectAccessReviewSpec, through: Through) -> UserInfo {
    let user = review::subject(spec);
    if through == Through::Own { user.with_authenticated_group() } else { user }
}

fn compare(
    policy: &Policy,
    deciding: &Deciding<'_>,
    case: &Case,
    theirs: &SubjectAccessReviewStatus,
    counts: &mut Counts,
    wrong: &mut Vec<String>,
) {
    let spec: SubjectAccessReviewSpec = serde_json::from_value(case.spec.clone()).expect("a spec");
    let user = subject(&spec, Through::of(&case.spec));
    let ours = review::access(policy, &user, &spec);
    let attributes = Attributes::from_review(&user, &spec).expect("a question");
    let same_reason = if ours.allowed {
        [&theirs.reason, &ours.reason].iter().all(|reason| deciding.may_be(&attributes, reason))
    } else {
        sorted(&theirs.reason) == sorted(&ours.reason)
    };
    let same = (theirs.allowed, theirs.denied, &theirs.evaluation_error)
        == (ours.allowed, ours.denied, &ours.evaluation_error)
        && same_reason;
    if !same {
        wrong.push(format!("{} bent {:?}\n  theirs {theirs:?}\n  ours   {ours:?}", case.spec, case.bent));
    }
    counts.add(policy, deciding, case, (&user, &spec), &ours);
}

/// `kubectl auth can-i --list`, for many.
async fn compare_lists(real: &Real, policy: &Policy, users: &[Case]) {
    let users: Vec<&Case> = users.iter().filter(|case| can_be_impersonated(&case.spec)).collect();
    let namespace = |case: &Case| match case.spec["resourceAttributes"]["namespace"].as_str() {
        Some(namespace) if !namespace.is_empty() => namespace.to_owned(),
        _ => "default".to_owned(),
    };
    let answers = real
        .each(&users, async |real, case| {
            let headers = acting_as(&case.spec);
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let asked = json!({"spec": {"namespace": namespace(case)}});
            real.post(&format!("{AUTHORIZATION}/selfsubjectrulesreviews"), &asked, &headers).await.1
        })
        .await;
    let mut rules = 0;
    for (case, answer) in users.iter().zip(answers) {
        let spec: SubjectAccessReviewSpec = serde_json::from_value(case.spec.clone()).expect("a spec");
        let ours = in_order(review::rules(policy, &subject(&spec, Through::Own), &namespace(case)));
        let theirs = in_order(serde_json::from_value(answer["status"].clone()).expect("a status"));
        assert_eq!(theirs, ours, "{}", case.spec);
        rules += ours.resource_rules.len() + ours.non_resource_rules.len();
    }
    println!("{} lists of rules, {rules} rules", users.len());
    assert!(users.len() >= LISTS / 4 && rules >= LISTS);
}

fn in_order(mut status: SubjectRulesReviewStatus) -> SubjectRulesReviewStatus {
    status.resource_rules.sort_by_key(|rule| go::quote_all(&[json!(rule).to_string()]));
    status.non_resource_rules.sort_by_key(|rule| go::quote_all(&[json!(rule).to_string()]));
    let error = status.evaluation_error.trim_matches(['[', ']']).to_owned();
    let mut missing: Vec<&str> = error.split(", ").collect();
    missing.sort_unstable();
    status.evaluation_error = missing.join(", ");
    status
}
