//! The answer of an authenticator.

use std::sync::Arc;

use portcullis_kube::user_info::UserInfo;
use portcullis_runtime::Timestamp;

use crate::error::AuthnError;

/// What an authenticator makes of a token.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The token is good.
    User(VerifiedUser),
    /// Not a token of any configured issuer: another authenticator may know it.
    NoOpinion,
    /// A token of one of our issuers that is refused.
    Refused(AuthnError),
}

impl Verdict {
    /// The user, when there is one.
    pub fn user(&self) -> Option<&VerifiedUser> {
        match self {
            Self::User(user) => Some(user),
            Self::NoOpinion | Self::Refused(_) => None,
        }
    }

    /// The refusal, when it is one.
    pub fn refusal(&self) -> Option<&AuthnError> {
        match self {
            Self::Refused(error) => Some(error),
            Self::NoOpinion | Self::User(_) => None,
        }
    }
}

/// A user behind a token whose signature, issuer, audience and times have been checked.
///
/// Only [`crate::Authenticator`] makes one, so a function that takes it cannot be handed claims that nobody verified.
/// It does not hold `system:authenticated`, which the API server adds to every authenticated user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedUser(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    info: Arc<UserInfo>,
    issuer: Arc<str>,
    expires_at: Timestamp,
}

impl VerifiedUser {
    pub(crate) fn new(info: UserInfo, issuer: Arc<str>, expires_at: Timestamp) -> Self {
        Self(Arc::new(Inner { info: Arc::new(info), issuer, expires_at }))
    }

    #[cfg(test)]
    pub(crate) fn for_test(info: UserInfo) -> Self {
        Self::new(info, Arc::from("https://issuer.example"), Timestamp::MAX)
    }

    /// Name, uid, groups and extra.
    pub fn info(&self) -> &UserInfo {
        &self.0.info
    }

    /// As [`VerifiedUser::info`], shared.
    pub fn shared_info(&self) -> Arc<UserInfo> {
        Arc::clone(&self.0.info)
    }

    /// The URL of the configured issuer that vouches for the user.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// When the token ends, or the one that its groups came in, whichever is first.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }
}
