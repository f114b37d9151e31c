//! Answers that consist of objects, in the form that `Accept` asks for: the objects, tables of them, or their metadata.
//!
//! Compat: `endpoints/handlers/response.go`. A form that does not fit what there is (the metadata of one object for a list) is
//! refused only here, when a write has been made already.

use std::sync::Arc;

use portcullis_kube::Status;
use serde_json::{Map, Value, json};

use super::Asked;
use super::read::{list_meta, rows};
use crate::engine::Engine;
use crate::http::Outcome;
use crate::http::body::internal_package;
use crate::http::negotiate::{Accepted, Form, MetaVersion};
use crate::http::reply::Reply;
use crate::json;
use crate::resources::{Resource, Subresource};
use crate::store::list::Page;
use crate::store::object::Object;
use crate::table::{self, Rows};

/// An answer that consists of one object.
pub(crate) fn one(engine: &Engine, asked: &Asked<'_>, code: u16, object: &Object) -> Outcome<Reply> {
    let encoding = asked.accepted.encoding;
    if matches!(asked.accepted.form, Form::Object | Form::Discovery) {
        let shown = asked.shown(object);
        return Ok(Reply::json_bytes(code, shown.as_deref().unwrap_or(object).answer(), encoding));
    }
    let part = asked.part_of(object);
    let object = part.as_deref().unwrap_or(object);
    let (group, kind) = kind(asked);
    let bytes = match asked.accepted.form {
        Form::Object | Form::Discovery => object.answer().to_vec(),
        Form::Metadata(version) => partial(version, object.metadata()),
        Form::MetadataList(_) => return Err(no_list(group, kind)),
        Form::Table(version) => {
            let rows = Rows { object: rows(asked)?, version };
            // What was only tried has no version.
            let meta = match object.version {
                0 => json!({}),
                version => json!({"resourceVersion": version.to_string()}),
            };
            table::render(kind, std::iter::once(object), &meta, rows, table::Asked::One, engine.clock.now())
        }
    };
    Ok(Reply::json_bytes(code, bytes, encoding))
}

/// An answer that consists of an object that is stored nowhere, and of which there are no tables.
pub(crate) fn unstored(
    accepted: Accepted,
    code: u16,
    (group, kind): (&str, &str),
    object: &Map<String, Value>,
) -> Outcome<Reply> {
    match accepted.form {
        Form::Object | Form::Table(_) | Form::Discovery => Ok(Reply::json(code, object, accepted.encoding)),
        Form::Metadata(version) => {
            let metadata = object.get("metadata").map_or_else(|| b"{}".to_vec(), json::to_vec);
            Ok(Reply::json_bytes(code, partial(version, &metadata), accepted.encoding))
        }
        Form::MetadataList(_) => Err(no_list(group, kind)),
    }
}

/// An answer that consists of a page of objects.
pub(crate) fn many(engine: &Engine, asked: &Asked<'_>, page: &Page) -> Outcome<Reply> {
    let meta = list_meta(asked, page);
    let resource = asked.resource;
    let bytes = match asked.accepted.form {
        Form::Object | Form::Discovery => objects(asked.served, &meta, &page.objects),
        Form::Metadata(_) => {
            let go_type = format!("*{}.{}List", internal_package(resource.group), resource.kind);
            let why = format!("you requested PartialObjectMetadata, but the requested object is a list ({go_type})");
            return Err(unfit(&why));
        }
        Form::MetadataList(version) => metadata(version, &meta, &page.objects),
        Form::Table(version) => {
            let rows = Rows { object: rows(asked)?, version };
            let objects = page.objects.iter().map(Arc::as_ref);
            table::render(resource.kind, objects, &meta, rows, table::Asked::List, engine.clock.now())
        }
    };
    Ok(Reply::json_bytes(200, bytes, asked.accepted.encoding))
}

/// Group and kind of what the path answers.
fn kind(asked: &Asked<'_>) -> (&'static str, &'static str) {
    let own = asked.subresource.and_then(Subresource::own_kind);
    own.map_or((asked.resource.group, asked.resource.kind), |(group, _, kind)| (group, kind))
}

fn no_list(group: &str, kind: &str) -> Box<Status> {
    let go_type = format!("*{}.{kind}", internal_package(group));
    unfit(&format!("you requested PartialObjectMetadataList, but the requested object is not a list ({go_type})"))
}

fn unfit(why: &str) -> Box<Status> {
    Box::new(Status::failure(406, "NotAcceptable", why))
}

fn partial(version: MetaVersion, metadata: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    table::write_partial(&mut out, version, metadata);
    out
}

/// A list of whole objects.
fn objects(served: &Resource, meta: &Value, objects: &[Arc<Object>]) -> Vec<u8> {
    let (kind, api_version) = (served.kind, served.api_version());
    let size: usize = objects.iter().map(|object| object.bytes.len()).sum();
    let mut out = Vec::with_capacity(size + 256);
    out.extend_from_slice(
        format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{api_version}\",\"metadata\":").as_bytes(),
    );
    out.extend(json::to_vec(meta));
    out.extend_from_slice(b",\"items\":[");
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match served.shown(object) {
            Some(shown) => shown.write_item(&mut out),
            None => object.write_item(&mut out),
        }
    }
    out.extend_from_slice(b"]}");
    out
}

fn metadata(version: MetaVersion, meta: &Value, objects: &[Arc<Object>]) -> Vec<u8> {
    let api_version = version.api_version();
    let head = format!("{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"{api_version}\",\"metadata\":");
    let mut out = head.into_bytes();
    out.extend(json::to_vec(meta));
    if objects.is_empty() {
        // Compat: Go's list was never made.
        out.extend_from_slice(b",\"items\":null}");
        return out;
    }
    out.extend_from_slice(b",\"items\":[");
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        table::write_partial(&mut out, version, object.metadata());
    }
    out.extend_from_slice(b"]}");
    out
}
