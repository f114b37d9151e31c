//! The 403: a sentence that says who cannot do what, and the body around it.
//!
//! Compat: `responsewriters/errors.go` of apiserver v0.37. `&`, `<` and `>` become entities in the sentence, which once stood in
//! HTML; the name in front of it and the reason behind it are left as they are.

use portcullis_kube::go::quote;
use portcullis_kube::status::{GroupResource, Status};

use crate::attributes::{Attributes, Target};

/// Who cannot do what.
pub fn forbidden_sentence(attributes: &Attributes<'_>) -> String {
    let user = quote(&attributes.user.username);
    let verb = attributes.verb;
    let target = match attributes.target {
        Target::Path(path) => return entities(&format!("User {user} cannot {verb} path {}", quote(path))),
        Target::Resource(target) => target,
    };
    let resource = match target.subresource {
        "" => quote(target.resource),
        subresource => quote(&format!("{}/{subresource}", target.resource)),
    };
    let scope = match target.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {}", quote(namespace)),
    };
    let group = quote(target.api_group);
    entities(&format!("User {user} cannot {verb} resource {resource} in API group {group} {scope}"))
}

/// The body of the 403. `reason` is the authorizer's; empty when it has none.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut sentence = forbidden_sentence(attributes);
    if !reason.is_empty() {
        sentence.push_str(": ");
        sentence.push_str(reason);
    }
    match attributes.target {
        Target::Path(_) => Status::forbidden(GroupResource::new("", ""), "", &sentence),
        Target::Resource(target) => {
            Status::forbidden(GroupResource::new(target.api_group, target.resource), target.name, &sentence)
        }
    }
}

fn entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use portcullis_kube::UserInfo;

    use super::*;
    use crate::attributes::ResourceTarget;

    fn message(user: &str, verb: &str, target: ResourceTarget<'_>, reason: &str) -> String {
        let user = UserInfo::new(user, [""; 0]);
        forbidden(&Attributes::resource(&user, verb, target), reason).message
    }

    #[test]
    fn messages_are_those_of_the_real_server() {
        let pods = ResourceTarget { namespace: "ns", resource: "pods", ..ResourceTarget::default() };
        let table = [
            (
                message("u", "list", pods, ""),
                r#"pods is forbidden: User "u" cannot list resource "pods" in API group "" in the namespace "ns""#,
            ),
            (
                message("u", "get", ResourceTarget { name: "p", ..pods }, ""),
                r#"pods "p" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "ns""#,
            ),
            (
                message("u", "get", ResourceTarget { name: "p", subresource: "log", ..pods }, ""),
                r#"pods "p" is forbidden: User "u" cannot get resource "pods/log" in API group "" in the namespace "ns""#,
            ),
            (
                message(
                    "u",
                    "list",
                    ResourceTarget { namespace: "", api_group: "apps", resource: "deployments", ..pods },
                    "",
                ),
                r#"deployments.apps is forbidden: User "u" cannot list resource "deployments" in API group "apps" at the cluster scope"#,
            ),
            (
                message("u", "list", pods, r#"RBAC: role.rbac.authorization.k8s.io "x<y" not found"#),
                r#"pods is forbidden: User "u" cannot list resource "pods" in API group "" in the namespace "ns": RBAC: role.rbac.authorization.k8s.io "x<y" not found"#,
            ),
            (
                message("a&b<c>\n", "get", ResourceTarget { name: "<p>", ..pods }, ""),
                r#"pods "<p>" is forbidden: User "a&amp;b&lt;c&gt;\n" cannot get resource "pods" in API group "" in the namespace "ns""#,
            ),
        ];
        for (got, want) in table {
            assert_eq!(got, want);
        }
    }

    #[test]
    fn a_path_has_empty_details() {
        let user = UserInfo::anonymous();
        let status = forbidden(&Attributes::path(&user, "get", "/metrics"), "");
        assert_eq!(
            String::from_utf8(status.to_body()).unwrap(),
            "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"forbidden: User \\\"system:anonymous\\\" cannot get path \\\"/metrics\\\"\",\"reason\":\"Forbidden\",\"details\":{},\"code\":403}\n"
        );
    }

    #[test]
    fn details_name_group_resource_and_object() {
        let user = UserInfo::new("u", [""; 0]);
        let target =
            ResourceTarget { api_group: "apps", resource: "deployments", name: "web", ..ResourceTarget::default() };
        let details = forbidden(&Attributes::resource(&user, "get", target), "").details.unwrap();
        assert_eq!(
            (details.name.as_str(), details.group.as_str(), details.kind.as_str()),
            ("web", "apps", "deployments")
        );
    }
}
