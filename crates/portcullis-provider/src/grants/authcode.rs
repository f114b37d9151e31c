//! `authorization_code` (RFC 6749 section 4.1.3, RFC 7636, RFC 9700 section 2.1.1).
//!
//! The checks change nothing, so a failed one leaves the code usable, as in Dex; then the code is spent by
//! compare-and-swap, and only the winner gets tokens. A code that comes again ends the refresh token family that it gave.

use portcullis_oidc::vocabulary::{PkceMethod, TokenResponse, pkce, scope};
use portcullis_storage::{CodeError, CodeGrant, CreateError, NewFamily, RedeemedCode};

use super::{AuthenticatedClient, GrantError};
use crate::app::App;
use crate::authflow::{allows_connector, is_registered};
use crate::config::Grant;
use crate::http::Params;
use crate::tokens::{TokenRequest, check_peers};

const INVALID_CODE: &str = "Invalid or expired code parameter.";

/// Redeems a code.
pub(super) async fn redeem(
    app: &App,
    client: &AuthenticatedClient,
    params: &Params,
) -> Result<TokenResponse, GrantError> {
    let code = params.get("code");
    if code.is_empty() {
        return Err(GrantError::invalid_request("Required param: code."));
    }
    let codes = app.store.codes();
    let open = codes.open(code, &client.id).await.map_err(|e| refused(e, &client.id))?;
    check_pkce(open.grant(), params.get("code_verifier"))?;
    if params.get("redirect_uri") != open.grant().redirect_uri {
        return Err(GrantError::invalid_request("redirect_uri did not match URI from initial request."));
    }
    // The code may have gone to an address that the client has withdrawn since.
    if !is_registered(client, &open.grant().redirect_uri) {
        return Err(GrantError::invalid_grant("The redirect_uri is not registered any more."));
    }
    if !allows_connector(client, &open.grant().connector_id) {
        return Err(GrantError::invalid_grant("Connector not allowed for this client."));
    }
    check_peers(&app.store, &client.id, &open.grant().scopes).await.map_err(GrantError::of_peers)?;
    let redeemed = codes.redeem(open).await.map_err(|e| refused(e, &client.id))?;
    let RedeemedCode { grant, connector_data, family, .. } = redeemed;
    let issued = app.tokens.issue(&TokenRequest {
        client_id: &client.id,
        connector_id: &grant.connector_id,
        identity: &grant.identity,
        scopes: &grant.scopes,
        nonce: &grant.nonce,
        auth_time: Some(grant.auth_time),
        code: Some(code),
    })?;
    let mut refresh_token = None;
    if app.config.oauth2.grants.contains(&Grant::RefreshToken)
        && grant.scopes.iter().any(|s| s == scope::OFFLINE_ACCESS)
    {
        let new = NewFamily {
            client_id: client.id.clone(),
            connector_id: grant.connector_id,
            connector_data,
            identity: grant.identity,
            scopes: grant.scopes,
            nonce: grant.nonce,
            auth_time: grant.auth_time,
        };
        refresh_token = match app.store.families().create(&family, new, &app.rotation).await {
            Ok(token) => Some(token),
            // The code came again while this one was being served: whoever won gets no lasting access.
            Err(CreateError::Ended) => {
                tracing::warn!(client_id = %client.id, "a code was used twice at once; no refresh token is given for it");
                None
            }
            Err(CreateError::Store(error)) => return Err(GrantError::Store(error)),
        };
    }
    Ok(issued.into_response(refresh_token.map(|t| t.encode())))
}

fn refused(error: CodeError, client_id: &str) -> GrantError {
    match error {
        CodeError::Store(error) => GrantError::Store(error),
        CodeError::Replayed => {
            tracing::warn!(client_id, "a code was used again; what it had given has been revoked");
            GrantError::invalid_grant(INVALID_CODE)
        }
        CodeError::Invalid | CodeError::Expired | CodeError::OtherClient => GrantError::invalid_grant(INVALID_CODE),
    }
}

/// A verifier without a challenge is refused as well: otherwise a code of a flow without PKCE could be slipped into one
/// with it (RFC 9700 section 4.8, PKCE downgrade).
fn check_pkce(grant: &CodeGrant, verifier: &str) -> Result<(), GrantError> {
    match &grant.pkce {
        None if verifier.is_empty() => Ok(()),
        None => Err(GrantError::invalid_request("No PKCE flow started. Cannot check code_verifier.")),
        Some(_) if verifier.is_empty() => {
            Err(GrantError::invalid_grant("Expecting parameter code_verifier in PKCE flow."))
        }
        Some(challenge) => {
            let right = PkceMethod::from_name(&challenge.method)
                .is_some_and(|m| pkce::verify(m, &challenge.challenge, verifier));
            if right { Ok(()) } else { Err(GrantError::invalid_grant("Invalid code_verifier.")) }
        }
    }
}
