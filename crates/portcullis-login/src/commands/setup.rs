//! `setup`: signs in once and prints how to configure kubectl.
//!
//! Compat: kubelogin `usecases/setup` v1.36: everything on stderr, the cache is neither read nor written, without issuer
//! or client ID the help is printed and the exit code is 0. Ours: the interactive mode is `IfAvailable` where the plugin
//! will have to ask, because `Never` closes its standard input.

use super::get_token::{Failure, block_on};
use crate::console::Console;
use crate::grant;
use crate::help;
use crate::options::{Grant, LoginOptions};
use crate::pflag::Parsed;
use crate::session::Session;
use crate::setup_text;
use crate::world::Env;

/// Runs the command.
pub(crate) fn run(flags: &Parsed, env: &Env, console: &mut Console<'_>) -> Result<(), Failure> {
    if flags.text("oidc-issuer-url").is_empty() || flags.text("oidc-client-id").is_empty() {
        return console.data(&help::of("setup")).map_err(|error| format!("write error: {error}").into());
    }
    let options = LoginOptions::from_flags(flags, None)?;
    console.say("Authentication in progress...");
    let tokens = block_on(env, async {
        let session = Session::connect(&options, env, console).await?;
        grant::sign_in(&session, env, console).await
    })??;
    let interactive = match &options.grant {
        Grant::Keyboard => true,
        Grant::Password { username, password } => username.is_empty() || password.is_empty(),
        Grant::Browser(_) | Grant::NotBuilt { .. } => false,
    };
    console.say("");
    console.prompt(&setup_text::render(&tokens.glance.payload, flags, interactive));
    Ok(())
}
