//! A real Kubernetes control plane on loopback: etcd and kube-apiserver, with a folder and an authority of their own.
//!
//! Flow: free ports → certificates → etcd until it is healthy → kube-apiserver with RBAC and the caller's flags until
//! `/readyz` says ok. A port that somebody else took in between means another attempt. Both stop when it is dropped, so
//! it must not be put into a static, which is never dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, Roots};
use tempfile::TempDir;

use crate::{ChildGuard, Leaf, Peer, TestCa, free_ports, peer, temp_dir};

/// How long a server may take to become ready.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it is asked.
const INTERVAL: Duration = Duration::from_millis(50);
/// Attempts, when ports are taken under our feet.
pub(crate) const ATTEMPTS: usize = 3;

/// A running etcd and kube-apiserver.
pub struct ControlPlane {
    // Dropped in this order: the API server first, its data last.
    apiserver: ChildGuard,
    etcd: ChildGuard,
    url: String,
    port: u16,
    ca: TestCa,
    admin: Leaf,
    flags: Vec<String>,
    etcd_url: String,
    etcd_ports: [u16; 2],
    folder: TempDir,
}

impl ControlPlane {
    /// Starts both. `flags` are added to kube-apiserver's own, such as `--oidc-issuer-url=…`. Panics, with the last
    /// lines of the log, when it does not become ready.
    pub async fn start(flags: &[String]) -> Self {
        let mut reasons = Vec::new();
        for _ in 0..ATTEMPTS {
            match Self::attempt(flags).await {
                Ok(running) => return running,
                Err(reason) if reason.contains("address already in use") => reasons.push(reason),
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("{}", reasons.join("\n"))
    }

    async fn attempt(flags: &[String]) -> Result<Self, String> {
        let folder = temp_dir();
        let ca = TestCa::new("kubernetes-ca");
        let [client_port, peer_port, port] = free_ports();
        let etcd_url = format!("http://127.0.0.1:{client_port}");
        let etcd_ports = [client_port, peer_port];
        let mut etcd = crate::etcd::spawn(folder.path(), etcd_ports, false, &[]);
        let plain = plain_client();
        ready(&plain, &format!("{etcd_url}/health"), &mut etcd).await?;

        let admin = ca.client("kubernetes-admin", &["system:masters"]);
        let url = format!("https://127.0.0.1:{port}");
        let mut apiserver = start_apiserver(folder.path(), &ca, &etcd_url, port, flags);
        let client = HttpClient::new(HttpClientConfig {
            identity: Some(admin.client_identity()),
            timeout: INTERVAL * 40,
            ..ca.http_client_config()
        });
        ready(&client.expect("an HTTP client"), &format!("{url}/readyz"), &mut apiserver).await?;
        Ok(Self { apiserver, etcd, url, port, ca, admin, flags: flags.to_vec(), etcd_url, etcd_ports, folder })
    }

    /// What kube-apiserver says of flags that it does not start with: the last lines of its log. Panics when it does start.
    pub async fn refusal(flags: &[String]) -> String {
        let folder = temp_dir();
        let [etcd, port] = free_ports();
        let ca = TestCa::new("kubernetes-ca");
        // It reads its settings before it looks for its store.
        let mut child = start_apiserver(folder.path(), &ca, &format!("http://127.0.0.1:{etcd}"), port, flags);
        let deadline = Instant::now() + PATIENCE;
        while child.ended().is_none() {
            assert!(Instant::now() < deadline, "it has not ended:\n{}", child.tail());
            tokio::time::sleep(INTERVAL).await;
        }
        child.tail()
    }

    /// Stops the API server and starts it again at the same address with what etcd has: its watch cache is empty then, so
    /// that watches from before are told 410. Panics when it does not become ready.
    pub async fn restart_apiserver(&mut self) {
        self.apiserver.kill();
        self.apiserver = start_apiserver(self.folder.path(), &self.ca, &self.etcd_url, self.port, &self.flags);
        let readyz = format!("{}/readyz", self.url);
        ready(&self.admin_client(), &readyz, &mut self.apiserver).await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// Kills etcd, as an outage of the cluster's store: the API server stays and cannot do anything.
    pub fn kill_etcd(&mut self) {
        self.etcd.kill();
    }

    /// Starts etcd again at the same address with the data that it had. Panics when it does not become ready.
    pub async fn restart_etcd(&mut self) {
        self.etcd = crate::etcd::spawn(self.folder.path(), self.etcd_ports, false, &[]);
        let plain = plain_client();
        ready(&plain, &format!("{}/health", self.etcd_url), &mut self.etcd).await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// Takes a backup of etcd: what it has, while it is stopped for a moment. Panics when it does not become ready again.
    pub async fn backup_etcd(&mut self) -> TempDir {
        let backup = temp_dir();
        self.etcd.kill();
        copy(&self.folder.path().join("etcd"), &backup.path().join("etcd"));
        self.restart_etcd().await;
        backup
    }

    /// Puts etcd back to what a backup has, as people do it: both servers are stopped, and started with it. Versions go back
    /// to those of the backup, and are given again. Panics when they do not become ready.
    pub async fn restore_etcd(&mut self, backup: &Path) {
        self.apiserver.kill();
        self.etcd.kill();
        let data = self.folder.path().join("etcd");
        std::fs::remove_dir_all(&data).expect("etcd's data can be removed");
        copy(&backup.join("etcd"), &data);
        self.restart_etcd().await;
        self.restart_apiserver().await;
    }

    /// Makes etcd forget what was before a revision: lists and watches that go on from there are told 410.
    pub async fn compact_etcd(&self, revision: u64) {
        let url = format!("{}/v3/kv/compaction", self.etcd_url);
        let body = format!(r#"{{"revision":"{revision}"}}"#);
        let answer = plain_client().request(http::Method::POST, &url, &[], Some(body.into())).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// The API server's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The API server's port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The authority of its certificates and of client certificates.
    #[must_use]
    pub const fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// The folder with its files; tests may put theirs beside them.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client without credentials.
    #[must_use]
    pub fn http_client(&self) -> HttpClient {
        self.ca.http_client()
    }

    /// A client with a certificate of `system:masters`.
    #[must_use]
    pub fn admin_client(&self) -> HttpClient {
        self.client_with(&self.admin)
    }

    /// A client with the certificate of somebody.
    #[must_use]
    pub fn client(&self, name: &str, groups: &[&str]) -> HttpClient {
        self.client_with(&self.ca.client(name, groups))
    }

    fn client_with(&self, leaf: &Leaf) -> HttpClient {
        let config = HttpClientConfig {
            identity: Some(leaf.client_identity()),
            max_body: 16 * 1024 * 1024,
            ..self.ca.http_client_config()
        };
        HttpClient::new(config).expect("an HTTP client")
    }

    /// Writes a kubeconfig whose user `admin` is `system:masters`, and returns its path.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        let folder = self.folder.path();
        let (certificate, key) = (folder.join("admin.pem"), folder.join("admin.key"));
        write(&certificate, &self.admin.certificate_pem);
        write(&key, &self.admin.key_pem);
        let path = folder.join("admin.kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n    server: {}\n    certificate-authority: {}\nusers:\n- name: admin\n  user:\n    client-certificate: {}\n    client-key: {}\ncontexts:\n- name: test\n  context:\n    cluster: test\n    user: admin\n",
            self.url,
            folder.join("ca.pem").display(),
            certificate.display(),
            key.display(),
        );
        write(&path, &text);
        path
    }

    /// A real kubectl with this kubeconfig, and nothing of the caller's environment that would change what it does.
    #[must_use]
    pub fn kubectl(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(peer(Peer::Kubectl));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", kubeconfig);
        command
    }

    /// Starts upstream's controller that fills aggregated cluster roles; it ends with its guard.
    #[must_use]
    pub fn aggregation_controller(&self) -> ChildGuard {
        let mut command = Command::new(peer(Peer::UpstreamRbac));
        command.arg("aggregate").arg(self.admin_kubeconfig());
        ChildGuard::spawn("upstream-rbac", self.folder.path(), &mut command)
    }

    /// Starts upstream's garbage collector and namespace controller; they end with their guard.
    #[must_use]
    pub fn controllers(&self) -> ChildGuard {
        let mut command = Command::new(peer(Peer::UpstreamControllers));
        command.arg(self.admin_kubeconfig());
        ChildGuard::spawn("upstream-controllers", self.folder.path(), &mut command)
    }

    /// The API server's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.apiserver.output()
    }

    /// The process ids of the API server and of etcd.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        (self.apiserver.id(), self.etcd.id())
    }
}

pub(crate) fn short() -> HttpClientConfig {
    HttpClientConfig { timeout: Duration::from_secs(2), ..HttpClientConfig::default() }
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a file can be copied");
        }
    }
}

/// For etcd, which listens without TLS.
fn plain_client() -> HttpClient {
    HttpClient::new(HttpClientConfig { roots: Roots::Only(Vec::new()), ..short() }).expect("an HTTP client")
}

fn start_apiserver(folder: &Path, ca: &TestCa, etcd_url: &str, port: u16, flags: &[String]) -> ChildGuard {
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        write(&path, content);
        path.display().to_string()
    };
    let server = ca.server_for(&["localhost", "127.0.0.1", "::1", "kubernetes.default.svc"], crate::Validity::Now);
    let accounts = rcgen::KeyPair::generate().expect("a key");
    let key = file("service-accounts.key", &accounts.serialize_pem());
    let mut command = Command::new(peer(Peer::KubeApiserver));
    command
        .arg(format!("--etcd-servers={etcd_url}"))
        .arg("--bind-address=127.0.0.1")
        .arg("--advertise-address=127.0.0.1")
        .arg("--endpoint-reconciler-type=none")
        .arg(format!("--secure-port={port}"))
        .arg(format!("--tls-cert-file={}", file("server.pem", &server.certificate_pem)))
        .arg(format!("--tls-private-key-file={}", file("server.key", &server.key_pem)))
        .arg(format!("--client-ca-file={}", file("ca.pem", ca.pem())))
        .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
        .arg(format!("--service-account-key-file={}", file("service-accounts.pub", &accounts.public_key_pem())))
        .arg(format!("--service-account-signing-key-file={key}"))
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        .arg("--authorization-mode=RBAC")
        .arg("--allow-privileged=true")
        .arg(format!("--cert-dir={}", folder.display()))
        .args(flags);
    ChildGuard::spawn("kube-apiserver", folder, &mut command)
}

pub(crate) async fn ready(client: &HttpClient, url: &str, child: &mut ChildGuard) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < deadline {
        if let Some(status) = child.ended() {
            return Err(format!("ended with {status}\n{}", child.tail()));
        }
        match client.get(url, &[]).await {
            Ok(response) if response.status == 200 => return Ok(()),
            Ok(response) => last = format!("{} {}", response.status, String::from_utf8_lossy(&response.body)),
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Err(format!("{url} did not become ready: {last}\n{}", child.tail()))
}

pub(crate) fn write(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
