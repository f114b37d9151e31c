//! Facts about addresses: prefixes, and which addresses are reachable by everyone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address prefix such as `10.0.0.0/8` or `fd00::/8`. Host bits are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

/// The text is no address prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct CidrError(String);

impl Cidr {
    /// Whether `ip` lies in the prefix. IPv4-mapped IPv6 addresses count as the IPv4 address that they stand for.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                u128::from(u32::from(network)) << 96 == mask(u128::from(u32::from(ip)) << 96, self.bits)
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => u128::from(network) == mask(u128::from(ip), self.bits),
            _ => false,
        }
    }
}

/// Keeps the first `bits` bits of `value`.
const fn mask(value: u128, bits: u8) -> u128 {
    match bits {
        0 => 0,
        1..=127 => value & (u128::MAX << (128 - bits)),
        _ => value,
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Reads `address/bits` as Go's `netip.ParsePrefix` does: a bare address, a zone, a sign or a leading zero in the
    /// bits is refused.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.chars().take(64).collect());
        let (address, bits) = text.split_once('/').ok_or_else(error)?;
        let network: IpAddr = address.parse().map_err(|_| error())?;
        if bits.is_empty() || (bits.len() > 1 && bits.starts_with('0')) || !bits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let bits: u8 = bits.parse().map_err(|_| error())?;
        let network = match network {
            IpAddr::V4(ip) if bits <= 32 => {
                IpAddr::V4(Ipv4Addr::from((mask(u128::from(u32::from(ip)) << 96, bits) >> 96) as u32))
            }
            IpAddr::V6(ip) if bits <= 128 => IpAddr::V6(Ipv6Addr::from(mask(u128::from(ip), bits))),
            _ => return Err(error()),
        };
        Ok(Self { network, bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether `ip` is a loopback address, also when written as an IPv4-mapped IPv6 address.
#[must_use]
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether `ip` is an ordinary address of the public Internet: not loopback, private, link-local (where cloud metadata
/// services live), shared (100.64/10), documentation, benchmarking, multicast or reserved, and not an IPv6 address that
/// carries such an IPv4 address inside (mapped, compatible, NAT64, 6to4, Teredo).
///
/// Source: IANA's special-purpose address registries (RFC 6890 and its updates).
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = ip.segments();
    let tail = Ipv4Addr::from((u32::from(s6) << 16) | u32::from(s7));
    // Only 2000::/3 is handed out for general use; NAT64's well-known prefix is the one exception that routes.
    if (s0, s1, s2, s3, s4, s5) == (0x64, 0xff9b, 0, 0, 0, 0) {
        return is_public_v4(tail);
    }
    if s0 & 0xe000 != 0x2000 {
        return false;
    }
    match (s0, s1) {
        // 6to4: the IPv4 address follows the prefix.
        (0x2002, _) => is_public_v4(Ipv4Addr::from((u32::from(s1) << 16) | u32::from(s2))),
        // 2001::/23 holds Teredo, ORCHID and benchmarking; 2001:db8::/32 and 3fff::/20 are documentation.
        (0x2001, s1) if s1 < 0x0200 || s1 == 0x0db8 => false,
        (0x3fff, s1) if s1 < 0x1000 => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_contain_what_they_say() {
        for (cidr, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.9.9.9/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.8", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::/0", "2001:db8::1", true),
            ("::1/128", "::1", true),
            ("::1/128", "::2", false),
        ] {
            assert_eq!(cidr.parse::<Cidr>().unwrap().contains(ip(address)), inside, "{cidr} {address}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "::/129",
            "::1%eth0/64",
            "10.0.0/8",
            "x/8",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        let long = "9".repeat(10_000);
        assert!(long.parse::<Cidr>().unwrap_err().to_string().len() < 100);
    }

    #[test]
    fn prefixes_print_their_network() {
        assert_eq!("10.9.9.9/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn only_ordinary_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2a00::1",
            "64:ff9b::1.1.1.1",
            "2002:0101:0101::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:169.254.169.254",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip(other)), "{other}");
        }
    }

    #[test]
    fn mapped_loopback_is_loopback() {
        assert!(is_loopback(ip("::ffff:127.0.0.1")) && is_loopback(ip("::1")) && is_loopback(ip("127.255.0.1")));
        assert!(!is_loopback(ip("::ffff:10.0.0.1")) && !is_loopback(ip("0.0.0.0")));
    }
}
