//! The table of pods: readiness, the one word that sums up the state, restarts.
//!
//! Compat: `printPod` of `pkg/printers/internalversion`, whose rules (init containers, sidecars, `Completed` with a
//! running container, unreachable nodes) users know from their clusters.

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Column, NAME, created, list, name, shown, since, string, wide};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    shown("Ready", "Containers that are ready, of all."),
    shown("Status", "The state of the pod and its containers in one word."),
    shown("Restarts", "How often containers were restarted, and when last."),
    AGE,
    wide("IP", "The pod's address."),
    wide("Node", "The node that runs the pod."),
    wide("Nominated Node", "The node that is being cleared for the pod."),
    wide("Readiness Gates", "Readiness gates that hold, of all."),
];

pub(super) fn cells(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let mut summary = Summary::of(tree);
    if summary.init(tree) {
        summary.containers(tree);
    }
    if !string(tree, &["metadata", "deletionTimestamp"]).is_empty() {
        if string(tree, &["status", "reason"]) == "NodeLost" {
            "Unknown".clone_into(&mut summary.reason);
        } else if !matches!(string(tree, &["status", "phase"]), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut summary.reason);
        }
    }
    let restarts = match (summary.restarts.count, &summary.restarts.last) {
        (0, _) | (_, None) => summary.restarts.count.to_string(),
        (count, Some(last)) => format!("{count} ({} ago)", since(&last.rfc3339(), now)),
    };
    let or_none = |text: &str| if text.is_empty() { "<none>".to_owned() } else { text.to_owned() };
    let ip = list(tree, &["status", "podIPs"]).first().and_then(|ip| ip.get("ip")).and_then(Value::as_str);
    vec![
        name(tree),
        Value::from(format!("{}/{}", summary.ready, summary.total)),
        Value::from(summary.reason),
        Value::from(restarts),
        created(tree, now),
        Value::from(or_none(ip.unwrap_or_default())),
        Value::from(or_none(string(tree, &["spec", "nodeName"]))),
        Value::from(or_none(string(tree, &["status", "nominatedNodeName"]))),
        Value::from(readiness_gates(tree)),
    ]
}

#[derive(Default, Clone)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        let restarts = container.get("restartCount").and_then(Value::as_i64).unwrap_or(0);
        self.count = self.count.saturating_add(restarts);
        let ended = container.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str);
        self.last = self.last.max(ended.and_then(Timestamp::parse_rfc3339));
    }
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
    sidecar_restarts: Restarts,
}

impl Summary {
    fn of(tree: &Map<String, Value>) -> Self {
        let sidecars = list(tree, &["spec", "initContainers"]).iter().filter(|container| restarts_always(container));
        let gated = list(tree, &["status", "conditions"]).iter().any(|condition| {
            text(condition, "type") == "PodScheduled" && text(condition, "reason") == "SchedulingGated"
        });
        let reason = match (gated, string(tree, &["status", "reason"])) {
            (true, _) => "SchedulingGated",
            (false, "") => string(tree, &["status", "phase"]),
            (false, reason) => reason,
        };
        Self {
            ready: 0,
            total: list(tree, &["spec", "containers"]).len() + sidecars.count(),
            reason: reason.to_owned(),
            restarts: Restarts::default(),
            sidecar_restarts: Restarts::default(),
        }
    }

    /// Looks at the init containers; false while they are not through.
    fn init(&mut self, tree: &Map<String, Value>) -> bool {
        let specs = list(tree, &["spec", "initContainers"]);
        for (index, container) in list(tree, &["status", "initContainerStatuses"]).iter().enumerate() {
            let sidecar =
                specs.iter().any(|spec| text(spec, "name") == text(container, "name") && restarts_always(spec));
            self.restarts.add(container);
            if sidecar {
                self.sidecar_restarts.add(container);
            }
            let terminated = container.pointer("/state/terminated").filter(|state| !state.is_null());
            if terminated.is_some_and(|state| exit_code(state) == 0) {
                continue;
            }
            if sidecar && flag(container, "started") {
                self.ready += usize::from(flag(container, "ready"));
                continue;
            }
            let waiting = container.pointer("/state/waiting/reason").and_then(Value::as_str).unwrap_or_default();
            self.reason = match terminated {
                Some(state) => format!("Init:{}", ending(state)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            let initialized = list(tree, &["status", "conditions"]).iter().find(|c| text(c, "type") == "Initialized");
            return initialized.is_some_and(|condition| text(condition, "status") == "True");
        }
        true
    }

    fn containers(&mut self, tree: &Map<String, Value>) {
        self.restarts = self.sidecar_restarts.clone();
        let (mut running, mut failure) = (false, String::new());
        for container in list(tree, &["status", "containerStatuses"]).iter().rev() {
            self.restarts.add(container);
            let waiting = container.pointer("/state/waiting/reason").and_then(Value::as_str).unwrap_or_default();
            let terminated = container.pointer("/state/terminated").filter(|state| !state.is_null());
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if let Some(state) = terminated {
                self.reason = ending(state);
                if exit_code(state) != 0 {
                    self.reason.clone_into(&mut failure);
                }
            } else if flag(container, "ready") && container.pointer("/state/running").is_some_and(|s| !s.is_null()) {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason != "Completed" {
            return;
        }
        let ready = list(tree, &["status", "conditions"])
            .iter()
            .any(|condition| text(condition, "type") == "Ready" && text(condition, "status") == "True");
        if running && ready {
            "Running".clone_into(&mut self.reason);
        } else if !failure.is_empty() {
            self.reason = failure;
        } else if running {
            "NotReady".clone_into(&mut self.reason);
        }
    }
}

fn readiness_gates(tree: &Map<String, Value>) -> String {
    let gates = list(tree, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = list(tree, &["status", "conditions"]);
    let holds = |gate: &&Value| {
        let wanted = text(gate, "conditionType");
        conditions.iter().find(|c| text(c, "type") == wanted).is_some_and(|c| text(c, "status") == "True")
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}

fn restarts_always(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn ending(terminated: &Value) -> String {
    let number = |name: &str| terminated.get(name).and_then(Value::as_i64).unwrap_or(0);
    match (text(terminated, "reason"), number("signal")) {
        ("", 0) => format!("ExitCode:{}", number("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn exit_code(terminated: &Value) -> i64 {
    terminated.get("exitCode").and_then(Value::as_i64).unwrap_or(0)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(spec: Value, status: Value) -> Vec<String> {
        let pod = json!({"metadata": {"name": "p", "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": spec, "status": status});
        let cells = cells(pod.as_object().unwrap(), Timestamp::from_unix_seconds(100));
        cells.iter().map(|cell| cell.as_str().unwrap().to_owned()).collect()
    }

    fn running() -> Value {
        json!({"ready": true, "restartCount": 0, "state": {"running": {"startedAt": "1970-01-01T00:00:00Z"}}})
    }

    #[test]
    fn the_states_that_users_know_read_as_on_a_real_server() {
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let ended = |reason: &str, code: i64| json!({"state": {"terminated": {"reason": reason, "exitCode": code}}});
        for (spec, status, ready, word) in [
            (two.clone(), json!({"phase": "Pending"}), "0/2", "Pending"),
            (two.clone(), json!({"phase": "Running", "containerStatuses": [running(), running()]}), "2/2", "Running"),
            (
                two.clone(),
                json!({"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}, running()]}),
                "1/2",
                "CrashLoopBackOff",
            ),
            (
                two.clone(),
                json!({"phase": "Running", "containerStatuses": [ended("Completed", 0), running()],
                    "conditions": [{"type": "Ready", "status": "True"}]}),
                "1/2",
                "Running",
            ),
            (
                two.clone(),
                json!({"phase": "Running", "containerStatuses": [ended("Completed", 0), running()]}),
                "1/2",
                "NotReady",
            ),
            (two.clone(), json!({"phase": "Failed", "containerStatuses": [ended("", 3)]}), "0/2", "ExitCode:3"),
            (two.clone(), json!({"phase": "Failed", "reason": "Evicted"}), "0/2", "Evicted"),
            (
                json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]}),
                json!({"phase": "Pending", "initContainerStatuses": [ended("Completed", 0), {"name": "j", "state": {"running": {}}}]}),
                "0/1",
                "Init:1/2",
            ),
            (
                json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}),
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
                "0/1",
                "Init:Error",
            ),
            (
                json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]}),
                json!({"phase": "Running", "containerStatuses": [running()],
                    "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "state": {"running": {}}}]}),
                "2/2",
                "Running",
            ),
            (
                two,
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
                "0/2",
                "SchedulingGated",
            ),
        ] {
            let cells = row(spec, status.clone());
            assert_eq!((cells[1].as_str(), cells[2].as_str()), (ready, word), "{status}");
        }
    }

    #[test]
    fn restarts_say_when_the_last_one_was() {
        let mut container = running();
        container["restartCount"] = json!(3);
        let spec = json!({"containers": [{"name": "a"}]});
        let status = json!({"phase": "Running", "containerStatuses": [container.clone()]});
        assert_eq!(row(spec.clone(), status)[3], "3");
        container["lastState"] = json!({"terminated": {"finishedAt": "1970-01-01T00:00:40Z"}});
        assert_eq!(row(spec, json!({"containerStatuses": [container]}))[3], "3 (60s ago)");
    }

    #[test]
    fn wide_columns_say_none_where_nothing_is_known() {
        let spec = json!({"containers": [], "readinessGates": [{"conditionType": "x"}]});
        assert_eq!(row(spec, json!({}))[5..], ["<none>", "<none>", "<none>", "0/1"]);
        let cells = row(json!({"nodeName": "n"}), json!({"podIPs": [{"ip": "127.0.0.1"}]}));
        assert_eq!(cells[5..], ["127.0.0.1", "n", "<none>", "<none>"]);
    }
}
