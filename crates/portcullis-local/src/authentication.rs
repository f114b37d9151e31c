//! Whom the API server of `apiserver` lets in: kube-apiserver's `--oidc-*` flags, or its `--authentication-config`, and what
//! holds for requests without credentials.
//!
//! Flow: the rules between the flags → the file, read and checked → an authenticator that follows it until the end.
//!
//! Compat: `pkg/kubeapiserver/options/authentication.go` of Kubernetes v1.37: the rules, their order and their words.

use std::path::PathBuf;

use portcullis_apiserver::{SERVICE_ACCOUNT_ISSUER, TokenAuthenticator};
use portcullis_authn::{
    ConfigError, ConfigFile, LiveAuthenticator, Network, OidcFlags, Options, ReloadError, ReloadMetrics,
};
use portcullis_kube::authentication_config::AnonymousAuthConfig;
use portcullis_runtime::telemetry::Metrics;
use portcullis_runtime::{Clock, Shutdown};

use crate::up::{UpError, api_server};

/// kube-apiserver's flags about who is let in.
#[derive(Debug, Default)]
pub struct AuthenticationOptions {
    /// `--oidc-*`, one argument each.
    pub oidc: Vec<String>,
    /// `--authentication-config`; an empty path is none.
    pub config_file: Option<PathBuf>,
    /// `--anonymous-auth`, where it was given.
    pub anonymous_auth: Option<bool>,
}

/// Flags that go with each other.
#[derive(Debug)]
pub(crate) struct Checked {
    flags: OidcFlags,
    file: Option<ConfigFile>,
    anonymous: AnonymousAuthConfig,
}

/// What the API server starts with.
pub(crate) struct Authentication {
    pub(crate) tokens: TokenAuthenticator,
    pub(crate) anonymous: AnonymousAuthConfig,
    /// The issuer of the flags.
    pub(crate) issuer: Option<String>,
    /// Whose tokens are good, for people; `None` without a file.
    pub(crate) of_file: Option<String>,
}

impl AuthenticationOptions {
    /// The rules between the flags.
    pub(crate) fn check(&self) -> Result<Checked, UpError> {
        let (flags, _) = OidcFlags::parse(&self.oidc)?;
        let path = self.config_file.clone().filter(|path| !path.as_os_str().is_empty());
        if path.is_some() && flags.set {
            return Err(refused(ConfigError::FileAndFlags));
        }
        let own = || vec![SERVICE_ACCOUNT_ISSUER.to_owned()];
        let anonymous_auth = self.anonymous_auth;
        let file = path.map(|path| ConfigFile { disallowed: own(), anonymous_auth, ..ConfigFile::at(path) });
        let anonymous = AnonymousAuthConfig::everywhere(self.anonymous_auth.unwrap_or(true));
        Ok(Checked { flags, file, anonymous })
    }
}

impl Checked {
    /// Reads what they name. A file is followed until `stop`, which the metrics of the server of that name tell; issuers are
    /// discovered in the background.
    pub(crate) fn start(
        self,
        clock: &Clock,
        (metrics, server): (&Metrics, &str),
        stop: &Shutdown,
    ) -> Result<Authentication, UpError> {
        let network = Network::default();
        let Some(mut file) = self.file else {
            let tokens = api_server::tokens(api_server::trust(&self.flags, None, clock, &network, stop)?);
            let issuer = self.flags.is_on().then_some(self.flags.issuer_url);
            return Ok(Authentication { tokens, anonymous: self.anonymous, issuer, of_file: None });
        };
        file.metrics = Some(ReloadMetrics::new(metrics, server));
        let named = file.path.display().to_string();
        let live = LiveAuthenticator::start(file, Options::new(clock.clone()), &network, stop)?;
        let tokens = api_server::tokens(Some(live.authenticator().clone()));
        let anonymous = live.anonymous();
        let of_file = Some(match live.initial().issuers().len() {
            0 => format!("none yet in {named}, which is followed"),
            1 => format!("1 in {named}, which is followed"),
            more => format!("{more} in {named}, which is followed"),
        });
        let stop = stop.clone();
        tokio::spawn(async move { live.watch(&stop).await });
        Ok(Authentication { tokens, anonymous, issuer: None, of_file })
    }
}

fn refused(error: ConfigError) -> UpError {
    UpError::Authentication(ReloadError::Config(error))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const EMPTY: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

    fn start(options: &AuthenticationOptions) -> Result<Authentication, UpError> {
        let clock = Clock::system();
        options.check()?.start(&clock, (&Metrics::new(&clock), "dev-control-plane"), &Shutdown::new())
    }

    fn refusal(options: &AuthenticationOptions) -> String {
        start(options).err().map(|error| portcullis_runtime::chain(&error)).unwrap_or_default()
    }

    fn flags(oidc: &[&str]) -> AuthenticationOptions {
        AuthenticationOptions { oidc: oidc.iter().map(ToString::to_string).collect(), ..Default::default() }
    }

    fn with_file(path: &Path) -> AuthenticationOptions {
        AuthenticationOptions { config_file: Some(path.to_owned()), ..Default::default() }
    }

    #[tokio::test]
    async fn refused_flags_are_said_once_in_kube_apiservers_words() {
        for (more, want) in [
            (
                &["--oidc-issuer-url=http://x", "--oidc-client-id=c"][..],
                "invalid authentication configuration: jwt[0].issuer.url: Invalid value: \"http://x\": URL scheme must be https",
            ),
            (
                &["--oidc-issuer-url=https://x", "--oidc-client-id=c", "--oidc-signing-algs=HS256"],
                "oidc: unsupported signing alg: \"HS256\"",
            ),
            (
                &["--oidc-issuer-url=https://x"],
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set",
            ),
            (
                &["--oidc-issuer-url=https://kubernetes.default.svc.cluster.local", "--oidc-client-id=c"],
                "issuer.url: Invalid value: \"https://kubernetes.default.svc.cluster.local\": URL must not overlap with disallowed issuers: [https://kubernetes.default.svc.cluster.local]",
            ),
        ] {
            assert_eq!(refusal(&flags(more)), format!("cannot start the API server: {want}"));
        }
    }

    #[tokio::test]
    async fn a_file_and_oidc_flags_exclude_each_other_before_the_file_is_read() {
        let mut both = with_file(Path::new("/nowhere"));
        // A flag that is given its default is given.
        both.oidc = vec!["--oidc-username-claim=sub".to_owned()];
        assert_eq!(refusal(&both), "authentication-config file and oidc-* flags are mutually exclusive");
        assert!(both.check().err().and_then(|error| error.hint()).is_some_and(|hint| hint.contains("into the file")));
        // Compat: an empty name is no file.
        assert!(start(&with_file(Path::new(""))).unwrap().of_file.is_none());
    }

    #[tokio::test]
    async fn the_file_and_the_flag_decide_about_anonymous_requests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authentication.yaml");
        std::fs::write(&path, EMPTY).unwrap();
        for flag in [None, Some(true), Some(false)] {
            for mut options in [with_file(&path), flags(&[])] {
                options.anonymous_auth = flag;
                assert_eq!(start(&options).unwrap().anonymous.enabled, flag.unwrap_or(true));
            }
        }
        std::fs::write(&path, format!("{EMPTY}anonymous:\n  enabled: false\n")).unwrap();
        assert!(!start(&with_file(&path)).unwrap().anonymous.enabled);
        let both = AuthenticationOptions { anonymous_auth: Some(false), ..with_file(&path) };
        assert!(refusal(&both).starts_with("anonymous: Forbidden: --anonymous-auth flag cannot be set when"));
    }

    #[tokio::test]
    async fn a_file_says_whom_it_trusts_and_must_not_name_the_servers_own_issuer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authentication.yaml");
        let issuer = |url: &str| {
            format!(
                "- issuer: {{url: \"{url}\", audiences: [a]}}\n  claimMappings: {{username: {{claim: sub, prefix: \"\"}}}}\n"
            )
        };
        for (issuers, want) in [
            (String::new(), "none yet in "),
            (format!("jwt:\n{}", issuer("https://127.0.0.1:1")), "1 in "),
            (format!("jwt:\n{}{}", issuer("https://127.0.0.1:1"), issuer("https://127.0.0.1:1/x")), "2 in "),
        ] {
            std::fs::write(&path, format!("{EMPTY}{issuers}")).unwrap();
            let said = start(&with_file(&path)).unwrap().of_file.unwrap();
            assert_eq!(said, format!("{want}{}, which is followed", path.display()));
        }
        std::fs::write(&path, format!("{EMPTY}jwt:\n{}", issuer(SERVICE_ACCOUNT_ISSUER))).unwrap();
        assert!(refusal(&with_file(&path)).contains("URL must not overlap with disallowed issuers"));
    }
}
