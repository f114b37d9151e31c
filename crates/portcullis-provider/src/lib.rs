//! The OpenID Connect provider of Portcullis: a drop-in for Dex (its configuration file, endpoints and token shapes).
//!
//! Flow of a start: [`config`] reads and checks the file → [`Provider::new`] puts store, signing keys, pages and flows
//! together → [`Provider::handler`] answers a listener, [`Provider::start`] does the background work; [`serve`] does all
//! of it for `portcullis serve FILE`.
//! Flow of a sign-in: `authflow` (request → sealed cookie → password → consent → code) → `grants` (code → tokens) →
//! `tokens` (claims, signatures) → `signer`.
//!
//! It must never know Kubernetes or the authenticator, read the environment or the wall clock, store anything that can be
//! presented (codes, refresh tokens) or anything before somebody has proved who they are, and write a secret into a log, a
//! URL, an error or `Debug` output.

mod app;
mod authflow;
mod background;
pub mod config;
mod configured;
mod encryption;
mod endpoints;
mod front;
#[cfg(fuzzing)]
pub mod fuzzing;
mod grants;
mod http;
mod pages;
mod passwords;
mod provider;
mod router;
mod serve;
mod signer;
mod tokens;

pub use encryption::EncryptionError;
pub use pages::PagesError;
pub use passwords::{BcryptHash, HashError};
pub use provider::{Background, BackgroundError, Provider, ProviderDeps, ProviderError, ProviderOptions};
pub use serve::{ServeError, look_at_kernel, look_at_store, open_kernel, open_store, serve};
pub use signer::SignerError;

/// The id of the connector that stands for the local password database.
pub const LOCAL_CONNECTOR: &str = "local";

#[cfg(test)]
mod tests;
