//! The provider's configuration: Dex's file, unmodified (dex.md section 1).
//!
//! The flow: [`Document::parse`] (YAML with lines, limits) → [`RawConfig::read`] (types, unknown keys) →
//! [`RawConfig::validate`] (everything else) → [`Config`]. Between the second and the third step a program may change
//! what was written, as `portcullis up` does.
//!
//! No message ever contains a value that can be a secret.

mod appearance;
mod clients;
mod database;
mod document;
mod duration;
mod encryption;
mod etcd;
mod expand;
mod kubernetes;
mod lifetimes;
mod oauth2;
mod problem;
mod raw;
mod read;
mod reader;
pub(crate) mod rules;
mod scalar;
mod settings;
mod storage;
mod tree;
mod users;
mod validate;
mod web;

pub use document::{Document, MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES, Section};
pub use duration::{DurationError, parse_duration};
pub use problem::{ConfigErrors, Place, Problem, ProblemKind, Warning};
pub use raw::{
    RawClient, RawConfig, RawConnector, RawDatabase, RawEncryption, RawEncryptionKey, RawEtcd, RawExpiry, RawFrontend,
    RawGrpc, RawKubernetes, RawLogger, RawOAuth2, RawOwn, RawPassword, RawSigner, RawStorage, RawTelemetry, RawVault,
    RawWeb,
};
pub use reader::Field;
pub use settings::{
    Attempts, Client, ClientRemoteIp, Config, Encryption, EncryptionKey, Expiry, Frontend, Grant, Https, Issuer,
    KeySource, LocalUser, Logger, OAuth2, RefreshPolicy, Signer, Storage, Theme, TlsVersion, Web,
};
pub use users::{GUIDE_BAD_HASH, GUIDE_GOOD_HASH};
pub use validate::Env;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_encryption;
#[cfg(test)]
mod tests_etcd;
