//! Opening a store on Kubernetes: the access, and the definitions of the objects.

use std::{path::PathBuf, time::Duration};

use portcullis_kubeclient::{Access, Client, ClientError, Form, InCluster, Instant, ListQuery, Resource};
use portcullis_runtime::{Rng, http_client::ProxyFromEnv};
use serde::Deserialize;

use super::{
    error::KubernetesError,
    object::{MetadataOnly, RECORDS},
    typed::SHAPES,
};

/// A definition that is installed: the file that is applied by hand.
struct Definition {
    resource: &'static Resource,
    name: &'static str,
    yaml: &'static str,
}

macro_rules! definition {
    ($resource:expr, $name:literal) => {
        Definition {
            resource: $resource,
            name: $name,
            yaml: include_str!(concat!("../../../../deploy/crds/", $name, ".yaml")),
        }
    };
}

const NEEDED: [Definition; 4] = [
    definition!(&RECORDS, "records.portcullis.dev"),
    definition!(&SHAPES[0].resource, "oauthclients.portcullis.dev"),
    definition!(&SHAPES[1].resource, "localusers.portcullis.dev"),
    definition!(&SHAPES[2].resource, "connectors.portcullis.dev"),
];
const DEFINITIONS: Resource =
    Resource { group: "apiextensions.k8s.io", version: "v1", plural: "customresourcedefinitions", namespaced: false };
/// How often it is asked whether a new definition is served.
const INTERVAL: Duration = Duration::from_millis(50);
/// The definition's conditions are asked for within this.
const LAST_QUESTION: Duration = Duration::from_secs(5);

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
    /// We do when it is missing.
    #[default]
    Ensure,
    /// Somebody else; when it is missing we do not start.
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
        let deadline = Instant::now() + options.open_time;
        // At once: each is a question to the server, and each new definition takes it a moment.
        let [records, clients, users, connectors] = NEEDED;
        let installed = tokio::join!(
            install(&client, crds, &records, deadline),
            install(&client, crds, &clients, deadline),
            install(&client, crds, &users, deadline),
            install(&client, crds, &connectors, deadline),
        );
        [installed.0, installed.1, installed.2, installed.3].into_iter().collect::<Result<(), _>>()?;
    }
    Ok(client)
}

/// Returns when the objects are served.
async fn install(
    client: &Client,
    crds: CrdHandling,
    definition: &Definition,
    deadline: Instant,
) -> Result<(), KubernetesError> {
    let Definition { resource, name, yaml } = *definition;
    let mut installed = false;
    loop {
        let query = ListQuery { limit: 1, form: Form::Metadata, ..ListQuery::default() };
        match client.list::<MetadataOnly>(resource, &query, deadline).await {
            Ok(_) => return Ok(()),
            Err(ClientError::Missing { .. }) if crds == CrdHandling::Check => {
                return Err(KubernetesError::NotInstalled { name });
            }
            Err(ClientError::Missing { .. }) if !installed => {
                match client.create_yaml(&DEFINITIONS, yaml, deadline).await {
                    Ok(()) => {
                        tracing::info!(object = name, "successfully created custom resource");
                        installed = true;
                    }
                    // Another replica was faster, or it takes a moment until it is served.
                    Err(ClientError::AlreadyExists) => installed = true,
                    // Asked again, which does no harm.
                    Err(error) if error.may_have_happened() => tracing::warn!(%error, "creating the custom resource"),
                    Err(source) => return Err(KubernetesError::Install { name, source }),
                }
            }
            Err(ClientError::Missing { .. }) => {}
            Err(source) => {
                let namespace = client.namespace().to_owned();
                return Err(KubernetesError::List { name, namespace, source });
            }
        }
        if Instant::now() + INTERVAL >= deadline {
            return Err(KubernetesError::NotServed { name, conditions: conditions(client, name).await });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Installed {
    status: InstalledStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InstalledStatus {
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    message: String,
}

/// What the API server says about the definition: `: Established=False (the words)`.
async fn conditions(client: &Client, name: &str) -> String {
    let deadline = Instant::now() + LAST_QUESTION;
    match client.get::<Installed>(&DEFINITIONS, name, deadline).await {
        Ok(found) => {
            let told: Vec<String> = found
                .status
                .conditions
                .iter()
                .take(8)
                .map(|Condition { kind, status, message }| format!("{kind}={status} ({message})"))
                .collect();
            format!(": {}", if told.is_empty() { "it has no conditions".to_owned() } else { told.join(", ") })
        }
        Err(error) => format!(": {error}"),
    }
}
