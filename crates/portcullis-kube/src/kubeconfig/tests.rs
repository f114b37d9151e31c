//! Round trips, merges, refusals and limits of the kubeconfig reader.

use proptest::prelude::*;

use super::*;
use crate::secret::SecretText;

/// What kind and kubectl 1.37 leave behind after the guide's steps, with an extension of another tool.
const GUIDE: &str = r#"apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: QUJD
    extensions:
    - extension:
        last-update: Mon, 23 Nov 2026 19:34:53 UTC
        provider: minikube.sigs.k8s.io
      name: cluster_info
    server: https://127.0.0.1:6443
  name: kind-dev
contexts:
- context:
    cluster: kind-dev
    user: oidc
  name: kind-dev
current-context: kind-dev
kind: Config
preferences: {}
users:
- name: kind-dev
  user:
    client-certificate-data: QUJD
    client-key-data: c2VjcmV0
- name: oidc
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      args:
      - oidc-login
      - get-token
      - --oidc-client-secret=hunter2
      command: kubectl
      env: null
      interactiveMode: Always
      provideClusterInfo: false
"#;

fn guide() -> Kubeconfig {
    Kubeconfig::parse(GUIDE, "dev.kubeconfig").unwrap()
}

#[test]
fn what_kubectl_writes_is_written_back_unchanged() {
    assert_eq!(guide().to_yaml().unwrap(), GUIDE);
}

#[test]
fn the_current_context_resolves() {
    let found = guide().resolve(None).unwrap();
    assert_eq!(found.name, "kind-dev");
    assert_eq!(found.cluster.server, "https://127.0.0.1:6443");
    assert_eq!(found.cluster.certificate_authority_pem().as_deref(), Some(b"ABC".as_slice()));
    let exec = found.user.exec.unwrap();
    assert_eq!((exec.command.as_str(), exec.args.len(), exec.interactive_mode.as_str()), ("kubectl", 3, "Always"));
}

#[test]
fn a_change_leaves_everything_else_alone() {
    let mut config = guide();
    let mut cluster = config.cluster("kind-dev").unwrap().unwrap();
    cluster.server = "https://127.0.0.1:7443".to_owned();
    config.set_cluster("kind-dev", &cluster);
    let mut user = config.user("oidc").unwrap().unwrap();
    if let Some(exec) = &mut user.exec {
        exec.env.push(("A".to_owned(), "b".to_owned()));
    }
    config.set_user("oidc", &user);
    let want =
        GUIDE.replace(":6443", ":7443").replace("      env: null\n", "      env:\n      - name: A\n        value: b\n");
    assert_eq!(config.to_yaml().unwrap(), want);
}

#[test]
fn a_new_file_is_in_kubectls_order() {
    let mut config = Kubeconfig::new("f");
    config.set_cluster("c", &Cluster::new("https://127.0.0.1:6443", b"ABC"));
    config.set_user("admin", &User::with_certificate(b"ABC", b"secret"));
    let context = Context { cluster: "c".to_owned(), user: "admin".to_owned(), namespace: String::new() };
    config.set_context("kind-dev", &context);
    config.set_current_context("kind-dev");
    assert_eq!(
        config.to_yaml().unwrap(),
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: QUJD\n    server: https://127.0.0.1:6443\n  name: c\ncontexts:\n- context:\n    cluster: c\n    user: admin\n  name: kind-dev\ncurrent-context: kind-dev\nkind: Config\nusers:\n- name: admin\n  user:\n    client-certificate-data: QUJD\n    client-key-data: c2VjcmV0\n"
    );
}

#[test]
fn setting_a_user_replaces_the_way_of_signing_in() {
    let mut config = guide();
    config.set_user("oidc", &User { token: SecretText::new("t"), ..User::default() });
    let user = config.user("oidc").unwrap().unwrap();
    assert_eq!((user.exec, user.token.expose()), (None, "t"));
}

#[test]
fn removing_the_current_context_unsets_it() {
    let mut config = guide();
    assert!(config.remove_context("kind-dev") && config.remove_user("oidc") && config.remove_cluster("kind-dev"));
    assert!(!config.remove_user("oidc"));
    assert_eq!(config.current_context(), None);
    assert_eq!(config.user_names(), ["kind-dev"]);
    assert!(config.to_yaml().unwrap().contains("clusters: []\ncontexts: []\n"));
}

#[test]
fn kubelogins_standalone_user_is_read_and_written() {
    let text = "users:\n- name: k\n  user:\n    auth-provider:\n      config:\n        client-id: kubernetes\n        id-token: eyJ\n      name: oidc\n";
    let mut config = Kubeconfig::parse(text, "f").unwrap();
    let mut user = config.user("k").unwrap().unwrap();
    let provider = user.auth_provider.as_mut().unwrap();
    assert_eq!((provider.name.as_str(), provider.config["client-id"].as_str()), ("oidc", "kubernetes"));
    provider.config.insert("refresh-token".to_owned(), "r".to_owned());
    config.set_user("k", &user);
    assert_eq!(config.to_yaml().unwrap(), text.replace("id-token: eyJ\n", "id-token: eyJ\n        refresh-token: r\n"));
}

#[test]
fn an_entry_with_a_bare_number_for_a_name_is_changed_and_not_repeated() {
    let text = "contexts:\n- name: 7\n  context: {cluster: 1, user: true}\ncurrent-context: 7\n";
    let mut config = Kubeconfig::parse(text, "f").unwrap();
    assert_eq!((config.current_context(), config.context_names()), (Some("7"), vec!["7"]));
    let mut context = config.context("7").unwrap().unwrap();
    assert_eq!((context.cluster.as_str(), context.user.as_str()), ("1", "true"));
    context.namespace = "ns".to_owned();
    config.set_context("7", &context);
    let again = Kubeconfig::parse(&config.to_yaml().unwrap(), "f").unwrap();
    assert_eq!(again.context_names(), ["7"]);
    assert_eq!(again.context("7").unwrap().unwrap(), context);
    assert!(config.remove_context("7"));
}

#[test]
fn an_empty_file_and_json_are_accepted() {
    for text in ["", "\n", "# nothing\n", "\u{feff}", "{}", "null"] {
        let config = Kubeconfig::parse(text, "f").unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert!(config.context_names().is_empty(), "{text:?}");
    }
    let json = r#"{"apiVersion":"v1","kind":"Config","clusters":[{"name":"a","cluster":{"server":"https://x"}}],"users":null}"#;
    assert_eq!(Kubeconfig::parse(json, "f").unwrap().cluster("a").unwrap().unwrap().server, "https://x");
}

#[test]
fn refusals_name_file_path_and_fix_and_never_a_secret() {
    let table = [
        ("a: [", "f:", ""),
        ("- a\n", "f: the document: expected a map, found a list", ""),
        ("secret-token\n", "f: the document: expected a map, found a string", ""),
        ("kind: Pod\n", "f: kind: expected \"Config\", found \"Pod\"", ""),
        ("apiVersion: v2\n", "f: apiVersion: expected \"v1\", found \"v2\"", ""),
        ("users: secret-token\n", "f: users: expected a list, found a string", "correct users"),
        ("users:\n- secret-token\n", "f: users[0]: expected a map, found a string", "correct users[0]"),
        ("users:\n- name: a\n  user: secret-token\n", "f: users[0].user: expected a map, found a string", ""),
        ("users:\n- name: [a]\n", "f: users[0].name: expected a string, found a list", ""),
        ("users:\n- name: a\n- name: a\n", "f: users[1]: another entry is named \"a\" too", "rename"),
        ("current-context: {}\n", "f: current-context: expected a string, found a map", ""),
        ("users:\n- user:\n    token: secret-token\n    token: secret-token\n", "f:4:5: ", ""),
        ("users:\n- user:\n  token: secret-token: x\n", "f:3:", ""),
    ];
    for (text, start, hint) in table {
        let error = Kubeconfig::parse(text, "f").unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with(start), "{text:?}: {said}");
        assert!(!said.contains('\n') && std::error::Error::source(&error).is_none(), "one line, said once: {said}");
        assert!(!error.hint().is_empty() && error.hint().starts_with(hint), "{text:?}: {}", error.hint());
        assert!(!said.contains("secret-token") && !error.hint().contains("secret-token"), "{text:?}: {said}");
    }
}

#[test]
fn members_of_the_wrong_type_are_named_when_they_are_read() {
    let text = "users:\n- name: a\n  user:\n    exec:\n      args: secret\nclusters:\n- name: c\n  cluster:\n    insecure-skip-tls-verify: 'yes'\n";
    let config = Kubeconfig::parse(text, "f").unwrap();
    let error = config.user("a").unwrap_err().to_string();
    assert!(error.starts_with("f: users[0].user.exec.args: expected a list, found a string"), "{error}");
    let error = config.cluster("c").unwrap_err().to_string();
    assert!(error.starts_with("f: clusters[0].cluster.insecure-skip-tls-verify: expected true or false"), "{error}");
}

#[test]
fn missing_names_are_explained() {
    let error = guide().resolve(Some("prod")).unwrap_err();
    assert_eq!(error.to_string(), "dev.kubeconfig: there is no context named \"prod\"");
    assert_eq!(error.hint(), "it has kind-dev");
    let mut config = guide();
    config.remove_user("oidc");
    assert!(config.resolve(None).unwrap_err().to_string().contains("no user named \"oidc\""));
    assert!(matches!(Kubeconfig::new("f").resolve(None), Err(KubeconfigError::NoCurrentContext { .. })));
}

#[test]
fn limits_are_enforced() {
    let large = format!("#{}", "x".repeat(BYTES_LIMIT));
    assert!(matches!(Kubeconfig::parse(&large, "f"), Err(KubeconfigError::Yaml(YamlError::TooLarge { .. }))));
    let many = |count: usize| (0..count).fold("users:\n".to_owned(), |text, n| text + &format!("- {{name: u{n}}}\n"));
    assert!(Kubeconfig::parse(&many(ENTRIES_LIMIT), "f").is_ok());
    assert!(matches!(
        Kubeconfig::parse(&many(ENTRIES_LIMIT + 1), "f"),
        Err(KubeconfigError::TooMany { count: 10_001, list: "users", .. })
    ));
}

#[test]
fn debug_output_holds_no_secret() {
    let config = guide();
    let user = config.user("oidc").unwrap().unwrap();
    let admin = config.user("kind-dev").unwrap().unwrap();
    let shown = format!("{config:?} {user:?} {admin:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("c2VjcmV0"), "{shown}");
}

proptest! {
    #[test]
    fn any_text_is_refused_or_survives_a_round_trip(text in "[a-z:\\-\\[\\]{}&*!|>'\"%#@, \n0-9~.]{0,120}") {
        if let Ok(config) = Kubeconfig::parse(&text, "f") {
            let printed = config.to_yaml().unwrap();
            prop_assert_eq!(Kubeconfig::parse(&printed, "f").unwrap(), config, "{}", printed);
        }
    }

    #[test]
    fn any_name_and_value_survive_a_round_trip(name in "\\PC{0,20}", value in any::<String>()) {
        let mut config = Kubeconfig::new("f");
        let user = User { token: SecretText::new(value.clone()), username: value, ..User::default() };
        config.set_user(&name, &user);
        config.set_current_context(&name);
        let printed = config.to_yaml().unwrap();
        let again = Kubeconfig::parse(&printed, "f").unwrap();
        prop_assert_eq!(again.user(&name).unwrap().unwrap(), user, "{}", printed);
        prop_assert_eq!(again, config);
    }
}
