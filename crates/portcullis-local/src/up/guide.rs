//! `up --guide`: the provider as a cluster would have it, and the guide's steps left to the user.
//!
//! The provider is shown as the guide's chart installs it: Service `dex` and a pod of a Deployment's name in the namespace
//! `mural-system`, with the chart's labels and port names. Its ports are those of the pod: nothing on this machine listens
//! on the issuer's port until `kubectl port-forward` does. The administrator's kubeconfig is the file that `kind create
//! cluster --kubeconfig` would write.
//!
//! Compat: the Dex chart's `service.yaml` and `deployment.yaml`: names and selectors, `http` 5556, `https` 5554,
//! `telemetry` 5558. gRPC is not served yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use portcullis_apiserver::{PartControl, PartPort, Running};
use portcullis_runtime::{LogRing, Rng, Timestamp};
use serde_json::json;

use crate::kubeconfig::Entries;
use crate::ports;
use crate::state::{StateDir, StateFile};
use crate::steps::{Steps, shell_word};

use super::Options;
use super::api_server::{self, Shown};
use super::error::UpError;
use super::inputs::Inputs;
use super::provider::PodPorts;

/// Where the guide installs the provider, and as what.
const NAMESPACE: &str = "mural-system";
const SERVICE: &str = "dex";
/// The name of the guide's helm release.
const RELEASE: &str = "mural";
/// The chart's ports.
const HTTP: u16 = 5556;
const HTTPS: u16 = 5554;
const TELEMETRY: u16 = 5558;
/// The secret of the guide's client.
const GUIDES_SECRET: &str = "demo-client-secret-change-me";
/// The letters and digits that Kubernetes makes names from: no vowels, nothing that looks like another.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Where the administrator's kubeconfig goes: where the command line says, else `$HOME/NAME.kubeconfig`.
pub(super) fn kubeconfig(options: &Options, name: &str) -> Result<PathBuf, UpError> {
    if let Some(path) = &options.kubeconfig {
        return Ok(path.clone());
    }
    options.home.as_ref().map(|home| home.join(format!("{name}.kubeconfig"))).ok_or(UpError::NoHome)
}

/// Says what stands where the port-forward is to listen.
pub(super) fn check_port(port: u16, steps: &Steps) {
    if let Some(obstacle) = ports::obstacle(port) {
        steps.word(&format!(
            "port {port} {obstacle}: `kubectl port-forward` cannot listen there until it is free; or choose another with --issuer-port"
        ));
    }
}

/// Writes the kubeconfig as step 4 of the guide does: the administrator's context, made current.
pub(super) fn write_kubeconfig(
    state: &StateDir,
    file: &mut StateFile,
    path: &Path,
    entries: &Entries,
    steps: &Steps,
) -> Result<(), UpError> {
    super::outside::merge(state, file, path, entries, true, steps)
}

/// The ports of the provider's pod, as the files number them.
pub(super) fn ports_of(inputs: &Inputs) -> PodPorts {
    let number = |port: Option<u16>, of_the_chart| port.map(|port| if port == 0 { of_the_chart } else { port });
    PodPorts {
        http: number(inputs.http_port(), HTTP),
        https: number(inputs.https_port(), HTTPS).unwrap_or(HTTPS),
        telemetry: number(inputs.telemetry_port(), TELEMETRY),
    }
}

/// The part that stands for the provider: a pod as the chart's Deployment would name it.
pub(super) fn pod(ports: Vec<PartPort>, rng: &Rng, logs: &LogRing, started: Timestamp) -> Shown {
    let letters = |count: usize| -> String {
        let pick = |byte: &u8| NAME_LETTERS.get(usize::from(*byte) % NAME_LETTERS.len()).copied().map(char::from);
        rng.bytes::<16>().iter().take(count).filter_map(pick).collect()
    };
    let (hash, suffix) = (letters(10), letters(5));
    let mut labels = selector();
    labels.insert("pod-template-hash".to_owned(), hash.clone());
    Shown {
        namespace: NAMESPACE,
        name: format!("{SERVICE}-{hash}-{suffix}"),
        labels,
        container: "dex",
        ports,
        logs: logs.clone(),
        control: PartControl::default(),
        started,
    }
}

fn selector() -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "dex"), ("app.kubernetes.io/instance", RELEASE)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The service with the pod's ports: what `helm install` and `helm upgrade` see to.
pub(super) fn ensure_service(api: &Running, pod: &Shown) -> Result<(), UpError> {
    let ports: Vec<_> = pod
        .ports
        .iter()
        .map(|port| {
            let protocol = if port.name == "https" { "https" } else { "http" };
            json!({"name": port.name, "port": port.number, "targetPort": port.name, "protocol": "TCP", "appProtocol": protocol})
        })
        .collect();
    let mut labels = selector();
    labels.insert("app.kubernetes.io/managed-by".to_owned(), "portcullis".to_owned());
    let service = json!({
        "metadata": {"name": SERVICE, "labels": labels},
        "spec": {"type": "ClusterIP", "ports": ports, "selector": selector()}
    });
    api.seed().service(NAMESPACE, service).map_err(api_server::failed)
}

/// What the printed steps name.
pub(super) struct NextSteps<'a> {
    pub(super) bin: &'a Path,
    pub(super) kubeconfig: &'a Path,
    pub(super) issuer: &'a str,
    /// The issuer's port on this machine, and the pod's.
    pub(super) ports: (u16, u16),
    /// The folder, where the plugin would not find it by itself.
    pub(super) state_root: Option<&'a Path>,
    pub(super) name: &'a str,
    /// The client of the API server's flags, and its secret.
    pub(super) client: (&'a str, Option<&'a str>),
    /// The first local user, as the API server will name them.
    pub(super) user: Option<&'a str>,
    /// How this program was called.
    pub(super) called: &'a str,
    pub(super) log: &'a Path,
}

impl NextSteps<'_> {
    /// The guide's steps 5 to 15, as they are typed here.
    pub(super) fn print(&self, steps: &Steps) {
        let path = |path: &Path| shell_word(&path.display().to_string());
        steps.line("");
        steps.line("The guide's next steps (docs/guide.md), in another terminal:");
        steps.line(&format!("  export PATH={}:$PATH", path(self.bin)));
        steps.line(&format!("  export KUBECONFIG={}", path(self.kubeconfig)));
        steps.line(&format!("  export NGROK_ENDPOINT={}", self.issuer));
        if let Some(root) = self.state_root {
            steps.line(&format!("  export PORTCULLIS_STATE={}", path(root)));
        }
        steps.line(&format!(
            "  kubectl wait --for=condition=ready pod --selector app.kubernetes.io/name=dex --namespace {NAMESPACE} --timeout=120s"
        ));
        let (here, there) = self.ports;
        steps.line(&format!("  kubectl port-forward service/{SERVICE} {here}:{there} --namespace {NAMESPACE}"));
        steps.line("and while that runs, in a third one with the same exports:");
        let (id, secret) = self.client;
        // The guide's secret is public; nobody else's is printed.
        let shown = |secret: &str| if secret == GUIDES_SECRET { GUIDES_SECRET } else { "THE-CLIENTS-SECRET" };
        let secret = secret.map(|secret| format!(" --oidc-client-secret={}", shown(secret))).unwrap_or_default();
        steps.line(&format!(
            "  kubectl oidc-login setup --oidc-issuer-url=$NGROK_ENDPOINT --oidc-client-id={}{secret} --oidc-extra-scope=email",
            shell_word(id)
        ));
        if let Some(user) = self.user {
            steps.line(&format!(
                "  kubectl create clusterrolebinding oidc-admin-binding --clusterrole=cluster-admin --user={}",
                shell_word(user)
            ));
        }
        let name = super::name_flag(self.name);
        let called = self.called;
        steps.line(&format!("Change the provider (step 16): `{called} up --guide --values FILE`, while this runs"));
        steps.line(&format!("Clean up (step 17): `{called} down{name}`"));
        steps.line(&format!("Logs of provider and API server: {}", self.log.display()));
        steps.line("");
    }
}
