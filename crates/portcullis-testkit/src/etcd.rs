//! A real etcd alone, on loopback, that can be killed and started again with what it has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, Roots};
use tempfile::TempDir;

use crate::control_plane::{ATTEMPTS, ready, short, write};
use crate::{ChildGuard, Leaf, Peer, TestCa, free_ports, peer, temp_dir};

/// A running etcd of one member. Dropping it ends it and removes its data.
pub struct Etcd {
    // Dropped first, its data last.
    child: ChildGuard,
    ports: [u16; 2],
    flags: Vec<String>,
    ca: TestCa,
    client: Leaf,
    tls: bool,
    folder: TempDir,
}

impl Etcd {
    /// Starts it without TLS. Panics, with the last lines of its log, when it does not become ready.
    pub async fn start() -> Self {
        Self::start_with(&[], false).await
    }

    /// Starts it with TLS; clients must show a certificate of its authority.
    pub async fn start_with_tls() -> Self {
        Self::start_with(&[], true).await
    }

    /// Starts it with more flags.
    pub async fn start_with(flags: &[&str], tls: bool) -> Self {
        let mut reasons = Vec::new();
        for _ in 0..ATTEMPTS {
            match Self::attempt(flags, tls).await {
                Ok(running) => return running,
                Err(reason) if reason.contains("address already in use") => reasons.push(reason),
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("{}", reasons.join("\n"))
    }

    async fn attempt(flags: &[&str], tls: bool) -> Result<Self, String> {
        let folder = temp_dir();
        let (ca, ports) = (TestCa::new("etcd-ca"), free_ports());
        let client = ca.client("portcullis", &[]);
        let mut flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        if tls {
            let file = |name: &str, content: &str| {
                let path = folder.path().join(name);
                write(&path, content);
                path.display().to_string()
            };
            let server = ca.server();
            file("client.pem", &client.certificate_pem);
            file("client.key", &client.key_pem);
            flags.push(format!("--trusted-ca-file={}", file("ca.pem", ca.pem())));
            flags.push(format!("--cert-file={}", file("server.pem", &server.certificate_pem)));
            flags.push(format!("--key-file={}", file("server.key", &server.key_pem)));
            flags.push("--client-cert-auth=true".to_owned());
        }
        let child = spawn(folder.path(), ports, tls, &flags);
        let mut etcd = Self { child, ports, flags, ca, client, tls, folder };
        etcd.wait().await?;
        Ok(etcd)
    }

    /// Waits until it answers.
    async fn wait(&mut self) -> Result<(), String> {
        let (client, health) = (self.http_client(), format!("{}/health", self.url()));
        ready(&client, &health, &mut self.child).await
    }

    fn http_client(&self) -> HttpClient {
        let config = if self.tls {
            HttpClientConfig { identity: Some(self.client.client_identity()), ..self.ca.http_client_config() }
        } else {
            HttpClientConfig { roots: Roots::Only(Vec::new()), ..short() }
        };
        HttpClient::new(config).expect("an HTTP client")
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        client_url(self.ports, self.tls)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[0]))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// With TLS: the files of its authority (`ca.pem`) and of a client (`client.pem`, `client.key`).
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Starts it again at the same address with what it has, and waits until it answers.
    pub async fn restart(&mut self) {
        self.child.kill();
        self.child = spawn(self.folder.path(), self.ports, self.tls, &self.flags);
        self.wait().await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// A call of its JSON interface, such as `auth/enable`, with the token that `auth/authenticate` gave. Panics unless it
    /// succeeds.
    pub async fn call(&self, method: &str, body: &serde_json::Value, token: Option<&str>) -> serde_json::Value {
        let url = format!("{}/v3/{method}", self.url());
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(token.map(|token| ("authorization", token)));
        let body = body.to_string().into();
        let answer = self.http_client().request(http::Method::POST, &url, &headers, Some(body)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{url}: {error}"));
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.is_success(), "{url}: {} {text}", answer.status);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error} in {text}"))
    }
}

fn client_url([port, _]: [u16; 2], tls: bool) -> String {
    format!("{}://127.0.0.1:{port}", if tls { "https" } else { "http" })
}

/// Starts etcd with ports for clients and for peers, and its data in a folder below `folder`.
pub(crate) fn spawn(folder: &Path, ports: [u16; 2], tls: bool, flags: &[String]) -> ChildGuard {
    let url = client_url(ports, tls);
    let peer_url = format!("http://127.0.0.1:{}", ports[1]);
    let mut command = Command::new(peer(Peer::Etcd));
    command
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .arg(format!("--listen-peer-urls={peer_url}"))
        .arg(format!("--initial-advertise-peer-urls={peer_url}"))
        .arg(format!("--initial-cluster=default={peer_url}"))
        .arg("--unsafe-no-fsync=true")
        .args(flags);
    ChildGuard::spawn("etcd", folder, &mut command)
}
