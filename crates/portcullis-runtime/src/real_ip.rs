//! The client's address behind trusted proxies (Dex's `web.clientRemoteIP`).
//!
//! Only what trusted proxies wrote can be believed: a client may send the header itself, with any number of invented
//! hops at its left. So the header counts only when the peer is a trusted proxy, and is walked from the right; the
//! first hop that is no trusted proxy is the client.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};

use crate::net::Cidr;

/// Most hops that are walked.
const HOPS: usize = 64;

/// How to find the client's address.
#[derive(Debug, Clone)]
pub struct RealIp {
    header: HeaderName,
    trusted: Vec<Cidr>,
}

impl RealIp {
    /// `header` is what the proxies append to, such as `X-Forwarded-For`; `trusted` are their addresses. Without
    /// trusted proxies the header never counts.
    #[must_use]
    pub const fn new(header: HeaderName, trusted: Vec<Cidr>) -> Self {
        Self { header, trusted }
    }

    /// The client of a request that came from `peer`: the peer itself when it is no trusted proxy, when every hop is
    /// one, or when a hop is malformed before an untrusted one was found.
    ///
    /// A header that is there several times counts as one list, in order (RFC 9110 section 5.3). Dex reads only the
    /// first of them, which lets a client hide the proxy's line behind its own.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        // A line that is no text yields an empty hop, which is malformed.
        let lines = headers.get_all(&self.header);
        let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for hop in hops.take(HOPS) {
            let Ok(ip) = hop.trim().parse::<IpAddr>() else { break };
            let ip = ip.to_canonical();
            if !self.trusts(ip) {
                return ip;
            }
        }
        peer
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|prefix| prefix.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, lines: &[&str]) -> String {
        let real_ip = RealIp::new(
            HeaderName::from_static("x-forwarded-for"),
            trusted.iter().map(|c| c.parse().unwrap()).collect(),
        );
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        real_ip.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_first_untrusted_hop_from_the_right_is_the_client() {
        let proxies = ["10.0.0.0/8", "fd00::/8"];
        for (name, peer, lines, want) in [
            ("one hop", "10.0.0.1", vec!["203.0.113.7"], "203.0.113.7"),
            ("trusted chain", "10.0.0.1", vec!["203.0.113.7, 10.2.2.2, 10.3.3.3"], "203.0.113.7"),
            ("spoofed left hops", "10.0.0.1", vec!["1.1.1.1, 127.0.0.1, 203.0.113.7, 10.2.2.2"], "203.0.113.7"),
            ("spoofed trusted left hop", "10.0.0.1", vec!["10.9.9.9, 203.0.113.7"], "203.0.113.7"),
            ("matches a later prefix", "fd00::1", vec!["203.0.113.7"], "203.0.113.7"),
            ("untrusted peer", "198.51.100.1", vec!["203.0.113.7"], "198.51.100.1"),
            ("malformed hop", "10.0.0.1", vec!["203.0.113.7, unknown"], "10.0.0.1"),
            ("malformed hop behind the client", "10.0.0.1", vec!["junk, 203.0.113.7"], "203.0.113.7"),
            ("hop with a port", "10.0.0.1", vec!["203.0.113.7:4711"], "10.0.0.1"),
            ("empty hop", "10.0.0.1", vec!["203.0.113.7,"], "10.0.0.1"),
            ("all trusted", "10.0.0.1", vec!["10.2.2.2, 10.3.3.3"], "10.0.0.1"),
            ("no header", "10.0.0.1", vec![], "10.0.0.1"),
            ("empty header", "10.0.0.1", vec![""], "10.0.0.1"),
            ("IPv6 client", "10.0.0.1", vec!["2001:db8::7"], "2001:db8::7"),
            ("mapped peer", "::ffff:10.0.0.1", vec!["203.0.113.7"], "203.0.113.7"),
            ("mapped hop", "10.0.0.1", vec!["::ffff:203.0.113.7"], "203.0.113.7"),
            ("own line after the client's", "10.0.0.1", vec!["1.1.1.1", "203.0.113.7"], "203.0.113.7"),
            ("line that is no text", "10.0.0.1", vec!["203.0.113.7", "\u{e9}"], "10.0.0.1"),
        ] {
            assert_eq!(client(&proxies, peer, &lines), want, "{name}");
        }
    }

    #[test]
    fn without_trusted_proxies_the_header_never_counts() {
        assert_eq!(client(&[], "10.0.0.1", &["203.0.113.7"]), "10.0.0.1");
    }

    #[test]
    fn the_walk_is_bounded() {
        let chain = format!("203.0.113.7{}", ", 10.1.1.1".repeat(HOPS));
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &[&chain]), "10.0.0.1");
    }
}
