//! Certificate signing requests: what a request has to be, and who may say what of it. Nobody signs here.
//!
//! Compat: `pkg/apis/certificates/validation` and `pkg/registry/certificates/certificates/strategy.go`. What takes the caller
//! or the clock is in `handlers::certificates`.

pub(crate) mod request;

use std::collections::HashSet;

use portcullis_kube::field::FieldError;
use portcullis_kube::go::quote;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::{Path, Wrong, meta, same};
use super::rules::{PartRules, Rules};
use super::tree::{Members, at, child, list_at, object, string, string_at, take_over};

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";
/// The signer that older versions of the API took for granted.
const LEGACY: &str = "kubernetes.io/legacy-unknown";
/// Seconds that a certificate has to live at least.
const SHORTEST: i64 = 600;
const LONGEST_DOMAIN: usize = 253;
/// A domain, a slash, and a label with a subdomain.
const LONGEST_SIGNER: usize = 253 + 1 + 253 + 1 + 63;
/// What a certificate may be for, in the order in which messages list it.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) const RULES: Rules = Rules {
    prepare_create: |members| {
        members.insert("status".to_owned(), json!({}));
    },
    prepare_update: |new, old| take_over(new, old, &["spec", "status"]),
    prepare_status: |new, old| {
        take_over(new, old, &["spec"]);
        keep(new, old, APPROVED);
        keep(new, old, DENIED);
    },
    validate: |new, wrong| request_rules(new, None, wrong),
    validate_update: |new, old, wrong| update(new, old, Decides::Nothing, wrong),
    validate_status: |new, old, wrong| update(new, old, Decides::Certificate, wrong),
    ..Rules::CLUSTER
};
/// An approver changes conditions and nothing else.
pub(crate) static APPROVAL: PartRules = PartRules {
    prepare: |new, old| {
        let conditions = Value::Array(conditions(new).to_vec());
        take_over(new, old, &["spec", "status"]);
        object(new, "status").insert("conditions".to_owned(), conditions);
    },
    validate: |new, old, wrong| update(new, old, Decides::Approval, wrong),
};

/// What a path lets its caller decide.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decides {
    Nothing,
    Approval,
    Certificate,
}

/// What field selectors see.
pub(crate) fn selectable(members: &Members) -> super::SelectableFields {
    vec![("spec.signerName", string_at(members, &["spec", "signerName"]).into())]
}

fn conditions(members: &Members) -> &[Value] {
    list_at(members, &["status", "conditions"])
}

fn of_type<'m>(members: &'m Members, kind: &'m str) -> impl Iterator<Item = &'m Value> {
    conditions(members).iter().filter(move |condition| string(condition, "type") == kind)
}

fn certificate(members: &Members) -> &Value {
    at(members, &["status", "certificate"]).unwrap_or(&Value::Null)
}

/// Conditions of that type stay what they were; where some came or went, the update is refused later.
fn keep(new: &mut Members, old: &Members, kind: &str) {
    let before: Vec<Value> = of_type(old, kind).cloned().collect();
    if before.len() != of_type(new, kind).count() {
        return;
    }
    let list = object(new, "status").get_mut("conditions").and_then(Value::as_array_mut);
    let there = list.into_iter().flatten().filter(|condition| string(condition, "type") == kind);
    for (condition, before) in there.zip(before) {
        *condition = before;
    }
}

/// Gives conditions the times that they lack: now, or when the same was first said.
pub(crate) fn stamp(new: &mut Members, old: &Members, now: &str) {
    let list = object(new, "status").get_mut("conditions").and_then(Value::as_array_mut);
    for condition in list.into_iter().flatten() {
        let said = |other: &&Value| {
            ["type", "status"].iter().all(|name| string(other, name) == string(condition, name))
                && !string(other, "lastTransitionTime").is_empty()
        };
        let since = conditions(old).iter().find(said).map_or(now, |other| string(other, "lastTransitionTime"));
        let Some(members) = condition.as_object_mut() else { continue };
        for (name, time) in [("lastUpdateTime", now), ("lastTransitionTime", since)] {
            if string_at(members, &[name]).is_empty() {
                members.insert(name.to_owned(), json!(time));
            }
        }
    }
}

/// Compat: what is wrong in an old state already is put up with.
fn request_rules(new: &Members, old: Option<&Members>, wrong: &mut Wrong) {
    meta::object_meta(new, false, |_| Vec::new(), wrong);
    let (spec, path) = (child_of(new, "spec"), Path::new("spec"));
    let sent = child(spec, "request");
    if let Err(why) = request::check(sent) {
        wrong.invalid_value(&path.child("request"), sent, why);
    }
    usages(new, old, &path.child("usages"), wrong);
    let signer = string(spec, "signerName");
    let was_legacy = old.is_some_and(|old| string_at(old, &["spec", "signerName"]) == LEGACY);
    if signer == LEGACY && !was_legacy {
        let why = "the legacy signerName is not allowed via this API version";
        wrong.invalid(&path.child("signerName"), signer, why);
    } else {
        signer_name(&path.child("signerName"), signer, wrong);
    }
    if let Some(seconds) = super::tree::integer(spec, "expirationSeconds").filter(|seconds| *seconds < SHORTEST) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        wrong.push(FieldError::invalid_json(path.child("expirationSeconds"), &seconds, why));
    }
    condition_rules(new, old, wrong);
    let touched = old.is_none_or(|old| certificate(old) != certificate(new));
    let was_right = old.is_none_or(|old| request::check_certificates(certificate(old)).is_ok());
    if touched
        && was_right
        && let Err(why) = request::check_certificates(certificate(new))
    {
        wrong.invalid(&Path::new("status.certificate"), "<certificate data>", why);
    }
}

fn child_of<'m>(members: &'m Members, name: &str) -> &'m Value {
    members.get(name).unwrap_or(&Value::Null)
}

fn usages(new: &Members, old: Option<&Members>, path: &Path, wrong: &mut Wrong) {
    let of = |members| list_at(members, &["spec", "usages"]);
    let unknown = |usage: &&Value| !usage.as_str().is_some_and(|usage| USAGES.contains(&usage));
    let twice = |usages: &[Value]| {
        let mut seen = HashSet::new();
        usages.iter().any(|usage| !seen.insert(usage.as_str()))
    };
    let all = of(new);
    if all.is_empty() {
        wrong.required(path, "");
    }
    if !old.is_some_and(|old| of(old).iter().any(|usage| unknown(&usage))) {
        for (index, usage) in all.iter().enumerate().filter(|(_, usage)| unknown(usage)) {
            wrong.not_supported(&path.index(index), usage.as_str().unwrap_or_default(), &USAGES);
        }
    }
    if !old.is_some_and(|old| twice(of(old))) {
        let mut seen = HashSet::new();
        for (index, usage) in all.iter().enumerate() {
            let usage = usage.as_str().unwrap_or_default();
            if !seen.insert(usage) {
                wrong.duplicate(&path.index(index), usage);
            }
        }
    }
}

/// A domain and a path, such as `example.com/signer-name`.
fn signer_name(path: &Path, signer: &str, wrong: &mut Wrong) {
    if signer.is_empty() {
        wrong.required(path, "");
        return;
    }
    let parts: Vec<&str> = signer.split('/').collect();
    let &[domain, name] = parts.as_slice() else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        wrong.invalid(path, signer, why);
        return;
    };
    if domain.len() > LONGEST_DOMAIN {
        wrong.push(FieldError::too_long(path, LONGEST_DOMAIN));
    }
    labels_of(domain, names::dns_label, path, wrong);
    if !domain.contains('.') {
        wrong.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    labels_of(name, names::dns_subdomain, path, wrong);
    if signer.len() > LONGEST_SIGNER {
        wrong.push(FieldError::too_long(path, LONGEST_SIGNER));
    }
}

/// Compat: only the first label that is wrong is told.
fn labels_of(text: &str, rule: meta::NameRule, path: &Path, wrong: &mut Wrong) {
    let judged = text.split('.').map(|label| (label, rule(label)));
    let first = judged.into_iter().find(|(_, problems)| !problems.is_empty());
    for (label, problem) in
        first.into_iter().flat_map(|(label, problems)| problems.into_iter().map(move |why| (label, why)))
    {
        wrong.invalid(path, text, format!("validating label {}: {problem}", quote(label)));
    }
}

fn condition_rules(new: &Members, old: Option<&Members>, wrong: &mut Wrong) {
    let path = Path::new("status.conditions");
    let old_types: Vec<&str> =
        old.map_or(&[][..], conditions).iter().map(|condition| string(condition, "type")).collect();
    let old_distinct: HashSet<&str> = old_types.iter().copied().collect();
    let mut seen = HashSet::new();
    for (index, condition) in conditions(new).iter().enumerate() {
        let at = path.index(index);
        let (kind, status) = (string(condition, "type"), string(condition, "status"));
        if kind.is_empty() && !old_distinct.contains("") {
            wrong.required(&at.child("type"), "");
        }
        let allowed: &[&str] =
            if [APPROVED, DENIED, FAILED].contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        wrong.required_one_of(&at.child("status"), status, allowed);
        if !seen.insert(kind) && old_distinct.len() == old_types.len() {
            wrong.duplicate(&at.child("type"), kind);
        }
    }
    let both = |types: &HashSet<&str>| types.contains(APPROVED) && types.contains(DENIED);
    if both(&seen) && !both(&old_distinct) {
        let members = [APPROVED, DENIED].map(|kind| format!("conditions[{{\"type\": \"{kind}\"}}]"));
        let quoted = members.each_ref().map(|member| format!("`{member}`"));
        let why = format!("must specify at most one of: {}", quoted.join(", "));
        wrong.push_last(FieldError::invalid(&path, &format!("{{{}}}", members.join(", ")), why));
    }
}

fn update(new: &Members, old: &Members, decides: Decides, wrong: &mut Wrong) {
    request_rules(new, Some(old), wrong);
    let path = Path::new("status.conditions");
    let count = |members, kind| of_type(members, kind).count();
    for kind in [APPROVED, DENIED, FAILED] {
        if count(new, kind) < count(old, kind) {
            wrong.forbidden(&path, format!("updates may not remove a condition of type {}", quote(kind)));
        }
    }
    if decides != Decides::Approval {
        for kind in [APPROVED, DENIED] {
            if count(new, kind) > count(old, kind) {
                wrong.forbidden(&path, format!("updates may not add a condition of type {}", quote(kind)));
            }
        }
    }
    if !same(certificate(new), certificate(old)) {
        let path = Path::new("status.certificate");
        if decides != Decides::Certificate {
            wrong.forbidden(&path, "updates may not set certificate content");
        } else if !certificate(old).as_str().unwrap_or_default().is_empty() {
            wrong.forbidden(&path, "updates may not modify existing certificate content");
        }
    }
    meta::object_meta_update(new, old, wrong);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(judge: impl FnOnce(&mut Wrong)) -> Vec<String> {
        let mut wrong = Wrong::default();
        judge(&mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_signer_is_a_domain_and_a_path() {
        let judge = |name: &str| texts(|wrong| signer_name(&Path::new("s"), name, wrong)).len();
        for (name, count) in
            [("a.b/c", 0), ("a.b/c.d", 0), ("", 1), ("a.b", 1), ("a.b/c/d", 1), ("a/c", 1), ("A.b/C", 2)]
        {
            assert_eq!(judge(name), count, "{name}");
        }
        let label = "a".repeat(63);
        let domain = [&*label; 4].join(".");
        assert_eq!(judge(&format!("{domain}/c")), 1);
        assert_eq!(judge(&format!("{}/{}", &domain[..253], [&*label; 6].join("."))), 1);
    }

    #[test]
    fn conditions_get_the_times_they_lack() {
        let members = |value: Value| value.as_object().unwrap().clone();
        let old = members(
            json!({"status": {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "then"}]}}),
        );
        let mut new = members(json!({"status": {"conditions": [
            {"type": "Failed", "status": "True"}, {"type": "Denied", "status": "True", "lastUpdateTime": "said"}]}}));
        stamp(&mut new, &old, "now");
        let conditions = conditions(&new);
        assert_eq!(
            (string(&conditions[0], "lastUpdateTime"), string(&conditions[0], "lastTransitionTime")),
            ("now", "then")
        );
        assert_eq!(
            (string(&conditions[1], "lastUpdateTime"), string(&conditions[1], "lastTransitionTime")),
            ("said", "now")
        );
    }
}
