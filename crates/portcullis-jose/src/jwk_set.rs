//! Key sets (RFC 7517 section 5): what an issuer publishes at its `jwks_uri`.
//!
//! A set may hold keys that we cannot use. [`UnknownKeys`] says what that means for the others.

use std::fmt;

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{json, value::RawValue};

use crate::{
    JoseError, Limits, PublicJwk,
    base64url::base64url_decode_as_go,
    go_jose,
    jwk::{KeyHints, parse_raw},
    raw_jwk::{BorrowedStr, RawJwk},
};

/// What a key that cannot be read does to its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownKeys {
    /// It is left out (RFC 7517 section 5: "Implementations SHOULD ignore JWKs within a JWK Set that use `kty` values
    /// that are not understood").
    Skip,
    /// The whole set is refused, and a missing `keys` is an empty set.
    /// Compat: go-jose v2 as kube-apiserver 1.37 uses it: unknown type or curve, missing or malformed members. Symmetric
    /// keys, private ones, and RSA or Ed25519 keys that merely cannot verify anything, are left out. Not mirrored: the
    /// certificates of a chain (`x5c`) are not parsed or compared with the key, and the halves of a private key are not
    /// compared; Go refuses the set where they do not fit.
    RejectSet,
}

/// An immutable set of public keys.
#[derive(Clone, Debug, Default)]
pub struct JwkSet {
    keys: Vec<PublicJwk>,
    skipped: usize,
    hints: KeyHints,
}

impl JwkSet {
    /// Reads a set.
    ///
    /// # Errors
    /// [`JoseError::SetTooLarge`], [`JoseError::TooManyKeys`], [`JoseError::SetJson`], and with [`UnknownKeys::RejectSet`] that of
    /// the first key that go-jose would refuse the set for.
    pub fn parse(json: &[u8], unknown: UnknownKeys, limits: &Limits) -> Result<Self, JoseError> {
        if json.len() > limits.set_bytes {
            return Err(JoseError::SetTooLarge { limit: limits.set_bytes });
        }
        let mut refusal = None;
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let raw_keys = deserializer
            .deserialize_any(SetVisitor { max: limits.set_keys, refusal: &mut refusal })
            .and_then(|keys| deserializer.end().map(|()| keys))
            .map_err(|_| refusal.unwrap_or(JoseError::SetJson))?;
        let raw_keys = match (raw_keys, unknown) {
            (Some(keys), _) => keys,
            (None, UnknownKeys::RejectSet) => Vec::new(),
            (None, UnknownKeys::Skip) => return Err(JoseError::SetJson),
        };

        let mut set = Self::default();
        for raw in raw_keys {
            match read_key(raw, unknown, limits) {
                Ok(key) => set.keys.push(key),
                Err(Unusable { reason, go_jose_refuses: true }) if unknown == UnknownKeys::RejectSet => {
                    return Err(reason);
                }
                Err(_) => set.skipped += 1,
            }
        }
        Ok(set)
    }

    /// A set of keys that are already parsed.
    pub fn from_keys(keys: Vec<PublicJwk>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// The same set with another attitude to the keys' `alg` and `use` (default: [`KeyHints::Enforce`]).
    #[must_use]
    pub fn with_hints(self, hints: KeyHints) -> Self {
        Self { hints, ..self }
    }

    /// The usable keys in the order of the document.
    pub fn keys(&self) -> &[PublicJwk] {
        &self.keys
    }

    /// How many keys were left out because they cannot be used.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Whether `alg` and `use` of the keys are enforced.
    pub fn hints(&self) -> KeyHints {
        self.hints
    }

    /// The set as a compact JSON document.
    pub fn to_json_string(&self) -> String {
        json!({ "keys": self.keys.iter().map(PublicJwk::to_json).collect::<Vec<_>>() }).to_string()
    }
}

struct Unusable {
    reason: JoseError,
    go_jose_refuses: bool,
}

fn read_key(raw: &RawValue, unknown: UnknownKeys, limits: &Limits) -> Result<PublicJwk, Unusable> {
    let refused = |reason| Unusable { reason, go_jose_refuses: true };
    let text = raw.get();
    let raw = parse_raw(text.as_bytes()).map_err(refused)?;
    if unknown == UnknownKeys::RejectSet {
        go_jose::check(&raw).and_then(|()| go_jose::check_names(text)).map_err(refused)?;
    }
    let kty = raw.kty.as_ref().map_or("", BorrowedStr::as_str);
    // Where a private key is published, Go reads it whole; here it is asked for its members alone.
    if kty == "RSA" && raw.d.is_some() && (raw.p.is_none() || raw.q.is_none()) {
        return Err(refused(JoseError::MissingKeyMember("p")));
    }
    let key = PublicJwk::from_raw(&raw, limits).map_err(|reason| {
        let go_jose_refuses = match (&reason, kty) {
            (JoseError::UnknownKeyType(_), "oct") => raw.k.is_none(),
            // Go makes an RSA key of any two numbers and an Ed25519 key of any bytes, and lets the verification fail.
            (JoseError::InvalidKey | JoseError::KeyMember("n" | "e"), "RSA") | (JoseError::KeyMember("x"), "OKP") => {
                is_invalid_base64url(&raw)
            }
            (JoseError::RsaModulusSize { .. } | JoseError::KidTooLong { .. }, _) => false,
            _ => true,
        };
        Unusable { reason, go_jose_refuses }
    })?;
    // Compat: go-jose makes a private key of it, with which it verifies nothing. Whoever reads the set could sign with it.
    if raw.d.is_some() { Err(Unusable { reason: JoseError::PrivateKey, go_jose_refuses: false }) } else { Ok(key) }
}

fn is_invalid_base64url(raw: &RawJwk<'_>) -> bool {
    [&raw.n, &raw.e, &raw.x].into_iter().flatten().any(|member| base64url_decode_as_go(member.as_str()).is_none())
}

/// Collects the elements of `keys` unparsed, and stops at the first one over the limit.
struct SetVisitor<'r> {
    max: usize,
    refusal: &'r mut Option<JoseError>,
}

impl<'de> Visitor<'de> for SetVisitor<'_> {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JWK set object")
    }

    /// Compat: Go decodes `null` into an empty set.
    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut keys = None;
        while let Some(BorrowedStr(name)) = map.next_key()? {
            if name != "keys" {
                map.next_value::<IgnoredAny>()?;
            } else if keys.is_some() {
                return Err(A::Error::custom("keys twice"));
            } else {
                keys = map.next_value_seed(Keys { max: self.max, refusal: &mut *self.refusal })?;
            }
        }
        Ok(keys)
    }
}

struct Keys<'r> {
    max: usize,
    refusal: &'r mut Option<JoseError>,
}

impl<'de> serde::de::DeserializeSeed<'de> for Keys<'_> {
    type Value = Option<Vec<&'de RawValue>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of keys")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = seq.next_element::<&'de RawValue>()? {
            if keys.len() == self.max {
                *self.refusal = Some(JoseError::TooManyKeys { limit: self.max });
                return Err(A::Error::custom("too many keys"));
            }
            keys.push(key);
        }
        Ok(Some(keys))
    }
}
