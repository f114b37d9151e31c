//! Certificates for connections to a server.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::SqlOpenError;

/// Bytes of base64 on one line of PEM.
const PEM_LINE: usize = 64;
/// Largest file of certificates or keys, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What is asked of the server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SqlTlsMode {
    /// No TLS.
    Disabled,
    /// TLS with any certificate: nobody can listen, but somebody in between can pretend.
    Unverified,
    /// A certificate of a trusted authority, for whatever name.
    Authority,
    /// A certificate of a trusted authority for the server's name.
    #[default]
    Full,
}

/// How a connection is secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SqlTls {
    /// What is asked of the server's certificate.
    pub mode: SqlTlsMode,
    /// The trusted authorities, in PEM; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and key, in PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The files of a [`SqlTls`], read and checked.
pub(crate) struct Certificates {
    /// In PEM. Empty unless the server's certificate is checked.
    pub(crate) roots: Vec<u8>,
    /// Certificate and key, in PEM.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Certificates {
    pub(crate) fn read(tls: &SqlTls) -> Result<Self, SqlOpenError> {
        let roots = match (tls.mode, &tls.ca_file) {
            (SqlTlsMode::Disabled | SqlTlsMode::Unverified, _) => Vec::new(),
            (SqlTlsMode::Authority | SqlTlsMode::Full, Some(file)) => authorities(file)?,
            (SqlTlsMode::Authority | SqlTlsMode::Full, None) => system_roots()?,
        };
        let client = match &tls.client {
            Some((certificate, key)) if tls.mode != SqlTlsMode::Disabled => Some(client(certificate, key)?),
            _ => None,
        };
        Ok(Self { roots, client })
    }
}

fn authorities(file: &Path) -> Result<Vec<u8>, SqlOpenError> {
    let text = read(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| unusable(file, error))?;
        roots.add(certificate).map_err(|error| unusable(file, error))?;
    }
    if roots.is_empty() {
        return Err(unusable(file, "it holds no certificate in PEM"));
    }
    Ok(text)
}

fn client(certificate: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), SqlOpenError> {
    let (chain, secret) = (read(certificate)?, read(key)?);
    match CertificateDer::pem_slice_iter(&chain).next() {
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(unusable(certificate, error)),
        None => return Err(unusable(certificate, "it holds no certificate in PEM")),
    }
    PrivateKeyDer::from_pem_slice(&secret).map_err(|error| unusable(key, error))?;
    Ok((chain, secret))
}

/// The system's authorities; those that cannot be used are left out, as everywhere.
fn system_roots() -> Result<Vec<u8>, SqlOpenError> {
    let mut roots = RootCertStore::empty();
    let mut text = String::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        let encoded = STANDARD.encode(&certificate);
        if roots.add(certificate).is_ok() {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            // Base64 is ASCII, so each byte is a character.
            for (number, character) in encoded.chars().enumerate() {
                if number > 0 && number % PEM_LINE == 0 {
                    text.push('\n');
                }
                text.push(character);
            }
            text.push_str("\n-----END CERTIFICATE-----\n");
        }
    }
    if text.is_empty() {
        return Err(SqlOpenError::NoSystemRoots);
    }
    Ok(text.into_bytes())
}

fn read(file: &Path) -> Result<Vec<u8>, SqlOpenError> {
    let size = std::fs::metadata(file).map_err(|error| unusable(file, error))?.len();
    if size > MAX_FILE {
        return Err(unusable(file, format!("it has {size} bytes, allowed are {MAX_FILE}")));
    }
    std::fs::read(file).map_err(|error| unusable(file, error))
}

fn unusable(file: &Path, reason: impl ToString) -> SqlOpenError {
    SqlOpenError::File { path: file.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(tls: &SqlTls) -> String {
        Certificates::read(tls).map(|_| ()).unwrap_err().to_string()
    }

    /// docs/decisions/0029: with the real list, `verify-ca` would take a certificate that anybody can get.
    #[test]
    fn nobody_is_trusted_beside_the_configured_authority() {
        assert!(webpki_roots::TLS_SERVER_ROOTS.is_empty());
    }

    #[test]
    fn the_systems_roots_are_certificates() {
        let Ok(read) = Certificates::read(&SqlTls::default()) else { return };
        let count = CertificateDer::pem_slice_iter(&read.roots).map(Result::unwrap).count();
        assert!(count > 10, "{count}");
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (empty, large) = (file("empty.pem", b"nothing"), file("large.pem", &vec![b'x'; 1024 * 1024 + 1]));
        let broken = file("broken.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        for (ca, word) in [
            (folder.path().join("missing.pem"), "missing.pem"),
            (empty.clone(), "holds no certificate"),
            (large, "allowed are 1048576"),
            (broken, "broken.pem"),
        ] {
            let tls = SqlTls { ca_file: Some(ca.clone()), ..SqlTls::default() };
            assert!(reason(&tls).contains(word), "{}", reason(&tls));
            // Files that no use is made of are not read.
            let unused = SqlTls { mode: SqlTlsMode::Disabled, client: Some((ca.clone(), ca)), ..tls };
            assert!(Certificates::read(&unused).is_ok());
        }
        let tls = SqlTls { mode: SqlTlsMode::Unverified, client: Some((empty.clone(), empty)), ca_file: None };
        assert!(reason(&tls).contains("holds no certificate"), "{}", reason(&tls));
    }
}
