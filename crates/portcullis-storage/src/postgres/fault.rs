//! What PostgreSQL's errors mean (its appendix A, "Error Codes").

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::{
    error::Trouble,
    sql::{Fault, fault_text},
};

pub(super) fn of(error: &sqlx::Error) -> Fault {
    let database = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    match database {
        Some(database) => answer(database.code(), is_fatal(database.severity()), fault_text(error)),
        None => Fault::of(error),
    }
}

const fn is_fatal(severity: PgSeverity) -> bool {
    matches!(severity, PgSeverity::Fatal | PgSeverity::Panic)
}

/// An error that is not fatal has undone the statement. After a fatal one the session is over, and whether the statement
/// had been committed just before is not said.
fn answer(code: &str, fatal: bool, text: String) -> Fault {
    match code {
        _ if fatal => Fault::Lost(Trouble::Other(text)),
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Fault::Again(Trouble::Other(text)),
        // statement_completion_unknown, transaction_resolution_unknown
        "40003" => Fault::Lost(Trouble::Other(text)),
        // lock_not_available, query_canceled
        "55P03" => Fault::Refused(Trouble::Locked),
        "57014" => Fault::Refused(Trouble::Timeout),
        // disk_full; read_only_sql_transaction: a standby, or a primary that has become one.
        "53100" => Fault::Refused(Trouble::DiskFull),
        "25006" => Fault::Unfit(Trouble::ReadOnly),
        // invalid_sql_statement_name: somebody in between has another session behind this connection now.
        "26000" => Fault::Unfit(Trouble::Other(text)),
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => Fault::Corrupt(text),
        // connection_exception and its kind: a proxy in between tells it of its own connection to the server.
        code if code.starts_with("08") => Fault::Lost(Trouble::Other(text)),
        _ => Fault::Refused(Trouble::Other(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_undid_is_told_from_what_it_may_have_done() {
        let of = |code, fatal| answer(code, fatal, "words".to_owned());
        assert!(matches!(of("40001", false), Fault::Again(_)) && matches!(of("40P01", false), Fault::Again(_)));
        assert_eq!(of("55P03", false), Fault::Refused(Trouble::Locked));
        assert_eq!(of("57014", false), Fault::Refused(Trouble::Timeout));
        assert_eq!(of("53100", false), Fault::Refused(Trouble::DiskFull));
        assert_eq!(of("25006", false), Fault::Unfit(Trouble::ReadOnly));
        assert!(matches!(of("57P01", true), Fault::Lost(_)), "admin_shutdown may come after the commit");
        assert!(matches!(of("57P02", true), Fault::Lost(_)) && matches!(of("40003", false), Fault::Lost(_)));
        assert!(matches!(of("08006", false), Fault::Lost(_)) && matches!(of("08007", false), Fault::Lost(_)));
        assert!(matches!(of("XX001", false), Fault::Corrupt(_)));
        assert!(matches!(of("42P01", false), Fault::Refused(Trouble::Other(_))));
    }
}
