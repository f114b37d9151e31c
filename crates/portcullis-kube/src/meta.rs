//! `metav1`: metadata of objects and lists, label selectors, options of a delete, events of a watch.
//!
//! Member order is Go's, because responses are compared byte for byte.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::timestamp::Time;
use crate::wire::{is_zero_i64, nullable};

/// `kind` and `apiVersion`, for types that carry nothing else of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TypeMeta {
    /// The object's kind, for example `Pod`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub kind: String,
    /// Group and version, for example `rbac.authorization.k8s.io/v1`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub api_version: String,
}

impl TypeMeta {
    /// Both members.
    pub fn new(kind: &str, api_version: &str) -> Self {
        Self { kind: kind.to_owned(), api_version: api_version.to_owned() }
    }
}

/// Metadata of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListMeta {
    /// The store's version that the list shows.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub resource_version: String,
    /// Opaque token for the next page.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub continue_token: String,
    /// Items after this page, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<i64>,
}

/// Metadata of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Unique in its namespace (or cluster) and kind.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub name: String,
    /// Prefix from which the server makes a name when none is given.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub generate_name: String,
    /// Empty for cluster-scoped objects.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub namespace: String,
    /// No longer filled by servers.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub self_link: String,
    /// Unique over time.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub uid: String,
    /// Opaque version for optimistic locking.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub resource_version: String,
    /// Counts changes of the desired state.
    #[serde(skip_serializing_if = "is_zero_i64", deserialize_with = "nullable")]
    pub generation: i64,
    /// Set by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
    /// Set by the server once deletion was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Time>,
    /// Seconds that a graceful deletion may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// For selection.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// For everything else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
    /// Objects whose end ends this one.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub owner_references: Vec<OwnerReference>,
    /// What must be done before the object may go.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub finalizers: Vec<String>,
    /// Who set which field.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub managed_fields: Vec<ManagedFieldsEntry>,
}

impl ObjectMeta {
    /// Metadata with nothing but a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Metadata with a name and a namespace.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: namespace.into(), ..Self::default() }
    }
}

/// An owner of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version of the owner.
    #[serde(deserialize_with = "nullable")]
    pub api_version: String,
    /// Kind of the owner.
    #[serde(deserialize_with = "nullable")]
    pub kind: String,
    /// Name of the owner.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Uid of the owner.
    #[serde(deserialize_with = "nullable")]
    pub uid: String,
    /// Whether the owner manages this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether the owner waits for this object in a foreground deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// Fields that one manager set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ManagedFieldsEntry {
    /// The manager's name, for example `kubectl-create`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub manager: String,
    /// `Apply` or `Update`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub operation: String,
    /// The version in which the fields are named.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub api_version: String,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Always `FieldsV1`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub fields_type: String,
    /// The set of fields.
    #[serde(rename = "fieldsV1", skip_serializing_if = "Option::is_none")]
    pub fields_v1: Option<Value>,
    /// The subresource through which they were set.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub subresource: String,
}

/// An object reduced to its metadata; what a table's rows carry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PartialObjectMetadata {
    /// `PartialObjectMetadata` and `meta.k8s.io/v1`.
    #[serde(flatten)]
    pub types: TypeMeta,
    /// The object's metadata.
    pub metadata: ObjectMeta,
}

/// Selects objects by their labels; an empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must be there with these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions, all of which must hold.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub match_expressions: Vec<SelectorRequirement>,
}

impl LabelSelector {
    /// Whether labels satisfy the selector; an operator that Kubernetes does not know satisfies nothing.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

/// One condition of a selector, on labels or on fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SelectorRequirement {
    /// Label or field.
    #[serde(deserialize_with = "nullable")]
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[serde(deserialize_with = "nullable")]
    pub operator: String,
    /// For `In` and `NotIn`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub values: Vec<String>,
}

impl SelectorRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => value.is_some_and(|v| self.values.contains(v)),
            "NotIn" => value.is_none_or(|v| !self.values.contains(v)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

/// Body of a DELETE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeleteOptions {
    /// `DeleteOptions`, or nothing.
    #[serde(flatten)]
    pub types: TypeMeta,
    /// Seconds; 0 deletes at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// Refuse unless these hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    /// Deprecated form of `propagationPolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphan_dependents: Option<bool>,
    /// `Orphan`, `Background` or `Foreground`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    /// `All`, or nothing.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub dry_run: Vec<String>,
}

/// Conditions of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Preconditions {
    /// The object's uid must be this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The object's version must be this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// One frame of a watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchEvent<T> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The object after the change; before it, for `DELETED`; a Status for `ERROR`.
    pub object: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_the_order_of_go() {
        let mut meta = ObjectMeta::namespaced("ns", "n");
        meta.uid = "u".to_owned();
        meta.resource_version = "7".to_owned();
        meta.creation_timestamp = Some(Time::from_unix_seconds(0));
        meta.labels.insert("b".to_owned(), "2".to_owned());
        meta.labels.insert("a".to_owned(), "1".to_owned());
        let want = r#"{"name":"n","namespace":"ns","uid":"u","resourceVersion":"7","creationTimestamp":"1970-01-01T00:00:00Z","labels":{"a":"1","b":"2"}}"#;
        assert_eq!(serde_json::to_string(&meta).unwrap(), want);
        assert_eq!(serde_json::from_str::<ObjectMeta>(want).unwrap(), meta);
    }

    #[test]
    fn kubectls_null_creation_timestamp_is_read() {
        let meta: ObjectMeta = serde_json::from_str(r#"{"name":"x","creationTimestamp":null,"labels":null}"#).unwrap();
        assert_eq!(meta, ObjectMeta::named("x"));
    }

    #[test]
    fn selectors_match_as_documented() {
        let labels: BTreeMap<String, String> = [("env".to_owned(), "prod".to_owned())].into();
        let requirement = |operator: &str, values: &[&str]| SelectorRequirement {
            key: "env".to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|&v| v.to_owned()).collect(),
        };
        let table = [
            (requirement("In", &["prod", "test"]), true, false),
            (requirement("In", &["test"]), false, false),
            (requirement("NotIn", &["test"]), true, true),
            (requirement("NotIn", &["prod"]), false, true),
            (requirement("Exists", &[]), true, false),
            (requirement("DoesNotExist", &[]), false, true),
            (requirement("Gt", &["1"]), false, false),
        ];
        for (requirement, with_label, without) in table {
            let selector = LabelSelector { match_expressions: vec![requirement], ..LabelSelector::default() };
            assert_eq!(selector.matches(&labels), with_label, "{selector:?}");
            assert_eq!(selector.matches(&BTreeMap::new()), without, "{selector:?}");
        }
        assert!(LabelSelector::default().matches(&labels));
    }
}
