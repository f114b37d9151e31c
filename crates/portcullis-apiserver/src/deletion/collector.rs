//! Garbage collection by owner references.
//!
//! An object goes when none of its owners is there any more. One whose owner waits for its dependants goes too, before the
//! owner; an owner waits for those that block it. One that orphans its dependants takes itself out of them first.
//!
//! Each step looks at one object and changes it and, at most, what names it as an owner; what follows is queued by the store
//! when it sees the change. So chains and cycles of any length cost a step for each change, and nothing recurses.
//!
//! Compat: `attemptToDeleteItem`, `attemptToOrphanWorker` and `processDeletingDependentsItem` of
//! `pkg/controller/garbagecollector` in Kubernetes 1.37. A reference to a kind that is not served keeps the object, as there.

use std::sync::Arc;

use portcullis_kube::go::quote;
use serde_json::Value;

use super::options::{DeleteOptions, Policy};
use crate::engine::Engine;
use crate::resources::tree::{Members, list_at, object, string};
use crate::resources::{self, Resource, strategy};
use crate::store::StoreError;
use crate::store::graph::{Found, Owner, Task};
use crate::store::object::{FOREGROUND, ORPHAN, Object};

/// Who says that a reference leads into another namespace.
const COMPONENT: &str = "garbage-collector-controller";
/// Attempts against parallel changes.
const ATTEMPTS: usize = 5;

/// What an object's references lead to.
#[derive(Default)]
struct References {
    /// Owners that keep it.
    solid: usize,
    /// Uids of those that are not there.
    dangling: Vec<Box<str>>,
    /// Uids of those that wait for it to go.
    waiting: Vec<Box<str>>,
}

impl Engine {
    /// Looks whether an object has to go, or may go at last.
    pub(super) fn judge(&self, uid: &str) {
        let Some(Found { resource, object }) = self.store.find(uid) else { return };
        if object.collecting {
            self.wait_for_dependants(resource, &object);
            return;
        }
        if object.terminating || object.owners.is_empty() {
            return;
        }
        self.report_foreign_owners(resource, &object);
        let Some(references) = self.classify(resource, &object) else { return };
        let again = Task::Judge(uid.into());
        if references.solid > 0 {
            let gone = [references.dangling, references.waiting].concat();
            if !gone.is_empty() && self.disown(resource, &object, &gone) == Err(StoreError::Conflict) {
                self.store.ask([again]);
            }
            return;
        }
        let dependants = if references.waiting.is_empty() { Vec::new() } else { self.store.dependants(uid) };
        let policy = if dependants.is_empty() {
            own_policy(&object)
        } else {
            if dependants.iter().any(|dependant| dependant.object.collecting) {
                // Most likely a cycle: an object that blocks nobody can go.
                self.unblock(resource, &object);
                let Some(found) = self.store.find(uid) else { return };
                self.collect(resource, &found.object, Policy::Foreground, &again);
                return;
            }
            Policy::Foreground
        };
        self.collect(resource, &object, policy, &again);
    }

    fn collect(&self, resource: &'static Resource, object: &Arc<Object>, policy: Policy, again: &Task) {
        let options = DeleteOptions {
            uid: Some(object.uid.to_string()),
            version: Some(object.version.to_string()),
            policy: Some(policy),
            ..DeleteOptions::default()
        };
        self.try_to_delete(resource, object, &options, again);
    }

    /// Lets an owner go that no dependant blocks; the others are looked at.
    fn wait_for_dependants(&self, resource: &'static Resource, owner: &Arc<Object>) {
        let blocking = |found: &Found| found.object.owners.iter().any(|named| named.uid == owner.uid && named.blocks);
        let dependants: Vec<Found> = self.store.dependants(&owner.uid).into_iter().filter(blocking).collect();
        if dependants.is_empty() {
            self.release(resource, owner, FOREGROUND);
            return;
        }
        let waiting = dependants.into_iter().filter(|found| !found.object.terminating);
        self.store.ask(waiting.map(|found| Task::Judge(found.object.uid.clone())));
    }

    /// Takes an owner out of its dependants, and then its finalizer off it.
    pub(super) fn orphan(&self, uid: &str) {
        let Some(owner) = self.store.find(uid).filter(|found| found.object.orphaning) else { return };
        let mut left = false;
        for Found { resource, object } in self.store.dependants(uid) {
            match self.disown(resource, &object, &[uid.into()]) {
                Err(StoreError::Conflict) => left = true,
                Ok(()) | Err(StoreError::NotFound) => {}
                Err(error) => tracing::warn!(%error, name = %object.name, "an object keeps an owner that left it"),
            }
        }
        if left {
            self.store.ask([Task::Orphan(uid.into())]);
            return;
        }
        self.release(owner.resource, &owner.object, ORPHAN);
    }

    /// What the references of an object lead to; `None` when that cannot be said of all.
    fn classify(&self, resource: &Resource, object: &Object) -> Option<References> {
        let mut references = References::default();
        for owner in &object.owners {
            let kind = kind_of(owner)?;
            if kind.namespaced && !resource.namespaced {
                // Compat: what stands in no namespace cannot belong to what stands in one; nothing is done about it.
                return None;
            }
            let namespace = if kind.namespaced { &*object.namespace } else { "" };
            match self.store.get(kind, namespace, &owner.name).filter(|found| found.uid == owner.uid) {
                None => references.dangling.push(owner.uid.clone()),
                Some(found) if found.collecting => references.waiting.push(owner.uid.clone()),
                Some(_) => references.solid += 1,
            }
        }
        Some(references)
    }

    /// Compat: an owner in another namespace is told of in an event, and counts as not there.
    fn report_foreign_owners(&self, resource: &Resource, object: &Object) {
        for owner in &object.owners {
            let Some(found) = self.store.find(&owner.uid) else { continue };
            if !found.resource.namespaced || found.object.namespace == object.namespace {
                continue;
            }
            let message = format!(
                "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {}",
                owner.api_version,
                owner.kind,
                object.namespace,
                owner.name,
                owner.uid,
                quote(&object.namespace)
            );
            self.record_as(COMPONENT, resource, object, "Warning", "OwnerRefInvalidNamespace", &message);
        }
    }

    /// Takes owners out of an object.
    fn disown(&self, resource: &'static Resource, object: &Object, owners: &[Box<str>]) -> Result<(), StoreError> {
        let named = |uid: &str| owners.iter().any(|gone| **gone == *uid);
        self.change_owners(resource, object, |references| {
            references.retain(|reference| !named(string(reference, "uid")));
        })
    }

    /// Makes an object that is about to go block none of its owners.
    fn unblock(&self, resource: &'static Resource, object: &Object) {
        let done = self.change_owners(resource, object, |references| {
            for reference in references.iter_mut().filter_map(Value::as_object_mut) {
                if reference.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true) {
                    reference.insert("blockOwnerDeletion".to_owned(), Value::Bool(false));
                }
            }
        });
        if let Err(error) = done {
            tracing::debug!(%error, name = %object.name, "an object goes on blocking its owners");
        }
    }

    fn change_owners(
        &self,
        resource: &'static Resource,
        old: &Object,
        change: impl FnOnce(&mut Vec<Value>),
    ) -> Result<(), StoreError> {
        let mut members = old.members();
        let mut references = list_at(&members, &["metadata", "ownerReferences"]).to_vec();
        change(&mut references);
        object(&mut members, "metadata").insert("ownerReferences".to_owned(), Value::Array(references));
        let members = strategy::shape(resource, members);
        self.store.replace(resource, old, members)?;
        self.written(resource, &old.namespace, &old.name);
        Ok(())
    }

    /// Takes one of our finalizers off an object.
    fn release(&self, resource: &'static Resource, old: &Object, finalizer: &str) {
        let mut current = self.store.get(resource, &old.namespace, &old.name);
        for _ in 0..ATTEMPTS {
            let Some(there) = current.filter(|there| there.uid == old.uid) else { return };
            let members = without(there.members(), finalizer);
            match self.let_go(resource, &there, members) {
                Err(StoreError::Conflict) => current = self.store.get(resource, &old.namespace, &old.name),
                Ok(()) | Err(_) => return,
            }
        }
        tracing::warn!(name = %old.name, finalizer, "an object changes too fast to take a finalizer off it");
    }
}

fn without(mut members: Members, finalizer: &str) -> Members {
    let mut finalizers = list_at(&members, &["metadata", "finalizers"]).to_vec();
    finalizers.retain(|held| held != finalizer);
    object(&mut members, "metadata").insert("finalizers".to_owned(), Value::Array(finalizers));
    members
}

/// What an object's own finalizers ask for.
fn own_policy(object: &Object) -> Policy {
    let members = object.members();
    let has = |name: &str| list_at(&members, &["metadata", "finalizers"]).iter().any(|finalizer| finalizer == name);
    if has(ORPHAN) {
        Policy::Orphan
    } else if has(FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    }
}

fn kind_of(owner: &Owner) -> Option<&'static Resource> {
    resources::find_kind(&owner.api_version, &owner.kind).map(Resource::stored)
}
