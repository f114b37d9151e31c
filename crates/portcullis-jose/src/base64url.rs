//! base64url without padding (RFC 7515 section 2, RFC 4648 section 5).
//!
//! Strict: padding, line breaks, characters of the other alphabet and non-zero trailing bits are refused, so that one
//! byte string has one spelling and a changed token never decodes to the same signature.
//! Go's `RawURLEncoding` skips CR and LF and ignores trailing bits; a token that relies on it is refused here.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::error::{JoseError, TokenPart};

/// Encodes without padding.
pub fn base64url_encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes; errors with [`JoseError::Base64Url`] on anything but the one canonical spelling.
pub fn base64url_decode(text: &str) -> Result<Vec<u8>, JoseError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JoseError::Base64Url)
}

/// Appends the decoded part of a token to `out`.
pub(crate) fn decode_part(text: &str, part: TokenPart, out: &mut Vec<u8>) -> Result<(), JoseError> {
    URL_SAFE_NO_PAD.decode_vec(text, out).map_err(|_| JoseError::TokenBase64Url(part))
}

/// Decodes a member of a JWK (as go-jose v2, padding is refused).
pub(crate) fn decode_key_member(text: &str, member: &'static str) -> Result<Vec<u8>, JoseError> {
    base64url_decode(text).map_err(|_| JoseError::KeyMember(member))
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
    fn the_empty_string_is_the_empty_bytes() {
        assert_eq!(base64url_decode(""), Ok(Vec::new()));
    }
}
