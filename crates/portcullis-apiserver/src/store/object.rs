//! A stored object: the bytes that a GET answers with, and the few facts that selecting and watching need.
//!
//! The bytes begin with `{"kind":…,"apiVersion":…,"metadata":{…}` in that order, so that a list item (which has no kind),
//! a watch frame and a `PartialObjectMetadata` are slices of them. The tree is made again when a table needs it: kept, it
//! would take five times the memory.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::graph::Owner;
use crate::json;
use crate::resources::tree::{flag, list, string};
use crate::resources::{self, Resource, SelectableFields};

/// Holds an object until its dependants are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Holds an object until its dependants name it no more.
pub(crate) const ORPHAN: &str = "orphan";

/// An object at one resource version. Immutable; shared between the store, the event log and responses.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) name: Box<str>,
    /// Empty for cluster-scoped objects.
    pub(crate) namespace: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) version: u64,
    /// It was asked to go, and finalizers hold it.
    pub(crate) terminating: bool,
    /// It is going, and waits until its dependants are gone.
    pub(crate) collecting: bool,
    /// It is going, and waits until its dependants are its own no more.
    pub(crate) orphaning: bool,
    /// When it ends by itself.
    pub(crate) ends: Option<Timestamp>,
    /// Owner references.
    pub(crate) owners: Box<[Owner]>,
    pub(crate) labels: Labels,
    /// Field selector values of its kind, without `metadata.name` and `metadata.namespace`.
    pub(crate) fields: Box<[(&'static str, Box<str>)]>,
    /// The whole object, as JSON without a final newline.
    pub(crate) bytes: Arc<[u8]>,
    /// Where the members after `apiVersion` begin.
    members_at: u32,
    /// The value of `metadata`.
    metadata: Range<u32>,
}

/// Labels in one piece of memory: each key and each value with an end mark, which no valid label has in it.
#[derive(Debug)]
pub(crate) struct Labels(Box<str>);

/// What the allocations of an object take beside their contents.
const ALLOCATIONS: usize = 96;
const END: char = '\0';

impl Labels {
    fn of(value: Option<&Value>) -> Self {
        let Some(Value::Object(members)) = value else { return Self(Box::default()) };
        let mut text = String::new();
        for (key, value) in members {
            let Some(value) = value.as_str() else { continue };
            if !key.contains(END) && !value.contains(END) {
                text.extend([key, value].into_iter().flat_map(|part| part.chars().chain([END])));
            }
        }
        Self(text.into())
    }

    /// Keys and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.0.split_terminator(END);
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }
}

impl Object {
    /// Seals a tree in its kind's shape at `version`. `members` has no `kind` and no `apiVersion`.
    pub(crate) fn seal(resource: &Resource, members: Map<String, Value>, version: u64) -> Arc<Self> {
        Self::seal_until(resource, members, version, None)
    }

    /// Likewise for one that ends by itself.
    pub(crate) fn seal_until(
        resource: &Resource,
        members: Map<String, Value>,
        version: u64,
        ends: Option<Timestamp>,
    ) -> Arc<Self> {
        let fields = (resource.selectable)(&members);
        Arc::new(Self { ends, ..Self::sealed(resource.kind, &resource.api_version(), fields, members, version) })
    }

    /// Likewise for a document that shows a part of an object, of a kind of its own: group, version and kind.
    pub(crate) fn seal_part(
        (group, api_version, kind): (&str, &str, &str),
        members: Map<String, Value>,
        version: u64,
    ) -> Arc<Self> {
        Arc::new(Self::sealed(kind, &resources::api_version(group, api_version), Vec::new(), members, version))
    }

    fn sealed(
        kind: &str,
        api_version: &str,
        fields: SelectableFields,
        mut members: Map<String, Value>,
        version: u64,
    ) -> Self {
        if let Some(Value::Object(metadata)) = members.get_mut("metadata") {
            set_version(metadata, version);
        }
        let mut bytes = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\"").into_bytes();
        let members_at = offset(bytes.len() + 1);
        let empty = Value::Object(Map::new());
        let metadata = members.get("metadata").unwrap_or(&empty);
        bytes.extend_from_slice(b",\"metadata\":");
        let start = bytes.len();
        bytes.extend(json::to_vec(metadata));
        let metadata_range = offset(start)..offset(bytes.len());
        for (name, value) in members.iter().filter(|(name, _)| *name != "metadata") {
            bytes.push(b',');
            bytes.extend(json::to_vec(name));
            bytes.push(b':');
            bytes.extend(json::to_vec(value));
        }
        bytes.push(b'}');
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default().into();
        let terminating = metadata.get("deletionTimestamp").is_some_and(|time| !time.is_null());
        let held_by = |name: &str| terminating && list(metadata, "finalizers").iter().any(|held| held == name);
        Self {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            version,
            terminating,
            collecting: held_by(FOREGROUND),
            orphaning: held_by(ORPHAN),
            ends: None,
            owners: list(metadata, "ownerReferences").iter().map(owner).collect(),
            labels: Labels::of(metadata.get("labels")),
            fields: fields.into(),
            bytes: bytes.into(),
            members_at,
            metadata: metadata_range,
        }
    }

    /// Bytes of memory that it takes, in full.
    pub(super) fn cost(&self) -> usize {
        let owners: usize = self.owners.iter().map(|owner| size_of::<Owner>() + owner.uid.len()).sum();
        let fields: usize = self.fields.iter().map(|field| size_of_val(field) + field.1.len()).sum();
        let texts = [&self.name, &self.namespace, &self.uid, &self.labels.0].map(|text| text.len());
        // Each allocation is rounded up, and has a head.
        size_of::<Self>() + self.bytes.len() + owners + fields + texts.iter().sum::<usize>() + ALLOCATIONS
    }

    /// The whole object, for an answer.
    pub(crate) fn answer(&self) -> Bytes {
        Bytes::from_owner(Arc::clone(&self.bytes))
    }

    /// The key in the store: what etcd's key ends with, so that lists come in the same order.
    pub(crate) fn key(&self) -> String {
        key(&self.namespace, &self.name)
    }

    /// The object as a member of a list: without `kind` and `apiVersion`.
    pub(crate) fn write_item(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(
            usize::try_from(self.members_at).ok().and_then(|at| self.bytes.get(at..)).unwrap_or(b"}"),
        );
    }

    /// Its metadata, as JSON.
    pub(crate) fn metadata(&self) -> &[u8] {
        let (start, end) = (usize::try_from(self.metadata.start), usize::try_from(self.metadata.end));
        start.ok().zip(end.ok()).and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or(b"{}")
    }

    /// The whole tree, with `kind` and `apiVersion`.
    pub(crate) fn tree(&self) -> Map<String, Value> {
        match serde_json::from_slice(&self.bytes) {
            Ok(Value::Object(members)) => members,
            // The bytes were written by `seal`.
            _ => Map::new(),
        }
    }

    /// The tree without `kind` and `apiVersion`: what `seal` takes.
    pub(crate) fn members(&self) -> Map<String, Value> {
        let mut tree = self.tree();
        tree.shift_remove("kind");
        tree.shift_remove("apiVersion");
        tree
    }

    /// The value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The value of a selectable field; empty when the kind has it but the object does not.
    pub(crate) fn field(&self, name: &str) -> &str {
        match name {
            "metadata.name" => &self.name,
            "metadata.namespace" => &self.namespace,
            name => self.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value),
        }
    }
}

/// The key of an object in its resource.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// Sets `resourceVersion` at the place where Go writes it: before what follows it in `ObjectMeta`.
fn set_version(metadata: &mut Map<String, Value>, version: u64) {
    if version == 0 {
        // Not stored: a dry run.
        metadata.shift_remove("resourceVersion");
        return;
    }
    let version = Value::String(version.to_string());
    if let Some(there) = metadata.get_mut("resourceVersion") {
        *there = version;
        return;
    }
    let before = ["name", "generateName", "namespace", "selfLink", "uid"];
    let at = metadata.keys().take_while(|key| before.contains(&key.as_str())).count();
    metadata.shift_insert(at, "resourceVersion".to_owned(), version);
}

fn owner(reference: &Value) -> Owner {
    Owner {
        uid: string(reference, "uid").into(),
        api_version: string(reference, "apiVersion").into(),
        kind: string(reference, "kind").into(),
        name: string(reference, "name").into(),
        blocks: flag(reference, "blockOwnerDeletion"),
    }
}

/// A place in an object's bytes, of which there are far less than 4 GiB: the largest body has 3 MiB.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources;

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn slices_of_the_bytes_are_what_they_say() {
        let resource = resources::find("", "v1", "namespaces").unwrap();
        let object = Object::seal(
            resource,
            members(
                json!({"metadata": {"name": "a", "uid": "u", "labels": {"x": "<1>"}}, "status": {"phase": "Active"}}),
            ),
            7,
        );
        let text = std::str::from_utf8(&object.bytes).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"a","uid":"u","resourceVersion":"7","#,
                r#""labels":{"x":"\u003c1\u003e"}},"status":{"phase":"Active"}}"#
            )
        );
        let mut item = Vec::new();
        object.write_item(&mut item);
        let item: Value = serde_json::from_slice(&item).unwrap();
        assert_eq!(item.as_object().unwrap().keys().collect::<Vec<_>>(), ["metadata", "status"]);
        let metadata: Value = serde_json::from_slice(object.metadata()).unwrap();
        assert_eq!(metadata["resourceVersion"], "7");
        assert_eq!((object.label("x"), object.label("y")), (Some("<1>"), None));
        assert_eq!((object.field("metadata.name"), object.field("status.phase")), ("a", "Active"));
    }

    #[test]
    fn the_version_stands_where_go_writes_it() {
        let mut metadata = members(json!({"name": "a", "uid": "u", "creationTimestamp": "t"}));
        set_version(&mut metadata, 9);
        assert_eq!(metadata.keys().collect::<Vec<_>>(), ["name", "uid", "resourceVersion", "creationTimestamp"]);
        set_version(&mut metadata, 10);
        assert_eq!(metadata["resourceVersion"], "10");
    }
}
