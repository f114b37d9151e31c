//! The numbers of a public key, checked and parsed once, and the verification with them.
//!
//! Parsing costs as much as a third of an RSA verification, so it is never on the verification path: the parameters of
//! RS256 are made with the key, those of the other RSA algorithms at their first use.

use std::sync::OnceLock;

use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaPublicKeyComponents};

use crate::{Algorithm, Curve, JoseError};

/// A checked public key.
#[derive(Debug)]
pub(crate) enum Material {
    Rsa(Box<RsaPublic>),
    Ec { curve: Curve, x: Box<[u8]>, y: Box<[u8]>, parsed: ParsedPublicKey },
    Ed25519 { x: [u8; 32], parsed: ParsedPublicKey },
}

/// An RSA key: big-endian numbers without leading zeros, and one parsed form for each algorithm.
#[derive(Debug)]
pub(crate) struct RsaPublic {
    pub(crate) n: Box<[u8]>,
    pub(crate) e: Box<[u8]>,
    parsed: [OnceLock<ParsedPublicKey>; RSA_ALGORITHMS.len()],
}

const RSA_ALGORITHMS: [Algorithm; 6] =
    [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];

impl Material {
    /// Checks size and shape: 2048 to 8192 bits, odd modulus, odd exponent between 3 and 2^31 (Go's bound). Leading zero bytes are dropped: RFC 7518 section 6.3.1.1 forbids them, yet issuers write them.
    pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, JoseError> {
        let (n, e) = (strip_leading_zeros(n), strip_leading_zeros(e));
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(JoseError::RsaModulusSize { bits });
        }
        let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        if e.len() > 4 || !odd(e) || !odd(n) {
            return Err(JoseError::InvalidKey);
        }
        let exponent = e.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        if !(3..1 << 31).contains(&exponent) {
            return Err(JoseError::InvalidKey);
        }
        let rsa = RsaPublic { n: n.into(), e: e.into(), parsed: Default::default() };
        rsa.parsed(Algorithm::Rs256).ok_or(JoseError::InvalidKey)?;
        Ok(Self::Rsa(Box::new(rsa)))
    }

    /// Checks the length of both coordinates (RFC 7518 section 6.2.1.2: full length) and that the point is on the curve.
    pub(crate) fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, JoseError> {
        for (coordinate, name) in [(x, "x"), (y, "y")] {
            if coordinate.len() != curve.coordinate_len() {
                return Err(JoseError::KeyMember(name));
            }
        }
        let point = [&[4], x, y].concat();
        let parsed = ParsedPublicKey::new(curve.verification(), point).map_err(|_| JoseError::InvalidKey)?;
        Ok(Self::Ec { curve, x: x.into(), y: y.into(), parsed })
    }

    /// Checks the length. Whether the bytes are a point shows at verification: one that is none verifies nothing.
    pub(crate) fn ed25519(x: &[u8]) -> Result<Self, JoseError> {
        let x: [u8; 32] = x.try_into().map_err(|_| JoseError::KeyMember("x"))?;
        let parsed = ParsedPublicKey::new(&ED25519, x).map_err(|_| JoseError::InvalidKey)?;
        Ok(Self::Ed25519 { x, parsed })
    }

    /// The algorithms that may be used with the key; the first is the usual one.
    pub(crate) fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Self::Rsa(_) => &RSA_ALGORITHMS,
            Self::Ec { curve: Curve::P256, .. } => &[Algorithm::Es256],
            Self::Ec { curve: Curve::P384, .. } => &[Algorithm::Es384],
            Self::Ec { curve: Curve::P521, .. } => &[Algorithm::Es512],
            Self::Ed25519 { .. } => &[Algorithm::EdDsa],
        }
    }

    /// Whether `signature` is one of `message` under this key and algorithm. ECDSA signatures are `r || s` of fixed
    /// length (RFC 7518 section 3.4); the ASN.1 form fails here because its length differs.
    pub(crate) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), JoseError> {
        let parsed = match self {
            Self::Rsa(rsa) => rsa.parsed(algorithm),
            Self::Ec { curve, parsed, .. } => (curve.algorithm() == algorithm).then_some(parsed),
            Self::Ed25519 { parsed, .. } => (algorithm == Algorithm::EdDsa).then_some(parsed),
        };
        let parsed = parsed.ok_or(JoseError::AlgorithmKeyMismatch)?;
        parsed.verify_sig(message, signature).map_err(|_| JoseError::BadSignature)
    }
}

impl RsaPublic {
    /// The parsed form for `algorithm`, made at its first use; none when the algorithm is not one for RSA.
    fn parsed(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        let slot = self.parsed.get(RSA_ALGORITHMS.iter().position(|rsa| *rsa == algorithm)?)?;
        if let Some(parsed) = slot.get() {
            return Some(parsed);
        }
        let components = RsaPublicKeyComponents { n: &self.n, e: &self.e };
        let parsed = components.to_parsed_public_key(algorithm.rsa_verification()?).ok()?;
        Some(slot.get_or_init(|| parsed))
    }
}

fn strip_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
