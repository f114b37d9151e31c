//! A provider that has been discovered, with everything that a grant asks of it.
//!
//! The protocol itself is `portcullis-oidc`'s; here it is put together the way kubelogin does: PKCE by what the provider
//! announces, the ID token verified after every grant, the access token too where it is the one that Kubernetes gets.
//!
//! Every request has a time limit. No token leaves this module unverified.

use std::time::Duration;

use portcullis_oidc::DiscoveryDocument;
use portcullis_oidc::client::{
    AuthorizationRequest as UrlParts, Checks, DiscoveryError, DiscoveryOptions, IdTokenVerifier, JwksCache,
    JwksOptions, TokenClient, authorization_url, discover,
};
use portcullis_oidc::vocabulary::{TokenResponse, pkce};
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, HttpClientError, ProxyFromEnv};
use portcullis_runtime::{Clock, Rng, Secret};
use thiserror::Error;
use url::{Host, Url};

use crate::cache::{PkceOption, Renegotiation};
use crate::console::Console;
use crate::error::{CANCELED, LoginError};
use crate::jwt::Glance;
use crate::options::LoginOptions;
use crate::paths::state_root;
use crate::trust;
use crate::world::Env;

/// From the start of a request to the end of its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// For name resolution, connection and TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of randomness in state and nonce.
const RANDOM_BYTES: usize = 32;

/// A discovered provider.
pub(crate) struct Session<'a> {
    /// The login's options.
    pub(crate) options: &'a LoginOptions,
    authorization_endpoint: String,
    s256: bool,
    tokens: TokenClient,
    keys: JwksCache,
    verifier: IdTokenVerifier,
}

/// One request to the authorization endpoint.
pub(crate) struct AuthorizationRequest {
    /// Where to send the browser.
    pub(crate) url: String,
    /// Comes back with the answer.
    pub(crate) state: String,
    /// Comes back in the ID token.
    pub(crate) nonce: String,
    /// PKCE verifier, when PKCE is used.
    pub(crate) verifier: Option<String>,
}

/// A code to redeem.
pub(crate) struct Exchange<'a> {
    /// The code.
    pub(crate) code: &'a str,
    /// The redirect URI of the request.
    pub(crate) redirect_uri: &'a str,
    /// The request that brought it.
    pub(crate) request: &'a AuthorizationRequest,
}

/// Verified tokens.
pub(crate) struct Tokens {
    /// What Kubernetes gets: the ID token, or the access token when asked for.
    pub(crate) token: String,
    /// Refresh token, empty when there is none.
    pub(crate) refresh_token: String,
    /// A look into `token`.
    pub(crate) glance: Glance,
}

/// Why there are no verified tokens.
#[derive(Debug, Error)]
pub(crate) enum ExchangeError {
    /// The token endpoint gave none.
    #[error("{0}")]
    Token(String),
    /// What it gave is not good.
    #[error("{0}")]
    Verify(String),
}

/// Whether a URL names this machine.
fn is_local(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

impl<'a> Session<'a> {
    /// Builds the HTTP client and discovers the provider.
    pub(crate) async fn connect(
        options: &'a LoginOptions,
        env: &Env,
        console: &mut Console<'_>,
    ) -> Result<Self, LoginError> {
        console.log(1, "initializing an OpenID Connect client");
        if options.tls.renegotiation != Renegotiation::Never {
            console.say("warning: TLS renegotiation is not supported; the flag is ignored");
        }
        let roots = trust::roots(&options.tls, &options.issuer_url, state_root(env).as_deref());
        let config = HttpClientConfig {
            roots: roots.map_err(LoginError::Trust)?,
            insecure_skip_verify: options.tls.skip_verify,
            timeout: REQUEST_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            proxy: ProxyFromEnv::read(|name| env.var(name).map(str::to_owned)),
            user_agent: format!("portcullis/{}", env.version),
            headers: options
                .request_headers
                .iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            ..HttpClientConfig::default()
        };
        let http = HttpClient::new(config).map_err(|error| LoginError::Client(error.to_string()))?;
        let discovery = DiscoveryOptions::default();
        let document = env.shutdown.unless(discover(&http, &options.issuer_url, &discovery)).await;
        let document = document.ok_or_else(|| LoginError::Discovery(CANCELED.to_owned()))?.map_err(|error| {
            let untrusted =
                |error: &HttpClientError| matches!(error, HttpClientError::Tls { unknown_issuer: true, .. });
            match &error {
                DiscoveryError::Http(inner) if untrusted(inner) => LoginError::Untrusted(error.to_string()),
                DiscoveryError::Http(HttpClientError::Connect { .. } | HttpClientError::Timeout { .. }) => {
                    LoginError::Unreachable { local: is_local(&options.issuer_url), reason: error.to_string() }
                }
                _ => LoginError::Discovery(error.to_string()),
            }
        })?;
        Self::of(options, &document, http, &env.clock)
    }

    fn of(
        options: &'a LoginOptions,
        document: &DiscoveryDocument,
        http: HttpClient,
        clock: &Clock,
    ) -> Result<Self, LoginError> {
        let lacks = |name: &str| LoginError::Discovery(format!("the provider's discovery document has no {name}"));
        let token_endpoint = document.token_endpoint.clone().ok_or_else(|| lacks("token_endpoint"))?;
        let jwks_uri = document.jwks_uri.clone().ok_or_else(|| lacks("jwks_uri"))?;
        let s256 = match options.pkce {
            PkceOption::Auto => document.supports_s256(),
            PkceOption::No => false,
            PkceOption::S256 => true,
        };
        Ok(Self {
            options,
            authorization_endpoint: document.authorization_endpoint.clone().unwrap_or_default(),
            s256,
            tokens: TokenClient::new(
                http.clone(),
                token_endpoint,
                options.client_id.clone(),
                Some(options.client_secret.clone()),
            ),
            keys: JwksCache::new(http, jwks_uri, JwksOptions::limited(), clock.clone()),
            verifier: IdTokenVerifier::new(document, options.client_id.clone(), clock.clone()),
        })
    }

    /// Builds the request to the authorization endpoint, with fresh state, nonce and PKCE verifier.
    pub(crate) fn authorization_request(&self, redirect_uri: &str, rng: &Rng) -> Result<AuthorizationRequest, String> {
        let verifier = self.s256.then(|| pkce::new_verifier(rng));
        let challenge = verifier.as_deref().map(pkce::challenge_s256);
        let (state, nonce) = (rng.token(RANDOM_BYTES), rng.token(RANDOM_BYTES));
        let extra: Vec<_> =
            self.options.extra_params.iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
        let url = authorization_url(&UrlParts {
            endpoint: &self.authorization_endpoint,
            client_id: &self.options.client_id,
            redirect_uri,
            scopes: &self.options.scopes(),
            state: &state,
            nonce: &nonce,
            code_challenge: challenge.as_deref(),
            extra: &extra,
        })
        .map_err(|error| error.to_string())?;
        Ok(AuthorizationRequest { url, state, nonce, verifier })
    }

    /// Redeems a code and verifies what comes.
    pub(crate) async fn exchange(&self, exchange: Exchange<'_>) -> Result<Tokens, ExchangeError> {
        let request = exchange.request;
        let response =
            self.tokens.exchange_code(exchange.code, exchange.redirect_uri, request.verifier.as_deref()).await;
        let response = response.map_err(|error| ExchangeError::Token(error.to_string()))?;
        self.verified(response, Some(&request.nonce)).await
    }

    /// Redeems a refresh token and verifies what comes. Compat: no scope is sent unless `--oidc-refresh-with-scope`.
    pub(crate) async fn refresh(&self, refresh_token: &str) -> Result<Tokens, ExchangeError> {
        let response = if self.options.refresh_with_scope {
            let scope = self.options.scopes().join(" ");
            let form =
                vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token), ("scope", scope.as_str())];
            self.tokens.request(form, &[refresh_token]).await.map(|mut response| {
                response.refresh_token.get_or_insert_with(|| Secret::new(refresh_token));
                response
            })
        } else {
            self.tokens.refresh(&Secret::new(refresh_token)).await
        };
        self.verified(response.map_err(|error| ExchangeError::Token(error.to_string()))?, None).await
    }

    /// The password grant.
    pub(crate) async fn password(&self, username: &str, password: &Secret) -> Result<Tokens, ExchangeError> {
        let response = self.tokens.password(username, password, &self.options.scopes()).await;
        self.verified(response.map_err(|error| ExchangeError::Token(error.to_string()))?, None).await
    }

    /// Compat: an ID token is needed unless the access token is wanted; if there, it is verified in both cases, with the
    /// nonce. The access token is for whatever audience the user asked.
    async fn verified(&self, response: TokenResponse, nonce: Option<&str>) -> Result<Tokens, ExchangeError> {
        let verify = |what: &str, error: &dyn std::fmt::Display| {
            ExchangeError::Verify(format!("could not verify the {what}: {error}"))
        };
        let id_token = response.id_token.filter(|token| !token.is_empty());
        if let Some(id_token) = &id_token {
            let checks = Checks { nonce, access_token: Some(response.access_token.expose()) };
            self.verifier.verify(id_token.expose(), &self.keys, checks).await.map_err(|error| match &error {
                // Compat: the only check that kubelogin makes itself, outside go-oidc.
                portcullis_oidc::client::IdTokenError::Nonce { .. } => ExchangeError::Verify(error.to_string()),
                _ => verify("ID token", &error),
            })?;
        }
        let token = if self.options.use_access_token {
            let verifier = self.verifier.clone().for_any_audience();
            let access_token = response.access_token;
            verifier
                .verify(access_token.expose(), &self.keys, Checks::default())
                .await
                .map_err(|error| verify("access token", &error))?;
            access_token
        } else {
            id_token.ok_or_else(|| ExchangeError::Verify("id_token is missing in the token response".to_owned()))?
        };
        let glance = Glance::at(token.expose())
            .map_err(|error| ExchangeError::Verify(format!("you got an invalid token: {error}")))?;
        Ok(Tokens {
            token: token.expose().to_owned(),
            refresh_token: response.refresh_token.map(|token| token.expose().to_owned()).unwrap_or_default(),
            glance,
        })
    }
}
