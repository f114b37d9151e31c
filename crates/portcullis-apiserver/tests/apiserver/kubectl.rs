//! Unmodified kubectl 1.37 against the dev API server.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::bench::{Bench, dex};

struct Session<'b> {
    bench: &'b Bench,
    admin: std::path::PathBuf,
    jane: std::path::PathBuf,
}

impl Session<'_> {
    async fn run(&self, kubeconfig: &Path, line: &str) -> (bool, String, String) {
        let args: Vec<&str> = line.split(' ').collect();
        let output = self.bench.kubectl(kubeconfig, &args).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// Runs as the administrator; it must succeed without a word on stderr.
    async fn admin(&self, line: &str) -> String {
        let (ok, out, err) = self.run(&self.admin, line).await;
        assert!(ok && err.is_empty(), "kubectl {line}\n{out}\n{err}");
        out
    }

    /// Runs as jane; it must fail. What it says.
    async fn jane_fails(&self, line: &str) -> String {
        let (ok, out, err) = self.run(&self.jane, line).await;
        assert!(!ok, "kubectl {line} succeeded\n{out}");
        format!("{out}{err}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_commands_work_with_real_kubectl() {
    let bench = Bench::start().await;
    let (admin, jane) = (bench.kubeconfig("admin", &["system:masters"]), bench.kubeconfig("jane", &["devs"]));
    let kubectl = Session { bench: &bench, admin, jane };
    bench.running.seed().part(&dex()).unwrap();

    let version = kubectl.admin("version").await;
    assert!(version.contains("Server Version: v1.37.2+portcullis"), "{version}");
    let whoami = kubectl.admin("auth whoami").await;
    assert!(whoami.contains("Username") && whoami.contains("[system:masters system:authenticated]"), "{whoami}");

    let denied = kubectl.jane_fails("get pods -A").await;
    assert_eq!(
        denied,
        "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" at the cluster scope\n"
    );
    assert_eq!(kubectl.jane_fails("auth can-i list pods -A").await.lines().last(), Some("no"));
    assert_eq!(
        kubectl.admin("create clusterrolebinding jane-admin --clusterrole=cluster-admin --user=jane").await,
        "clusterrolebinding.rbac.authorization.k8s.io/jane-admin created\n"
    );
    let (ok, pods, _) = kubectl.run(&kubectl.jane, "get pods --all-namespaces").await;
    let lines: Vec<Vec<&str>> = pods.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(ok, "{pods}");
    assert_eq!(lines[0], ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(lines[1][..5], ["mural-system", "dex-0", "1/1", "Running", "0"]);
    assert!(kubectl.run(&kubectl.jane, "auth can-i list pods -A").await.1.starts_with("yes"));
    let again = kubectl.run(&kubectl.admin, "create clusterrolebinding jane-admin --clusterrole=view --user=x").await;
    assert!(
        again.2.contains("clusterrolebindings.rbac.authorization.k8s.io \"jane-admin\" already exists"),
        "{}",
        again.2
    );
    assert!(kubectl.admin("get clusterrolebinding jane-admin -o wide").await.contains("ClusterRole/cluster-admin"));
    assert!(kubectl.admin("get clusterrolebinding jane-admin -o yaml").await.contains("name: cluster-admin"));
    kubectl.admin("delete clusterrolebinding jane-admin").await;
    assert!(kubectl.jane_fails("get pods -A").await.contains("Forbidden"));
    let list = kubectl.run(&kubectl.jane, "auth can-i --list").await.1;
    assert!(list.contains("selfsubjectreviews.authentication.k8s.io") && list.contains("[/version]"), "{list}");
    drop(kubectl);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_request_is_approved_and_described() {
    let bench = Bench::start().await;
    let (admin, jane) = (bench.kubeconfig("admin", &["system:masters"]), bench.kubeconfig("jane", &["devs"]));
    let kubectl = Session { bench: &bench, admin, jane };
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let spec = json!({"request": STANDARD.encode(request), "signerName": "example.com/s", "usages": ["client auth"]});
    for name in ["yes", "no"] {
        let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name}, "spec": spec});
        std::fs::write(bench.folder.path().join("csr.json"), object.to_string()).unwrap();
        let made = format!("certificatesigningrequest.certificates.k8s.io/{name} created\n");
        assert_eq!(kubectl.admin("create -f csr.json").await, made);
    }
    kubectl.jane_fails("certificate approve yes").await;
    let approved = kubectl.admin("certificate approve yes").await;
    assert_eq!(approved, "certificatesigningrequest.certificates.k8s.io/yes approved\n");
    let denied = kubectl.admin("certificate deny no").await;
    assert_eq!(denied, "certificatesigningrequest.certificates.k8s.io/no denied\n");
    let rows = kubectl.admin("get csr --no-headers").await;
    let states: Vec<_> = rows.lines().map(|row| row.split_whitespace().last().unwrap()).collect();
    assert_eq!(states, ["Denied", "Approved"], "{rows}");
    let described = kubectl.admin("describe csr yes").await;
    assert!(described.contains("Requesting User:") && described.contains("Approved"), "{described}");
    drop(kubectl);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_live_and_go_as_kubectl_expects() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let kubectl = Session { bench: &bench, jane: admin.clone(), admin };

    assert_eq!(kubectl.admin("create namespace demo").await, "namespace/demo created\n");
    kubectl.admin("create role reader --verb=get,list --resource=pods -n demo").await;
    kubectl.admin("create rolebinding readers --role=reader --user=bob --serviceaccount=demo:x -n demo").await;
    kubectl.admin("create clusterrole inspector --verb=get --resource=nodes,namespaces").await;
    kubectl.admin("create serviceaccount robot -n demo").await;
    assert_eq!(kubectl.admin("auth can-i get pods -n demo --as bob").await, "yes\n");

    let pod = bench.folder.path().join("pod.yaml");
    std::fs::write(&pod, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  labels: {app: web}\nspec:\n  containers:\n  - name: c\n    image: nginx:1\n").unwrap();
    assert_eq!(kubectl.admin("create -n demo -f pod.yaml").await, "pod/web created\n");
    let row: Vec<String> =
        kubectl.admin("get pods -n demo --no-headers").await.split_whitespace().map(str::to_owned).collect();
    assert_eq!(row[..4], ["web", "0/1", "Pending", "0"]);
    assert!(kubectl.admin("get events -n demo").await.contains("only Portcullis' own parts run as pods"));
    assert!(kubectl.admin("get pods -n demo -l app=web -o name").await.contains("pod/web"));
    assert_eq!(kubectl.admin("get pods -n demo -l app!=web -o name").await, "");
    assert_eq!(kubectl.admin("label pod web -n demo tier=front").await, "pod/web labeled\n");
    assert_eq!(kubectl.admin("get pod web -n demo -o jsonpath={.metadata.labels.tier}").await, "front");
    assert!(kubectl.admin("describe pod web -n demo").await.contains("FailedScheduling"));

    let typo = bench.folder.path().join("typo.yaml");
    std::fs::write(&typo, "apiVersion: v1\nkind: Pod\nmetadata: {name: typo}\nspec:\n  container: []\n").unwrap();
    let refused = kubectl.jane_fails("create -n demo -f typo.yaml").await;
    assert!(refused.contains("strict decoding error: unknown field \"spec.container\""), "{refused}");

    assert_eq!(kubectl.admin("delete pod web -n demo").await, "pod \"web\" deleted from demo namespace\n");
    assert_eq!(kubectl.admin("delete namespace demo").await, "namespace \"demo\" deleted\n");
    assert!(kubectl.jane_fails("get namespace demo").await.contains("namespaces \"demo\" not found"));
    assert!(kubectl.jane_fails("delete namespace default").await.contains("this namespace may not be deleted"));
    assert!(kubectl.admin("get nodes -o wide").await.contains("portcullis-control-plane"));
    for resource in ["pods", "namespaces", "clusterroles", "rolebindings", "events", "serviceaccounts"] {
        assert!(kubectl.admin("api-resources").await.contains(resource));
    }
    assert_eq!(kubectl.admin("get --raw /readyz").await, "ok");
    let waited = kubectl.admin("wait --for=jsonpath={.status.phase}=Active namespace/default --timeout=5s").await;
    assert_eq!(waited, "namespace/default condition met\n");
    drop(kubectl);
    bench.stop().await;
}
