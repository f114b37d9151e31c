//! Which issuer a token claims to be from, before anything about it is known to be true.
//!
//! Compat: `untrustedIssuer` of `oidc.go` in `k8s.io/apiserver` v0.37: anything that is not a compact JWT with a JSON
//! object for payload and a text for `iss` belongs to somebody else ("no opinion"). The routing decides nothing but whom
//! to ask: the issuer is compared again after the signature.

use std::borrow::Cow;

use portcullis_jose::{CompactJws, JoseError, Limits, TokenPart};

use crate::go::base64;
use crate::go::json::{self, Document, Kind};

/// The bare form of Google's issuer, and what it stands for.
pub(crate) const GOOGLE_BARE: &str = "accounts.google.com";
/// Google's issuer.
pub(crate) const GOOGLE: &str = "https://accounts.google.com";

/// Bounds for tokens: no tighter than what reaches kube-apiserver through Go's HTTP server (1 MiB of headers).
pub(crate) const LIMITS: Limits = Limits {
    token_bytes: 1024 * 1024,
    header_bytes: 256 * 1024,
    header_members: 256,
    kid_bytes: 64 * 1024,
    set_bytes: 1024 * 1024,
    set_keys: 100,
};

/// The issuer that `payload` names; `None` when Go would not find one.
pub(crate) fn untrusted_issuer(payload: &[u8]) -> Option<String> {
    let Ok(Document::Object(members)) = json::parse(payload) else { return None };
    let mut issuer = String::new();
    for member in members.iter().filter(|member| member.folds_to("iss")) {
        match json::kind(member.value) {
            Kind::String => issuer = json::string(member.value).into_owned(),
            Kind::Null => {}
            Kind::Object | Kind::Array | Kind::Number | Kind::Bool => return None,
        }
    }
    Some(if issuer == GOOGLE_BARE { GOOGLE.to_owned() } else { issuer })
}

/// The issuer that a claims endpoint's token names. The error is upstream's text, without what its decoders add.
pub(crate) fn issuer_of(token: &str) -> Result<String, &'static str> {
    let payload = lenient_payload(token)?;
    untrusted_issuer(&payload).ok_or("while unmarshaling token: no JSON object with a text for iss")
}

/// The payload of a token that need not be in canonical form, decoded as Go's router does; or why it is none.
pub(crate) fn lenient_payload(token: &str) -> Result<Vec<u8>, &'static str> {
    if token.trim().starts_with('{') {
        return Err("token is not compact JWT");
    }
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("malformed token");
    };
    base64::decode(payload).ok_or("error decoding token: illegal base64 data")
}

/// The token as go-jose sees it: white space taken out anywhere, unused base64 bits cleared (it signs over the decoded
/// bytes, encoded anew). Borrowed when the token is in this form already.
pub(crate) fn canonical(token: &str) -> Result<Cow<'_, str>, JoseError> {
    if token.split('.').all(base64::is_canonical) {
        return Ok(Cow::Borrowed(token));
    }
    let stripped: String = token.chars().filter(|c| !c.is_whitespace()).collect();
    let names = [TokenPart::Header, TokenPart::Payload, TokenPart::Signature];
    let mut parts = Vec::with_capacity(names.len());
    for (text, name) in stripped.split('.').zip(names) {
        let bytes = base64::decode(text).ok_or(JoseError::TokenBase64Url(name))?;
        parts.push(base64::encode(&bytes));
    }
    Ok(Cow::Owned(parts.join(".")))
}

/// Parses a canonical token.
pub(crate) fn parse<'t>(token: &'t str, limits: &Limits) -> Result<CompactJws<'t>, JoseError> {
    CompactJws::parse(token, limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_is_found_as_go_finds_it() {
        for (payload, want) in [
            (r#"{"iss":"a"}"#, Some("a")),
            (r#"{"ISS":"a","iss":"b"}"#, Some("b")),
            (r#"{"iss":"a","Iss":null}"#, Some("a")),
            (r#"{"iss":"https:\/\/a"}"#, Some("https://a")),
            (r#"{"iss":"accounts.google.com"}"#, Some("https://accounts.google.com")),
            ("{}", Some("")),
            (r#"{"iss":1}"#, None),
            (r#"{"iss":"a","iss":{}}"#, None),
            (r#"["iss"]"#, None),
            ("null", None),
            (r#"{"iss":"a"} x"#, None),
            ("", None),
        ] {
            assert_eq!(untrusted_issuer(payload.as_bytes()).as_deref(), want, "{payload}");
        }
    }

    #[test]
    fn odd_spellings_of_a_token_become_the_canonical_one() {
        assert!(matches!(canonical("YQ.YWI.YWJj"), Ok(Cow::Borrowed("YQ.YWI.YWJj"))));
        assert_eq!(canonical("Y R.Y\nWI.YWJ\u{a0}j").as_deref(), Ok("YQ.YWI.YWJj"));
        assert_eq!(canonical("YQ=.YWI.YWJj"), Err(JoseError::TokenBase64Url(TokenPart::Header)));
        assert_eq!(lenient_payload("x.YWJ\r\n.y"), Ok(b"ab".to_vec()));
        for foreign in ["", "a.b", "a.YQ.c.d", " {\"payload\":\"a.YQ.c\"}", "a.Y Q.c", "a.YQ==.c"] {
            assert!(lenient_payload(foreign).is_err(), "{foreign:?}");
        }
    }

    #[test]
    fn an_endpoints_token_names_its_issuer_or_says_why_not() {
        let token = |payload: &str| format!("x.{}.y\n", base64::encode(payload.as_bytes()));
        for (token, want) in [
            (token(r#"{"iss":"https://a"}"#), Ok("https://a")),
            (token(r#"{"ISS":"accounts.google.com"}"#), Ok("https://accounts.google.com")),
            (token("{}"), Ok("")),
            (" {\"a\":1}".to_owned(), Err("token is not compact JWT")),
            ("<html>".to_owned(), Err("malformed token")),
            ("a.b.c.d".to_owned(), Err("malformed token")),
            ("a.=.c".to_owned(), Err("error decoding token: illegal base64 data")),
            (token(r#"{"iss":1}"#), Err("while unmarshaling token: no JSON object with a text for iss")),
            (token("[]"), Err("while unmarshaling token: no JSON object with a text for iss")),
        ] {
            assert_eq!(issuer_of(&token).as_deref().map_err(|error| *error), want, "{token}");
        }
    }
}
