//! A user's epoch: how often they were signed out everywhere.
//!
//! A family holds the epoch in which it was created, and gives nothing any more when its user's is a later one. So one
//! compare-and-swap ends all families of a user at once, however many there are, on whatever clients; that their records
//! become tombstones, and their lists are emptied, follows from it and may come late. The record is there from the first
//! time on, and has no expiry: a family may live for ever.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::Families;
use crate::{
    document::{Indexed, Inserted, Stored, Swapped, decode},
    error::StoreError,
    inspect::Mentions,
    kernel::{IndexKey, Kind, Record},
};

/// How often an epoch is counted up anew after losing a race: more often than callers can be in parallel.
const RACES: usize = 1024;

#[derive(Serialize, Deserialize)]
struct EpochDoc {
    user_id: String,
    connector_id: String,
    epoch: u64,
}

impl Families<'_> {
    /// The epoch of a user: 0 until they are signed out everywhere for the first time.
    pub(super) async fn epoch(&self, user_id: &str, connector_id: &str) -> Result<u64, StoreError> {
        let stored = self.store.read::<EpochDoc>(Kind::Epoch, &record_id(user_id, connector_id)).await?;
        Ok(stored.map_or(0, |stored| stored.value.epoch))
    }

    /// Begins the next epoch of a user.
    pub(super) async fn next_epoch(&self, user_id: &str, connector_id: &str) -> Result<(), StoreError> {
        let id = record_id(user_id, connector_id);
        for _ in 0..RACES {
            let done = match self.store.read::<EpochDoc>(Kind::Epoch, &id).await? {
                None => {
                    let (user_id, connector_id) = (user_id.to_owned(), connector_id.to_owned());
                    let doc = EpochDoc { user_id, connector_id, epoch: 1 };
                    let inserted = self.store.insert(Kind::Epoch, &id, &doc, Indexed::default()).await?;
                    matches!(inserted, Inserted::Done(_))
                }
                Some(Stored { version, value: mut doc, .. }) => {
                    doc.epoch = doc.epoch.saturating_add(1);
                    let swapped = self.store.swap(Kind::Epoch, &id, version, &doc, Indexed::default()).await?;
                    matches!(swapped, Swapped::Done(_))
                }
            };
            if done {
                return Ok(());
            }
        }
        Err(StoreError::Contended { kind: Kind::Epoch })
    }
}

fn record_id(user_id: &str, connector_id: &str) -> String {
    let key = IndexKey::of(&[user_id, connector_id]);
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, key.as_bytes()))
}

/// For [`crate::Store::check`].
pub(crate) fn inspect(record: &Record) -> Result<Mentions, StoreError> {
    let doc = decode::<EpochDoc>(Kind::Epoch, record)?.value;
    let wrong = record.id != record_id(&doc.user_id, &doc.connector_id);
    Ok(Mentions { wrong: wrong.then_some("its id is not that of its user"), ..Mentions::default() })
}
