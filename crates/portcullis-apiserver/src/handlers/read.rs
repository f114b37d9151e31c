//! GET of one object and of lists.
//!
//! Compat: options and their errors as `ListOptions` validation and the watch cache of Kubernetes 1.37 treat them.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use portcullis_kube::Status;
use portcullis_kube::go::quote;
use serde_json::{Map, Value, json};

use super::form::{many, one};
use super::list_options::{ListOptions, ListRequest};
use super::{Asked, place, too_large_version};
use crate::engine::Engine;
use crate::http::Outcome;
use crate::http::params::Params;
use crate::http::reply::Reply;
use crate::json::{self, Node};
use crate::store::list::{ListQuery, Page};
use crate::store::object::Object;
use crate::table::RowObject;

/// Base64 as Go's `RawURLEncoding`, which does not look at the bits that are left over.
const TOKENS: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// One object.
pub(crate) fn get(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    // Compat: of an object itself, not of its parts.
    if asked.subresource.is_none() && asked.call.params.flag("export") {
        let why = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(Box::new(Status::bad_request(why)));
    }
    asked.check_key()?;
    let wanted = unprefixed_version(&asked.call.params)?.unwrap_or(0);
    let current = engine.store.version();
    if wanted > current {
        return Err(too_large_version(wanted, current));
    }
    let object = engine
        .store
        .get(asked.resource, asked.namespace, asked.name)
        .ok_or_else(|| Box::new(Status::not_found(asked.served.group_resource(), asked.name)))?;
    one(engine, asked, 200, &object)
}

/// A list.
pub(crate) fn list(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let options = ListRequest::read(asked)?.at(engine.store.version())?;
    let page = page(engine, asked, &options)?;
    many(engine, asked, &page)
}

/// What a list shows.
pub(crate) fn page(engine: &Engine, asked: &Asked<'_>, options: &ListOptions) -> Outcome<Page> {
    place::check_list(asked.resource, asked.namespace, options.selection.fields.required("metadata.name"))?;
    let filter = |object: &Object| options.selection.matches(object);
    let query = ListQuery {
        namespace: asked.namespace,
        at: options.at,
        from: options.from.as_deref(),
        limit: options.limit,
        filter: if options.selection.everything() { None } else { Some(&filter) },
    };
    engine.store.list(asked.resource, &query).map_err(|gone| {
        Box::new(match &options.from {
            Some(_) => {
                Status::expired("The provided continue parameter is too old to display a consistent list result.")
            }
            None => Status::expired(format!("too old resource version: {} ({})", options.at.unwrap_or(0), gone.oldest)),
        })
    })
}

/// The metadata of a page's list.
pub(super) fn list_meta(asked: &Asked<'_>, page: &Page) -> Value {
    let mut meta = Map::new();
    meta.insert("resourceVersion".to_owned(), Value::String(page.version.to_string()));
    if let Some(next) = &page.next {
        let token = write_continue(asked.namespace, page.version, next);
        meta.insert("continue".to_owned(), Value::String(token));
        if let Some(remaining) = page.remaining {
            meta.insert("remainingItemCount".to_owned(), Value::from(remaining));
        }
    }
    Value::Object(meta)
}

/// What table rows carry.
pub(crate) fn rows(asked: &Asked<'_>) -> Outcome<RowObject> {
    RowObject::parse(asked.call.params.get("includeObject"), asked.served)
        .map_err(|why| Box::new(Status::bad_request(why)))
}

/// A version in the query of a list.
pub(super) fn version_param(params: &Params) -> Outcome<Option<u64>> {
    parse_version(params.get("resourceVersion"))
        .map_err(|why| Box::new(Status::bad_request(format!("invalid resource version: {why}"))))
}

/// Likewise of one object and of watches. Compat: a malformed one is a 500 without a reason there.
pub(crate) fn unprefixed_version(params: &Params) -> Outcome<Option<u64>> {
    parse_version(params.get("resourceVersion")).map_err(|why| Box::new(Status::failure(500, "", why)))
}

fn parse_version(text: &str) -> Result<Option<u64>, String> {
    version_number(text).map_err(|why| format!("resourceVersion: Invalid value: {}: {why}", quote(text)))
}

/// A version as it is written; `None` for none.
///
/// Compat: `strconv.ParseUint`, which takes no sign.
pub(super) fn version_number(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.bytes().all(|digit| digit.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    let number = text.parse().ok().filter(|_| digits);
    number.map(Some).ok_or_else(|| format!("strconv.ParseUint: parsing {}: {why}", quote(text)))
}

/// Compat: upstream's own form, so that a person who decodes it sees the same: version, and the key to go on from.
fn write_continue(namespace: &str, version: u64, next: &str) -> String {
    let start = if namespace.is_empty() { next } else { next.strip_prefix(&format!("{namespace}/")).unwrap_or(next) };
    TOKENS.encode(json::to_vec(&json!({"v": "meta.k8s.io/v1", "rv": version, "start": format!("/{start}")})))
}

/// The version to go on at (`None` for now) and the first key. Compat: `apiserver/pkg/storage/continue.go`.
pub(super) fn read_continue(namespace: &str, token: &str) -> Outcome<(Option<u64>, String)> {
    let bad =
        |why: &str| Box::new(Status::bad_request(format!("invalid continue token: continue key is not valid: {why}")));
    let bytes = TOKENS.decode(token.replace(['\r', '\n'], "")).map_err(|_| bad(&corrupt(token)))?;
    let sent = match json::parse(&bytes).map_err(|error| bad(&error.to_string()))? {
        Node::Object(members) => members,
        Node::Null => Vec::new(),
        other => {
            let kind = other.kind();
            return Err(bad(&format!("json: cannot unmarshal {kind} into Go value of type storage.continueToken")));
        }
    };
    let mut members = Map::new();
    for (name, node) in sent.into_iter().filter(|(_, node)| *node != Node::Null) {
        // Compat: Go takes members in other letters too.
        let Some((name, wanted)) = MEMBERS.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) else {
            continue;
        };
        let (value, shown) = match (node, wanted) {
            (Node::Number(digits), "int64") => (digits.int().map(Value::from), format!("number {}", digits.text())),
            (Node::String(text), "string") => (Some(Value::String(text)), String::new()),
            (other, _) => (None, other.kind().to_owned()),
        };
        let why =
            || format!("json: cannot unmarshal {shown} into Go struct field continueToken.{name} of type {wanted}");
        members.insert(name.to_owned(), value.ok_or_else(|| bad(&why()))?);
    }
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("v") != "meta.k8s.io/v1" {
        return Err(bad(&format!("server does not recognize this encoded version {}", text("v"))));
    }
    let version = match members.get("rv").and_then(Value::as_i64).unwrap_or(0) {
        0 => return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        // Compat: a client that was too late may go on with what is there now.
        version => u64::try_from(version).ok(),
    };
    let start = text("start");
    if start.is_empty() {
        return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
    }
    let key = start.strip_prefix('/').unwrap_or(start);
    if !key.is_empty() && key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(bad(start));
    }
    Ok((version, if namespace.is_empty() { key.to_owned() } else { format!("{namespace}/{key}") }))
}

/// What a token holds, and Go's types of it.
const MEMBERS: [(&str, &str); 3] = [("v", "string"), ("rv", "int64"), ("start", "string")];

/// What Go says to a text that is not Base64.
fn corrupt(token: &str) -> String {
    let wrong = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"-_\r\n".contains(byte));
    let at = token.bytes().position(|byte| wrong(&byte)).unwrap_or(token.len().saturating_sub(1));
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_continue_token_comes_back_as_it_was(version in 1..u64::from(u32::MAX), name in "[a-z]{1,10}", namespaced in any::<bool>()) {
            let namespace = if namespaced { "ns" } else { "" };
            let key = if namespaced { format!("ns/{name}") } else { name };
            let token = write_continue(namespace, version, &key);
            prop_assert_eq!(read_continue(namespace, &token).ok(), Some((Some(version), key)));
        }

        #[test]
        fn no_token_panics(token in "\\PC{0,40}") {
            let _ = read_continue("", &token);
            let _ = read_continue("ns", &TOKENS.encode(&token));
        }
    }
}
