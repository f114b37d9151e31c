//! Form encoding byte for byte as Go's `url.Values.Encode`: keys sorted, a space as `+`, and everything percent-encoded
//! except letters, digits and `-_.~`.
//!
//! Compat: recorded requests of kubelogin are compared with ours as bytes; WHATWG's encoder differs in `~` and `*`.

use std::fmt::Write as _;

/// Encodes pairs, sorted by key; equal keys keep their order.
pub(crate) fn encode<'a>(pairs: &[(&'a str, &'a str)]) -> String {
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort_by_key(|(key, _)| *key);
    let mut encoded = String::new();
    for (key, value) in sorted {
        if !encoded.is_empty() {
            encoded.push('&');
        }
        push_escaped(&mut encoded, key);
        encoded.push('=');
        push_escaped(&mut encoded, value);
    }
    encoded
}

/// One component, as Go's `url.QueryEscape`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    push_escaped(&mut escaped, text);
    escaped
}

fn push_escaped(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            // Writing into a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_as_go_does() {
        assert_eq!(encode(&[]), "");
        assert_eq!(encode(&[("b", "1"), ("a", "x y"), ("b", "0")]), "a=x+y&b=1&b=0");
        assert_eq!(escape("aZ09-_.~ *()'!+/:@&=?%ä"), "aZ09-_.~+%2A%28%29%27%21%2B%2F%3A%40%26%3D%3F%25%C3%A4");
    }
}
