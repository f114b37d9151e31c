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

/// The payload of a token that is not in canonical form, if Go would route it; decoded as Go's router does.
pub(crate) fn lenient_payload(token: &str) -> Option<Vec<u8>> {
    if token.trim().starts_with('{') {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    base64::decode(payload)
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
pub(crate) fn parse(token: &str) -> Result<CompactJws<'_>, JoseError> {
    CompactJws::parse(token, &LIMITS)
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
        assert_eq!(lenient_payload("x.YWJ\r\n.y"), Some(b"ab".to_vec()));
        for foreign in ["", "a.b", "a.YQ.c.d", " {\"payload\":\"a.YQ.c\"}", "a.Y Q.c", "a.YQ==.c"] {
            assert_eq!(lenient_payload(foreign), None, "{foreign:?}");
        }
    }
}
