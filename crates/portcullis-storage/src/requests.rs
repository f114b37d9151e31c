//! Authorization requests that are too large for a cookie (design decision 1).
//!
//! They are stored before anybody has proved anything, so their number is capped: there are as many slots as requests
//! may wait at once, each a record of its own, and a handle names slot and secret. A slot whose request has expired is
//! taken by the next one. What is stored is sealed by the caller, so a handle alone shows nothing.
//!
//! Which slots a request may take follows from where it comes from, by hashing, so that nothing has to be counted and
//! all replicas agree: an address has a few, a client half of all. Whoever fills up their own slots leaves the others
//! free; when the slots that a request may take are all in use, it is refused.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{
    document::{Indexed, Inserted, Stored, Swapped, decode},
    error::StoreError,
    inspect::Mentions,
    kernel::{IndexKey, Kind, Record},
    stamp,
    store::Store,
};

/// Requests that may wait at once: 64 MiB of them, when they are as large as can be.
const SLOTS: u32 = 1024;
/// Slots that the requests of one client may take.
const SLOTS_OF_CLIENT: u32 = SLOTS / 2;
/// Slots that the requests of one address may take at one client; twice as many at all clients together.
const SLOTS_OF_ADDRESS: u32 = 32;
/// Slots of an address that the requests of one of those may take for whom it says it speaks.
const SLOTS_OF_CLAIM: u32 = SLOTS_OF_ADDRESS / 4;
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
    /// The address, or everybody at the client together: too many requests wait. Try again later.
    #[error("too many large authorization requests are waiting")]
    Full,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a request comes from; only ever compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestOrigin<'a> {
    /// The client's id.
    pub client_id: &'a str,
    /// The address, as far as it can be believed.
    pub address: &'a str,
    /// For whom the address says that it speaks, when nobody vouches for that. It divides what the address may take, and
    /// never adds to it.
    pub claimed: Option<&'a str>,
}

impl RequestOrigin<'_> {
    /// The slots that the request may take.
    ///
    /// The address's hashes name pairs of slots that are half of all slots apart, and the client's slots are a stretch of
    /// half of all slots: it has exactly one of each pair.
    fn slots(&self) -> impl Iterator<Item = u32> {
        let Self { client_id, address, claimed } = *self;
        let stretch = hash(&["client", client_id]) % SLOTS;
        let (first, count) = match claimed {
            None => (0, SLOTS_OF_ADDRESS),
            Some(claimed) => (hash(&["claimed", address, claimed]), SLOTS_OF_CLAIM),
        };
        (0..count).map(move |number| {
            let number = first.wrapping_add(number) % SLOTS_OF_ADDRESS;
            let pair = hash(&["address", address, &number.to_string()]) % SLOTS_OF_CLIENT;
            let ahead = (SLOTS + pair - stretch) % SLOTS;
            if ahead < SLOTS_OF_CLIENT { pair } else { pair + SLOTS_OF_CLIENT }
        })
    }
}

fn hash(parts: &[&str]) -> u32 {
    let key = IndexKey::of(parts);
    key.as_bytes().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
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
    pub async fn keep(
        &self,
        sealed: &[u8],
        lifetime: Duration,
        origin: RequestOrigin<'_>,
    ) -> Result<String, RequestError> {
        if sealed.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge { bytes: sealed.len() });
        }
        let now = self.store.now();
        let expires_at = stamp::truncate(now + lifetime);
        let secret = self.store.rng().token(16);
        let doc = RequestDoc { secret: secret.clone(), expires_at, sealed: URL_SAFE_NO_PAD.encode(sealed) };
        let indexed = Indexed::until(Some(expires_at));
        for slot in origin.slots() {
            let slot = slot.to_string();
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

/// For [`Store::check`].
pub(crate) fn inspect(record: &Record) -> Result<Mentions, StoreError> {
    decode::<RequestDoc>(Kind::Request, record).map(|_| Mentions::default())
}

#[derive(Serialize, Deserialize)]
struct RequestDoc {
    secret: String,
    #[serde(with = "stamp")]
    expires_at: Timestamp,
    sealed: String,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn slots(client_id: &str, address: &str, claimed: Option<&str>) -> HashSet<u32> {
        RequestOrigin { client_id, address, claimed }.slots().collect()
    }

    #[test]
    fn an_address_has_a_few_slots_and_a_client_half_of_them() {
        let mut of_client = HashSet::new();
        let mut all = HashSet::new();
        for number in 0..5_000 {
            let address = format!("192.0.2.{number}");
            let here = slots("app", &address, None);
            assert!(here.len() <= SLOTS_OF_ADDRESS as usize && here.len() > 20, "{}", here.len());
            for client in 0..20 {
                all.extend(slots(&format!("app {client}"), &address, None));
            }
            of_client.extend(here);
        }
        assert_eq!(of_client.len(), SLOTS_OF_CLIENT as usize);
        assert_eq!(all.len(), SLOTS as usize, "and every slot is somebody's");
        assert!(all.iter().all(|slot| *slot < SLOTS));
    }

    #[test]
    fn an_address_has_twice_as_many_at_all_clients() {
        let all: HashSet<u32> = (0..1_000).flat_map(|n| slots(&format!("app {n}"), "192.0.2.7", None)).collect();
        assert!(all.len() <= 2 * SLOTS_OF_ADDRESS as usize, "{}", all.len());
    }

    #[test]
    fn claims_divide_what_an_address_has() {
        let whole = slots("app", "192.0.2.7", None);
        let mut parts = HashSet::new();
        for number in 0..1_000 {
            let part = slots("app", "192.0.2.7", Some(&number.to_string()));
            assert!(part.len() <= SLOTS_OF_CLAIM as usize && part.is_subset(&whole));
            parts.extend(part);
        }
        assert_eq!(parts, whole);
    }
}
