//! Error codes of OAuth 2.0 and OpenID Connect.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A registered error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

error_codes! {
    /// RFC 6749 sections 4.1.2.1, 5.2: a parameter is missing, repeated or malformed.
    InvalidRequest = "invalid_request",
    /// RFC 6749: the client may not use this grant or response type.
    UnauthorizedClient = "unauthorized_client",
    /// RFC 6749 section 4.1.2.1: the user or the server refused.
    AccessDenied = "access_denied",
    /// RFC 6749 section 4.1.2.1: the response type is not offered.
    UnsupportedResponseType = "unsupported_response_type",
    /// RFC 6749: a scope is unknown, malformed or more than was granted.
    InvalidScope = "invalid_scope",
    /// RFC 6749 section 4.1.2.1: stands for a 500 where only a redirect is possible.
    ServerError = "server_error",
    /// RFC 6749 section 4.1.2.1: stands for a 503 where only a redirect is possible.
    TemporarilyUnavailable = "temporarily_unavailable",
    /// RFC 6749 section 5.2: the client is unknown or did not prove its identity.
    InvalidClient = "invalid_client",
    /// RFC 6749 section 5.2: the code, refresh token or password is wrong, used, expired or another client's.
    InvalidGrant = "invalid_grant",
    /// RFC 6749 section 5.2: the grant type is not offered.
    UnsupportedGrantType = "unsupported_grant_type",
    /// RFC 6750 section 3.1: the bearer token is wrong, expired or revoked.
    InvalidToken = "invalid_token",
    /// RFC 6750 section 3.1: the bearer token lacks a scope.
    InsufficientScope = "insufficient_scope",
    /// RFC 8628 section 3.5: the user has not finished yet.
    AuthorizationPending = "authorization_pending",
    /// RFC 8628 section 3.5: poll five seconds slower from now on.
    SlowDown = "slow_down",
    /// RFC 8628 section 3.5: the device code is over.
    ExpiredToken = "expired_token",
    /// RFC 8693 section 2.2.2: tokens for this target are not issued.
    InvalidTarget = "invalid_target",
    /// RFC 7009 section 2.2.1: this kind of token cannot be revoked.
    UnsupportedTokenType = "unsupported_token_type",
    /// OpenID Connect Core 3.1.2.6: the user would have to do something, and `prompt=none` forbids it.
    InteractionRequired = "interaction_required",
    /// OpenID Connect Core 3.1.2.6: the user would have to sign in.
    LoginRequired = "login_required",
    /// OpenID Connect Core 3.1.2.6: the user would have to choose an account.
    AccountSelectionRequired = "account_selection_required",
    /// OpenID Connect Core 3.1.2.6: the user would have to consent.
    ConsentRequired = "consent_required",
    /// OpenID Connect Core 3.1.2.6: the `request_uri` brings no valid request.
    InvalidRequestUri = "invalid_request_uri",
    /// OpenID Connect Core 3.1.2.6: the request object is invalid.
    InvalidRequestObject = "invalid_request_object",
    /// OpenID Connect Core 3.1.2.6: request objects are not supported.
    RequestNotSupported = "request_not_supported",
    /// OpenID Connect Core 3.1.2.6: `request_uri` is not supported.
    RequestUriNotSupported = "request_uri_not_supported",
    /// OpenID Connect Core 3.1.2.6: dynamic registration is not supported.
    RegistrationNotSupported = "registration_not_supported",
}

impl ErrorCode {
    /// The code with exactly this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The JSON body of an error at the token endpoint (RFC 6749 section 5.2), which other endpoints share. An empty
/// description is left out, as Dex does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenErrorBody {
    /// The error code.
    pub error: Cow<'static, str>,
    /// A sentence for a developer.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub error_description: Cow<'static, str>,
}

impl TokenErrorBody {
    /// A body with a registered code.
    pub fn new(error: ErrorCode, description: impl Into<Cow<'static, str>>) -> Self {
        Self { error: Cow::Borrowed(error.as_str()), error_description: description.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_as_itself() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.as_str()), Some(*code));
        }
        assert_eq!(ErrorCode::from_name("Invalid_Request"), None);
    }

    #[test]
    fn an_empty_description_is_left_out() {
        let json = |body| serde_json::to_string(&body).unwrap();
        assert_eq!(json(TokenErrorBody::new(ErrorCode::InvalidGrant, "")), r#"{"error":"invalid_grant"}"#);
        let full = r#"{"error":"slow_down","error_description":"later"}"#;
        assert_eq!(json(TokenErrorBody::new(ErrorCode::SlowDown, "later")), full);
        assert_eq!(
            serde_json::from_str::<TokenErrorBody>(full).unwrap(),
            TokenErrorBody::new(ErrorCode::SlowDown, "later")
        );
    }
}
