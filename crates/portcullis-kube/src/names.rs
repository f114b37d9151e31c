//! What Kubernetes accepts as a name, a label or an annotation key, and the sentences it refuses others with.
//!
//! Compat: `pkg/api/validate/content` of apimachinery v0.37.2, whose lists of examples have two spaces before `or`.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// What is wrong with a name that stands in a URL path (RBAC objects: colons are fine). Nothing, for a good one.
pub fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|c| name.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// What is wrong with an RFC 1123 label (namespaces): lower case, digits, `-`, at most 63 bytes.
pub fn dns_label(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > 63 {
        wrong.push("must be no more than 63 characters".to_owned());
    }
    if !is_label(name) {
        if name.split('.').all(is_label) {
            wrong.push("must not contain dots".to_owned());
        } else {
            wrong.push(format!(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
                 end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
            ));
        }
    }
    wrong
}

/// What is wrong with an RFC 1123 subdomain (most objects): labels joined by dots, at most 253 bytes.
pub fn dns_subdomain(name: &str) -> Vec<String> {
    subdomain(name, "characters")
}

/// Likewise, in the words of upstream's declarative validation (`k8s-long-name`).
pub fn long_name(name: &str) -> Vec<String> {
    subdomain(name, "bytes")
}

/// Compat: the limit is named in characters for names, and in bytes for the prefixes of label keys and declaratively.
fn subdomain(name: &str, unit: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > 253 {
        wrong.push(format!("must be no more than 253 {unit}"));
    }
    if !name.split('.').all(is_label) {
        wrong.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
             and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{LABEL}(\\.{LABEL})*')"
        ));
    }
    wrong
}

/// What is wrong with a label key: an optional DNS subdomain and `/`, then at most 63 bytes.
pub fn label_key(key: &str) -> Vec<String> {
    let hint = format!(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
         (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{KEY}')"
    );
    let mut wrong = Vec::new();
    let mut parts = key.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(subdomain(prefix, "bytes").into_iter().map(|why| format!("prefix part {why}")));
            }
            name
        }
        _ => {
            let optional = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {hint} {optional}")];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        wrong.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_key(name) {
        wrong.push(format!("name part {hint}"));
    }
    wrong
}

/// What is wrong with a label value: empty, or like the name of a key.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 63 {
        wrong.push("must be no more than 63 bytes".to_owned());
    }
    if !value.is_empty() && !is_key(value) {
        wrong.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation \
             is '({KEY})?')"
        ));
    }
    wrong
}

fn is_label(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends =
        text.as_bytes().first().copied().is_some_and(inside) && text.as_bytes().last().copied().is_some_and(inside);
    ends && text.bytes().all(|b| inside(b) || b == b'-')
}

fn is_key(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_are_accepted() {
        for name in ["cluster-admin", "system:node", "a b", "", "é"] {
            assert!(path_segment(name).is_empty(), "{name}");
        }
        for name in ["a", "default", "kube-system", "0", &"a".repeat(63)] {
            assert!(dns_label(name).is_empty() && dns_subdomain(name).is_empty(), "{name}");
        }
        for name in ["a.b", "web-1.example.com"] {
            assert!(dns_subdomain(name).is_empty(), "{name}");
        }
        for key in ["app", "app.kubernetes.io/name", "A_b.c"] {
            assert!(label_key(key).is_empty(), "{key}");
        }
        for value in ["", "true", "v1.2_x", &"a".repeat(63)] {
            assert!(label_value(value).is_empty(), "{value}");
        }
    }

    #[test]
    fn bad_names_are_refused_with_upstreams_sentences() {
        assert_eq!(path_segment(".."), ["may not be '..'"]);
        assert_eq!(path_segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(dns_subdomain(&"a".repeat(254)), ["must be no more than 253 characters"]);
        assert_eq!(long_name(&"a".repeat(254)), ["must be no more than 253 bytes"]);
        assert_eq!(label_key(&format!("{}/x", "a".repeat(254))), ["prefix part must be no more than 253 bytes"]);
        assert_eq!(
            dns_label("Bad_"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            dns_subdomain("-a"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(label_key("/x"), ["prefix part must be non-empty"]);
        assert_eq!(
            label_key("a/"),
            [
                "name part must be non-empty",
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(label_key("a/b/c").len(), 1);
        assert_eq!(
            label_value("-"),
            [
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ]
        );
    }
}
