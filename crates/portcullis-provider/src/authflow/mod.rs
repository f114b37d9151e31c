//! The authorization code flow, from `/auth` to the redirect back.
//!
//! `/auth` (choose a connector) → `/auth/local` (check everything, seal the request into a cookie) → `/auth/local/login`
//! (form, password; a login record is inserted) → `/auth?req=…` (dispatcher: what is missing?) → `/approval` (consent) →
//! code, redirect. Every step after the first needs this browser's cookie, every answer of a form a code that only our
//! page in this browser knows, and every step that matters is a compare-and-swap of the login record.

mod approval;
mod authorize;
mod devices;
mod dispatch;
mod finalize;
mod flow;
mod login;
mod redirect;
mod request;
mod sealer;

pub(crate) use approval::approval;
pub(crate) use authorize::{authorize, authorize_connector};
pub(crate) use devices::Devices;
pub(crate) use flow::Flows;
#[cfg(test)]
pub(crate) use flow::cookies_of;
pub(crate) use login::{BUSY_SECONDS, login, wait_seconds};
pub(crate) use redirect::is_registered;
pub(crate) use request::{allows_connector, connector_ids};

use http::StatusCode;
use portcullis_storage::{LoginError, StoreError};

use crate::app::App;
use crate::http::{Inbound, Reply};
use flow::{Flow, FlowError};

const START_AGAIN: &str = "Go back to the application that you came from and sign in again.";
const ADVICE: &str = "The application that sent you here made a mistake. Tell whoever runs it.";
const COOKIES: &str = "Go back to the application that you came from and sign in again. If this page keeps coming, allow cookies for this site.";

/// The flow `id` of this browser, or the page that says why not.
async fn flow_of(app: &App, inbound: &Inbound, id: &str) -> Result<Flow, Reply> {
    app.flows.get(inbound, id).await.map_err(|error| match error {
        FlowError::Unknown => app.pages.error(StatusCode::BAD_REQUEST, "User session error.", COOKIES),
        FlowError::Expired => app.pages.error(StatusCode::BAD_REQUEST, "User session has expired.", START_AGAIN),
        FlowError::Refused(_) => app.pages.error(
            StatusCode::SERVICE_UNAVAILABLE,
            "Login error. Please contact your administrator or try again later.",
            "",
        ),
        FlowError::Store(error) => database_error(app, &error),
    })
}

/// Compat: Dex's page for a store that fails.
fn database_error(app: &App, error: &StoreError) -> Reply {
    tracing::error!(%error, source = error_source(error), "the store failed");
    app.pages.error(StatusCode::INTERNAL_SERVER_ERROR, "Database error.", "Please try again later.")
}

fn login_error(app: &App, error: LoginError) -> Reply {
    match error {
        LoginError::Store(error) => database_error(app, &error),
        LoginError::Expired => app.pages.error(StatusCode::BAD_REQUEST, "User session has expired.", START_AGAIN),
        LoginError::Spent | LoginError::Unknown | LoginError::WrongState { .. } => {
            app.pages.error(StatusCode::BAD_REQUEST, "User session error.", START_AGAIN)
        }
    }
}

/// The cause of an error, for the log.
pub(crate) fn error_source(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}
