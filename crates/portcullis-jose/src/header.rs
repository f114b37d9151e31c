//! The JOSE header of a compact JWS (RFC 7515 section 4).
//!
//! Reads `alg`, `kid` and `typ`, notes `crit` and `b64`, checks an embedded `jwk` for private parts, and skips the rest. A member
//! name that occurs twice is refused: two readers could otherwise disagree about the algorithm or the key.
//! Keys named in the header (`jwk`, `jku`, `x5c`, `x5u`) are never used for trust.

use std::{borrow::Cow, fmt};

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    Algorithm, Limits, PublicJwk, base64url::base64url_decode_as_go, error::JoseError, go_jose, jwk::parse_raw,
    raw_jwk::BorrowedStr,
};

/// What the header says.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) alg: Cow<'static, str>,
    pub(crate) kid: Option<Box<str>>,
    pub(crate) typ: Option<Box<str>>,
    /// `crit` is present, whatever its value, or `b64` is false: something is to be done that is not (RFC 7797).
    pub(crate) critical: bool,
}

impl Header {
    pub(crate) fn parse(json: &[u8], limits: &Limits) -> Result<Self, JoseError> {
        if json.len() > limits.header_bytes {
            return Err(JoseError::HeaderTooLarge { limit: limits.header_bytes });
        }
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let mut refusal = None;
        let header = deserializer
            .deserialize_map(HeaderVisitor { limits, refusal: &mut refusal })
            .and_then(|header| deserializer.end().map(|()| header));
        header.map_err(|_| refusal.unwrap_or(JoseError::HeaderJson))
    }
}

/// Serde's error type cannot carry our reasons, so they leave through `refusal`.
struct HeaderVisitor<'l> {
    limits: &'l Limits,
    refusal: &'l mut Option<JoseError>,
}

impl HeaderVisitor<'_> {
    fn refuse<E: serde::de::Error>(&mut self, reason: JoseError) -> E {
        *self.refusal = Some(reason);
        E::custom("refused")
    }

    /// Reads a string or null; null counts as absent, as in Go.
    fn member<'de, A: MapAccess<'de>>(
        &mut self,
        member: &mut Member<'de>,
        map: &mut A,
        name: &'static str,
    ) -> Result<(), A::Error> {
        if member.seen {
            return Err(self.refuse(JoseError::HeaderDuplicate));
        }
        match map.next_value() {
            Ok(value) => *member = Member { seen: true, value },
            Err(_) => return Err(self.refuse(JoseError::HeaderMember(name))),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for HeaderVisitor<'_> {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JOSE header object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Header, A::Error> {
        let (mut alg, mut kid, mut typ) = (Member::default(), Member::default(), Member::default());
        let mut critical = false;
        // The names of all other members; an ordinary token has none.
        let mut others: Vec<Cow<'de, str>> = Vec::new();
        for count in 0.. {
            let Some(BorrowedStr(name)) = map.next_key()? else { break };
            if count >= self.limits.header_members {
                return Err(A::Error::custom("too many members"));
            }
            match name.as_ref() {
                "alg" => self.member(&mut alg, &mut map, "alg")?,
                "kid" => self.member(&mut kid, &mut map, "kid")?,
                "typ" => self.member(&mut typ, &mut map, "typ")?,
                _ => {
                    if others.contains(&name) {
                        return Err(self.refuse(JoseError::HeaderDuplicate));
                    }
                    critical |= name == "crit";
                    match name.as_ref() {
                        "jwk" => {
                            let jwk = map.next_value::<&'de RawValue>()?;
                            if !is_public_key(jwk, self.limits) {
                                return Err(self.refuse(JoseError::HeaderKey));
                            }
                        }
                        // Never used; go-jose reads them all the same, and refuses other types.
                        "x5c" if go_jose::certificates(Some(map.next_value::<&'de RawValue>()?)).is_err() => {
                            return Err(self.refuse(JoseError::HeaderMember("x5c")));
                        }
                        "nonce" if map.next_value::<Option<BorrowedStr<'de>>>().is_err() => {
                            return Err(self.refuse(JoseError::HeaderMember("nonce")));
                        }
                        "b64" => critical |= map.next_value::<&'de RawValue>()?.get() == "false",
                        "x5c" | "nonce" => {}
                        // Never used either; Go makes a value of each.
                        _ if !go_jose::numbers_fit(map.next_value::<&'de RawValue>()?) => {
                            return Err(self.refuse(JoseError::HeaderJson));
                        }
                        _ => {}
                    }
                    others.push(name);
                }
            }
        }
        let Some(BorrowedStr(alg)) = alg.value else { return Err(self.refuse(JoseError::HeaderMember("alg"))) };
        if kid.value.as_ref().is_some_and(|kid| kid.as_str().len() > self.limits.kid_bytes) {
            return Err(self.refuse(JoseError::KidTooLong { limit: self.limits.kid_bytes }));
        }
        Ok(Header {
            alg: Algorithm::from_name(&alg).map_or_else(|| alg.into_owned().into(), |known| known.name().into()),
            kid: kid.value.map(|BorrowedStr(kid)| kid.into()),
            typ: typ.value.map(|BorrowedStr(typ)| typ.into()),
            critical,
        })
    }
}

/// A public key in the header is legal and ignored; any other is what go-jose calls malformed.
fn is_public_key(jwk: &RawValue, limits: &Limits) -> bool {
    let text = jwk.get();
    parse_raw(text.as_bytes()).is_ok_and(|jwk| {
        jwk.d.is_none()
            && go_jose::check(&jwk).and_then(|()| go_jose::check_names(text)).is_ok()
            && match PublicJwk::from_raw(&jwk, limits) {
                Ok(_) => true,
                Err(JoseError::RsaModulusSize { .. } | JoseError::KeyMember(_) | JoseError::InvalidKey) => {
                    match jwk.kty.as_ref().map(BorrowedStr::as_str) {
                        // Go makes a key of any two numbers, and one without an exponent does not count.
                        Some("RSA") => jwk.e.as_ref().is_some_and(is_exponent),
                        // And of any bytes.
                        Some("OKP") => true,
                        _ => false,
                    }
                }
                Err(_) => false,
            }
    })
}

/// Whether the lower 64 bits, which are what Go keeps of an exponent, are not all zero.
fn is_exponent(member: &BorrowedStr<'_>) -> bool {
    base64url_decode_as_go(member.as_str()).is_some_and(|bytes| bytes.iter().rev().take(8).any(|byte| *byte != 0))
}

/// A text member: whether it was there, and its value.
#[derive(Default)]
struct Member<'de> {
    seen: bool,
    value: Option<BorrowedStr<'de>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Header, JoseError> {
        Header::parse(json.as_bytes(), &Limits::default())
    }

    #[test]
    fn reads_the_members_that_matter_and_skips_the_others() {
        let header =
            parse(r#"{"alg":"RS256","x":{"y":[1,2]},"kid":"k\u0031","typ":"JWT","jku":"https://evil"}"#).unwrap();
        assert_eq!((&*header.alg, header.kid.as_deref(), header.typ.as_deref()), ("RS256", Some("k1"), Some("JWT")));
        assert!(!header.critical);
    }

    #[test]
    fn hostile_headers_are_refused_with_the_reason() {
        let many = format!("{{\"alg\":\"RS256\"{}}}", (0..32).map(|i| format!(",\"m{i}\":1")).collect::<String>());
        let cases: &[(&str, JoseError)] = &[
            ("", JoseError::HeaderJson),
            ("[]", JoseError::HeaderJson),
            ("null", JoseError::HeaderJson),
            ("\"RS256\"", JoseError::HeaderJson),
            (r#"{"alg":"RS256"} {}"#, JoseError::HeaderJson),
            (r#"{"alg":"RS256""#, JoseError::HeaderJson),
            ("{\"alg\":\"RS256\",\"kid\":\"\u{7f}\"}x", JoseError::HeaderJson),
            (r#"{"alg":"RS256","alg":"RS256"}"#, JoseError::HeaderDuplicate),
            (r#"{"alg":"RS256","x":1,"x":1}"#, JoseError::HeaderDuplicate),
            (r#"{"alg":"RS256","\u0061lg":"none"}"#, JoseError::HeaderDuplicate),
            ("{}", JoseError::HeaderMember("alg")),
            (r#"{"ALG":"RS256"}"#, JoseError::HeaderMember("alg")),
            (r#"{"alg":null}"#, JoseError::HeaderMember("alg")),
            (r#"{"alg":256}"#, JoseError::HeaderMember("alg")),
            (r#"{"alg":["RS256"]}"#, JoseError::HeaderMember("alg")),
            (r#"{"alg":"RS256","kid":7}"#, JoseError::HeaderMember("kid")),
            (r#"{"alg":"RS256","kid":{"a":1}}"#, JoseError::HeaderMember("kid")),
            (r#"{"alg":"RS256","typ":false}"#, JoseError::HeaderMember("typ")),
            (r#"{"alg":"RS256","jwk":"x"}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","jwk":{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","jwk":{"kty":"oct","k":"AA"}}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","jwk":[]}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","jwk":null}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","jwk":{"kty":"OKP","crv":"Ed25519","x":"AA","x5u":"https://a"}}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","jwk":{"kty":"OKP","crv":"Ed25519","x":"AA","x5t":"AAAA"}}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","jwk":{"kty":"OKP","crv":"Ed25519","x":"AA","x5c":["AAAA"]}}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","jwk":{"kty":"RSA","n":"AQ","e":"AA"}}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","jwk":{"kty":"RSA","n":"AQ","e":""}}"#, JoseError::HeaderKey),
            (
                r#"{"alg":"RS256","jwk":{"kty":"RSA","n":"AQ","e":"AQAB","d":"AQ","p":"AQ","q":"AQ"}}"#,
                JoseError::HeaderKey,
            ),
            (r#"{"alg":"RS256","jwk":{"kty":"RSA","n":"AQ","e":"AQAB","z":1,"z":1}}"#, JoseError::HeaderKey),
            (r#"{"alg":"RS256","x":[1e99999]}"#, JoseError::HeaderJson),
            (&many, JoseError::HeaderJson),
        ];
        for (json, expected) in cases {
            assert_eq!(parse(json).map(|_| ()), Err(expected.clone()), "{}", json.get(..60).unwrap_or(json));
        }
    }

    #[test]
    fn sizes_are_refused_just_past_their_limits() {
        let limits = Limits { header_bytes: 40, kid_bytes: 4, header_members: 2, ..Limits::default() };
        let parse = |json: &str| Header::parse(json.as_bytes(), &limits).map(|_| ());
        assert_eq!(parse(r#"{"alg":"RS256","kid":"1234"}"#), Ok(()));
        assert_eq!(parse(r#"{"alg":"RS256","kid":"12345"}"#), Err(JoseError::KidTooLong { limit: 4 }));
        assert_eq!(parse(r#"{"alg":"RS256","kid":"1","x":1}"#), Err(JoseError::HeaderJson));
        assert_eq!(parse(r#"{"alg":"RS256"}                         "#), Ok(()));
        assert_eq!(parse(r#"{"alg":"RS256"}                          "#), Err(JoseError::HeaderTooLarge { limit: 40 }));
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        assert!(parse(&format!("{{\"alg\":\"RS256\",\"x\":{}{}}}", "[".repeat(4000), "]".repeat(4000))).is_ok());
    }

    #[test]
    fn a_critical_member_is_noted_and_a_public_key_ignored() {
        assert!(parse(r#"{"alg":"RS256","crit":["b64"]}"#).unwrap().critical);
        // Without `crit` too: go-jose then takes the payload as it is written, and an encoded one does not fit its signature.
        assert!(parse(r#"{"alg":"RS256","b64": false }"#).unwrap().critical);
        for value in ["true", "null", "0", "[]", "\"false\""] {
            assert!(!parse(&format!(r#"{{"alg":"RS256","b64":{value}}}"#)).unwrap().critical, "{value}");
        }
        for jwk in [
            r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#,
            r#"{"kty":"RSA","n":"","e":"AQ"}"#,
            // Nothing but `d` makes a key private.
            r#"{"kty":"RSA","n":"AQ","e":"AQAB","p":"AQ","k":"AQ","oth":[]}"#,
        ] {
            assert!(parse(&format!(r#"{{"alg":"RS256","jwk":{jwk}}}"#)).is_ok(), "{jwk}");
        }
    }
}
