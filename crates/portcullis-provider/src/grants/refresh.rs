//! `refresh_token` (RFC 6749 section 6, RFC 9700 section 4.14).
//!
//! One read of the family's record, one write. Compat: codes and texts of Dex (dex.md 3.4), also where RFC 6749 would say
//! `invalid_grant`. The identity is asked for again, so that changes of the user show, and a user who is gone gets nothing.

use portcullis_oidc::go_quote_list;
use portcullis_oidc::vocabulary::TokenResponse;
use portcullis_storage::{RefreshError, RefreshToken, Refreshed};

use super::{AuthenticatedClient, GrantError};
use crate::LOCAL_CONNECTOR;
use crate::app::App;
use crate::authflow::allows_connector;
use crate::http::Params;
use crate::tokens::{TokenRequest, check_peers};

const INVALID: &str = "Refresh token is invalid or has already been claimed by another client.";

/// Gives new tokens for a refresh token.
pub(super) async fn refresh(
    app: &App,
    client: &AuthenticatedClient,
    params: &Params,
) -> Result<TokenResponse, GrantError> {
    let presented = params.get("refresh_token");
    if presented.is_empty() {
        return Err(GrantError::invalid_request("No refresh token is found in request."));
    }
    let token = RefreshToken::decode(presented).ok_or_else(|| GrantError::invalid_request(INVALID))?;
    let families = app.store.families();
    let open = families.open(&token, &client.id, &app.rotation).await.map_err(|e| refused(e, &client.id))?;
    let family = open.family().clone();
    let scopes = narrowed(&family.scopes, params.get("scope"))?;
    if !allows_connector(client, &family.connector_id) {
        return Err(GrantError::invalid_grant("Connector not allowed for this client."));
    }
    if family.connector_id != LOCAL_CONNECTOR || !app.config.password_db {
        tracing::error!(connector_id = %family.connector_id, "the connector of a refresh token is not served any more");
        return Err(GrantError::Connector);
    }
    check_peers(&app.store, &client.id, &scopes).await.map_err(GrantError::of_peers)?;
    let Some(identity) = app.passwords.refresh(&family.identity).await? else {
        tracing::error!(connector_id = %family.connector_id, user_id = %family.identity.user_id, "failed to refresh identity: user not found");
        return Err(GrantError::Connector);
    };
    let refreshed =
        Refreshed { identity: (identity != family.identity).then(|| identity.clone()), connector_data: None };
    let next = families.advance(open, &app.rotation, refreshed).await.map_err(|e| refused(e, &client.id))?;
    let issued = app.tokens.issue(&TokenRequest {
        client_id: &client.id,
        connector_id: &family.connector_id,
        identity: &identity,
        scopes: &scopes,
        nonce: &family.nonce,
        auth_time: None,
        code: None,
    })?;
    Ok(issued.into_response(Some(next.encode())))
}

/// The granted scopes, or those of them that the request names.
fn narrowed(granted: &[String], wanted: &str) -> Result<Vec<String>, GrantError> {
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    if wanted.is_empty() {
        return Ok(granted.to_vec());
    }
    let unauthorized: Vec<String> =
        wanted.iter().filter(|w| !granted.iter().any(|g| g == *w)).map(|w| (*w).to_owned()).collect();
    if !unauthorized.is_empty() {
        return Err(GrantError::invalid_request(format!(
            "Requested scopes contain unauthorized scope(s): {}.",
            go_quote_list(&unauthorized)
        )));
    }
    Ok(wanted.into_iter().map(str::to_owned).collect())
}

fn refused(error: RefreshError, client_id: &str) -> GrantError {
    match error {
        RefreshError::Store(error) => GrantError::Store(error),
        RefreshError::Expired => GrantError::invalid_request("Refresh token expired."),
        RefreshError::OtherClient => GrantError::invalid_grant(INVALID),
        RefreshError::Reused => {
            tracing::warn!(client_id, "an old refresh token was used again; its family has been ended");
            GrantError::invalid_request(INVALID)
        }
        RefreshError::Invalid | RefreshError::Revoked | RefreshError::Superseded => {
            GrantError::invalid_request(INVALID)
        }
    }
}
