//! Tables of what makes pods: deployments and their kin, jobs, scales.

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Column, NAME, age, created, flag, list, name, number, pairs, shown, since, string, wide};
use crate::resources::at;
use crate::resources::check::labels;

const CONTAINERS: Column = wide("Containers", "The containers of its pods.");
const IMAGES: Column = wide("Images", "What these containers run.");
const SELECTOR: Column = wide("Selector", "Which pods are its own.");
const TEMPLATE: &[&str] = &["spec", "template", "spec"];

const fn count(name: &'static str, description: &'static str) -> Column {
    Column { kind: "integer", ..shown(name, description) }
}

pub(super) const DEPLOYMENT: &[Column] = &[
    NAME,
    shown("Ready", "Pods that are ready, of those wanted."),
    shown("Up-to-date", "Pods of the current template."),
    shown("Available", "Pods that have been ready for long enough."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const POD_TEMPLATE: &[Column] = &[
    NAME,
    Column { priority: 0, ..CONTAINERS },
    Column { priority: 0, ..IMAGES },
    shown("Pod Labels", "The labels of its pods."),
];
pub(super) const REPLICA_SET: &[Column] = &[
    NAME,
    count("Desired", "Pods that are wanted."),
    count("Current", "Pods that are there."),
    count("Ready", "Pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const DAEMON_SET: &[Column] = &[
    NAME,
    count("Desired", "Nodes that should run it."),
    count("Current", "Nodes that run it and should."),
    count("Ready", "Nodes on which its pod is ready."),
    count("Up-to-date", "Nodes with a pod of the current template."),
    count("Available", "Nodes on which its pod has been ready for long enough."),
    shown("Node Selector", "Which nodes should run it."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const STATEFUL_SET: &[Column] =
    &[NAME, shown("Ready", "Pods that are ready, of those wanted."), AGE, CONTAINERS, IMAGES];
pub(super) const JOB: &[Column] = &[
    NAME,
    shown("Status", "How far it is, in one word."),
    shown("Completions", "Pods that have succeeded, of those that must."),
    shown("Duration", "How long it ran, or has been running."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const CRON_JOB: &[Column] = &[
    NAME,
    shown("Schedule", "When it starts jobs, as in a crontab."),
    shown("Timezone", "The time zone of the schedule."),
    Column { kind: "boolean", ..shown("Suspend", "Whether it starts none for now.") },
    count("Active", "Its jobs that run."),
    shown("Last Schedule", "How long ago it started one."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const REVISION: &[Column] = &[
    NAME,
    shown("Controller", "Whose state it keeps."),
    shown("Revision", "Its number; later states have higher ones."),
    AGE,
];
pub(super) const SCALE: &[Column] = &[
    Column { format: "", ..NAME },
    count("Desired", "Pods that are wanted."),
    count("Available", "Pods that are there."),
    AGE,
];

/// Names and images of the containers below `path`.
fn containers(tree: &Map<String, Value>, path: &[&str]) -> [Value; 2] {
    let path: Vec<&str> = path.iter().copied().chain(["containers"]).collect();
    ["name", "image"].map(|what| {
        let all: Vec<&str> =
            list(tree, &path).iter().map(|item| item.get(what).and_then(Value::as_str).unwrap_or_default()).collect();
        Value::from(all.join(","))
    })
}

fn selector(tree: &Map<String, Value>, path: &[&str]) -> Value {
    Value::from(labels::format(at(tree, path).unwrap_or(&Value::Null)))
}

fn of(tree: &Map<String, Value>, part: &str, whole: &str) -> Value {
    let count = |path: &[&str]| at(tree, path).and_then(Value::as_i64).unwrap_or(0);
    Value::from(format!("{}/{}", count(&["status", part]), count(&["spec", whole])))
}

pub(super) fn deployment(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(tree, TEMPLATE);
    let status = |name: &str| number(tree, &["status", name]);
    // Compat: an empty selector shows as nothing here and as `<none>` elsewhere.
    let selector = match labels::format(at(tree, &["spec", "selector"]).unwrap_or(&Value::Null)) {
        text if text == "<none>" => String::new(),
        text => text,
    };
    vec![
        name(tree),
        of(tree, "readyReplicas", "replicas"),
        status("updatedReplicas"),
        status("availableReplicas"),
        created(tree, now),
        names,
        images,
        Value::from(selector),
    ]
}

pub(super) fn replication_controller(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let mut cells = replica_set(tree, now);
    cells.pop();
    cells.push(written(tree, &["spec", "selector"]));
    cells
}

pub(super) fn pod_template(tree: &Map<String, Value>, _: Timestamp) -> Vec<Value> {
    let [names, images] = containers(tree, &["template", "spec"]);
    vec![name(tree), names, images, written(tree, &["template", "metadata", "labels"])]
}

/// A map of labels.
fn written(tree: &Map<String, Value>, path: &[&str]) -> Value {
    let map = at(tree, path).cloned().unwrap_or_default();
    Value::from(labels::format(&serde_json::json!({"matchLabels": map})))
}

pub(super) fn replica_set(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(tree, TEMPLATE);
    vec![
        name(tree),
        number(tree, &["spec", "replicas"]),
        number(tree, &["status", "replicas"]),
        number(tree, &["status", "readyReplicas"]),
        created(tree, now),
        names,
        images,
        selector(tree, &["spec", "selector"]),
    ]
}

pub(super) fn daemon_set(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(tree, TEMPLATE);
    let status = |name: &str| number(tree, &["status", name]);
    vec![
        name(tree),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        Value::from(pairs(tree, &["spec", "template", "spec", "nodeSelector"])),
        created(tree, now),
        names,
        images,
        selector(tree, &["spec", "selector"]),
    ]
}

pub(super) fn stateful_set(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(tree, TEMPLATE);
    vec![name(tree), of(tree, "readyReplicas", "replicas"), created(tree, now), names, images]
}

pub(super) fn job(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(tree, TEMPLATE);
    let count = |path: &[&str]| at(tree, path).and_then(Value::as_i64);
    let succeeded = count(&["status", "succeeded"]).unwrap_or(0);
    let completions = match (count(&["spec", "completions"]), count(&["spec", "parallelism"]).unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |name: &str| Timestamp::parse_rfc3339(string(tree, &["status", name]));
    let duration = time("startTime").map_or_else(String::new, |start| {
        let end = time("completionTime").unwrap_or(now);
        age::human(end.unix_nanos().saturating_sub(start.unix_nanos()))
    });
    vec![
        name(tree),
        Value::from(job_status(tree)),
        Value::from(completions),
        Value::from(duration),
        created(tree, now),
        names,
        images,
        selector(tree, &["spec", "selector"]),
    ]
}

fn job_status(tree: &Map<String, Value>) -> &'static str {
    let has = |kind: &str| {
        let is = |condition: &&Value| condition.get("type").and_then(Value::as_str) == Some(kind);
        let found = list(tree, &["status", "conditions"]).iter().find(is);
        found.and_then(|condition| condition.get("status")).and_then(Value::as_str) == Some("True")
    };
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if !string(tree, &["metadata", "deletionTimestamp"]).is_empty() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

pub(super) fn cron_job(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(tree, &["spec", "jobTemplate", "spec", "template", "spec"]);
    let or_none = |text: &str| if text.is_empty() { "<none>".to_owned() } else { text.to_owned() };
    let last = string(tree, &["status", "lastScheduleTime"]);
    let suspend = match at(tree, &["spec", "suspend"]) {
        None => "<unset>",
        Some(_) if flag(tree, &["spec", "suspend"]) => "True",
        Some(_) => "False",
    };
    vec![
        name(tree),
        Value::from(string(tree, &["spec", "schedule"])),
        Value::from(or_none(string(tree, &["spec", "timeZone"]))),
        Value::from(suspend),
        Value::from(list(tree, &["status", "active"]).len()),
        Value::from(if last.is_empty() { or_none("") } else { since(last, now) }),
        created(tree, now),
        names,
        images,
        selector(tree, &["spec", "jobTemplate", "spec", "selector"]),
    ]
}

pub(super) fn controller_revision(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let controls = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
    let owner = list(tree, &["metadata", "ownerReferences"]).iter().find(controls);
    let controller = owner.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let text = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
            let kind = match text("apiVersion").split_once('/') {
                Some((group, _)) => format!("{}.{group}", text("kind")),
                None => text("kind").to_owned(),
            };
            format!("{}/{}", kind.to_lowercase(), text("name"))
        },
    );
    vec![name(tree), Value::from(controller), number(tree, &["revision"]), created(tree, now)]
}

pub(super) fn scale(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    vec![name(tree), number(tree, &["spec", "replicas"]), number(tree, &["status", "replicas"]), created(tree, now)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(60);

    fn tree(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_job_shows_one_word_and_how_long_it_took() {
        let cells = |conditions: Value, completions: Value| {
            job(
                &tree(json!({"metadata": {"name": "j"}, "spec": {"completions": completions, "parallelism": 3},
                    "status": {"conditions": conditions, "succeeded": 1, "startTime": "1970-01-01T00:00:10Z"}})),
                NOW,
            )
        };
        assert_eq!(cells(json!([]), Value::Null)[1..4], [json!("Running"), json!("1/1 of 3"), json!("50s")]);
        let failed = json!([{"type": "Complete", "status": "False"}, {"type": "Failed", "status": "True"}]);
        assert_eq!(cells(failed, json!(2))[1..3], [json!("Failed"), json!("1/2")]);
    }

    #[test]
    fn a_revision_names_its_controller() {
        let owners = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p"}, {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "controller": true}]);
        let cells = controller_revision(
            &tree(json!({"metadata": {"name": "r", "ownerReferences": owners}, "revision": 4})),
            NOW,
        );
        assert_eq!(cells[1..3], [json!("statefulset.apps/s"), json!(4)]);
    }

    #[test]
    fn a_cron_job_says_what_is_not_set() {
        let cells = cron_job(&tree(json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *"}})), NOW);
        assert_eq!(cells[2..6], [json!("<none>"), json!("<unset>"), json!(0), json!("<none>")]);
    }
}
