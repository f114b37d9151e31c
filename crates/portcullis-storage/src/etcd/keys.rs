//! The keys of the store, and what is stored under them.
//!
//! All keys begin with the configured namespace, as Dex writes it (a plain prefix), and `portcullis/`, which no key of
//! Dex's does. Below that:
//!
//! - `schema`: the number of the schema, in decimal
//! - `record/<kind>/<id>`: a record; its version is the key's modification revision
//! - `index/<kind>/<1|2>/<hash>/<id>`: empty; there while the record has that index key (64 hex digits)
//! - `changed/<kind>`: empty; written with every change of a configured kind, so that its modification revision tells of it
//! - `expiry/<time>/<kind>/<id>`: the record's index keys; there while it has that expiry (nanoseconds since the Unix
//!   epoch plus 2^63, 16 hex digits, so that byte order is time order)
//!
//! Ids stand last and as they are, so that the byte order of keys is that of ids. The three entries of a record change
//! in one transaction; the expiry entry is written again with every change, so that its modification revision is the
//! record's.

use std::fmt::Write as _;

use portcullis_runtime::Timestamp;
use prost::Message;

use crate::{
    error::KernelError,
    kernel::{IndexKey, Kind, Record, Slot, Version, Write},
};

/// Makes keys.
#[derive(Debug)]
pub(super) struct Keys {
    root: String,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        Self { root: format!("{namespace}portcullis/") }
    }

    /// What all keys begin with.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    pub(super) fn schema(&self) -> Vec<u8> {
        format!("{}schema", self.root).into_bytes()
    }

    /// What the keys of all records begin with.
    pub(super) fn all_records(&self) -> Vec<u8> {
        format!("{}record/", self.root).into_bytes()
    }

    /// The kind and id in a record's key; `None` for a kind that this version does not know.
    pub(super) fn split_record(&self, key: &[u8]) -> Option<(Kind, String)> {
        let (kind, id) = std::str::from_utf8(key.strip_prefix(self.all_records().as_slice())?).ok()?.split_once('/')?;
        Some((Kind::ALL.into_iter().find(|known| known.name() == kind)?, id.to_owned()))
    }

    /// What the keys of a kind's records begin with.
    pub(super) fn records(&self, kind: Kind) -> Vec<u8> {
        self.records_name(kind.name())
    }

    fn records_name(&self, kind: &str) -> Vec<u8> {
        format!("{}record/{kind}/", self.root).into_bytes()
    }

    pub(super) fn record(&self, kind: Kind, id: &str) -> Vec<u8> {
        joined(self.records(kind), id)
    }

    /// What the entries of an index key begin with.
    pub(super) fn indexed(&self, kind: Kind, slot: Slot, key: IndexKey) -> Vec<u8> {
        self.indexed_name(kind.name(), slot, key)
    }

    fn indexed_name(&self, kind: &str, slot: Slot, key: IndexKey) -> Vec<u8> {
        let slot = match slot {
            Slot::First => 1,
            Slot::Second => 2,
        };
        let mut text = format!("{}index/{kind}/{slot}/", self.root);
        for byte in key.as_bytes() {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('/');
        text.into_bytes()
    }

    pub(super) fn index(&self, kind: Kind, slot: Slot, key: IndexKey, id: &str) -> Vec<u8> {
        joined(self.indexed(kind, slot, key), id)
    }

    pub(super) fn changed(&self, kind: Kind) -> Vec<u8> {
        format!("{}changed/{kind}", self.root).into_bytes()
    }

    fn expiries(&self) -> String {
        format!("{}expiry/", self.root)
    }

    /// The range of all expiries up to and including `now`: first key, and first key after it.
    pub(super) fn expired(&self, now: Timestamp) -> (Vec<u8>, Vec<u8>) {
        let first = self.expiries();
        let end = format!("{first}{:016x}{AFTER_SLASH}", ordered(now));
        (first.into_bytes(), end.into_bytes())
    }

    pub(super) fn expiry(&self, at: Timestamp, kind: Kind, id: &str) -> Vec<u8> {
        let prefix = format!("{}{:016x}/{kind}/", self.expiries(), ordered(at));
        joined(prefix.into_bytes(), id)
    }

    /// The name of the kind and the id in the key of an expiry entry. The kind may be one of a later version.
    pub(super) fn split_expiry<'k>(&self, key: &'k [u8]) -> Option<(&'k str, &'k str)> {
        let rest = key.strip_prefix(self.expiries().as_bytes())?.split_at_checked(17)?.1;
        std::str::from_utf8(rest).ok()?.split_once('/')
    }

    /// A record's key, and those of its entries for these index keys.
    pub(super) fn of_record(&self, kind: &str, id: &str, index: [Option<IndexKey>; 2]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let index = [Slot::First, Slot::Second].into_iter().zip(index);
        let entries = index.filter_map(|(slot, key)| Some(joined(self.indexed_name(kind, slot, key?), id)));
        (joined(self.records_name(kind), id), entries.collect())
    }
}

/// The byte after `/`.
const AFTER_SLASH: char = '0';

fn joined(mut prefix: Vec<u8>, id: &str) -> Vec<u8> {
    prefix.extend_from_slice(id.as_bytes());
    prefix
}

/// A number in the order of time.
const fn ordered(at: Timestamp) -> u64 {
    at.unix_nanos().cast_unsigned() ^ (1 << 63)
}

/// The first key after all that begin with `prefix`, which ends with `/`.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.strip_suffix(b"/").unwrap_or(prefix).to_vec();
    end.push(b'0');
    end
}

/// The smallest key after `prefix` and `id`.
pub(super) fn after(prefix: Vec<u8>, id: &str) -> Vec<u8> {
    let mut key = joined(prefix, id);
    key.push(0);
    key
}

/// What other entries of a record depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    pub(super) index: [Option<IndexKey>; 2],
    pub(super) expires_at: Option<Timestamp>,
}

impl From<&Write> for Entries {
    fn from(write: &Write) -> Self {
        Self { index: write.index, expires_at: write.expires_at }
    }
}

/// The value of a record's key.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(bytes = "vec", optional, tag = "1")]
    index1: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    index2: Option<Vec<u8>>,
    /// Nanoseconds since the Unix epoch.
    #[prost(sint64, optional, tag = "3")]
    expires_at: Option<i64>,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

fn stored_index(index: [Option<IndexKey>; 2]) -> [Option<Vec<u8>>; 2] {
    index.map(|key| key.map(|key| key.as_bytes().to_vec()))
}

/// The value of a record.
pub(super) fn encode(write: Write) -> Vec<u8> {
    let [index1, index2] = stored_index(write.index);
    let expires_at = write.expires_at.map(Timestamp::unix_nanos);
    Stored { index1, index2, expires_at, data: write.data }.encode_to_vec()
}

/// The value of an expiry entry: a record's index keys.
pub(super) fn encode_expiry(index: [Option<IndexKey>; 2]) -> Vec<u8> {
    let [index1, index2] = stored_index(index);
    Stored { index1, index2, expires_at: None, data: Vec::new() }.encode_to_vec()
}

/// The index keys in the value of an expiry entry.
pub(super) fn decode_expiry(value: &[u8]) -> Option<[Option<IndexKey>; 2]> {
    index_of(&Stored::decode(value).ok()?)
}

fn index_of(stored: &Stored) -> Option<[Option<IndexKey>; 2]> {
    let mut index = [None, None];
    for (to, from) in index.iter_mut().zip([&stored.index1, &stored.index2]) {
        if let Some(bytes) = from {
            *to = Some(IndexKey::from_bytes(bytes)?);
        }
    }
    Some(index)
}

/// A record as etcd returned it.
pub(super) fn decode(kind: Kind, id: String, revision: i64, value: &[u8]) -> Result<Record, KernelError> {
    let damaged =
        || KernelError::Corrupt { what: format!("the value of the {kind} record {id:?} in etcd is not ours") };
    let stored = Stored::decode(value).map_err(|_| damaged())?;
    let index = index_of(&stored).ok_or_else(damaged)?;
    let expires_at = stored.expires_at.map(Timestamp::from_unix_nanos);
    Ok(Record { id, version: version(revision), index, expires_at, data: stored.data })
}

/// A version is the modification revision, which etcd counts up over the whole store.
pub(super) const fn version(revision: i64) -> Version {
    Version::new(revision.unsigned_abs())
}

/// The revision that a version stands for; one that no key has when the number is not a revision.
pub(super) fn revision(version: Version) -> i64 {
    i64::try_from(version.number()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_the_layout_says() {
        let keys = Keys::new("dex/");
        let key = IndexKey::from_bytes(&[0xab; 32]).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(text(keys.schema()), "dex/portcullis/schema");
        assert_eq!(text(keys.changed(Kind::Client)), "dex/portcullis/changed/client");
        assert_eq!(text(keys.record(Kind::FamilyList, "a/ö")), "dex/portcullis/record/family-list/a/ö");
        let hash = "ab".repeat(32);
        assert_eq!(
            text(keys.index(Kind::Family, Slot::Second, key, "x")),
            format!("dex/portcullis/index/family/2/{hash}/x")
        );
        assert_eq!(
            text(keys.expiry(Timestamp::UNIX_EPOCH, Kind::Code, "x")),
            "dex/portcullis/expiry/8000000000000000/code/x"
        );
        assert_eq!(text(Keys::new("").schema()), "portcullis/schema");
    }

    #[test]
    fn expiries_are_in_the_order_of_time() {
        let keys = Keys::new("");
        let times = [i64::MIN, -1, 0, 1, 1_800_000_000_000_000_000, i64::MAX].map(Timestamp::from_unix_nanos);
        for pair in times.windows(2) {
            let [earlier, later] = [pair[0], pair[1]].map(|at| keys.expiry(at, Kind::Request, "\u{10ffff}"));
            let (first, end) = keys.expired(pair[0]);
            assert!(first < earlier && earlier < end && end <= later, "{pair:?}");
        }
    }

    #[test]
    fn an_expiry_names_its_record() {
        let keys = Keys::new("n");
        let key = keys.expiry(Timestamp::MAX, Kind::SigningKeys, "a/b\0");
        assert_eq!(keys.split_expiry(&key), Some((Kind::SigningKeys.name(), "a/b\0")));
        assert_eq!(keys.split_expiry(b"nportcullis/expiry/0/code/x"), None);
        assert_eq!(keys.split_expiry(b"nportcullis/expiry/8000000000000000/later/x"), Some(("later", "x")));
    }

    #[test]
    fn a_foreign_value_is_damage_and_is_not_shown() {
        let error = decode(Kind::Client, "app".to_owned(), 1, b"{\"secret\":\"s3cret\"}").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("client record \"app\"") && !text.contains("s3cret"), "{text}");
    }
}
