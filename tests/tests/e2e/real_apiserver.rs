//! A real kube-apiserver with the guide's flags trusts our provider; real kubectl signs in with our plugin.

use std::fs;

use portcullis_testkit::ControlPlane;

use crate::world::{PASSWORD, USER, World, finish, guide};

/// No controller makes the account here.
const POD: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default, namespace: default}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: hello, namespace: default}\nspec: {containers: [{name: a, image: a}]}\n";

#[test]
fn kubectl_gets_403_before_and_pods_after_the_binding_and_whoami_names_user_and_groups() {
    let world = World::new();
    let values = fs::read_to_string(guide("values.yaml")).unwrap();
    let with_groups = values.replace(
        "      username: 'oidc-demo-user'\n",
        "      username: 'oidc-demo-user'\n      groups: [team-a, team-b]\n",
    );
    assert_ne!(with_groups, values, "the fixture has changed");
    let values = world.write("values.yaml", &with_groups);
    let up = world.up_and_keep(&[
        "--no-bind",
        "--values",
        values.to_str().unwrap(),
        "--cluster-config",
        &guide("kind-config.yaml"),
    ]);
    let issuer =
        up.stderr().lines().find_map(|l| l.trim().strip_prefix("export NGROK_ENDPOINT=").map(str::to_owned)).unwrap();

    let flags = [
        format!("--oidc-issuer-url={issuer}"),
        "--oidc-client-id=kubernetes".to_owned(),
        "--oidc-username-claim=email".to_owned(),
        "--oidc-username-prefix=".to_owned(),
        "--oidc-groups-claim=groups".to_owned(),
        format!("--oidc-ca-file={}", world.dev("ca/ca.pem").display()),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let plane = runtime.block_on(ControlPlane::start(&flags));
    let kubeconfig = plane.admin_kubeconfig();
    world.install_browser(USER, PASSWORD);
    let kubectl = |arguments: &[&str]| {
        let mut command = world.command(crate::world::peers().join("kubectl"));
        command.args(arguments).env("KUBECONFIG", &kubeconfig);
        finish(&mut command)
    };
    let pod = world.write("pod.yaml", POD);
    kubectl(&["create", "-f", pod.to_str().unwrap()]).ok();
    let cache = format!("--exec-arg=--token-cache-dir={}/.kube/cache/oidc", world.home().display());
    kubectl(&[
        "config",
        "set-credentials",
        "oidc",
        "--exec-api-version=client.authentication.k8s.io/v1",
        "--exec-interactive-mode=IfAvailable",
        "--exec-command=kubectl",
        "--exec-arg=oidc-login",
        "--exec-arg=get-token",
        &format!("--exec-arg=--oidc-issuer-url={issuer}"),
        "--exec-arg=--oidc-client-id=kubernetes",
        "--exec-arg=--oidc-client-secret=demo-client-secret-change-me",
        "--exec-arg=--oidc-extra-scope=email",
        "--exec-arg=--oidc-extra-scope=groups",
        &cache,
    ])
    .ok();

    // The first request may come before the API server has discovered the issuer: it looks every ten seconds.
    let mut forbidden = kubectl(&["--user=oidc", "get", "pods", "--all-namespaces"]);
    for _ in 0..30 {
        if !forbidden.stderr.contains("Unauthorized") {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_secs(1));
        forbidden = kubectl(&["--user=oidc", "get", "pods", "--all-namespaces"]);
    }
    let forbidden = forbidden.fails(1);
    assert_eq!(
        forbidden.stderr.lines().last().unwrap_or_default(),
        format!(
            "Error from server (Forbidden): pods is forbidden: User \"{USER}\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
        ),
    );
    kubectl(&[
        "create",
        "clusterrolebinding",
        "oidc-admin-binding",
        "--clusterrole=cluster-admin",
        &format!("--user={USER}"),
    ])
    .ok();
    let mut pods = kubectl(&["--user=oidc", "get", "pods", "--all-namespaces"]);
    for _ in 0..50 {
        if pods.code == Some(0) {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(200));
        pods = kubectl(&["--user=oidc", "get", "pods", "--all-namespaces"]);
    }
    assert!(pods.ok().stdout.contains("hello"));
    let whoami = kubectl(&["--user=oidc", "auth", "whoami"]).ok().stdout;
    for text in [USER, "team-a", "team-b", "system:authenticated"] {
        assert!(whoami.contains(text), "{text} in {whoami}");
    }
    drop(plane);
}
