//! Timestamps and durations.
//!
//! Compat: Go's `time` package as cel-go `common/types/{timestamp,duration}.go` 0.29.2 uses it. Named time zones other than
//! `UTC` are refused: upstream reads them from the machine it runs on.

use std::cmp::Ordering;
use std::fmt;

use crate::error::EvalError;
use crate::ops::Evaluated;
use crate::value::Value;

const NANOS: i64 = 1_000_000_000;
/// Midnight of 0001-01-01, and the last second of 9999, in seconds since 1970.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

/// A point in time with the distance from UTC that it was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
    offset: i32,
}

/// The parts of a point in time on the calendar.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_seconds(seconds: i64) -> Civil {
    let days = seconds.div_euclid(86_400);
    let rest = seconds.rem_euclid(86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: of_year - (153 * month_index + 2) / 5 + 1,
        hour: rest / 3_600,
        minute: rest % 3_600 / 60,
        second: rest % 60,
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Reads `count` digits.
fn digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let found = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if found < least {
        return None;
    }
    Some((text.get(..found)?.parse().ok()?, text.get(found..)?))
}

impl Timestamp {
    /// A point in time in seconds since 1970, if it is within the years 1 to 9999.
    pub(crate) fn from_seconds(seconds: i64) -> Result<Self, EvalError> {
        Self { seconds, nanos: 0, offset: 0 }.checked()
    }

    fn checked(self) -> Result<Self, EvalError> {
        if (FIRST..=LAST).contains(&self.seconds) { Ok(self) } else { Err(EvalError::new("timestamp overflow")) }
    }

    /// Reads RFC 3339 as Go does; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, EvalError>> {
        let (year, rest) = digits(text, 4, 4)?;
        let (month, rest) = digits(rest.strip_prefix('-')?, 2, 2)?;
        let (day, rest) = digits(rest.strip_prefix('-')?, 2, 2)?;
        let (hour, rest) = digits(rest.strip_prefix('T')?, 1, 2)?;
        let (minute, rest) = digits(rest.strip_prefix(':')?, 2, 2)?;
        let (second, mut rest) = digits(rest.strip_prefix(':')?, 2, 2)?;
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in(year, month)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return None;
        }
        let mut nanos = 0;
        if let Some(fraction) = rest.strip_prefix(['.', ',']) {
            let count = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if count == 0 {
                return None;
            }
            let kept = fraction.get(..count.min(9))?;
            nanos = format!("{kept:0<9}").parse().ok()?;
            rest = fraction.get(count..)?;
        }
        let offset = match rest {
            "Z" => 0,
            _ => {
                let (negative, zone) = match rest.as_bytes().first()? {
                    b'+' => (false, rest.get(1..)?),
                    b'-' => (true, rest.get(1..)?),
                    _ => return None,
                };
                let (hours, zone) = digits(zone, 2, 2)?;
                let (minutes, zone) = digits(zone.strip_prefix(':')?, 2, 2)?;
                if !zone.is_empty() || hours > 24 || minutes > 60 {
                    return None;
                }
                let seconds = hours * 3_600 + minutes * 60;
                if negative { -seconds } else { seconds }
            }
        };
        let local = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
        Some(Self { seconds: local - offset, nanos, offset: i32::try_from(offset).ok()? }.checked())
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.seconds == FIRST && self.nanos == 0
    }

    pub(crate) fn seconds(&self) -> i64 {
        self.seconds
    }

    pub(crate) fn compare(a: &Self, b: &Self) -> Ordering {
        (a.seconds, a.nanos).cmp(&(b.seconds, b.nanos))
    }

    /// The time `span` nanoseconds later.
    pub(crate) fn add(&self, span: i64) -> Result<Self, EvalError> {
        let total = i128::from(self.seconds) * i128::from(NANOS) + i128::from(self.nanos) + i128::from(span);
        let seconds =
            i64::try_from(total.div_euclid(i128::from(NANOS))).map_err(|_| EvalError::new("integer overflow"))?;
        let nanos = u32::try_from(total.rem_euclid(i128::from(NANOS))).unwrap_or_default();
        Self { seconds, nanos, offset: self.offset }.checked()
    }

    /// The nanoseconds from `other` to this time.
    pub(crate) fn since(&self, other: &Self) -> Option<i64> {
        let whole = self.seconds.checked_sub(other.seconds)?.checked_mul(NANOS)?;
        whole.checked_add(i64::from(self.nanos) - i64::from(other.nanos))
    }

    fn local(&self) -> Civil {
        civil_from_seconds(self.seconds + i64::from(self.offset))
    }

    /// As `%v` shows it.
    pub(crate) fn go_string(&self) -> String {
        let Civil { year, month, day, hour, minute, second } = self.local();
        let zone = zone(self.offset, "");
        let name = if self.offset == 0 { "UTC" } else { zone.as_str() };
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{} {zone} {name}", fraction(self.nanos))
    }
}

fn zone(offset: i32, separator: &str) -> String {
    let minutes = offset.abs() / 60;
    format!("{}{:02}{separator}{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
}

fn fraction(nanos: u32) -> String {
    if nanos == 0 {
        return String::new();
    }
    format!(".{nanos:09}").trim_end_matches('0').to_owned()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second } = self.local();
        let zone = if self.offset == 0 { "Z".to_owned() } else { zone(self.offset, ":") };
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{}{zone}", fraction(self.nanos))
    }
}

/// Reads a duration as Go's `time.ParseDuration` does.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole_length = rest.bytes().take_while(u8::is_ascii_digit).count();
        let whole: u64 = if whole_length == 0 { 0 } else { rest.get(..whole_length)?.parse().ok()? };
        if whole > 1 << 63 {
            return None;
        }
        rest = rest.get(whole_length..)?;
        let mut fraction = "";
        if let Some(tail) = rest.strip_prefix('.') {
            let length = tail.bytes().take_while(u8::is_ascii_digit).count();
            fraction = tail.get(..length)?;
            rest = tail.get(length..)?;
        }
        if whole_length == 0 && fraction.is_empty() {
            return None;
        }
        let unit_length = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let unit: u64 = match rest.get(..unit_length)? {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = rest.get(unit_length..)?;
        let mut value = whole.checked_mul(unit).filter(|value| *value <= 1 << 63)?;
        value = value.checked_add(fraction_of(fraction, unit))?;
        total = total.checked_add(value).filter(|total| *total <= 1 << 63)?;
        if value > 1 << 63 {
            return None;
        }
    }
    if negative {
        return Some(0i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).ok()
}

/// The digits behind a point as a part of `unit`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "upstream computes with doubles here"
)]
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0u64, 1.0f64);
    for digit in digits.bytes().map(|b| u64::from(b - b'0')) {
        match value.checked_mul(10).and_then(|v| v.checked_add(digit)).filter(|v| *v <= 1 << 63) {
            Some(next) => (value, scale) = (next, scale * 10.0),
            None => break,
        }
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

/// A duration in seconds.
#[expect(clippy::cast_precision_loss, reason = "as Go does")]
pub(crate) fn seconds(nanoseconds: i64) -> f64 {
    (nanoseconds / NANOS) as f64 + (nanoseconds % NANOS) as f64 / 1e9
}

/// `%v` of a duration: `1h2m3.5s`.
pub(crate) fn go_duration(nanoseconds: i64) -> String {
    let magnitude = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let decimal = |value: u64, unit: u64| {
        let rest = value % unit;
        let digits = unit.ilog10() as usize;
        let fraction = if rest == 0 { String::new() } else { format!(".{rest:0digits$}") };
        format!("{}{}", value / unit, fraction.trim_end_matches('0'))
    };
    match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{magnitude}ns"),
        1_000..1_000_000 => format!("{sign}{}\u{b5}s", decimal(magnitude, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(magnitude, 1_000_000)),
        _ => {
            let minutes = magnitude / 60_000_000_000;
            let seconds = decimal(magnitude % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, m) => format!("{sign}{m}m{seconds}s"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
            }
        }
    }
}

/// The distance from UTC that `zone` names.
fn zone_offset(zone: &str) -> Result<i64, EvalError> {
    let Some((hours, minutes)) = zone.split_once(':') else {
        return match zone {
            "" | "UTC" => Ok(0),
            _ => Err(EvalError::new(format!("unknown time zone {zone}"))),
        };
    };
    let number = |text: &str| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let syntax = digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().map_err(|_| {
            let reason = if syntax { "invalid syntax" } else { "value out of range" };
            EvalError::new(format!("strconv.Atoi: parsing {}: {reason}", crate::show::quoted(text)))
        })
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let offset = hours.saturating_mul(60);
    let offset = if zone.starts_with('-') { offset.saturating_sub(minutes) } else { offset.saturating_add(minutes) };
    Ok(offset.saturating_mul(60))
}

/// `getFullYear` and the others: `zone` is where the calendar hangs.
pub(crate) fn part(function: &str, time: &Timestamp, zone: &str) -> Evaluated {
    let seconds = time.seconds.saturating_add(zone_offset(zone)?);
    let civil = civil_from_seconds(seconds);
    let days = seconds.div_euclid(86_400);
    Ok(Value::Int(match function {
        "getFullYear" => civil.year,
        "getMonth" => civil.month - 1,
        "getDayOfYear" => days - days_from_civil(civil.year, 1, 1),
        "getDayOfMonth" => civil.day - 1,
        "getDate" => civil.day,
        "getDayOfWeek" => (days + 4).rem_euclid(7),
        "getHours" => civil.hour,
        "getMinutes" => civil.minute,
        "getSeconds" => civil.second,
        _ => i64::from(time.nanos / 1_000_000),
    }))
}

/// `getHours` and the others of a duration: all of it in one unit.
pub(crate) fn duration_part(function: &str, nanoseconds: i64) -> Value {
    Value::Int(match function {
        "getHours" => nanoseconds / (3_600 * NANOS),
        "getMinutes" => nanoseconds / (60 * NANOS),
        "getSeconds" => nanoseconds / NANOS,
        _ => nanoseconds / 1_000_000,
    })
}
