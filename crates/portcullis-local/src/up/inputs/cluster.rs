//! The kind cluster configuration: the API server's flags, the cluster's name and the port.

use std::path::Path;

use portcullis_authn::{ConfigError, FLAG_NAMES, FlagError, OidcFlags};
use portcullis_platform::kind::{ExtraArg, KindConfig, Placed};
use portcullis_platform::{Place, nearest};

use crate::state::StateDir;
use crate::steps::Steps;

use super::error::InputError;
use super::{Asked, Text};

/// The API server's flags when no file is given: the guide's.
const DEFAULT_FLAGS: &[(&str, &str)] = &[
    ("oidc-client-id", "kubernetes"),
    ("oidc-username-claim", "email"),
    ("oidc-username-prefix", ""),
    ("oidc-groups-claim", "groups"),
];
/// The name and the port when neither a flag nor the file says them: kind's guide, kube-apiserver.
pub(super) const DEFAULT_NAME: &str = "dev";
pub(super) const DEFAULT_PORT: u16 = 6443;

/// What the file, the flags and the defaults amount to.
pub(super) struct Cluster {
    pub(super) flags: OidcFlags,
    /// The cluster's name.
    pub(super) name: String,
    /// The API server's port; 0 takes a free one.
    pub(super) port: u16,
    /// For error texts.
    source: String,
    arguments: Vec<ExtraArg>,
}

impl Cluster {
    /// Reads the file, if there is one; what it says and a flag overrides gets a word.
    pub(super) fn read(text: Option<&Text>, asked: &Asked, steps: &Steps) -> Result<Self, InputError> {
        let Some(text) = text else {
            return Ok(Self {
                flags: OidcFlags::from_extra_args(DEFAULT_FLAGS.iter().copied())
                    .map(|(flags, _)| flags)
                    .unwrap_or_default(),
                name: asked.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned()),
                port: asked.port.unwrap_or(DEFAULT_PORT),
                source: "the built-in flags".to_owned(),
                arguments: Vec::new(),
            });
        };
        let file = text.name.clone();
        let config = KindConfig::parse(&text.text, &file)?;
        for warning in &config.warnings {
            steps.word(&warning.to_string());
        }
        let name = name(asked, config.name.as_ref(), steps)?;
        let port = overridden("--port", asked.port, config.api_server_port.as_ref(), steps).unwrap_or(DEFAULT_PORT);
        if let Some(address) = &config.api_server_address
            && address.value != std::net::Ipv4Addr::LOCALHOST
        {
            steps.word(&format!(
                "{}: {} becomes 127.0.0.1: `up` opens nothing to the network",
                address.place, address.value
            ));
        }
        let mut cluster = Self { flags: OidcFlags::default(), name, port, source: file, arguments: config.extra_args };
        cluster.flags = cluster.read_flags(steps)?;
        if let Some(argument) = cluster.argument("oidc-ca-file") {
            steps.word(&format!(
                "{}: {} is replaced by the local authority, which the provider's certificate is of",
                argument.place, argument.value
            ));
        }
        Ok(cluster)
    }

    /// Where a flag is, or where it should be.
    pub(super) fn place(&self, flag: &str) -> String {
        match (self.argument(flag), self.arguments.first()) {
            (Some(argument), _) => argument.place.to_string(),
            (None, Some(first)) => {
                // The list or map that the flags stand in.
                let path = first.place.path.rsplit_once(['.', '[']).map_or("", |(parent, _)| parent);
                Place { path: path.to_owned(), ..first.place.clone() }.to_string()
            }
            (None, None) => format!("{}: {flag}", self.source),
        }
    }

    fn argument(&self, flag: &str) -> Option<&ExtraArg> {
        self.arguments.iter().rfind(|argument| argument.name.replace('_', "-") == flag)
    }

    fn read_flags(&self, steps: &Steps) -> Result<OidcFlags, InputError> {
        let pairs = self.arguments.iter().map(|argument| (argument.name.as_str(), argument.value.as_str()));
        let (flags, others) = OidcFlags::from_extra_args(pairs).map_err(|error| self.wrong_flag(&error))?;
        if let (Some((first, _)), Some((last, _))) = (others.first(), others.last()) {
            steps.word(&format!(
                "{}: {} flags of the API server other than oidc-* are ignored ({first} … {last})",
                self.source,
                others.len()
            ));
        }
        let mut probe = flags.clone();
        // Only the issuer may be a placeholder, and the authority is ours; everything else is checked as the API server would.
        "https://localhost".clone_into(&mut probe.issuer_url);
        probe.ca_file.clear();
        probe.set = true;
        probe.config(&[]).map_err(|error| self.wrong_config(&error))?;
        Ok(flags)
    }

    fn wrong_flag(&self, error: &FlagError) -> InputError {
        let (flag, hint) = match error {
            FlagError::Unknown(flag) => {
                let hint = nearest(flag, &FLAG_NAMES).map_or_else(
                    || format!("kube-apiserver knows {}", FLAG_NAMES.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                (flag, hint)
            }
            FlagError::NoValue(flag) => (flag, "give it a value".to_owned()),
            FlagError::Invalid { flag, .. } => (flag, "correct the value there".to_owned()),
            other => {
                return InputError::Cluster {
                    place: self.source.clone(),
                    reason: other.to_string(),
                    hint: "correct it there".to_owned(),
                };
            }
        };
        InputError::Cluster { place: self.place(flag), reason: error.to_string(), hint }
    }

    fn wrong_config(&self, error: &ConfigError) -> InputError {
        let (flag, hint) = match error {
            ConfigError::IncompleteFlags => (
                "oidc-client-id",
                "add it, with the id of the client in the provider's staticClients that kubectl signs in with"
                    .to_owned(),
            ),
            ConfigError::UnsupportedSigningAlg(_) => (
                "oidc-signing-algs",
                "the provider signs with RS256 unless signer.config.algorithm says ES256".to_owned(),
            ),
            ConfigError::Invalid(errors) => {
                let field = errors.errors.first().map(|error| error.field.as_str()).unwrap_or_default();
                let flag = [
                    (".username", "oidc-username-claim"),
                    (".groups", "oidc-groups-claim"),
                    (".claimValidationRules", "oidc-required-claim"),
                    (".audiences", "oidc-client-id"),
                ]
                .into_iter()
                .find(|(part, _)| field.contains(part));
                (flag.map_or("oidc-issuer-url", |(_, flag)| flag), "correct the value there".to_owned())
            }
            other => {
                return InputError::Cluster {
                    place: self.source.clone(),
                    reason: other.to_string(),
                    hint: "correct it there".to_owned(),
                };
            }
        };
        InputError::Cluster { place: self.place(flag), reason: error.to_string(), hint }
    }
}

fn name(asked: &Asked, found: Option<&Placed<String>>, steps: &Steps) -> Result<String, InputError> {
    match overridden("--name", asked.name.clone(), found, steps) {
        None => Ok(DEFAULT_NAME.to_owned()),
        Some(name) => match found {
            Some(found) if asked.name.is_none() && StateDir::new(Path::new(""), &name).is_err() => {
                Err(InputError::ClusterName { place: found.place.to_string(), name })
            }
            _ => Ok(name),
        },
    }
}

/// The flag where it is given, else what the file says; a word where both do and differ.
fn overridden<T: Clone + PartialEq + std::fmt::Display>(
    flag: &str,
    given: Option<T>,
    found: Option<&Placed<T>>,
    steps: &Steps,
) -> Option<T> {
    if let (Some(given), Some(found)) = (&given, found)
        && *given != found.value
    {
        steps.word(&format!("{}: {} is not used: {flag} is given", found.place, found.value));
    }
    given.or_else(|| found.map(|found| found.value.clone()))
}
