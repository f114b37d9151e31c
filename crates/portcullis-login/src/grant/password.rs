//! The resource owner password grant (kubelogin `ropc`), for providers that still offer it.
//!
//! Compat: prompts `Username: ` and `Password: ` on stderr; the password needs a terminal. Ours: Ctrl-C ends a prompt and
//! leaves the terminal's echo as it was.

use portcullis_runtime::Secret;

use super::authcode_keyboard::read_error;
use crate::console::Console;
use crate::error::{CANCELED, PasswordError};
use crate::session::{ExchangeError, Session, Tokens};
use crate::world::Env;

/// Signs in. Empty `username` and `password` are asked for.
pub(crate) async fn sign_in(
    session: &Session<'_>,
    username: &str,
    password: &Secret,
    env: &Env,
    console: &mut Console<'_>,
) -> Result<Tokens, PasswordError> {
    console.log(1, "starting the resource owner password credentials flow");
    let username = if username.is_empty() {
        console.prompt("Username: ");
        let read = env.shutdown.unless(console.read_line()).await;
        read.ok_or_else(|| PasswordError::Username(CANCELED.to_owned()))?
            .map_err(|error| PasswordError::Username(read_error(&error)))?
    } else {
        username.to_owned()
    };
    let password = if password.is_empty() { ask_password(env, console).await? } else { password.clone() };
    let exchanged = env.shutdown.unless(session.password(&username, &password)).await;
    exchanged.ok_or_else(|| PasswordError::Exchange(CANCELED.to_owned()))?.map_err(|error| match error {
        ExchangeError::Token(text) => PasswordError::Exchange(text),
        ExchangeError::Verify(text) => PasswordError::Verify(text),
    })
}

async fn ask_password(env: &Env, console: &mut Console<'_>) -> Result<Secret, PasswordError> {
    console.prompt("Password: ");
    let no_echo = if env.stdin_is_terminal { NoEcho::start() } else { None };
    if no_echo.is_none() {
        console.say("");
        return Err(PasswordError::Password("read error: inappropriate ioctl for device".to_owned()));
    }
    let read = env.shutdown.unless(console.read_line()).await;
    drop(no_echo);
    console.say("");
    let line = read.ok_or_else(|| PasswordError::Password(CANCELED.to_owned()))?;
    Ok(Secret::new(line.map_err(|error| PasswordError::Password(read_error(&error)))?))
}

/// Turns the terminal's echo off while it lives.
#[cfg(unix)]
struct NoEcho(rustix::termios::Termios);

#[cfg(unix)]
impl NoEcho {
    fn start() -> Option<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet).ok()?;
        Some(Self(before))
    }
}

#[cfg(unix)]
impl Drop for NoEcho {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Flush, &self.0);
    }
}

#[cfg(not(unix))]
struct NoEcho;

#[cfg(not(unix))]
impl NoEcho {
    /// Not built for this system yet: the password has to come by flag.
    fn start() -> Option<Self> {
        None
    }
}
