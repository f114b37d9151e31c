//! Our entries in somebody else's kubeconfig: cluster, context and two users, all named after `kind-<name>`.
//!
//! Ours is what trusts our authority. So entries that another program put in the place of ours (kind itself makes a
//! `kind-dev`) are neither renewed nor removed, and ours are known even if the state folder has forgotten them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_kube::kubeconfig::{Context, Kubeconfig};

use crate::ca;
use crate::state::{self, OtherKubeconfig, StateError};

use super::{Entries, KubeconfigError, admin, oidc, put_cluster, read, target, write};

/// What tells our entries from those of others.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// The name that `up` runs; entries are named `kind-<name>` and `kind-<name>-oidc`.
    pub name: &'a str,
    /// Our authority, if there is one by now.
    pub ca_pem: Option<&'a str>,
    /// Whether the state folder remembers that our entries are in this file.
    pub remembered: bool,
}

/// What a file holds under our names.
#[derive(Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    Ours,
    /// Something of another's, by this name.
    Foreign(String),
}

/// A kubeconfig that may get our entries.
#[derive(Debug)]
pub struct Plan {
    path: PathBuf,
    config: Kubeconfig,
    /// The current context, unless it is ours: what `--use` replaces.
    pub previous_context: Option<String>,
    /// Whether the file is not there yet.
    pub made: bool,
}

/// What was taken out.
#[derive(Debug, PartialEq, Eq)]
pub enum Removed {
    /// Our entries; other ones are left.
    Entries,
    /// The whole file, which `up` had made and nobody else has used.
    File,
    /// Nothing: the file is not there.
    NotThere,
    /// Nothing: it has no entries of these names.
    NoEntries,
    /// Nothing: the entry of this name is another's.
    Foreign(String),
}

/// Reads the file and finds out whether our entries may go in; nothing is written yet.
///
/// # Errors
/// The file is no kubeconfig, has such entries that are not ours, or stands where this user cannot write.
pub fn plan(path: &Path, ours: &Ours<'_>) -> Result<Plan, KubeconfigError> {
    let found = read(path)?;
    let made = found.is_none() && !path.exists();
    let config = found.unwrap_or_else(|| Kubeconfig::new(&path.display().to_string()));
    if let Holds::Foreign(entry) = holds(&config, ours)? {
        return Err(KubeconfigError::Taken { path: path.to_owned(), entry });
    }
    check_folder(path)?;
    let cluster = cluster_name(ours.name);
    let previous_context = config.current_context().filter(|current| *current != cluster).map(str::to_owned);
    Ok(Plan { path: path.to_owned(), config, previous_context, made })
}

impl Plan {
    /// Puts our entries in.
    ///
    /// # Errors
    /// The file cannot be written; it is untouched then.
    pub fn write(mut self, entries: &Entries, make_current: bool) -> Result<(), KubeconfigError> {
        let config = &mut self.config;
        put_cluster(config, entries)?;
        config.set_user(&entries.cluster, &admin(entries));
        let mut user = entries.cluster.clone();
        if let Some(plugin) = &entries.plugin {
            let name = oidc_name(&entries.cluster);
            config.set_user(&name, &oidc(entries, plugin));
            if plugin.signed_in {
                user = name;
            }
        } else {
            // Of an earlier run that signed in.
            config.remove_user(&oidc_name(&entries.cluster));
        }
        let context = config.context(&entries.cluster)?.unwrap_or_default();
        config.set_context(&entries.cluster, &Context { cluster: entries.cluster.clone(), user, ..context });
        if make_current {
            config.set_current_context(&entries.cluster);
        }
        write(&self.path, config)
    }
}

/// Takes our entries out of a file, and its current context back to what it was, where it is ours and the other one is still
/// there. From a file that `up` made, users that sign in at `issuer` go too, unless a context that is left names them: the
/// guide's own step 12 makes one. Can be done again.
///
/// # Errors
/// The file is no longer a kubeconfig, or cannot be written; it is untouched then.
pub fn remove(file: &OtherKubeconfig, ours: &Ours<'_>, issuer: Option<&str>) -> Result<Removed, KubeconfigError> {
    let path = &file.path;
    let Some(mut config) = read(path)? else {
        return Ok(if path.exists() { Removed::NoEntries } else { Removed::NotThere });
    };
    match holds(&config, ours)? {
        Holds::Nothing => return Ok(Removed::NoEntries),
        Holds::Foreign(entry) => return Ok(Removed::Foreign(entry)),
        Holds::Ours => {}
    }
    let cluster = cluster_name(ours.name);
    let current_is_ours = config.current_context() == Some(&cluster);
    config.remove_cluster(&cluster);
    config.remove_context(&cluster);
    config.remove_user(&cluster);
    config.remove_user(&oidc_name(&cluster));
    if let Some(issuer) = issuer.filter(|_| file.made) {
        remove_users_of(issuer, &mut config)?;
    }
    if current_is_ours {
        let previous = file.previous_context.as_deref().filter(|name| config.context_names().contains(name));
        let previous = previous.unwrap_or_default().to_owned();
        config.set_current_context(&previous);
    }
    let empty =
        config.cluster_names().is_empty() && config.context_names().is_empty() && config.user_names().is_empty();
    if file.made && empty {
        fs::remove_file(path).map_err(|source| StateError::Io { action: "remove", path: path.clone(), source })?;
        return Ok(Removed::File);
    }
    write(path, &config)?;
    Ok(Removed::Entries)
}

/// Takes out the users that sign in at an issuer that is gone, and that no context names.
fn remove_users_of(issuer: &str, config: &mut Kubeconfig) -> Result<(), KubeconfigError> {
    let mut named = Vec::new();
    for context in config.context_names() {
        named.extend(config.context(context)?.map(|context| context.user));
    }
    let argument = format!("--oidc-issuer-url={issuer}");
    let users: Vec<String> = config.user_names().into_iter().map(str::to_owned).collect();
    for name in users.iter().filter(|name| !named.contains(name)) {
        let exec = config.user(name)?.and_then(|user| user.exec);
        if exec.is_some_and(|exec| exec.args.contains(&argument)) {
            config.remove_user(name);
        }
    }
    Ok(())
}

fn cluster_name(name: &str) -> String {
    format!("kind-{name}")
}

fn oidc_name(cluster: &str) -> String {
    format!("{cluster}-oidc")
}

fn holds(config: &Kubeconfig, ours: &Ours<'_>) -> Result<Holds, KubeconfigError> {
    let cluster = cluster_name(ours.name);
    if let Some(found) = config.cluster(&cluster)? {
        let pem = found.certificate_authority_pem().unwrap_or_default();
        let is_todays = ours.ca_pem.is_some_and(|ca| ca.as_bytes() == pem);
        // An authority that was renewed since is ours by its name.
        let is_ours = is_todays || (ours.remembered && ca::is_authority_of(&pem, ours.name));
        return Ok(if is_ours { Holds::Ours } else { Holds::Foreign(cluster) });
    }
    let oidc = oidc_name(&cluster);
    let rest = [
        config.context_names().contains(&cluster.as_str()).then_some(&cluster),
        config.user_names().contains(&cluster.as_str()).then_some(&cluster),
        config.user_names().contains(&oidc.as_str()).then_some(&oidc),
    ];
    Ok(match rest.into_iter().flatten().next() {
        None => Holds::Nothing,
        Some(_) if ours.remembered => Holds::Ours,
        Some(entry) => Holds::Foreign(entry.clone()),
    })
}

/// A kubeconfig is replaced as a whole, so its folder must be there and writable.
fn check_folder(path: &Path) -> Result<(), KubeconfigError> {
    let target = target(path);
    let folder = state::folder_of(&target);
    let refused = |source: io::Error| StateError::Io { action: "write", path: path.to_owned(), source };
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| refused(error.into()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entries, parsed};
    use super::*;

    const OTHER: &str = "apiVersion: v1\nkind: Config\ncurrent-context: prod\npreferences: {}\nx-mine: kept\nclusters:\n- name: prod\n  cluster:\n    server: https://prod\n    x-extra: 1\nusers:\n- name: oidc\n  user:\n    token: secret\ncontexts:\n- name: prod\n  context:\n    cluster: prod\n    user: oidc\n- name: staging\n  context: {cluster: prod, user: oidc}\n";

    const FRESH: Ours<'static> = Ours { name: "dev", ca_pem: Some("CA"), remembered: false };

    /// As `down` does it.
    fn remove(file: &OtherKubeconfig, ours: &Ours<'_>) -> Result<Removed, KubeconfigError> {
        super::remove(file, ours, Some("https://localhost:5554"))
    }

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("config");
        if !content.is_empty() {
            fs::write(&path, content).unwrap();
        }
        (temp, path)
    }

    /// As `up` does it; what is to be remembered.
    fn merge(path: &Path, make_current: bool) -> OtherKubeconfig {
        let plan = plan(path, &FRESH).unwrap();
        let previous_context = plan.previous_context.clone().filter(|_| make_current);
        let kept = OtherKubeconfig { path: path.to_owned(), previous_context, made: plan.made };
        plan.write(&entries(), make_current).unwrap();
        kept
    }

    #[test]
    fn merging_and_removing_leaves_the_other_file_as_it_was() {
        let (_temp, path) = file(OTHER);
        let before = parsed(&path);
        let kept = merge(&path, true);
        assert_eq!(kept.previous_context.as_deref(), Some("prod"));
        let merged = parsed(&path);
        assert_eq!(merged.current_context(), Some("kind-dev"));
        assert_eq!(merged.user_names(), ["oidc", "kind-dev", "kind-dev-oidc"]);
        assert_eq!(merged.context("kind-dev").unwrap().unwrap().user, "kind-dev-oidc");
        assert_eq!(remove(&kept, &FRESH).unwrap(), Removed::Entries);
        assert_eq!(parsed(&path).as_value(), before.as_value());
        assert_eq!(remove(&kept, &FRESH).unwrap(), Removed::NoEntries, "it can be done again");
    }

    #[test]
    fn a_file_that_we_made_goes_unless_somebody_else_uses_it() {
        let (_temp, path) = file("");
        let kept = merge(&path, true);
        assert!(kept.made);
        assert_eq!(remove(&kept, &FRESH).unwrap(), Removed::File);
        assert!(!path.exists());
        assert_eq!(remove(&kept, &FRESH).unwrap(), Removed::NotThere);
        let kept = merge(&path, true);
        let mut config = parsed(&path);
        config.set_user("me", &portcullis_kube::kubeconfig::User::default());
        fs::write(&path, config.to_yaml().unwrap()).unwrap();
        assert_eq!(remove(&kept, &FRESH).unwrap(), Removed::Entries);
        assert_eq!(parsed(&path).user_names(), ["me"]);
    }

    /// The guide's step 12 makes a user in the file that step 4 made.
    #[test]
    fn a_user_that_signs_in_at_the_issuer_that_is_gone_goes_with_the_file_that_we_made() {
        use portcullis_kube::kubeconfig::{Exec, User};
        let user = |issuer: &str| {
            let args = ["oidc-login", "get-token", &format!("--oidc-issuer-url={issuer}")].map(str::to_owned).to_vec();
            User::with_exec(Exec { command: "kubectl".to_owned(), args, ..Exec::default() })
        };
        for (issuer, named, gone) in [
            ("https://localhost:5554", false, true),
            ("https://localhost:5554", true, false),
            ("https://elsewhere", false, false),
        ] {
            let (_temp, path) = file("");
            let kept = merge(&path, true);
            let mut config = parsed(&path);
            config.set_user("oidc", &user(issuer));
            let mine = if named { "mine" } else { "kind-dev" };
            config.set_context(
                mine,
                &Context { cluster: "kind-dev".to_owned(), user: "oidc".to_owned(), ..Context::default() },
            );
            fs::write(&path, config.to_yaml().unwrap()).unwrap();
            assert_eq!(remove(&kept, &FRESH).unwrap(), if gone { Removed::File } else { Removed::Entries });
            assert!(gone || parsed(&path).user_names() == ["oidc"]);
        }
    }

    #[test]
    fn the_current_context_changes_only_when_asked_and_goes_back_only_to_one_that_is_there() {
        let (_temp, path) = file(OTHER);
        merge(&path, false);
        assert_eq!(parsed(&path).current_context(), Some("prod"));
        let kept = merge(&path, true);
        let mut config = parsed(&path);
        config.remove_context("prod");
        config.set_current_context("kind-dev");
        fs::write(&path, config.to_yaml().unwrap()).unwrap();
        remove(&kept, &FRESH).unwrap();
        assert_eq!(parsed(&path).current_context(), None);
        // The user has moved on: their choice stays.
        fs::write(&path, OTHER).unwrap();
        let kept = merge(&path, true);
        let mut config = parsed(&path);
        config.set_current_context("staging");
        fs::write(&path, config.to_yaml().unwrap()).unwrap();
        remove(&kept, &FRESH).unwrap();
        assert_eq!(parsed(&path).current_context(), Some("staging"));
    }

    #[test]
    fn entries_of_others_are_neither_replaced_nor_removed() {
        for taken in [
            OTHER.replace("name: prod\n  cluster", "name: kind-dev\n  cluster"),
            OTHER.replace("name: staging", "name: kind-dev"),
            OTHER.replace("name: oidc\n  user", "name: kind-dev-oidc\n  user"),
        ] {
            let (_temp, path) = file(&taken);
            assert!(matches!(plan(&path, &FRESH), Err(KubeconfigError::Taken { .. })), "{taken}");
            let other = OtherKubeconfig { path: path.clone(), ..OtherKubeconfig::default() };
            assert!(matches!(remove(&other, &FRESH).unwrap(), Removed::Foreign(_)), "{taken}");
            assert_eq!(fs::read_to_string(&path).unwrap(), taken);
        }
        // kind made a cluster of the same name after us: the folder remembers us, but the entry is kind's.
        let (_temp, path) = file(&OTHER.replace("name: prod\n  cluster", "name: kind-dev\n  cluster"));
        let remembered = Ours { remembered: true, ..FRESH };
        assert!(plan(&path, &remembered).is_err());
    }

    #[test]
    fn ours_are_renewed_even_if_the_folder_has_forgotten_them_or_the_authority_is_new() {
        let (_temp, path) = file(OTHER);
        merge(&path, false);
        assert!(plan(&path, &FRESH).is_ok(), "known by today's authority");
        let temp = tempfile::tempdir().unwrap();
        let state = state::StateDir::new(temp.path(), "dev").unwrap();
        drop(state.open().unwrap());
        let now = time::macros::datetime!(2026-11-23 12:00 UTC);
        let (old, _) = ca::Authority::load_or_make(&state, ca::Purpose::Servers, now).unwrap();
        let with_old = Entries { ca_pem: old.cert_pem().to_owned(), ..entries() };
        plan(&path, &FRESH).unwrap().write(&with_old, false).unwrap();
        assert!(plan(&path, &FRESH).is_err(), "another authority, and nobody remembers");
        assert!(plan(&path, &Ours { remembered: true, ..FRESH }).is_ok(), "renewed since");
        assert!(plan(&path, &Ours { remembered: true, name: "two", ..FRESH }).is_ok(), "other names are others");
    }

    #[test]
    fn a_link_stays_a_link_even_to_a_file_that_is_not_there_yet() {
        for content in [OTHER, ""] {
            let (temp, real) = file(content);
            let link = temp.path().join("link");
            std::os::unix::fs::symlink("config", &link).unwrap();
            merge(&link, false);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert!(fs::read_to_string(&real).unwrap().contains("kind-dev"));
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_found_before_anything_is_done() {
        let (temp, _) = file("");
        let error = plan(&temp.path().join("no/config"), &FRESH).unwrap_err();
        assert!(error.to_string().starts_with("cannot write ") && error.to_string().ends_with("no/config"), "{error}");
        assert_eq!(error.hint().unwrap(), "make its folder first, or choose another --kubeconfig");
    }
}
