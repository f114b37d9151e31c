//! Keys that are made once for all tests, and tokens with free choice of every part.

use std::sync::LazyLock;

use portcullis_jose::{Algorithm, CompactJws, JoseError, JwkSet, KeyKind, Limits, SigningKey, base64url_encode};

pub(crate) static RSA: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(KeyKind::Rsa2048, "rsa".into()).unwrap());
pub(crate) static P256: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(KeyKind::P256, "p256".into()).unwrap());
pub(crate) static P384: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(KeyKind::P384, "p384".into()).unwrap());
pub(crate) static P521: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(KeyKind::P521, "p521".into()).unwrap());
pub(crate) static ED: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(KeyKind::Ed25519, "ed".into()).unwrap());

pub(crate) const PAYLOAD: &[u8] = br#"{"sub":"jane"}"#;

/// A token with this header text, signed properly.
pub(crate) fn token(key: &SigningKey, algorithm: Algorithm, header: &str) -> String {
    let input = format!("{}.{}", base64url_encode(header.as_bytes()), base64url_encode(PAYLOAD));
    let signature = key.sign(algorithm, input.as_bytes()).unwrap();
    format!("{input}.{}", base64url_encode(&signature))
}

pub(crate) fn set(keys: &[&SigningKey]) -> JwkSet {
    JwkSet::from_keys(keys.iter().map(|key| key.public().clone()).collect())
}

pub(crate) fn verify(token: &str, set: &JwkSet) -> Result<Vec<u8>, JoseError> {
    let jws = CompactJws::parse(token, &Limits::default())?;
    jws.verify(set).map(|payload| payload.bytes().to_vec())
}
