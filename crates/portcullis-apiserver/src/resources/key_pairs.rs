//! Whether a private key belongs to a certificate, as `kubernetes.io/tls` secrets hold them.
//!
//! Compat: what Go's `tls.X509KeyPair` says once it has found both. What is wrong inside of a certificate is not told in Go's
//! words. Keys of RSA, of ECDSA over P-256, P-384 and P-521, and of Ed25519 are known.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _,
};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificates::request::next_block;

const RSA: Oid<'_> = oid!(1.2.840.113549.1.1.1);
const ECDSA: Oid<'_> = oid!(1.2.840.10045.2.1);
const ED25519: Oid<'_> = oid!(1.3.101.112);

/// A key's sort, and the public key as certificates write it.
type Public = (Oid<'static>, Vec<u8>);

/// What is wrong with a pair; both are PEM in which the other parts of the check have found a certificate and a key.
pub(super) fn problem(certificate: &str, key: &str) -> Option<&'static str> {
    let certificate = der(certificate, |label| label == "CERTIFICATE")?;
    let key = der(key, |label| label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY"))?;
    let Ok((_, certificate)) = X509Certificate::from_der(&certificate) else {
        return Some("x509: malformed certificate");
    };
    let Some((kind, public)) = public_of(&key) else { return Some("tls: failed to parse private key") };
    let wanted = certificate.public_key();
    if ![RSA, ECDSA, ED25519].contains(&wanted.algorithm.algorithm) {
        return Some("tls: unknown public key algorithm");
    }
    if wanted.algorithm.algorithm != kind {
        return Some("tls: private key type does not match public key type");
    }
    (*wanted.subject_public_key.data != *public).then_some("tls: private key does not match public key")
}

/// The first block of PEM whose label is asked for.
fn der(text: &str, asked: impl Fn(&str) -> bool) -> Option<Vec<u8>> {
    let mut rest = text;
    while let Some((block, beyond)) = next_block(rest) {
        if asked(&block.label) {
            return Some(block.der);
        }
        rest = beyond;
    }
    None
}

fn public_of(key: &[u8]) -> Option<Public> {
    if let Ok(pair) = rsa::KeyPair::from_der(key).or_else(|_| rsa::KeyPair::from_pkcs8(key)) {
        return Some((RSA, pair.public_key().as_ref().to_vec()));
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key) {
        return Some((ED25519, pair.public_key().as_ref().to_vec()));
    }
    let curves = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
    let pair = curves.into_iter().find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, key).ok())?;
    Some((ECDSA, pair.public_key().as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    fn pair(algorithm: &'static SignatureAlgorithm) -> (String, String) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        (CertificateParams::default().self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_key_belongs_to_its_own_certificate_only() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let ((certificate, key), (_, other)) = (pair(algorithm), pair(algorithm));
            assert_eq!(problem(&certificate, &key), None, "{algorithm:?}");
            let why = "tls: private key does not match public key";
            assert_eq!(problem(&certificate, &other), Some(why), "{algorithm:?}");
        }
        let (certificate, _) = pair(&rcgen::PKCS_ED25519);
        let (_, key) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(problem(&certificate, &key), Some("tls: private key type does not match public key type"));
        let broken = key.replace("PRIVATE KEY-----\n", "PRIVATE KEY-----\nAAAA");
        assert_eq!(problem(&certificate, &broken), Some("tls: failed to parse private key"));
        assert_eq!(problem(&broken.replace("PRIVATE KEY", "CERTIFICATE"), &key), Some("x509: malformed certificate"));
    }
}
