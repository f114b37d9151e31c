//! Key-encryption keys: what wraps the store's data keys, and never anything else.
//!
//! A [`KeyWrapper`] is one such key, wherever it is kept. [`KeyEncryptionKey`] is one whose bytes this process has been
//! given; [`VaultTransit`](super::vault::VaultTransit) is one that stays in Vault.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, UnboundKey},
    hmac,
};
use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};
use portcullis_runtime::{Rng, Secret, Timestamp};
use zeroize::Zeroizing;

use super::{DataKeyBytes, SALT_BYTES, single_use_nonce};

const DERIVE: &[u8] = b"portcullis data key wrap v1";
const NAME: &[u8] = b"portcullis key-encryption key id v1";
const MAX_KEY_ID_BYTES: usize = 128;
/// Longest text that is looked at as a key, in bytes; one has at most 64 and some blanks.
const MAX_KEY_TEXT_BYTES: usize = 4096;
const KEY_BYTES: usize = 32;

/// What a wrapper's operation returns: a boxed future, so that the trait is object-safe.
pub type WrapFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, WrapError>> + Send + 'a>>;

/// A key-encryption key.
pub trait KeyWrapper: Send + Sync + 'static {
    /// Its id: tells it from its predecessors, is stored beside what it has wrapped, and is no secret.
    fn id(&self) -> &str;

    /// Where it is kept, for people; no secret.
    fn source(&self) -> &str;

    /// Wraps a data key. `name` is the data key's id.
    fn wrap<'a>(&'a self, name: &'a str, key: &'a DataKeyBytes) -> WrapFuture<'a, String>;

    /// Opens what [`KeyWrapper::wrap`] has made.
    fn open<'a>(&'a self, name: &'a str, wrapped: &'a str) -> WrapFuture<'a, DataKeyBytes>;

    /// Which version of the key has wrapped this, when the key has versions: a higher one is newer.
    fn version(&self, wrapped: &str) -> Option<u64> {
        let _ = wrapped;
        None
    }
}

/// Why a key-encryption key does not do its work. Without any key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// It is not the key that wrapped this, or what is stored is damaged.
    #[error("it does not open")]
    Wrong,
    /// The place where it is kept does not let it be used.
    #[error("{text}")]
    Source {
        /// What is wrong.
        text: String,
        /// What the user can do about it.
        hint: &'static str,
        /// Whether the same may succeed later without anybody mending anything.
        temporary: bool,
    },
}

impl WrapError {
    /// Whether the same may succeed later without anybody mending anything.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Source { temporary: true, .. })
    }
}

/// The key-encryption keys of a store, and what is done with them.
#[derive(Clone)]
pub struct KeyEncryption {
    /// Wraps everything that is wrapped anew.
    pub current: Arc<dyn KeyWrapper>,
    /// Open what was wrapped before.
    pub older: Vec<Arc<dyn KeyWrapper>>,
    /// Whether secrets are sealed; when not, what is sealed is opened and written in clear.
    pub seal: bool,
    /// A data key seals for this long; then the next one is made, and everything is sealed again.
    pub data_key_lifetime: Duration,
    /// A data key that is older than this is replaced at once.
    pub replace_before: Option<Timestamp>,
}

impl KeyEncryption {
    /// How long a data key seals when nobody says otherwise: 90 days.
    pub const DATA_KEY_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

    /// Seals under one key.
    #[must_use]
    pub fn new(current: Arc<dyn KeyWrapper>) -> Self {
        Self {
            current,
            older: Vec::new(),
            seal: true,
            data_key_lifetime: Self::DATA_KEY_LIFETIME,
            replace_before: None,
        }
    }

    /// All of them, the current one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<dyn KeyWrapper>> {
        std::iter::once(&self.current).chain(&self.older)
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.all().any(|key| key.id() == id)
    }
}

impl std::fmt::Debug for KeyEncryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyEncryption")
            .field("keys", &self.all().map(|key| key.id()).collect::<Vec<_>>())
            .field("seal", &self.seal)
            .finish_non_exhaustive()
    }
}

/// A key-encryption key that this process has been given.
#[derive(Clone)]
pub struct KeyEncryptionKey {
    id: String,
    source: String,
    key: hmac::Key,
    rng: Rng,
}

/// Why a key-encryption key cannot be used. Never with anything of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyEncryptionKeyError {
    /// The id is not 1 to 128 letters, digits, `-`, `_`, `.`, `/` or `:`.
    #[error("a key-encryption key's id has 1 to {MAX_KEY_ID_BYTES} letters, digits, - _ . / or :")]
    Id,
    /// The key has not 32 bytes.
    #[error("a key-encryption key has {KEY_BYTES} bytes, this one {bytes}")]
    Length {
        /// What it has.
        bytes: usize,
    },
    /// The text is neither base64, base64url nor hex.
    #[error("a key-encryption key is {KEY_BYTES} bytes in base64, base64url or hex, and this is neither")]
    Text,
    /// There is nothing.
    #[error("the key-encryption key is empty")]
    Empty,
}

impl KeyEncryptionKey {
    /// Takes a key of 32 random bytes. `source` says for people where it came from.
    ///
    /// # Errors
    /// [`KeyEncryptionKeyError`].
    pub fn new(
        id: Option<&str>,
        source: impl Into<String>,
        key: &[u8],
        rng: Rng,
    ) -> Result<Self, KeyEncryptionKeyError> {
        if key.len() != KEY_BYTES {
            return Err(KeyEncryptionKeyError::Length { bytes: key.len() });
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let id = match id {
            Some(id) => id.to_owned(),
            None => fingerprint(&key),
        };
        check_key_id(&id)?;
        Ok(Self { id, source: source.into(), key, rng })
    }

    /// Takes a key as people write it: 32 bytes in hex, base64 or base64url, with or without padding, blanks around it
    /// ignored. Without an id it gets one that is made from its bytes and says nothing about them.
    ///
    /// # Errors
    /// [`KeyEncryptionKeyError`].
    pub fn parse(
        id: Option<&str>,
        source: impl Into<String>,
        text: &Secret,
        rng: Rng,
    ) -> Result<Self, KeyEncryptionKeyError> {
        Self::new(id, source, &key_bytes(text.expose())?, rng)
    }

    fn derive(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(DERIVE);
        context.update(salt);
        UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).ok().map(LessSafeKey::new)
    }

    fn wrapped(&self, name: &str, key: &DataKeyBytes) -> Option<String> {
        let salt: [u8; SALT_BYTES] = self.rng.bytes();
        let mut body = Vec::with_capacity(SALT_BYTES + KEY_BYTES + AES_256_GCM.tag_len());
        body.extend_from_slice(&**key);
        let aead = self.derive(&salt)?;
        aead.seal_in_place_append_tag(single_use_nonce(), Aad::from(name.as_bytes()), &mut body).ok()?;
        body.splice(0..0, salt);
        Some(URL_SAFE_NO_PAD.encode(&body))
    }

    fn opened(&self, name: &str, wrapped: &str) -> Option<DataKeyBytes> {
        let mut body = URL_SAFE_NO_PAD.decode(wrapped).ok()?;
        let (salt, sealed) = body.split_at_mut_checked(SALT_BYTES)?;
        let aead = self.derive(salt)?;
        let clear = aead.open_in_place(single_use_nonce(), Aad::from(name.as_bytes()), sealed).ok()?;
        let key = <[u8; KEY_BYTES]>::try_from(&*clear).ok().map(Zeroizing::new);
        zeroize::Zeroize::zeroize(clear);
        key
    }
}

impl KeyWrapper for KeyEncryptionKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn source(&self) -> &str {
        &self.source
    }

    fn wrap<'a>(&'a self, name: &'a str, key: &'a DataKeyBytes) -> WrapFuture<'a, String> {
        Box::pin(async move { self.wrapped(name, key).ok_or(WrapError::Wrong) })
    }

    fn open<'a>(&'a self, name: &'a str, wrapped: &'a str) -> WrapFuture<'a, DataKeyBytes> {
        Box::pin(async move { self.opened(name, wrapped).ok_or(WrapError::Wrong) })
    }
}

impl std::fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyEncryptionKey").field("id", &self.id).field("source", &self.source).finish_non_exhaustive()
    }
}

/// Refuses an id that could not stand in a log line or a list.
pub(super) fn check_key_id(id: &str) -> Result<(), KeyEncryptionKeyError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':');
    if id.is_empty() || id.len() > MAX_KEY_ID_BYTES || !id.bytes().all(plain) {
        return Err(KeyEncryptionKeyError::Id);
    }
    Ok(())
}

/// `kek-` and 48 bits that only the key's owner can compute.
fn fingerprint(key: &hmac::Key) -> String {
    let mark = hmac::sign(key, NAME);
    mark.as_ref().iter().take(6).fold("kek-".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

fn key_bytes(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyEncryptionKeyError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(KeyEncryptionKeyError::Empty);
    }
    if text.len() > MAX_KEY_TEXT_BYTES {
        return Err(KeyEncryptionKeyError::Text);
    }
    // Before base64, in which a hex text of this length would be 48 bytes.
    if text.len() == 2 * KEY_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
        let pairs = text.as_bytes().chunks_exact(2);
        let byte = |pair: &[u8]| pair.iter().fold(0_u8, |sum, byte| sum << 4 | digit(*byte));
        return Ok(Zeroizing::new(pairs.map(byte).collect()));
    }
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let plain = Zeroizing::new(text.replace('+', "-").replace('/', "_"));
    let bytes = GeneralPurpose::new(&URL_SAFE, lenient).decode(plain.as_bytes());
    bytes.map(Zeroizing::new).map_err(|_| KeyEncryptionKeyError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: Option<&str>, byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::new(id, "a test", &[byte; 32], Rng::seeded(1)).unwrap()
    }

    #[test]
    fn a_wrapped_data_key_opens_only_with_its_key_and_under_its_name() {
        let data_key = Zeroizing::new([7; 32]);
        let wrapped = key(Some("a"), 1).wrapped("d1", &data_key).unwrap();
        assert_ne!(wrapped, key(Some("a"), 1).wrapped("d2", &data_key).unwrap());
        assert_eq!(key(Some("b"), 1).opened("d1", &wrapped).unwrap(), data_key, "the id is no part of it");
        assert_eq!(key(Some("a"), 1).opened("d2", &wrapped), None);
        assert_eq!(key(Some("a"), 2).opened("d1", &wrapped), None);
        for length in 0..wrapped.len() {
            assert_eq!(key(Some("a"), 1).opened("d1", &wrapped[..length]), None, "{length}");
        }
        for place in 0..wrapped.len() {
            let mut other = wrapped.clone().into_bytes();
            other[place] = if other[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(key(Some("a"), 1).opened("d1", std::str::from_utf8(&other).unwrap()), None, "{place}");
        }
    }

    #[test]
    fn a_key_is_read_in_base64_base64url_and_hex_with_or_without_a_newline() {
        let bytes: Vec<u8> = (0..32).map(|n| 255 - n * 3).collect();
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let url_safe = URL_SAFE_NO_PAD.encode(&bytes);
        assert!(standard.contains('/') && url_safe.contains('_') && standard.ends_with('='));
        for text in [
            hex.clone(),
            hex.to_ascii_uppercase(),
            standard.trim_end_matches('=').to_owned(),
            format!("{standard}\n"),
            format!("  {url_safe}\r\n"),
            format!("{url_safe}="),
        ] {
            assert_eq!(key_bytes(&text).unwrap().as_slice(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let parse = |text: &str| KeyEncryptionKey::parse(None, "x", &Secret::new(text), Rng::seeded(1)).unwrap_err();
        assert_eq!(parse(""), KeyEncryptionKeyError::Empty);
        assert_eq!(parse(" \n"), KeyEncryptionKeyError::Empty);
        assert_eq!(parse("hunter2!"), KeyEncryptionKeyError::Text);
        assert_eq!(parse(&URL_SAFE_NO_PAD.encode([1; 31])), KeyEncryptionKeyError::Length { bytes: 31 });
        assert_eq!(parse(&"ab".repeat(31)), KeyEncryptionKeyError::Text);
        assert_eq!(parse(&"ab".repeat(33)), KeyEncryptionKeyError::Text);
        assert_eq!(parse(&"A".repeat(MAX_KEY_TEXT_BYTES + 1)), KeyEncryptionKeyError::Text);
        assert!(!parse("hunter2!").to_string().contains("hunter2"));
        for id in ["", "a,b", "ä", "a b", &"a".repeat(129)] {
            let refused = KeyEncryptionKey::new(Some(id), "x", &[0; 32], Rng::seeded(1)).unwrap_err();
            assert_eq!(refused, KeyEncryptionKeyError::Id, "{id}");
        }
    }

    #[test]
    fn a_key_without_an_id_has_one_of_its_own_that_stays() {
        let (one, again, other) = (key(None, 1), key(None, 1), key(None, 2));
        assert_eq!(one.id(), again.id());
        assert_ne!(one.id(), other.id());
        assert!(one.id().starts_with("kek-") && one.id().len() == 16, "{}", one.id());
    }
}
