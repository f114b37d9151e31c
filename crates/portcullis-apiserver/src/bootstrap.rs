//! The RBAC objects that every server holds: made at the first start, and brought up to date at each later one.
//!
//! Compat: the hook `rbac/bootstrap-roles` of Kubernetes 1.37. What it adds is in `portcullis_rbac::bootstrap`, how it treats
//! what is there in `portcullis_rbac::reconcile`. It never takes anything from anyone.

use portcullis_kube::ObjectMeta;
use portcullis_rbac::reconcile::{self, Reconciled};
use portcullis_rbac::{PolicySource as _, bootstrap};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::engine::Engine;
use crate::resources::{self, Resource, rbac, strategy};
use crate::seed::SeedError;

impl Engine {
    /// Makes or reconciles all objects, and puts the policy that the store then holds in force.
    pub(crate) fn bootstrap_rbac(&self) -> Result<(), SeedError> {
        let filled = bootstrap::policy();
        let objects = bootstrap::objects();
        for role in &objects.cluster_roles {
            // Upstream's aggregated roles are empty until its controller comes; ours have their rules from the first moment.
            let new = filled.cluster_role(&role.metadata.name).unwrap_or(role);
            self.ensure(resources::cluster_roles(), &role.metadata, role, new, reconcile::cluster_role)?;
        }
        for binding in &objects.cluster_role_bindings {
            let resource = resources::cluster_role_bindings();
            self.ensure(resource, &binding.metadata, binding, binding, reconcile::cluster_role_binding)?;
        }
        for role in &objects.roles {
            self.ensure(resources::roles(), &role.metadata, role, role, reconcile::role)?;
        }
        for binding in &objects.role_bindings {
            self.ensure(resources::role_bindings(), &binding.metadata, binding, binding, reconcile::role_binding)?;
        }
        self.policy.load(&self.store);
        Ok(())
    }

    /// Creates `new` where nothing is, and otherwise reconciles what is there with `expected`.
    fn ensure<T: Serialize + DeserializeOwned>(
        &self,
        resource: &'static Resource,
        place: &ObjectMeta,
        expected: &T,
        new: &T,
        reconcile: fn(&T, &T) -> Reconciled<T>,
    ) -> Result<(), SeedError> {
        let create = |object: &T| self.put(resource, Value::Object(rbac::members(object)), &place.namespace).map(drop);
        let Some(there) = self.store.get(resource, &place.namespace, &place.name) else { return create(new) };
        let Some(existing) = rbac::read::<T>(&there.members()) else { return Ok(()) };
        let stored = |error: crate::store::StoreError| SeedError::Store(error.to_string());
        match reconcile(&existing, expected) {
            Reconciled::Keep => Ok(()),
            Reconciled::Update(object) => {
                let members = strategy::shape(resource, rbac::members(&object));
                self.store.replace(resource, &there, members).map(drop).map_err(stored)
            }
            Reconciled::Recreate(object) => {
                self.store.remove(resource, &there).map_err(stored)?;
                create(&object)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_rbac::Policy;
    use serde_json::{Map, json};

    use super::*;
    use crate::world::world;

    fn members(engine: &Engine, resource: &'static Resource, name: &str) -> Map<String, Value> {
        engine.store.get(resource, "", name).unwrap().members()
    }

    fn edit(engine: &Engine, resource: &'static Resource, name: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        let old = engine.store.get(resource, "", name).unwrap();
        let mut new = old.members();
        change(&mut new);
        engine.store.replace(resource, &old, new).unwrap();
    }

    #[test]
    fn a_second_start_restores_what_was_taken_and_leaves_what_was_added() {
        let world = world();
        let engine = &world.engine;
        let (roles, bindings) = (resources::cluster_roles(), resources::cluster_role_bindings());
        let before = members(engine, roles, "system:discovery");
        edit(engine, roles, "system:discovery", |role| {
            role.insert("rules".to_owned(), json!([{"verbs": ["get"], "nonResourceURLs": ["/mine"]}]));
        });
        edit(engine, bindings, "system:basic-user", |binding| {
            binding.insert("subjects".to_owned(), json!([]));
        });
        let gone = engine.store.get(bindings, "", "system:discovery").unwrap();
        engine.store.remove(bindings, &gone).unwrap();
        edit(engine, bindings, "cluster-admin", |binding| {
            binding["roleRef"]["name"] = json!("view");
        });

        engine.bootstrap_rbac().unwrap();
        let rules = members(engine, roles, "system:discovery")["rules"].clone();
        assert_eq!(rules[0]["nonResourceURLs"], json!(["/mine"]));
        let urls = before["rules"][0]["nonResourceURLs"].as_array().unwrap();
        assert_eq!(rules.as_array().unwrap().len(), urls.len() + 1);
        assert_eq!(members(engine, bindings, "system:basic-user")["subjects"][0]["name"], "system:authenticated");
        assert_eq!(members(engine, bindings, "system:discovery")["roleRef"]["name"], "system:discovery");
        assert_eq!(members(engine, bindings, "cluster-admin")["roleRef"]["name"], "cluster-admin");
    }

    #[test]
    fn a_start_that_finds_everything_writes_nothing() {
        let world = world();
        let versions = |engine: &Engine| {
            let all = |resource| engine.store.all(resource, "").into_iter().map(|object| object.version);
            all(resources::cluster_roles())
                .chain(all(resources::cluster_role_bindings()))
                .chain(all(resources::roles()))
                .chain(all(resources::role_bindings()))
                .collect::<Vec<_>>()
        };
        let before = versions(&world.engine);
        world.engine.bootstrap_rbac().unwrap();
        assert_eq!(versions(&world.engine), before);
        assert_eq!(before.len(), 141);
    }

    #[test]
    fn aggregated_roles_are_filled_from_the_first_moment() {
        let world = world();
        let view = members(&world.engine, resources::cluster_roles(), "view");
        assert!(!view["rules"].as_array().unwrap().is_empty());
        // What the store held counts as gathered, so it goes with its source.
        let policy = world.engine.policy.snapshot();
        assert!(Policy::clone(&policy).aggregate().is_empty());
    }
}
