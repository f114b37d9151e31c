//! Opening the user's browser.
//!
//! Compat: on Linux the first of `xdg-open`, `x-www-browser`, `www-browser` that is on the PATH; `open` on macOS; the
//! shell's URL handler on Windows (pkg/browser v0.0.0-2024). `--browser-command` names one program, which gets the URL as
//! its only argument: no shell, no splitting. The child's output goes to stderr, never to stdout, which is a protocol.

use std::io::ErrorKind;
use std::pin::Pin;
use std::process::Stdio;

use tokio::process::Command;

/// A future that ends when the opener has ended; the error is a sentence for the user.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Something that shows a URL to the user.
pub trait Browser: Send + Sync {
    /// Opens `url` and ends when the opener has ended, which may be before or after the page is there.
    fn open<'a>(&'a self, url: &'a str) -> Opening<'a>;
}

/// The system's default browser.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemBrowser;

impl Browser for SystemBrowser {
    fn open<'a>(&'a self, url: &'a str) -> Opening<'a> {
        Box::pin(async move {
            for (program, before) in OPENERS {
                let mut command = Command::new(program);
                command.args(*before).arg(url);
                match run(&mut command).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    other => return finish(program, other),
                }
            }
            let names: Vec<_> = OPENERS.iter().map(|(program, _)| *program).collect();
            Err(not_found(&names.join(",")))
        })
    }
}

#[cfg(target_os = "macos")]
const OPENERS: &[(&str, &[&str])] = &[("open", &[])];
#[cfg(windows)]
const OPENERS: &[(&str, &[&str])] = &[("rundll32.exe", &["url.dll,FileProtocolHandler"])];
#[cfg(not(any(target_os = "macos", windows)))]
const OPENERS: &[(&str, &[&str])] = &[("xdg-open", &[]), ("x-www-browser", &[]), ("www-browser", &[])];

/// Runs the program of `--browser-command`. It ends with the returned future: it is killed when that is dropped.
pub(crate) async fn run_command(program: &str, url: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.arg(url).kill_on_drop(true);
    finish(program, run(&mut command).await)
}

async fn run(command: &mut Command) -> std::io::Result<std::process::ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr())).stderr(Stdio::inherit()).status().await
}

fn finish(program: &str, ended: std::io::Result<std::process::ExitStatus>) -> Result<(), String> {
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(match status.code() {
            Some(code) => format!("exit status {code}"),
            None => status.to_string(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound && program.contains('/') => {
            Err(format!("fork/exec {program}: no such file or directory"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(not_found(program)),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

fn not_found(program: &str) -> String {
    format!("exec: {}: executable file not found in $PATH", crate::pflag::go_quote(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_command_is_one_program_and_is_never_split() {
        assert_eq!(
            block_on(run_command("curl -sL", "http://localhost/")),
            Err("exec: \"curl -sL\": executable file not found in $PATH".to_owned())
        );
        assert_eq!(
            block_on(run_command("/nowhere/browser", "http://localhost/")),
            Err("fork/exec /nowhere/browser: no such file or directory".to_owned())
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_exit_status_of_a_command_is_reported() {
        assert_eq!(block_on(run_command("true", "http://localhost/")), Ok(()));
        assert_eq!(block_on(run_command("false", "http://localhost/")), Err("exit status 1".to_owned()));
    }
}
