//! `application/x-www-form-urlencoded`, strictly: what is malformed, repeated or too much is refused.
//!
//! RFC 6749 section 3.1: parameters must not be included more than once. Accepting them lets two readers of one request
//! see two values (CVE class: parameter pollution), so a repeated name is an error wherever its value is asked for or
//! not; only RFC 8707's `resource` and RFC 8693's `audience` may be repeated, and nothing here reads them.

use std::borrow::Cow;
use std::fmt;

/// Most parameters of one request.
const MAX_PARAMS: usize = 64;
/// Parameters that may come several times.
const REPEATABLE: &[&str] = &["resource", "audience"];

/// Why a form cannot be read. No variant holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    /// A percent sign without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("The request has a malformed parameter.")]
    Malformed,
    /// More parameters than anyone needs.
    #[error("The request has too many parameters.")]
    TooMany,
    /// A parameter is given twice.
    #[error("The parameter \"{0}\" is given more than once.")]
    Repeated(String),
}

/// The parameters of a request. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query string or a form body.
    pub(crate) fn parse(input: &[u8]) -> Result<Self, FormError> {
        Self::default().and(input)
    }

    /// Reads more parameters, such as the body's after the query's.
    pub(crate) fn and(mut self, input: &[u8]) -> Result<Self, FormError> {
        for pair in input.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
            // Go refuses semicolons: old servers took them for separators.
            if pair.contains(&b';') {
                return Err(FormError::Malformed);
            }
            let (name, value) = match pair.iter().position(|b| *b == b'=') {
                Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
                None => (pair, &[][..]),
            };
            let (name, value) = (decode(name)?, decode(value)?);
            if self.0.len() >= MAX_PARAMS {
                return Err(FormError::TooMany);
            }
            if self.0.iter().any(|(n, _)| *n == name) && !REPEATABLE.contains(&name.as_str()) {
                return Err(FormError::Repeated(name.chars().filter(|c| c.is_ascii_graphic()).take(40).collect()));
            }
            self.0.push((name, value));
        }
        Ok(self)
    }

    /// The value of a parameter; empty when it is missing, as in Go.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }

    /// Whether the parameter is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// The same parameters without one, as a query string sorted by name (Go's `Values.Encode`).
    pub(crate) fn encode_without(&self, name: &str) -> String {
        let mut pairs: Vec<(&str, &str)> =
            self.0.iter().filter(|(n, _)| n != name).map(|(n, v)| (n.as_str(), v.as_str())).collect();
        pairs.sort_by(|a, b| a.0.cmp(b.0));
        encode_pairs(&pairs)
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Drop for Params {
    fn drop(&mut self) {
        // Passwords and client secrets pass through here.
        for (_, value) in &mut self.0 {
            zeroize::Zeroize::zeroize(value);
        }
    }
}

fn decode(text: &[u8]) -> Result<String, FormError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit =
                    || bytes.next().and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
                match (digit(), digit()) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err(FormError::Malformed),
                }
            }
            other => *other,
        });
    }
    String::from_utf8(out).map_err(|_| FormError::Malformed)
}

/// Percent-encodes a value as Go's `url.QueryEscape` does.
pub(crate) fn encode(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b if plain(b) => out.push(char::from(b)),
            b' ' => out.push('+'),
            b => {
                let hex = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0').to_ascii_uppercase();
                out.extend(['%', hex(b >> 4), hex(b & 15)]);
            }
        }
    }
    Cow::Owned(out)
}

/// A query string of these pairs, in this order.
pub(crate) fn encode_pairs(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(&encode(name));
        out.push('=');
        out.push_str(&encode(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_and_written() {
        let params = Params::parse(b"a=1&b=x+y%2Fz&c&d=&&e=%C3%A9").unwrap();
        for (name, value) in [("a", "1"), ("b", "x y/z"), ("c", ""), ("d", ""), ("e", "é"), ("nope", "")] {
            assert_eq!(params.get(name), value);
        }
        assert!(params.has("c") && !params.has("nope"));
        assert_eq!(params.encode_without("a"), "b=x+y%2Fz&c=&d=&e=%C3%A9");
    }

    #[test]
    fn hostile_forms_are_refused() {
        let many = (0..=MAX_PARAMS).map(|i| format!("p{i}=1")).collect::<Vec<_>>().join("&");
        for (input, want) in [
            (&b"a=%"[..], FormError::Malformed),
            (b"a=%4", FormError::Malformed),
            (b"a=%zz", FormError::Malformed),
            (b"a=%+1", FormError::Malformed),
            (b"a=%ff", FormError::Malformed),
            (b"a=\xff", FormError::Malformed),
            (b"a=1;b=2", FormError::Malformed),
            (b"a=1&a=1", FormError::Repeated("a".to_owned())),
            (b"state=1&x=2&%73tate=3", FormError::Repeated("state".to_owned())),
            (many.as_bytes(), FormError::TooMany),
        ] {
            assert_eq!(Params::parse(input).unwrap_err(), want);
        }
        assert!(Params::parse(b"resource=a&resource=b").is_ok());
        assert_eq!(Params::parse(b"a=1").unwrap().and(b"a=2").unwrap_err(), FormError::Repeated("a".to_owned()));
    }

    #[test]
    fn debug_shows_no_values() {
        assert_eq!(format!("{:?}", Params::parse(b"password=hunter2").unwrap()), "[\"password\"]");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(input: Vec<u8>) {
            let _ = Params::parse(&input);
        }

        #[test]
        fn what_is_written_is_read_back(pairs in proptest::collection::btree_map(".{1,12}", ".{0,20}", 0..8)) {
            let list: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let text = encode_pairs(&list);
            proptest::prop_assert!(text.is_ascii());
            let params = Params::parse(text.as_bytes()).unwrap();
            for (name, value) in list {
                proptest::prop_assert_eq!(params.get(name), value);
            }
        }
    }
}
