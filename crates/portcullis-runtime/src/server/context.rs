//! What every request gets before its handler: an id, the client's address, and a log span with both.
//!
//! Compat: Dex gives each request a random UUID and appends `request_id`, and `client_remote_addr` where
//! `clientRemoteIP` is configured, to every log line of the request. Ids that clients send are not believed.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::Instrument;

use super::connection::ConnInfo;
use super::handler::{Handler, Request, ResponseFuture};
use crate::Rng;
use crate::real_ip::RealIp;

/// A request's id, in its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

/// The client's address as far as it can be believed, in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

struct WithContext {
    inner: Arc<dyn Handler>,
    rng: Rng,
    real_ip: Option<RealIp>,
}

/// Puts a [`RequestId`] and a [`ClientIp`] into each request and runs `inner` in a span that carries them. Without
/// `real_ip` the client is the connection's peer.
#[must_use]
pub fn with_context(inner: Arc<dyn Handler>, rng: Rng, real_ip: Option<RealIp>) -> Arc<dyn Handler> {
    Arc::new(WithContext { inner, rng, real_ip })
}

impl Handler for WithContext {
    fn handle(self: Arc<Self>, mut request: Request) -> ResponseFuture {
        let id: Arc<str> = self.rng.uuid_v4().into();
        let peer = request.extensions().get::<ConnInfo>().map(|info| info.peer.ip().to_canonical());
        let client = match (&self.real_ip, peer) {
            (Some(real_ip), Some(peer)) => Some(real_ip.client(peer, request.headers())),
            (_, peer) => peer,
        };
        let span = match (&self.real_ip, client) {
            (Some(_), Some(client)) => tracing::info_span!("request", request_id = %id, client_remote_addr = %client),
            _ => tracing::info_span!("request", request_id = %id),
        };
        if let Some(client) = client {
            request.extensions_mut().insert(ClientIp(client));
        }
        request.extensions_mut().insert(RequestId(id));
        Box::pin(self.inner.clone().handle(request).instrument(span))
    }
}
