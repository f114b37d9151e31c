//! The audit policy: which requests are written down, and how much of them.
//!
//! A file is read strictly first; what strict reading alone refuses (unknown and duplicate fields) becomes a warning, as
//! upstream has it. The first rule that fits a request decides; a request that fits none is not written down.
//!
//! Compat: `audit/policy/{reader,checker}.go` and `apis/audit/validation` of apiserver v0.37.

use std::path::Path;

use portcullis_kube::field::{FieldError, aggregate};
use portcullis_kube::go::quote;
use portcullis_kube::{UserInfo, names, yaml};
use portcullis_rbac::{Attributes, Target};
use serde::Deserialize;
use serde_json::Value;

use super::event::{Level, Stage};
use crate::http::body::type_meta;
use crate::json::{self, Node};
use crate::schema::SCHEMA;
use crate::schema::normalise::normalise;

/// Largest policy file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
const API_VERSION: &str = "audit.k8s.io/v1";
const KIND: &str = "Policy";
const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];
const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

/// Which requests are written to the audit log, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPolicy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
    warnings: Vec<String>,
}

/// Why there is no policy; the text is kube-apiserver's.
#[derive(Debug, thiserror::Error)]
#[error("loading audit policy file: {0}")]
pub struct AuditPolicyError(String);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    level: Level,
    raw: RawRule,
    omit_stages: Vec<Stage>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default, deserialize_with = "or_default")]
    rules: Vec<RawRule>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawRule {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// What a policy says of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evaluated {
    pub(crate) level: Level,
    pub(crate) omit_stages: Vec<Stage>,
    pub(crate) omit_managed_fields: bool,
}

impl AuditPolicy {
    /// Reads a policy from a file.
    ///
    /// # Errors
    /// [`AuditPolicyError`], with the file's name.
    pub fn load(path: &Path) -> Result<Self, AuditPolicyError> {
        let shown = path.display();
        let unreadable = |why: &dyn std::fmt::Display| {
            AuditPolicyError(format!("failed to read file path {}: {why}", quote(&shown.to_string())))
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(|error| unreadable(&go_open_error(path, &error)))?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE + 1), &mut bytes)
            .map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(unreadable(&format!("it is larger than {MAX_FILE} bytes")));
        }
        Self::parse(&bytes).map_err(|why| AuditPolicyError(format!("{why}: from file {shown}")))
    }

    /// Reads a policy from its text, YAML or JSON.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let failed = |why: String| format!("failed decoding: {why}");
        let tree = tree(bytes).map_err(|why| failed(format!("couldn't get version/kind; {why}")))?;
        let (kind, api_version) = type_meta(&tree).map_err(failed)?;
        check_kind(&kind, &api_version)?;
        let schema = SCHEMA.find("audit.Policy").ok_or_else(|| failed("no schema".to_owned()))?;
        let shaped = normalise(schema, tree).map_err(|why| failed(named_types(why)))?;
        let strict = shaped.found;
        let raw: Raw =
            serde_json::from_value(Value::Object(shaped.value)).map_err(|error| failed(error.to_string()))?;
        let wrong = validate(&raw);
        if !wrong.is_empty() {
            let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            return Err(aggregate(&texts));
        }
        if raw.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        let warnings = if strict.is_empty() {
            Vec::new()
        } else {
            vec![format!(
                "Audit policy contains errors, falling back to lenient decoding: strict decoding error: {}",
                strict.join(", ")
            )]
        };
        Ok(Self::of(raw, warnings))
    }

    fn of(raw: Raw, warnings: Vec<String>) -> Self {
        let global = stages(&raw.omit_stages);
        let rules = raw.rules.into_iter().map(|rule| Rule {
            level: Level::parse(&rule.level).unwrap_or(Level::None),
            omit_stages: global.iter().copied().chain(stages(&rule.omit_stages)).collect(),
            raw: rule,
        });
        Self { rules: rules.collect(), omit_stages: global, omit_managed_fields: raw.omit_managed_fields, warnings }
    }

    /// What is odd about the file and does no harm.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is written down of a request; `attributes` have no user when nobody could be authenticated.
    pub(crate) fn evaluate(&self, user: Option<&UserInfo>, attributes: &Attributes<'_>) -> Evaluated {
        match self.rules.iter().find(|rule| rule.raw.matches(user, attributes)) {
            Some(rule) => Evaluated {
                level: rule.level,
                omit_stages: rule.omit_stages.clone(),
                omit_managed_fields: rule.raw.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            },
            None => Evaluated {
                level: Level::None,
                omit_stages: self.omit_stages.clone(),
                omit_managed_fields: self.omit_managed_fields,
            },
        }
    }
}

fn go_open_error(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("open {}: no such file or directory", path.display()),
        std::io::ErrorKind::PermissionDenied => format!("open {}: permission denied", path.display()),
        _ => error.to_string(),
    }
}

fn tree(bytes: &[u8]) -> Result<Node, String> {
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return json::parse(bytes).map_err(|error| format!("json parse error: {error}"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let limit = usize::try_from(MAX_FILE).unwrap_or(usize::MAX);
    match yaml::parse::<Value>(text, "policy", limit) {
        Ok(value) => Ok(value.into()),
        Err(error) => Err(format!("yaml: {error}")),
    }
}

/// Compat: the scheme knows this one kind in this one version. A kind that is missing is the one that is wanted; a version
/// is not.
fn check_kind(kind: &str, api_version: &str) -> Result<(), String> {
    if api_version.is_empty() {
        return Err("unknown group version field audit.k8s.io/__internal, Kind=Policy in policy".to_owned());
    }
    if matches!(kind, "" | KIND) && api_version == API_VERSION {
        return Ok(());
    }
    let kind = if kind.is_empty() { KIND } else { kind };
    let scheme = "in scheme \"pkg/runtime/scheme.go:111\"";
    Err(format!("failed decoding: no kind {} is registered for version {} {scheme}", quote(kind), quote(api_version)))
}

/// Compat: Go names the types of these strings.
fn named_types(why: String) -> String {
    for (field, name) in [("level", "v1.Level"), ("omitStages", "v1.Stage")] {
        for list in ["", "[]"] {
            if let Some(start) = why.strip_suffix(&format!("{field} of type {list}string")) {
                return format!("{start}{field} of type {list}{name}");
            }
        }
    }
    why
}

fn stages(names: &[String]) -> Vec<Stage> {
    names.iter().filter_map(|name| Stage::parse(name)).collect()
}

fn validate(policy: &Raw) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    validate_stages(&policy.omit_stages, "omitStages", &mut wrong);
    for (index, rule) in policy.rules.iter().enumerate() {
        validate_rule(rule, &format!("rules[{index}]"), &mut wrong);
    }
    wrong
}

fn validate_rule(rule: &RawRule, path: &str, wrong: &mut Vec<FieldError>) {
    match rule.level.as_str() {
        "" => wrong.push(FieldError::required(format!("{path}.level"), "")),
        level if LEVELS.contains(&level) => {}
        level => wrong.push(FieldError::not_supported(format!("{path}.level"), level, &LEVELS)),
    }
    for (index, url) in rule.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
        let field = format!("{path}.nonResourceURLs[{index}]");
        if !url.starts_with('/') {
            let why = "non-resource URL rules must begin with a '/' character";
            wrong.push(FieldError::invalid(&field, url, why));
        }
        let mut before_last = url.chars();
        before_last.next_back();
        if before_last.as_str().contains('*') {
            let why = "non-resource URL wildcards '*' must be the final character of the rule";
            wrong.push(FieldError::invalid(&field, url, why));
        }
    }
    for resources in &rule.resources {
        if !resources.group.is_empty() && resources.group != "*" {
            let messages = names::dns_subdomain(&resources.group);
            if !messages.is_empty() {
                wrong.push(FieldError::invalid(
                    format!("{path}.resources.group"),
                    &resources.group,
                    messages.join(","),
                ));
            }
        }
        if !resources.resource_names.is_empty() && resources.resources.is_empty() {
            let why = "using resourceNames requires at least one resource";
            wrong.push(FieldError::invalid_json(
                format!("{path}.resources.resourceNames"),
                &resources.resource_names,
                why,
            ));
        }
    }
    validate_stages(&rule.omit_stages, &format!("{path}.omitStages"), wrong);
    if !rule.non_resource_urls.is_empty() && (!rule.resources.is_empty() || !rule.namespaces.is_empty()) {
        let why = "rules cannot apply to both regular resources and non-resource URLs";
        wrong.push(FieldError::invalid_json(format!("{path}.nonResourceURLs"), &rule.non_resource_urls, why));
    }
}

fn validate_stages(stages: &[String], path: &str, wrong: &mut Vec<FieldError>) {
    for (index, stage) in stages.iter().enumerate().filter(|(_, stage)| !STAGES.contains(&stage.as_str())) {
        let why = format!("allowed stages are {}", STAGES.join(","));
        wrong.push(FieldError::invalid(format!("{path}[{index}]"), stage, why));
    }
}

impl RawRule {
    fn matches(&self, user: Option<&UserInfo>, attributes: &Attributes<'_>) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|entry| entry == value);
        if !self.users.is_empty() && !user.is_some_and(|user| has(&self.users, &user.username)) {
            return false;
        }
        let in_group = |user: &UserInfo| user.groups.iter().any(|group| has(&self.user_groups, group));
        if !self.user_groups.is_empty() && !user.is_some_and(in_group) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, attributes.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let Target::Resource(target) = attributes.target else { return false };
            // Cluster-scoped resources stand under the empty namespace.
            return (self.namespaces.is_empty() || has(&self.namespaces, target.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|resources| resources.matches(&target)));
        }
        if !self.non_resource_urls.is_empty() {
            let Target::Path(path) = attributes.target else { return false };
            return self.non_resource_urls.iter().any(|spec| path_matches(path, spec));
        }
        true
    }
}

impl GroupResources {
    fn matches(&self, target: &portcullis_rbac::ResourceTarget<'_>) -> bool {
        if self.group != target.api_group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.iter().any(|name| name == target.name) {
            return false;
        }
        self.resources.iter().any(|resource| {
            let rest = resource.strip_prefix(target.resource);
            let exact = match target.subresource {
                "" => rest == Some(""),
                part => rest.and_then(|rest| rest.strip_prefix('/')) == Some(part),
            };
            exact
                || resource == "*"
                || resource.strip_prefix("*/").is_some_and(|part| !part.is_empty() && part == target.subresource)
                || resource.strip_suffix("/*").is_some_and(|resource| resource == target.resource)
        })
    }
}

fn path_matches(path: &str, spec: &str) -> bool {
    spec == "*" || spec == path || (spec.ends_with('*') && path.starts_with(spec.trim_end_matches('*')))
}
