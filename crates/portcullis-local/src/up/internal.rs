//! The way from the API server to the provider of `up --guide`, whose own ports are behind a port-forward.
//!
//! An API server fetches an issuer's discovery document and keys by itself, whether or not somebody forwards a port. As
//! design decision 10 has it, its configuration names a `discoveryURL` for that: a listener on loopback that serves the two
//! documents and nothing else.
//!
//! Both are below a path made anew at each start, so that nobody takes this for a way to the provider. It is no secret: the
//! log names it, and whoever reads it there gets what an issuer shows everybody.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{Method, StatusCode, Uri};
use portcullis_oidc::DiscoveryDocument;
use portcullis_runtime::server::{
    Handler, Request, Response, ResponseFuture, ServerLimits, Transport, bind, respond, serve,
};
use portcullis_runtime::{Rng, Shutdown};
use tokio::task::JoinHandle;
use url::Url;

use crate::ca::Leaf;

use super::error::UpError;
use super::provider::tls_of;

const JSON: &str = "application/json";

/// The listener.
pub(super) struct Internal {
    /// What the API server's configuration names.
    pub(super) discovery_url: String,
    pub(super) task: JoinHandle<()>,
}

struct Documents {
    /// Paths as requests spell them.
    discovery_path: String,
    keys_path: String,
    discovery: Vec<u8>,
    /// Where the provider has its keys.
    keys: Uri,
    provider: Arc<dyn Handler>,
}

/// Serves the issuer's documents until `stop`.
pub(super) async fn start(
    provider: Arc<dyn Handler>,
    issuer: &str,
    leaf: &Leaf,
    rng: &Rng,
    stop: &Shutdown,
) -> Result<Internal, UpError> {
    let failed = |source| UpError::Listen { port: 0, source };
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let folder = rng.token(16);
    let path = |name: &str| format!("/{folder}/{name}");
    let at = |name: &str| format!("https://127.0.0.1:{port}{}", path(name));
    let document =
        DiscoveryDocument { issuer: issuer.to_owned(), jwks_uri: Some(at("keys")), ..DiscoveryDocument::default() };
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| UpError::Provider(error);
    let issuer = Url::parse(issuer).map_err(|error| broken(error.into()))?;
    let keys = format!("{}/keys", issuer.path().trim_end_matches('/'));
    let documents = Documents {
        discovery_path: path("discovery"),
        keys_path: path("keys"),
        discovery: serde_json::to_vec(&document).map_err(|error| broken(error.into()))?,
        keys: keys.parse().map_err(|error: http::uri::InvalidUri| broken(error.into()))?,
        provider,
    };
    let transport = Transport::Tls(tls_of(leaf)?);
    let serving = serve(listener, transport, Arc::new(documents), ServerLimits::default(), stop.clone());
    Ok(Internal { discovery_url: at("discovery"), task: tokio::spawn(serving) })
}

impl Handler for Documents {
    fn handle(self: Arc<Self>, mut request: Request) -> ResponseFuture {
        let asked = request.uri().path();
        let is_get = *request.method() == Method::GET;
        if is_get && asked == self.discovery_path {
            let document: Response = respond(StatusCode::OK, JSON, self.discovery.clone());
            return Box::pin(std::future::ready(document));
        }
        if is_get && asked == self.keys_path {
            // It came over TLS, so the provider answers as it does at its own port.
            *request.uri_mut() = self.keys.clone();
            return self.provider.clone().handle(request);
        }
        Box::pin(std::future::ready(respond(StatusCode::NOT_FOUND, "text/plain", "not found\n")))
    }
}
