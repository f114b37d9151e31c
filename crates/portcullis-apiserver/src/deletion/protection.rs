//! Volumes and claims that something uses stay until nothing does: a finalizer holds them.
//!
//! Admission gives it to new ones; here those get it that lack it, and those lose it that are to go and that nothing uses.
//!
//! Compat: the controllers `persistentvolumeclaim-protection` and `persistentvolume-protection` of Kubernetes 1.37.

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::resources::tree::{Members, at, child, has, list_at, object, string, string_at};
use crate::resources::{Resource, persistent_volume_claims, persistent_volumes, pods};
use crate::store::StoreError;
use crate::store::graph::{Found, Task};
use crate::store::object::Object;

/// The finalizer that protects objects of a kind.
pub(crate) fn finalizer(resource: &Resource) -> Option<&'static str> {
    match (resource.group, resource.plural) {
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        _ => None,
    }
}

impl Engine {
    /// Protects a volume or claim, or lets it go.
    pub(super) fn protect(&self, uid: &str) {
        let Some(Found { resource, object: found }) = self.store.find(uid) else { return };
        let Some(finalizer) = finalizer(resource) else { return };
        let mut members = found.members();
        let held = list_at(&members, &["metadata", "finalizers"]).iter().any(|one| one == finalizer);
        if held != found.terminating || (found.terminating && self.is_used(resource, &found, &members)) {
            return;
        }
        let metadata = object(&mut members, "metadata");
        match metadata.get_mut("finalizers") {
            Some(Value::Array(there)) if held => there.retain(|one| one != finalizer),
            Some(Value::Array(there)) => there.push(json!(finalizer)),
            _ => drop(metadata.insert("finalizers".to_owned(), json!([finalizer]))),
        }
        match self.let_go(resource, &found, members) {
            Ok(()) | Err(StoreError::NotFound) => {}
            Err(StoreError::Conflict) => self.store.ask([Task::Protect(uid.into())]),
            Err(error) => {
                tracing::warn!(%error, kind = resource.kind, name = %found.name, "its protection stays as it was")
            }
        }
    }

    /// Looks again at the claims of a namespace that are to go.
    pub(super) fn review_claims(&self, namespace: &str) {
        let claims = self.store.all(persistent_volume_claims(), namespace);
        self.store.ask(claims.iter().filter(|claim| claim.terminating).map(|claim| Task::Protect(claim.uid.clone())));
    }

    fn is_used(&self, resource: &Resource, object: &Object, members: &Members) -> bool {
        if std::ptr::eq(resource, persistent_volumes()) {
            return string_at(members, &["status", "phase"]) == "Bound";
        }
        self.store.all(pods(), &object.namespace).iter().any(|pod| uses(&pod.members(), members))
    }
}

/// Whether a pod uses a claim. Compat: only one that has a node, whatever has become of it there.
fn uses(pod: &Members, claim: &Members) -> bool {
    if string_at(pod, &["spec", "nodeName"]).is_empty() {
        return false;
    }
    let name = string_at(claim, &["metadata", "name"]);
    let over = at(pod, &["metadata", "deletionTimestamp"]).is_some()
        && at(pod, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64) == Some(0);
    list_at(pod, &["spec", "volumes"]).iter().any(|volume| {
        let named = string(child(volume, "persistentVolumeClaim"), "claimName") == name;
        let made_for_it = || {
            let made = format!("{}-{}", string_at(pod, &["metadata", "name"]), string(volume, "name"));
            made == name && controls(pod, claim)
        };
        named || (!over && has(volume, "ephemeral") && made_for_it())
    })
}

fn controls(pod: &Members, claim: &Members) -> bool {
    let mut owners = list_at(claim, &["metadata", "ownerReferences"]).iter();
    let controller = owners.find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
    controller.is_some_and(|owner| string(owner, "uid") == string_at(pod, &["metadata", "uid"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Value) -> Members {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_claim_is_used_by_pods_that_have_a_node() {
        let claim = members(json!({"metadata": {"name": "p-data"}}));
        let pod = |node: &str, volume: Value| {
            members(json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": node, "volumes": [volume]}}))
        };
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-data"}});
        assert!(uses(&pod("n", named.clone()), &claim));
        assert!(!uses(&pod("", named), &claim));
        let made = json!({"name": "data", "ephemeral": {"volumeClaimTemplate": {}}});
        assert!(!uses(&pod("n", made.clone()), &claim), "it is not the pod's");
        let own =
            members(json!({"metadata": {"name": "p-data", "ownerReferences": [{"uid": "u", "controller": true}]}}));
        assert!(uses(&pod("n", made.clone()), &own));
        let mut over = pod("n", made);
        object(&mut over, "metadata").insert("deletionTimestamp".to_owned(), json!("1970-01-01T00:00:00Z"));
        object(&mut over, "metadata").insert("deletionGracePeriodSeconds".to_owned(), json!(0));
        assert!(!uses(&over, &own));
    }
}
