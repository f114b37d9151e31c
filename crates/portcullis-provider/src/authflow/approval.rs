//! `/approval`: the consent page and its answer.
//!
//! Compat: a refusal ends in a page with status 500 "Approval rejected.", not in a redirect to the client.

use http::{Method, StatusCode};
use portcullis_storage::{LoginError, LoginState};

use super::dispatch::unauthorized;
use super::finalize::Consent;
use super::flow::{Flow, Step};
use super::request::scope_texts;
use super::{START_AGAIN, database_error, finalize, flow_of, login_error};
use crate::app::App;
use crate::http::{Inbound, Reply, encode_pairs};
use crate::pages::ApprovalPage;

/// `GET` shows the page, `POST` takes the answer.
pub(crate) async fn approval(app: &App, inbound: &Inbound) -> Reply {
    let params = match inbound.query_params() {
        Ok(params) => params,
        Err(error) => return app.pages.error(StatusCode::BAD_REQUEST, &error.to_string(), START_AGAIN),
    };
    let flow = match flow_of(app, inbound, params.get("req")).await {
        Ok(flow) => flow,
        Err(page) => return page,
    };
    if !flow.allows(Step::Approval, params.get("hmac")) {
        return unauthorized(app);
    }
    match inbound.method {
        Method::GET => page(app, &flow).await,
        Method::POST => answer(app, inbound, &flow).await,
        _ => app.pages.error(StatusCode::BAD_REQUEST, "Unsupported request method.", ""),
    }
}

async fn page(app: &App, flow: &Flow) -> Reply {
    let login = match app.store.logins().get(&flow.id).await {
        Ok(login) if login.state == LoginState::Authenticated => login,
        Ok(_) => return login_error(app, LoginError::Spent),
        Err(error) => return login_error(app, error),
    };
    let client = match app.store.clients().get(&flow.request.client_id).await {
        Ok(Some(client)) => client,
        Ok(None) => return app.pages.error(StatusCode::BAD_REQUEST, "Invalid client_id.", START_AGAIN),
        Err(error) => return database_error(app, &error),
    };
    let query = encode_pairs(&[("hmac", &flow.mac(Step::Approval)), ("req", &flow.id)]);
    let user = if login.identity.email.is_empty() { &login.identity.username } else { &login.identity.email };
    app.pages.approval(&ApprovalPage {
        client: &client.name,
        user,
        scopes: &scope_texts(&flow.request.scopes),
        req: &flow.id,
        post_url: &format!("{}?{query}", app.browser_path("/approval")),
    })
}

async fn answer(app: &App, inbound: &Inbound, flow: &Flow) -> Reply {
    // Another site must not press the button for this browser's user.
    if inbound.is_cross_site() {
        return app.pages.error(StatusCode::FORBIDDEN, "Invalid request. Please try again.", START_AGAIN);
    }
    let Ok(fields) = inbound.body_params() else {
        return app.pages.error(StatusCode::BAD_REQUEST, "Invalid request. Please try again.", START_AGAIN);
    };
    if fields.has("req") && fields.get("req") != flow.id {
        return app.pages.error(StatusCode::BAD_REQUEST, "User session error.", START_AGAIN);
    }
    if fields.get("approval") != "approve" {
        if let Err(error) = app.store.logins().deny(&flow.id).await {
            return login_error(app, error);
        }
        app.flows.release(inbound, &flow.id).await;
        let reply = app.pages.error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Approval rejected.",
            "You did not grant access. You can close this page.",
        );
        return app.flows.forget(inbound, &flow.id, reply);
    }
    finalize::finalize(app, inbound, flow, Consent::Now).await
}
