//! OpenID Connect for Portcullis: the protocol's vocabulary, and the client side.
//!
//! - [`vocabulary`]: error codes, scopes, grants, response types, prompts, PKCE, the token response and Dex's `sub`. Pure.
//! - [`DiscoveryDocument`]: what an issuer says about itself.
//! - [`client`]: discovery, key sets with a cache, the authorization URL, the token endpoint, ID token verification.
//!
//! Time, randomness and the network come in as values of `portcullis-runtime`. The crate knows neither Kubernetes nor
//! our own provider: to the client side every issuer is a stranger, so every text and body that it sends is bounded, and
//! no error or `Debug` output carries a secret.

#![warn(clippy::missing_errors_doc)]

pub mod client;
mod discovery_document;
mod json;
mod quote;
pub mod vocabulary;

pub use discovery_document::DiscoveryDocument;
pub use quote::{go_quote, go_quote_list};
