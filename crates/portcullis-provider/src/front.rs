//! Turns the requests of a listener into ours: body, path below the issuer's, scheme, client address.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use portcullis_runtime::net::{Cidr, is_loopback};
use portcullis_runtime::server::{
    BodyError, ClientIp, ConnInfo, Handler, Request, Response, ResponseFuture, full, read_body,
};
use portcullis_runtime::telemetry::Health;

use crate::app::App;
use crate::http::{Inbound, Reply, text};
use crate::router;

/// Largest request body.
const MAX_BODY: usize = 64 * 1024;
/// How long a request body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Turns the connection's requests into ours.
pub(crate) struct Front {
    pub(crate) app: App,
    pub(crate) health: Health,
    /// Who may say how the browser's side of the connection looks.
    pub(crate) trusted: Vec<Cidr>,
    /// The issuer, when plain http is for this machine's names and the issuer's alone.
    pub(crate) local_names: Option<String>,
}

impl Handler for Front {
    fn handle(self: Arc<Self>, request: Request) -> ResponseFuture {
        Box::pin(async move {
            let reply = match self.read(request).await {
                Ok(inbound) => router::route(&self.app, &self.health, &inbound).await,
                Err(reply) => *reply,
            };
            let (parts, body) = reply.into_parts();
            Response::from_parts(parts, full(body))
        })
    }
}

impl Front {
    async fn read(&self, request: Request) -> Result<Inbound, Box<Reply>> {
        let (mut parts, body) = request.into_parts();
        let info = parts.extensions.get::<ConnInfo>();
        let peer = info.map(|i| i.peer.ip().to_canonical());
        let tls = info.is_some_and(|i| i.tls);
        let proxied = peer.is_some_and(|ip| self.trusted.iter().any(|c| c.contains(ip)));
        let forwarded_tls = proxied
            && parts.headers.get("x-forwarded-proto").is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"https"));
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            // HTTP/2 has no Host header.
            parts.headers.insert(header::HOST, host);
        }
        if !tls && !self.host_is_ours(parts.headers.get(header::HOST)) {
            return Err(Box::new(text(StatusCode::MISDIRECTED_REQUEST, "this host is not served here\n")));
        }
        let path = parts.uri.path();
        let Some(path) = below(path, self.app.config.issuer.path()) else { return Err(Box::new(router::not_found())) };
        let path = path.to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = match parts.method {
            Method::GET | Method::HEAD | Method::OPTIONS => Bytes::new(),
            _ => read_body(body, MAX_BODY, BODY_TIMEOUT).await.map_err(|error| Box::new(body_error(error)))?,
        };
        Ok(Inbound {
            method: parts.method,
            path,
            query,
            body,
            secure: tls || forwarded_tls,
            client: parts.extensions.get::<ClientIp>().map(|c| c.0).or(peer),
            headers: parts.headers,
        })
    }

    fn host_is_ours(&self, host: Option<&HeaderValue>) -> bool {
        let Some(issuer) = &self.local_names else { return true };
        let Some(host) = host.and_then(|h| h.to_str().ok()) else { return false };
        let Ok(url) = url::Url::parse(&format!("http://{host}/")) else { return false };
        let same_as_issuer = url::Url::parse(issuer).is_ok_and(|i| i.host() == url.host());
        let local = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => is_loopback(IpAddr::V4(ip)) && ip != Ipv4Addr::UNSPECIFIED,
            Some(url::Host::Ipv6(ip)) => is_loopback(IpAddr::V6(ip)),
            None => false,
        };
        local || same_as_issuer
    }
}

fn body_error(error: BodyError) -> Reply {
    match error {
        BodyError::TooLarge => text(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large\n"),
        BodyError::Timeout => text(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time\n"),
        BodyError::Broken => text(StatusCode::BAD_REQUEST, "the request body is broken\n"),
    }
}

/// The path below the issuer's.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_issuers_path_is_ours() {
        for (path, prefix, want) in [
            ("/keys", "", Some("/keys")),
            ("/dex/keys", "/dex", Some("/keys")),
            ("/dex", "/dex", Some("")),
            ("/dexter/keys", "/dex", None),
            ("/keys", "/dex", None),
            ("/", "", Some("/")),
        ] {
            assert_eq!(below(path, prefix), want, "{path}");
        }
    }
}
