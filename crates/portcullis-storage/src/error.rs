//! What can go wrong with a store, sorted by blame.
//!
//! The most important distinction is whether a write that failed may have happened all the same ([`Applied`]): a caller
//! that does not know must look at the record's request nonce before it concludes that somebody else was faster.

use crate::kernel::{Kind, MAX_DATA_BYTES, MAX_ID_BYTES};

/// Why a kernel's operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The caller: the id is empty or too long.
    #[error("the id has {bytes} bytes, allowed are 1 to {MAX_ID_BYTES}")]
    Id {
        /// The id's length.
        bytes: usize,
    },
    /// The caller: too much data for one record.
    #[error("the record has {bytes} bytes of data, allowed are {MAX_DATA_BYTES}")]
    Data {
        /// The data's length.
        bytes: usize,
    },
    /// Another writer: the record has another version than the one that was to be replaced.
    #[error("the record was changed in the meantime")]
    Conflict,
    /// Another writer: the id is taken.
    #[error("the record exists already")]
    AlreadyExists,
    /// Another writer: there is no such record.
    #[error("there is no such record")]
    NotFound,
    /// The store did not do it, or does not say whether it did.
    #[error("{trouble}{applied}")]
    Unavailable {
        /// Whether the operation may have taken effect.
        applied: Applied,
        /// What is wrong.
        trouble: Trouble,
    },
    /// The stored data: it is not what this program can have written.
    #[error("the store is damaged: {what}")]
    Corrupt {
        /// What was found, and where.
        what: String,
    },
}

/// Whether a failed operation may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It has not, and will not.
    No,
    /// It may have, or may yet.
    Unknown,
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::No => "",
            Self::Unknown => " (it is not known whether the write took effect)",
        })
    }
}

/// What is wrong with an unavailable store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No room on the device.
    #[error("the disk is full")]
    DiskFull,
    /// The limit on the size of files of this process is reached.
    #[error("the store's file may not grow any more (`ulimit -f`)")]
    FileLimit,
    /// The file or its folder cannot be written.
    #[error("the store is read-only")]
    ReadOnly,
    /// Another process holds the lock for longer than this one waits.
    #[error("the store is locked by another process")]
    Locked,
    /// It did not answer in time.
    #[error("the store did not answer in time")]
    Timeout,
    /// It no longer knows the moment that a snapshot is of.
    #[error("the store has forgotten the moment that was being read; begin again")]
    Forgotten,
    /// It has been closed.
    #[error("the store is closed")]
    Closed,
    /// The operating system's or the backend's own words.
    #[error("{0}")]
    Other(String),
}

impl KernelError {
    /// A failure that certainly left the store as it was.
    #[must_use]
    pub const fn not_applied(trouble: Trouble) -> Self {
        Self::Unavailable { applied: Applied::No, trouble }
    }

    /// A failure after which the write may or may not be there.
    #[must_use]
    pub const fn maybe_applied(trouble: Trouble) -> Self {
        Self::Unavailable { applied: Applied::Unknown, trouble }
    }

    /// The failure of an operation in parts, `done` of which have taken effect: it did not leave the store as it was.
    pub(crate) fn after(self, done: usize) -> Self {
        match self {
            Self::Unavailable { trouble, .. } if done > 0 => Self::maybe_applied(trouble),
            other => other,
        }
    }
}

/// Why a facade could not do its work. None of these is the fault of the person who signs in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store: unavailable or damaged.
    #[error("the store failed")]
    Kernel(#[from] KernelError),
    /// Many writers at one record; trying again later can help.
    #[error("too many writers at one {kind} record")]
    Contended {
        /// Whose record.
        kind: Kind,
    },
    /// The stored data: a record that no version of this program writes.
    #[error("the {kind} record {id:?} cannot be read: {what}")]
    Damaged {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: String,
        /// What is wrong with it; no content.
        what: String,
    },
    /// The configuration: a secret is sealed, or is to be sealed, with a data key that this process has not opened, because
    /// it has no key-encryption key for it, or not yet.
    #[error("the {kind} record {id:?} needs the data key {key:?}, which is not open here")]
    MissingKey {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: String,
        /// The id of the data key.
        key: String,
    },
    /// The store: its data keys could not be read for so long that the ones which are known may be replaced by now.
    #[error("a {kind} record cannot be sealed: the store's data keys could not be read for 12 hours")]
    StaleKeys {
        /// Whose record.
        kind: Kind,
    },
    /// Us: a value that cannot be written.
    #[error("a {kind} record cannot be written: {what}")]
    Unwritable {
        /// Its kind.
        kind: Kind,
        /// Why.
        what: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anyone mending anything.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Contended { .. } | Self::StaleKeys { .. } | Self::Kernel(KernelError::Unavailable { .. }))
    }
}
