//! What go-jose v2 asks of a JWK beside the key itself; a key that fails here spoils the set for kube-apiserver.
//!
//! Only [`crate::UnknownKeys::RejectSet`] asks: other verifiers ignore these members, as RFC 7517 allows. The contents of
//! the certificates in `x5c` are not looked at (Go parses them and compares the first one's key with the JWK).
//!
//! Compat: `JSONWebKey.UnmarshalJSON` of `gopkg.in/go-jose/go-jose.v2` v2.6.3.

use std::borrow::Cow;
use std::fmt;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    base64url::base64url_decode_as_go,
    error::JoseError,
    raw_jwk::{BorrowedStr, RawJwk},
};

/// `base64.StdEncoding`, except that line breaks are not skipped.
const STD: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Errors with the member that makes go-jose refuse the key.
pub(crate) fn check(raw: &RawJwk<'_>) -> Result<(), JoseError> {
    let bytes = [
        ("k", &raw.k),
        ("x", &raw.x),
        ("y", &raw.y),
        ("n", &raw.n),
        ("e", &raw.e),
        ("d", &raw.d),
        ("p", &raw.p),
        ("q", &raw.q),
        ("dp", &raw.dp),
        ("dq", &raw.dq),
        ("qi", &raw.qi),
    ];
    for (name, member) in bytes {
        if member.as_ref().is_some_and(|text| base64url_decode_as_go(text.as_str()).is_none()) {
            return Err(JoseError::KeyMember(name));
        }
    }
    if let Some(size) = private_size(raw)
        && raw.d.as_ref().is_some_and(|d| base64url_decode_as_go(d.as_str()).is_some_and(|d| d.len() != size))
    {
        return Err(JoseError::KeyMember("d"));
    }
    thumbprint(raw.x5t, "x5t", 20)?;
    thumbprint(raw.x5t_s256, "x5t#S256", 32)?;
    certificates(raw.x5c)?;
    // Go reads `x5u` into a URL structure, which no text fits.
    match raw.x5u.map(RawValue::get) {
        Some(value) if !value.starts_with('{') && value != "null" => Err(JoseError::KeyMember("x5u")),
        _ => Ok(()),
    }
}

/// No member occurs twice, those that nobody reads included. Compat: the decoder that go-jose brings with it.
pub(crate) fn check_names(jwk: &str) -> Result<(), JoseError> {
    let mut names = serde_json::Deserializer::from_str(jwk).deserialize_map(Names).map_err(|_| JoseError::KeyJson)?;
    names.sort_unstable();
    if names.array_windows().any(|[one, next]| one == next) { Err(JoseError::KeyJson) } else { Ok(()) }
}

/// The names of an object's members.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Vec<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some((BorrowedStr(name), IgnoredAny)) = map.next_entry()? {
            names.push(name);
        }
        Ok(names)
    }
}

/// Whether Go can make a value of a text that is JSON: its numbers fit 64 bits of floating point. Compat: `interface{}`.
pub(crate) fn numbers_fit(json: &RawValue) -> bool {
    let mut rest = json.get();
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (_, found) = rest.split_at(at);
        rest = if let Some(text) = found.strip_prefix('"') {
            after_string(text)
        } else {
            let of_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
            let (number, rest) = found.split_at(found.find(|c| !of_number(c)).unwrap_or(found.len()));
            if !number.parse::<f64>().is_ok_and(f64::is_finite) {
                return false;
            }
            rest
        };
    }
    true
}

/// What follows a string of which `text` is the inside and the rest.
fn after_string(text: &str) -> &str {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return text.get(at + 1..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

/// How long `d` of an elliptic curve key must be.
fn private_size(raw: &RawJwk<'_>) -> Option<usize> {
    if raw.kty.as_ref().map(BorrowedStr::as_str) != Some("EC") {
        return None;
    }
    match raw.crv.as_ref().map(BorrowedStr::as_str) {
        Some("P-256") => Some(32),
        Some("P-384") => Some(48),
        Some("P-521") => Some(66),
        _ => None,
    }
}

/// Nothing, `size` bytes, or their hexadecimal form, in base64url.
fn thumbprint(value: Option<&RawValue>, name: &'static str, size: usize) -> Result<(), JoseError> {
    let Some(value) = value else { return Ok(()) };
    let text: Option<String> = serde_json::from_str(value.get()).map_err(|_| JoseError::KeyMember(name))?;
    let bytes = base64url_decode_as_go(&text.unwrap_or_default()).ok_or(JoseError::KeyMember(name))?;
    let hexadecimal = bytes.len() == 2 * size && bytes.iter().all(u8::is_ascii_hexdigit);
    if bytes.is_empty() || bytes.len() == size || hexadecimal { Ok(()) } else { Err(JoseError::KeyMember(name)) }
}

/// A list of base64 texts that look like DER.
pub(crate) fn certificates(value: Option<&RawValue>) -> Result<(), JoseError> {
    let Some(value) = value else { return Ok(()) };
    let chain: Option<Vec<Option<String>>> =
        serde_json::from_str(value.get()).map_err(|_| JoseError::KeyMember("x5c"))?;
    for certificate in chain.into_iter().flatten() {
        let der = STD.decode(certificate.unwrap_or_default()).map_err(|_| JoseError::KeyMember("x5c"))?;
        if der.first() != Some(&0x30) {
            return Err(JoseError::KeyMember("x5c"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JwkSet, Limits, UnknownKeys};

    const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

    fn spoils(members: &str) -> bool {
        let set = format!(r#"{{"keys":[{{{EC},{members}}}]}}"#);
        JwkSet::parse(set.as_bytes(), UnknownKeys::RejectSet, &Limits::default()).is_err()
    }

    #[test]
    fn members_beside_the_key_spoil_a_set_as_in_go_jose() {
        let (sha1, sha256) = ("A".repeat(27), "A".repeat(43));
        for fine in [
            r#""x5t":"""#.to_owned(),
            format!(r#""x5t":"{sha1}""#),
            format!(r#""x5t#S256":"{sha256}""#),
            r#""x5t":null"#.to_owned(),
            r#""x5c":[]"#.to_owned(),
            r#""x5c":null"#.to_owned(),
            r#""x5c":["MAA="]"#.to_owned(),
            r#""x5u":null"#.to_owned(),
            r#""x5u":{}"#.to_owned(),
            r#""p":"AQAB""#.to_owned(),
            format!(r#""d":"{sha256}""#),
            r#""d":null"#.to_owned(),
            r#""k":"AAAA""#.to_owned(),
        ] {
            assert!(!spoils(&fine), "{fine}");
        }
        for bad in [
            r#""x5t":"AAAA""#,
            r#""x5t":1"#,
            r#""x5t#S256":"!""#,
            r#""x5c":"MAA=""#,
            r#""x5c":["!"]"#,
            r#""x5c":["AAAA"]"#,
            r#""x5c":[1]"#,
            r#""x5u":"https://issuer.example/cert""#,
            r#""x5u":1"#,
            r#""p":"!""#,
            r#""d":"""#,
            r#""d":"AQAB""#,
            r#""k":1"#,
        ] {
            assert!(spoils(bad), "{bad}");
        }
    }

    #[test]
    fn other_verifiers_do_not_ask() {
        let set = format!(r#"{{"keys":[{{{EC},"x5u":"https://issuer.example/cert","x5t":"AAAA","x5c":["!"]}}]}}"#);
        let set = JwkSet::parse(set.as_bytes(), UnknownKeys::Skip, &Limits::default()).expect("a set");
        assert_eq!(set.keys().len(), 1);
    }

    #[test]
    fn numbers_that_no_float_holds_are_found_wherever_they_are() {
        let fit = |json: &str| numbers_fit(serde_json::from_str(json).unwrap());
        for json in ["1", "-1.5e308", "1e-99999", r#""1e99999""#, r#"{"1e99999":["\"1e99999",true,null]}"#, "[]"] {
            assert!(fit(json), "{json}");
        }
        let digits = "9".repeat(400);
        for json in ["1e99999", "-1e309", r#"{"a":["\\",1e999]}"#, &digits, &format!("[0.1,{digits}.5]")] {
            assert!(!fit(json), "{json}");
        }
    }

    #[test]
    fn a_name_twice_is_found_in_any_spelling() {
        assert_eq!(check_names(r#"{"a":1,"b":{"a":1,"a":2},"A":3}"#), Ok(()));
        assert_eq!(check_names(r#"{"zz":1,"b":2,"z\u007a":3}"#), Err(JoseError::KeyJson));
    }
}
