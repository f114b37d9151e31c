//! What this server serves, told to clients: the legacy documents, the aggregated one, and a minimal OpenAPI v3.
//!
//! All are made once at start. The aggregated document carries an ETag; kubectl asks for it first and keeps it on disk.
//! OpenAPI says only what clients look for before they write: the kinds, and that PATCH takes `fieldValidation` (so that
//! kubectl leaves validation to the server).

use std::collections::HashMap;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use portcullis_kube::discovery::AGGREGATED_MEDIA_TYPE;
use serde_json::{Value, json};

use crate::http::Call;
use crate::http::negotiate::{Accepted, Encoding, clauses};
use crate::http::reply::{Payload, Reply};
use crate::json;
use crate::resources::{ALL, GROUPS, REVIEWS, Resource, Review, api_version};

/// The documents of one server.
#[derive(Debug)]
pub(crate) struct Discovery {
    /// By path, without a final slash.
    documents: HashMap<String, Bytes>,
    aggregated: HashMap<&'static str, (Bytes, String)>,
}

impl Discovery {
    /// `address` is where clients find the server, as host and port.
    pub(crate) fn new(address: &str) -> Self {
        let mut documents = HashMap::new();
        let mut put = |path: String, value: &Value| documents.insert(path, Bytes::from(json::to_vec(value)));
        let cidr = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]);
        put("/api".to_owned(), &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": cidr}));
        put("/api/v1".to_owned(), &resource_list(""));
        let group_value = |group: &str| {
            let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
            json!({"name": group, "versions": [version], "preferredVersion": version})
        };
        let groups: Vec<Value> = GROUPS.iter().map(|group| group_value(group)).collect();
        put("/apis".to_owned(), &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}));
        for group in GROUPS {
            let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
            if let (Value::Object(out), Value::Object(members)) = (&mut document, group_value(group)) {
                out.extend(members);
            }
            put(format!("/apis/{group}"), &document);
            put(format!("/apis/{group}/v1"), &resource_list(group));
        }
        let mut index = serde_json::Map::new();
        for group in ["", GROUPS[0], GROUPS[1], GROUPS[2]] {
            let place = if group.is_empty() { "api/v1".to_owned() } else { format!("apis/{group}/v1") };
            let document = openapi(group);
            let hash = hex(&json::to_vec(&document));
            put(format!("/openapi/v3/{place}"), &document);
            index.insert(place.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{place}?hash={hash}")}));
        }
        put("/openapi/v3".to_owned(), &json!({"paths": index}));
        let aggregated = [("/api", aggregate(&[""])), ("/apis", aggregate(&GROUPS))];
        let aggregated = aggregated.into_iter().map(|(path, value)| {
            let bytes = json::to_vec(&value);
            let etag = format!("\"{}\"", hex(&bytes));
            (path, (Bytes::from(bytes), etag))
        });
        Self { documents, aggregated: aggregated.collect() }
    }

    /// The document at the call's path; `None` when there is none.
    pub(crate) fn answer(&self, call: &Call, accepted: Accepted) -> Option<Reply> {
        let path = match call.path.strip_suffix('/') {
            Some(without) if !call.path.starts_with("/openapi") => without,
            _ => &call.path,
        };
        if let Some((bytes, etag)) = self.aggregated.get(path)
            && asks_for_aggregated(call.header(http::header::ACCEPT))
        {
            return Some(aggregated_reply(call, bytes, etag, accepted.encoding));
        }
        let document = self.documents.get(path)?;
        let mut reply = Reply::json_bytes(200, document.clone(), accepted.encoding);
        if self.aggregated.contains_key(path) {
            reply.headers.insert(VARY, HeaderValue::from_static("Accept"));
        }
        Some(reply)
    }

    /// Every path that has a document.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.documents.keys().map(String::as_str)
    }
}

/// Whether the first clause that can be served is the aggregated document.
fn asks_for_aggregated(accept: &str) -> bool {
    let served = clauses(accept).into_iter().find_map(|clause| {
        let aggregated = clause.param("as") == "APIGroupDiscoveryList"
            && clause.param("g") == "apidiscovery.k8s.io"
            && clause.param("v") == "v2";
        match clause.media_type {
            "application/json" if aggregated => Some(true),
            "application/json" | "application/*" | "*/*" | "application/yaml" if clause.param("as").is_empty() => {
                Some(false)
            }
            _ => None,
        }
    });
    served == Some(true)
}

fn aggregated_reply(call: &Call, bytes: &Bytes, etag: &str, encoding: Encoding) -> Reply {
    let known = call.header(IF_NONE_MATCH).split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == etag);
    let encoding = if encoding == Encoding::Pretty { Encoding::Pretty } else { Encoding::Json };
    let mut reply = Reply::json_bytes(if known { 304 } else { 200 }, bytes.clone(), encoding);
    if known {
        reply.payload = Payload::Whole(Bytes::new());
    }
    // Without the echo of `g`, `v` and `as`, clients read the answer as a legacy document.
    reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED_MEDIA_TYPE));
    reply.headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    reply.headers.insert(VARY, HeaderValue::from_static("Accept"));
    reply.set(ETAG, etag);
    reply
}

/// Compat: the core group's list has no `apiVersion`.
fn resource_list(group: &str) -> Value {
    let mut list = json!({"kind": "APIResourceList"});
    if !group.is_empty() {
        json::set(&mut list, "apiVersion", json!("v1"));
    }
    json::set(&mut list, "groupVersion", json!(api_version(group, "v1")));
    let stored = ALL.iter().filter(|resource| resource.group == group).map(legacy_resource);
    let reviews = REVIEWS.iter().filter(|review| review.group == group).map(legacy_review);
    json::set(&mut list, "resources", Value::Array(stored.chain(reviews).collect()));
    list
}

fn legacy_resource(resource: &Resource) -> Value {
    let mut out = json!({"name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs});
    names(&mut out, resource);
    json::set(&mut out, "storageVersionHash", json!(resource.storage_version_hash));
    out
}

fn legacy_review(review: &Review) -> Value {
    json!({"name": review.plural, "singularName": review.singular, "namespaced": review.namespaced,
        "kind": review.kind, "verbs": ["create"]})
}

fn names(out: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        json::set(out, "shortNames", json!(resource.short_names));
    }
    if !resource.categories.is_empty() {
        json::set(out, "categories", json!(resource.categories));
    }
}

fn aggregate(groups: &[&str]) -> Value {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let stored = ALL.iter().filter(|resource| resource.group == *group).map(|resource| {
                let mut out = aggregated_resource(resource.plural, resource.singular, resource.kind, resource.namespaced, resource.verbs);
                names(&mut out, resource);
                out
            });
            let reviews = REVIEWS.iter().filter(|review| review.group == *group).map(|review| {
                aggregated_resource(review.plural, review.singular, review.kind, review.namespaced, &["create"])
            });
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            let resources: Vec<Value> = stored.chain(reviews).collect();
            json!({"metadata": metadata, "versions": [{"version": "v1", "resources": resources, "freshness": "Current"}]})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(plural: &str, singular: &str, kind: &str, namespaced: bool, verbs: &[&str]) -> Value {
    json!({"resource": plural, "responseKind": {"group": "", "version": "", "kind": kind},
        "scope": if namespaced { "Namespaced" } else { "Cluster" }, "singularResource": singular, "verbs": verbs})
}

fn openapi(group: &str) -> Value {
    let mut paths = serde_json::Map::new();
    let parameter =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"].map(parameter).into();
    for resource in ALL.iter().filter(|resource| resource.group == group && resource.verbs.contains(&"patch")) {
        let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
        let namespace = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let kind = json!({"group": group, "version": "v1", "kind": resource.kind});
        let patch = json!({"operationId": format!("patch{}", resource.kind), "parameters": parameters,
            "requestBody": {"content": {"application/merge-patch+json": {"schema": {"type": "object"}}}},
            "responses": {"200": {"description": "OK"}}, "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": kind});
        paths.insert(format!("{root}{namespace}/{}/{{name}}", resource.plural), json!({"patch": patch}));
    }
    json!({"openapi": "3.0.0", "info": {"title": "Portcullis dev API server", "version": "v1.37"}, "paths": paths, "components": {"schemas": {}}})
}

fn hex(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA512, bytes).as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::negotiate::{Form, negotiate};

    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

    fn get(line: &str, headers: &[(&'static str, &str)]) -> Option<Reply> {
        let call = headers.iter().fold(Call::test(line, ""), |call, (name, value)| call.with(name, value));
        let accepted = negotiate(call.header(http::header::ACCEPT), false, false)
            .unwrap_or(Accepted { encoding: Encoding::Json, form: Form::Object });
        Discovery::new("127.0.0.1:6443").answer(&call, accepted)
    }

    fn tree(reply: &Reply) -> Value {
        serde_json::from_slice(reply.bytes()).unwrap()
    }

    #[test]
    fn the_aggregated_document_echoes_its_media_type_and_honours_its_etag() {
        let reply = get("GET /apis?timeout=32s", &[("accept", AGGREGATED)]).unwrap();
        assert_eq!(reply.headers[CONTENT_TYPE], AGGREGATED_MEDIA_TYPE);
        assert_eq!(tree(&reply)["items"][2]["metadata"]["name"], "rbac.authorization.k8s.io");
        let etag = reply.headers[ETAG].to_str().unwrap();
        let again = get("GET /apis", &[("accept", AGGREGATED), ("if-none-match", etag)]).unwrap();
        assert_eq!((again.status.as_u16(), again.bytes().len()), (304, 0));
        let other = get("GET /apis", &[("accept", AGGREGATED), ("if-none-match", "\"x\"")]).unwrap();
        assert_eq!(other.status.as_u16(), 200);
    }

    #[test]
    fn the_first_clause_that_is_served_decides() {
        for (accept, aggregated) in [
            (AGGREGATED, true),
            ("application/json", false),
            ("application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,application/json", false),
            ("application/json,application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", false),
        ] {
            let reply = get("GET /api", &[("accept", accept)]).unwrap();
            assert_eq!(tree(&reply)["kind"] == "APIGroupDiscoveryList", aggregated, "{accept}");
        }
    }

    #[test]
    fn legacy_documents_are_at_their_paths_with_and_without_a_slash() {
        for (path, kind) in [
            ("/api", "APIVersions"),
            ("/api/", "APIVersions"),
            ("/api/v1", "APIResourceList"),
            ("/apis", "APIGroupList"),
            ("/apis/rbac.authorization.k8s.io", "APIGroup"),
            ("/apis/rbac.authorization.k8s.io/v1/", "APIResourceList"),
        ] {
            assert_eq!(tree(&get(&format!("GET {path}"), &[]).unwrap())["kind"], kind, "{path}");
        }
        assert!(get("GET /apis/foo", &[]).is_none());
        assert_eq!(tree(&get("GET /api/v1", &[]).unwrap()).get("apiVersion"), None);
    }

    #[test]
    fn openapi_names_every_kind_that_can_be_written() {
        let index = tree(&get("GET /openapi/v3", &[]).unwrap());
        let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
        let document = tree(&get(&format!("GET {url}"), &[]).unwrap());
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Pod");
        assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    }
}
