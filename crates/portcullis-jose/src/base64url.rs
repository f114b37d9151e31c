//! base64url without padding (RFC 7515 section 2, RFC 4648 section 5).
//!
//! Strict: padding, line breaks, characters of the other alphabet and non-zero trailing bits are refused, so that one
//! byte string has one spelling and a changed token never decodes to the same signature.
//! Go's `RawURLEncoding` skips CR and LF and ignores trailing bits; a token that relies on it is refused here.

use std::borrow::Cow;

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};

use crate::error::{JoseError, TokenPart};

/// Encodes without padding.
pub fn base64url_encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes the one canonical spelling.
///
/// # Errors
/// [`JoseError::Base64Url`] for any other: padding, white space, bits behind the last byte.
pub fn base64url_decode(text: &str) -> Result<Vec<u8>, JoseError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JoseError::Base64Url)
}

/// Appends the decoded part of a token to `out`.
pub(crate) fn decode_part(text: &str, part: TokenPart, out: &mut Vec<u8>) -> Result<(), JoseError> {
    URL_SAFE_NO_PAD.decode_vec(text, out).map_err(|_| JoseError::TokenBase64Url(part))
}

/// Go's `base64.RawURLEncoding` but for line breaks.
const GO: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes as Go's `base64.RawURLEncoding`: line breaks are skipped, and bits behind the last byte count for nothing; `None` where it
/// reports an error. For members of keys, which are compared by what they say and never by how they are written, and for what
/// kube-apiserver reads of a token before it verifies the signature.
pub fn base64url_decode_as_go(text: &str) -> Option<Vec<u8>> {
    let text =
        if text.contains(['\r', '\n']) { Cow::Owned(text.replace(['\r', '\n'], "")) } else { Cow::Borrowed(text) };
    GO.decode(text.as_bytes()).ok()
}

/// Decodes a member of a JWK (as go-jose v2, padding is refused).
pub(crate) fn decode_key_member(text: &str, member: &'static str) -> Result<Vec<u8>, JoseError> {
    base64url_decode_as_go(text).ok_or(JoseError::KeyMember(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7515_appendix_c_reads_and_writes() {
        let bytes = [3, 236, 255, 224, 193];
        assert_eq!(base64url_encode(&bytes), "A-z_4ME");
        assert_eq!(base64url_decode("A-z_4ME"), Ok(bytes.to_vec()));
    }

    #[test]
    fn every_second_spelling_is_refused() {
        for text in ["A-z_4ME=", "A+z/4ME", "A-z_4MF", "A-z_\n4ME", " A-z_4ME", "A", "AB", "AA\r\n", "Ä"] {
            assert_eq!(base64url_decode(text), Err(JoseError::Base64Url), "{text:?}");
        }
    }

    #[test]
    fn members_of_keys_are_read_as_go_reads_them() {
        for text in ["A-z_4ME", "A-z_4MF", "A-z_\n4ME\r\n"] {
            assert_eq!(decode_key_member(text, "x"), Ok(vec![3, 236, 255, 224, 193]), "{text:?}");
        }
        for text in ["A-z_4ME=", "A+z/4ME", " A-z_4ME", "A", "\t"] {
            assert_eq!(decode_key_member(text, "x"), Err(JoseError::KeyMember("x")), "{text:?}");
        }
    }

    #[test]
    fn the_empty_string_is_the_empty_bytes() {
        assert_eq!(base64url_decode(""), Ok(Vec::new()));
    }
}
