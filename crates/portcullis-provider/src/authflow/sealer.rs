//! Seals what a browser keeps for us: nobody can read or change it, and it opens only for what it was made for.
//!
//! AES-256-GCM-SIV under keys that replicas share through the store. The value is base64url of: format version, time, key
//! id, nonce, ciphertext; what is not encrypted is authenticated, together with the use, the issuer and a name.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use portcullis_jose::{base64url_decode, base64url_encode};
use portcullis_runtime::{Clock, Rng, Timestamp};
use portcullis_storage::{SealingPolicy, SealingRing, Store, StoreError};

/// How long keys are used without asking the store.
const RELOAD_AFTER: Duration = Duration::from_secs(300);
/// Format version.
const VERSION: u8 = 1;
const NONCE: usize = 12;

/// Why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    /// It is none of ours, or was made for something else.
    #[error("it does not open")]
    Foreign,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// What is sealed, and so under which keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Sign-ins under way.
    Flow,
    /// Devices that have signed in.
    Device,
}

impl Use {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Flow => b"portcullis flow\0",
            Self::Device => b"portcullis device\0",
        }
    }
}

/// Seals and opens.
pub(super) struct Sealer {
    store: Store,
    clock: Clock,
    rng: Rng,
    issuer: String,
    purpose: Use,
    policy: SealingPolicy,
    keys: ArcSwapOption<(SealingRing, Timestamp)>,
}

impl Sealer {
    pub(super) fn new(
        store: Store,
        clock: Clock,
        rng: Rng,
        issuer: &str,
        (purpose, policy): (Use, SealingPolicy),
    ) -> Self {
        Self { store, clock, rng, issuer: issuer.to_owned(), purpose, policy, keys: ArcSwapOption::empty() }
    }

    /// Seals `content` under `name`, with the time.
    pub(super) async fn seal(&self, name: &str, mut content: Vec<u8>) -> Result<String, SealError> {
        let ring = self.ring(false).await?;
        let key = ring.0.newest();
        let seconds = u32::try_from(self.clock.now().unix_seconds()).unwrap_or(u32::MAX);
        let mut head = vec![VERSION];
        head.extend_from_slice(&seconds.to_be_bytes());
        head.push(u8::try_from(key.id().len()).unwrap_or(u8::MAX));
        head.extend_from_slice(key.id().as_bytes());
        let nonce = self.rng.bytes::<NONCE>();
        let aad = self.aad(&head, name);
        let aead = aead_key(key.expose()).ok_or(SealError::Foreign)?;
        aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut content)
            .map_err(|_| SealError::Foreign)?;
        head.extend_from_slice(&nonce);
        head.extend_from_slice(&content);
        Ok(base64url_encode(&head))
    }

    /// Opens what was sealed under `name`.
    pub(super) async fn open(&self, name: &str, value: &str) -> Result<Vec<u8>, SealError> {
        let bytes = base64url_decode(value).map_err(|_| SealError::Foreign)?;
        let Parts { head, key_id, nonce, sealed } = split(&bytes).ok_or(SealError::Foreign)?;
        let mut ring = self.ring(false).await?;
        if ring.0.find(key_id).is_none() {
            // Another replica may have made a key since.
            ring = self.ring(true).await?;
        }
        let key = ring.0.find(key_id).ok_or(SealError::Foreign)?;
        let aead = aead_key(key.expose()).ok_or(SealError::Foreign)?;
        let mut buffer = sealed.to_vec();
        let aad = self.aad(head, name);
        let plain = aead
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer)
            .map_err(|_| SealError::Foreign)?;
        Ok(plain.to_vec())
    }

    fn aad(&self, head: &[u8], name: &str) -> Vec<u8> {
        let mut aad = self.purpose.name().to_vec();
        for part in [head, self.issuer.as_bytes(), name.as_bytes()] {
            aad.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            aad.extend_from_slice(part);
        }
        aad
    }

    /// The keys; from the store when they are old, or when an unknown key asks for it (at most once a second).
    async fn ring(&self, unknown_key: bool) -> Result<Arc<(SealingRing, Timestamp)>, StoreError> {
        let now = self.clock.now();
        let fresh_for = if unknown_key { Duration::from_secs(1) } else { RELOAD_AFTER };
        if let Some(known) =
            self.keys.load_full().filter(|known| now.saturating_since(known.1) < fresh_for && now >= known.1)
        {
            return Ok(known);
        }
        let keys = match self.purpose {
            Use::Flow => self.store.sealing_keys(),
            Use::Device => self.store.device_keys(),
        };
        let known = Arc::new((keys.load(self.policy).await?, now));
        self.keys.store(Some(known.clone()));
        Ok(known)
    }
}

fn aead_key(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM_SIV, key).ok().map(LessSafeKey::new)
}

/// The parts of a sealed value.
struct Parts<'a> {
    /// Version, time and key id.
    head: &'a [u8],
    key_id: &'a str,
    nonce: [u8; NONCE],
    sealed: &'a [u8],
}

fn split(bytes: &[u8]) -> Option<Parts<'_>> {
    let length = usize::from(*bytes.get(5)?);
    if *bytes.first()? != VERSION {
        return None;
    }
    let (head, rest) = bytes.split_at_checked(6 + length)?;
    let key_id = std::str::from_utf8(head.get(6..)?).ok()?;
    let (nonce, sealed) = rest.split_at_checked(NONCE)?;
    Some(Parts { head, key_id, nonce: nonce.try_into().ok()?, sealed })
}

/// When a value says it was sealed; 0 for what is none of ours. Good for choosing which to drop, and for nothing else.
pub(super) fn time_of(value: &str) -> u32 {
    let head = value.get(..8).and_then(|v| base64url_decode(v).ok()).unwrap_or_default();
    match head.as_slice() {
        [VERSION, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}
