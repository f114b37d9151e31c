//! Processes that a state folder names: known by their number and by when they were started, because a number is given
//! to another process sooner or later. Only the very process that was written down is ever signalled.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// How often a process that was asked to end is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A process, written down so that it can be told from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number.
    pub pid: u32,
    /// When it was started, in clock ticks since boot.
    pub started: u64,
}

impl Recorded {
    /// Takes down a running process; `None` when it is gone or the system does not tell when it was started.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        started(pid).map(|started| Self { pid, started })
    }

    /// Whether that very process still runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Sends it a signal; whether it was there to get it.
    pub fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        self.send(pid, signal)
    }

    /// The handle is taken first and holds on to one process, so that the look at its start and the signal mean the same one.
    #[cfg(target_os = "linux")]
    fn send(&self, pid: Pid, signal: Signal) -> bool {
        use rustix::io::Errno;
        use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => self.runs() && pidfd_send_signal(&handle, signal).is_ok(),
            // Kernels before 5.3, and sandboxes that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => self.runs() && kill_process(pid, signal).is_ok(),
            Err(_) => false,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn send(&self, pid: Pid, signal: Signal) -> bool {
        self.runs() && kill_process(pid, signal).is_ok()
    }

    /// Kills it and waits until it is gone, at most `patience`. Blocks. Whether it is gone.
    #[must_use]
    pub fn end(&self, patience: Duration) -> bool {
        self.signal(Signal::KILL);
        let start = Instant::now();
        while self.runs() {
            if start.elapsed() > patience {
                return false;
            }
            std::thread::park_timeout(POLL);
        }
        true
    }
}

/// When a process was started, in clock ticks since boot (proc(5), field 22 of /proc/PID/stat); `None` when it has ended,
/// also when nobody has reaped it yet, or the system does not tell.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that waits for ever.
    fn waiting() -> Child {
        Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_process_is_known_by_when_it_was_started() {
        assert!(Recorded::of(std::process::id()).unwrap().runs());
        assert_eq!(Recorded::of(u32::MAX), None);
    }

    #[test]
    fn the_recorded_process_is_ended_and_is_gone_even_before_it_is_reaped() {
        let mut child = waiting();
        let recorded = Recorded::of(child.id()).unwrap();
        assert!(recorded.end(Duration::from_secs(10)));
        assert_eq!(started(child.id()), None, "a zombie has ended");
        child.wait().unwrap();
    }

    #[test]
    fn another_process_of_the_same_number_is_left_alone() {
        let mut child = waiting();
        let recorded = Recorded::of(child.id()).unwrap();
        let earlier = Recorded { started: recorded.started.wrapping_sub(1), ..recorded };
        assert!(!earlier.runs() && !earlier.signal(Signal::KILL));
        assert!(earlier.end(Duration::ZERO), "the one that was meant is gone");
        assert!(recorded.runs());
        assert!(recorded.end(Duration::from_secs(10)));
        child.wait().unwrap();
    }
}
