//! `netip.ParseAddr`: is the text an IP address, of which kind, and if not, why not in Go's words.
//!
//! Compat: `net/netip` of Go 1.26. An address with a dot before any colon is read as IPv4, and what follows `%` is a zone.

use portcullis_kube::go::quote;

/// Bytes of an IPv6 address.
const LENGTH: usize = 16;

/// What a text is the address of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    /// Also what holds an IPv4 address at its end.
    V6,
}

/// Reads `text`; the error is Go's.
pub(crate) fn parse(text: &str) -> Result<Family, String> {
    let problem = match text.bytes().find(|byte| matches!(byte, b'.' | b':' | b'%')) {
        Some(b'.') => match v4(text) {
            Ok(()) => return Ok(Family::V4),
            Err(problem) => problem,
        },
        Some(b':') => match v6(text) {
            Ok(()) => return Ok(Family::V6),
            Err(problem) => problem,
        },
        Some(_) => Problem::of_all("missing IPv6 address"),
        None => Problem::of_all("unable to parse IP"),
    };
    let at = if problem.at.is_empty() { String::new() } else { format!(" (at {})", quote(problem.at)) };
    Err(format!("ParseAddr({}): {}{at}", quote(text), problem.text))
}

/// What is wrong, and the rest of the text from where it is; empty when it is wrong as a whole.
struct Problem<'t> {
    text: &'static str,
    at: &'t str,
}

impl<'t> Problem<'t> {
    const fn of_all(text: &'static str) -> Self {
        Self { text, at: "" }
    }

    const fn at(text: &'static str, at: &'t str) -> Self {
        Self { text, at }
    }
}

fn v4(text: &str) -> Result<(), Problem<'_>> {
    let (mut value, mut digits, mut dots) = (0, 0, 0);
    let mut previous = b'.';
    for (at, byte) in text.bytes().enumerate() {
        let rest = || text.get(at..).unwrap_or_default();
        match byte {
            b'0'..=b'9' if digits == 1 && value == 0 => {
                return Err(Problem::of_all("IPv4 field has octet with leading zero"));
            }
            b'0'..=b'9' => {
                value = value * 10 + u32::from(byte - b'0');
                digits += 1;
                if value > 255 {
                    return Err(Problem::of_all("IPv4 field has value >255"));
                }
            }
            b'.' if previous == b'.' || at + 1 == text.len() => {
                return Err(Problem::at("IPv4 field must have at least one digit", rest()));
            }
            b'.' if dots == 3 => return Err(Problem::of_all("IPv4 address too long")),
            b'.' => (value, digits, dots) = (0, 0, dots + 1),
            _ => return Err(Problem::at("unexpected character", rest())),
        }
        previous = byte;
    }
    if dots < 3 { Err(Problem::of_all("IPv4 address too short")) } else { Ok(()) }
}

fn v6(text: &str) -> Result<(), Problem<'_>> {
    let mut rest = match text.split_once('%') {
        Some((_, "")) => return Err(Problem::of_all("zone must be a non-empty string")),
        Some((address, _)) => address,
        None => text,
    };
    let mut ellipsis = None;
    if let Some(after) = rest.strip_prefix("::") {
        ellipsis = Some(0);
        rest = after;
        if rest.is_empty() {
            return Ok(());
        }
    }
    let mut filled = 0;
    while filled < LENGTH {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        // Go finds five digits too long before it sees how many there are, so the value never overflows.
        if digits > 4 {
            return Err(Problem::at("each group must have 4 or less digits", rest));
        }
        if digits == 0 {
            return Err(Problem::at("each colon-separated field must have at least one digit", rest));
        }
        let after = rest.get(digits..).unwrap_or_default();
        if after.starts_with('.') {
            if ellipsis.is_none() && filled != 12 {
                let text = "embedded IPv4 address must replace the final 2 fields of the address";
                return Err(Problem::at(text, rest));
            }
            if filled + 4 > LENGTH {
                let text = "too many hex fields to fit an embedded IPv4 at the end of the address";
                return Err(Problem::at(text, rest));
            }
            v4(rest)?;
            rest = "";
            filled += 4;
            break;
        }
        filled += 2;
        rest = after;
        if rest.is_empty() {
            break;
        }
        rest = match rest.strip_prefix(':') {
            None => return Err(Problem::at("unexpected character, want colon", rest)),
            Some("") => return Err(Problem::at("colon must be followed by more characters", rest)),
            Some(after) => after,
        };
        if let Some(after) = rest.strip_prefix(':') {
            if ellipsis.is_some() {
                return Err(Problem::at("multiple :: in address", rest));
            }
            ellipsis = Some(filled);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    }
    match ellipsis {
        _ if !rest.is_empty() => Err(Problem::at("trailing garbage after address", rest)),
        None if filled < LENGTH => Err(Problem::of_all("address string too short")),
        Some(_) if filled == LENGTH => Err(Problem::of_all("the :: must expand to at least one field of zeros")),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        for text in
            ["::", "::1", "fe80::1%en0", "1:2:3:4:5:6:7:8", "1::", "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "A::f"]
        {
            assert_eq!(parse(text), Ok(Family::V6), "{text}");
        }
        for text in ["1.2.3.4", "0.0.0.0", "255.255.255.255"] {
            assert_eq!(parse(text), Ok(Family::V4), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_gos_words() {
        for (text, want) in [
            ("", "unable to parse IP"),
            ("localhost", "unable to parse IP"),
            ("%eth0", "missing IPv6 address"),
            ("1.2.3", "IPv4 address too short"),
            ("1.2.3.4.5", "IPv4 address too long"),
            ("1..3.4", r#"IPv4 field must have at least one digit (at ".3.4")"#),
            (".1.2.3", r#"IPv4 field must have at least one digit (at ".1.2.3")"#),
            ("1.2.3.", r#"IPv4 field must have at least one digit (at ".")"#),
            ("1.2.3.400", "IPv4 field has value >255"),
            ("1.2.3.04", "IPv4 field has octet with leading zero"),
            ("1.2.3.x", r#"unexpected character (at "x")"#),
            ("::1%", "zone must be a non-empty string"),
            ("::12345", r#"each group must have 4 or less digits (at "12345")"#),
            (":1", r#"each colon-separated field must have at least one digit (at ":1")"#),
            ("1:é", r#"each colon-separated field must have at least one digit (at "é")"#),
            ("1:1.2.3.4", r#"embedded IPv4 address must replace the final 2 fields of the address (at "1.2.3.4")"#),
            (
                "::2:3:4:5:6:7:8:1.2.3.4",
                r#"too many hex fields to fit an embedded IPv4 at the end of the address (at "1.2.3.4")"#,
            ),
            ("::1.2.3", "IPv4 address too short"),
            ("1:2g::", r#"unexpected character, want colon (at "g::")"#),
            ("1:2:", r#"colon must be followed by more characters (at ":")"#),
            ("1::2::3", r#"multiple :: in address (at ":3")"#),
            ("1:2:3:4:5:6:7:8:9", r#"trailing garbage after address (at "9")"#),
            ("1:2", "address string too short"),
            ("1:2:3:4::5:6:7:8", "the :: must expand to at least one field of zeros"),
        ] {
            assert_eq!(parse(text), Err(format!("ParseAddr({}): {want}", quote(text))), "{text}");
        }
    }
}
