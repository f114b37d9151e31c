//! The certificate authorities of `up`.
//!
//! Two of them, kept in the state folder: one for servers, constrained to `localhost` and loopback addresses, so that
//! whoever takes its key can impersonate nothing but this machine to itself (RFC 5280 section 4.2.1.10); and one for the
//! API server's client certificates, which no one ever adds to a trust store. Leaf certificates are made anew at each
//! `up`. Private keys are P-256 and never leave the folder.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

use crate::state::{self, StateDir, StateError};

/// No clock that is right is before this: certificates and tokens would be dated wrong, and be refused elsewhere.
const EARLIEST: OffsetDateTime = time::macros::datetime!(2026-01-01 0:00 UTC);
/// How long an authority is valid; it is renewed by the `up` that finds it in its last month.
const CA_VALIDITY: Duration = Duration::days(730);
const RENEW_BEFORE: Duration = Duration::days(30);
/// How long a leaf is valid: longer than any `up` runs, short enough to be forgotten.
const LEAF_VALIDITY: Duration = Duration::days(90);
/// Certificates start a little in the past, for clocks that are behind.
const BACKDATE: Duration = Duration::minutes(5);

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The authority's files do not belong together or cannot be read.
    #[error("{path} is not usable: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The authority was made while this machine's clock was ahead, or the clock is behind now.
    #[error("{path} is valid from {from} on, and this machine's clock says {now}")]
    NotYetValid {
        /// The certificate.
        path: PathBuf,
        /// When it begins.
        from: OffsetDateTime,
        /// The clock.
        now: OffsetDateTime,
    },
    /// The clock cannot be right.
    #[error("this machine's clock says {0}")]
    Clock(OffsetDateTime),
    /// The certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

impl CaError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::State(error) => error.hint(),
            Self::Unusable { path, .. } => Some(format!(
                "remove {} and its neighbour; a new authority is made (browsers and tools that trusted the old one must trust the new one)",
                path.display()
            )),
            Self::NotYetValid { path, .. } => Some(format!(
                "set the clock if it is behind; if it is right now, remove {}: a new authority is made (browsers and tools that trusted the old one must trust the new one)",
                path.display()
            )),
            Self::Clock(_) => Some("set it: certificates and tokens that are dated wrong are refused".to_owned()),
            Self::Make(_) => None,
        }
    }
}

/// What an authority may sign for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Servers on this machine: constrained to localhost and loopback addresses.
    Servers,
    /// Clients of the dev API server.
    Clients,
}

impl Purpose {
    const fn file_stem(self) -> &'static str {
        match self {
            Self::Servers => "ca",
            Self::Clients => "client-ca",
        }
    }
}

/// An authority with its key.
pub struct Authority {
    cert_pem: String,
    cert_path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM. The key is a secret.
pub struct Leaf {
    /// The certificate.
    pub cert_pem: String,
    /// Its PKCS#8 key.
    pub key_pem: String,
}

/// Whether an authority was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was read from the folder.
    Kept,
    /// It is new: there was none, or it was about to expire.
    Made,
}

impl Authority {
    /// Reads the authority from the state folder, or makes it. The key is written before the certificate, so that a
    /// certificate in the folder always has its key.
    ///
    /// An authority that begins in the future is refused: Go programs (kubectl) look at that, rustls does not.
    ///
    /// # Errors
    /// The folder is not usable, or holds files that do not belong together; or the clock is wrong.
    pub fn load_or_make(state: &StateDir, purpose: Purpose, now: OffsetDateTime) -> Result<(Self, Origin), CaError> {
        if now < EARLIEST {
            return Err(CaError::Clock(now));
        }
        let cert_path = state.path(&format!("ca/{}.pem", purpose.file_stem()));
        let key_path = state.path(&format!("ca/{}.key", purpose.file_stem()));
        match fs::read_to_string(&cert_path) {
            Ok(cert_pem) => {
                let unusable = |path: &PathBuf, reason: String| CaError::Unusable { path: path.clone(), reason };
                let key_pem = fs::read_to_string(&key_path).map_err(|e| unusable(&key_path, e.to_string()))?;
                let key = KeyPair::from_pem(&key_pem).map_err(|e| unusable(&key_path, e.to_string()))?;
                let read = read_cert(cert_pem.as_bytes()).map_err(|reason| unusable(&cert_path, reason))?;
                if read.public_key != rcgen::PublicKeyData::subject_public_key_info(&key) {
                    return Err(unusable(&cert_path, format!("it does not belong to {}", key_path.display())));
                }
                if now < read.from {
                    return Err(CaError::NotYetValid { path: cert_path, from: read.from, now });
                }
                if read.until - now > RENEW_BEFORE {
                    let issuer = Issuer::from_ca_cert_pem(&cert_pem, key)?;
                    return Ok((Self { cert_pem, cert_path, issuer }, Origin::Kept));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StateError::Io { action: "read", path: cert_path, source }.into()),
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params(state.name(), purpose, now);
        let cert_pem = params.self_signed(&key)?.pem();
        // An old certificate must not stand beside a new key if we are killed between the two writes.
        match fs::remove_file(&cert_path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StateError::Io { action: "remove", path: cert_path, source }.into());
            }
            _ => {}
        }
        state::write_private(&key_path, key.serialize_pem().as_bytes())?;
        state::write_public(&cert_path, cert_pem.as_bytes())?;
        Ok((Self { cert_pem, cert_path, issuer: Issuer::new(params, key) }, Origin::Made))
    }

    /// A certificate for a server at `localhost` and the loopback addresses.
    ///
    /// # Errors
    /// The certificate could not be made.
    pub fn issue_server(&self, common_name: &str, now: OffsetDateTime) -> Result<Leaf, CaError> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, common_name, None, now)
    }

    /// A certificate for a client of the API server: its user is `common_name`, its group `organization`.
    ///
    /// # Errors
    /// The certificate could not be made.
    pub fn issue_client(&self, common_name: &str, organization: &str, now: OffsetDateTime) -> Result<Leaf, CaError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, common_name, Some(organization), now)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        organization: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Leaf, CaError> {
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - BACKDATE;
        params.not_after = now + LEAF_VALIDITY;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Where that certificate is.
    #[must_use]
    pub fn cert_path(&self) -> &PathBuf {
        &self.cert_path
    }
}

fn ca_params(name: &str, purpose: Purpose, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name(name, purpose));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - BACKDATE;
    params.not_after = now + CA_VALIDITY;
    if purpose == Purpose::Servers {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![
                GeneralSubtree::DnsName("localhost".to_owned()),
                GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
                GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(Ipv6Addr::LOCALHOST.octets(), 128)),
            ],
            excluded_subtrees: Vec::new(),
        });
    }
    params
}

/// Whether a certificate is the servers' authority of a name, of whatever key and age.
pub(crate) fn is_authority_of(pem: &[u8], name: &str) -> bool {
    read_cert(pem).is_ok_and(|read| read.common_name.as_deref() == Some(&*common_name(name, Purpose::Servers)))
}

/// The authority's certificate as it is on disk, if there is one.
pub(crate) fn stored(state: &StateDir) -> Option<String> {
    fs::read_to_string(state.path("ca/ca.pem")).ok()
}

fn common_name(name: &str, purpose: Purpose) -> String {
    match purpose {
        Purpose::Servers => format!("Portcullis local ({name})"),
        Purpose::Clients => format!("Portcullis local clients ({name})"),
    }
}

struct Read {
    from: OffsetDateTime,
    until: OffsetDateTime,
    /// SubjectPublicKeyInfo, DER.
    public_key: Vec<u8>,
    common_name: Option<String>,
}

fn read_cert(pem: &[u8]) -> Result<Read, String> {
    let der = CertificateDer::from_pem_slice(pem).map_err(|e| format!("no certificate in it: {e}"))?;
    let (_, cert) = x509_parser::parse_x509_certificate(&der).map_err(|e| format!("no certificate in it: {e}"))?;
    let common_name = cert.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
    Ok(Read {
        from: cert.validity().not_before.to_datetime(),
        until: cert.validity().not_after.to_datetime(),
        public_key: cert.public_key().raw.to_vec(),
        common_name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-23 12:00 UTC);

    fn folder() -> (tempfile::TempDir, StateDir) {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::new(temp.path(), "dev").unwrap();
        drop(state.open().unwrap());
        (temp, state)
    }

    #[test]
    fn the_authority_survives_and_is_renewed_in_its_last_month() {
        let (_temp, state) = folder();
        let (first, origin) = Authority::load_or_make(&state, Purpose::Servers, NOW).unwrap();
        assert_eq!(origin, Origin::Made);
        let (second, origin) = Authority::load_or_make(&state, Purpose::Servers, NOW + Duration::days(600)).unwrap();
        assert_eq!((origin, second.cert_pem()), (Origin::Kept, first.cert_pem()));
        let (third, origin) =
            Authority::load_or_make(&state, Purpose::Servers, NOW + CA_VALIDITY - Duration::days(29)).unwrap();
        assert_eq!(origin, Origin::Made);
        assert_ne!(third.cert_pem(), first.cert_pem());
    }

    #[test]
    fn an_authority_made_while_the_clock_was_ahead_is_refused_with_both_ways_out() {
        let (_temp, state) = folder();
        let (made, _) = Authority::load_or_make(&state, Purpose::Servers, NOW).unwrap();
        for (now, usable) in [
            (NOW - Duration::minutes(4), true),
            (NOW - Duration::minutes(6), false),
            (NOW - Duration::days(200), false),
            (NOW, true),
        ] {
            match Authority::load_or_make(&state, Purpose::Servers, now) {
                Ok((kept, origin)) => {
                    assert!(usable && origin == Origin::Kept && kept.cert_pem() == made.cert_pem(), "{now}");
                }
                Err(error) => {
                    assert!(!usable && matches!(error, CaError::NotYetValid { .. }), "{now}: {error}");
                    let hint = error.hint().unwrap();
                    assert!(hint.contains("set the clock") && hint.contains("ca/ca.pem"), "{hint}");
                }
            }
        }
        assert_eq!(stored(&state).as_deref(), Some(made.cert_pem()), "it is left as it is");
    }

    #[test]
    fn an_authority_that_has_ended_is_renewed_and_a_clock_that_cannot_be_right_makes_none() {
        let (_temp, state) = folder();
        for now in [OffsetDateTime::UNIX_EPOCH, EARLIEST - Duration::seconds(1)] {
            let error = Authority::load_or_make(&state, Purpose::Servers, now).err().unwrap();
            assert!(matches!(error, CaError::Clock(_)) && error.hint().is_some(), "{error}");
        }
        assert_eq!(stored(&state), None);
        Authority::load_or_make(&state, Purpose::Servers, EARLIEST).unwrap();
        let (_, origin) = Authority::load_or_make(&state, Purpose::Servers, EARLIEST + CA_VALIDITY * 2).unwrap();
        assert_eq!(origin, Origin::Made);
    }

    #[test]
    fn an_authority_is_known_by_its_name() {
        let (_temp, state) = folder();
        let (servers, _) = Authority::load_or_make(&state, Purpose::Servers, NOW).unwrap();
        let (clients, _) = Authority::load_or_make(&state, Purpose::Clients, NOW).unwrap();
        assert!(is_authority_of(servers.cert_pem().as_bytes(), "dev"));
        assert!(!is_authority_of(servers.cert_pem().as_bytes(), "two"));
        assert!(!is_authority_of(clients.cert_pem().as_bytes(), "dev"));
        assert!(!is_authority_of(b"junk", "dev"));
    }

    #[test]
    fn a_key_without_its_certificate_is_replaced_and_a_foreign_key_is_refused() {
        let (_temp, state) = folder();
        Authority::load_or_make(&state, Purpose::Servers, NOW).unwrap();
        Authority::load_or_make(&state, Purpose::Clients, NOW).unwrap();
        fs::remove_file(state.path("ca/ca.pem")).unwrap();
        assert_eq!(Authority::load_or_make(&state, Purpose::Servers, NOW).unwrap().1, Origin::Made);
        fs::copy(state.path("ca/client-ca.key"), state.path("ca/ca.key")).unwrap();
        let error = Authority::load_or_make(&state, Purpose::Servers, NOW).err().unwrap();
        assert!(matches!(error, CaError::Unusable { .. }));
        assert!(error.hint().is_some());
    }

    #[test]
    fn the_server_authority_is_constrained_to_this_machine() {
        let (_temp, state) = folder();
        let (authority, _) = Authority::load_or_make(&state, Purpose::Servers, NOW).unwrap();
        let der = CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).unwrap();
        let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
        let constraints = cert.name_constraints().unwrap().unwrap().value;
        assert_eq!(constraints.permitted_subtrees.as_ref().unwrap().len(), 3);
        assert!(authority.issue_server("apiserver", NOW).is_ok());
    }
}
