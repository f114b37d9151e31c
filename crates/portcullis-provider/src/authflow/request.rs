//! The authorization request (RFC 6749 section 4.1.1, OpenID Connect Core 3.1.2.1) and its checks.
//!
//! Compat: Dex `server/oauth2.go`: order and texts (dex.md 2.3). Before client and redirect URI are known to belong
//! together, an error is a page; afterwards it is a redirect. Nothing is ever sent to a URI that is not registered.

use http::StatusCode;
use portcullis_oidc::go_quote;
use portcullis_oidc::vocabulary::{ErrorCode, PkceMethod, Prompt};
use portcullis_storage::{Client, Store, StoreError};
use serde::{Deserialize, Serialize};

use super::redirect::{ErrorRedirect, is_registered};
use crate::LOCAL_CONNECTOR;
use crate::config::OAuth2;
use crate::http::Params;
use crate::tokens::{ScopeError, Tokens, check_scopes};

/// Longest value of a parameter that has to be kept, in bytes.
const MAX_VALUE: usize = 16 * 1024;

/// A request that has passed every check.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuthRequest {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) state: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) challenge: Option<Challenge>,
    /// The client wants the consent page even if it could be skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) force_consent: bool,
    pub(crate) connector_id: String,
}

/// A PKCE challenge.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) value: String,
    pub(crate) method: String,
}

/// Why a request is refused.
pub(crate) enum Refusal {
    /// A page: the redirect URI cannot be trusted.
    Page(StatusCode, &'static str),
    /// A redirect to the client.
    Redirect(ErrorRedirect),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What the checks look at.
pub(crate) struct Checks<'a> {
    pub(crate) store: &'a Store,
    pub(crate) oauth2: &'a OAuth2,
    pub(crate) tokens: &'a Tokens,
    pub(crate) issuer: &'a str,
    /// Ids of the connectors that are served.
    pub(crate) connectors: &'a [String],
}

impl Checks<'_> {
    /// Checks a request that has come to the connector `connector_id`.
    pub(crate) async fn check(
        &self,
        params: &Params,
        connector_id: &str,
    ) -> Result<(AuthRequest, std::sync::Arc<Client>), Refusal> {
        for name in ["state", "nonce", "redirect_uri", "scope", "code_challenge"] {
            if params.get(name).len() > MAX_VALUE {
                return Err(Refusal::Page(StatusCode::BAD_REQUEST, "Invalid request. Please try again."));
            }
        }
        let client = self.store.clients().get(params.get("client_id")).await?;
        let client = client.ok_or(Refusal::Page(StatusCode::NOT_FOUND, "Invalid client_id."))?;
        let redirect_uri = params.get("redirect_uri");
        if !is_registered(&client, redirect_uri) {
            return Err(Refusal::Page(StatusCode::BAD_REQUEST, "Unregistered redirect_uri."));
        }
        let refuse = |code: ErrorCode, description: String| {
            Refusal::Redirect(ErrorRedirect {
                redirect_uri: redirect_uri.to_owned(),
                state: params.get("state").to_owned(),
                issuer: self.issuer.to_owned(),
                code,
                description,
            })
        };
        let invalid = |description: &str| refuse(ErrorCode::InvalidRequest, description.to_owned());

        let wanted = params.get("connector_id");
        if !wanted.is_empty() {
            if !self.connectors.iter().any(|c| c == wanted) {
                return Err(invalid("Invalid ConnectorID"));
            }
            if !allows_connector(&client, wanted) {
                return Err(invalid("Connector not allowed for this client"));
            }
        }
        if !params.get("request").is_empty() {
            let description = "Server does not support request parameter.".to_owned();
            return Err(refuse(ErrorCode::RequestNotSupported, description));
        }
        let challenge = self.challenge(params).map_err(|d| invalid(&d))?;
        if challenge.is_none() && self.oauth2.pkce_enforce {
            return Err(invalid("PKCE is required. The code_challenge parameter must be provided."));
        }
        let scopes: Vec<String> = params.get("scope").split_whitespace().map(str::to_owned).collect();
        check_scopes(self.store, &client.id, &scopes).await.map_err(|error| match error {
            ScopeError::Invalid(description) => refuse(ErrorCode::InvalidScope, description),
            ScopeError::Store(error) => Refusal::Store(error),
        })?;
        response_type(params.get("response_type")).map_err(|(code, d)| refuse(code, d))?;
        let prompt =
            Prompt::parse(params.get("prompt")).map_err(|e| invalid(&format!("Invalid prompt parameter: {e}")))?;
        let max_age = params.get("max_age");
        if !max_age.is_empty() && max_age.parse::<u32>().is_err() {
            return Err(invalid(&format!("Invalid max_age value {}", go_quote(max_age))));
        }
        let hint = params.get("id_token_hint");
        if !hint.is_empty() && self.tokens.verify_signature(hint).is_none() {
            return Err(invalid("Invalid id_token_hint."));
        }
        if prompt.none {
            // Without sessions nobody is ever signed in already (OpenID Connect Core 3.1.2.6).
            return Err(refuse(ErrorCode::LoginRequired, String::new()));
        }
        let request = AuthRequest {
            client_id: client.id.clone(),
            redirect_uri: redirect_uri.to_owned(),
            scopes,
            state: params.get("state").to_owned(),
            nonce: params.get("nonce").to_owned(),
            challenge,
            force_consent: prompt.consent || params.get("approval_prompt") == "force",
            connector_id: connector_id.to_owned(),
        };
        Ok((request, client))
    }

    fn challenge(&self, params: &Params) -> Result<Option<Challenge>, String> {
        let value = params.get("code_challenge");
        if value.is_empty() {
            return Ok(None);
        }
        let name = match params.get("code_challenge_method") {
            "" => PkceMethod::Plain.as_str(),
            name => name,
        };
        match PkceMethod::from_name(name).filter(|m| self.oauth2.pkce_methods.contains(m)) {
            Some(method) => Ok(Some(Challenge { value: value.to_owned(), method: method.as_str().to_owned() })),
            None => Err(format!("Unsupported PKCE challenge method ({}).", go_quote(name))),
        }
    }
}

/// Whether the users of a connector may sign in to a client.
pub(crate) fn allows_connector(client: &Client, connector_id: &str) -> bool {
    client.allowed_connectors.is_empty() || client.allowed_connectors.iter().any(|c| c == connector_id)
}

/// Only the code flow is served: RFC 9700 section 2.1.2 advises against the others.
fn response_type(text: &str) -> Result<(), (ErrorCode, String)> {
    let mut any = false;
    for word in text.split_whitespace() {
        any = true;
        match word {
            "code" => {}
            "token" | "id_token" => {
                let description = format!("Unsupported response type {}", go_quote(word));
                return Err((ErrorCode::UnsupportedResponseType, description));
            }
            other => return Err((ErrorCode::InvalidRequest, format!("Invalid response type {}", go_quote(other)))),
        }
    }
    if any { Ok(()) } else { Err((ErrorCode::InvalidRequest, "No response_type provided".to_owned())) }
}

/// What the consent page says of scopes; others are not listed.
pub(crate) fn scope_texts(scopes: &[String]) -> Vec<&'static str> {
    let text = |scope: &String| match scope.as_str() {
        "offline_access" => Some("Have offline access"),
        "profile" => Some("View basic profile information"),
        "email" => Some("View your email address"),
        "groups" => Some("View your groups"),
        _ => None,
    };
    let mut texts: Vec<&'static str> = Vec::new();
    for text in scopes.iter().filter_map(text) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// The connectors that are served now.
pub(crate) fn connector_ids(password_db: bool) -> Vec<String> {
    if password_db { vec![LOCAL_CONNECTOR.to_owned()] } else { Vec::new() }
}
