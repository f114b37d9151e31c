//! What every request handler works with. Nothing in it is locked across an await.

use http::StatusCode;
use portcullis_runtime::{Clock, Rng};
use portcullis_storage::{RotationPolicy, Store};

use crate::LOCAL_CONNECTOR;
use crate::authflow::{Devices, Flows};
use crate::config::Config;
use crate::http::{Cors, Reply};
use crate::pages::Pages;
use crate::passwords::LocalPasswords;
use crate::signer::Signer;
use crate::tokens::Tokens;

/// The provider's parts.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) store: Store,
    pub(crate) pages: Pages,
    pub(crate) signer: Signer,
    pub(crate) tokens: Tokens,
    pub(crate) flows: Flows,
    pub(crate) devices: Devices,
    pub(crate) passwords: LocalPasswords,
    pub(crate) cors: Cors,
    pub(crate) discovery: crate::endpoints::Discovery,
    /// Ids of the served connectors.
    pub(crate) connectors: Vec<String>,
    pub(crate) rotation: RotationPolicy,
}

impl App {
    /// The path of a page, from the host's root: a redirect to it keeps scheme and host of the request, whatever name the
    /// browser used.
    pub(crate) fn browser_path(&self, route: &str) -> String {
        format!("{}{route}", self.config.issuer.path())
    }

    /// A page that says to come back later.
    pub(crate) fn unavailable(&self, message: &str, seconds: u64) -> Reply {
        let mut reply = self.pages.error(StatusCode::SERVICE_UNAVAILABLE, message, "");
        reply.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from(seconds));
        reply
    }
}

/// What people call a connector. Compat: Dex names the password database so.
pub(crate) fn connector_name(id: &str) -> &str {
    if id == LOCAL_CONNECTOR { "Email" } else { id }
}
