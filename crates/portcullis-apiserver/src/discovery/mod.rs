//! What this server serves, told to clients: the legacy documents and the aggregated ones.
//!
//! All are made once at start, from the entries of `resources`, so that a new kind appears by itself.

mod aggregated;
pub(crate) mod entries;
mod legacy;

use std::collections::HashMap;

use aws_lc_rs::digest;
use bytes::Bytes;

use self::aggregated::Aggregated;
use crate::handlers::{check_routed, not_acceptable};
use crate::http::negotiate::{Forms, negotiate};
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::json;

/// The documents of one server.
#[derive(Debug)]
pub(crate) struct Discovery {
    /// By path, without a final slash.
    documents: HashMap<String, Bytes>,
    aggregated: HashMap<&'static str, Aggregated>,
}

impl Discovery {
    /// `address` is where clients find the server, as host and port.
    pub(crate) fn new(address: &str) -> Self {
        let documents = legacy::documents(address).into_iter();
        Self {
            documents: documents.map(|(path, value)| (path, Bytes::from(json::to_vec(&value)))).collect(),
            aggregated: HashMap::from([("/api", Aggregated::new(true)), ("/apis", Aggregated::new(false))]),
        }
    }

    /// The document at a path; `None` when there is none.
    ///
    /// # Errors
    /// The 406 for an `Accept` that no form of the document fits.
    pub(crate) fn answer(&self, call: &Call, path: &str, pretty: bool) -> Outcome<Option<Reply>> {
        // Compat: slashes at the end do not count, but for the list of groups, which takes one.
        let (asked, path) = match path.trim_end_matches('/') {
            "/apis" => (path, path.strip_suffix('/').unwrap_or(path)),
            trimmed => (trimmed, trimmed),
        };
        let Some(document) = self.documents.get(path) else { return Ok(None) };
        let accept = call.accept();
        // Compat: groups are the aggregator's, whose handlers have no router before them.
        let of_aggregator = path == "/apis" || path.strip_prefix("/apis/").is_some_and(|rest| !rest.contains('/'));
        if !of_aggregator {
            check_routed(&accept, &[], false)?;
        }
        // Compat: here upstream passes over clauses that ask for no transformation, so the aggregated form wins wherever it
        // stands.
        // The aggregator's path has it without a final slash only.
        let aggregated = self.aggregated.get(path).filter(|_| asked != "/apis/");
        if let (Some(document), Some(accepted)) = (aggregated, negotiate(&accept, pretty, Forms::Discovery)) {
            return Ok(Some(document.reply(call, accepted.encoding)));
        }
        let accepted = negotiate(&accept, pretty, Forms::Object).ok_or_else(not_acceptable)?;
        Ok(Some(Reply::json_bytes(200, document.clone(), accepted.encoding)))
    }

    /// Every path that has a document.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.documents.keys().map(String::as_str)
    }
}

/// What upstream makes ETags of: SHA-512 in capital hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA512, bytes).as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_TYPE, ETAG};
    use portcullis_kube::discovery::AGGREGATED_MEDIA_TYPE;
    use serde_json::{Value, json};

    use super::*;

    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

    fn get(line: &str, headers: &[(&'static str, &str)]) -> Option<Reply> {
        let call = headers.iter().fold(Call::test(line, ""), |call, (name, value)| call.with(name, value));
        Discovery::new("127.0.0.1:6443").answer(&call, &call.path, false).ok()?
    }

    fn tree(reply: &Reply) -> Value {
        serde_json::from_slice(reply.bytes()).unwrap()
    }

    #[test]
    fn the_aggregated_document_echoes_its_media_type_and_honours_its_etag() {
        let reply = get("GET /apis?timeout=32s", &[("accept", AGGREGATED)]).unwrap();
        assert_eq!(reply.headers[CONTENT_TYPE], AGGREGATED_MEDIA_TYPE);
        let groups = tree(&reply)["items"].as_array().unwrap().clone();
        assert!(groups.iter().any(|group| group["metadata"]["name"] == "rbac.authorization.k8s.io"));
        let etag = reply.headers[ETAG].to_str().unwrap();
        let again = get("GET /apis", &[("accept", AGGREGATED), ("if-none-match", etag)]).unwrap();
        assert_eq!((again.status.as_u16(), again.bytes().len()), (304, 0));
        assert!(!again.headers.contains_key(CONTENT_TYPE));
        for other in ["\"x\"", "*", etag.trim_matches('"')] {
            let reply = get("GET /apis", &[("accept", AGGREGATED), ("if-none-match", other)]).unwrap();
            assert_eq!(reply.status.as_u16(), 200, "{other}");
        }
    }

    #[test]
    fn the_aggregated_form_wins_wherever_it_stands_in_the_header() {
        for (accept, aggregated) in [
            (AGGREGATED, true),
            ("application/json", false),
            ("", false),
            ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json", false),
            ("application/yaml;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,application/json", false),
            ("application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,application/json", false),
            ("application/json,application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", true),
            ("*/*;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer", true),
        ] {
            let reply = get("GET /api", &[("accept", accept)]).unwrap();
            assert_eq!(tree(&reply)["kind"] == "APIGroupDiscoveryList", aggregated, "{accept}");
        }
    }

    #[test]
    fn what_no_form_fits_is_refused_in_the_words_of_who_refuses() {
        let refused = |path: &str, accept: &str| {
            let call = Call::test(&format!("GET {path}"), "").with("accept", accept);
            Discovery::new("127.0.0.1:6443").answer(&call, &call.path, false).err().unwrap()
        };
        for (path, accept, words) in [
            ("/api", "text/foo", "406: Not Acceptable"),
            ("/apis/rbac.authorization.k8s.io/v1", "text/foo", "406: Not Acceptable"),
            ("/apis", "text/foo", "only the following media types are accepted"),
            ("/apis/rbac.authorization.k8s.io", "text/foo", "only the following media types are accepted"),
            ("/api/v1", "application/json;as=Table;v=v1;g=meta.k8s.io", "only the following media types are accepted"),
        ] {
            let status = refused(path, accept);
            assert_eq!(status.code, 406);
            assert!(status.message.starts_with(words), "{path}: {}", status.message);
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
    fn subresources_stand_below_their_resource_in_both_forms() {
        let legacy = tree(&get("GET /api/v1", &[]).unwrap());
        let resources = legacy["resources"].as_array().unwrap();
        let token = resources.iter().find(|resource| resource["name"] == "serviceaccounts/token").unwrap();
        let want = json!({"name": "serviceaccounts/token", "singularName": "", "namespaced": true,
            "group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest", "verbs": ["create"]});
        assert_eq!(*token, want);
        let aggregated = tree(&get("GET /api", &[("accept", AGGREGATED)]).unwrap());
        let resources = aggregated["items"][0]["versions"][0]["resources"].as_array().unwrap().clone();
        let accounts = resources.iter().find(|resource| resource["resource"] == "serviceaccounts").unwrap();
        let want = json!([{"subresource": "token", "verbs": ["create"],
            "responseKind": {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}}]);
        assert_eq!(accounts["subresources"], want);
    }
}
