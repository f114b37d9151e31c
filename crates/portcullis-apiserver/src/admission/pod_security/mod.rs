//! `PodSecurity`: pods are held to the level that their namespace's labels ask for. `policy` reads the labels, `checks` has the
//! rules.
//!
//! Compat: `pod-security-admission` of v0.37.2, without exemptions and with `privileged` where nothing is asked for.

mod checks;
mod policy;

use std::collections::{BTreeMap, HashSet};

use portcullis_kube::Status;
use portcullis_kube::go::quote;

use self::checks::{Found, Pod, beyond};
use self::policy::{Level, LevelVersion, Policy};
use super::refusal;
use crate::engine::Engine;
use crate::handlers::Asked;
use crate::http::Outcome;
use crate::resources::tree::{Members, flag, list_at, members_at, string, string_at};
use crate::resources::{namespaces, pods};

/// Pods that are looked at when a namespace becomes stricter.
const MOST_PODS: usize = 3_000;

/// Holds a new object to what its namespace asks for; what whoever writes it is warned of.
pub(super) fn judge_new(engine: &Engine, asked: &Asked<'_>, new: &Members) -> Outcome<Vec<String>> {
    if std::ptr::eq(asked.resource, namespaces()) {
        let (_, wrong) = Policy::of(new);
        if !wrong.is_empty() {
            let name = string_at(new, &["metadata", "name"]);
            return Err(Box::new(Status::invalid("", asked.resource.kind, name, &wrong)));
        }
        return Ok(Vec::new());
    }
    judge(engine, asked, new, None)
}

/// Holds a new state to what its namespace asks for.
pub(super) fn judge_update(engine: &Engine, asked: &Asked<'_>, new: &Members, old: &Members) -> Outcome<Vec<String>> {
    let part = asked.subresource.map_or("", |part| part.name);
    if std::ptr::eq(asked.resource, namespaces()) {
        return if part.is_empty() { stricter(engine, asked, new, old) } else { Ok(Vec::new()) };
    }
    let of_pod = std::ptr::eq(asked.resource, pods());
    let looked_at = if of_pod { matches!(part, "" | "ephemeralcontainers" | "resize") } else { part.is_empty() };
    if looked_at { judge(engine, asked, new, Some(old)) } else { Ok(Vec::new()) }
}

fn judge(engine: &Engine, asked: &Asked<'_>, new: &Members, old: Option<&Members>) -> Outcome<Vec<String>> {
    let template: &[&str] = match asked.resource.plural {
        "pods" => &[],
        "podtemplates" => &["template"],
        "replicationcontrollers" | "deployments" | "replicasets" | "statefulsets" | "daemonsets" | "jobs" => {
            &["spec", "template"]
        }
        "cronjobs" => &["spec", "jobTemplate", "spec", "template"],
        _ => return Ok(Vec::new()),
    };
    let enforced = template.is_empty();
    let Some(namespace) = engine.store.get(namespaces(), "", asked.namespace) else { return Ok(Vec::new()) };
    let (policy, wrong) = Policy::of(&namespace.members());
    let lenient = |held_to: LevelVersion| held_to.level == Level::Privileged;
    let note =
        |name: &str, value: &str| asked.call.audit.annotate(&format!("pod-security.kubernetes.io/{name}"), value);
    if wrong.is_empty() && lenient(policy.audit) && lenient(policy.warn) && (!enforced || lenient(policy.enforce)) {
        if enforced {
            note("enforce-policy", "privileged:latest");
        }
        return Ok(Vec::new());
    }
    if enforced && old.is_some_and(|old| !differs(new, old)) {
        return Ok(Vec::new());
    }
    let made_of = if enforced { new } else { members_at(new, template) };
    let pod =
        Pod { annotations: members_at(made_of, &["metadata", "annotations"]), spec: members_at(made_of, &["spec"]) };
    if !wrong.is_empty() {
        let each: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        let each = if let [one] = each.as_slice() { one.clone() } else { format!("[{}]", each.join(", ")) };
        note("error", &format!("Failed to parse policy: {each}"));
    }
    let told = |held_to: LevelVersion| {
        let found = beyond(&pod, held_to);
        (!found.is_empty()).then(|| format!("violate PodSecurity {}: {}", quote(&held_to.to_string()), details(&found)))
    };
    let refused = enforced.then(|| told(policy.enforce)).flatten();
    if enforced {
        note("enforce-policy", &policy.enforce.to_string());
    }
    if let Some(told) = told(policy.audit) {
        note("audit-violations", &format!("would {told}"));
    }
    match refused {
        Some(told) => {
            let name = string_at(new, &["metadata", "name"]);
            Err(refusal(asked, name, &told.replacen("violate", "violates", 1)))
        }
        None => Ok(told(policy.warn).map(|told| format!("would {told}")).into_iter().collect()),
    }
}

fn details(found: &[Found]) -> String {
    let each = found.iter().map(|one| format!("{} ({})", one.reason, one.detail));
    each.collect::<Vec<_>>().join(", ")
}

/// Whether an update of a pod changes what the rules may look at: images, and which containers there are.
fn differs(new: &Members, old: &Members) -> bool {
    let images = |members: &Members, list: &str| -> Vec<(String, String)> {
        let containers = list_at(members, &["spec", list]).iter();
        containers.map(|one| (string(one, "name").to_owned(), string(one, "image").to_owned())).collect()
    };
    ["containers", "initContainers"].into_iter().any(|list| {
        let of = |members: &Members| images(members, list).into_iter().map(|(_, image)| image).collect::<Vec<_>>();
        of(new) != of(old)
    }) || {
        let before = images(old, "ephemeralContainers");
        images(new, "ephemeralContainers").iter().any(|one| !before.contains(one))
    }
}

/// Labels of a namespace have to be right once they change; pods that are there already only cause warnings.
fn stricter(engine: &Engine, asked: &Asked<'_>, new: &Members, old: &Members) -> Outcome<Vec<String>> {
    let ((policy, wrong), (before, wrong_before)) = (Policy::of(new), Policy::of(old));
    if !wrong.is_empty() && wrong != wrong_before {
        return Err(Box::new(Status::invalid("", asked.resource.kind, asked.name, &wrong)));
    }
    let (now, then) = (policy.enforce, before.enforce);
    if now == then || now.level == Level::Privileged || (now.version == then.version && now.level <= then.level) {
        return Ok(Vec::new());
    }
    let mut all: Vec<Members> = engine.store.all(pods(), asked.name).iter().map(|pod| pod.members()).collect();
    let total = all.len();
    first_of_each(&mut all);
    let mut reasons: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in all.iter().take(MOST_PODS) {
        let made_of =
            Pod { annotations: members_at(pod, &["metadata", "annotations"]), spec: members_at(pod, &["spec"]) };
        let found = beyond(&made_of, now);
        if found.is_empty() {
            continue;
        }
        let reason = found.into_iter().map(|one| one.reason).collect::<Vec<_>>().join(", ");
        let name = string_at(pod, &["metadata", "name"]).to_owned();
        let (first, count) = reasons.entry(reason).or_insert_with(|| (name.clone(), 0));
        *count += 1;
        if name < *first {
            *first = name;
        }
    }
    let mut warnings = Vec::new();
    if total > MOST_PODS {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {total} existing pods"
        ));
    }
    if !reasons.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {} violate the new PodSecurity enforce level {}",
            quote(asked.name),
            quote(&now.to_string())
        ));
    }
    let mut told: Vec<String> = reasons
        .into_iter()
        .map(|(reason, (name, count))| match count {
            1 => format!("{name}: {reason}"),
            2 => format!("{name} (and 1 other pod): {reason}"),
            more => format!("{name} (and {} other pods): {reason}", more - 1),
        })
        .collect();
    told.sort();
    warnings.extend(told);
    Ok(warnings)
}

/// Puts pods of a controller that has one before them behind all others.
fn first_of_each(all: &mut [Members]) {
    let mut seen = HashSet::new();
    let mut again = |pod: &Members| {
        let owners = list_at(pod, &["metadata", "ownerReferences"]);
        let controller = owners.iter().find(|owner| flag(owner, "controller"));
        controller.is_some_and(|owner| !seen.insert(string(owner, "uid").to_owned()))
    };
    let keys: Vec<bool> = all.iter().map(&mut again).collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|at| keys.get(*at).copied());
    let sorted: Vec<Members> = order.iter().filter_map(|at| all.get(*at).cloned()).collect();
    for (place, pod) in all.iter_mut().zip(sorted) {
        *place = pod;
    }
}
