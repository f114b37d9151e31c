//! Quantities of resources, such as `1.5Gi`.
//!
//! Compat: `k8s.io/apimachinery/pkg/api/resource` 0.37.2 as `k8s.io/apiserver/pkg/cel/library/quantity.go` uses it, with its two
//! ways to hold a number, which `isInteger` shows. Numbers beyond some 29 digits are refused; upstream has no limit.

use std::cmp::Ordering;
use std::fmt;

use crate::error::EvalError;
use crate::ops::Evaluated;
use crate::value::Value;

/// Digits that upstream holds in the small form.
const SMALL_DIGITS: usize = 18;
const NANO: i64 = -9;
const FORMAT: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const NUMERIC: &str = "unable to parse numeric part of quantity";
const SUFFIX: &str = "unable to parse quantity's suffix";
const TOO_LARGE: &str = "quantity has too many digits";

/// `value` times ten to the power of `exponent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    value: i128,
    exponent: i64,
    /// Whether upstream holds it with any number of digits.
    big: bool,
    computed: bool,
}

enum Suffix {
    Decimal(i64),
    Binary(u32),
}

fn suffix(text: &str) -> Option<Suffix> {
    Some(match text {
        "" => Suffix::Decimal(0),
        "n" => Suffix::Decimal(-9),
        "u" => Suffix::Decimal(-6),
        "m" => Suffix::Decimal(-3),
        "k" => Suffix::Decimal(3),
        "M" => Suffix::Decimal(6),
        "G" => Suffix::Decimal(9),
        "T" => Suffix::Decimal(12),
        "P" => Suffix::Decimal(15),
        "E" => Suffix::Decimal(18),
        "Ki" => Suffix::Binary(10),
        "Mi" => Suffix::Binary(20),
        "Gi" => Suffix::Binary(30),
        "Ti" => Suffix::Binary(40),
        "Pi" => Suffix::Binary(50),
        "Ei" => Suffix::Binary(60),
        _ => {
            let digits = text.strip_prefix(['e', 'E'])?;
            let parsed: i64 = digits.parse().ok()?;
            #[expect(clippy::cast_possible_truncation, reason = "upstream cuts it off, too")]
            let cut = parsed as i32;
            Suffix::Decimal(i64::from(cut))
        }
    })
}

/// The parts of a text: whole digits without leading zeroes, digits behind the point, and the suffix.
fn split(text: &str) -> Result<(&str, &str, &str), &'static str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text).trim_start_matches('0');
    let (whole, mut rest) = rest.split_at(digits(rest));
    let mut fraction = "";
    if let Some(tail) = rest.strip_prefix('.') {
        (fraction, rest) = tail.split_at(digits(tail));
    }
    let unit = rest;
    let letters = rest.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let tail = rest.get(letters..).unwrap_or_default();
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if digits(tail) != tail.len() {
        return Err(FORMAT);
    }
    Ok((if whole.is_empty() { "0" } else { whole }, fraction, unit))
}

fn power(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

impl Quantity {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err(FORMAT);
        }
        let negative = text.starts_with('-');
        let (whole, fraction, unit) = split(text)?;
        let unit = suffix(unit).ok_or(SUFFIX)?;
        let length = whole.len() + fraction.len();
        let behind = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let shifted = format!("{whole}{fraction}");
        let small = match &unit {
            Suffix::Decimal(exponent) => {
                let scale = exponent - behind;
                (length <= SMALL_DIGITS && scale >= NANO).then_some((1i128, scale))
            }
            Suffix::Binary(shift) => {
                let fits = fraction.is_empty() && 14 >= whole.len() + (*shift as usize) * 3 / 10;
                fits.then_some((1i128 << shift, 0))
            }
        };
        if let Some((factor, exponent)) = small {
            let value: i128 = shifted.parse().map_err(|_| NUMERIC)?;
            let value = value * factor;
            if i64::try_from(value).is_ok() {
                let value = if negative { -value } else { value };
                return Ok(Self { value, exponent, big: false, computed: false });
            }
        }
        if !text.bytes().any(|b| b.is_ascii_digit()) {
            return Err(NUMERIC);
        }
        let digits: i128 = shifted.parse().map_err(|_| TOO_LARGE)?;
        let (mut value, mut exponent) = match unit {
            Suffix::Decimal(exponent) => (digits, exponent - behind),
            Suffix::Binary(shift) => (digits.checked_mul(1 << shift).ok_or(TOO_LARGE)?, -behind),
        };
        if value != 0 {
            value = rescale(value, exponent, NANO)?;
            exponent = NANO;
        }
        if matches!(unit, Suffix::Binary(_)) {
            let most = i128::from(i64::MAX);
            if compare(value, exponent, most, 0).is_gt() {
                (value, exponent) = (most, 0);
            }
        }
        Ok(Self { value: if negative { -value } else { value }, exponent, big: true, computed: false })
    }

    fn from_int(value: i64) -> Self {
        Self { value: i128::from(value), exponent: 0, big: false, computed: false }
    }

    pub(crate) fn is_computed(&self) -> bool {
        self.computed
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        compare(self.value, self.exponent, other.value, other.exponent)
    }

    fn plus(&self, other: &Self, sign: i128) -> Result<Self, EvalError> {
        let out = |value, exponent, big| Self { value, exponent, big, computed: true };
        let other_value = other.value * sign;
        let too_large = || EvalError::new(TOO_LARGE);
        if !self.big && !other.big {
            if other.value == 0 {
                return Ok(out(self.value, self.exponent, false));
            }
            if self.value == 0 {
                return Ok(out(other_value, other.exponent, false));
            }
        }
        let exponent = self.exponent.min(other.exponent);
        let left = scaled(self.value, self.exponent - exponent).ok_or_else(too_large)?;
        let right = scaled(other_value, other.exponent - exponent).ok_or_else(too_large)?;
        let sum = left.checked_add(right).ok_or_else(too_large)?;
        let small = |value| i64::try_from(value).is_ok();
        let big = self.big || other.big || !(small(left) && small(right) && small(sum));
        Ok(out(sum, exponent, big))
    }

    /// The whole number, where upstream can tell it at once.
    fn as_int(&self) -> Option<i64> {
        if self.big || self.exponent < 0 {
            return None;
        }
        scaled(self.value, self.exponent).and_then(|value| i64::try_from(value).ok())
    }

    #[expect(clippy::cast_precision_loss, reason = "the result is an approximation")]
    fn as_float(&self) -> f64 {
        let base = self.value as f64;
        if self.exponent == 0 { base } else { base * power_of_ten(self.exponent) }
    }
}

/// `value` with `exponent` as a number of units of ten to the power of `wanted`, rounded away from zero.
fn rescale(value: i128, exponent: i64, wanted: i64) -> Result<i128, &'static str> {
    let shift = exponent - wanted;
    if shift >= 0 {
        return scaled(value, shift).ok_or(TOO_LARGE);
    }
    let Some(divisor) = u32::try_from(-shift).ok().and_then(power) else { return Ok(1) };
    Ok(value / divisor + i128::from(value % divisor != 0))
}

fn scaled(value: i128, exponent: i64) -> Option<i128> {
    if value == 0 {
        return Some(0);
    }
    value.checked_mul(power(u32::try_from(exponent).ok()?)?)
}

fn compare(a: i128, a_exponent: i64, b: i128, b_exponent: i64) -> Ordering {
    if a.signum() != b.signum() || a == 0 {
        return a.signum().cmp(&b.signum());
    }
    let digits = |value: i128| value.unsigned_abs().to_string();
    let (x, y) = (digits(a), digits(b));
    let length = |text: &str, exponent: i64| i64::try_from(text.len()).unwrap_or(i64::MAX).saturating_add(exponent);
    let width = x.len().max(y.len());
    let order = length(&x, a_exponent)
        .cmp(&length(&y, b_exponent))
        .then_with(|| format!("{x:0<width$}").cmp(&format!("{y:0<width$}")));
    if a < 0 { order.reverse() } else { order }
}

/// Go's `math.Pow10`.
fn power_of_ten(exponent: i64) -> f64 {
    let table = |n: i64| format!("1e{n}").parse::<f64>().unwrap_or_default();
    match exponent {
        0..=308 => table(exponent / 32 * 32) * table(exponent % 32),
        -323..=-1 => table(-(-exponent / 32 * 32)) / table(-exponent % 32),
        _ if exponent > 0 => f64::INFINITY,
        _ => 0.0,
    }
}

/// The number in digits, with as many behind the point as it is held with.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.value.unsigned_abs().to_string();
        let sign = if self.value < 0 { "-" } else { "" };
        if self.exponent >= 0 {
            let zeroes = if self.value == 0 { 0 } else { usize::try_from(self.exponent).unwrap_or_default().min(400) };
            return write!(f, "{sign}{digits}{}", "0".repeat(zeroes));
        }
        let behind = usize::try_from(-self.exponent).unwrap_or_default();
        let padded = format!("{digits:0>width$}", width = behind + 1);
        let (whole, fraction) = padded.split_at(padded.len() - behind);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

fn quantity(value: &Value) -> Result<&Quantity, EvalError> {
    match value {
        Value::Quantity(quantity) => Ok(quantity),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn made(quantity: Quantity) -> Value {
    Value::Quantity(std::sync::Arc::new(quantity))
}

pub(super) fn to_quantity(value: &Value) -> Evaluated {
    match value {
        Value::String(text) => Quantity::parse(text).map(made).map_err(EvalError::new),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn is_quantity(value: &Value) -> Evaluated {
    match value {
        Value::String(text) => Ok(Value::Bool(Quantity::parse(text).is_ok())),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn sign(value: &Value) -> Evaluated {
    Ok(Value::Int(i64::try_from(quantity(value)?.value.signum()).unwrap_or_default()))
}

pub(super) fn is_greater(a: &Value, b: &Value) -> Evaluated {
    Ok(Value::Bool(quantity(a)?.compare(quantity(b)?).is_gt()))
}

pub(super) fn is_less(a: &Value, b: &Value) -> Evaluated {
    Ok(Value::Bool(quantity(a)?.compare(quantity(b)?).is_lt()))
}

pub(super) fn compare_to(a: &Value, b: &Value) -> Evaluated {
    Ok(Value::Int(quantity(a)?.compare(quantity(b)?) as i64))
}

pub(super) fn as_float(value: &Value) -> Evaluated {
    Ok(Value::Double(quantity(value)?.as_float()))
}

pub(super) fn is_integer(value: &Value) -> Evaluated {
    Ok(Value::Bool(quantity(value)?.as_int().is_some()))
}

pub(super) fn as_integer(value: &Value) -> Evaluated {
    let found = quantity(value)?.as_int();
    found.map(Value::Int).ok_or_else(|| EvalError::new("cannot convert value to integer"))
}

pub(super) fn add(a: &Value, b: &Value) -> Evaluated {
    combine(a, b, 1)
}

pub(super) fn sub(a: &Value, b: &Value) -> Evaluated {
    combine(a, b, -1)
}

fn combine(a: &Value, b: &Value, sign: i128) -> Evaluated {
    let a = quantity(a)?;
    match b {
        Value::Int(number) => a.plus(&Quantity::from_int(*number), sign).map(made),
        other => a.plus(quantity(other)?, sign).map(made),
    }
}
