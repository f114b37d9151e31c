//! Which framing a request wants its connection to have.
//!
//! Compat: the ways through kube-apiserver 1.37 and a kubelet. WebSocket with a subprotocol that begins with `SPDY/3.1+` is a
//! tunnel (`apiserver/pkg/util/proxy/streamtunnel.go`); other WebSockets carry numbered channels (`streaming/pkg/httpstream/
//! wsstream`); anything else must be SPDY/3.1 (`streaming/pkg/httpstream`). Refusals are theirs too: plain text, but for a
//! request that asks for no upgrade at all.

use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_kube::Status;
use portcullis_spdy::websocket::handshake;

use super::Session;
use crate::http::reply::{Payload, Reply};
use crate::http::{Call, Outcome};

/// The stream protocols of a request or an answer.
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Those that could have been had.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// What a subprotocol that tunnels ends with.
const SUFFIX: &str = ".k8s.io";

/// How the connection will be framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// SPDY/3.1.
    Spdy,
    /// SPDY/3.1 in binary WebSocket messages.
    Tunnel,
    /// WebSocket messages, each for a channel.
    Channels(&'static str),
}

/// What a kind of session speaks.
pub(crate) struct Speaks {
    /// The stream protocols over SPDY, best first.
    pub(crate) spdy: &'static [&'static str],
    /// Whether they may come through a tunnel.
    pub(crate) tunnel: bool,
    /// The WebSocket subprotocols with channels. The empty one stands for none.
    pub(crate) channels: &'static [&'static str],
}

/// An agreed upgrade: the answer's headers, and the framing.
#[derive(Debug)]
pub(crate) struct Agreed {
    headers: HeaderMap,
    pub(crate) framing: Framing,
}

/// Finds out what a request wants, or what to answer it.
pub(crate) fn agree(call: &Call, speaks: &Speaks) -> Outcome<Result<Agreed, Box<Reply>>> {
    let asks = call.headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    if !asks.into_iter().any(|value| value.to_ascii_lowercase().contains("upgrade")) {
        return Err(Box::new(Status::bad_request("Upgrade request required")));
    }
    if !call.header(UPGRADE).eq_ignore_ascii_case("websocket") {
        return Ok(spdy(call, speaks));
    }
    let tunnelled = |name: &&str| name.starts_with(handshake::TUNNEL_PREFIX) && name.ends_with(SUFFIX);
    let tunnels: Vec<&str> = handshake::offered(&call.headers).filter(tunnelled).collect();
    if speaks.tunnel && !tunnels.is_empty() {
        return Ok(tunnel(call, speaks, &tunnels));
    }
    Ok(channels(call, speaks))
}

fn spdy(call: &Call, speaks: &Speaks) -> Result<Agreed, Box<Reply>> {
    let lines: Vec<&str> = call.headers.get_all(&PROTOCOL).iter().filter_map(|value| value.to_str().ok()).collect();
    if lines.is_empty() {
        let number = call.headers.len();
        let why = format!(
            "unable to upgrade: header X-Stream-Protocol-Version does not exist in request with {number} headers"
        );
        return Err(refused(400, &why));
    }
    let offered: Vec<&str> = lines.iter().flat_map(|line| line.split(',')).map(str::trim).collect();
    let offered: Vec<&str> = offered.into_iter().filter(|name| !name.is_empty()).collect();
    if offered.is_empty() {
        let why = format!(
            "unable to upgrade: header X-Stream-Protocol-Version contains [{}], but no valid protocols",
            lines.join(" ")
        );
        return Err(refused(400, &why));
    }
    let protocol = choose(&offered, speaks)?;
    if !handshake::wants_spdy(&call.headers) {
        return Err(refused(400, "unable to upgrade: missing upgrade headers in request"));
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(handshake::SPDY));
    headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
    Ok(Agreed { headers, framing: Framing::Spdy })
}

fn tunnel(call: &Call, speaks: &Speaks, tunnels: &[&str]) -> Result<Agreed, Box<Reply>> {
    let inner: Vec<&str> = tunnels.iter().filter_map(|name| name.strip_prefix(handshake::TUNNEL_PREFIX)).collect();
    let protocol = choose(&inner, speaks)?;
    let wanted = format!("{}{protocol}", handshake::TUNNEL_PREFIX);
    let accepted = handshake::accept(&call.method, &call.headers, &[wanted.as_str()]).map_err(bad_handshake)?;
    Ok(Agreed { headers: accepted.headers, framing: Framing::Tunnel })
}

fn channels(call: &Call, speaks: &Speaks) -> Result<Agreed, Box<Reply>> {
    let accepted = handshake::accept(&call.method, &call.headers, speaks.channels).map_err(bad_handshake)?;
    let none = handshake::offered(&call.headers).next().is_none() && speaks.channels.contains(&"");
    match accepted.protocol.or_else(|| none.then_some("")) {
        Some(protocol) => Ok(Agreed { headers: accepted.headers, framing: Framing::Channels(protocol) }),
        None => Err(refused(403, "the requested subprotocols are not supported")),
    }
}

fn choose(offered: &[&str], speaks: &Speaks) -> Result<&'static str, Box<Reply>> {
    handshake::choose(offered.iter().copied(), speaks.spdy).ok_or_else(|| {
        let why = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            offered.join(" "),
            speaks.spdy.join(" ")
        );
        let mut reply = refused(403, &why);
        for protocol in speaks.spdy {
            reply.headers.append(ACCEPTED, HeaderValue::from_static(protocol));
        }
        reply
    })
}

fn bad_handshake(error: handshake::HandshakeError) -> Box<Reply> {
    let mut reply = refused(error.status().as_u16(), &error.to_string());
    reply.headers.extend(handshake::refusal());
    reply
}

fn refused(code: u16, why: &str) -> Box<Reply> {
    Box::new(Reply::text(code, format!("{why}\n")))
}

impl Agreed {
    /// The 101, and what comes after it.
    pub(crate) fn reply(self, session: Session) -> Reply {
        let mut reply = Reply::text(101, "");
        reply.headers.remove(CONTENT_TYPE);
        reply.headers.extend(self.headers);
        reply.payload = Payload::Upgrade(session);
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEAKS: Speaks = Speaks { spdy: &["portforward.k8s.io"], tunnel: true, channels: &["", "v4.channel.k8s.io"] };
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn call(method: &str, headers: &[(&'static str, &str)]) -> Call {
        let start = Call::test(&format!("{method} /api/v1/namespaces/d/pods/p/portforward"), "");
        headers.iter().fold(start, |call, (name, value)| call.with(name, value))
    }

    fn websocket(protocols: Option<&str>) -> Call {
        let call = call(
            "GET",
            &[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", KEY),
            ],
        );
        protocols.into_iter().fold(call, |call, protocols| call.with("sec-websocket-protocol", protocols))
    }

    fn refusal(call: &Call) -> (u16, String) {
        match agree(call, &SPEAKS) {
            Err(status) => (u16::try_from(status.code).unwrap(), status.message),
            Ok(Err(reply)) => (reply.status.as_u16(), String::from_utf8(reply.bytes().to_vec()).unwrap()),
            Ok(Ok(agreed)) => panic!("{agreed:?}"),
        }
    }

    #[test]
    fn each_way_of_asking_gets_its_framing() {
        let framing = |call: &Call| agree(call, &SPEAKS).unwrap().ok().unwrap().framing;
        assert_eq!(framing(&websocket(Some("SPDY/3.1+portforward.k8s.io"))), Framing::Tunnel);
        assert_eq!(
            framing(&websocket(Some("v4.channel.k8s.io, SPDY/3.1+portforward.k8s.io"))),
            Framing::Tunnel,
            "a tunnel goes before channels"
        );
        assert_eq!(framing(&websocket(Some("v4.channel.k8s.io"))), Framing::Channels("v4.channel.k8s.io"));
        assert_eq!(framing(&websocket(None)), Framing::Channels(""));
        for method in ["GET", "POST"] {
            let spdy = call(
                method,
                &[
                    ("connection", "Upgrade"),
                    ("upgrade", "SPDY/3.1"),
                    ("x-stream-protocol-version", "v9.x, portforward.k8s.io"),
                ],
            );
            assert_eq!(framing(&spdy), Framing::Spdy);
        }
    }

    #[test]
    fn a_request_that_cannot_be_upgraded_is_told_why() {
        assert_eq!(refusal(&call("POST", &[])), (400, "Upgrade request required".to_owned()));
        let asks = ("connection", "keep-alive, Upgrade");
        assert_eq!(
            refusal(&call("POST", &[asks, ("upgrade", "SPDY/3.1")])),
            (
                400,
                "unable to upgrade: header X-Stream-Protocol-Version does not exist in request with 2 headers\n"
                    .to_owned()
            )
        );
        assert_eq!(
            refusal(&call("POST", &[asks, ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", " ,")])).0,
            400
        );
        let (code, why) =
            refusal(&call("POST", &[asks, ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "a, b")]));
        assert_eq!(
            (code, why.as_str()),
            (
                403,
                "unable to upgrade: unable to negotiate protocol: client supports [a b], server accepts [portforward.k8s.io]\n"
            )
        );
        assert_eq!(
            refusal(&call("POST", &[asks, ("upgrade", "h2c"), ("x-stream-protocol-version", "portforward.k8s.io")])).0,
            400
        );
        assert_eq!(refusal(&websocket(Some("SPDY/3.1+other.k8s.io"))).0, 403);
        assert_eq!(refusal(&websocket(Some("v3.channel.k8s.io"))).0, 403);
        let old = call("GET", &[asks, ("upgrade", "websocket"), ("sec-websocket-version", "8")]);
        assert_eq!(refusal(&old).0, 426);
    }
}
