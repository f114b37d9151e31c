//! Server-side tables (`meta.k8s.io/v1 Table`): what `kubectl get` prints.
//!
//! Columns, their order, type, format and priority are those of `pkg/printers/internalversion` of Kubernetes 1.37;
//! the descriptions are our own words (no client prints them). Cells are computed per request, because ages move.

mod age;
mod autoscalers;
mod certificates;
mod config;
mod core;
mod definitions;
mod network;
mod pods;
mod rbac;
mod storage;
mod workloads;

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value, json};

use crate::http::negotiate::MetaVersion;
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
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowObject {
    Metadata,
    /// The object, in the form of that resource.
    Whole(&'static Resource),
    Nothing,
}

impl RowObject {
    /// Reads the parameter; the error is the message of a 400.
    pub(crate) fn parse(text: &str, served: &'static Resource) -> Result<Self, String> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Whole(served)),
            "None" => Ok(Self::Nothing),
            other => Err(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: \
                 must be 'Metadata', 'Object', 'None', or empty",
                // Compat: a text with a type of its own is shown as JSON.
                String::from_utf8_lossy(&json::to_vec(other))
            )),
        }
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) object: RowObject,
    /// Of the table and of the metadata in it.
    pub(crate) version: MetaVersion,
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

fn layout(kind: &str) -> (&'static [Column], Printer) {
    match kind {
        "CertificateSigningRequest" => (certificates::COLUMNS, certificates::cells),
        "ConfigMap" => (config::CONFIG_MAP, config::config_map),
        "ControllerRevision" => (workloads::REVISION, workloads::controller_revision),
        "CronJob" => (workloads::CRON_JOB, workloads::cron_job),
        "CustomResourceDefinition" => (definitions::COLUMNS, definitions::cells),
        "DaemonSet" => (workloads::DAEMON_SET, workloads::daemon_set),
        "Deployment" => (workloads::DEPLOYMENT, workloads::deployment),
        "EndpointSlice" => (network::SLICE, network::slice),
        "Endpoints" => (network::ENDPOINTS, network::endpoints),
        "Event" => (core::EVENT, core::event),
        "HorizontalPodAutoscaler" => (autoscalers::COLUMNS, autoscalers::cells),
        "Ingress" => (network::INGRESS, network::ingress),
        "IngressClass" => (network::INGRESS_CLASS, network::ingress_class),
        "Job" => (workloads::JOB, workloads::job),
        "Lease" => (config::LEASE, config::lease),
        "LimitRange" | "Role" | "ClusterRole" => (rbac::ROLE, rbac::role),
        "Namespace" => (core::NAMESPACE, core::namespace),
        "NetworkPolicy" => (network::POLICY, network::policy),
        "Node" => (core::NODE, core::node),
        "PersistentVolume" => (storage::VOLUME, storage::volume),
        "PersistentVolumeClaim" => (storage::CLAIM, storage::claim),
        "Pod" => (pods::COLUMNS, pods::cells),
        "PodDisruptionBudget" => (config::BUDGET, config::budget),
        "PodTemplate" => (workloads::POD_TEMPLATE, workloads::pod_template),
        "PriorityClass" => (config::PRIORITY_CLASS, config::priority_class),
        "ReplicaSet" => (workloads::REPLICA_SET, workloads::replica_set),
        "ReplicationController" => (workloads::REPLICA_SET, workloads::replication_controller),
        "ResourceQuota" => (config::QUOTA, config::quota),
        "RoleBinding" | "ClusterRoleBinding" => (rbac::BINDING, rbac::binding),
        "Scale" => (workloads::SCALE, workloads::scale),
        "Secret" => (config::SECRET, config::secret),
        "Service" => (network::SERVICE, network::service),
        "StatefulSet" => (workloads::STATEFUL_SET, workloads::stateful_set),
        "StorageClass" => (storage::CLASS, storage::class),
        _ => (core::PLAIN, core::plain),
    }
}

/// What a table answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// One object, or the first of a watch.
    One,
    List,
    /// A further object of a watch, whose columns are known.
    Further,
}

/// A table of `objects` as JSON. `list_meta` is its metadata.
pub(crate) fn render<'o>(
    kind: &str,
    objects: impl Iterator<Item = &'o Object> + Clone,
    list_meta: &Value,
    rows: Rows,
    asked: Asked,
    now: Timestamp,
) -> Vec<u8> {
    let (columns, printer) = layout(kind);
    let version = rows.version.api_version();
    let mut out = format!("{{\"kind\":\"Table\",\"apiVersion\":\"{version}\",\"metadata\":").into_bytes();
    out.extend(json::to_vec(list_meta));
    out.extend_from_slice(b",\"columnDefinitions\":");
    if asked == Asked::Further {
        out.extend_from_slice(b"null");
    } else {
        out.extend(json::to_vec(&columns.iter().map(Column::definition).collect::<Vec<_>>()));
    }
    let elsewhere = matches!(kind, "ClusterRole" | "CustomResourceDefinition" | "LimitRange" | "Role");
    if elsewhere && objects.clone().next().is_none() {
        // Compat: tables without columns of their own are made elsewhere, where no rows are no list.
        out.extend_from_slice(b",\"rows\":null}");
        return out;
    }
    out.extend_from_slice(b",\"rows\":[");
    let marked =
        (kind == "StorageClass" && asked == Asked::List).then(|| storage::default_class(objects.clone())).flatten();
    for (index, object) in objects.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let tree = object.tree();
        let mut cells = printer(&tree, now);
        if marked.as_ref() == Some(&object.name)
            && let Some(first) = cells.first_mut()
        {
            *first = Value::from(format!("{} (default)", object.name));
        }
        write_row(&mut out, object, &tree, &cells, rows);
    }
    out.extend_from_slice(b"]}");
    out
}

fn write_row(out: &mut Vec<u8>, object: &Object, tree: &Map<String, Value>, cells: &[Value], rows: Rows) {
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
    match rows.object {
        RowObject::Metadata => write_partial(out, rows.version, object.metadata()),
        RowObject::Whole(served) => match served.shown(object) {
            Some(shown) => out.extend_from_slice(&shown.bytes),
            None => out.extend_from_slice(&object.bytes),
        },
        RowObject::Nothing => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
}

/// A `PartialObjectMetadata` with that metadata.
pub(crate) fn write_partial(out: &mut Vec<u8>, version: MetaVersion, metadata: &[u8]) {
    let version = version.api_version();
    let head = format!("{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{version}\",\"metadata\":");
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(metadata);
    out.push(b'}');
}

/// The cells of an object that has nothing but a version: what a bookmark's table shows.
pub(crate) fn empty_cells(kind: &str, now: Timestamp) -> Vec<Value> {
    (layout(kind).1)(&Map::new(), now)
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

/// The members at a path; empty when there are none.
fn members<'t>(tree: &'t Map<String, Value>, path: &[&str]) -> &'t Map<String, Value> {
    crate::resources::tree::members_at(tree, path)
}

/// The flag at a path; false when there is none.
fn flag(tree: &Map<String, Value>, path: &[&str]) -> bool {
    crate::resources::tree::flag_at(tree, path)
}

/// The whole number at a path; zero when there is none.
fn number(tree: &Map<String, Value>, path: &[&str]) -> Value {
    Value::from(crate::resources::at(tree, path).and_then(Value::as_i64).unwrap_or(0))
}

/// Names and values at a path, such as `a=b,c=d`.
fn pairs(tree: &Map<String, Value>, path: &[&str]) -> String {
    let mut pairs: Vec<String> = members(tree, path)
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
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
            let (columns, printer) = layout(resource.kind);
            assert_eq!(printer(&Map::new(), Timestamp::from_unix_seconds(0)).len(), columns.len(), "{}", resource.kind);
        }
    }

    #[test]
    fn a_table_has_the_real_servers_form() {
        let members = json!({"metadata": {"name": "default", "creationTimestamp": "1970-01-01T00:00:10Z"}, "status": {"phase": "Active"}});
        let object = Object::seal(resources::namespaces(), members.as_object().unwrap().clone(), 21);
        let now = Timestamp::from_unix_seconds(56);
        let meta = json!({"resourceVersion": "21"});
        let render = |rows, asked| {
            let rows = Rows { object: rows, version: MetaVersion::V1 };
            let bytes = render("Namespace", std::iter::once(&*object), &meta, rows, asked, now);
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let table = render(RowObject::Metadata, Asked::One);
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(table["rows"][0]["cells"], json!(["default", "Active", "46s"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(table["rows"][0]["object"]["metadata"]["resourceVersion"], "21");
        assert_eq!(render(RowObject::Nothing, Asked::Further)["columnDefinitions"], Value::Null);
        assert_eq!(render(RowObject::Nothing, Asked::Further)["rows"][0]["object"], Value::Null);
        assert_eq!(
            render(RowObject::Whole(resources::namespaces()), Asked::Further)["rows"][0]["object"]["kind"],
            "Namespace"
        );
        assert!(RowObject::parse("Odd", resources::namespaces()).is_err());
    }
}
