//! The log file and its rotation: at a size it is renamed after the time, and old ones are compressed and removed.
//!
//! Lines are whole: what a full disk cuts off is taken back, so that the next line stands on its own.
//!
//! Compat: `lumberjack` as kube-apiserver uses it: `audit-2026-01-02T03-04-05.678.log` (UTC), `.gz` when compressed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis_runtime::{Clock, Timestamp};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const GZ: &str = ".gz";
/// Files of a folder that are looked at when old ones are removed.
const MAX_ENTRIES: usize = 100_000;

/// Where lines go.
#[derive(Debug)]
pub(super) enum Target {
    Stdout,
    File(Box<LogFile>),
    #[cfg(test)]
    Test(tests::Tap),
}

/// When a file is given up for a new one, and what becomes of it.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    pub(super) max_bytes: Option<u64>,
    /// 0: any age.
    pub(super) max_age_days: u64,
    /// 0: any number.
    pub(super) max_backups: usize,
    pub(super) compress: bool,
}

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    clock: Clock,
    file: Option<File>,
    /// Bytes in the file.
    size: u64,
    /// Old files are to be looked after.
    untidy: bool,
}

impl Target {
    /// What messages call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stdout => "standard out".to_owned(),
            Self::File(file) => file.path.display().to_string(),
            #[cfg(test)]
            Self::Test(_) => "test".to_owned(),
        }
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(line),
            Self::File(file) => file.write(line),
            #[cfg(test)]
            Self::Test(tap) => tap.write(line),
        }
    }

    /// After a batch: what need not be done before the lines are acknowledged.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Stdout => drop(io::stdout().lock().flush()),
            Self::File(file) => file.tidy(),
            #[cfg(test)]
            Self::Test(_) => {}
        }
    }
}

impl LogFile {
    /// Opens or makes the file, readable by its owner alone, and its folder.
    pub(super) fn open(path: &Path, rotation: Rotation, clock: Clock) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let (file, size) = append(path)?;
        Ok(Self { path: path.to_owned(), rotation, clock, file: Some(file), size, untidy: true })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if let Some(max) = self.rotation.max_bytes {
            if length > max {
                let why = format!("write length {length} exceeds maximum file size {max}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            if self.size.saturating_add(length) > max {
                self.rotate()?;
            }
        }
        if self.file.is_none() {
            let (file, size) = append(&self.path)?;
            (self.file, self.size) = (Some(file), size);
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(line) {
            // A part of the line may be there. What cannot be taken back is closed off by opening the file anew.
            if file.set_len(self.size).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        match fs::rename(&self.path, self.backup_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (file, size) = append(&self.path)?;
        (self.file, self.size, self.untidy) = (Some(file), size, true);
        Ok(())
    }

    /// A name that nothing has yet: two rotations may fall into one millisecond.
    fn backup_path(&self) -> PathBuf {
        let mut time = self.clock.now();
        loop {
            let path = self.path.with_file_name(self.backup_name(time));
            if !path.exists() {
                return path;
            }
            time += Duration::from_millis(1);
        }
    }

    fn backup_name(&self, time: Timestamp) -> String {
        let (stem, end) = self.name_parts();
        let micros = time.rfc3339_micros();
        // 2026-01-02T03:04:05.678901Z
        let millis = micros.get(..micros.len().saturating_sub(4)).unwrap_or_default().replace(':', "-");
        format!("{stem}{millis}{end}")
    }

    /// What stands before and after the time in the names of old files.
    fn name_parts(&self) -> (String, String) {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.rfind('.') {
            Some(dot) => {
                (format!("{}-", &name.get(..dot).unwrap_or_default()), name.get(dot..).unwrap_or_default().to_owned())
            }
            None => (format!("{name}-"), String::new()),
        }
    }

    /// Compresses and removes old files. What fails is tried again after the next rotation.
    fn tidy(&mut self) {
        if !std::mem::take(&mut self.untidy) {
            return;
        }
        let mut old = self.old_files();
        old.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        let mut kept = Vec::new();
        let oldest =
            self.clock.now() - DAY.saturating_mul(u32::try_from(self.rotation.max_age_days).unwrap_or(u32::MAX));
        for (index, (time, path)) in old.into_iter().enumerate() {
            let too_many = self.rotation.max_backups > 0 && index >= self.rotation.max_backups;
            let too_old = self.rotation.max_age_days > 0 && time < oldest;
            if too_many || too_old {
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "an old audit log could not be removed");
                }
            } else {
                kept.push(path);
            }
        }
        for path in kept.iter().filter(|path| self.rotation.compress && !path.to_string_lossy().ends_with(GZ)) {
            if let Err(error) = compress(path) {
                tracing::warn!(path = %path.display(), %error, "an old audit log could not be compressed");
            }
        }
    }

    /// Old files of this log, with their times.
    fn old_files(&self) -> Vec<(Timestamp, PathBuf)> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (stem, end) = self.name_parts();
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let time_in = |name: &str| {
            let name = name.strip_suffix(GZ).unwrap_or(name);
            let text = name.strip_prefix(stem.as_str())?.strip_suffix(end.as_str())?;
            let (date, time) = text.split_once('T')?;
            Timestamp::parse_rfc3339(&format!("{date}T{}Z", time.replace('-', ":")))
        };
        entries
            .take(MAX_ENTRIES)
            .filter_map(Result::ok)
            .filter_map(|entry| Some((time_in(&entry.file_name().to_string_lossy())?, entry.path())))
            .collect()
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Replaces a file by its compressed form, which is whole before the file goes.
fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(GZ);
    let target = PathBuf::from(name);
    let packed = (|| {
        let out = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&target)?;
        let mut encoder = GzEncoder::new(out, Compression::default());
        io::copy(&mut File::open(path)?, &mut encoder)?;
        encoder.finish()?.sync_all()
    })();
    if packed.is_err() {
        let _ = fs::remove_file(&target);
        return packed;
    }
    fs::remove_file(path)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use portcullis_testkit::temp_dir;

    use super::*;

    /// A target of which the test decides when and how each write ends.
    #[derive(Debug)]
    pub(in super::super) struct Tap {
        seen: Sender<Vec<u8>>,
        verdicts: Receiver<io::Result<()>>,
    }

    impl Tap {
        pub(in super::super) fn new() -> (Self, Receiver<Vec<u8>>, Sender<io::Result<()>>) {
            let ((seen, lines), (verdict, verdicts)) = (channel(), channel());
            (Self { seen, verdicts }, lines, verdict)
        }

        pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
            let _ = self.seen.send(line.to_vec());
            self.verdicts.recv().unwrap_or(Ok(()))
        }
    }

    fn rotation() -> Rotation {
        Rotation { max_bytes: Some(100), max_age_days: 0, max_backups: 0, compress: false }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_renamed_after_the_time() {
        let folder = temp_dir();
        let (clock, hand) = Clock::mock(1_767_323_045);
        let mut log = LogFile::open(&folder.path().join("a/audit.log"), rotation(), clock).unwrap();
        for _ in 0..3 {
            log.write(&[b'x'; 60]).unwrap();
            hand.advance(Duration::from_millis(250));
        }
        let folder = folder.path().join("a");
        assert_eq!(
            names(&folder),
            ["audit-2026-01-02T03-04-05.250.log", "audit-2026-01-02T03-04-05.500.log", "audit.log"]
        );
        assert_eq!(fs::metadata(folder.join("audit.log")).unwrap().len(), 60);
        assert!(log.write(&[b'x'; 101]).unwrap_err().to_string().contains("exceeds maximum file size 100"));
    }

    #[test]
    fn two_rotations_in_one_millisecond_lose_nothing() {
        let folder = temp_dir();
        let (clock, _hand) = Clock::mock(1_767_323_045);
        let mut log = LogFile::open(&folder.path().join("audit.log"), rotation(), clock).unwrap();
        (0..4).for_each(|_| log.write(&[b'x'; 100]).unwrap());
        assert_eq!(names(folder.path()).len(), 4);
    }

    #[test]
    fn old_files_go_by_number_and_by_age_and_others_stay() {
        let folder = temp_dir();
        let path = folder.path().join("audit.log");
        for name in [
            "audit-2025-12-01T00-00-00.000.log",
            "audit-2026-01-01T00-00-00.000.log.gz",
            "audit-mine.log",
            "b-2025-12-01T00-00-00.000.log",
        ] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let (clock, _hand) = Clock::mock(1_767_323_045);
        let mut log = LogFile::open(&path, Rotation { max_age_days: 7, ..rotation() }, clock.clone()).unwrap();
        log.tidy();
        assert_eq!(
            names(folder.path()),
            ["audit-2026-01-01T00-00-00.000.log.gz", "audit-mine.log", "audit.log", "b-2025-12-01T00-00-00.000.log"]
        );
        let mut log = LogFile::open(&path, Rotation { max_backups: 1, ..rotation() }, clock).unwrap();
        log.write(&[b'x'; 100]).unwrap();
        log.write(&[b'x'; 100]).unwrap();
        log.tidy();
        assert_eq!(
            names(folder.path()),
            ["audit-2026-01-02T03-04-05.000.log", "audit-mine.log", "audit.log", "b-2025-12-01T00-00-00.000.log"]
        );
    }

    #[test]
    fn old_files_are_compressed_whole() {
        let folder = temp_dir();
        let (clock, _hand) = Clock::mock(1_767_323_045);
        let path = folder.path().join("audit.log");
        let mut log = LogFile::open(&path, Rotation { compress: true, ..rotation() }, clock).unwrap();
        log.write(&[b'x'; 100]).unwrap();
        log.write(&[b'y'; 100]).unwrap();
        log.tidy();
        assert_eq!(names(folder.path()), ["audit-2026-01-02T03-04-05.000.log.gz", "audit.log"]);
        let packed = fs::read(folder.path().join("audit-2026-01-02T03-04-05.000.log.gz")).unwrap();
        let mut whole = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut whole).unwrap();
        assert_eq!(whole, [b'x'; 100]);
    }

    #[test]
    fn the_log_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = temp_dir();
        let path = folder.path().join("new/audit.log");
        LogFile::open(&path, rotation(), Clock::system()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}
