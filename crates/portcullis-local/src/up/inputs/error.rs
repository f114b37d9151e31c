//! What can be wrong with what the user gave: each with its place and the fix.

use std::io;
use std::path::PathBuf;

use portcullis_platform::kind::KindConfigError;
use portcullis_provider::config::{ConfigErrors, ProblemKind};

use crate::ports::Obstacle;

/// The largest input file. The guide's has 4 KiB.
pub(crate) const MAX_FILE: u64 = 1024 * 1024;

/// Why the input cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is too large.
    #[error("{0} is larger than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// The file is not text.
    #[error("{0} is not UTF-8 text")]
    NotText(PathBuf),
    /// The provider's configuration is wrong.
    #[error("{0}")]
    Config(ConfigErrors),
    /// The values hold no provider configuration.
    #[error("{0}: no dex.config in it")]
    NoDexConfig(PathBuf),
    /// An address of the provider's that is none.
    #[error("{place}: {value:?} is no address with a port")]
    Address {
        /// Where it is.
        place: String,
        /// What it says.
        value: String,
    },
    /// The cluster's configuration cannot be read.
    #[error(transparent)]
    Kind(#[from] KindConfigError),
    /// The API server's flags in it are wrong.
    #[error("{place}: {reason}")]
    Cluster {
        /// Where they are.
        place: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The cluster's name in it cannot be used.
    #[error(
        "{place}: the name {name:?} is not usable: use 1 to 40 of a-z, 0-9 and '-', with a letter or digit at both ends"
    )]
    ClusterName {
        /// Where it is.
        place: String,
        /// The name.
        name: String,
    },
    /// `--keep-issuer`, and the issuer is another.
    #[error("{place}: the issuer is {found:?}, not {local}, and --keep-issuer is given")]
    Issuer {
        /// Where it is.
        place: String,
        /// What it is; empty when it is missing.
        found: String,
        /// What it would become.
        local: String,
    },
    /// The cluster asks for a client that the provider does not have.
    #[error("{place}: no client with the id {id:?}, which the API server's oidc-client-id asks for")]
    NoClient {
        /// The client.
        id: String,
        /// Where it should be.
        place: String,
    },
    /// None of the client's redirect URIs can be used by the plugin.
    #[error("{place}: the sign-in plugin cannot listen on any of the client's redirect URIs{}", busy(.held))]
    CallbackPort {
        /// The client's place.
        place: String,
        /// Ports that cannot be had, and why.
        held: Vec<(u16, Obstacle)>,
        /// The redirect URI to add.
        add: String,
    },
    /// Unattended, and nobody in the config.
    #[error("nobody to sign in: {0} has no local user")]
    NobodyToSignIn(String),
    /// Unattended, and the API server would take the demo user's token for nobody's.
    #[error("{place}: the API server asks for the claim {claim:?}, and {why}")]
    NoClaim {
        /// Where the claim is asked for.
        place: String,
        /// The claim.
        claim: String,
        /// Why the token does not have it.
        why: String,
    },
}

/// `: port 8000 is held by …`, for each.
pub(super) fn busy(held: &[(u16, Obstacle)]) -> String {
    held.iter().map(|(port, obstacle)| format!(": port {port} {obstacle}")).collect()
}

impl InputError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(errors) => {
                let hints = errors.hints().join("; ");
                let is_syntax = errors.problems().iter().any(|problem| problem.kind == ProblemKind::Syntax);
                Some(match (hints.is_empty(), is_syntax) {
                    (false, _) => hints,
                    (true, true) => "the file must be YAML as helm reads it".to_owned(),
                    (true, false) => "correct the value there".to_owned(),
                })
            }
            Self::Read { flag, .. } => Some(format!("give {flag} the path of a file that this user can read")),
            Self::TooLarge(_) => Some("is this the right file?".to_owned()),
            Self::NotText(_) => Some("save it as UTF-8".to_owned()),
            Self::NoDexConfig(_) => {
                Some("give the chart's values file, with the provider's configuration under dex.config".to_owned())
            }
            Self::Address { .. } => Some("write an address such as 127.0.0.1:5556".to_owned()),
            Self::Kind(error) => Some(error.hint().to_owned()),
            Self::Cluster { hint, .. } => Some(hint.clone()),
            Self::ClusterName { .. } => Some("choose another with --name".to_owned()),
            Self::Issuer { .. } => Some(
                "leave --keep-issuer out: the local issuer then takes its place in both files, for this run".to_owned(),
            ),
            Self::NoClient { .. } => {
                Some("make staticClients[].id and the kubeadm patch's oidc-client-id the same".to_owned())
            }
            Self::CallbackPort { add, held, .. } => {
                let or = if held.is_empty() { "" } else { ", or end the process that holds the port" };
                Some(format!("add {add} to the client's redirectURIs{or}"))
            }
            Self::NobodyToSignIn(_) => {
                Some("add a user to staticPasswords, and set enablePasswordDB to true".to_owned())
            }
            Self::NoClaim { .. } => {
                Some("give the user what the claim is made of in staticPasswords, or ask for another claim with oidc-username-claim: email, sub, name and preferred_username are there".to_owned())
            }
        }
    }
}
