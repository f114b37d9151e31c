//! Discovery: which groups, versions and resources a server has. The legacy lists, and the aggregated form that recent
//! kubectl asks for first.

use serde::{Deserialize, Serialize};

use crate::meta::{ListMeta, ObjectMeta};

/// Media type of the aggregated form, to be echoed in `Content-Type`, or clients take the answer for a legacy one.
pub const AGGREGATED_MEDIA_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `GET /api`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiVersions {
    /// `APIVersions`.
    pub kind: String,
    /// Versions of the core group.
    pub versions: Vec<String>,
    /// Where clients find the server.
    #[serde(rename = "serverAddressByClientCIDRs")]
    pub server_address_by_client_cidrs: Vec<ServerAddress>,
}

/// An address for clients of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerAddress {
    /// The network, for example `0.0.0.0/0`.
    #[serde(rename = "clientCIDR")]
    pub client_cidr: String,
    /// Host and port.
    pub server_address: String,
}

/// `GET /apis`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiGroupList {
    /// `APIGroupList`.
    pub kind: String,
    /// `v1`.
    pub api_version: String,
    /// Every group but the core one.
    pub groups: Vec<ApiGroup>,
}

/// `GET /apis/{group}`, and an entry of [`ApiGroupList`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiGroup {
    /// `APIGroup`; empty inside a list.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// `v1`; empty inside a list.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The group's name.
    pub name: String,
    /// Its versions, preferred first.
    pub versions: Vec<GroupVersion>,
    /// The preferred one.
    pub preferred_version: GroupVersion,
}

/// A version of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupVersion {
    /// `group/version`.
    pub group_version: String,
    /// `version`.
    pub version: String,
}

/// `GET /api/v1`, `GET /apis/{group}/{version}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiResourceList {
    /// `APIResourceList`.
    pub kind: String,
    /// `v1`; absent for the core group, as upstream prints it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// `v1` or `group/version`.
    pub group_version: String,
    /// Resources and, as `pods/log`, subresources.
    pub resources: Vec<ApiResource>,
}

/// A resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiResource {
    /// Plural name.
    pub name: String,
    /// Singular name; empty for subresources.
    pub singular_name: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Group of the kind, when another than the list's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Version of the kind, when another than the list's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Kind of the objects.
    pub kind: String,
    /// Verbs.
    pub verbs: Vec<String>,
    /// For example `po`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<String>,
    /// For example `all`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Opaque.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub storage_version_hash: String,
}

/// The aggregated form of `GET /api` and `GET /apis`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiGroupDiscoveryList {
    /// `APIGroupDiscoveryList`.
    pub kind: String,
    /// `apidiscovery.k8s.io/v2`.
    pub api_version: String,
    /// Empty.
    pub metadata: ListMeta,
    /// Groups.
    pub items: Vec<ApiGroupDiscovery>,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiGroupDiscovery {
    /// Its name is the group's.
    pub metadata: ObjectMeta,
    /// Versions, preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<ApiVersionDiscovery>,
}

/// A version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiVersionDiscovery {
    /// For example `v1`.
    pub version: String,
    /// Its resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ApiResourceDiscovery>,
    /// `Current` or `Stale`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub freshness: String,
}

/// A resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiResourceDiscovery {
    /// Plural name.
    pub resource: String,
    /// What it returns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_kind: Option<GroupVersionKind>,
    /// `Cluster` or `Namespaced`.
    pub scope: String,
    /// Singular name.
    pub singular_resource: String,
    /// Verbs.
    pub verbs: Vec<String>,
    /// For example `po`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<String>,
    /// For example `all`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Subresources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subresources: Vec<ApiSubresourceDiscovery>,
}

/// A subresource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiSubresourceDiscovery {
    /// For example `log`.
    pub subresource: String,
    /// What it returns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_kind: Option<GroupVersionKind>,
    /// What it takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted_types: Vec<GroupVersionKind>,
    /// Verbs.
    pub verbs: Vec<String>,
}

/// A kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    pub group: String,
    /// For example `v1`.
    pub version: String,
    /// For example `Pod`.
    pub kind: String,
}

/// `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VersionInfo {
    /// For example `1`.
    pub major: String,
    /// For example `37`.
    pub minor: String,
    /// Version whose behaviour is emulated.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub emulation_major: String,
    /// Version whose behaviour is emulated.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub emulation_minor: String,
    /// Oldest compatible version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub min_compatibility_major: String,
    /// Oldest compatible version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub min_compatibility_minor: String,
    /// For example `v1.37.2`; a server that is not Kubernetes adds build metadata, `v1.37.0+portcullis`.
    pub git_version: String,
    /// Hash of the source.
    pub git_commit: String,
    /// `clean` or `dirty`.
    pub git_tree_state: String,
    /// RFC 3339.
    pub build_date: String,
    /// The compiler's version.
    pub go_version: String,
    /// The compiler.
    pub compiler: String,
    /// `os/architecture`.
    pub platform: String,
}

impl VersionInfo {
    /// The body of `GET /version`: indented by two spaces, without a newline at the end, as the real server prints this one
    /// document for people.
    pub fn to_body(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_legacy_list_prints_as_the_server_does() {
        let list = ApiResourceList {
            kind: "APIResourceList".to_owned(),
            group_version: "v1".to_owned(),
            resources: vec![ApiResource {
                name: "pods".to_owned(),
                singular_name: "pod".to_owned(),
                namespaced: true,
                kind: "Pod".to_owned(),
                verbs: vec!["get".to_owned()],
                short_names: vec!["po".to_owned()],
                ..ApiResource::default()
            }],
            ..ApiResourceList::default()
        };
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get"],"shortNames":["po"]}]}"#
        );
    }

    #[test]
    fn the_version_is_printed_for_people() {
        let info = VersionInfo { major: "1".to_owned(), git_version: "v1.37.0+x".to_owned(), ..VersionInfo::default() };
        let text = String::from_utf8(info.to_body()).unwrap();
        assert!(
            text.starts_with("{\n  \"major\": \"1\",\n  \"minor\": \"\",\n  \"gitVersion\": \"v1.37.0+x\",\n"),
            "{text}"
        );
        assert!(text.ends_with("\"platform\": \"\"\n}"), "{text}");
    }

    #[test]
    fn the_aggregated_list_prints_as_the_server_does() {
        let list = ApiGroupDiscoveryList {
            kind: "APIGroupDiscoveryList".to_owned(),
            api_version: "apidiscovery.k8s.io/v2".to_owned(),
            metadata: ListMeta::default(),
            items: vec![ApiGroupDiscovery {
                metadata: ObjectMeta::default(),
                versions: vec![ApiVersionDiscovery {
                    version: "v1".to_owned(),
                    freshness: "Current".to_owned(),
                    ..ApiVersionDiscovery::default()
                }],
            }],
        };
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[{"metadata":{},"versions":[{"version":"v1","freshness":"Current"}]}]}"#
        );
    }
}
