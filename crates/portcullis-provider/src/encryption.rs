//! Opens the store's secrets: from configured keys to a store that seals, and a line in the log that says so.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_runtime::{Rng, Secret};
use portcullis_storage::{
    KeyEncryption, KeyEncryptionKey, KeyEncryptionKeyError, KeyWrapper, SealingError, SealingState, Store,
    VaultTransit, WrapError,
};
use zeroize::Zeroizing;

use crate::config::{Encryption, EncryptionKey, KeySource};

/// Largest file that is read as a key.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// The store's secrets cannot be sealed or opened. Never with anything of a key.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// A key's file cannot be read.
    #[error("the key-encryption key's file {file}", file = .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What is there is no key.
    #[error("{from}")]
    Key {
        /// Where it was found.
        from: String,
        /// What is wrong with it.
        #[source]
        source: KeyEncryptionKeyError,
    },
    /// The settings of a key in Vault.
    #[error("the key-encryption key in Vault")]
    Vault(#[from] WrapError),
    /// The store's data keys.
    #[error("the store's secrets cannot be opened")]
    Sealing(#[from] SealingError),
}

impl EncryptionError {
    /// What the user can do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File { .. } => Some("name a file that this user can read; `openssl rand -base64 32` makes a key"),
            Self::Key { .. } => Some("make a key with `openssl rand -base64 32`"),
            Self::Vault(WrapError::Source { hint, .. }) => Some(hint),
            Self::Vault(WrapError::Wrong) => None,
            Self::Sealing(error) => error.hint(),
        }
    }
}

/// Unlocks a store with the configured keys.
pub(crate) async fn unlock(store: &Store, encryption: &Encryption, rng: &Rng) -> Result<(), EncryptionError> {
    let keys = key_encryption(encryption, rng)?;
    let all: Vec<String> = keys
        .iter()
        .flat_map(|keys| std::iter::once(&keys.current).chain(&keys.older))
        .map(|key| format!("{} ({})", key.id(), key.source()))
        .collect();
    let unlocked = store.unlock(keys).await?;
    let Some(current) = all.first() else { return Ok(()) };
    let older = all.get(1..).unwrap_or_default().join(", ");
    let data_key = unlocked.data_key.as_deref().unwrap_or("none yet");
    match unlocked.state {
        SealingState::Sealing => {
            let from = unlocked.seals_from.map(|at| at.rfc3339());
            tracing::info!(key = current, older, data_key, next_seals_from = from, "secrets in the store are sealed");
        }
        SealingState::Clearing | SealingState::Clear => tracing::warn!(
            key = current,
            older,
            "sealing is switched off (portcullis.encryption.seal): secrets in the store are written in clear"
        ),
    }
    for id in &unlocked.not_needed {
        tracing::info!(
            key = id,
            "the store opens without this older key-encryption key: take it out of the configuration once every replica \
             has been started with the current one, and keep it for as long as there are backups from before"
        );
    }
    Ok(())
}

/// Opens a store's secrets with the configured keys for a tool that only looks, and changes nothing.
pub(crate) async fn look(store: &Store, encryption: &Encryption, rng: &Rng) -> Result<(), EncryptionError> {
    let keys = key_encryption(encryption, rng)?;
    Ok(store.look(keys.as_ref()).await?)
}

/// Says that nothing is sealed, where that matters.
pub(crate) fn announce_clear(encryption: &Encryption) {
    if encryption.keys.is_empty() {
        tracing::warn!(
            hint = "give a key under portcullis.encryption.keys, or in PORTCULLIS_ENCRYPTION_KEY_FILE",
            "secrets in the store (private keys, client secrets) are not sealed: whoever can read it has them"
        );
    }
}

fn key_encryption(encryption: &Encryption, rng: &Rng) -> Result<Option<KeyEncryption>, EncryptionError> {
    let mut keys = encryption.keys.iter().map(|key| wrapper(key, rng));
    let Some(current) = keys.next().transpose()? else { return Ok(None) };
    let older = keys.collect::<Result<_, _>>()?;
    let Encryption { seal, data_key_lifetime, replace_before, .. } = *encryption;
    Ok(Some(KeyEncryption { current, older, seal, data_key_lifetime, replace_before }))
}

fn wrapper(key: &EncryptionKey, rng: &Rng) -> Result<Arc<dyn KeyWrapper>, EncryptionError> {
    let parse = |from: String, text: &Secret| {
        KeyEncryptionKey::parse(key.id.as_deref(), from.clone(), text, rng.clone())
            .map_err(|source| EncryptionError::Key { from, source })
    };
    Ok(match &key.from {
        KeySource::File(file) => {
            let text = read(file).map_err(|source| EncryptionError::File { file: file.clone(), source })?;
            Arc::new(parse(format!("file {}", file.display()), &text)?)
        }
        KeySource::Variable { name, value } => Arc::new(parse(format!("environment variable {name}"), value)?),
        KeySource::Vault(options) => Arc::new(VaultTransit::new(options)?),
    })
}

fn read(path: &Path) -> io::Result<Secret> {
    let mut file = File::open(path)?;
    warn_if_open(path, &file);
    let mut bytes = Zeroizing::new(Vec::with_capacity(256));
    (&mut file).take(MAX_KEY_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_KEY_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {MAX_KEY_FILE_BYTES} bytes")));
    }
    let text = std::str::from_utf8(&bytes);
    text.map(Secret::new).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not text"))
}

#[cfg(unix)]
fn warn_if_open(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o007 != 0 {
        tracing::warn!(
            file = %path.display(),
            mode = format!("{:04o}", mode & 0o7777),
            hint = "chmod 0400 it (in Kubernetes: defaultMode: 0400 of the secret's volume)",
            "every user of this machine can read the key-encryption key"
        );
    }
}

#[cfg(not(unix))]
const fn warn_if_open(_path: &Path, _file: &File) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &Path) -> Encryption {
        let from = KeySource::File(file.to_owned());
        let keys = vec![EncryptionKey { id: None, from }];
        Encryption { keys, seal: true, data_key_lifetime: KeyEncryption::DATA_KEY_LIFETIME, replace_before: None }
    }

    #[test]
    fn a_keys_file_is_read_with_or_without_a_newline_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let mut ids = Vec::new();
        for text in
            ["ab".repeat(32), format!("{}\n", "ab".repeat(32)), "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=".into()]
        {
            std::fs::write(&file, text).unwrap();
            ids.push(key_encryption(&of(&file), &Rng::seeded(1)).unwrap().unwrap().current.id().to_owned());
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        for (text, want) in [
            (b"".to_vec(), "is empty"),
            (b"hunter2".to_vec(), "32 bytes"),
            (vec![0xff; 32], "not text"),
            (vec![b'A'; 4097], "larger than 4096 bytes"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = key_encryption(&of(&file), &Rng::seeded(1)).unwrap_err();
            let said = portcullis_runtime::chain(&error);
            assert!(said.contains(want) && said.contains(&*file.to_string_lossy()), "{said}");
            assert!(!said.contains("hunter2") && error.hint().is_some(), "{said}");
        }
        std::fs::remove_file(&file).unwrap();
        let said = portcullis_runtime::chain(&key_encryption(&of(&file), &Rng::seeded(1)).unwrap_err());
        assert!(said.contains(&*file.to_string_lossy()), "{said}");
    }
}
