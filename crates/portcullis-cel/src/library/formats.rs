//! Formats that have a name, such as `format.dns1123Label()`.
//!
//! Compat: `k8s.io/apiserver/pkg/cel/library/format.go` 0.37.2, with the validations and the words of
//! `k8s.io/apimachinery/pkg/api/validate/content` and `pkg/util/validation`, and of kube-openapi's `strfmt`.

use super::time::Timestamp;
use super::url::request_error;
use crate::error::EvalError;
use crate::ops::Evaluated;
use crate::value::{List, Value};

/// A format and how it is checked.
#[derive(Debug)]
pub struct NamedFormat {
    /// As upstream names it.
    pub(crate) name: &'static str,
    /// How it is called in expressions.
    call: &'static str,
    validate: fn(&str) -> Vec<String>,
    /// The length of its regular expression, by which a check is charged.
    pub(crate) regex_size: u64,
}

static FORMATS: [NamedFormat; 13] = [
    NamedFormat { name: "DNS1123Label", call: "dns1123Label", validate: dns1123_label, regex_size: 30 },
    NamedFormat { name: "DNS1123Subdomain", call: "dns1123Subdomain", validate: dns1123_subdomain, regex_size: 60 },
    NamedFormat { name: "DNS1035Label", call: "dns1035Label", validate: dns1035_label, regex_size: 30 },
    NamedFormat { name: "QualifiedName", call: "qualifiedName", validate: qualified_name, regex_size: 60 },
    NamedFormat {
        name: "DNS1123LabelPrefix",
        call: "dns1123LabelPrefix",
        validate: |text| dns1123_label(&prefix(text)),
        regex_size: 30,
    },
    NamedFormat {
        name: "DNS1123SubdomainPrefix",
        call: "dns1123SubdomainPrefix",
        validate: |text| dns1123_subdomain(&prefix(text)),
        regex_size: 60,
    },
    NamedFormat {
        name: "DNS1035LabelPrefix",
        call: "dns1035LabelPrefix",
        validate: |text| dns1035_label(&prefix(text)),
        regex_size: 30,
    },
    NamedFormat { name: "LabelValue", call: "labelValue", validate: label_value, regex_size: 40 },
    NamedFormat {
        name: "URI",
        call: "uri",
        validate: |text| request_error(text).into_iter().collect(),
        regex_size: 1_103,
    },
    NamedFormat {
        name: "uuid",
        call: "uuid",
        validate: |text| unless(is_uuid(text), "does not match the UUID format"),
        regex_size: 70,
    },
    NamedFormat {
        name: "byte",
        call: "byte",
        validate: |text| unless(is_base64(text), "invalid base64"),
        regex_size: 84,
    },
    NamedFormat { name: "date", call: "date", validate: |text| unless(is_date(text), "invalid date"), regex_size: 71 },
    NamedFormat {
        name: "datetime",
        call: "datetime",
        validate: |text| unless(is_datetime(text), "invalid datetime"),
        regex_size: 71,
    },
];

fn unless(valid: bool, message: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![message.to_owned()] }
}

pub(super) fn constant(call: &str) -> Evaluated {
    FORMATS.iter().find(|format| format.call == call).map(Value::Format).ok_or_else(EvalError::no_such_overload)
}

pub(super) fn named(name: &Value) -> Evaluated {
    let Value::String(name) = name else { return Err(EvalError::no_such_overload()) };
    let found = FORMATS.iter().find(|format| format.call == &**name);
    Ok(found.map_or(Value::Optional(None), |format| Value::some(Value::Format(format))))
}

pub(super) fn validate(format: &Value, text: &Value) -> Evaluated {
    let (Value::Format(format), Value::String(text)) = (format, text) else {
        return Err(EvalError::no_such_overload());
    };
    let wrong = (format.validate)(text);
    if wrong.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::List(List::made_of_strings(wrong.iter().map(String::as_str)))))
}

/// What a name that something is appended to would be.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(head) if !head.is_empty() => {
            // Upstream replaces the last two bytes.
            let mut bytes = head.as_bytes().to_vec();
            bytes.pop();
            bytes.push(b'a');
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => text.to_owned(),
    }
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn regex_error(message: &str, regex: &str, examples: &[&str]) -> String {
    let mut shown = String::new();
    for (index, example) in examples.iter().enumerate() {
        shown.push_str(if index > 0 { " or " } else { "" });
        shown.push_str(&format!("'{example}', "));
    }
    format!("{message} (e.g. {shown}regex used for validation is '{regex}')")
}

fn is_label(text: &str, first: impl Fn(u8) -> bool) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| first(*b))
        && bytes.last().is_some_and(|b| inner(*b))
        && bytes.iter().all(|b| inner(*b) || *b == b'-')
}

fn is_dns1123_label(text: &str) -> bool {
    is_label(text, |b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns1123_label)
}

fn dns1123_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push(too_long(63));
    }
    if !is_dns1123_label(text) {
        wrong.push(if is_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
                &["my-name", "123-abc"],
            )
        });
    }
    wrong
}

fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 253 {
        wrong.push(too_long(253));
    }
    if !is_subdomain(text) {
        wrong.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    wrong
}

fn dns1035_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push(too_long(63));
    }
    if !is_label(text, |b| b.is_ascii_lowercase()) {
        wrong.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn qualified_name(text: &str) -> Vec<String> {
    const FORM: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    const MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let examples = ["MyName", "my.name", "123-abc"];
    let mut wrong = Vec::new();
    let mut parts = text.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(dns1123_subdomain(prefix).into_iter().map(|error| format!("prefix part {error}")));
            }
            name
        }
        _ => {
            let message = format!("a valid label key {MESSAGE}");
            wrong.push(format!(
                "{} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(&message, FORM, &examples)
            ));
            return wrong;
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        wrong.push(format!("name part {}", too_long(63)));
    }
    if !is_qualified(name) {
        wrong.push(format!("name part {}", regex_error(MESSAGE, FORM, &examples)));
    }
    wrong
}

fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push(too_long(63));
    }
    if !text.is_empty() && !is_qualified(text) {
        wrong.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

fn is_uuid(text: &str) -> bool {
    let mut rest = text;
    for (index, length) in [8usize, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some(group) = rest.get(..length).filter(|group| group.bytes().all(|b| b.is_ascii_hexdigit())) else {
            return false;
        };
        rest = rest.get(group.len()..).unwrap_or_default();
    }
    rest.is_empty()
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && (Timestamp::parse(&format!("{text}T00:00:00Z")).is_some()
            // The parser above wants the year to be one that a timestamp may have; a date may have any.
            || text.strip_prefix("0000").is_some_and(|rest| Timestamp::parse(&format!("2000{rest}T00:00:00Z")).is_some()))
}

fn is_datetime(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    if text.len() < 4 || !is_date(date) {
        return false;
    }
    let bytes = time.as_bytes();
    let two = |at: usize| {
        let pair = time.get(at..at + 2)?;
        pair.bytes().all(|b| b.is_ascii_digit()).then_some(pair)
    };
    let (Some(hour), Some(minute), Some(second)) = (two(0), two(3), two(6)) else { return false };
    if bytes.get(2) != Some(&b':') || bytes.get(5) != Some(&b':') {
        return false;
    }
    let zone_ok = |zone: &str| {
        zone == "z"
            || (zone.len() == 6
                && zone.starts_with(['+', '-'])
                && zone.bytes().enumerate().all(|(i, b)| match i {
                    0 => true,
                    3 => b == b':',
                    _ => b.is_ascii_digit(),
                }))
    };
    // Behind the seconds any one character may stand before digits.
    let rest = time.get(8..).unwrap_or_default();
    let mut after = rest.chars();
    after.next();
    let digits = after.as_str().bytes().take_while(u8::is_ascii_digit).count();
    let fits = zone_ok(rest) || (digits > 0 && (1..=digits).any(|n| after.as_str().get(n..).is_some_and(zone_ok)));
    fits && hour <= "23" && minute <= "59" && second <= "59"
}
