//! The last lines of something that logs, in memory: what `kubectl logs` shows of a part of this process.
//!
//! Lines belong to a run: each start of a part begins a new one, as a container's log files do. The lines of the current run
//! and of the one before it are kept, within limits of lines and bytes; the oldest go first. Readers take lines by their
//! number and never hold up whoever writes; one that is slower than the limits allow misses lines.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{Clock, Timestamp};

/// Bytes of a line; the rest is cut off.
const LINE: usize = 16 * 1024;

/// A line, with its newline.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// Counts all lines, from 0.
    pub number: u64,
    /// Which start of the part wrote it, from 0.
    pub run: u32,
    /// When.
    pub time: Timestamp,
    /// What.
    pub text: Arc<str>,
}

/// What a ring keeps at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRingLimits {
    /// Lines. Default 5,000.
    pub lines: usize,
    /// Bytes of all lines. Default 512 KiB.
    pub bytes: usize,
}

impl Default for LogRingLimits {
    fn default() -> Self {
        Self { lines: 5_000, bytes: 512 * 1024 }
    }
}

/// The last lines of a part. Cheap to clone; all clones are the same ring.
#[derive(Clone)]
pub struct LogRing(Arc<Ring>);

struct Ring {
    clock: Clock,
    limits: LogRingLimits,
    kept: Mutex<Kept>,
    /// The number of the next line.
    next: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    next: u64,
    run: u32,
}

impl LogRing {
    /// An empty ring, in its first run.
    #[must_use]
    pub fn new(clock: Clock, limits: LogRingLimits) -> Self {
        Self(Arc::new(Ring { clock, limits, kept: Mutex::default(), next: watch::Sender::new(0) }))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub fn push(&self, line: &str) {
        let line = line.trim_end_matches('\n');
        let cut = line.get(..line.floor_char_boundary(LINE)).unwrap_or_default();
        let text: Arc<str> = format!("{cut}\n").into();
        let mut kept = self.lock();
        kept.bytes += text.len();
        let (number, run) = (kept.next, kept.run);
        kept.next += 1;
        kept.lines.push_back(LogLine { number, run, time: self.0.clock.now(), text });
        while kept.lines.len() > self.0.limits.lines || kept.bytes > self.0.limits.bytes {
            let Some(gone) = kept.lines.pop_front() else { break };
            kept.bytes -= gone.text.len();
        }
        let next = kept.next;
        drop(kept);
        self.0.next.send_replace(next);
    }

    /// Begins the next run. The lines of the run before the last go.
    pub fn begin_run(&self) {
        let mut kept = self.lock();
        let last = kept.run;
        kept.run += 1;
        while let Some(gone) = kept.lines.pop_front_if(|line| line.run < last) {
            kept.bytes -= gone.text.len();
        }
    }

    /// The number of the current run.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.lock().run
    }

    /// The lines of a run that are kept.
    #[must_use]
    pub fn lines_of(&self, run: u32) -> Vec<LogLine> {
        self.lock().lines.iter().filter(|line| line.run == run).cloned().collect()
    }

    /// At most `most` lines from a number on, of any run.
    #[must_use]
    pub fn lines_from(&self, number: u64, most: usize) -> Vec<LogLine> {
        let kept = self.lock();
        let start = kept.lines.partition_point(|line| line.number < number);
        kept.lines.range(start..).take(most).cloned().collect()
    }

    /// Tells the number of the next line, and when there is a new one.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.0.next.subscribe()
    }

    /// A writer, of whole lines.
    #[must_use]
    pub fn writer(&self) -> impl Write + Send + use<> {
        Writer(self.clone())
    }
}

impl Default for LogRing {
    fn default() -> Self {
        Self::new(Clock::system(), LogRingLimits::default())
    }
}

impl fmt::Debug for LogRing {
    /// Without the lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.lock();
        f.debug_struct("LogRing").field("lines", &kept.lines.len()).field("run", &kept.run).finish_non_exhaustive()
    }
}

struct Writer(LogRing);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines() {
            self.0.push(line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(lines: usize, bytes: usize) -> LogRing {
        LogRing::new(Clock::mock(1_700_000_000).0, LogRingLimits { lines, bytes })
    }

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.trim_end()).collect()
    }

    #[test]
    fn the_oldest_lines_go_first() {
        let few = ring(3, 1_000);
        for n in 0..5 {
            few.push(&n.to_string());
        }
        assert_eq!(texts(&few.lines_of(0)), ["2", "3", "4"]);
        let small = ring(100, 10);
        for word in ["aaaa", "bbbb", "cccc"] {
            small.push(word);
        }
        assert_eq!(texts(&small.lines_of(0)), ["bbbb", "cccc"]);
        small.push(&"d".repeat(10));
        assert!(small.lines_of(0).is_empty(), "a line that is larger than the ring is not kept");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let ring = ring(10, 1 << 20);
        ring.push(&"ä".repeat(LINE));
        assert_eq!(ring.lines_of(0)[0].text.len(), LINE + 1);
    }

    #[test]
    fn two_runs_are_kept_and_told_apart() {
        let ring = ring(10, 1_000);
        for run in ["one", "two", "three"] {
            ring.push(run);
            ring.begin_run();
        }
        ring.push("four");
        assert_eq!((ring.run(), texts(&ring.lines_of(3)), texts(&ring.lines_of(2))), (3, vec!["four"], vec!["three"]));
        assert!(ring.lines_of(1).is_empty());
    }

    #[tokio::test]
    async fn a_reader_hears_of_new_lines_and_takes_them_by_number() {
        let ring = ring(3, 1_000);
        let mut follow = ring.follow();
        writeln!(ring.writer(), "a\nb").unwrap();
        assert_eq!(*follow.borrow_and_update(), 2);
        assert_eq!(texts(&ring.lines_from(1, 10)), ["b"]);
        assert_eq!(texts(&ring.lines_from(0, 1)), ["a"]);
        assert!(ring.lines_from(2, 10).is_empty());
        let other = ring.clone();
        let writing = tokio::spawn(async move { other.push("c") });
        follow.changed().await.unwrap();
        writing.await.unwrap();
        ring.push("d");
        assert_eq!(texts(&ring.lines_from(0, 10)), ["b", "c", "d"], "what is gone is left out");
    }
}
