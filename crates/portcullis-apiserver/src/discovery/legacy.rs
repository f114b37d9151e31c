//! The legacy documents: `/api`, `/apis`, a group, and a version's resources.
//!
//! Compat: `apiserver/pkg/endpoints/discovery` and `kube-aggregator/pkg/apiserver/handler_apis.go` of Kubernetes 1.37.

use serde_json::{Value, json};

use super::entries::{Entry, entries, groups, versions};
use crate::json;
use crate::resources::api_version;
use crate::resources::subresources::Subresource;

/// Every document with its path. `address` is where clients find the server, as host and port.
pub(super) fn documents(address: &str) -> Vec<(String, Value)> {
    let cidr = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]);
    let core = versions("");
    let mut all =
        vec![("/api".to_owned(), json!({"kind": "APIVersions", "versions": core, "serverAddressByClientCIDRs": cidr}))];
    all.extend(core.iter().map(|version| (format!("/api/{version}"), resource_list("", version))));
    let mut list = Vec::new();
    for group in groups().filter(|group| !group.is_empty()) {
        let value = group_value(group);
        let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
        if let (Value::Object(out), Value::Object(members)) = (&mut document, value.clone()) {
            out.extend(members);
        }
        all.push((format!("/apis/{group}"), document));
        for version in versions(group) {
            all.push((format!("/apis/{group}/{version}"), resource_list(group, version)));
        }
        list.push(value);
    }
    all.push(("/apis".to_owned(), json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})));
    all
}

fn group_value(group: &str) -> Value {
    let version = |version: &&str| json!({"groupVersion": api_version(group, version), "version": version});
    let all: Vec<Value> = versions(group).iter().map(version).collect();
    let preferred = all.first().cloned().unwrap_or_default();
    json!({"name": group, "versions": all, "preferredVersion": preferred})
}

/// Compat: the core group's list has no `apiVersion`.
fn resource_list(group: &str, version: &str) -> Value {
    let mut list = json!({"kind": "APIResourceList"});
    if !group.is_empty() {
        json::set(&mut list, "apiVersion", json!("v1"));
    }
    json::set(&mut list, "groupVersion", json!(api_version(group, version)));
    let mut resources = Vec::new();
    for entry in entries(group, version) {
        resources.push(resource(&entry));
        resources.extend(entry.subresources.iter().map(|sub| subresource(&entry, sub)));
    }
    json::set(&mut list, "resources", Value::Array(resources));
    list
}

fn resource(entry: &Entry) -> Value {
    let mut out = json!({"name": entry.plural, "singularName": entry.singular, "namespaced": entry.namespaced,
        "kind": entry.kind, "verbs": entry.verbs});
    if !entry.short_names.is_empty() {
        json::set(&mut out, "shortNames", json!(entry.short_names));
    }
    if !entry.categories.is_empty() {
        json::set(&mut out, "categories", json!(entry.categories));
    }
    if !entry.storage_version_hash.is_empty() {
        json::set(&mut out, "storageVersionHash", json!(entry.storage_version_hash));
    }
    out
}

fn subresource(entry: &Entry, sub: &Subresource) -> Value {
    let mut out = json!({"name": format!("{}/{}", entry.plural, sub.name), "singularName": "",
        "namespaced": entry.namespaced});
    if let Some((group, version)) = sub.kind_group_version {
        json::set(&mut out, "group", json!(group));
        json::set(&mut out, "version", json!(version));
    }
    json::set(&mut out, "kind", json!(sub.kind));
    json::set(&mut out, "verbs", json!(sub.verbs));
    out
}
