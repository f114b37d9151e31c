//! Subresources: what hangs below an object's path, as discovery and OpenAPI list it.
//!
//! An entry here says that the engine answers that path; what it answers is in `handlers`.

use super::{AUTHENTICATION, Resource};

/// A part of an object with a path and verbs of its own, such as `pods/log`.
#[derive(Debug)]
pub(crate) struct Subresource {
    /// Group of the resource that it belongs to.
    pub(crate) group: &'static str,
    /// Plural name of the resource that it belongs to.
    pub(crate) resource: &'static str,
    pub(crate) name: &'static str,
    /// Kind of the answers.
    pub(crate) kind: &'static str,
    /// Group and version of that kind where they are not those of the resource.
    pub(crate) kind_group_version: Option<(&'static str, &'static str)>,
    /// Sorted, as discovery lists them.
    pub(crate) verbs: &'static [&'static str],
}

/// Every subresource that is served; those of a resource stand in alphabetical order.
pub(crate) static SUBRESOURCES: [Subresource; 1] = [Subresource {
    group: "",
    resource: "serviceaccounts",
    name: "token",
    kind: "TokenRequest",
    kind_group_version: Some((AUTHENTICATION, "v1")),
    verbs: &["create"],
}];

/// The subresources of a resource.
pub(crate) fn of(resource: &Resource) -> impl Iterator<Item = &'static Subresource> {
    let (group, plural) = (resource.group, resource.plural);
    SUBRESOURCES.iter().filter(move |sub| sub.group == group && sub.resource == plural)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::ALL;

    #[test]
    fn every_subresource_belongs_to_a_resource_and_stands_in_order() {
        let known = |sub: &Subresource| ALL.iter().any(|r| r.group == sub.group && r.plural == sub.resource);
        assert!(SUBRESOURCES.iter().all(|sub| known(sub) && sub.verbs.is_sorted()));
        assert!(ALL.iter().all(|resource| of(resource).map(|sub| sub.name).is_sorted()));
    }
}
