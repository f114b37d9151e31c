//! Resources and reviews as discovery sees them: one list per group and version, in the order of the names.

use crate::resources::subresources::{self, Subresource};
use crate::resources::{GROUPS, REVIEWS, Resource, Review, served};

/// A resource or a review.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) verbs: &'static [&'static str],
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    /// Empty for what is not stored.
    pub(crate) storage_version_hash: String,
    pub(crate) subresources: Vec<&'static Subresource>,
}

/// Everything served under a group and version.
pub(crate) fn entries(group: &str, version: &str) -> Vec<Entry> {
    let stored = served().filter(|r| r.group == group && r.version == version).map(Entry::of);
    let reviews = REVIEWS.iter().filter(|r| r.group == group && r.version == version).map(Entry::of_review);
    let mut all: Vec<Entry> = stored.chain(reviews).collect();
    all.sort_by_key(|entry| entry.plural);
    all
}

/// The versions of a group, preferred first.
pub(crate) fn versions(group: &str) -> Vec<&'static str> {
    let stored = served().filter(|r| r.group == group).map(|r| r.version);
    let mut all: Vec<_> = stored.chain(REVIEWS.iter().filter(|r| r.group == group).map(|r| r.version)).collect();
    all.sort_by_key(|version| std::cmp::Reverse(rank(version)));
    all.dedup();
    all
}

/// The core group and all others, in the order in which upstream lists them.
pub(crate) fn groups() -> impl Iterator<Item = &'static str> {
    std::iter::once("").chain(GROUPS)
}

/// Compat: `apimachinery/pkg/version`: stable before beta before alpha, then by number.
fn rank(version: &str) -> (u8, u32, u32) {
    let rest = version.strip_prefix('v').unwrap_or_default();
    let number = |text: &str| text.parse().unwrap_or(0);
    if let Some((major, minor)) = rest.split_once("beta") {
        (1, number(major), number(minor))
    } else if let Some((major, minor)) = rest.split_once("alpha") {
        (0, number(major), number(minor))
    } else {
        (2, number(rest), 0)
    }
}

impl Entry {
    fn of(resource: &'static Resource) -> Self {
        Self {
            plural: resource.plural,
            singular: resource.singular,
            kind: resource.kind,
            namespaced: resource.namespaced,
            verbs: resource.verbs,
            short_names: resource.short_names,
            categories: resource.categories,
            storage_version_hash: resource.storage_version_hash(),
            subresources: subresources::of(resource).collect(),
        }
    }

    fn of_review(review: &'static Review) -> Self {
        Self {
            plural: review.plural,
            singular: review.singular,
            kind: review.kind,
            namespaced: review.namespaced,
            verbs: &["create"],
            short_names: &[],
            categories: &[],
            storage_version_hash: String::new(),
            subresources: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_and_review_is_in_exactly_one_list() {
        let listed: usize = groups()
            .flat_map(|group| versions(group).into_iter().map(move |version| entries(group, version).len()))
            .sum();
        assert_eq!(listed, served().count() + REVIEWS.len());
    }

    #[test]
    fn versions_are_ranked_as_kubernetes_ranks_them() {
        let mut versions = ["v1alpha2", "v1", "v2beta1", "v1beta2", "v2", "v1alpha10"];
        versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
        assert_eq!(versions, ["v2", "v1", "v2beta1", "v1beta2", "v1alpha10", "v1alpha2"]);
        assert_eq!(super::versions(""), ["v1"]);
    }
}
