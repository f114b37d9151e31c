//! What one YAML scalar means: YAML 1.1 as `yaml.v2` reads it.
//!
//! Compat: `resolve.go` of `yaml.v2` 2.4.4. Dates stay text, as they do in a value whose type is not known.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Go's `base64.StdEncoding`.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A resolved scalar.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar<'t> {
    Null,
    Bool(bool),
    /// What fits into 64 bits, signed or not.
    Int(i128),
    Float(f64),
    Text(&'t str),
    /// `!!binary`.
    Decoded(String),
}

impl Scalar<'_> {
    /// The tag that its text stands for, without `!!`.
    const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) | Self::Decoded(_) => "str",
        }
    }
}

/// Resolves a plain scalar by its text.
pub(super) fn resolve(text: &str) -> Scalar<'_> {
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
    let number = match text.as_bytes().first() {
        Some(b'.') => float(text).map(Scalar::Float),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            let plain = text.replace('_', "");
            integer(&plain).map(Scalar::Int).or_else(|| float(&plain).map(Scalar::Float))
        }
        Some(_) | None => None,
    };
    number.unwrap_or(Scalar::Text(text))
}

/// Resolves a scalar with a tag, given without the prefix of YAML's own tags.
pub(super) fn tagged<'t>(text: &'t str, tag: &str) -> Result<Scalar<'t>, String> {
    match tag {
        "binary" => match BASE64.decode(text.replace(['\n', '\r'], "")) {
            Ok(bytes) => Ok(Scalar::Decoded(String::from_utf8_lossy(&bytes).into_owned())),
            Err(_) => Err("!!binary value contains invalid base64 data".to_owned()),
        },
        "bool" | "int" | "float" | "null" | "timestamp" => match (tag, resolve(text)) {
            #[expect(clippy::cast_precision_loss, reason = "so does Go")]
            ("float", Scalar::Int(value)) => Ok(Scalar::Float(value as f64)),
            ("timestamp", Scalar::Text(text)) if is_timestamp(text) => Ok(Scalar::Text(text)),
            (_, scalar) if scalar.kind() == tag => Ok(scalar),
            (_, scalar) => Err(format!("cannot decode !!{} `{text}` as a !!{tag}", scalar.kind())),
        },
        // `!!str`, and whatever somebody made up.
        _ => Ok(Scalar::Text(text)),
    }
}

/// About Go's formats: a date, with or without a time. Nothing depends on it but whether `!!timestamp` may stand there.
fn is_timestamp(text: &str) -> bool {
    let mut date = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (date.next(), date.next(), date.next()) else { return false };
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let day = rest.split(['T', 't', ' ']).next().unwrap_or_default();
    year.len() == 4 && digits(year, 4) && digits(month, 2) && digits(day, 2)
}

/// Go's `strconv.ParseInt` or `ParseUint` with base 0, for text without underscores.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let signed = digits.len() != text.len();
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = if let Some(hex) = lower.strip_prefix("0x") {
        (hex, 16)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (binary, 2)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (octal, 8)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (lower.as_str(), 8)
    } else {
        (lower.as_str(), 10)
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -magnitude } else { magnitude };
    let most = if signed { i128::from(i64::MAX) } else { i128::from(u64::MAX) };
    (i128::from(i64::MIN)..=most).contains(&value).then_some(value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, when it is no more than a float holds.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    if !mantissa_ok || !exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e))) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A float as a member's name: Go's `%g` of it as a 32-bit float.
pub(super) fn float_key(value: f64) -> String {
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    #[expect(clippy::cast_possible_truncation, reason = "so does sigs.k8s.io/yaml")]
    let value = value as f32;
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_1_says() {
        for (text, want) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("yes", Scalar::Bool(true)),
            ("On", Scalar::Bool(true)),
            ("n", Scalar::Bool(false)),
            ("yEs", Scalar::Text("yEs")),
            ("12", Scalar::Int(12)),
            ("-3", Scalar::Int(-3)),
            ("+3", Scalar::Int(3)),
            ("1_000", Scalar::Int(1000)),
            ("0777", Scalar::Int(511)),
            ("0x1F", Scalar::Int(31)),
            ("0b101", Scalar::Int(5)),
            ("-0b101", Scalar::Int(-5)),
            ("0o17", Scalar::Int(15)),
            ("18446744073709551615", Scalar::Int(18_446_744_073_709_551_615)),
            ("18446744073709551616", Scalar::Float(18_446_744_073_709_551_616.0)),
            ("08", Scalar::Float(8.0)),
            ("1.3", Scalar::Float(1.3)),
            ("1.", Scalar::Float(1.0)),
            (".5", Scalar::Float(0.5)),
            ("1e3", Scalar::Float(1000.0)),
            ("1e999", Scalar::Text("1e999")),
            (".", Scalar::Text(".")),
            ("2001-12-14", Scalar::Text("2001-12-14")),
            ("-", Scalar::Text("-")),
            ("--1", Scalar::Text("--1")),
            ("0x", Scalar::Text("0x")),
            ("1.2.3", Scalar::Text("1.2.3")),
            ("<<", Scalar::Text("<<")),
        ] {
            assert_eq!(resolve(text), want, "{text:?}");
        }
    }

    #[test]
    fn tags_hold_or_are_refused() {
        for (text, tag, want) in [
            ("12", "str", Ok(Scalar::Text("12"))),
            ("12", "int", Ok(Scalar::Int(12))),
            ("12", "float", Ok(Scalar::Float(12.0))),
            ("yes", "bool", Ok(Scalar::Bool(true))),
            ("2001-1-2", "timestamp", Ok(Scalar::Text("2001-1-2"))),
            ("x", "!own", Ok(Scalar::Text("x"))),
            ("aGk=", "binary", Ok(Scalar::Decoded("hi".to_owned()))),
            ("x", "int", Err("cannot decode !!str `x` as a !!int")),
            ("1.5", "int", Err("cannot decode !!float `1.5` as a !!int")),
            ("x", "null", Err("cannot decode !!str `x` as a !!null")),
            ("aGk", "binary", Err("!!binary value contains invalid base64 data")),
        ] {
            assert_eq!(
                tagged(text, tag).as_ref().map_err(String::as_str),
                want.as_ref().map_err(|e| *e),
                "{text} {tag}"
            );
        }
    }

    #[test]
    fn float_names_are_gos() {
        for (value, want) in [
            (1.5, "1.5"),
            (1e21, "1e+21"),
            (1e6, "1e+06"),
            (123456.0, "123456"),
            (0.00001, "1e-05"),
            (f64::NAN, ".nan"),
            (-0.25, "-0.25"),
        ] {
            assert_eq!(float_key(value), want);
        }
    }
}
