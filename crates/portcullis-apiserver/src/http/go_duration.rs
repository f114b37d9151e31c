//! Durations in queries and schedules, and what Go says of those that are none.
//!
//! Compat: `time.ParseDuration`: numbers with units, such as `1h30m`, at most 2^63-1 nanoseconds.

use crate::schema::go_time::quote;

/// Nanoseconds of a unit.
fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// The nanoseconds of a duration, or why the text is none.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let number: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        if number > LIMIT {
            return Err(invalid());
        }
        let (name, after) = after.split_at(after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len()));
        if name.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let scale =
            unit(name).ok_or_else(|| format!("time: unknown unit {} in duration {}", quote(name), quote(text)))?;
        let whole = number.checked_mul(scale).and_then(|part| part.checked_add(part_of(fraction, scale)));
        nanos = whole.and_then(|part| nanos.checked_add(part)).filter(|sum| *sum <= LIMIT).ok_or_else(invalid)?;
        rest = after;
    }
    match i64::try_from(nanos) {
        Ok(nanos) => Ok(if negative { -nanos } else { nanos }),
        Err(_) if negative => Ok(i64::MIN),
        Err(_) => Err(invalid()),
    }
}

/// What a sum may come to on its way.
const LIMIT: u64 = 1 << 63;

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// What the digits behind the point come to.
fn part_of(fraction: &str, scale: u64) -> u64 {
    let (mut sum, mut one) = (0_u128, u128::from(scale));
    // Each counts a thousand times, so that what is left of small units adds up.
    one *= 1_000;
    for digit in fraction.bytes().take(18) {
        one /= 10;
        sum += u128::from(digit - b'0') * one;
    }
    u64::try_from(sum / 1_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_or_refused_in_gos_words() {
        for (text, want) in [
            ("0", 0),
            ("-0", 0),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5h", 1_800_000_000_000),
            ("1.s", 1_000_000_000),
            ("-2\u{b5}s", -2_000),
            ("3\u{3bc}s1ns", 3_001),
            ("0.1ns", 0),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("", "invalid duration \"\""),
            ("+", "invalid duration \"+\""),
            ("x", "invalid duration \"x\""),
            (".s", "invalid duration \".s\""),
            ("1", "missing unit in duration \"1\""),
            ("1d", "unknown unit \"d\" in duration \"1d\""),
            ("1\u{e9}\n", "unknown unit \"\\xc3\\xa9\\x0a\" in duration \"1\\xc3\\xa9\\x0a\""),
            ("9223372036854775808ns", "invalid duration \"9223372036854775808ns\""),
            ("9999999h", "invalid duration \"9999999h\""),
            ("99999999999999999999s", "invalid duration \"99999999999999999999s\""),
        ] {
            assert_eq!(parse(text).unwrap_err(), format!("time: {want}"));
        }
    }
}
