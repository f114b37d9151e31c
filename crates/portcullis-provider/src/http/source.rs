//! Where a request comes from, and for whom it says that it speaks.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Most entries of a list that are looked at.
const HOPS: usize = 64;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// The client's address as far as it can be believed.
    pub(crate) client: Option<IpAddr>,
    /// For whom the client says that it speaks, when nobody vouches for that: a proxy that the configuration does not
    /// name, or somebody who invents it. Good for dividing what the client may take among those behind it, and for
    /// nothing else: what it says must never add to that.
    pub(crate) claimed: Option<IpAddr>,
}

impl Source {
    /// The part of the network that one customer controls.
    pub(crate) fn network(&self) -> Option<IpAddr> {
        self.client.map(network)
    }
}

/// The part of an address that one customer controls: all of IPv4, a /64 of IPv6.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX))),
    }
}

/// For whom a request says that it speaks, and the header that says so.
///
/// Of a list only the last entry counts: a real proxy has written that one itself, whatever it was sent.
pub(crate) fn claimed(headers: &HeaderMap) -> Option<(&'static str, IpAddr)> {
    let last = |name: &str| last_entry(headers.get_all(name).iter().next_back()?);
    let list = |name: &'static str| Some((name, address(last(name)?)?));
    let forwarded = || {
        let element = last("forwarded")?;
        let parameter = element.split(';').find_map(|p| {
            let (name, value) = p.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then_some(value)
        })?;
        Some(("forwarded", address(parameter.trim().trim_matches('"'))?))
    };
    list("x-forwarded-for").or_else(|| list("x-real-ip")).or_else(forwarded)
}

/// For whom `client` says that it speaks, where trusted proxies have written the client into the list `header`: the entry
/// before it is the client's own.
pub(crate) fn claimed_by(client: IpAddr, headers: &HeaderMap, header: &HeaderName) -> Option<IpAddr> {
    let lines = headers.get_all(header);
    let entries = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')).take(HOPS);
    let mut before = entries.map(|entry| address(entry.trim())).skip_while(|ip| *ip != Some(client));
    before.nth(1).flatten()
}

fn last_entry(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()?.rsplit(',').next().map(str::trim)
}

/// An address, as proxies write it: with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip())).map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_says_who_is_behind_a_proxy() {
        for (headers, want) in [
            (&[][..], None),
            (&[("x-forwarded-for", "203.0.113.7")], Some(("x-forwarded-for", "203.0.113.7"))),
            (&[("x-forwarded-for", "1.1.1.1, 203.0.113.7")], Some(("x-forwarded-for", "203.0.113.7"))),
            (
                &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2 ,203.0.113.7:4711")],
                Some(("x-forwarded-for", "203.0.113.7")),
            ),
            (&[("x-forwarded-for", "::ffff:203.0.113.7")], Some(("x-forwarded-for", "203.0.113.7"))),
            (&[("x-forwarded-for", "[2001:db8::7]")], Some(("x-forwarded-for", "2001:db8::7"))),
            (&[("x-forwarded-for", "[2001:db8::7]:80")], Some(("x-forwarded-for", "2001:db8::7"))),
            (&[("x-forwarded-for", "203.0.113.7, unknown")], None),
            (&[("x-forwarded-for", "junk"), ("x-real-ip", "203.0.113.7")], Some(("x-real-ip", "203.0.113.7"))),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-real-ip", "2.2.2.2")], Some(("x-forwarded-for", "1.1.1.1"))),
            (&[("forwarded", "for=1.1.1.1, proto=https;For=\"[2001:db8::7]:1\"")], Some(("forwarded", "2001:db8::7"))),
            (&[("forwarded", "for=_hidden")], None),
            (&[("forwarded", "for=203.0.113.7;by=x, host=a")], None),
            (&[("via", "203.0.113.7")], None),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(claimed(&map), want.map(|(name, ip)| (name, ip.parse().unwrap())), "{headers:?}");
        }
    }

    #[test]
    fn what_stands_before_a_client_in_the_list_is_its_own_claim() {
        let name = HeaderName::from_static("x-forwarded-for");
        for (lines, want) in [
            (&["203.0.113.7"][..], None),
            (&["192.168.0.9, 203.0.113.7"], Some("192.168.0.9")),
            (&["1.1.1.1, 192.168.0.9, 203.0.113.7, 10.0.0.2"], Some("192.168.0.9")),
            (&["192.168.0.9", "203.0.113.7, 10.0.0.2"], Some("192.168.0.9")),
            (&["junk, 203.0.113.7"], None),
            (&["192.168.0.9"], None),
            (&[], None),
        ] {
            let mut map = HeaderMap::new();
            for line in lines {
                map.append(&name, HeaderValue::from_static(line));
            }
            let found = claimed_by("203.0.113.7".parse().unwrap(), &map, &name);
            assert_eq!(found, want.map(|ip| ip.parse().unwrap()), "{lines:?}");
        }
        let long = format!("192.168.0.9, 203.0.113.7{}", ", 10.1.1.1".repeat(HOPS));
        let map = [(name.clone(), HeaderValue::from_str(&long).unwrap())].into_iter().collect();
        assert_eq!(claimed_by("203.0.113.7".parse().unwrap(), &map, &name), None, "the walk is bounded");
    }

    #[test]
    fn a_customer_is_one_whatever_address_of_theirs_is_used() {
        let network = |client: &str| Source { client: Some(client.parse().unwrap()), claimed: None }.network().unwrap();
        assert_eq!(network("2001:db8::1"), network("2001:db8::2:0:0:9"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(Source::default().network(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read(bytes: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                for name in ["x-forwarded-for", "x-real-ip", "forwarded"] {
                    let map = [(HeaderName::from_static(name), value.clone())].into_iter().collect();
                    claimed(&map);
                    claimed_by(IpAddr::V4(1.into()), &map, &HeaderName::from_static(name));
                }
            }
        }
    }
}
