//! Numbers and booleans in the spellings that Go's `strconv` accepts, with its error texts.

use super::go_quote;

/// `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", go_quote(text))),
    }
}

/// `strconv.ParseInt(text, base, bits)`; base 0 reads `0x`, `0o`, `0b` and `0` prefixes and underscores.
pub(crate) fn parse_int(text: &str, base: u32, bits: u32) -> Result<i64, String> {
    let fail = |reason: &str| format!("strconv.ParseInt: parsing {}: {reason}", go_quote(text));
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let (radix, digits) = if base == 0 { prefixed(digits) } else { (base, digits.to_owned()) };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(fail("invalid syntax"));
    }
    let magnitude = i128::from_str_radix(&digits, radix).map_err(|_| fail("value out of range"))?;
    let value = if negative { -magnitude } else { magnitude };
    let limit = 1_i128 << (bits - 1);
    if value < -limit || value >= limit {
        return Err(fail("value out of range"));
    }
    i64::try_from(value).map_err(|_| fail("value out of range"))
}

/// Splits off a base prefix. Underscores are allowed only between digits or after the prefix; wrong ones leave a digit
/// string that does not parse.
fn prefixed(digits: &str) -> (u32, String) {
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = if let Some(body) = lower.strip_prefix("0x") {
        (16, body)
    } else if let Some(body) = lower.strip_prefix("0o") {
        (8, body)
    } else if let Some(body) = lower.strip_prefix("0b") {
        (2, body)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.get(1..).unwrap_or_default())
    } else {
        (10, lower.as_str())
    };
    let misplaced = body.ends_with('_') || body.contains("__") || (radix == 10 && body.starts_with('_'));
    (radix, if misplaced { String::new() } else { body.replace('_', "") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_go_reads_them() {
        for (text, want) in [
            ("180", 180),
            ("-1", -1),
            ("+7", 7),
            ("0x10", 16),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("1_000", 1000),
            ("0", 0),
        ] {
            assert_eq!(parse_int(text, 0, 64).expect(text), want, "{text}");
        }
        for text in ["", "-", "1.5", "0x", "1__0", "_1", "1_", "abc", "08", " 1"] {
            assert!(parse_int(text, 0, 64).is_err(), "{text}");
        }
        assert!(parse_int("2147483648", 10, 32).is_err());
        assert_eq!(parse_int("-2147483648", 10, 32), Ok(-2_147_483_648));
        assert!(parse_int("0x10", 10, 32).is_err());
    }
}
