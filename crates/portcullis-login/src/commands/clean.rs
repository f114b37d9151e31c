//! `clean`: removes the token cache.
//!
//! Compat: kubelogin removes the whole folder; here only what is a token cache (see [`CacheDir::remove_all`]). The
//! keyring is not served yet, which is said and is no failure, as kubelogin does without a keyring.

use crate::cache::CacheDir;
use crate::console::Console;

/// Runs the command. The error is the text after `error: `.
pub(crate) fn run(dir: &str, console: &mut Console<'_>) -> Result<(), String> {
    let removed =
        CacheDir::new(dir).remove_all().map_err(|error| format!("clean: could not delete the token cache: {error}"))?;
    console.say(&format!("Deleted the token cache from {dir}"));
    if removed.foreign > 0 {
        console.say(&format!("{} other entries in {dir} were left alone", removed.foreign));
    }
    if removed.busy > 0 {
        console.say(&format!("{} sign-ins are under way; their locks were left alone", removed.busy));
    }
    console.say("Could not delete the token cache from the keyring: the keyring is not built yet");
    Ok(())
}
