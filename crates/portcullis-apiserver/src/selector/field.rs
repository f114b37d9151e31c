//! `fieldSelector`: the fields that a kind has, and what they are compared with.
//!
//! Compat: each kind's field label conversion. The grammar is the authorizer's, `portcullis_rbac::field_selector`.

use std::fmt;

use portcullis_kube::go::quote;
use portcullis_rbac::field_selector;

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

/// Reads a selector without a look at its fields; the error is the message of a 400.
pub(crate) fn read(text: &str) -> Result<field_selector::FieldSelector, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("the field selector is longer than {MAX_BYTES} bytes"));
    }
    let written = field_selector::FieldSelector::parse(text).map_err(|error| error.to_string())?;
    if written.terms.len() > MAX_TERMS {
        return Err(format!("the field selector has more than {MAX_TERMS} terms"));
    }
    Ok(written)
}

impl FieldSelector {
    /// The selector by the fields of `resource`; the error is the message of a 400.
    pub(crate) fn of(resource: &Resource, written: field_selector::FieldSelector) -> Result<Self, String> {
        let terms = written.terms.into_iter();
        // Compat: a term of nothing selects everything.
        let terms = terms.filter(|term| !term.field.is_empty() || !term.value.is_empty());
        let named = terms.map(|term| {
            let name = known(resource, &term.field)?;
            Ok(Term { name, equal: term.equal, value: term.value })
        });
        Ok(Self(named.collect::<Result<_, String>>()?))
    }

    /// Reads a selector for `resource`.
    #[cfg(test)]
    pub(crate) fn parse(resource: &Resource, text: &str) -> Result<Self, String> {
        Self::of(resource, read(text)?)
    }

    /// The first value that a field must have.
    pub(crate) fn required(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|term| term.equal && term.name == name).map(|term| term.value.as_str())
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

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Term { name, equal, value }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if *equal { "=" } else { "!=" };
            let value = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{name}{operator}{value}")?;
        }
        Ok(())
    }
}

/// Whether every kind in a namespace has that field.
fn is_general(name: &str) -> bool {
    matches!(name, "metadata.name" | "metadata.namespace")
}

/// The name under which the kind keeps that field, or why it has none.
fn known(resource: &Resource, name: &str) -> Result<String, String> {
    if let Some(view) = &resource.view {
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
            let name = quote(name);
            Err(format!("{name} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""))
        }
        // Compat: `pkg/apis/batch/v1/conversion.go` has words of its own.
        ("Job", _) => Err(format!("field label {} not supported for Job", quote(name))),
        _ => Err(format!("field label not supported: {name}")),
    }
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
        assert_eq!(error(pods(), "z=1,b=2"), "field label not supported: b", "they are sorted first");
        let escape = "invalid field selector: invalid escape sequence: \\b";
        assert_eq!(error(pods(), "a=1,metadata.name=a\\b"), escape, "the form goes before the names");
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
            let mut selector = FieldSelector::default();
            selector.require_name(&value);
            let parsed = FieldSelector::parse(pods(), &selector.to_string()).unwrap();
            prop_assert!(parsed.matches(|_| &value));
        }
    }
}
