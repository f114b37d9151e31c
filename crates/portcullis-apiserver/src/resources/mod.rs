//! What this server serves, and what is particular about each kind.
//!
//! `catalogue` lists the resources; discovery, routing, storage, selectors and tables all read it. `rules` says what a kind's
//! rules are made of; `strategy` applies them between a body and the store; `defaults` and `check` serve many kinds.

mod autoscalers;
mod catalogue;
pub(crate) mod certificates;
pub(crate) mod check;
mod config_maps;
pub(crate) mod defaults;
pub(crate) mod disruption_budgets;
mod endpoint_slices;
mod endpoints;
mod events;
mod ingresses;
mod key_pairs;
mod leases;
pub(crate) mod namespaces;
mod network_policies;
mod nodes;
pub(crate) mod pod_spec;
pub(crate) mod pods;
pub(crate) mod priority_classes;
mod quotas;
pub(crate) mod rbac;
pub(crate) mod rules;
pub(crate) mod scale;
mod secrets;
mod service_accounts;
pub(crate) mod services;
mod storage;
pub(crate) mod strategy;
pub(crate) mod subresources;
pub(crate) mod tree;
pub(crate) mod view;
mod volume_warnings;
pub(crate) mod workloads;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) use self::catalogue::{
    ALL, GROUPS, REVIEWS, VIEWS, certificate_signing_requests, cluster_role_bindings, cluster_roles, config_maps,
    endpoint_slices, endpoints, events, ingress_classes, ingresses, limit_ranges, namespaces, nodes,
    persistent_volume_claims, persistent_volumes, pod_disruption_budgets, pods, priority_classes, role_bindings, roles,
    service_accounts, services, storage_classes,
};
use self::rules::Rules;
pub(crate) use self::subresources::{SCALE_KIND, Serves, Subresource};
use self::tree::Members;
pub(crate) use self::tree::{at, text};
use self::view::View;
use crate::schema::{SCHEMA, TypeId};

/// A field selector's name and its value in one object.
pub(crate) type SelectableFields = Vec<(&'static str, Box<str>)>;

/// A resource that is stored, or a view of one in another group-version.
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
    schema: &'static str,
    pub(crate) rules: Rules,
    /// Where the objects are those of another resource: how this one shows and takes them.
    pub(crate) view: Option<View>,
    /// What clients are told with each answer about a kind that has a successor; empty for others.
    pub(crate) deprecated: &'static str,
    /// Values for field selectors, without name and namespace.
    pub(crate) selectable: fn(&Members) -> SelectableFields,
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

impl Resource {
    /// Its place in [`ALL`]; that of a view is the stored resource's.
    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// The resource that is stored: itself, or the one of which it is a view.
    pub(crate) fn stored(&'static self) -> &'static Self {
        if self.view.is_some() { ALL.get(self.id).unwrap_or(self) } else { self }
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

    /// Compat: upstream's hash of group, version and kind, so that clients see no change between servers.
    pub(crate) fn storage_version_hash(&self) -> String {
        let stored = ALL.get(self.id).unwrap_or(self);
        // Custom resource definitions are stored in an older version.
        let version = if self.kind == "CustomResourceDefinition" { "v1beta1" } else { stored.version };
        let text = format!("{}/{version}/{}", stored.group, stored.kind);
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        STANDARD.encode(hash.as_ref().get(..8).unwrap_or_default())
    }
}

/// `v1`, or `group/v1`.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Everything with objects: stored resources, and views of them.
pub(crate) fn served() -> impl Iterator<Item = &'static Resource> {
    ALL.iter().chain(&VIEWS)
}

/// The resource of that group, version and plural name.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    served().find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// The resource whose objects say that they are of that kind and version.
pub(crate) fn find_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    served().find(|r| r.kind == kind && r.api_version() == api_version)
}

/// The review of that group, version and plural name.
pub(crate) fn find_review(group: &str, version: &str, plural: &str) -> Option<&'static Review> {
    REVIEWS.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// Whether anything is served under that group and version.
pub(crate) fn serves(group: &str, version: &str) -> bool {
    served().any(|r| r.group == group && r.version == version)
        || REVIEWS.iter().any(|r| r.group == group && r.version == version)
}

/// The stored resource called `plural`, whose name must be unique among groups.
#[cfg(test)]
pub(crate) fn resource_named(plural: &str) -> &'static Resource {
    ALL.iter().find(|resource| resource.plural == plural).unwrap()
}
