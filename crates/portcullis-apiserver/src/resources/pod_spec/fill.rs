//! Defaults of pods and of what pods are made of.

use serde_json::{Value, json};

use super::super::tree::{Members, at, default, default_number, flag_at, list_at, object, objects_mut, string_at};
use super::{images, own_resources};

/// Who may read a mounted file: everyone, and its owner may write it.
const FILE_MODE: i64 = 0o644;

/// What only a pod gets, and no template.
pub(crate) fn pod(members: &mut Members) {
    let spec = object(members, "spec");
    if at(spec, &["terminationGracePeriodSeconds"]).and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), json!(1));
    }
    let host_network = flag_at(spec, &["hostNetwork"]);
    for list in ["containers", "initContainers"] {
        for container in objects_mut(spec, list) {
            request_what_is_limited(container);
            if host_network {
                for port in objects_mut(container, "ports") {
                    let number = at(port, &["containerPort"]).and_then(Value::as_i64).unwrap_or(0);
                    if number != 0 {
                        default_number(port, "hostPort", number);
                    }
                }
            }
        }
    }
    default(spec, "enableServiceLinks", true);
}

fn request_what_is_limited(container: &mut Members) {
    let Some(Value::Object(limits)) = at(container, &["resources", "limits"]).cloned() else { return };
    let requests = object(object(container, "resources"), "requests");
    for (name, amount) in limits {
        requests.entry(name).or_insert(amount);
    }
}

/// What every pod specification gets.
pub(crate) fn pod_spec(spec: &mut Members) {
    // Compat: by a gate that is off (`GenericWorkload`).
    spec.shift_remove("schedulingGroup");
    let old_name = string_at(spec, &["serviceAccount"]).to_owned();
    if !old_name.is_empty() {
        default(spec, "serviceAccountName", old_name);
    }
    match string_at(spec, &["serviceAccountName"]).to_owned() {
        name if name.is_empty() => drop(spec.shift_remove("serviceAccount")),
        name => drop(spec.insert("serviceAccount".to_owned(), json!(name))),
    }
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
}

/// The one address and the list of addresses say the same.
pub(crate) fn pod_status(status: &mut Members) {
    let single = string_at(status, &["podIP"]).to_owned();
    let first = list_at(status, &["podIPs"]).first().and_then(|first| first.get("ip")).and_then(Value::as_str);
    match (single.is_empty(), first.map(str::to_owned)) {
        (false, first) if first.as_deref() != Some(&single) => {
            status.insert("podIPs".to_owned(), json!([{"ip": single}]));
        }
        (true, Some(first)) => drop(status.insert("podIP".to_owned(), json!(first))),
        _ => {}
    }
}

/// Pull policy, and where the last words go.
pub(crate) fn container(container: &mut Members) {
    let policy = pull_policy(string_at(container, &["image"]));
    default(container, "imagePullPolicy", policy);
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
}

/// An image without a tag of its own may be another one tomorrow. Compat: of what is no image, nothing is known.
fn pull_policy(image: &str) -> &'static str {
    if images::tag_of(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

pub(crate) fn protocol(port: &mut Members) {
    default(port, "protocol", "TCP");
}

pub(crate) fn probe(probe: &mut Members) {
    for (name, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        default_number(probe, name, value);
    }
}

pub(crate) fn http_get(action: &mut Members) {
    default(action, "path", "/");
    default(action, "scheme", "HTTP");
}

pub(crate) fn grpc(action: &mut Members) {
    action.entry("service").or_insert_with(|| json!(""));
}

pub(crate) fn field_ref(selector: &mut Members) {
    default(selector, "apiVersion", "v1");
}

pub(crate) fn file_key(selector: &mut Members) {
    default(selector, "optional", false);
}

pub(crate) fn file_mode(source: &mut Members) {
    default(source, "defaultMode", FILE_MODE);
}

pub(crate) fn token_projection(projection: &mut Members) {
    default(projection, "expirationSeconds", 3_600);
}

pub(crate) fn host_path(source: &mut Members) {
    source.entry("type").or_insert_with(|| json!(""));
}

/// A volume of which nothing is said but its name is an empty folder.
pub(crate) fn volume(volume: &mut Members) {
    if volume.keys().all(|name| name == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    if let Some(Value::Object(image)) = volume.get_mut("image") {
        let policy = pull_policy(string_at(image, &["reference"]));
        default(image, "pullPolicy", policy);
    }
}

pub(crate) fn iscsi(source: &mut Members) {
    default(source, "iscsiInterface", "default");
}

pub(crate) fn rbd(source: &mut Members) {
    default(source, "pool", "rbd");
    default(source, "user", "admin");
    default(source, "keyring", "/etc/ceph/keyring");
}

pub(crate) fn scale_io(source: &mut Members) {
    default(source, "storageMode", "ThinProvisioned");
    default(source, "fsType", "xfs");
}

pub(crate) fn azure_disk(source: &mut Members) {
    for (name, value) in [
        ("cachingMode", json!("ReadWrite")),
        ("fsType", json!("ext4")),
        ("readOnly", json!(false)),
        ("kind", json!("Shared")),
    ] {
        default(source, name, value);
    }
}

/// Whether any container asks for resources; with [`guaranteed`] it decides the quality of service.
fn asks(spec: &Members) -> bool {
    containers(spec).any(|container| {
        ["requests", "limits"].iter().any(|kind| {
            container
                .pointer(&format!("/resources/{kind}"))
                .and_then(Value::as_object)
                .is_some_and(|list| list.iter().any(|(name, amount)| counts(name) && !is_zero(amount)))
        })
    })
}

fn counts(name: &str) -> bool {
    matches!(name, "cpu" | "memory")
}

fn is_zero(amount: &Value) -> bool {
    amount.as_str().is_none_or(|text| {
        crate::schema::quantity::Quantity::parse(text).is_ok_and(crate::schema::quantity::Quantity::is_zero)
    })
}

fn containers(spec: &Members) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"].into_iter().flat_map(|list| list_at(spec, &[list]))
}

/// The quality of service that a pod of this specification gets.
///
/// Compat: `pkg/apis/core/v1/helper/qos`.
pub(crate) fn quality(spec: &Members) -> &'static str {
    if let Some(quality) = own_resources::quality(spec) {
        return quality;
    }
    if !asks(spec) {
        return "BestEffort";
    }
    let guaranteed = containers(spec).all(|container| {
        ["cpu", "memory"].iter().all(|name| {
            let amount = |kind: &str| container.pointer(&format!("/resources/{kind}/{name}"));
            amount("limits")
                .is_some_and(|limit| !is_zero(limit) && amount("requests").is_none_or(|request| request == limit))
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Value) -> Members {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn image_tags_decide_the_pull_policy() {
        for (image, policy) in [
            ("", "IfNotPresent"),
            ("a", "Always"),
            ("a:latest", "Always"),
            ("a:1", "IfNotPresent"),
            ("r.io:5000/a", "Always"),
            ("r.io:5000/a:2", "IfNotPresent"),
            ("a@sha256:0", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn limits_become_requests_and_host_ports_follow() {
        let mut pod_of =
            members(json!({"spec": {"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}]}}));
        pod(&mut pod_of);
        let container = &pod_of["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
        assert_eq!(container["ports"][0]["hostPort"], 80);
    }

    #[test]
    fn resources_decide_the_quality_of_service() {
        let of = |resources: Value| quality(&members(json!({"containers": [{"resources": resources}]})));
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({"limits": {"example.com/gpu": "1"}})), "BestEffort");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(of(json!({"limits": both, "requests": both})), "Guaranteed");
        assert_eq!(of(json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Gi"}})), "Burstable");
    }

    #[test]
    fn old_and_new_names_of_the_account_agree() {
        let mut old = members(json!({"serviceAccount": "a"}));
        pod_spec(&mut old);
        assert_eq!((&old["serviceAccountName"], &old["serviceAccount"]), (&json!("a"), &json!("a")));
        let mut both = members(json!({"serviceAccount": "a", "serviceAccountName": "b"}));
        pod_spec(&mut both);
        assert_eq!(both["serviceAccount"], "b");
    }

    #[test]
    fn groups_of_pods_are_not_kept() {
        let mut spec = members(json!({"schedulingGroup": {"podGroupName": "g"}}));
        pod_spec(&mut spec);
        assert!(!spec.contains_key("schedulingGroup"));
    }

    #[test]
    fn a_bare_volume_is_an_empty_folder() {
        let mut bare = members(json!({"name": "v"}));
        volume(&mut bare);
        assert_eq!(bare["emptyDir"], json!({}));
        let mut named = members(json!({"name": "v", "configMap": {"name": "c"}}));
        volume(&mut named);
        assert_eq!(named.get("emptyDir"), None);
    }
}
