//! kube-apiserver's flags for the audit log, their defaults, and what is wrong with their values.
//!
//! Compat: `server/options/audit.go` of apiserver v0.37. The mode is `batch` unless asked for otherwise (upstream:
//! `blocking`), and the format is `json` alone.

use std::path::PathBuf;

use portcullis_kube::field::aggregate;
use portcullis_kube::go::quote;
use portcullis_runtime::Clock;

use super::file::{LogFile, Rotation, Target};
use super::policy::AuditPolicyError;

const MODES: &str = "batch,blocking,blocking-strict";
const MEGABYTE: u64 = 1024 * 1024;

/// What the `--audit-*` flags say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// `--audit-policy-file`. Nothing is written down without one.
    pub policy_file: Option<PathBuf>,
    /// `--audit-log-path`; `-` is standard out.
    pub path: Option<PathBuf>,
    /// `--audit-log-format`.
    pub format: String,
    /// `--audit-log-maxsize`, in megabytes; 0 never rotates.
    pub max_size: i64,
    /// `--audit-log-maxage`, in days; 0 keeps rotated files of any age.
    pub max_age: i64,
    /// `--audit-log-maxbackup`; 0 keeps any number of rotated files.
    pub max_backups: i64,
    /// `--audit-log-compress`.
    pub compress: bool,
    /// `--audit-log-mode`.
    pub mode: AuditMode,
    /// `--audit-log-batch-buffer-size`: events that wait for the writer.
    pub batch_buffer_size: usize,
    /// `--audit-log-truncate-enabled`.
    pub truncate_enabled: bool,
    /// `--audit-log-truncate-max-event-size`, in bytes.
    pub truncate_max_event_size: usize,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            policy_file: None,
            path: None,
            format: "json".to_owned(),
            max_size: 100,
            max_age: 366,
            max_backups: 100,
            compress: false,
            mode: AuditMode::Batch,
            batch_buffer_size: 10_000,
            truncate_enabled: false,
            truncate_max_event_size: 100 * 1024,
        }
    }
}

/// What a request has to do with the writing of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditMode {
    /// Nothing: what does not fit into the queue is lost.
    Batch,
    /// It waits for each of its lines.
    Blocking,
    /// It waits, and is refused when its first line cannot be written.
    BlockingStrict,
}

impl std::str::FromStr for AuditMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "batch" => Ok(Self::Batch),
            "blocking" => Ok(Self::Blocking),
            "blocking-strict" => Ok(Self::BlockingStrict),
            other => Err(format!("invalid audit log mode {other}, allowed modes are {}", quote(MODES))),
        }
    }
}

/// Why the audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The policy.
    #[error(transparent)]
    Policy(#[from] AuditPolicyError),
    /// The flags.
    #[error("{0}")]
    Flags(String),
    /// The file.
    #[error("ensureLogFile: {}", path.display())]
    File {
        /// The file, or its folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl AuditError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Policy(_) => Some("see the audit policy file: rules of audit.k8s.io/v1, kind Policy".to_owned()),
            Self::Flags(_) => None,
            Self::File { path, .. } => {
                Some(format!("name a file in a folder that you may write to, in place of {}", path.display()))
            }
        }
    }
}

impl AuditOptions {
    pub(super) fn validate(&self) -> Result<(), AuditError> {
        if self.path.is_none() {
            return Ok(());
        }
        let mut wrong = Vec::new();
        if self.mode == AuditMode::Batch && self.batch_buffer_size == 0 {
            wrong.push("invalid audit batch log buffer size 0, must be a positive number".to_owned());
        }
        if self.truncate_max_event_size == 0 {
            wrong.push("invalid audit truncate log max event size 0, must be a positive number".to_owned());
        }
        if self.format != "json" {
            wrong.push(format!("invalid audit log format {}, allowed formats are {}", self.format, quote("json")));
        }
        for (flag, value) in [("maxage", self.max_age), ("maxbackup", self.max_backups), ("maxsize", self.max_size)] {
            if value < 0 {
                wrong.push(format!("--audit-log-{flag} {value} can't be a negative number"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(AuditError::Flags(aggregate(&wrong))) }
    }

    /// Where lines go. The file is there afterwards, even when there is no policy.
    pub(super) fn target(&self, clock: &Clock) -> Result<Option<Target>, AuditError> {
        let Some(path) = &self.path else { return Ok(None) };
        if path.as_os_str() == "-" {
            return Ok(Some(Target::Stdout));
        }
        let whole = |number: i64| u64::try_from(number).unwrap_or(0);
        let rotation = Rotation {
            max_bytes: (self.max_size > 0).then(|| whole(self.max_size).saturating_mul(MEGABYTE)),
            max_age_days: whole(self.max_age),
            max_backups: usize::try_from(self.max_backups).unwrap_or(0),
            compress: self.compress,
        };
        let failed = |source| AuditError::File { path: path.clone(), source };
        LogFile::open(path, rotation, clock.clone()).map(|file| Some(Target::File(Box::new(file)))).map_err(failed)
    }
}
