//! Files of several YAML documents, and flags as they are written: what the platforms' files have in common.

use portcullis_kube::yaml::YamlError;

use crate::document::{Node, Place};
use crate::k3s;
use crate::kind::{BYTES_LIMIT, KindConfigError};

/// The documents of a text, each with as many blank lines before it as there were lines, so that its lines count from the
/// start of the file.
pub(crate) fn of(text: &str, limit: usize, file: &str) -> Result<Vec<String>, YamlError> {
    if text.len() > limit {
        return Err(YamlError::TooLarge { file: file.to_owned(), bytes: text.len(), limit });
    }
    let mut parts = vec![String::new()];
    for (at, line) in text.lines().enumerate() {
        // Nothing else may begin so in column 0, not even inside a block.
        if line == "---" || line.starts_with("--- ") {
            if parts.len() > DOCUMENTS_LIMIT {
                let reason = format!("more than {DOCUMENTS_LIMIT} documents");
                return Err(YamlError::Malformed { file: file.to_owned(), line: line_number(at), column: 1, reason });
            }
            parts.push("\n".repeat(at.saturating_add(1)));
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    let blank = |part: &String| part.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    parts.retain(|part| !blank(part));
    Ok(parts)
}

/// Documents that a file may have.
const DOCUMENTS_LIMIT: usize = 20;

fn line_number(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1)
}

/// The place of a file as a whole.
pub(crate) fn start(file: &str) -> Place {
    Place { file: file.to_owned(), line: 1, path: String::new() }
}

/// Name and value of `name=value`.
pub(crate) fn flag(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// Whose file a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An AuthenticationConfiguration.
    AuthenticationConfiguration,
    /// kubeadm's config, or the manifest of the API server's static pod.
    Kubeadm,
    /// kind's cluster config.
    Kind,
    /// That of k3s or RKE2.
    K3s,
}

/// Finds out whose file `text` is. `file` is for messages.
///
/// # Errors
/// [`KindConfigError`] when it is no YAML, or nobody's.
pub fn detect(text: &str, file: &str) -> Result<Format, KindConfigError> {
    let mut found = Vec::new();
    for part in of(text, BYTES_LIMIT, file)? {
        let root = Node::parse(&part, file, BYTES_LIMIT)?;
        match root.text_of("kind")?.as_str() {
            "AuthenticationConfiguration" => return Ok(Format::AuthenticationConfiguration),
            "ClusterConfiguration" | "Pod" => return Ok(Format::Kubeadm),
            "Cluster" => return Ok(Format::Kind),
            "" if root.map()?.iter().any(|(key, _)| k3s::KEYS.contains(&key.as_str())) => return Ok(Format::K3s),
            other => found.push(format!("kind {other:?}")),
        }
    }
    let found = if found.is_empty() { "it is empty".to_owned() } else { found.join(", ") };
    Err(KindConfigError::BadValue {
        place: start(file),
        message: format!("this is no configuration of an API server ({found})"),
        hint: "give an AuthenticationConfiguration, the config of kind, kubeadm, k3s or RKE2, or the API server's manifest",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_kind_or_by_its_keys() {
        for (text, want) in [
            ("kind: AuthenticationConfiguration\n", Format::AuthenticationConfiguration),
            ("{\"kind\":\"AuthenticationConfiguration\"}", Format::AuthenticationConfiguration),
            ("# x\n---\nkind: InitConfiguration\n---\nkind: ClusterConfiguration\n", Format::Kubeadm),
            ("kind: Pod\n", Format::Kubeadm),
            ("kind: Cluster\n", Format::Kind),
            ("kube-apiserver-arg: []\n", Format::K3s),
            ("kube-apiserver-arg+: []\n", Format::K3s),
        ] {
            assert_eq!(detect(text, "f"), Ok(want), "{text:?}");
        }
        for (text, want) in
            [("kind: Config\n", "kind \"Config\""), ("", "it is empty"), ("[", "f:1"), ("a: b\n", "kind \"\"")]
        {
            let error = detect(text, "f").unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        assert!(detect(&" ".repeat(BYTES_LIMIT + 1), "f").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(kind: (Pod|ClusterConfiguration|x)\n|---( x)?\n|apiServer:\n|  extraArgs:\n|  *- [a-z{}=:, -]*\n|kube-apiserver-arg\\+?:\n|[ -~\n]{0,20}){0,12}") {
            let _ = (detect(&text, "f"), crate::kubeadm::parse(&text, "f"), k3s::parse(&text, "f"));
        }
    }

    #[test]
    fn documents_are_counted() {
        assert_eq!(
            of(&"a: 1\n---\n".repeat(DOCUMENTS_LIMIT), BYTES_LIMIT, "f").map(|all| all.len()),
            Ok(DOCUMENTS_LIMIT)
        );
        assert!(of(&"a: 1\n---\n".repeat(DOCUMENTS_LIMIT + 1), BYTES_LIMIT, "f").is_err());
    }
}
