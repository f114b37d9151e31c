//! YAML in, within limits, with the file and the line in every error.
//!
//! One set of rules for all files of Kubernetes: duplicate keys are errors, only `true` and `false` are booleans, one
//! document, no includes, bounded size, depth, nodes and aliases (against alias bombs).

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Options};

/// Levels of nesting that a file may have.
pub const DEPTH_LIMIT: usize = 48;
/// Nodes (scalars, lists, maps) that a file may have, aliases expanded.
const NODES_LIMIT: usize = 200_000;
/// Aliases that a file may have.
const ALIASES_LIMIT: usize = 1_000;

/// Why a text could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// More bytes than allowed.
    #[error("{file}: {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        bytes: usize,
        /// The most that is read.
        limit: usize,
    },
    /// Not YAML, or not of the expected shape.
    #[error("{file}:{line}:{column}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// From 1; 0 when unknown.
        line: u64,
        /// From 1; 0 when unknown.
        column: u64,
        /// What is wrong there.
        reason: String,
    },
}

impl YamlError {
    /// What the user can do about it, where the text does not say it already.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } => Some("is this the right file?"),
            Self::Malformed { .. } => None,
        }
    }
}

/// Reads one document of at most `limit` bytes. `file` is for messages.
///
/// # Errors
/// [`YamlError`] with the place.
pub fn parse<T: DeserializeOwned>(text: &str, file: &str, limit: usize) -> Result<T, YamlError> {
    if text.len() > limit {
        return Err(YamlError::TooLarge { file: file.to_owned(), bytes: text.len(), limit });
    }
    serde_saphyr::from_str_with_options(text, options(limit)).map_err(|error| {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        YamlError::Malformed {
            file: file.to_owned(),
            line: location.line(),
            column: location.column(),
            reason: reason(&error),
        }
    })
}

/// Prints a value as kubectl would: two spaces, lists not indented further, no folded strings.
///
/// # Errors
/// When the value cannot be YAML; JSON values always can.
pub fn print<T: Serialize>(value: &T) -> Result<String, String> {
    let options = serde_saphyr::ser_options! {
        prefer_block_scalars: false,
        compact_list_indent: true,
    };
    serde_saphyr::to_string_with_options(value, options).map_err(|error| error.to_string())
}

fn options(limit: usize) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_LIMIT,
            flow_nesting_limit: DEPTH_LIMIT,
            max_documents: 1,
            max_nodes: NODES_LIMIT,
            max_events: NODES_LIMIT * 2,
            max_aliases: ALIASES_LIMIT,
            max_anchors: ALIASES_LIMIT,
            max_recorded_anchor_bytes: limit,
            max_total_scalar_bytes: limit * 4,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_LIMIT,
            max_replay_stack_depth: DEPTH_LIMIT,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        emit_comments: false,
        with_snippet: false,
    }
}

/// The message without the position, which comes first in ours.
fn reason(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    match text.rfind(" at line ") {
        Some(at) if text.get(at..).is_some_and(|tail| !tail.contains('\n')) => {
            text.get(..at).unwrap_or(text).to_owned()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn value(text: &str) -> Result<Value, YamlError> {
        parse(text, "f", 4096)
    }

    #[test]
    fn scalars_keep_what_they_are() {
        let read = value("a: yes\nb: true\nc: 0123\nd: 12\ne: ~\nf: '1'\ng: 1_000\nh: .nan\n").unwrap();
        assert_eq!(
            read,
            json!({"a": "yes", "b": true, "c": "0123", "d": 12, "e": null, "f": "1", "g": "1_000", "h": ".nan"})
        );
    }

    #[test]
    fn errors_name_the_place() {
        let table =
            [("a: 1\na: 2\n", "f:2:1: "), ("a: [1\n", "f:"), ("a: *nowhere\n", "f:1:4: "), ("a: 1\n---\nb: 2\n", "f:")];
        for (text, start) in table {
            let error = value(text).unwrap_err().to_string();
            assert!(error.starts_with(start), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
            assert!(!error.contains(" at line "), "{error}");
        }
    }

    #[test]
    fn each_limit_is_enforced() {
        assert!(matches!(value(&"#".repeat(4097)), Err(YamlError::TooLarge { bytes: 4097, limit: 4096, .. })));
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(value(&deep(DEPTH_LIMIT - 1)).is_ok());
        assert!(value(&deep(DEPTH_LIMIT + 1)).is_err());
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        assert!(value(bomb).is_err());
        let aliases = format!("a: &a 1\nb: [{}]\n", "*a,".repeat(ALIASES_LIMIT + 1));
        assert!(parse::<Value>(&aliases, "f", 1 << 20).is_err());
    }

    #[test]
    fn what_is_printed_reads_back() {
        let object = json!({
            "clusters": [{"name": "a", "cluster": {"server": "https://x:1", "certificate-authority-data": "QUJD".repeat(100)}}],
            "empty": {}, "none": [], "null": null, "yes": "yes", "n": 1, "on": "on", "text": "a\nb: c\n", "quote": "it's \"x\"", "num": "0123", "t": "true",
        });
        let text = print(&object).unwrap();
        assert_eq!(value(&text).unwrap(), object, "{text}");
        assert!(text.contains("clusters:\n- name: a\n  cluster:\n    server: "), "{text}");
        assert!(text.contains("yes: ") || text.contains("\"yes\"") || text.contains("'yes'"), "{text}");
    }
}
