//! What the fuzz targets of the dev API server have in common: requests as text, a server with something in it, and what must
//! hold of every answer.

mod objects;
pub mod peer;

use std::alloc::System;
use std::sync::Once;

use cap::Cap;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use portcullis_apiserver::fuzzing::{Answer, Body, Kind, Site};
use serde_json::Value;
use tokio::runtime::Runtime;

pub use self::objects::{OBJECTS, filled};

/// What is wrong with the server itself, not with a request: the beginning of the message of a 500. kube-apiserver answers some
/// mistakes of clients with 500 too, and so do we.
const OURS: &[&str] = &[
    "Internal error occurred: the kind has no schema",
    "Internal error occurred: no schema",
    "Internal error occurred: failed to generate token",
    "the request body could not be read",
];

/// Counts what is allocated. An allocation beyond the limit fails, which ends the process.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// As long as it lives, the process ends when it takes so many bytes of memory more than when it was made.
pub struct Limit(());

impl Limit {
    /// A limit from now on, until something panics: that takes memory to say why.
    pub fn of(bytes: usize) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let said = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                set_limit(usize::MAX);
                said(panic);
            }));
        });
        set_limit(MEMORY.allocated() + bytes);
        Self(())
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        set_limit(usize::MAX);
    }
}

fn set_limit(bytes: usize) {
    assert!(MEMORY.set_limit(bytes).is_ok(), "more is held than may be");
}

/// A runtime whose time passes when nothing else is left to do.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// A request as text: `METHOD TARGET`, header lines, an empty line, a body.
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// With the administrator's token, unless another one is there.
    pub headers: HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads the text; `None` for what no listener would take for a request.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        let end = text.windows(2).position(|pair| pair == b"\n\n");
        let (head, body) = end.map_or((text, &text[..0]), |end| (&text[..end], &text[end + 2..]));
        let mut lines = std::str::from_utf8(head).ok()?.lines();
        let (method, target) = lines.next()?.split_once(' ')?;
        Method::from_bytes(method.as_bytes()).ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in lines.take(64).filter_map(|line| line.split_once(':')) {
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?);
        }
        let admin = HeaderValue::from_static("Bearer admin");
        headers.entry(header::AUTHORIZATION).or_insert(admin);
        Some(Self { method, target, headers, body })
    }

    /// A request of the administrator, with the content type of a body.
    pub fn of(method: &'a str, target: &'a str, content_type: &'static str, body: &'a [u8]) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer admin"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { method, target, headers, body }
    }

    /// Sends it, and looks at what every answer must be.
    pub async fn send(self, site: &Site) -> Option<Answer> {
        let what = format!("{} {}", self.method, self.target);
        let answer = site.respond(self.method, self.target, self.headers, self.body).await?;
        judge(&what, &answer);
        Some(answer)
    }
}

/// The kind that an input chooses, and the rest: by the plural and a NUL, as what is kept in the corpus does, or by a byte.
pub fn kind(data: &[u8]) -> Option<(Kind, &[u8])> {
    let kinds: Vec<Kind> = Kind::all().collect();
    let end = data.iter().position(|byte| *byte == 0);
    let named = end.and_then(|end| {
        let kind = kinds.iter().find(|kind| kind.plural().as_bytes() == &data[..end])?;
        Some((*kind, &data[end + 1..]))
    });
    named.or_else(|| {
        let [choice, rest @ ..] = data else { return None };
        Some((kinds[usize::from(*choice) % kinds.len()], rest))
    })
}

/// The tree of a whole JSON answer.
pub fn tree(answer: &Answer) -> Option<Value> {
    match &answer.body {
        Body::Whole(bytes) if !bytes.is_empty() && !answer.headers.contains_key(header::CONTENT_ENCODING) => {
            if !content_type(answer).starts_with("application/json") {
                return None;
            }
            Some(serde_json::from_slice(bytes).expect("what is called JSON is JSON"))
        }
        _ => None,
    }
}

/// The media type of an answer.
pub fn content_type(answer: &Answer) -> &str {
    answer.headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().expect("text"))
}

/// A failure says why as the API does, and is none of the server itself.
fn judge(what: &str, answer: &Answer) {
    let Body::Whole(bytes) = &answer.body else {
        assert!(answer.status < 300, "{what}: {}", answer.status);
        return;
    };
    let body = String::from_utf8_lossy(bytes);
    let tree = tree(answer);
    if answer.status < 400 {
        return;
    }
    let Some(status) = tree else {
        // Some of upstream's refusals are no objects: its router's, and those of upgrades.
        let yaml = content_type(answer) == "application/yaml";
        let page = answer.status == 404 && body == "404 page not found\n";
        let upgrade = (400..500).contains(&answer.status) && what.contains("/pods/");
        let escapes = answer.status == 400 && body == "400 Bad Request";
        let proxy = answer.status == 500 && body.contains(": failed to create RequestInfo: ");
        let documents = matches!(answer.status, 404 | 406) && body.is_empty() && what.contains("/openapi/");
        assert!(yaml || page || upgrade || escapes || proxy || documents, "{what}: {} {body}", answer.status);
        return;
    };
    assert_eq!((&status["kind"], &status["apiVersion"]), (&"Status".into(), &"v1".into()), "{what}: {body}");
    assert_eq!((&status["status"], &status["code"]), (&"Failure".into(), &answer.status.into()), "{what}: {body}");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(answer.status == 500 || !message.is_empty(), "{what}: {body}");
    assert!(!OURS.iter().any(|begin| message.starts_with(begin)), "{what}: {body}");
}
