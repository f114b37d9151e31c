//! Public JSON Web Keys: reading, writing and thumbprints (RFC 7517, RFC 7518 section 6, RFC 7638, RFC 8037).
//!
//! A key is checked and parsed when it is made; afterwards it is cheap to clone and to verify with. Private members of
//! a published key are ignored, never kept.

use std::sync::Arc;

use aws_lc_rs::digest;
use serde_json::{Map, Value};

use crate::{
    Algorithm, Curve, JoseError, Limits,
    base64url::{base64url_encode, decode_key_member},
    error::bounded,
    material::Material,
    raw_jwk::{BorrowedStr, RawJwk},
};

/// A public key for verifying signatures, with the names that its publisher gave it.
#[derive(Clone, Debug)]
pub struct PublicJwk {
    material: Arc<Material>,
    kid: Option<Arc<str>>,
    alg: Option<Arc<str>>,
    use_: Option<Arc<str>>,
}

/// Whether the members `alg` and `use` of a key limit what it may verify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyHints {
    /// They do: a key marked RS256 does not verify PS256, one marked `enc` verifies nothing (RFC 7517 sections 4.2, 4.4).
    #[default]
    Enforce,
    /// They are ignored, as kube-apiserver (go-jose v2) does. Key type and curve still limit the algorithm.
    Ignore,
}

impl PublicJwk {
    /// Reads one key. A private key is read as its public half.
    ///
    /// # Errors
    /// [`JoseError`] naming the member that is missing or malformed, the unknown type or curve, the limit that is passed, or the
    /// reason why the numbers are no key.
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Self, JoseError> {
        if json.len() > limits.set_bytes {
            return Err(JoseError::SetTooLarge { limit: limits.set_bytes });
        }
        Self::from_raw(&parse_raw(json)?, limits)
    }

    pub(crate) fn from_raw(raw: &RawJwk<'_>, limits: &Limits) -> Result<Self, JoseError> {
        if raw.kid.as_ref().is_some_and(|kid| kid.as_str().len() > limits.kid_bytes) {
            return Err(JoseError::KidTooLong { limit: limits.kid_bytes });
        }
        let material = match raw.kty.as_ref().map_or("", BorrowedStr::as_str) {
            "RSA" => Material::rsa(&member(raw.n.as_ref(), "n")?, &member(raw.e.as_ref(), "e")?)?,
            "EC" => {
                let name = raw.crv.as_ref().map_or("", BorrowedStr::as_str);
                let curve = Curve::from_name(name).ok_or_else(|| JoseError::UnknownCurve(bounded(name)))?;
                Material::ec(curve, &member(raw.x.as_ref(), "x")?, &member(raw.y.as_ref(), "y")?)?
            }
            "OKP" => match raw.crv.as_ref().map_or("", BorrowedStr::as_str) {
                "Ed25519" => Material::ed25519(&member(raw.x.as_ref(), "x")?)?,
                other => return Err(JoseError::UnknownCurve(bounded(other))),
            },
            other => return Err(JoseError::UnknownKeyType(bounded(other))),
        };
        let text = |member: &Option<BorrowedStr<'_>>| member.as_ref().map(|text| Arc::from(text.as_str()));
        Ok(Self { material: Arc::new(material), kid: text(&raw.kid), alg: text(&raw.alg), use_: text(&raw.use_) })
    }

    pub(crate) fn from_material(material: Material) -> Self {
        Self { material: Arc::new(material), kid: None, alg: None, use_: None }
    }

    /// The same key under other names.
    #[must_use]
    pub fn with(&self, kid: Option<&str>, alg: Option<&str>, use_: Option<&str>) -> Self {
        let material = Arc::clone(&self.material);
        Self { material, kid: kid.map(Arc::from), alg: alg.map(Arc::from), use_: use_.map(Arc::from) }
    }

    /// The key id.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithm that the publisher intends, as written.
    pub fn alg(&self) -> Option<&str> {
        self.alg.as_deref()
    }

    /// The use that the publisher intends (`sig`, `enc`), as written.
    pub fn use_(&self) -> Option<&str> {
        self.use_.as_deref()
    }

    /// The algorithms that the key's type and curve allow; the first is the usual one.
    pub fn algorithms(&self) -> &'static [Algorithm] {
        self.material.algorithms()
    }

    /// Whether the key may verify `algorithm`.
    pub fn can_verify(&self, algorithm: Algorithm, hints: KeyHints) -> bool {
        self.algorithms().contains(&algorithm)
            && match hints {
                KeyHints::Ignore => true,
                KeyHints::Enforce => {
                    self.alg().is_none_or(|alg| alg == algorithm.name()) && self.use_().is_none_or(|use_| use_ == "sig")
                }
            }
    }

    /// Checks a raw signature.
    ///
    /// # Errors
    /// [`JoseError::AlgorithmKeyMismatch`], [`JoseError::BadSignature`].
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), JoseError> {
        self.material.verify(algorithm, message, signature)
    }

    /// The key as JSON: `use`, `kty`, `kid`, `alg`, then the numbers, absent names left out.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        let mut put = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                json.insert(name.to_owned(), value.into());
            }
        };
        let mut numbers = self.required_members();
        numbers.sort_by_key(|(name, _)| ["n", "e", "crv", "x", "y"].iter().position(|known| known == name));
        put("use", self.use_());
        put("kty", numbers.iter().find(|(name, _)| *name == "kty").map(|(_, value)| value.as_str()));
        put("kid", self.kid());
        put("alg", self.alg());
        for (name, value) in numbers.iter().filter(|(name, _)| *name != "kty") {
            put(name, Some(value));
        }
        Value::Object(json)
    }

    /// The SHA-256 thumbprint of RFC 7638 (RFC 8037 section 2 for Ed25519) as base64url.
    pub fn thumbprint(&self) -> String {
        // All members are base64url or fixed names, so no character needs escaping.
        let members: Vec<_> = self.required_members().iter().map(|(k, v)| format!("\"{k}\":\"{v}\"")).collect();
        let canonical = format!("{{{}}}", members.join(","));
        base64url_encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    }

    /// The members that RFC 7638 section 3.2 requires, in lexicographic order.
    fn required_members(&self) -> Vec<(&'static str, String)> {
        match &*self.material {
            Material::Rsa(rsa) => {
                vec![("e", base64url_encode(&rsa.e)), ("kty", "RSA".into()), ("n", base64url_encode(&rsa.n))]
            }
            Material::Ec { curve, x, y, .. } => vec![
                ("crv", curve.name().into()),
                ("kty", "EC".into()),
                ("x", base64url_encode(x)),
                ("y", base64url_encode(y)),
            ],
            Material::Ed25519 { x, .. } => {
                vec![("crv", "Ed25519".into()), ("kty", "OKP".into()), ("x", base64url_encode(x))]
            }
        }
    }
}

/// Equal when the numbers are; names do not count.
impl PartialEq for PublicJwk {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.material, &other.material) || self.required_members() == other.required_members()
    }
}

pub(crate) fn parse_raw(json: &[u8]) -> Result<RawJwk<'_>, JoseError> {
    // Serde would also read the members from a list, in the order of our struct.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(JoseError::KeyJson);
    }
    serde_json::from_slice(json).map_err(|_| JoseError::KeyJson)
}

pub(crate) fn member(text: Option<&BorrowedStr<'_>>, name: &'static str) -> Result<Vec<u8>, JoseError> {
    decode_key_member(text.ok_or(JoseError::MissingKeyMember(name))?.as_str(), name)
}
