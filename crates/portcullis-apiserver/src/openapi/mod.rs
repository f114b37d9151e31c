//! OpenAPI: what `kubectl explain` prints, and where `kubectl apply` looks up whether a kind takes `fieldValidation` and
//! strategic merge patches.
//!
//! Flow: place (`apis/apps/v1`) → what is served there → the real server's text for it, from the packed data → kept
//! compressed. Nothing is unpacked before somebody asks; what was made stays, in its compressed form only.
//!
//! Compat: `kube-openapi/pkg/handler3` and the aggregator's index of Kubernetes 1.37. A document's hash is made of what it
//! is made of rather than of its bytes, so that the index costs nothing; clients only compare it.

mod archive;
mod convert;
mod gnostic;
mod served;
mod v2;
mod v3;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH,
    LAST_MODIFIED, LOCATION, VARY,
};
use http::{HeaderMap, StatusCode};
use portcullis_runtime::{Clock, Timestamp};
use serde_json::json;
use time::macros::format_description;

use self::archive::Archive;
use self::served::Served;
use crate::discovery::entries::{groups, versions};
use crate::discovery::hash;
use crate::http::Call;
use crate::http::gzip;
use crate::http::negotiate::{Clause, clauses};
use crate::http::reply::{Payload, Reply};
use crate::json;

/// Where the index is; documents are below it.
const V3: &str = "/openapi/v3";
const V2: &str = "/openapi/v2";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// Its subtype, under its two names.
const PROTOBUF_SUBTYPES: [&str; 2] =
    ["com.github.proto-openapi.spec.v2@v1.0+protobuf", "com.github.proto-openapi.spec.v2.v1.0+protobuf"];
/// Most that a document may unpack to, in bytes.
const MAX_DOCUMENT: u64 = 16 * 1024 * 1024;
/// How long clients may keep a document whose hash is in the URL.
const ONE_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// To be raised when documents come to be put together in another way.
const FORM: u32 = 1;

/// The documents of one server.
#[derive(Debug)]
pub(crate) struct OpenApi {
    index: Bytes,
    documents: BTreeMap<String, Document>,
    v2: Document,
    /// The same as protobuf, under the same hash.
    v2_protobuf: Packed,
    started: Timestamp,
}

#[derive(Debug)]
struct Document {
    hash: String,
    packed: Packed,
}

/// A document's bytes, compressed, once it was asked for; `None` when the data has nothing for it.
type Packed = OnceLock<Option<Bytes>>;

/// What is asked for.
#[derive(Debug, Clone)]
enum Wanted {
    V3(String),
    V2,
    V2Protobuf,
}

impl OpenApi {
    pub(crate) fn new(now: Timestamp) -> Self {
        let data = archive::digest();
        let mut everything = String::new();
        let document = |place: String| {
            let mut text = format!("{FORM}\n{data}\n{place}\n");
            Served::at(&place).describe(&mut text);
            everything.push_str(&text);
            (place, Document { hash: hash(text.as_bytes()), packed: OnceLock::new() })
        };
        let documents: BTreeMap<String, Document> = places().into_iter().map(document).collect();
        let paths: serde_json::Map<_, _> = documents
            .iter()
            .map(|(place, document)| (place.clone(), json!({"serverRelativeURL": url(place, &document.hash)})))
            .collect();
        Self {
            index: json::to_vec(&json!({"paths": paths})).into(),
            documents,
            v2: Document { hash: hash(everything.as_bytes()), packed: OnceLock::new() },
            v2_protobuf: OnceLock::new(),
            started: now,
        }
    }

    /// The answer to a call of `/openapi/v2`, `/openapi/v3` and what is below it; `None` when the path is another one.
    pub(crate) async fn answer(self: &Arc<Self>, call: &Call, path: &str, clock: &Clock) -> Option<Reply> {
        match path {
            V3 => Some(self.index()),
            V2 => Some(self.whole(call).await),
            path => Some(self.document(call, path.strip_prefix(V3)?.strip_prefix('/')?, clock).await),
        }
    }

    /// Every path that is answered.
    pub(crate) fn paths() -> impl Iterator<Item = String> {
        [V2, V3, "/openapi/v3/"].into_iter().map(str::to_owned)
    }

    /// Compat: the aggregator's index has no ETag, and the media type that Go's server guesses from the bytes.
    fn index(&self) -> Reply {
        let mut reply = bare(StatusCode::OK);
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        reply.payload = Payload::Whole(self.index.clone());
        reply
    }

    /// One group-version.
    async fn document(self: &Arc<Self>, call: &Call, place: &str, clock: &Clock) -> Reply {
        let Some(document) = self.documents.get(place) else { return bare(StatusCode::NOT_FOUND) };
        let mut reply = bare(StatusCode::OK);
        let accept = call.accept();
        if !accept.is_empty() && clauses(&accept).is_empty() {
            // Compat: where there is no media type at all, nothing is said.
            return reply;
        }
        reply.headers.insert(VARY, HeaderValue::from_static("Accept"));
        if first(&accept, &["json"]).is_none() {
            reply.status = StatusCode::NOT_ACCEPTABLE;
            return reply;
        }
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match call.params.get("hash") {
            "" => {}
            asked if asked == document.hash => {
                reply.headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
                reply.set(EXPIRES, &http_date(clock.now() + ONE_YEAR).replace("GMT", "UTC"));
            }
            _ => {
                reply.set(ETAG, &format!("\"{}\"", document.hash));
                reply.status = StatusCode::MOVED_PERMANENTLY;
                reply.set(LOCATION, &url(place, &document.hash));
                return reply;
            }
        }
        self.content(call, reply, &document.hash, Wanted::V3(place.to_owned())).await
    }

    /// Everything, in version 2.
    async fn whole(self: &Arc<Self>, call: &Call) -> Reply {
        let mut reply = bare(StatusCode::OK);
        reply.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
        reply.headers.append(VARY, HeaderValue::from_static("Accept"));
        let accept = call.accept();
        let wanted =
            first(&accept, &["json", PROTOBUF_SUBTYPES[0], PROTOBUF_SUBTYPES[1]]).map(|subtype| match subtype {
                "json" => (Wanted::V2, "application/json"),
                _ => (Wanted::V2Protobuf, PROTOBUF),
            });
        let Some((wanted, content_type)) = wanted else {
            reply.status = StatusCode::NOT_ACCEPTABLE;
            return reply;
        };
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.content(call, reply, &self.v2.hash, wanted).await
    }

    /// Bytes that the client may have already.
    async fn content(self: &Arc<Self>, call: &Call, mut reply: Reply, hash: &str, wanted: Wanted) -> Reply {
        let etag = format!("\"{hash}\"");
        reply.set(ETAG, &etag);
        if matches_etag(call.header(IF_NONE_MATCH), &etag) {
            reply.headers.remove(CONTENT_TYPE);
            reply.status = StatusCode::NOT_MODIFIED;
            return reply;
        }
        reply.set(LAST_MODIFIED, &http_date(self.started));
        let as_gzip = gzip::accepted(call.header(ACCEPT_ENCODING));
        let Some(body) = self.body(wanted.clone(), as_gzip).await else { return bare(StatusCode::NOT_FOUND) };
        if as_gzip {
            reply.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            if matches!(wanted, Wanted::V3(_)) {
                reply.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
            }
        }
        reply.payload = Payload::Whole(body);
        reply
    }

    /// The bytes of a document. Making one takes milliseconds, and not on the threads that serve.
    async fn body(self: &Arc<Self>, wanted: Wanted, as_gzip: bool) -> Option<Bytes> {
        let this = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let packed = match &wanted {
                Wanted::V3(place) => &this.documents.get(place)?.packed,
                Wanted::V2 => &this.v2.packed,
                Wanted::V2Protobuf => &this.v2_protobuf,
            };
            let packed = packed.get_or_init(|| make(&wanted)).clone()?;
            if as_gzip { Some(packed) } else { gzip::decompress(&packed, MAX_DOCUMENT).map(Bytes::from) }
        });
        work.await.ok().flatten()
    }
}

fn make(wanted: &Wanted) -> Option<Bytes> {
    let text = archive::unpack()?;
    let archive = Archive::parse(&text);
    let document = match wanted {
        Wanted::V3(place) => v3::document(&archive, place, &Served::at(place))?.into_bytes(),
        Wanted::V2 => v2::to_json(&archive)?.into_bytes(),
        Wanted::V2Protobuf => v2::to_protobuf(&archive)?,
    };
    gzip::compress(&document).map(Bytes::from)
}

/// Every place that has a document.
fn places() -> Vec<String> {
    let fixed = [".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version"];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    for group in groups() {
        let root = if group.is_empty() { "api".to_owned() } else { format!("apis/{group}") };
        all.extend(versions(group).iter().map(|version| format!("{root}/{version}")));
        all.push(root);
    }
    all
}

fn url(place: &str, hash: &str) -> String {
    format!("{V3}/{place}?hash={hash}")
}

fn http_date(time: Timestamp) -> String {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    time.to_offset_date_time().format(format).unwrap_or_default()
}

/// A reply without a body, with the header that the real server puts on every reply that says nothing else.
fn bare(status: StatusCode) -> Reply {
    let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"))]);
    Reply::empty(status, headers)
}

/// The subtype of `application` that a client wants most of those that there are.
fn first(accept: &str, subtypes: &[&'static str]) -> Option<&'static str> {
    let accept = if accept.is_empty() { "*/*" } else { accept };
    let of = |clause: Clause<'_>| subtypes.iter().copied().find(|subtype| clause.takes_either("application", subtype));
    clauses(accept).into_iter().find_map(of)
}

/// RFC 9110 section 13.1.2, compared weakly.
fn matches_etag(header: &str, etag: &str) -> bool {
    header.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::discovery::entries::entries;
    use crate::world::world;

    async fn get(server: &Arc<OpenApi>, line: &str, headers: &[(&'static str, &str)]) -> Option<Reply> {
        let (clock, _) = Clock::mock(1_700_000_000);
        let call = headers.iter().fold(Call::test(line, ""), |call, (name, value)| call.with(name, value));
        server.answer(&call, &call.path, &clock).await
    }

    fn server() -> Arc<OpenApi> {
        Arc::new(OpenApi::new(Timestamp::from_unix_seconds(1_700_000_000)))
    }

    async fn tree(server: &Arc<OpenApi>, path: &str) -> Value {
        let reply = get(server, &format!("GET {path}"), &[]).await.unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{path}");
        serde_json::from_slice(reply.bytes()).unwrap()
    }

    #[tokio::test]
    async fn every_place_in_the_index_has_a_document_and_every_kind_a_schema_and_paths() {
        let server = server();
        let index = tree(&server, V3).await;
        let places = index["paths"].as_object().unwrap();
        assert!(places.len() >= 12);
        for (place, entry) in places {
            let document = tree(&server, entry["serverRelativeURL"].as_str().unwrap()).await;
            assert_eq!(document["openapi"], "3.0.0", "{place}");
            let (group, version) = match place.split('/').collect::<Vec<_>>().as_slice() {
                ["api", version] => ("", (*version).to_owned()),
                ["apis", group, version] => (*group, (*version).to_owned()),
                _ => continue,
            };
            let group = group.to_owned();
            for entry in entries(&group, &version) {
                let kinds = document["components"]["schemas"].as_object().unwrap().values();
                let kinds = kinds.filter_map(|schema| schema["x-kubernetes-group-version-kind"].as_array()).flatten();
                let wanted = json!({"group": group, "version": version, "kind": entry.kind});
                assert!(kinds.into_iter().any(|kind| *kind == wanted), "{place} has no schema of {}", entry.kind);
                let patched = document["paths"].as_object().unwrap().iter().any(|(path, item)| {
                    path.contains(entry.plural)
                        && item["patch"]["parameters"]
                            .as_array()
                            .is_some_and(|all| all.iter().any(|p| p["name"] == "fieldValidation"))
                });
                assert_eq!(patched, entry.verbs.contains(&"patch"), "{place} {}", entry.plural);
            }
        }
    }

    #[tokio::test]
    async fn every_reference_in_a_document_leads_somewhere() {
        let server = server();
        for place in places() {
            let document = tree(&server, &format!("{V3}/{place}")).await;
            let schemas = document["components"].get("schemas").cloned().unwrap_or_default();
            for reference in document.to_string().split("#/components/schemas/").skip(1) {
                let name = reference.split('"').next().unwrap();
                assert!(schemas.get(name).is_some(), "{place}: {name}");
            }
        }
        let document = tree(&server, V2).await;
        for reference in document.to_string().split("#/definitions/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["definitions"].get(name).is_some(), "{name}");
        }
    }

    /// What `{}` in a path stands for.
    fn filled(path: &str) -> String {
        path.replace("{namespace}", "default").replace("{name}", "x").replace("{path}", "y")
    }

    #[tokio::test]
    async fn no_document_promises_what_the_engine_refuses_and_every_verb_is_described() {
        let (world, server) = (world(), server());
        let mut asked = 0;
        for place in places() {
            let document = tree(&server, &format!("{V3}/{place}")).await;
            let paths = document["paths"].as_object().unwrap();
            for (path, item) in paths {
                for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                    let line = format!("{} {}", method.to_uppercase(), filled(path));
                    let kind = if method == "patch" { "application/merge-patch+json" } else { "application/json" };
                    let call = Call::test(&line, "{}").with("authorization", "Bearer admin").with("content-type", kind);
                    let reply = world.send(call).await;
                    let body = String::from_utf8_lossy(reply.bytes()).into_owned();
                    let unknown =
                        body.contains("could not find the requested resource") || body.contains("page not found");
                    assert!(reply.status != StatusCode::METHOD_NOT_ALLOWED && !unknown, "{line}: {body}");
                    asked += 1;
                }
            }
            let parts: Vec<&str> = place.split('/').collect();
            let (group, version) = match parts.as_slice() {
                ["api", version] => ("", *version),
                ["apis", group, version] => (*group, *version),
                _ => continue,
            };
            for entry in entries(group, version) {
                let actions: Vec<&str> = paths
                    .iter()
                    .filter(|(path, _)| path.split('/').any(|part| part == entry.plural))
                    .flat_map(|(_, item)| item.as_object().unwrap().values())
                    .filter_map(|operation| operation["x-kubernetes-action"].as_str())
                    .collect();
                for verb in entry.verbs {
                    let action = match *verb {
                        "create" => "post",
                        "update" => "put",
                        other => other,
                    };
                    assert!(actions.contains(&action), "{place}: no {verb} of {}", entry.plural);
                }
            }
        }
        assert!(asked > 100, "{asked}");
    }

    #[tokio::test]
    async fn a_hash_makes_a_document_immutable_and_a_wrong_one_leads_to_the_right_one() {
        let server = server();
        let index = tree(&server, V3).await;
        let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
        let reply = get(&server, &format!("GET {url}"), &[]).await.unwrap();
        assert_eq!(reply.headers[CACHE_CONTROL], "public, immutable");
        assert_eq!(reply.headers[EXPIRES], "Wed, 13 Nov 2024 22:13:20 UTC");
        let etag = reply.headers[ETAG].to_str().unwrap().to_owned();
        let again = get(&server, &format!("GET {url}"), &[("if-none-match", &etag)]).await.unwrap();
        assert_eq!((again.status, again.bytes().len()), (StatusCode::NOT_MODIFIED, 0));
        let wrong = get(&server, "GET /openapi/v3/api/v1?hash=AB", &[]).await.unwrap();
        assert_eq!((wrong.status, wrong.headers[LOCATION].to_str().unwrap()), (StatusCode::MOVED_PERMANENTLY, &*url));
        let without = get(&server, "GET /openapi/v3/api/v1", &[]).await.unwrap();
        assert_eq!(without.headers[CACHE_CONTROL], "no-cache, private");
        for path in ["/openapi/v3/", "/openapi/v3/apis/nope/v1"] {
            assert_eq!(get(&server, &format!("GET {path}"), &[]).await.unwrap().status, StatusCode::NOT_FOUND);
        }
        assert!(get(&server, "GET /openapi", &[]).await.is_none());
    }

    #[tokio::test]
    async fn compressed_and_plain_are_the_same_document() {
        let server = server();
        for (path, accept) in [("/openapi/v3/api/v1", "application/json"), (V2, "*/*"), (V2, PROTOBUF)] {
            let packed = get(&server, &format!("GET {path}"), &[("accept", accept), ("accept-encoding", "gzip")]).await;
            let plain = get(&server, &format!("GET {path}"), &[("accept", accept)]).await.unwrap();
            let packed = packed.unwrap();
            assert_eq!(packed.headers[CONTENT_ENCODING], "gzip");
            assert!(packed.headers.get_all(VARY).iter().any(|value| value == "Accept-Encoding"));
            assert_eq!(gzip::decompress(packed.bytes(), MAX_DOCUMENT).unwrap(), plain.bytes());
            assert!(plain.bytes().len() > 3 * packed.bytes().len());
        }
    }

    #[tokio::test]
    async fn only_known_forms_are_given_out() {
        let server = server();
        for (path, accept, want) in [
            ("/openapi/v3/version", "text/html", 406),
            (
                "/openapi/v3/version",
                "application/com.github.proto-openapi.spec.v3.v1.0+protobuf, application/json",
                200,
            ),
            ("/openapi/v3/version", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf", 406),
            (V2, "text/html", 406),
            (V2, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", 200),
        ] {
            let reply = get(&server, &format!("GET {path}"), &[("accept", accept)]).await.unwrap();
            assert_eq!(reply.status.as_u16(), want, "{path} {accept}");
        }
    }
}
