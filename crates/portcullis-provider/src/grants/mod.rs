//! `/token`: one file per grant.
//!
//! Flow: POST and a readable form → a served grant type → the client proves itself ([`AuthenticatedClient`]) → the grant.
//! Compat: codes and texts of Dex `server/grants` (dex.md 3); no answer may be cached.

mod authcode;
mod client_auth;
mod password;
mod refresh;

use http::{Method, StatusCode};
use portcullis_oidc::vocabulary::{ErrorCode, TokenResponse};
use portcullis_storage::StoreError;

pub(crate) use client_auth::AuthenticatedClient;

use crate::app::App;
use crate::config::Grant;
use crate::http::{Inbound, Reply, json_error, no_store, with_type};
use crate::tokens::{IssueError, ScopeError};

/// Why no token is given, by blame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    /// The client: 400 with this code and text.
    #[error("{1}")]
    Client(ErrorCode, String),
    /// The client did not prove itself: 401.
    #[error("Invalid client credentials.")]
    InvalidClient,
    /// The person's name or password is wrong: 401.
    #[error("Invalid username or password")]
    WrongPassword,
    /// Too many attempts, or too much work: 429 or 503, and when to come back.
    #[error("try again later")]
    Later(StatusCode, u64),
    /// The upstream, or the user, is gone. Compat: 500 `invalid_request` without a text.
    #[error("the identity cannot be refreshed")]
    Connector,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// Tokens could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A stored record is damaged.
    #[error("{0}")]
    Stored(String),
}

impl GrantError {
    fn invalid_request(text: impl Into<String>) -> Self {
        Self::Client(ErrorCode::InvalidRequest, text.into())
    }

    /// Trust between clients that was there at the sign-in and is no more.
    fn of_peers(error: ScopeError) -> Self {
        match error {
            ScopeError::Invalid(text) => Self::Client(ErrorCode::InvalidScope, text),
            ScopeError::Store(error) => Self::Store(error),
        }
    }

    fn invalid_grant(text: impl Into<String>) -> Self {
        Self::Client(ErrorCode::InvalidGrant, text.into())
    }

    fn reply(self) -> Reply {
        let server_error = |error: &dyn std::fmt::Display, source: String| {
            tracing::error!(%error, source, "a token request failed");
            json_error(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::ServerError, "")
        };
        match self {
            Self::Client(code, text) => json_error(StatusCode::BAD_REQUEST, code, &text),
            Self::InvalidClient => {
                json_error(StatusCode::UNAUTHORIZED, ErrorCode::InvalidClient, "Invalid client credentials.")
            }
            Self::WrongPassword => {
                json_error(StatusCode::UNAUTHORIZED, ErrorCode::AccessDenied, "Invalid username or password")
            }
            Self::Later(status, seconds) => {
                let text = format!("Too many attempts. Try again in {seconds} s.");
                let mut reply = json_error(status, ErrorCode::TemporarilyUnavailable, &text);
                reply.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from(seconds));
                reply
            }
            Self::Connector => json_error(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::InvalidRequest, ""),
            Self::Store(ref error) => server_error(&self, error.to_string()),
            Self::Issue(_) | Self::Stored(_) => server_error(&self, String::new()),
        }
    }
}

/// Answers `/token`.
pub(crate) async fn token(app: &App, inbound: &Inbound) -> Reply {
    match serve(app, inbound).await {
        Ok(tokens) => match serde_json::to_vec(&tokens) {
            Ok(body) => no_store(with_type(StatusCode::OK, "application/json", body)),
            Err(error) => GrantError::Issue(error.into()).reply(),
        },
        Err(error) => error.reply(),
    }
}

async fn serve(app: &App, inbound: &Inbound) -> Result<TokenResponse, GrantError> {
    if inbound.method != Method::POST {
        return Err(GrantError::invalid_request("method not allowed"));
    }
    let params = inbound.body_params().map_err(|e| GrantError::invalid_request(e.to_string()))?;
    let wanted = params.get("grant_type");
    let grant = app.config.oauth2.grants.iter().find(|g| g.as_str() == wanted);
    let grant = *grant.ok_or_else(|| GrantError::Client(ErrorCode::UnsupportedGrantType, String::new()))?;
    let client = client_auth::authenticate(app, inbound, &params).await?;
    match grant {
        Grant::AuthorizationCode => authcode::redeem(app, &client, &params).await,
        Grant::RefreshToken => refresh::refresh(app, &client, &params).await,
        Grant::Password => password::password(app, &client, &params, inbound.from).await,
    }
}
