//! From requests to the writer: a queue that is bounded in events and in bytes.
//!
//! One task takes lines off it and writes them on a thread that may block. A line that cannot be written is lost; the first
//! one is said at once, those after it once in a while, with their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::file::Target;

/// Bytes of lines that wait for the writer.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that a permit stands for.
const UNIT: usize = 1_024;
const PERMITS: u32 = (MAX_BYTES / UNIT) as u32;
/// Lines that are written before those that wait for them are told.
const BATCH: usize = 256;
/// How often losses are said.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Brings lines to the writer.
#[derive(Debug)]
pub(super) struct Queue {
    lines: mpsc::Sender<Item>,
    room: Arc<Semaphore>,
    lost: Arc<AtomicU64>,
}

enum Item {
    Line { line: Vec<u8>, room: OwnedSemaphorePermit, written: Option<oneshot::Sender<bool>> },
    Flush(oneshot::Sender<bool>),
}

impl Queue {
    /// Starts the writer, which ends with the queue.
    pub(super) fn start(target: Target, events: usize) -> Self {
        let (lines, waiting) = mpsc::channel(events.clamp(1, Semaphore::MAX_PERMITS));
        let lost = Arc::new(AtomicU64::new(0));
        tokio::spawn(write_all(target, waiting, Arc::clone(&lost)));
        Self { lines, room: Arc::new(Semaphore::new(MAX_BYTES / UNIT)), lost }
    }

    /// Hands a line over if there is room; it is counted as lost otherwise.
    pub(super) fn offer(&self, line: Vec<u8>) {
        let room = Arc::clone(&self.room).try_acquire_many_owned(permits(&line));
        let taken = room.is_ok_and(|room| self.lines.try_send(Item::Line { line, room, written: None }).is_ok());
        if !taken {
            // The writer says it: saying it here would let whoever floods the log flood another one.
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for room, and until the line is written. Whether it was.
    pub(super) async fn write(&self, line: Vec<u8>) -> bool {
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(permits(&line)).await else { return false };
        let (written, done) = oneshot::channel();
        let sent = self.lines.send(Item::Line { line, room, written: Some(written) }).await;
        sent.is_ok() && done.await.unwrap_or(false)
    }

    /// Waits until the writer has been at everything that was handed over before.
    pub(super) async fn flushed(&self) {
        let (done, told) = oneshot::channel();
        if self.lines.send(Item::Flush(done)).await.is_ok() {
            let _ended = told.await;
        }
    }
}

/// A line larger than the whole queue takes all of it.
fn permits(line: &[u8]) -> u32 {
    u32::try_from(line.len().div_ceil(UNIT)).unwrap_or(PERMITS).clamp(1, PERMITS)
}

async fn write_all(mut target: Target, mut waiting: mpsc::Receiver<Item>, lost: Arc<AtomicU64>) {
    let mut complaints = Complaints::new(target.name(), lost);
    loop {
        let mut batch = Vec::new();
        if waiting.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let work = tokio::task::spawn_blocking(move || {
            write_batch(&mut target, batch, &mut complaints);
            (target, complaints)
        });
        match work.await {
            Ok(back) => (target, complaints) = back,
            Err(error) => {
                tracing::error!(%error, "the writer of the audit log has ended: events are lost from now on");
                return;
            }
        }
    }
}

fn write_batch(target: &mut Target, batch: Vec<Item>, complaints: &mut Complaints) {
    for item in batch {
        match item {
            Item::Line { line, room, written } => {
                let result = target.write(&line);
                // Given back before the request goes on, so that it finds room for its next line.
                drop((line, room));
                if let Some(written) = written {
                    // Whoever no longer waits does not care.
                    let _ = written.send(result.is_ok());
                }
                complaints.note(result);
            }
            Item::Flush(done) => {
                let _ = done.send(true);
            }
        }
    }
    target.finish();
    complaints.say();
}

/// What could not be written since it was last said.
struct Complaints {
    target: String,
    overflowed: Arc<AtomicU64>,
    failed: u64,
    last: Option<std::io::Error>,
    said: Option<Instant>,
    broken: bool,
}

impl Complaints {
    fn new(target: String, overflowed: Arc<AtomicU64>) -> Self {
        Self { target, overflowed, failed: 0, last: None, said: None, broken: false }
    }

    fn note(&mut self, result: std::io::Result<()>) {
        match result {
            Ok(()) if self.broken => {
                self.say_now();
                self.broken = false;
                self.said = None;
                tracing::info!(path = %self.target, "the audit log can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.broken = true;
                self.failed += 1;
                self.last = Some(error);
            }
        }
    }

    fn say(&mut self) {
        if self.said.is_none_or(|said| said.elapsed() >= COMPLAIN_EVERY) {
            self.say_now();
        }
    }

    fn say_now(&mut self) {
        let overflowed = self.overflowed.swap(0, Ordering::Relaxed);
        if overflowed > 0 {
            self.said = Some(Instant::now());
            tracing::error!(path = %self.target, events = overflowed, "audit events are lost: the queue is full, the disk is too slow for them");
        }
        if let Some(error) = self.last.take() {
            self.said = Some(Instant::now());
            let events = std::mem::take(&mut self.failed);
            tracing::error!(path = %self.target, %error, events, "the audit log cannot be written: events are lost, requests go on");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender};

    use super::super::file::tests::Tap;
    use super::*;

    fn queue(events: usize) -> (Queue, Receiver<Vec<u8>>, Sender<std::io::Result<()>>) {
        let (tap, lines, verdict) = Tap::new();
        (Queue::start(Target::Test(tap), events), lines, verdict)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_disk_that_hangs_holds_up_nobody_who_does_not_ask_for_it() {
        let (queue, lines, verdict) = queue(4);
        for _ in 0..1_000 {
            queue.offer(b"x".to_vec());
        }
        let first = tokio::task::spawn_blocking(move || (lines.recv().unwrap(), lines)).await.unwrap();
        assert_eq!(first.0, b"x");
        assert!(queue.lost.load(Ordering::Relaxed) >= 990, "the queue holds four lines and a batch");
        drop(verdict);
        queue.flushed().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_queue_is_bounded_in_bytes() {
        let (queue, lines, verdict) = queue(10_000);
        for _ in 0..100 {
            queue.offer(vec![b'x'; 1024 * 1024]);
        }
        assert!(queue.lost.load(Ordering::Relaxed) >= 91, "{:?}", queue.lost);
        drop(verdict);
        queue.flushed().await;
        assert!(lines.try_iter().count() <= 9);
        queue.offer(vec![b'x'; 2 * MAX_BYTES]);
        queue.flushed().await;
        assert_eq!(lines.try_recv().unwrap().len(), 2 * MAX_BYTES, "one line may be larger than the queue");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_waits_learns_whether_the_line_was_written() {
        let (queue, _lines, verdict) = queue(4);
        verdict.send(Ok(())).unwrap();
        assert!(queue.write(b"a".to_vec()).await);
        verdict.send(Err(std::io::ErrorKind::StorageFull.into())).unwrap();
        assert!(!queue.write(b"b".to_vec()).await);
        verdict.send(Ok(())).unwrap();
        assert!(queue.write(b"c".to_vec()).await, "room on the disk again");
    }
}
