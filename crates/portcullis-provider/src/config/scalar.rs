//! What a plain YAML scalar means in a Dex file.
//!
//! Compat: Dex reads its file with `ghodss/yaml`, which stands on `yaml.v2` (YAML 1.1): `yes`, `on` and `y` are booleans,
//! `0777` is octal, `1_000` is a number, and a timestamp stays a string. Quoted scalars are always strings. Nothing is
//! coerced afterwards: a number where a string is wanted is an error (dex.md 0.1 T3).

/// A resolved scalar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    /// `~`, `null` or nothing at all.
    Null,
    /// A boolean in any of YAML 1.1's spellings.
    Bool(bool),
    /// A whole number that fits 64 bits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Everything else.
    Str(String),
}

/// Resolves a plain (unquoted, untagged) scalar.
pub(crate) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Scalar::Str(text.to_owned());
    }
    let plain = text.replace('_', "");
    if let Some(int) = integer(&plain) {
        return Scalar::Int(int);
    }
    if is_float(&plain) {
        // What looks like a float is one for Rust as well; a whole number beyond 64 bits lands here too.
        return plain.parse().map_or_else(|_| Scalar::Str(text.to_owned()), Scalar::Float);
    }
    Scalar::Str(text.to_owned())
}

/// Go's `strconv.ParseInt(s, 0, 64)` for text without underscores.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let magnitude = if let Some(hex) = lower.strip_prefix("0x") {
        i128::from_str_radix(unsigned(hex)?, 16)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        i128::from_str_radix(unsigned(binary)?, 2)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        i128::from_str_radix(unsigned(octal)?, 8)
    } else if lower.len() > 1 && lower.starts_with('0') {
        i128::from_str_radix(&lower, 8)
    } else {
        lower.parse()
    }
    .ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

fn unsigned(digits: &str) -> Option<&str> {
    (!digits.is_empty() && !digits.starts_with(['+', '-'])).then_some(digits)
}

/// yaml.v2's float shape: `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => {
            let (mantissa, exponent) = unsigned.split_at(at);
            (mantissa, exponent.get(1..))
        }
        None => (unsigned, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa_ok && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_1_says() {
        let string = |s: &str| Scalar::Str(s.to_owned());
        for (text, want) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("yes", Scalar::Bool(true)),
            ("On", Scalar::Bool(true)),
            ("n", Scalar::Bool(false)),
            ("OFF", Scalar::Bool(false)),
            ("yEs", string("yEs")),
            ("truE", string("truE")),
            ("12", Scalar::Int(12)),
            ("-3", Scalar::Int(-3)),
            ("1_000", Scalar::Int(1000)),
            ("0777", Scalar::Int(511)),
            ("0x1F", Scalar::Int(31)),
            ("0b101", Scalar::Int(5)),
            ("0o17", Scalar::Int(15)),
            ("1.3", Scalar::Float(1.3)),
            ("1.", Scalar::Float(1.0)),
            (".5", Scalar::Float(0.5)),
            ("1e3", Scalar::Float(1000.0)),
            ("9223372036854775807", Scalar::Int(i64::MAX)),
            ("9223372036854775808", Scalar::Float(9_223_372_036_854_775_808.0)),
            ("8h", string("8h")),
            ("0.0.0.0:5556", string("0.0.0.0:5556")),
            ("2001-12-14", string("2001-12-14")),
            ("08", Scalar::Float(8.0)),
            ("-", string("-")),
            ("--1", string("--1")),
            ("0x", string("0x")),
            ("1.2.3", string("1.2.3")),
            ("1e", string("1e")),
            (":5556", string(":5556")),
            ("$2a$10$x", string("$2a$10$x")),
        ] {
            assert_eq!(resolve(text), want, "{text:?}");
        }
    }
}
