//! The process's own metrics, under the names of Go's process collector. Linux only, from /proc.

use std::fmt::Write as _;

use super::metrics::number;
use crate::Timestamp;

/// Appends what is known about this process; nothing where /proc is not there.
pub(super) fn process_metrics(out: &mut String, start: Timestamp) {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let kilobytes = |key: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<f64>().ok().map(|kb| kb * 1024.0)
    };
    let descriptors = || std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1));
    metric(
        out,
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        "counter",
        cpu_seconds(),
    );
    #[expect(clippy::cast_precision_loss, reason = "file descriptor counts are small")]
    metric(
        out,
        "process_open_fds",
        "Number of open file descriptors.",
        "gauge",
        descriptors().map(|count| count as f64),
    );
    metric(out, "process_resident_memory_bytes", "Resident memory size in bytes.", "gauge", kilobytes("VmRSS"));
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
    let started = start.unix_seconds() as f64;
    metric(
        out,
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        "gauge",
        Some(started),
    );
    metric(out, "process_virtual_memory_bytes", "Virtual memory size in bytes.", "gauge", kilobytes("VmSize"));
}

/// User and system time from /proc/self/stat, in clock ticks of 1/100 s (`USER_HZ`, fixed on Linux's ABIs that we build for).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

fn metric(out: &mut String, name: &str, help: &str, kind: &str, value: Option<f64>) {
    if let Some(value) = value {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}", number(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory_and_files() {
        let mut out = String::new();
        process_metrics(&mut out, Timestamp::from_unix_seconds(1_700_000_000));
        assert!(out.contains("process_start_time_seconds 1700000000\n"), "{out}");
        for name in [
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
        ] {
            let line = out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {out}"));
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() >= 0.0, "{line}");
        }
    }
}
