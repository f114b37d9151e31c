//! URLs.
//!
//! Compat: Go's `net/url` (1.26) as `k8s.io/apiserver/pkg/cel/library/urls.go` 0.37.2 uses it: a text must do as the target of a
//! request and as a URL.

use std::fmt;

use crate::error::EvalError;
use crate::map::Map;
use crate::ops::Evaluated;
use crate::show::{quote_into, quoted};
use crate::value::{List, Value};

/// A URL by its parts.
#[derive(Debug, Clone, Default)]
pub struct Url {
    scheme: String,
    opaque: String,
    user: Option<String>,
    host: Vec<u8>,
    omit_host: bool,
    path: Vec<u8>,
    raw_path: String,
    force_query: bool,
    raw_query: String,
    fragment: Vec<u8>,
    raw_fragment: String,
}

/// What is escaped depends on where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Path,
    Host,
    Zone,
    User,
    Query,
    Fragment,
}

fn should_escape(byte: u8, mode: Mode) -> bool {
    if byte.is_ascii_alphanumeric() {
        return false;
    }
    match byte {
        b'-' | b'_' | b'.' | b'~' => false,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'[' | b']' | b'<'
        | b'>' | b'"'
            if matches!(mode, Mode::Host | Mode::Zone) =>
        {
            false
        }
        b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@' => match mode {
            Mode::Path => byte == b'?',
            Mode::User => matches!(byte, b'@' | b'/' | b'?' | b':'),
            Mode::Fragment => false,
            _ => true,
        },
        b'!' | b'(' | b')' | b'*' if mode == Mode::Fragment => false,
        _ => true,
    }
}

fn escape(bytes: &[u8], mode: Mode) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if should_escape(*byte, mode) {
            out.push_str(&format!("%{byte:02X}"));
        } else {
            out.push(char::from(*byte));
        }
    }
    out
}

fn hex(byte: Option<&u8>) -> Option<u8> {
    byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
}

fn unescape(text: &str, mode: Mode) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let shown = |length: usize| {
                    let end = (at + length).min(bytes.len());
                    format!("invalid URL escape {}", go_quoted(bytes.get(at..end).unwrap_or_default()))
                };
                let (Some(high), Some(low)) = (hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) else {
                    return Err(shown(3));
                };
                let value = high << 4 | low;
                if mode == Mode::Host && high < 8 && value != b'%' {
                    return Err(shown(3));
                }
                if mode == Mode::Zone && value != b'%' && value != b' ' && should_escape(value, Mode::Host) {
                    return Err(shown(3));
                }
                out.push(value);
                at += 3;
            }
            b'+' if mode == Mode::Query => {
                out.push(b' ');
                at += 1;
            }
            byte => {
                if matches!(mode, Mode::Host | Mode::Zone) && byte.is_ascii() && should_escape(*byte, mode) {
                    return Err(format!("invalid character {} in host name", quoted(&char::from(*byte).to_string())));
                }
                out.push(*byte);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Bytes that may be the middle of a character.
fn go_quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        quote_into(&mut out, chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if index > 0 => {}
            b':' if index == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((text.get(..index).unwrap_or_default(), text.get(index + 1..).unwrap_or_default())),
            _ => break,
        }
    }
    Ok(("", text))
}

impl Url {
    /// `request`: as the target of a request, which is never relative.
    fn parse_inner(text: &str, request: bool) -> Result<Self, String> {
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        if text.is_empty() && request {
            return Err("empty url".to_owned());
        }
        let mut url = Self::default();
        if text == "*" {
            url.path = b"*".to_vec();
            return Ok(url);
        }
        let (found, mut rest) = scheme(text)?;
        url.scheme = found.to_ascii_lowercase();
        if rest.ends_with('?') && rest.matches('?').count() == 1 {
            url.force_query = true;
            rest = rest.strip_suffix('?').unwrap_or(rest);
        } else if let Some((before, query)) = rest.split_once('?') {
            url.raw_query = query.to_owned();
            rest = before;
        }
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                url.opaque = rest.to_owned();
                return Ok(url);
            }
            if request {
                return Err("invalid URI for request".to_owned());
            }
            if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        if (!url.scheme.is_empty() || (!request && !rest.starts_with("///"))) && rest.starts_with("//") {
            let tail = rest.get(2..).unwrap_or_default();
            let (authority, path) = tail.split_at(tail.find('/').unwrap_or(tail.len()));
            url.set_authority(authority)?;
            rest = path;
        } else if !url.scheme.is_empty() && rest.starts_with('/') {
            url.omit_host = true;
        }
        url.path = unescape(rest, Mode::Path)?;
        if escape(&url.path, Mode::Path) != rest {
            url.raw_path = rest.to_owned();
        }
        Ok(url)
    }

    fn set_authority(&mut self, authority: &str) -> Result<(), String> {
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        self.host = parse_host(&self.scheme, host)?;
        let Some(user) = user else { return Ok(()) };
        let valid = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
        if !user.chars().all(valid) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        let mut parts = Vec::new();
        for part in user.splitn(2, ':') {
            parts.push(escape(&unescape(part, Mode::User)?, Mode::User));
        }
        self.user = Some(parts.join(":"));
        Ok(())
    }

    fn parse_request(text: &str) -> Result<Self, String> {
        Self::parse_inner(text, true).map_err(|error| format!("parse {}: {error}", quoted(text)))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (plain, fragment) = text.split_once('#').unwrap_or((text, ""));
        let mut url = Self::parse_inner(plain, false).map_err(|error| format!("parse {}: {error}", quoted(plain)))?;
        if !fragment.is_empty() {
            url.fragment =
                unescape(fragment, Mode::Fragment).map_err(|error| format!("parse {}: {error}", quoted(text)))?;
            if escape(&url.fragment, Mode::Fragment) != fragment {
                url.raw_fragment = fragment.to_owned();
            }
        }
        Ok(url)
    }

    fn escaped_path(&self) -> String {
        if !self.raw_path.is_empty()
            && valid_encoded(&self.raw_path, Mode::Path)
            && unescape(&self.raw_path, Mode::Path).is_ok_and(|path| path == self.path)
        {
            return self.raw_path.clone();
        }
        if self.path == b"*" { "*".to_owned() } else { escape(&self.path, Mode::Path) }
    }

    fn escaped_fragment(&self) -> String {
        if !self.raw_fragment.is_empty()
            && valid_encoded(&self.raw_fragment, Mode::Fragment)
            && unescape(&self.raw_fragment, Mode::Fragment).is_ok_and(|fragment| fragment == self.fragment)
        {
            return self.raw_fragment.clone();
        }
        escape(&self.fragment, Mode::Fragment)
    }

    fn split_host(&self) -> (String, String) {
        let all = String::from_utf8_lossy(&self.host).into_owned();
        let (host, port) = match all.rfind(':') {
            Some(at) if optional_port(all.get(at..).unwrap_or_default()) => {
                (all.get(..at).unwrap_or_default(), all.get(at + 1..).unwrap_or_default())
            }
            _ => (all.as_str(), ""),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (host.to_owned(), port.to_owned())
    }
}

fn valid_encoded(text: &str, mode: Mode) -> bool {
    text.bytes().all(|b| b"!$&'()*+,;=:@[]%".contains(&b) || !should_escape(b, mode))
}

fn optional_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

fn parse_host(scheme: &str, host: &str) -> Result<Vec<u8>, String> {
    match host.rfind('[') {
        Some(0) => {
            let Some(close) = host.rfind(']') else { return Err("missing ']' in host".to_owned()) };
            let port = host.get(close + 1..).unwrap_or_default();
            if !optional_port(port) {
                return Err(format!("invalid port {} after host", quoted(port)));
            }
            let name = host.get(1..close).unwrap_or_default();
            let mut plain = match name.find("%25") {
                Some(zone) => {
                    let mut plain = unescape(name.get(..zone).unwrap_or_default(), Mode::Host)?;
                    plain.extend(unescape(name.get(zone..).unwrap_or_default(), Mode::Zone)?);
                    plain
                }
                None => unescape(name, Mode::Host)?,
            };
            let text = String::from_utf8_lossy(&plain).into_owned();
            let address = super::net::parse_address(&text).map_err(|error| format!("invalid host: {error}"))?;
            if address.is_ipv4() {
                return Err("invalid IP-literal".to_owned());
            }
            plain.insert(0, b'[');
            plain.push(b']');
            plain.extend_from_slice(port.as_bytes());
            return Ok(plain);
        }
        Some(_) => return Err("invalid IP-literal".to_owned()),
        None => {}
    }
    if let Some(first) = host.find(':') {
        let http = matches!(scheme, "http" | "https");
        let at = if http { first } else { host.rfind(':').unwrap_or(first) };
        let port = host.get(at..).unwrap_or_default();
        if !optional_port(port) {
            return Err(format!("invalid port {} after host", quoted(port)));
        }
    }
    unescape(host, Mode::Host)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        if !self.scheme.is_empty() {
            out.push_str(&self.scheme);
            out.push(':');
        }
        if self.opaque.is_empty() {
            let named = !self.scheme.is_empty() || !self.host.is_empty() || self.user.is_some();
            let omitted = self.omit_host && self.host.is_empty() && self.user.is_none();
            if named && !omitted {
                if !self.host.is_empty() || !self.path.is_empty() || self.user.is_some() {
                    out.push_str("//");
                }
                if let Some(user) = &self.user {
                    out.push_str(user);
                    out.push('@');
                }
                out.push_str(&escape(&self.host, Mode::Host));
            }
            let path = self.escaped_path();
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                out.push('/');
            }
            if out.is_empty() && path.split('/').next().is_some_and(|segment| segment.contains(':')) {
                out.push_str("./");
            }
            out.push_str(&path);
        } else {
            out.push_str(&self.opaque);
        }
        if self.force_query || !self.raw_query.is_empty() {
            out.push('?');
            out.push_str(&self.raw_query);
        }
        if !self.fragment.is_empty() {
            out.push('#');
            out.push_str(&self.escaped_fragment());
        }
        f.write_str(&out)
    }
}

/// Whether `text` does as the target of a request, and if not, what Go says about it.
pub(super) fn request_error(text: &str) -> Option<String> {
    Url::parse_request(text).err()
}

pub(super) fn to_url(value: &Value) -> Evaluated {
    let Value::String(text) = value else { return Err(EvalError::no_such_overload()) };
    Url::parse_request(text)
        .and_then(|_| Url::parse(text))
        .map(|url| Value::Url(std::sync::Arc::new(url)))
        .map_err(|error| EvalError::new(format!("URL parse error during conversion from string: {error}")))
}

pub(super) fn is_url(value: &Value) -> Evaluated {
    match value {
        Value::String(text) => Ok(Value::Bool(request_error(text).is_none())),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn url(value: &Value) -> Result<&Url, EvalError> {
    match value {
        Value::Url(url) => Ok(url),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn part(function: &str, value: &Value) -> Evaluated {
    let url = url(value)?;
    Ok(Value::from(match function {
        "getScheme" => url.scheme.clone(),
        "getHost" => String::from_utf8_lossy(&url.host).into_owned(),
        "getHostname" => url.split_host().0,
        "getPort" => url.split_host().1,
        _ => url.escaped_path(),
    }))
}

/// Parameters that a query may have; upstream reads none of a longer one.
const MAX_PARAMETERS: usize = 10_000;

pub(super) fn query(value: &Value) -> Evaluated {
    let raw = &url(value)?.raw_query;
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    if raw.matches('&').count() < MAX_PARAMETERS {
        for pair in raw.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Ok(key), Ok(value)) = (unescape(key, Mode::Query), unescape(value, Mode::Query)) else { continue };
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let (key, value) = (text(key), text(value));
            match found.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value),
                None => found.push((key, vec![value])),
            }
        }
    }
    Ok(Value::Map(Map::new(found.into_iter().map(|(key, values)| {
        (Value::from(key), Value::List(List::made_of_strings(values.iter().map(String::as_str))))
    }))))
}
