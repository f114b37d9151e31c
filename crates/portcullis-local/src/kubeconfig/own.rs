//! The kubeconfig in the state folder.
//!
//! Ours are the cluster and the context `kind-<name>`, the administrator's user, and the user `oidc` as long as it runs this
//! folder's plugin. All else is the user's: the guide's own steps (`kubectl config set-credentials oidc …`, `set-context
//! --current --user=oidc`) are made in this file, and survive the next `up`.

use std::path::Path;

use portcullis_kube::kubeconfig::{Context, Kubeconfig, User};

use super::{Entries, KubeconfigError, admin, oidc, put_cluster, read, write};

/// The name of the user that signs in.
const OIDC: &str = "oidc";

/// The file as it was read, with our entries renewed, yet to be written.
#[derive(Debug)]
pub struct Renewed {
    config: Kubeconfig,
    /// The user that `up` gives the context; `None` where the user's own choice stays.
    pub context_user: Option<String>,
    /// That choice.
    pub chosen_user: Option<String>,
    /// What stays as the user made it, a sentence each.
    pub words: Vec<String>,
}

/// Reads the file alone: whether it can be renewed.
///
/// # Errors
/// It is no kubeconfig any more, or cannot be read.
pub fn check(path: &Path) -> Result<(), KubeconfigError> {
    let Some(config) = read(path)? else { return Ok(()) };
    for name in config.user_names() {
        config.user(name)?;
    }
    for name in config.context_names() {
        config.context(name)?;
    }
    for name in config.cluster_names() {
        config.cluster(name)?;
    }
    Ok(())
}

/// Renews our entries in what the file holds. `given` are the users that `up` gave the context before: any other one is the
/// user's choice.
///
/// # Errors
/// The file is no kubeconfig, or cannot be read; nothing is written here.
pub fn renew(path: &Path, entries: &Entries, given: &[String]) -> Result<Renewed, KubeconfigError> {
    let mut config = read(path)?.unwrap_or_else(|| Kubeconfig::new(&path.display().to_string()));
    let mut words = Vec::new();
    put_cluster(&mut config, entries)?;
    config.set_user(&entries.cluster, &admin(entries));

    let found = config.user(OIDC)?;
    let theirs = found.as_ref().filter(|user| !is_ours(user, entries));
    match (&entries.plugin, theirs) {
        (Some(plugin), Some(user)) => words.push(their_user(user, &plugin.issuer)),
        (Some(plugin), None) => config.set_user(OIDC, &oidc(entries, plugin)),
        // Without a provider our user `oidc` has nobody to ask.
        (None, None) => drop(config.remove_user(OIDC)),
        (None, Some(_)) => {}
    }

    let signs_in = entries.plugin.as_ref().is_some_and(|plugin| plugin.signed_in);
    let default = if signs_in { OIDC } else { entries.cluster.as_str() };
    let context = config.context(&entries.cluster)?;
    // A folder that has forgotten what it gave gave one of these two.
    let either = [OIDC.to_owned(), entries.cluster.clone()];
    let given = if given.is_empty() { &either[..] } else { given };
    let chosen = context
        .as_ref()
        .filter(|context| !given.contains(&context.user) && config.user_names().contains(&context.user.as_str()));
    let chosen_user = chosen.map(|context| context.user.clone()).filter(|user| user != default);
    if let Some(user) = &chosen_user {
        words.push(format!("the context's user stays {user}, as you set it"));
    }
    let context_user = if chosen_user.is_none() { Some(default.to_owned()) } else { None };
    if let Some(user) = &context_user {
        // A namespace that the user set stays.
        let context = context.unwrap_or_default();
        let renewed = Context { cluster: entries.cluster.clone(), user: user.clone(), ..context };
        config.set_context(&entries.cluster, &renewed);
    }

    match config.current_context().map(str::to_owned) {
        Some(other) if other != entries.cluster && config.context_names().contains(&other.as_str()) => words.push(
            format!("current-context stays {other}, as you set it: `kubectl config use-context {}`", entries.cluster),
        ),
        _ => config.set_current_context(&entries.cluster),
    }
    Ok(Renewed { config, context_user, chosen_user, words })
}

impl Renewed {
    /// Writes the file.
    ///
    /// # Errors
    /// The folder cannot be written; the file is untouched then.
    pub fn write(&self, path: &Path) -> Result<(), KubeconfigError> {
        write(path, &self.config)
    }
}

fn is_ours(user: &User, entries: &Entries) -> bool {
    user.exec.as_ref().is_some_and(|exec| Path::new(&exec.command) == entries.program)
}

fn their_user(user: &User, issuer: &str) -> String {
    let arguments = user.exec.as_ref().map(|exec| exec.args.as_slice()).unwrap_or_default();
    let named = arguments.iter().find_map(|argument| argument.strip_prefix("--oidc-issuer-url="));
    let differs = named.filter(|named| *named != issuer);
    match differs {
        Some(named) => format!("the user oidc stays as you set it, with the issuer {named}: this one is {issuer}"),
        None => "the user oidc stays as you set it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use portcullis_kube::kubeconfig::Exec;

    use super::super::PluginEntry;
    use super::super::tests::{entries, parsed};
    use super::*;

    /// The guide's own user: `kubectl config set-credentials oidc --exec-command=kubectl --exec-arg=oidc-login …`.
    fn guides_user(issuer: &str) -> User {
        User::with_exec(Exec {
            api_version: "client.authentication.k8s.io/v1".to_owned(),
            command: "kubectl".to_owned(),
            args: vec!["oidc-login".to_owned(), "get-token".to_owned(), format!("--oidc-issuer-url={issuer}")],
            interactive_mode: "Always".to_owned(),
            ..Exec::default()
        })
    }

    fn write_new(path: &Path, entries: &Entries, given: &[&str]) -> Renewed {
        let given: Vec<String> = given.iter().map(|user| (*user).to_owned()).collect();
        let renewed = renew(path, entries, &given).unwrap();
        renewed.write(path).unwrap();
        renewed
    }

    #[test]
    fn a_new_file_is_what_the_guide_expects() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("kubeconfig");
        let renewed = write_new(&path, &entries(), &[]);
        assert_eq!((renewed.context_user.as_deref(), renewed.words.len()), (Some("oidc"), 0));
        let config = parsed(&path);
        assert_eq!(config.current_context(), Some("kind-dev"));
        assert_eq!(config.user_names(), ["kind-dev", "oidc"]);
        assert_eq!(config.context("kind-dev").unwrap().unwrap().user, "oidc");
    }

    #[test]
    fn what_the_user_put_in_survives_and_ours_is_renewed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("kubeconfig");
        write_new(&path, &entries(), &[]);
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("kind: Config\n", "kind: Config\nx-mine: kept\n");
        fs::write(&path, text.replace("    user: oidc\n", "    namespace: team\n    user: oidc\n    x-note: kept\n"))
            .unwrap();
        let mut config = parsed(&path);
        config.set_user("me", &guides_user("https://elsewhere"));
        config.set_context(
            "mine",
            &Context { cluster: "kind-dev".to_owned(), user: "me".to_owned(), ..Context::default() },
        );
        fs::write(&path, config.to_yaml().unwrap()).unwrap();

        let other = Entries { server: "https://127.0.0.1:7777".to_owned(), ..entries() };
        let renewed = write_new(&path, &other, &["oidc"]);
        assert!(renewed.words.is_empty(), "{:?}", renewed.words);
        let after = parsed(&path);
        assert_eq!(after.cluster("kind-dev").unwrap().unwrap().server, "https://127.0.0.1:7777");
        let context = after.context("kind-dev").unwrap().unwrap();
        assert_eq!((context.user.as_str(), context.namespace.as_str()), ("oidc", "team"));
        assert_eq!(after.user("me").unwrap(), Some(guides_user("https://elsewhere")));
        assert_eq!(after.context_names(), ["kind-dev", "mine"]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("x-mine: kept") && text.contains("x-note: kept"), "{text}");
    }

    #[test]
    fn the_guides_user_and_context_survive_a_restart_and_are_said() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("kubeconfig");
        let unbound = |entries: Entries| {
            let plugin = entries.plugin.map(|plugin| PluginEntry { signed_in: false, ..plugin });
            Entries { plugin, ..entries }
        };
        let first = write_new(&path, &unbound(entries()), &[]);
        assert_eq!(first.context_user.as_deref(), Some("kind-dev"));
        // Steps 12 and 14.
        let mut config = parsed(&path);
        config.set_user("oidc", &guides_user("https://localhost:5554"));
        config.set_context(
            "kind-dev",
            &Context { cluster: "kind-dev".to_owned(), user: "oidc".to_owned(), ..Context::default() },
        );
        fs::write(&path, config.to_yaml().unwrap()).unwrap();

        let again = write_new(&path, &unbound(entries()), &["kind-dev"]);
        assert_eq!(again.context_user, None);
        assert_eq!(again.words, ["the user oidc stays as you set it", "the context's user stays oidc, as you set it"]);
        let after = parsed(&path);
        assert_eq!(after.user("oidc").unwrap(), Some(guides_user("https://localhost:5554")));
        assert_eq!(after.context("kind-dev").unwrap().unwrap().user, "oidc");

        let mut moved = unbound(entries());
        moved.plugin.as_mut().unwrap().issuer = "https://localhost:6000".to_owned();
        let words = write_new(&path, &moved, &["kind-dev"]).words;
        assert_eq!(
            words[0],
            "the user oidc stays as you set it, with the issuer https://localhost:5554: this one is https://localhost:6000"
        );
    }

    #[test]
    fn a_user_of_the_users_own_is_known_even_if_the_folder_has_forgotten_what_it_gave() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("kubeconfig");
        write_new(&path, &entries(), &[]);
        for (user, stays) in [("me", true), ("kind-dev", false), ("gone", false)] {
            let mut config = parsed(&path);
            config.set_user("me", &guides_user("https://elsewhere"));
            let context = Context { cluster: "kind-dev".to_owned(), user: user.to_owned(), ..Context::default() };
            config.set_context("kind-dev", &context);
            fs::write(&path, config.to_yaml().unwrap()).unwrap();
            let renewed = write_new(&path, &entries(), &[]);
            assert_eq!(renewed.chosen_user.as_deref(), stays.then_some(user));
            assert_eq!(parsed(&path).context("kind-dev").unwrap().unwrap().user, if stays { user } else { "oidc" });
        }
    }

    #[test]
    fn a_current_context_of_the_users_own_stays_and_one_that_is_gone_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("kubeconfig");
        write_new(&path, &entries(), &[]);
        let mut config = parsed(&path);
        config.set_context("mine", &Context::default());
        config.set_current_context("mine");
        fs::write(&path, config.to_yaml().unwrap()).unwrap();
        let words = write_new(&path, &entries(), &["oidc"]).words;
        assert_eq!(words, ["current-context stays mine, as you set it: `kubectl config use-context kind-dev`"]);
        assert_eq!(parsed(&path).current_context(), Some("mine"));
        config.remove_context("mine");
        config.set_current_context("mine");
        fs::write(&path, config.to_yaml().unwrap()).unwrap();
        write_new(&path, &entries(), &["oidc"]);
        assert_eq!(parsed(&path).current_context(), Some("kind-dev"));
    }

    #[test]
    fn without_a_provider_our_user_goes_and_the_users_own_stays() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("kubeconfig");
        write_new(&path, &entries(), &[]);
        let alone = Entries { plugin: None, ..entries() };
        write_new(&path, &alone, &["oidc"]);
        let config = parsed(&path);
        assert_eq!(config.user_names(), ["kind-dev"]);
        assert_eq!(config.context("kind-dev").unwrap().unwrap().user, "kind-dev");
        let mut config = parsed(&path);
        config.set_user("oidc", &guides_user("https://elsewhere"));
        fs::write(&path, config.to_yaml().unwrap()).unwrap();
        write_new(&path, &alone, &["kind-dev"]);
        assert!(parsed(&path).user_names().contains(&"oidc"));
    }

    #[test]
    fn a_broken_file_is_refused_and_kept() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("kubeconfig");
        for content in ["{", "users:\n- name: oidc\n  user:\n    exec: 1\n"] {
            fs::write(&path, content).unwrap();
            assert!(check(&path).is_err() && renew(&path, &entries(), &[]).is_err(), "{content}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
        assert!(check(&path).is_ok());
    }
}
