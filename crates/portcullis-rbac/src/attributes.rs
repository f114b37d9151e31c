//! What is asked of an authorizer: who, which verb, on what.

use portcullis_kube::UserInfo;
use portcullis_kube::authorization::SubjectAccessReviewSpec;

/// One question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// `get`, `list`, `create`, … or, for a path, the HTTP method in lower case.
    pub verb: &'a str,
    /// On what.
    pub target: Target<'a>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// An object, a list of objects, or a subresource.
    Resource(ResourceTarget<'a>),
    /// A path that is no resource.
    Path(&'a str),
}

/// A resource, as precisely as the request names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceTarget<'a> {
    /// Empty: cluster-scoped, or all namespaces.
    pub namespace: &'a str,
    /// Empty: the core group.
    pub api_group: &'a str,
    /// No rule looks at it.
    pub api_version: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// For example `log`.
    pub subresource: &'a str,
    /// Empty: all.
    pub name: &'a str,
}

impl<'a> Attributes<'a> {
    /// A question about a resource.
    pub fn resource(user: &'a UserInfo, verb: &'a str, target: ResourceTarget<'a>) -> Self {
        Self { user, verb, target: Target::Resource(target) }
    }

    /// A question about a path.
    pub fn path(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Self {
        Self { user, verb, target: Target::Path(path) }
    }

    /// The question of a SubjectAccessReview about this user (whom the caller takes from the review or from the request);
    /// `None` when it asks about nothing, or about a resource and a path.
    pub fn from_review(user: &'a UserInfo, spec: &'a SubjectAccessReviewSpec) -> Option<Self> {
        match (&spec.resource_attributes, &spec.non_resource_attributes) {
            (Some(asked), None) => Some(Self::resource(
                user,
                &asked.verb,
                ResourceTarget {
                    namespace: &asked.namespace,
                    api_group: &asked.group,
                    api_version: if asked.version.is_empty() { "*" } else { &asked.version },
                    resource: &asked.resource,
                    subresource: &asked.subresource,
                    name: &asked.name,
                },
            )),
            (None, Some(asked)) => Some(Self::path(user, &asked.verb, &asked.path)),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }

    /// Namespace of the question; empty for paths and cluster-scoped resources.
    pub fn namespace(&self) -> &'a str {
        match self.target {
            Target::Resource(resource) => resource.namespace,
            Target::Path(_) => "",
        }
    }
}
