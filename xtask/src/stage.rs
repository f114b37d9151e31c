//! Runs one command as a named stage: its output is passed on, its tests are counted, and it is ended when its time is up.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Tests that passed, failed or were not run, as the `test result:` lines of a Rust test runner give them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Reads one line; lines that are no `test result:` count nothing.
    fn of_line(line: &str) -> Self {
        let Some(rest) = line.trim_start().strip_prefix("test result:") else { return Self::default() };
        let number_before = |word: &str| {
            rest.split([';', '.'])
                .filter_map(|part| part.trim().strip_suffix(word))
                .find_map(|n| n.trim().parse().ok())
                .unwrap_or(0)
        };
        let skipped = number_before("ignored") + number_before("filtered out");
        Self { passed: number_before("passed"), failed: number_before("failed"), skipped }
    }
}

/// What became of a stage.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) ok: bool,
    pub(crate) counts: Counts,
    pub(crate) time: Duration,
}

/// Runs a stage of tests: one in which no test passes has failed, whatever its exit code says.
pub(crate) fn run_tests(name: &str, cap: Duration, command: &mut Command) -> Result<Outcome> {
    let mut outcome = run(name, cap, command)?;
    if outcome.ok && outcome.counts.passed == 0 {
        eprintln!("{name}: no test ran");
        outcome.ok = false;
    }
    Ok(outcome)
}

/// Runs `command` as stage `name`, for at most `cap`. A failing command is an `Outcome`, not an error.
pub(crate) fn run(name: &str, cap: Duration, command: &mut Command) -> Result<Outcome> {
    println!("=== {name}");
    let start = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("{name}: cannot start {:?}", command.get_program()))?;
    let counts = Arc::new(Mutex::new(Counts::default()));
    let stdout = child.stdout.take().map(|pipe| pass_on(pipe, Arc::clone(&counts)));
    let stderr = child.stderr.take().map(|pipe| pass_on(pipe, Arc::clone(&counts)));
    let ok = wait(&mut child, start, cap, name)?;
    for reader in [stdout, stderr].into_iter().flatten() {
        if reader.join().is_err() {
            bail!("{name}: reading its output failed");
        }
    }
    let counts = counts.lock().map(|c| *c).unwrap_or_default();
    let time = start.elapsed();
    println!("--- {name}: {} in {:.1} s", if ok { "ok" } else { "FAILED" }, time.as_secs_f64());
    Ok(Outcome { name: name.to_owned(), ok, counts, time })
}

fn pass_on(pipe: impl Read + Send + 'static, counts: Arc<Mutex<Counts>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line);
            if let Ok(mut counts) = counts.lock() {
                counts.add(Counts::of_line(&line));
            }
            println!("{line}");
        }
    })
}

/// Waits for the child; past the cap its whole process group is ended, so that no server it started stays behind.
fn wait(child: &mut Child, start: Instant, cap: Duration, name: &str) -> Result<bool> {
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("{name}: cannot wait"))? {
            return Ok(status.success());
        }
        if start.elapsed() > cap {
            eprintln!("{name}: still running after {} minutes, ending it", cap.as_secs() / 60);
            if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _gone_already = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            child.wait().with_context(|| format!("{name}: cannot wait"))?;
            return Ok(false);
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// `cargo` as this process was started by it, in the workspace's root and with its target folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The workspace's root, as cargo says when it runs us: a target folder may be shared by several checkouts.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").to_owned()));
    here.parent().map_or(here.clone(), Into::into)
}

/// The folder that cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    env("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Portcullis' cache folder on this machine; the peers' binaries live below it.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    if let Some(cache) = env("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        return Ok(PathBuf::from(cache).join("portcullis"));
    }
    let home = env("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/portcullis"))
}

#[expect(clippy::disallowed_methods, reason = "xtask is a binary: the environment is read here and nowhere else in it")]
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints one line a stage and the closing line; an error when anything failed.
pub(crate) fn report(outcomes: &[Outcome]) -> Result<()> {
    println!("\nStage times:");
    let mut sum = Counts::default();
    for outcome in outcomes {
        let verdict = if outcome.ok { "ok" } else { "FAILED" };
        println!(
            "  {:<28} {verdict:<7} {:>7.1} s  {} passed, {} failed",
            outcome.name,
            outcome.time.as_secs_f64(),
            outcome.counts.passed,
            outcome.counts.failed
        );
        sum.add(outcome.counts);
    }
    // A stage that breaks without a failing test (a build error, a time-out) must show in the sum as well.
    sum.failed += outcomes.iter().filter(|o| !o.ok && o.counts.failed == 0).count() as u64;
    let skipped = if sum.skipped > 0 { format!(", {} skipped", sum.skipped) } else { String::new() };
    println!("{} passed, {} failed{skipped}", sum.passed, sum.failed);
    if sum.failed > 0 {
        bail!("{} stage(s) failed", outcomes.iter().filter(|o| !o.ok).count().max(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_result_lines_are_counted() {
        let line = "test result: ok. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.03s";
        assert_eq!(Counts::of_line(line), Counts { passed: 12, failed: 3, skipped: 1 });
        let line = "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.03s";
        assert_eq!(Counts::of_line(line), Counts { passed: 0, failed: 1, skipped: 4 });
        assert_eq!(Counts::of_line("7 passed"), Counts::default());
    }

    #[test]
    fn a_stage_past_its_cap_is_ended_and_failed() {
        let mut command = Command::new("sh");
        command.args(["-c", "exec sleep 60"]);
        let outcome = run("sleeper", Duration::from_millis(100), &mut command).unwrap();
        assert!(!outcome.ok);
        assert!(outcome.time < Duration::from_secs(30));
    }

    #[test]
    fn a_stage_of_tests_without_tests_has_failed() {
        let mut command = Command::new("true");
        assert!(!run_tests("nothing", Duration::from_secs(30), &mut command).unwrap().ok);
        let mut command = Command::new("echo");
        command.arg("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        assert!(run_tests("one", Duration::from_secs(30), &mut command).unwrap().ok);
    }

    #[test]
    fn a_failing_stage_without_tests_fails_the_report() {
        let outcome = Outcome { name: "build".to_owned(), ok: false, counts: Counts::default(), time: Duration::ZERO };
        assert!(report(&[outcome]).is_err());
    }
}
