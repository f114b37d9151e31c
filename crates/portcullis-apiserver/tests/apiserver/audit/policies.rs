//! Policies that kube-apiserver does not take: the same words.

use std::path::Path;
use std::process::Command;

use portcullis_apiserver::{AuditLog, AuditOptions};
use portcullis_runtime::Clock;
use portcullis_testkit::{Peer, peer};

/// After the first line, which all of them share.
const REFUSED: &[&str] = &[
    "rules: []",
    "omitStages: [RequestReceived]",
    "rules: [{}]",
    "rules: [{level: Everything}]",
    "rules: [{level: metadata}, {level: None, omitStages: [Nope]}]",
    "omitStages: [Nope, RequestReceived]\nrules: [{level: None}]",
    "rules: [{level: None, nonResourceURLs: [healthz]}]",
    "rules: [{level: None, nonResourceURLs: ['', '/a*b', '*', '/x/*']}]",
    "rules: [{level: None, nonResourceURLs: ['*a', '**']}]",
    "rules: [{level: None, nonResourceURLs: ['/a'], resources: [{group: ''}]}]",
    "rules: [{level: None, nonResourceURLs: ['/a', '/b'], namespaces: [a]}]",
    "rules: [{level: None, resources: [{group: rbac.authorization.k8s.io/v1}]}]",
    "rules: [{level: None, resources: [{group: UPPER}, {group: '*'}, {group: 'a b'}]}]",
    "rules: [{level: None, resources: [{group: apps, resourceNames: [a, b]}]}]",
    "rules: [{level: None}, {level: Request, resources: [{resourceNames: [x]}], omitStages: ['']}]",
    "rules: 5",
    "omitStages: [5]\nrules: [{level: None}]",
    "omitStages: ResponseStarted\nrules: [{level: None}]",
    "rules: [{level: 5}]",
    "rules: [{level: None, users: me}]",
    "rules: [{level: None, omitManagedFields: maybe}]",
    "rules: [{level: None, resources: [apps]}]",
    "rules: {level: None}",
    "omitManagedFields: 1\nrules: [{level: None}]",
];

/// Policies that are refused as a whole.
const WHOLE: &[&str] = &[
    "apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]",
    "apiVersion: audit.k8s.io/v1\nkind: Police\nrules: [{level: None}]",
    "apiVersion: v1\nkind: Pod",
    "kind: Policy\nrules: [{level: None}]",
    r#"{"kind": "Policy", "apiVersion": "audit.k8s.io/v1", "rules": [{"level": "None", "level": ""}]}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_refused_in_the_words_of_the_real_server() {
    let folder = portcullis_testkit::temp_dir();
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    let policies: Vec<String> = REFUSED
        .iter()
        .map(|rest| format!("{head}{rest}\n"))
        .chain(WHOLE.iter().map(|whole| (*whole).to_owned()))
        .collect();
    let certificates = portcullis_testkit::TestCa::new("kubernetes-ca");
    for (name, content) in certificate_files(&certificates) {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let mut wrong = Vec::new();
    for (index, policy) in policies.iter().enumerate() {
        let file = folder.path().join(format!("{index}.yaml"));
        std::fs::write(&file, policy).unwrap();
        let (theirs, ours) = (real(folder.path(), &file), ours(folder.path(), &file));
        if theirs != ours {
            wrong.push(format!("{policy}\n  real: {theirs}\n  ours: {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), policies.len(), wrong.join("\n"));
}

fn certificate_files(ca: &portcullis_testkit::TestCa) -> Vec<(&'static str, String)> {
    let server = ca.server();
    let accounts = rcgen::KeyPair::generate().unwrap();
    vec![
        ("ca.pem", ca.pem().to_owned()),
        ("tls.pem", server.certificate_pem.clone()),
        ("tls.key", server.key_pem),
        ("accounts.key", accounts.serialize_pem()),
        ("accounts.pub", accounts.public_key_pem()),
    ]
}

/// What a real kube-apiserver ends with. It reads the policy before it looks for etcd.
fn real(folder: &Path, policy: &Path) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let output = Command::new(peer(Peer::KubeApiserver))
        .arg("--etcd-servers=http://127.0.0.1:1")
        .arg("--bind-address=127.0.0.1")
        .arg("--secure-port=1")
        .arg(format!("--tls-cert-file={}", file("tls.pem")))
        .arg(format!("--tls-private-key-file={}", file("tls.key")))
        .arg(format!("--client-ca-file={}", file("ca.pem")))
        .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
        .arg(format!("--service-account-key-file={}", file("accounts.pub")))
        .arg(format!("--service-account-signing-key-file={}", file("accounts.key")))
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        .arg("--authorization-mode=RBAC")
        .arg(format!("--cert-dir={}", folder.display()))
        .arg(format!("--audit-policy-file={}", policy.display()))
        .arg(format!("--audit-log-path={}", file("real.log")))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().find_map(|line| line.split_once("\"command failed\" err=").map(|(_, why)| why.to_owned()));
    let last = last.unwrap_or_else(|| format!("no error: {said}"));
    // The log quotes it, as Go does.
    serde_json::from_str(&last).unwrap_or(last)
}

fn ours(folder: &Path, policy: &Path) -> String {
    let options = AuditOptions {
        policy_file: Some(policy.to_owned()),
        path: Some(folder.join("ours.log")),
        ..AuditOptions::default()
    };
    AuditLog::open(&options, &Clock::system()).map_or_else(|error| error.to_string(), |_| "taken".to_owned())
}
