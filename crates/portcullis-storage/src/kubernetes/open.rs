//! Opening a store on Kubernetes: the access, and who installs the definitions of the objects (`definition`).

use std::{path::PathBuf, time::Duration};

use portcullis_kubeclient::{Access, Client, InCluster, Instant};
use portcullis_runtime::{Rng, http_client::ProxyFromEnv};

use super::{definition, error::KubernetesError};

/// How a store on Kubernetes is reached and behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesOptions {
    /// Where the cluster is, and who we are there.
    pub access: KubernetesAccess,
    /// Who installs the definitions of the objects.
    pub crds: CrdHandling,
    /// How long an operation on one record may take, waiting included, before it fails.
    pub answer_time: Duration,
    /// How long a page of a list or a batch of the collector may take.
    pub scan_time: Duration,
    /// How long opening waits for the API server and for a new definition.
    pub open_time: Duration,
}

impl KubernetesOptions {
    /// Usual times.
    #[must_use]
    pub const fn new(access: KubernetesAccess, crds: CrdHandling) -> Self {
        Self {
            access,
            crds,
            answer_time: Duration::from_secs(10),
            scan_time: Duration::from_secs(60),
            open_time: Duration::from_secs(30),
        }
    }
}

/// Where the cluster is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubernetesAccess {
    /// The cluster that we are a pod of.
    InCluster(InCluster),
    /// What a kubeconfig file says.
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// The environment's proxies, for when the file names none.
        proxy: ProxyFromEnv,
    },
}

/// Who installs the definitions of the objects (Dex's `crdHandling`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrdHandling {
    /// We do when one is missing, and bring forward what an older version has installed.
    #[default]
    Ensure,
    /// Somebody else; when one is missing we do not start, and the log says which are old.
    Check,
    /// Somebody else; we do not look.
    Skip,
}

pub(super) async fn open(options: &KubernetesOptions, crds: CrdHandling, rng: Rng) -> Result<Client, KubernetesError> {
    let access = match &options.access {
        KubernetesAccess::InCluster(pod) => Access::in_cluster(pod).await?,
        KubernetesAccess::Kubeconfig { file, proxy } => Access::kubeconfig(file, proxy.clone()).await?,
    };
    let client = Client::new(access, rng)?;
    if crds != CrdHandling::Skip {
        definition::install_all(&client, crds, Instant::now() + options.open_time).await?;
    }
    Ok(client)
}
