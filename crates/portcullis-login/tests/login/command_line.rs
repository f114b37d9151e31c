//! Commands, flags, streams and exit codes.

use crate::issuer::Issuer;
use crate::world::World;

#[test]
fn wrong_command_lines_fail_with_kubelogins_words() {
    let world = World::new();
    let table: &[(&[&str], &str)] = &[
        (&["get-token"], "error: --oidc-issuer-url is missing"),
        (&["get-token", "--oidc-issuer-url=x"], "error: --oidc-client-id is missing"),
        (&["get-token", "extra"], "error: unknown command \"extra\" for \"kubelogin get-token\""),
        (&["extra"], "error: unknown command \"extra\" for \"kubelogin\""),
        (&["get-token", "--nope"], "error: unknown flag: --nope"),
        (&["--help", "--nope"], "error: unknown flag: --nope"),
        (
            &["get-token", "--oidc-request-header=abc"],
            "error: invalid argument \"abc\" for \"--oidc-request-header\" flag: abc must be formatted as key=value",
        ),
        (&["clean", "extra"], "error: unknown command \"extra\" for \"kubelogin clean\""),
    ];
    for (args, want) in table {
        assert_eq!(world.run(args).fails().error(), *want, "{args:?}");
    }
}

#[test]
fn standalone_mode_says_that_it_is_not_built() {
    let world = World::new();
    let finished = world.run(&["--kubeconfig=x", "--skip-open-browser"]).fails();
    assert!(
        finished
            .error()
            .starts_with("error: standalone mode (login without a command) is not built yet, use get-token\nhint: ")
    );
}

#[test]
fn help_version_and_completion_go_to_stdout_and_the_version_command_to_stderr() {
    let world = World::new();
    for args in [&["--help"][..], &["-h"], &["help"], &["help", "nonsense"]] {
        let finished = world.run(args).ok();
        assert!(finished.stdout.contains("Available Commands:") && finished.stderr.is_empty(), "{args:?}");
    }
    for args in [
        &["get-token", "--help"][..],
        &["get-token", "-h", "extra"],
        &["help", "get-token"],
        &["-v1", "get-token", "--help"],
    ] {
        assert!(world.run(args).ok().stdout.contains("kubelogin get-token [flags]"), "{args:?}");
    }
    assert_eq!(world.run(&["--version"]).ok().stdout, "kubelogin version 1.2.3\n");
    let version = world.run(&["version"]).ok();
    assert_eq!(version.stdout, "");
    assert!(version.stderr.starts_with("kubelogin version 1.2.3 (portcullis "));
    assert!(world.run(&["completion", "bash"]).ok().stdout.contains("oidc-issuer-url"));
}

#[test]
fn exec_info_is_checked_before_and_its_version_after_the_sign_in() {
    let mut world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.vars.insert("KUBERNETES_EXEC_INFO".into(), "{".into());
    let broken = world.get_token(&issuer, &[]).fails();
    assert!(broken.error().starts_with(
        "error: get-token: could not read the input of credential plugin: invalid KUBERNETES_EXEC_INFO: "
    ));
    assert_eq!(issuer.count(), 0);

    world
        .vars
        .insert("KUBERNETES_EXEC_INFO".into(), r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#.into());
    for _ in 0..2 {
        assert_eq!(
            world.get_token(&issuer, &[]).fails().error(),
            "error: get-token: could not write the token to client-go: generate ExecCredential: unknown apiVersion: client.authentication.k8s.io/v1alpha1"
        );
    }
    assert_eq!(world.opened().len(), 1, "the login is cached although it could not be written");
    world.vars.remove(std::ffi::OsStr::new("KUBERNETES_EXEC_INFO"));
    assert!(world.get_token(&issuer, &[]).ok().stdout.contains("client.authentication.k8s.io/v1beta1"));
}

#[test]
fn deprecated_flags_work_with_a_warning() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let finished = world.get_token(&issuer, &["--oidc-use-pkce", "--no-keyring", "--tls-renegotiation-once"]).ok();
    assert_eq!(
        finished.stderr,
        "Flag --oidc-use-pkce has been deprecated, use --oidc-pkce-method instead\n\
         Flag --no-keyring has been deprecated, use --token-cache-storage=disk instead\n\
         warning: TLS renegotiation is not supported; the flag is ignored\n"
    );
}

#[test]
fn the_old_hostname_flag_still_shapes_the_redirect() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.get_token(&issuer, &["--oidc-redirect-url-hostname=127.0.0.1"]).ok();
    assert!(issuer.requests("/auth")[0].form["redirect_uri"].starts_with("http://127.0.0.1:"));
}

#[test]
fn the_cache_folder_follows_kubecachedir_and_home() {
    let mut world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let args = [
        "get-token".to_owned(),
        format!("--oidc-issuer-url={}", issuer.url),
        "--oidc-client-id=kubernetes".to_owned(),
        "--listen-address=127.0.0.1:0".to_owned(),
    ];
    let args = args.each_ref().map(String::as_str);
    world.run(&args).ok();
    assert!(world.root.path().join("home/.kube/cache/oidc-login").is_dir());
    world.vars.insert("KUBECACHEDIR".into(), world.root.path().join("other").into());
    world.run(&args).ok();
    assert!(world.root.path().join("other/oidc-login").is_dir());
}
