//! A scripted issuer on a loopback port, keys that are made once, and a client without proxies.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use portcullis_jose::{JwkSet, KeyKind, SigningKey, sign_compact};
use portcullis_runtime::{
    Shutdown,
    http_client::{EgressPolicy, HttpClient, HttpClientConfig, Roots},
    server::{Request, Response, ServerLimits, Transport, bind, full, handler_fn, read_body, serve},
};
use tokio::sync::Semaphore;

pub(crate) static K1: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(KeyKind::P256, "k1".into()).unwrap());
pub(crate) static K2: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(KeyKind::P256, "k2".into()).unwrap());
pub(crate) static RSA: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(KeyKind::Rsa2048, "rsa".into()).unwrap());

pub(crate) fn key_set(keys: &[&SigningKey]) -> String {
    JwkSet::from_keys(keys.iter().map(|key| key.public().clone()).collect()).to_json_string()
}

pub(crate) fn sign(key: &SigningKey, payload: &str) -> String {
    sign_compact(key, key.default_algorithm(), None, payload.as_bytes()).unwrap()
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What a path answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// Answer only when the gate hands out a permit.
    pub(crate) gate: Option<Arc<Semaphore>>,
}

impl Reply {
    pub(crate) fn json(body: impl Into<String>) -> Self {
        Self { status: 200, headers: vec![("content-type", "application/json".into())], body: body.into(), gate: None }
    }

    pub(crate) fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn content_type(mut self, value: &str) -> Self {
        self.headers = vec![("content-type", value.into())];
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn behind(self, gate: &Arc<Semaphore>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..self }
    }
}

/// A listener that answers from a script and remembers what it was asked.
pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<State>,
    shutdown: Shutdown,
}

#[derive(Default)]
struct State {
    /// Replies by path; the last one of a list stays.
    replies: Mutex<HashMap<String, Vec<Reply>>>,
    seen: Mutex<Vec<Seen>>,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (state, shutdown) = (Arc::new(State::default()), Shutdown::new());
        let handler = handler_fn({
            let state = Arc::clone(&state);
            move |request| answer(Arc::clone(&state), request)
        });
        tokio::spawn(serve(listener, Transport::Plain, handler, ServerLimits::default(), shutdown.clone()));
        Self { url, state, shutdown }
    }

    pub(crate) fn on(&self, path: &str, replies: impl Into<Vec<Reply>>) {
        self.state.replies.lock().unwrap().insert(path.to_owned(), replies.into());
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

async fn answer(state: Arc<State>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = read_body(body, 1 << 20, Duration::from_secs(10)).await.unwrap();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let reply = {
        let mut replies = state.replies.lock().unwrap();
        match replies.get_mut(&path) {
            Some(list) if list.len() > 1 => list.remove(0),
            Some(list) => list[0].clone(),
            None => Reply::json("not scripted").status(404),
        }
    };
    state.seen.lock().unwrap().push(Seen {
        method: parts.method.to_string(),
        path,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    if let Some(gate) = &reply.gate {
        gate.acquire().await.unwrap().forget();
    }
    let mut response = Response::new(full(reply.body));
    *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap();
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

pub(crate) fn http() -> HttpClient {
    HttpClient::new(HttpClientConfig {
        roots: Roots::Only(Vec::new()),
        egress: EgressPolicy::LoopbackOnly,
        max_body: 64 * 1024,
        timeout: Duration::from_secs(20),
        ..HttpClientConfig::default()
    })
    .unwrap()
}

/// Lets everything that is ready run, until `done`. Fails the test when it never comes.
pub(crate) async fn until(done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("did not happen");
}
