//! Secrets at rest.
//!
//! A secret is stored as a [`Blob`]: in clear (base64url) without a key-encryption key, sealed with one. Sealing derives
//! a key of its own for every blob from the key-encryption key and a random salt (HMAC-SHA-256), so that no number of
//! writes exhausts a nonce space, and uses AES-256-GCM with the record's kind, id and the field's name as associated
//! data, so that a blob copied to another place does not open there.
//!
//! Blobs carry the id of their key: new ones use the current key, old ones open under older keys that are still given.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::Rng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{error::StoreError, kernel::Kind};

const SALT_BYTES: usize = 24;
const DERIVE: &[u8] = b"portcullis store seal v1";
const MAX_KEY_ID_BYTES: usize = 64;

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

/// A key that seals the store's secrets.
#[derive(Clone)]
pub struct KeyEncryptionKey {
    id: String,
    key: hmac::Key,
}

/// Why a key-encryption key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyEncryptionKeyError {
    /// The id is not 1 to 64 letters, digits, `-` or `_`.
    #[error("a key-encryption key's id has 1 to {MAX_KEY_ID_BYTES} letters, digits, - or _")]
    Id,
    /// The key has not 32 bytes.
    #[error("a key-encryption key has 32 bytes, this one {bytes}")]
    Length {
        /// What it has.
        bytes: usize,
    },
}

impl KeyEncryptionKey {
    /// Takes a key of 32 random bytes under an id that tells it from its predecessors.
    ///
    /// # Errors
    /// [`KeyEncryptionKeyError`].
    pub fn new(id: impl Into<String>, key: &[u8]) -> Result<Self, KeyEncryptionKeyError> {
        let id = id.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if id.is_empty() || id.len() > MAX_KEY_ID_BYTES || !id.bytes().all(plain) {
            return Err(KeyEncryptionKeyError::Id);
        }
        if key.len() != 32 {
            return Err(KeyEncryptionKeyError::Length { bytes: key.len() });
        }
        Ok(Self { id, key: hmac::Key::new(hmac::HMAC_SHA256, key) })
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn derive(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(DERIVE);
        context.update(salt);
        UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).ok().map(LessSafeKey::new)
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEncryptionKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The key-encryption keys of a store: one seals, the others still open.
#[derive(Clone, Debug)]
pub struct KeyEncryption {
    /// Seals everything that is written.
    pub current: KeyEncryptionKey,
    /// Open what was sealed before.
    pub older: Vec<KeyEncryptionKey>,
}

impl KeyEncryption {
    fn find(&self, id: &str) -> Option<&KeyEncryptionKey> {
        std::iter::once(&self.current).chain(&self.older).find(|key| key.id == id)
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

/// A stored secret: `p.<base64url>` in clear, `s.<key id>.<base64url of salt and ciphertext>` sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Blob(String);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blob([redacted])")
    }
}

impl Blob {
    pub(crate) fn seal(
        keys: Option<&KeyEncryption>,
        rng: &Rng,
        place: Place<'_>,
        secret: &[u8],
    ) -> Result<Self, StoreError> {
        let Some(KeyEncryption { current, .. }) = keys else {
            return Ok(Self(format!("p.{}", URL_SAFE_NO_PAD.encode(secret))));
        };
        let salt: [u8; SALT_BYTES] = rng.bytes();
        let failed = || StoreError::Unwritable { kind: place.kind, what: "sealing failed".to_owned() };
        let mut body = Vec::with_capacity(SALT_BYTES + secret.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(secret);
        let key = current.derive(&salt).ok_or_else(failed)?;
        key.seal_in_place_append_tag(single_use_nonce(), Aad::from(place.associated()), &mut body)
            .map_err(|_| failed())?;
        body.splice(0..0, salt);
        Ok(Self(format!("s.{}.{}", current.id, URL_SAFE_NO_PAD.encode(&body))))
    }

    pub(crate) fn open(&self, keys: Option<&KeyEncryption>, place: Place<'_>) -> Result<SecretBytes, StoreError> {
        let damaged = || place.damaged();
        if let Some(clear) = self.0.strip_prefix("p.") {
            return URL_SAFE_NO_PAD.decode(clear).map(SecretBytes::from).map_err(|_| damaged());
        }
        let (id, body) = self.0.strip_prefix("s.").and_then(|rest| rest.split_once('.')).ok_or_else(damaged)?;
        let key = keys.and_then(|keys| keys.find(id)).ok_or_else(|| StoreError::MissingKey {
            kind: place.kind,
            id: place.id.to_owned(),
            key: id.to_owned(),
        })?;
        let mut body = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| damaged())?);
        let (salt, sealed) = body.split_at_mut_checked(SALT_BYTES).ok_or_else(damaged)?;
        let key = key.derive(salt).ok_or_else(damaged)?;
        let clear =
            key.open_in_place(single_use_nonce(), Aad::from(place.associated()), sealed).map_err(|_| damaged())?;
        Ok(SecretBytes::from(&*clear))
    }

    /// Whether the blob is as a new one would be: sealed with the current key, or in clear when there is none.
    pub(crate) fn is_current(&self, keys: Option<&KeyEncryption>) -> bool {
        match keys {
            None => self.0.starts_with("p."),
            Some(keys) => self
                .0
                .strip_prefix("s.")
                .and_then(|rest| rest.split_once('.'))
                .is_some_and(|(id, _)| id == keys.current.id),
        }
    }
}

/// Every key is derived from a fresh salt and seals one message, so its nonce may be constant.
fn single_use_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { kind: Kind::Family, id: "f1", field: "key" };

    fn key(id: &str, byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::new(id, &[byte; 32]).unwrap()
    }

    #[test]
    fn a_sealed_secret_opens_only_in_its_place_and_with_its_key() {
        let keys = KeyEncryption { current: key("a", 1), older: vec![] };
        let blob = Blob::seal(Some(&keys), &Rng::seeded(1), PLACE, b"secret").unwrap();
        assert!(!blob.0.contains("c2VjcmV0"));
        assert_eq!(blob.open(Some(&keys), PLACE).unwrap().expose(), b"secret");
        for place in
            [Place { id: "f2", ..PLACE }, Place { field: "other", ..PLACE }, Place { kind: Kind::Code, ..PLACE }]
        {
            assert!(matches!(blob.open(Some(&keys), place), Err(StoreError::Damaged { .. })));
        }
        let same_id = KeyEncryption { current: key("a", 2), older: vec![] };
        assert!(matches!(blob.open(Some(&same_id), PLACE), Err(StoreError::Damaged { .. })));
        assert!(matches!(blob.open(None, PLACE), Err(StoreError::MissingKey { key, .. }) if key == "a"));
    }

    #[test]
    fn an_older_key_opens_and_the_current_one_seals() {
        let before = KeyEncryption { current: key("a", 1), older: vec![] };
        let after = KeyEncryption { current: key("b", 2), older: vec![key("a", 1)] };
        let blob = Blob::seal(Some(&before), &Rng::seeded(1), PLACE, b"x").unwrap();
        assert_eq!(blob.open(Some(&after), PLACE).unwrap().expose(), b"x");
        assert!(blob.is_current(Some(&before)) && !blob.is_current(Some(&after)) && !blob.is_current(None));
        let blob = Blob::seal(Some(&after), &Rng::seeded(1), PLACE, b"x").unwrap();
        assert!(matches!(blob.open(Some(&before), PLACE), Err(StoreError::MissingKey { .. })));
    }

    #[test]
    fn clear_secrets_open_with_and_without_a_key_so_that_sealing_can_be_switched_on() {
        let blob = Blob::seal(None, &Rng::seeded(1), PLACE, b"x").unwrap();
        let keys = KeyEncryption { current: key("a", 1), older: vec![] };
        assert_eq!(blob.open(None, PLACE).unwrap(), blob.open(Some(&keys), PLACE).unwrap());
        assert!(blob.is_current(None) && !blob.is_current(Some(&keys)));
    }

    #[test]
    fn broken_blobs_are_damage_and_never_a_panic() {
        let keys = KeyEncryption { current: key("a", 1), older: vec![] };
        let whole = Blob::seal(Some(&keys), &Rng::seeded(1), PLACE, b"secret").unwrap().0;
        for length in 0..whole.len() {
            let result = Blob(whole[..length].to_owned()).open(Some(&keys), PLACE);
            assert!(matches!(result, Err(StoreError::Damaged { .. } | StoreError::MissingKey { .. })), "{length}");
        }
        for text in ["", "x", "p.!", "s.", "s.a", "s.a.", "s.a.!", "q.a.b"] {
            assert!(
                matches!(Blob(text.to_owned()).open(Some(&keys), PLACE), Err(StoreError::Damaged { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn keys_of_the_wrong_size_or_with_odd_ids_are_refused() {
        assert_eq!(KeyEncryptionKey::new("a", &[0; 31]).unwrap_err(), KeyEncryptionKeyError::Length { bytes: 31 });
        for id in ["", "a.b", "ä", &"a".repeat(65)] {
            assert_eq!(KeyEncryptionKey::new(id, &[0; 32]).unwrap_err(), KeyEncryptionKeyError::Id);
        }
    }

    #[test]
    fn nothing_secret_is_in_debug_output() {
        let text = format!("{:?} {:?} {:?}", SecretBytes::from(&b"abc"[..]), key("a", 7), Blob("p.YWJj".to_owned()));
        assert!(!text.contains("abc") && !text.contains("YWJj") && !text.contains('7'), "{text}");
    }
}
