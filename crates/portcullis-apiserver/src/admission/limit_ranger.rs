//! `LimitRanger`: containers that say nothing get what the namespace's limit ranges say, and what they ask for stays in bounds.
//!
//! Compat: `plugin/pkg/admission/limitranger` of Kubernetes 1.37. Limit ranges are looked at in the order of their names, and the
//! amounts of one likewise; upstream's order is that of Go's maps.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::amounts::{self, Amounts, Asked as Which};
use super::refuse;
use crate::engine::Engine;
use crate::handlers::Asked;
use crate::http::Outcome;
use crate::resources::limit_ranges;
use crate::resources::tree::{Members, child, list_at, members, members_at, object, objects_mut, string, string_at};
use crate::schema::quantity::Quantity;

/// On a pod: what was added to it.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Amounts up to this one are compared in thousandths.
const MAX_MILLI: i64 = i64::MAX / 1_000;

/// Gives containers of a new pod, or of one that is resized, what they do not say.
pub(super) fn change(engine: &Engine, namespace: &str, pod: &mut Members) {
    for range in engine.store.all(limit_ranges(), namespace) {
        let range = range.members();
        let (mut limits, mut requests) = (Members::new(), Members::new());
        for item in items(&range, "Container") {
            limits.extend(members(item, "default").clone());
            requests.extend(members(item, "defaultRequest").clone());
        }
        let mut told = Vec::new();
        let spec = object(pod, "spec");
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            for container in objects_mut(spec, list) {
                let name = string_at(container, &["name"]).to_owned();
                let resources = object(container, "resources");
                let added_limits = fill(resources, "limits", &limits);
                let added_requests = fill(resources, "requests", &requests);
                for (added, kind) in [(added_requests, "request"), (added_limits, "limit")] {
                    if !added.is_empty() {
                        let added: Vec<String> = added.into_iter().collect();
                        told.push(format!("{} {kind} for {what} {name}", added.join(", ")));
                    }
                }
            }
        }
        if !told.is_empty() {
            let told = format!("LimitRanger plugin set: {}", told.join("; "));
            object(object(pod, "metadata"), "annotations").insert(ANNOTATION.to_owned(), json!(told));
        }
    }
}

/// Refuses a pod that asks for too little or too much.
pub(super) fn judge_pod(engine: &Engine, asked: &Asked<'_>, pod: &Members) -> Outcome<()> {
    let spec = members_at(pod, &["spec"]);
    judge(engine, asked, pod, |range| {
        let mut wrong = Vec::new();
        for item in list_at(range, &["spec", "limits"]) {
            let kind = string(item, "type");
            if kind == "Container" {
                let containers = ["containers", "initContainers"].map(|list| list_at(spec, &[list]));
                for container in containers.into_iter().flatten() {
                    let of = |which| amounts::of_container(container, which);
                    bounds(item, kind, &of(Which::Requests), &of(Which::Limits), &mut wrong);
                }
            } else if kind == "Pod" {
                let of = |which| amounts::of_pod(spec, which);
                bounds(item, kind, &of(Which::Requests), &of(Which::Limits), &mut wrong);
            }
        }
        wrong
    })
}

/// Refuses a claim that asks for too little or too much.
pub(super) fn judge_claim(engine: &Engine, asked: &Asked<'_>, claim: &Members) -> Outcome<()> {
    let requests = amounts::read(members_at(claim, &["spec", "resources", "requests"]));
    judge(engine, asked, claim, |range| {
        let mut wrong = Vec::new();
        for item in items(range, "PersistentVolumeClaim") {
            let kind = string(item, "type");
            for (name, least) in &amounts::read(members(item, "min")) {
                wrong.extend(below(kind, name, *least, &requests, &Amounts::new()));
            }
            for (name, most) in &amounts::read(members(item, "max")) {
                let limit = Told { kind, name, bound: *most, what: "maximum" };
                wrong.extend(match requests.get(name) {
                    None => Some(limit.missing("request")),
                    Some(request) => over(*request, *most).then(|| limit.beyond("request", *request)),
                });
            }
        }
        wrong
    })
}

fn items<'a>(range: &'a Members, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    list_at(range, &["spec", "limits"]).iter().filter(move |item| string(item, "type") == kind)
}

/// Adds amounts that are missing; the names of those that were.
fn fill(resources: &mut Map<String, Value>, list: &str, defaults: &Members) -> BTreeSet<String> {
    if defaults.is_empty() {
        return BTreeSet::new();
    }
    let there = object(resources, list);
    let missing = defaults.iter().filter(|(name, _)| !there.contains_key(*name));
    let missing: Vec<(String, Value)> = missing.map(|(name, amount)| (name.clone(), amount.clone())).collect();
    let names = missing.iter().map(|(name, _)| name.clone()).collect();
    there.extend(missing);
    names
}

/// The first limit range that is not kept decides.
fn judge(engine: &Engine, asked: &Asked<'_>, object: &Members, wrong: impl Fn(&Members) -> Vec<String>) -> Outcome<()> {
    for range in engine.store.all(limit_ranges(), asked.namespace) {
        let wrong = wrong(&range.members());
        if !wrong.is_empty() {
            return refuse(asked, object, &together(wrong));
        }
    }
    Ok(())
}

/// Compat: how Go prints several errors: each once, in brackets when there are more than one.
fn together(wrong: Vec<String>) -> String {
    let mut seen = BTreeSet::new();
    let once: Vec<String> = wrong.into_iter().filter(|why| seen.insert(why.clone())).collect();
    if let [only] = once.as_slice() { only.clone() } else { format!("[{}]", once.join(", ")) }
}

fn bounds(item: &Value, kind: &str, requests: &Amounts, limits: &Amounts, wrong: &mut Vec<String>) {
    for (name, least) in &amounts::read(members(item, "min")) {
        wrong.extend(below(kind, name, *least, requests, limits));
    }
    for (name, most) in &amounts::read(members(item, "max")) {
        wrong.extend(above(kind, name, *most, requests, limits));
    }
    for (name, ratio) in child(item, "maxLimitRequestRatio").as_object().map(amounts::read).unwrap_or_default() {
        wrong.extend(stretched(kind, &name, ratio, requests.get(&name), limits.get(&name)));
    }
}

/// What a refusal tells of a bound.
struct Told<'a> {
    what: &'a str,
    kind: &'a str,
    name: &'a str,
    bound: Quantity,
}

impl Told<'_> {
    fn missing(&self, what: &str) -> String {
        format!("{} {} usage per {} is {}.  No {what} is specified", self.what, self.name, self.kind, self.bound)
    }

    fn beyond(&self, what: &str, amount: Quantity) -> String {
        format!("{} {} usage per {} is {}, but {what} is {amount}", self.what, self.name, self.kind, self.bound)
    }
}

fn below(kind: &str, name: &str, least: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let told = Told { what: "minimum", kind, name, bound: least };
    let Some(request) = requests.get(name) else { return Some(told.missing("request")) };
    if over(least, *request) {
        return Some(told.beyond("request", *request));
    }
    limits.get(name).filter(|limit| over(least, **limit)).map(|limit| told.beyond("limit", *limit))
}

fn above(kind: &str, name: &str, most: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let told = Told { what: "maximum", kind, name, bound: most };
    let Some(limit) = limits.get(name) else { return Some(told.missing("limit")) };
    if over(*limit, most) {
        return Some(told.beyond("limit", *limit));
    }
    requests.get(name).filter(|request| over(**request, most)).map(|request| told.beyond("request", *request))
}

/// Whether one amount is more than another, in thousandths as far as they reach.
fn over(one: Quantity, other: Quantity) -> bool {
    let (whole, whole_other) = (one.whole(), other.whole());
    if whole <= MAX_MILLI && whole_other <= MAX_MILLI {
        return one.to_milli().compare(other.to_milli()).is_gt();
    }
    whole > whole_other
}

fn stretched(
    kind: &str,
    name: &str,
    most: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let told = |why: String| Some(format!("{name} max limit to request ratio per {kind} is {most}, but {why}"));
    let given = |amount: Option<&Quantity>| amount.copied().filter(|amount| !amount.is_zero());
    let Some(request) = given(request) else { return told("no request is specified or request is 0".to_owned()) };
    let Some(limit) = given(limit) else { return told("no limit is specified or limit is 0".to_owned()) };
    let ratio = limit.to_milli().as_float() / request.to_milli().as_float();
    (ratio > most.to_milli().as_float()).then(|| told(format!("provided ratio is {ratio:.6}"))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_reasons_stand_in_brackets_and_once() {
        let text = |reasons: &[&str]| together(reasons.iter().map(|reason| (*reason).to_owned()).collect());
        assert_eq!(text(&["a"]), "a");
        assert_eq!(text(&["a", "a"]), "a");
        assert_eq!(text(&["a", "b", "a"]), "[a, b]");
    }

    #[test]
    fn amounts_are_compared_in_thousandths_unless_they_are_too_large() {
        let amount = |text: &str| Quantity::parse(text).unwrap();
        assert!(over(amount("1001m"), amount("1")));
        assert!(!over(amount("1.0000001"), amount("1001m")));
        assert!(!over(amount("9Ei"), amount("9Ei")));
        assert!(over(amount("9E"), amount("8E")));
    }
}
