//! What we show the API server: a token, a token in a file that is read again, a name and password, or nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_runtime::Secret;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

/// How long a token from a file is used before the file is read again. Service account tokens are renewed in place.
pub(crate) const FRESH: Duration = Duration::from_secs(30);
/// Largest token file in bytes.
const TOKEN_BYTES: u64 = 64 * 1024;

/// The value of the `Authorization` header, and where it comes from.
pub(crate) enum Credential {
    /// None: a client certificate, or nothing.
    None,
    /// Always the same.
    Fixed(Secret),
    /// A token in a file.
    File(TokenFile),
}

impl Credential {
    pub(crate) fn token(token: &str) -> Self {
        Self::Fixed(bearer(token))
    }

    pub(crate) fn basic(username: &str, password: &str) -> Self {
        Self::Fixed(Secret::new(format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))))
    }

    /// The header's value now.
    ///
    /// # Errors
    /// When a token file cannot be read and no token is known from before.
    pub(crate) async fn header(&self) -> Result<Option<Secret>, String> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(value) => Ok(Some(value.clone())),
            Self::File(file) => file.header().await.map(Some),
        }
    }

    /// Makes the next [`Credential::header`] read the file; whether there is one.
    pub(crate) fn renew(&self) -> bool {
        match self {
            Self::None | Self::Fixed(_) => false,
            Self::File(file) => {
                file.state().read_at = None;
                true
            }
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed(_) => f.write_str("Fixed([redacted])"),
            Self::File(file) => f.debug_tuple("File").field(&file.path).finish(),
        }
    }
}

fn bearer(token: &str) -> Secret {
    Secret::new(format!("Bearer {token}"))
}

/// A file with a token, and the token that was last read from it.
pub(crate) struct TokenFile {
    path: PathBuf,
    fresh: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    value: Option<Secret>,
    read_at: Option<Instant>,
}

impl TokenFile {
    /// A file that is read at the first use, and again when what was read is older than `fresh`. `fallback` is used while it
    /// cannot be read.
    pub(crate) fn new(path: PathBuf, fallback: Option<&str>, fresh: Duration) -> Self {
        Self { path, fresh, state: Mutex::new(State { value: fallback.map(bearer), read_at: None }) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn header(&self) -> Result<Secret, String> {
        let now = Instant::now();
        {
            let state = self.state();
            if let (Some(value), Some(read_at)) = (&state.value, state.read_at)
                && now.saturating_duration_since(read_at) < self.fresh
            {
                return Ok(value.clone());
            }
        }
        let read = read_token(&self.path).await;
        let mut state = self.state();
        match read {
            Ok(token) => {
                let value = bearer(token.expose());
                (state.value, state.read_at) = (Some(value.clone()), Some(now));
                Ok(value)
            }
            // What was read last goes on for as long as the server takes it.
            Err(reason) => match state.value.clone() {
                Some(value) => {
                    tracing::warn!(%reason, "the token file cannot be read; the last token is used");
                    state.read_at = Some(now);
                    Ok(value)
                }
                None => Err(reason),
            },
        }
    }
}

/// Reads a token, without the blanks around it. The error names the file and holds nothing of it.
pub(crate) async fn read_token(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("{shown}: {error}");
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let bytes = file.take(TOKEN_BYTES + 1).read_to_string(&mut text).await.map_err(failed)?;
    let text = Secret::new(text);
    if u64::try_from(bytes).unwrap_or(u64::MAX) > TOKEN_BYTES {
        return Err(format!("{shown}: longer than {TOKEN_BYTES} bytes"));
    }
    let token = text.expose().trim();
    if token.is_empty() {
        return Err(format!("{shown}: empty"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{shown}: not a token"));
    }
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn header(credential: &Credential) -> String {
        credential.header().await.unwrap().unwrap().expose().to_owned()
    }

    #[tokio::test]
    async fn a_token_file_is_read_again_when_its_time_is_over_or_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let lasting = Credential::File(TokenFile::new(path.clone(), None, Duration::from_secs(3_600)));
        let always = Credential::File(TokenFile::new(path.clone(), None, Duration::ZERO));
        assert_eq!((header(&lasting).await, header(&always).await), ("Bearer one".to_owned(), "Bearer one".to_owned()));
        std::fs::write(&path, " two ").unwrap();
        assert_eq!((header(&lasting).await, header(&always).await), ("Bearer one".to_owned(), "Bearer two".to_owned()));
        assert!(lasting.renew());
        assert_eq!(header(&lasting).await, "Bearer two");
        std::fs::remove_file(&path).unwrap();
        assert!(lasting.renew());
        assert_eq!(header(&lasting).await, "Bearer two", "the last token, while the file is away");
        assert_eq!(header(&always).await, "Bearer two");
    }

    #[tokio::test]
    async fn a_file_that_holds_no_token_is_refused_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let largest = "x".repeat(usize::try_from(TOKEN_BYTES).unwrap());
        for (content, want) in
            [("", "empty"), (" \n", "empty"), ("hunter2\nx", "not a token"), ("h\u{e4}", "not a token")]
        {
            std::fs::write(&path, content).unwrap();
            let error = Credential::File(TokenFile::new(path.clone(), None, FRESH)).header().await.unwrap_err();
            assert!(error.ends_with(want) && !error.contains("hunter2"), "{error}");
        }
        std::fs::write(&path, &largest).unwrap();
        assert_eq!(read_token(&path).await.unwrap().expose().len(), largest.len());
        std::fs::write(&path, largest + "x").unwrap();
        assert!(read_token(&path).await.unwrap_err().ends_with("longer than 65536 bytes"));
        std::fs::remove_file(&path).unwrap();
        let error = Credential::File(TokenFile::new(path.clone(), None, FRESH)).header().await.unwrap_err();
        assert!(error.contains("token: No such file"), "{error}");
        let fallback = Credential::File(TokenFile::new(path, Some("old"), FRESH));
        assert_eq!(header(&fallback).await, "Bearer old");
    }

    #[tokio::test]
    async fn nothing_of_it_is_printed() {
        let all = [Credential::token("hunter2"), Credential::basic("u", "hunter2"), Credential::None];
        assert_eq!(format!("{all:?}"), "[Fixed([redacted]), Fixed([redacted]), None]");
        assert_eq!(header(&all[1]).await, "Basic dTpodW50ZXIy");
        assert!(!all[0].renew() && all[2].header().await.unwrap().is_none());
    }
}
