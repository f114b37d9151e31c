//! From the command line to a command and an exit code.
//!
//! Compat: spf13/cobra as kubelogin uses it: flags may stand before the command, `--help` wins over missing flags but not
//! over wrong ones, errors are one line `error: …` on stderr and exit code 1.

use std::ffi::OsString;

use crate::commands::{clean, get_token, setup};
use crate::completion;
use crate::console::Console;
use crate::flags;
use crate::help;
use crate::options::GetTokenOptions;
use crate::paths::{default_cache_dir, expand_tilde};
use crate::pflag::{self, Parsed};
use crate::world::{Env, Io, Outcome};

/// Most arguments that are looked at.
const MAX_ARGUMENTS: usize = 10_000;

/// Runs the plugin. `args` are the arguments without the program's name.
pub fn run(args: Vec<OsString>, env: &Env, io: Io<'_>) -> Outcome {
    let mut console = Console::new(io, env.clock.clone());
    match dispatch(args, env, &mut console) {
        Ok(()) => Outcome::Success,
        Err(failure) => {
            console.say(&format!("error: {}", without_controls(&failure.text)));
            if let Some(hint) = &failure.hint {
                console.say(&format!("hint: {}", without_controls(hint)));
            }
            Outcome::Failure
        }
    }
}

fn dispatch(args: Vec<OsString>, env: &Env, console: &mut Console<'_>) -> Result<(), get_token::Failure> {
    if args.len() > MAX_ARGUMENTS {
        return Err(format!("more than {MAX_ARGUMENTS} arguments").into());
    }
    let mut arguments = Vec::with_capacity(args.len());
    for argument in args {
        arguments
            .push(argument.into_string().map_err(|bad| format!("argument is not valid UTF-8: {}", bad.display()))?);
    }
    let known = |name: &str| help::COMMANDS.iter().any(|(command, _)| *command == name);
    let root_flags = with_globals("");
    let position = pflag::command_position(&root_flags, &arguments);
    let command = match position.and_then(|position| arguments.get(position)).filter(|name| known(name)) {
        Some(name) => name.clone(),
        None => String::new(),
    };
    if !command.is_empty()
        && let Some(position) = position
    {
        arguments.remove(position);
    }
    let flags = if command.is_empty() { root_flags } else { with_globals(&command) };
    let mut parsed = pflag::parse(&flags, &arguments)?;
    console.verbosity = parsed.int_or("v", 0);
    for warning in std::mem::take(&mut parsed.warnings) {
        console.say(&warning);
    }
    flags::translate_removed(&mut parsed);
    if parsed.bool("help") {
        return print(console, &help::of(&command));
    }
    match command.as_str() {
        "help" => print(console, &help::of(parsed.words.first().map_or("", String::as_str))),
        "completion" => completion_script(&parsed, console),
        "" if parsed.bool("version") => print(console, &format!("kubelogin version {}\n", env.version)),
        _ => {
            no_words(&command, &parsed)?;
            run_command(&command, &parsed, env, console)
        }
    }
}

fn run_command(command: &str, parsed: &Parsed, env: &Env, console: &mut Console<'_>) -> Result<(), get_token::Failure> {
    let prefix = |mut failure: get_token::Failure| {
        failure.text = format!("{command}: {}", failure.text);
        failure
    };
    let home = env.home();
    match command {
        "get-token" => {
            let options = GetTokenOptions::from_flags(parsed, home.as_deref(), &default_cache_dir(env))?;
            get_token::run(&options, env, console).map_err(prefix)
        }
        "setup" => setup::run(parsed, env, console).map_err(prefix),
        "clean" => {
            let dir = parsed.text_or("token-cache-dir", &default_cache_dir(env));
            Ok(clean::run(&expand_tilde(&dir, home.as_deref()), console)?)
        }
        "version" => {
            console.say(&format!("kubelogin version {} (portcullis {}_{})", env.version, go_os(), go_arch()));
            Ok(())
        }
        _ => Err(get_token::Failure {
            text: "standalone mode (login without a command) is not built yet, use get-token".to_owned(),
            hint: Some(
                "`kubelogin --help` lists the commands, `kubelogin setup` shows how to use get-token".to_owned(),
            ),
        }),
    }
}

fn completion_script(parsed: &Parsed, console: &mut Console<'_>) -> Result<(), get_token::Failure> {
    let shell = parsed.words.first().map_or("", String::as_str);
    match completion::script(shell) {
        Some(script) => print(console, &script),
        None => print(console, &help::of("completion")),
    }
}

fn with_globals(command: &str) -> Vec<pflag::Flag> {
    let mut flags = flags::of_command(command);
    flags.extend_from_slice(flags::GLOBAL);
    flags
}

/// Compat: cobra's `NoArgs`.
fn no_words(command: &str, parsed: &Parsed) -> Result<(), get_token::Failure> {
    match parsed.words.first() {
        None => Ok(()),
        Some(word) => {
            let path = if command.is_empty() { "kubelogin".to_owned() } else { format!("kubelogin {command}") };
            Err(format!("unknown command {} for \"{path}\"", pflag::go_quote(word)).into())
        }
    }
}

fn print(console: &mut Console<'_>, text: &str) -> Result<(), get_token::Failure> {
    console.data(text).map_err(|error| format!("write error: {error}").into())
}

/// Errors carry words of providers: only line feeds may steer the terminal.
fn without_controls(text: &str) -> String {
    text.chars().map(|character| if character.is_control() && character != '\n' { ' ' } else { character }).collect()
}

/// The system's name in Go's spelling.
fn go_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// The processor's name in Go's spelling.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
