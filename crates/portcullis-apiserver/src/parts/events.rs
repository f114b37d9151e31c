//! What happens to a part, as events on its pod in a kubelet's words.
//!
//! Compat: a kubelet's events name a static pod by the identity that it has at the node, which is the value of its pod's
//! annotation `kubernetes.io/config.mirror`; `kubectl describe` looks for that. One that happens again counts up, as client-go's recorder does it (`tools/record/events_cache.go`).

use serde_json::{Value, json};

use super::{Known, Part};
use crate::engine::Engine;
use crate::resources::{self, strategy, text};

/// Attempts against parallel changes.
const ATTEMPTS: usize = 5;

/// What a kubelet would say of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartEvent {
    /// A run was set up.
    Created,
    /// A run began.
    Started,
    /// It will be ended, because it does not answer or was told to.
    Killing {
        /// Whether it is ended for not answering.
        unhealthy: bool,
    },
    /// It did not answer.
    Unhealthy {
        /// `Liveness` or `Readiness`.
        probe: &'static str,
        /// What went wrong.
        why: String,
    },
    /// It is not started again yet.
    BackOff,
}

impl PartEvent {
    /// Type, reason and message.
    fn said(&self, part: &Part, uid: &str) -> (&'static str, &'static str, String) {
        let container = &part.container;
        match self {
            Self::Created => ("Normal", "Created", "Container created".to_owned()),
            Self::Started => ("Normal", "Started", "Container started".to_owned()),
            Self::Killing { unhealthy: true } => {
                let why = format!("Container {container} failed liveness probe, will be restarted");
                ("Normal", "Killing", why)
            }
            Self::Killing { unhealthy: false } => ("Normal", "Killing", format!("Stopping container {container}")),
            Self::Unhealthy { probe, why } => ("Warning", "Unhealthy", format!("{probe} probe failed: {why}")),
            Self::BackOff => {
                let pod = format!("{}_{}({uid})", part.name, part.namespace);
                ("Warning", "BackOff", format!("Back-off restarting failed container {container} in pod {pod}"))
            }
        }
    }
}

impl Engine {
    /// Records an event about a part's container.
    pub(crate) fn part_event(&self, known: &Known, event: &PartEvent) {
        let (part, node) = (&known.part, &known.node);
        let pods = resources::pods();
        let Some(pod) = self.store.get(pods, &part.namespace, &part.name) else { return };
        let uid = part.name.as_str();
        let (kind, reason, message) = event.said(part, uid);
        let now = self.clock.now().rfc3339();
        let place = format!("spec.containers{{{}}}", part.container);
        for _ in 0..ATTEMPTS {
            let same = self.store.all(resources::events(), &part.namespace).into_iter().find(|event| {
                let members = event.members();
                let is = |path: &[&str], wanted: &str| text(&members, path).as_ref() == wanted;
                is(&["involvedObject", "uid"], uid) && is(&["reason"], reason) && is(&["message"], &message)
            });
            let Some(same) = same else {
                let about = json!({"kind": "Pod", "namespace": part.namespace, "name": part.name, "uid": uid,
                    "apiVersion": "v1", "resourceVersion": pod.version.to_string(), "fieldPath": place});
                self.new_part_event(part, node, (kind, reason, &message), about, &now);
                return;
            };
            let mut members = same.members();
            let count = members.get("count").and_then(Value::as_i64).unwrap_or(1).saturating_add(1);
            members.insert("count".to_owned(), count.into());
            members.insert("lastTimestamp".to_owned(), now.clone().into());
            let members = strategy::shape(resources::events(), members);
            if self.store.replace(resources::events(), &same, members).is_ok() {
                return;
            }
        }
    }

    fn new_part_event(
        &self,
        part: &Part,
        node: &str,
        (kind, reason, message): (&str, &str, &str),
        about: Value,
        now: &str,
    ) {
        let suffix: String = self.rng.bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect();
        let event = json!({"metadata": {"name": format!("{}.{suffix}", part.name), "namespace": part.namespace},
            "involvedObject": about, "reason": reason, "message": message, "source": {"component": "kubelet", "host": node},
            "firstTimestamp": now, "lastTimestamp": now, "count": 1, "type": kind, "reportingComponent": "kubelet",
            "reportingInstance": node});
        self.make_event(&part.namespace, event);
    }
}
