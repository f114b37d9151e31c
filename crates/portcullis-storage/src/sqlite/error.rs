//! SQLite's errors in the kernel's terms.

use rusqlite::{ErrorCode, ffi};
use rustix::process::{Resource, getrlimit};

use crate::error::{Applied, KernelError, Trouble};

/// What fails where a file cannot grow: a write to it, and making the index of the log.
const GROWING: [i32; 2] = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE];

/// What an error means for an operation that `applied` or not.
pub(super) fn kernel_error(error: &rusqlite::Error, applied: Applied) -> KernelError {
    match classify(error) {
        Class::Corrupt(what) => KernelError::Corrupt { what },
        Class::Trouble(trouble) => KernelError::Unavailable { applied, trouble },
    }
}

pub(super) enum Class {
    Corrupt(String),
    Trouble(Trouble),
}

pub(super) fn classify(error: &rusqlite::Error) -> Class {
    let rusqlite::Error::SqliteFailure(failure, _) = error else {
        // The only other errors are columns that do not hold what the schema says.
        return Class::Corrupt(error.to_string());
    };
    match failure.code {
        ErrorCode::DiskFull => Class::Trouble(Trouble::DiskFull),
        // SQLite tells a full disk apart; a limit on the size of files it takes for a disk that cannot be written.
        ErrorCode::SystemIoFailure if GROWING.contains(&failure.extended_code) && is_limited() => {
            Class::Trouble(Trouble::FileLimit)
        }
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Class::Trouble(Trouble::ReadOnly),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            Class::Trouble(Trouble::Locked)
        }
        ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::TypeMismatch
        | ErrorCode::ConstraintViolation => Class::Corrupt(error.to_string()),
        _ => Class::Trouble(Trouble::Other(format!("SQLite: {error}"))),
    }
}

/// Whether the index of the log could not be made larger.
pub(super) fn is_of_the_index(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE)
}

/// Whether the files of this process may not become as large as they need to be.
fn is_limited() -> bool {
    getrlimit(Resource::Fsize).current.is_some()
}
