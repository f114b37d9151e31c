//! Private keys: generation, import, export and signing.
//!
//! A key is parsed once and shared by its clones. The library wipes its private numbers when the last clone goes; every
//! copy that this module makes on the way in or out is wiped too. Nothing private is ever in `Debug` or in an error.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

use crate::{
    Algorithm, Curve, JoseError, Limits, PublicJwk,
    jwk::{member, parse_raw},
    material::Material,
    raw_jwk::{BorrowedStr, RawJwk},
};

/// The kinds of key that can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA, 2048 bits. Generation takes 20 to 150 ms of CPU.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// RSA, 4096 bits.
    Rsa4096,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

/// A private key with its id.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    pair: Pair,
    public: PublicJwk,
    kid: String,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Makes a new key from the cryptographic library's own randomness.
    ///
    /// # Errors
    /// [`JoseError::Crypto`] when the library fails, [`JoseError::KidTooLong`].
    pub fn generate(kind: KeyKind, kid: String) -> Result<Self, JoseError> {
        let rsa = |size| RsaKeyPair::generate(size).map(Pair::Rsa);
        let ec = |curve: Curve| EcdsaKeyPair::generate(curve.signing()).map(|pair| Pair::Ec(curve, pair));
        let pair = match kind {
            KeyKind::Rsa2048 => rsa(KeySize::Rsa2048),
            KeyKind::Rsa3072 => rsa(KeySize::Rsa3072),
            KeyKind::Rsa4096 => rsa(KeySize::Rsa4096),
            KeyKind::P256 => ec(Curve::P256),
            KeyKind::P384 => ec(Curve::P384),
            KeyKind::P521 => ec(Curve::P521),
            KeyKind::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
        };
        Self::new(pair.map_err(|_| JoseError::Crypto)?, kid)
    }

    /// Reads an unencrypted PKCS#8 key (RFC 5958) of any supported kind.
    ///
    /// # Errors
    /// [`JoseError::PrivateKeyFormat`] for anything else, [`JoseError::RsaModulusSize`], [`JoseError::InvalidKey`],
    /// [`JoseError::KidTooLong`].
    pub fn from_pkcs8_der(der: &[u8], kid: String) -> Result<Self, JoseError> {
        let pair = RsaKeyPair::from_pkcs8(der)
            .map(Pair::Rsa)
            .or_else(|_| Ed25519KeyPair::from_pkcs8(der).map(Pair::Ed25519))
            .or_else(|_| ec_from_pkcs8(der))?;
        Self::new(pair, kid)
    }

    /// Reads the first `PRIVATE KEY` block of a PEM text (RFC 7468).
    ///
    /// # Errors
    /// [`JoseError::PrivateKeyFormat`] when there is none, and those of [`Self::from_pkcs8_der`].
    pub fn from_pkcs8_pem(pem: &str, kid: String) -> Result<Self, JoseError> {
        const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
        const END: &str = "-----END PRIVATE KEY-----";
        let body = pem.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(body, _)| body);
        let body = body.ok_or(JoseError::PrivateKeyFormat)?;
        let compact: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
        let der = STANDARD.decode(compact.as_bytes()).map_err(|_| JoseError::PrivateKeyFormat)?;
        Self::from_pkcs8_der(&Zeroizing::new(der), kid)
    }

    /// Reads a private JWK. RSA keys need all of `d`, `p`, `q`, `dp`, `dq`, `qi` and no `oth`; the halves of a key must
    /// fit. A key without `kid` gets its thumbprint as id.
    ///
    /// # Errors
    /// Those of [`PublicJwk::parse`] for the public half; for the private one [`JoseError::MissingKeyMember`],
    /// [`JoseError::KeyMember`], [`JoseError::InvalidKey`].
    pub fn from_jwk(json: &[u8]) -> Result<Self, JoseError> {
        let raw = parse_raw(json)?;
        let public = PublicJwk::from_raw(&raw, &Limits::default())?;
        let pair = match raw.kty.as_ref().map(BorrowedStr::as_str) {
            Some("RSA") => rsa_from_jwk(&raw)?,
            Some("EC") => {
                let curve = raw.crv.as_ref().and_then(|crv| Curve::from_name(crv.as_str()));
                let curve = curve.ok_or(JoseError::PrivateKeyFormat)?;
                let d = secret(raw.d.as_ref(), "d")?;
                if d.len() != curve.coordinate_len() {
                    return Err(JoseError::KeyMember("d"));
                }
                let point = [vec![4], member(raw.x.as_ref(), "x")?, member(raw.y.as_ref(), "y")?].concat();
                let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &d, &point);
                Pair::Ec(curve, pair.map_err(|_| JoseError::InvalidKey)?)
            }
            _ => {
                let (seed, x) = (secret(raw.d.as_ref(), "d")?, member(raw.x.as_ref(), "x")?);
                if seed.len() != 32 {
                    return Err(JoseError::KeyMember("d"));
                }
                let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &x);
                Pair::Ed25519(pair.map_err(|_| JoseError::InvalidKey)?)
            }
        };
        let kid = public.kid().map_or_else(|| public.thumbprint(), str::to_owned);
        Self::new(pair, kid)
    }

    fn new(pair: Pair, kid: String) -> Result<Self, JoseError> {
        let limit = Limits::default().kid_bytes;
        if kid.len() > limit {
            return Err(JoseError::KidTooLong { limit });
        }
        let material = match &pair {
            Pair::Rsa(pair) => {
                let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
                Material::rsa(n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero())?
            }
            Pair::Ec(curve, pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point
                    .get(1..)
                    .and_then(|coordinates| coordinates.split_at_checked(curve.coordinate_len()))
                    .ok_or(JoseError::InvalidKey)?;
                Material::ec(*curve, x, y)?
            }
            Pair::Ed25519(pair) => Material::ed25519(pair.public_key().as_ref())?,
        };
        let public = PublicJwk::from_material(material);
        let alg = public.algorithms().first().map(|algorithm| algorithm.name());
        let public = public.with(Some(&kid), alg, Some("sig"));
        Ok(Self(Arc::new(Inner { pair, public, kid })))
    }

    /// The key as PKCS#8. The bytes are wiped when dropped.
    ///
    /// # Errors
    /// [`JoseError::Crypto`] when the cryptographic library fails.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, JoseError> {
        let crypto = |_| JoseError::Crypto;
        Ok(Zeroizing::new(match &self.0.pair {
            Pair::Rsa(pair) => pair.as_der().map_err(crypto)?.as_ref().to_vec(),
            Pair::Ec(_, pair) => pair.to_pkcs8v1().map_err(crypto)?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map_err(crypto)?.as_ref().to_vec(),
        }))
    }

    /// The key id.
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// RS256 for RSA, the curve's algorithm otherwise.
    pub fn default_algorithm(&self) -> Algorithm {
        match &self.0.pair {
            Pair::Rsa(_) => Algorithm::Rs256,
            Pair::Ec(curve, _) => curve.algorithm(),
            Pair::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// The public half, with key id, default algorithm and `use: sig`.
    pub fn public(&self) -> &PublicJwk {
        &self.0.public
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// [`JoseError::AlgorithmNotForKey`], [`JoseError::Crypto`].
    pub fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, JoseError> {
        let rng = SystemRandom::new();
        let mismatch = JoseError::AlgorithmNotForKey(algorithm);
        match &self.0.pair {
            Pair::Rsa(pair) => {
                let encoding = algorithm.rsa_signing().ok_or(mismatch)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &rng, message, &mut signature).map_err(|_| JoseError::Crypto)?;
                Ok(signature)
            }
            Pair::Ec(curve, pair) if curve.algorithm() == algorithm => {
                pair.sign(&rng, message).map(|signature| signature.as_ref().to_vec()).map_err(|_| JoseError::Crypto)
            }
            Pair::Ed25519(pair) if algorithm == Algorithm::EdDsa => {
                pair.try_sign(message).map(|signature| signature.as_ref().to_vec()).map_err(|_| JoseError::Crypto)
            }
            Pair::Ec(..) | Pair::Ed25519(_) => Err(mismatch),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.0.kid)
            .field("algorithm", &self.default_algorithm())
            .finish_non_exhaustive()
    }
}

/// Signs `payload` as a compact JWS. The header has the members `alg` and `kid`, then `typ` when given (Dex writes no
/// `typ`; RFC 9068 access tokens have one).
///
/// # Errors
/// Those of [`SigningKey::sign`].
pub fn sign_compact(
    key: &SigningKey,
    algorithm: Algorithm,
    typ: Option<&str>,
    payload: &[u8],
) -> Result<String, JoseError> {
    #[derive(serde::Serialize)]
    struct Header<'a> {
        alg: &'static str,
        kid: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        typ: Option<&'a str>,
    }
    let header = serde_json::to_vec(&Header { alg: algorithm.name(), kid: key.kid(), typ });
    let header = header.map_err(|_| JoseError::Crypto)?;
    let mut token = String::with_capacity((header.len() + payload.len()) * 4 / 3 + 700);
    URL_SAFE_NO_PAD.encode_string(header, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.sign(algorithm, token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

fn ec_from_pkcs8(der: &[u8]) -> Result<Pair, JoseError> {
    [Curve::P256, Curve::P384, Curve::P521]
        .into_iter()
        .find_map(|curve| EcdsaKeyPair::from_pkcs8(curve.signing(), der).ok().map(|pair| Pair::Ec(curve, pair)))
        .ok_or(JoseError::PrivateKeyFormat)
}

fn rsa_from_jwk(raw: &RawJwk<'_>) -> Result<Pair, JoseError> {
    use aws_lc_rs::{rsa::KeyPairComponents, signature::RsaPublicKeyComponents};

    if raw.oth.is_some() {
        return Err(JoseError::KeyMember("oth"));
    }
    let (n, e) = (member(raw.n.as_ref(), "n")?, member(raw.e.as_ref(), "e")?);
    let components = KeyPairComponents {
        public_key: RsaPublicKeyComponents {
            n: n.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>(),
            e: e.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>(),
        },
        d: secret(raw.d.as_ref(), "d")?,
        p: secret(raw.p.as_ref(), "p")?,
        q: secret(raw.q.as_ref(), "q")?,
        dP: secret(raw.dp.as_ref(), "dp")?,
        dQ: secret(raw.dq.as_ref(), "dq")?,
        qInv: secret(raw.qi.as_ref(), "qi")?,
    };
    RsaKeyPair::from_components(&components).map(Pair::Rsa).map_err(|_| JoseError::InvalidKey)
}

/// A private member, in a buffer that is wiped.
fn secret(text: Option<&BorrowedStr<'_>>, name: &'static str) -> Result<SecretBytes, JoseError> {
    member(text, name).map(|bytes| SecretBytes(Zeroizing::new(bytes)))
}

/// `Zeroizing<Vec<u8>>` does not lend itself as `AsRef<[u8]>` unambiguously; this does.
struct SecretBytes(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
