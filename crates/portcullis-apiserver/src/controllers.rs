//! What other parts of a real control plane do and this server does itself: accounts and authorities in new namespaces, its
//! own service and node, and a word on every object that nothing acts on.
//!
//! Everything here only brings about a state, and may be asked for at any time and more than once. It never makes pods.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::resources::check::same;
use crate::resources::services::allocate::KUBERNETES;
use crate::resources::tree::{Members, object};
use crate::resources::workloads::NOTHING_ACTS;
use crate::resources::{self, Resource, strategy};
use crate::store::object::Object;

/// The config map that tells pods how to recognise the server.
const ROOT_CA: &str = "kube-root-ca.crt";
/// Attempts against parallel changes.
const ATTEMPTS: usize = 5;
const DEFAULT: &str = "default";
const SERVICE: &str = "kubernetes";

/// What they need to know.
#[derive(Debug, Default)]
pub(crate) struct Controllers {
    /// Authorities of the server's certificate, in PEM.
    pub(crate) root_ca: String,
    /// Where the server listens.
    pub(crate) port: u16,
    /// The one node, as it comes back when someone deletes it.
    pub(crate) node: Mutex<Option<Members>>,
    /// Held from the choice of a service's addresses until it is stored.
    pub(crate) addresses: Mutex<()>,
}

impl Engine {
    /// Holds off other services that want an address.
    pub(crate) fn address_turn(&self) -> MutexGuard<'_, ()> {
        self.controllers.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restores what a change of that object took away or left undone.
    pub(crate) fn keep_up(&self, resource: &'static Resource, namespace: &str, name: &str) {
        match (resource.group, resource.plural) {
            ("", "namespaces") => {
                self.keep(resources::service_accounts(), name, account());
                self.keep(resources::config_maps(), name, self.authorities());
            }
            ("", "serviceaccounts") if name == DEFAULT => self.keep(resource, namespace, account()),
            ("", "configmaps") if name == ROOT_CA => self.keep(resource, namespace, self.authorities()),
            ("", "nodes") => self.ensure_node(name),
            ("", "services" | "endpoints") | ("discovery.k8s.io", "endpointslices")
                if (namespace, name) == (DEFAULT, SERVICE) =>
            {
                self.ensure_service();
            }
            _ => {}
        }
    }

    /// The service under which a cluster's pods find the server.
    pub(crate) fn ensure_service(&self) {
        let labels = json!({"component": "apiserver", "provider": SERVICE});
        let service = json!({"metadata": {"name": SERVICE, "labels": labels},
            "spec": {"ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": self.controllers.port}],
                "clusterIP": KUBERNETES, "clusterIPs": [KUBERNETES], "type": "ClusterIP", "sessionAffinity": "None",
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster"}});
        self.keep(resources::services(), DEFAULT, service);
        let ports = json!([{"name": "https", "port": self.controllers.port, "protocol": "TCP"}]);
        let endpoints = json!({"metadata": {"name": SERVICE, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": ports}]});
        self.keep(resources::endpoints(), DEFAULT, endpoints);
        let slice = json!({"metadata": {"name": SERVICE, "labels": {"kubernetes.io/service-name": SERVICE}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}], "ports": ports});
        self.keep(resources::endpoint_slices(), DEFAULT, slice);
    }

    /// Whether that is the node that stands for this process.
    pub(crate) fn is_own_node(&self, name: &str) -> bool {
        let node = self.controllers.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.as_ref().is_some_and(|node| resources::text(node, &["metadata", "name"]).as_ref() == name)
    }

    fn ensure_node(&self, name: &str) {
        let node = self.controllers.node.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mut node) = node.filter(|node| resources::text(node, &["metadata", "name"]).as_ref() == name) else {
            return;
        };
        if self.store.get(resources::nodes(), "", name).is_some() {
            return;
        }
        let metadata = object(&mut node, "metadata");
        metadata.insert("uid".to_owned(), Value::from(self.rng.uuid_v4()));
        metadata.insert("creationTimestamp".to_owned(), Value::from(self.clock.now().rfc3339()));
        // Lost to whoever has made it meanwhile.
        let _ = self.store.create(resources::nodes(), strategy::shape(resources::nodes(), node));
    }

    fn authorities(&self) -> Value {
        let why = "What pods in a cluster trust when they talk to its API server. Restored when it is changed";
        json!({"metadata": {"name": ROOT_CA, "annotations": {"kubernetes.io/description": why}},
            "data": {"ca.crt": self.controllers.root_ca}})
    }

    /// Makes an object that is missing, and gives one that is there the parts named in `wanted` again, which have the shape of
    /// their types. A namespace that is going, a full store or a parallel change may keep it from that.
    fn keep(&self, resource: &'static Resource, namespace: &str, wanted: Value) {
        let Value::Object(wanted) = wanted else { return };
        let name = resources::text(&wanted, &["metadata", "name"]);
        for _ in 0..ATTEMPTS {
            let Some(old) = self.store.get(resource, namespace, &name) else {
                let members = strategy::for_create(resource, wanted, namespace, &self.rng, self.clock.now());
                let _ = self.store.create(resource, members);
                return;
            };
            let before = old.members();
            if old.terminating || kept(resource, &wanted, &before) {
                return;
            }
            let mut new = before.clone();
            for (part, value) in wanted.iter().filter(|(part, _)| *part != "metadata") {
                new.insert(part.clone(), value.clone());
            }
            let new = strategy::shape(resource, new);
            if same(&Value::Object(new.clone()), &Value::Object(before))
                || self.store.replace(resource, &old, new).is_ok()
            {
                return;
            }
        }
    }

    /// Says in an event that nothing will come of a new workload.
    pub(crate) fn explain(&self, resource: &'static Resource, object: &Object) {
        match (resource.group, resource.plural) {
            ("", "pods") => self.explain_pending(object),
            ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
            | ("autoscaling", "horizontalpodautoscalers")
            | ("batch", "cronjobs" | "jobs")
            | ("", "replicationcontrollers") => {
                self.record(resource, object, "Warning", "NoController", NOTHING_ACTS);
            }
            _ => {}
        }
    }
}

/// Whether what is there needs no repair. Only the authorities and the server's addresses are looked after; the service itself
/// may be changed, as upstream lets it.
fn kept(resource: &Resource, wanted: &Members, there: &Members) -> bool {
    match resource.plural {
        "configmaps" | "endpoints" | "endpointslices" => wanted
            .iter()
            .filter(|(part, _)| *part != "metadata")
            .all(|(part, value)| there.get(part).is_some_and(|there| same(there, value))),
        _ => true,
    }
}

fn account() -> Value {
    json!({"metadata": {"name": DEFAULT}})
}
