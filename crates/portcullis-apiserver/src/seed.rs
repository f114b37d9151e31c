//! What a new server holds, and what its own process puts into it: namespaces, RBAC, the node, and Portcullis' parts as pods
//! (`parts`).

use std::sync::{Arc, PoisonError};

use portcullis_kube::rbac::ClusterRoleBinding;
use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::parts::{MIRROR_ANNOTATION, PART_ANNOTATION, Part, PartEvent, PartStatus};
use crate::resources::services::allocate::{self, Taken};
use crate::resources::tree::Members;
use crate::resources::{self, Resource, priority_classes, rbac, strategy};
use crate::store::StoreError;

/// Attempts against parallel changes.
const ATTEMPTS: usize = 5;
/// Namespaces of a new cluster.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Why the process could not put something into its own server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// The object is not one that the API would take.
    #[error("{0}")]
    Invalid(String),
    /// The store refused.
    #[error("the object could not be stored: {0}")]
    Store(String),
}

/// The process' own hand in its server. Cheap to clone.
#[derive(Clone)]
pub struct Seed {
    pub(crate) engine: Arc<Engine>,
    pub(crate) node: Arc<str>,
}

impl Seed {
    /// Makes a namespace; one that is there stays as it is.
    ///
    /// # Errors
    /// [`SeedError`], for a bad name or a full store.
    pub fn namespace(&self, name: &str) -> Result<(), SeedError> {
        self.engine.seed(resources::namespaces(), json!({"metadata": {"name": name}}), "")
    }

    /// Makes or replaces a cluster role binding.
    ///
    /// # Errors
    /// [`SeedError`], for a binding that the API would refuse, or a full store.
    pub fn cluster_role_binding(&self, binding: &ClusterRoleBinding) -> Result<(), SeedError> {
        let there = self.engine.store.get(resources::cluster_role_bindings(), "", &binding.metadata.name);
        let there = there.and_then(|object| rbac::read::<ClusterRoleBinding>(&object.members()));
        if there.is_some_and(|there| there.role_ref == binding.role_ref && there.subjects == binding.subjects) {
            return Ok(());
        }
        self.remove_cluster_role_binding(&binding.metadata.name);
        self.engine.seed_typed(resources::cluster_role_bindings(), binding, "")
    }

    /// Removes a cluster role binding; whether there was one.
    pub fn remove_cluster_role_binding(&self, name: &str) -> bool {
        let resource = resources::cluster_role_bindings();
        let found = self.engine.store.get(resource, "", name);
        let removed = found.is_some_and(|object| self.engine.store.remove(resource, &object).is_ok());
        self.engine.written(resource, "", name);
        removed
    }

    /// Makes a service from its `metadata` and `spec`, with an address of its own; one that is there gets the ports and the
    /// selector.
    ///
    /// # Errors
    /// [`SeedError`], for a service that the API would refuse, or a full store.
    pub fn service(&self, namespace: &str, service: Value) -> Result<(), SeedError> {
        self.namespace(namespace)?;
        let engine = &self.engine;
        let (resource, Value::Object(members)) = (resources::services(), service) else {
            return Err(SeedError::Invalid("not an object".to_owned()));
        };
        let mut members = strategy::new_object(resource, members, namespace, &engine.rng, engine.clock.now());
        let turn = engine.address_turn();
        allocate::create(&mut members, &mut Taken::of(&engine.store), &engine.rng)
            .map_err(|status| SeedError::Invalid(status.message))?;
        let members = strategy::finish_create(resource, members);
        if let Some(first) = strategy::validate_create(resource, &members).first() {
            return Err(SeedError::Invalid(first.to_string()));
        }
        let name = resources::text(&members, &["metadata", "name"]).to_string();
        let members = strategy::stored(resource, members);
        for _ in 0..ATTEMPTS {
            let done = match engine.store.get(resource, namespace, &name) {
                None => engine.store.create(resource, members.clone()),
                Some(old) => {
                    let mut new = old.members();
                    for part in ["ports", "selector"] {
                        if let Some(value) = resources::at(&members, &["spec", part]) {
                            resources::tree::object(&mut new, "spec").insert(part.to_owned(), value.clone());
                        }
                    }
                    if new == old.members() {
                        return Ok(());
                    }
                    engine.store.replace(resource, &old, strategy::shape(resource, new))
                }
            };
            match done {
                Ok(_) => {
                    drop(turn);
                    engine.written(resource, namespace, &name);
                    return Ok(());
                }
                // Somebody was faster.
                Err(StoreError::Exists | StoreError::Conflict | StoreError::NotFound) => {}
                Err(error) => return Err(SeedError::Store(error.to_string())),
            }
        }
        Err(SeedError::Store(format!("the service {name:?} keeps changing")))
    }

    /// Shows a part. One that is shown already keeps its status.
    ///
    /// # Errors
    /// [`SeedError`], when its namespace cannot be made.
    pub fn part(&self, part: &Part) -> Result<(), SeedError> {
        self.namespace(&part.namespace)?;
        let known = self.engine.parts.note(part, &self.node);
        self.engine.put_part(&known);
        Ok(())
    }

    /// Shows how a part is; whether it is shown at all.
    pub fn part_status(&self, namespace: &str, name: &str, status: &PartStatus) -> bool {
        let known = self.engine.parts.note_status(namespace, name, status);
        if let Some(known) = &known {
            self.engine.put_part(known);
        }
        known.is_some()
    }

    /// Records what happens to a part, on its pod.
    pub fn part_event(&self, namespace: &str, name: &str, event: &PartEvent) {
        if let Some(known) = self.engine.parts.find(namespace, name) {
            self.engine.part_event(&known, event);
        }
    }

    /// Takes a part that runs no longer off the list of pods; whether it was there. Streams to it end.
    pub fn remove_part(&self, namespace: &str, name: &str) -> bool {
        let known = self.engine.parts.forget(namespace, name);
        if let Some(pod) = self.engine.store.get(resources::pods(), namespace, name).filter(|_| known) {
            // A pod that changes at this moment goes with its next deletion.
            let _ = self.engine.store.remove(resources::pods(), &pod);
        }
        known
    }
}

impl Engine {
    /// Fills a new store, and brings one of an earlier process up to date: namespaces, RBAC, priority classes, the server's own
    /// service, the node.
    pub(crate) fn bootstrap(&self, node: &str, version: &str) -> Result<(), SeedError> {
        self.remove_parts_of_before();
        for name in NAMESPACES {
            self.seed(resources::namespaces(), json!({"metadata": {"name": name}}), "")?;
        }
        self.bootstrap_rbac()?;
        for class in priority_classes::OF_THE_SYSTEM {
            self.seed(priority_classes(), priority_classes::of_the_system(class), "")?;
        }
        self.ensure_service();
        let port = self.controllers.port;
        self.renew(resources::services(), "default", "kubernetes", |service| {
            let spec = resources::tree::object(service, "spec");
            if let Some(Value::Array(ports)) = spec.get_mut("ports") {
                ports.iter_mut().for_each(|one| crate::json::set(one, "targetPort", json!(port)));
            }
        });
        // What an earlier process kept may lack what follows from it, or show another authority.
        for namespace in self.store.all(resources::namespaces(), "") {
            self.keep_up(resources::namespaces(), "", &namespace.name);
        }
        if let Value::Object(members) = node_members(node, version, &self.clock.now().rfc3339()) {
            // Who runs, and since when.
            let status = members.get("status").cloned().unwrap_or_default();
            self.renew(resources::nodes(), "", node, |there| drop(there.insert("status".to_owned(), status)));
            *self.controllers.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(members);
        }
        self.keep_up(resources::nodes(), "", node);
        Ok(())
    }

    /// Takes pods off the list that stood for parts of an earlier process: this one's have pods of their own.
    fn remove_parts_of_before(&self) {
        for pod in self.store.all(resources::pods(), "") {
            let members = pod.members();
            let annotation = |name: &str| resources::text(&members, &["metadata", "annotations", name]);
            if !annotation(PART_ANNOTATION).is_empty() && annotation(MIRROR_ANNOTATION) == pod.name {
                // Nobody else changes anything yet.
                let _ = self.store.remove(resources::pods(), &pod);
            }
        }
    }

    /// Changes what an earlier process kept, if it is there.
    fn renew(&self, resource: &'static Resource, namespace: &str, name: &str, change: impl FnOnce(&mut Members)) {
        let Some(old) = self.store.get(resource, namespace, name) else { return };
        let before = old.members();
        let mut new = before.clone();
        change(&mut new);
        if new != before {
            // Nobody else changes anything yet.
            let _ = self.store.replace(resource, &old, strategy::shape(resource, new));
        }
    }

    fn seed_typed<T: Serialize>(
        &self,
        resource: &'static Resource,
        object: &T,
        namespace: &str,
    ) -> Result<(), SeedError> {
        self.seed(resource, Value::Object(rbac::members(object)), namespace)
    }

    fn seed(&self, resource: &'static Resource, value: Value, namespace: &str) -> Result<(), SeedError> {
        let name = self.put(resource, value, namespace)?;
        self.written(resource, namespace, &name);
        Ok(())
    }

    /// Creates an object without telling the authorizer; one that is there stays as it is.
    pub(crate) fn put(&self, resource: &'static Resource, value: Value, namespace: &str) -> Result<String, SeedError> {
        let Value::Object(members) = value else { return Err(SeedError::Invalid("not an object".to_owned())) };
        let members = strategy::for_create(resource, members, namespace, &self.rng, self.clock.now());
        let wrong = strategy::validate_create(resource, &members);
        if let Some(first) = wrong.first() {
            return Err(SeedError::Invalid(first.to_string()));
        }
        let name = resources::text(&members, &["metadata", "name"]).to_string();
        match self.store.create(resource, members) {
            Ok(_) | Err(StoreError::Exists) => Ok(name),
            Err(error) => Err(SeedError::Store(error.to_string())),
        }
    }
}

fn node_members(name: &str, version: &str, now: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": std::env::consts::OS,
            "node-role.kubernetes.io/control-plane": ""}},
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now,
                "reason": "PortcullisReady", "message": "Portcullis' own parts run in this process; nothing else can"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
            "nodeInfo": {"kubeletVersion": version, "operatingSystem": std::env::consts::OS,
                "architecture": go_arch(), "osImage": "Portcullis dev API server", "containerRuntimeVersion": "portcullis://in-process"}
        }
    })
}

/// The processor's name as Go writes it.
pub(crate) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
