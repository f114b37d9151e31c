//! Whom to trust as the provider: the CA flags, or Portcullis' trust folder.
//!
//! Compat: any `--certificate-authority` or `--certificate-authority-data` replaces the system's roots. When neither
//! they nor `--insecure-skip-tls-verify` are given, `trust/<sha256 hex of the issuer>.pem` in the state folder is the
//! whole trust for that issuer if it is there: that is how the CA that `portcullis up` made is found.
//!
//! Never falls back to a weaker trust: a CA that was named and cannot be read is an error.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_runtime::http_client::Roots;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;

use crate::callback::listen::plain_reason;
use crate::encoding::hex;
use crate::options::TlsOptions;

/// Largest CA file.
const MAX_CA_BYTES: u64 = 1024 * 1024;

/// Why a CA cannot be used.
#[derive(Debug, Error)]
pub(crate) enum TrustError {
    /// The file cannot be read.
    #[error("could not load the certificate from {path}: could not read: open {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// No certificate in the file.
    #[error("could not load the certificate from {0}: invalid certificate")]
    InvalidFile(String),
    /// The flag holds no base64.
    #[error("could not load the certificate: could not decode base64: {0}")]
    Base64(String),
    /// No certificate in the flag.
    #[error("could not load the certificate: invalid certificate")]
    InvalidData,
}

/// The roots for `issuer`.
pub(crate) fn roots(options: &TlsOptions, issuer: &str, state_root: Option<&Path>) -> Result<Roots, TrustError> {
    let mut certificates = Vec::new();
    for path in &options.ca_files {
        let found = certificates_of(&read(Path::new(path))?);
        certificates.extend(found.ok_or_else(|| TrustError::InvalidFile(path.clone()))?);
    }
    for data in &options.ca_data {
        let pem = STANDARD.decode(data.trim()).map_err(|error| TrustError::Base64(error.to_string()))?;
        certificates.extend(certificates_of(&pem).ok_or(TrustError::InvalidData)?);
    }
    if !certificates.is_empty() {
        return Ok(Roots::Only(certificates));
    }
    if options.skip_verify {
        return Ok(Roots::System);
    }
    let Some(path) = state_root.map(|root| trust_file(root, issuer)) else { return Ok(Roots::System) };
    if !path.exists() {
        return Ok(Roots::System);
    }
    let found = certificates_of(&read(&path)?);
    found.map(Roots::Only).ok_or_else(|| TrustError::InvalidFile(path.display().to_string()))
}

/// Where the CA of `issuer` is kept under a state folder: `trust/<sha256 hex of the issuer>.pem`. The issuer is taken as
/// it is written, byte for byte.
#[must_use]
pub fn trust_file(state_root: &Path, issuer: &str) -> PathBuf {
    let name = hex(digest::digest(&digest::SHA256, issuer.as_bytes()).as_ref());
    state_root.join("trust").join(format!("{name}.pem"))
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    let fail = |reason: String| TrustError::Read { path: path.display().to_string(), reason };
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_CA_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| fail(plain_reason(&error)))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= MAX_CA_BYTES) {
        Ok(bytes)
    } else {
        Err(fail(format!("larger than {MAX_CA_BYTES} bytes")))
    }
}

/// The certificates of a PEM text; `None` when there is none or one is broken.
fn certificates_of(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://localhost:5554/dex";

    fn pem() -> String {
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate").cert.pem()
    }

    fn count(roots: &Roots) -> Option<usize> {
        match roots {
            Roots::Only(list) => Some(list.len()),
            Roots::System | Roots::SystemAnd(_) => None,
        }
    }

    #[test]
    fn every_given_ca_replaces_the_systems_roots() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, format!("{}{}", pem(), pem())).expect("writes");
        let options = TlsOptions {
            ca_files: vec![file.display().to_string()],
            ca_data: vec![STANDARD.encode(pem())],
            ..TlsOptions::default()
        };
        assert_eq!(count(&roots(&options, ISSUER, None).expect("roots")), Some(3));
        assert_eq!(count(&roots(&TlsOptions::default(), ISSUER, None).expect("roots")), None);
    }

    #[test]
    fn a_ca_that_was_named_and_is_unusable_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("junk"), "junk").expect("writes");
        std::fs::write(path("huge"), vec![b' '; 1024 * 1024 + 1]).expect("writes");
        let file = |name: &str| {
            let options = TlsOptions { ca_files: vec![path(name)], ..TlsOptions::default() };
            roots(&options, ISSUER, None).expect_err(name).to_string()
        };
        let missing = path("missing");
        assert_eq!(
            file("missing"),
            format!(
                "could not load the certificate from {missing}: could not read: open {missing}: no such file or directory"
            )
        );
        assert!(file("junk").ends_with(": invalid certificate"));
        assert!(file("huge").contains("larger than"));
        let data = |data: &str| {
            let options = TlsOptions { ca_data: vec![data.to_owned()], ..TlsOptions::default() };
            roots(&options, ISSUER, None).expect_err(data).to_string()
        };
        assert!(data("%%").contains("could not decode base64: "));
        assert!(data("QUJD").ends_with("invalid certificate"));
    }

    #[test]
    fn the_trust_folder_is_asked_only_without_flags_and_only_for_its_issuer() {
        let state = tempfile::tempdir().expect("temporary folder");
        let file = trust_file(state.path(), ISSUER);
        std::fs::create_dir_all(file.parent().expect("parent")).expect("creates");
        std::fs::write(&file, pem()).expect("writes");
        let with =
            |options: &TlsOptions, issuer: &str| count(&roots(options, issuer, Some(state.path())).expect("roots"));
        assert_eq!(with(&TlsOptions::default(), ISSUER), Some(1));
        assert_eq!(with(&TlsOptions::default(), "https://localhost:5554/dex/"), None);
        assert_eq!(with(&TlsOptions { skip_verify: true, ..TlsOptions::default() }, ISSUER), None);
        std::fs::write(&file, "junk").expect("writes");
        assert!(roots(&TlsOptions::default(), ISSUER, Some(state.path())).is_err());
    }

    #[test]
    fn the_trust_file_is_named_by_the_issuers_hash() {
        assert_eq!(
            trust_file(Path::new("/s"), "x"),
            Path::new("/s/trust/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881.pem")
        );
    }
}
