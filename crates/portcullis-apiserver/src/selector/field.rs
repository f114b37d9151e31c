//! `fieldSelector`: `a.b=c`, `a.b==c`, `a.b!=c`, joined by commas; `\` escapes `,`, `=` and itself.
//!
//! Compat: grammar and messages follow `apimachinery/pkg/fields/selector.go` and each kind's field label conversion.

use crate::resources::Resource;

/// Longest selector that is read, in bytes.
const MAX_BYTES: usize = 32 * 1024;
/// Most terms of one selector.
const MAX_TERMS: usize = 256;

/// A parsed selector: every term must hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<Term>);

#[derive(Debug, PartialEq, Eq)]
struct Term {
    name: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Reads a selector for `resource`; the error is the message of a 400.
    pub(crate) fn parse(resource: &Resource, text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the field selector is longer than {MAX_BYTES} bytes"));
        }
        let mut terms = Vec::new();
        for part in split(text) {
            if part.is_empty() {
                continue;
            }
            let Some((name, equal, value)) = term(part) else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            let value = unescape(value)?;
            if name.is_empty() && value.is_empty() {
                // Compat: such a term selects everything.
                continue;
            }
            let name = known(resource, name)?;
            terms.push(Term { name, equal, value });
            if terms.len() > MAX_TERMS {
                return Err(format!("the field selector has more than {MAX_TERMS} terms"));
            }
        }
        Ok(Self(terms))
    }

    /// Adds the name that stands in the path of `/watch/…/name`.
    pub(crate) fn require_name(&mut self, name: &str) {
        self.0.push(Term { name: "metadata.name".to_owned(), equal: true, value: name.to_owned() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object with these field values is selected.
    pub(crate) fn matches<'o>(&self, field: impl Fn(&str) -> &'o str) -> bool {
        self.0.iter().all(|term| (field(&term.name) == term.value) == term.equal)
    }
}

/// Whether every kind in a namespace has that field.
fn is_general(name: &str) -> bool {
    matches!(name, "metadata.name" | "metadata.namespace")
}

/// The name under which the kind keeps that field, or why it has none.
fn known(resource: &Resource, name: &str) -> Result<String, String> {
    if let Some(view) = resource.view.as_ref().filter(|view| !view.fields.is_empty()) {
        let stored = view.fields.iter().find(|(shown, _)| *shown == name).map(|(_, stored)| (*stored).to_owned());
        let stored = stored.or_else(|| is_general(name).then(|| name.to_owned()));
        return stored.ok_or_else(|| format!("field label not supported: {name}"));
    }
    let namespace_ok = resource.namespaced || resource.selectable_names.is_empty();
    if name == "metadata.name"
        || (name == "metadata.namespace" && namespace_ok)
        || resource.selectable_names.contains(&name)
    {
        return Ok(name.to_owned());
    }
    match (resource.kind, name) {
        // Compat: `pkg/apis/core/v1/conversion.go` keeps this old name.
        ("Pod", "spec.host") => Ok("spec.nodeName".to_owned()),
        _ if resource.selectable_names.is_empty() => {
            Err(format!("\"{name}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""))
        }
        // Compat: `pkg/apis/batch/v1/conversion.go` has words of its own.
        ("Job", _) => Err(format!("field label {} not supported for Job", portcullis_kube::go::quote(name))),
        _ => Err(format!("field label not supported: {name}")),
    }
}

/// Splits at commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn term(text: &str) -> Option<(&str, bool, &str)> {
    let operators = [("!=", false), ("==", true), ("=", true)];
    (0..text.len()).filter(|at| text.is_char_boundary(*at)).find_map(|at| {
        let (name, rest) = text.split_at(at);
        operators.iter().find_map(|(operator, equal)| rest.strip_prefix(operator).map(|value| (name, *equal, value)))
    })
}

fn unescape(text: &str) -> Result<String, String> {
    if !text.contains(['\\', ',', '=']) {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(character) = chars.next() {
        match character {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(format!("invalid field selector: invalid escape sequence: {sequence}"));
                }
            },
            ',' | '=' => {
                // Compat: Go prints the character's number.
                return Err(format!("invalid field selector: unescaped character in value: {}", u32::from(character)));
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resources::{events, namespaces, nodes, pods, roles};

    fn error(resource: &Resource, text: &str) -> String {
        FieldSelector::parse(resource, text).unwrap_err()
    }

    #[test]
    fn terms_compare_whole_values() {
        let parse = |text: &str| FieldSelector::parse(pods(), text).unwrap();
        let pod = |name: &str| match name {
            "metadata.name" => "a,b",
            "status.phase" => "Running",
            _ => "",
        };
        for (text, want) in [
            ("", true),
            ("metadata.name=a\\,b", true),
            ("metadata.name==a\\,b,status.phase=Running", true),
            ("metadata.name!=a", true),
            ("status.phase!=Running", false),
            ("spec.nodeName=", true),
            ("spec.host=", true),
        ] {
            assert_eq!(parse(text).matches(pod), want, "{text}");
        }
    }

    #[test]
    fn unknown_fields_and_mistakes_read_as_upstream_words_them() {
        assert_eq!(error(pods(), "spec.foo=zz"), "field label not supported: spec.foo");
        assert_eq!(
            error(roles(), "foo=zz"),
            "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        assert_eq!(error(roles(), "foo"), "invalid selector: 'foo'; can't understand 'foo'");
        assert_eq!(error(nodes(), "metadata.namespace=x"), "field label not supported: metadata.namespace");
        assert_eq!(error(namespaces(), "name=x"), "field label not supported: name");
        assert!(FieldSelector::parse(events(), "involvedObject.uid=x,type!=Normal").is_ok());
        let newer = crate::resources::find("events.k8s.io", "v1", "events").unwrap();
        let parsed = FieldSelector::parse(newer, "regarding.uid=x,metadata.name=y").unwrap();
        assert!(parsed.matches(|name| if name == "involvedObject.uid" { "x" } else { "y" }));
        assert_eq!(error(newer, "involvedObject.uid=x"), "field label not supported: involvedObject.uid");
        assert!(FieldSelector::parse(pods(), "metadata.name=a\\b").is_err());
        assert!(FieldSelector::parse(pods(), "metadata.name=a=b").is_err());
        assert!(FieldSelector::parse(pods(), &"metadata.name=a,".repeat(MAX_TERMS + 1)).is_err());
        assert!(FieldSelector::parse(pods(), &"x".repeat(MAX_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(metadata.name|[a-c=!,\\\\é.]){0,20}") {
            let _ = FieldSelector::parse(pods(), &text);
        }

        #[test]
        fn an_escaped_value_is_found_again(value in "[a-z=,\\\\é]{0,20}") {
            let escaped = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            let parsed = FieldSelector::parse(pods(), &format!("metadata.name={escaped}")).unwrap();
            prop_assert!(parsed.matches(|_| &value));
        }
    }
}
