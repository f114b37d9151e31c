//! `field.Error` of apimachinery: one problem of one field, in upstream's words.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use crate::go;

/// A problem of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What sort of problem.
    pub kind: FieldErrorKind,
    /// Path, for example `subjects[0].name`.
    pub field: String,
    /// The value as messages print it (already quoted); `None` when messages leave it out.
    pub value: Option<String>,
    /// More words, or nothing.
    pub detail: String,
}

/// Sorts of problems that this project reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// Something must be there.
    Required,
    /// The value is malformed.
    Invalid,
    /// The value is none of an enumeration.
    NotSupported,
    /// What the value names is not there.
    NotFound,
    /// The value would be right elsewhere.
    Forbidden,
    /// The value must be unique.
    Duplicate,
    /// The value is too long.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The value has another type.
    TypeInvalid,
    /// Something failed that upstream does not blame on the value.
    Internal,
}

impl FieldErrorKind {
    /// The `reason` of a status cause.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::NotFound => "FieldValueNotFound",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::NotFound => "Not found",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

impl FieldError {
    /// Something must be there.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::Required, field: field.into(), value: None, detail: detail.into() }
    }

    /// A malformed string.
    pub fn invalid(field: impl Into<String>, value: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: FieldErrorKind::Invalid,
            field: field.into(),
            value: Some(go::quote(value)),
            detail: detail.into(),
        }
    }

    /// A malformed value that is no string; messages print it as JSON.
    pub fn invalid_json<T: Serialize + ?Sized>(field: impl Into<String>, value: &T, detail: impl Into<String>) -> Self {
        let value = go::to_json(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Self { kind: FieldErrorKind::Invalid, field: field.into(), value, detail: detail.into() }
    }

    /// A string that is none of the supported ones.
    pub fn not_supported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| go::quote(s)).collect();
        Self {
            kind: FieldErrorKind::NotSupported,
            field: field.into(),
            value: Some(go::quote(value)),
            detail: if quoted.is_empty() { String::new() } else { format!("supported values: {}", quoted.join(", ")) },
        }
    }

    /// A string with a type of its own that is none of the supported ones; messages print it as JSON.
    pub fn not_supported_typed(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let shown = Self::invalid_json("", value, "").value;
        Self { value: shown, ..Self::not_supported(field, value, supported) }
    }

    /// A string that names something which is not there.
    pub fn not_found(field: impl Into<String>, value: &str) -> Self {
        Self {
            kind: FieldErrorKind::NotFound,
            field: field.into(),
            value: Some(go::quote(value)),
            detail: String::new(),
        }
    }

    /// Something must not be there.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::Forbidden, field: field.into(), value: None, detail: detail.into() }
    }

    /// Something failed that upstream does not blame on the value.
    pub fn internal(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::Internal, field: field.into(), value: None, detail: detail.into() }
    }

    /// A string that is there twice.
    pub fn duplicate(field: impl Into<String>, value: &str) -> Self {
        Self {
            kind: FieldErrorKind::Duplicate,
            field: field.into(),
            value: Some(go::quote(value)),
            detail: String::new(),
        }
    }

    /// More bytes than allowed.
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        let unit = if limit == 1 { "byte" } else { "bytes" };
        Self {
            kind: FieldErrorKind::TooLong,
            field: field.into(),
            value: None,
            detail: format!("may not be more than {limit} {unit}"),
        }
    }

    /// More items than allowed.
    pub fn too_many(field: impl Into<String>, actual: usize, limit: usize) -> Self {
        let unit = if limit == 1 { "item" } else { "items" };
        Self {
            kind: FieldErrorKind::TooMany,
            field: field.into(),
            value: Some(actual.to_string()),
            detail: format!("must have at most {limit} {unit}"),
        }
    }

    /// The message without the field.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        for part in self.value.as_deref().into_iter().chain(Some(self.detail.as_str()).filter(|d| !d.is_empty())) {
            text.push_str(": ");
            text.push_str(part);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for FieldError {}

/// Joins error texts as apimachinery's aggregate does: one alone, several in brackets, repetitions once.
pub fn aggregate<S: AsRef<str>>(texts: &[S]) -> String {
    let mut seen = HashSet::new();
    let once: Vec<&str> = texts.iter().map(AsRef::as_ref).filter(|text| seen.insert(*text)).collect();
    match once.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_upstreams() {
        let table = [
            (
                FieldError::required("metadata.name", "name or generateName is required"),
                "metadata.name: Required value: name or generateName is required",
            ),
            (FieldError::required("roleRef.name", ""), "roleRef.name: Required value"),
            (
                FieldError::invalid("a.b", "x\ny", "may not contain '/'"),
                r#"a.b: Invalid value: "x\ny": may not contain '/'"#,
            ),
            (
                FieldError::invalid_json("rules[0].nonResourceURLs", &["/a"], "no"),
                r#"rules[0].nonResourceURLs: Invalid value: ["/a"]: no"#,
            ),
            (
                FieldError::not_supported("k", "Robot", &["User", "Group"]),
                r#"k: Unsupported value: "Robot": supported values: "User", "Group""#,
            ),
            (
                FieldError::forbidden("metadata.namespace", "not allowed on this type"),
                "metadata.namespace: Forbidden: not allowed on this type",
            ),
            (FieldError::not_found("a", "b"), r#"a: Not found: "b""#),
            (FieldError::duplicate("a", "b"), r#"a: Duplicate value: "b""#),
            (FieldError::too_long("a", 262_144), "a: Too long: may not be more than 262144 bytes"),
            (FieldError::too_many("jwt", 65, 64), "jwt: Too many: 65: must have at most 64 items"),
            (FieldError::internal("a", "it broke"), "a: Internal error: it broke"),
        ];
        for (error, want) in table {
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn an_aggregate_names_each_text_once() {
        assert_eq!(aggregate(&["a"]), "a");
        assert_eq!(aggregate(&["a", "a"]), "a");
        assert_eq!(aggregate(&["a", "b", "a"]), "[a, b]");
    }
}
