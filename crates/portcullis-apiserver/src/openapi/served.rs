//! Which of the real server's paths and methods this server answers.
//!
//! The entries of `resources` decide, so that no document promises what the engine would refuse.

use crate::discovery::entries::{Entry, entries};

/// What is served under one document's place, such as `api/v1` or `apis/apps/v1`.
#[derive(Debug)]
pub(super) struct Served {
    root: String,
    /// `None` where the document is not about a group-version: its paths are all served.
    entries: Option<Vec<Entry>>,
}

impl Served {
    pub(super) fn at(place: &str) -> Self {
        let parts: Vec<&str> = place.split('/').collect();
        let entries = match parts.as_slice() {
            ["api", version] => Some(entries("", version)),
            ["apis", group, version] => Some(entries(group, version)),
            _ => None,
        };
        Self { root: format!("/{place}/"), entries }
    }

    /// What makes two servers' documents differ: everything that [`Self::keeps`] looks at.
    pub(super) fn describe(&self, out: &mut String) {
        for entry in self.entries.iter().flatten() {
            out.push_str(&format!("{} {} {:?}", entry.plural, entry.namespaced, entry.verbs));
            for sub in &entry.subresources {
                out.push_str(&format!(" {} {:?}", sub.name, sub.verbs));
            }
            out.push('\n');
        }
    }

    /// Whether `method` (in lower case) of `path` is answered.
    pub(super) fn keeps(&self, path: &str, method: &str) -> bool {
        let (Some(entries), Some(rest)) = (&self.entries, path.strip_prefix(&self.root)) else { return true };
        let (watch, rest) = match rest.strip_prefix("watch/") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let segments: Vec<&str> = rest.split('/').collect();
        let (scoped, segments) = match segments.as_slice() {
            // The group-version's own document.
            [""] => return true,
            ["namespaces", "{namespace}", inner @ ..] if !inner.is_empty() => (true, inner),
            all => (false, all),
        };
        let [plural, place @ ..] = segments else { return false };
        let Some(entry) = entries.iter().find(|entry| entry.plural == *plural) else { return false };
        if watch {
            return entry.verbs.contains(&"watch");
        }
        match place {
            // A namespaced kind's collection over all namespaces can only be read.
            [] if entry.namespaced && !scoped => method == "get" && entry.verbs.contains(&"list"),
            [] => entry.verbs.contains(&verb(method, true)),
            ["{name}"] => entry.verbs.contains(&verb(method, false)),
            ["{name}", sub, ..] => {
                let sub = entry.subresources.iter().find(|known| known.name == *sub);
                sub.is_some_and(|sub| sub.verbs.contains(&verb(method, false)))
            }
            _ => false,
        }
    }
}

fn verb(method: &str, collection: bool) -> &str {
    match (method, collection) {
        ("get", true) => "list",
        ("delete", true) => "deletecollection",
        ("post", _) => "create",
        ("put", _) => "update",
        // Only what passes requests on has these.
        ("head" | "options", _) => "get",
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_where_the_engine_answers_it() {
        let core = Served::at("api/v1");
        for (path, method, want) in [
            ("/api/v1/", "get", true),
            ("/api/v1/pods", "get", true),
            ("/api/v1/pods", "post", false),
            ("/api/v1/namespaces", "post", true),
            ("/api/v1/namespaces", "delete", false),
            ("/api/v1/namespaces/{name}", "delete", true),
            ("/api/v1/namespaces/{namespace}/pods", "delete", true),
            ("/api/v1/namespaces/{namespace}/pods/{name}", "patch", true),
            ("/api/v1/namespaces/{namespace}/pods/{name}/attach", "get", true),
            ("/api/v1/namespaces/{namespace}/pods/{name}/proxy/{path}", "delete", true),
            ("/api/v1/namespaces/{namespace}/pods/{name}/proxy/{path}", "options", true),
            ("/api/v1/namespaces/{namespace}/services/{name}/proxy", "get", false),
            ("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", "post", true),
            ("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", "get", false),
            ("/api/v1/watch/namespaces/{namespace}/pods/{name}", "get", true),
            ("/api/v1/watch/componentstatuses", "get", false),
            ("/api/v1/componentstatuses/{name}", "get", false),
        ] {
            assert_eq!(core.keeps(path, method), want, "{method} {path}");
        }
        assert!(Served::at("version").keeps("/version/", "get"));
        let reviews = Served::at("apis/authorization.k8s.io/v1");
        let path = "/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews";
        assert!(reviews.keeps(path, "post") && !reviews.keeps(path, "get"));
    }
}
