//! What the errors of MySQL and MariaDB mean (their "Error Reference").

use sqlx::mysql::MySqlDatabaseError;

use crate::{
    error::Trouble,
    sql::{Fault, fault_text},
};

pub(super) fn of(error: &sqlx::Error) -> Fault {
    let database = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    match database {
        Some(database) => answer(database.number(), fault_text(error)),
        None => Fault::of(error),
    }
}

/// An error has undone the statement, unless it came with the commit or with the end of the session.
fn answer(number: u16, text: String) -> Fault {
    match number {
        // ER_DUP_ENTRY, ER_DUP_ENTRY_WITH_KEY_NAME
        1062 | 1586 => Fault::Duplicate,
        // ER_CHECKREAD, ER_LOCK_DEADLOCK, ER_NEED_REPREPARE
        1020 | 1213 | 1615 => Fault::Again(Trouble::Other(text)),
        // ER_LOCK_WAIT_TIMEOUT
        1205 => Fault::Refused(Trouble::Locked),
        // ER_STATEMENT_TIMEOUT of MariaDB, ER_QUERY_TIMEOUT of MySQL, ER_QUERY_INTERRUPTED
        1969 | 3024 | 1317 => Fault::Refused(Trouble::Timeout),
        // ER_DISK_FULL, ER_RECORD_FILE_FULL
        1021 | 1114 => Fault::Refused(Trouble::DiskFull),
        // ER_OPTION_PREVENTS_STATEMENT (--read-only), ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_READ_ONLY_MODE
        1290 | 1792 | 1836 => Fault::Unfit(Trouble::ReadOnly),
        // ER_UNKNOWN_STMT_HANDLER: somebody in between has another session behind this connection now.
        1243 => Fault::Unfit(Trouble::Other(text)),
        // ER_SERVER_SHUTDOWN, ER_ERROR_DURING_COMMIT, ER_CONNECTION_KILLED, ER_CLIENT_INTERACTION_TIMEOUT; and the numbers of
        // clients, which a proxy in between tells of its own connection to the server (CR_SERVER_LOST and others).
        1053 | 1180 | 1927 | 4031 | 2000..=2999 => Fault::Lost(Trouble::Other(text)),
        // ER_NOT_KEYFILE, ER_CRASHED_ON_USAGE, ER_CRASHED_ON_REPAIR, ER_INDEX_CORRUPT
        1034 | 1194 | 1195 | 1712 => Fault::Corrupt(text),
        _ => Fault::Refused(Trouble::Other(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_undid_is_told_from_what_it_may_have_done() {
        let of = |number| answer(number, "words".to_owned());
        assert_eq!(of(1062), Fault::Duplicate);
        assert!(matches!(of(1213), Fault::Again(_)) && matches!(of(1615), Fault::Again(_)));
        assert_eq!(of(1205), Fault::Refused(Trouble::Locked));
        assert_eq!(of(1969), Fault::Refused(Trouble::Timeout));
        assert_eq!(of(1114), Fault::Refused(Trouble::DiskFull));
        assert_eq!(of(1290), Fault::Unfit(Trouble::ReadOnly));
        assert!(matches!(of(1053), Fault::Lost(_)) && matches!(of(1180), Fault::Lost(_)));
        assert!(matches!(of(2013), Fault::Lost(_)), "a proxy has lost the server");
        assert!(matches!(of(1194), Fault::Corrupt(_)));
        assert!(matches!(of(1146), Fault::Refused(Trouble::Other(_))));
    }
}
