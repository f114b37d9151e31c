//! A small issuer on loopback with switches for everything that a provider can do wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use portcullis_jose::{KeyKind, SigningKey, half_hash, sign_compact};
use portcullis_oidc::vocabulary::pkce;
use portcullis_runtime::server::{self, Request, Response, ServerLimits, Transport, handler_fn, respond};
use portcullis_runtime::tls::{ClientAuth, TlsIdentity, TlsVersions, server_config};
use portcullis_runtime::{Clock, Shutdown};
use serde_json::{Map, Value, json};

/// What the issuer does.
#[derive(Clone)]
pub struct Behaviour {
    /// `code_challenge_methods_supported`.
    pub pkce_methods: Vec<&'static str>,
    /// Seconds that tokens live.
    pub lifetime: i64,
    /// Claims that replace those of the ID token; null removes one.
    pub claims: Map<String, Value>,
    /// Refresh tokens that are given out, in order; then none.
    pub refresh_tokens: Vec<&'static str>,
    /// Refuses refresh tokens.
    pub refuse_refresh: bool,
    /// Knows only credentials in the body.
    pub only_post: bool,
    /// Sends the browser back with this query instead of a code.
    pub answer: Option<&'static str>,
    /// Leaves the ID token out.
    pub no_id_token: bool,
    /// Issuer in the discovery document.
    pub claimed_issuer: Option<String>,
    /// Status and body of the discovery document.
    pub discovery_failure: Option<(u16, &'static str)>,
    /// How long the token endpoint thinks.
    pub token_delay: Duration,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            pkce_methods: vec!["plain", "S256"],
            lifetime: 3600,
            claims: Map::new(),
            refresh_tokens: vec!["REFRESH_TOKEN_1", "REFRESH_TOKEN_2", "REFRESH_TOKEN_3"],
            refuse_refresh: false,
            only_post: false,
            answer: None,
            no_id_token: false,
            claimed_issuer: None,
            discovery_failure: None,
            token_delay: Duration::ZERO,
        }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub path: String,
    pub form: BTreeMap<String, String>,
    pub headers: http::HeaderMap,
}

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    requests: Vec<Recorded>,
    codes: BTreeMap<String, BTreeMap<String, String>>,
    refreshed: usize,
    last_id_token: String,
}

/// A running issuer.
pub struct Issuer {
    pub url: String,
    pub ca_pem: Option<String>,
    state: Arc<Mutex<State>>,
    _shutdown: DropTrigger,
    _runtime: tokio::runtime::Runtime,
}

struct DropTrigger(Shutdown);

impl Drop for DropTrigger {
    fn drop(&mut self) {
        self.0.trigger();
    }
}

impl Issuer {
    pub fn plain(clock: &Clock) -> Self {
        Self::start(clock, false)
    }

    pub fn tls(clock: &Clock) -> Self {
        Self::start(clock, true)
    }

    fn start(clock: &Clock, tls: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (transport, ca_pem, scheme) = if tls {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let identity =
                TlsIdentity::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
            let config = server_config(identity, TlsVersions::default(), ClientAuth::None).unwrap();
            (Transport::Tls(config), Some(made.cert.pem()), "https")
        } else {
            (Transport::Plain, None, "http")
        };
        let url = format!("{scheme}://localhost:{port}");
        let state = Arc::new(Mutex::new(State::default()));
        let shutdown = Shutdown::new();
        let core = Arc::new(Core {
            url: url.clone(),
            key: SigningKey::generate(KeyKind::P256, "dummy".to_owned()).unwrap(),
            clock: clock.clone(),
            state: Arc::clone(&state),
        });
        let handler = handler_fn(move |request| {
            let core = Arc::clone(&core);
            async move { core.answer(request).await }
        });
        runtime.spawn(server::serve(listener, transport, handler, ServerLimits::default(), shutdown.clone()));
        Self { url, ca_pem, state, _shutdown: DropTrigger(shutdown), _runtime: runtime }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state().behaviour);
    }

    /// The requests so far to paths that end so.
    pub fn requests(&self, path: &str) -> Vec<Recorded> {
        self.state().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// The number of all requests so far.
    pub fn count(&self) -> usize {
        self.state().requests.len()
    }

    /// The last ID token that was issued.
    pub fn last_id_token(&self) -> String {
        self.state().last_id_token.clone()
    }

    /// Forgets the recorded requests.
    pub fn forget(&self) {
        self.state().requests.clear();
    }
}

struct Core {
    url: String,
    key: SigningKey,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

impl Core {
    async fn answer(&self, request: Request) -> Response {
        let path = request.uri().path().to_owned();
        let is_post = request.method() == Method::POST;
        let headers = request.headers().clone();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = server::read_body(request.into_body(), 65_536, Duration::from_secs(5)).await.unwrap_or_default();
        let text = if is_post { String::from_utf8(body.to_vec()).unwrap() } else { query };
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let recorded = Recorded { path: path.clone(), form: form.clone(), headers: headers.clone() };
        let behaviour = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(recorded);
            state.behaviour.clone()
        };
        match path.as_str() {
            "/.well-known/openid-configuration" => self.discovery(&behaviour),
            "/keys" => json_response(200, &json!({"keys": [self.key.public().to_json()]})),
            "/auth" => self.authorize(&form, &behaviour),
            "/token" => {
                tokio::time::sleep(behaviour.token_delay).await;
                self.token(&form, &headers, &behaviour)
            }
            _ => json_response(404, &json!({})),
        }
    }

    fn discovery(&self, behaviour: &Behaviour) -> Response {
        if let Some((status, body)) = behaviour.discovery_failure {
            return respond(StatusCode::from_u16(status).unwrap(), "text/plain", body);
        }
        let mut document = json!({
            "issuer": behaviour.claimed_issuer.as_ref().unwrap_or(&self.url),
            "authorization_endpoint": format!("{}/auth", self.url),
            "token_endpoint": format!("{}/token", self.url),
            "jwks_uri": format!("{}/keys", self.url),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        if !behaviour.pkce_methods.is_empty() {
            document["code_challenge_methods_supported"] = json!(behaviour.pkce_methods);
        }
        json_response(200, &document)
    }

    fn authorize(&self, form: &BTreeMap<String, String>, behaviour: &Behaviour) -> Response {
        let redirect_uri = &form["redirect_uri"];
        let state = &form["state"];
        let separator = if redirect_uri.contains('?') { '&' } else { '?' };
        let query = match behaviour.answer {
            Some(answer) => answer.replace("STATE", state),
            None => {
                let code = format!("CODE_{}", self.state.lock().unwrap().codes.len() + 1);
                self.state.lock().unwrap().codes.insert(code.clone(), form.clone());
                format!("code={code}&state={state}")
            }
        };
        let mut response = respond(StatusCode::FOUND, "text/plain", "");
        let target = format!("{redirect_uri}{separator}{query}");
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&target).unwrap());
        response
    }

    fn token(&self, form: &BTreeMap<String, String>, headers: &http::HeaderMap, behaviour: &Behaviour) -> Response {
        if behaviour.only_post && headers.contains_key(header::AUTHORIZATION) {
            return json_response(401, &json!({"error": "invalid_client"}));
        }
        let invalid_grant =
            |text: &str| json_response(400, &json!({"error": "invalid_grant", "error_description": text}));
        let mut nonce = None;
        match form["grant_type"].as_str() {
            "authorization_code" => {
                let Some(request) = self.state.lock().unwrap().codes.remove(&form["code"]) else {
                    return invalid_grant("unknown code");
                };
                if let Some(challenge) = request.get("code_challenge") {
                    assert_eq!(request["code_challenge_method"], "S256");
                    if pkce::challenge_s256(form.get("code_verifier").map_or("", String::as_str)) != *challenge {
                        return invalid_grant("wrong verifier");
                    }
                }
                assert_eq!(form["redirect_uri"], request["redirect_uri"]);
                nonce = request.get("nonce").cloned();
            }
            "refresh_token" if behaviour.refuse_refresh => return invalid_grant("session expired"),
            "refresh_token" | "password" => {}
            other => panic!("grant {other}"),
        }
        let now = self.clock.now().unix_seconds();
        let mut state = self.state.lock().unwrap();
        let number = state.requests.len();
        let access_token = sign_compact(
            &self.key,
            self.key.default_algorithm(),
            None,
            json!({"iss": self.url, "sub": "u", "aud": "elsewhere", "exp": now + behaviour.lifetime, "jti": number})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
        let mut claims = json!({
            "iss": self.url,
            "sub": "u",
            "aud": "kubernetes",
            "exp": now + behaviour.lifetime,
            "iat": now,
            "at_hash": half_hash(self.key.default_algorithm(), &access_token),
            "email": "u@example.com",
            "jti": number,
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        for (name, value) in &behaviour.claims {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let id_token =
            sign_compact(&self.key, self.key.default_algorithm(), None, claims.to_string().as_bytes()).unwrap();
        let mut answer = json!({"access_token": access_token, "token_type": "Bearer", "expires_in": 3600});
        if !behaviour.no_id_token {
            answer["id_token"] = json!(id_token);
        }
        if let Some(refresh_token) = behaviour.refresh_tokens.get(state.refreshed) {
            answer["refresh_token"] = json!(refresh_token);
        }
        state.refreshed += 1;
        state.last_id_token = id_token;
        json_response(200, &answer)
    }
}

fn json_response(status: u16, value: &Value) -> Response {
    respond(StatusCode::from_u16(status).unwrap(), "application/json", value.to_string())
}
