//! Authorization requests that are too large for a cookie (design decision 1).
//!
//! They are stored before anybody has proved anything, so their number is capped: there are as many slots as requests
//! may wait at once, each a record of its own, and a handle names slot and secret. A slot whose request has expired is
//! taken by the next one; when the probed slots are all in use, the request is refused. What is stored is sealed by the
//! caller, so a handle alone shows nothing.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{
    document::{Indexed, Inserted, Stored, Swapped},
    error::StoreError,
    kernel::Kind,
    stamp,
    store::Store,
};

/// Requests that may wait at once.
const SLOTS: u32 = 1024;
/// Slots that are tried before a request is refused.
const PROBES: usize = 16;
/// Largest request, in bytes.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Why a request is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The browser: the request is too large.
    #[error("the authorization request has {bytes} bytes, at most {MAX_REQUEST_BYTES} are kept")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Everybody together: too many requests wait. Try again later.
    #[error("too many large authorization requests are waiting")]
    Full,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The facade of stored authorization requests.
#[derive(Clone, Copy)]
pub struct Requests<'a> {
    store: &'a Store,
}

impl<'a> Requests<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Keeps a sealed request for `lifetime` and returns the handle that finds it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn keep(&self, sealed: &[u8], lifetime: Duration) -> Result<String, RequestError> {
        if sealed.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge { bytes: sealed.len() });
        }
        let now = self.store.now();
        let expires_at = stamp::truncate(now + lifetime);
        let secret = self.store.rng().token(16);
        let doc = RequestDoc { secret: secret.clone(), expires_at, sealed: URL_SAFE_NO_PAD.encode(sealed) };
        let indexed = Indexed::until(Some(expires_at));
        for _ in 0..PROBES {
            let slot = self.store.rng().below(SLOTS).to_string();
            let taken = match self.store.read::<RequestDoc>(Kind::Request, &slot).await? {
                None => matches!(self.store.insert(Kind::Request, &slot, &doc, indexed).await?, Inserted::Done(_)),
                Some(Stored { version, value, .. }) if now >= value.expires_at => {
                    let swapped = self.store.swap(Kind::Request, &slot, version, &doc, indexed).await?;
                    matches!(swapped, Swapped::Done(_))
                }
                Some(_) => false,
            };
            if taken {
                return Ok(format!("{slot}.{secret}"));
            }
        }
        Err(RequestError::Full)
    }

    /// Finds a request that has not expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, handle: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.find(handle).await?.map(|(_, _, sealed)| sealed))
    }

    /// Forgets a request, so that its slot is free. An unknown handle changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget(&self, handle: &str) -> Result<(), StoreError> {
        if let Some((slot, version, _)) = self.find(handle).await? {
            self.store.remove(Kind::Request, slot, version).await?;
        }
        Ok(())
    }

    async fn find<'h>(
        &self,
        handle: &'h str,
    ) -> Result<Option<(&'h str, crate::kernel::Version, Vec<u8>)>, StoreError> {
        let Some((slot, secret)) = handle.split_once('.') else { return Ok(None) };
        let Some(Stored { version, value, .. }) = self.store.read::<RequestDoc>(Kind::Request, slot).await? else {
            return Ok(None);
        };
        let genuine: bool = value.secret.as_bytes().ct_eq(secret.as_bytes()).into();
        if !genuine || self.store.now() >= value.expires_at {
            return Ok(None);
        }
        let sealed = URL_SAFE_NO_PAD.decode(&value.sealed).map_err(|_| StoreError::Damaged {
            kind: Kind::Request,
            id: slot.to_owned(),
            what: "its content is not base64url".to_owned(),
        })?;
        Ok(Some((slot, version, sealed)))
    }
}

#[derive(Serialize, Deserialize)]
struct RequestDoc {
    secret: String,
    #[serde(with = "stamp")]
    expires_at: Timestamp,
    sealed: String,
}
