//! A stand-in for the transit engine of Vault and OpenBao. It is none of the two: it answers in the shapes that Vault's API
//! documents (`{"data": …}`, `{"errors": […]}`), with the texts that its sources have, and really encrypts (AES-256-GCM,
//! key versions, `min_decryption_version`), so that a client that sends the wrong thing gets nothing useful.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use portcullis_runtime::server::{
    Request, Response, ServerLimits, Transport, bind, handler_fn, read_body, respond, serve,
};
use portcullis_runtime::tls::ClientAuth;
use portcullis_runtime::{Rng, Shutdown};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::TestCa;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransitGrant {
    /// Encrypt and decrypt with keys that exist (`update` in a policy).
    Use,
    /// The same, and whoever encrypts with a key that does not exist makes it (`create` as well).
    UseAndCreate,
}

/// The stand-in. It stops when dropped.
pub struct TransitStandIn {
    state: Arc<Mutex<State>>,
    ca: TestCa,
    address: SocketAddr,
    running: Option<(Shutdown, JoinHandle<()>)>,
}

struct State {
    rng: Rng,
    mount: String,
    namespace: String,
    tokens: HashMap<String, TransitGrant>,
    keys: HashMap<String, Key>,
    sealed: bool,
    asked: Vec<String>,
}

#[derive(Default)]
struct Key {
    versions: Vec<[u8; 32]>,
    min_decryption_version: usize,
}

impl TransitStandIn {
    /// Starts one with TLS on a free loopback port: mounted at `transit`, without keys and tokens.
    pub async fn start() -> Self {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let state = State {
            rng: Rng::system(),
            mount: "transit".to_owned(),
            namespace: String::new(),
            tokens: HashMap::new(),
            keys: HashMap::new(),
            sealed: false,
            asked: Vec::new(),
        };
        let mut this = Self { state: Arc::new(Mutex::new(state)), ca: TestCa::default(), address, running: None };
        this.run(listener);
        this
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.address.port())
    }

    /// Writes the certificate authority of its certificate to a file.
    pub fn write_ca(&self, file: &Path) {
        std::fs::write(file, self.ca.pem()).expect("the CA file");
    }

    /// Mounts the engine elsewhere, in a namespace.
    pub fn mount_at(&self, mount: &str, namespace: &str) {
        let mut state = self.lock();
        mount.clone_into(&mut state.mount);
        namespace.clone_into(&mut state.namespace);
    }

    /// Lets a token in, or changes what it may.
    pub fn grant(&self, token: &str, grant: TransitGrant) {
        self.lock().tokens.insert(token.to_owned(), grant);
    }

    /// Takes a token back.
    pub fn revoke(&self, token: &str) {
        self.lock().tokens.remove(token);
    }

    /// Makes a key, or its next version.
    pub fn rotate(&self, key: &str) {
        let mut state = self.lock();
        let bytes = state.rng.bytes();
        state.keys.entry(key.to_owned()).or_default().versions.push(bytes);
    }

    /// Refuses what older versions of a key have encrypted.
    pub fn set_min_decryption_version(&self, key: &str, version: usize) {
        self.lock().keys.get_mut(key).expect("such a key").min_decryption_version = version;
    }

    /// Forgets a key.
    pub fn delete(&self, key: &str) {
        self.lock().keys.remove(key);
    }

    /// Seals it: nothing can be done until it is unsealed.
    pub fn set_sealed(&self, sealed: bool) {
        self.lock().sealed = sealed;
    }

    /// The operations (`encrypt`, `decrypt`) it was asked for since the last call, also those that it has refused.
    #[must_use]
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().asked)
    }

    /// Takes it down: its port refuses connections.
    pub async fn stop(&mut self) {
        if let Some((shutdown, task)) = self.running.take() {
            shutdown.trigger();
            task.await.expect("its end");
        }
    }

    /// Brings it up again on the same port.
    pub async fn restart(&mut self) {
        self.stop().await;
        let listener = bind(self.address).await.expect("the same port again");
        self.run(listener);
    }

    fn run(&mut self, listener: tokio::net::TcpListener) {
        let shutdown = Shutdown::new();
        let state = Arc::clone(&self.state);
        let handler = handler_fn(move |request| {
            let state = Arc::clone(&state);
            async move { answer(&state, request).await }
        });
        let limits = ServerLimits { drain: Duration::from_secs(1), ..ServerLimits::default() };
        let transport = Transport::Tls(self.ca.server_tls(ClientAuth::None));
        let task = tokio::spawn(serve(listener, transport, handler, limits, shutdown.clone()));
        self.running = Some((shutdown, task));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TransitStandIn {
    fn drop(&mut self) {
        if let Some((shutdown, _)) = &self.running {
            shutdown.trigger();
        }
    }
}

async fn answer(state: &Mutex<State>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = read_body(body, 1024 * 1024, Duration::from_secs(10)).await.unwrap_or_default();
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (token, namespace) = (header("x-vault-token"), header("x-vault-namespace"));
    let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    match state.answer(&parts.method, parts.uri.path(), &token, &namespace, &body) {
        Ok(data) => respond(StatusCode::OK, "application/json", json!({ "request_id": "x", "data": data }).to_string()),
        Err((status, text)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            respond(status, "application/json", json!({ "errors": [text] }).to_string())
        }
    }
}

impl State {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        token: &str,
        namespace: &str,
        body: &Value,
    ) -> Result<Value, (u16, String)> {
        let no = |status: u16, text: &str| Err((status, text.to_owned()));
        let no_route = || Err((404, format!("no handler for route \"{path}\". route entry not found.")));
        let asked = path.trim_start_matches("/v1/").rsplit('/').nth(1).unwrap_or_default().to_owned();
        self.asked.push(asked);
        if self.sealed {
            return no(503, "Vault is sealed");
        }
        let Some(&grant) = self.tokens.get(token) else { return no(403, "permission denied") };
        let inside = path.strip_prefix("/v1/").and_then(|path| path.strip_prefix(&*self.mount)?.strip_prefix('/'));
        let Some((operation, name)) = inside.and_then(|path| path.split_once('/')) else { return no_route() };
        if namespace != self.namespace {
            return no_route();
        }
        if !matches!(*method, Method::POST | Method::PUT) {
            return no(405, "unsupported operation");
        }
        match operation {
            "encrypt" => {
                if !self.keys.contains_key(name) {
                    if grant == TransitGrant::Use {
                        return no(403, "permission denied");
                    }
                    let bytes = self.rng.bytes();
                    self.keys.entry(name.to_owned()).or_default().versions.push(bytes);
                }
                let key = self.keys.get(name).and_then(|key| Some((key.versions.len(), key.versions.last()?)));
                let Some((version, bytes)) = key else { return no(400, "encryption key not found") };
                let plain = body["plaintext"].as_str().and_then(|text| STANDARD.decode(text).ok());
                let Some(mut buffer) = plain else { return no(400, "failed to base64-decode plaintext") };
                let nonce: [u8; 12] = self.rng.bytes();
                aead(bytes)
                    .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut buffer)
                    .expect("encryption");
                buffer.splice(0..0, nonce);
                Ok(
                    json!({ "ciphertext": format!("vault:v{version}:{}", STANDARD.encode(&buffer)), "key_version": version }),
                )
            }
            "decrypt" => {
                let Some(key) = self.keys.get(name) else { return no(400, "encryption key not found") };
                let text = body["ciphertext"].as_str().unwrap_or_default();
                let parts = text.strip_prefix("vault:v").and_then(|rest| rest.split_once(':'));
                let Some((version, sealed)) = parts else { return no(400, "invalid ciphertext: no prefix") };
                let version: usize = version.parse().unwrap_or(0);
                if version < key.min_decryption_version {
                    return no(400, "ciphertext or signature version is disallowed by policy (too old)");
                }
                let bytes = version.checked_sub(1).and_then(|index| key.versions.get(index));
                let opened = bytes.and_then(|bytes| open(bytes, sealed));
                let Some(plain) = opened else { return no(400, "invalid ciphertext: unable to decrypt") };
                Ok(json!({ "plaintext": STANDARD.encode(plain) }))
            }
            _ => no(404, "unsupported path"),
        }
    }
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
}

fn open(key: &[u8; 32], sealed: &str) -> Option<Vec<u8>> {
    let mut bytes = STANDARD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_at_mut_checked(12)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    aead(key).open_in_place(nonce, Aad::empty(), sealed).ok().map(|plain| plain.to_vec())
}
