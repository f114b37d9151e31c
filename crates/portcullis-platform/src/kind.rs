//! kind: the cluster config file (`kind.x-k8s.io/v1alpha4`), read for what an API server without kind can do with it.
//!
//! Flow: the document, then each kubeadm patch inside it → `ClusterConfiguration.apiServer.extraArgs`, in the map form (kubeadm
//! v1beta3 and before, and kind's own translation) and the list form (v1beta4) → flags in order, later patches over earlier
//! ones → address and port of the API server → warnings for what has no effect here.
//!
//! Compat: kind refuses unknown keys; here they are warnings with the nearest key, so that a config of a newer kind still works.
//! JSON 6902 patches are refused: they name paths in a document that only kind has.

use std::net::IpAddr;

use portcullis_kube::yaml::YamlError;

use crate::document::{INERT, Node, Place, Warning, WrongType};

pub(crate) mod patch;

/// Bytes that a config may have.
pub const BYTES_LIMIT: usize = 1024 * 1024;
/// Nodes, patches of one list, and flags that a config may have.
pub const ITEMS_LIMIT: usize = 1_000;

/// What a kind config asks of an API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindConfig {
    /// The cluster's name, when the file gives one.
    pub name: Option<Placed<String>>,
    /// Where the API server should listen.
    pub api_server_address: Option<Placed<IpAddr>>,
    /// On which port; 0 is any free one (kind's `-1` and `0`).
    pub api_server_port: Option<Placed<u16>>,
    /// Flags for the API server, in order. A name occurs more than once only where one patch repeats it.
    pub extra_args: Vec<ExtraArg>,
    /// What has no effect.
    pub warnings: Vec<Warning>,
    /// Of these, what is about the API server's flags.
    pub argument_warnings: Vec<Warning>,
}

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// A flag of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraArg {
    /// Without dashes, for example `oidc-issuer-url`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// Why a config cannot be used. The texts are one line; [`KindConfigError::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindConfigError {
    /// Not YAML, or too large.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A value of another type.
    #[error(transparent)]
    WrongType(#[from] WrongType),
    /// Another kind of document.
    #[error("{place}: this is no kind cluster config ({found})")]
    WrongKind {
        /// Where.
        place: Place,
        /// Its kind and version.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// Patches that only kind itself can apply.
    #[error("{place}: JSON 6902 patches are not supported")]
    Json6902 {
        /// Where.
        place: Place,
    },
    /// A value that makes no sense.
    #[error("{place}: {message}")]
    BadValue {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// More items than allowed.
    #[error("{place}: {count} items, at most {ITEMS_LIMIT} are read")]
    TooMany {
        /// Where.
        place: Place,
        /// How many.
        count: usize,
    },
}

impl KindConfigError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Yaml(error) => {
                error.hint().unwrap_or("the file must be YAML as `kind create cluster --config` reads it")
            }
            Self::WrongType(_) => "correct the value there",
            Self::WrongKind { hint, .. } | Self::BadValue { hint, .. } => hint,
            Self::Json6902 { .. } => {
                "write it as an entry of kubeadmConfigPatches with kind: ClusterConfiguration and apiServer.extraArgs"
            }
            Self::TooMany { .. } => "is this the right file?",
        }
    }
}

impl KindConfig {
    /// Reads a config. `file` is for messages.
    ///
    /// # Errors
    /// [`KindConfigError`] with file, line, path and what to do.
    pub fn parse(text: &str, file: &str) -> Result<Self, KindConfigError> {
        let root = Node::parse(text, file, BYTES_LIMIT)?;
        let mut reader = Reader { outer: text, config: Self::default() };
        reader.root(&root)?;
        Ok(reader.config)
    }

    /// The last value of a flag, which is the one that counts.
    pub fn argument(&self, name: &str) -> Option<&ExtraArg> {
        self.extra_args.iter().rfind(|argument| argument.name == name)
    }
}

struct Reader<'a> {
    outer: &'a str,
    config: KindConfig,
}

const ROOT_KEYS: &[&str] = &[
    "kind",
    "apiVersion",
    "name",
    "nodes",
    "networking",
    "featureGates",
    "runtimeConfig",
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
    "containerdConfigPatches",
    "containerdConfigPatchesJSON6902",
];
const NODE_KEYS: &[&str] = &[
    "role",
    "image",
    "labels",
    "extraMounts",
    "extraPortMappings",
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
];
const NETWORKING_KEYS: &[&str] = &[
    "ipFamily",
    "apiServerPort",
    "apiServerAddress",
    "podSubnet",
    "serviceSubnet",
    "disableDefaultCNI",
    "kubeProxyMode",
    "dnsSearch",
];

/// Of these, what concerns nodes, their network and the parts beside the API server.
const INERT_ROOT_KEYS: &[&str] =
    &["featureGates", "runtimeConfig", "containerdConfigPatches", "containerdConfigPatchesJSON6902"];
const INERT_NODE_KEYS: &[&str] = &["image", "labels", "extraMounts", "extraPortMappings"];
const INERT_NETWORKING_KEYS: &[&str] =
    &["ipFamily", "podSubnet", "serviceSubnet", "disableDefaultCNI", "kubeProxyMode", "dnsSearch"];

impl Reader<'_> {
    fn root(&mut self, root: &Node) -> Result<(), KindConfigError> {
        check_kind(root)?;
        self.warn_about(root, ROOT_KEYS, INERT_ROOT_KEYS)?;
        if let Some(node) = root.get("name")? {
            let name = Placed { value: node.text()?, place: node.place.clone() };
            self.config.name = Some(name).filter(|name| !name.value.is_empty());
        }
        if let Some(networking) = root.get("networking")? {
            self.networking(networking)?;
        }
        refuse_json6902(root)?;
        self.patches(root)?;
        let Some(nodes) = root.get("nodes")? else { return Ok(()) };
        let mut first_control_plane = true;
        for node in items(nodes)? {
            self.warn_about(node, NODE_KEYS, INERT_NODE_KEYS)?;
            refuse_json6902(node)?;
            let role = node.text_of("role")?;
            match role.as_str() {
                "" | "control-plane" => {
                    if first_control_plane {
                        self.patches(node)?;
                    } else if let Some(patches) = node.get("kubeadmConfigPatches")? {
                        let why =
                            "only the first control-plane node initialises the cluster; these patches are ignored";
                        self.warn(patches, why);
                    } else {
                        self.warn(node, INERT);
                    }
                    first_control_plane = false;
                }
                "worker" => self.warn(node, INERT),
                other => {
                    return Err(KindConfigError::BadValue {
                        place: node.get("role")?.map_or_else(|| node.place.clone(), |n| n.place.clone()),
                        message: format!("unknown role {other:?}"),
                        hint: "a node is a control-plane or a worker",
                    });
                }
            }
        }
        Ok(())
    }

    fn networking(&mut self, networking: &Node) -> Result<(), KindConfigError> {
        self.warn_about(networking, NETWORKING_KEYS, INERT_NETWORKING_KEYS)?;
        if let Some(node) = networking.get("apiServerAddress")? {
            let text = node.text()?;
            let address = text.parse().map_err(|_| KindConfigError::BadValue {
                place: node.place.clone(),
                message: format!("{text:?} is no IP address"),
                hint: "use 127.0.0.1, or leave the key out",
            })?;
            self.config.api_server_address = Some(Placed { value: address, place: node.place.clone() });
        }
        if let Some(node) = networking.get("apiServerPort")? {
            let text = node.text()?;
            let port =
                text.parse::<i64>().ok().and_then(|port| if port == -1 { Some(0) } else { u16::try_from(port).ok() });
            let port = port.ok_or_else(|| KindConfigError::BadValue {
                place: node.place.clone(),
                message: format!("{text:?} is no port"),
                hint: "use a number from 1 to 65535, or -1 for any free port",
            })?;
            self.config.api_server_port = Some(Placed { value: port, place: node.place.clone() });
        }
        Ok(())
    }

    fn patches(&mut self, node: &Node) -> Result<(), KindConfigError> {
        let Some(patches) = node.get("kubeadmConfigPatches")? else { return Ok(()) };
        for text in items(patches)? {
            let found = patch::read(text, self.outer)?;
            self.config.argument_warnings.extend(found.of_arguments.iter().cloned());
            self.config.warnings.extend(found.warnings.into_iter().chain(found.of_arguments));
            // A later patch replaces what earlier ones say of a flag; repeats inside one list are meant.
            self.config.extra_args.retain(|old| !found.arguments.iter().any(|new| new.name == old.name));
            self.config.extra_args.extend(found.arguments);
        }
        if self.config.extra_args.len() > ITEMS_LIMIT {
            return Err(KindConfigError::TooMany { place: patches.place.clone(), count: self.config.extra_args.len() });
        }
        Ok(())
    }

    fn warn_about(&mut self, node: &Node, known: &[&str], inert: &[&str]) -> Result<(), KindConfigError> {
        self.config.warnings.extend(node.unknown_members(known)?);
        self.config.warnings.extend(node.inert_members(inert)?);
        Ok(())
    }

    fn warn(&mut self, node: &Node, message: &str) {
        self.config.warnings.push(Warning { place: node.place.clone(), message: message.to_owned() });
    }
}

fn check_kind(root: &Node) -> Result<(), KindConfigError> {
    let (kind, version) = (root.text_of("kind")?, root.text_of("apiVersion")?);
    if kind == "Cluster" && version == "kind.x-k8s.io/v1alpha4" {
        return Ok(());
    }
    let place = root.get("kind")?.or(root.get("apiVersion")?).map_or_else(|| root.place.clone(), |n| n.place.clone());
    let hint = match (kind.as_str(), version.as_str()) {
        ("", "") if root.get("dex")?.is_some() => "this looks like the chart's values; pass it with --values",
        ("Config", "v1") => "this is a kubeconfig; pass it with --kubeconfig",
        _ => "it must say kind: Cluster and apiVersion: kind.x-k8s.io/v1alpha4",
    };
    Err(KindConfigError::WrongKind { place, found: format!("kind {kind:?}, apiVersion {version:?}"), hint })
}

fn refuse_json6902(node: &Node) -> Result<(), KindConfigError> {
    match node.get("kubeadmConfigPatchesJSON6902")? {
        Some(patches) if !items(patches)?.is_empty() => Err(KindConfigError::Json6902 { place: patches.place.clone() }),
        _ => Ok(()),
    }
}

pub(crate) fn items(node: &Node) -> Result<&[Node], KindConfigError> {
    let items = node.list()?;
    if items.len() > ITEMS_LIMIT {
        return Err(KindConfigError::TooMany { place: node.place.clone(), count: items.len() });
    }
    Ok(items)
}

#[cfg(test)]
mod tests;
