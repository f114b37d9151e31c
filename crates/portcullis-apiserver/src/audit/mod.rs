//! The audit log: who asked for what, when, and what came of it.
//!
//! `policy` decides what is written down, `record` gathers it while a request is served, `event` is the line, `queue` brings
//! lines to the writer, `file` is the log with its rotation, `options` are kube-apiserver's flags.
//!
//! Requests never wait for a disk on the threads that serve. In the mode `batch` they do not wait at all: what does not
//! fit into the queue is lost, and the server's log says how much. In the blocking modes each waits for its own line.
//! A disk that is full costs lines, never the server.
//!
//! Headers are never written down, and so no bearer token is. Bodies are, from the level Request on, as upstream has it: a
//! policy that asks for the bodies of secrets or token reviews gets them.
//!
//! Compat: `audit`, `plugin/pkg/audit/{log,buffered,truncate}` of apiserver v0.37.

pub(crate) mod event;
mod file;
mod options;
mod policy;
mod queue;
pub(crate) mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_runtime::Clock;

use self::event::{Event, Level};
pub use self::options::{AuditError, AuditMode, AuditOptions};
pub use self::policy::{AuditPolicy, AuditPolicyError};
use self::queue::Queue;
pub(crate) use self::record::Record;
use self::record::{Arrival, NotStored};

/// The annotation of an event whose objects were left out.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// An open audit log. Cheap to clone; the writer ends after the last clone has gone.
#[derive(Debug, Clone)]
pub struct AuditLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: AuditPolicy,
    queue: Queue,
    mode: AuditMode,
    /// Largest event, in bytes, when events are cut.
    max_event: Option<usize>,
}

impl AuditLog {
    /// Opens the log that the options ask for; `None` when they ask for none. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`AuditError`], in kube-apiserver's words.
    pub fn open(options: &AuditOptions, clock: &Clock) -> Result<Option<Self>, AuditError> {
        options.validate()?;
        let policy = options.policy_file.as_deref().map(AuditPolicy::load).transpose()?;
        let Some(target) = options.target(clock)? else { return Ok(None) };
        let Some(policy) = policy else { return Ok(None) };
        let queue = Queue::start(target, options.batch_buffer_size);
        let max_event = options.truncate_enabled.then_some(options.truncate_max_event_size);
        Ok(Some(Self(Arc::new(Inner { policy, queue, mode: options.mode, max_event }))))
    }

    /// What is odd about the policy and does no harm.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.0.policy.warnings()
    }

    /// Waits until everything that was handed over has been written, or could not be.
    pub(crate) async fn flushed(&self) {
        self.0.queue.flushed().await;
    }

    pub(crate) fn policy(&self) -> &AuditPolicy {
        &self.0.policy
    }

    /// Begins the record of a request.
    pub(crate) fn begin(&self, clock: &Clock, arrival: &Arrival<'_>) -> Record {
        Record::begin(self, clock, arrival)
    }

    /// Hands an event over; in the blocking modes, waits until it is written.
    async fn store(&self, event: Event) -> Result<(), NotStored> {
        let received = event.stage == event::Stage::RequestReceived;
        let Some(line) = self.line(event) else { return Ok(()) };
        match self.0.mode {
            AuditMode::Batch => {
                self.0.queue.offer(line);
                Ok(())
            }
            AuditMode::Blocking => {
                self.0.queue.write(line).await;
                Ok(())
            }
            AuditMode::BlockingStrict => {
                if self.0.queue.write(line).await || !received {
                    Ok(())
                } else {
                    Err(NotStored)
                }
            }
        }
    }

    fn store_now(&self, event: Event) {
        if let Some(line) = self.line(event) {
            self.0.queue.offer(line);
        }
    }

    /// The event's line; `None` when it is too large even without its objects.
    fn line(&self, mut event: Event) -> Option<Vec<u8>> {
        let line = event.line();
        let Some(max) = self.0.max_event.filter(|max| line.len() > *max) else { return Some(line) };
        if event.level < Level::Request {
            return self.too_large(&event);
        }
        (event.request_object, event.response_object) = (None, None);
        event.annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
        let line = event.line();
        if line.len() > max { self.too_large(&event) } else { Some(line) }
    }

    fn too_large(&self, event: &Event) -> Option<Vec<u8>> {
        tracing::error!(audit_id = %event.audit_id, limit = ?self.0.max_event, "an audit event is too large even after truncating, and is lost");
        None
    }
}
