//! The issuer's keys: from a file, or from the issuer as kube-apiserver fetches them, bounded in time and size.
//!
//! What kube-apiserver's library makes of a set, and what `Strict` does, are two readings of the same bytes.

use std::sync::Arc;
use std::time::Duration;

use portcullis_authn::{JwtConfig, Policy};
use portcullis_jose::{CompactJws, JwkSet, KeyHints, Limits, PublicJwk, UnknownKeys};
use portcullis_kube::go::quote;
use portcullis_oidc::DiscoveryDocument;
use portcullis_oidc::client::{
    DiscoveryError, DiscoveryOptions, JwksFetchError, KeySource, KeySourceError, StaticKeys, Verification, discover,
};
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, HttpClientError, ProxyFromEnv, Roots};

/// How long one request to the issuer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Characters of an error page that are shown.
const BODY_SHOWN: usize = 200;

/// The keys that a token is verified with.
#[derive(Debug)]
pub(crate) enum Keys {
    /// A set was read.
    Read(Read),
    /// The issuer has not been discovered.
    Undiscovered(Undiscovered),
}

/// A set, or why it cannot be used.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) faithful: Result<JwkSet, JwksFetchError>,
    strict: Result<JwkSet, JwksFetchError>,
    /// As it came, for what both leave out; `None` when it is no JSON.
    pub(crate) json: Option<serde_json::Value>,
    /// The file, or the URL.
    pub(crate) from: String,
}

/// Why an issuer has not been discovered.
#[derive(Debug)]
pub(crate) struct Undiscovered {
    /// Where the document should be.
    pub(crate) url: String,
    /// In kube-apiserver's words.
    pub(crate) reason: String,
    pub(crate) error: DiscoveryFault,
}

/// The kind of fault, for the hint.
#[derive(Debug)]
pub(crate) enum DiscoveryFault {
    Discovery(DiscoveryError),
    NoJwksUri,
}

/// Keys that cannot be had: the answer is that of a failed fetch.
struct Unusable(JwksFetchError);

impl KeySource for Unusable {
    fn verify<'a>(&'a self, _: CompactJws<'a>) -> Verification<'a> {
        Box::pin(std::future::ready(Err(KeySourceError::Fetch(self.0.clone()))))
    }
}

impl Read {
    /// Reads a set that came from `from`. `content_type` is that of the answer.
    pub(crate) fn new(bytes: &[u8], content_type: &str, from: String) -> Self {
        let parse = |unknown| {
            JwkSet::parse(bytes, unknown, &Limits::default())
                .map_err(|reason| JwksFetchError::Decode { content_type: content_type.to_owned(), reason })
        };
        let json = serde_json::from_slice(bytes).ok();
        Self { faithful: parse(UnknownKeys::RejectSet), strict: parse(UnknownKeys::Skip), json, from }
    }

    fn failed(error: JwksFetchError, from: String) -> Self {
        Self { faithful: Err(error.clone()), strict: Err(error), json: None, from }
    }

    /// What the verifier asks about signatures.
    pub(crate) fn source(&self, policy: Policy) -> Arc<dyn KeySource> {
        let (set, hints) = match policy {
            Policy::Faithful => (&self.faithful, KeyHints::Ignore),
            Policy::Strict => (&self.strict, KeyHints::Enforce),
        };
        match set {
            Ok(set) => Arc::new(StaticKeys(set.clone().with_hints(hints))),
            Err(error) => Arc::new(Unusable(error.clone())),
        }
    }

    /// The keys, for people.
    pub(crate) fn summary(&self) -> String {
        match &self.faithful {
            Ok(set) => {
                let keys: Vec<String> = set.keys().iter().take(10).map(describe).collect();
                let more = set.keys().len().saturating_sub(keys.len());
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let list = if keys.is_empty() { String::new() } else { format!(": {}{more}", keys.join(", ")) };
                format!("{} from {}{list}", count(set.keys().len()), self.from)
            }
            Err(error) => format!("none from {}: {error}", self.from),
        }
    }

    /// The key ids in the set.
    pub(crate) fn kids(&self) -> Vec<&str> {
        self.faithful.iter().flat_map(JwkSet::keys).filter_map(PublicJwk::kid).collect()
    }
}

fn count(keys: usize) -> String {
    if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") }
}

fn describe(key: &PublicJwk) -> String {
    let json = key.to_json();
    let text = |member: &str| json.get(member).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let kind = [text("kty"), text("crv")].join(" ");
    match key.kid() {
        Some(kid) => format!("{} ({})", quote(kid), kind.trim()),
        None => format!("one without an id ({})", kind.trim()),
    }
}

/// Asks the issuer. `pem` holds the authorities that its certificate may come from; empty for the system's.
///
/// # Errors
/// When no client can be made, as with a broken proxy setting.
pub(crate) async fn fetch(config: &JwtConfig, pem: &str, proxy: &ProxyFromEnv) -> Result<Keys, HttpClientError> {
    let roots = if pem.is_empty() { Roots::System } else { Roots::only_pem(pem.as_bytes())? };
    let settings = HttpClientConfig { roots, timeout: PATIENCE, proxy: proxy.clone(), ..HttpClientConfig::default() };
    let http = HttpClient::new(settings)?;
    let url = config.discovery_url.clone().unwrap_or_else(|| DiscoveryDocument::url(&config.issuer_url));
    let options = DiscoveryOptions { document_url: config.discovery_url.clone() };
    let undiscovered = |error: DiscoveryFault, reason: String| {
        Ok(Keys::Undiscovered(Undiscovered { url: url.clone(), reason, error }))
    };
    let document = match discover(&http, &config.issuer_url, &options).await {
        Ok(document) => document,
        Err(error) => {
            let reason = match &error {
                // Compat: go-oidc 2.5.0's words, as in the authenticator.
                DiscoveryError::IssuerMismatch { expected, got } => format!(
                    "oidc: issuer did not match the issuer returned by provider, expected {} got {}",
                    quote(expected),
                    quote(got)
                ),
                other => other.to_string(),
            };
            return undiscovered(DiscoveryFault::Discovery(error), reason);
        }
    };
    let Some(uri) = document.jwks_uri.filter(|uri| !uri.is_empty()) else {
        return undiscovered(DiscoveryFault::NoJwksUri, "provider did not return JWKS URL".to_owned());
    };
    Ok(Keys::Read(match http.get(&uri, &[]).await {
        Ok(answer) if answer.status == 200 => {
            Read::new(&answer.body, answer.header("content-type").unwrap_or_default(), uri)
        }
        Ok(answer) => {
            let body = String::from_utf8_lossy(&answer.body).chars().take(BODY_SHOWN).collect();
            Read::failed(JwksFetchError::Status { status: answer.status, body }, uri)
        }
        Err(error) => Read::failed(JwksFetchError::Http(error), uri),
    }))
}
