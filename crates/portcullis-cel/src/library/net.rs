//! IP addresses and networks.
//!
//! Compat: Go's `net/netip` as `k8s.io/apiserver/pkg/cel/library/{ip,cidr}.go` 0.37.2 use it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::EvalError;
use crate::ops::Evaluated;
use crate::show::quoted;
use crate::value::Value;

/// A network: an address, and how many of its bits name the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    pub(crate) fn bits(&self) -> u8 {
        self.bits
    }

    fn width(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    fn contains(&self, address: &IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(&self.address, self.bits) == masked(address, self.bits)
    }
}

fn masked(address: &IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from(u32::from(*address) & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from(u128::from(*address) & mask))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", go_address(&self.address), self.bits)
    }
}

/// An address as Go writes it: no IPv4 part within IPv6.
pub(crate) fn go_address(address: &IpAddr) -> String {
    let IpAddr::V6(v6) = address else { return address.to_string() };
    if v6.to_ipv4_mapped().is_some() {
        return address.to_string();
    }
    let groups = v6.segments();
    let (mut start, mut length) = (0, 0);
    let mut at = 0;
    while at < groups.len() {
        let run = groups.iter().skip(at).take_while(|group| **group == 0).count();
        if run > length && run >= 2 {
            (start, length) = (at, run);
        }
        at += run.max(1);
    }
    let hex = |groups: &[u16]| groups.iter().map(|group| format!("{group:x}")).collect::<Vec<_>>().join(":");
    if length == 0 {
        return hex(&groups);
    }
    let (before, rest) = groups.split_at(start);
    format!("{}::{}", hex(before), hex(rest.get(length..).unwrap_or_default()))
}

/// What Go says about a text that is no address.
fn go_error(text: &str, reason: &str, at: &str) -> String {
    let near = if at.is_empty() { String::new() } else { format!(" (at {})", quoted(at)) };
    format!("ParseAddr({}): {reason}{near}", quoted(text))
}

pub(super) fn parse_address(text: &str) -> Result<IpAddr, String> {
    for c in text.chars() {
        match c {
            '.' => return parse_v4(text).map(IpAddr::V4),
            ':' => return parse_v6(text).map(IpAddr::V6),
            '%' => return Err(go_error(text, "missing IPv6 address", "")),
            _ => {}
        }
    }
    Err(go_error(text, "unable to parse IP", ""))
}

fn parse_v4(text: &str) -> Result<Ipv4Addr, String> {
    let octets = v4_fields(text, text)?;
    Ok(Ipv4Addr::from(octets))
}

/// The four numbers in `part`; `text` is what errors are about.
fn v4_fields(text: &str, part: &str) -> Result<[u8; 4], String> {
    let mut fields = [0u8; 4];
    let (mut position, mut value, mut digits) = (0usize, 0u32, 0usize);
    let bytes = part.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let tail = || part.get(index..).unwrap_or_default();
        if byte.is_ascii_digit() {
            if digits == 1 && value == 0 {
                return Err(go_error(text, "IPv4 field has octet with leading zero", ""));
            }
            value = value * 10 + u32::from(byte - b'0');
            digits += 1;
            if value > 255 {
                return Err(go_error(text, "IPv4 field has value >255", ""));
            }
        } else if *byte == b'.' {
            if index == 0 || index + 1 == bytes.len() || bytes.get(index - 1) == Some(&b'.') {
                return Err(go_error(text, "IPv4 field must have at least one digit", tail()));
            }
            if position == 3 {
                return Err(go_error(text, "IPv4 address too long", ""));
            }
            if let Some(field) = fields.get_mut(position) {
                *field = u8::try_from(value).unwrap_or_default();
            }
            position += 1;
            (value, digits) = (0, 0);
        } else {
            return Err(go_error(text, "unexpected character", tail()));
        }
    }
    if position < 3 {
        return Err(go_error(text, "IPv4 address too short", ""));
    }
    if let Some(field) = fields.get_mut(3) {
        *field = u8::try_from(value).unwrap_or_default();
    }
    Ok(fields)
}

fn parse_v6(text: &str) -> Result<Ipv6Addr, String> {
    let fail = |reason: &str, at: &str| Err(go_error(text, reason, at));
    let mut rest = text;
    if let Some((address, zone)) = text.split_once('%') {
        if zone.is_empty() {
            return fail("zone must be a non-empty string", "");
        }
        rest = address;
    }
    let mut groups: Vec<u16> = Vec::new();
    let mut ellipsis = None;
    if let Some(tail) = rest.strip_prefix("::") {
        ellipsis = Some(0);
        rest = tail;
        if rest.is_empty() {
            return Ok(Ipv6Addr::UNSPECIFIED);
        }
    }
    while groups.len() < 8 {
        let (mut value, mut digits) = (0u32, 0);
        for c in rest.chars() {
            let Some(digit) = c.to_digit(16) else { break };
            value = value * 16 + digit;
            if digits > 3 {
                return fail("each group must have 4 or less digits", rest);
            }
            if value > 0xffff {
                return fail("IPv6 field has value >=2^16", rest);
            }
            digits += 1;
        }
        if digits == 0 {
            return fail("each colon-separated field must have at least one digit", rest);
        }
        let tail = rest.get(digits..).unwrap_or_default();
        if tail.starts_with('.') {
            if ellipsis.is_none() && groups.len() != 6 {
                return fail("embedded IPv4 address must replace the final 2 fields of the address", rest);
            }
            if groups.len() + 2 > 8 {
                return fail("too many hex fields to fit an embedded IPv4 at the end of the address", rest);
            }
            let [a, b, c, d] = v4_fields(text, rest)?;
            groups.push(u16::from_be_bytes([a, b]));
            groups.push(u16::from_be_bytes([c, d]));
            rest = "";
            break;
        }
        groups.push(u16::try_from(value).unwrap_or_default());
        rest = tail;
        if rest.is_empty() {
            break;
        }
        let Some(tail) = rest.strip_prefix(':') else { return fail("unexpected character, want colon", rest) };
        if tail.is_empty() {
            return fail("colon must be followed by more characters", rest);
        }
        rest = tail;
        if let Some(tail) = rest.strip_prefix(':') {
            if ellipsis.is_some() {
                return fail("multiple :: in address", rest);
            }
            ellipsis = Some(groups.len());
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
    }
    if !rest.is_empty() {
        return fail("trailing garbage after address", rest);
    }
    if groups.len() < 8 {
        let Some(at) = ellipsis else { return fail("address string too short", "") };
        let zeroes = 8 - groups.len();
        groups.splice(at..at, std::iter::repeat_n(0, zeroes));
    } else if ellipsis.is_some() {
        return fail("the :: must expand to at least one field of zeros", "");
    }
    let groups: [u16; 8] = groups.try_into().unwrap_or_default();
    Ok(Ipv6Addr::from(groups))
}

fn mapped(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    let shown = quoted(text);
    let address = parse_address(text).map_err(|error| {
        EvalError::new(format!("IP Address {shown} parse error during conversion from string: {error}"))
    })?;
    if text.contains('%') {
        return Err(EvalError::new(format!("IP address {shown} with zone value is not allowed")));
    }
    if mapped(&address) {
        return Err(EvalError::new(format!("IPv4-mapped IPv6 address {shown} is not allowed")));
    }
    Ok(address)
}

fn parse_prefix(text: &str) -> Result<Cidr, String> {
    let fail = |reason: &str| Err(format!("netip.ParsePrefix({}): {reason}", quoted(text)));
    let Some((address, bits)) = text.rsplit_once('/') else { return fail("no '/'") };
    let ip = match parse_address(address) {
        Ok(ip) => ip,
        Err(error) => return fail(&error),
    };
    if address.contains('%') {
        return fail("IPv6 zones cannot be present in a prefix");
    }
    if bits.len() > 1 && !bits.starts_with(|c: char| ('1'..='9').contains(&c)) {
        return fail(&format!("bad bits after slash: {}", quoted(bits)));
    }
    let number = if bits.starts_with('+') { None } else { bits.parse::<i64>().ok() };
    let Some(number) = number else { return fail(&format!("bad bits after slash: {}", quoted(bits))) };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    match u8::try_from(number).ok().filter(|bits| *bits <= most) {
        Some(bits) => Ok(Cidr { address: ip, bits }),
        None => fail("prefix length out of range"),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, String> {
    const FAILED: &str = "network address parse error during conversion from string";
    let cidr = parse_prefix(text).map_err(|error| format!("{FAILED}: {error}"))?;
    if mapped(&cidr.address) {
        return Err(format!("IPv4-mapped IPv6 address {} is not allowed", quoted(text)));
    }
    Ok(cidr)
}

fn text(value: &Value) -> Result<&str, EvalError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn ip(value: &Value) -> Result<&IpAddr, EvalError> {
    match value {
        Value::Ip(address) => Ok(address),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn cidr(value: &Value) -> Result<&Cidr, EvalError> {
    match value {
        Value::Cidr(cidr) => Ok(cidr),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn to_ip(value: &Value) -> Evaluated {
    parse_ip(text(value)?).map(Value::Ip)
}

pub(super) fn is_ip(value: &Value) -> Evaluated {
    Ok(Value::Bool(parse_ip(text(value)?).is_ok()))
}

pub(super) fn is_canonical(value: &Value) -> Evaluated {
    let text = text(value)?;
    Ok(Value::Bool(go_address(&parse_ip(text)?) == text))
}

pub(super) fn ip_to_string(value: &Value) -> Evaluated {
    Ok(Value::from(go_address(ip(value)?)))
}

pub(super) fn family(value: &Value) -> Evaluated {
    Ok(Value::Int(if ip(value)?.is_ipv4() { 4 } else { 6 }))
}

pub(super) fn property(function: &str, value: &Value) -> Evaluated {
    let address = ip(value)?;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments().first().is_some_and(|first| first & 0xffc0 == 0xfe80),
    };
    Ok(Value::Bool(match function {
        "isUnspecified" => address.is_unspecified(),
        "isLoopback" => address.is_loopback(),
        "isLinkLocalMulticast" => match address {
            IpAddr::V4(v4) => matches!(v4.octets(), [224, 0, 0, _]),
            IpAddr::V6(v6) => v6.segments().first().is_some_and(|first| first & 0xff0f == 0xff02),
        },
        "isLinkLocalUnicast" => link_local,
        _ => {
            let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
            !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local || broadcast)
        }
    }))
}

pub(super) fn to_cidr(value: &Value) -> Evaluated {
    const FAILED: &str = "network address parse error during conversion from string";
    parse_cidr(text(value)?).map(Value::Cidr).map_err(|error| EvalError::new(format!("{FAILED}: {error}")))
}

pub(super) fn is_cidr(value: &Value) -> Evaluated {
    Ok(Value::Bool(parse_cidr(text(value)?).is_ok()))
}

pub(super) fn cidr_to_string(value: &Value) -> Evaluated {
    Ok(Value::from(cidr(value)?.to_string()))
}

pub(super) fn contains_ip(network: &Value, address: &Value) -> Evaluated {
    let network = cidr(network)?;
    match address {
        // What is no address is contained in none: upstream loses why.
        Value::String(text) => match parse_ip(text) {
            Ok(address) => Ok(Value::Bool(network.contains(&address))),
            Err(_) => Err(EvalError::no_such_overload()),
        },
        other => Ok(Value::Bool(network.contains(ip(other)?))),
    }
}

pub(super) fn contains_cidr(network: &Value, other: &Value) -> Evaluated {
    let network = cidr(network)?;
    let other = match other {
        Value::String(_) => match to_cidr(other)? {
            Value::Cidr(cidr) => cidr,
            _ => return Err(EvalError::no_such_overload()),
        },
        other => *cidr(other)?,
    };
    let overlap = network.address.is_ipv4() == other.address.is_ipv4() && {
        let bits = network.bits.min(other.bits);
        masked(&network.address, bits) == masked(&other.address, bits)
    };
    Ok(Value::Bool(overlap && network.bits <= other.bits))
}

pub(super) fn cidr_ip(value: &Value) -> Evaluated {
    Ok(Value::Ip(cidr(value)?.address))
}

pub(super) fn prefix_length(value: &Value) -> Evaluated {
    Ok(Value::Int(i64::from(cidr(value)?.bits)))
}

pub(super) fn masked_value(value: &Value) -> Evaluated {
    let network = cidr(value)?;
    Ok(Value::Cidr(Cidr { address: masked(&network.address, network.bits), bits: network.bits.min(network.width()) }))
}
