//! An OIDC issuer on loopback that does what a test's script says, and remembers what it was asked.
//!
//! Without a script it serves a discovery document and its keys, and refuses tokens. [`FakeIssuer::reply`] changes
//! what a path answers from now on, [`FakeIssuer::reply_once`] the next answer only.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue, StatusCode};
use portcullis_jose::{Algorithm, JwkSet, KeyKind, SigningKey, sign_compact};
use portcullis_runtime::Shutdown;
use portcullis_runtime::http_client::HttpClient;
use portcullis_runtime::server::{
    Request, Response, ServerLimits, Transport, bind, full, handler_fn, read_body, respond, serve, stream,
};
use portcullis_runtime::tls::ClientAuth;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::TestCa;

pub(crate) const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Most requests that are remembered.
const REMEMBERED: usize = 100_000;

/// An answer of the issuer.
#[derive(Debug, Clone)]
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    hang: bool,
    gate: Option<Shutdown>,
    /// Between two bytes of the body.
    pause: Option<Duration>,
}

impl Reply {
    /// 200 with this JSON.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self::bytes(value.to_string()).header("content-type", "application/json")
    }

    /// 200 with these bytes and no content type.
    #[must_use]
    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: body.into(), hang: false, gate: None, pause: None }
    }

    /// A redirect (302).
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        Self::bytes("").status(302).header("location", location)
    }

    /// No answer at all, until the issuer stops.
    #[must_use]
    pub fn hang() -> Self {
        Self { hang: true, ..Self::bytes("") }
    }

    /// With another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).expect("a status");
        self
    }

    /// With a further header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.parse().expect("a header name"), value.parse().expect("a header value")));
        self
    }

    /// Given only once `gate` is triggered, so that a test decides what overlaps.
    #[must_use]
    pub fn after(mut self, gate: Shutdown) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Given byte by byte, each after `pause`.
    #[must_use]
    pub fn dripping(mut self, pause: Duration) -> Self {
        self.pause = Some(pause);
        self
    }

    fn into_response(self) -> Response {
        let body = match self.pause {
            None => full(self.body),
            Some(pause) => stream(futures_util::stream::iter(self.body).then(move |byte| async move {
                tokio::time::sleep(pause).await;
                Ok(vec![byte].into())
            })),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// A request that the issuer got.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The path below the issuer, such as `/token`.
    pub path: String,
    /// The query, without the question mark.
    pub query: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Recorded {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The pairs of a form body, decoded.
    #[must_use]
    pub fn form(&self) -> Vec<(String, String)> {
        pairs(&self.body)
    }
}

/// How an issuer is started.
#[derive(Default)]
pub struct IssuerOptions {
    /// Path of the issuer, such as `/dex`; none by default.
    pub path: String,
    /// Plain http instead of TLS.
    pub plain: bool,
    /// The signing key; a fresh RSA-2048 key with the id `test-key` by default.
    pub key: Option<SigningKey>,
    /// The authority of its certificate; a fresh one by default.
    pub ca: Option<TestCa>,
}

/// An OIDC issuer that follows a script. It stops when dropped.
pub struct FakeIssuer {
    state: Arc<State>,
    ca: TestCa,
    transport: Transport,
    address: SocketAddr,
    running: Option<(Shutdown, JoinHandle<()>)>,
}

struct State {
    issuer: String,
    path: String,
    script: Mutex<Script>,
}

struct Script {
    /// Made when it is first needed: RSA keys take their time.
    key: Option<SigningKey>,
    standing: HashMap<String, Reply>,
    once: HashMap<String, VecDeque<Reply>>,
    recorded: Vec<Recorded>,
}

impl FakeIssuer {
    /// Starts one on a free loopback port, with TLS.
    pub async fn start() -> Self {
        Self::start_with(IssuerOptions::default()).await
    }

    /// Starts one as `options` say.
    pub async fn start_with(options: IssuerOptions) -> Self {
        let ca = options.ca.unwrap_or_default();
        let (scheme, transport) = if options.plain {
            ("http", Transport::Plain)
        } else {
            ("https", Transport::Tls(ca.server_tls(ClientAuth::None)))
        };
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State {
            issuer: format!("{scheme}://127.0.0.1:{}{}", address.port(), options.path),
            path: options.path,
            script: Mutex::new(Script {
                key: options.key,
                standing: HashMap::new(),
                once: HashMap::new(),
                recorded: Vec::new(),
            }),
        });
        let mut this = Self { state, ca, transport, address, running: None };
        this.run(listener);
        this
    }

    /// The issuer's URL.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.state.issuer
    }

    /// The URL of a path below the issuer.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.state.issuer)
    }

    /// The authority of its certificate.
    #[must_use]
    pub const fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// A client that trusts it.
    #[must_use]
    pub fn http_client(&self) -> HttpClient {
        self.ca.http_client()
    }

    /// The current signing key.
    #[must_use]
    pub fn key(&self) -> SigningKey {
        self.state.lock().key().clone()
    }

    /// Signs with another key from now on, and publishes only that.
    pub fn set_key(&self, key: SigningKey) {
        self.state.lock().key = Some(key);
    }

    /// Signs claims with the current key and its default algorithm.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        let key = self.key();
        sign_compact(&key, key.default_algorithm(), None, claims.to_string().as_bytes()).expect("a signature")
    }

    /// Signs claims with the current key and this algorithm.
    #[must_use]
    pub fn sign_as(&self, algorithm: Algorithm, claims: &Value) -> String {
        sign_compact(&self.key(), algorithm, None, claims.to_string().as_bytes()).expect("a signature")
    }

    /// The discovery document that is served without a script.
    #[must_use]
    pub fn discovery_document(&self) -> Value {
        self.state.discovery_document()
    }

    /// What a path below the issuer answers from now on.
    pub fn reply(&self, path: &str, reply: Reply) {
        self.state.lock().standing.insert(path.to_owned(), reply);
    }

    /// What a path answers once; several of them one after the other.
    pub fn reply_once(&self, path: &str, reply: Reply) {
        self.state.lock().once.entry(path.to_owned()).or_default().push_back(reply);
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.lock().recorded.clone()
    }

    /// The requests to one path so far.
    #[must_use]
    pub fn requests_to(&self, path: &str) -> Vec<Recorded> {
        self.state.lock().recorded.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// How many requests one path had so far.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        self.state.lock().recorded.iter().filter(|request| request.path == path).count()
    }

    /// Takes the issuer down: its port refuses connections.
    pub async fn stop(&mut self) {
        if let Some((shutdown, task)) = self.running.take() {
            shutdown.trigger();
            task.await.expect("the issuer's end");
        }
    }

    /// Brings it up again on the same port, with the same script.
    pub async fn restart(&mut self) {
        self.stop().await;
        let listener = bind(self.address).await.expect("the same port again");
        self.run(listener);
    }

    fn run(&mut self, listener: tokio::net::TcpListener) {
        let shutdown = Shutdown::new();
        let (state, stop) = (self.state.clone(), shutdown.clone());
        let handler = handler_fn(move |request| {
            let (state, stop) = (state.clone(), stop.clone());
            async move { state.answer(request, &stop).await }
        });
        let limits = ServerLimits { drain: Duration::from_secs(1), ..ServerLimits::default() };
        let task = tokio::spawn(serve(listener, self.transport.clone(), handler, limits, shutdown.clone()));
        self.running = Some((shutdown, task));
    }
}

impl Drop for FakeIssuer {
    fn drop(&mut self) {
        if let Some((shutdown, _)) = &self.running {
            shutdown.trigger();
        }
    }
}

impl Script {
    fn key(&mut self) -> &SigningKey {
        self.key.get_or_insert_with(|| SigningKey::generate(KeyKind::Rsa2048, "test-key".to_owned()).expect("a key"))
    }
}

impl State {
    async fn answer(&self, request: Request, stop: &Shutdown) -> Response {
        let (parts, body) = request.into_parts();
        let body = read_body(body, 1024 * 1024, Duration::from_secs(10)).await.unwrap_or_default();
        let path = parts.uri.path().strip_prefix(&self.path).unwrap_or("<outside>").to_owned();
        let recorded = Recorded {
            method: parts.method.to_string(),
            path: path.clone(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        let Some(reply) = self.take_reply(&path, recorded) else {
            return respond(StatusCode::NOT_FOUND, "text/plain", "no such path\n");
        };
        if reply.hang {
            stop.triggered().await;
        }
        if let Some(gate) = &reply.gate {
            stop.unless(gate.triggered()).await;
        }
        reply.into_response()
    }

    fn take_reply(&self, path: &str, recorded: Recorded) -> Option<Reply> {
        let mut script = self.lock();
        if script.recorded.len() < REMEMBERED {
            script.recorded.push(recorded);
        }
        if let Some(reply) = script.once.get_mut(path).and_then(VecDeque::pop_front) {
            return Some(reply);
        }
        if let Some(reply) = script.standing.get(path) {
            return Some(reply.clone());
        }
        match path {
            DISCOVERY => Some(Reply::json(&self.discovery_document())),
            "/keys" => {
                let keys = JwkSet::from_keys(vec![script.key().public().clone()]);
                Some(Reply::bytes(keys.to_json_string()).header("content-type", "application/json"))
            }
            "/token" => Some(Reply::json(&json!({ "error": "invalid_request" })).status(400)),
            _ => None,
        }
    }

    fn discovery_document(&self) -> Value {
        let issuer = &self.issuer;
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256", "plain"],
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decodes `application/x-www-form-urlencoded`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'+' => bytes.push(b' '),
                b'%' => {
                    let digits =
                        [rest.next(), rest.next()].map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
                    let [Some(high), Some(low)] = digits else { panic!("a broken escape in {text:?}") };
                    bytes.push(u8::try_from(high * 16 + low).expect("two digits are a byte"));
                }
                byte => bytes.push(byte),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let split = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(split).collect()
}

#[cfg(test)]
mod tests {
    use portcullis_jose::{CompactJws, Limits, UnknownKeys};

    use super::*;

    #[tokio::test]
    async fn it_serves_its_documents_and_its_signatures_verify() {
        let issuer =
            FakeIssuer::start_with(IssuerOptions { path: "/dex".to_owned(), ..IssuerOptions::default() }).await;
        let client = issuer.http_client();
        let document = client.get(&issuer.url(DISCOVERY), &[]).await.unwrap();
        let document: Value = serde_json::from_slice(&document.body).unwrap();
        assert_eq!(document["issuer"], issuer.issuer());
        let keys = client.get(document["jwks_uri"].as_str().unwrap(), &[]).await.unwrap();
        let keys = JwkSet::parse(&keys.body, UnknownKeys::RejectSet, &Limits::default()).unwrap();
        let token = issuer.sign(&json!({ "sub": "s" }));
        let payload = CompactJws::parse(&token, &Limits::default()).unwrap().verify(&keys).unwrap();
        assert_eq!(payload.bytes(), br#"{"sub":"s"}"#);
        assert_eq!(issuer.count(DISCOVERY), 1);
    }

    #[tokio::test]
    async fn a_script_answers_once_then_standing_then_default() {
        let issuer = FakeIssuer::start_with(IssuerOptions { plain: true, ..IssuerOptions::default() }).await;
        let client = issuer.http_client();
        let url = issuer.url("/token");
        assert_eq!(client.get(&url, &[]).await.unwrap().status, 400);
        issuer.reply("/token", Reply::json(&json!({ "n": 0 })));
        issuer.reply_once("/token", Reply::bytes("first").status(503).header("retry-after", "1"));
        let first = client.post_form(&url, &[("a b", "ü&=")], &[("x-test", "1")]).await.unwrap();
        assert_eq!((first.status, first.header("retry-after"), &first.body[..]), (503, Some("1"), &b"first"[..]));
        assert_eq!(client.get(&url, &[]).await.unwrap().status, 200);
        let recorded = issuer.requests_to("/token").remove(1);
        assert_eq!(recorded.form(), [("a b".to_owned(), "ü&=".to_owned())]);
        assert_eq!((recorded.method.as_str(), recorded.header("x-test")), ("POST", Some("1")));
        assert_eq!(client.get(&issuer.url("/nowhere"), &[]).await.unwrap().status, 404);
    }

    #[tokio::test]
    async fn a_gate_holds_an_answer_back() {
        let issuer = FakeIssuer::start_with(IssuerOptions { plain: true, ..IssuerOptions::default() }).await;
        let gate = Shutdown::new();
        issuer.reply("/keys", Reply::bytes("late").after(gate.clone()));
        let client = issuer.http_client();
        let url = issuer.url("/keys");
        let asked = tokio::spawn(async move { client.get(&url, &[]).await });
        while issuer.count("/keys") == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!asked.is_finished());
        gate.trigger();
        assert_eq!(&asked.await.unwrap().unwrap().body[..], b"late");
    }

    #[tokio::test]
    async fn a_body_that_drips_comes_whole_in_the_end() {
        let issuer = FakeIssuer::start_with(IssuerOptions { plain: true, ..IssuerOptions::default() }).await;
        issuer.reply("/keys", Reply::bytes("drop by drop").dripping(Duration::from_millis(1)));
        let reply = issuer.http_client().get(&issuer.url("/keys"), &[]).await.unwrap();
        assert_eq!(&reply.body[..], b"drop by drop");
    }

    #[tokio::test]
    async fn it_goes_down_and_comes_back_on_its_port() {
        let mut issuer = FakeIssuer::start().await;
        let url = issuer.url("/keys");
        issuer.stop().await;
        let refused = issuer.http_client().get(&url, &[]).await.unwrap_err();
        assert!(refused.is_transient(), "{refused}");
        issuer.restart().await;
        assert_eq!(issuer.http_client().get(&url, &[]).await.unwrap().status, 200);
    }
}
