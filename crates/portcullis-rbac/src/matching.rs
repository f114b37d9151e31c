//! When a rule allows a request.
//!
//! Compat: `pkg/apis/rbac/v1/evaluation_helpers.go` of Kubernetes 1.37. Comparison is exact; `pods/*` is no wildcard, and
//! `pods` does not include `pods/log`.

use portcullis_kube::rbac::PolicyRule;

use crate::attributes::{Attributes, Target};

/// Whether the rule alone allows the request. Namespaces are the business of bindings.
pub fn rule_allows(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    if !any(&rule.verbs, attributes.verb) {
        return false;
    }
    match attributes.target {
        Target::Path(path) => rule.non_resource_urls.iter().any(|pattern| url_matches(pattern, path)),
        Target::Resource(target) => {
            any(&rule.api_groups, target.api_group)
                && rule.resources.iter().any(|r| resource_matches(r, target.resource, target.subresource))
                && (rule.resource_names.is_empty() || rule.resource_names.iter().any(|name| name == target.name))
        }
    }
}

/// Whether a pattern of `nonResourceURLs` covers a path: all, equal, or a prefix before trailing stars.
pub(crate) fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if subresource.is_empty() {
        return pattern == resource;
    }
    let exact = pattern.strip_prefix(resource).and_then(|rest| rest.strip_prefix('/'));
    exact == Some(subresource) || pattern.strip_prefix("*/") == Some(subresource)
}

#[cfg(test)]
mod tests {
    use portcullis_kube::UserInfo;

    use super::*;
    use crate::attributes::ResourceTarget;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str], urls: &[&str]) -> PolicyRule {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        PolicyRule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            non_resource_urls: own(urls),
        }
    }

    #[test]
    fn resource_rules_match_as_upstream_does() {
        let user = UserInfo::default();
        let all = rule(&["*"], &["*"], &["*"], &[], &[]);
        let pods = rule(&["get"], &[""], &["pods"], &[], &[]);
        let log = rule(&["get"], &[""], &["pods/log"], &[], &[]);
        let scale = rule(&["get"], &["*"], &["*/scale"], &[], &[]);
        let fake = rule(&["get"], &[""], &["pods/*"], &[], &[]);
        let named = rule(&["get", "list"], &[""], &["pods"], &["a", ""], &[]);
        // (rule, verb, group, resource, subresource, name, allowed)
        let table = [
            (&all, "escalate", "x.y", "anything", "sub", "n", true),
            (&all, "", "", "", "", "", true),
            (&pods, "get", "", "pods", "", "n", true),
            (&pods, "list", "", "pods", "", "", false),
            (&pods, "GET", "", "pods", "", "", false),
            (&pods, "get", "apps", "pods", "", "n", false),
            (&pods, "get", "", "pods", "log", "n", false),
            (&pods, "get", "", "Pods", "", "n", false),
            (&log, "get", "", "pods", "log", "n", true),
            (&log, "get", "", "pods", "", "n", false),
            (&log, "get", "", "pods", "logs", "n", false),
            (&scale, "get", "apps", "deployments", "scale", "n", true),
            (&scale, "get", "apps", "scale", "", "n", false),
            (&scale, "get", "apps", "deployments", "status", "n", false),
            (&fake, "get", "", "pods", "log", "n", false),
            (&fake, "get", "", "pods", "*", "n", true),
            (&log, "get", "", "pods/log", "", "n", true),
            (&named, "get", "", "pods", "", "a", true),
            (&named, "get", "", "pods", "", "b", false),
            (&named, "list", "", "pods", "", "", true),
        ];
        for (rule, verb, api_group, resource, subresource, name, allowed) in table {
            let target = ResourceTarget { api_group, resource, subresource, name, ..ResourceTarget::default() };
            let asked = Attributes::resource(&user, verb, target);
            assert_eq!(rule_allows(rule, &asked), allowed, "{rule:?} {asked:?}");
        }
    }

    #[test]
    fn names_refuse_requests_without_a_name() {
        let user = UserInfo::default();
        let named = rule(&["list", "create"], &[""], &["pods"], &["a"], &[]);
        for verb in ["list", "create"] {
            let target = ResourceTarget { resource: "pods", ..ResourceTarget::default() };
            assert!(!rule_allows(&named, &Attributes::resource(&user, verb, target)));
        }
    }

    #[test]
    fn url_rules_match_as_upstream_does() {
        let user = UserInfo::default();
        let table = [
            ("*", "/anything", true),
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/", false),
            ("/healthz", "/healthz/etcd", false),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("/healthz/*", "/healthz/", true),
            ("/heal*", "/healthz", true),
            ("/api**", "/apis", true),
            ("/*/x", "/a/x", false),
            ("", "", true),
        ];
        for (pattern, path, allowed) in table {
            let rule = rule(&["get"], &[], &[], &[], &[pattern]);
            assert_eq!(rule_allows(&rule, &Attributes::path(&user, "get", path)), allowed, "{pattern} {path}");
            assert!(!rule_allows(&rule, &Attributes::path(&user, "post", path)));
        }
    }

    #[test]
    fn urls_and_resources_do_not_mix() {
        let user = UserInfo::default();
        let urls = rule(&["*"], &[], &[], &[], &["*"]);
        let resources = rule(&["*"], &["*"], &["*"], &[], &[]);
        let target = ResourceTarget { resource: "pods", ..ResourceTarget::default() };
        assert!(!rule_allows(&urls, &Attributes::resource(&user, "get", target)));
        assert!(!rule_allows(&resources, &Attributes::path(&user, "get", "/healthz")));
    }
}
