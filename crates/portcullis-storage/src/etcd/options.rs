//! Where an etcd is, how to get in, and why a store in it cannot be used.

use std::{path::PathBuf, sync::Arc, time::Duration};

use portcullis_runtime::Secret;

use super::endpoint::Endpoint;
use crate::error::KernelError;

/// Most endpoints.
const MAX_ENDPOINTS: usize = 64;
/// Longest namespace, in bytes.
const MAX_NAMESPACE_BYTES: usize = 1024;

/// Where an etcd store is and how to get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdOptions {
    /// The servers of one cluster, as `http://host:port`, `https://host:port` or `host:port`.
    pub endpoints: Vec<String>,
    /// What all keys begin with; may be empty.
    pub namespace: String,
    /// Whom etcd should take us for; `None` when it asks for nobody or for a certificate.
    pub credentials: Option<EtcdCredentials>,
    /// How to speak TLS; `None` for the system's authorities at `https` endpoints.
    pub tls: Option<EtcdTls>,
    /// How long a connection may take. Dex: 2 s.
    pub dial_time: Duration,
    /// How long an operation may take, connecting included. Dex: 5 s.
    pub answer_time: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            namespace: String::new(),
            credentials: None,
            tls: None,
            dial_time: Duration::from_secs(2),
            answer_time: Duration::from_secs(5),
        }
    }
}

impl EtcdOptions {
    /// Whether the settings make sense, before anything is read or reached.
    ///
    /// # Errors
    /// [`EtcdOpenError::Settings`].
    pub fn check(&self) -> Result<(), EtcdOpenError> {
        self.servers(None).map(|_| ())
    }

    pub(super) fn servers(&self, tls: Option<&Arc<EtcdTls>>) -> Result<Vec<Endpoint>, EtcdOpenError> {
        let settings = |reason: String| EtcdOpenError::Settings { reason };
        if self.endpoints.is_empty() || self.endpoints.len() > MAX_ENDPOINTS {
            return Err(settings(format!("{} endpoints, allowed are 1 to {MAX_ENDPOINTS}", self.endpoints.len())));
        }
        if self.namespace.len() > MAX_NAMESPACE_BYTES {
            return Err(settings(format!("the namespace has more than {MAX_NAMESPACE_BYTES} bytes")));
        }
        self.endpoints.iter().map(|text| Endpoint::parse(text, tls)).collect()
    }
}

/// A user of etcd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdCredentials {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// TLS towards etcd. Files are read again for every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// The name that the servers' certificates must have, instead of the endpoint's host.
    pub server_name: Option<String>,
    /// The authorities that are trusted, in PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// The certificate that is shown.
    pub client: Option<EtcdClientCertificate>,
}

/// A client certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdClientCertificate {
    /// The chain, leaf first.
    pub cert_file: PathBuf,
    /// The key.
    pub key_file: PathBuf,
}

/// Why an etcd store cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EtcdOpenError {
    /// The configuration.
    #[error("the etcd settings cannot be used: {reason}")]
    Settings {
        /// What is wrong.
        reason: String,
    },
    /// etcd cannot be reached, or refuses.
    #[error("the etcd store cannot be opened")]
    Unusable {
        /// Why.
        #[source]
        source: KernelError,
    },
    /// The configuration: a newer version of this program has used the store.
    #[error(
        "the store under {place} has schema number {found}, and this version knows {known} at most; use the newer version, or \
         a backup from before its first start"
    )]
    Newer {
        /// The keys, and the servers.
        place: String,
        /// The number in the store.
        found: u64,
        /// The last one that this version knows.
        known: u64,
    },
    /// The configuration: there is no store under these keys, and it was only to be looked at.
    #[error("there is no store under {place}")]
    Missing {
        /// The keys, and the servers.
        place: String,
    },
    /// The configuration: the schema key is there, and was not written by this program.
    #[error("another program uses {place} (the key `schema` there is not ours); configure another namespace")]
    Foreign {
        /// The keys, and the servers.
        place: String,
    },
}
