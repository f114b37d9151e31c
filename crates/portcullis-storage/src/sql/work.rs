//! What is asked of a server, and what it answers.

use portcullis_runtime::Timestamp;

use crate::kernel::{IndexKey, Kind, Mark, Record, Slot, Version, Write};

/// One statement.
pub(crate) enum Work<'a> {
    /// One record.
    Get { kind: Kind, id: &'a str },
    /// Whether there is a record.
    Exists { kind: Kind, id: &'a str },
    /// Makes a record unless its id is taken.
    Insert { kind: Kind, id: &'a str, version: i64, write: &'a Write },
    /// Replaces a record that has the version `from`.
    Update { kind: Kind, id: &'a str, from: i64, to: i64, write: &'a Write },
    /// Deletes a record that has this version.
    Delete { kind: Kind, id: &'a str, version: i64 },
    /// Records in order of their ids, no more than the limit, and at most one after those that make a page heavy.
    List { kind: Kind, index: Option<(Slot, IndexKey)>, after: &'a str, limit: i64 },
    /// How many records of a kind there are, and the sum of their versions.
    Mark { kind: Kind },
    /// How much data the records have whose expiry is at or before `now`, in the order in which `Expire` deletes them.
    Due { now: i64, limit: i64 },
    /// Deletes records whose expiry is at or before `now`.
    Expire { now: i64, limit: i64 },
    /// Takes version numbers; the answer is the first that was not taken.
    Reserve { count: i64 },
}

impl Work<'_> {
    /// Whether it changes anything.
    pub(crate) const fn writes(&self) -> bool {
        match self {
            Self::Get { .. } | Self::Exists { .. } | Self::List { .. } | Self::Mark { .. } | Self::Due { .. } => false,
            Self::Insert { .. }
            | Self::Update { .. }
            | Self::Delete { .. }
            | Self::Expire { .. }
            | Self::Reserve { .. } => true,
        }
    }
}

/// A record that is wanted, beside others.
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    pub(crate) id: String,
}

/// A record that is to be made or replaced, beside others.
pub(crate) struct Put {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    /// The version that is replaced; `None` when there must be no record yet.
    pub(crate) from: Option<i64>,
    pub(crate) to: i64,
    pub(crate) write: Write,
}

impl Put {
    /// The same by itself.
    pub(crate) fn alone(&self) -> Work<'_> {
        let Self { kind, id, from, to, write } = self;
        match *from {
            None => Work::Insert { kind: *kind, id, version: *to, write },
            Some(from) => Work::Update { kind: *kind, id, from, to: *to, write },
        }
    }
}

/// An answer.
pub(crate) enum Reply {
    /// What was read.
    Records(Vec<Record>),
    /// How many records there are or were changed, or a version number.
    Count(u64),
    /// Whether records have changed.
    Mark(Mark),
    /// Bytes of data.
    Sizes(Vec<usize>),
}

impl Reply {
    pub(crate) fn records(self) -> Vec<Record> {
        match self {
            Self::Records(records) => records,
            Self::Count(_) | Self::Mark(_) | Self::Sizes(_) => Vec::new(),
        }
    }

    pub(crate) const fn count(&self) -> u64 {
        match self {
            Self::Records(_) | Self::Mark(_) | Self::Sizes(_) => 0,
            Self::Count(count) => *count,
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        match self {
            Self::Mark(mark) => *mark,
            Self::Records(_) | Self::Count(_) | Self::Sizes(_) => Mark::default(),
        }
    }

    pub(crate) fn sizes(self) -> Vec<usize> {
        match self {
            Self::Sizes(sizes) => sizes,
            Self::Records(_) | Self::Count(_) | Self::Mark(_) => Vec::new(),
        }
    }
}

/// A row in the order of columns that all statements use: id, version, two index keys, expiry, data.
pub(crate) type Row = (Vec<u8>, i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>, Vec<u8>);

/// A record from its row.
pub(crate) fn record(row: Row) -> sqlx::Result<Record> {
    let (id, version, first, second, expires_at, data) = row;
    let id = String::from_utf8(id).map_err(|_| damaged("an id is no UTF-8"))?;
    Ok(Record {
        id,
        version: Version::new(u64::try_from(version).map_err(|_| damaged("a version is negative"))?),
        index: [index_key(first)?, index_key(second)?],
        expires_at: expires_at.map(Timestamp::from_unix_nanos),
        data,
    })
}

fn index_key(bytes: Option<Vec<u8>>) -> sqlx::Result<Option<IndexKey>> {
    let Some(bytes) = bytes else { return Ok(None) };
    IndexKey::from_bytes(&bytes).map(Some).ok_or_else(|| damaged("an index key has not 32 bytes"))
}

fn damaged(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_nobody_wrote_are_damage() {
        let whole: Row = (b"id".to_vec(), 7, Some(vec![1; 32]), None, Some(-1), vec![2]);
        let read = record(whole.clone()).unwrap();
        assert_eq!((read.id.as_str(), read.version.number()), ("id", 7));
        assert_eq!(read.expires_at, Some(Timestamp::from_unix_nanos(-1)));
        let (id, version, index, at, data) = (whole.0, whole.1, whole.2, whole.4, whole.5);
        for broken in [
            (vec![0xff], version, index.clone(), None, at, data.clone()),
            (id.clone(), -1, index.clone(), None, at, data.clone()),
            (id.clone(), version, Some(vec![1; 31]), None, at, data.clone()),
            (id, version, index, Some(Vec::new()), at, data),
        ] {
            assert!(matches!(record(broken), Err(sqlx::Error::Decode(_))));
        }
    }
}
