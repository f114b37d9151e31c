//! Times as Go reads them, and what it says of those that are none.
//!
//! Compat: Go's `time.Parse` with two layouts: that of RFC 3339, which takes a fraction although it names none, and one with
//! six digits of it. A text names the first element of the layout that does not fit.

use portcullis_runtime::Timestamp;

/// Of queries and of `metav1.Time`.
pub(crate) const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
/// Of `metav1.MicroTime`.
pub(crate) const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";
const FRACTION: &str = ".000000";
/// The elements of a layout before the fraction: how they are called, fewest and most digits, their range and its name.
const ELEMENTS: [(&str, &str, usize, usize, u32, u32, &str); 6] = [
    ("", "2006", 4, 4, 0, 9999, "year"),
    ("-", "01", 2, 2, 1, 12, "month"),
    ("-", "02", 2, 2, 0, 99, "day"),
    ("T", "15", 1, 2, 0, 23, "hour"),
    (":", "04", 2, 2, 0, 59, "minute"),
    (":", "05", 2, 2, 0, 59, "second"),
];

/// The time that a query parameter names. Compat: nothing, and `null`, are the time zero.
pub(crate) fn parse_query(text: &str) -> Result<Timestamp, String> {
    if text.is_empty() || text == "null" {
        return Ok(Timestamp::from_unix_nanos(i64::MIN));
    }
    parse(SECONDS, text)
}

/// A time in one of the layouts.
pub(crate) fn parse(layout: &str, text: &str) -> Result<Timestamp, String> {
    let whole = quote(text);
    let unfit = |rest: &str, element: &str| {
        format!("parsing time {whole} as {}: cannot parse {} as {}", quote(layout), quote(rest), quote(element))
    };
    let out_of_range = |name: &str| format!("parsing time {whole}: {name} out of range");
    let (mut rest, mut plain) = (text, String::with_capacity(text.len() + 1));
    for (separator, element, fewest, most, low, high, name) in ELEMENTS {
        rest = rest.strip_prefix(separator).ok_or_else(|| unfit(rest, separator))?;
        let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (part, after) = rest.split_at_checked(digits).unwrap_or_default();
        let number = part.parse::<u32>().ok().filter(|_| digits >= fewest).ok_or_else(|| unfit(rest, element))?;
        if !(low..=high).contains(&number) {
            return Err(out_of_range(name));
        }
        plain.push_str(separator);
        plain.push_str(if digits < most { "0" } else { "" });
        plain.push_str(part);
        rest = after;
    }
    let digits = rest.strip_prefix(['.', ',']).map_or(0, |after| after.bytes().take_while(u8::is_ascii_digit).count());
    let taken = match (layout == MICROS, digits) {
        (true, 6..) => 7,
        (true, _) => return Err(unfit(rest, FRACTION)),
        (false, 0) => 0,
        (false, digits) => digits + 1,
    };
    let (fraction, after) = rest.split_at_checked(taken).unwrap_or_default();
    rest = after;
    if let Some(fraction) = fraction.get(1..) {
        plain.push('.');
        plain.push_str(fraction.get(..9).unwrap_or(fraction));
    }
    let (zone, after) = match rest.strip_prefix('Z') {
        Some(after) => ("Z", after),
        None if is_offset(rest) => {
            let (zone, after) = rest.split_at_checked(6).unwrap_or_default();
            let number = |range| zone.get(range).and_then(|part: &str| part.parse::<u32>().ok()).unwrap_or(0);
            if number(4..6) > 60 {
                return Err(out_of_range("time zone offset minute"));
            }
            if number(1..3) > 24 {
                return Err(out_of_range("time zone offset hour"));
            }
            (zone, after)
        }
        None => return Err(unfit(rest, "Z07:00")),
    };
    plain.push_str(zone);
    if !after.is_empty() {
        return Err(format!("parsing time {whole}: extra text: {}", quote(after)));
    }
    Timestamp::parse_rfc3339(&plain).ok_or_else(|| out_of_range("day"))
}

/// `+01:00` and the like.
fn is_offset(text: &str) -> bool {
    let bytes: Vec<u8> = text.bytes().take(6).collect();
    match bytes.as_slice() {
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}

/// Compat: the package quotes in its own way: what is no printable ASCII, byte by byte.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=0x7f => out.push(char::from(byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_or_refused_in_gos_words() {
        for good in ["2026-08-01T09:30:00Z", "2026-08-01T09:30:00.5+02:00", "2026-08-01T9:30:00,25Z", "", "null"] {
            assert!(parse_query(good).is_ok(), "{good}");
        }
        for (bad, want) in [
            ("x", "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\""),
            ("2026-13-01T00:00:00Z", "parsing time \"2026-13-01T00:00:00Z\": month out of range"),
            ("2026-02-30T00:00:00Z", "parsing time \"2026-02-30T00:00:00Z\": day out of range"),
            ("2026-02-32T00:60:00Z", "parsing time \"2026-02-32T00:60:00Z\": minute out of range"),
            (
                "2026-01-01T00:00:00+25:00",
                "parsing time \"2026-01-01T00:00:00+25:00\": time zone offset hour out of range",
            ),
            (
                "2026-01-01T00:00:00-01:61",
                "parsing time \"2026-01-01T00:00:00-01:61\": time zone offset minute out of range",
            ),
            ("2026-01-01T00:00:00Zx", "parsing time \"2026-01-01T00:00:00Zx\": extra text: \"x\""),
            (
                "\0é\"",
                r#"parsing time "\x00\xc3\xa9\"" as "2006-01-02T15:04:05Z07:00": cannot parse "\x00\xc3\xa9\"" as "2006""#,
            ),
        ] {
            assert_eq!(parse_query(bad).unwrap_err(), want);
        }
    }

    #[test]
    fn microseconds_have_six_digits() {
        let micros = |text: &str| parse(MICROS, text).map(Timestamp::rfc3339_micros);
        assert_eq!(micros("2026-01-01T02:00:00.123456+02:00").unwrap(), "2026-01-01T00:00:00.123456Z");
        for (text, part, element) in [
            ("2026-01-01T00:00:00Z", "Z", ".000000"),
            ("2026-01-01T00:00:00.5Z", ".5Z", ".000000"),
            ("2026-01-01T00:00:00.1234567Z", "7Z", "Z07:00"),
            ("2026", "", "-"),
        ] {
            let want = format!("parsing time \"{text}\" as \"{MICROS}\": cannot parse \"{part}\" as \"{element}\"");
            assert_eq!(micros(text), Err(want));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9TZ:.+\\-é]{0,40}") {
            let _ = (parse(SECONDS, &text), parse(MICROS, &text));
        }
    }
}
