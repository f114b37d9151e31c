//! `url.Parse`, as far as the rules for issuer URLs need it: is the text a URL, and which parts does it have.
//!
//! The `url` crate follows the WHATWG rules, which repair many texts that Go refuses and refuse some that Go takes
//! (`https:x`, an empty host). Whether a configuration loads must not depend on that.

use std::borrow::Cow;

use portcullis_kube::go::quote;

use super::address::{self, Family};

/// The parts of a URL that validation looks at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GoUrl {
    /// Lower case; empty when there is none.
    pub(crate) scheme: String,
    /// There is a user name or password.
    pub(crate) has_user: bool,
    /// The query, without its question mark, is not empty.
    pub(crate) has_query: bool,
    /// The fragment, without its hash sign, is not empty.
    pub(crate) has_fragment: bool,
}

/// Parses `text`; the error is Go's text, beginning with `parse "…": `.
pub(crate) fn parse(text: &str) -> Result<GoUrl, String> {
    let (main, fragment) = text.split_once('#').unwrap_or((text, ""));
    let mut url = parse_main(main).map_err(|problem| format!("parse {}: {problem}", quote(main)))?;
    if !fragment.is_empty() {
        check_escapes(fragment, Mode::Plain).map_err(|problem| format!("parse {}: {problem}", quote(text)))?;
        url.has_fragment = true;
    }
    Ok(url)
}

fn parse_main(text: &str) -> Result<GoUrl, String> {
    if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let mut url = GoUrl { scheme: String::new(), has_user: false, has_query: false, has_fragment: false };
    if text == "*" {
        return Ok(url);
    }
    let (scheme, rest) = split_scheme(text)?;
    url.scheme = scheme.to_ascii_lowercase();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    url.has_query = !query.is_empty();
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            return Ok(url);
        }
        if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let mut path = rest;
    let may_have_authority = !url.scheme.is_empty() || !rest.starts_with("///");
    if may_have_authority && let Some(after) = rest.strip_prefix("//") {
        let end = after.find('/').unwrap_or(after.len());
        let (authority, after) = after.split_at(end);
        path = after;
        url.has_user = check_authority(&url.scheme, authority)?;
    }
    check_escapes(path, Mode::Plain)?;
    Ok(url)
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => {
                let (scheme, rest) = text.split_at(at);
                return Ok((scheme, rest.get(1..).unwrap_or_default()));
            }
            _ => break,
        }
    }
    Ok(("", text))
}

/// Checks `user@host:port`; whether there is a user.
fn check_authority(scheme: &str, authority: &str) -> Result<bool, String> {
    let Some((user, host)) = authority.rsplit_once('@') else {
        check_host(scheme, authority)?;
        return Ok(false);
    };
    check_host(scheme, host)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    if !user.chars().all(allowed) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    check_escapes(name, Mode::Plain)?;
    check_escapes(password, Mode::Plain)?;
    Ok(true)
}

fn check_host(scheme: &str, host: &str) -> Result<(), String> {
    match host.rfind('[') {
        Some(0) => return check_ip_literal(host),
        Some(_) => return Err("invalid IP-literal".to_owned()),
        None => {}
    }
    // Several colons are an error for http and https, and tolerated before the last one elsewhere.
    let strict = scheme == "http" || scheme == "https";
    if let Some(colon) = if strict { host.find(':') } else { host.rfind(':') } {
        check_port(host.get(colon..).unwrap_or_default())?;
    }
    check_escapes(host, Mode::Host)
}

fn check_ip_literal(host: &str) -> Result<(), String> {
    let Some((inner, port)) = host.strip_prefix('[').and_then(|h| h.rsplit_once(']')) else {
        return Err("missing ']' in host".to_owned());
    };
    check_port(port)?;
    let (host, zone) = match inner.find("%25") {
        Some(at) => inner.split_at(at),
        None => (inner, ""),
    };
    check_escapes(host, Mode::Host)?;
    check_escapes(zone, Mode::Zone)?;
    // The port of a URL has no escapes.
    match address::parse(&unescape(inner)) {
        Ok(Family::V6) => Ok(()),
        Ok(Family::V4) => Err("invalid IP-literal".to_owned()),
        Err(problem) => Err(format!("invalid host: {problem}")),
    }
}

/// `text`, whose escapes are right, without them. Bytes that are no UTF-8 then become U+FFFD.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (hex, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(hex, 16));
        bytes.extend_from_slice(rest.as_bytes());
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn check_port(port: &str) -> Result<(), String> {
    let fine = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if fine { Ok(()) } else { Err(format!("invalid port {} after host", quote(port))) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Path, fragment, user name: every escape and every character is fine.
    Plain,
    Host,
    Zone,
}

fn check_escapes(text: &str, mode: Mode) -> Result<(), String> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if byte == b'%' {
            let escape: String = text.get(at..).unwrap_or_default().chars().take(3).collect();
            let value = escape.get(1..3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
            let Some(value) = value.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
                return Err(format!("invalid URL escape {}", quote(&escape)));
            };
            let forbidden = match mode {
                Mode::Plain => false,
                Mode::Host => value < 0x80 && escape != "%25",
                Mode::Zone => escape != "%25" && value != b' ' && !is_host_byte(value),
            };
            if forbidden {
                return Err(format!("invalid URL escape {}", quote(&escape)));
            }
            bytes.next();
            bytes.next();
        } else if mode != Mode::Plain && byte < 0x80 && !is_host_byte(byte) {
            return Err(format!("invalid character {} in host name", quote(&char::from(byte).to_string())));
        }
    }
    Ok(())
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'_'
                | b'.'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'['
                | b']'
                | b'<'
                | b'>'
                | b'"'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_go_takes() {
        for text in [
            "https://issuer.example",
            "https://issuer.example/dex/",
            "HTTPS://issuer.example:5554/a%20b",
            "https:",
            "https:opaque",
            "https:///no-host",
            "https://[::1]:80/x",
            "https://[fe80::1%25en0]",
            "https://host:",
            "https://hést/",
            "relative/path",
            "*",
            "",
        ] {
            assert!(parse(text).is_ok(), "{text}: {:?}", parse(text));
        }
        let url = parse("https://u:p@host/p?q#f").expect("a URL");
        assert!(url.has_user && url.has_query && url.has_fragment);
        let url = parse("https://host/p?#").expect("a URL");
        assert!(!url.has_user && !url.has_query && !url.has_fragment);
    }

    #[test]
    fn refuses_what_go_refuses_in_its_words() {
        for (text, want) in [
            (":x", r#"parse ":x": missing protocol scheme"#),
            ("https://a\nb", r#"parse "https://a\nb": net/url: invalid control character in URL"#),
            ("https://host:port", r#"parse "https://host:port": invalid port ":port" after host"#),
            ("https://a:1:2", r#"parse "https://a:1:2": invalid port ":1:2" after host"#),
            ("https://a b", r#"parse "https://a b": invalid character " " in host name"#),
            ("https://a/%zz", r#"parse "https://a/%zz": invalid URL escape "%zz""#),
            ("https://a/%2", r#"parse "https://a/%2": invalid URL escape "%2""#),
            ("https://a%41b", r#"parse "https://a%41b": invalid URL escape "%41""#),
            ("https://[::1", r#"parse "https://[::1": missing ']' in host"#),
            ("https://x[::1]", r#"parse "https://x[::1]": invalid IP-literal"#),
            ("https://[1.2.3.4]", r#"parse "https://[1.2.3.4]": invalid IP-literal"#),
            ("https://[]", r#"parse "https://[]": invalid host: ParseAddr(""): unable to parse IP"#),
            (
                "https://[fe80::%25]",
                r#"parse "https://[fe80::%25]": invalid host: ParseAddr("fe80::%"): zone must be a non-empty string"#,
            ),
            (
                "https://[1::2g%25a%20b]",
                r#"parse "https://[1::2g%25a%20b]": invalid host: ParseAddr("1::2g%a b"): unexpected character, want colon (at "g")"#,
            ),
            ("https://u^@h", r#"parse "https://u^@h": net/url: invalid userinfo"#),
            ("1:2/3", r#"parse "1:2/3": first path segment in URL cannot contain colon"#),
            ("https://a#%q", r#"parse "https://a#%q": invalid URL escape "%q""#),
        ] {
            assert_eq!(parse(text), Err(want.to_owned()), "{text:?}");
        }
    }
}
