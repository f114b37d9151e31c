//! `ServiceAccount`: a pod runs as an account of its namespace, and gets what that account brings: a token, and secrets with
//! which images are pulled.
//!
//! Compat: `plugin/pkg/admission/serviceaccount` of Kubernetes 1.37. Upstream waits for a second for the account `default`, which
//! a controller makes; here it is made at once.

use std::collections::HashSet;

use portcullis_kube::Status;
use portcullis_kube::go::{parse_bool, quote};
use serde_json::{Value, json};

use super::{refuse, told_name};
use crate::engine::Engine;
use crate::handlers::Asked;
use crate::http::Outcome;
use crate::parts::MIRROR_ANNOTATION;
use crate::resources::pod_spec::secrets;
use crate::resources::tree::{Members, at, has, list, list_at, members_at, object, objects_mut, string, string_at};
use crate::resources::{service_accounts, strategy};

const DEFAULT: &str = "default";
/// Beginning of the name of the volume with the token.
const VOLUME: &str = "kube-api-access-";
/// Where a container finds the token.
const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What a token in a pod is asked for: an hour, and a margin in which old clients are warned.
const SECONDS: u32 = 3_607;
/// On an account: its pods may use no other secrets than those that it names.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Gives a new pod its account and what comes with it.
pub(super) fn change_new(engine: &Engine, asked: &Asked<'_>, pod: &mut Members) -> Outcome<()> {
    // The kubelet knows its own pods by what they are made of.
    if is_mirror(pod) {
        return judge_new(engine, asked, pod);
    }
    if string_at(pod, &["spec", "serviceAccountName"]).is_empty() {
        let spec = object(pod, "spec");
        spec.insert("serviceAccountName".to_owned(), json!(DEFAULT));
        spec.insert("serviceAccount".to_owned(), json!(DEFAULT));
    }
    let account = account(engine, asked, pod)?;
    let wish = at(pod, &["spec", "automountServiceAccountToken"]).and_then(Value::as_bool);
    let of_account = || account.get("automountServiceAccountToken").and_then(Value::as_bool);
    let spec = object(pod, "spec");
    if wish.or_else(of_account).unwrap_or(true) {
        mount_token(engine, spec);
    }
    if list_at(spec, &["imagePullSecrets"]).is_empty() {
        let secrets = list_at(&account, &["imagePullSecrets"]).iter();
        let secrets: Vec<Value> = secrets.map(|secret| json!({"name": string(secret, "name")})).collect();
        if !secrets.is_empty() {
            spec.insert("imagePullSecrets".to_owned(), secrets.into());
        }
    }
    judge_new(engine, asked, pod)
}

/// Refuses a pod without an account, and one that uses what its account does not let it.
pub(super) fn judge_new(engine: &Engine, asked: &Asked<'_>, pod: &Members) -> Outcome<()> {
    if is_mirror(pod) {
        return match wrong_in_mirror(pod) {
            Some(why) => refuse(asked, pod, why),
            None => Ok(()),
        };
    }
    let account = account(engine, asked, pod)?;
    match enforces(&account).then(|| secret_beyond(&account, pod)).flatten() {
        Some(why) => refuse(asked, pod, &why),
        None => Ok(()),
    }
}

/// Refuses ephemeral containers that use what the pod's account does not let it.
pub(super) fn judge_ephemeral(engine: &Engine, asked: &Asked<'_>, pod: &Members) -> Outcome<()> {
    let account = account(engine, asked, pod)?;
    if !enforces(&account) {
        return Ok(());
    }
    let known = names(&account, "secrets");
    let containers = list_at(pod, &["spec", "ephemeralContainers"]);
    match containers.iter().find_map(|one| container_beyond("ephemeral container", one, &known, &account)) {
        // Compat: this one refusal is no 403.
        Some(why) => Err(Box::new(Status::failure(500, "", why))),
        None => Ok(()),
    }
}

fn is_mirror(pod: &Members) -> bool {
    at(pod, &["metadata", "annotations", MIRROR_ANNOTATION]).is_some()
}

/// What a pod that a kubelet mirrors may not have: the kubelet has no account's rights.
fn wrong_in_mirror(pod: &Members) -> Option<&'static str> {
    if !string_at(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    let spec = members_at(pod, &["spec"]);
    if secrets::any(spec) {
        return Some("a mirror pod may not reference secrets");
    }
    let volumes = list_at(spec, &["volumes"]).iter();
    let mut sources = volumes.filter_map(|volume| volume.get("projected")).flat_map(|one| list(one, "sources"));
    sources
        .any(|source| has(source, "serviceAccountToken"))
        .then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// The account that a pod names.
fn account(engine: &Engine, asked: &Asked<'_>, pod: &Members) -> Outcome<Members> {
    let name = string_at(pod, &["spec", "serviceAccountName"]);
    if name.is_empty() {
        let why = format!("no service account specified for pod {}/{}", asked.namespace, told_name(pod));
        return refuse(asked, pod, &why).map(|()| Members::new());
    }
    let find = || engine.store.get(service_accounts(), asked.namespace, name).map(|account| account.members());
    let made = || {
        // It may be gone for a moment, when somebody has deleted it.
        (name == DEFAULT).then(|| engine.keep_up(service_accounts(), asked.namespace, name))?;
        find()
    };
    find().or_else(made).ok_or_else(|| {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount {} not found",
            asked.namespace,
            quote(name)
        );
        super::refusal(asked, told_name(pod), &why)
    })
}

/// Mounts the account's token, the authority of the server and the name of the namespace in every container that has nothing
/// else there.
fn mount_token(engine: &Engine, spec: &mut Members) {
    let mut names = list_at(spec, &["volumes"]).iter().map(|volume| string(volume, "name"));
    let there = names.find(|name| name.starts_with(VOLUME)).map(str::to_owned);
    let name = there.clone().unwrap_or_else(|| strategy::generated_name(VOLUME, &engine.rng));
    let mount = json!({"name": name, "readOnly": true, "mountPath": PATH});
    let mut needed = false;
    for containers in ["initContainers", "containers"] {
        for container in objects_mut(spec, containers) {
            let taken = list_at(container, &["volumeMounts"]).iter().any(|mount| string(mount, "mountPath") == PATH);
            if !taken {
                push(container, "volumeMounts", mount.clone());
                needed = true;
            }
        }
    }
    if needed && there.is_none() {
        let sources = json!([
            {"serviceAccountToken": {"path": "token", "expirationSeconds": SECONDS}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]);
        push(spec, "volumes", json!({"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}));
    }
}

fn push(members: &mut Members, list: &str, item: Value) {
    match members.get_mut(list) {
        Some(Value::Array(items)) => items.push(item),
        _ => drop(members.insert(list.to_owned(), json!([item]))),
    }
}

fn enforces(account: &Members) -> bool {
    // What Go reads as true.
    let annotation = string_at(account, &["metadata", "annotations", ENFORCE]);
    parse_bool(annotation).unwrap_or(false)
}

/// Names of the secrets in one of an account's lists.
fn names<'a>(account: &'a Members, list: &str) -> HashSet<&'a str> {
    list_at(account, &[list]).iter().map(|secret| string(secret, "name")).collect()
}

/// The first secret of a pod that its account does not name, as a refusal tells it.
fn secret_beyond(account: &Members, pod: &Members) -> Option<String> {
    let (known, of) = (names(account, "secrets"), string_at(account, &["metadata", "name"]));
    for volume in list_at(pod, &["spec", "volumes"]).iter().filter_map(|volume| volume.get("secret")) {
        let secret = string(volume, "secretName");
        if !known.contains(secret) {
            return Some(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {of} does not reference that \
                 secret"
            ));
        }
    }
    for (list, what) in [("initContainers", "init container"), ("containers", "container")] {
        let mut containers = list_at(pod, &["spec", list]).iter();
        if let Some(why) = containers.find_map(|one| container_beyond(what, one, &known, account)) {
            return Some(why);
        }
    }
    let known = names(account, "imagePullSecrets");
    for (index, secret) in list_at(pod, &["spec", "imagePullSecrets"]).iter().enumerate() {
        let secret = string(secret, "name");
        if !known.contains(secret) {
            return Some(format!(
                "imagePullSecrets[{index}].name=\"{secret}\" is not allowed because service account {of} does not reference that \
                 imagePullSecret"
            ));
        }
    }
    None
}

fn container_beyond(what: &str, container: &Value, known: &HashSet<&str>, account: &Members) -> Option<String> {
    let (name, of) = (string(container, "name"), string_at(account, &["metadata", "name"]));
    let told = |place: &str, secret: &str| {
        format!(
            "{what} {name} with {place} referencing secret.secretName=\"{secret}\" is not allowed because service account {of} \
             does not reference that secret"
        )
    };
    for variable in list(container, "env") {
        let secret = variable.get("valueFrom").and_then(|from| from.get("secretKeyRef")).filter(|one| one.is_object());
        if let Some(secret) = secret.map(|one| string(one, "name")).filter(|name| !known.contains(name)) {
            return Some(told(&format!("envVar {}", string(variable, "name")), secret));
        }
    }
    for source in list(container, "envFrom") {
        let secret = source.get("secretRef").filter(|one| one.is_object());
        if let Some(secret) = secret.map(|one| string(one, "name")).filter(|name| !known.contains(name)) {
            return Some(told("envFrom", secret));
        }
    }
    None
}
