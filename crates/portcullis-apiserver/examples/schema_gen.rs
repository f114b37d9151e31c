//! Makes `src/schema/types.txt` from the Go sources of the pinned Kubernetes modules.
//!
//! `cargo run -p portcullis-apiserver --example schema_gen -- "$(go env GOMODCACHE)/k8s.io" v0.37.2 OUTPUT`
//!
//! It reads struct declarations and their `json`, `protobuf`, `patchStrategy` and `patchMergeKey` tags (names, numbers,
//! kinds and how lists are merged: facts of the wire format) and writes one table per type that can be reached from the
//! kinds served. It never copies comments or code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The packages read: short name, module, path inside it.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("apiextensions", "apiextensions-apiserver", "pkg/apis/apiextensions/v1/types.go"),
    ("apiextensions", "apiextensions-apiserver", "pkg/apis/apiextensions/v1/types_jsonschema.go"),
    ("apps", "api", "apps/v1/types.go"),
    ("audit", "apiserver", "pkg/apis/audit/v1/types.go"),
    ("authn", "api", "authentication/v1/types.go"),
    ("authz", "api", "authorization/v1/types.go"),
    ("autoscaling", "api", "autoscaling/v1/types.go"),
    ("autoscalingv2", "api", "autoscaling/v2/types.go"),
    ("batch", "api", "batch/v1/types.go"),
    ("certificates", "api", "certificates/v1/types.go"),
    ("coordination", "api", "coordination/v1/types.go"),
    ("core", "api", "core/v1/types.go"),
    ("discovery", "api", "discovery/v1/types.go"),
    ("events", "api", "events/v1/types.go"),
    ("meta", "apimachinery", "pkg/apis/meta/v1/types.go"),
    ("networking", "api", "networking/v1/types.go"),
    ("networkingbeta", "api", "networking/v1beta1/types.go"),
    ("policy", "api", "policy/v1/types.go"),
    ("rbac", "api", "rbac/v1/types.go"),
    ("scheduling", "api", "scheduling/v1/types.go"),
    ("schedulingalpha", "api", "scheduling/v1alpha3/types.go"),
    ("storage", "api", "storage/v1/types.go"),
];

/// The kinds that the server serves or reads.
const ROOTS: &[&str] = &[
    "apiextensions.CustomResourceDefinition",
    "apps.ControllerRevision",
    "apps.DaemonSet",
    "apps.Deployment",
    "apps.ReplicaSet",
    "apps.StatefulSet",
    "audit.Policy",
    "authn.SelfSubjectReview",
    "authn.TokenRequest",
    "authn.TokenReview",
    "authz.LocalSubjectAccessReview",
    "authz.SelfSubjectAccessReview",
    "authz.SelfSubjectRulesReview",
    "authz.SubjectAccessReview",
    "autoscaling.HorizontalPodAutoscaler",
    "autoscaling.HorizontalPodAutoscalerCondition",
    "autoscaling.MetricSpec",
    "autoscaling.MetricStatus",
    "autoscaling.Scale",
    "autoscalingv2.HorizontalPodAutoscaler",
    "batch.CronJob",
    "batch.Job",
    "certificates.CertificateSigningRequest",
    "coordination.Lease",
    "core.Binding",
    "core.ConfigMap",
    "core.Endpoints",
    "core.Event",
    "core.LimitRange",
    "core.Namespace",
    "core.Node",
    "core.PersistentVolume",
    "core.PersistentVolumeClaim",
    "core.Pod",
    "core.PodTemplate",
    "core.ReplicationController",
    "core.ResourceQuota",
    "core.Secret",
    "core.Service",
    "core.ServiceAccount",
    "discovery.EndpointSlice",
    "events.Event",
    "meta.DeleteOptions",
    "meta.PartialObjectMetadata",
    "meta.Status",
    "networking.Ingress",
    "networking.IngressClass",
    "networking.NetworkPolicy",
    "networkingbeta.Ingress",
    "policy.Eviction",
    "policy.PodDisruptionBudget",
    "rbac.ClusterRole",
    "rbac.ClusterRoleBinding",
    "rbac.Role",
    "rbac.RoleBinding",
    "scheduling.PriorityClass",
    "storage.StorageClass",
];

#[derive(Default)]
struct Declarations {
    structs: BTreeMap<String, Vec<Field>>,
    /// Named scalars, slices and maps: the Go type text behind the name.
    aliases: BTreeMap<String, String>,
}

struct Field {
    json: String,
    /// The name in Go.
    go: String,
    number: Option<u32>,
    flags: String,
    go_type: String,
    package: &'static str,
    /// How a strategic merge patch treats the field, such as `merge,retainKeys`; empty when the tag is absent.
    patch_strategy: String,
    /// The member that tells the elements of a merged list apart; empty when the tag is absent.
    patch_merge_key: String,
}

impl Field {
    /// The number, and the name in Go where it does not follow from that in JSON.
    fn number_and_name(&self) -> String {
        let number = self.number.unwrap_or(0);
        let mut letters = self.json.chars();
        let follows: String =
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect();
        if number == 0 || follows == self.go { number.to_string() } else { format!("{number}={}", self.go) }
    }

    /// The optional end of a line: nothing, a strategy, or a strategy (`-` for none) and a merge key.
    fn patch_words(&self) -> String {
        match (self.patch_strategy.as_str(), self.patch_merge_key.as_str()) {
            ("", "") => String::new(),
            (strategy, "") => format!(" {strategy}"),
            ("", key) => format!(" - {key}"),
            (strategy, key) => format!(" {strategy} {key}"),
        }
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [cache, version, output] = args.as_slice() else { bail!("usage: schema_gen K8S_IO_DIR VERSION OUTPUT") };
    let mut declarations = Declarations::default();
    for (package, module, file) in PACKAGES {
        let path = PathBuf::from(cache).join(format!("{module}@{version}")).join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        read_package(package, &text, &mut declarations);
    }
    let mut queue: Vec<String> = ROOTS.iter().map(|root| (*root).to_owned()).collect();
    let mut seen = BTreeSet::new();
    let mut tables = BTreeMap::new();
    while let Some(name) = queue.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let fields = declarations.structs.get(&name).with_context(|| format!("no struct {name}"))?;
        let mut lines = String::new();
        for field in fields {
            let kind = resolve(&field.go_type, field.package, &declarations, &mut queue)
                .with_context(|| format!("{name}.{}", field.json))?;
            let number = field.number_and_name();
            let flags = if field.flags.is_empty() { "-" } else { &field.flags };
            lines.push_str(&format!("{} {number} {flags} {kind}{}\n", field.json, field.patch_words()));
        }
        tables.insert(name, lines);
    }
    let mut text = format!(
        "# Generated by examples/schema_gen.rs from k8s.io/api and k8s.io/apimachinery {version}. Do not edit.\n\
         # A type: `T name`; its fields: json-name protobuf-number[=go-name] flags type [patch-strategy [patch-merge-key]].\n\
         # Flags: e omitempty, z omitzero, p pointer, i inlined in JSON, - none. Types: s (s=NAME when it has a name) i32 i64 b f y (bytes), []T, {{}}T.\n"
    );
    for (name, lines) in tables {
        text.push_str(&format!("T {name}\n{lines}"));
    }
    fs::write(output, text).with_context(|| output.clone())
}

fn read_package(package: &'static str, text: &str, out: &mut Declarations) {
    let mut current: Option<(String, Vec<Field>)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("type ") {
            let mut words = rest.split_whitespace();
            let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
            if kind == "struct" {
                current = Some((format!("{package}.{name}"), Vec::new()));
            } else if kind == "struct{}" {
                out.structs.insert(format!("{package}.{name}"), Vec::new());
            } else if kind != "interface" {
                out.aliases.insert(format!("{package}.{name}"), kind.to_owned());
            }
        } else if line == "}" {
            if let Some((name, fields)) = current.take() {
                out.structs.insert(name, fields);
            }
        } else if let (Some((_, fields)), true) = (current.as_mut(), line.contains("json:\"")) {
            fields.extend(read_field(package, line));
        }
    }
}

fn read_field(package: &'static str, line: &str) -> Option<Field> {
    let line = line.trim();
    if line.starts_with("//") {
        return None;
    }
    let (head, tags) = line.split_once('`')?;
    let json = tag(tags, "json")?;
    let protobuf = tag(tags, "protobuf").unwrap_or_default();
    let mut words = head.split_whitespace();
    let first = words.next()?;
    let go_type = words.next().unwrap_or(first);
    let mut parts = json.split(',');
    let name = parts.next().unwrap_or_default();
    let mut flags = String::new();
    for part in parts {
        match part {
            "omitempty" => flags.push('e'),
            "omitzero" => flags.push('z'),
            _ => {}
        }
    }
    let go_type = match go_type.strip_prefix('*') {
        Some(inner) => {
            flags.push('p');
            inner
        }
        None => go_type,
    };
    let inline = name.is_empty();
    if inline {
        flags.push('i');
    }
    if name == "-" || (inline && go_type.ends_with("TypeMeta")) {
        return None;
    }
    let (json, go) = if inline {
        let go = go_type.rsplit('.').next()?;
        (go.to_owned(), go.to_owned())
    } else {
        (name.to_owned(), first.rsplit('.').next()?.to_owned())
    };
    let number = protobuf.split(',').nth(1).and_then(|number| number.parse().ok());
    let patch = |key| tag(tags, key).unwrap_or_default().to_owned();
    let (patch_strategy, patch_merge_key) = (patch("patchStrategy"), patch("patchMergeKey"));
    Some(Field { json, go, number, flags, go_type: go_type.to_owned(), package, patch_strategy, patch_merge_key })
}

fn tag<'a>(tags: &'a str, key: &str) -> Option<&'a str> {
    let start = tags.find(&format!("{key}:\""))? + key.len() + 2;
    tags.get(start..)?.split('"').next()
}

fn resolve(go: &str, package: &str, all: &Declarations, queue: &mut Vec<String>) -> Result<String> {
    if go == "[]byte" {
        return Ok("y".to_owned());
    }
    if let Some(inner) = go.strip_prefix("[]") {
        return Ok(format!("[]{}", resolve(inner, package, all, queue)?));
    }
    if let Some(inner) = go.strip_prefix("map[") {
        let (_, value) = inner.split_once(']').context("map")?;
        return Ok(format!("{{}}{}", resolve(value, package, all, queue)?));
    }
    Ok(match go {
        "string" => "s".to_owned(),
        "types.UID" | "types.NodeName" => format!("s={go}"),
        "int32" => "i32".to_owned(),
        "int64" => "i64".to_owned(),
        "bool" => "b".to_owned(),
        "float64" => "f".to_owned(),
        "metav1.Time" | "Time" => "Time".to_owned(),
        "metav1.MicroTime" | "MicroTime" => "MicroTime".to_owned(),
        "resource.Quantity" => "Quantity".to_owned(),
        "intstr.IntOrString" => "IntOrString".to_owned(),
        "runtime.RawExtension" => "Raw".to_owned(),
        // Unions that write themselves.
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => {
            "Raw".to_owned()
        }
        "metav1.FieldsV1" | "FieldsV1" => "Fields".to_owned(),
        "ExtraValue" | "AttestationValue" => "ExtraValue".to_owned(),
        _ => {
            let go = go.trim_start_matches('*');
            let name = match go.split_once('.') {
                Some(("metav1", name)) => format!("meta.{name}"),
                Some(("v1" | "corev1" | "apiv1", name)) => format!("core.{name}"),
                Some(("schedulingv1alpha3", name)) => format!("schedulingalpha.{name}"),
                Some((other, name)) => bail!("unknown package {other} for {name}"),
                None => format!("{package}.{go}"),
            };
            if all.structs.contains_key(&name) {
                queue.push(name.clone());
                name
            } else if let Some(alias) = all.aliases.get(&name) {
                let version = match name.split('.').next() {
                    Some("schedulingalpha") => "v1alpha3",
                    Some("autoscalingv2") => "v2",
                    Some("networkingbeta") => "v1beta1",
                    _ => "v1",
                };
                match resolve(alias, package, all, queue)?.as_str() {
                    "s" => format!("s={version}.{}", name.rsplit('.').next().unwrap_or_default()),
                    other => other.to_owned(),
                }
            } else {
                bail!("unknown type {name}")
            }
        }
    })
}
