//! OpenAPI v2: one document of everything that is served, as JSON and as protobuf.
//!
//! Its paths are in the archive as the real server wrote them; its definitions are the schemas of v3, converted one at a
//! time, so that no tree of the whole document is ever in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::archive::{Archive, Document};
use super::convert::to_v2;
use super::gnostic::{self, Message, named};
use super::served::Served;
use super::v3::expand;
use crate::discovery::entries::groups;
use crate::resources;

/// The document's place in the archive.
pub(super) const PLACE: &str = "openapi/v2";
const REFERENCE: &str = "#/definitions/";

/// Which paths are served, by place.
#[derive(Default)]
struct Filter(BTreeMap<String, Served>);

impl Filter {
    fn keeps(&mut self, path: &str, method: &str) -> bool {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let place = match parts.as_slice() {
            ["api", version, ..] => format!("api/{version}"),
            ["apis", group, version, ..] if !resources::serves(group, version) => return false,
            ["apis", group, version, ..] => format!("apis/{group}/{version}"),
            ["apis", group] => return groups().any(|known| known == *group),
            ["logs", ..] => return false,
            _ => return true,
        };
        let served = self.0.entry(place).or_insert_with_key(|place| Served::at(place));
        served.keeps(path, method)
    }
}

/// The document as JSON; `None` when the data has none.
pub(super) fn to_json(archive: &Archive<'_>) -> Option<String> {
    let data = archive.documents.get(PLACE)?;
    let mut out = data.head.to_owned();
    let mut first = true;
    each_path(archive, data, |path, operations| {
        out.push_str(if first { "\"" } else { ",\"" });
        first = false;
        out.push_str(path);
        out.push_str("\":{");
        for (at, (method, json)) in operations.iter().enumerate() {
            out.push_str(if at == 0 { "\"" } else { ",\"" });
            out.push_str(method);
            out.push_str("\":");
            out.push_str(json);
        }
        out.push('}');
    });
    out.push_str("},\"definitions\":{");
    for (at, (name, schema)) in definitions(archive, data, &out).iter().enumerate() {
        out.push_str(if at == 0 { "\"" } else { ",\"" });
        out.push_str(name);
        out.push_str("\":");
        out.push_str(schema);
    }
    out.push_str("},");
    out.push_str(data.tail);
    Some(out)
}

/// The document as protobuf; `None` when the data has none.
pub(super) fn to_protobuf(archive: &Archive<'_>) -> Option<Vec<u8>> {
    let data = archive.documents.get(PLACE)?;
    let beginning: Map<String, Value> = serde_json::from_str(&format!("{}}}}}", data.head)).ok()?;
    let rest: Map<String, Value> = serde_json::from_str(&format!("{{{}", data.tail)).ok()?;
    let mut out = Message::default();
    gnostic::beginning(&mut out, &beginning);
    let (mut paths, mut text) = (Message::default(), String::from(data.tail));
    each_path(archive, data, |path, operations| {
        let mut item = Message::default();
        for (method, json) in operations {
            if let Ok(value) = serde_json::from_str(json) {
                gnostic::path_member(&mut item, method, &value);
            }
            text.push_str(json);
        }
        paths.message(2, &named(path, &item));
    });
    out.message(8, &paths);
    let mut all = Message::default();
    for (name, schema) in definitions(archive, data, &text) {
        if let Ok(value) = serde_json::from_str(&schema) {
            all.message(1, &named(&name, &gnostic::schema(&value)));
        }
    }
    out.message(9, &all);
    gnostic::rest(&mut out, &rest);
    Some(out.0)
}

fn each_path(archive: &Archive<'_>, data: &Document<'_>, mut with: impl FnMut(&str, &[(&str, String)])) {
    let mut filter = Filter::default();
    for item in &data.paths {
        let mut operations = Vec::new();
        for (method, json) in &item.operations {
            if *method == "parameters" || filter.keeps(item.path, method) {
                let mut text = String::with_capacity(json.len());
                expand(archive, json, &mut text);
                operations.push((*method, text));
            }
        }
        if operations.iter().any(|(method, _)| *method != "parameters") {
            with(item.path, &operations);
        }
    }
}

/// Every definition that `text` refers to, directly or through others.
fn definitions(archive: &Archive<'_>, data: &Document<'_>, text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let references = |text: &str| -> Vec<String> {
        text.split(REFERENCE).skip(1).filter_map(|after| after.split('"').next()).map(str::to_owned).collect()
    };
    let mut queue: VecDeque<String> = [text, data.tail].into_iter().flat_map(references).collect();
    while let Some(name) = queue.pop_front() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let definition = match (data.schemas.get(name.as_str()), archive.schemas.get(name.as_str())) {
            (Some(own), _) => (*own).to_owned(),
            (None, Some(v3)) => {
                let Ok(value) = serde_json::from_str(v3) else { continue };
                // Compat: this document has none of Go's escapes for HTML.
                to_v2(&value).to_string()
            }
            (None, None) => continue,
        };
        queue.extend(references(&definition));
        found.insert(name, definition);
    }
    found
}
