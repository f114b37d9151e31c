//! Kinds, objects of them as a store may hold them, selectors, tables.

use std::sync::Arc;

use portcullis_kube::meta::LabelSelector as TypedSelector;
use portcullis_runtime::Timestamp;
use serde_json::{Map, Value, json};

use crate::http::negotiate::MetaVersion;
use crate::resources::check::labels;
use crate::resources::{self, Resource};
use crate::selector::{Selection, Written};
use crate::store::object::Object;
use crate::table::{self, RowObject, Rows};

/// A kind that is served.
#[derive(Debug, Clone, Copy)]
pub struct Kind(&'static Resource);

impl Kind {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        resources::ALL.iter().map(Self)
    }

    /// Such as `Pod`.
    pub fn name(&self) -> &'static str {
        self.0.kind
    }

    /// Such as `pods`.
    pub fn plural(&self) -> &'static str {
        self.0.plural
    }

    /// Where all its objects are listed.
    pub fn path(&self) -> String {
        let (group, version, plural) = (self.0.group, self.0.version, self.0.plural);
        if group.is_empty() { format!("/api/{version}/{plural}") } else { format!("/apis/{group}/{version}/{plural}") }
    }

    /// Where objects are made: in the namespace `default` if they have one.
    pub fn collection(&self) -> String {
        let path = self.path();
        match path.rsplit_once('/') {
            Some((prefix, plural)) if self.0.namespaced => format!("{prefix}/namespaces/default/{plural}"),
            _ => path,
        }
    }
}

/// An object as a store holds it.
#[derive(Debug)]
pub struct Stored {
    kind: Kind,
    object: Arc<Object>,
}

impl Stored {
    /// Of a tree that nobody has judged, as an older server may have written it.
    pub fn raw(kind: Kind, mut members: Map<String, Value>) -> Self {
        members.shift_remove("kind");
        members.shift_remove("apiVersion");
        Self { object: Object::seal(kind.0, members, 7), kind }
    }

    /// The JSON that it is answered as.
    pub fn json(&self) -> &[u8] {
        &self.object.bytes
    }

    /// A label, out of the packed ones.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.object.label(key)
    }

    /// A field that can be selected by.
    pub fn field(&self, name: &str) -> &str {
        self.object.field(name)
    }

    /// The table of a list that holds it alone. Each row carries what `rows` says: `Metadata`, `Object` or `None`.
    pub fn table(&self, rows: &str, now: i64) -> Vec<u8> {
        let object = RowObject::parse(rows, self.kind.0).unwrap_or(RowObject::Nothing);
        let rows = Rows { object, version: MetaVersion::V1 };
        let (one, meta) = (std::iter::once(&*self.object), json!({"resourceVersion": "7"}));
        table::render(self.kind.0.kind, one, &meta, rows, table::Asked::List, Timestamp::from_unix_seconds(now))
    }
}

/// A label selector and a field selector.
#[derive(Debug)]
pub struct Selector(Selection);

impl Selector {
    /// As a list or a watch reads them.
    ///
    /// # Errors
    /// The message of the 400.
    pub fn parse(kind: Kind, labels: &str, fields: &str) -> Result<Self, String> {
        Written::read(labels, fields)?.of(kind.0).map(Self)
    }

    /// Whether a list shows the object.
    pub fn selects(&self, stored: &Stored) -> bool {
        self.0.matches(&stored.object)
    }

    /// The verdict of the label selector alone, on labels that no object has.
    pub fn selects_labels<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.0.labels.matches(label)
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.everything()
    }

    /// Both, printed.
    pub fn printed(&self) -> (String, String) {
        (self.0.labels.to_string(), self.0.fields.to_string())
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.0.labels == other.0.labels && self.0.fields == other.0.fields
    }
}

/// A selector as objects hold it: printed as tables do, and the verdicts of the two that read it.
pub fn structured(selector: &Value, labels: &Map<String, Value>) -> (String, [bool; 2]) {
    let typed: Option<TypedSelector> = serde_json::from_value(selector.clone()).ok();
    let map = labels.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let verdicts = [labels::matches(selector, labels), typed.is_some_and(|typed| typed.matches(&map))];
    (labels::format(selector), verdicts)
}
