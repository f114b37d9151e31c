//! Every resource that is served: one entry each, in discovery's order.
//!
//! A new kind is an entry here, its type in `schema`, a file with its rules where it has any, and a table.

use serde_json::Value;

use super::rules::Rules;
use super::tree::{Members, at, text};
use super::{Resource, Review, SelectableFields};
use super::{autoscalers, disruption_budgets, leases, network_policies, quotas, rbac, secrets, storage, workloads};

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const READ_VERBS: &[&str] = &["get", "list", "watch"];
const NAMESPACE_VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];

const APIEXTENSIONS: &str = "apiextensions.k8s.io";
const APPS: &str = "apps";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTOSCALING: &str = "autoscaling";
const BATCH: &str = "batch";
const CERTIFICATES: &str = "certificates.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";
const EVENTS_GROUP: &str = "events.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const POLICY: &str = "policy";
const RBAC: &str = "rbac.authorization.k8s.io";
const SCHEDULING: &str = "scheduling.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// API groups other than the core group, in the order in which upstream lists them.
pub(crate) const GROUPS: [&str; 15] = [
    APPS,
    EVENTS_GROUP,
    AUTHENTICATION,
    AUTHORIZATION,
    AUTOSCALING,
    BATCH,
    CERTIFICATES,
    NETWORKING,
    POLICY,
    RBAC,
    STORAGE,
    APIEXTENSIONS,
    SCHEDULING,
    COORDINATION,
    DISCOVERY,
];

/// The places of those that other code asks for by name.
const CONFIG_MAPS: usize = place("", "configmaps");
const ENDPOINTS: usize = place("", "endpoints");
const EVENTS: usize = place("", "events");
const LIMIT_RANGES: usize = place("", "limitranges");
const NAMESPACES: usize = place("", "namespaces");
const NODES: usize = place("", "nodes");
const PERSISTENT_VOLUME_CLAIMS: usize = place("", "persistentvolumeclaims");
const PERSISTENT_VOLUMES: usize = place("", "persistentvolumes");
const PODS: usize = place("", "pods");
const SERVICE_ACCOUNTS: usize = place("", "serviceaccounts");
const SERVICES: usize = place("", "services");
const CLUSTER_ROLE_BINDINGS: usize = place(RBAC, "clusterrolebindings");
const CLUSTER_ROLES: usize = place(RBAC, "clusterroles");
const ROLE_BINDINGS: usize = place(RBAC, "rolebindings");
const ROLES: usize = place(RBAC, "roles");
const PRIORITY_CLASSES: usize = place(SCHEDULING, "priorityclasses");
const CERTIFICATE_SIGNING_REQUESTS: usize = place(CERTIFICATES, "certificatesigningrequests");
const POD_DISRUPTION_BUDGETS: usize = place(POLICY, "poddisruptionbudgets");
const HORIZONTAL_POD_AUTOSCALERS: usize = place(AUTOSCALING, "horizontalpodautoscalers");
const ENDPOINT_SLICES: usize = place(DISCOVERY, "endpointslices");
const INGRESS_CLASSES: usize = place(NETWORKING, "ingressclasses");
const INGRESSES: usize = place(NETWORKING, "ingresses");
const STORAGE_CLASSES: usize = place(STORAGE, "storageclasses");

/// Where a resource stands; it does not compile for one that is not there.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it, and says so when it goes too far")]
const fn place(group: &str, plural: &str) -> usize {
    let mut at = 0;
    while !(equal(LISTED[at].group, group) && equal(LISTED[at].plural, plural)) {
        at += 1;
    }
    at
}

#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it, and says so when it goes too far")]
const fn equal(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Each entry knows its place.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it, and says so when it goes too far")]
const fn numbered<const COUNT: usize>(mut all: [Resource; COUNT]) -> [Resource; COUNT] {
    let mut at = 0;
    while at < COUNT {
        all[at].id = at;
        at += 1;
    }
    all
}

/// Every stored resource.
pub(crate) static ALL: [Resource; LISTED.len()] = numbered(LISTED);

const LISTED: [Resource; 37] = [
    Resource {
        rules: super::config_maps::RULES,
        ..namespaced("", "configmaps", "configmap", "ConfigMap", &["cm"], "core.ConfigMap")
    },
    Resource {
        rules: super::endpoints::RULES,
        deprecated: super::endpoints::DEPRECATED,
        ..namespaced("", "endpoints", "endpoints", "Endpoints", &["ep"], "core.Endpoints")
    },
    Resource {
        rules: super::events::RULES,
        selectable: event_fields,
        selectable_names: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ..namespaced("", "events", "event", "Event", &["ev"], "core.Event")
    },
    Resource {
        rules: quotas::LIMIT_RULES,
        ..namespaced("", "limitranges", "limitrange", "LimitRange", &["limits"], "core.LimitRange")
    },
    Resource {
        rules: super::namespaces::RULES,
        verbs: NAMESPACE_VERBS,
        selectable: |members| vec![("status.phase", text(members, &["status", "phase"]))],
        selectable_names: &["status.phase"],
        ..cluster("", "namespaces", "namespace", "Namespace", &["ns"], "core.Namespace")
    },
    Resource {
        rules: super::nodes::RULES,
        selectable: super::nodes::selectable,
        selectable_names: &["spec.unschedulable"],
        ..cluster("", "nodes", "node", "Node", &["no"], "core.Node")
    },
    Resource {
        rules: storage::CLAIM_RULES,
        ..namespaced(
            "",
            "persistentvolumeclaims",
            "persistentvolumeclaim",
            "PersistentVolumeClaim",
            &["pvc"],
            "core.PersistentVolumeClaim",
        )
    },
    Resource {
        rules: storage::VOLUME_RULES,
        ..cluster("", "persistentvolumes", "persistentvolume", "PersistentVolume", &["pv"], "core.PersistentVolume")
    },
    Resource {
        rules: super::pods::RULES,
        categories: &["all"],
        selectable: super::pods::selectable,
        selectable_names: super::pods::SELECTABLE,
        ..namespaced("", "pods", "pod", "Pod", &["po"], "core.Pod")
    },
    Resource {
        rules: workloads::replication_controllers::TEMPLATE_RULES,
        ..namespaced("", "podtemplates", "podtemplate", "PodTemplate", &[], "core.PodTemplate")
    },
    Resource {
        rules: workloads::replication_controllers::RULES,
        categories: &["all"],
        selectable: workloads::replication_controllers::selectable,
        selectable_names: workloads::replication_controllers::SELECTABLE,
        ..namespaced(
            "",
            "replicationcontrollers",
            "replicationcontroller",
            "ReplicationController",
            &["rc"],
            "core.ReplicationController",
        )
    },
    Resource {
        rules: quotas::QUOTA_RULES,
        ..namespaced("", "resourcequotas", "resourcequota", "ResourceQuota", &["quota"], "core.ResourceQuota")
    },
    Resource {
        rules: secrets::RULES,
        selectable: |members| vec![("type", text(members, &["type"]))],
        selectable_names: &["type"],
        ..namespaced("", "secrets", "secret", "Secret", &[], "core.Secret")
    },
    Resource {
        rules: super::service_accounts::RULES,
        ..namespaced("", "serviceaccounts", "serviceaccount", "ServiceAccount", &["sa"], "core.ServiceAccount")
    },
    Resource {
        rules: super::services::RULES,
        categories: &["all"],
        selectable: super::services::selectable,
        selectable_names: super::services::SELECTABLE,
        ..namespaced("", "services", "service", "Service", &["svc"], "core.Service")
    },
    Resource {
        rules: workloads::controller_revisions::RULES,
        ..namespaced(
            APPS,
            "controllerrevisions",
            "controllerrevision",
            "ControllerRevision",
            &[],
            "apps.ControllerRevision",
        )
    },
    Resource {
        rules: workloads::daemon_sets::RULES,
        categories: &["all"],
        ..namespaced(APPS, "daemonsets", "daemonset", "DaemonSet", &["ds"], "apps.DaemonSet")
    },
    Resource {
        rules: workloads::deployments::RULES,
        categories: &["all"],
        ..namespaced(APPS, "deployments", "deployment", "Deployment", &["deploy"], "apps.Deployment")
    },
    Resource {
        rules: workloads::replica_sets::RULES,
        categories: &["all"],
        ..namespaced(APPS, "replicasets", "replicaset", "ReplicaSet", &["rs"], "apps.ReplicaSet")
    },
    Resource {
        rules: workloads::stateful_sets::RULES,
        categories: &["all"],
        ..namespaced(APPS, "statefulsets", "statefulset", "StatefulSet", &["sts"], "apps.StatefulSet")
    },
    autoscalers_of("autoscalingv2.HorizontalPodAutoscaler"),
    Resource {
        rules: workloads::cron_jobs::RULES,
        categories: &["all"],
        ..namespaced(BATCH, "cronjobs", "cronjob", "CronJob", &["cj"], "batch.CronJob")
    },
    Resource {
        rules: workloads::jobs::RULES,
        categories: &["all"],
        selectable: workloads::jobs::selectable,
        selectable_names: workloads::jobs::SELECTABLE,
        ..namespaced(BATCH, "jobs", "job", "Job", &[], "batch.Job")
    },
    Resource {
        rules: super::certificates::RULES,
        selectable: super::certificates::selectable,
        selectable_names: &["spec.signerName"],
        ..cluster(
            CERTIFICATES,
            "certificatesigningrequests",
            "certificatesigningrequest",
            "CertificateSigningRequest",
            &["csr"],
            "certificates.CertificateSigningRequest",
        )
    },
    Resource {
        rules: super::ingresses::CLASS_RULES,
        ..cluster(NETWORKING, "ingressclasses", "ingressclass", "IngressClass", &[], "networking.IngressClass")
    },
    Resource {
        rules: super::ingresses::RULES,
        ..namespaced(NETWORKING, "ingresses", "ingress", "Ingress", &["ing"], "networking.Ingress")
    },
    Resource {
        rules: network_policies::RULES,
        ..namespaced(
            NETWORKING,
            "networkpolicies",
            "networkpolicy",
            "NetworkPolicy",
            &["netpol"],
            "networking.NetworkPolicy",
        )
    },
    Resource {
        rules: disruption_budgets::RULES,
        ..namespaced(
            POLICY,
            "poddisruptionbudgets",
            "poddisruptionbudget",
            "PodDisruptionBudget",
            &["pdb"],
            "policy.PodDisruptionBudget",
        )
    },
    Resource {
        rules: rbac::CLUSTER_ROLE_BINDING,
        ..cluster(
            RBAC,
            "clusterrolebindings",
            "clusterrolebinding",
            "ClusterRoleBinding",
            &[],
            "rbac.ClusterRoleBinding",
        )
    },
    Resource {
        rules: rbac::CLUSTER_ROLE,
        ..cluster(RBAC, "clusterroles", "clusterrole", "ClusterRole", &[], "rbac.ClusterRole")
    },
    Resource {
        rules: rbac::ROLE_BINDING,
        ..namespaced(RBAC, "rolebindings", "rolebinding", "RoleBinding", &[], "rbac.RoleBinding")
    },
    Resource { rules: rbac::ROLE, ..namespaced(RBAC, "roles", "role", "Role", &[], "rbac.Role") },
    Resource {
        rules: storage::CLASS_RULES,
        ..cluster(STORAGE, "storageclasses", "storageclass", "StorageClass", &["sc"], "storage.StorageClass")
    },
    // None can be made here; clients look whether there are any.
    Resource {
        verbs: READ_VERBS,
        categories: &["api-extensions"],
        ..cluster(
            APIEXTENSIONS,
            "customresourcedefinitions",
            "customresourcedefinition",
            "CustomResourceDefinition",
            &["crd", "crds"],
            "apiextensions.CustomResourceDefinition",
        )
    },
    Resource {
        rules: super::priority_classes::RULES,
        ..cluster(SCHEDULING, "priorityclasses", "priorityclass", "PriorityClass", &["pc"], "scheduling.PriorityClass")
    },
    Resource {
        rules: leases::RULES,
        ..namespaced(COORDINATION, "leases", "lease", "Lease", &[], "coordination.Lease")
    },
    Resource {
        rules: super::endpoint_slices::RULES,
        ..namespaced(DISCOVERY, "endpointslices", "endpointslice", "EndpointSlice", &[], "discovery.EndpointSlice")
    },
];

/// Resources whose objects are stored as those of another group-version.
pub(crate) static VIEWS: [Resource; 2] = [
    Resource {
        id: EVENTS,
        rules: super::events::NEWER_RULES,
        view: Some(super::events::VIEW),
        ..namespaced(EVENTS_GROUP, "events", "event", "Event", &["ev"], "events.Event")
    },
    Resource {
        id: HORIZONTAL_POD_AUTOSCALERS,
        version: "v1",
        view: Some(autoscalers::VIEW),
        ..autoscalers_of("autoscaling.HorizontalPodAutoscaler")
    },
];

const fn autoscalers_of(schema: &'static str) -> Resource {
    Resource {
        version: "v2",
        rules: autoscalers::RULES,
        categories: &["all"],
        ..namespaced(
            AUTOSCALING,
            "horizontalpodautoscalers",
            "horizontalpodautoscaler",
            "HorizontalPodAutoscaler",
            &["hpa"],
            schema,
        )
    }
}

/// Every review, in discovery's order.
pub(crate) static REVIEWS: [Review; 7] = [
    review("", "bindings", "binding", "Binding", true, "core.Binding"),
    review(
        AUTHENTICATION,
        "selfsubjectreviews",
        "selfsubjectreview",
        "SelfSubjectReview",
        false,
        "authn.SelfSubjectReview",
    ),
    review(AUTHENTICATION, "tokenreviews", "tokenreview", "TokenReview", false, "authn.TokenReview"),
    review(
        AUTHORIZATION,
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        "LocalSubjectAccessReview",
        true,
        "authz.LocalSubjectAccessReview",
    ),
    review(
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        "SelfSubjectAccessReview",
        false,
        "authz.SelfSubjectAccessReview",
    ),
    review(
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        "SelfSubjectRulesReview",
        false,
        "authz.SelfSubjectRulesReview",
    ),
    review(
        AUTHORIZATION,
        "subjectaccessreviews",
        "subjectaccessreview",
        "SubjectAccessReview",
        false,
        "authz.SubjectAccessReview",
    ),
];

const fn namespaced(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    schema: &'static str,
) -> Resource {
    Resource {
        id: 0,
        group,
        version: "v1",
        plural,
        singular,
        kind,
        namespaced: true,
        verbs: ALL_VERBS,
        short_names,
        categories: &[],
        schema,
        rules: Rules::NAMESPACED,
        view: None,
        deprecated: "",
        selectable: |_| Vec::new(),
        selectable_names: &[],
    }
}

const fn cluster(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    schema: &'static str,
) -> Resource {
    Resource {
        namespaced: false,
        rules: Rules::CLUSTER,
        ..namespaced(group, plural, singular, kind, short_names, schema)
    }
}

const fn review(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
    schema: &'static str,
) -> Review {
    Review { group, version: "v1", plural, singular, kind, namespaced, schema }
}

pub(crate) fn config_maps() -> &'static Resource {
    &ALL[CONFIG_MAPS]
}

pub(crate) fn endpoints() -> &'static Resource {
    &ALL[ENDPOINTS]
}

pub(crate) fn events() -> &'static Resource {
    &ALL[EVENTS]
}

pub(crate) fn limit_ranges() -> &'static Resource {
    &ALL[LIMIT_RANGES]
}

pub(crate) fn namespaces() -> &'static Resource {
    &ALL[NAMESPACES]
}

pub(crate) fn nodes() -> &'static Resource {
    &ALL[NODES]
}

pub(crate) fn persistent_volume_claims() -> &'static Resource {
    &ALL[PERSISTENT_VOLUME_CLAIMS]
}

pub(crate) fn persistent_volumes() -> &'static Resource {
    &ALL[PERSISTENT_VOLUMES]
}

pub(crate) fn pods() -> &'static Resource {
    &ALL[PODS]
}

pub(crate) fn service_accounts() -> &'static Resource {
    &ALL[SERVICE_ACCOUNTS]
}

pub(crate) fn priority_classes() -> &'static Resource {
    &ALL[PRIORITY_CLASSES]
}

pub(crate) fn endpoint_slices() -> &'static Resource {
    &ALL[ENDPOINT_SLICES]
}

pub(crate) fn pod_disruption_budgets() -> &'static Resource {
    &ALL[POD_DISRUPTION_BUDGETS]
}

pub(crate) fn certificate_signing_requests() -> &'static Resource {
    &ALL[CERTIFICATE_SIGNING_REQUESTS]
}

pub(crate) fn ingress_classes() -> &'static Resource {
    &ALL[INGRESS_CLASSES]
}

pub(crate) fn ingresses() -> &'static Resource {
    &ALL[INGRESSES]
}

pub(crate) fn storage_classes() -> &'static Resource {
    &ALL[STORAGE_CLASSES]
}

pub(crate) fn services() -> &'static Resource {
    &ALL[SERVICES]
}

pub(crate) fn cluster_role_bindings() -> &'static Resource {
    &ALL[CLUSTER_ROLE_BINDINGS]
}

pub(crate) fn cluster_roles() -> &'static Resource {
    &ALL[CLUSTER_ROLES]
}

pub(crate) fn role_bindings() -> &'static Resource {
    &ALL[ROLE_BINDINGS]
}

pub(crate) fn roles() -> &'static Resource {
    &ALL[ROLES]
}

fn event_fields(members: &Members) -> SelectableFields {
    let about = |name: &str| text(members, &["involvedObject", name]);
    let component = text(members, &["source", "component"]);
    let reporter = text(members, &["reportingComponent"]);
    vec![
        ("involvedObject.kind", about("kind")),
        ("involvedObject.namespace", about("namespace")),
        ("involvedObject.name", about("name")),
        ("involvedObject.uid", about("uid")),
        ("involvedObject.apiVersion", about("apiVersion")),
        ("involvedObject.resourceVersion", about("resourceVersion")),
        ("involvedObject.fieldPath", about("fieldPath")),
        ("reason", text(members, &["reason"])),
        ("source", if component.is_empty() { reporter.clone() } else { component }),
        ("reportingComponent", reporter),
        ("type", at(members, &["type"]).and_then(Value::as_str).unwrap_or_default().into()),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::serves;
    use super::*;
    use crate::schema::SCHEMA;

    #[test]
    fn every_entry_stands_where_its_id_says_and_has_a_type() {
        for (place, resource) in ALL.iter().enumerate() {
            assert_eq!(resource.id(), place, "{}", resource.plural);
            assert!(resource.schema().is_some(), "{}", resource.plural);
            assert!(resource.verbs.is_sorted());
            assert!(serves(resource.group, resource.version));
        }
        let order: Vec<_> = ALL
            .iter()
            .map(|resource| (GROUPS.iter().position(|group| *group == resource.group), resource.plural))
            .collect();
        assert!(order.is_sorted(), "discovery lists groups in its order, and resources by name");
        assert!(
            REVIEWS.iter().all(|review| SCHEMA.find(review.schema).is_some() && serves(review.group, review.version))
        );
    }

    #[test]
    fn the_named_ones_are_the_right_ones() {
        let named = [
            (events(), "events"),
            (namespaces(), "namespaces"),
            (nodes(), "nodes"),
            (pods(), "pods"),
            (services(), "services"),
            (cluster_role_bindings(), "clusterrolebindings"),
            (cluster_roles(), "clusterroles"),
            (role_bindings(), "rolebindings"),
            (roles(), "roles"),
        ];
        for (resource, plural) in named {
            assert_eq!(resource.plural, plural);
        }
    }

    #[test]
    fn selectable_fields_are_the_ones_named() {
        for resource in &ALL {
            let mut given: Vec<_> = (resource.selectable)(&Map::new()).into_iter().map(|(name, _)| name).collect();
            let mut named = resource.selectable_names.to_vec();
            given.sort_unstable();
            named.sort_unstable();
            assert_eq!(given, named, "{}", resource.plural);
        }
    }

    #[test]
    fn storage_hashes_are_upstreams() {
        assert_eq!(namespaces().storage_version_hash(), "Q3oi5N2YM8M=");
        assert_eq!(roles().storage_version_hash(), "7FuwZcIIItM=");
    }
}
