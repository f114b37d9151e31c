//! For fuzz targets alone (`--cfg fuzzing`): the provider's whole reading of a request, without a socket.

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::Provider;
use crate::http::{Inbound, Source};

/// What the provider answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Answers one request; `path` is that below the issuer's.
pub async fn respond(
    provider: &Provider,
    method: Method,
    (path, query): (&str, &str),
    headers: HeaderMap,
    body: &[u8],
) -> Answer {
    let inbound = Inbound {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Bytes::copy_from_slice(body),
        secure: true,
        from: Source::default(),
    };
    let reply = provider.respond(&inbound).await;
    Answer { status: reply.status().as_u16(), headers: reply.headers().clone(), body: reply.body().clone() }
}
