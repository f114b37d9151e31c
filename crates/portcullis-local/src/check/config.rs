//! Whom the cluster trusts, from flags or from whichever file holds them.
//!
//! Flow: the platform's file → the API server's flags → `OidcFlags`; or an AuthenticationConfiguration → [`Trust`]. Both are
//! read and checked by `portcullis_authn`, in kube-apiserver's words; what it refuses is a verdict on the configuration.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use portcullis_authn::{ConfigError, FLAG_NAMES, FlagError, OidcFlags, TrustConfiguration, ValidConfig};
use portcullis_kube::authentication_config::AuthenticationConfiguration;
use portcullis_platform::kind::{ExtraArg, KindConfig};
use portcullis_platform::{Format, Warning, detect, k3s, kubeadm, nearest};

use super::error::CheckError;

/// Bytes of a configuration, of a CA file and of a key set that are read: what their formats allow, and one more, so that
/// the format's own limit is what is told.
pub(crate) const FILE_LIMIT: u64 = 1024 * 1024 + 1;

/// What says whom the cluster trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigFrom {
    /// `--oidc-*` flags, as kube-apiserver takes them.
    Flags(Vec<String>),
    /// A file of this format; `None` finds out which.
    File(PathBuf, Option<Format>),
}

/// Whom the cluster trusts.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) issuers: Vec<ValidConfig>,
    pub(crate) origin: Origin,
    /// What is odd about it.
    pub(crate) warnings: Vec<String>,
}

/// A configuration that kube-apiserver refuses.
#[derive(Debug)]
pub(crate) struct RefusedConfig {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// The flags, or the file.
    pub(crate) place: String,
}

/// Where settings stand, so that a hint can name the one to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Flags on our command line.
    Flags,
    /// Flags in a platform's file.
    FlagsIn(String),
    /// An AuthenticationConfiguration.
    File(String),
}

/// A setting: its flag, and its field below `jwt[…]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting(pub(crate) &'static str, pub(crate) &'static str);

pub(crate) const ISSUER: Setting = Setting("oidc-issuer-url", "issuer.url");
pub(crate) const AUDIENCE: Setting = Setting("oidc-client-id", "issuer.audiences");
pub(crate) const CA: Setting = Setting("oidc-ca-file", "issuer.certificateAuthority");
pub(crate) const EGRESS: Setting = Setting("", "issuer.egressSelectorType");
pub(crate) const USERNAME: Setting = Setting("oidc-username-claim", "claimMappings.username");
pub(crate) const GROUPS: Setting = Setting("oidc-groups-claim", "claimMappings.groups");
pub(crate) const UID: Setting = Setting("", "claimMappings.uid");
pub(crate) const EXTRA: Setting = Setting("", "claimMappings.extra");
pub(crate) const REQUIRED: Setting = Setting("oidc-required-claim", "claimValidationRules");
pub(crate) const USER_RULES: Setting = Setting("", "userValidationRules");

impl Origin {
    /// The setting's name, of the issuer at this place in the file.
    pub(crate) fn name(&self, Setting(flag, field): Setting, at: usize) -> String {
        match self {
            Self::Flags => format!("--{flag}"),
            Self::FlagsIn(file) => format!("{flag} in {file}"),
            Self::File(_) => format!("jwt[{at}].{field}"),
        }
    }

    /// The change that gives the setting another value.
    pub(crate) fn change(&self, setting: Setting, at: usize, value: &str) -> String {
        match self {
            Self::Flags => format!("use --{}={}", setting.0, crate::steps::shell_word(value)),
            Self::FlagsIn(_) | Self::File(_) => format!("set {} to {value:?}", self.name(setting, at)),
        }
    }

    pub(crate) const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    fn place(&self) -> String {
        match self {
            Self::Flags => "the --oidc-* flags".to_owned(),
            Self::FlagsIn(file) | Self::File(file) => file.clone(),
        }
    }
}

/// The issuer of service accounts that kubeadm, kind, k3s and RKE2 give a kube-apiserver, unless they are told of another one.
pub(crate) const OWN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The flag that names a file of this format.
const fn flag(format: Option<Format>) -> &'static str {
    match format {
        None => "--config",
        Some(Format::AuthenticationConfiguration) => "--authentication-config",
        Some(Format::Kind) => "--kind-config",
        Some(Format::Kubeadm) => "--kubeadm-config",
        Some(Format::K3s) => "--k3s-config",
    }
}

/// Reads a text file of at most `limit` bytes. `named_by` is the flag that names it.
pub(crate) fn read_text(path: &Path, named_by: &str, limit: u64) -> Result<String, CheckError> {
    let failed = |source| CheckError::Read { named_by: named_by.to_owned(), path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(CheckError::TooLarge { path: path.display().to_string(), limit });
    }
    String::from_utf8(bytes).map_err(|_| CheckError::NotText(path.display().to_string()))
}

/// Reads whom the cluster trusts. `ca` is the text of `--ca`; with `keys_given` nobody needs a CA that cannot be read here.
pub(crate) fn load(
    from: &ConfigFrom,
    ca: Option<&str>,
    keys_given: bool,
) -> Result<Result<Trust, RefusedConfig>, CheckError> {
    let (path, format) = match from {
        ConfigFrom::Flags(arguments) => {
            let (flags, _) = OidcFlags::parse(arguments).map_err(|error| wrong_flag(&error, "the command line"))?;
            return trust_flags(flags, Origin::Flags, Vec::new(), &[], ca, keys_given);
        }
        ConfigFrom::File(path, format) => (path, format),
    };
    let file = path.display().to_string();
    let drop_ins = drop_ins(path);
    let text = match read_text(path, flag(*format), FILE_LIMIT) {
        // Compat: to k3s and RKE2 the drop-ins alone will do.
        Err(CheckError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound && !drop_ins.is_empty() => {
            return trust_k3s(None, file, &drop_ins, ca, keys_given);
        }
        read => read?,
    };
    let format = match (format, detect(&text, &file)) {
        (Some(format), _) => *format,
        // Kubernetes' reader takes spellings of YAML that others refuse, and says in its own words what it does not.
        (None, Err(_)) if is_of_kubernetes(&text) => Format::AuthenticationConfiguration,
        // The flags may all be in drop-ins.
        (None, Err(_)) if !drop_ins.is_empty() => Format::K3s,
        (None, found) => found?,
    };
    match format {
        Format::AuthenticationConfiguration => {
            let origin = Origin::File(file);
            Ok(trust_file(text.as_bytes(), &origin)
                .map(|(issuers, warnings)| {
                    let own = own_issuer(&issuers, &origin);
                    Trust { issuers, warnings: warnings.into_iter().chain(own).collect(), origin: origin.clone() }
                })
                .map_err(|error| refused(&error, &origin)))
        }
        Format::Kind => {
            let config = KindConfig::parse(&text, &file)?;
            trust_arguments((&config.extra_args, &config.argument_warnings), file, ca, keys_given)
        }
        Format::Kubeadm => {
            let flags = kubeadm::parse(&text, &file)?;
            trust_arguments((&flags.arguments, &flags.warnings), file, ca, keys_given)
        }
        Format::K3s => trust_k3s(Some(text), file, &drop_ins, ca, keys_given),
    }
}

/// Whether a text that is no YAML for others is meant to be an AuthenticationConfiguration.
fn is_of_kubernetes(text: &str) -> bool {
    const KIND: &str = "AuthenticationConfiguration";
    let kind = |line: &str| line.strip_prefix("kind:").is_some_and(|rest| rest.contains(KIND));
    text.lines().any(kind) || (text.trim_start().starts_with('{') && text.contains(&format!("\"{KIND}\"")))
}

/// The issuers of an AuthenticationConfiguration, and warnings. Unlike an authenticator of ours, a kube-apiserver may have egress
/// selectors.
fn trust_file(text: &[u8], origin: &Origin) -> Result<(Vec<ValidConfig>, Vec<String>), ConfigError> {
    let issuers = |trust: TrustConfiguration| trust.issuers().to_vec();
    match TrustConfiguration::load(text, &[]) {
        // Every rule holds when that is said.
        Err(ConfigError::EgressSelector(_)) => {
            let mut file = AuthenticationConfiguration::decode(text)?;
            let mut warnings = Vec::new();
            for (at, jwt) in file.jwt.iter_mut().enumerate() {
                let selector = std::mem::take(&mut jwt.issuer.egress_selector_type);
                if !selector.is_empty() {
                    warnings.push(format!(
                        "{} is {selector:?}: kube-apiserver starts with it only where --egress-selector-config-file has that selector, and \
                         asks the issuer through it, which is not done here",
                        origin.name(EGRESS, at)
                    ));
                }
            }
            TrustConfiguration::new(file, &[]).map(|trust| (issuers(trust), warnings))
        }
        loaded => loaded.map(|trust| (issuers(trust), Vec::new())),
    }
}

/// A warning about an issuer that most API servers give their service accounts: one that does refuses it.
fn own_issuer(issuers: &[ValidConfig], origin: &Origin) -> Option<String> {
    let at = issuers.iter().position(|one| one.config().issuer_url == OWN_ISSUER)?;
    Some(format!(
        "{} is the issuer of the cluster's own service accounts, unless --service-account-issuer names another: kube-apiserver does not \
         start with it",
        origin.name(ISSUER, at)
    ))
}

/// The authorities to ask an issuer with: its `own`, as kube-apiserver does, or those of `--ca`; with a warning where the API server
/// has others.
pub(crate) fn authority<'a>(
    own: &'a str,
    ca: Option<&'a str>,
    origin: &Origin,
    at: usize,
) -> (&'a str, Option<String>) {
    let name = origin.name(CA, at);
    match ca {
        None => (own, None),
        Some(ca) if own.is_empty() => {
            let warning = format!(
                "the issuer was asked with the authorities of --ca, and {name} is not set: kube-apiserver asks with those of its machine"
            );
            (ca, Some(warning))
        }
        Some(ca) if own.trim() == ca.trim() => (own, None),
        Some(_) => {
            let warning =
                format!("--ca is not used: {name} is there, and kube-apiserver asks the issuer with nothing else");
            (own, Some(warning))
        }
    }
}

/// The drop-ins of k3s' file, in the order in which k3s reads them: `config.yaml.d/*.yaml`.
fn drop_ins(path: &Path) -> Vec<PathBuf> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_yaml = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default();
        !path.is_dir() && ["yaml", "yml"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    };
    let mut files: Vec<PathBuf> = entries.filter(is_yaml).collect();
    files.sort();
    files
}

fn trust_k3s(
    text: Option<String>,
    file: String,
    drop_ins: &[PathBuf],
    ca: Option<&str>,
    keys_given: bool,
) -> Result<Result<Trust, RefusedConfig>, CheckError> {
    let mut files: Vec<(String, String)> = text.into_iter().map(|text| (text, file.clone())).collect();
    for path in drop_ins {
        files.push((read_text(path, "the folder of drop-ins", FILE_LIMIT)?, path.display().to_string()));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(text, file)| (text.as_str(), file.as_str())).collect();
    let flags = k3s::parse_all(&files)?;
    trust_arguments((&flags.arguments, &flags.warnings), file, ca, keys_given)
}

/// `warnings` is what was said of the arguments as they were read.
fn trust_arguments(
    (arguments, warnings): (&[ExtraArg], &[Warning]),
    file: String,
    ca: Option<&str>,
    keys_given: bool,
) -> Result<Result<Trust, RefusedConfig>, CheckError> {
    let is = |argument: &&ExtraArg, name: &str| argument.name.replace('_', "-") == name;
    let names_file = arguments.iter().rfind(|argument| is(argument, "authentication-config"));
    let is_oidc = |argument: &&ExtraArg| argument.name.replace('_', "-").starts_with("oidc-");
    let first_flag = arguments.iter().find(is_oidc);
    match (names_file, first_flag) {
        (Some(named), None) => {
            return Err(CheckError::NamesFile { place: named.place.to_string(), path: named.value.clone() });
        }
        (Some(named), Some(_)) => {
            return Ok(Err(RefusedConfig {
                message: ConfigError::FileAndFlags.to_string(),
                hint: ConfigError::FileAndFlags.hint(),
                place: named.place.to_string(),
            }));
        }
        (None, None) => return Err(CheckError::NothingTrusted(file)),
        (None, Some(_)) => {}
    }
    let pairs = arguments.iter().map(|argument| (argument.name.as_str(), argument.value.as_str()));
    let place = |flag: &str| {
        let argument = arguments.iter().rfind(|argument| is(argument, flag));
        argument.map_or_else(|| file.clone(), |argument| argument.place.to_string())
    };
    let (flags, _) = OidcFlags::from_extra_args(pairs).map_err(|error| {
        let flag = match &error {
            FlagError::Unknown(flag) | FlagError::NoValue(flag) | FlagError::Invalid { flag, .. } => flag.clone(),
            _ => String::new(),
        };
        wrong_flag(&error, &place(&flag))
    })?;
    let mut own: Vec<String> = arguments
        .iter()
        .filter(|argument| is(argument, "service-account-issuer"))
        .map(|argument| argument.value.clone())
        .collect();
    if own.is_empty() {
        own.push(OWN_ISSUER.to_owned());
    }
    let files: BTreeSet<&str> = arguments.iter().filter(is_oidc).map(|argument| argument.place.file.as_str()).collect();
    let origin = match (files.first(), files.len()) {
        (Some(only), 1) => (*only).to_owned(),
        _ => format!("{file} and its drop-ins"),
    };
    let warnings = warnings.iter().map(ToString::to_string).collect();
    trust_flags(flags, Origin::FlagsIn(origin), warnings, &own, ca, keys_given)
}

fn trust_flags(
    mut flags: OidcFlags,
    origin: Origin,
    mut warnings: Vec<String>,
    service_accounts: &[String],
    ca: Option<&str>,
    keys_given: bool,
) -> Result<Result<Trust, RefusedConfig>, CheckError> {
    if !flags.set {
        return Err(CheckError::NothingTrusted(origin.place()));
    }
    let named = Path::new(&flags.ca_file).to_owned();
    let ca_text = match (flags.ca_file.is_empty(), ca) {
        (true, _) => String::new(),
        (false, Some(text)) => {
            let name = origin.name(CA, 0);
            if origin == Origin::Flags
                && read_text(&named, &name, FILE_LIMIT).is_ok_and(|other| other.trim() != text.trim())
            {
                warnings.push(format!("{name}: {} is there and says something else; --ca is used", named.display()));
            }
            text.to_owned()
        }
        (false, None) => {
            let name = origin.name(CA, 0);
            match read_text(&named, &name, FILE_LIMIT) {
                Ok(text) => text,
                // On the command line the file is one of this machine's, as it is for kube-apiserver.
                Err(CheckError::Read { source, .. }) if keys_given && origin != Origin::Flags => {
                    warnings.push(format!(
                        "{name}: {}: {source}: not read here; the API server does not start without it",
                        named.display()
                    ));
                    flags.ca_file.clear();
                    String::new()
                }
                Err(error) => return Err(error),
            }
        }
    };
    if flags.groups_prefix == "-" {
        warnings.push(
            "oidc-groups-prefix is \"-\", which is nothing special there: every group begins with a dash".to_owned(),
        );
    }
    Ok(match flags.config_with(service_accounts, |_| Ok(ca_text.into_bytes())) {
        Ok(Some(valid)) => {
            let issuers = vec![valid];
            if service_accounts.is_empty() {
                warnings.extend(own_issuer(&issuers, &origin));
            }
            Ok(Trust { issuers, origin, warnings })
        }
        Ok(None) => return Err(CheckError::NothingTrusted(origin.place())),
        Err(error) => Err(refused(&error, &origin)),
    })
}

fn wrong_flag(error: &FlagError, place: &str) -> CheckError {
    let hint = match error {
        FlagError::Unknown(flag) => nearest(flag, &FLAG_NAMES).map_or_else(
            || format!("kube-apiserver knows {}", FLAG_NAMES.join(", ")),
            |near| format!("did you mean {near}?"),
        ),
        FlagError::NoValue(_) => "give it a value".to_owned(),
        _ => "correct the value there: CLAIM=VALUE for a required claim, names with commas between for algorithms"
            .to_owned(),
    };
    CheckError::Flag { place: place.to_owned(), reason: error.to_string(), hint }
}

fn refused(error: &ConfigError, origin: &Origin) -> RefusedConfig {
    RefusedConfig { message: error.to_string(), hint: super::hints::for_config(error, origin), place: origin.place() }
}
