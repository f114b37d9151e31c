//! `/auth?req=…&hmac=…`: what is missing before a code can be given?
//!
//! Compat: Dex's dispatcher after the connector. A missing or wrong code is 401.

use http::StatusCode;
use portcullis_storage::{LoginError, LoginState};

use super::finalize::Consent;
use super::flow::Step;
use super::{finalize, flow_of, login_error};
use crate::app::App;
use crate::http::{Inbound, Params, Reply, encode_pairs, redirect};

/// Sends the browser to the next step, or to the client.
pub(crate) async fn dispatch(app: &App, inbound: &Inbound, params: &Params) -> Reply {
    let flow = match flow_of(app, inbound, params.get("req")).await {
        Ok(flow) => flow,
        Err(page) => return page,
    };
    if !flow.allows(Step::Continue, params.get("hmac")) {
        return unauthorized(app);
    }
    let login = match app.store.logins().get(&flow.id).await {
        Ok(login) => login,
        Err(LoginError::Unknown) => {
            return app.pages.error(StatusCode::BAD_REQUEST, "Login process not yet finalized.", super::START_AGAIN);
        }
        Err(error) => return login_error(app, error),
    };
    match login.state {
        LoginState::Authenticated => {
            let query = encode_pairs(&[("hmac", &flow.mac(Step::Approval)), ("req", &flow.id)]);
            redirect(&format!("{}?{query}", app.browser_path("/approval"))).unwrap_or_else(|| unauthorized(app))
        }
        LoginState::Approved => finalize::finalize(app, inbound, &flow, Consent::Before).await,
        LoginState::CodeIssued | LoginState::Completed | LoginState::Denied => login_error(app, LoginError::Spent),
    }
}

/// Compat: Dex's text for a step that this browser may not take.
pub(super) fn unauthorized(app: &App) -> Reply {
    app.pages.error(StatusCode::UNAUTHORIZED, "Unauthorized request", super::START_AGAIN)
}
