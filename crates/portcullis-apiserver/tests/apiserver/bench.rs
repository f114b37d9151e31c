//! A dev API server for one test, with an administrator's certificate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use portcullis_apiserver::{ApiServer, ApiServerConfig, Part, PartControl, PartPort, Running};
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig};
use portcullis_runtime::{Clock, LogRing, Shutdown, server};
use portcullis_testkit::{Leaf, Peer, TempDir, TestCa, peer, temp_dir};

pub(crate) struct Bench {
    pub(crate) running: Running,
    pub(crate) ca: TestCa,
    pub(crate) folder: TempDir,
    shutdown: Shutdown,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ApiServerConfig)) -> Self {
        let ca = TestCa::new("test-ca");
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut config = ApiServerConfig::new(listener, ca.server().identity(), ca.pem().as_bytes().to_vec());
        change(&mut config);
        let shutdown = Shutdown::new();
        let running = ApiServer::start(config, shutdown.clone()).await.unwrap();
        Self { running, ca, folder: temp_dir(), shutdown }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.running.addr())
    }

    pub(crate) fn client(&self, user: Option<(&str, &[&str])>) -> HttpClient {
        let identity = user.map(|(name, groups)| self.ca.client(name, groups).client_identity());
        HttpClient::new(HttpClientConfig { identity, max_body: 16 << 20, ..self.ca.http_client_config() }).unwrap()
    }

    pub(crate) fn kubeconfig(&self, user: &str, groups: &[&str]) -> PathBuf {
        let folder = self.folder.path();
        let ca = folder.join("ca.pem");
        std::fs::write(&ca, self.ca.pem()).unwrap();
        let leaf = self.ca.client(user, groups);
        let (certificate, key) = write_leaf(folder, user, &leaf);
        let path = folder.join(format!("{user}.kubeconfig"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n    server: {}\n    certificate-authority: {}\nusers:\n- name: user\n  user:\n    client-certificate: {}\n    client-key: {}\ncontexts:\n- name: test\n  context:\n    cluster: test\n    user: user\n",
            self.url(""),
            ca.display(),
            certificate.display(),
            key.display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs real kubectl with a kubeconfig. It fails the test when kubectl is not there.
    pub(crate) async fn kubectl(&self, kubeconfig: &Path, args: &[&str]) -> Output {
        kubectl_of(&self.folder, kubeconfig, args).await
    }

    /// Likewise, with one more variable in its environment.
    pub(crate) async fn kubectl_with(&self, kubeconfig: &Path, args: &[&str], name: &str, value: &str) -> Output {
        let mut command = kubectl_command(&self.folder, kubeconfig, args);
        command.env(name, value);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        drop(self.stop_keeping_files().await);
    }

    /// Stops it; the folder is there as long as what it gives.
    pub(crate) async fn stop_keeping_files(self) -> TempDir {
        self.shutdown.trigger();
        self.running.stopped().await;
        self.folder
    }
}

/// The provider's part as it runs in the guide.
pub(crate) fn dex() -> Part {
    Part {
        namespace: "mural-system".to_owned(),
        name: "dex-0".to_owned(),
        labels: BTreeMap::from([("app.kubernetes.io/name".to_owned(), "dex".to_owned())]),
        container: "dex".to_owned(),
        image: "portcullis".to_owned(),
        ports: vec![PartPort::open(5554)],
        logs: LogRing::default(),
        control: PartControl::default(),
        started: Clock::system().now(),
    }
}

/// Runs real kubectl with any kubeconfig, at home in `folder`.
pub(crate) async fn kubectl_of(folder: &TempDir, kubeconfig: &Path, args: &[&str]) -> Output {
    let mut command = kubectl_command(folder, kubeconfig, args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn kubectl_command(folder: &TempDir, kubeconfig: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(peer(Peer::Kubectl));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder.path()).env("KUBECONFIG", kubeconfig);
    command.args(args).current_dir(folder.path());
    command
}

fn write_leaf(folder: &Path, name: &str, leaf: &Leaf) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&certificate, &leaf.certificate_pem).unwrap();
    std::fs::write(&key, &leaf.key_pem).unwrap();
    (certificate, key)
}
