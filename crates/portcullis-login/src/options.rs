//! The flags of `get-token` and `setup`, checked and typed.
//!
//! Compat: the checks, their order and their words are kubelogin's (reference section 1.5).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use portcullis_runtime::Secret;

use crate::cache::{CacheKey, PkceOption, Renegotiation};
use crate::flags::{DEFAULT_LISTEN, DEFAULT_TIMEOUT_SECONDS};
use crate::paths::expand_tilde;
use crate::pflag::Parsed;

/// Where tokens are kept between runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Files in the cache folder.
    Disk,
    /// The desktop's keyring.
    Keyring,
    /// Nowhere.
    None,
}

/// How to reach the provider's TLS.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsOptions {
    /// PEM files.
    pub(crate) ca_files: Vec<String>,
    /// Base64 of PEM text.
    pub(crate) ca_data: Vec<String>,
    /// Accept any certificate.
    pub(crate) skip_verify: bool,
    /// Asked for, never done.
    pub(crate) renegotiation: Renegotiation,
}

/// The browser grant.
#[derive(Debug, Clone)]
pub(crate) struct BrowserOptions {
    /// Addresses for the local server, in order.
    pub(crate) listen: Vec<String>,
    /// Only print the URL.
    pub(crate) skip_open: bool,
    /// Program instead of the system's opener.
    pub(crate) command: String,
    /// How long to wait for the sign-in.
    pub(crate) timeout: Duration,
    /// Certificate file of the local server, empty for plain http.
    pub(crate) cert: String,
    /// Key file of the local server.
    pub(crate) key: String,
    /// Page to go to after the sign-in.
    pub(crate) open_url_after: String,
    /// Host of the redirect URL, from the removed `--oidc-redirect-url-hostname`.
    pub(crate) hostname: String,
}

/// How to sign in.
#[derive(Debug, Clone)]
pub(crate) enum Grant {
    /// Authorization code with a local server.
    Browser(BrowserOptions),
    /// Authorization code, typed in.
    Keyboard,
    /// Username and password; empty ones are asked for.
    Password {
        /// May be empty.
        username: String,
        /// May be empty.
        password: Secret,
    },
    /// kubelogin has it and this program does not yet.
    NotBuilt {
        /// kubelogin's name for the grant in its errors.
        name: &'static str,
        /// What to use instead.
        instead: &'static str,
    },
}

/// Everything a login needs to know.
#[derive(Debug, Clone)]
pub(crate) struct LoginOptions {
    /// `--oidc-issuer-url`.
    pub(crate) issuer_url: String,
    /// `--oidc-client-id`.
    pub(crate) client_id: String,
    /// `--oidc-client-secret`, empty for a public client.
    pub(crate) client_secret: Secret,
    /// `--oidc-redirect-url`, empty for the local server's own.
    pub(crate) redirect_url: String,
    /// `--oidc-extra-scope`.
    pub(crate) extra_scopes: Vec<String>,
    /// `--oidc-use-access-token`.
    pub(crate) use_access_token: bool,
    /// `--oidc-refresh-with-scope`.
    pub(crate) refresh_with_scope: bool,
    /// `--oidc-request-header`.
    pub(crate) request_headers: Option<BTreeMap<String, String>>,
    /// TLS towards the provider.
    pub(crate) tls: TlsOptions,
    /// `--oidc-pkce-method`.
    pub(crate) pkce: PkceOption,
    /// The grant and its options.
    pub(crate) grant: Grant,
    /// `--oidc-auth-request-extra-params` as the grant uses them: absent for password and device code, never absent for
    /// client credentials.
    pub(crate) extra_params: Option<BTreeMap<String, String>>,
}

/// What `get-token` needs beside a login.
#[derive(Debug, Clone)]
pub(crate) struct GetTokenOptions {
    /// The login.
    pub(crate) login: LoginOptions,
    /// `--force-refresh`.
    pub(crate) force_refresh: bool,
    /// `--token-cache-dir`.
    pub(crate) cache_dir: String,
    /// `--token-cache-storage`.
    pub(crate) storage: Storage,
}

impl LoginOptions {
    /// Reads the flags that `get-token` and `setup` share. `home` is given where tildes are expanded.
    pub(crate) fn from_flags(flags: &Parsed, home: Option<&Path>) -> Result<Self, String> {
        let path = |name: &str| expand_tilde(&flags.text(name), home);
        let given_params = flags.map("oidc-auth-request-extra-params");
        let username = flags.text("username");
        let browser = || {
            let defaults = || DEFAULT_LISTEN.map(str::to_owned).to_vec();
            Grant::Browser(BrowserOptions {
                listen: flags.list("listen-address").unwrap_or_else(defaults),
                skip_open: flags.bool("skip-open-browser"),
                command: flags.text("browser-command"),
                timeout: timeout(flags.int_or("authentication-timeout-sec", DEFAULT_TIMEOUT_SECONDS)),
                cert: path("local-server-cert"),
                key: path("local-server-key"),
                open_url_after: flags.text("open-url-after-authentication"),
                hostname: flags.text("oidc-redirect-url-hostname"),
            })
        };
        let password = || Grant::Password { username: username.clone(), password: Secret::new(flags.text("password")) };
        let (grant, extra_params) = match flags.text_or("grant-type", "auto").as_str() {
            "auto" if !username.is_empty() => (password(), None),
            "auto" | "authcode" => (browser(), given_params),
            "authcode-keyboard" => (Grant::Keyboard, given_params),
            "password" => (password(), None),
            "device-code" => (Grant::NotBuilt { name: "device-code", instead: "--grant-type=authcode-keyboard" }, None),
            "client-credentials" => {
                let grant = Grant::NotBuilt { name: "client-credentials", instead: "--grant-type=authcode" };
                (grant, Some(given_params.unwrap_or_default()))
            }
            _ => {
                return Err("grant-type must be one of (auto|authcode|authcode-keyboard|password|device-code|client-credentials)"
                    .to_owned());
            }
        };
        let pkce = match flags.text_or("oidc-pkce-method", "auto").as_str() {
            "auto" | "no" | "S256" if flags.bool("oidc-use-pkce") => PkceOption::S256,
            "auto" => PkceOption::Auto,
            "no" => PkceOption::No,
            "S256" => PkceOption::S256,
            _ => return Err("oidc-pkce-method must be one of (auto|no|S256)".to_owned()),
        };
        Ok(Self {
            issuer_url: flags.text("oidc-issuer-url"),
            client_id: flags.text("oidc-client-id"),
            client_secret: Secret::new(flags.text("oidc-client-secret")),
            redirect_url: flags.text("oidc-redirect-url"),
            extra_scopes: flags.list("oidc-extra-scope").unwrap_or_default(),
            use_access_token: flags.bool("oidc-use-access-token"),
            refresh_with_scope: flags.bool("oidc-refresh-with-scope"),
            request_headers: flags.map("oidc-request-header"),
            tls: TlsOptions {
                ca_files: expand_all(flags.list("certificate-authority"), home),
                ca_data: flags.list("certificate-authority-data").unwrap_or_default(),
                skip_verify: flags.bool("insecure-skip-tls-verify"),
                renegotiation: if flags.bool("tls-renegotiation-once") {
                    Renegotiation::Once
                } else if flags.bool("tls-renegotiation-freely") {
                    Renegotiation::Freely
                } else {
                    Renegotiation::Never
                },
            },
            pkce,
            grant,
            extra_params,
        })
    }

    /// The key of the cached login.
    pub(crate) fn cache_key(&self) -> CacheKey {
        CacheKey {
            issuer_url: self.issuer_url.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.expose().to_owned(),
            extra_scopes: self.extra_scopes.clone(),
            redirect_url: self.redirect_url.clone(),
            pkce: self.pkce,
            use_access_token: self.use_access_token,
            request_headers: self.request_headers.clone(),
            ca_files: self.tls.ca_files.clone(),
            ca_data: self.tls.ca_data.clone(),
            skip_tls_verify: self.tls.skip_verify,
            renegotiation: self.tls.renegotiation,
            username: match &self.grant {
                Grant::Password { username, .. } => username.clone(),
                Grant::Browser(_) | Grant::Keyboard | Grant::NotBuilt { .. } => String::new(),
            },
            extra_params: self.extra_params.clone(),
        }
    }

    /// The scopes of the request: the extra ones in order, then `openid`; nothing is removed, as in kubelogin.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let mut scopes = self.extra_scopes.clone();
        scopes.push("openid".to_owned());
        scopes
    }
}

impl GetTokenOptions {
    /// Reads the flags of `get-token`. The error is the text after `error: `.
    pub(crate) fn from_flags(flags: &Parsed, home: Option<&Path>, default_cache_dir: &str) -> Result<Self, String> {
        for name in ["oidc-issuer-url", "oidc-client-id"] {
            if flags.text(name).is_empty() {
                return Err(format!("--{name} is missing"));
            }
        }
        let prefixed = |text: String| format!("get-token: {text}");
        let login = LoginOptions::from_flags(flags, home).map_err(prefixed)?;
        let storage = match flags.text_or("token-cache-storage", "disk").as_str() {
            "disk" => Storage::Disk,
            "keyring" => Storage::Keyring,
            "none" => Storage::None,
            _ => return Err(prefixed("token-cache-storage must be one of (disk|keyring|none)".to_owned())),
        };
        Ok(Self {
            login,
            force_refresh: flags.bool("force-refresh"),
            cache_dir: expand_tilde(&flags.text_or("token-cache-dir", default_cache_dir), home),
            storage,
        })
    }
}

fn expand_all(paths: Option<Vec<String>>, home: Option<&Path>) -> Vec<String> {
    paths.unwrap_or_default().iter().map(|path| expand_tilde(path, home)).collect()
}

/// Seconds of a flag as a duration; zero and negative ones end at once, as a Go context does.
fn timeout(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default().min(u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flags, pflag};

    const BASE: [&str; 2] = ["--oidc-issuer-url=https://issuer.example.com", "--oidc-client-id=kubernetes"];

    fn options(more: &[&str]) -> Result<GetTokenOptions, String> {
        let arguments: Vec<String> = BASE.iter().chain(more).map(|text| (*text).to_owned()).collect();
        let mut parsed = pflag::parse(&flags::of_command("get-token"), &arguments)?;
        flags::translate_removed(&mut parsed);
        GetTokenOptions::from_flags(&parsed, Some(Path::new("/home/u")), "~/.kube/cache/oidc-login")
    }

    fn error(more: &[&str]) -> String {
        options(more).expect_err("must fail")
    }

    fn browser(options: GetTokenOptions) -> BrowserOptions {
        match options.login.grant {
            Grant::Browser(browser) => browser,
            other => panic!("not the browser grant: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_kubelogins() {
        let options = options(&[]).expect("valid");
        assert_eq!(options.cache_dir, "/home/u/.kube/cache/oidc-login");
        assert_eq!(options.storage, Storage::Disk);
        assert_eq!(options.login.scopes(), ["openid"]);
        assert_eq!(
            options.login.cache_key().file_name(),
            "e86f17bb894f37a5c90b523f0f8aa372904cf54f7123d57c4f408614db582fd4"
        );
        let browser = browser(options);
        assert_eq!(browser.listen, ["127.0.0.1:8000", "127.0.0.1:18000"]);
        assert_eq!(browser.timeout, Duration::from_secs(180));
    }

    #[test]
    fn a_mandatory_flag_that_is_missing_is_named_issuer_first() {
        let empty = GetTokenOptions::from_flags(&Parsed::default(), None, "x").expect_err("must fail");
        assert_eq!(empty, "--oidc-issuer-url is missing");
        assert_eq!(error(&["--oidc-client-id="]), "--oidc-client-id is missing");
    }

    #[test]
    fn wrong_choices_are_refused_with_kubelogins_words() {
        assert_eq!(
            error(&["--grant-type=x"]),
            "get-token: grant-type must be one of (auto|authcode|authcode-keyboard|password|device-code|client-credentials)"
        );
        assert_eq!(
            error(&["--token-cache-storage=auto"]),
            "get-token: token-cache-storage must be one of (disk|keyring|none)"
        );
        assert_eq!(error(&["--oidc-pkce-method=s256"]), "get-token: oidc-pkce-method must be one of (auto|no|S256)");
    }

    #[test]
    fn tildes_are_expanded_in_every_path() {
        let options = options(&[
            "--certificate-authority=~/ca.pem",
            "--local-server-cert=~/c",
            "--local-server-key=~/k",
            "--token-cache-dir=~/cache",
        ])
        .expect("valid");
        assert_eq!(options.login.tls.ca_files, ["/home/u/ca.pem"]);
        assert_eq!(options.cache_dir, "/home/u/cache");
        let browser = browser(options);
        assert_eq!((browser.cert.as_str(), browser.key.as_str()), ("/home/u/c", "/home/u/k"));
    }

    #[test]
    fn a_username_under_auto_means_the_password_grant_and_enters_the_key() {
        let with = options(&["--username=u", "--oidc-auth-request-extra-params=a=1"]).expect("valid");
        assert!(matches!(&with.login.grant, Grant::Password { username, .. } if username == "u"));
        let key = with.login.cache_key();
        assert_eq!((key.username.as_str(), key.extra_params), ("u", None));
        let authcode = options(&["--username=u", "--grant-type=authcode"]).expect("valid");
        assert_eq!(authcode.login.cache_key().username, "");
    }

    #[test]
    fn extra_parameters_enter_the_key_as_kubelogin_has_them() {
        let params = |more: &[&str]| options(more).expect("valid").login.cache_key().extra_params;
        assert_eq!(params(&[]), None);
        assert_eq!(params(&["--grant-type=client-credentials"]), Some(BTreeMap::new()));
        assert_eq!(params(&["--grant-type=device-code", "--oidc-auth-request-extra-params=a=1"]), None);
        let given = Some(BTreeMap::from([("a".to_owned(), "1".to_owned())]));
        assert_eq!(params(&["--oidc-auth-request-extra-params=a=1"]), given);
        assert_eq!(params(&["--grant-type=authcode-keyboard", "--oidc-auth-request-extra-params=a=1"]), given);
    }

    #[test]
    fn pkce_and_renegotiation_flags_have_kubelogins_precedence() {
        let pkce = |more: &[&str]| options(more).expect("valid").login.pkce;
        assert_eq!(pkce(&[]), PkceOption::Auto);
        assert_eq!(pkce(&["--oidc-pkce-method=no"]), PkceOption::No);
        assert_eq!(pkce(&["--oidc-use-pkce"]), PkceOption::S256);
        assert_eq!(pkce(&["--oidc-use-pkce", "--oidc-pkce-method=no"]), PkceOption::S256);
        let tls = |more: &[&str]| options(more).expect("valid").login.tls.renegotiation;
        assert_eq!(tls(&["--tls-renegotiation-once", "--tls-renegotiation-freely"]), Renegotiation::Once);
        assert_eq!(tls(&["--tls-renegotiation-freely"]), Renegotiation::Freely);
    }

    #[test]
    fn secrets_are_not_in_the_debug_output() {
        let options = options(&["--oidc-client-secret=hush-1", "--username=u", "--password=hush-2"]).expect("valid");
        assert!(!format!("{options:?}").contains("hush"));
    }

    #[test]
    fn odd_timeouts_never_overflow() {
        for (seconds, want) in [(0, 0), (-5, 0), (i64::MAX, u64::from(u32::MAX))] {
            assert_eq!(timeout(seconds), Duration::from_secs(want));
        }
    }
}
