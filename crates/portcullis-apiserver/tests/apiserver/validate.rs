//! `--validate` of real kubectl: it asks OpenAPI whether the server validates fields, and leaves it to the server. What it
//! prints is the same against a real kube-apiserver and ours.

use portcullis_testkit::ControlPlane;

use crate::bench::{Bench, kubectl_of};

/// Name of a file and its manifest; `NAME` becomes a name that no other command uses.
const MANIFESTS: &[(&str, &str)] = &[
    ("good", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: NAME}\n"),
    ("unknown", "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAME, nam: x}\nspec: {finalizer: []}\nextra: 1\n"),
    (
        "nested",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec:\n  containers:\n  - {name: c, image: i, imag: j, ports: [{containerport: 1, containerPort: 2}]}\n",
    ),
    (
        "type",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec:\n  containers:\n  - {name: c, image: i, ports: [{containerPort: x}]}\n",
    ),
    (
        "rules",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: NAME}\nrules:\n- {verbs: [get], resource: [pods], apiGroups: ['']}\n",
    ),
    ("kind", "apiVersion: v1\nkind: Nonsense\nmetadata: {name: NAME}\n"),
    ("version", "apiVersion: nonsense/v1\nkind: Pod\nmetadata: {name: NAME}\n"),
    ("nokind", "apiVersion: v1\nmetadata: {name: NAME}\n"),
    (
        "two",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAME-a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: NAME-b}\nspce: {}\n",
    ),
];

const VALIDATIONS: [&str; 4] = ["strict", "warn", "ignore", "odd"];

#[tokio::test(flavor = "multi_thread")]
async fn kubectls_validation_says_the_same_as_against_a_real_kube_apiserver() {
    let real = ControlPlane::start(&[]).await;
    crate::differential::settled(&real).await;
    let bench = Bench::start().await;
    let configs = [real.admin_kubeconfig(), bench.kubeconfig("admin", &["system:masters"])];
    let (mut wrong, mut asked) = (Vec::new(), 0);
    let listed =
        bench.client(Some(("admin", &["system:masters"]))).get(&bench.url("/apis/apiextensions.k8s.io/v1"), &[]).await;
    let has_crds = listed.unwrap().status == 200;
    for (file, manifest) in MANIFESTS {
        // kubectl looks for a definition of a kind that nobody knows.
        if *file == "kind" && !has_crds {
            continue;
        }
        for validation in VALIDATIONS {
            for command in ["create", "apply"] {
                let name = format!("{file}-{validation}-{command}");
                std::fs::write(bench.folder.path().join("manifest.yaml"), manifest.replace("NAME", &name)).unwrap();
                let flag = format!("--validate={validation}");
                let args = [command, "-f", "manifest.yaml", &flag];
                let mut outputs = Vec::new();
                for config in &configs {
                    let output = kubectl_of(&bench.folder, config, &args).await;
                    let text = |bytes: Vec<u8>| without_times(&String::from_utf8(bytes).unwrap());
                    outputs.push((output.status.code(), text(output.stdout), text(output.stderr)));
                }
                asked += 1;
                if outputs[0] != outputs[1] {
                    wrong.push(format!("== {name}\nreal: {:?}\nours: {:?}", outputs[0], outputs[1]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked} differ\n{}", wrong.len(), wrong.join("\n"));
    bench.stop().await;
}

/// kubectl's own log lines begin with a time and a process id.
fn without_times(text: &str) -> String {
    let line = |line: &str| match line.split_once("] ") {
        Some((head, rest)) if head.starts_with('W') && head.contains(".go:") => format!("W {rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}
