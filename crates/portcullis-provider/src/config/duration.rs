//! Durations as Go writes them (dex.md 0.1 T5).

use std::time::Duration;

/// Why a text is no duration. The wording is Go's, because Dex prints it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is no duration at all, or too large.
    #[error("time: invalid duration {0}")]
    Invalid(String),
    /// A number has no unit.
    #[error("time: missing unit in duration {0}")]
    MissingUnit(String),
    /// The unit is not one of `ns us µs ms s m h`.
    #[error("time: unknown unit {0} in duration {1}")]
    UnknownUnit(String, String),
    /// It is negative, which no setting can use.
    #[error("the duration {0} is negative")]
    Negative(String),
}

/// Reads a Go duration such as `1h30m`, `1.5s` or `0`. Negative ones are an error of their own.
///
/// Compat: Go `time.ParseDuration`; there is no unit for days.
///
/// # Errors
/// See [`DurationError`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let shown = || format!("{:?}", text.chars().take(64).collect::<String>());
    let invalid = || DurationError::Invalid(shown());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale: u128 = match unit {
            "" => return Err(DurationError::MissingUnit(shown())),
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            other => {
                return Err(DurationError::UnknownUnit(
                    format!("{:?}", other.chars().take(16).collect::<String>()),
                    shown(),
                ));
            }
        };
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        nanos = whole.checked_mul(scale).and_then(|n| nanos.checked_add(n)).ok_or_else(invalid)?;
        let mut part = scale;
        for digit in fraction.bytes().take(18) {
            part /= 10;
            nanos += u128::from(digit - b'0') * part;
        }
        if nanos > i64::MAX as u128 {
            return Err(invalid());
        }
        rest = after;
    }
    if negative && nanos > 0 {
        return Err(DurationError::Negative(shown()));
    }
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| invalid())
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("5s", 5_000_000_000),
            ("8h", 28_800_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("100ms10us3ns", 100_010_003),
            ("2\u{b5}s", 2_000),
            ("2\u{3bc}s", 2_000),
            ("-0s", 0),
            ("2562047h", 9_223_369_200_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_with_go_s_words() {
        for (text, want) in [
            ("", "time: invalid duration \"\""),
            ("1", "time: missing unit in duration \"1\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("h", "time: invalid duration \"h\""),
            (".s", "time: invalid duration \".s\""),
            ("1h ", "time: unknown unit \"h \" in duration \"1h \""),
            ("9999999h", "time: invalid duration \"9999999h\""),
            (
                "99999999999999999999999999999999999999999h",
                "time: invalid duration \"99999999999999999999999999999999999999999h\"",
            ),
            ("-1s", "the duration \"-1s\" is negative"),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), want);
        }
    }
}
