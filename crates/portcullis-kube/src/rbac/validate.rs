//! Which RBAC objects an API server accepts, and the texts it refuses others with.
//!
//! Compat: `pkg/apis/rbac/validation` of Kubernetes 1.37, merged with its declarative validation as the server does by
//! default (gate `DeclarativeValidationBeta`): a missing verb, subject name or role name is reported once, after everything
//! else, as `Required value` without further words.

use serde::Serialize;

use super::{ClusterRole, ClusterRoleBinding, GROUP, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use crate::field::FieldError;
use crate::meta::{LabelSelector, ObjectMeta, SelectorRequirement};
use crate::names;

/// Bytes that keys and values of all annotations of one object may have together.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Finalizers that decide what becomes of dependents.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Problems of a new role; none, for a good one.
pub fn role(role: &Role) -> Vec<FieldError> {
    let mut problems = Problems::default();
    problems.metadata(&role.metadata, true);
    for (index, rule) in role.rules.iter().enumerate() {
        problems.rule(rule, true, index);
    }
    problems.finish()
}

/// Problems of a new cluster role; none, for a good one.
pub fn cluster_role(role: &ClusterRole) -> Vec<FieldError> {
    let mut problems = Problems::default();
    problems.metadata(&role.metadata, false);
    for (index, rule) in role.rules.iter().enumerate() {
        problems.rule(rule, false, index);
    }
    if let Some(aggregation) = &role.aggregation_rule {
        if aggregation.cluster_role_selectors.is_empty() {
            problems.first.push(FieldError::required(
                "aggregationRule.clusterRoleSelectors",
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            ));
        }
        for (index, selector) in aggregation.cluster_role_selectors.iter().enumerate() {
            let path = format!("aggregationRule.clusterRoleSelectors[{index}]");
            let before = problems.first.len();
            problems.selector(selector, &path);
            // Upstream then fails to convert the selector, and prints what it did not get.
            if problems.first.len() > before {
                problems.first.push(FieldError::invalid_json(path, &(), "invalid label selector."));
            }
        }
    }
    problems.finish()
}

/// Problems of a new role binding, after defaulting; none, for a good one.
pub fn role_binding(binding: &RoleBinding) -> Vec<FieldError> {
    let mut problems = Problems::default();
    problems.metadata(&binding.metadata, true);
    problems.subjects_and_role(&binding.subjects, &binding.role_ref, true);
    problems.finish()
}

/// Problems of a new cluster role binding, after defaulting; none, for a good one.
pub fn cluster_role_binding(binding: &ClusterRoleBinding) -> Vec<FieldError> {
    let mut problems = Problems::default();
    problems.metadata(&binding.metadata, false);
    problems.subjects_and_role(&binding.subjects, &binding.role_ref, false);
    problems.finish()
}

/// A binding's role cannot be changed: the problem, when an update tries to.
pub fn role_ref_unchanged(new: &RoleRef, old: &RoleRef) -> Option<FieldError> {
    /// Upstream prints its internal type, whose members are spelled like Go fields.
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Printed<'a> {
        #[serde(rename = "APIGroup")]
        api_group: &'a str,
        kind: &'a str,
        name: &'a str,
    }
    let printed = Printed { api_group: &new.api_group, kind: &new.kind, name: &new.name };
    (new != old).then(|| FieldError::invalid_json("roleRef", &printed, "field is immutable"))
}

/// Problems of any object's metadata on creation. `name_problems` judges the name.
pub fn object_meta(meta: &ObjectMeta, namespaced: bool, name_problems: fn(&str) -> Vec<String>) -> Vec<FieldError> {
    let mut out = Vec::new();
    if !meta.generate_name.is_empty() {
        // Compat: a stem may end in a dash; upstream judges it with that dash taken for a letter.
        let stem = match meta.generate_name.strip_suffix('-') {
            Some(rest) if !rest.is_empty() => format!("{rest}a"),
            _ => meta.generate_name.clone(),
        };
        out.extend(invalid_each("metadata.generateName", &meta.generate_name, name_problems(&stem)));
    }
    if meta.name.is_empty() {
        out.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        out.extend(invalid_each("metadata.name", &meta.name, name_problems(&meta.name)));
    }
    if !namespaced {
        if !meta.namespace.is_empty() {
            out.push(FieldError::forbidden("metadata.namespace", "not allowed on this type"));
        }
    } else if meta.namespace.is_empty() {
        out.push(FieldError::required("metadata.namespace", ""));
    } else {
        out.extend(invalid_each("metadata.namespace", &meta.namespace, names::dns_label(&meta.namespace)));
    }
    for (key, value) in &meta.labels {
        out.extend(invalid_each("metadata.labels", key, names::label_key(key)));
        out.extend(invalid_each("metadata.labels", value, names::label_value(value)));
    }
    let mut annotation_bytes = 0_usize;
    for (key, value) in &meta.annotations {
        out.extend(invalid_each("metadata.annotations", key, names::label_key(&key.to_lowercase())));
        annotation_bytes = annotation_bytes.saturating_add(key.len()).saturating_add(value.len());
    }
    if annotation_bytes > ANNOTATIONS_LIMIT {
        out.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_LIMIT));
    }
    finalizers(&meta.finalizers, &mut out);
    out
}

fn finalizers(list: &[String], out: &mut Vec<FieldError>) {
    for finalizer in list {
        out.extend(invalid_each("metadata.finalizers", finalizer, names::label_key(finalizer)));
    }
    let has = |name: &str| list.iter().any(|finalizer| finalizer == name);
    if has(ORPHAN) && has(FOREGROUND) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        out.push(FieldError::invalid_json("metadata.finalizers", list, why));
    }
    for (index, finalizer) in list.iter().enumerate() {
        if !finalizer.contains('/') && ![ORPHAN, FOREGROUND, "kubernetes"].contains(&finalizer.as_str()) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            out.push(FieldError::invalid(format!("metadata.finalizers[{index}]"), finalizer, why));
        }
    }
}

fn invalid_each(field: &str, value: &str, problems: Vec<String>) -> impl Iterator<Item = FieldError> {
    problems.into_iter().map(move |why| FieldError::invalid(field, value, why))
}

/// Problems in the order in which the server prints them.
#[derive(Default)]
struct Problems {
    first: Vec<FieldError>,
    /// What declarative validation finds comes after the rest.
    last: Vec<FieldError>,
}

impl Problems {
    fn finish(mut self) -> Vec<FieldError> {
        self.first.append(&mut self.last);
        self.first
    }

    fn metadata(&mut self, meta: &ObjectMeta, namespaced: bool) {
        self.first.extend(object_meta(meta, namespaced, names::path_segment));
    }

    fn rule(&mut self, rule: &PolicyRule, namespaced: bool, index: usize) {
        let path = format!("rules[{index}]");
        if rule.verbs.is_empty() {
            self.last.push(FieldError::required(format!("{path}.verbs"), ""));
        }
        if !rule.non_resource_urls.is_empty() {
            let urls = |why| FieldError::invalid_json(format!("{path}.nonResourceURLs"), &rule.non_resource_urls, why);
            if namespaced {
                self.first.push(urls("namespaced rules cannot apply to non-resource URLs"));
            }
            if !rule.api_groups.is_empty() || !rule.resources.is_empty() || !rule.resource_names.is_empty() {
                self.first.push(urls("rules cannot apply to both regular resources and non-resource URLs"));
            }
            return;
        }
        if rule.api_groups.is_empty() {
            let why = "resource rules must supply at least one api group";
            self.first.push(FieldError::required(format!("{path}.apiGroups"), why));
        }
        if rule.resources.is_empty() {
            let why = "resource rules must supply at least one resource";
            self.first.push(FieldError::required(format!("{path}.resources"), why));
        }
    }

    fn subjects_and_role(&mut self, subjects: &[Subject], role: &RoleRef, namespaced: bool) {
        if role.api_group != GROUP {
            self.first.push(FieldError::not_supported("roleRef.apiGroup", &role.api_group, &[GROUP]));
        }
        let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        if !kinds.contains(&role.kind.as_str()) {
            self.first.push(FieldError::not_supported("roleRef.kind", &role.kind, kinds));
        }
        self.first.extend(invalid_each("roleRef.name", &role.name, names::path_segment(&role.name)));
        for (index, subject) in subjects.iter().enumerate() {
            self.subject(subject, namespaced, &format!("subjects[{index}]"));
        }
        if role.name.is_empty() {
            self.last.push(FieldError::required("roleRef.name", ""));
        }
    }

    fn subject(&mut self, subject: &Subject, namespaced: bool, path: &str) {
        if subject.name.is_empty() {
            self.last.push(FieldError::required(format!("{path}.name"), ""));
        }
        match subject.kind.as_str() {
            "ServiceAccount" => {
                if !subject.name.is_empty() {
                    let problems = names::dns_subdomain(&subject.name);
                    self.first.extend(invalid_each(&format!("{path}.name"), &subject.name, problems));
                }
                if !subject.api_group.is_empty() {
                    let error = FieldError::not_supported(format!("{path}.apiGroup"), &subject.api_group, &[""]);
                    self.first.push(error);
                }
                if !namespaced && subject.namespace.is_empty() {
                    self.first.push(FieldError::required(format!("{path}.namespace"), ""));
                }
            }
            "User" | "Group" => {
                if subject.api_group != GROUP {
                    let error = FieldError::not_supported(format!("{path}.apiGroup"), &subject.api_group, &[GROUP]);
                    self.first.push(error);
                }
            }
            other => {
                let supported = ["ServiceAccount", "User", "Group"];
                self.first.push(FieldError::not_supported(format!("{path}.kind"), other, &supported));
            }
        }
    }

    fn selector(&mut self, selector: &LabelSelector, path: &str) {
        for (key, value) in &selector.match_labels {
            let field = format!("{path}.matchLabels");
            self.first.extend(invalid_each(&field, key, names::label_key(key)));
            self.first.extend(invalid_each(&field, value, names::label_value(value)));
        }
        for (index, requirement) in selector.match_expressions.iter().enumerate() {
            label_requirement(requirement, &format!("{path}.matchExpressions[{index}]"), false, &mut self.first);
        }
    }
}

/// Problems of one condition on labels. `any_operator` lets operators pass that this version does not know.
pub(crate) fn label_requirement(
    requirement: &SelectorRequirement,
    path: &str,
    any_operator: bool,
    out: &mut Vec<FieldError>,
) {
    requirement_values(requirement, path, any_operator, out);
    let key = format!("{path}.key");
    out.extend(invalid_each(&key, &requirement.key, names::label_key(&requirement.key)));
    for (at, value) in requirement.values.iter().enumerate() {
        out.extend(invalid_each(&format!("{path}.values[{at}]"), value, names::label_value(value)));
    }
}

/// Problems of a condition's operator and of the number of its values.
pub(crate) fn requirement_values(
    requirement: &SelectorRequirement,
    path: &str,
    any_operator: bool,
    out: &mut Vec<FieldError>,
) {
    match requirement.operator.as_str() {
        "In" | "NotIn" if requirement.values.is_empty() => out.push(FieldError::required(
            format!("{path}.values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !requirement.values.is_empty() => out.push(FieldError::forbidden(
            format!("{path}.values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other if !any_operator => {
            out.push(FieldError::invalid(format!("{path}.operator"), other, "not a valid selector operator"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::AggregationRule;

    fn texts(problems: &[FieldError]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], urls: &[&str]) -> PolicyRule {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        PolicyRule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: Vec::new(),
            non_resource_urls: own(urls),
        }
    }

    #[test]
    fn rules_are_refused_with_upstreams_texts() {
        let table = [
            (rule(&["get"], &[""], &["pods"], &[]), vec![]),
            (rule(&["get"], &[], &[], &["/healthz"]), vec![]),
            (rule(&[], &[""], &["pods"], &[]), vec!["rules[0].verbs: Required value"]),
            (
                rule(&["get"], &[], &[], &[]),
                vec![
                    "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                    "rules[0].resources: Required value: resource rules must supply at least one resource",
                ],
            ),
            (
                rule(&["get"], &[""], &["pods"], &["/a", "/b"]),
                vec![
                    r#"rules[0].nonResourceURLs: Invalid value: ["/a","/b"]: rules cannot apply to both regular resources and non-resource URLs"#,
                ],
            ),
        ];
        for (rule, want) in table {
            let object =
                ClusterRole { metadata: ObjectMeta::named("r"), rules: vec![rule.clone()], ..ClusterRole::default() };
            assert_eq!(texts(&cluster_role(&object)), want, "{rule:?}");
        }
    }

    #[test]
    fn a_namespaced_role_may_not_name_urls() {
        let object = Role {
            metadata: ObjectMeta::namespaced("ns", "r"),
            rules: vec![rule(&["get"], &[], &[], &["/a"])],
            ..Role::default()
        };
        assert_eq!(
            texts(&role(&object)),
            [r#"rules[0].nonResourceURLs: Invalid value: ["/a"]: namespaced rules cannot apply to non-resource URLs"#]
        );
    }

    #[test]
    fn bindings_are_refused_with_upstreams_texts() {
        let binding = |subjects: Vec<Subject>, role_ref: RoleRef| ClusterRoleBinding {
            metadata: ObjectMeta::named("b"),
            subjects,
            role_ref,
            ..ClusterRoleBinding::default()
        };
        let admin = RoleRef::cluster_role("cluster-admin");
        let bare =
            |kind: &str, name: &str| Subject { kind: kind.to_owned(), name: name.to_owned(), ..Subject::default() };
        let table = [
            (binding(vec![], admin.clone()), vec![]),
            (binding(vec![Subject::user("x"), Subject::service_account("ns", "s")], admin.clone()), vec![]),
            (
                binding(vec![Subject::user("")], RoleRef::cluster_role("")),
                vec!["subjects[0].name: Required value", "roleRef.name: Required value"],
            ),
            (
                binding(vec![bare("ServiceAccount", "s")], RoleRef::role("r")),
                vec![
                    r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
                    "subjects[0].namespace: Required value",
                ],
            ),
            (
                binding(vec![bare("User", "u"), bare("Robot", "r")], RoleRef { api_group: "x".to_owned(), ..admin }),
                vec![
                    r#"roleRef.apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io""#,
                    r#"subjects[0].apiGroup: Unsupported value: "": supported values: "rbac.authorization.k8s.io""#,
                    r#"subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group""#,
                ],
            ),
            (
                binding(vec![], RoleRef::cluster_role("a/b")),
                vec![r#"roleRef.name: Invalid value: "a/b": may not contain '/'"#],
            ),
        ];
        for (object, want) in table {
            assert_eq!(texts(&cluster_role_binding(&object)), want, "{object:?}");
        }
    }

    #[test]
    fn a_role_binding_may_name_a_role_and_a_service_account_without_namespace() {
        let object = RoleBinding {
            metadata: ObjectMeta::namespaced("ns", "b"),
            subjects: vec![Subject { kind: "ServiceAccount".to_owned(), name: "s".to_owned(), ..Subject::default() }],
            role_ref: RoleRef::role("r"),
            ..RoleBinding::default()
        };
        assert_eq!(texts(&role_binding(&object)), Vec::<String>::new());
    }

    #[test]
    fn metadata_is_checked() {
        let mut meta = ObjectMeta::namespaced("Bad_", "a/b");
        meta.labels.insert("a/b/c".to_owned(), "-".to_owned());
        meta.annotations.insert("k".to_owned(), "x".repeat(ANNOTATIONS_LIMIT));
        meta.finalizers = ["orphan", "foregroundDeletion", "a.b/c", "mine"].map(str::to_owned).into();
        let found = texts(&object_meta(&meta, true, names::path_segment));
        let starts = [
            r#"metadata.name: Invalid value: "a/b": may not contain '/'"#,
            r#"metadata.namespace: Invalid value: "Bad_": a lowercase RFC 1123 label"#,
            r#"metadata.labels: Invalid value: "a/b/c": a valid label key must"#,
            r#"metadata.labels: Invalid value: "-": a valid label must"#,
            "metadata.annotations: Too long: may not be more than 262144 bytes",
            r#"metadata.finalizers: Invalid value: ["orphan","foregroundDeletion","a.b/c","mine"]: finalizer orphan and foregroundDeletion cannot be both set"#,
            r#"metadata.finalizers[3]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified"#,
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        for (text, start) in found.iter().zip(starts) {
            assert!(text.starts_with(start), "{text}");
        }
        assert_eq!(
            texts(&object_meta(&ObjectMeta::namespaced("ns", "x"), false, names::path_segment)),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
        assert_eq!(
            texts(&object_meta(&ObjectMeta::default(), true, names::path_segment)),
            ["metadata.name: Required value: name or generateName is required", "metadata.namespace: Required value"]
        );
    }

    #[test]
    fn the_role_of_a_binding_cannot_change() {
        let old = RoleRef::cluster_role("view");
        assert_eq!(role_ref_unchanged(&old, &old), None);
        assert_eq!(
            role_ref_unchanged(&RoleRef::cluster_role("edit"), &old).unwrap().to_string(),
            r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"edit"}: field is immutable"#
        );
    }

    #[test]
    fn an_aggregation_rule_needs_selectors_and_known_operators() {
        let with = |selectors| ClusterRole {
            metadata: ObjectMeta::named("r"),
            aggregation_rule: Some(AggregationRule { cluster_role_selectors: selectors }),
            ..ClusterRole::default()
        };
        assert_eq!(
            texts(&cluster_role(&with(vec![]))),
            [
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
            ]
        );
        let selector = LabelSelector {
            match_expressions: vec![SelectorRequirement {
                key: "k".to_owned(),
                operator: "In".to_owned(),
                values: vec![],
            }],
            ..LabelSelector::default()
        };
        assert_eq!(
            texts(&cluster_role(&with(vec![selector]))),
            [
                "aggregationRule.clusterRoleSelectors[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "aggregationRule.clusterRoleSelectors[0]: Invalid value: null: invalid label selector."
            ]
        );
    }
}
