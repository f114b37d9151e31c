//! JSON Object Signing for Portcullis: the JWS compact serialisation, JWK and JWK sets, thumbprints.
//!
//! The flow of a verification: [`CompactJws::parse`] (limits, shape, header; once) → [`CompactJws::verify`] with a
//! [`SignatureVerifier`] (normally a [`JwkSet`]) → [`VerifiedPayload`], the only type that hands out bytes as trusted.
//! The flow of a signature: [`SigningKey`] (parsed once) → [`sign_compact`].
//!
//! The crate is pure: no clock, no I/O, no async, no configuration. It looks at no claim: what the verified bytes mean is
//! for the caller to decide.
//!
//! Where it is deliberately narrower than Go's `go-jose` (what kube-apiserver and kubelogin use):
//! - base64url with non-zero trailing bits, line breaks or padding is refused in tokens;
//! - white space in a token is refused (Go strips it before parsing);
//! - any `crit` header is refused (Go lets `crit: ["b64"]` pass), and `b64: false` (in Go the payload is then signed as it is written);
//! - ES384 or ES512 over a P-256 key, and every other pairing of algorithm and curve that RFC 7518 does not name, is
//!   refused (Go checks the signature's length only);
//! - RSA moduli below 2048 or above 8192 bits, and tokens, headers, key sets and key ids over [`Limits`] are refused.

#![warn(clippy::missing_errors_doc)]

mod algorithm;
mod base64url;
mod error;
mod go_jose;
mod half_hash;
mod header;
mod jwk;
mod jwk_set;
mod jws;
mod limits;
mod material;
mod raw_jwk;
mod signing_key;

pub use algorithm::{Algorithm, Curve};
pub use base64url::{base64url_decode, base64url_decode_as_go, base64url_encode};
pub use error::{JoseError, TokenPart};
pub use half_hash::half_hash;
pub use jwk::{KeyHints, PublicJwk};
pub use jwk_set::{JwkSet, UnknownKeys};
pub use jws::{CompactJws, Rejected, SignatureVerifier, VerifiedPayload};
pub use limits::Limits;
pub use signing_key::{KeyKind, SigningKey, sign_compact};
