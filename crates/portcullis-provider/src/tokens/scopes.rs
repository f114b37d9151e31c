//! Scopes of a request: which are known, and which audiences they ask for.
//!
//! Compat: Dex `server/oauth2.go`; texts are interface.

use portcullis_oidc::go_quote_list;
use portcullis_oidc::vocabulary::scope;
use portcullis_storage::{Store, StoreError};

/// Most scopes of one request.
const MAX_SCOPES: usize = 50;

/// Why scopes are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScopeError {
    /// The client: a text for it.
    #[error("{0}")]
    Invalid(String),
    /// The store.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Checks the scopes of a request by `client_id`, in Dex's order: openid, unknown ones, clients that do not trust it.
pub(crate) async fn check_scopes(store: &Store, client_id: &str, scopes: &[String]) -> Result<(), ScopeError> {
    if scopes.len() > MAX_SCOPES {
        return Err(ScopeError::Invalid("Too many scopes.".to_owned()));
    }
    let known =
        [scope::OPENID, scope::OFFLINE_ACCESS, scope::EMAIL, scope::PROFILE, scope::GROUPS, scope::FEDERATED_ID];
    let mut unknown = Vec::new();
    let mut untrusted = Vec::new();
    for name in scopes {
        match scope::cross_client(name) {
            _ if known.contains(&name.as_str()) => {}
            None => unknown.push(name.clone()),
            Some(peer) => {
                if !trusts(store, client_id, peer).await? {
                    untrusted.push(name.clone());
                }
            }
        }
    }
    if !scopes.iter().any(|s| s == scope::OPENID) {
        return Err(ScopeError::Invalid("Missing required scope(s) [\"openid\"].".to_owned()));
    }
    if !unknown.is_empty() {
        return Err(ScopeError::Invalid(format!("Unrecognized scope(s) {}", go_quote_list(&unknown))));
    }
    if !untrusted.is_empty() {
        return Err(ScopeError::Invalid(format!("Client can't request scope(s) {}", go_quote_list(&untrusted))));
    }
    Ok(())
}

/// Checks that the peers in granted scopes still trust `client_id`: trust may have been withdrawn since the sign-in.
///
/// Compat: Dex checks it whenever it issues a token.
pub(crate) async fn check_peers(store: &Store, client_id: &str, scopes: &[String]) -> Result<(), ScopeError> {
    for (name, peer) in scopes.iter().filter_map(|s| Some((s, scope::cross_client(s)?))) {
        if !trusts(store, client_id, peer).await? {
            return Err(ScopeError::Invalid(format!(
                "Client can't request scope(s) {}",
                go_quote_list(std::slice::from_ref(name))
            )));
        }
    }
    Ok(())
}

/// Whether `peer` lets `client_id` ask for tokens for it.
async fn trusts(store: &Store, client_id: &str, peer: &str) -> Result<bool, StoreError> {
    if peer == client_id {
        return Ok(true);
    }
    let peer = store.clients().get(peer).await?;
    Ok(peer.is_some_and(|p| p.trusted_peers.iter().any(|t| t == client_id)))
}

/// `aud`: the peers in the order of the scopes, then the client itself unless it is among them.
pub(crate) fn audience(client_id: &str, scopes: &[String]) -> Vec<String> {
    let mut audience: Vec<String> = Vec::new();
    for peer in scopes.iter().filter_map(|s| scope::cross_client(s)) {
        if !audience.iter().any(|a| a == peer) {
            audience.push(peer.to_owned());
        }
    }
    if !audience.iter().any(|a| a == client_id) {
        audience.push(client_id.to_owned());
    }
    audience
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_itself_comes_last_unless_it_was_asked_for() {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        for (scopes, want) in [
            (&["openid"][..], &["client-id"][..]),
            (&["openid", "audience:server:client_id:aa", "audience:server:client_id:bb"], &["aa", "bb", "client-id"]),
            (&["audience:server:client_id:client-id", "audience:server:client_id:aa"], &["client-id", "aa"]),
            (&["audience:server:client_id:aa", "audience:server:client_id:aa"], &["aa", "client-id"]),
        ] {
            assert_eq!(audience("client-id", &own(scopes)), own(want));
        }
    }
}
