//! TLS of the listeners: certificates that are reloaded when they change, protocol versions, client certificates.
//!
//! Flow: [`TlsIdentity`] holds the current certificate → [`server_config`] builds a configuration that asks it at every
//! handshake → `TlsIdentity::watch` reloads it when its files change or SIGHUP comes.
//!
//! A reload that fails must never take the certificate in use away (Compat: Dex 2.45 stores nothing then, and the next
//! handshake fails).

#[cfg(feature = "http1-server")]
pub(crate) mod client_auth;
#[cfg(feature = "http1-server")]
mod config;
#[cfg(feature = "http1-server")]
mod identity;

#[cfg(feature = "http1-server")]
pub use config::{ClientAuth, ServerTls, TlsVersion, TlsVersions, server_config};
#[cfg(feature = "http1-server")]
pub use identity::{TlsError, TlsIdentity};

/// Makes aws-lc-rs the process's cryptography for TLS. Every constructor here calls it; calling it again changes
/// nothing, and neither does a provider that the program installed itself.
pub fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race against another thread means that a provider is installed: what was wanted.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}
