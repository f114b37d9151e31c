//! The definitions of our objects: installed when they are missing, and brought forward when an older version of this program
//! has installed them.
//!
//! Each file in `deploy/crds` has a number in an annotation, which is raised with the file. An installed definition with a lower
//! number, or without one, is replaced by compare-and-swap; one with a higher number is a newer program's and is left alone,
//! so that replicas of two versions do not take turns. Annotations, labels and members of `spec` that our file does not have (a
//! conversion, say) stay. Whatever goes wrong there is told and no reason not to start: the objects are served, and what
//! an older definition does not admit the server refuses in words.

use std::time::Duration;

use portcullis_kubeclient::{Client, ClientError, Form, Instant, ListQuery, Resource, yaml};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    error::KubernetesError,
    object::{MetadataOnly, RECORDS},
    open::CrdHandling,
    typed::SHAPES,
};

/// A definition: the file that is applied by hand.
struct Definition {
    resource: &'static Resource,
    name: &'static str,
    yaml: &'static str,
}

macro_rules! definition {
    ($resource:expr, $name:literal) => {
        Definition {
            resource: $resource,
            name: $name,
            yaml: include_str!(concat!("../../../../deploy/crds/", $name, ".yaml")),
        }
    };
}

const NEEDED: [Definition; 4] = [
    definition!(&RECORDS, "records.portcullis.dev"),
    definition!(&SHAPES[0].resource, "oauthclients.portcullis.dev"),
    definition!(&SHAPES[1].resource, "localusers.portcullis.dev"),
    definition!(&SHAPES[2].resource, "connectors.portcullis.dev"),
];
const DEFINITIONS: Resource =
    Resource { group: "apiextensions.k8s.io", version: "v1", plural: "customresourcedefinitions", namespaced: false };
/// How often it is asked whether a new definition is served.
const INTERVAL: Duration = Duration::from_millis(50);
/// The annotation with the number.
const NUMBER: &str = "portcullis.dev/definition";
/// More than any of the files has, in bytes.
const MAX_FILE: usize = 256 * 1024;
/// The definition's conditions are asked for within this.
const LAST_QUESTION: Duration = Duration::from_secs(5);

/// Returns when the objects of all definitions are served.
pub(super) async fn install_all(client: &Client, crds: CrdHandling, deadline: Instant) -> Result<(), KubernetesError> {
    // At once: each is a question to the server, and each new definition takes it a moment.
    let [records, clients, users, connectors] = NEEDED;
    let installed = tokio::join!(
        install(client, crds, &records, deadline),
        install(client, crds, &clients, deadline),
        install(client, crds, &users, deadline),
        install(client, crds, &connectors, deadline),
    );
    [installed.0, installed.1, installed.2, installed.3].into_iter().collect()
}

/// Returns when the objects are served.
async fn install(
    client: &Client,
    crds: CrdHandling,
    definition: &Definition,
    deadline: Instant,
) -> Result<(), KubernetesError> {
    let Definition { resource, name, yaml } = *definition;
    let mut installed = false;
    loop {
        let query = ListQuery { limit: 1, form: Form::Metadata, ..ListQuery::default() };
        match client.list::<MetadataOnly>(resource, &query, deadline).await {
            Ok(_) if installed => return Ok(()),
            Ok(_) => {
                bring_forward(client, crds, definition, deadline).await;
                return Ok(());
            }
            Err(ClientError::Missing { .. }) if crds == CrdHandling::Check => {
                return Err(KubernetesError::NotInstalled { name });
            }
            Err(ClientError::Missing { .. }) if !installed => {
                match client.create_yaml(&DEFINITIONS, yaml, deadline).await {
                    Ok(()) => {
                        tracing::info!(object = name, "successfully created custom resource");
                        installed = true;
                    }
                    // Another replica was faster, or it takes a moment until it is served.
                    Err(ClientError::AlreadyExists) => installed = true,
                    // Asked again, which does no harm.
                    Err(error) if error.may_have_happened() => tracing::warn!(%error, "creating the custom resource"),
                    Err(source) => return Err(KubernetesError::Install { name, source }),
                }
            }
            Err(ClientError::Missing { .. }) => {}
            Err(source) => {
                let namespace = client.namespace().to_owned();
                return Err(KubernetesError::List { name, namespace, source });
            }
        }
        if Instant::now() + INTERVAL >= deadline {
            return Err(KubernetesError::NotServed { name, conditions: conditions(client, name).await });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Compares the installed definition with ours, and replaces it when it is older and that is for us to do.
async fn bring_forward(client: &Client, crds: CrdHandling, definition: &Definition, deadline: Instant) {
    let Definition { name, yaml, .. } = *definition;
    let ours: Value = match yaml::parse(yaml, name, MAX_FILE) {
        Ok(ours) => ours,
        // Cannot happen: a test reads them all.
        Err(error) => return tracing::error!(object = name, %error, "the definition of this program cannot be read"),
    };
    let Standing::Number(known) = standing(&ours) else { return };
    loop {
        let installed: Value = match client.get(&DEFINITIONS, name, deadline).await {
            Ok(installed) => installed,
            Err(error) if crds == CrdHandling::Ensure => {
                return tracing::warn!(
                    object = name, %error,
                    "cannot tell whether this custom resource is current; grant it with deploy/rbac/install-crds.yaml, or \
                     install deploy/crds/ by hand and set crdHandling: check"
                );
            }
            // Who is not to install anything need not have that right.
            Err(error) => {
                return tracing::debug!(object = name, %error, "cannot tell whether this custom resource is current");
            }
        };
        let found = match standing(&installed) {
            Standing::Number(found) if found == known => return,
            Standing::Number(found) if found > known => {
                return tracing::info!(
                    object = name,
                    found,
                    known,
                    "a newer version has installed this custom resource; it is left as it is"
                );
            }
            Standing::Number(found) => found,
            Standing::Foreign(text) => {
                return tracing::warn!(
                    object = name,
                    "the annotation {NUMBER} of this custom resource is {text:?} and no number; it is left as it is. \
                     Remove the annotation, and it is replaced at the next start"
                );
            }
        };
        if crds != CrdHandling::Ensure {
            return tracing::warn!(
                object = name,
                found,
                known,
                "this custom resource is older than this version of the program: kubectl apply -f deploy/crds/{name}.yaml"
            );
        }
        match client.replace::<MetadataOnly>(&DEFINITIONS, name, &merged(installed, &ours), deadline).await {
            Ok(_) => {
                return tracing::info!(object = name, from = found, to = known, "brought the custom resource forward");
            }
            // Another replica was faster, or somebody has changed something else: looked at again.
            Err(ClientError::Conflict) => {}
            Err(error) if error.may_have_happened() => {
                tracing::warn!(object = name, %error, "bringing the custom resource forward");
            }
            Err(error) => {
                return tracing::warn!(
                    object = name, found, known, %error,
                    "cannot bring this custom resource forward; grant it with deploy/rbac/install-crds.yaml, or \
                     kubectl apply -f deploy/crds/{name}.yaml"
                );
            }
        }
        if Instant::now() + INTERVAL >= deadline {
            return tracing::warn!(
                object = name,
                found,
                known,
                "there was no time to bring this custom resource forward"
            );
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What the annotation of a definition says.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// Its number; 0 for what was installed before there were numbers.
    Number(u64),
    /// Something else, which this program has not written.
    Foreign(String),
}

fn standing(definition: &Value) -> Standing {
    let annotations = definition.pointer("/metadata/annotations");
    match annotations.and_then(|annotations| annotations.get(NUMBER)) {
        None => Standing::Number(0),
        Some(Value::String(text)) => text.parse().map_or_else(|_| Standing::Foreign(text.clone()), Standing::Number),
        Some(other) => Standing::Foreign(other.to_string()),
    }
}

/// The installed definition with all that ours says. Its `resourceVersion` stays, by which the server compares.
fn merged(mut installed: Value, ours: &Value) -> Value {
    for place in ["/metadata/labels", "/metadata/annotations", "/spec"] {
        let Some(Value::Object(said)) = ours.pointer(place) else { continue };
        let Some((parent, last)) = place.rsplit_once('/') else { continue };
        let Some(Value::Object(parent)) = installed.pointer_mut(parent) else { continue };
        let member = parent.entry(last).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(member) = member {
            member.extend(said.clone());
        }
    }
    installed
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Installed {
    status: InstalledStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InstalledStatus {
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    message: String,
}

/// What the API server says about the definition: `: Established=False (the words)`.
async fn conditions(client: &Client, name: &str) -> String {
    let deadline = Instant::now() + LAST_QUESTION;
    match client.get::<Installed>(&DEFINITIONS, name, deadline).await {
        Ok(found) => {
            let told: Vec<String> = found
                .status
                .conditions
                .iter()
                .take(8)
                .map(|Condition { kind, status, message }| format!("{kind}={status} ({message})"))
                .collect();
            format!(": {}", if told.is_empty() { "it has no conditions".to_owned() } else { told.join(", ") })
        }
        Err(error) => format!(": {error}"),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use serde_json::json;

    use super::*;

    /// Whoever changes a file raises its number, and writes both here; otherwise nobody would bring it forward.
    #[test]
    fn a_definition_that_changes_has_another_number() {
        let known =
            [(1, "81650585c1b4a4ba"), (1, "9d9a8f2f7e10e106"), (1, "96f559ba4e9dbb93"), (1, "c78b0e541e5f5b42")];
        for (Definition { name, yaml, .. }, (number, sum)) in NEEDED.iter().zip(known) {
            let ours: Value = yaml::parse(yaml, name, MAX_FILE).unwrap();
            let content = yaml.lines().filter(|line| !line.trim_start().starts_with('#') && !line.contains(NUMBER));
            let content = content.collect::<Vec<_>>().join("\n");
            let found: String =
                digest(&SHA256, content.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!((standing(&ours), &found[..16]), (Standing::Number(number), sum), "{name}");
            assert_eq!(ours["metadata"]["name"], *name);
        }
    }

    #[test]
    fn what_is_not_in_our_file_stays() {
        let ours = json!({
            "metadata": {"name": "x", "labels": {"a": "1"}, "annotations": {NUMBER: "2"}},
            "spec": {"names": {"kind": "X"}, "versions": ["new"]},
        });
        let installed = json!({
            "metadata": {"name": "x", "resourceVersion": "7", "uid": "u", "labels": {"a": "0", "theirs": "t"}},
            "spec": {"versions": ["old", "older"], "conversion": {"strategy": "None"}},
            "status": {"storedVersions": ["v1"]},
        });
        assert_eq!(standing(&installed), Standing::Number(0));
        let merged = merged(installed, &ours);
        assert_eq!(
            merged,
            json!({
                "metadata": {
                    "name": "x", "resourceVersion": "7", "uid": "u", "labels": {"a": "1", "theirs": "t"},
                    "annotations": {NUMBER: "2"},
                },
                "spec": {"names": {"kind": "X"}, "versions": ["new"], "conversion": {"strategy": "None"}},
                "status": {"storedVersions": ["v1"]},
            })
        );
        assert_eq!(standing(&merged), Standing::Number(2));
        for (said, expected) in [("12", Standing::Number(12)), ("-1", Standing::Foreign("-1".to_owned()))] {
            assert_eq!(standing(&json!({"metadata": {"annotations": {NUMBER: said}}})), expected);
        }
    }
}
