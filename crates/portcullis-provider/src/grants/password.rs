//! `password` (RFC 6749 section 4.3): off unless the configuration names a `passwordConnector`, because RFC 9700 section
//! 2.4 forbids it.

use http::StatusCode;
use portcullis_oidc::vocabulary::{TokenResponse, scope};
use portcullis_runtime::Secret;
use portcullis_storage::{CreateError, NewFamily};

use super::{AuthenticatedClient, GrantError};
use crate::app::App;
use crate::authflow::{BUSY_SECONDS, allows_connector, wait_seconds};
use crate::config::Grant;
use crate::http::{Params, Source};
use crate::passwords::{Attempt, Outcome, PasswordError};
use crate::tokens::{ScopeError, TokenRequest, check_scopes};

/// Gives tokens for a name and a password.
pub(super) async fn password(
    app: &App,
    client: &AuthenticatedClient,
    params: &Params,
    from: Source,
) -> Result<TokenResponse, GrantError> {
    let scopes: Vec<String> = params.get("scope").split_whitespace().map(str::to_owned).collect();
    // Compat: scope problems are `invalid_request` in this grant.
    check_scopes(&app.store, &client.id, &scopes).await.map_err(|error| match error {
        ScopeError::Invalid(text) => GrantError::invalid_request(text),
        ScopeError::Store(error) => GrantError::Store(error),
    })?;
    let connector_id = app.config.oauth2.password_connector.as_deref().unwrap_or_default();
    if !allows_connector(client, connector_id) {
        return Err(GrantError::invalid_grant("Connector not allowed for this client."));
    }
    let login = params.get("username");
    // The client forwards what it was told, so there is no browser that could be known again.
    let attempt = Attempt { login, password: Secret::from(params.get("password")), from, device: None };
    let identity = match app.passwords.check(attempt).await {
        Ok(Outcome::Identity(identity)) => *identity,
        Ok(Outcome::Wrong) => {
            tracing::error!(user = %login, "failed login attempt: Invalid credentials.");
            return Err(GrantError::WrongPassword);
        }
        Ok(Outcome::Wait(wait)) => return Err(GrantError::Later(StatusCode::TOO_MANY_REQUESTS, wait_seconds(wait))),
        Ok(Outcome::Busy) => return Err(GrantError::Later(StatusCode::SERVICE_UNAVAILABLE, BUSY_SECONDS)),
        Err(PasswordError::Store(error)) => return Err(GrantError::Store(error)),
        Err(error @ PasswordError::Hash(_)) => {
            tracing::error!(user = %login, %error, "failed to log in user");
            return Err(GrantError::invalid_request("Could not login user"));
        }
    };
    let nonce = params.get("nonce");
    let issued = app.tokens.issue(&TokenRequest {
        client_id: &client.id,
        connector_id,
        identity: &identity,
        scopes: &scopes,
        nonce,
        auth_time: None,
        code: None,
    })?;
    let mut refresh_token = None;
    if app.config.oauth2.grants.contains(&Grant::RefreshToken) && scopes.iter().any(|s| s == scope::OFFLINE_ACCESS) {
        let families = app.store.families();
        let new = NewFamily {
            client_id: client.id.clone(),
            connector_id: connector_id.to_owned(),
            connector_data: None,
            identity,
            scopes,
            nonce: nonce.to_owned(),
            auth_time: app.clock.now(),
        };
        let created = families.create(&families.new_id(), new, &app.rotation).await;
        refresh_token = Some(created.map_err(|error| match error {
            CreateError::Ended => GrantError::Stored("a new family was ended before it began".to_owned()),
            CreateError::Store(error) => GrantError::Store(error),
        })?);
    }
    Ok(issued.into_response(refresh_token.map(|t| t.encode())))
}
