//! Requests from anybody to the provider: queries, form bodies, cookies, credentials. It never panics, answers no server error
//! but the 500 that some of Dex's pages have, sends browsers nowhere but to itself and to registered addresses, and shows no
//! secret.
//!
//! The input is `METHOD PATH[?QUERY]`, header lines, an empty line, a body. `%FLOW%` in it is the id of a sign-in that is
//! under way and whose cookie comes with every request; `%CSRF%` is what its form carries.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;
use portcullis_provider::config::{Document, RawConfig};
use portcullis_provider::fuzzing::{Answer, respond};
use portcullis_provider::{Provider, ProviderDeps, ProviderOptions};
use portcullis_runtime::telemetry::{Health, Metrics};
use portcullis_runtime::{Clock, Rng};
use portcullis_storage::{MemoryKernel, Store};
use tokio::runtime::Runtime;

const CONFIG: &str = "
issuer: https://dex.example
storage: {type: memory}
web: {http: 127.0.0.1:5556}
enablePasswordDB: true
oauth2: {passwordConnector: local}
signer: {type: local, config: {keysRotationPeriod: 6h, algorithm: ES256}}
staticClients:
- {id: kubernetes, name: Kubernetes, secret: secret-of-the-client, redirectURIs: ['http://localhost:8000']}
- {id: cli, name: CLI, public: true}
";
const SECRET: &str = "secret-of-the-client";
const START: &str = "client_id=kubernetes&response_type=code&scope=openid&redirect_uri=http%3A%2F%2Flocalhost%3A8000&state=s";

struct Site {
    runtime: Runtime,
    provider: Provider,
    cookie: String,
    flow: String,
    csrf: String,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let document = Document::parse(CONFIG, "c.yaml").expect("good YAML");
    let config = RawConfig::read(&document.root()).0.validate(&|_| None).expect("a good configuration");
    let (clock, _) = Clock::mock(1_790_000_000);
    let rng = Rng::seeded(7);
    let store = Store::with_options(Arc::new(MemoryKernel::new()), clock.clone(), rng.clone(), config.store_options());
    let health = Health::new(clock.clone(), Duration::from_secs(15), Duration::from_secs(5));
    let deps = ProviderDeps { metrics: Metrics::new(&clock), clock, rng, store, health };
    let provider = runtime.block_on(Provider::new(config, deps, ProviderOptions::default())).expect("a provider");
    let get = |location: &str, cookie: &str| {
        let (path, query) = location.split_once('?').unwrap_or((location, ""));
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(cookie).expect("a cookie"));
        runtime.block_on(respond(&provider, Method::GET, (path, query), headers, b""))
    };
    let text = |answer: &Answer, name: HeaderName| answer.headers[name].to_str().expect("text").to_owned();
    let first = get(&format!("/auth?{START}"), "x=y");
    let second = get(&text(&first, header::LOCATION), "x=y");
    let cookie = text(&second, header::SET_COOKIE).split(';').next().expect("a cookie").to_owned();
    let form_at = text(&second, header::LOCATION);
    let flow = form_at.split(['?', '&', '=']).find(|part| part.len() > 20).expect("a flow").to_owned();
    let form = get(&form_at, &cookie);
    let page = String::from_utf8_lossy(&form.body).into_owned();
    let field = page.split("name=\"csrf\"").nth(1).expect("a form with its token");
    let csrf = field.split("value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a value").to_owned();
    Site { runtime, provider, cookie, flow, csrf }
});

fuzz_target!(|data: &str| {
    let site = &*SITE;
    let data = data.replace("%FLOW%", &site.flow).replace("%CSRF%", &site.csrf);
    let (head, body) = data.split_once("\n\n").unwrap_or((&data, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or(("GET", head));
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.trim())) {
            headers.append(name, value);
        }
    }
    headers.append(header::COOKIE, HeaderValue::from_str(&site.cookie).expect("a cookie"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let answer = site.runtime.block_on(respond(&site.provider, method, (path, query), headers, body.as_bytes()));

    // 500 is Dex's answer on a few pages; 501 and above would be ours.
    assert!((200..=500).contains(&answer.status), "{}", answer.status);
    if let Some(location) = answer.headers.get(header::LOCATION) {
        let location = location.to_str().expect("text");
        let ours = location.starts_with('/') && !location.starts_with("//");
        // A public client without registered addresses may name any port of the machine that the browser runs on.
        let loopback = url::Url::parse(location).is_ok_and(|url| match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        });
        assert!(ours || loopback || location.starts_with("https://dex.example/"), "{location}");
    }
    if !data.contains(SECRET) {
        let contains = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!contains(&answer.body) && !answer.headers.values().any(|value| contains(value.as_bytes())));
    }
});
