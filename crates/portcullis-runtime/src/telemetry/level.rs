//! Log levels as Go's slog reads and writes them.

use std::fmt;
use std::str::FromStr;

/// A slog level: `DEBUG` is -4, `INFO` 0, `WARN` 4, `ERROR` 8; everything between is written as `INFO+2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(i32);

/// The text is no slog level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown log level {0:?}: want debug, info, warn or error, with an offset such as info+2 if need be")]
pub struct LevelError(String);

impl Level {
    /// For developers.
    pub const DEBUG: Self = Self(-4);
    /// What happens in ordinary operation.
    pub const INFO: Self = Self(0);
    /// What an operator should look at.
    pub const WARN: Self = Self(4);
    /// What failed.
    pub const ERROR: Self = Self(8);

    /// A level by slog's number: debug -4, info 0, warn 4, error 8, and what lies between.
    #[must_use]
    pub const fn from_slog(number: i32) -> Self {
        Self(number)
    }

    /// The level that a tracing level stands for; `TRACE` is below `DEBUG`.
    pub(super) const fn of(level: tracing::Level) -> Self {
        match level {
            tracing::Level::TRACE => Self(-8),
            tracing::Level::DEBUG => Self::DEBUG,
            tracing::Level::INFO => Self::INFO,
            tracing::Level::WARN => Self::WARN,
            tracing::Level::ERROR => Self::ERROR,
        }
    }

    /// The least severe tracing level that is at least this one; `None` when even errors are below it.
    pub(super) fn filter(self) -> Option<tracing::Level> {
        use tracing::Level as T;
        [T::TRACE, T::DEBUG, T::INFO, T::WARN, T::ERROR].into_iter().find(|level| Self::of(*level) >= self)
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::INFO
    }
}

impl FromStr for Level {
    type Err = LevelError;

    /// Reads a name in any case with an optional signed offset (slog's `Level.UnmarshalText`).
    fn from_str(text: &str) -> Result<Self, LevelError> {
        let error = || LevelError(text.chars().take(32).collect());
        let (name, offset) = match text.find(['+', '-']) {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().map_err(|_| error())? };
        let base = match name.to_ascii_uppercase().as_str() {
            "DEBUG" => Self::DEBUG,
            "INFO" => Self::INFO,
            "WARN" => Self::WARN,
            "ERROR" => Self::ERROR,
            _ => return Err(error()),
        };
        base.0.checked_add(offset).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, base) = match self.0 {
            ..0 => ("DEBUG", Self::DEBUG),
            0..4 => ("INFO", Self::INFO),
            4..8 => ("WARN", Self::WARN),
            8.. => ("ERROR", Self::ERROR),
        };
        match i64::from(self.0) - i64::from(base.0) {
            0 => f.write_str(name),
            offset => write!(f, "{name}{offset:+}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_offsets_are_read_and_written_as_slog_does() {
        for (text, shown) in [
            ("debug", "DEBUG"),
            ("INFO", "INFO"),
            ("Warn", "WARN"),
            ("error", "ERROR"),
            ("INFO+2", "INFO+2"),
            ("info+4", "WARN"),
            ("warn-1", "INFO+3"),
            ("debug-4", "DEBUG-4"),
            ("error+10", "ERROR+10"),
            ("info-1", "DEBUG+3"),
        ] {
            assert_eq!(text.parse::<Level>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "trace",
            "information",
            "warning",
            "info+",
            "info+x",
            "+2",
            "info+99999999999",
            "error+2147483647",
            "info 2",
        ] {
            assert!(text.parse::<Level>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_offset_moves_the_filter_to_the_next_severer_level() {
        let filter = |text: &str| text.parse::<Level>().unwrap().filter();
        assert_eq!(filter("info"), Some(tracing::Level::INFO));
        assert_eq!(filter("info+2"), Some(tracing::Level::WARN));
        assert_eq!(filter("debug-4"), Some(tracing::Level::TRACE));
        assert_eq!(filter("error"), Some(tracing::Level::ERROR));
        assert_eq!(filter("error+1"), None);
    }
}
