//! Namespaces that go: their content, their conditions, and their own end.
//!
//! Pods go first; while some are left, nothing else goes. What finalizers hold keeps the namespace, and its conditions count
//! it. When nothing is left, the finalizer `kubernetes` is taken off.
//!
//! Compat: `pkg/controller/namespace/deletion` of Kubernetes 1.37. Its controller looks again after some seconds; ours does
//! when something in the namespace has gone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::options::{DeleteOptions, Policy};
use super::registry::{self, Deleted};
use crate::engine::Engine;
use crate::resources::tree::{Members, list_at, object, string};
use crate::resources::{self, Resource, namespaces, pods, strategy};
use crate::store::StoreError;
use crate::store::graph::Task;
use crate::store::object::Object;

/// Objects that are deleted before the next task has its turn.
const AT_A_TIME: usize = 500;
/// The finalizer of the part that empties namespaces.
const OURS: &str = "kubernetes";

/// Condition types with reason and message when all is well.
const CONDITIONS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (REMAINING, "ContentRemoved", "All content successfully removed"),
    (FINALIZERS, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];
const REMAINING: &str = "NamespaceContentRemaining";
const FINALIZERS: &str = "NamespaceFinalizersRemaining";

/// What is left in a namespace.
#[derive(Default)]
struct Left {
    objects: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
}

impl Engine {
    /// Takes away what stands in a namespace that is going, and then the namespace.
    pub(super) fn empty(&self, name: &str) {
        let Some(namespace) = self.store.get(namespaces(), "", name).filter(|namespace| namespace.terminating) else {
            return;
        };
        let members = namespace.members();
        if list_at(&members, &["spec", "finalizers"]).is_empty() {
            return;
        }
        let mut budget = AT_A_TIME;
        let mut left = Left::default();
        let pods_left = self.empty_of(pods(), name, &mut left, &mut budget);
        if pods_left {
            // Compat: what is left is not counted then.
            left = Left::default();
        } else {
            let others =
                resources::ALL.iter().filter(|resource| resource.namespaced && !std::ptr::eq(*resource, pods()));
            for resource in others {
                self.empty_of(resource, name, &mut left, &mut budget);
            }
        }
        if budget == 0 {
            self.store.ask([Task::Empty(name.into())]);
            return;
        }
        let nothing_left = !pods_left && left.objects.is_empty();
        let now = self.clock.now().rfc3339();
        let mut new = members.clone();
        set_conditions(&mut new, &left, &now);
        let namespace = match self.put_namespace(&namespace, &members, new) {
            Ok(namespace) => namespace,
            Err(error) => return self.try_again(error, name),
        };
        if nothing_left {
            let mut members = namespace.members();
            let mut others = list_at(&members, &["spec", "finalizers"]).to_vec();
            others.retain(|finalizer| finalizer != OURS);
            object(&mut members, "spec").insert("finalizers".to_owned(), Value::Array(others));
            if let Err(error) = self.let_go(namespaces(), &namespace, members) {
                self.try_again(error, name);
            }
        }
    }

    /// Deletes the objects of a resource; whether any are left.
    fn empty_of(&self, resource: &'static Resource, namespace: &str, left: &mut Left, budget: &mut usize) -> bool {
        let options = DeleteOptions { policy: Some(Policy::Background), ..DeleteOptions::default() };
        let mut stays = 0;
        for held in self.store.all(resource, namespace) {
            if *budget == 0 {
                return true;
            }
            let kept = if held.terminating {
                Ok(Deleted::Terminating(held))
            } else {
                registry::delete(self, resource, &held, &options)
            };
            match kept {
                Ok(Deleted::Gone(_)) => *budget -= 1,
                Ok(Deleted::Terminating(object)) => {
                    stays += 1;
                    left.hold(&object);
                }
                // It has changed: that is seen, and the namespace looked at again.
                Err(_) => {
                    stays += 1;
                    self.store.ask([Task::Empty(namespace.into())]);
                }
            }
        }
        if stays > 0 {
            left.objects.insert(format!("{}.{}", resource.plural, resource.group), stays);
        }
        stays > 0
    }

    fn put_namespace(
        &self,
        old: &std::sync::Arc<Object>,
        before: &Members,
        new: Members,
    ) -> Result<std::sync::Arc<Object>, StoreError> {
        let new = strategy::shape(namespaces(), new);
        if new == *before {
            return Ok(std::sync::Arc::clone(old));
        }
        self.store.replace(namespaces(), old, new)
    }

    fn try_again(&self, error: StoreError, namespace: &str) {
        match error {
            StoreError::Conflict => self.store.ask([Task::Empty(namespace.into())]),
            StoreError::NotFound => {}
            error => tracing::warn!(%error, namespace, "a namespace that is going stays"),
        }
    }
}

impl Left {
    fn hold(&mut self, object: &Object) {
        for finalizer in list_at(&object.members(), &["metadata", "finalizers"]).iter().filter_map(Value::as_str) {
            *self.finalizers.entry(finalizer.to_owned()).or_default() += 1;
        }
    }

    /// Reason and message of a condition that something speaks against.
    fn against(&self, condition: &str) -> Option<(&'static str, String)> {
        let count = |counts: &BTreeMap<String, usize>, sentence: fn(&str, usize) -> String| {
            let parts: Vec<String> = counts.iter().map(|(what, number)| sentence(what, *number)).collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        };
        match condition {
            REMAINING => {
                let what = count(&self.objects, |what, number| format!("{what} has {number} resource instances"))?;
                Some(("SomeResourcesRemain", format!("Some resources are remaining: {what}")))
            }
            FINALIZERS => {
                let what = count(&self.finalizers, |what, number| format!("{what} in {number} resource instances"))?;
                let message = format!("Some content in the namespace has finalizers remaining: {what}");
                Some(("SomeFinalizersRemain", message))
            }
            _ => None,
        }
    }
}

fn set_conditions(namespace: &mut Members, left: &Left, now: &str) {
    let status = object(namespace, "status");
    status.insert("phase".to_owned(), json!("Terminating"));
    let mut conditions = list_at(status, &["conditions"]).to_vec();
    for (kind, reason, message) in CONDITIONS {
        let (status, reason, message) = match left.against(kind) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        let old = conditions.iter_mut().find(|condition| string(condition, "type") == kind);
        let since = match &old {
            Some(old) if string(old, "status") == status => string(old, "lastTransitionTime").to_owned(),
            _ => now.to_owned(),
        };
        let new =
            json!({"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message});
        match old {
            Some(old) => *old = new,
            None => conditions.push(new),
        }
    }
    status.insert("conditions".to_owned(), Value::Array(conditions));
}
