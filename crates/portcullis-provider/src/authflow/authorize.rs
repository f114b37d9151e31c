//! `/auth` and `/auth/{connector}`: a request comes in.
//!
//! Compat: Dex answers a bad client id with 400 on the first and 404 on the second (dex.md 0.1 T10), and its redirects
//! between the two are 302. Unlike Dex (T11), the list of connectors is shown only for a request whose client and
//! redirect URI belong together.

use std::sync::Arc;

use http::{Method, StatusCode};
use portcullis_storage::Client;

use super::flow::{Flow, FlowError};
use super::redirect::is_registered;
use super::request::{AuthRequest, Checks, Refusal, allows_connector};
use super::{ADVICE, database_error, dispatch};
use crate::app::{App, connector_name};
use crate::http::{Inbound, Params, Reply, encode, encode_pairs, redirect_found};
use crate::pages::ConnectorChoice;

/// `/auth`: the dispatcher of a running flow, or the choice of a connector.
pub(crate) async fn authorize(app: &App, inbound: &Inbound) -> Reply {
    if !matches!(inbound.method, Method::GET | Method::POST) {
        return app.pages.error(StatusCode::BAD_REQUEST, "Unsupported request method.", "");
    }
    let params = match inbound.all_params() {
        Ok(params) => params,
        Err(error) => return app.pages.error(StatusCode::BAD_REQUEST, &error.to_string(), ADVICE),
    };
    if params.has("req") {
        return dispatch::dispatch(app, inbound, &params).await;
    }
    let client = match app.store.clients().get(params.get("client_id")).await {
        Ok(Some(client)) => client,
        Ok(None) => return app.pages.error(StatusCode::BAD_REQUEST, "Invalid client_id provided.", ADVICE),
        Err(error) => return database_error(app, &error),
    };
    choose(app, &client, &params)
}

fn choose(app: &App, client: &Arc<Client>, params: &Params) -> Reply {
    let connectors: Vec<&String> = app.connectors.iter().filter(|c| allows_connector(client, c)).collect();
    let query = params.encode_without("connector_id");
    let go_to = |connector: &str| {
        let location = format!("{}?{query}", app.browser_path(&format!("/auth/{}", encode(connector))));
        redirect_found(&location)
            .unwrap_or_else(|| app.pages.error(StatusCode::BAD_REQUEST, "Invalid request. Please try again.", ADVICE))
    };
    let wanted = params.get("connector_id");
    if !wanted.is_empty() {
        return match connectors.iter().find(|c| c.as_str() == wanted) {
            Some(connector) => go_to(connector),
            None => app.pages.error(StatusCode::BAD_REQUEST, "Connector ID does not match a valid Connector", ADVICE),
        };
    }
    match connectors.as_slice() {
        [] => app.pages.error(StatusCode::BAD_REQUEST, "No connectors available for this client.", ""),
        [only] if !app.config.oauth2.always_show_login => go_to(only),
        _ if !is_registered(client, params.get("redirect_uri")) => {
            app.pages.error(StatusCode::BAD_REQUEST, "Unregistered redirect_uri.", ADVICE)
        }
        several => {
            let back = format!("{}?{query}", app.browser_path("/auth"));
            let choices: Vec<ConnectorChoice> = several
                .iter()
                .map(|id| ConnectorChoice {
                    id: (*id).clone(),
                    name: connector_name(id).to_owned(),
                    url: format!(
                        "{}?{query}&back={}",
                        app.browser_path(&format!("/auth/{}", encode(id))),
                        encode(&back)
                    ),
                    kind: "local",
                })
                .collect();
            app.pages.login(&client.name, &choices)
        }
    }
}

/// `/auth/{connector}`: everything is checked; the request is sealed into a cookie of this browser.
pub(crate) async fn authorize_connector(app: &App, inbound: &Inbound, connector_id: &str) -> Reply {
    if inbound.method != Method::GET {
        return app.pages.error(StatusCode::BAD_REQUEST, "Unsupported request method.", "");
    }
    let params = match inbound.query_params() {
        Ok(params) => params,
        Err(error) => return app.pages.error(StatusCode::BAD_REQUEST, &error.to_string(), ADVICE),
    };
    let checks = Checks {
        store: &app.store,
        oauth2: &app.config.oauth2,
        tokens: &app.tokens,
        issuer: app.config.issuer.as_str(),
        connectors: &app.connectors,
    };
    let (request, client) = match checks.check(&params, connector_id).await {
        Ok(checked) => checked,
        Err(refusal) => return refused(app, refusal),
    };
    if !app.connectors.iter().any(|c| c == connector_id) {
        return app.pages.error(StatusCode::BAD_REQUEST, "Connector failed to initialize", "");
    }
    if !allows_connector(&client, connector_id) {
        return app.pages.error(StatusCode::FORBIDDEN, "Connector not allowed for this client.", "");
    }
    begin(app, inbound, request, params.get("back")).await
}

/// Starts the flow: cookie, and on to the login form.
async fn begin(app: &App, inbound: &Inbound, request: AuthRequest, back: &str) -> Reply {
    let flow = Flow::begin(&app.rng, request, app.clock.now() + app.config.expiry.auth_requests);
    let query = encode_pairs(&[("back", back), ("state", &flow.id)]);
    let route = format!("/auth/{}/login", encode(&flow.request.connector_id));
    let Some(reply) = redirect_found(&format!("{}?{query}", app.browser_path(&route))) else {
        return app.pages.error(StatusCode::BAD_REQUEST, "Invalid request. Please try again.", ADVICE);
    };
    match app.flows.put(inbound, &flow, reply).await {
        Ok(reply) => reply,
        Err(FlowError::Store(error)) => database_error(app, &error),
        Err(FlowError::Refused(error)) => {
            tracing::warn!(%error, "an authorization request is too large for a cookie and cannot be stored");
            app.unavailable("The request is too large to be kept right now. Please try again later.", 60)
        }
        Err(error) => {
            tracing::error!(%error, "an authorization request could not be sealed");
            app.pages.error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Login error. Please contact your administrator or try again later.",
                "",
            )
        }
    }
}

fn refused(app: &App, refusal: Refusal) -> Reply {
    match refusal {
        Refusal::Page(status, message) => app.pages.error(status, message, ADVICE),
        Refusal::Redirect(error) => {
            tracing::info!(error = error.code.as_str(), description = %error.description, "authorization request refused");
            error.reply().unwrap_or_else(|| app.pages.error(StatusCode::BAD_REQUEST, &error.description, ADVICE))
        }
        Refusal::Store(error) => database_error(app, &error),
    }
}
