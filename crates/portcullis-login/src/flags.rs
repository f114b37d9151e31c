//! kubelogin's flags, command by command, in its order (help shows them so; reference section 1.2).
//!
//! Flags that kubelogin dropped over time are still taken, with a word: many kubeconfigs carry them (section 1.3).

use crate::pflag::{Flag, Kind, Parsed, Value, flag};

/// Default of `--listen-address`.
pub(crate) const DEFAULT_LISTEN: [&str; 2] = ["127.0.0.1:8000", "127.0.0.1:18000"];

/// Default of `--authentication-timeout-sec`.
pub(crate) const DEFAULT_TIMEOUT_SECONDS: i64 = 180;

const PROVIDER: &[Flag] = &[
    flag("oidc-issuer-url", Kind::Text, "", "Issuer URL of the provider (mandatory)"),
    flag("oidc-client-id", Kind::Text, "", "Client ID at the provider (mandatory)"),
    flag("oidc-client-secret", Kind::Text, "", "Client secret, for a confidential client"),
    flag("oidc-redirect-url", Kind::Text, "", "[authcode, authcode-keyboard] Redirect URL registered at the provider"),
    flag("oidc-extra-scope", Kind::Slice, "", "Scopes to ask for beside openid"),
    flag("oidc-use-access-token", Kind::Bool, "", "Hand the access token to Kubernetes instead of the ID token"),
    flag("oidc-request-header", Kind::Map, "[]", "HTTP headers of every request to the provider (key=value)"),
];

const FORCE_REFRESH: Flag = flag("force-refresh", Kind::Bool, "", "Refresh the token even when it is still valid");

/// Ours, not kubelogin's (its issue #798).
const REFRESH_WITH_SCOPE: Flag = flag(
    "oidc-refresh-with-scope",
    Kind::Bool,
    "",
    "Send the scopes with a refresh too, for providers that drop claims without (Portcullis only)",
);

const CACHE_DIR: Flag = flag("token-cache-dir", Kind::Text, "", "Folder of the token cache");

const CACHE_STORAGE: Flag =
    flag("token-cache-storage", Kind::Text, "\"disk\"", "Where tokens are cached: disk, keyring or none");

const TLS: &[Flag] = &[
    flag("certificate-authority", Kind::Array, "", "File with the certificate authority of the provider (PEM)"),
    flag("certificate-authority-data", Kind::Array, "", "The same as base64 of the PEM text"),
    flag(
        "insecure-skip-tls-verify",
        Kind::Bool,
        "",
        "[SECURITY RISK] Accept any certificate from the provider: tokens can be stolen",
    ),
    flag("tls-renegotiation-once", Kind::Bool, "", "Accepted for kubelogin's sake; renegotiation is never done"),
    flag("tls-renegotiation-freely", Kind::Bool, "", "Accepted for kubelogin's sake; renegotiation is never done"),
];

const PKCE: &[Flag] = &[
    Flag {
        name: "oidc-use-pkce",
        short: None,
        kind: Kind::Bool,
        default: "",
        usage: "Always use PKCE",
        deprecated: Some("use --oidc-pkce-method instead"),
    },
    flag("oidc-pkce-method", Kind::Text, "\"auto\"", "PKCE: auto (as the provider announces), no or S256"),
];

const AUTHENTICATION: &[Flag] = &[
    flag(
        "grant-type",
        Kind::Text,
        "\"auto\"",
        "auto, authcode, authcode-keyboard, password, device-code or client-credentials",
    ),
    flag(
        "listen-address",
        Kind::Slice,
        "[127.0.0.1:8000,127.0.0.1:18000]",
        "[authcode] Addresses for the local server; the first free one is used",
    ),
    flag("skip-open-browser", Kind::Bool, "", "[authcode] Do not open the browser"),
    flag("browser-command", Kind::Text, "", "[authcode] Program that opens the browser; it gets the URL"),
    flag("authentication-timeout-sec", Kind::Int, "180", "[authcode] Seconds to wait for the sign-in"),
    flag("local-server-cert", Kind::Text, "", "[authcode] Certificate file of the local server"),
    flag("local-server-key", Kind::Text, "", "[authcode] Key file of the local server"),
    flag("open-url-after-authentication", Kind::Text, "", "[authcode] Page to show after the sign-in"),
    flag(
        "oidc-auth-request-extra-params",
        Kind::Map,
        "[]",
        "[authcode, authcode-keyboard, client-credentials] Extra parameters of the request (key=value)",
    ),
    flag("username", Kind::Text, "", "[password] Username; asked for when missing"),
    flag("password", Kind::Text, "", "[password] Password; asked for when missing"),
];

const fn removed(name: &'static str, kind: Kind, instead: &'static str) -> Flag {
    Flag { name, short: None, kind, default: "", usage: "", deprecated: Some(instead) }
}

const REMOVED: &[Flag] = &[
    removed("listen-port", Kind::Slice, "use --listen-address instead"),
    removed("oidc-redirect-url-hostname", Kind::Text, "use --oidc-redirect-url instead"),
    removed("oidc-redirect-url-authcode-keyboard", Kind::Text, "use --oidc-redirect-url instead"),
];

const REMOVED_CACHE: &[Flag] = &[
    removed("no-keyring", Kind::Bool, "use --token-cache-storage=disk instead"),
    removed("force-keyring", Kind::Bool, "use --token-cache-storage=keyring instead"),
];

/// klog's flags, taken by every command. Only the verbosity does something.
pub(crate) const GLOBAL: &[Flag] = &[
    flag("add_dir_header", Kind::Bool, "", "Accepted and ignored (klog)"),
    flag("alsologtostderr", Kind::Bool, "", "Accepted and ignored (klog)"),
    flag("alsologtostderrthreshold", Kind::Text, "", "Accepted and ignored (klog)"),
    flag("legacy_stderr_threshold_behavior", Kind::Bool, "", "Accepted and ignored (klog)"),
    flag("log_backtrace_at", Kind::Text, "", "Accepted and ignored (klog)"),
    flag("log_dir", Kind::Text, "", "Accepted and ignored (klog)"),
    flag("log_file", Kind::Text, "", "Accepted and ignored (klog)"),
    flag("log_file_max_size", Kind::Int, "1800", "Accepted and ignored (klog)"),
    flag("logtostderr", Kind::Bool, "true", "Accepted and ignored (klog): logs go to stderr"),
    flag("one_output", Kind::Bool, "", "Accepted and ignored (klog)"),
    flag("skip_headers", Kind::Bool, "", "Accepted and ignored (klog)"),
    flag("skip_log_headers", Kind::Bool, "", "Accepted and ignored (klog)"),
    flag("stderrthreshold", Kind::Text, "", "Accepted and ignored (klog)"),
    Flag {
        name: "v",
        short: Some('v'),
        kind: Kind::Level,
        default: "",
        usage: "Verbosity: 1 tells each step; no level shows a secret",
        deprecated: None,
    },
    flag("vmodule", Kind::Text, "", "Accepted and ignored (klog)"),
];

const fn help_flag(usage: &'static str) -> Flag {
    Flag { name: "help", short: Some('h'), kind: Kind::Bool, default: "", usage, deprecated: None }
}

/// The flags that belong to a command, without the global ones.
pub(crate) fn of_command(command: &str) -> Vec<Flag> {
    let mut flags = Vec::with_capacity(40);
    match command {
        "get-token" => {
            flags.extend_from_slice(PROVIDER);
            flags.extend([FORCE_REFRESH, REFRESH_WITH_SCOPE, CACHE_DIR, CACHE_STORAGE]);
            flags.extend_from_slice(TLS);
            flags.extend_from_slice(PKCE);
            flags.extend_from_slice(AUTHENTICATION);
            flags.extend_from_slice(REMOVED);
            flags.extend_from_slice(REMOVED_CACHE);
            flags.push(help_flag("help for get-token"));
        }
        "setup" => {
            flags.extend_from_slice(PROVIDER);
            flags.extend_from_slice(TLS);
            flags.extend_from_slice(PKCE);
            flags.extend_from_slice(AUTHENTICATION);
            flags.extend_from_slice(REMOVED);
            flags.push(help_flag("help for setup"));
        }
        "clean" => flags.extend([CACHE_DIR, help_flag("help for clean")]),
        "version" => flags.push(help_flag("help for version")),
        "help" | "completion" => flags.push(help_flag("help for this command")),
        _ => {
            flags.push(flag("kubeconfig", Kind::Text, "", "Path of the kubeconfig (standalone mode)"));
            flags.push(flag("context", Kind::Text, "", "Context of the kubeconfig (standalone mode)"));
            flags.push(flag("user", Kind::Text, "", "User of the kubeconfig (standalone mode)"));
            flags.extend_from_slice(TLS);
            flags.extend_from_slice(AUTHENTICATION);
            flags.extend_from_slice(REMOVED);
            flags.push(help_flag("help for kubelogin"));
            flags.push(flag("version", Kind::Bool, "", "version for kubelogin"));
        }
    }
    flags
}

/// Turns flags that kubelogin removed into their successors, where the successor was not given.
/// `--oidc-redirect-url-hostname` stays: it needs the port that the local server gets.
pub(crate) fn translate_removed(parsed: &mut Parsed) {
    if let Some(Value::List(ports)) = parsed.take("listen-port") {
        let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        parsed.set_unless_given("listen-address", Value::List(addresses));
    }
    if let Some(Value::Text(url)) = parsed.take("oidc-redirect-url-authcode-keyboard")
        && parsed.text("grant-type") == "authcode-keyboard"
    {
        parsed.set_unless_given("oidc-redirect-url", Value::Text(url));
    }
    for (old, storage) in [("no-keyring", "disk"), ("force-keyring", "keyring")] {
        if matches!(parsed.take(old), Some(Value::Bool(true))) {
            parsed.set_unless_given("token-cache-storage", Value::Text(storage.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pflag;

    fn get_token(arguments: &[&str]) -> Parsed {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let mut parsed = pflag::parse(&of_command("get-token"), &arguments).expect("parses");
        translate_removed(&mut parsed);
        parsed
    }

    #[test]
    fn removed_flags_become_their_successors_with_a_warning() {
        let parsed = get_token(&["--listen-port=8000,18000"]);
        assert_eq!(parsed.list("listen-address").expect("set"), ["127.0.0.1:8000", "127.0.0.1:18000"]);
        assert_eq!(parsed.warnings, ["Flag --listen-port has been deprecated, use --listen-address instead"]);

        let parsed = get_token(&["--listen-port=8000", "--listen-address=127.0.0.1:9"]);
        assert_eq!(parsed.list("listen-address").expect("set"), ["127.0.0.1:9"]);

        let parsed = get_token(&[
            "--grant-type=authcode-keyboard",
            "--oidc-redirect-url-authcode-keyboard=urn:ietf:wg:oauth:2.0:oob",
        ]);
        assert_eq!(parsed.text("oidc-redirect-url"), "urn:ietf:wg:oauth:2.0:oob");
        assert_eq!(get_token(&["--oidc-redirect-url-authcode-keyboard=x"]).text("oidc-redirect-url"), "");

        assert_eq!(get_token(&["--no-keyring"]).text("token-cache-storage"), "disk");
        assert_eq!(get_token(&["--force-keyring"]).text("token-cache-storage"), "keyring");
        assert_eq!(get_token(&["--force-keyring=false"]).text_or("token-cache-storage", "disk"), "disk");
    }

    #[test]
    fn each_command_has_its_flags_once_and_setup_lacks_the_cache() {
        for command in ["get-token", "setup", "clean", "version", "help", ""] {
            let flags = of_command(command);
            let mut names: Vec<_> = flags.iter().chain(GLOBAL).map(|flag| flag.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{command}");
        }
        let setup: Vec<_> = of_command("setup").iter().map(|flag| flag.name).collect();
        for absent in ["force-refresh", "token-cache-dir", "token-cache-storage"] {
            assert!(!setup.contains(&absent), "{absent}");
        }
    }
}
