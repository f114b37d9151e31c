//! Help in the layout of spf13/cobra, which kubelogin's users know. The sentences are our own.

use std::fmt::Write as _;

use crate::flags::{GLOBAL, of_command};
use crate::pflag::{Flag, Kind};

/// The commands with their one-line descriptions.
pub(crate) const COMMANDS: &[(&str, &str)] = &[
    ("clean", "Delete the token cache"),
    ("completion", "Print the completion script for a shell"),
    ("get-token", "Run as a kubectl credential plugin"),
    ("help", "Help about any command"),
    ("setup", "Sign in once and show how to set up the kubeconfig"),
    ("version", "Print the version"),
];

/// The help text of a command; an unknown name gives the root's.
pub(crate) fn of(command: &str) -> String {
    let mut out = String::new();
    let own = of_command(command);
    match command {
        "get-token" | "setup" | "clean" | "version" | "help" | "completion" => {
            out.push_str(long(command));
            out.push_str("\n\nUsage:\n");
            let operand = match command {
                "help" => " [command]",
                "completion" => " [bash|zsh|fish|powershell]",
                _ => "",
            };
            let _ = writeln!(out, "  kubelogin {command}{operand} [flags]");
            out.push_str("\nFlags:\n");
            out.push_str(&usages(&own));
            out.push_str("\nGlobal Flags:\n");
            out.push_str(&usages(GLOBAL));
        }
        _ => {
            out.push_str(long(""));
            out.push_str("\n\nUsage:\n  kubelogin [flags]\n  kubelogin [command]\n\nAvailable Commands:\n");
            for (name, text) in COMMANDS {
                let _ = writeln!(out, "  {name:<11} {text}");
            }
            out.push_str("\nFlags:\n");
            out.push_str(&usages(&own.iter().chain(GLOBAL).copied().collect::<Vec<_>>()));
            out.push_str("\nUse \"kubelogin [command] --help\" for more information about a command.\n");
        }
    }
    out
}

fn long(command: &str) -> &'static str {
    match command {
        "get-token" => {
            "Run as a kubectl credential plugin: print a token, from the cache, by a refresh, or by signing in.\n\nkubectl calls this for a kubeconfig user with an exec section; `setup` shows how to make one."
        }
        "setup" => {
            "Sign in to the provider once, show the claims of the token, and print the kubectl command that puts this\nplugin into the kubeconfig.\n\nExample:\n  kubectl oidc-login setup --oidc-issuer-url=https://issuer.example.com --oidc-client-id=kubernetes"
        }
        "clean" => "Delete the token cache, so that the next command signs in again.",
        "version" => "Print the version.",
        "help" => "Show help for a command.",
        "completion" => "Print the completion script for a shell: bash, zsh, fish or powershell.",
        _ => "Sign in to Kubernetes with OpenID Connect: kubelogin's commands, by Portcullis.",
    }
}

/// The flags' lines, aligned. Deprecated flags are not shown.
fn usages(flags: &[Flag]) -> String {
    let lines: Vec<(String, String)> = flags
        .iter()
        .filter(|flag| flag.deprecated.is_none())
        .map(|flag| {
            let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
            let kind = match flag.kind {
                Kind::Text => " string",
                Kind::Bool => "",
                Kind::Int => " int",
                Kind::Level => " Level",
                Kind::Slice => " strings",
                Kind::Array => " stringArray",
                Kind::Map => " stringToString",
            };
            let default = if flag.default.is_empty() { String::new() } else { format!(" (default {})", flag.default) };
            (format!("  {short}--{}{kind}", flag.name), format!("{}{default}", flag.usage))
        })
        .collect();
    let width = lines.iter().map(|(left, _)| left.len()).max().unwrap_or_default();
    lines.iter().fold(String::new(), |mut out, (left, right)| {
        let _ = writeln!(out, "{left:<width$}   {right}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_flag_that_is_not_deprecated() {
        for command in ["get-token", "setup", "clean", "version", ""] {
            let text = of(command);
            for flag in of_command(command).iter().chain(GLOBAL) {
                let shown = text.contains(&format!("--{} ", flag.name)) || text.contains(&format!("--{}\n", flag.name));
                assert_eq!(shown, flag.deprecated.is_none(), "{command} {}", flag.name);
            }
        }
    }

    #[test]
    fn the_root_lists_every_command() {
        let text = of("");
        for (name, _) in COMMANDS {
            assert!(text.contains(&format!("\n  {name}")), "{name}");
        }
    }
}
