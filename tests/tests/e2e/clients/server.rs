//! The server that clients are pointed at: the released dev API server, or a real kube-apiserver with etcd.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_kube::kubeconfig::Kubeconfig;
use portcullis_runtime::Secret;
use portcullis_runtime::http_client::{ClientIdentity, HttpClient, HttpClientConfig, Roots};
use portcullis_testkit::{ChildGuard, ControlPlane, TempDir, temp_dir};

use crate::world::{bin, eventually};

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    /// The administrator's.
    pub(crate) kubeconfig: String,
    pub(crate) kind: Kind,
    pub(crate) folder: TempDir,
}

pub(crate) enum Kind {
    Ours(ChildGuard),
    Real(Box<ControlPlane>),
}

/// The administrator's, in PEM.
pub(crate) struct Credentials {
    pub(crate) authority_pem: Vec<u8>,
    pub(crate) certificate_pem: Vec<u8>,
    pub(crate) key_pem: String,
}

impl Server {
    pub(crate) fn ours() -> Self {
        let folder = temp_dir();
        let mut command = Command::new(bin().join("portcullis"));
        command.env_clear().env("HOME", folder.path()).args(["apiserver", "--secure-port", "0", "--state"]);
        command.arg(folder.path().join("state"));
        let child = ChildGuard::spawn("portcullis", folder.path(), &mut command);
        let kubeconfig: PathBuf = folder.path().join("state/dev/kubeconfig");
        eventually("the dev API server is ready", || child.output().contains("Ctrl-C") && kubeconfig.is_file());
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let addr = address(&text);
        Self { addr, kubeconfig: text, kind: Kind::Ours(child), folder }
    }

    pub(crate) async fn real() -> Self {
        let plane = ControlPlane::start(&[]).await;
        let text = std::fs::read_to_string(plane.admin_kubeconfig()).unwrap();
        Self { addr: address(&text), kubeconfig: text, kind: Kind::Real(Box::new(plane)), folder: temp_dir() }
    }

    /// A client with the administrator's certificate.
    pub(crate) fn admin(&self) -> HttpClient {
        if let Kind::Real(plane) = &self.kind {
            return plane.admin_client();
        }
        let Credentials { authority_pem, certificate_pem, key_pem } = self.credentials();
        let roots = Roots::only_pem(&authority_pem).unwrap();
        let identity = Some(ClientIdentity { certificate_pem, key_pem: Secret::new(key_pem) });
        HttpClient::new(HttpClientConfig { roots, identity, max_body: 32 << 20, ..HttpClientConfig::default() })
            .unwrap()
    }

    /// What the administrator's kubeconfig has in it.
    pub(crate) fn credentials(&self) -> Credentials {
        let config = Kubeconfig::parse(&self.kubeconfig, "kubeconfig").unwrap();
        let user = config.user("kind-dev").unwrap().unwrap();
        Credentials {
            authority_pem: config.cluster("kind-dev").unwrap().unwrap().certificate_authority_pem().unwrap(),
            certificate_pem: STANDARD.decode(&user.client_certificate_data).unwrap(),
            key_pem: String::from_utf8(STANDARD.decode(user.client_key_data.expose()).unwrap()).unwrap(),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.addr)
    }

    /// The administrator's kubeconfig with another address in it.
    pub(crate) fn kubeconfig_at(&self, addr: SocketAddr) -> String {
        let text = self.kubeconfig.replace(&format!("https://{}", self.addr), &format!("https://{addr}"));
        assert_ne!(text, self.kubeconfig);
        text
    }

    /// The id of the API server's process.
    pub(crate) fn id(&self) -> u32 {
        match &self.kind {
            Kind::Ours(child) => child.id(),
            Kind::Real(plane) => plane.ids().0,
        }
    }
}

fn address(kubeconfig: &str) -> SocketAddr {
    let url = kubeconfig.split_whitespace().find_map(|word| word.strip_prefix("https://")).expect("a server");
    url.parse().expect("an address")
}
