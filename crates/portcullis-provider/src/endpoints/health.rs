//! `/healthz` on the main port.

use http::StatusCode;
use portcullis_runtime::telemetry::Health;

use crate::app::App;
use crate::http::{Reply, no_store, text};

/// Compat: Dex's two texts.
pub(crate) fn health(app: &App, health: &Health) -> Reply {
    if health.is_healthy() {
        no_store(text(StatusCode::OK, "Health check passed"))
    } else {
        app.pages.error(StatusCode::INTERNAL_SERVER_ERROR, "Health check failed.", "")
    }
}
