//! Fetches what `kubectl get pods --all-namespaces` shows, with the token that the plugin got.

use std::path::Path;

use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, HttpClientError, Roots};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use crate::table::{self, TableError};

/// What kubectl asks for.
const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// The API server could not be reached.
    #[error("cannot reach the API server")]
    Client(#[from] HttpClientError),
    /// The API server said no.
    #[error("Error from server ({reason}): {message}")]
    Refused {
        /// The Status' reason.
        reason: String,
        /// The Status' message.
        message: String,
    },
    /// The answer is no table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The answer is not JSON, or the authority is not PEM.
    #[error("the API server's answer cannot be read: {0}")]
    Unreadable(String),
}

impl PodsError {
    /// What the user can do about it; the servers' log is at `log`.
    pub(crate) fn hint(&self, log: &Path) -> Option<String> {
        let log = log.display();
        match self {
            Self::Refused { reason, .. } if reason == "Unauthorized" => {
                Some(format!("why the API server did not take the token stands in {log}"))
            }
            Self::Refused { reason, .. } if reason == "Forbidden" => Some(
                "bind the user that signed in: `kubectl create clusterrolebinding NAME --clusterrole=cluster-admin --user=USER`, as the administrator"
                    .to_owned(),
            ),
            Self::Refused { .. } | Self::Client(_) | Self::Table(_) | Self::Unreadable(_) => {
                Some(format!("{log} may say more"))
            }
        }
    }
}

/// The lines of the table.
pub(crate) async fn get_all(server: &str, ca_pem: &str, token: &str) -> Result<Vec<String>, PodsError> {
    let root = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|e| PodsError::Unreadable(e.to_string()))?;
    let client = HttpClient::new(HttpClientConfig { roots: Roots::Only(vec![root]), ..HttpClientConfig::default() })?;
    let authorization = format!("Bearer {token}");
    let response = client
        .get(&format!("{server}/api/v1/pods?limit=500"), &[("Accept", ACCEPT), ("Authorization", &authorization)])
        .await?;
    let body: Value = serde_json::from_slice(&response.body).map_err(|e| PodsError::Unreadable(e.to_string()))?;
    if response.status == 200 {
        return Ok(table::render(&body)?);
    }
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    Err(PodsError::Refused { reason: text("reason"), message: text("message") })
}
