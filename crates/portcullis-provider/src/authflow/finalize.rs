//! The end of the flow: a code, and the redirect to the client.
//!
//! The login record decides who issues: of two parallel submits one gets a code, the other "User session error.", as in
//! Dex. The answer carries `iss` (RFC 9207). The cookie goes with it.
//!
//! Minutes have passed since the request was checked, so the redirect URI is checked once more: an address that the client
//! has withdrawn, perhaps because it is somebody else's by now, gets no code.

use std::time::Duration;

use http::StatusCode;
use portcullis_storage::{CodeRequest, LoginError, Pkce};

use super::flow::Flow;
use super::redirect::{OUT_OF_BAND, is_registered, with_query};
use super::{ADVICE, database_error, login_error};
use crate::app::App;
use crate::http::{Inbound, Reply, redirect};

/// Compat: Dex's codes live for 30 minutes.
const CODE_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// When somebody consented to the sign-in.
#[derive(Clone, Copy)]
pub(super) enum Consent {
    /// The sign-in began with it, because it is not asked for.
    Before,
    /// With this request.
    Now,
}

/// Issues the code and sends the browser to the client.
pub(super) async fn finalize(app: &App, inbound: &Inbound, flow: &Flow, consent: Consent) -> Reply {
    let request = &flow.request;
    match app.store.clients().get(&request.client_id).await {
        Ok(Some(client)) if is_registered(&client, &request.redirect_uri) => {}
        Ok(Some(client)) => {
            tracing::warn!(client_id = %client.id, "the redirect URI was withdrawn while somebody signed in; no code is given");
            return app.pages.error(StatusCode::BAD_REQUEST, "Unregistered redirect_uri.", ADVICE);
        }
        Ok(None) => return app.pages.error(StatusCode::BAD_REQUEST, "Invalid client_id.", ADVICE),
        Err(error) => return database_error(app, &error),
    }
    let code = app.store.codes().new_code();
    let remembered = CodeRequest {
        redirect_uri: request.redirect_uri.clone(),
        scopes: request.scopes.clone(),
        nonce: request.nonce.clone(),
        pkce: request.challenge.as_ref().map(|c| Pkce { challenge: c.value.clone(), method: c.method.clone() }),
    };
    let logins = app.store.logins();
    let issued = match consent {
        Consent::Before => logins.issue_code(&flow.id, &code, remembered, CODE_LIFETIME).await,
        Consent::Now => logins.approve(&flow.id, &code, remembered, CODE_LIFETIME).await,
    };
    match issued {
        Ok(issued) if !issued.again => {}
        Ok(_) => return login_error(app, LoginError::Spent),
        Err(error) => return login_error(app, error),
    }
    let reply = if request.redirect_uri == OUT_OF_BAND {
        app.pages.oob(code.expose())
    } else {
        let mut pairs = vec![("code", code.expose())];
        if !request.state.is_empty() {
            pairs.push(("state", request.state.as_str()));
        }
        pairs.push(("iss", app.config.issuer.as_str()));
        redirect(&with_query(&request.redirect_uri, &pairs))
            .unwrap_or_else(|| app.pages.error(StatusCode::BAD_REQUEST, "Invalid redirect URI.", super::START_AGAIN))
    };
    app.flows.release(inbound, &flow.id).await;
    app.flows.forget(inbound, &flow.id, reply)
}
