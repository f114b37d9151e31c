//! All of a store as it was at one moment.
//!
//! A backend gives a snapshot by its own means: a transaction that reads, a revision, a list's version, a copy. So a backup
//! that is taken while replicas write is a state that the store was in, and no invariant over two records is broken in it.
//!
//! Leases are in none: who works in this store just now means nothing at another time or in another store.

use std::{fmt, future::Future};

use tokio::sync::mpsc;

use crate::{
    error::{KernelError, Trouble},
    inspect::Finding,
    kernel::{Kind, Record},
};

/// Batches that are read ahead of the caller.
const AHEAD: usize = 2;

/// Records of a batch, each with its kind.
pub type Batch = Vec<(Kind, Record)>;

/// The records of a store as they were at one moment, in no particular order.
///
/// The backend keeps the moment alive until the snapshot is dropped; that costs it room, not time. One that cannot keep it
/// any longer says so ([`Trouble::Forgotten`]), and what was read is to be thrown away.
pub struct Snapshot {
    parts: mpsc::Receiver<Part>,
    left_out: Vec<Finding>,
}

enum Part {
    Batch(Batch),
    Failed(KernelError),
    End,
}

/// Where a backend puts the records. Dropped without [`Sink::close`], the snapshot is not whole.
pub struct Sink(mpsc::Sender<Part>);

/// A record whose kind this version does not know: left out, it would be missing in a backup.
pub(crate) fn unknown_kind(place: &str) -> KernelError {
    let what = format!("{place} holds records of a kind that this version does not know: use the newer version");
    KernelError::Corrupt { what }
}

/// Nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Snapshot {
    /// A snapshot and the end of it that a backend writes to.
    #[must_use]
    pub fn channel() -> (Sink, Self) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        (Sink(sender), Self { parts: receiver, left_out: Vec::new() })
    }

    /// A snapshot that a task reads.
    pub fn read_by<F>(read: impl FnOnce(Sink) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sink, snapshot) = Self::channel();
        tokio::spawn(read(sink));
        snapshot
    }

    /// The same, and what of the store is not among the records.
    #[must_use]
    pub fn without(self, left_out: Vec<Finding>) -> Self {
        Self { left_out, ..self }
    }

    /// What the store holds that cannot be a record, and so is not among them: on Kubernetes, objects that people have made
    /// larger than records may be. They are not in force. Whoever passes on what is here must say that they are missing.
    #[must_use]
    pub fn left_out(&self) -> &[Finding] {
        &self.left_out
    }

    /// The next records; `None` after the last ones. What ends before that was not read whole, and is an error.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`], [`KernelError::Corrupt`].
    pub async fn next(&mut self) -> Result<Option<Batch>, KernelError> {
        match self.parts.recv().await {
            Some(Part::Batch(batch)) => Ok(Some(batch)),
            Some(Part::End) => Ok(None),
            Some(Part::Failed(error)) => Err(error),
            None => Err(KernelError::not_applied(Trouble::Closed)),
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

impl Sink {
    /// Hands a batch over, waiting until there is room.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn put(&self, batch: Batch) -> Result<(), Gone> {
        self.0.send(Part::Batch(without_leases(batch))).await.map_err(|_| Gone)
    }

    /// As [`Sink::put`], on a thread that may wait.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn put_blocking(&self, batch: Batch) -> Result<(), Gone> {
        self.0.blocking_send(Part::Batch(without_leases(batch))).map_err(|_| Gone)
    }

    /// All of it has been handed over, or this is why not.
    pub async fn close(self, outcome: Result<(), KernelError>) {
        // Whoever does not read any more is not told.
        let _gone = self.0.send(outcome.map_or_else(Part::Failed, |()| Part::End)).await;
    }

    /// As [`Sink::close`], on a thread that may wait.
    pub fn close_blocking(self, outcome: Result<(), KernelError>) {
        let _gone = self.0.blocking_send(outcome.map_or_else(Part::Failed, |()| Part::End));
    }
}

fn without_leases(mut batch: Batch) -> Batch {
    batch.retain(|(kind, _)| *kind != Kind::Lease);
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ends_without_its_end_is_no_whole_snapshot() {
        let (sink, mut snapshot) = Snapshot::channel();
        assert!(sink.put(Vec::new()).await.is_ok());
        drop(sink);
        assert_eq!(snapshot.next().await, Ok(Some(Vec::new())));
        assert_eq!(snapshot.next().await, Err(KernelError::not_applied(Trouble::Closed)));

        let mut whole = Snapshot::read_by(|sink| sink.close(Ok(())));
        assert_eq!(whole.next().await, Ok(None));
        let (sink, snapshot) = Snapshot::channel();
        drop(snapshot);
        assert!(sink.put(Vec::new()).await.is_err());
    }
}
