//! Turns the requests of a listener into ours: body, path below the issuer's, scheme, client address.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use portcullis_runtime::net::{Cidr, is_loopback};
use portcullis_runtime::server::{
    BodyError, ClientIp, ConnInfo, Handler, Request, Response, ResponseFuture, full, read_body,
};
use portcullis_runtime::telemetry::Health;

use crate::app::App;
use crate::http::{Inbound, Reply, Source, claimed, claimed_by, network, text};
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
    /// Whether browsers of this machine are sent here in plain http (`up`).
    pub(crate) plain_entry: bool,
    /// What may be proxies that the configuration does not name.
    pub(crate) unnamed: Unnamed,
}

/// Peers that speak for others without being trusted to: each is worth one line in the log, and no more than a few are,
/// because anybody can send the headers.
#[derive(Default)]
pub(crate) struct Unnamed(Mutex<HashSet<IpAddr>>);

impl Unnamed {
    const MOST: usize = 32;

    fn is_new(&self, peer: IpAddr) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < Self::MOST && told.insert(network(peer))
    }
}

fn unnamed_proxy(peer: IpAddr, header: &str) -> String {
    let bits = if peer.is_ipv4() { 32 } else { 128 };
    let usable = if header == "forwarded" { "x-forwarded-for (and let the proxy send it)" } else { header };
    format!(
        "{peer} sends {header}, but web.clientRemoteIP does not name it as a proxy: everybody behind it counts as one \
         address and shares one limit of sign-in attempts. If it is your proxy, set web.clientRemoteIP.header to {usable} \
         and add {peer}/{bits} to web.clientRemoteIP.trustedProxies"
    )
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
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            // HTTP/2 has no Host header.
            parts.headers.insert(header::HOST, host);
        }
        let host = parts.headers.get(header::HOST);
        if !tls && !self.host_is_ours(host) {
            return Err(Box::new(text(StatusCode::MISDIRECTED_REQUEST, "this host is not served here\n")));
        }
        let trusted = peer.is_some_and(|ip| self.trusted.iter().any(|c| c.contains(ip)));
        let said_tls =
            parts.headers.get("x-forwarded-proto").is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"https"));
        let hop = Hop {
            tls,
            proxy_tls: trusted && said_tls,
            at_home: self.plain_entry && peer.is_some_and(is_loopback) && is_local(host) && !said_tls,
        };
        let secure = hop.is_secure(self.app.config.issuer.as_str().starts_with("https:"));
        let path = parts.uri.path();
        let Some(path) = below(path, self.app.config.issuer.path()) else { return Err(Box::new(router::not_found())) };
        let path = path.to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = match parts.method {
            Method::GET | Method::HEAD | Method::OPTIONS => Bytes::new(),
            _ => read_body(body, MAX_BODY, BODY_TIMEOUT).await.map_err(|error| Box::new(body_error(error)))?,
        };
        let from = self.source(&parts, peer, trusted);
        Ok(Inbound { method: parts.method, path, query, body, secure, from, headers: parts.headers })
    }

    fn source(&self, parts: &http::request::Parts, peer: Option<IpAddr>, trusted: bool) -> Source {
        let client = parts.extensions.get::<ClientIp>().map(|c| c.0).or(peer);
        if client != peer {
            // A trusted proxy has named the client. It may be a proxy in its turn.
            let list = self.app.config.web.client_remote_ip.as_ref();
            let claimed = client.zip(list).and_then(|(client, list)| claimed_by(client, &parts.headers, &list.header));
            return Source { client, claimed };
        }
        let claim = claimed(&parts.headers);
        if let (Some((header, _)), Some(peer), false) = (claim, peer, trusted)
            && self.unnamed.is_new(peer)
        {
            tracing::warn!("{}", unnamed_proxy(peer, header));
        }
        Source { client, claimed: claim.map(|(_, ip)| ip) }
    }

    fn host_is_ours(&self, host: Option<&HeaderValue>) -> bool {
        let Some(issuer) = &self.local_names else { return true };
        let same_as_issuer =
            || url::Url::parse(issuer).is_ok_and(|i| url_of(host).is_some_and(|url| i.host() == url.host()));
        is_local(host) || same_as_issuer()
    }
}

fn url_of(host: Option<&HeaderValue>) -> Option<url::Url> {
    url::Url::parse(&format!("http://{}/", host?.to_str().ok()?)).ok()
}

/// Whether a `Host` header names this machine, as every machine calls itself.
fn is_local(host: Option<&HeaderValue>) -> bool {
    match url_of(host).as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => is_loopback(IpAddr::V4(ip)) && ip != Ipv4Addr::UNSPECIFIED,
        Some(url::Host::Ipv6(ip)) => is_loopback(IpAddr::V6(ip)),
        None => false,
    }
}

/// What is known of the way that a request took from the browser.
#[derive(Clone, Copy)]
struct Hop {
    /// The connection to us is encrypted.
    tls: bool,
    /// A trusted proxy says that the browser's is.
    proxy_tls: bool,
    /// It comes from this machine and by a name of it, where browsers of this machine are sent in plain http.
    at_home: bool,
}

impl Hop {
    /// Whether the browser's cookies are `Secure` (docs/decisions/0012): when it speaks TLS, as far as we know, and when it
    /// has to, because the issuer is https. Then a proxy stands in between, trusted or not, whatever it says or forgets to
    /// say; a browser that does speak plain http to it keeps no cookie, and its user types no password there.
    const fn is_secure(self, https_issuer: bool) -> bool {
        self.tls || self.proxy_tls || (https_issuer && !self.at_home)
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
    fn cookies_are_secure_wherever_the_browser_has_to_speak_tls() {
        for (name, https_issuer, tls, proxy_tls, at_home, secure) in [
            ("TLS", true, true, false, false, true),
            ("TLS under up", true, true, false, true, true),
            ("TLS, http issuer", false, true, false, false, true),
            ("a trusted proxy that ends TLS", true, false, true, false, true),
            ("the same, http issuer", false, false, true, false, true),
            ("a proxy that says nothing, or is not trusted", true, false, false, false, true),
            ("plain, http issuer", false, false, false, false, false),
            ("plain, as up sends browsers", true, false, false, true, false),
        ] {
            assert_eq!(Hop { tls, proxy_tls, at_home }.is_secure(https_issuer), secure, "{name}");
        }
    }

    #[test]
    fn a_proxy_without_a_name_gets_one_line_that_says_what_to_write() {
        let unnamed = Unnamed::default();
        let proxy = "10.0.0.5".parse().unwrap();
        assert!(unnamed.is_new(proxy) && !unnamed.is_new(proxy));
        let told = (0..1000_u32).filter(|n| unnamed.is_new(IpAddr::V4((*n).into()))).count();
        assert_eq!(told, Unnamed::MOST - 1, "whoever invents headers does not fill the log");
        let line = unnamed_proxy(proxy, "x-forwarded-for");
        for part in ["web.clientRemoteIP.header to x-forwarded-for", "10.0.0.5/32", "web.clientRemoteIP.trustedProxies"]
        {
            assert!(line.contains(part), "{line}");
        }
        assert!(unnamed_proxy("2001:db8::1".parse().unwrap(), "forwarded").contains("2001:db8::1/128"));
    }

    #[test]
    fn names_of_this_machine_are_known() {
        for (host, local) in [
            ("localhost", true),
            ("localhost:5554", true),
            ("127.0.0.1:1", true),
            ("127.9.9.9", true),
            ("[::1]:1", true),
            ("LOCALHOST", true),
            ("0.0.0.0", false),
            ("localhost.evil.example", false),
            ("dex.example", false),
            ("", false),
            ("localhost@evil.example", false),
            ("evil.example#localhost", false),
        ] {
            assert_eq!(is_local(Some(&HeaderValue::from_str(host).unwrap())), local, "{host}");
        }
        assert!(!is_local(None));
    }

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
