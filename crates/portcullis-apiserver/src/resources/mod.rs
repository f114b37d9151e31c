//! What this server serves: one entry per resource, and what is particular about its kind.
//!
//! Discovery, routing, storage, selectors and tables all read these entries; a new kind is a new entry, a file with its
//! rules where it has any, and a table.

pub(crate) mod namespaces;
pub(crate) mod pods;
pub(crate) mod rbac;
pub(crate) mod strategy;
pub(crate) mod subresources;

use serde_json::{Map, Value};

use crate::schema::{SCHEMA, TypeId};

/// A field selector's name and its value in one object.
pub(crate) type SelectableFields = Vec<(&'static str, Box<str>)>;

/// A resource that is stored.
#[derive(Debug)]
pub(crate) struct Resource {
    id: usize,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    /// Sorted, as discovery lists them.
    pub(crate) verbs: &'static [&'static str],
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    /// Compat: upstream's hash of group, version and kind, so that clients see no change between servers.
    pub(crate) storage_version_hash: &'static str,
    /// The type in the schema table.
    schema: &'static str,
    /// Values for field selectors, without name and namespace.
    pub(crate) selectable: fn(&Map<String, Value>) -> SelectableFields,
    /// Names that `selectable` may give; field selectors accept these, name and namespace.
    pub(crate) selectable_names: &'static [&'static str],
}

/// A resource that answers a POST and stores nothing.
#[derive(Debug)]
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) schema: &'static str,
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const NAMESPACE_VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const READ_VERBS: &[&str] = &["get", "list", "watch"];

/// Every stored resource, in discovery's order.
pub(crate) static ALL: [Resource; 9] = [
    Resource {
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
        ..core(0, "events", "event", "Event", true, ALL_VERBS, &["ev"], "r2yiGXH7wu8=", "core.Event")
    },
    Resource {
        selectable: |members| vec![("status.phase", text(members, &["status", "phase"]))],
        selectable_names: &["status.phase"],
        ..core(
            1,
            "namespaces",
            "namespace",
            "Namespace",
            false,
            NAMESPACE_VERBS,
            &["ns"],
            "Q3oi5N2YM8M=",
            "core.Namespace",
        )
    },
    Resource {
        selectable: |members| vec![("spec.unschedulable", flag(members, &["spec", "unschedulable"]))],
        selectable_names: &["spec.unschedulable"],
        ..core(2, "nodes", "node", "Node", false, READ_VERBS, &["no"], "XwShjMxG9Fs=", "core.Node")
    },
    Resource {
        categories: &["all"],
        selectable: pods::selectable,
        selectable_names: pods::SELECTABLE,
        ..core(3, "pods", "pod", "Pod", true, ALL_VERBS, &["po"], "xPOwRZ+Yhw8=", "core.Pod")
    },
    core(
        4,
        "serviceaccounts",
        "serviceaccount",
        "ServiceAccount",
        true,
        ALL_VERBS,
        &["sa"],
        "pbx9ZvyFpBE=",
        "core.ServiceAccount",
    ),
    rbac_kind(
        5,
        "clusterrolebindings",
        "clusterrolebinding",
        "ClusterRoleBinding",
        false,
        "48tpQ8gZHFc=",
        "rbac.ClusterRoleBinding",
    ),
    rbac_kind(6, "clusterroles", "clusterrole", "ClusterRole", false, "bYE5ZWDrJ44=", "rbac.ClusterRole"),
    rbac_kind(7, "rolebindings", "rolebinding", "RoleBinding", true, "eGsCzGH6b1g=", "rbac.RoleBinding"),
    rbac_kind(8, "roles", "role", "Role", true, "7FuwZcIIItM=", "rbac.Role"),
];

/// Every review, in discovery's order.
pub(crate) static REVIEWS: [Review; 6] = [
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

/// API groups other than the core group, in the order in which upstream lists them.
pub(crate) const GROUPS: [&str; 3] = [AUTHENTICATION, AUTHORIZATION, RBAC];

#[expect(clippy::too_many_arguments, reason = "a table row; the columns are named where the struct is")]
const fn core(
    id: usize,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
    verbs: &'static [&'static str],
    short_names: &'static [&'static str],
    storage_version_hash: &'static str,
    schema: &'static str,
) -> Resource {
    Resource {
        id,
        group: "",
        version: "v1",
        plural,
        singular,
        kind,
        namespaced,
        verbs,
        short_names,
        categories: &[],
        storage_version_hash,
        schema,
        selectable: no_fields,
        selectable_names: &[],
    }
}

const fn rbac_kind(
    id: usize,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
    storage_version_hash: &'static str,
    schema: &'static str,
) -> Resource {
    Resource {
        group: RBAC,
        ..core(id, plural, singular, kind, namespaced, ALL_VERBS, &[], storage_version_hash, schema)
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

impl Resource {
    /// Its place in [`ALL`].
    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// `v1`, or `group/v1`.
    pub(crate) fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// Its type in the schema table.
    pub(crate) fn schema(&self) -> Option<TypeId> {
        SCHEMA.find(self.schema)
    }

    pub(crate) fn group_resource(&self) -> portcullis_kube::status::GroupResource<'static> {
        portcullis_kube::status::GroupResource::new(self.group, self.plural)
    }
}

/// `v1`, or `group/v1`.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The stored resource of that group, version and plural name.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// The review of that group, version and plural name.
pub(crate) fn find_review(group: &str, version: &str, plural: &str) -> Option<&'static Review> {
    REVIEWS.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// Whether anything is served under that group and version.
pub(crate) fn serves(group: &str, version: &str) -> bool {
    version == "v1" && (group.is_empty() || GROUPS.contains(&group))
}

pub(crate) fn events() -> &'static Resource {
    let [events, ..] = &ALL;
    events
}

pub(crate) fn namespaces() -> &'static Resource {
    let [_, namespaces, ..] = &ALL;
    namespaces
}

pub(crate) fn nodes() -> &'static Resource {
    let [_, _, nodes, ..] = &ALL;
    nodes
}

pub(crate) fn pods() -> &'static Resource {
    let [_, _, _, pods, ..] = &ALL;
    pods
}

pub(crate) fn cluster_role_bindings() -> &'static Resource {
    let [.., bindings, _, _, _] = &ALL;
    bindings
}

pub(crate) fn cluster_roles() -> &'static Resource {
    let [.., roles, _, _] = &ALL;
    roles
}

pub(crate) fn role_bindings() -> &'static Resource {
    let [.., bindings, _] = &ALL;
    bindings
}

pub(crate) fn roles() -> &'static Resource {
    let [.., roles] = &ALL;
    roles
}

fn no_fields(_: &Map<String, Value>) -> SelectableFields {
    Vec::new()
}

fn event_fields(members: &Map<String, Value>) -> SelectableFields {
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
        ("type", text(members, &["type"])),
    ]
}

/// The string at a path of members; empty when there is none.
pub(crate) fn text(members: &Map<String, Value>, path: &[&str]) -> Box<str> {
    at(members, path).and_then(Value::as_str).unwrap_or_default().into()
}

/// The value at a path of members.
pub(crate) fn at<'v>(members: &'v Map<String, Value>, path: &[&str]) -> Option<&'v Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(members.get(*first)?, |value, name| value.get(*name))
}

fn flag(members: &Map<String, Value>, path: &[&str]) -> Box<str> {
    let set = at(members, path).and_then(Value::as_bool).unwrap_or(false);
    if set { "true" } else { "false" }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_stands_where_its_id_says_and_has_a_type() {
        for (place, resource) in ALL.iter().enumerate() {
            assert_eq!(resource.id(), place);
            assert!(resource.schema().is_some(), "{}", resource.plural);
            assert!(resource.verbs.is_sorted());
            assert!(serves(resource.group, resource.version));
        }
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
            let given: Vec<_> = (resource.selectable)(&Map::new()).into_iter().map(|(name, _)| name).collect();
            let mut named = resource.selectable_names.to_vec();
            let mut sorted = given.clone();
            sorted.sort_unstable();
            named.sort_unstable();
            assert_eq!(sorted, named, "{}", resource.plural);
        }
    }
}
