//! Secrets at rest.
//!
//! A secret is stored as a [`Blob`]: in clear (base64url) without a key-encryption key, sealed with a data key when there
//! is one. Data keys (`data_keys`) are kept in the store themselves, wrapped by key-encryption keys (`wrap`, `vault`), which
//! are asked at start-up and in the background, and never for a record. Sealing derives a key of its own for every blob
//! from the data key and a random salt (HMAC-SHA-256), so that no number of writes exhausts a nonce space, and uses
//! AES-256-GCM with the record's kind, id and the field's name as associated data, so that a blob copied to another place
//! does not open there.
//!
//! Blobs carry the id of their data key. What carries an older one is sealed again as it is written, and by a sweep over
//! everything in the background (`sweep`).

mod data_keys;
mod sweep;
mod vault;
mod wrap;

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::{Rng, Secret};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use self::data_keys::{DataKey, Ring};
pub use self::{
    data_keys::{PUBLISH_BEFORE, SealingError, SealingState, Unlocked},
    sweep::{DataKeySummary, FieldCounts, KeyEncryptionKeySummary, SealingSummary, Sweep, SweepStep},
    vault::{VaultToken, VaultTransit, VaultTransitOptions},
    wrap::{KeyEncryption, KeyEncryptionKey, KeyEncryptionKeyError, KeyWrapper, WrapError, WrapFuture},
};
pub(crate) use self::{
    data_keys::{Sealing, inspect},
    sweep::clear_secrets,
};
use crate::{error::StoreError, kernel::Kind, store::Store};

const SALT_BYTES: usize = 24;
/// Longest part of a data key's id that is shown, in characters.
const MAX_SHOWN_ID: usize = 64;
const DERIVE: &[u8] = b"portcullis store seal v1";

/// The bytes of a data key.
pub type DataKeyBytes = Zeroizing<[u8; 32]>;

/// Bytes that must not be seen: redacted `Debug`, compared in constant time, wiped when dropped.
#[derive(Clone, Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes([redacted])")
    }
}

/// Where a secret lives: part of what its seal vouches for.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kind: Kind,
    pub(crate) id: &'a str,
    pub(crate) field: &'static str,
}

impl Place<'_> {
    fn associated(&self) -> Vec<u8> {
        format!("{}\0{}\0{}", self.kind.name(), self.field, self.id).into_bytes()
    }

    fn damaged(&self) -> StoreError {
        let what = format!("the secret in {} does not open", self.field);
        StoreError::Damaged { kind: self.kind, id: self.id.to_owned(), what }
    }
}

/// A stored secret: `p.<base64url>` in clear, `s.<data key id>.<base64url of salt and ciphertext>` sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Blob(String);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blob([redacted])")
    }
}

impl Blob {
    fn seal(key: Option<&DataKey>, rng: &Rng, place: Place<'_>, secret: &[u8]) -> Result<Self, StoreError> {
        let Some(key) = key else {
            return Ok(Self(format!("p.{}", URL_SAFE_NO_PAD.encode(secret))));
        };
        let salt: [u8; SALT_BYTES] = rng.bytes();
        let failed = || StoreError::Unwritable { kind: place.kind, what: "sealing failed".to_owned() };
        let mut body = Vec::with_capacity(SALT_BYTES + secret.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(secret);
        let aead = derive(key, &salt).ok_or_else(failed)?;
        aead.seal_in_place_append_tag(single_use_nonce(), Aad::from(place.associated()), &mut body)
            .map_err(|_| failed())?;
        body.splice(0..0, salt);
        Ok(Self(format!("s.{}.{}", key.id, URL_SAFE_NO_PAD.encode(&body))))
    }

    fn open(&self, ring: &Ring, place: Place<'_>) -> Result<SecretBytes, StoreError> {
        let damaged = || place.damaged();
        if let Some(clear) = self.0.strip_prefix("p.") {
            return URL_SAFE_NO_PAD.decode(clear).map(SecretBytes::from).map_err(|_| damaged());
        }
        let (id, body) = self.sealed().ok_or_else(damaged)?;
        let key = ring.find(id).ok_or_else(|| StoreError::MissingKey {
            kind: place.kind,
            id: place.id.to_owned(),
            key: id.chars().take(MAX_SHOWN_ID).collect(),
        })?;
        let mut body = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| damaged())?);
        let (salt, sealed) = body.split_at_mut_checked(SALT_BYTES).ok_or_else(damaged)?;
        let aead = derive(key, salt).ok_or_else(damaged)?;
        let clear =
            aead.open_in_place(single_use_nonce(), Aad::from(place.associated()), sealed).map_err(|_| damaged())?;
        Ok(SecretBytes::from(&*clear))
    }

    /// The data key's id, and what it sealed; `None` for a secret in clear, and for what is none of ours.
    fn sealed(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix("s.")?.split_once('.')
    }

    /// Whether the blob is as a new one would be: sealed with the current key, or in clear when there is none.
    fn is_current(&self, key: Option<&DataKey>) -> bool {
        match key {
            None => self.0.starts_with("p."),
            Some(key) => self.sealed().is_some_and(|(id, _)| id == key.id),
        }
    }
}

fn derive(key: &DataKey, salt: &[u8]) -> Option<LessSafeKey> {
    let mut context = hmac::Context::with_key(&key.key);
    context.update(DERIVE);
    context.update(salt);
    UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).ok().map(LessSafeKey::new)
}

impl Store {
    pub(crate) fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<Blob, StoreError> {
        let ring = self.sealing().ring();
        let key = ring.sealer(self.now()).map_err(|fenced| {
            // The background is to look at once.
            self.sealing().missed.notify_one();
            match fenced.unopened {
                Some(key) => StoreError::MissingKey { kind: place.kind, id: place.id.to_owned(), key },
                None => StoreError::StaleKeys { kind: place.kind },
            }
        })?;
        Blob::seal(key, self.rng(), place, secret)
    }

    pub(crate) fn unseal(&self, place: Place<'_>, blob: &Blob) -> Result<SecretBytes, StoreError> {
        let opened = blob.open(&self.sealing().ring(), place);
        if matches!(opened, Err(StoreError::MissingKey { .. })) {
            self.sealing().missed.notify_one();
        }
        opened
    }

    /// A secret that is text.
    pub(crate) fn unseal_text(&self, place: Place<'_>, blob: &Blob) -> Result<Secret, StoreError> {
        let bytes = self.unseal(place, blob)?;
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| place.damaged())?;
        Ok(Secret::new(text))
    }

    /// Seals again what was not written as a new secret would be.
    pub(crate) fn reseal(&self, place: Place<'_>, blob: Blob) -> Result<Blob, StoreError> {
        let ring = self.sealing().ring();
        let Ok(key) = ring.sealer(self.now()) else {
            // It stays as the others have left it, with the record that it stood in.
            return Ok(blob);
        };
        if blob.is_current(key) {
            return Ok(blob);
        }
        Blob::seal(key, self.rng(), place, self.unseal(place, &blob)?.expose())
    }
}

/// Every key is derived from a fresh salt and seals one message, so its nonce may be constant.
fn single_use_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use portcullis_runtime::Timestamp;

    use super::*;

    const PLACE: Place<'static> = Place { kind: Kind::Family, id: "f1", field: "key" };
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn ring(keys: &[(&str, u8)]) -> Ring {
        Ring::of(keys.iter().map(|(id, byte)| DataKey::new(id, Zeroizing::new([*byte; 32]), NOW)).collect())
    }

    fn seal(ring: &Ring, secret: &[u8]) -> Blob {
        Blob::seal(ring.current(NOW), &Rng::seeded(1), PLACE, secret).unwrap()
    }

    #[test]
    fn a_sealed_secret_opens_only_in_its_place_and_with_its_key() {
        let keys = ring(&[("a", 1)]);
        let blob = seal(&keys, b"secret");
        assert!(!blob.0.contains("c2VjcmV0"));
        assert_eq!(blob.open(&keys, PLACE).unwrap().expose(), b"secret");
        for place in
            [Place { id: "f2", ..PLACE }, Place { field: "other", ..PLACE }, Place { kind: Kind::Code, ..PLACE }]
        {
            assert!(matches!(blob.open(&keys, place), Err(StoreError::Damaged { .. })));
        }
        assert!(matches!(blob.open(&ring(&[("a", 2)]), PLACE), Err(StoreError::Damaged { .. })));
        assert!(matches!(blob.open(&ring(&[]), PLACE), Err(StoreError::MissingKey { key, .. }) if key == "a"));
    }

    #[test]
    fn an_older_key_opens_and_the_newest_one_seals() {
        let (before, after) = (ring(&[("a", 1)]), ring(&[("a", 1), ("b", 2)]));
        let blob = seal(&before, b"x");
        assert_eq!(blob.open(&after, PLACE).unwrap().expose(), b"x");
        let current = |ring: &Ring| blob.is_current(ring.current(NOW));
        assert!(current(&before) && !current(&after) && !current(&ring(&[])));
        assert!(matches!(seal(&after, b"x").open(&before, PLACE), Err(StoreError::MissingKey { .. })));
    }

    #[test]
    fn a_key_seals_when_its_time_has_come() {
        let later = NOW + std::time::Duration::from_secs(60);
        let keys = Ring::of(vec![
            DataKey::new("a", Zeroizing::new([1; 32]), NOW),
            DataKey::new("b", Zeroizing::new([2; 32]), later),
        ]);
        let sealing = |now| keys.current(now).map(|key| key.id.as_str());
        assert_eq!(sealing(NOW), Some("a"));
        assert_eq!(sealing(later), Some("b"));
        assert_eq!(sealing(NOW - std::time::Duration::from_secs(1)), None);
    }

    #[test]
    fn clear_secrets_open_with_and_without_a_key_so_that_sealing_can_be_switched_on() {
        let (without, with) = (ring(&[]), ring(&[("a", 1)]));
        let blob = seal(&without, b"x");
        assert_eq!(blob.open(&without, PLACE).unwrap(), blob.open(&with, PLACE).unwrap());
        assert!(blob.is_current(without.current(NOW)) && !blob.is_current(with.current(NOW)));
    }

    #[test]
    fn broken_blobs_are_damage_and_never_a_panic() {
        let keys = ring(&[("a", 1)]);
        let whole = seal(&keys, b"secret").0;
        for length in 0..whole.len() {
            let result = Blob(whole[..length].to_owned()).open(&keys, PLACE);
            assert!(matches!(result, Err(StoreError::Damaged { .. } | StoreError::MissingKey { .. })), "{length}");
        }
        for text in ["", "x", "p.!", "s.", "s.a", "s.a.", "s.a.!", "q.a.b"] {
            let result = Blob(text.to_owned()).open(&keys, PLACE);
            assert!(matches!(result, Err(StoreError::Damaged { .. })), "{text}");
        }
        let long = Blob(format!("s.{}.x", "k".repeat(10_000))).open(&keys, PLACE).unwrap_err();
        assert!(long.to_string().len() < 300, "{long}");
    }

    #[test]
    fn nothing_secret_is_in_debug_output() {
        let text = format!("{:?} {:?}", SecretBytes::from(&b"abc"[..]), Blob("p.YWJj".to_owned()));
        assert!(!text.contains("abc") && !text.contains("YWJj"), "{text}");
    }
}
