//! What an error means for the statement that met it.

use std::io;

use crate::error::Trouble;

/// What became of a statement that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The id is taken.
    Duplicate,
    /// The server undid it in favour of another transaction; it can be sent again.
    Again(Trouble),
    /// The server did not do it.
    Refused(Trouble),
    /// The server did not do it, and will do nothing more over this connection.
    Unfit(Trouble),
    /// The connection broke before the whole statement had left: the server cannot have done it.
    Unsent(Trouble),
    /// Nobody knows.
    Lost(Trouble),
    /// The answer is not what this program can have written.
    Corrupt(String),
}

impl Fault {
    /// The meaning of an error that did not come from the server as an answer.
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match error {
            // Only a write meets a broken pipe, and a statement that was not written to its end is not carried out.
            sqlx::Error::Io(io) if io.kind() == io::ErrorKind::BrokenPipe => Self::Unsent(trouble(error)),
            sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. } => Self::Corrupt(text(error)),
            sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => Self::Refused(trouble(error)),
            _ => Self::Lost(trouble(error)),
        }
    }

    /// The same when the statement had not been sent yet.
    pub(crate) fn before_sending(self) -> Self {
        match self {
            Self::Lost(trouble) => Self::Unsent(trouble),
            other => other,
        }
    }

    /// What is wrong, in words.
    pub(crate) fn trouble(self) -> Trouble {
        match self {
            Self::Duplicate => Trouble::Other("the id is taken".to_owned()),
            Self::Again(trouble)
            | Self::Refused(trouble)
            | Self::Unfit(trouble)
            | Self::Unsent(trouble)
            | Self::Lost(trouble) => trouble,
            Self::Corrupt(what) => Trouble::Other(what),
        }
    }
}

pub(crate) fn trouble(error: &sqlx::Error) -> Trouble {
    Trouble::Other(text(error))
}

/// An error in words. No error of sqlx's holds a password.
pub(crate) fn text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(io) if io.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed the connection".to_owned()
        }
        sqlx::Error::Io(io) => io.to_string(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Tls(error) => format!("TLS: {error}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_that_cannot_have_arrived_is_unsent() {
        for (kind, unsent) in [
            (io::ErrorKind::BrokenPipe, true),
            (io::ErrorKind::ConnectionReset, false),
            (io::ErrorKind::UnexpectedEof, false),
            (io::ErrorKind::TimedOut, false),
        ] {
            let fault = Fault::of(&sqlx::Error::Io(kind.into()));
            assert_eq!(matches!(fault, Fault::Unsent(_)), unsent, "{kind}");
            assert_eq!(matches!(fault, Fault::Lost(_)), !unsent, "{kind}");
            assert!(matches!(fault.before_sending(), Fault::Unsent(_)));
        }
        assert!(matches!(Fault::of(&sqlx::Error::Protocol("x".to_owned())), Fault::Lost(_)));
        assert!(matches!(Fault::of(&sqlx::Error::Decode("x".into())), Fault::Corrupt(_)));
    }
}
