//! `resource.Quantity`: amounts such as `100m`, `1.5Gi` or `2e3`, read and written as Kubernetes does.
//!
//! What is stored is the canonical form: `0.5` becomes `500m`, `1.5Gi` becomes `1536Mi`.
//!
//! Compat: `apimachinery/pkg/api/resource/quantity.go` of v0.37.2. Amounts below one billionth round away from zero. Amounts
//! with a binary suffix above 2^63-1 are that; others are kept up to [`LARGEST`]. A suffix without digits is zero.

use std::cmp::Ordering;

/// Billionths in one.
const ONE: i128 = 1_000_000_000;
/// The largest amount with a binary suffix, in billionths.
const MAX: i128 = i64::MAX as i128 * ONE;
/// The largest amount, in billionths: what is beyond 29 digits becomes that.
const LARGEST: i128 = 99_999_999_999_999_999_999_999_999_999 * ONE;
/// Digits that are told apart; more of them before the point are an amount that is capped, after it they round up.
const DIGITS: usize = 38;

/// Why a text is no quantity, in upstream's words.
pub(crate) const FORMAT_WRONG: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const SUFFIX_WRONG: &str = "unable to parse quantity's suffix";

/// An amount, and how it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// In billionths.
    nanos: i128,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

impl Quantity {
    /// Reads one; the error is upstream's sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let figures = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(figures);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if text.is_empty() || fraction.contains('.') || !suffix_is_formed(suffix) {
            return Err(FORMAT_WRONG);
        }
        let (base, exponent, format) = scale(suffix).ok_or(SUFFIX_WRONG)?;
        let nanos = match base {
            2 => binary(whole, fraction, exponent).min(MAX),
            _ => decimal(whole, fraction, exponent).min(LARGEST),
        };
        // Less than one cannot be told in binary units.
        let format = if format == Format::Binary && nanos > 0 && nanos < ONE { Format::Decimal } else { format };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// The amount rounded away from zero to thousandths, which is what resource lists keep.
    pub(crate) fn to_milli(self) -> Self {
        let unit = ONE / 1_000;
        let over = self.nanos % unit;
        let up = if over == 0 { 0 } else { unit * over.signum() };
        Self { nanos: self.nanos - over + up, ..self }
    }

    pub(crate) fn is_negative(self) -> bool {
        self.nanos < 0
    }

    pub(crate) fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is a whole number.
    pub(crate) fn is_whole(self) -> bool {
        self.nanos % ONE == 0
    }

    /// The next whole number away from zero.
    pub(crate) fn whole(self) -> i64 {
        let over = self.nanos % ONE;
        let up = if over == 0 { 0 } else { over.signum() };
        i64::try_from(self.nanos / ONE + up).unwrap_or(if self.nanos < 0 { i64::MIN } else { i64::MAX })
    }

    /// Nothing.
    pub(crate) fn zero() -> Self {
        Self { nanos: 0, format: Format::Decimal }
    }

    /// Both together, written like the first unless that is nothing.
    pub(crate) fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos).clamp(-MAX, MAX), format }
    }

    /// The amount as a number that has no bounds and is not exact.
    pub(crate) fn as_float(self) -> f64 {
        self.nanos as f64 / ONE as f64
    }

    /// Which of two amounts is larger, however they are written.
    pub(crate) fn compare(self, other: Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.format == Format::Binary && self.nanos.abs() >= 1_024 * ONE && self.is_whole() {
            let (mut number, mut power) = (self.nanos / ONE, 0_usize);
            while number % 1_024 == 0 && power < BINARY.len() - 1 {
                number /= 1_024;
                power += 1;
            }
            return write!(f, "{number}{}", BINARY.get(power).copied().unwrap_or_default());
        }
        let (mut number, mut exponent) = (self.nanos, -9_i32);
        while number % 10 == 0 {
            number /= 10;
            exponent += 1;
        }
        while exponent % 3 != 0 {
            number *= 10;
            exponent -= 1;
        }
        if self.format == Format::Exponent {
            return if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") };
        }
        let suffix = usize::try_from(exponent / 3 + 3).ok().and_then(|at| DECIMAL.get(at)).copied().unwrap_or_default();
        write!(f, "{number}{suffix}")
    }
}

/// Suffixes of powers of ten, from 10^-9 in steps of 10^3.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Suffixes of powers of 1,024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Letters, then perhaps a sign and digits.
fn suffix_is_formed(suffix: &str) -> bool {
    let letters = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let digits = letters.strip_prefix(['+', '-']).unwrap_or(letters);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Base, exponent and format of a suffix.
fn scale(suffix: &str) -> Option<(u8, i32, Format)> {
    if let Some(power) = DECIMAL.iter().position(|known| *known == suffix) {
        return Some((10, i32::try_from(power).ok()? * 3 - 9, Format::Decimal));
    }
    if let Some(power) = BINARY.iter().position(|known| *known == suffix) {
        return Some((2, i32::try_from(power).ok()? * 10, Format::Binary));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let exponent: i64 = exponent.parse().ok()?;
    Some((10, i32::try_from(exponent).ok()?.clamp(-1_000, 1_000), Format::Exponent))
}

/// `whole.fraction` × 10^`exponent` in billionths, rounded up, capped.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> i128 {
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
    let shift = i64::from(exponent) + 9 - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let mut up = false;
    if shift < 0 {
        let keep = digits.len().saturating_sub(usize::try_from(-shift).unwrap_or(usize::MAX));
        up = digits.iter().skip(keep).any(|digit| *digit != 0);
        digits.truncate(keep);
    } else if digits.iter().any(|digit| *digit != 0) {
        let zeros = usize::try_from(shift).unwrap_or(usize::MAX).min(2 * DIGITS);
        digits.resize(digits.len() + zeros, 0);
    }
    number(&digits).saturating_add(i128::from(up))
}

/// `whole.fraction` × 2^`exponent` in billionths, rounded up, capped.
fn binary(whole: &str, fraction: &str, exponent: i32) -> i128 {
    let factor = 1_i128 << exponent.clamp(0, 60);
    let whole = number(&whole.bytes().map(|byte| byte - b'0').collect::<Vec<_>>()).min(MAX / ONE);
    let shown: Vec<u8> = fraction.bytes().take(9).map(|byte| byte - b'0').collect();
    let divisor = 10_i128.pow(u32::try_from(shown.len()).unwrap_or(0));
    let part = number(&shown) * factor * ONE;
    let lost = fraction.bytes().skip(9).any(|byte| byte != b'0');
    let up = part % divisor != 0 || lost;
    (whole * factor).saturating_mul(ONE).saturating_add(part / divisor).saturating_add(i128::from(up))
}

/// Digits as a number, capped.
fn number(digits: &[u8]) -> i128 {
    let significant = digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len());
    let digits = digits.get(significant..).unwrap_or_default();
    if digits.len() > DIGITS {
        return LARGEST;
    }
    digits.iter().fold(0, |sum, digit| sum * 10 + i128::from(*digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_are_written_like_the_first_that_is_something() {
        let amount = |text: &str| Quantity::parse(text).unwrap();
        for (one, other, sum) in
            [("1Gi", "1Gi", "2Gi"), ("0", "1Gi", "1Gi"), ("500m", "1", "1500m"), ("1Ki", "1", "1025")]
        {
            assert_eq!(amount(one).plus(amount(other)).to_string(), sum);
        }
        assert_eq!(amount("9E").plus(amount("9E")).whole(), i64::MAX);
        assert!((amount("1500m").as_float() - 1.5).abs() < 1e-9);
    }

    fn canonical(text: &str) -> String {
        Quantity::parse(text).map_or_else(str::to_owned, |quantity| quantity.to_string())
    }

    #[test]
    fn amounts_are_written_as_kubernetes_writes_them() {
        for (text, want) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1023", "1023"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            ("1000k", "1M"),
            ("1500000", "1500k"),
            ("128M", "128M"),
            ("2e3", "2e3"),
            ("1e0", "1"),
            ("12e2", "1200"),
            ("-5", "-5"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.0000000001", "1n"),
            ("1E", "1E"),
            ("9223372036854775808", "9223372036854775808"),
            ("99999999999999999999999999", "99999999999999999999999999"),
            ("100E", "100E"),
            ("1e21", "1e21"),
            ("1e28", "10e27"),
            ("1e400", "99999999999999999999999999999"),
            ("1000000000000000000000000000000000000000000000000e0", "99999999999999999999999999999"),
            ("Gi", "0"),
            ("-", "0"),
            (".", "0"),
            ("100Ei", "9223372036854775807"),
            (" 1 ", "1"),
        ] {
            assert_eq!(canonical(text), want, "{text}");
        }
    }

    #[test]
    fn mistakes_read_as_upstream_words_them() {
        for text in ["", "x", "1.1.1", "1 Gi"] {
            assert_eq!(canonical(text), FORMAT_WRONG, "{text}");
        }
        for text in ["1ee", "1GiGi", "1e", "1Gi5", "1mm", "e", "--1"] {
            assert_eq!(canonical(text), SUFFIX_WRONG, "{text}");
        }
    }

    #[test]
    fn amounts_compare_and_round_across_formats() {
        let read = |text: &str| Quantity::parse(text).unwrap();
        assert_eq!(read("1Gi").compare(read("1G")), Ordering::Greater);
        assert_eq!(read("1000m").compare(read("1")), Ordering::Equal);
        assert_eq!(read("0.0001").to_milli().to_string(), "1m");
        assert_eq!(read("-0.0001").to_milli().to_string(), "-1m");
        assert!(read("0.5").is_whole() != read("5").is_whole() && read("-1").is_negative() && read("0Ki").is_zero());
    }

    proptest! {
        #[test]
        fn a_canonical_amount_is_its_own_canonical_form(text in "[+-]?[0-9]{1,25}(\\.[0-9]{0,12})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[+-]?[0-9]{1,2})?") {
            let once = canonical(&text);
            prop_assert_eq!(canonical(&once), once);
        }

        #[test]
        fn no_text_panics(text in "[0-9.eEinumkKMGTP+-]{0,80}|\\PC{0,20}") {
            let _ = Quantity::parse(&text).map(|quantity| quantity.to_milli().to_string());
        }
    }
}
