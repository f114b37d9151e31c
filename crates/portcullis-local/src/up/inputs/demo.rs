//! Whom `up` binds and signs in: the config's first local user, by the name that the API server's flags give them.

use portcullis_authn::OidcFlags;
use portcullis_oidc::vocabulary::subject;
use portcullis_provider::config::{Config, LocalUser};

use super::super::DEMO_PASSWORD;

/// Who is signed in and bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Demo {
    /// A local user.
    User {
        /// What is typed into the form.
        login: String,
        /// The user's name in the cluster.
        kubernetes_name: String,
    },
    /// A local user whose token lacks the claim that the API server asks for.
    NoClaim {
        /// What is typed into the form.
        login: String,
        /// The claim.
        claim: String,
        /// Why the token lacks it.
        why: String,
    },
    /// The provider has no local user.
    Nobody,
}

impl Demo {
    /// What is typed into the form.
    pub(crate) fn login(&self) -> Option<&str> {
        match self {
            Self::User { login, .. } | Self::NoClaim { login, .. } => Some(login),
            Self::Nobody => None,
        }
    }

    /// The first local user, and the name that the API server's flags give it.
    pub(super) fn of(config: &Config, flags: &OidcFlags) -> Self {
        config.passwords.first().map_or(Self::Nobody, |user| Self::of_user(user, flags))
    }

    /// A user, and the name that the API server's flags give it: an issuer may be part of it.
    pub(super) fn of_user(user: &LocalUser, flags: &OidcFlags) -> Self {
        let login = user.shown_email.clone();
        match claim(user, &flags.username_claim) {
            Ok(value) => Self::User { login, kubernetes_name: format!("{}{value}", flags.effective_username_prefix()) },
            Err(why) => Self::NoClaim { login, claim: flags.username_claim.clone(), why },
        }
    }
}

/// The value of a claim in the user's token, or why there is none. The plugin asks for the scopes email, groups and profile.
fn claim(user: &LocalUser, claim: &str) -> Result<String, String> {
    let login = &user.shown_email;
    let text = |value: &str, key: &str| {
        if value.is_empty() { Err(format!("the user {login} has no {key}")) } else { Ok(value.to_owned()) }
    };
    match claim {
        // Compat: kube-apiserver takes no e-mail address that is said to be unverified.
        "email" if !user.email_verified => {
            Err(format!("the e-mail address of {login} is not verified (emailVerified)"))
        }
        "email" => text(login, "email"),
        "sub" => Ok(subject::encode_sub(&user.user_id, portcullis_provider::LOCAL_CONNECTOR)),
        "name" => text(if user.name.is_empty() { &user.username } else { &user.name }, "name"),
        "preferred_username" => text(&user.preferred_username, "preferredUsername"),
        _ => Err("the provider puts no such claim into its tokens".to_owned()),
    }
}

/// Whether the user's password is the guide's, which is public. Takes as long as a sign-in: not for a thread that serves.
pub(crate) fn has_the_guides_password(user: &LocalUser) -> bool {
    user.hash.verify(DEMO_PASSWORD)
}
