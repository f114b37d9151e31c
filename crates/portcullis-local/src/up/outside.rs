//! What `up` changes outside its own folder, and in what the user may change inside it. Each is checked before anything is
//! started, written down before it is done, and done so that it can be done again: an `up` that is killed at any point leaves
//! nothing that `down` would not find.

use std::path::Path;

use crate::ca;
use crate::down::PLUGIN_PATIENCE;
use crate::kubeconfig::other::{self, Ours};
use crate::kubeconfig::{Entries, own};
use crate::state::{StateDir, StateFile};
use crate::steps::Steps;
use crate::system_trust::Store;

use super::error::UpError;
use super::{Options, guide};

/// Whether everything outside can be done, as far as that can be told beforehand.
pub(super) fn check(options: &Options, state: &StateDir, file: &StateFile) -> Result<(), UpError> {
    if !options.guide {
        own::check(&state.path("kubeconfig"))?;
    }
    let other =
        if options.guide { Some(guide::kubeconfig(options, state.name())?) } else { options.kubeconfig.clone() };
    if let Some(path) = &other {
        other::plan(path, &ours(state, file, path, ca::stored(state).as_deref()))?;
    }
    if options.trust {
        Store::of_system()?.check()?;
    }
    Ok(())
}

fn ours<'a>(state: &'a StateDir, file: &StateFile, path: &Path, ca_pem: Option<&'a str>) -> Ours<'a> {
    Ours { name: state.name(), ca_pem, remembered: file.kubeconfig(path).is_some() }
}

/// Ends the sign-in that an `up` which was killed has left waiting: it holds the port that ours needs.
pub(super) async fn end_left_over(state: &StateDir, file: &mut StateFile, steps: &Steps) -> Result<(), UpError> {
    let Some(plugin) = file.plugin.take() else { return Ok(()) };
    if plugin.runs() {
        let ended = tokio::task::spawn_blocking(move || plugin.end(PLUGIN_PATIENCE)).await.map_err(UpError::Broken)?;
        if !ended {
            return Err(UpError::LeftOver(plugin.pid));
        }
        steps.word(&format!("ended the sign-in of an earlier `up` that still waited (process {})", plugin.pid));
    }
    Ok(state.write(file)?)
}

/// Puts the authority into the system's store.
pub(super) async fn trust(
    state: &StateDir,
    file: &mut StateFile,
    cert_pem: &str,
    steps: &Steps,
) -> Result<(), UpError> {
    let store = Store::of_system()?;
    file.system_trust = Some(store.file(state.name()));
    state.write(file)?;
    let (name, cert_pem) = (state.name().to_owned(), cert_pem.to_owned());
    let added = tokio::task::spawn_blocking(move || store.add(&name, &cert_pem)).await.map_err(UpError::Broken)?;
    if let Err(error) = added {
        // What could not be added is not there to be removed.
        file.system_trust = None;
        state.write(file)?;
        return Err(error.into());
    }
    steps.done("trust", "added the authority to the system's store");
    Ok(())
}

/// Renews the kubeconfig in the state folder. The user of its context, where the user's own choice stays.
pub(crate) fn renew_own(
    state: &StateDir,
    file: &mut StateFile,
    entries: &Entries,
    steps: &Steps,
) -> Result<Option<String>, UpError> {
    let path = state.path("kubeconfig");
    let renewed = own::renew(&path, entries, &file.context_users)?;
    // Both the old and the new one are ours until the file is written.
    if let Some(user) = renewed.context_user.as_ref().filter(|user| !file.context_users.contains(user)) {
        file.context_users.push(user.clone());
    }
    state.write(file)?;
    renewed.write(&path)?;
    if let Some(user) = &renewed.context_user {
        file.context_users = vec![user.clone()];
        state.write(file)?;
    }
    steps.done("kubeconfig", &format!("{} (context {})", path.display(), entries.cluster));
    for word in &renewed.words {
        steps.word(&format!("{}: {word}", path.display()));
    }
    Ok(renewed.chosen_user)
}

/// Puts our entries into another kubeconfig.
pub(super) fn merge(
    state: &StateDir,
    file: &mut StateFile,
    path: &Path,
    entries: &Entries,
    make_current: bool,
    steps: &Steps,
) -> Result<(), UpError> {
    let plan = other::plan(path, &ours(state, file, path, Some(&entries.ca_pem)))?;
    file.note_kubeconfig(path, plan.previous_context.clone().filter(|_| make_current), plan.made);
    state.write(file)?;
    plan.write(entries, make_current)?;
    let current = if make_current { " (now current)" } else { "" };
    steps.done("kubeconfig", &format!("{}{current}", path.display()));
    Ok(())
}
