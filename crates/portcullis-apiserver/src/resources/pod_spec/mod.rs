//! Pod specifications: what makes a pod, and stands in the template of everything that makes pods.
//!
//! Flow: `fill` (defaults) → `validate` here, with a file each for annotations, containers, their environment, probes,
//! resources and security, volumes and scheduling → `warnings`.
//!
//! Compat: `ValidatePodSpec` of `pkg/apis/core/validation`, for what users write. Sources of volumes that Kubernetes no longer
//! serves are taken as they come.

pub(crate) mod annotations;
mod containers;
mod environment;
pub(crate) mod fill;
mod images;
pub(crate) mod own_resources;
mod probes;
mod resources;
mod scheduling;
pub(crate) mod secrets;
mod security;
pub(crate) mod volumes;
pub(crate) mod warnings;

use std::collections::{BTreeMap, HashSet};

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

pub(crate) use self::resources::{resource_name as container_resource_name, totals};
use super::check::labels::labels;
use super::check::{NOT_NEGATIVE, Path, Wrong, formats, meta};
use super::tree::{Members, at, flag_at, has, list, list_at, members_at, string, string_at};

/// Volumes by name.
type Volumes<'v> = BTreeMap<&'v str, &'v Value>;

/// What surrounds a specification, as far as rules differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    /// The pod's name; `None` in a template.
    pub(crate) pod_name: Option<&'a str>,
}

/// A template: labels, annotations, and the specification.
pub(crate) fn template(template: &Value, path: &Path, wrong: &mut Wrong) {
    let Some(template) = template.as_object() else { return };
    labels(members_at(template, &["metadata", "labels"]), &path.child("labels"), wrong);
    meta::annotations(members_at(template, &["metadata", "annotations"]), &path.child("annotations"), wrong);
    let (spec, noted) = (members_at(template, &["spec"]), members_at(template, &["metadata", "annotations"]));
    annotations::validate(noted, None, spec, &path.child("annotations"), wrong);
    validate(spec, &path.child("spec"), Around { pod_name: None }, wrong);
    annotations::agree(noted, spec, &path.child("spec"), wrong);
    if !list_at(spec, &["ephemeralContainers"]).is_empty() {
        let at = path.child("spec").child("ephemeralContainers");
        wrong.forbidden(&at, "ephemeral containers not allowed in pod template");
    }
}

/// The specification.
pub(crate) fn validate(spec: &Members, path: &Path, around: Around<'_>, wrong: &mut Wrong) {
    let names_of = |name: &str| string_at(spec, &[name]);
    let number = |name: &str| at(spec, &[name]).and_then(Value::as_i64);
    let volumes = volumes::validate(spec, around.pod_name, &path.child("volumes"), wrong);
    resources::pod_claims(spec, &path.child("resourceClaims"), wrong);
    containers::regular(spec, &volumes, &path.child("containers"), wrong);
    containers::init(spec, &volumes, &path.child("initContainers"), wrong);
    containers::ephemeral(spec, &volumes, &path.child("ephemeralContainers"), wrong);
    resources::of_pod(spec, path, wrong);
    if flag_at(spec, &["hostNetwork"]) {
        containers::host_network(spec, around.pod_name.is_some(), &path.child("containers"), wrong);
    }
    let policies = ["Always", "OnFailure", "Never"];
    wrong.required_one_of(&path.child("restartPolicy"), names_of("restartPolicy"), &policies);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    wrong.required_one_of(&path.child("dnsPolicy"), names_of("dnsPolicy"), &policies);
    labels(members_at(spec, &["nodeSelector"]), &path.child("nodeSelector"), wrong);
    pod_security(members_at(spec, &["securityContext"]), &path.child("securityContext"), wrong);
    sysctls(list_at(spec, &["securityContext", "sysctls"]), &path.child("securityContext").child("sysctls"), wrong);
    if flag_at(spec, &["shareProcessNamespace"]) && flag_at(spec, &["hostPID"]) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        wrong.invalid_value(&path.child("shareProcessNamespace"), &Value::Bool(true), why);
    }
    scheduling::affinity(at(spec, &["affinity"]).unwrap_or(&Value::Null), &path.child("affinity"), wrong);
    dns(spec, &path.child("dnsConfig"), wrong);
    for (index, gate) in list_at(spec, &["readinessGates"]).iter().enumerate() {
        let kind = string(gate, "conditionType");
        let at = path.child("readinessGates").index(index).child("conditionType");
        wrong.each(&at, kind, names::label_key(kind));
    }
    scheduling::gates(list_at(spec, &["schedulingGates"]), &path.child("schedulingGates"), wrong);
    scheduling::spread(list_at(spec, &["topologySpreadConstraints"]), &path.child("topologySpreadConstraints"), wrong);
    security::host_processes(spec, path, wrong);
    host_users(spec, path, wrong);
    let subdomain = |name: &str, wrong: &mut Wrong| {
        let text = names_of(name);
        if !text.is_empty() {
            wrong.each(&path.child(name), text, names::dns_subdomain(text));
        }
    };
    subdomain("serviceAccountName", wrong);
    subdomain("nodeName", wrong);
    if let Some(seconds) = number("activeDeadlineSeconds").filter(|n| !(1..=i64::from(i32::MAX)).contains(n)) {
        let why = "must be between 1 and 2147483647, inclusive";
        wrong.push(FieldError::invalid_json(path.child("activeDeadlineSeconds"), &seconds, why));
    }
    for name in ["hostname", "subdomain"] {
        let text = names_of(name);
        if !text.is_empty() {
            wrong.each(&path.child(name), text, names::dns_label(text));
        }
    }
    scheduling::tolerations(list_at(spec, &["tolerations"]), &path.child("tolerations"), wrong);
    for (index, alias) in list_at(spec, &["hostAliases"]).iter().enumerate() {
        let at = path.child("hostAliases").index(index);
        formats::ip(&at.child("ip"), string(alias, "ip"), wrong);
        for (index, host) in list(alias, "hostnames").iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            wrong.each(&at.child("hostnames").index(index), host, names::dns_subdomain(host));
        }
    }
    subdomain("priorityClassName", wrong);
    subdomain("runtimeClassName", wrong);
    wrong.one_of(&path.child("preemptionPolicy"), names_of("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
    if at(spec, &["os"]).is_some_and(|os| !os.is_null()) {
        match string_at(spec, &["os", "name"]) {
            "" => wrong.required(&path.child("os").child("name"), ""),
            system @ ("linux" | "windows") => security::by_system(spec, system, path, wrong),
            name => wrong.not_supported(&path.child("os"), name, &["linux", "windows"]),
        }
    }
}

/// What is asked of a pod and not of a template.
pub(crate) fn only_for_pods(spec: &Members, path: &Path, wrong: &mut Wrong) {
    if string_at(spec, &["serviceAccountName"]).is_empty() {
        for (index, volume) in list_at(spec, &["volumes"]).iter().enumerate() {
            let projected = volume.get("projected").unwrap_or(&Value::Null);
            for (at, source) in list(projected, "sources").iter().enumerate() {
                if has(source, "serviceAccountToken") {
                    let at = path.child("volumes").index(index).child("projected").child("sources").index(at);
                    wrong.forbidden(
                        &at.child("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    );
                }
            }
        }
    }
    if let Some(seconds) = at(spec, &["terminationGracePeriodSeconds"]).and_then(Value::as_i64).filter(|n| *n < 0) {
        wrong.push(FieldError::invalid_json(path.child("terminationGracePeriodSeconds"), &seconds, NOT_NEGATIVE));
    }
    for kind in ["containers", "initContainers"] {
        for (index, container) in list_at(spec, &[kind]).iter().enumerate() {
            let image = string(container, "image");
            if image.trim() != image {
                let at = path.child(kind).index(index).child("image");
                wrong.invalid(&at, image, "must not have leading or trailing whitespace");
            }
        }
    }
}

fn pod_security(context: &Members, path: &Path, wrong: &mut Wrong) {
    for name in ["fsGroup", "runAsUser", "runAsGroup"] {
        if let Some(id) = at(context, &[name]).and_then(Value::as_i64) {
            wrong.each_number(&path.child(name), id, formats::unix_id(id));
        }
    }
    for (index, group) in list_at(context, &["supplementalGroups"]).iter().enumerate() {
        let group = group.as_i64().unwrap_or(0);
        wrong.each_number(&path.child("supplementalGroups").index(index), group, formats::unix_id(group));
    }
    let policy = |name: &str| string_at(context, &[name]);
    wrong.one_of(&path.child("fsGroupChangePolicy"), policy("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    security::seccomp(at(context, &["seccompProfile"]).unwrap_or(&Value::Null), &path.child("seccompProfile"), wrong);
    let windows = at(context, &["windowsOptions"]).unwrap_or(&Value::Null);
    security::windows_options(windows, &path.child("windowsOptions"), wrong);
    security::app_armor(
        at(context, &["appArmorProfile"]).unwrap_or(&Value::Null),
        &path.child("appArmorProfile"),
        wrong,
    );
    let policies = ["Merge", "Strict"];
    wrong.one_of(&path.child("supplementalGroupsPolicy"), policy("supplementalGroupsPolicy"), &policies);
}

fn sysctls(settings: &[Value], path: &Path, wrong: &mut Wrong) {
    const LONGEST: usize = 253;
    const FORM: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let good = |name: &str| name.len() <= LONGEST && name.split(['.', '/']).all(formats::underscored_label);
    let mut seen = HashSet::new();
    for (index, setting) in settings.iter().enumerate() {
        let (name, path) = (string(setting, "name"), path.index(index).child("name"));
        let again = !seen.insert(name);
        if name.is_empty() {
            wrong.required(&path, "");
        } else if !good(name) {
            wrong.invalid(&path, name, format!("must have at most {LONGEST} characters and match regex {FORM}"));
        } else if again {
            wrong.duplicate(&path, name);
        }
    }
}

fn dns(spec: &Members, path: &Path, wrong: &mut Wrong) {
    let config = at(spec, &["dnsConfig"]).unwrap_or(&Value::Null);
    let servers = list(config, "nameservers");
    if string_at(spec, &["dnsPolicy"]) == "None" {
        if config.is_null() {
            wrong.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            wrong.required(&path.child("nameservers"), why);
            return;
        }
    }
    if servers.len() > 3 {
        let why = "must not have more than 3 nameservers";
        wrong.invalid_value(&path.child("nameservers"), &Value::Array(servers.to_vec()), why);
    }
    for (index, server) in servers.iter().enumerate() {
        formats::ip(&path.child("nameservers").index(index), server.as_str().unwrap_or_default(), wrong);
    }
    let searches = list(config, "searches");
    if searches.len() > 32 {
        let why = "must not have more than 32 search paths";
        wrong.invalid_value(&path.child("searches"), &Value::Array(searches.to_vec()), why);
    }
    for (index, search) in searches.iter().filter_map(Value::as_str).enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        wrong.each(&path.child("searches").index(index), search, formats::underscored_subdomain(search));
    }
    for (index, option) in list(config, "options").iter().enumerate() {
        if string(option, "name").is_empty() {
            wrong.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn host_users(spec: &Members, path: &Path, wrong: &mut Wrong) {
    if at(spec, &["hostUsers"]).and_then(Value::as_bool) != Some(false) {
        return;
    }
    for (flag, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag_at(spec, &[flag]) {
            wrong.forbidden(&path.child(shown), "when `hostUsers` is false");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn problems(spec: Value) -> Vec<String> {
        let mut spec = json!({"spec": spec}).as_object().unwrap().clone();
        super::super::defaults::fill(crate::schema::SCHEMA.find("core.Pod").unwrap(), &mut spec);
        let mut wrong = Wrong::default();
        let (spec, path) = (members_at(&spec, &["spec"]), Path::new("spec"));
        validate(spec, &path, Around { pod_name: Some("p") }, &mut wrong);
        only_for_pods(spec, &path, &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mistakes_are_listed_in_the_real_servers_order() {
        let found = problems(
            json!({"containers": [{"name": "C", "image": ""}, {"name": "a"}, {"name": "a", "image": " i "}],
            "restartPolicy": "No", "dnsPolicy": "None", "nodeSelector": {"a b": "c"}, "activeDeadlineSeconds": 0, "hostname": "A"}),
        );
        let starts = [
            "spec.containers[0].name: Invalid value: \"C\"",
            "spec.containers[0].image: Required value",
            "spec.containers[1].image: Required value",
            "spec.containers[2].name: Duplicate value: \"a\"",
            "spec.restartPolicy: Unsupported value: \"No\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            "spec.nodeSelector: Invalid value: \"a b\"",
            "spec.dnsConfig: Required value: must provide `dnsConfig`",
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            "spec.hostname: Invalid value: \"A\"",
            "spec.containers[2].image: Invalid value: \" i \": must not have leading or trailing whitespace",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
    }

    #[test]
    fn a_template_is_judged_like_a_pod_but_for_its_name() {
        let template = json!({"metadata": {"labels": {"a": "b c"}}, "spec": {"ephemeralContainers": [{"name": "e", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}], "containers": [],
            "restartPolicy": "Always", "dnsPolicy": "Default"}});
        let mut wrong = Wrong::default();
        super::template(&template, &Path::new("spec.template"), &mut wrong);
        let fields: Vec<String> = wrong.finish().into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            ["spec.template.labels", "spec.template.spec.containers", "spec.template.spec.ephemeralContainers"]
        );
    }

    #[test]
    fn a_pod_of_its_own_users_shares_nothing_with_the_host() {
        let found = problems(json!({"hostUsers": false, "hostPID": true, "containers": [{"name": "c", "image": "i"}]}));
        assert_eq!(found, ["spec.HostPID: Forbidden: when `hostUsers` is false"]);
    }
}
