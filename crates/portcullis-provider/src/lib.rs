//! The OpenID Connect provider, a drop-in for Dex.

pub mod config;
mod passwords;

pub use passwords::{BcryptHash, HashError};

/// The id of the connector that stands for the local password database.
pub const LOCAL_CONNECTOR: &str = "local";
