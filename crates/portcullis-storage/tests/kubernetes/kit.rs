//! A cluster, namespaces in it, and kernels.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_runtime::http_client::ProxyFromEnv;
use portcullis_runtime::{Clock, Rng};
use portcullis_storage::kernel::Write;
use portcullis_storage::{
    CrdHandling, InCluster, KernelError, KubernetesAccess, KubernetesError, KubernetesKernel, KubernetesOptions,
};
use portcullis_testkit::{ControlPlane, HttpClient, TempDir, temp_dir};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The repository's folder `deploy`.
pub(crate) fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file)
}

/// Runs kubectl as the administrator. Panics with its words when it fails.
pub(crate) fn kubectl(plane: &ControlPlane, args: &[&str]) -> String {
    let output = plane.kubectl(&plane.admin_kubeconfig()).args(args).output().unwrap();
    assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// How many requests the API server has answered with this status.
pub(crate) async fn answered_with(plane: &ControlPlane, status: u16) -> f64 {
    let metrics = plane.admin_client().get(&format!("{}/metrics", plane.url()), &[]).await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let code = format!(r#"code="{status}""#);
    let counts = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{") && line.contains(&code));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The options of an administrator in one namespace.
pub(crate) fn options(plane: &ControlPlane, namespace: &str, crds: CrdHandling) -> KubernetesOptions {
    let text = std::fs::read_to_string(plane.admin_kubeconfig()).unwrap();
    let file = plane.folder().join(format!("{namespace}.kubeconfig"));
    let text = text.replace("    user: admin\n", &format!("    user: admin\n    namespace: {namespace}\n"));
    std::fs::write(&file, text).unwrap();
    KubernetesOptions::new(KubernetesAccess::Kubeconfig { file, proxy: ProxyFromEnv::default() }, crds)
}

pub(crate) async fn open(options: &KubernetesOptions) -> Result<KubernetesKernel, KubernetesError> {
    KubernetesKernel::open(options, &Clock::system(), Rng::system()).await
}

/// Makes namespaces by the administrator's hand.
pub(crate) struct Namespaces {
    client: HttpClient,
    url: String,
    number: AtomicUsize,
}

impl Namespaces {
    pub(crate) fn new(plane: &ControlPlane) -> Self {
        let url = format!("{}/api/v1/namespaces", plane.url());
        Self { client: plane.admin_client(), url, number: AtomicUsize::new(0) }
    }

    pub(crate) async fn make(&self) -> String {
        let name = format!("store-{}", self.number.fetch_add(1, Ordering::Relaxed));
        let body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
        let headers = [("content-type", "application/json")];
        let answer = self.client.request(http::Method::POST, &self.url, &headers, Some(body.into())).await.unwrap();
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        name
    }
}

/// The provider's service account with what `deploy/rbac` grants: kubelet's files of its pod.
pub(crate) struct Pod {
    pub(crate) files: TempDir,
    port: u16,
}

impl Pod {
    /// Applies the manifests (and the definition, unless the account is to install it) and takes a token of the account.
    pub(crate) fn deploy(plane: &ControlPlane, manifests: &[&str]) -> Self {
        kubectl(plane, &["create", "namespace", "portcullis"]);
        // As a person would: what is installed is served before anything else is done.
        for manifest in manifests.iter().filter(|manifest| manifest.starts_with("crds/")) {
            kubectl(plane, &["apply", "-f", deploy(manifest).to_str().unwrap()]);
        }
        if manifests.iter().any(|manifest| manifest.starts_with("crds/")) {
            kubectl(plane, &["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
        }
        for manifest in manifests.iter().filter(|manifest| !manifest.starts_with("crds/")) {
            kubectl(plane, &["apply", "-f", deploy(manifest).to_str().unwrap()]);
        }
        let files = temp_dir();
        let token = kubectl(plane, &["create", "token", "portcullis", "--namespace=portcullis"]);
        std::fs::write(files.path().join("token"), token).unwrap();
        std::fs::write(files.path().join("ca.crt"), plane.ca().pem()).unwrap();
        Self { files, port: plane.port() }
    }

    /// With all definitions installed by hand, and the rights that are enough then: the provider's, and those of whoever fills a
    /// store.
    pub(crate) fn deploy_all(plane: &ControlPlane) -> Self {
        let rights = ["rbac/provider.yaml", "rbac/store-commands.yaml"];
        let manifests: Vec<&str> = CRDS.into_iter().chain(rights).collect();
        Self::deploy(plane, &manifests)
    }

    pub(crate) fn options(&self, crds: CrdHandling) -> KubernetesOptions {
        let pod = InCluster {
            host: "127.0.0.1".to_owned(),
            port: self.port.to_string(),
            namespace: None,
            service_account: self.files.path().to_owned(),
        };
        KubernetesOptions::new(KubernetesAccess::InCluster(pod), crds)
    }
}

pub(crate) fn data(text: &str) -> Write {
    Write { data: text.as_bytes().to_vec(), ..Write::default() }
}

/// Whether a write may be there although it failed.
pub(crate) const fn is_unknown(error: &KernelError) -> bool {
    matches!(error, KernelError::Unavailable { applied: portcullis_storage::Applied::Unknown, .. })
}

/// Waits for something, at most a minute.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} did not come in a minute")
}

/// All definitions.
pub(crate) const CRDS: [&str; 4] = [
    "crds/records.portcullis.dev.yaml",
    "crds/oauthclients.portcullis.dev.yaml",
    "crds/localusers.portcullis.dev.yaml",
    "crds/connectors.portcullis.dev.yaml",
];

/// A kernel that is shared by tasks.
pub(crate) type Shared = Arc<KubernetesKernel>;

/// What an operator sees: everything that is logged as `info` or graver.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<String>>);

impl Log {
    /// What was logged since the last time.
    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("portcullis")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text<'a>(&'a mut String);
        impl Visit for Text<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                let _infallible = writeln!(self.0, "{field}={value:?}");
            }
        }
        event.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
