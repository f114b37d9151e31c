//! Why nothing can be said of a token: each with its place and the fix. What is wrong with the token itself is a verdict.

use std::io;
use std::path::PathBuf;

use portcullis_kube::kubeconfig::KubeconfigError;
use portcullis_platform::kind::KindConfigError;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The flag that names it, or where it is named.
        named_by: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file or stream is too large.
    #[error("{path} is larger than {limit} bytes")]
    TooLarge {
        /// The file, or what it is.
        path: String,
        /// The most that is read.
        limit: u64,
    },
    /// A file is no text.
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    /// There is nothing in the file.
    #[error("there is no token in {0}")]
    NoToken(String),
    /// JSON without a token where one is looked for.
    #[error("{0} is JSON, and neither an ExecCredential nor a token response with an ID token")]
    NoTokenInJson(String),
    /// The kubeconfig cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// Its user has no plugin.
    #[error("{file}: the user {user:?} has no exec plugin and no token")]
    NoPlugin {
        /// The kubeconfig.
        file: String,
        /// The user.
        user: String,
    },
    /// The plugin could not be run, or failed.
    #[error("the exec plugin {command:?} {reason}")]
    Plugin {
        /// The program.
        command: String,
        /// What became of it.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A platform's file cannot be used.
    #[error(transparent)]
    Platform(#[from] KindConfigError),
    /// The file names another one that says whom the API server trusts.
    #[error("{place}: the API server reads {path}, which is a file of its own")]
    NamesFile {
        /// Where it is named.
        place: String,
        /// The file, as the API server sees it.
        path: String,
    },
    /// Nothing says whom the API server trusts.
    #[error("{0}: no oidc-* flags and no authentication-config in it")]
    NothingTrusted(String),
    /// A flag that kube-apiserver does not know or cannot read.
    #[error("{place}: {reason}")]
    Flag {
        /// Where it is.
        place: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The certificates of `--ca` cannot be used.
    #[error("--ca {path}: {reason}")]
    Ca {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CheckError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { named_by, .. } if named_by.contains("oidc-ca-file") => {
                "the file is on the cluster's machine: copy it here and name it with --ca, or give the keys with --jwks"
                    .to_owned()
            }
            Self::Read { named_by, .. } => format!("give {named_by} the path of a file that this user can read"),
            Self::TooLarge { .. } => "is this the right file?".to_owned(),
            Self::NotText(_) => "save it as UTF-8".to_owned(),
            Self::NoToken(_) => {
                "write the ID token into it, as kubectl's plugin gets it: three parts with dots between".to_owned()
            }
            Self::NoTokenInJson(_) => {
                "the token is expected at status.token or id_token; or write the token alone into the file".to_owned()
            }
            Self::Kubeconfig(error) => error.hint(),
            Self::NoPlugin { .. } => {
                "name another user as KUBECONFIG:USER, or give the token with --token-file".to_owned()
            }
            Self::Plugin { hint, .. } | Self::Flag { hint, .. } => hint.clone(),
            Self::Platform(KindConfigError::Yaml(error)) => error
                .hint()
                .unwrap_or("the file must be YAML as its platform reads it; the line above is where reading ended")
                .to_owned(),
            Self::Platform(error) => error.hint().to_owned(),
            Self::NamesFile { .. } => {
                "copy that file from the cluster's machine and give it with --authentication-config".to_owned()
            }
            Self::NothingTrusted(_) => {
                "this API server trusts no OIDC issuer; add the flags, or give the right file".to_owned()
            }
            Self::Ca { .. } => "give a PEM file with the certificate of the authority, not of the server".to_owned(),
        })
    }
}
