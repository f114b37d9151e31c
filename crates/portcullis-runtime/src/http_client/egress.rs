//! Where outgoing connections may go.
//!
//! A URL that someone else chose (a discovery document's `jwks_uri`, a logout callback) must not make us a door into
//! the private network or the cloud's metadata service (SSRF). The check is on the address that is connected to: names
//! are resolved once, here, and the connection uses just the addresses that passed (no DNS rebinding).

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::net;

/// Which addresses may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EgressPolicy {
    /// All: the URLs come from the operator or the user.
    #[default]
    Any,
    /// Only this machine.
    LoopbackOnly,
    /// Only ordinary Internet addresses: no loopback, private, link-local or metadata address.
    Public,
}

/// The egress policy does not admit an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused to connect to {host}: {reason}")]
pub struct EgressRefused {
    /// The host of the URL.
    pub host: String,
    /// Which rule refused it.
    pub reason: &'static str,
}

impl EgressPolicy {
    fn admits(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::LoopbackOnly => net::is_loopback(ip),
            Self::Public => net::is_public(ip),
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Any => "no address",
            Self::LoopbackOnly => "only loopback addresses are allowed",
            Self::Public => "only public addresses are allowed",
        }
    }

    /// Checks hosts that are addresses, which no resolver sees. Names are checked when they are resolved.
    pub(super) fn check_url(self, url: &Url) -> Result<(), EgressRefused> {
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.admits(ip) { Ok(()) } else { Err(EgressRefused { host: ip.to_string(), reason: self.reason() }) }
    }
}

/// Resolves names and hands back only admitted addresses.
pub(super) struct EgressResolver(pub(super) EgressPolicy);

impl Resolve for EgressResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let admitted = admitted(policy, name.as_str(), found)?;
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

fn admitted(policy: EgressPolicy, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, EgressRefused> {
    let admitted: Vec<_> = found.into_iter().filter(|address| policy.admits(address.ip())).collect();
    if admitted.is_empty() {
        return Err(EgressRefused { host: host.to_owned(), reason: policy.reason() });
    }
    Ok(admitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_urls_are_checked_in_every_notation() {
        for (policy, url, allowed) in [
            (EgressPolicy::Public, "http://169.254.169.254/latest", false),
            (EgressPolicy::Public, "http://2852039166/", false),
            (EgressPolicy::Public, "http://0xa9.0xfe.0xa9.0xfe/", false),
            (EgressPolicy::Public, "http://[::ffff:169.254.169.254]/", false),
            (EgressPolicy::Public, "http://[fe80::1]/", false),
            (EgressPolicy::Public, "http://10.1.1.1/", false),
            (EgressPolicy::Public, "http://127.1/", false),
            (EgressPolicy::Public, "https://1.1.1.1/", true),
            (EgressPolicy::LoopbackOnly, "http://127.0.0.1:1/", true),
            (EgressPolicy::LoopbackOnly, "http://[::1]/", true),
            (EgressPolicy::LoopbackOnly, "http://1.1.1.1/", false),
            (EgressPolicy::LoopbackOnly, "http://0.0.0.0/", false),
            (EgressPolicy::Any, "http://169.254.169.254/", true),
        ] {
            assert_eq!(policy.check_url(&Url::parse(url).unwrap()).is_ok(), allowed, "{policy:?} {url}");
        }
    }

    #[test]
    fn resolved_addresses_are_filtered_and_none_left_is_a_refusal() {
        let mixed: Vec<SocketAddr> = vec!["10.0.0.1:0".parse().unwrap(), "1.1.1.1:0".parse().unwrap()];
        assert_eq!(admitted(EgressPolicy::Public, "h", mixed.clone()).unwrap(), vec!["1.1.1.1:0".parse().unwrap()]);
        let refused = admitted(EgressPolicy::LoopbackOnly, "intern.example", mixed).unwrap_err();
        assert_eq!(refused.to_string(), "refused to connect to intern.example: only loopback addresses are allowed");
        assert!(admitted(EgressPolicy::Public, "h", Vec::new()).is_err());
    }
}
