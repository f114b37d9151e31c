//! OpenAPI v3: the document of one group-version, put together from the archive.
//!
//! Nothing is parsed: paths and schemas are the real server's text, and a document is that of what is served here, with the
//! schemas that can be reached from it.

use std::collections::{BTreeSet, VecDeque};

use super::archive::{Archive, FRAGMENT};
use super::served::Served;

const REFERENCE: &str = "#/components/schemas/";

/// The document at `place`; `None` when there is none.
pub(super) fn document(archive: &Archive<'_>, place: &str, served: &Served) -> Option<String> {
    let data = archive.documents.get(place)?;
    let mut out = String::with_capacity(64 * 1024);
    out.push_str(data.head);
    let mut first_path = true;
    for item in &data.paths {
        if !item.operations.iter().any(|(method, _)| *method != "parameters" && served.keeps(item.path, method)) {
            continue;
        }
        out.push_str(if first_path { "\"" } else { ",\"" });
        first_path = false;
        out.push_str(item.path);
        out.push_str("\":{");
        let kept =
            item.operations.iter().filter(|(method, _)| *method == "parameters" || served.keeps(item.path, method));
        for (place, (method, json)) in kept.enumerate() {
            out.push_str(if place == 0 { "\"" } else { ",\"" });
            out.push_str(method);
            out.push_str("\":");
            expand(archive, json, &mut out);
        }
        out.push('}');
    }
    out.push_str("},\"components\":{");
    let schema = |name: &str| data.schemas.get(name).or_else(|| archive.schemas.get(name)).copied();
    let names = reachable(&out, schema);
    if !names.is_empty() {
        out.push_str("\"schemas\":{");
    }
    for (place, name) in names.iter().enumerate() {
        out.push_str(if place == 0 { "\"" } else { ",\"" });
        out.push_str(name);
        out.push_str("\":");
        out.push_str(schema(name).unwrap_or("{}"));
    }
    if !names.is_empty() {
        out.push_str("},");
    }
    out.push_str(data.tail);
    Some(out)
}

/// Puts the fragments in.
pub(super) fn expand(archive: &Archive<'_>, json: &str, out: &mut String) {
    let mut rest = json;
    while let Some((before, after)) = rest.split_once(FRAGMENT.0) {
        out.push_str(before);
        let (number, after) = after.split_once(FRAGMENT.1).unwrap_or((after, ""));
        let fragment = number.parse().ok().and_then(|at: usize| archive.fragments.get(at));
        out.push_str(fragment.copied().unwrap_or("null"));
        rest = after;
    }
    out.push_str(rest);
}

/// The names of all schemas that `text` refers to, directly or through others.
fn reachable<'t>(text: &str, schema: impl Fn(&str) -> Option<&'t str>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut queue: VecDeque<String> = references(text).map(str::to_owned).collect();
    while let Some(name) = queue.pop_front() {
        if found.contains(&name) {
            continue;
        }
        queue.extend(schema(&name).into_iter().flat_map(references).map(str::to_owned));
        found.insert(name);
    }
    found
}

fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split(REFERENCE).skip(1).filter_map(|after| after.split('"').next())
}
