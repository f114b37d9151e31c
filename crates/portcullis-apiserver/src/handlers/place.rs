//! Where a request's object lies: its namespace and name in the path, and the key under which upstream would look for it.

use portcullis_kube::{Status, go, names};
use portcullis_rbac::RequestInfo;

use crate::http::Outcome;
use crate::resources::{self, Resource};

/// The namespace and name of a request's object.
pub(crate) fn place<'a>(resource: &Resource, info: &'a RequestInfo) -> Option<(&'a str, &'a str)> {
    let name = info.parts.get(1).map_or("", String::as_str);
    if std::ptr::eq(resource, resources::namespaces()) {
        // Compat: `/namespaces/a/namespaces` is no path.
        let below = info.path.split('/').nth(5) == Some("namespaces");
        return (!below).then_some(("", name));
    }
    match (resource.namespaced, info.namespace.is_empty()) {
        (true, true) if !name.is_empty() && !is_of_no_namespace(&info.path) => None,
        (true, _) | (false, true) => Some((&info.namespace, name)),
        (false, false) => None,
    }
}

/// Compat: to upstream's router nothing between two slashes is a namespace too.
pub(crate) fn is_of_no_namespace(path: &str) -> bool {
    path.contains("/namespaces//")
}

/// Whether an object can lie there. Compat: `NamespaceKeyFunc` of `registry/generic`, and the keys that etcd is asked for.
pub(crate) fn check_key(resource: &Resource, namespace: &str, name: &str) -> Outcome<()> {
    check_folder(resource, namespace)?;
    let wrong = names::path_segment(name);
    if !wrong.is_empty() {
        let why = format!("Name parameter invalid: {}: {}", go::quote(name), wrong.join(";"));
        return Err(Box::new(Status::bad_request(why)));
    }
    check_list(resource, namespace, Some(name))
}

/// Whether there is a namespace where there must be one.
pub(crate) fn check_folder(resource: &Resource, namespace: &str) -> Outcome<()> {
    if resource.namespaced && namespace.is_empty() {
        return Err(Box::new(Status::bad_request("Namespace parameter required.")));
    }
    Ok(())
}

/// Whether objects can lie there; `name` is that of the only one that is meant.
pub(crate) fn check_list(resource: &Resource, namespace: &str, name: Option<&str>) -> Outcome<()> {
    if resource.namespaced && matches!(namespace, "." | "..") {
        let below = name.map(|name| format!("/{name}")).unwrap_or_default();
        let key = format!("/{}/{namespace}{below}", folder(resource));
        return Err(Box::new(Status::failure(500, "", format!("invalid key: {}", go::quote(&key)))));
    }
    Ok(())
}

/// Where etcd would keep the object: some messages show it.
pub(crate) fn registry_key(resource: &Resource, namespace: &str, name: &str) -> String {
    format!("/registry/{}/{}", folder(resource), crate::store::object::key(namespace, name))
}

fn folder(resource: &Resource) -> &'static str {
    match resource.plural {
        "services" => "services/specs",
        "endpoints" => "services/endpoints",
        "nodes" => "minions",
        "ingresses" => "ingress",
        plural => plural,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{nodes, pods};

    #[test]
    fn what_no_key_can_be_is_refused_in_upstreams_words() {
        let why = |namespace: &str, name: &str| check_key(pods(), namespace, name).err().map(|status| status.message);
        assert_eq!(why("a", "b"), None);
        assert_eq!(why("", "b").unwrap(), "Namespace parameter required.");
        assert_eq!(why("a", "..").unwrap(), "Name parameter invalid: \"..\": may not be '..'");
        assert_eq!(why("a", "b%").unwrap(), "Name parameter invalid: \"b%\": may not contain '%'");
        assert_eq!(why(".", "b").unwrap(), "invalid key: \"/pods/./b\"");
        assert!(check_key(nodes(), "", "b").is_ok());
        assert_eq!(check_list(pods(), "..", None).unwrap_err().message, "invalid key: \"/pods/..\"");
    }
}
