//! Child processes that end with their test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A child process. Dropping it kills that very process, by its id, and waits for its end.
#[derive(Debug)]
pub struct ChildGuard {
    child: Child,
    name: String,
    log: PathBuf,
}

impl ChildGuard {
    /// Starts `command` without input; its output goes to `<folder>/<name>.log`.
    #[must_use]
    pub fn spawn(name: &str, folder: &Path, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = File::create(&log).expect("a log file");
        let err = out.try_clone().expect("a second handle of the log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Self { child, name: name.to_owned(), log }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its status when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child's status")
    }

    /// What it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines that it has written, for a failure's message.
    #[must_use]
    pub fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        format!(
            "last lines of {}:\n{}",
            self.name,
            lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
        )
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        // An error says that it has ended already, which the wait shows as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_is_gone() {
        let folder = crate::temp_dir();
        let child = ChildGuard::spawn("sleeper", folder.path(), Command::new("sleep").arg("600"));
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        assert!(proc.exists() || !Path::new("/proc").exists());
        drop(child);
        assert!(!proc.exists());
    }

    #[test]
    fn output_is_kept() {
        let folder = crate::temp_dir();
        let mut child = ChildGuard::spawn("echo", folder.path(), Command::new("echo").arg("hello"));
        child.child.wait().unwrap();
        assert_eq!(child.output(), "hello\n");
        assert_eq!(child.tail(), "last lines of echo:\nhello");
        assert!(child.ended().unwrap().success());
    }
}
