//! A certificate chain with its key, from files that may change while it is in use.
//!
//! The files are looked at every few seconds by time, size and inode, which also sees the symbolic link swap of a
//! mounted Kubernetes secret. A certificate and key that do not belong together (one of them is still being written)
//! count as a failed reload: the old pair stays, and the next look tries again.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::Shutdown;

/// Largest certificate or key file, in bytes.
const FILE_BYTES: u64 = 1024 * 1024;
/// Most certificates in a chain.
const CHAIN_LENGTH: usize = 32;
/// How often the files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate or key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// There is no certificate, or a damaged one.
    #[error("{source_name}: {reason}")]
    Certificate {
        /// The file, or "certificate".
        source_name: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no private key, or one that cannot be used.
    #[error("{source_name}: {reason}")]
    Key {
        /// The file, or "private key".
        source_name: String,
        /// What is wrong; never key material.
        reason: String,
    },
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// The settings do not go together.
    #[error("TLS settings: {0}")]
    Settings(String),
}

/// A certificate chain with its key. Cheap to clone; all clones see a reload.
#[derive(Clone)]
pub struct TlsIdentity {
    inner: Arc<Inner>,
}

struct Inner {
    current: ArcSwap<CertifiedKey>,
    files: Option<Files>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// What the files looked like when they were last tried, and whether that failed.
    last: Mutex<Seen>,
}

#[derive(Clone, PartialEq, Eq)]
struct Seen {
    stamps: [Stamp; 2],
    failed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl TlsIdentity {
    /// From a PEM chain (leaf first) and a PEM key (PKCS#8, PKCS#1 or SEC1). It is never reloaded.
    ///
    /// # Errors
    /// When either cannot be used or they do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let current = parse(certificate, key, "certificate", "private key")?;
        Ok(Self { inner: Arc::new(Inner { current: ArcSwap::from_pointee(current), files: None }) })
    }

    /// From a PEM file with the chain and one with the key.
    ///
    /// # Errors
    /// When either cannot be read or used, or they do not belong together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let stamps = [stamp(certificate), stamp(key)];
        let current = load(certificate, key)?;
        let last = Mutex::new(Seen { stamps, failed: false });
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned(), last };
        Ok(Self { inner: Arc::new(Inner { current: ArcSwap::from_pointee(current), files: Some(files) }) })
    }

    /// Reads the files again, changed or not. `Ok(true)` when another certificate is in use now.
    ///
    /// # Errors
    /// As [`TlsIdentity::from_files`]; the certificate in use stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.inner.files else { return Ok(false) };
        let stamps = [stamp(&files.certificate), stamp(&files.key)];
        let loaded = load(&files.certificate, &files.key);
        *files.last.lock().unwrap_or_else(PoisonError::into_inner) = Seen { stamps, failed: loaded.is_err() };
        let loaded = loaded?;
        if loaded.cert == self.inner.current.load().cert {
            return Ok(false);
        }
        self.inner.current.store(Arc::new(loaded));
        Ok(true)
    }

    /// Reloads when a file changed since it was last read or the last reload failed, and logs the outcome; a failure
    /// is logged once per change.
    pub fn reload_if_changed(&self) {
        let Some(files) = &self.inner.files else { return };
        let stamps = [stamp(&files.certificate), stamp(&files.key)];
        let last = files.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if last.failed || last.stamps != stamps {
            self.reload_and_log(last.stamps != stamps);
        }
    }

    /// Keeps the identity up to date until `shutdown`: looks at the files every 5 seconds, and at SIGHUP reads them
    /// whatever they look like. Returns at once for an identity that is not from files.
    pub async fn watch(self, shutdown: Shutdown) {
        self.watch_every(WATCH_INTERVAL, shutdown).await;
    }

    /// [`TlsIdentity::watch`] with another interval.
    pub async fn watch_every(self, interval: Duration, shutdown: Shutdown) {
        if self.inner.files.is_none() {
            return;
        }
        let mut hangup = Hangup::listen();
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let forced = tokio::select! {
                () = shutdown.triggered() => return,
                () = hangup.next() => true,
                _ = ticks.tick() => false,
            };
            let this = self.clone();
            let work =
                tokio::task::spawn_blocking(
                    move || if forced { this.reload_and_log(true) } else { this.reload_if_changed() },
                );
            if let Err(error) = work.await {
                tracing::error!(%error, "the certificate watcher failed");
            }
        }
    }

    /// The leaf certificate in use, in DER.
    #[must_use]
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.inner.current.load().cert.first().cloned()
    }

    fn reload_and_log(&self, failures: bool) {
        let path = self.inner.files.as_ref().map(|files| files.certificate.display().to_string()).unwrap_or_default();
        match self.reload() {
            Ok(true) => tracing::info!(certificate = path, "TLS certificate reloaded"),
            Err(error) if failures => {
                tracing::error!(certificate = path, %error, "TLS certificate not reloaded; the old one stays in use")
            }
            Ok(false) | Err(_) => {}
        }
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("certificate", &self.inner.files.as_ref().map(|files| &files.certificate))
            .finish_non_exhaustive()
    }
}

/// Hands the certificate in use to each handshake.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) TlsIdentity);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.inner.current.load_full())
    }
}

/// SIGHUP, where there is such a thing.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    #[cfg(unix)]
    fn listen() -> Self {
        Self { signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok() }
    }

    #[cfg(not(unix))]
    const fn listen() -> Self {
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read(certificate)?;
    let secret = read(key)?;
    parse(&chain, &secret, &certificate.display().to_string(), &key.display().to_string())
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let error = |reason: String| TlsError::Read { path: path.display().to_string(), reason };
    let file = std::fs::File::open(path).map_err(|e| error(e.to_string()))?;
    let mut content = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES + 1).read_to_end(&mut content).map_err(|e| error(e.to_string()))?;
    if content.len() as u64 > FILE_BYTES {
        return Err(error("larger than 1 MiB".to_owned()));
    }
    Ok(content)
}

fn parse(certificate: &[u8], key: &[u8], certificate_name: &str, key_name: &str) -> Result<CertifiedKey, TlsError> {
    let bad_certificate = |reason: String| TlsError::Certificate { source_name: certificate_name.to_owned(), reason };
    let bad_key = |reason: &str| TlsError::Key { source_name: key_name.to_owned(), reason: reason.to_owned() };
    let chain = CertificateDer::pem_slice_iter(certificate)
        .take(CHAIN_LENGTH + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad_certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(bad_certificate("no certificate in PEM form found".to_owned()));
    }
    if chain.len() > CHAIN_LENGTH {
        return Err(bad_certificate(format!("more than {CHAIN_LENGTH} certificates")));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| bad_key("no private key in PEM form found (PKCS#8, PKCS#1 or SEC1)"))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|_| bad_key("the private key cannot be used for TLS"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch),
        Err(error) => Err(bad_certificate(error.to_string())),
    }
}

/// What tells a changed file; all zero for a file that cannot be looked at.
fn stamp(path: &Path) -> Stamp {
    let Ok(metadata) = std::fs::metadata(path) else { return Stamp::default() };
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode }
}
