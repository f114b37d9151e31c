//! `storage`: memory, or a file.

use std::path::PathBuf;

use super::raw::RawStorage;
use super::settings::Storage;
use super::validate::{Findings, text};

pub(super) fn storage(raw: Option<&RawStorage>, f: &mut Findings<'_>) -> Option<Storage> {
    let raw = raw?;
    let kind = raw.kind.as_ref()?;
    match kind.value.as_str() {
        "" => None,
        "memory" => {
            f.notice(&kind.place, "storage is in memory: a restart signs everybody out and makes new keys", "");
            Some(Storage::Memory)
        }
        "sqlite3" => {
            let place = raw.file.as_ref().map_or(&kind.place, |file| &file.place);
            let file = f.expand(text(raw.file.as_ref()));
            let path = file.strip_prefix("file:").unwrap_or(&file);
            match path {
                "" => {
                    f.value(place, "storage.config.file is empty", "name a file, such as /var/dex/dex.db");
                    None
                }
                ":memory:" => Some(Storage::Memory),
                path if file.starts_with("file:") && path.contains('?') => {
                    f.unsupported(
                        place,
                        "SQLite URIs with parameters are not supported",
                        "write the file's path alone",
                    );
                    None
                }
                path => Some(Storage::Sqlite { file: PathBuf::from(path) }),
            }
        }
        known @ ("etcd" | "kubernetes" | "postgres" | "mysql") => {
            let message = format!("storage type {known:?} is not served yet");
            f.unsupported(
                &kind.place,
                message,
                "use `type: sqlite3` with `config: {file: /path/to/dex.db}`, or `type: memory`",
            );
            None
        }
        other => {
            f.value(&kind.place, format!("unknown storage type {other:?}"), "use sqlite3 or memory");
            None
        }
    }
}
