//! What a process costs: time, memory and CPU, read from the kernel's own accounts.

use std::fs;
use std::io::{PipeReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Bytes that a Linux pipe holds.
const PIPE_CAPACITY: usize = 65_536;

/// Memory of a process, in KiB (proc(5), /proc/PID/status).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Most it ever had (VmHWM).
    pub(crate) peak: u64,
    /// What it has now (VmRSS), of which
    pub(crate) resident: u64,
    /// its own (RssAnon), and
    pub(crate) anonymous: u64,
    /// mapped files, its program among them (RssFile).
    pub(crate) file: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse().ok())
        };
        Some(Self {
            peak: field("VmHWM:")?,
            resident: field("VmRSS:")?,
            anonymous: field("RssAnon:")?,
            file: field("RssFile:")?,
        })
    }
}

/// User and system time that a process has used.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    ticks(pid, &[11, 12])
}

/// The same of a process and its children, those included that have ended.
pub(crate) fn cpu_of_tree(pid: u32) -> Result<Duration> {
    let living: Duration = children(pid).into_iter().filter_map(|child| cpu(child).ok()).sum();
    Ok(ticks(pid, &[11, 12, 13, 14])? + living)
}

/// The sum of such fields of /proc/PID/stat, counted behind the name, which are in clock ticks.
fn ticks(pid: u32, fields: &[usize]) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    let after_name = stat.rsplit_once(')').context("/proc/PID/stat")?.1;
    let all: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields.iter().filter_map(|&i| all.get(i)?.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Runs a program `rounds` times and returns its wall times, sorted.
pub(crate) fn wall_times(rounds: usize, make: impl Fn() -> Command) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let mut command = make();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status().with_context(|| format!("{:?}", command.get_program()))?;
        times.push(start.elapsed());
        if !status.success() {
            bail!("{:?} failed", command.get_program());
        }
    }
    times.sort();
    Ok(times)
}

pub(crate) fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The memory of a program that ends at once: its last act is to write its answer, so a full pipe holds it there, and
/// the kernel's account can be read. (A parent's RUSAGE_CHILDREN would count the parent's own memory at the fork.)
pub(crate) fn memory_at_last_write(mut command: Command) -> Result<Memory> {
    let (mut reader, mut writer) = std::io::pipe()?;
    writer.write_all(&vec![b' '; PIPE_CAPACITY])?;
    let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null()).spawn()?;
    drop(command);
    let memory = wait_until_blocked(&mut child);
    drain(&mut reader)?;
    if !child.wait()?.success() {
        bail!("the program failed");
    }
    memory
}

fn drain(reader: &mut PipeReader) -> Result<()> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all)?;
    Ok(())
}

fn wait_until_blocked(child: &mut Child) -> Result<Memory> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            bail!("the program ended without writing");
        }
        if writes(child.id()) {
            return Memory::of(child.id()).context("the process has ended");
        }
        std::thread::yield_now();
    }
    bail!("the program never wrote")
}

/// Whether a thread of the process is held by a full pipe. Where the kernel does not tell what a thread waits for, one
/// thread that sleeps is taken for it: a program with several is not measured there.
fn writes(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let tasks: Vec<_> = tasks.flatten().map(|task| task.path()).collect();
    let held = |task: &std::path::PathBuf| {
        let channel = fs::read_to_string(task.join("wchan")).unwrap_or_default();
        let asleep = fs::read_to_string(task.join("stat"))
            .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S')));
        channel.contains("pipe") || (tasks.len() == 1 && asleep && channel.trim_matches('0').is_empty())
    };
    tasks.iter().any(held)
}

/// Runs a program to its end: its time, the most memory that it and its children had at a time (KiB), its output.
pub(crate) fn run_and_watch(command: &mut Command) -> Result<(Duration, u64, String)> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut stdout = child.stdout.take().context("no pipe")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let mut peak = 0;
    loop {
        if let Some(own) = Memory::of(child.id()) {
            let of_children: u64 =
                children(child.id()).into_iter().filter_map(Memory::of).map(|memory| memory.resident).sum();
            peak = peak.max(own.peak).max(own.resident + of_children);
        }
        if let Some(status) = child.try_wait()? {
            let time = start.elapsed();
            let text = reader.join().map_err(|_| anyhow::anyhow!("the reader failed"))??;
            if !status.success() {
                bail!("{:?} failed", command.get_program());
            }
            return Ok((time, peak, text));
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// The processes that `pid`'s threads have started (proc(5), /proc/PID/task/TID/children).
fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// A server that is stopped by its id when dropped.
pub(crate) struct Server(pub(crate) Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped_already = self.0.wait();
    }
}

pub(crate) fn size_mb(path: &Path) -> Result<f64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.len() as f64 / 1e6)
}
