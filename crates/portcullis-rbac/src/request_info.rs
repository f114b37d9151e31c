//! From method, path and query to the verb and the resource that are authorized.
//!
//! Compat: `pkg/endpoints/request/requestinfo.go` of apiserver v0.37. One reading of a URL for routing, authorization and audit:
//! a second one, elsewhere, could be made to differ.

use portcullis_kube::names;
use portcullis_kube::query::{escapes, is_false, unescape};
use portcullis_kube::{Query, UserInfo};

use crate::attributes::{Attributes, ResourceTarget, Target};
use crate::field_selector::FieldSelector;
use crate::label_selector::LabelSelector;

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it is about a resource; otherwise about a path.
    pub is_resource_request: bool,
    /// The path, percent-decoded. Bytes that are no UTF-8 are replaced.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; for a path, the method in lower
    /// case; empty for a method that resources do not have.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// API group.
    pub api_group: String,
    /// API version.
    pub api_version: String,
    /// Namespace; for the request of a namespace itself, its name.
    pub namespace: String,
    /// Plural name.
    pub resource: String,
    /// For example `log`.
    pub subresource: String,
    /// Empty: all. Also from `fieldSelector=metadata.name=x` of a list or a watch.
    pub name: String,
    /// The path from the resource on.
    pub parts: Vec<String>,
    /// Of lists, watches and deletions of collections.
    pub field_selector: String,
    /// Of lists, watches and deletions of collections.
    pub label_selector: String,
}

/// A URL that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestInfoError {
    /// `%` without two hexadecimal digits. Answer 400.
    #[error("the path of the URL is malformed")]
    MalformedPath,
    /// `/api/v1/watch` or `/api/v1/proxy` with nothing behind. Upstream answers 500.
    #[error("unable to determine kind and namespace from url, {0}")]
    Incomplete(String),
}

impl RequestInfo {
    /// Reads a request. `path` and `query` are as sent, still percent-encoded, without the `?`.
    ///
    /// # Errors
    /// [`RequestInfoError`].
    pub fn parse(method: &str, path: &str, query: &str) -> Result<Self, RequestInfoError> {
        Self::read(method, path, &Query::parse(query))
    }

    /// Reads a request whose query is decoded already. Who serves the request takes its parameters from the same `query`.
    ///
    /// # Errors
    /// [`RequestInfoError`].
    pub fn read(method: &str, path: &str, query: &Query) -> Result<Self, RequestInfoError> {
        if !escapes(path) {
            return Err(RequestInfoError::MalformedPath);
        }
        let decoded = unescape(path, false).into_owned();
        let mut info = Self { verb: method.to_lowercase(), ..Self::default() };
        info.read_resource(method, &decoded, query).map_err(|Incomplete| {
            let query = query.as_str();
            let mark = if query.is_empty() { "" } else { "?" };
            RequestInfoError::Incomplete(format!("{path}{mark}{query}"))
        })?;
        info.path = decoded;
        Ok(info)
    }

    /// Whether the path says by itself that it is a watch: `/api/v1/watch/…`.
    pub fn is_watch_path(&self) -> bool {
        let before = if self.api_prefix == "api" { 2 } else { 3 };
        self.verb == "watch" && self.path.trim_matches('/').split('/').nth(before) == Some("watch")
    }

    /// The question for an authorizer.
    pub fn attributes<'a>(&'a self, user: &'a UserInfo) -> Attributes<'a> {
        let target = if self.is_resource_request {
            Target::Resource(ResourceTarget {
                namespace: &self.namespace,
                api_group: &self.api_group,
                api_version: &self.api_version,
                resource: &self.resource,
                subresource: &self.subresource,
                name: &self.name,
            })
        } else {
            Target::Path(&self.path)
        };
        Attributes { user, verb: &self.verb, target }
    }

    fn read_resource(&mut self, method: &str, path: &str, query: &Query) -> Result<(), Incomplete> {
        let trimmed = path.trim_matches('/');
        let mut parts = trimmed.split('/');
        let mut left = if trimmed.is_empty() { 0 } else { parts.clone().count() };
        let mut next = move || {
            left = left.saturating_sub(1);
            (left, parts.next().unwrap_or_default())
        };
        // `/api/v1/pods` is the shortest path of a resource, `/apis/apps/v1/deployments` with a group.
        let (after, prefix) = next();
        if after < 2 || !matches!(prefix, "api" | "apis") {
            return Ok(());
        }
        prefix.clone_into(&mut self.api_prefix);
        if prefix == "apis" {
            if after < 3 {
                return Ok(());
            }
            next().1.clone_into(&mut self.api_group);
        }
        self.is_resource_request = true;
        next().1.clone_into(&mut self.api_version);

        let (mut after, mut first) = next();
        let special = matches!(first, "proxy" | "watch");
        if special {
            if after == 0 {
                return Err(Incomplete);
            }
            first.clone_into(&mut self.verb);
            (after, first) = next();
        } else {
            self.verb = resource_verb(method).to_owned();
        }
        let mut rest = vec![first.to_owned()];
        for _ in 0..after {
            rest.push(next().1.to_owned());
        }
        self.place(rest);

        if self.name.is_empty() && self.verb == "get" {
            self.list_or_watch(query);
        }
        if self.name.is_empty() && self.verb == "delete" {
            "deletecollection".clone_into(&mut self.verb);
        }
        if !special && matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") {
            query.first("fieldSelector").unwrap_or_default().clone_into(&mut self.field_selector);
            query.first("labelSelector").unwrap_or_default().clone_into(&mut self.label_selector);
        }
        Ok(())
    }

    /// Namespace, resource, name and subresource, from what is behind the version.
    fn place(&mut self, mut rest: Vec<String>) {
        if rest.first().is_some_and(|first| first == "namespaces")
            && let Some(namespace) = rest.get(1)
        {
            namespace.clone_into(&mut self.namespace);
            if rest.get(2).is_some_and(|part| part != "status" && part != "finalize") {
                rest.drain(..2);
            }
        }
        let mut parts = rest.iter();
        parts.next().cloned().unwrap_or_default().clone_into(&mut self.resource);
        parts.next().cloned().unwrap_or_default().clone_into(&mut self.name);
        if self.verb != "proxy" {
            parts.next().cloned().unwrap_or_default().clone_into(&mut self.subresource);
        }
        self.parts = rest;
    }

    fn list_or_watch(&mut self, query: &Query) {
        let watch = query.first("watch").is_some_and(|value| !is_false(value));
        self.verb = if watch { "watch" } else { "list" }.to_owned();
        // When one of the options is malformed, upstream reads none of them.
        let mut numbers = ["limit", "timeoutSeconds"].iter().filter_map(|key| query.first(key));
        let labels = query.first("labelSelector").unwrap_or_default();
        if numbers.any(|value| value.parse::<i64>().is_err()) || LabelSelector::parse(labels).is_err() {
            return;
        }
        let Some(selector) = query.first("fieldSelector") else { return };
        if let Ok(selector) = FieldSelector::parse(selector)
            && let Some(name) = selector.required_value("metadata.name")
            && names::path_segment(name).is_empty()
        {
            name.clone_into(&mut self.name);
        }
    }
}

/// A special verb with nothing behind.
struct Incomplete;

fn resource_verb(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Verb, group, version, namespace, resource, subresource, name.
    type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

    #[test]
    fn resource_requests_are_read_as_upstream_does() {
        let table: &[(&str, &str, &str, Row)] = &[
            ("GET", "/api/v1/namespaces", "", ("list", "", "v1", "", "namespaces", "", "")),
            ("GET", "/api/v1/namespaces/other", "", ("get", "", "v1", "other", "namespaces", "", "other")),
            ("GET", "/api/v1/namespaces/other/pods", "", ("list", "", "v1", "other", "pods", "", "")),
            ("GET", "/api/v1/namespaces/other/pods/foo", "", ("get", "", "v1", "other", "pods", "", "foo")),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", "", ("get", "", "v1", "other", "pods", "", "foo")),
            ("GET", "/api/v1/pods", "", ("list", "", "v1", "", "pods", "", "")),
            ("HEAD", "/api/v1/pods", "", ("list", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/pods", "watch=true", ("watch", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/pods", "watch=1", ("watch", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/pods", "watch", ("watch", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/pods", "watch=False&watch=true", ("list", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/pods", "watch=0", ("list", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/pods/foo", "watch=true", ("get", "", "v1", "", "pods", "", "foo")),
            ("GET", "/api/v1/watch/pods", "", ("watch", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/watch/namespaces/ns/pods", "", ("watch", "", "v1", "ns", "pods", "", "")),
            ("GET", "/api/v1/watch/namespaces/ns/pods/foo", "", ("watch", "", "v1", "ns", "pods", "", "foo")),
            ("POST", "/api/v1/namespaces/ns/pods", "", ("create", "", "v1", "ns", "pods", "", "")),
            ("PUT", "/api/v1/namespaces/ns/pods/foo", "", ("update", "", "v1", "ns", "pods", "", "foo")),
            ("PATCH", "/api/v1/namespaces/ns/pods/foo", "", ("patch", "", "v1", "ns", "pods", "", "foo")),
            ("DELETE", "/api/v1/namespaces/ns/pods/foo", "", ("delete", "", "v1", "ns", "pods", "", "foo")),
            ("DELETE", "/api/v1/namespaces/ns/pods", "", ("deletecollection", "", "v1", "ns", "pods", "", "")),
            ("DELETE", "/api/v1/nodes", "", ("deletecollection", "", "v1", "", "nodes", "", "")),
            ("OPTIONS", "/api/v1/pods", "", ("", "", "v1", "", "pods", "", "")),
            ("get", "/api/v1/pods", "", ("", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/namespaces/ns/pods/foo/log", "", ("get", "", "v1", "ns", "pods", "log", "foo")),
            ("GET", "/api/v1/namespaces/ns/pods/foo/proxy/a/b", "", ("get", "", "v1", "ns", "pods", "proxy", "foo")),
            ("PUT", "/api/v1/namespaces/ns/finalize", "", ("update", "", "v1", "ns", "namespaces", "finalize", "ns")),
            ("GET", "/api/v1/namespaces/ns/status", "", ("get", "", "v1", "ns", "namespaces", "status", "ns")),
            ("GET", "/api/v1/proxy/namespaces/ns/pods/foo/x", "", ("proxy", "", "v1", "ns", "pods", "", "foo")),
            ("GET", "/apis/apps/v1/deployments", "", ("list", "apps", "v1", "", "deployments", "", "")),
            (
                "GET",
                "/apis/apps/v1/namespaces/ns/deployments/d/scale",
                "",
                ("get", "apps", "v1", "ns", "deployments", "scale", "d"),
            ),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "",
                ("get", "rbac.authorization.k8s.io", "v1", "", "clusterroles", "", "system:node"),
            ),
            ("GET", "/api/v1/pods/", "", ("list", "", "v1", "", "pods", "", "")),
            ("GET", "//api/v1/pods//", "", ("list", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1//pods", "", ("get", "", "v1", "", "", "", "pods")),
            ("GET", "/api/v1/namespaces/a%2Fb/pods", "", ("get", "", "v1", "a", "b", "", "pods")),
            ("GET", "/api/v1/pods", "fieldSelector=metadata.name%3Dfoo", ("list", "", "v1", "", "pods", "", "foo")),
            (
                "GET",
                "/api/v1/pods",
                "watch=1&fieldSelector=metadata.name=foo",
                ("watch", "", "v1", "", "pods", "", "foo"),
            ),
            ("GET", "/api/v1/pods", "fieldSelector=metadata.name!=foo", ("list", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/pods", "fieldSelector=metadata.name=a/b", ("list", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/pods", "limit=x&fieldSelector=metadata.name=foo", ("list", "", "v1", "", "pods", "", "")),
            ("GET", "/api/v1/pods", "fieldSelector=oops", ("list", "", "v1", "", "pods", "", "")),
            (
                "GET",
                "/api/v1/pods",
                "labelSelector=a=b=c&fieldSelector=metadata.name=foo",
                ("list", "", "v1", "", "pods", "", ""),
            ),
            (
                "DELETE",
                "/api/v1/pods",
                "fieldSelector=metadata.name=foo",
                ("deletecollection", "", "v1", "", "pods", "", ""),
            ),
        ];
        for (method, path, query, want) in table {
            let info = RequestInfo::parse(method, path, query).unwrap();
            assert!(info.is_resource_request, "{path}");
            let got = (
                info.verb.as_str(),
                info.api_group.as_str(),
                info.api_version.as_str(),
                info.namespace.as_str(),
                info.resource.as_str(),
                info.subresource.as_str(),
                info.name.as_str(),
            );
            assert_eq!(got, *want, "{method} {path}?{query}");
        }
    }

    #[test]
    fn all_other_paths_are_no_resources() {
        for path in [
            "/",
            "",
            "/api",
            "/api/",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "/version",
            "/apix/v1/pods",
            "/openapi/v3/apis/x",
            "/API/v1/pods",
        ] {
            let info = RequestInfo::parse("GET", path, "watch=true").unwrap();
            assert!(!info.is_resource_request, "{path}");
            assert_eq!((info.verb.as_str(), info.path.as_str()), ("get", path));
        }
        assert_eq!(RequestInfo::parse("POST", "/x", "").unwrap().verb, "post");
    }

    #[test]
    fn selectors_are_kept_for_lists_but_not_for_the_old_watch_paths() {
        let query = "fieldSelector=a%3Db&labelSelector=c+in+(d)";
        let info = RequestInfo::parse("GET", "/api/v1/pods", query).unwrap();
        assert_eq!((info.field_selector.as_str(), info.label_selector.as_str()), ("a=b", "c in (d)"));
        for (method, path) in [("GET", "/api/v1/watch/pods"), ("GET", "/api/v1/pods/x"), ("POST", "/api/v1/pods")] {
            let info = RequestInfo::parse(method, path, query).unwrap();
            assert_eq!((info.field_selector.as_str(), info.label_selector.as_str()), ("", ""), "{path}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let info = RequestInfo::parse("GET", "/api/v1/pods/a%ff", "").unwrap();
        assert_eq!(info.name, "a\u{fffd}");
    }

    #[test]
    fn only_what_says_it_in_the_path_is_a_watch_path() {
        for (path, query, want) in [
            ("/api/v1/watch/pods", "", true),
            ("/apis/apps/v1/watch/deployments", "", true),
            ("/api/v1/pods", "watch=1", false),
            ("/api/v1/namespaces/watch/pods", "watch=1", false),
            ("/api/v1/pods", "", false),
        ] {
            assert_eq!(RequestInfo::parse("GET", path, query).unwrap().is_watch_path(), want, "{path}");
        }
    }

    #[test]
    fn urls_that_cannot_be_read_are_refused() {
        for path in ["/%", "/%4", "/%zz", "/%+1"] {
            assert_eq!(RequestInfo::parse("GET", path, ""), Err(RequestInfoError::MalformedPath), "{path}");
        }
        for path in ["/api/v1/watch", "/apis/a/v1/proxy/"] {
            let error = RequestInfo::parse("GET", path, "a=b").unwrap_err();
            assert_eq!(error.to_string(), format!("unable to determine kind and namespace from url, {path}?a=b"));
        }
    }

    proptest! {
        #[test]
        fn any_url_is_read_or_refused(method in "[A-Z]{0,7}", path in "(/(api|apis|v1|watch|proxy|namespaces|pods|%2[fF]|%|\\PC{0,4})){0,8}", query in "((watch|fieldSelector|limit|%|=|&|;|metadata.name|\\PC){0,6}){0,4}") {
            if let Ok(info) = RequestInfo::parse(&method, &path, &query) {
                let user = UserInfo::default();
                let attributes = info.attributes(&user);
                prop_assert_eq!(matches!(attributes.target, Target::Resource(_)), info.is_resource_request);
                prop_assert_eq!(info.is_resource_request, !info.parts.is_empty());
            }
        }

        #[test]
        fn what_is_a_namespaced_object_reads_back(namespace in "[a-z0-9-]{1,10}", resource in "[a-z]{1,10}", name in "[a-z0-9.:-]{1,10}") {
            let info = RequestInfo::parse("GET", &format!("/api/v1/namespaces/{namespace}/{resource}/{name}"), "").unwrap();
            if resource != "status" && resource != "finalize" {
                prop_assert_eq!((info.namespace, info.resource, info.name), (namespace, resource, name));
            }
        }
    }
}
