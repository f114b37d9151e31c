//! The aggregated documents: everything below `/api` or `/apis` in one answer, with an ETag. kubectl asks for them first
//! and keeps them on disk.
//!
//! Compat: `apiserver/pkg/endpoints/discovery/aggregated` of Kubernetes 1.37. Its v2beta1 form is gone since 1.33; the peer
//! profile (`profile=nopeer`) makes no difference, because there are no peers.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, StatusCode};
use portcullis_kube::discovery::AGGREGATED_MEDIA_TYPE;
use serde_json::{Value, json};

use super::entries::{Entry, entries, groups, versions};
use crate::http::Call;
use crate::http::negotiate::Encoding;
use crate::http::reply::Reply;
use crate::json;

const YAML_MEDIA_TYPE: &str = "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One of the two documents.
#[derive(Debug)]
pub(super) struct Aggregated {
    bytes: Bytes,
    /// In double quotes.
    etag: String,
}

impl Aggregated {
    /// The core group's document, or that of all others.
    pub(super) fn new(core: bool) -> Self {
        let items: Vec<Value> = groups().filter(|group| group.is_empty() == core).map(group_value).collect();
        let document = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
            "items": items});
        let bytes = json::to_vec(&document);
        Self { etag: format!("\"{}\"", super::hash(&bytes)), bytes: bytes.into() }
    }

    pub(super) fn reply(&self, call: &Call, encoding: Encoding) -> Reply {
        let mut reply = if call.header(IF_NONE_MATCH) == self.etag {
            Reply::empty(StatusCode::NOT_MODIFIED, HeaderMap::new())
        } else {
            let mut reply = Reply::json_bytes(200, self.bytes.clone(), encoding);
            // Without the echo of `g`, `v` and `as`, clients read the answer as a legacy document.
            let media_type = if encoding == Encoding::Yaml { YAML_MEDIA_TYPE } else { AGGREGATED_MEDIA_TYPE };
            reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            reply
        };
        reply.headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        reply.headers.insert(VARY, HeaderValue::from_static("Accept"));
        reply.set(ETAG, &self.etag);
        reply
    }
}

fn group_value(group: &str) -> Value {
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    let versions: Vec<Value> = versions(group)
        .into_iter()
        .map(|version| {
            let resources: Vec<Value> = entries(group, version).iter().map(resource).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    json!({"metadata": metadata, "versions": versions})
}

/// Compat: the kind of a resource comes without group and version, that of a subresource with them where they are others.
fn resource(entry: &Entry) -> Value {
    let mut out = json!({"resource": entry.plural, "responseKind": {"group": "", "version": "", "kind": entry.kind},
        "scope": if entry.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": entry.singular,
        "verbs": entry.verbs});
    if !entry.short_names.is_empty() {
        json::set(&mut out, "shortNames", json!(entry.short_names));
    }
    if !entry.categories.is_empty() {
        json::set(&mut out, "categories", json!(entry.categories));
    }
    if !entry.subresources.is_empty() {
        let subresources = entry.subresources.iter().map(|sub| {
            let (group, version) = sub.kind_group_version.unwrap_or_default();
            json!({"subresource": sub.name, "responseKind": {"group": group, "version": version, "kind": sub.kind},
                "verbs": sub.verbs})
        });
        json::set(&mut out, "subresources", subresources.collect());
    }
    out
}
