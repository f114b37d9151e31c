//! Subresources: what hangs below an object's path, as discovery and OpenAPI list it.
//!
//! An entry here says that the engine answers that path; what it answers is in `handlers`.

use super::rules::PartRules;
use super::{Resource, certificates, namespaces, pods};
use crate::http::negotiate::Forms;
use crate::schema::{SCHEMA, TypeId};

const AUTHENTICATION: &str = "authentication.k8s.io";
/// Group, version and kind of scales.
pub(crate) const SCALE_KIND: (&str, &str, &str) = ("autoscaling", "v1", "Scale");
const CHANGE: &[&str] = &["get", "patch", "update"];

/// A part of an object with a path and verbs of its own, such as `pods/log`.
#[derive(Debug)]
pub(crate) struct Subresource {
    /// Group of the resource that it belongs to.
    pub(crate) group: &'static str,
    /// Plural name of the resource that it belongs to.
    pub(crate) resource: &'static str,
    pub(crate) name: &'static str,
    /// Kind of the answers.
    pub(crate) kind: &'static str,
    /// Group and version of that kind where they are not those of the resource.
    pub(crate) kind_group_version: Option<(&'static str, &'static str)>,
    /// Sorted, as discovery lists them.
    pub(crate) verbs: &'static [&'static str],
    pub(crate) serves: Serves,
}

/// What a subresource shows and takes.
#[derive(Debug)]
pub(crate) enum Serves {
    /// The object; an update changes its status.
    Status,
    /// The object; an update follows rules of its own.
    Part(&'static PartRules),
    /// How many pods there should be, as `autoscaling/v1 Scale`.
    Scale,
    /// A token for the object: `handlers::token`.
    Token,
    /// A node for a pod: `handlers::binding`.
    Binding,
    /// The end of a pod, if its disruption budget allows it: `handlers::eviction`.
    Eviction,
    /// The streams of a container: `handlers::attach`.
    Attach,
    /// HTTP to the address of a pod: `handlers::proxy`.
    Proxy,
    /// A command in one of our parts: `handlers::exec`.
    Exec,
    /// The lines that one of our parts logs: `handlers::logs`.
    Log,
    /// A way to the ports of one of our parts: `handlers::port_forward`.
    PortForward,
}

impl Subresource {
    /// Group, version and kind of what it takes and answers; `None` for those of the object.
    pub(crate) fn own_kind(&self) -> Option<(&'static str, &'static str, &'static str)> {
        match (self.kind_group_version, &self.serves) {
            (Some((group, version)), _) => Some((group, version, self.kind)),
            (None, Serves::Binding) => Some((self.group, "v1", self.kind)),
            (None, _) => None,
        }
    }

    /// Compat: upstream has no tables of these parts.
    pub(crate) fn forms(&self) -> Forms {
        match self.serves {
            Serves::Binding | Serves::Eviction | Serves::Part(_) => Forms::Metadata,
            _ => Forms::All,
        }
    }

    /// Its type in the schema table, when it has a kind of its own.
    pub(crate) fn schema(&self) -> Option<TypeId> {
        match self.serves {
            Serves::Status
            | Serves::Part(_)
            | Serves::Attach
            | Serves::Proxy
            | Serves::Exec
            | Serves::Log
            | Serves::PortForward => None,
            Serves::Binding => SCHEMA.find("core.Binding"),
            Serves::Eviction => SCHEMA.find("policy.Eviction"),
            Serves::Scale => SCHEMA.find("autoscaling.Scale"),
            Serves::Token => SCHEMA.find("authn.TokenRequest"),
        }
    }
}

/// Every subresource that is served; those of a resource stand in alphabetical order.
pub(crate) static SUBRESOURCES: [Subresource; 34] = [
    Subresource {
        name: "finalize",
        verbs: &["update"],
        serves: Serves::Part(&namespaces::FINALIZE),
        ..status("", "namespaces", "Namespace")
    },
    status("", "namespaces", "Namespace"),
    status("", "nodes", "Node"),
    status("", "persistentvolumeclaims", "PersistentVolumeClaim"),
    status("", "persistentvolumes", "PersistentVolume"),
    Subresource {
        name: "attach",
        verbs: &["create", "get"],
        serves: Serves::Attach,
        ..status("", "pods", "PodAttachOptions")
    },
    Subresource { name: "binding", verbs: &["create"], serves: Serves::Binding, ..status("", "pods", "Binding") },
    Subresource {
        name: "ephemeralcontainers",
        serves: Serves::Part(&pods::EPHEMERAL_CONTAINERS),
        ..status("", "pods", "Pod")
    },
    Subresource {
        name: "eviction",
        verbs: &["create"],
        kind_group_version: Some(("policy", "v1")),
        serves: Serves::Eviction,
        ..status("", "pods", "Eviction")
    },
    Subresource {
        name: "exec",
        verbs: &["create", "get"],
        serves: Serves::Exec,
        ..status("", "pods", "PodExecOptions")
    },
    Subresource { name: "log", verbs: &["get"], serves: Serves::Log, ..status("", "pods", "Pod") },
    Subresource {
        name: "portforward",
        verbs: &["create", "get"],
        serves: Serves::PortForward,
        ..status("", "pods", "PodPortForwardOptions")
    },
    Subresource {
        name: "proxy",
        verbs: &["create", "delete", "get", "patch", "update"],
        serves: Serves::Proxy,
        ..status("", "pods", "PodProxyOptions")
    },
    Subresource { name: "resize", serves: Serves::Part(&pods::RESIZE), ..status("", "pods", "Pod") },
    status("", "pods", "Pod"),
    Subresource { group: "", ..scale("replicationcontrollers") },
    status("", "replicationcontrollers", "ReplicationController"),
    status("", "resourcequotas", "ResourceQuota"),
    Subresource {
        group: "",
        resource: "serviceaccounts",
        name: "token",
        kind: "TokenRequest",
        kind_group_version: Some((AUTHENTICATION, "v1")),
        verbs: &["create"],
        serves: Serves::Token,
    },
    status("", "services", "Service"),
    status("apps", "daemonsets", "DaemonSet"),
    scale("deployments"),
    status("apps", "deployments", "Deployment"),
    scale("replicasets"),
    status("apps", "replicasets", "ReplicaSet"),
    scale("statefulsets"),
    status("apps", "statefulsets", "StatefulSet"),
    status("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    status("batch", "cronjobs", "CronJob"),
    status("batch", "jobs", "Job"),
    Subresource {
        name: "approval",
        serves: Serves::Part(&certificates::APPROVAL),
        ..status("certificates.k8s.io", "certificatesigningrequests", "CertificateSigningRequest")
    },
    status("certificates.k8s.io", "certificatesigningrequests", "CertificateSigningRequest"),
    status("networking.k8s.io", "ingresses", "Ingress"),
    status("policy", "poddisruptionbudgets", "PodDisruptionBudget"),
];

const fn status(group: &'static str, resource: &'static str, kind: &'static str) -> Subresource {
    Subresource {
        group,
        resource,
        name: "status",
        kind,
        kind_group_version: None,
        verbs: CHANGE,
        serves: Serves::Status,
    }
}

const fn scale(resource: &'static str) -> Subresource {
    Subresource {
        group: "apps",
        resource,
        name: "scale",
        kind: SCALE_KIND.2,
        kind_group_version: Some((SCALE_KIND.0, SCALE_KIND.1)),
        verbs: CHANGE,
        serves: Serves::Scale,
    }
}

/// The subresource of that name.
pub(crate) fn find(resource: &Resource, name: &str) -> Option<&'static Subresource> {
    of(resource).find(|sub| sub.name == name)
}

/// The subresources of a resource.
pub(crate) fn of(resource: &Resource) -> impl Iterator<Item = &'static Subresource> {
    let (group, plural) = (resource.group, resource.plural);
    SUBRESOURCES.iter().filter(move |sub| sub.group == group && sub.resource == plural)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::ALL;

    #[test]
    fn every_subresource_belongs_to_a_resource_and_stands_in_order() {
        let known = |sub: &Subresource| ALL.iter().any(|r| r.group == sub.group && r.plural == sub.resource);
        assert!(SUBRESOURCES.iter().all(|sub| known(sub) && sub.verbs.is_sorted()));
        assert!(ALL.iter().all(|resource| of(resource).map(|sub| sub.name).is_sorted()));
    }
}
