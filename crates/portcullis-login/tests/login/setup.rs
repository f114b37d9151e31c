//! `setup`.

use crate::issuer::Issuer;
use crate::world::World;

#[test]
fn setup_shows_the_claims_and_the_command_and_touches_no_cache() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let finished = world
        .run(&[
            "setup",
            &format!("--oidc-issuer-url={}", issuer.url),
            "--oidc-client-id=kubernetes",
            "--oidc-extra-scope=email",
            "--listen-address=127.0.0.1:0",
        ])
        .ok();
    assert_eq!(finished.stdout, "");
    assert!(finished.stderr.starts_with("Authentication in progress...\n"));
    for claim in ["iss", "sub", "aud", "exp", "iat", "nonce", "at_hash", "email"] {
        assert!(finished.stderr.contains(&format!("\n  \"{claim}\": ")), "{claim}");
    }
    assert!(finished.stderr.contains(&format!(
        "kubectl config set-credentials oidc \\\n  --exec-api-version=client.authentication.k8s.io/v1 \\\n  --exec-interactive-mode=Never \\\n  --exec-command=kubectl \\\n  --exec-arg=oidc-login \\\n  --exec-arg=get-token \\\n  --exec-arg=--oidc-issuer-url={} \\\n  --exec-arg=--oidc-client-id=kubernetes \\\n  --exec-arg=--oidc-extra-scope=email \\\n  --exec-arg=--listen-address=127.0.0.1:0\n",
        issuer.url
    )));
    assert!(!world.root.path().join("home").exists());
}

#[test]
fn setup_without_a_provider_is_help() {
    let world = World::new();
    for args in [&["setup"][..], &["setup", "--oidc-issuer-url=https://x"], &["setup", "--oidc-client-id=x"]] {
        let finished = world.run(args).ok();
        assert!(finished.stdout.contains("Usage:\n  kubelogin setup [flags]"));
        assert_eq!(finished.stderr, "");
    }
}

#[test]
fn setup_errors_carry_its_name() {
    let world = World::new();
    let finished =
        world.run(&["setup", "--oidc-issuer-url=http://127.0.0.1:1", "--oidc-client-id=x", "--grant-type=x"]).fails();
    assert!(finished.error().starts_with("error: setup: grant-type must be one of ("));
}
