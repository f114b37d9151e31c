//! How a part is: what a kubelet says of a container.

use portcullis_runtime::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How a part is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartStatus {
    /// What its one container does.
    pub state: PartState,
    /// Whether it answers.
    pub ready: bool,
    /// Since when `ready` is what it is.
    pub ready_since: Timestamp,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended the last time.
    pub last: Option<Ended>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartState {
    /// It runs.
    Running {
        /// Since when.
        started: Timestamp,
    },
    /// It is not started yet, or again.
    Waiting {
        /// In one word, such as `CrashLoopBackOff`.
        reason: String,
        /// For people.
        message: String,
    },
    /// It has ended.
    Ended(Ended),
}

/// How a run of a part ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When it had begun.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// As of a process: 0 when it was asked to, 137 when it was killed, 101 after a panic, 1 after another failure.
    pub exit_code: i32,
    /// Why, for people; may be empty.
    pub message: String,
}

/// What someone wants a part to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartSignal {
    /// To end in its own time (SIGTERM).
    Terminate,
    /// To end at once (SIGKILL).
    Kill,
}

/// The way to a part's supervisor. A part without one cannot be ended from outside.
#[derive(Debug, Clone, Default)]
pub struct PartControl(Option<mpsc::Sender<PartSignal>>);

impl PartControl {
    /// A control, and what the supervisor listens to.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<PartSignal>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(Some(sender)), receiver)
    }

    /// Passes a signal on to the supervisor; false when nobody takes it. One that waits already is as good.
    pub fn signal(&self, signal: PartSignal) -> bool {
        let Some(sender) = &self.0 else { return false };
        !matches!(sender.try_send(signal), Err(mpsc::error::TrySendError::Closed(_)))
    }
}

impl PartStatus {
    /// Of a part that runs and answers from the start.
    #[must_use]
    pub const fn running(started: Timestamp) -> Self {
        Self { state: PartState::Running { started }, ready: true, ready_since: started, restarts: 0, last: None }
    }

    /// The container's status. `id` names the part's runs.
    pub(super) fn container(&self, name: &str, image: &str, id: &str) -> Value {
        let run = |number: u32| format!("portcullis://{id}/{number}");
        let before = self.restarts.saturating_sub(1);
        let ended_run = if matches!(self.state, PartState::Waiting { .. }) { self.restarts } else { before };
        let running = matches!(self.state, PartState::Running { .. });
        let mut status = json!({"name": name, "image": image, "imageID": "", "ready": self.ready && running,
            "restartCount": self.restarts, "started": running, "containerID": run(self.restarts),
            "state": self.state.shown(&run(self.restarts))});
        if let Some(last) = &self.last {
            crate::json::set(&mut status, "lastState", json!({"terminated": last.shown(&run(ended_run))}));
        }
        status
    }
}

impl PartState {
    fn shown(&self, id: &str) -> Value {
        match self {
            Self::Running { started } => json!({"running": {"startedAt": started.rfc3339()}}),
            Self::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            Self::Ended(ended) => json!({"terminated": ended.shown(id)}),
        }
    }
}

impl Ended {
    fn shown(&self, id: &str) -> Value {
        let reason = if self.exit_code == 0 { "Completed" } else { "Error" };
        let mut shown = json!({"exitCode": self.exit_code, "reason": reason, "startedAt": self.started.rfc3339(),
            "finishedAt": self.finished.rfc3339(), "containerID": id});
        if !self.message.is_empty() {
            crate::json::set(&mut shown, "message", self.message.clone().into());
        }
        shown
    }
}
