//! Everything that can end `up`, with what the user can do about it.

use std::path::PathBuf;

use portcullis_apiserver::StartError;
use portcullis_provider::ServeError;

use crate::ca::CaError;
use crate::kubeconfig::KubeconfigError;
use crate::state::StateError;
use crate::system_trust::TrustError;

use super::control::ControlError;
use super::external::IssuerError;
use super::inputs::InputError;
use super::pods::PodsError;
use super::sign_in::SignInError;

/// Why `up` ended.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// What the user gave.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The user's own provider.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The API server's `--oidc-*` flags.
    #[error(transparent)]
    Flags(#[from] portcullis_authn::FlagError),
    /// Whom the API server is to trust.
    #[error(transparent)]
    Authentication(#[from] portcullis_authn::ReloadError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] portcullis_apiserver::AuditError),
    /// Certificates.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The system's trust store.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A kubeconfig.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The sign-in.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// The table.
    #[error("cannot list the pods")]
    Pods {
        /// Why there is none.
        source: PodsError,
        /// The servers' log.
        log: PathBuf,
    },
    /// Stopping was asked for before the table.
    #[error("interrupted before the table was printed")]
    Interrupted,
    /// A part of this process broke.
    #[error("a step of `up` broke off")]
    Broken(#[source] tokio::task::JoinError),
    /// What an earlier `up` left behind could not be ended.
    #[error("the sign-in of an earlier `up` still waits (process {0}), and does not end")]
    LeftOver(u32),
    /// No port.
    #[error("cannot listen on port {port} of this machine")]
    Listen {
        /// The port that was wanted.
        port: u16,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The guide's kubeconfig has no place.
    #[error("HOME is not set, so there is no place for the kubeconfig")]
    NoHome,
    /// The one that runs was not reached.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The one that runs refused a change.
    #[error("{text}")]
    Refused {
        /// Why.
        text: String,
        /// What the user can do about it.
        hint: Option<String>,
    },
    /// The one that runs is of another version.
    #[error("the one that runs is Portcullis {ours}, and this is {theirs}")]
    OtherVersion {
        /// Of the running program.
        ours: &'static str,
        /// Of the one that asks.
        theirs: String,
    },
    /// A change of the issuer, which everything else hangs on.
    #[error("the issuer would become {wanted}, and {running} runs")]
    OtherIssuer {
        /// The issuer that is served.
        running: String,
        /// What the files ask for.
        wanted: String,
    },
    /// `--issuer` for one that runs with a provider of its own.
    #[error("the one that runs has a provider of its own, {0}")]
    HasItsOwn(String),
    /// No `--issuer` for one that trusts the user's provider.
    #[error("the one that runs trusts {0}, and starts no provider of its own")]
    TrustsAnother(String),
    /// The provider has ended, and has not been started again yet.
    #[error("the provider does not run at this moment")]
    ProviderDown,
    /// The API server does not find the issuer.
    #[error("the API server does not find {0} with the changed flags")]
    IssuerNotFound(String),
    /// TLS.
    #[error("cannot use the certificate that was just made")]
    Tls(#[from] portcullis_runtime::tls::TlsError),
    /// The provider did not start.
    #[error("cannot start the provider")]
    Provider(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The API server did not start.
    #[error("cannot start the API server")]
    ApiServer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl UpError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::State(error) => error.hint(),
            Self::Input(error) => error.hint(),
            Self::Audit(error) => error.hint(),
            Self::Ca(error) => error.hint(),
            Self::Trust(error) => Some(error.hint()),
            Self::SignIn(error) => error.hint(),
            Self::Kubeconfig(error) => error.hint(),
            Self::Pods { source, log } => source.hint(log),
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("choose a port from 1024 on, with --port and --issuer-port".to_owned())
            }
            Self::LeftOver(pid) => Some(format!("end it with `kill -9 {pid}`, then try again")),
            Self::Provider(error) => error.downcast_ref::<ServeError>().and_then(ServeError::hint).map(str::to_owned),
            Self::NoHome => Some("name a file with --kubeconfig".to_owned()),
            Self::Control(error) => Some(error.hint()),
            Self::Refused { hint, .. } => hint.clone(),
            Self::Issuer(error) => error.hint(),
            Self::TrustsAnother(_) => Some(
                "give --issuer and the other flags again to change it, or stop it first: Ctrl-C in its terminal"
                    .to_owned(),
            ),
            Self::OtherVersion { .. } | Self::OtherIssuer { .. } | Self::HasItsOwn(_) => Some(
                "stop the one that runs, then start it again: Ctrl-C in its terminal, then this command".to_owned(),
            ),
            Self::ProviderDown => Some("it comes back by itself: try again".to_owned()),
            Self::Flags(_)
            | Self::IssuerNotFound(_)
            | Self::Listen { .. }
            | Self::Interrupted
            | Self::Broken(_)
            | Self::Tls(_) => None,
            Self::Authentication(error) => error.hint(),
            Self::ApiServer(error) => match error.downcast_ref::<StartError>() {
                Some(StartError::Kept(error)) => error.hint(),
                _ => None,
            },
        }
    }
}
