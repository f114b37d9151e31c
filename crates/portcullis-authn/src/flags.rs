//! kube-apiserver's `--oidc-*` flags: parsing, the rules between them, and what they amount to.
//!
//! Flow: arguments, or a kubeadm `extraArgs` list → [`OidcFlags`] → [`OidcFlags::config`] (reads the CA file once) →
//! [`ValidConfig`].
//!
//! Compat: `pkg/kubeapiserver/options/authentication.go` of Kubernetes v1.37 and pflag: `--name=value` or `--name value`,
//! underscores count as dashes, a repeated flag overwrites (`signing-algs` appends to its first use, `required-claim`
//! adds a pair), and a flag counts as set even when it is given its default.

use std::collections::BTreeMap;
use std::io;

use crate::config::{ConfigError, JwtConfig, PrefixedClaim, ValidConfig};
use portcullis_kube::go::quote;

/// The names of all flags, without dashes before them.
pub const FLAG_NAMES: [&str; 9] = [
    "oidc-issuer-url",
    "oidc-client-id",
    "oidc-ca-file",
    "oidc-username-claim",
    "oidc-username-prefix",
    "oidc-groups-claim",
    "oidc-groups-prefix",
    "oidc-signing-algs",
    "oidc-required-claim",
];

/// The flags as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcFlags {
    /// `--oidc-issuer-url`
    pub issuer_url: String,
    /// `--oidc-client-id`
    pub client_id: String,
    /// `--oidc-ca-file`; empty: the system's roots.
    pub ca_file: String,
    /// `--oidc-username-claim`, default `sub`.
    pub username_claim: String,
    /// `--oidc-username-prefix`; see [`OidcFlags::effective_username_prefix`].
    pub username_prefix: String,
    /// `--oidc-groups-claim`; empty: no groups.
    pub groups_claim: String,
    /// `--oidc-groups-prefix`; `-` is nothing special here.
    pub groups_prefix: String,
    /// `--oidc-signing-algs`, default RS256.
    pub signing_algs: Vec<String>,
    /// `--oidc-required-claim`, by claim.
    pub required_claims: BTreeMap<String, String>,
    /// Some `--oidc-*` flag was given.
    pub set: bool,
    signing_algs_given: bool,
}

impl Default for OidcFlags {
    fn default() -> Self {
        Self {
            issuer_url: String::new(),
            client_id: String::new(),
            ca_file: String::new(),
            username_claim: "sub".to_owned(),
            username_prefix: String::new(),
            groups_claim: String::new(),
            groups_prefix: String::new(),
            signing_algs: vec!["RS256".to_owned()],
            required_claims: BTreeMap::new(),
            set: false,
            signing_algs_given: false,
        }
    }
}

/// A flag that cannot be read, in pflag's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagError {
    /// No such `--oidc-*` flag.
    #[error("unknown flag: --{0}")]
    Unknown(String),
    /// The last argument is a flag without its value.
    #[error("flag needs an argument: --{0}")]
    NoValue(String),
    /// The value cannot be read.
    #[error("invalid argument {} for \"--{flag}\" flag: {reason}", quote(value))]
    Invalid {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
        /// Why.
        reason: &'static str,
    },
}

impl OidcFlags {
    /// Takes the `--oidc-*` flags out of `arguments`; the others are handed back in their order.
    ///
    /// # Errors
    /// [`FlagError`] for an `--oidc-*` flag that kube-apiserver would not take.
    pub fn parse<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Result<(Self, Vec<String>), FlagError> {
        let mut flags = Self::default();
        let mut others = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = argument.as_ref();
            let (name, value) = match argument.strip_prefix("--").map(|flag| flag.split_once('=').unwrap_or((flag, "")))
            {
                Some((name, value)) if normalise(name).starts_with("oidc-") => (normalise(name), value),
                _ => {
                    others.push(argument.to_owned());
                    continue;
                }
            };
            if argument.contains('=') {
                flags.set_flag(&name, value)?;
            } else {
                let value = arguments.next().ok_or_else(|| FlagError::NoValue(name.clone()))?;
                flags.set_flag(&name, value.as_ref())?;
            }
        }
        Ok((flags, others))
    }

    /// Takes the `oidc-*` entries out of kubeadm's `apiServer.extraArgs` (names without dashes before them; the list form
    /// may repeat a name); the others are handed back in their order.
    ///
    /// # Errors
    /// [`FlagError`] as [`OidcFlags::parse`].
    pub fn from_extra_args<N: AsRef<str>, V: AsRef<str>>(
        entries: impl IntoIterator<Item = (N, V)>,
    ) -> Result<(Self, Vec<(String, String)>), FlagError> {
        let mut flags = Self::default();
        let mut others = Vec::new();
        for (name, value) in entries {
            let normal = normalise(name.as_ref().trim_start_matches("--"));
            if normal.starts_with("oidc-") {
                flags.set_flag(&normal, value.as_ref())?;
            } else {
                others.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
            }
        }
        Ok((flags, others))
    }

    /// Whether the flags turn OIDC on.
    pub fn is_on(&self) -> bool {
        !self.issuer_url.is_empty() && !self.client_id.is_empty()
    }

    /// What is put before every user name: nothing for `-`, and, unless a prefix is given, nothing for the claim `email`
    /// and `<issuer-url>#` for every other claim.
    pub fn effective_username_prefix(&self) -> String {
        match self.username_prefix.as_str() {
            "-" => String::new(),
            "" if self.username_claim == "email" => String::new(),
            "" => format!("{}#", self.issuer_url),
            prefix => prefix.to_owned(),
        }
    }

    /// The configuration that the flags amount to, checked; `None` when OIDC is off. Reads the CA file.
    ///
    /// # Errors
    /// [`ConfigError`], with kube-apiserver's texts.
    pub fn config(&self, disallowed_issuers: &[String]) -> Result<Option<ValidConfig>, ConfigError> {
        self.config_with(disallowed_issuers, |path| std::fs::read(path))
    }

    /// As [`OidcFlags::config`], with `read` for files.
    ///
    /// # Errors
    /// [`ConfigError`], with kube-apiserver's texts.
    pub fn config_with(
        &self,
        disallowed_issuers: &[String],
        read: impl FnOnce(&str) -> io::Result<Vec<u8>>,
    ) -> Result<Option<ValidConfig>, ConfigError> {
        if !self.is_on() {
            return if self.set { Err(ConfigError::IncompleteFlags) } else { Ok(None) };
        }
        let certificate_authority = if self.ca_file.is_empty() {
            String::new()
        } else {
            let bytes = read(&self.ca_file)
                .map_err(|error| ConfigError::CaFile { path: self.ca_file.clone(), reason: io_text(&error) })?;
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let groups = (!self.groups_claim.is_empty())
            .then(|| PrefixedClaim { claim: self.groups_claim.clone(), prefix: self.groups_prefix.clone() });
        let config = JwtConfig {
            issuer_url: self.issuer_url.clone(),
            certificate_authority,
            audiences: vec![self.client_id.clone()],
            username: PrefixedClaim { claim: self.username_claim.clone(), prefix: self.effective_username_prefix() },
            groups,
            required_claims: self.required_claims.clone().into_iter().collect(),
            signing_algs: self.signing_algs.clone(),
            ..JwtConfig::default()
        };
        config.at_start(disallowed_issuers).map(Some)
    }

    fn set_flag(&mut self, name: &str, value: &str) -> Result<(), FlagError> {
        let target = match name {
            "oidc-issuer-url" => &mut self.issuer_url,
            "oidc-client-id" => &mut self.client_id,
            "oidc-ca-file" => &mut self.ca_file,
            "oidc-username-claim" => &mut self.username_claim,
            "oidc-username-prefix" => &mut self.username_prefix,
            "oidc-groups-claim" => &mut self.groups_claim,
            "oidc-groups-prefix" => &mut self.groups_prefix,
            "oidc-signing-algs" => {
                let algs = comma_separated(value).ok_or_else(|| invalid(name, value, "parse error in the list"))?;
                if !std::mem::replace(&mut self.signing_algs_given, true) {
                    self.signing_algs.clear();
                }
                self.signing_algs.extend(algs);
                self.set = true;
                return Ok(());
            }
            "oidc-required-claim" => {
                let (claim, wanted) = value
                    .split_once('=')
                    .ok_or_else(|| invalid(name, value, "malformed pair, expect string=string"))?;
                self.required_claims.insert(claim.trim().to_owned(), wanted.trim().to_owned());
                self.set = true;
                return Ok(());
            }
            _ => return Err(FlagError::Unknown(name.to_owned())),
        };
        value.clone_into(target);
        self.set = true;
        Ok(())
    }
}

fn invalid(flag: &str, value: &str, reason: &'static str) -> FlagError {
    FlagError::Invalid { flag: flag.to_owned(), value: value.to_owned(), reason }
}

fn normalise(name: &str) -> String {
    name.replace('_', "-")
}

/// One line of comma-separated values, with double quotes around values that hold commas.
fn comma_separated(line: &str) -> Option<Vec<String>> {
    if line.is_empty() {
        return Some(Vec::new());
    }
    let mut values = Vec::new();
    let mut rest = line;
    loop {
        let value;
        if let Some(quoted) = rest.strip_prefix('"') {
            let (inside, after) = split_quoted(quoted)?;
            value = inside;
            rest = after;
        } else {
            let (plain, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            if plain.contains('"') {
                return None;
            }
            value = plain.to_owned();
            rest = after;
        }
        values.push(value);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Some(values),
            None => return None,
        }
    }
}

/// The text up to the closing quote, with doubled quotes made single, and what follows.
fn split_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        value.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                value.push('"');
                rest = next;
            }
            None => return Some((value, after)),
        }
    }
}

/// What the system said, in Go's words.
pub(crate) fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<OidcFlags, String> {
        OidcFlags::parse(arguments).map(|(flags, _)| flags).map_err(|error| error.to_string())
    }

    fn config_error(arguments: &[&str]) -> String {
        parse(arguments).expect("flags").config(&[]).expect_err("refused").to_string()
    }

    #[test]
    fn flags_are_read_in_both_spellings_and_the_rest_is_handed_back() {
        let (flags, others) = OidcFlags::parse([
            "--secure-port=6443",
            "--oidc-issuer-url=https://issuer.example/=x",
            "--oidc_client_id",
            "kubernetes",
            "--oidc-groups-claim=groups",
            "--oidc-groups-prefix=-",
            "--oidc-required-claim=hd=a,b",
            "--oidc-required-claim= x = y ",
            "--oidc-signing-algs=ES256,PS256",
            "--oidc-signing-algs=RS256",
            "positional",
        ])
        .expect("flags");
        assert_eq!(others, ["--secure-port=6443", "positional"]);
        assert_eq!((flags.issuer_url.as_str(), flags.client_id.as_str()), ("https://issuer.example/=x", "kubernetes"));
        assert_eq!(flags.signing_algs, ["ES256", "PS256", "RS256"]);
        assert_eq!(flags.required_claims, BTreeMap::from([("hd".into(), "a,b".into()), ("x".into(), "y".into())]));
        let valid = flags.config(&[]).expect("valid").expect("on");
        assert_eq!(valid.config().groups, Some(PrefixedClaim { claim: "groups".into(), prefix: "-".into() }));
    }

    #[test]
    fn extra_args_mean_the_same_as_flags() {
        let (from_map, others) = OidcFlags::from_extra_args([
            ("authorization-mode", "RBAC"),
            ("oidc-issuer-url", "https://a"),
            ("oidc-client-id", "c"),
            ("oidc-required-claim", "a=b"),
            ("oidc-required-claim", "c=d"),
        ])
        .expect("flags");
        assert_eq!(others, [("authorization-mode".to_owned(), "RBAC".to_owned())]);
        let line = [
            "--oidc-issuer-url=https://a",
            "--oidc-client-id=c",
            "--oidc-required-claim=a=b",
            "--oidc-required-claim=c=d",
        ];
        assert_eq!(Ok(from_map), parse(&line));
    }

    #[test]
    fn every_flag_that_is_named_is_known() {
        for name in FLAG_NAMES {
            assert!(OidcFlags::from_extra_args([(name, "a=b")]).expect(name).0.set, "{name}");
        }
    }

    #[test]
    fn unreadable_flags_are_refused_in_pflags_words() {
        assert_eq!(parse(&["--oidc-isuer-url=x"]), Err("unknown flag: --oidc-isuer-url".into()));
        assert_eq!(parse(&["--oidc-client-id"]), Err("flag needs an argument: --oidc-client-id".into()));
        assert_eq!(
            parse(&["--oidc-required-claim=x"]),
            Err(r#"invalid argument "x" for "--oidc-required-claim" flag: malformed pair, expect string=string"#.into())
        );
        assert!(parse(&["--oidc-signing-algs=\"RS256"]).is_err());
        assert_eq!(parse(&["--oidc-signing-algs="]).expect("flags").signing_algs, Vec::<String>::new());
        assert_eq!(parse(&["--oidc-signing-algs=\"a,\"\"b\",c"]).expect("flags").signing_algs, ["a,\"b", "c"]);
    }

    #[test]
    fn issuer_and_client_belong_together() {
        let text = "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set";
        for arguments in [&["--oidc-issuer-url=https://a"][..], &["--oidc-client-id=c"], &["--oidc-username-claim=sub"]]
        {
            assert_eq!(config_error(arguments), text);
        }
        assert!(OidcFlags::default().config(&[]).expect("off is fine").is_none());
    }

    #[test]
    fn the_configuration_file_rules_apply_to_flags() {
        assert_eq!(
            config_error(&["--oidc-issuer-url=http://a", "--oidc-client-id=c"]),
            r#"invalid authentication configuration: jwt[0].issuer.url: Invalid value: "http://a": URL scheme must be https"#
        );
        assert_eq!(
            config_error(&["--oidc-issuer-url=https://a", "--oidc-client-id=c", "--oidc-signing-algs=HS256"]),
            r#"oidc: unsupported signing alg: "HS256""#
        );
        assert_eq!(
            config_error(&["--oidc-issuer-url=https://a", "--oidc-client-id=c", "--oidc-username-claim="]),
            "invalid authentication configuration: jwt[0].claimMappings.username: Required value: claim or expression is required"
        );
    }

    #[test]
    fn the_user_name_prefix_follows_the_legacy_rule() {
        for (prefix, claim, want) in [
            ("", "sub", "https://a/#"),
            ("", "name", "https://a/#"),
            ("", "email", ""),
            ("-", "sub", ""),
            ("-", "email", ""),
            ("oidc:", "sub", "oidc:"),
            ("oidc:", "email", "oidc:"),
        ] {
            let flags = OidcFlags {
                issuer_url: "https://a/".into(),
                username_prefix: prefix.into(),
                username_claim: claim.into(),
                ..OidcFlags::default()
            };
            assert_eq!(flags.effective_username_prefix(), want, "{prefix:?} {claim}");
        }
    }

    #[test]
    fn a_ca_file_that_cannot_be_read_stops_the_start() {
        let arguments = ["--oidc-issuer-url=https://a", "--oidc-client-id=c", "--oidc-ca-file=/nonexistent/ca.pem"];
        assert_eq!(config_error(&arguments), "open /nonexistent/ca.pem: no such file or directory");
        let flags = parse(&arguments).expect("flags");
        let error = flags.config_with(&[], |_| Ok(b"junk".to_vec())).expect_err("refused").to_string();
        assert!(error.ends_with("data does not contain any valid RSA or ECDSA certificates"), "{error}");
    }
}
