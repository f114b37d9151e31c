//! A kubeadm patch inside a kind config: which flags it gives the API server.

use crate::document::{Node, Place, Warning};

use super::{BYTES_LIMIT, ExtraArg, KindConfigError, items};

/// What a patch says.
#[derive(Default)]
pub(crate) struct Patch {
    pub(crate) arguments: Vec<ExtraArg>,
    /// About those.
    pub(crate) of_arguments: Vec<Warning>,
    /// About anything else.
    pub(crate) warnings: Vec<Warning>,
}

const API_SERVER_KEYS: &[&str] = &["extraArgs", "extraVolumes", "extraEnvs", "certSANs", "timeoutForControlPlane"];

/// Members of a ClusterConfiguration; all but `apiServer` concern parts that do not run here.
const CLUSTER_KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "apiServer",
    "metadata",
    "etcd",
    "networking",
    "kubernetesVersion",
    "controlPlaneEndpoint",
    "controllerManager",
    "scheduler",
    "dns",
    "proxy",
    "certificatesDir",
    "imageRepository",
    "featureGates",
    "clusterName",
    "encryptionAlgorithm",
    "certificateValidityPeriod",
    "caCertificateValidityPeriod",
];

/// Of these, what the dev API server does without.
const INERT_API_SERVER_KEYS: &[&str] = &["extraVolumes", "extraEnvs", "certSANs", "timeoutForControlPlane"];
/// Of these, what names the document itself or is read.
const USED_CLUSTER_KEYS: &[&str] = &["apiVersion", "kind", "apiServer", "metadata"];

/// Reads the text of a patch. `outer` is the file that it stands in.
pub(super) fn read(text: &Node, outer: &str) -> Result<Patch, KindConfigError> {
    text.text()?;
    let root = text.parse_inside(outer, BYTES_LIMIT)?;
    let mut patch = Patch::default();
    let kind = root.text_of("kind")?;
    match kind.as_str() {
        "ClusterConfiguration" => {}
        "InitConfiguration" | "JoinConfiguration" | "KubeletConfiguration" | "KubeProxyConfiguration" => {
            let message = format!("a patch of {kind} has no effect here");
            patch.warnings.push(Warning { place: root.place.clone(), message });
            return Ok(patch);
        }
        _ => {
            let place = root.get("kind")?.map_or_else(|| text.place.clone(), |node| node.place.clone());
            return Err(KindConfigError::BadValue {
                place,
                message: format!("unknown kind {kind:?} of a kubeadm patch"),
                hint: "flags of the API server belong into a patch that says kind: ClusterConfiguration",
            });
        }
    }
    patch.warnings.extend(root.unknown_members(CLUSTER_KEYS)?);
    let inert: Vec<&str> = CLUSTER_KEYS.iter().copied().filter(|key| !USED_CLUSTER_KEYS.contains(key)).collect();
    patch.warnings.extend(root.inert_members(&inert)?);
    let Some(api_server) = root.get("apiServer")? else { return Ok(patch) };
    patch.warnings.extend(api_server.unknown_members(API_SERVER_KEYS)?);
    patch.warnings.extend(api_server.inert_members(INERT_API_SERVER_KEYS)?);
    let Some(arguments) = api_server.get("extraArgs")? else { return Ok(patch) };
    patch.extra_args(arguments, &root.text_of("apiVersion")?)?;
    Ok(patch)
}

impl Patch {
    /// Reads `apiServer.extraArgs` of a ClusterConfiguration of this version.
    pub(crate) fn extra_args(&mut self, arguments: &Node, version: &str) -> Result<(), KindConfigError> {
        if arguments.is_list() {
            if version == "kubeadm.k8s.io/v1beta3" {
                self.warn(
                    &arguments.place,
                    "kubeadm.k8s.io/v1beta3 wants a map here; kubeadm itself would refuse a list".to_owned(),
                );
            }
            for item in items(arguments)? {
                self.of_arguments.extend(item.unknown_members(&["name", "value"])?);
                let name = item.text_of("name")?;
                let value = item.get("value")?;
                self.argument(&item.place, name, value)?;
            }
        } else {
            if version == "kubeadm.k8s.io/v1beta4" {
                let why =
                    "kubeadm.k8s.io/v1beta4 wants a list of name and value here; kubeadm itself would refuse a map";
                self.warn(&arguments.place, why.to_owned());
            }
            for (name, value) in arguments.map()? {
                self.argument(&value.place, name.clone(), Some(value))?;
            }
        }
        Ok(())
    }

    fn argument(&mut self, place: &Place, name: String, value: Option<&Node>) -> Result<(), KindConfigError> {
        let bare = name.trim_start_matches('-');
        if bare.len() != name.len() {
            self.warn(place, format!("{name:?}: flags are named without dashes here; read as {bare:?}"));
        }
        if bare.is_empty() || bare.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control()) {
            return Err(KindConfigError::BadValue {
                place: place.clone(),
                message: format!("{name:?} is no name of a flag"),
                hint: "write the flag without dashes, for example oidc-issuer-url",
            });
        }
        if value.is_some_and(Node::is_bare) {
            self.warn(place, format!("{bare}: kubeadm wants a string; put the value in quotes"));
        }
        let text = value.map_or(Ok(String::new()), Node::text)?;
        self.arguments.push(ExtraArg { name: bare.to_owned(), value: text, place: place.clone() });
        Ok(())
    }

    fn warn(&mut self, place: &Place, message: String) {
        self.of_arguments.push(Warning { place: place.clone(), message });
    }
}
