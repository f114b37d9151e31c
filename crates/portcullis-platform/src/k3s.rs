//! k3s and RKE2: `/etc/rancher/k3s/config.yaml` and its drop-ins, read for the API server's flags (`kube-apiserver-arg`,
//! `name=value` each).
//!
//! Compat: `pkg/configfilearg` of k3s: files one after the other, keys in the order in which they stand; a key replaces what
//! there was before it, and one with a plus adds to it.

use crate::document::{Node, Place};
use crate::kind::{BYTES_LIMIT, ExtraArg, ITEMS_LIMIT, KindConfigError, items};
use crate::kubeadm::ApiServerFlags;
use crate::parts;

/// The key; with a plus, what is added to it.
pub(crate) const KEYS: [&str; 2] = ["kube-apiserver-arg", "kube-apiserver-arg+"];

/// Reads a file. `file` is for messages. All other keys are k3s' own and are left alone.
///
/// # Errors
/// [`KindConfigError`] with file, line, path and what to do.
pub fn parse(text: &str, file: &str) -> Result<ApiServerFlags, KindConfigError> {
    parse_all(&[(text, file)])
}

/// Reads several as k3s does: text and name of the file itself, if there is one, and of its drop-ins in the order of their names.
///
/// # Errors
/// As [`parse`]; a drop-in may be about other things, as long as one of all names flags.
pub fn parse_all(files: &[(&str, &str)]) -> Result<ApiServerFlags, KindConfigError> {
    let mut arguments: Option<Vec<ExtraArg>> = None;
    let mut first = None;
    for (text, file) in files {
        let root = Node::parse(text, file, BYTES_LIMIT)?;
        for (key, node) in root.map()? {
            if !KEYS.contains(&key.as_str()) || node.is_null() {
                continue;
            }
            match &mut arguments {
                Some(before) if key.ends_with('+') => before.extend(flags(node)?),
                before => *before = Some(flags(node)?),
            }
            if let Some(arguments) = arguments.as_ref().filter(|arguments| arguments.len() > ITEMS_LIMIT) {
                return Err(KindConfigError::TooMany { place: node.place.clone(), count: arguments.len() });
            }
        }
        first.get_or_insert(root.place);
    }
    match (arguments, first) {
        (Some(arguments), _) => Ok(ApiServerFlags { arguments, warnings: Vec::new() }),
        (None, first) => Err(KindConfigError::BadValue {
            place: first.unwrap_or(Place { file: String::new(), line: 1, path: String::new() }),
            message: "there is no kube-apiserver-arg".to_owned(),
            hint: "give the file of k3s or RKE2 whose kube-apiserver-arg lists the API server's flags; its drop-ins are read with it",
        }),
    }
}

/// A list of flags, or one.
fn flags(node: &Node) -> Result<Vec<ExtraArg>, KindConfigError> {
    let all = if node.is_list() { items(node)? } else { std::slice::from_ref(node) };
    let flag = |item: &Node| {
        let (name, value) = parts::flag(item.text()?.trim_start_matches("--"));
        Ok(ExtraArg { name, value, place: item.place.clone() })
    };
    all.iter().map(flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_from_a_list_or_one_text() {
        let text = "write-kubeconfig-mode: '0644'\nkube-apiserver-arg:\n- oidc-issuer-url=https://a/?b=c\n- '--oidc-client-id=k'\n- x\nkube-apiserver-arg+: y=1\n";
        let flags: Vec<_> =
            parse(text, "f").unwrap().arguments.into_iter().map(|one| (one.name, one.value, one.place.line)).collect();
        let want = [("oidc-issuer-url", "https://a/?b=c", 3), ("oidc-client-id", "k", 4), ("x", "", 5), ("y", "1", 6)];
        assert_eq!(flags, want.map(|(name, value, line)| (name.to_owned(), value.to_owned(), line)));
    }

    #[test]
    fn drop_ins_together_name_no_more_flags_than_one_file_may() {
        let list = |key: &str, count: usize| format!("{key}:\n{}", "- a=b\n".repeat(count));
        let (first, rest) = (list("kube-apiserver-arg", ITEMS_LIMIT - 1), list("kube-apiserver-arg+", 1));
        let read = |files: &[(&str, &str)]| parse_all(files).map(|flags| flags.arguments.len());
        assert_eq!(read(&[(&first, "f"), (&rest, "g")]), Ok(ITEMS_LIMIT));
        let refused = read(&[(&first, "f"), (&rest, "g"), (&rest, "h")]).unwrap_err().to_string();
        assert!(refused.starts_with("h:") && refused.contains("1001 items"), "{refused}");
    }

    #[test]
    fn a_drop_in_replaces_what_was_before_it_and_one_with_a_plus_adds_to_it() {
        let told = |files: &[(&str, &str)]| {
            let flags = parse_all(files).unwrap().arguments.into_iter();
            flags.map(|one| format!("{}={} {}", one.name, one.value, one.place.file)).collect::<Vec<_>>()
        };
        let (first, other) = (("kube-apiserver-arg: [a=1, b=1]\n", "f"), ("server: x\n", "f.d/1"));
        let (adds, replaces) = (("kube-apiserver-arg+: c=2\n", "f.d/2"), ("kube-apiserver-arg: [d=3]\n", "f.d/3"));
        assert_eq!(told(&[first, other, adds]), ["a=1 f", "b=1 f", "c=2 f.d/2"]);
        assert_eq!(told(&[first, adds, replaces]), ["d=3 f.d/3"]);
        assert_eq!(told(&[first, replaces, adds]), ["d=3 f.d/3", "c=2 f.d/2"]);
        assert_eq!(told(&[other, adds]), ["c=2 f.d/2"], "there is nothing that it could be added to");
        assert_eq!(told(&[("", "empty"), first]).len(), 2);
        // In one file it is the order of the keys that counts.
        let text = "kube-apiserver-arg+: [a=1]\nkube-apiserver-arg: [b=2]\n";
        assert_eq!(told(&[(text, "f")]), ["b=2 f"]);
        assert!(parse_all(&[]).is_err() && parse_all(&[other, other]).is_err());
        assert!(parse_all(&[first, ("a: [", "f.d/1")]).unwrap_err().to_string().starts_with("f.d/1:"));
    }

    #[test]
    fn other_files_are_refused() {
        for (text, want) in
            [("a: b\n", "kube-apiserver-arg"), ("kube-apiserver-arg: {a: b}\n", "expected a string, found a map")]
        {
            let error = parse(text, "f").unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        }
        assert!(parse(&"#".repeat(BYTES_LIMIT + 1), "f").unwrap_err().to_string().contains("at most 1048576"));
    }
}
