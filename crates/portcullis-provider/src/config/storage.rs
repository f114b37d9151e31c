//! `storage`: memory, a file, a database server, etcd, or a Kubernetes cluster.

use std::path::PathBuf;

use super::database;
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
        "etcd" => super::etcd::storage(&kind.place, &raw.etcd, f),
        "kubernetes" => super::kubernetes::storage(&kind.place, &raw.kubernetes, f),
        "postgres" => database::postgres(&kind.place, raw.database.as_ref()?, f),
        "mysql" => database::mysql(&kind.place, raw.database.as_ref()?, f),
        other => {
            let hint = "use sqlite3, postgres, mysql, etcd, kubernetes or memory";
            f.value(&kind.place, format!("unknown storage type {other:?}"), hint);
            None
        }
    }
}
