//! kubeadm: a config file (`ClusterConfiguration`, alone or among other documents), or the manifest of the static pod that
//! kubeadm makes of it, read for the API server's flags.
//!
//! Compat: `apiServer.extraArgs` in the map form (v1beta3 and before) and the list form (v1beta4), as in patches of kind
//! configs.

use crate::document::{Node, Warning};
use crate::kind::{BYTES_LIMIT, ExtraArg, ITEMS_LIMIT, KindConfigError, items, patch};
use crate::parts;

/// The flags that a file gives the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServerFlags {
    /// In order; a name occurs more than once where the file repeats it.
    pub arguments: Vec<ExtraArg>,
    /// What has no effect, or not the one that was meant.
    pub warnings: Vec<Warning>,
}

/// Reads a file. `file` is for messages.
///
/// # Errors
/// [`KindConfigError`] with file, line, path and what to do.
pub fn parse(text: &str, file: &str) -> Result<ApiServerFlags, KindConfigError> {
    let mut flags = None;
    let mut kinds = Vec::new();
    for part in parts::of(text, BYTES_LIMIT, file)? {
        let root = Node::parse(&part, file, BYTES_LIMIT)?;
        let kind = root.text_of("kind")?;
        match kind.as_str() {
            "ClusterConfiguration" => flags = Some(cluster_configuration(&root)?),
            "Pod" => flags = Some(manifest(&root)?),
            _ => kinds.push((root.place.clone(), kind)),
        }
    }
    match (flags, kinds.into_iter().next()) {
        (Some(flags), _) if flags.arguments.len() > ITEMS_LIMIT => {
            let place = parts::start(file);
            Err(KindConfigError::TooMany { place, count: flags.arguments.len() })
        }
        (Some(flags), _) => Ok(flags),
        (None, first) => {
            let (place, kind) = first.unwrap_or_else(|| (parts::start(file), String::new()));
            Err(KindConfigError::BadValue {
                place,
                message: format!("kind {kind:?} where ClusterConfiguration or the API server's Pod is wanted"),
                hint: "give the file with kind: ClusterConfiguration, or /etc/kubernetes/manifests/kube-apiserver.yaml",
            })
        }
    }
}

fn cluster_configuration(root: &Node) -> Result<ApiServerFlags, KindConfigError> {
    let mut found = patch::Patch::default();
    let Some(api_server) = root.get("apiServer")? else { return Ok(ApiServerFlags::default()) };
    if let Some(arguments) = api_server.get("extraArgs")? {
        found.extra_args(arguments, &root.text_of("apiVersion")?)?;
    }
    Ok(ApiServerFlags { arguments: found.arguments, warnings: found.of_arguments })
}

/// The container's command and arguments, `--name=value` each.
fn manifest(root: &Node) -> Result<ApiServerFlags, KindConfigError> {
    let mut arguments = Vec::new();
    let Some(spec) = root.get("spec")? else { return Ok(ApiServerFlags::default()) };
    let Some(containers) = spec.get("containers")? else { return Ok(ApiServerFlags::default()) };
    for container in items(containers)? {
        for key in ["command", "args"] {
            let Some(words) = container.get(key)? else { continue };
            for word in items(words)? {
                if let Some((name, value)) = word.text()?.strip_prefix("--").map(parts::flag) {
                    arguments.push(ExtraArg { name, value, place: word.place.clone() });
                }
            }
        }
    }
    Ok(ApiServerFlags { arguments, warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String, u64)>, String> {
        let flags = parse(text, "f").map_err(|error| format!("{error} ({})", error.hint()))?;
        Ok(flags.arguments.into_iter().map(|one| (one.name, one.value, one.place.line)).collect())
    }

    #[test]
    fn both_forms_are_read_among_other_documents_with_their_lines() {
        let map = "kind: InitConfiguration\n---\napiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\napiServer:\n  extraArgs:\n    oidc-client-id: c\n";
        assert_eq!(read(map), Ok(vec![("oidc-client-id".into(), "c".into(), 7)]));
        let list = "--- # first\nkind: ClusterConfiguration\napiServer:\n  extraArgs:\n  - {name: a, value: b}\n  - name: a\n    value: c\n---\nkind: KubeletConfiguration\n";
        assert_eq!(read(list), Ok(vec![("a".into(), "b".into(), 5), ("a".into(), "c".into(), 6)]));
        assert_eq!(read("kind: ClusterConfiguration\n"), Ok(vec![]));
    }

    #[test]
    fn the_manifest_of_the_static_pod_is_read() {
        let pod = "kind: Pod\nspec:\n  containers:\n  - command:\n    - kube-apiserver\n    - --oidc-issuer-url=https://a/?b=c\n    - --enable-x\n";
        let want = vec![
            ("oidc-issuer-url".to_owned(), "https://a/?b=c".to_owned(), 6),
            ("enable-x".to_owned(), String::new(), 7),
        ];
        assert_eq!(read(pod), Ok(want));
        assert_eq!(read("kind: Pod\n"), Ok(vec![]));
    }

    #[test]
    fn other_files_and_broken_ones_are_refused_with_their_place() {
        for (text, want) in [
            ("kind: InitConfiguration\n", "f:1: the document: kind \"InitConfiguration\" where"),
            ("", "ClusterConfiguration"),
            ("kind: ClusterConfiguration\napiServer: [1]\n", "f:2: apiServer: expected a map, found a list"),
            ("a: 1\n---\nkind: [\n", "f:3:"),
            ("kind: Pod\nspec: {containers: [{command: 1}]}\n", "expected a list, found a number"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text:?}: {error}");
        }
        let long = format!("kind: ClusterConfiguration\n#{}", "x".repeat(BYTES_LIMIT));
        assert!(read(&long).unwrap_err().contains("at most 1048576 are read"));
        let many = "    - {name: a, value: b}\n".repeat(ITEMS_LIMIT + 1);
        let many = format!("kind: ClusterConfiguration\napiServer:\n  extraArgs:\n{many}");
        assert!(read(&many).unwrap_err().contains("1001 items"), "too many");
    }
}
