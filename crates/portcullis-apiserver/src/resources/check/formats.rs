//! What single values must look like, and the sentences that refuse others.
//!
//! Compat: `apimachinery/pkg/util/validation` of v0.37.2. Each function gives the sentences of what is wrong; none, for a
//! good value.

use std::net::IpAddr;

use serde_json::Value;

use super::{Path, Wrong};
use crate::resources::tree::string;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

fn longer_than(text: &str, limit: usize) -> Option<String> {
    (text.len() > limit).then(|| format!("must be no more than {limit} characters"))
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

/// Whether it is a label that may have underscores inside.
pub(crate) fn underscored_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'_'))
}

/// A subdomain whose labels may have underscores, at their beginnings too.
pub(crate) fn underscored_subdomain(text: &str) -> Vec<String> {
    const PART: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    let mut wrong: Vec<String> = longer_than(text, 253).into_iter().collect();
    if !text.split('.').all(|part| underscored_label(part.strip_prefix('_').unwrap_or(part))) {
        wrong.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start \
             and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{PART}(\\.{PART})*')"
        ));
    }
    wrong
}

/// `*.` and a subdomain.
pub(crate) fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut wrong: Vec<String> = longer_than(text, 253).into_iter().collect();
    let good = text.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_label));
    if !good {
        wrong.push(format!(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
             lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', \
             regex used for validation is '\\*\\.{LABEL}(\\.{LABEL})*')"
        ));
    }
    wrong
}

/// A named port: at most 15 characters with a letter among them.
pub(crate) fn port_name(text: &str) -> Vec<String> {
    let mut wrong: Vec<String> = longer_than(text, 15).into_iter().collect();
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || !text.bytes().all(good) {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// A port's number.
pub(crate) fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65_535)
}

pub(crate) fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        Vec::new()
    } else {
        vec![format!("must be between {low} and {high}, inclusive")]
    }
}

/// A user's or group's number.
pub(crate) fn unix_id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

/// `25%`.
pub(crate) fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    vec![
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for \
         validation is '[0-9]+%')"
            .to_owned(),
    ]
}

/// The name of an HTTP header.
pub(crate) fn http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    vec![
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation \
         is '[-A-Za-z0-9]+')"
            .to_owned(),
    ]
}

/// The name of an environment variable, as pods take them since 1.34.
pub(crate) fn env_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.is_empty() {
        wrong.push("environment variable name must be non-empty".to_owned());
    }
    if text.chars().any(|c| !(c == ' ' || c.is_ascii_graphic()) || c == '=') {
        wrong.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    wrong
}

/// A key of a config map or secret.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let mut wrong: Vec<String> = longer_than(text, 253).into_iter().collect();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if text.is_empty() || !text.bytes().all(good) {
        wrong.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  \
             or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match text {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        text if text.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// The tail of a path that must stay below where it starts.
pub(crate) fn relative_path(path: &Path, text: &str, wrong: &mut Wrong) {
    if text.starts_with('/') {
        wrong.invalid(path, text, "must be a relative path");
    }
    no_steps_back(path, text, wrong);
}

/// A path without `..`.
pub(crate) fn no_steps_back(path: &Path, text: &str, wrong: &mut Wrong) {
    if text.split('/').any(|part| part == "..") {
        wrong.invalid(path, text, "must not contain '..'");
    }
}

/// An address, as upstream reads them: leading zeros are let through by the reader and refused here.
pub(crate) fn ip(path: &Path, text: &str, wrong: &mut Wrong) -> Option<IpAddr> {
    let Some(read) = sloppy_ip(text) else {
        wrong.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        return None;
    };
    if text.parse::<IpAddr>().is_err() {
        wrong.invalid(path, text, "must not have leading 0s");
    } else if let Ok(IpAddr::V6(six)) = text.parse()
        && six.to_ipv4_mapped().is_some()
    {
        wrong.invalid(path, text, "must not be an IPv4-mapped IPv6 address");
    }
    Some(read)
}

/// An address that may have leading zeros.
pub(crate) fn sloppy_ip(text: &str) -> Option<IpAddr> {
    if let Ok(read) = text.parse::<IpAddr>() {
        return Some(match read {
            IpAddr::V6(six) => six.to_ipv4_mapped().map_or(read, IpAddr::V4),
            IpAddr::V4(_) => read,
        });
    }
    let parts: Vec<&str> = text.split('.').collect();
    let numbers: Option<Vec<u8>> = parts
        .iter()
        .map(|part| {
            let digits = !part.is_empty() && part.len() <= 16 && part.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| part.trim_start_matches('0'))
                .and_then(|part| if part.is_empty() { Some(0) } else { part.parse().ok() })
        })
        .collect();
    let [a, b, c, d] = numbers?.try_into().ok()?;
    Some(IpAddr::from([a, b, c, d]))
}

/// A block of addresses.
pub(crate) fn cidr(path: &Path, text: &str, wrong: &mut Wrong) -> Option<(IpAddr, u8)> {
    let read = text.split_once('/').and_then(|(address, bits)| {
        let address = sloppy_ip(address)?;
        let bits: u8 = bits.bytes().all(|byte| byte.is_ascii_digit()).then(|| bits.parse().ok())??;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some((address, bits))
    });
    let Some((address, bits)) = read else {
        wrong.invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        return None;
    };
    let (first, length) = text.split_once('/').unwrap_or_default();
    if first.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0')) {
        wrong.invalid(path, text, "must not have leading 0s in IP or prefix length");
    } else if masked(address, bits) != address {
        wrong.invalid(path, text, "must not have bits set beyond the prefix length");
    }
    Some((address, bits))
}

/// What is said about an accepted address in an odd form.
pub(crate) fn ip_warning(path: &Path, text: &str) -> Option<String> {
    let read = sloppy_ip(text)?;
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(six)) if six.to_ipv4_mapped().is_none() => (six.to_string() != text)
            .then(|| format!("{path}: IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{six}\")")),
        Ok(IpAddr::V4(_)) => None,
        _ => Some(format!("{path}: non-standard IP address \"{text}\" is invalid: use \"{read}\"")),
    }
}

/// What is said about an accepted block in an odd form.
pub(crate) fn cidr_warnings(path: &Path, text: &str) -> Vec<String> {
    let mut wrong = Wrong::default();
    let Some((address, bits)) = cidr(path, text, &mut wrong) else { return Vec::new() };
    let (first, most) = (masked(address, bits), if address.is_ipv4() { 32 } else { 128 });
    let mut out = Vec::new();
    if first != address {
        out.push(format!(
            "{path}: CIDR value \"{text}\" is ambiguous in this context (should be \"{first}/{bits}\" or \"{address}/{most}\"?)"
        ));
    }
    let (before, length) = text.split_once('/').unwrap_or_default();
    let plain = before.parse::<IpAddr>().is_ok() && !(length.len() > 1 && length.starts_with('0'));
    if !plain {
        out.push(format!("{path}: non-standard CIDR value \"{text}\" is invalid: use \"{first}/{bits}\""));
    } else if out.is_empty() && address.is_ipv6() && format!("{address}/{bits}") != text {
        out.push(format!(
            "{path}: IPv6 CIDR value \"{text}\" should be in RFC 5952 canonical format (\"{address}/{bits}\")"
        ));
    }
    out
}

/// The first address of the block.
pub(crate) fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(four) & mask).into())
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(six) & mask).into())
        }
    }
}

/// A number, or a percentage in quotes: at least zero.
pub(crate) fn not_negative_int_or_percent(path: &Path, value: &Value, wrong: &mut Wrong) {
    match value {
        Value::String(text) => percent(text).into_iter().for_each(|why| wrong.invalid_value(path, value, why)),
        value => wrong.not_negative(path, value.as_i64()),
    }
}

/// A percentage of more than a hundred.
pub(crate) fn not_over_hundred_percent(path: &Path, value: &Value, wrong: &mut Wrong) {
    let over = value.as_str().and_then(percent_of).is_some_and(|percent| percent > 100);
    if over {
        wrong.invalid_value(path, value, "must not be greater than 100%");
    }
}

/// The number in `25%`.
pub(crate) fn percent_of(text: &str) -> Option<i64> {
    text.strip_suffix('%')?.parse().ok()
}

/// The number, or that of the percentage. Compat: as `intstr` has it, also one that is written as a text.
pub(crate) fn int_or_percent_value(value: &Value) -> i64 {
    let text = |text: &str| percent_of(text).or_else(|| text.parse().ok());
    value.as_i64().or_else(|| value.as_str().and_then(text)).unwrap_or(0)
}

/// A port's number or name.
pub(crate) fn port_number_or_name(path: &Path, value: &Value, wrong: &mut Wrong) {
    match value {
        Value::String(name) => wrong.each(path, name, port_name(name)),
        value => {
            let number = value.as_i64().unwrap_or(0);
            wrong.each_number(path, number, port_number(number));
        }
    }
}

/// A reference to a key of a config map or secret.
pub(crate) fn key_selector(path: &Path, selector: &Value, wrong: &mut Wrong) {
    let key = string(selector, "key");
    if key.is_empty() {
        wrong.required(&path.child("key"), "");
    } else {
        wrong.each(&path.child("key"), key, config_key(key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn good_values_pass_and_bad_ones_are_named() {
        for (rule, good, bad) in [
            (wildcard_subdomain as fn(&str) -> Vec<String>, vec!["*.a.b"], vec!["a.b", "*.", "*"]),
            (underscored_subdomain, vec!["a", "_a.b_c"], vec!["", "a_", "a..b"]),
            (port_name, vec!["http", "a-1"], vec!["", "1", "a--b", "-a", "a-", "A", "abcdefghijklmnop"]),
            (percent, vec!["0%", "25%"], vec!["25", "%", "a%"]),
            (http_header_name, vec!["X-A"], vec!["", "a b"]),
            (env_name, vec!["A", "a b", "1"], vec!["", "a=b", "é"]),
            (config_key, vec!["a.B_c-1"], vec!["", ".", "..", "..a", "a/b"]),
        ] {
            for text in good {
                assert!(rule(text).is_empty(), "{text}");
            }
            for text in bad {
                assert!(!rule(text).is_empty(), "{text}");
            }
        }
    }

    #[test]
    fn addresses_and_blocks_are_read_like_go_reads_them() {
        let check = |rule: fn(&Path, &str, &mut Wrong), text: &str| {
            let mut wrong = Wrong::default();
            rule(&Path::new("p"), text, &mut wrong);
            wrong.finish().first().map(ToString::to_string)
        };
        let ip: fn(&Path, &str, &mut Wrong) = |path, text, wrong| {
            ip(path, text, wrong);
        };
        let cidr: fn(&Path, &str, &mut Wrong) = |path, text, wrong| {
            cidr(path, text, wrong);
        };
        assert_eq!(check(ip, "10.0.0.1"), None);
        assert_eq!(check(ip, "::1"), None);
        assert_eq!(check(ip, "010.0.0.1").unwrap(), "p: Invalid value: \"010.0.0.1\": must not have leading 0s");
        assert!(check(ip, "10.0.0").unwrap().contains("must be a valid IP address"));
        assert!(check(ip, "::ffff:1.2.3.4").unwrap().contains("IPv4-mapped"));
        assert_eq!(check(cidr, "10.0.0.0/8"), None);
        assert!(check(cidr, "10.0.0.1/8").unwrap().contains("bits set beyond"));
        assert!(check(cidr, "10.0.0.0/33").unwrap().contains("must be a valid CIDR value"));
        assert!(check(cidr, "10.0.0.0/08").unwrap().contains("leading 0s"));
    }

    #[test]
    fn numbers_or_percentages_are_told_apart() {
        let texts = |value: Value| {
            let mut wrong = Wrong::default();
            not_negative_int_or_percent(&Path::new("p"), &value, &mut wrong);
            not_over_hundred_percent(&Path::new("p"), &value, &mut wrong);
            wrong.finish().len()
        };
        assert_eq!(
            (texts(json!(1)), texts(json!("25%")), texts(json!("x")), texts(json!(-1)), texts(json!("101%"))),
            (0, 0, 1, 1, 1)
        );
        assert_eq!((int_or_percent_value(&json!("25%")), int_or_percent_value(&json!(3))), (25, 3));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9./:%]{0,20}") {
            let mut wrong = Wrong::default();
            let path = Path::new("p");
            let _ = (ip(&path, &text, &mut wrong), cidr(&path, &text, &mut wrong));
            let _ = (port_name(&text), percent(&text), env_name(&text), config_key(&text));
            relative_path(&path, &text, &mut wrong);
        }
    }
}
