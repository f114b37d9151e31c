//! The command line: names are fixed by the design, and each command that is not built yet says what to use instead.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use portcullis_local::apiserver::{AuditMode, AuditOptions};
use portcullis_local::up::IssuerFlags;
use portcullis_runtime::Secret;

/// Sign in to any Kubernetes cluster with your own identity provider.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything on this machine, or apply changed files to what runs
    Up(Box<Up>),
    /// Stop what `up` started and remove what it made
    Down(Down),
    /// Run the OIDC provider with a Dex config file
    Serve(Serve),
    /// The kubectl sign-in plugin: get-token, setup, clean, version
    #[command(disable_help_flag = true)]
    Login(PassedOn),
    /// Run the dev API server alone, on loopback
    Apiserver(Box<Apiserver>),
    /// Say what a cluster makes of a token, and why
    Check(Box<crate::check::Check>),
    /// Not built yet; says what to use instead
    #[command(hide = true, disable_help_flag = true)]
    Webhook(PassedOn),
    /// Not built yet; says what to use instead
    #[command(hide = true, disable_help_flag = true)]
    Gateway(PassedOn),
    /// Not built yet; says what to use instead
    #[command(name = "can-i", hide = true, disable_help_flag = true)]
    CanI(PassedOn),
    /// Not built yet; says what to use instead
    #[command(name = "who-can", hide = true, disable_help_flag = true)]
    WhoCan(PassedOn),
    /// Not built yet; says what to use instead
    #[command(hide = true, disable_help_flag = true)]
    Trust(PassedOn),
    /// Not built yet; says what to use instead
    #[command(hide = true, disable_help_flag = true)]
    Doctor(PassedOn),
    /// Not built yet; says what to use instead
    #[command(hide = true, disable_help_flag = true)]
    Tunnel(PassedOn),
    /// Look at, back up, restore and copy the provider's store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Not built yet; says what to use instead
    #[command(hide = true, disable_help_flag = true)]
    Keys(PassedOn),
    /// Not built yet; says what to use instead
    #[command(hide = true, disable_help_flag = true)]
    Import(PassedOn),
}

// No documentation comment: clap would show it as the help of commands that have none.
#[derive(Debug, Args)]
pub(crate) struct PassedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// Name of the cluster; the kubeconfig's context is kind-NAME [default: the cluster config's, else dev]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Folder for keys, certificates, kubeconfig and the provider's store
    #[arg(long, env = "PORTCULLIS_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

// A flag given twice: the last one wins, as in kubectl.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// Also write context and users into this kubeconfig; with --guide the only one [default there: $HOME/NAME.kubeconfig]
    #[arg(long, value_name = "PATH")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Port of the API server on loopback; 0 takes a free one [default: the cluster config's, else 6443]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Port of the provider on loopback; 0 takes a free one [default: that of web.https in the values, else 5554]
    #[arg(long, value_name = "PORT")]
    pub(crate) issuer_port: Option<u16>,
    /// Chart values whose dex.config becomes the provider's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) values: Option<PathBuf>,
    /// kind cluster configuration whose kubeadm patches become the API server's flags
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_config: Option<PathBuf>,
    /// Refuse an issuer that is not the local one, instead of replacing it
    #[arg(long)]
    pub(crate) keep_issuer: bool,
    /// Use a hash that fits the guide's password where the file has the guide's published one
    #[arg(long)]
    pub(crate) fix_demo_hash: bool,
    /// Add the local authority to the system's trust store (`down` removes it)
    #[arg(long)]
    pub(crate) trust: bool,
    /// Make the new context current in --kubeconfig
    #[arg(long = "use", requires = "kubeconfig")]
    pub(crate) use_context: bool,
    /// Leave the guide's steps to you: the provider is behind `kubectl port-forward`, and nobody is signed in
    #[arg(long, conflicts_with_all = ["use_context", "no_bind", "unattended", "keep"])]
    pub(crate) guide: bool,
    /// Do not bind the demo user to cluster-admin
    #[arg(long)]
    pub(crate) no_bind: bool,
    /// Sign the demo user in without a browser, print the table and end
    #[arg(long)]
    pub(crate) unattended: bool,
    /// Keep running after an unattended sign-in
    #[arg(long)]
    pub(crate) keep: bool,
    /// Keep the API server's objects in the state folder, for the next start
    #[arg(long)]
    pub(crate) keep_state: bool,
    // Last: what follows would stand under its heading.
    #[command(flatten)]
    pub(crate) issuer: Issuer,
}

impl Cli {
    /// Reads the command line.
    pub(crate) fn read(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let cli = Self::try_parse_from(arguments)?;
        match &cli.command {
            // clap does not ask for --issuer where a flag is given that goes without it.
            Command::Up(up) if up.issuer.issuer.is_none() => match up.issuer.stray() {
                Some(flag) => {
                    let text = format!("{flag} is about your own provider, and needs --issuer <URL>");
                    Err(Self::command().error(ErrorKind::MissingRequiredArgument, text))
                }
                None => Ok(cli),
            },
            _ => Ok(cli),
        }
    }
}

/// The user's own provider. What is about ours does not go with it.
#[derive(Args)]
#[command(next_help_heading = "Your own provider, instead of the one that `up` starts")]
pub(crate) struct Issuer {
    /// Trust the provider at this https URL; the other flags here need it
    #[arg(
        long,
        value_name = "URL",
        requires = "client_id",
        conflicts_with_all = [
            "values", "cluster_config", "issuer_port", "keep_issuer", "fix_demo_hash", "trust", "guide", "no_bind",
            "unattended", "keep",
        ]
    )]
    issuer: Option<String>,
    /// The client that kubectl's plugin is at the provider, and the audience of its tokens
    #[arg(long, value_name = "ID", requires = "issuer")]
    client_id: Option<String>,
    /// The client's secret, where it has one; others on this machine can see it while `up` runs
    #[arg(long, value_name = "SECRET", requires = "issuer", conflicts_with = "client_secret_file")]
    client_secret: Option<String>,
    /// File with the client's secret
    #[arg(long, value_name = "FILE", requires = "issuer")]
    client_secret_file: Option<PathBuf>,
    /// Authorities of the provider's certificate, PEM; the system's without it
    #[arg(long, value_name = "FILE", requires = "issuer")]
    issuer_ca: Option<PathBuf>,
    /// A scope that the plugin asks for besides those that the claims need; may be repeated
    #[arg(long, value_name = "SCOPE", requires = "issuer")]
    extra_scope: Vec<String>,
    /// Claim that names the user [default: sub]
    #[arg(long, value_name = "CLAIM", requires = "issuer")]
    username_claim: Option<String>,
    /// Put before every user name; `-` for nothing [default: nothing for the claim email, else URL#]
    #[arg(long, value_name = "PREFIX", requires = "issuer", allow_hyphen_values = true)]
    username_prefix: Option<String>,
    /// Claim that names the groups [default: no groups]
    #[arg(long, value_name = "CLAIM", requires = "issuer")]
    groups_claim: Option<String>,
    /// Put before every group
    #[arg(long, value_name = "PREFIX", requires = "issuer", allow_hyphen_values = true)]
    groups_prefix: Option<String>,
    /// Signature algorithms that are taken, separated by commas [default: RS256]
    #[arg(long, value_name = "ALGS", requires = "issuer")]
    signing_algs: Vec<String>,
    /// A claim that tokens must have, with its value; may be repeated
    #[arg(long, value_name = "CLAIM=VALUE", requires = "issuer")]
    required_claim: Vec<String>,
}

/// Without the secret.
impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// The first flag of those that need an issuer.
    fn stray(&self) -> Option<&'static str> {
        [
            (self.client_id.is_some(), "--client-id"),
            (self.client_secret.is_some(), "--client-secret"),
            (self.client_secret_file.is_some(), "--client-secret-file"),
            (self.issuer_ca.is_some(), "--issuer-ca"),
            (!self.extra_scope.is_empty(), "--extra-scope"),
            (self.username_claim.is_some(), "--username-claim"),
            (self.username_prefix.is_some(), "--username-prefix"),
            (self.groups_claim.is_some(), "--groups-claim"),
            (self.groups_prefix.is_some(), "--groups-prefix"),
            (!self.signing_algs.is_empty(), "--signing-algs"),
            (!self.required_claim.is_empty(), "--required-claim"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }

    /// `None` where our own provider is started.
    pub(crate) fn into_flags(self) -> Option<IssuerFlags> {
        let oidc = Oidc {
            oidc_issuer_url: Some(self.issuer?),
            oidc_client_id: self.client_id,
            oidc_ca_file: None,
            oidc_username_claim: self.username_claim,
            oidc_username_prefix: self.username_prefix,
            oidc_groups_claim: self.groups_claim,
            oidc_groups_prefix: self.groups_prefix,
            oidc_signing_algs: self.signing_algs,
            oidc_required_claim: self.required_claim,
        };
        Some(IssuerFlags {
            oidc: oidc.into_arguments(),
            client_secret: self.client_secret.map(Secret::new),
            client_secret_file: self.client_secret_file,
            ca: self.issuer_ca,
            extra_scopes: self.extra_scope,
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct Apiserver {
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// Port on loopback; 0 takes a free one
    #[arg(long, visible_alias = "port", default_value_t = 6443, value_name = "PORT")]
    pub(crate) secure_port: u16,
    /// Keep the objects in the state folder, for the next start
    #[arg(long)]
    pub(crate) keep_state: bool,
    /// File with issuers and anonymous access (AuthenticationConfiguration), which is followed; instead of --oidc-* flags
    #[arg(long, value_name = "FILE")]
    pub(crate) authentication_config: Option<PathBuf>,
    /// Let requests without credentials in, as system:anonymous [default: true, or what the file says]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) anonymous_auth: Option<bool>,
    #[command(flatten)]
    pub(crate) oidc: Oidc,
    #[command(flatten)]
    pub(crate) audit: Audit,
}

/// Compat: flags of kube-apiserver are read as Go reads truth values.
fn go_bool(text: &str) -> Result<bool, &'static str> {
    portcullis_local::apiserver::parse_bool(text).ok_or("write true or false")
}

/// kube-apiserver's flags of the same names.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// The audit policy (audit.k8s.io/v1); nothing is written down without one
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// File for audit events; `-` is standard out
    #[arg(long, value_name = "FILE")]
    audit_log_path: Option<PathBuf>,
    /// Form of the events; only json is known
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    audit_log_format: String,
    /// Megabytes after which the file is given up for a new one; 0 for never
    #[arg(long, value_name = "MB", default_value_t = 100, allow_negative_numbers = true)]
    audit_log_maxsize: i64,
    /// Days that old files are kept; 0 for ever
    #[arg(long, value_name = "DAYS", default_value_t = 366, allow_negative_numbers = true)]
    audit_log_maxage: i64,
    /// Number of old files that are kept; 0 for all
    #[arg(long, value_name = "NUMBER", default_value_t = 100, allow_negative_numbers = true)]
    audit_log_maxbackup: i64,
    /// Compress old files
    #[arg(long)]
    audit_log_compress: bool,
    /// batch: requests never wait for the log; blocking: each waits for its lines; blocking-strict: none is served without
    #[arg(long, value_name = "MODE", default_value = "batch")]
    audit_log_mode: AuditMode,
    /// Events that wait to be written, in the mode batch; what is more is lost
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    audit_log_batch_buffer_size: usize,
    /// Leave the objects out of events that are too large
    #[arg(long)]
    audit_log_truncate_enabled: bool,
    /// Largest event, in bytes, when that is on
    #[arg(long, value_name = "BYTES", default_value_t = 102_400)]
    audit_log_truncate_max_event_size: usize,
}

impl Audit {
    pub(crate) fn into_options(self) -> AuditOptions {
        AuditOptions {
            policy_file: self.audit_policy_file,
            path: self.audit_log_path,
            format: self.audit_log_format,
            max_size: self.audit_log_maxsize,
            max_age: self.audit_log_maxage,
            max_backups: self.audit_log_maxbackup,
            compress: self.audit_log_compress,
            mode: self.audit_log_mode,
            batch_buffer_size: self.audit_log_batch_buffer_size,
            truncate_enabled: self.audit_log_truncate_enabled,
            truncate_max_event_size: self.audit_log_truncate_max_event_size,
        }
    }
}

/// kube-apiserver's flags of the same names; `portcullis-authn` reads their values.
#[derive(Debug, Default, Args)]
pub(crate) struct Oidc {
    /// URL of the issuer, https
    #[arg(long, value_name = "URL")]
    oidc_issuer_url: Option<String>,
    /// Audience that tokens must have
    #[arg(long, value_name = "ID")]
    oidc_client_id: Option<String>,
    /// Authorities of the issuer's certificate, PEM; the system's without it
    #[arg(long, value_name = "FILE")]
    oidc_ca_file: Option<String>,
    /// Claim that names the user [default: sub]
    #[arg(long, value_name = "CLAIM")]
    oidc_username_claim: Option<String>,
    /// Put before every user name; `-` for nothing
    #[arg(long, value_name = "PREFIX")]
    oidc_username_prefix: Option<String>,
    /// Claim that names the groups
    #[arg(long, value_name = "CLAIM")]
    oidc_groups_claim: Option<String>,
    /// Put before every group
    #[arg(long, value_name = "PREFIX")]
    oidc_groups_prefix: Option<String>,
    /// Signature algorithms that are taken, separated by commas [default: RS256]
    #[arg(long, value_name = "ALGS")]
    oidc_signing_algs: Vec<String>,
    /// A claim that tokens must have, with its value; may be repeated
    #[arg(long, value_name = "CLAIM=VALUE")]
    oidc_required_claim: Vec<String>,
}

impl Oidc {
    /// The flags that were given, one argument each.
    pub(crate) fn into_arguments(self) -> Vec<String> {
        let single = [
            ("issuer-url", self.oidc_issuer_url),
            ("client-id", self.oidc_client_id),
            ("ca-file", self.oidc_ca_file),
            ("username-claim", self.oidc_username_claim),
            ("username-prefix", self.oidc_username_prefix),
            ("groups-claim", self.oidc_groups_claim),
            ("groups-prefix", self.oidc_groups_prefix),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let algs = self.oidc_signing_algs.into_iter().map(|value| ("signing-algs", value));
        let claims = self.oidc_required_claim.into_iter().map(|value| ("required-claim", value));
        single.chain(algs).chain(claims).map(|(name, value)| format!("--oidc-{name}={value}")).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A Dex config file, YAML or JSON
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only read the file and say what is wrong with it
    #[arg(long)]
    pub(crate) check: bool,
    /// Address for http, instead of the file's web.http
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) web_http_addr: Option<String>,
    /// Address for https, instead of the file's web.https
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) web_https_addr: Option<String>,
    /// Address for metrics and health, instead of the file's telemetry.http
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) telemetry_addr: Option<String>,
    /// Address for gRPC, instead of the file's grpc.addr
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) grpc_addr: Option<String>,
}

/// What is done to a store. The provider may run meanwhile, but for the target of `restore` and `copy`.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Say where the store is and how much there is of what
    Info {
        /// The provider's config file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Form of the output
        #[arg(long, short, value_name = "FORM", default_value = "text")]
        output: OutputForm,
    },
    /// Read every record and say what is wrong; exit 1 when something is
    Check {
        /// The provider's config file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Form of the output; json is a line for each finding, and a last one with counts
        #[arg(long, short, value_name = "FORM", default_value = "text")]
        output: OutputForm,
    },
    /// Write the store as it is at this moment to a file
    Backup {
        /// The provider's config file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The file to make; - is standard output
        #[arg(value_name = "BACKUP")]
        backup: PathBuf,
        /// Leave out sign-ins and refresh tokens
        #[arg(long)]
        without_sessions: bool,
    },
    /// Fill an empty store from a backup; stop every replica of the provider first
    Restore {
        /// The provider's config file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The backup
        #[arg(value_name = "BACKUP")]
        backup: PathBuf,
        #[command(flatten)]
        fill: StoreFill,
    },
    /// Fill an empty store from another one, of whatever backend; stop every replica that uses the target first
    Copy {
        /// The config file of the store that is read
        #[arg(value_name = "FROM")]
        from: PathBuf,
        /// The config file of the store that is written
        #[arg(value_name = "TO")]
        to: PathBuf,
        #[command(flatten)]
        fill: StoreFill,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StoreFill {
    /// Replace what the target holds, and delete what is too much there
    #[arg(long)]
    pub(crate) replace: bool,
    /// Leave out sign-ins and refresh tokens
    #[arg(long)]
    pub(crate) without_sessions: bool,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputForm {
    /// For people
    Text,
    /// For programs
    Json,
}

impl StateArgs {
    /// The name where no file says another.
    pub(crate) fn name_or_default(&self) -> String {
        self.name.clone().unwrap_or_else(|| "dev".to_owned())
    }
}

impl Command {
    /// For a command that is not built yet: its name, and what to use until it is.
    pub(crate) const fn not_built(&self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::Webhook(_) => ("webhook", "configure the API server's --oidc-* flags or --authentication-config"),
            Self::Gateway(_) => ("gateway", "use kube-oidc-proxy, or an API server that can be configured"),
            Self::CanI(_) => ("can-i", "`kubectl auth can-i VERB RESOURCE --as=USER`"),
            Self::WhoCan(_) => ("who-can", "`kubectl get clusterrolebindings,rolebindings -A -o wide`"),
            Self::Trust(_) => (
                "trust",
                "put the five oidc-* flags of the guide's kind-config.yaml into the API server's configuration",
            ),
            Self::Doctor(_) => ("doctor", "`kubectl oidc-login setup …` walks discovery, sign-in and claims"),
            Self::Tunnel(_) => ("tunnel", "none is needed on one machine: `portcullis up`"),
            Self::Keys(_) => ("keys", "keys rotate by themselves; see signer.config.keysRotationPeriod"),
            Self::Import(_) => {
                ("import", "`portcullis serve FILE` reads Dex's config; Dex's stored objects are not read yet")
            }
            Self::Up(_)
            | Self::Down(_)
            | Self::Serve(_)
            | Self::Login(_)
            | Self::Apiserver(_)
            | Self::Check(_)
            | Self::Store(_) => return None,
        })
    }
}

/// For a `login` command that kubelogin does not have and that is not built yet: its name, and what to use instead.
pub(crate) fn login_not_built(arguments: &[OsString]) -> Option<(&'static str, &'static str)> {
    let first = arguments.first()?.to_str()?;
    let instead = [
        (
            "status",
            "`kubectl auth whoami` says who the API server takes you for; `-v1` at get-token names the cache file",
        ),
        ("logout", "`portcullis login clean` removes the cached tokens"),
        ("switch", "`kubectl config use-context CONTEXT`, or `--user` at `kubectl config set-context --current`"),
        ("kubeconfig", "`portcullis login setup …` prints the kubectl commands that make the entry"),
        ("convert", "kubelogin's arguments work as they are: put `kubectl-oidc_login` on PATH under that name"),
    ];
    instead.into_iter().find(|(name, _)| *name == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn use_without_a_kubeconfig_is_a_usage_error() {
        assert!(Cli::try_parse_from(["portcullis", "up", "--use"]).is_err());
        assert!(Cli::try_parse_from(["portcullis", "up", "--use", "--kubeconfig", "x"]).is_ok());
    }

    #[test]
    fn an_issuer_needs_a_client_and_goes_with_nothing_of_our_provider() {
        let given = ["portcullis", "up", "--issuer=https://a", "--client-id=k"];
        let parse = |more: &[&str]| Cli::try_parse_from(given.iter().chain(more));
        for more in [
            &["--values=x"][..],
            &["--cluster-config=x"],
            &["--issuer-port=1"],
            &["--keep-issuer"],
            &["--fix-demo-hash"],
            &["--trust"],
            &["--guide"],
            &["--no-bind"],
            &["--unattended"],
            &["--unattended", "--keep"],
            &["--client-secret=a", "--client-secret-file=b"],
        ] {
            let kind = parse(more).map(drop).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::ArgumentConflict, "{more:?}");
        }
        assert!(parse(&["--keep-state", "--port=0", "--name=a", "--kubeconfig=x", "--use"]).is_ok());
        for alone in
            ["--issuer=https://a", "--client-id=k", "--username-claim=email", "--issuer-ca=x", "--extra-scope=x"]
        {
            assert!(Cli::try_parse_from(["portcullis", "up", alone]).is_err(), "{alone}");
        }
    }

    #[test]
    fn the_flags_about_an_issuer_become_the_api_servers_and_the_secret_is_not_shown() {
        let given = [
            "--client-id=k",
            "--client-secret=hush",
            "--username-claim=email",
            "--username-prefix=-",
            "--groups-claim=groups",
            "--groups-prefix=g:",
            "--signing-algs=ES256",
            "--required-claim=a=b=c",
            "--extra-scope=x",
        ];
        let cli = Cli::try_parse_from(["portcullis", "up", "--issuer=https://a"].iter().chain(&given)).unwrap();
        let Command::Up(up) = cli.command else { panic!("another command") };
        assert!(!format!("{:?}", up.issuer).contains("hush"));
        let flags = up.issuer.into_flags().unwrap();
        assert_eq!(
            flags.oidc,
            [
                "--oidc-issuer-url=https://a",
                "--oidc-client-id=k",
                "--oidc-username-claim=email",
                "--oidc-username-prefix=-",
                "--oidc-groups-claim=groups",
                "--oidc-groups-prefix=g:",
                "--oidc-signing-algs=ES256",
                "--oidc-required-claim=a=b=c",
            ]
        );
        assert_eq!((flags.client_secret.unwrap().expose(), flags.extra_scopes), ("hush", vec!["x".to_owned()]));
    }

    #[test]
    fn flags_about_a_provider_of_ones_own_need_it_whatever_else_is_given() {
        for flag in [
            "--client-id=x",
            "--client-secret=x",
            "--client-secret-file=x",
            "--issuer-ca=x",
            "--extra-scope=x",
            "--username-claim=x",
            "--username-prefix=x",
            "--groups-claim=x",
            "--groups-prefix=x",
            "--signing-algs=x",
            "--required-claim=a=b",
        ] {
            for more in [&[][..], &["--issuer-port=0"], &["--unattended", "--keep"]] {
                let given = ["portcullis", "up", flag].iter().chain(more).map(OsString::from).collect();
                let error = Cli::read(given).expect_err(flag);
                assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{flag} {more:?}");
            }
        }
    }

    #[test]
    fn the_help_of_up_has_what_is_about_ones_own_provider_last() {
        let help = Cli::read(["portcullis", "up", "--help"].iter().map(OsString::from).collect()).expect_err("help");
        let help = help.to_string();
        let (ours, own) = help.split_once("Your own provider").unwrap();
        for flag in ["--values", "--cluster-config", "--guide", "--unattended", "--keep-state"] {
            assert!(ours.contains(flag) && !own.contains(flag), "{flag}");
        }
        assert!(own.contains("--issuer <URL>") && own.contains("--required-claim"), "{own}");
    }

    #[test]
    fn the_oidc_flags_reach_their_reader_as_given() {
        let given = [
            "--oidc-issuer-url=https://i",
            "--oidc-client-id=c",
            "--oidc-signing-algs=RS256,ES256",
            "--oidc-required-claim=a=b=c",
        ];
        let cli = Cli::try_parse_from(["portcullis", "apiserver"].iter().chain(&given)).unwrap();
        let Command::Apiserver(apiserver) = cli.command else { panic!("another command") };
        assert_eq!(apiserver.oidc.into_arguments(), given);
    }

    #[test]
    fn the_flag_about_anonymous_requests_is_read_as_go_does() {
        let anonymous = |flag: &[&str]| {
            let cli = Cli::try_parse_from(["portcullis", "apiserver"].iter().chain(flag))?;
            let Command::Apiserver(apiserver) = cli.command else { panic!("another command") };
            Ok::<_, clap::Error>(apiserver.anonymous_auth)
        };
        assert_eq!(anonymous(&[]).unwrap(), None);
        assert_eq!(anonymous(&["--anonymous-auth"]).unwrap(), Some(true));
        assert_eq!(anonymous(&["--anonymous-auth", "--secure-port=1"]).unwrap(), Some(true));
        assert_eq!(anonymous(&["--anonymous-auth=T"]).unwrap(), Some(true));
        assert_eq!(anonymous(&["--anonymous-auth=false"]).unwrap(), Some(false));
        assert_eq!(anonymous(&["--anonymous-auth=false", "--anonymous-auth"]).unwrap(), Some(true));
        for flag in ["--anonymous-auth=no", "--anonymous-auth="] {
            assert!(anonymous(&[flag]).is_err(), "{flag}");
        }
        assert!(anonymous(&["--anonymous-auth", "false"]).is_err(), "a value needs its =");
    }

    #[test]
    fn the_audit_flags_have_upstreams_defaults_but_for_the_mode() {
        let options = |given: &[&str]| {
            let cli = Cli::try_parse_from(["portcullis", "apiserver"].iter().chain(given)).unwrap();
            let Command::Apiserver(apiserver) = cli.command else { panic!("another command") };
            apiserver.audit.into_options()
        };
        assert_eq!(options(&[]), AuditOptions::default());
        let given = options(&["--audit-log-path=-", "--audit-log-maxage=-1", "--audit-log-mode=blocking"]);
        assert_eq!((given.max_age, given.mode, given.path), (-1, AuditMode::Blocking, Some("-".into())));
        assert!(Cli::try_parse_from(["portcullis", "apiserver", "--audit-log-mode=odd"]).is_err());
    }

    #[test]
    fn login_commands_of_the_design_that_are_not_built_name_a_way() {
        for name in ["status", "logout", "switch", "kubeconfig", "convert"] {
            assert_eq!(login_not_built(&[name.into(), "--help".into()]).unwrap().0, name);
        }
        for kubelogins_own in ["get-token", "setup", "clean", "version", "help", "completion", "--help", "other"] {
            assert!(login_not_built(&[kubelogins_own.into()]).is_none(), "{kubelogins_own}");
        }
        assert!(login_not_built(&[]).is_none());
    }

    #[test]
    fn every_command_that_is_not_built_names_a_way() {
        for name in ["webhook", "gateway", "can-i", "who-can", "trust", "doctor", "tunnel", "keys", "import"] {
            let cli = Cli::try_parse_from(["portcullis", name, "--any", "x"]).unwrap();
            let (said, instead) = cli.command.not_built().unwrap();
            assert_eq!(said, name);
            assert!(!instead.is_empty());
        }
    }
}
