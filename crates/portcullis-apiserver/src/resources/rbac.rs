//! The four RBAC kinds: defaults and validation, both from the wire types of `portcullis-kube`.

use portcullis_kube::field::FieldError;
use portcullis_kube::rbac::{ClusterRoleBinding, RoleBinding, validate};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::check::{Wrong, meta};
use super::rules::Rules;

pub(crate) const ROLE: Rules = Rules {
    create_on_update: true,
    validate: |new, wrong| judge(new, validate::role, wrong),
    validate_update: |new, old, wrong| {
        judge(new, validate::role, wrong);
        meta::object_meta_update(new, old, wrong);
    },
    ..Rules::NAMESPACED
};
pub(crate) const CLUSTER_ROLE: Rules = Rules {
    validate: |new, wrong| judge(new, validate::cluster_role, wrong),
    validate_update: |new, old, wrong| {
        judge(new, validate::cluster_role, wrong);
        meta::object_meta_update(new, old, wrong);
    },
    ..ROLE
};
pub(crate) const ROLE_BINDING: Rules = Rules {
    validate: |new, wrong| judge(new, validate::role_binding, wrong),
    validate_update: |new, old, wrong| {
        judge(new, validate::role_binding, wrong);
        same_role(new, old, wrong);
    },
    ..ROLE
};
pub(crate) const CLUSTER_ROLE_BINDING: Rules = Rules {
    validate: |new, wrong| judge(new, validate::cluster_role_binding, wrong),
    validate_update: |new, old, wrong| {
        judge(new, validate::cluster_role_binding, wrong);
        same_role(new, old, wrong);
    },
    ..ROLE
};

/// Fills in the API groups that a binding leaves out.
pub(super) fn fill_role_binding(members: &mut Map<String, Value>) {
    edit(members, RoleBinding::set_defaults);
}

/// Likewise for cluster role bindings.
pub(super) fn fill_cluster_role_binding(members: &mut Map<String, Value>) {
    edit(members, ClusterRoleBinding::set_defaults);
}

fn judge<T: DeserializeOwned>(new: &Map<String, Value>, problems: fn(&T) -> Vec<FieldError>, wrong: &mut Wrong) {
    wrong.extend(read::<T>(new).map_or_else(Vec::new, |object| problems(&object)));
}

/// What an update of a binding may not change: its role.
fn same_role(new: &Map<String, Value>, old: &Map<String, Value>, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    if let (Some(new), Some(old)) = (read::<RoleBinding>(new), read::<RoleBinding>(old)) {
        wrong.extend(validate::role_ref_unchanged(&new.role_ref, &old.role_ref));
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

    use super::*;

    fn tree(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_binding_gets_its_api_groups() {
        let mut binding = tree(json!({"metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"}], "roleRef": {"kind": "ClusterRole", "name": "view"}}));
        fill_cluster_role_binding(&mut binding);
        assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
        assert_eq!(binding["subjects"][1].get("apiGroup"), None);
        assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
        let mut wrong = Wrong::default();
        (CLUSTER_ROLE_BINDING.validate)(&binding, &mut wrong);
        assert!(wrong.is_empty());
    }

    #[test]
    fn the_role_of_a_binding_stays() {
        let binding = |role: &str| {
            let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role});
            tree(json!({"metadata": {"name": "b", "namespace": "d", "resourceVersion": "1"}, "roleRef": role}))
        };
        let problems = |new: &str| {
            let mut wrong = Wrong::default();
            (ROLE_BINDING.validate_update)(&binding(new), &binding("r1"), &mut wrong);
            wrong.finish().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            problems("r2"),
            [
                r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"r2"}: field is immutable"#
            ]
        );
        assert!(problems("r1").is_empty());
    }
}
