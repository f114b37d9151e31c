//! The client side of OpenID Connect, for the kubectl plugin, for upstream connectors and for token verification.
//!
//! Flow of a sign-in: [`discover`] → [`authorization_url`] (browser) → [`TokenClient::exchange_code`] →
//! [`IdTokenVerifier::verify`] with a [`KeySource`]. Flow of a request at a cluster: [`JwksCache`] as [`KeySource`] alone.
//!
//! Nothing here opens a listener, a browser or a file. Requests go through a `portcullis_runtime::http_client::HttpClient`,
//! which bounds time, body size, redirects and reach.

mod authorization_url;
mod cache_control;
mod claims;
mod discovery;
mod form;
mod id_token;
mod jwks_cache;
mod jwks_fetch;
mod key_source;
mod token_body;
mod token_client;

pub use authorization_url::{AuthorizationRequest, InvalidEndpoint, authorization_url};
pub use cache_control::fresh_for;
pub use discovery::{DiscoveryError, DiscoveryOptions, discover, read_discovery};
pub use id_token::{Checks, IdTokenError, IdTokenVerifier, VerifiedIdToken};
pub use jwks_cache::{JwksCache, JwksOptions, JwksPolicy};
pub use jwks_fetch::JwksFetchError;
pub use key_source::{KeySource, KeySourceError, StaticKeys, Verification};
pub use token_client::{AuthStyle, TokenClient, TokenError};
