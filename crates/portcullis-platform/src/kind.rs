//! kind: the cluster configuration, and the API server's flags in its kubeadm patches.
//!
//! Source: kind's `kind.x-k8s.io/v1alpha4` Cluster; kubeadm's `ClusterConfiguration` (`apiServer.extraArgs` is a map up to
//! v1beta3, a list of name and value from v1beta4). Patches are merge patches written as YAML text; kind applies those of
//! the cluster first, then those of each node, and the last value of a flag wins.

use std::fmt;

use portcullis_kube::yaml::{self, YamlError};
use serde_json::{Map, Value};

/// Bytes of a cluster configuration.
pub const BYTES_LIMIT: usize = 1024 * 1024;
/// Patches of a cluster configuration, all nodes together.
const PATCHES_LIMIT: usize = 200;
/// Flags of the API server.
const ARGS_LIMIT: usize = 500;

const API_VERSION: &str = "kind.x-k8s.io/v1alpha4";

/// A cluster configuration as far as it concerns the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    extra_args: Vec<(String, String)>,
    api_server_address: Option<String>,
    api_server_port: Option<u16>,
    warnings: Vec<Warning>,
}

/// Something in the file that has no effect here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    file: String,
    path: String,
    text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.file, self.path, self.text)
    }
}

/// Why a cluster configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// Not YAML, or over a limit.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A value that kind or kubeadm would not take.
    #[error("{file}: {path}: {reason}")]
    Invalid {
        /// The file.
        file: String,
        /// Where in it.
        path: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl Cluster {
    /// Reads a cluster configuration. `file` is for messages.
    ///
    /// # Errors
    /// [`KindError`] with the file and the place in it.
    pub fn parse(text: &str, file: &str) -> Result<Self, KindError> {
        let document: Value = yaml::parse(text, file, BYTES_LIMIT)?;
        let mut reader = Reader { file, cluster: Self::default(), patches: 0 };
        let Value::Object(top) = &document else {
            return Err(
                reader.invalid("", format!("must be a map with `kind: Cluster` and `apiVersion: {API_VERSION}`"))
            );
        };
        reader.expect(top, "kind", "Cluster")?;
        reader.expect(top, "apiVersion", API_VERSION)?;
        reader.networking(top.get("networking"))?;
        reader.patches_of(top, "")?;
        let nodes = reader.list(top.get("nodes"), "nodes")?;
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("nodes[{index}]");
            let Value::Object(node) = node else { return Err(reader.invalid(&path, "must be a map".to_owned())) };
            match node.get("role").and_then(Value::as_str) {
                None | Some("control-plane") => reader.patches_of(node, &format!("{path}."))?,
                Some("worker") => {}
                Some(role) => {
                    return Err(reader
                        .invalid(&format!("{path}.role"), format!("{role:?} is neither control-plane nor worker")));
                }
            }
        }
        Ok(reader.cluster)
    }

    /// The API server's flags, without dashes before their names, in the order in which kubeadm would see them.
    pub fn extra_args(&self) -> impl Iterator<Item = (&str, &str)> {
        self.extra_args.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `networking.apiServerAddress`.
    #[must_use]
    pub fn api_server_address(&self) -> Option<&str> {
        self.api_server_address.as_deref()
    }

    /// `networking.apiServerPort`.
    #[must_use]
    pub const fn api_server_port(&self) -> Option<u16> {
        self.api_server_port
    }

    /// What has no effect here.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// A map merges over what is there; a list replaces it, as lists do in a merge patch.
    fn merge(&mut self, flags: Vec<(String, String)>, replace: bool) {
        if replace {
            self.extra_args = flags;
            return;
        }
        for (name, value) in flags {
            match self.extra_args.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => self.extra_args.push((name, value)),
            }
        }
    }
}

struct Reader<'a> {
    file: &'a str,
    cluster: Cluster,
    patches: usize,
}

impl Reader<'_> {
    fn invalid(&self, path: &str, reason: String) -> KindError {
        let path = if path.is_empty() { "the file" } else { path };
        KindError::Invalid { file: self.file.to_owned(), path: path.to_owned(), reason }
    }

    fn warn(&mut self, path: String, text: &str) {
        self.cluster.warnings.push(Warning { file: self.file.to_owned(), path, text: text.to_owned() });
    }

    fn expect(&self, map: &Map<String, Value>, key: &str, wanted: &str) -> Result<(), KindError> {
        match map.get(key) {
            Some(Value::String(found)) if found == wanted => Ok(()),
            Some(found) => Err(self.invalid(key, format!("is {found}, must be {wanted:?}"))),
            None => Err(self.invalid(key, format!("is missing, must be {wanted:?}"))),
        }
    }

    fn list<'v>(&self, value: Option<&'v Value>, path: &str) -> Result<&'v [Value], KindError> {
        match value {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.invalid(path, "must be a list".to_owned())),
        }
    }

    fn networking(&mut self, networking: Option<&Value>) -> Result<(), KindError> {
        let Some(networking) = networking.filter(|value| !value.is_null()) else { return Ok(()) };
        let Value::Object(networking) = networking else {
            return Err(self.invalid("networking", "must be a map".to_owned()));
        };
        match networking.get("apiServerAddress") {
            None | Some(Value::Null) => {}
            Some(Value::String(address)) => self.cluster.api_server_address = Some(address.clone()),
            Some(other) => {
                return Err(
                    self.invalid("networking.apiServerAddress", format!("{other} is not a text: put it in quotes"))
                );
            }
        }
        match networking.get("apiServerPort") {
            None | Some(Value::Null) => {}
            // -1 asks kind for a random port, 0 for one that Docker picks.
            Some(Value::Number(port)) if port.as_i64() == Some(-1) => {}
            Some(port) => {
                let number = port.as_u64().and_then(|port| u16::try_from(port).ok());
                let number = number.ok_or_else(|| {
                    self.invalid("networking.apiServerPort", format!("{port} is not a port from 0 to 65535"))
                })?;
                self.cluster.api_server_port = Some(number).filter(|port| *port != 0);
            }
        }
        Ok(())
    }

    fn patches_of(&mut self, map: &Map<String, Value>, prefix: &str) -> Result<(), KindError> {
        let path = format!("{prefix}kubeadmConfigPatches");
        let patches = self.list(map.get("kubeadmConfigPatches"), &path)?;
        self.patches += patches.len();
        if self.patches > PATCHES_LIMIT {
            return Err(self.invalid(&path, format!("more than {PATCHES_LIMIT} patches")));
        }
        for (index, patch) in patches.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Value::String(text) = patch else {
                return Err(self.invalid(&path, "must be YAML as text: write `- |` before it".to_owned()));
            };
            self.patch(text, &path)?;
        }
        let path = format!("{prefix}kubeadmConfigPatchesJSON6902");
        if !self.list(map.get("kubeadmConfigPatchesJSON6902"), &path)?.is_empty() {
            return Err(self.invalid(
                &path,
                "JSON 6902 patches are not read: write the flags as a merge patch in kubeadmConfigPatches".to_owned(),
            ));
        }
        Ok(())
    }

    fn patch(&mut self, text: &str, path: &str) -> Result<(), KindError> {
        let inner = format!("{}: {path}", self.file);
        let patch: Value = yaml::parse(text, &inner, BYTES_LIMIT)?;
        let Value::Object(patch) = &patch else {
            return Err(self.invalid(path, "must be a map with `kind: ClusterConfiguration`".to_owned()));
        };
        match patch.get("kind") {
            Some(Value::String(kind)) if kind == "ClusterConfiguration" => {}
            Some(Value::String(kind)) => {
                self.warn(path.to_owned(), &format!("a patch of {kind} does not concern the API server's flags"));
                return Ok(());
            }
            _ => return Err(self.invalid(path, "names no kind: kubeadm needs it to know what to patch".to_owned())),
        }
        let path = format!("{path}.apiServer.extraArgs");
        match patch.get("apiServer") {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Object(server)) => match server.get("extraArgs") {
                None | Some(Value::Null) => {}
                Some(Value::Object(map)) => {
                    let flags =
                        map.iter().map(|(name, value)| self.flag(name, value, &path)).collect::<Result<_, _>>()?;
                    self.cluster.merge(flags, false);
                }
                Some(Value::Array(items)) => {
                    let flags = items
                        .iter()
                        .enumerate()
                        .map(|(index, item)| self.item(item, &format!("{path}[{index}]")))
                        .collect::<Result<_, _>>()?;
                    self.cluster.merge(flags, true);
                }
                Some(_) => {
                    return Err(self.invalid(&path, "must be a map of flags, or a list of name and value".to_owned()));
                }
            },
            Some(_) => return Err(self.invalid(&path, "apiServer must be a map".to_owned())),
        }
        if self.cluster.extra_args.len() > ARGS_LIMIT {
            return Err(self.invalid(&path, format!("more than {ARGS_LIMIT} flags")));
        }
        Ok(())
    }

    /// kubeadm's flags are text; a number or a boolean without quotes is a type error there, and a list is one anywhere.
    fn flag(&self, name: &str, value: &Value, path: &str) -> Result<(String, String), KindError> {
        match value {
            Value::String(text) => Ok((name.to_owned(), text.clone())),
            Value::Null => Ok((name.to_owned(), String::new())),
            other => Err(self.invalid(&format!("{path}.{name}"), format!("{other} is not a text: put it in quotes"))),
        }
    }

    fn item(&self, item: &Value, path: &str) -> Result<(String, String), KindError> {
        let name = item.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| self.invalid(path, "must have a name and a value".to_owned()))?;
        self.flag(name, item.get("value").unwrap_or(&Value::Null), path)
    }
}

/// For fuzzing: any bytes.
pub fn fuzz(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(cluster) = Cluster::parse(text, "fuzz")
    {
        assert!(cluster.extra_args().count() <= ARGS_LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUIDE: &str = include_str!("../tests/guide-kind-config.yaml");

    fn with_patch(patch: &str) -> String {
        let indented: String = patch.lines().map(|line| format!("    {line}\n")).collect();
        format!(
            "kind: Cluster\napiVersion: {API_VERSION}\nnodes:\n- role: control-plane\n  kubeadmConfigPatches:\n  - |\n{indented}"
        )
    }

    fn args(text: &str) -> Vec<(String, String)> {
        Cluster::parse(text, "kind.yaml").unwrap().extra_args
    }

    #[track_caller]
    fn refused(text: &str, says: &[&str]) {
        let error = Cluster::parse(text, "kind.yaml").unwrap_err().to_string();
        assert!(error.starts_with("kind.yaml"), "{error}");
        for part in says {
            assert!(error.contains(part), "{part:?} in {error:?}");
        }
    }

    #[test]
    fn the_guides_file_gives_its_five_flags() {
        let cluster = Cluster::parse(GUIDE, "kind-config.yaml").unwrap();
        let flags: Vec<(&str, &str)> = cluster.extra_args().collect();
        let expected = [
            ("oidc-issuer-url", "$NGROK_ENDPOINT"),
            ("oidc-client-id", "kubernetes"),
            ("oidc-username-claim", "email"),
            ("oidc-username-prefix", ""),
            ("oidc-groups-claim", "groups"),
        ];
        assert_eq!(flags, expected);
        assert_eq!((cluster.api_server_address(), cluster.api_server_port()), (Some("127.0.0.1"), Some(6443)));
        assert!(cluster.warnings().is_empty());
    }

    #[test]
    fn the_list_form_gives_the_same_and_may_repeat_a_name() {
        let patch = "kind: ClusterConfiguration\napiServer:\n  extraArgs:\n  - name: oidc-required-claim\n    value: a=b\n  - name: oidc-required-claim\n    value: c=d\n";
        let expected = [("oidc-required-claim", "a=b"), ("oidc-required-claim", "c=d")];
        assert_eq!(args(&with_patch(patch)), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn later_patches_win_and_workers_do_not_count() {
        let text = format!(
            "kind: Cluster\napiVersion: {API_VERSION}\nkubeadmConfigPatches:\n- |\n  kind: ClusterConfiguration\n  apiServer: {{extraArgs: {{a: '1', b: '1'}}}}\nnodes:\n- role: control-plane\n  kubeadmConfigPatches:\n  - |\n    kind: ClusterConfiguration\n    apiServer: {{extraArgs: {{b: '2'}}}}\n- role: worker\n  kubeadmConfigPatches:\n  - |\n    kind: ClusterConfiguration\n    apiServer: {{extraArgs: {{b: '3'}}}}\n"
        );
        assert_eq!(args(&text), [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn patches_of_other_kinds_are_passed_over_with_a_word() {
        let text = with_patch("kind: InitConfiguration\nnodeRegistration: {}\n");
        let cluster = Cluster::parse(&text, "kind.yaml").unwrap();
        assert!(cluster.extra_args.is_empty());
        assert!(cluster.warnings()[0].to_string().contains("InitConfiguration"));
    }

    #[test]
    fn mistakes_name_their_place_and_the_fix() {
        refused("[]", &["kind: Cluster"]);
        refused("kind: Pod\napiVersion: v1\n", &["kind", "\"Cluster\""]);
        refused("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha3\n", &["apiVersion", API_VERSION]);
        refused(&with_patch("apiServer: {}\n"), &["kubeadmConfigPatches[0]", "kind"]);
        refused(
            &with_patch("kind: ClusterConfiguration\napiServer: {extraArgs: {v: 4}}\n"),
            &["extraArgs.v", "quotes"],
        );
        refused(
            &with_patch("kind: ClusterConfiguration\napiServer: {extraArgs: {oidc-username-claim: [email]}}\n"),
            &["oidc-username-claim"],
        );
        refused(
            &with_patch("kind: ClusterConfiguration\napiServer: {extraArgs: [{value: x}]}\n"),
            &["extraArgs[0]", "name"],
        );
        refused(&with_patch("kind: [\n"), &["nodes[0].kubeadmConfigPatches[0]"]);
        refused(&GUIDE.replace("apiServerPort: 6443", "apiServerPort: 70000"), &["networking.apiServerPort", "70000"]);
        refused(&GUIDE.replace("control-plane", "manager"), &["nodes[0].role", "manager"]);
        refused(&GUIDE.replace("kubeadmConfigPatches", "kubeadmConfigPatchesJSON6902"), &["JSON6902", "merge patch"]);
        refused(&GUIDE.replace("nodes:", "nodes: {}\nx:"), &["nodes", "list"]);
    }

    #[test]
    fn size_depth_and_counts_are_limited() {
        refused(&format!("kind: {}", "a".repeat(BYTES_LIMIT)), &["bytes"]);
        refused(&"[".repeat(10_000), &[]);
        let many = (0..=ARGS_LIMIT).map(|i| format!("f{i}: ''")).collect::<Vec<_>>().join(", ");
        refused(
            &with_patch(&format!("kind: ClusterConfiguration\napiServer: {{extraArgs: {{{many}}}}}\n")),
            &["more than 500"],
        );
        let patches = "  - 'kind: X'\n".repeat(PATCHES_LIMIT + 1);
        refused(
            &format!("kind: Cluster\napiVersion: {API_VERSION}\nnodes:\n- kubeadmConfigPatches:\n{patches}"),
            &["more than 200"],
        );
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in ".{0,300}") {
            fuzz(text.as_bytes());
        }

        #[test]
        fn no_patch_breaks_it(patch in "(kind: ClusterConfiguration\n)?(apiServer:( \\{\\}|\n  extraArgs:( \\[\\]|\n    a: .{0,10}|\n  - name: .{0,5}))?\n)?") {
            fuzz(with_patch(&patch).as_bytes());
        }
    }
}
