//! What can be wrong with a token, a key or a key set.
//!
//! Errors name the rule that was broken. They never carry a token, a signature, a claim or key bytes; the few names
//! that come from outside (an algorithm, a key type, a curve) are cut to 32 characters and stripped of control
//! characters, so that they can be logged as they are.

use std::fmt;

/// One of the three parts of a compact JWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPart {
    /// The JOSE header.
    Header,
    /// The payload.
    Payload,
    /// The signature.
    Signature,
}

impl fmt::Display for TokenPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// Everything this crate refuses, sorted by who is to blame: the token, the key or key set, the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoseError {
    /// The token is longer than [`crate::Limits::token_bytes`].
    #[error("the token is longer than {limit} bytes")]
    TokenTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The token does not consist of exactly three parts separated by dots.
    #[error("a compact JWS has three parts separated by dots")]
    PartCount,
    /// A part of the token is not canonical base64url without padding.
    #[error("the {0} of the token is not base64url without padding")]
    TokenBase64Url(TokenPart),
    /// The decoded header is longer than [`crate::Limits::header_bytes`].
    #[error("the token header is longer than {limit} bytes")]
    HeaderTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The header is not a JSON object, or has more members than [`crate::Limits::header_members`].
    #[error("the token header is not a JSON object of reasonable size")]
    HeaderJson,
    /// A member name occurs twice in the header (RFC 7515 section 4).
    #[error("the token header has a member twice")]
    HeaderDuplicate,
    /// A header member has the wrong JSON type, or `alg` is missing.
    #[error("the token header member {0:?} is missing or of the wrong type")]
    HeaderMember(&'static str),
    /// The header embeds a key (`jwk`) that is not a public one.
    #[error("the token header embeds a key that is not public")]
    HeaderKey,
    /// A key id is longer than [`crate::Limits::kid_bytes`].
    #[error("the key id is longer than {limit} bytes")]
    KidTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The `alg` of the token is `none`, symmetric or unknown. Carries the (shortened) name.
    #[error("the signature algorithm {0:?} is not supported")]
    UnsupportedAlgorithm(String),
    /// The header names critical extensions, or says that the payload is not encoded (RFC 7797); neither is implemented.
    #[error("the token header has critical extensions that are not understood")]
    Critical,
    /// No key of the set has the token's key id.
    #[error("no key of the set matches the key id of the token")]
    NoMatchingKey,
    /// Keys match the key id, but none of them can be used with the token's algorithm.
    #[error("no matching key can be used with the algorithm of the token")]
    AlgorithmKeyMismatch,
    /// Every candidate key says that the signature is wrong.
    #[error("the signature is wrong")]
    BadSignature,

    /// The key set is longer than [`crate::Limits::set_bytes`].
    #[error("the key set is longer than {limit} bytes")]
    SetTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The key set has more keys than [`crate::Limits::set_keys`].
    #[error("the key set has more than {limit} keys")]
    TooManyKeys {
        /// The limit.
        limit: usize,
    },
    /// The key set is not a JSON object with a list `keys`.
    #[error("the key set is not a JSON object with a list of keys")]
    SetJson,
    /// A key is not a JSON object with members of the right types, or repeats a member.
    #[error("the key is not a valid JSON Web Key object")]
    KeyJson,
    /// The key has a private half (`d`): whoever reads the set could sign with it.
    #[error("the key is a private one")]
    PrivateKey,
    /// The `kty` of a key is not known. Text as go-jose v2.
    #[error("unknown json web key type '{0}'")]
    UnknownKeyType(String),
    /// The `crv` of a key is not known.
    #[error("unsupported elliptic curve '{0}'")]
    UnknownCurve(String),
    /// A member of a key is missing.
    #[error("the key has no member {0:?}")]
    MissingKeyMember(&'static str),
    /// A member of a key is not base64url or has the wrong length.
    #[error("the key member {0:?} is malformed")]
    KeyMember(&'static str),
    /// The RSA modulus is shorter than 2048 or longer than 8192 bits.
    #[error("the RSA modulus has {bits} bits, not 2048 to 8192")]
    RsaModulusSize {
        /// Bits of the modulus.
        bits: usize,
    },
    /// The key's numbers are no valid key: not on the curve, even modulus, exponent out of range, halves that do not fit.
    #[error("the key is not a valid key of its type")]
    InvalidKey,

    /// Text is not canonical base64url without padding.
    #[error("not base64url without padding")]
    Base64Url,
    /// A private key could not be read: not PKCS#8, a PEM without one, or of a kind that is not supported.
    #[error("not an unencrypted PKCS#8 private key of a supported kind")]
    PrivateKeyFormat,
    /// The signing key cannot be used with the requested algorithm.
    #[error("the signing key cannot be used with {0}")]
    AlgorithmNotForKey(crate::Algorithm),
    /// Key generation or signing failed inside the cryptographic library.
    #[error("the cryptographic library failed")]
    Crypto,
}

/// A name from outside, made fit for an error text.
pub(crate) fn bounded(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_short_and_printable() {
        assert_eq!(bounded("a\u{1b}[31m\nb"), "a[31mb");
        assert_eq!(bounded(&"x".repeat(1000)).len(), 32);
    }
}
