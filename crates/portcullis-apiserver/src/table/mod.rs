//! Server-side tables (`meta.k8s.io/v1 Table`): what `kubectl get` prints.
//!
//! Columns, their order, type, format and priority are those of `pkg/printers/internalversion` of Kubernetes 1.37;
//! the descriptions are our own words (no client prints them). Cells are computed per request, because ages move.

mod age;
mod core;
mod pods;
mod rbac;

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value, json};

use crate::json;
use crate::resources::Resource;
use crate::store::object::Object;

/// One column.
#[derive(Debug)]
pub(crate) struct Column {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    /// 0 always shown, 1 with `-o wide`.
    priority: u8,
    description: &'static str,
}

/// What each row carries beside its cells (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowObject {
    Metadata,
    Whole,
    Nothing,
}

impl RowObject {
    /// Reads the parameter; the error is the message of a 400.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Whole),
            "None" => Ok(Self::Nothing),
            other => Err(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: \
                 must be 'Metadata', 'Object', 'None', or empty",
                portcullis_kube::go::quote(other)
            )),
        }
    }
}

type Printer = fn(&Map<String, Value>, Timestamp) -> Vec<Value>;

const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    priority: 0,
    description: "The name of the object, unique among those of its kind in its namespace.",
};
const AGE: Column = shown("Age", "How long ago the object was created.");
const CREATED_AT: Column =
    Column { name: "Created At", kind: "date", format: "", priority: 0, description: "When the object was created." };

const fn shown(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", priority: 0, description }
}

const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", priority: 1, description }
}

fn layout(resource: &Resource) -> (&'static [Column], Printer) {
    match resource.kind {
        "Pod" => (pods::COLUMNS, pods::cells),
        "Namespace" => (core::NAMESPACE, core::namespace),
        "Node" => (core::NODE, core::node),
        "Event" => (core::EVENT, core::event),
        "Role" | "ClusterRole" => (rbac::ROLE, rbac::role),
        "RoleBinding" | "ClusterRoleBinding" => (rbac::BINDING, rbac::binding),
        _ => (core::PLAIN, core::plain),
    }
}

/// A table of `objects` as JSON. `list_meta` is its metadata; a watch's later tables leave the columns out.
pub(crate) fn render<'o>(
    resource: &Resource,
    objects: impl Iterator<Item = &'o Object>,
    list_meta: &Value,
    rows: RowObject,
    with_columns: bool,
    now: Timestamp,
) -> Vec<u8> {
    let (columns, printer) = layout(resource);
    let mut out = b"{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":".to_vec();
    out.extend(json::to_vec(list_meta));
    out.extend_from_slice(b",\"columnDefinitions\":");
    if with_columns {
        out.extend(json::to_vec(&columns.iter().map(Column::definition).collect::<Vec<_>>()));
    } else {
        out.extend_from_slice(b"null");
    }
    out.extend_from_slice(b",\"rows\":[");
    for (index, object) in objects.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let tree = object.tree();
        write_row(&mut out, object, &tree, &printer(&tree, now), rows);
    }
    out.extend_from_slice(b"]}");
    out
}

fn write_row(out: &mut Vec<u8>, object: &Object, tree: &Map<String, Value>, cells: &[Value], rows: RowObject) {
    out.extend_from_slice(b"{\"cells\":");
    out.extend(json::to_vec(cells));
    let phase = crate::resources::text(tree, &["status", "phase"]);
    if let ("Pod", "Succeeded" | "Failed") = (tree.get("kind").and_then(Value::as_str).unwrap_or_default(), &*phase) {
        let message = if &*phase == "Succeeded" { "The pod has completed successfully." } else { "The pod failed." };
        out.extend_from_slice(b",\"conditions\":");
        let condition = json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}]);
        out.extend(json::to_vec(&condition));
    }
    out.extend_from_slice(b",\"object\":");
    match rows {
        RowObject::Metadata => write_partial(out, object.metadata()),
        RowObject::Whole => out.extend_from_slice(&object.bytes),
        RowObject::Nothing => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
}

/// A `PartialObjectMetadata` with that metadata.
pub(crate) fn write_partial(out: &mut Vec<u8>, metadata: &[u8]) {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":");
    out.extend_from_slice(metadata);
    out.push(b'}');
}

/// The cells of an object that has nothing but a version: what a bookmark's table shows.
pub(crate) fn empty_cells(resource: &Resource, now: Timestamp) -> Vec<Value> {
    (layout(resource).1)(&Map::new(), now)
}

impl Column {
    fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": self.description, "priority": self.priority})
    }
}

/// The string at a path; empty when there is none.
fn string<'t>(tree: &'t Map<String, Value>, path: &[&str]) -> &'t str {
    crate::resources::at(tree, path).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a path; empty when there is none.
fn list<'t>(tree: &'t Map<String, Value>, path: &[&str]) -> &'t [Value] {
    crate::resources::at(tree, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// How long ago a time was, in kubectl's words.
fn since(text: &str, now: Timestamp) -> String {
    match Timestamp::parse_rfc3339(text) {
        Some(then) => age::human(now.unix_nanos().saturating_sub(then.unix_nanos())),
        None => "<unknown>".to_owned(),
    }
}

fn created(tree: &Map<String, Value>, now: Timestamp) -> Value {
    Value::String(since(string(tree, &["metadata", "creationTimestamp"]), now))
}

fn name(tree: &Map<String, Value>) -> Value {
    Value::from(string(tree, &["metadata", "name"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources;

    #[test]
    fn every_kind_prints_as_many_cells_as_it_has_columns() {
        for resource in &resources::ALL {
            let (columns, printer) = layout(resource);
            assert_eq!(printer(&Map::new(), Timestamp::from_unix_seconds(0)).len(), columns.len(), "{}", resource.kind);
        }
    }

    #[test]
    fn a_table_has_the_real_servers_form() {
        let members = json!({"metadata": {"name": "default", "creationTimestamp": "1970-01-01T00:00:10Z"}, "status": {"phase": "Active"}});
        let object = Object::seal(resources::namespaces(), members.as_object().unwrap().clone(), 21);
        let now = Timestamp::from_unix_seconds(56);
        let meta = json!({"resourceVersion": "21"});
        let render = |rows, columns| {
            let bytes = render(resources::namespaces(), std::iter::once(&*object), &meta, rows, columns, now);
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let table = render(RowObject::Metadata, true);
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(table["rows"][0]["cells"], json!(["default", "Active", "46s"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(table["rows"][0]["object"]["metadata"]["resourceVersion"], "21");
        assert_eq!(render(RowObject::Nothing, false)["columnDefinitions"], Value::Null);
        assert_eq!(render(RowObject::Nothing, false)["rows"][0]["object"], Value::Null);
        assert_eq!(render(RowObject::Whole, false)["rows"][0]["object"]["kind"], "Namespace");
        assert!(RowObject::parse("Odd").is_err());
    }
}
