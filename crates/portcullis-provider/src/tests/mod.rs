//! The whole provider without a socket: memory store, a clock that stands still, a seeded generator.

mod authorize;
mod background;
mod browser;
mod endpoints;
mod etcd;
mod filled;
mod flow;
mod grants;
mod passwords;
mod races;
mod reconfigured;
mod rotation;
mod round_trips;
mod sealed;
mod secrets;
mod socket;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use portcullis_runtime::telemetry::{Health, Metrics};
use portcullis_runtime::{Clock, MockClock, Rng};
use portcullis_storage::{Kernel, MemoryKernel, Store};
use serde_json::Value;

use crate::config::{Config, Document, RawConfig};
use crate::http::{Inbound, Params, Reply, Source, encode_pairs};
use crate::{Provider, ProviderDeps, ProviderOptions};

/// "password", at the lowest cost that is accepted.
pub(super) const HASH: &str = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";
pub(super) const NOW: i64 = 1_790_000_000;
pub(super) const CALLBACK: &str = "http://localhost:8000";

pub(super) const BASE: &str = "
issuer: https://dex.example/dex
storage: {type: memory}
web: {http: 127.0.0.1:5556}
enablePasswordDB: true
signer: {type: local, config: {keysRotationPeriod: 6h, algorithm: ES256}}
staticClients:
- {id: kubernetes, name: Kubernetes, secret: demo-secret, redirectURIs: ['http://localhost:8000', 'https://app.example/cb?keep=1']}
- {id: other, name: Other, secret: other-secret, redirectURIs: ['http://localhost:8000'], trustedPeers: [kubernetes]}
- {id: cli, name: CLI, public: true}
- {id: restricted, name: Restricted, secret: r, redirectURIs: ['http://localhost:8000'], allowedConnectors: [elsewhere]}
staticPasswords:
- {email: Jane@example.com, username: jane, name: Jane Doe, preferredUsername: jd, userID: 08a8684b-db88-4b73-90a9-3cd1661f5466, groups: [admins, devs], hash: '$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W'}
- {email: joe@example.com, username: joe, userID: u-joe, emailVerified: false, hash: '$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W'}
";

pub(super) fn config(more: &str) -> Config {
    let text = format!("{BASE}{more}\n");
    RawConfig::read(&Document::parse(&text, "c.yaml").unwrap().root()).0.validate(&|_| None).unwrap()
}

/// A provider with its clock.
pub(super) struct World {
    pub(super) provider: Provider,
    pub(super) clock: MockClock,
}

impl World {
    pub(super) async fn new(more: &str) -> Self {
        Self::with(config(more), Arc::new(MemoryKernel::new()), ProviderOptions::default()).await
    }

    pub(super) async fn with(config: Config, kernel: Arc<dyn Kernel>, options: ProviderOptions) -> Self {
        let (clock, hand) = Clock::mock(NOW);
        let rng = Rng::seeded(7);
        let store = Store::with_options(kernel, clock.clone(), rng.clone(), config.store_options());
        Self::on(config, store, (clock, hand), rng, options).await
    }

    /// On a store that is there already.
    pub(super) async fn on(
        config: Config,
        store: Store,
        (clock, hand): (Clock, MockClock),
        rng: Rng,
        options: ProviderOptions,
    ) -> Self {
        let health = Health::new(clock.clone(), Duration::from_secs(15), Duration::from_secs(5));
        let deps = ProviderDeps { metrics: Metrics::new(&clock), clock, rng, store, health };
        let provider = Provider::new(config, deps, options).await.unwrap();
        Self { provider, clock: hand }
    }

    pub(super) fn browser(&self) -> Browser<'_> {
        Browser {
            world: self,
            cookies: HashMap::new(),
            headers: HeaderMap::new(),
            secure: true,
            from: address("192.0.2.7"),
        }
    }

    pub(super) fn base(&self) -> String {
        self.provider.app().config.issuer.path().to_owned()
    }

    /// A POST to `/token` with form credentials.
    pub(super) async fn token(&self, fields: &[(&str, &str)]) -> (u16, Value) {
        let reply = self.post("/token", fields, &[]).await;
        json(&reply)
    }

    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Reply {
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, "", &all, encode_pairs(fields)).await
    }

    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        self.send(Method::GET, path, query, headers, String::new()).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Reply {
        let headers = headers
            .iter()
            .map(|(k, v)| (HeaderName::from_bytes(k.as_bytes()).unwrap(), HeaderValue::from_str(v).unwrap()))
            .collect();
        let inbound = Inbound {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: Bytes::from(body),
            secure: true,
            from: Source::default(),
        };
        self.provider.respond(&inbound).await
    }

    /// Signs Jane in at `client` with these extra parameters; returns the code.
    pub(super) async fn code(&self, client: &str, scope: &str, more: &[(&str, &str)]) -> String {
        let mut browser = self.browser();
        let reply = browser.sign_in(client, scope, more).await;
        query_of(&reply).get("code").to_owned()
    }

    /// Code → tokens of the client `kubernetes`.
    pub(super) async fn redeem(&self, code: &str) -> (u16, Value) {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("client_id", "kubernetes"),
            ("client_secret", "demo-secret"),
        ])
        .await
    }

    pub(super) async fn refresh(&self, token: &str) -> (u16, Value) {
        self.token(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("client_id", "kubernetes"),
            ("client_secret", "demo-secret"),
        ])
        .await
    }

    /// The refresh token of a fresh sign-in.
    pub(super) async fn offline(&self) -> String {
        let code = self.code("kubernetes", "openid email offline_access", &[]).await;
        let (status, tokens) = self.redeem(&code).await;
        assert_eq!(status, 200, "{tokens}");
        tokens["refresh_token"].as_str().unwrap().to_owned()
    }
}

/// Somebody at an address.
pub(super) fn address(ip: &str) -> Source {
    Source { client: Some(ip.parse().unwrap()), claimed: None }
}

/// A browser with a cookie jar.
pub(super) struct Browser<'a> {
    world: &'a World,
    pub(super) cookies: HashMap<String, String>,
    pub(super) headers: HeaderMap,
    pub(super) secure: bool,
    pub(super) from: Source,
}

impl Browser<'_> {
    pub(super) async fn send(&mut self, method: Method, location: &str, body: String) -> Reply {
        let (path, query) = location.split_once('?').unwrap_or((location, ""));
        let base = self.world.base();
        let path = path.strip_prefix(base.as_str()).unwrap_or_else(|| panic!("{location} is not below {base}"));
        let mut headers = self.headers.clone();
        let cookies = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("; ");
        if !cookies.is_empty() {
            headers.insert(header::COOKIE, HeaderValue::from_str(&cookies).unwrap());
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let inbound = Inbound {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: Bytes::from(body),
            secure: self.secure,
            from: self.from,
        };
        let reply = self.world.provider.respond(&inbound).await;
        for cookie in crate::authflow::cookies_of(&reply) {
            let (pair, attributes) = cookie.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        reply
    }

    /// The flows that this browser is in; its other cookie says where it has signed in.
    pub(super) fn flows(&self) -> Vec<&String> {
        self.cookies.keys().filter(|name| !name.ends_with(".device")).collect()
    }

    pub(super) async fn get(&mut self, location: &str) -> Reply {
        self.send(Method::GET, location, String::new()).await
    }

    pub(super) async fn post(&mut self, location: &str, fields: &[(&str, &str)]) -> Reply {
        self.send(Method::POST, location, encode_pairs(fields)).await
    }

    /// `/auth` and the redirects after it, up to the login form's URL.
    pub(super) async fn start(&mut self, client: &str, scope: &str, more: &[(&str, &str)]) -> String {
        let reply = self.get(&self.world.auth_url(client, scope, more)).await;
        assert_eq!(reply.status(), 302, "{}", page(&reply));
        let reply = self.get(&location(&reply)).await;
        assert_eq!(reply.status(), 302, "{}", page(&reply));
        location(&reply)
    }

    /// Fills in the login form at `url`.
    pub(super) async fn log_in(&mut self, url: &str, login: &str, password: &str) -> Reply {
        let form = self.get(url).await;
        assert_eq!(form.status(), 200, "{}", page(&form));
        let csrf = hidden(&form, "csrf");
        let action = action(&form);
        self.post(&action, &[("csrf", &csrf), ("login", login), ("password", password)]).await
    }

    /// Everything up to the redirect to the client, granting what is asked.
    pub(super) async fn sign_in(&mut self, client: &str, scope: &str, more: &[(&str, &str)]) -> Reply {
        let url = self.start(client, scope, more).await;
        let reply = self.log_in(&url, "jane@example.com", "password").await;
        assert_eq!(reply.status(), 303, "{}", page(&reply));
        self.finish(reply).await
    }

    /// From the redirect after the password to the redirect to the client.
    pub(super) async fn finish(&mut self, reply: Reply) -> Reply {
        let reply = self.get(&location(&reply)).await;
        if reply.status() != 303 || !location(&reply).contains("/approval?") {
            return reply;
        }
        let form = self.get(&location(&reply)).await;
        assert_eq!(form.status(), 200, "{}", page(&form));
        let req = hidden(&form, "req");
        let action = action(&form);
        self.post(&action, &[("req", &req), ("approval", "approve")]).await
    }
}

impl World {
    pub(super) fn auth_url(&self, client: &str, scope: &str, more: &[(&str, &str)]) -> String {
        let mut pairs = vec![("client_id", client), ("response_type", "code"), ("scope", scope)];
        for default in [("redirect_uri", CALLBACK), ("state", "the-state"), ("nonce", "the-nonce")] {
            if !more.iter().any(|(name, _)| *name == default.0) {
                pairs.push(default);
            }
        }
        pairs.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        format!("{}/auth?{}", self.base(), encode_pairs(&pairs))
    }
}

pub(super) fn location(reply: &Reply) -> String {
    reply
        .headers()
        .get(header::LOCATION)
        .unwrap_or_else(|| panic!("no location: {}", page(reply)))
        .to_str()
        .unwrap()
        .to_owned()
}

/// The parameters of the redirect.
pub(super) fn query_of(reply: &Reply) -> Params {
    let location = location(reply);
    Params::parse(location.split_once('?').unwrap().1.as_bytes()).unwrap()
}

pub(super) fn page(reply: &Reply) -> String {
    String::from_utf8(reply.body().to_vec()).unwrap()
}

pub(super) fn json(reply: &Reply) -> (u16, Value) {
    (reply.status().as_u16(), serde_json::from_slice(reply.body()).unwrap_or_else(|e| panic!("{e}: {}", page(reply))))
}

fn unescape(text: &str) -> String {
    text.replace("&#34;", "\"").replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

pub(super) fn hidden(reply: &Reply, name: &str) -> String {
    let page = page(reply);
    let field = page
        .split("<input")
        .find(|i| i.contains(&format!("name=\"{name}\"")))
        .unwrap_or_else(|| panic!("no {name} in {page}"));
    unescape(field.split("value=\"").nth(1).unwrap().split('"').next().unwrap())
}

pub(super) fn action(reply: &Reply) -> String {
    let page = page(reply);
    unescape(page.split("action=\"").nth(1).unwrap_or_else(|| panic!("no form in {page}")).split('"').next().unwrap())
}

/// The claims of a token, without a check.
pub(super) fn claims(token: &Value) -> Value {
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&portcullis_jose::base64url_decode(payload).unwrap()).unwrap()
}
