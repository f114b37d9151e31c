//! The token endpoint from the client's side: code exchange, refresh, password.
//!
//! Compat: kubelogin 1.36 (x/oauth2 0.36). Without a secret the client id goes into the body. With a secret HTTP Basic is
//! tried first and, on any error, the body once; what worked is remembered for the life of the [`TokenClient`]. A strict
//! provider may burn a code on the first attempt: give [`AuthStyle`] explicitly where that is known.
//! A refresh sends no `scope`. A refresh answer without a refresh token keeps the old one.

use std::sync::atomic::{AtomicU8, Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_runtime::{
    Secret,
    http_client::{HttpClient, HttpClientError},
};

use super::{discovery::status_text, form, token_body};
use crate::{quote::go_quote, vocabulary::TokenResponse};

/// How the client proves its identity at the token endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthStyle {
    /// Body without a secret; with one, Basic first and then the body.
    #[default]
    Auto,
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`, or the client id alone.
    Body,
}

/// Why there are no tokens. No variant carries what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The provider refused. Compat: x/oauth2's text.
    #[error("oauth2: {}{}{}", go_quote(code), optional(description), optional(uri))]
    Refused {
        /// The HTTP status; some providers send 200.
        status: u16,
        /// The OAuth error code, cut to 64 characters.
        code: String,
        /// The description, cut to 512 characters.
        description: String,
        /// A page about the error, cut to 256 characters.
        uri: String,
    },
    /// The answer is neither a success nor an OAuth error. Compat: x/oauth2's text, the body cut to 256 characters.
    #[error("oauth2: cannot fetch token: {}\nResponse: {body}", status_text(*status))]
    Status {
        /// The HTTP status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// The answer says success and cannot be read.
    #[error("oauth2: cannot parse json: {reason}")]
    Unreadable {
        /// Where and how it is broken, without its content.
        reason: String,
    },
    /// The answer has no access token. Compat: an error even where only the ID token matters.
    #[error("oauth2: server response missing access_token")]
    NoAccessToken,
    /// The request failed.
    #[error("oauth2: cannot fetch token: {0}")]
    Http(#[from] HttpClientError),
}

fn optional(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" {}", go_quote(text)) }
}

/// A client at one token endpoint.
#[derive(Debug)]
pub struct TokenClient {
    http: HttpClient,
    endpoint: String,
    client_id: String,
    client_secret: Option<Secret>,
    style: AuthStyle,
    learned: AtomicU8,
}

const LEARNED_BASIC: u8 = 1;
const LEARNED_BODY: u8 = 2;

impl TokenClient {
    /// A client that proves its identity as [`AuthStyle::Auto`] says. An empty secret is none.
    pub fn new(
        http: HttpClient,
        endpoint: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: Option<Secret>,
    ) -> Self {
        let (endpoint, client_id) = (endpoint.into(), client_id.into());
        let client_secret = client_secret.filter(|secret| !secret.is_empty());
        Self { http, endpoint, client_id, client_secret, style: AuthStyle::Auto, learned: AtomicU8::new(0) }
    }

    /// The same client with a fixed style.
    #[must_use]
    pub fn with_auth_style(self, style: AuthStyle) -> Self {
        Self { style, ..self }
    }

    /// Redeems an authorization code; `redirect_uri` must be the one of the authorization request.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn exchange_code(
        &self,
        code: &str,
        redirect_uri: &str,
        code_verifier: Option<&str>,
    ) -> Result<TokenResponse, TokenError> {
        let mut form = vec![("grant_type", "authorization_code"), ("code", code)];
        if !redirect_uri.is_empty() {
            form.push(("redirect_uri", redirect_uri));
        }
        form.extend(code_verifier.map(|verifier| ("code_verifier", verifier)));
        self.request(form, &[code, code_verifier.unwrap_or_default()]).await
    }

    /// Redeems a refresh token. When the answer has none, the old one is in the result.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn refresh(&self, refresh_token: &Secret) -> Result<TokenResponse, TokenError> {
        let form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        let mut response = self.request(form, &[refresh_token.expose()]).await?;
        response.refresh_token.get_or_insert_with(|| refresh_token.clone());
        Ok(response)
    }

    /// The resource owner password grant.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn password(
        &self,
        username: &str,
        password: &Secret,
        scopes: &[String],
    ) -> Result<TokenResponse, TokenError> {
        let scope = scopes.join(" ");
        let mut form = vec![("grant_type", "password"), ("username", username), ("password", password.expose())];
        if !scope.is_empty() {
            form.push(("scope", &scope));
        }
        self.request(form, &[password.expose()]).await
    }

    /// Any other grant: posts `form` with the client's authentication. `secrets` are the values in it that no error may
    /// repeat.
    ///
    /// # Errors
    /// [`TokenError`]; where both styles of authentication were tried, that of the second.
    pub async fn request(&self, form: Vec<(&str, &str)>, secrets: &[&str]) -> Result<TokenResponse, TokenError> {
        let Some(secret) = &self.client_secret else {
            return match self.style {
                AuthStyle::Basic => self.send(&form, Style::Basic(""), secrets).await,
                AuthStyle::Auto | AuthStyle::Body => self.send(&form, Style::Body(None), secrets).await,
            };
        };
        let (basic, body) = (Style::Basic(secret.expose()), Style::Body(Some(secret.expose())));
        match (self.style, self.learned.load(Ordering::Relaxed)) {
            (AuthStyle::Basic, _) | (AuthStyle::Auto, LEARNED_BASIC) => self.send(&form, basic, secrets).await,
            (AuthStyle::Body, _) | (AuthStyle::Auto, LEARNED_BODY) => self.send(&form, body, secrets).await,
            (AuthStyle::Auto, _) => match self.send(&form, basic, secrets).await {
                Ok(response) => {
                    self.learned.store(LEARNED_BASIC, Ordering::Relaxed);
                    Ok(response)
                }
                Err(_) => {
                    let response = self.send(&form, body, secrets).await?;
                    self.learned.store(LEARNED_BODY, Ordering::Relaxed);
                    Ok(response)
                }
            },
        }
    }

    async fn send(
        &self,
        form: &[(&str, &str)],
        style: Style<'_>,
        secrets: &[&str],
    ) -> Result<TokenResponse, TokenError> {
        let mut form = form.to_vec();
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
        let mut secrets = secrets.to_vec();
        match style {
            Style::Basic(secret) => {
                let credentials = format!("{}:{}", form::escape(&self.client_id), form::escape(secret));
                headers.push(("authorization", format!("Basic {}", STANDARD.encode(credentials))));
                secrets.push(secret);
            }
            Style::Body(secret) => {
                form.push(("client_id", &self.client_id));
                form.extend(secret.map(|secret| ("client_secret", secret)));
                secrets.extend(secret);
            }
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = form::encode(&form);
        let response = self.http.request(http::Method::POST, &self.endpoint, &headers, Some(body.into())).await?;
        token_body::read(&response, &secrets)
    }
}

#[derive(Clone, Copy)]
enum Style<'a> {
    Basic(&'a str),
    Body(Option<&'a str>),
}
