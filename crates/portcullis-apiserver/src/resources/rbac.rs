//! The four RBAC kinds: defaults and validation, both from the wire types of `portcullis-kube`.

use portcullis_kube::field::FieldError;
use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, Role, RoleBinding, validate};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Resource;

/// Fills in the API groups that a binding leaves out.
pub(crate) fn prepare(resource: &Resource, members: &mut Map<String, Value>) {
    match resource.kind {
        "ClusterRoleBinding" => edit(members, ClusterRoleBinding::set_defaults),
        "RoleBinding" => edit(members, RoleBinding::set_defaults),
        _ => {}
    }
}

/// What is wrong with an object, its metadata included.
pub(crate) fn validate(resource: &Resource, members: &Map<String, Value>) -> Vec<FieldError> {
    match resource.kind {
        "Role" => read::<Role>(members).map_or_else(Vec::new, |role| validate::role(&role)),
        "ClusterRole" => read::<ClusterRole>(members).map_or_else(Vec::new, |role| validate::cluster_role(&role)),
        "RoleBinding" => read::<RoleBinding>(members).map_or_else(Vec::new, |binding| validate::role_binding(&binding)),
        "ClusterRoleBinding" => read::<ClusterRoleBinding>(members)
            .map_or_else(Vec::new, |binding| validate::cluster_role_binding(&binding)),
        _ => Vec::new(),
    }
}

/// What an update of a binding may not change: its role.
pub(crate) fn validate_update(
    resource: &Resource,
    new: &Map<String, Value>,
    old: &Map<String, Value>,
) -> Vec<FieldError> {
    if !matches!(resource.kind, "RoleBinding" | "ClusterRoleBinding") {
        return Vec::new();
    }
    match (read::<RoleBinding>(new), read::<RoleBinding>(old)) {
        (Some(new), Some(old)) => validate::role_ref_unchanged(&new.role_ref, &old.role_ref).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// A tree in its kind's shape as the typed object. `None` cannot happen for such a tree.
pub(crate) fn read<T: DeserializeOwned>(members: &Map<String, Value>) -> Option<T> {
    match serde_json::from_value(Value::Object(members.clone())) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(%error, "a stored RBAC object does not have its type's shape");
            None
        }
    }
}

/// A typed object as the members that the store takes.
pub(crate) fn members<T: Serialize>(object: &T) -> Map<String, Value> {
    match serde_json::to_value(object) {
        Ok(Value::Object(mut members)) => {
            members.shift_remove("kind");
            members.shift_remove("apiVersion");
            members
        }
        _ => Map::new(),
    }
}

/// Changes the typed object and takes over everything but the metadata.
fn edit<T: DeserializeOwned + Serialize>(tree: &mut Map<String, Value>, change: impl FnOnce(&mut T)) {
    let Some(mut object) = read::<T>(tree) else { return };
    change(&mut object);
    for (name, value) in members(&object) {
        if name != "metadata" {
            tree.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::cluster_role_bindings;
    use super::*;

    fn tree(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_binding_gets_its_api_groups() {
        let mut binding = tree(json!({"metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"}], "roleRef": {"kind": "ClusterRole", "name": "view"}}));
        prepare(cluster_role_bindings(), &mut binding);
        assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
        assert_eq!(binding["subjects"][1].get("apiGroup"), None);
        assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
        assert!(validate(cluster_role_bindings(), &binding).is_empty());
    }

    #[test]
    fn the_role_of_a_binding_stays() {
        let binding = |role: &str| {
            tree(json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}}))
        };
        let wrong = validate_update(super::super::role_bindings(), &binding("r2"), &binding("r1"));
        assert_eq!(
            wrong[0].to_string(),
            r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"r2"}: field is immutable"#
        );
        assert!(validate_update(super::super::role_bindings(), &binding("r1"), &binding("r1")).is_empty());
    }
}
