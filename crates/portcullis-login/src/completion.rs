//! Completion scripts for bash, zsh, fish and powershell, made from the flag tables.

use clap_complete::Shell;

use crate::flags::{GLOBAL, of_command};
use crate::help::COMMANDS;
use crate::pflag::{Flag, Kind};

/// The script for `shell`, `None` for an unknown one.
pub(crate) fn script(shell: &str) -> Option<String> {
    let shell = match shell {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        "powershell" => Shell::PowerShell,
        _ => return None,
    };
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command_tree(), "kubelogin", &mut out);
    String::from_utf8(out).ok()
}

fn command_tree() -> clap::Command {
    let mut root = with_flags(clap::Command::new("kubelogin"), "").disable_help_subcommand(true);
    for (name, about) in COMMANDS {
        let mut command = with_flags(clap::Command::new(*name), name).about(*about);
        if *name == "completion" {
            command = command.arg(clap::Arg::new("shell").value_parser(["bash", "zsh", "fish", "powershell"]));
        }
        root = root.subcommand(command);
    }
    root
}

fn with_flags(command: clap::Command, name: &str) -> clap::Command {
    of_command(name)
        .iter()
        .chain(GLOBAL)
        .filter(|flag| flag.deprecated.is_none())
        .fold(command.disable_help_flag(true).disable_version_flag(true), |command, flag| command.arg(argument(flag)))
}

fn argument(flag: &Flag) -> clap::Arg {
    let argument = clap::Arg::new(flag.name).long(flag.name).help(flag.usage);
    let argument = match flag.short {
        Some(short) => argument.short(short),
        None => argument,
    };
    let argument = match flag.name {
        "certificate-authority" | "local-server-cert" | "local-server-key" | "kubeconfig" => {
            argument.value_hint(clap::ValueHint::FilePath)
        }
        "token-cache-dir" => argument.value_hint(clap::ValueHint::DirPath),
        "browser-command" => argument.value_hint(clap::ValueHint::CommandName),
        "oidc-issuer-url" | "oidc-redirect-url" | "open-url-after-authentication" => {
            argument.value_hint(clap::ValueHint::Url)
        }
        "grant-type" => argument.value_parser([
            "auto",
            "authcode",
            "authcode-keyboard",
            "password",
            "device-code",
            "client-credentials",
        ]),
        "oidc-pkce-method" => argument.value_parser(["auto", "no", "S256"]),
        "token-cache-storage" => argument.value_parser(["disk", "keyring", "none"]),
        _ => argument,
    };
    match flag.kind {
        Kind::Bool => argument.action(clap::ArgAction::SetTrue),
        Kind::Slice | Kind::Array | Kind::Map => argument.action(clap::ArgAction::Append),
        Kind::Text | Kind::Int | Kind::Level => argument.action(clap::ArgAction::Set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_a_script_that_knows_commands_and_flags() {
        command_tree().debug_assert();
        for shell in ["bash", "zsh", "fish", "powershell"] {
            let script = script(shell).expect(shell);
            assert!(script.contains("get-token") && script.contains("oidc-issuer-url"), "{shell}");
        }
        assert_eq!(script("tcsh"), None);
    }
}
