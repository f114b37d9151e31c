//! Times in queries, and what Go says of those that are none.
//!
//! Compat: `Time.UnmarshalQueryParameter` of apimachinery, which is Go's `time.Parse` with RFC 3339; the text names the first
//! element of the layout that does not fit.

use portcullis_runtime::Timestamp;

use super::go_duration::quote;

const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
/// The elements of the layout: what they are called, how many digits they have, their range and its name.
const ELEMENTS: [(&str, usize, u32, u32, &str); 6] = [
    ("2006", 4, 0, 9999, "year"),
    ("01", 2, 1, 12, "month"),
    ("02", 2, 1, 31, "day"),
    ("15", 2, 0, 23, "hour"),
    ("04", 2, 0, 59, "minute"),
    ("05", 2, 0, 59, "second"),
];
const SEPARATORS: [&str; 6] = ["", "-", "-", "T", ":", ":"];

/// The time that a query parameter names. Compat: nothing, and `null`, are the time zero.
pub(crate) fn parse_query(text: &str) -> Result<Timestamp, String> {
    if text.is_empty() || text == "null" {
        return Ok(Timestamp::from_unix_nanos(i64::MIN));
    }
    match mistake(text) {
        Some(why) => Err(why),
        None => Timestamp::parse_rfc3339(&text.replace(',', "."))
            .ok_or_else(|| format!("parsing time {}: day out of range", quote(text))),
    }
}

fn mistake(text: &str) -> Option<String> {
    let whole = quote(text);
    let unfit = |rest: &str, element: &str| {
        Some(format!("parsing time {whole} as {}: cannot parse {} as {}", quote(LAYOUT), quote(rest), quote(element)))
    };
    let mut rest = text;
    for ((element, digits, low, high, name), separator) in ELEMENTS.into_iter().zip(SEPARATORS) {
        match rest.strip_prefix(separator) {
            Some(after) => rest = after,
            None => return unfit(rest, separator),
        }
        let number = rest.get(..digits).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(number) = number.and_then(|part| part.parse::<u32>().ok()) else { return unfit(rest, element) };
        if !(low..=high).contains(&number) {
            return Some(format!("parsing time {whole}: {name} out of range"));
        }
        rest = rest.get(digits..).unwrap_or_default();
    }
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let after = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if after.len() < fraction.len() {
            rest = after;
        }
    }
    let after = match rest.strip_prefix('Z') {
        Some(after) => after,
        None if is_offset(rest) => {
            let number = |range| rest.get(range).and_then(|part: &str| part.parse::<u32>().ok()).unwrap_or(0);
            let wrong = if number(4..6) > 60 {
                Some("minute")
            } else if number(1..3) > 24 {
                Some("hour")
            } else {
                None
            };
            if let Some(wrong) = wrong {
                return Some(format!("parsing time {whole}: time zone offset {wrong} out of range"));
            }
            rest.get(6..).unwrap_or_default()
        }
        None => return unfit(rest, "Z07:00"),
    };
    (!after.is_empty()).then(|| format!("parsing time {whole}: extra text: {}", quote(after)))
}

/// `+01:00` and the like.
fn is_offset(text: &str) -> bool {
    let bytes: Vec<u8> = text.bytes().take(6).collect();
    match bytes.as_slice() {
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_or_refused_in_gos_words() {
        for good in ["2026-08-01T09:30:00Z", "2026-08-01T09:30:00,5Z", "2026-08-01T09:30:00.5+02:00", "", "null"] {
            assert!(parse_query(good).is_ok(), "{good}");
        }
        for (bad, want) in [
            ("x", "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\""),
            ("2026-13-01T00:00:00Z", "parsing time \"2026-13-01T00:00:00Z\": month out of range"),
            (
                "2026-01-01T00:00:00+25:00",
                "parsing time \"2026-01-01T00:00:00+25:00\": time zone offset hour out of range",
            ),
            (
                "2026-01-01T00:00:00-01:61",
                "parsing time \"2026-01-01T00:00:00-01:61\": time zone offset minute out of range",
            ),
            (
                "\u{e9}",
                "parsing time \"\\xc3\\xa9\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\\xc3\\xa9\" as \"2006\"",
            ),
            ("2026-02-30T00:00:00Z", "parsing time \"2026-02-30T00:00:00Z\": day out of range"),
            ("2026-01-01T00:00:00Zx", "parsing time \"2026-01-01T00:00:00Zx\": extra text: \"x\""),
        ] {
            assert_eq!(parse_query(bad).unwrap_err(), want);
        }
    }
}
