//! A backup as a file: lines of JSON.
//!
//! The first line says what it is and when it was taken, each line after it holds a record, and the last one says how many
//! there are and what SHA-256 everything before it has. So a file that was cut off, changed, or glued together is told from a
//! whole one before anything is written from it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, Write},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Scope, contents::Contents};
use crate::{
    error::KernelError,
    inspect::Finding,
    kernel::{IndexKey, Kernel, Kind, MAX_DATA_BYTES, MAX_ID_BYTES, Record, Version, Write as Content, check_write},
    leases::{NoSnapshot, UseError, whole_snapshot},
    seal,
    snapshot::Batch,
};

/// The form that is written, and the newest that is read.
const FORMAT: u64 = 1;
const MARK: &str = "portcullis store backup";
/// Longest line: a record's data in base64, its id with every byte escaped, and room for the rest.
pub const MAX_LINE_BYTES: usize = MAX_DATA_BYTES.div_ceil(3) * 4 + MAX_ID_BYTES * 6 + 1024;
/// Records that are handed on together.
const BATCH: usize = 100;

/// Why a backup cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store that is backed up.
    #[error("the store cannot be read")]
    Store(#[from] KernelError),
    /// The store that is backed up is not whole.
    #[error("no backup is made of half a store")]
    Unusable(#[source] UseError),
    /// The file or stream that is written.
    #[error("the backup cannot be written")]
    Write(#[source] io::Error),
    /// The file that is read.
    #[error("the backup {path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is no backup of ours.
    #[error("{path:?} is no backup of a store")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file: a newer version of this program wrote it.
    #[error("the backup {path:?} has form {found}, and this version knows {FORMAT} at most; use the newer version")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u64,
    },
    /// The file is not as it was written.
    #[error("the backup {path:?} is damaged in line {line}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: u64,
        /// What is wrong; no content.
        what: String,
    },
}

/// What the first line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    #[serde(rename = "backup")]
    mark: String,
    form: u64,
    /// When it was taken, RFC 3339.
    pub taken_at: String,
    /// The backend of the store.
    pub backend: String,
    /// The schema of the store.
    pub schema: u64,
    /// Whether sign-ins and refresh tokens were left out.
    #[serde(default)]
    pub without_sessions: bool,
}

#[derive(Serialize)]
struct LineRef<'a> {
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index1: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index2: Option<String>,
    /// Nanoseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    data: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Record(RecordLine),
    End(EndLine),
}

#[derive(Deserialize)]
struct RecordLine {
    kind: String,
    id: String,
    index1: Option<String>,
    index2: Option<String>,
    expires_at: Option<i64>,
    data: String,
}

#[derive(Serialize, Deserialize)]
struct EndLine {
    records: u64,
    sha256: String,
}

/// What is in a backup, and what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// How many records it has.
    pub records: u64,
    /// How many of its secrets are in clear, as in the store.
    pub clear_secrets: u64,
    /// What the store holds that cannot be a record ([`Snapshot::left_out`](crate::Snapshot::left_out)).
    pub left_out: Vec<Finding>,
}

/// Writes everything that `scope` takes along to `out`, which the caller flushes and syncs. `progress` is told the number of
/// records after each batch. The caller says what was left out: a backup is better without it than not at all, and nobody
/// must take it for whole.
///
/// # Errors
/// [`BackupError::Store`], [`BackupError::Write`]. What has been written by then is no backup, and is not read as one.
pub async fn write_backup(
    kernel: &dyn Kernel,
    taken_at: Timestamp,
    scope: Scope,
    out: &mut (dyn Write + Send),
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<BackedUp, BackupError> {
    let description = kernel.description();
    let mut snapshot = whole_snapshot(kernel).await.map_err(|error| match error {
        NoSnapshot::Unusable(error) => BackupError::Unusable(error),
        NoSnapshot::Kernel(error) => BackupError::Store(error),
    })?;
    let mut out = Hashing { out, hash: digest::Context::new(&digest::SHA256) };
    out.line(&BackupHeader {
        mark: MARK.to_owned(),
        form: FORMAT,
        taken_at: taken_at.rfc3339(),
        backend: description.backend.to_owned(),
        schema: description.schema,
        without_sessions: scope == Scope::WithoutSessions,
    })?;
    let (mut records, mut clear_secrets) = (0_u64, 0_u64);
    while let Some(batch) = snapshot.next().await? {
        for (kind, record) in batch.into_iter().filter(|(kind, _)| scope.takes(*kind)) {
            clear_secrets += seal::clear_secrets(kind, &record);
            let [index1, index2] = record.index.map(|key| key.map(|key| STANDARD.encode(key.as_bytes())));
            out.line(&LineRef {
                kind: kind.name(),
                id: &record.id,
                index1,
                index2,
                expires_at: record.expires_at.map(Timestamp::unix_nanos),
                data: STANDARD.encode(&record.data),
            })?;
            records += 1;
        }
        progress(records);
    }
    let sha256 = STANDARD.encode(out.hash.clone().finish());
    out.line(&EndLine { records, sha256 })?;
    let left_out = snapshot.left_out().iter().filter(|finding| scope.takes(finding.kind)).cloned().collect();
    Ok(BackedUp { records, clear_secrets, left_out })
}

struct Hashing<'a> {
    out: &'a mut (dyn Write + Send),
    hash: digest::Context,
}

impl Hashing<'_> {
    fn line(&mut self, value: &impl Serialize) -> Result<(), BackupError> {
        let mut line = serde_json::to_vec(value).map_err(|error| BackupError::Write(error.into()))?;
        line.push(b'\n');
        self.hash.update(&line);
        self.out.write_all(&line).map_err(BackupError::Write)
    }
}

/// A backup that was read whole and found to be as it was written.
pub struct BackupFile {
    path: PathBuf,
    header: BackupHeader,
    records: u64,
    contents: Contents,
}

impl BackupFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`BackupError`], which names the file and, where there is one, the line.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let mut lines = Lines::open(path)?;
        let header = lines.header()?;
        let mut contents = Contents::default();
        let mut records = 0_u64;
        while let Some((kind, record)) = lines.record(records)? {
            if !contents.add(kind, &record) {
                return Err(lines.damaged("the record is in the file twice"));
            }
            records += 1;
        }
        Ok(Self { path: path.to_owned(), header, records, contents })
    }

    /// What it says about itself.
    #[must_use]
    pub const fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// How many records it has.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    pub(super) const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Reads it a second time. A record that was not in it the first time is an error.
    pub(super) fn read(&self) -> Result<Reading<'_>, BackupError> {
        let mut lines = Lines::open(&self.path)?;
        lines.header()?;
        Ok(Reading { file: self, lines, records: 0 })
    }
}

impl std::fmt::Debug for BackupFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupFile").field("path", &self.path).field("header", &self.header).finish_non_exhaustive()
    }
}

/// The records of a backup, batch by batch.
pub(super) struct Reading<'a> {
    file: &'a BackupFile,
    lines: Lines,
    records: u64,
}

impl Reading<'_> {
    pub(super) fn next(&mut self) -> Result<Option<Batch>, BackupError> {
        let mut batch = Batch::new();
        // Nothing is read behind the last line.
        while batch.len() < BATCH && self.records < self.file.records {
            let Some((kind, record)) = self.lines.record(self.records)? else {
                return Err(self.lines.damaged("the file was changed while it was read"));
            };
            if !self.file.contents.has(kind, &record) {
                return Err(self.lines.damaged("the file was changed while it was read"));
            }
            self.records += 1;
            batch.push((kind, record));
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

/// The lines of a file, with what has been seen of it.
struct Lines {
    path: PathBuf,
    input: BufReader<File>,
    hash: digest::Context,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, BackupError> {
        let failed = |source| BackupError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        // A pipe could not be read twice.
        file.rewind().map_err(failed)?;
        let input = BufReader::new(file);
        let hash = digest::Context::new(&digest::SHA256);
        Ok(Self { path: path.to_owned(), input, hash, line: Vec::new(), number: 0 })
    }

    /// Reads the next line; false at the end of the file.
    fn advance(&mut self) -> Result<bool, BackupError> {
        self.line.clear();
        self.number += 1;
        let bound = MAX_LINE_BYTES as u64 + 1;
        let read = self.input.by_ref().take(bound).read_until(b'\n', &mut self.line);
        let read = read.map_err(|source| BackupError::Read { path: self.path.clone(), source })?;
        if read as u64 == bound && self.line.last() != Some(&b'\n') {
            return Err(self.damaged("the line is longer than any that is written"));
        }
        Ok(read > 0)
    }

    fn header(&mut self) -> Result<BackupHeader, BackupError> {
        let path = self.path.clone();
        let foreign = || BackupError::Foreign { path: path.clone() };
        match self.advance() {
            Ok(true) => {}
            Ok(false) | Err(BackupError::Damaged { .. }) => return Err(foreign()),
            Err(error) => return Err(error),
        }
        /// Read before the rest, which another form may write otherwise.
        #[derive(Deserialize)]
        struct Mark {
            backup: String,
            form: u64,
        }
        let mark: Mark = serde_json::from_slice(&self.line).map_err(|_| foreign())?;
        if mark.backup != MARK {
            return Err(foreign());
        }
        if mark.form > FORMAT {
            return Err(BackupError::Newer { path: self.path.clone(), found: mark.form });
        }
        let header = serde_json::from_slice(&self.line).map_err(|error| self.unreadable(&error))?;
        self.hash.update(&self.line);
        Ok(header)
    }

    /// The next record; `None` after the last line, which must say that there are as many as were read.
    fn record(&mut self, so_far: u64) -> Result<Option<(Kind, Record)>, BackupError> {
        if !self.advance()? {
            return Err(self.damaged("the file ends before its last line: the backup was not finished, or cut off"));
        }
        if self.line.last() != Some(&b'\n') {
            return Err(self.damaged("the line is cut off"));
        }
        match serde_json::from_slice(&self.line).map_err(|error| self.unreadable(&error))? {
            Line::Record(record) => {
                let record = self.decode(record)?;
                self.hash.update(&self.line);
                Ok(Some(record))
            }
            Line::End(EndLine { records, sha256 }) => {
                if records != so_far {
                    return Err(self.damaged(&format!("it should have {records} records, and has {so_far}")));
                }
                if sha256 != STANDARD.encode(self.hash.clone().finish()) {
                    return Err(self.damaged("what comes before is not what was written (its SHA-256 is another)"));
                }
                if self.advance()? {
                    return Err(self.damaged("something follows the last line"));
                }
                Ok(None)
            }
        }
    }

    fn decode(&self, line: RecordLine) -> Result<(Kind, Record), BackupError> {
        let RecordLine { kind, id, index1, index2, expires_at, data } = line;
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind);
        let kind = kind.ok_or_else(|| self.damaged("its kind is not one that this version knows"))?;
        let key = |text: Option<String>| {
            text.map(|text| {
                let bytes = STANDARD.decode(text).ok();
                bytes.and_then(|bytes| IndexKey::from_bytes(&bytes)).ok_or_else(|| self.damaged("a broken index key"))
            })
        };
        let index = [key(index1).transpose()?, key(index2).transpose()?];
        let data = STANDARD.decode(data).map_err(|_| self.damaged("its data is no base64"))?;
        let content = Content { index, expires_at: expires_at.map(Timestamp::from_unix_nanos), data };
        check_write(&id, &content).map_err(|error| self.damaged(&error.to_string()))?;
        let Content { index, expires_at, data } = content;
        Ok((kind, Record { id, version: Version::new(0), index, expires_at, data }))
    }

    /// Serde's message can quote content; its category and position do not.
    fn unreadable(&self, error: &serde_json::Error) -> BackupError {
        self.damaged(&format!("{:?} error at byte {}", error.classify(), error.column()))
    }

    fn damaged(&self, what: &str) -> BackupError {
        BackupError::Damaged { path: self.path.clone(), line: self.number, what: what.to_owned() }
    }
}
