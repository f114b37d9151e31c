//! Scopes: the standard ones, Dex's own, and the list in a `scope` parameter (RFC 6749 section 3.3).

/// Asks for an ID token; without it a request is not OpenID Connect.
pub const OPENID: &str = "openid";
/// Asks for `email` and `email_verified`.
pub const EMAIL: &str = "email";
/// Asks for `groups`.
pub const GROUPS: &str = "groups";
/// Asks for `name` and `preferred_username`.
pub const PROFILE: &str = "profile";
/// Asks for a refresh token.
pub const OFFLINE_ACCESS: &str = "offline_access";
/// Asks for `federated_claims` (Dex).
pub const FEDERATED_ID: &str = "federated:id";
/// What precedes a client id in the scope that asks for that client as an audience (Dex).
pub const CROSS_CLIENT_PREFIX: &str = "audience:server:client_id:";

/// The scopes of a parameter, in order, without empty ones. Repetition is kept: it is for the caller to judge.
pub fn split(parameter: &str) -> impl Iterator<Item = &str> {
    parameter.split(' ').filter(|scope| !scope.is_empty())
}

/// The client that a cross-client scope names.
pub fn cross_client(scope: &str) -> Option<&str> {
    scope.strip_prefix(CROSS_CLIENT_PREFIX).filter(|client| !client.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_split_at_single_spaces_only() {
        assert_eq!(split("openid  email a\tb ").collect::<Vec<_>>(), ["openid", "email", "a\tb"]);
        assert_eq!(split("").count(), 0);
    }

    #[test]
    fn cross_client_scopes_name_a_client() {
        assert_eq!(cross_client("audience:server:client_id:kubernetes"), Some("kubernetes"));
        assert_eq!(cross_client("audience:server:client_id:"), None);
        assert_eq!(cross_client("openid"), None);
    }
}
