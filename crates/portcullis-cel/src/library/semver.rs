//! Semantic versions.
//!
//! Compat: `github.com/blang/semver/v4` 4.0.0 as `k8s.io/apiserver/pkg/cel/library/semverlib.go` 0.37.2 uses it.

use std::cmp::Ordering;
use std::fmt;

use crate::error::EvalError;
use crate::ops::Evaluated;
use crate::show::quoted;
use crate::value::Value;

/// A version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Semver {
    major: u64,
    minor: u64,
    patch: u64,
    pre: Vec<Pre>,
    build: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    Number(u64),
    Text(String),
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn is_label(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn leads_with_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0')
}

fn parse_uint(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        let reason = if text.is_empty() { "invalid syntax" } else { "value out of range" };
        format!("strconv.ParseUint: parsing {}: {reason}", quoted(text))
    })
}

fn number(text: &str, name: &str, upper: &str) -> Result<u64, String> {
    if !is_number(text) {
        return Err(format!("Invalid character(s) found in {name} number {}", quoted(text)));
    }
    if leads_with_zero(text) {
        return Err(format!("{upper} number must not contain leading zeroes {}", quoted(text)));
    }
    parse_uint(text)
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let mut parts = text.splitn(3, '.');
        let (Some(major), Some(minor), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let major = number(major, "major", "Major")?;
        let minor = number(minor, "minor", "Minor")?;
        let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
        let (patch, pre) = rest.split_once('-').map_or((rest, None), |(patch, pre)| (patch, Some(pre)));
        let patch = number(patch, "patch", "Patch")?;
        let mut version = Self { major, minor, patch, pre: Vec::new(), build: Vec::new() };
        for part in pre.into_iter().flat_map(|pre| pre.split('.')) {
            version.pre.push(if part.is_empty() {
                return Err("Prerelease is empty".to_owned());
            } else if is_number(part) {
                if leads_with_zero(part) {
                    return Err(format!("Numeric PreRelease version must not contain leading zeroes {}", quoted(part)));
                }
                Pre::Number(parse_uint(part)?)
            } else if is_label(part) {
                Pre::Text(part.to_owned())
            } else {
                return Err(format!("Invalid character(s) found in prerelease {}", quoted(part)));
            });
        }
        for part in build.into_iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !is_label(part) {
                return Err(format!("Invalid character(s) found in build meta data {}", quoted(part)));
            }
            version.build.push(part.to_owned());
        }
        Ok(version)
    }

    /// Reads `v1.02` as `1.2.0`.
    fn normalized(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text
            .splitn(3, '.')
            .map(|part| {
                if part.len() <= 1 {
                    return part.to_owned();
                }
                let trimmed = part.trim_start_matches('0');
                if trimmed.starts_with(|c: char| c.is_ascii_digit()) {
                    trimmed.to_owned()
                } else {
                    format!("0{trimmed}")
                }
            })
            .collect();
        if parts.len() < 3 {
            if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".to_owned());
            }
            parts.resize(3, "0".to_owned());
        }
        Self::parse(&parts.join("."))
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.patch).cmp(&(other.major, other.minor, other.patch)).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                _ => self.pre.cmp(&other.pre),
            }
        })
    }
}

impl fmt::Display for Pre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        let pre: Vec<String> = self.pre.iter().map(Pre::to_string).collect();
        if !pre.is_empty() {
            write!(f, "-{}", pre.join("."))?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build.join("."))?;
        }
        Ok(())
    }
}

fn parse(text: &Value, normalize: Option<&Value>) -> Result<Result<Semver, String>, EvalError> {
    match (text, normalize) {
        (Value::String(text), None | Some(Value::Bool(false))) => Ok(Semver::parse(text)),
        (Value::String(text), Some(Value::Bool(true))) => Ok(Semver::normalized(text)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn version(value: &Value) -> Result<&Semver, EvalError> {
    match value {
        Value::Semver(version) => Ok(version),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn to_semver(text: &Value, normalize: Option<&Value>) -> Evaluated {
    match parse(text, normalize)? {
        Ok(version) => Ok(Value::Semver(std::sync::Arc::new(version))),
        Err(error) => Err(EvalError::new(error)),
    }
}

pub(super) fn is_semver(text: &Value, normalize: Option<&Value>) -> Evaluated {
    Ok(Value::Bool(parse(text, normalize)?.is_ok()))
}

pub(super) fn is_greater(a: &Value, b: &Value) -> Evaluated {
    Ok(Value::Bool(version(a)?.compare(version(b)?).is_gt()))
}

pub(super) fn is_less(a: &Value, b: &Value) -> Evaluated {
    Ok(Value::Bool(version(a)?.compare(version(b)?).is_lt()))
}

pub(super) fn compare_to(a: &Value, b: &Value) -> Evaluated {
    Ok(Value::Int(version(a)?.compare(version(b)?) as i64))
}

pub(super) fn part(name: &str, value: &Value) -> Evaluated {
    let version = version(value)?;
    let number = match name {
        "major" => version.major,
        "minor" => version.minor,
        _ => version.patch,
    };
    // Upstream reads the bits as a signed number.
    Ok(Value::Int(number.cast_signed()))
}
