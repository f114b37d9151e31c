//! Backups, and copies from one backend to another.
//!
//! Both are made from a [`Snapshot`](crate::Snapshot): a store as it was at one moment, whatever its replicas do meanwhile. A backup
//! is a file of lines (`file`), read whole and checked before anything is written from it. Filling a store (`fill`) never
//! changes what it does not know: it refuses a store that holds other records, unless it is told to replace them, goes on where
//! an earlier run was cut off, and ends by comparing all that is there with all that should be.
//!
//! Secrets stay as they are kept: sealed where the store seals them, in clear where it does not. A backup without a
//! key-encryption key is therefore as precious as the store itself; its file can be read by its owner only.

mod contents;
mod file;
mod fill;

pub use self::{
    file::{BackedUp, BackupError, BackupFile, BackupHeader, MAX_LINE_BYTES, write_backup},
    fill::{FillError, FillOptions, Filled, copy_store, restore_backup},
};

/// Which records are taken along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    #[default]
    Everything,
    /// Those that outlive sign-ins: keys, and what people configure. Nobody stays signed in.
    WithoutSessions,
}

impl Scope {
    /// Whether records of this kind are taken along. Leases never are: nobody works in the new store yet.
    #[must_use]
    pub const fn takes(self, kind: crate::kernel::Kind) -> bool {
        match self {
            _ if matches!(kind, crate::kernel::Kind::Lease) => false,
            Self::Everything => true,
            Self::WithoutSessions => !kind.is_session(),
        }
    }
}
