//! What a namespace's labels ask for.
//!
//! Compat: `pod-security-admission/api` of v0.37.2.

use std::fmt;

use portcullis_kube::field::FieldError;
use serde_json::Value;

use crate::resources::tree::{Members, members_at};

/// How strict, from the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The minor version whose rules count; `None` is the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version(Option<u64>);

/// A level as it was in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LevelVersion {
    pub(super) level: Level,
    pub(super) version: Version,
}

/// What becomes of a pod that is beyond a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// It is refused.
    pub(super) enforce: LevelVersion,
    /// The audit log says it.
    pub(super) audit: LevelVersion,
    /// Whoever writes it is warned.
    pub(super) warn: LevelVersion,
}

impl Version {
    /// Whether rules that began with a minor version of Kubernetes count.
    pub(super) fn has(self, minor: u64) -> bool {
        self.0.is_none_or(|own| own >= minor)
    }
}

impl Policy {
    /// What labels ask for, and what is wrong with them. What cannot be read is strict where it refuses, and lenient where it tells.
    pub(super) fn of(namespace: &Members) -> (Self, Vec<FieldError>) {
        let labels = members_at(namespace, &["metadata", "labels"]);
        let mut wrong = Vec::new();
        let label = |name: &str| labels.get(&format!("pod-security.kubernetes.io/{name}")).and_then(Value::as_str);
        let none = LevelVersion { level: Level::Privileged, version: Version(None) };
        let mut policy = Self { enforce: none, audit: none, warn: none };
        let mut enforced = false;
        let told = |name: &str, value: &str, why: &str| {
            FieldError::invalid(format!("metadata.labels[pod-security.kubernetes.io/{name}]"), value, why)
        };
        for (name, part, unread) in [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ] {
            if let Some(text) = label(name) {
                let level = level(text);
                enforced |= name == "enforce" && level.is_some();
                part.level = level.unwrap_or(unread);
                if level.is_none() {
                    wrong.push(told(name, text, "must be one of privileged, baseline, restricted"));
                }
            }
            let of_version = format!("{name}-version");
            if let Some(text) = label(&of_version) {
                let version = version(text);
                part.version = version.unwrap_or(Version(None));
                if version.is_none() {
                    wrong.push(told(&of_version, text, "must be \"latest\" or \"v1.x\""));
                }
            }
        }
        // Whoever refuses warns too, unless the namespace says how.
        if label("warn").is_none() && enforced && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label("warn-version").is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, wrong)
    }
}

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version(None));
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor.bytes().all(|byte| byte.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
    // Compat: as far as Go's numbers go.
    let minor = minor.parse::<u64>().ok().filter(|minor| plain && i64::try_from(*minor).is_ok())?;
    Some(Version(Some(minor)))
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version.0 {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(labels: &[(&str, &str)]) -> (String, usize) {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| (format!("pod-security.kubernetes.io/{name}"), json!(value))).collect();
        let (policy, wrong) = Policy::of(json!({"metadata": {"labels": labels}}).as_object().unwrap());
        (format!("{} {} {}", policy.enforce, policy.audit, policy.warn), wrong.len())
    }

    #[test]
    fn labels_say_how_strict_a_namespace_is() {
        for (labels, want, wrong) in [
            (&[][..], "privileged:latest privileged:latest privileged:latest", 0),
            (&[("enforce", "baseline")][..], "baseline:latest privileged:latest baseline:latest", 0),
            (
                &[("enforce", "restricted"), ("enforce-version", "v1.24"), ("warn", "privileged")][..],
                "restricted:v1.24 privileged:latest privileged:latest",
                0,
            ),
            (
                &[("enforce", "odd"), ("audit", "odd"), ("warn", "odd")][..],
                "restricted:latest privileged:latest privileged:latest",
                3,
            ),
            (
                &[("audit-version", "v1.01"), ("warn-version", "1.2")][..],
                "privileged:latest privileged:latest privileged:latest",
                2,
            ),
        ] {
            assert_eq!(of(labels), (want.to_owned(), wrong), "{labels:?}");
        }
    }
}
