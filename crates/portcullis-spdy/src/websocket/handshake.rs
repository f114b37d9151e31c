//! The opening handshake (RFC 6455 section 4), and how an HTTP request asks for SPDY.
//!
//! Requests and responses are made and carried by others; this looks at their headers and gives those of the answer.
//!
//! `Sec-WebSocket-Protocol` may carry a bearer token (`base64url.bearer.authorization.k8s.io.…`): what was offered never
//! appears in an error.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// What a subprotocol that tunnels SPDY begins with; the rest is the stream protocol.
pub const TUNNEL_PREFIX: &str = "SPDY/3.1+";

/// The subprotocol of kubectl's port-forward.
pub const TUNNEL_PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

/// The name of SPDY/3.1 in an `Upgrade` header.
pub const SPDY: &str = "SPDY/3.1";

/// The key's companion (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is wrong with a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The request has another method.
    #[error("a WebSocket handshake is a GET request")]
    Method,
    /// `Connection` does not name `upgrade`, or `Upgrade` not `websocket`.
    #[error("the headers Connection: upgrade and Upgrade: websocket are missing")]
    Upgrade,
    /// `Sec-WebSocket-Version` is not 13.
    #[error("the header Sec-WebSocket-Version must be 13")]
    Version,
    /// `Sec-WebSocket-Key` is not one, of 16 bytes in base64.
    #[error("the header Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
    /// The server did not agree to the upgrade.
    #[error("the server answered {0} instead of 101")]
    Status(u16),
    /// `Sec-WebSocket-Accept` does not answer the key.
    #[error("the header Sec-WebSocket-Accept does not answer the key")]
    Accept,
    /// The server chose a subprotocol that was not offered, or several.
    #[error("the server chose a subprotocol that was not offered")]
    Protocol,
    /// The server wants an extension, and none was offered.
    #[error("the server wants an extension that was not offered")]
    Extension,
}

impl HandshakeError {
    /// The status to refuse a request with. 426 goes with [`refusal`]'s headers.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Version => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// An agreed handshake.
#[derive(Clone, Debug)]
pub struct Accepted<'a> {
    /// The headers of the response, whose status is 101.
    pub headers: HeaderMap,
    /// The subprotocol; `None` when none of those offered is supported, which a caller may refuse.
    pub protocol: Option<&'a str>,
}

/// True when a request asks for WebSocket.
#[must_use]
pub fn wants_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket")
}

/// True when a request asks for SPDY/3.1.
///
/// Compat: `k8s.io/streaming` v0.37.2 (pkg/httpstream/spdy/upgrade.go) looks for the two words anywhere in the headers.
#[must_use]
pub fn wants_spdy(headers: &HeaderMap) -> bool {
    let contains = |name: &HeaderName, word: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|v| v.to_ascii_lowercase().contains(word))
    };
    contains(&CONNECTION, "upgrade") && contains(&UPGRADE, "spdy/3.1")
}

/// Answers a request (section 4.2), with the first subprotocol of the client's that is `supported`.
///
/// # Errors
/// What is wrong with the request.
pub fn accept<'a>(method: &Method, headers: &HeaderMap, supported: &[&'a str]) -> Result<Accepted<'a>, HandshakeError> {
    if method != Method::GET {
        return Err(HandshakeError::Method);
    }
    if !wants_websocket(headers) {
        return Err(HandshakeError::Upgrade);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(HandshakeError::Version);
    }
    let answer = accept_value(only(headers, &SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?)?;
    let protocol = choose(offered(headers), supported);
    let mut response = HeaderMap::new();
    response.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(answer).map_err(|_| HandshakeError::Key)?);
    if let Some(protocol) = protocol {
        let value = HeaderValue::from_str(protocol).map_err(|_| HandshakeError::Protocol)?;
        response.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok(Accepted { headers: response, protocol })
}

/// The headers that go with a refusal: the version that is spoken here (section 4.4).
#[must_use]
pub fn refusal() -> HeaderMap {
    HeaderMap::from_iter([(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))])
}

/// The subprotocols that a request offers, best first.
pub fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
}

/// The first of `offered` that is `supported`. The names are compared by case.
pub fn choose<'o, 's>(offered: impl IntoIterator<Item = &'o str>, supported: &[&'s str]) -> Option<&'s str> {
    offered.into_iter().find_map(|offer| supported.iter().find(|name| **name == offer).copied())
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (section 4.2.2).
///
/// # Errors
/// The key is not 16 bytes in base64.
pub fn accept_value(key: &str) -> Result<String, HandshakeError> {
    if STANDARD.decode(key).ok().is_none_or(|bytes| bytes.len() != 16) {
        return Err(HandshakeError::Key);
    }
    Ok(STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes())))
}

/// The key that a client sends, from 16 random bytes.
#[must_use]
pub fn key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// The headers of a client's request (section 4.1), which is a GET.
///
/// # Errors
/// The key or a protocol cannot stand in a header.
pub fn request(key: &str, protocols: &[&str]) -> Result<HeaderMap, HandshakeError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(key).map_err(|_| HandshakeError::Key)?);
    if !protocols.is_empty() {
        let value = HeaderValue::from_str(&protocols.join(", ")).map_err(|_| HandshakeError::Protocol)?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok(headers)
}

/// Checks a server's answer to [`request`] (section 4.1), and says which subprotocol it chose.
///
/// # Errors
/// What is wrong with the answer.
pub fn check_response<'a>(
    status: StatusCode,
    headers: &HeaderMap,
    key: &str,
    protocols: &[&'a str],
) -> Result<Option<&'a str>, HandshakeError> {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(HandshakeError::Status(status.as_u16()));
    }
    if !wants_websocket(headers) {
        return Err(HandshakeError::Upgrade);
    }
    if only(headers, &SEC_WEBSOCKET_ACCEPT) != Some(accept_value(key)?.as_str()) {
        return Err(HandshakeError::Accept);
    }
    if headers.contains_key(http::header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err(HandshakeError::Extension);
    }
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    let chosen = only(headers, &SEC_WEBSOCKET_PROTOCOL).ok_or(HandshakeError::Protocol)?;
    protocols.iter().find(|name| **name == chosen).copied().map(Some).ok_or(HandshakeError::Protocol)
}

/// The value of a header that must occur once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The elements of a header that is a list, over all its lines.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn good() -> HeaderMap {
        headers(&[
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-protocol", "v6.channel.k8s.io, v5.channel.k8s.io"),
            ("sec-websocket-protocol", "v4.channel.k8s.io"),
        ])
    }

    #[test]
    fn the_example_of_section_1_3_is_answered() {
        let accepted = accept(&Method::GET, &good(), &["v4.channel.k8s.io", "v5.channel.k8s.io"]).unwrap();
        assert_eq!(accepted.protocol, Some("v5.channel.k8s.io"));
        assert_eq!(accepted.headers[SEC_WEBSOCKET_ACCEPT], ACCEPT);
        assert_eq!(accepted.headers[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        assert_eq!(accepted.headers[UPGRADE], "websocket");
    }

    #[test]
    fn without_a_common_subprotocol_none_is_chosen() {
        let accepted = accept(&Method::GET, &good(), &["V5.channel.k8s.io"]).unwrap();
        assert_eq!(accepted.protocol, None);
        assert!(!accepted.headers.contains_key(SEC_WEBSOCKET_PROTOCOL));
    }

    #[test]
    fn requests_against_the_rules_are_refused_by_name() {
        let refused = |method: Method, change: &dyn Fn(&mut HeaderMap)| {
            let mut headers = good();
            change(&mut headers);
            accept(&method, &headers, &[]).unwrap_err()
        };
        assert_eq!(refused(Method::POST, &|_| {}), HandshakeError::Method);
        assert_eq!(refused(Method::GET, &|h| drop(h.remove("upgrade"))), HandshakeError::Upgrade);
        let close = HeaderValue::from_static("close");
        assert_eq!(refused(Method::GET, &|h| drop(h.insert("connection", close.clone()))), HandshakeError::Upgrade);
        let eight = HeaderValue::from_static("8");
        assert_eq!(
            refused(Method::GET, &|h| drop(h.insert("sec-websocket-version", eight.clone()))),
            HandshakeError::Version
        );
        for bad in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZQ==", "not base64 at all!!!!!!="] {
            let value = HeaderValue::from_static(bad);
            assert_eq!(
                refused(Method::GET, &|h| drop(h.insert("sec-websocket-key", value.clone()))),
                HandshakeError::Key
            );
        }
        let twice = HeaderValue::from_static(KEY);
        assert_eq!(
            refused(Method::GET, &|h| {
                h.append("sec-websocket-key", twice.clone());
            }),
            HandshakeError::Key
        );
        assert_eq!(HandshakeError::Version.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(refusal()[SEC_WEBSOCKET_VERSION], "13");
    }

    #[test]
    fn a_client_checks_its_answer() {
        let offered = ["SPDY/3.1+portforward.k8s.io"];
        let request = request(KEY, &offered).unwrap();
        let accepted = accept(&Method::GET, &request, &[TUNNEL_PORT_FORWARD]).unwrap();
        let check = |status, headers: &HeaderMap| check_response(status, headers, KEY, &offered);
        let switching = StatusCode::SWITCHING_PROTOCOLS;
        assert_eq!(check(switching, &accepted.headers), Ok(Some(TUNNEL_PORT_FORWARD)));
        assert_eq!(check(StatusCode::OK, &accepted.headers), Err(HandshakeError::Status(200)));
        let with = |name: &'static str, value: &'static str| {
            let mut headers = accepted.headers.clone();
            headers.insert(name, HeaderValue::from_static(value));
            headers
        };
        assert_eq!(check(switching, &with("upgrade", "SPDY/3.1")), Err(HandshakeError::Upgrade));
        assert_eq!(check(switching, &with("sec-websocket-accept", "x")), Err(HandshakeError::Accept));
        assert_eq!(check(switching, &with("sec-websocket-protocol", "other")), Err(HandshakeError::Protocol));
        assert_eq!(
            check(switching, &with("sec-websocket-extensions", "permessage-deflate")),
            Err(HandshakeError::Extension)
        );
        let mut none = accepted.headers.clone();
        none.remove(SEC_WEBSOCKET_PROTOCOL);
        assert_eq!(check(switching, &none), Ok(None));
        assert_eq!(key(*b"the sample nonce"), KEY);
    }

    #[test]
    fn spdy_is_asked_for_as_upstream_reads_it() {
        assert!(wants_spdy(&headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")])));
        assert!(wants_spdy(&headers(&[("connection", "x-upgrade"), ("upgrade", "spdy/3.1-or-so")])));
        assert!(!wants_spdy(&headers(&[("connection", "Upgrade"), ("upgrade", "websocket")])));
        assert!(!wants_spdy(&headers(&[("upgrade", "SPDY/3.1")])));
    }
}
