//! What clients, local users and connectors must be to be served, wherever they are written: in the configuration file, or
//! stored. The texts are Dex's; whoever uses them says where the object is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::passwords::{BcryptHash, HashError};

/// Grants that a connector may name. Compat: Dex `cmd/dex/config.go`.
const CONNECTOR_GRANTS: [&str; 6] = [
    "authorization_code",
    "refresh_token",
    "implicit",
    "password",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:token-exchange",
];

/// A client has a name.
pub(crate) const fn client_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() { Err("Name field is required for a client") } else { Ok(()) }
}

/// A client that is not public has a secret; otherwise it would accept anybody.
pub(crate) fn client_secret(id: &str, public: bool, has_secret: bool) -> Result<(), String> {
    match public || has_secret {
        true => Ok(()),
        false => Err(format!("Secret or SecretEnv field is required for client {id:?}")),
    }
}

/// How long refresh tokens live.
pub(crate) fn refresh_token_lifetime(id: &str, text: &str) -> Result<(), String> {
    match text {
        "" | "standalone" | "session" => Ok(()),
        other => {
            Err(format!("client {id:?}: invalid refresh token lifetime {other:?}: want \"standalone\" or \"session\""))
        }
    }
}

/// There are no second factors yet that a chain could name.
pub(crate) fn mfa_chain(id: &str, chain: &[String]) -> Result<(), String> {
    match chain.first() {
        None => Ok(()),
        Some(first) => Err(format!("client {id:?} references unknown MFA authenticator {first:?}")),
    }
}

/// Why a text is no password hash that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordHashError {
    /// There is none.
    #[error("no password hash provided")]
    Missing,
    /// It is no bcrypt hash.
    #[error("malformed bcrypt hash: {0}")]
    Malformed(HashError),
    /// Its cost is outside of Dex's bounds.
    #[error(transparent)]
    Cost(HashError),
}

/// Reads a password hash. Compat: Dex also takes base64 of a bcrypt hash, which is how its API used to hand them out.
pub(crate) fn password_hash(text: &str) -> Result<BcryptHash, PasswordHashError> {
    if text.is_empty() {
        return Err(PasswordHashError::Missing);
    }
    let decoded = || STANDARD.decode(text.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let parsed = BcryptHash::parse(text)
        .or_else(|error| decoded().ok_or(error).and_then(|text| BcryptHash::parse(&text).map_err(|_| error)));
    let hash = parsed.map_err(PasswordHashError::Malformed)?;
    hash.check_cost().map_err(PasswordHashError::Cost)?;
    Ok(hash)
}

/// A connector has id, type and name, and names grants that there are.
pub(crate) fn connector(id: &str, kind: &str, name: &str, grant_types: &[String]) -> Result<(), String> {
    if id.is_empty() || kind.is_empty() || name.is_empty() {
        return Err("ID, Type and Name fields are required for a connector".to_owned());
    }
    match grant_types.iter().find(|grant| !CONNECTOR_GRANTS.contains(&grant.as_str())) {
        None => Ok(()),
        Some(grant) => Err(format!("unknown grant type {grant:?} for connector {id:?}")),
    }
}
