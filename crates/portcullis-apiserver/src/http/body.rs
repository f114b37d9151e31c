//! Request bodies: JSON, YAML or protobuf, checked against the kind that the path wants.
//!
//! Flow: media type → tree (bounded) → kind and version → shape → unknown and duplicate fields by `fieldValidation`.
//!
//! Compat: messages follow `endpoints/handlers/create.go` and the scheme's codecs.

use portcullis_kube::Status;
use portcullis_kube::go::quote;
use serde_json::{Map, Value};

use super::params::FieldValidation;
use super::{Call, Outcome};
use crate::json::{self, JsonError, MAX_VALUES, Node};
use crate::resources;
use crate::schema::normalise::normalise;
use crate::schema::{SCHEMA, TypeId, protobuf};

/// Largest body, in bytes: upstream's `MaxRequestBodyBytes`.
pub(crate) const MAX_BYTES: usize = 3 * 1024 * 1024;
/// Bytes of a body that an error message shows.
const SHOWN: usize = 30;
/// What upstream reads kind and version into.
pub(super) const TYPE_META: &str =
    r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];

/// Versions that are served no more and that the real server still reads.
const OLD_VERSIONS: [(&str, &[&str]); 7] = [
    ("extensions/v1beta1", &["DaemonSet", "Deployment", "Ingress", "NetworkPolicy", "ReplicaSet"]),
    ("apps/v1beta1", &["ControllerRevision", "Deployment", "StatefulSet"]),
    ("apps/v1beta2", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch/v1beta1", &["CronJob"]),
    ("networking.k8s.io/v1beta1", &["Ingress", "IngressClass"]),
    ("policy/v1beta1", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io/v1beta1", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
];

/// Compat: a path that takes an older version of its kind too.
const EVICTION: &str = "Eviction";
const STATUS: &str = "Status";

/// The kind that a path takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) schema: TypeId,
}

/// An object in its kind's shape.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) members: Map<String, Value>,
    /// For `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// Reads the body of a write.
pub(crate) fn decode(call: &Call, expected: Expected, validation: FieldValidation) -> Outcome<Decoded> {
    let decoded = match call.media_type().as_deref() {
        Some(PROTOBUF) => Decoded { members: from_protobuf(&call.body, expected)?, warnings: Vec::new() },
        _ => shape(call, tree(call, expected)?, expected, validation)?,
    };
    call.note(&decoded.warnings);
    check_values(&decoded.members)?;
    call.audit.request_object(expected, &decoded.members);
    Ok(decoded)
}

/// What a body becomes is bounded as well: a container of no bytes gets ten values before it is judged.
pub(crate) fn check_values(members: &Map<String, Value>) -> Outcome<()> {
    if members.values().map(json::values).sum::<usize>() > MAX_VALUES {
        let why = format!("the object with its defaults has more than {MAX_VALUES} values");
        return Err(Box::new(Status::too_large(&why)));
    }
    Ok(())
}

/// Reads options that stand in a body. What they do not know is ignored.
///
/// Compat: their kind may stand in any group and version, and errors are told as they are.
pub(crate) fn decode_options(call: &Call, kind: &'static str, schema: &str) -> Outcome<Map<String, Value>> {
    let schema = SCHEMA.find(schema).ok_or_else(|| Box::new(Status::internal_error("no schema")))?;
    let expected = Expected { group: "", version: "v1", kind, schema };
    let bare = |status: Box<Status>| match status.message.split_once("): ") {
        Some((before, why)) if before.starts_with("the object provided is unrecognized") => {
            let why = why.rsplit_once(" (").map_or(why, |(why, _)| why);
            Box::new(Status::bad_request(why))
        }
        _ => status,
    };
    let tree = if call.media_type().as_deref() == Some(PROTOBUF) {
        let envelope = protobuf::envelope(&call.body).map_err(|why| Box::new(Status::bad_request(why.to_string())))?;
        check_options_kind(&envelope.kind, parsed_version(&envelope.api_version), kind)?;
        let members = protobuf::message(schema, envelope.raw);
        Value::Object(members.map_err(|why| Box::new(Status::bad_request(why.to_string())))?).into()
    } else {
        let tree = tree(call, expected).map_err(bare)?;
        let (sent, api_version) = type_meta(&tree).map_err(|why| Box::new(Status::bad_request(why)))?;
        check_options_kind(&sent, &api_version, kind)?;
        tree
    };
    let members = normalise(schema, tree).map_err(|why| Box::new(Status::bad_request(why)))?.value;
    call.audit.request_object(expected, &members);
    Ok(members)
}

fn check_options_kind(sent: &str, api_version: &str, kind: &str) -> Outcome<()> {
    let why = if api_version.matches('/').count() > 1 {
        format!("unexpected GroupVersion string: {api_version}")
    } else if sent.is_empty() || sent == kind {
        return Ok(());
    } else {
        let version = quote(if api_version.is_empty() { "meta.k8s.io/v1" } else { api_version });
        format!("no kind {} is registered for version {version} in scheme \"pkg/runtime/scheme.go:111\"", quote(sent))
    };
    Err(Box::new(Status::bad_request(why)))
}

fn shape(call: &Call, tree: Node, expected: Expected, validation: FieldValidation) -> Outcome<Decoded> {
    let (kind, api_version) = type_meta(&tree).map_err(|why| unusable(expected, &why))?;
    if let Some(problem) = kind_problem(&kind, &api_version, expected) {
        let wrong = |why: &str| misplaced(&kind, &api_version, expected, why);
        // Compat: it is decoded as what it says it is before it is found not to be of the right kind.
        let shaped = schema_of(&kind, &api_version, expected).map(|schema| normalise(schema, tree));
        let found = shaped.transpose().map_err(|why| wrong(&why))?.map(|shaped| shaped.found).unwrap_or_default();
        // Compat: and what a strict reader finds is told before its version is looked at.
        if matches!(problem, KindProblem::Old(_)) && !found.is_empty() {
            match validation {
                FieldValidation::Ignore => {}
                FieldValidation::Warn => call.note(&found),
                FieldValidation::Strict => return Err(wrong(&strict(&found))),
            }
        }
        return Err(refused_kind(problem, &kind, &api_version, expected));
    }
    let shaped = normalise(expected.schema, tree).map_err(|why| unusable(expected, &why))?;
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn | FieldValidation::Strict => shaped.found,
    };
    if validation == FieldValidation::Strict && !warnings.is_empty() {
        return Err(unusable(expected, &strict(&warnings)));
    }
    Ok(Decoded { members: shaped.value, warnings })
}

/// The message that names all of it.
pub(super) fn strict(found: &[String]) -> String {
    format!("strict decoding error: {}", found.join(", "))
}

fn tree(call: &Call, expected: Expected) -> Outcome<Node> {
    match call.media_type().as_deref() {
        Some("" | "application/json") => parse_json(&call.body, expected),
        Some("application/yaml") => parse_yaml(&call.body, expected),
        _ => Err(Box::new(Status::unsupported_media_type(&MEDIA_TYPES))),
    }
}

fn parse_json(body: &[u8], expected: Expected) -> Outcome<Node> {
    let tree = json::parse(body).map_err(|error| match error {
        JsonError::TooManyValues => Box::new(Status::too_large(&error.to_string())),
        JsonError::Syntax(why) => {
            unrecognized(expected, &format!("couldn't get version/kind; json parse error: {why}"), body)
        }
    })?;
    let (kind, api_version) = type_meta(&tree).map_err(|why| unrecognized(expected, &why, body))?;
    let group = api_version.strip_suffix('/').unwrap_or_default();
    if !group.is_empty() && group != expected.group {
        let kind = if kind.is_empty() { expected.kind } else { &kind };
        let why = format!("Object 'apiVersion' is missing in '{}'", String::from_utf8_lossy(body));
        let message = format!("{kind} in version \"\" cannot be handled as a {}: {why}", expected.kind);
        return Err(Box::new(Status::bad_request(message)));
    }
    Ok(tree)
}

/// Kind and version of a document, empty when it names none.
///
/// Compat: `runtime/serializer/json/meta.go` reads them first, and takes names in any case.
pub(crate) fn type_meta(tree: &Node) -> Result<(String, String), String> {
    let wrong = |found: &Node, place: &str| {
        format!("couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go {place}", found.kind())
    };
    let members = match tree {
        Node::Object(members) => members.as_slice(),
        Node::Null => &[],
        other => return Err(wrong(other, &format!("value of type {TYPE_META}"))),
    };
    let (mut kind, mut api_version, mut problem) = (String::new(), String::new(), None);
    for (name, node) in members {
        let (field, place) = if is_folded(name, "kind") {
            ("kind", &mut kind)
        } else if is_folded(name, "apiversion") {
            ("apiVersion", &mut api_version)
        } else {
            continue;
        };
        match node {
            Node::String(text) => text.clone_into(place),
            Node::Null => {}
            other => problem = problem.or_else(|| Some(wrong(other, &format!("struct field .{field} of type string")))),
        }
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    if api_version.matches('/').count() > 1 {
        return Err(format!("unexpected GroupVersion string: {api_version}"));
    }
    Ok((kind, api_version))
}

/// Whether a name is that one, which is in lower case. Compat: how Go compares names in any case.
fn is_folded(name: &str, wanted: &str) -> bool {
    let fold = |c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).eq(wanted.chars())
}

fn parse_yaml(body: &[u8], expected: Expected) -> Outcome<Node> {
    let wrong = |why: &str| unrecognized(expected, &format!("yaml: {why}"), body);
    let text = std::str::from_utf8(body).map_err(|_| wrong("invalid UTF-8"))?;
    let value: Value =
        portcullis_kube::yaml::parse(text, "body", MAX_BYTES).map_err(|error| wrong(&error.to_string()))?;
    let tree = Node::from(value);
    type_meta(&tree).map_err(|why| unrecognized(expected, &why, body))?;
    Ok(tree)
}

/// Compat: what is no envelope is not recognized; what is wrong in a message is told as of its kind.
fn from_protobuf(body: &[u8], expected: Expected) -> Outcome<Map<String, Value>> {
    let envelope = protobuf::envelope(body).map_err(|why| unrecognized(expected, &why.to_string(), body))?;
    let (kind, api_version) = (envelope.kind.as_str(), parsed_version(&envelope.api_version));
    let wrong = |why: &str| misplaced(kind, api_version, expected, why);
    let read = |schema| {
        let members = protobuf::message(schema, envelope.raw).map_err(|why| wrong(&why.to_string()))?;
        normalise(schema, Value::Object(members)).map_err(|why| wrong(&why))
    };
    let Some(problem) = kind_problem(kind, api_version, expected) else { return Ok(read(expected.schema)?.value) };
    // Compat: it is decoded as what it says it is before it is found not to be of the right kind.
    if let Some(schema) = schema_of(kind, api_version, expected) {
        read(schema)?;
    }
    Err(refused_kind(problem, kind, api_version, expected))
}

/// A version as protobuf's envelope tells it. Compat: one that is none counts as not told, and so does a group alone.
fn parsed_version(api_version: &str) -> &str {
    match api_version.split_once('/') {
        Some((_, version)) if version.is_empty() || version.contains('/') => "",
        Some(("", version)) => version,
        _ => api_version,
    }
}

fn refused_kind(problem: KindProblem, kind: &str, api_version: &str, expected: Expected) -> Box<Status> {
    match problem {
        KindProblem::Old(why) => Box::new(Status::bad_request(why)),
        KindProblem::Other(why) => misplaced(kind, api_version, expected, &why),
    }
}

fn misplaced(kind: &str, api_version: &str, expected: Expected, why: &str) -> Box<Status> {
    let kind = if kind.is_empty() { expected.kind } else { kind };
    let version = api_version.rsplit('/').next().filter(|version| !version.is_empty());
    let version = quote(version.unwrap_or(expected.version));
    Box::new(Status::bad_request(format!(
        "{kind} in version {version} cannot be handled as a {}: {why}",
        expected.kind
    )))
}

/// The type of a document that says to be of that kind and version.
pub(super) fn schema_of(kind: &str, api_version: &str, expected: Expected) -> Option<TypeId> {
    let own = resources::api_version(expected.group, expected.version);
    let kind = if kind.is_empty() { expected.kind } else { kind };
    let api_version = if api_version.is_empty() { own.as_str() } else { api_version };
    if kind == expected.kind && is_old(kind, api_version) {
        // The others look as they do now.
        return if kind == "Ingress" { SCHEMA.find("networkingbeta.Ingress") } else { Some(expected.schema) };
    }
    // Compat: its kind is known in every version.
    if kind == STATUS {
        return SCHEMA.find("meta.Status");
    }
    let stored = resources::find_kind(api_version, kind);
    let review = || {
        let is_it =
            |r: &&resources::Review| r.kind == kind && resources::api_version(r.group, r.version) == api_version;
        SCHEMA.find(resources::REVIEWS.iter().find(is_it)?.schema)
    };
    let options = || {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let known = kind == "DeleteOptions" && resources::serves(group, version);
        known.then(|| SCHEMA.find("meta.DeleteOptions")).flatten()
    };
    stored.and_then(resources::Resource::schema).or_else(review).or_else(options)
}

fn is_old(kind: &str, api_version: &str) -> bool {
    OLD_VERSIONS.iter().any(|(old, kinds)| *old == api_version && kinds.contains(&kind))
}

/// Why a document is not of the kind that a path takes.
pub(super) enum KindProblem {
    /// It is, in a version that the real server still reads but not there.
    Old(String),
    Other(String),
}

/// What is wrong with a document's kind and version; empty ones are those of the path.
pub(super) fn kind_problem(kind: &str, api_version: &str, expected: Expected) -> Option<KindProblem> {
    let right_version = resources::api_version(expected.group, expected.version);
    if (kind, api_version, expected.kind) == (EVICTION, "policy/v1beta1", EVICTION) {
        return None;
    }
    // Compat: `schema.ParseGroupVersion`: a slash alone says nothing, and a group without a version is that of the path.
    let api_version = api_version.strip_prefix('/').unwrap_or(api_version);
    let own_group = api_version.strip_suffix('/').is_some_and(|group| group == expected.group);
    let api_version = if own_group { "" } else { api_version };
    if (kind.is_empty() || kind == expected.kind) && (api_version.is_empty() || api_version == right_version) {
        return None;
    }
    let kind = if kind.is_empty() { expected.kind } else { kind };
    let api_version = if api_version.is_empty() { &right_version } else { api_version };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let twin = resources::find_kind(api_version, kind).map(resources::Resource::id);
    let is_twin =
        twin.is_some() && twin == resources::find_kind(&right_version, expected.kind).map(resources::Resource::id);
    if kind == expected.kind && (is_twin || is_old(kind, api_version)) {
        return Some(KindProblem::Old(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({right_version})"
        )));
    }
    let everywhere =
        ["Status", "ListOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "DeleteOptions", "WatchEvent"];
    let registered = (resources::serves(group, version) && everywhere.contains(&kind))
        || (group, version, kind) == ("", "v1", "List")
        || resources::served()
            .any(|r| r.group == group && r.version == version && kind.strip_suffix("List") == Some(r.kind))
        || resources::served().any(|r| r.group == group && r.version == version && r.kind == kind)
        || resources::REVIEWS.iter().any(|r| r.group == group && r.version == version && r.kind == kind)
        || (group, version, kind) == resources::SCALE_KIND;
    let package = if everywhere.contains(&kind) { "v1" } else { version };
    Some(KindProblem::Other(if registered {
        format!(
            "converting ({package}.{kind}) to ({}.{}): unknown conversion",
            internal_package(expected.group),
            expected.kind
        )
    } else {
        format!(
            "no kind {} is registered for version {} in scheme \"pkg/runtime/scheme.go:111\"",
            quote(kind),
            quote(api_version)
        )
    }))
}

/// Upstream's Go package of a group's types.
pub(crate) fn internal_package(group: &str) -> &str {
    if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) }
}

fn unusable(expected: Expected, why: &str) -> Box<Status> {
    let (kind, version) = (expected.kind, quote(expected.version));
    Box::new(Status::bad_request(format!("{kind} in version {version} cannot be handled as a {kind}: {why}")))
}

fn unrecognized(expected: Expected, why: &str, body: &[u8]) -> Box<Status> {
    let kind = expected.kind;
    let message = format!("the object provided is unrecognized (must be of type {kind}): {why} ({})", summary(body));
    Box::new(Status::bad_request(message))
}

/// The beginning of a body: as text when it looks like JSON, else in hexadecimal.
fn summary(body: &[u8]) -> String {
    let shown = body.get(..body.len().min(SHOWN)).unwrap_or_default();
    let more = if body.len() > SHOWN { " ..." } else { "" };
    match shown.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + more,
    }
}

impl Expected {
    /// The kind that a request's path takes.
    pub(crate) fn at(resource: &'static resources::Resource, part: Option<&resources::Subresource>) -> Outcome<Self> {
        match part.and_then(resources::Subresource::own_kind) {
            None => Self::of(resource),
            Some((group, version, kind)) => {
                let missing = || Box::new(Status::internal_error("the kind has no schema"));
                let schema = part.and_then(resources::Subresource::schema).ok_or_else(missing)?;
                Ok(Self { group, version, kind, schema })
            }
        }
    }

    /// The kind of a resource.
    pub(crate) fn of(resource: &'static resources::Resource) -> Outcome<Self> {
        let schema = resource.schema().ok_or_else(|| Box::new(Status::internal_error("the kind has no schema")))?;
        Ok(Self { group: resource.group, version: resource.version, kind: resource.kind, schema })
    }

    /// The kind of a review.
    pub(crate) fn of_review(review: &'static resources::Review) -> Outcome<Self> {
        let schema =
            SCHEMA.find(review.schema).ok_or_else(|| Box::new(Status::internal_error("the kind has no schema")))?;
        Ok(Self { group: review.group, version: review.version, kind: review.kind, schema })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, validation: FieldValidation) -> Result<Decoded, String> {
        let expected = Expected::of(resources::namespaces()).unwrap();
        decode(&Call::test("POST /api/v1/namespaces", body.to_owned()), expected, validation)
            .map_err(|status| status.message)
    }

    /// Bodies and the messages that kube-apiserver 1.37.2 gave for them.
    #[test]
    fn bad_bodies_read_as_the_real_server_words_them() {
        let target =
            r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
        for (body, want) in [
            ("", "the object provided is unrecognized (must be of type Namespace): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)".to_owned()),
            ("{", "the object provided is unrecognized (must be of type Namespace): couldn't get version/kind; json parse error: unexpected end of JSON input ({)".to_owned()),
            ("[]", format!("the object provided is unrecognized (must be of type Namespace): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type {target} (5b5d)")),
            (
                r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"q"}} trailing"#,
                r#"the object provided is unrecognized (must be of type Namespace): couldn't get version/kind; json parse error: invalid character 't' after top-level value ({"kind":"Namespace","apiVersio ...)"#.to_owned(),
            ),
            (r#"{"kind":"Pod","apiVersion":"v1"}"#, r#"Pod in version "v1" cannot be handled as a Namespace: converting (v1.Pod) to (core.Namespace): unknown conversion"#.to_owned()),
            (r#"{"kind":"Namespace","apiVersion":"v2"}"#, r#"Namespace in version "v2" cannot be handled as a Namespace: no kind "Namespace" is registered for version "v2" in scheme "pkg/runtime/scheme.go:111""#.to_owned()),
            (r#"{"metadata":{"name":5}}"#, r#"Namespace in version "v1" cannot be handled as a Namespace: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string"#.to_owned()),
        ] {
            assert_eq!(read(body, FieldValidation::Warn).err(), Some(want));
        }
        assert!(read("null", FieldValidation::Warn).is_ok());
    }

    #[test]
    fn field_validation_decides_what_unknown_fields_do() {
        let body =
            r#"{"metadata":{"generateName":"gen-","name2":"x"},"foo":1,"spec":{"finalizers":[],"finalizers":[]}}"#;
        assert_eq!(
            read(body, FieldValidation::Strict).err().unwrap(),
            r#"Namespace in version "v1" cannot be handled as a Namespace: strict decoding error: unknown field "metadata.name2", unknown field "foo", duplicate field "spec.finalizers""#
        );
        assert_eq!(read(body, FieldValidation::Warn).unwrap().warnings.len(), 3);
        assert!(read(body, FieldValidation::Ignore).unwrap().warnings.is_empty());
    }

    #[test]
    fn another_version_of_the_kind_is_read_as_that_before_it_is_refused() {
        let newer = Expected::of(resources::find_kind("events.k8s.io/v1", "Event").unwrap()).unwrap();
        let body = r#"{"kind":"Event","apiVersion":"v1","regarding":{}}"#;
        let refused = |validation| {
            let call = Call::test("POST /apis/events.k8s.io/v1/namespaces/n/events", body.to_owned());
            let message = decode(&call, newer, validation).err().unwrap().message;
            let warnings = call.warnings.lock().unwrap().clone();
            (message, warnings)
        };
        let why = "the API version in the data (v1) does not match the expected API version (events.k8s.io/v1)";
        assert_eq!(refused(FieldValidation::Ignore), (why.to_owned(), Vec::new()));
        let unknown = r#"unknown field "regarding""#;
        assert_eq!(refused(FieldValidation::Warn), (why.to_owned(), vec![unknown.to_owned()]));
        assert!(refused(FieldValidation::Strict).0.ends_with(&format!("strict decoding error: {unknown}")));
    }

    #[test]
    fn an_old_ingress_has_fields_of_its_own() {
        let ingress = Expected::of(resources::find_kind("networking.k8s.io/v1", "Ingress").unwrap()).unwrap();
        let body = r#"{"kind":"Ingress","apiVersion":"extensions/v1beta1","spec":{"backend":{"serviceName":"s"},"defaultBackend":{}}}"#;
        let call = Call::test("POST /apis/networking.k8s.io/v1/namespaces/n/ingresses", body.to_owned());
        assert_eq!(decode(&call, ingress, FieldValidation::Warn).err().unwrap().code, 400);
        assert_eq!(*call.warnings.lock().unwrap(), [r#"unknown field "spec.defaultBackend""#]);
    }

    #[test]
    fn what_calls_itself_a_status_is_read_as_one_first() {
        let refused = |body: &str| read(body, FieldValidation::Warn).err().unwrap();
        assert_eq!(
            refused(r#"{"kind":"Status","apiVersion":"v1","status":{}}"#),
            r#"Status in version "v1" cannot be handled as a Namespace: json: cannot unmarshal object into Go struct field Status.status of type string"#
        );
        assert_eq!(
            refused(r#"{"kind":"Status","apiVersion":"v1"}"#),
            r#"Status in version "v1" cannot be handled as a Namespace: converting (v1.Status) to (core.Namespace): unknown conversion"#
        );
    }

    #[test]
    fn yaml_is_read_and_other_types_are_not() {
        let expected = Expected::of(resources::namespaces()).unwrap();
        let send = |kind: &str, body: &str| {
            let call = Call::test("POST /api/v1/namespaces", body.to_owned()).with("content-type", kind);
            decode(&call, expected, FieldValidation::Warn).map_err(|status| status.code)
        };
        let yaml = send("application/yaml", "kind: Namespace\napiVersion: v1\nmetadata: {name: n}\n").unwrap();
        assert_eq!(yaml.members["metadata"]["name"], "n");
        assert_eq!(send("application/yaml", "a: [").err(), Some(400));
        assert_eq!(send("application/yaml", "- a").err(), Some(400));
        assert_eq!(send("text/foo", "{}").err(), Some(415));
        assert_eq!(send("application/vnd.kubernetes.protobuf", "{}").err(), Some(400));
        assert!(send("application/json; charset=utf-8", "{}").is_ok());
        let bomb = format!("a: &a [{}]\nb: [{}]", "x,".repeat(1_000), "*a,".repeat(100_000));
        assert_eq!(send("application/yaml", &bomb).err(), Some(400));
    }
}
