//! A share of a core for a process, by Linux' control groups.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where version 1 keeps its CPU groups, and version 2 all of them.
const V1: &str = "/sys/fs/cgroup/cpu";
const V2: &str = "/sys/fs/cgroup";
/// Of how many µs a group may run how many: a quarter.
const PERIOD: &str = "100000";
const QUOTA: &str = "25000";

/// A group of processes that have a quarter of a core together. Its processes have to have ended when it is dropped.
pub(crate) struct Quarter(PathBuf);

impl Quarter {
    /// Makes a group.
    ///
    /// # Errors
    /// Where there are no groups, or none may be made.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let name = format!("portcullis-bench-{}-{name}", std::process::id());
        if Path::new(V1).join("cpu.cfs_quota_us").exists() {
            let group = Self::make(Path::new(V1).join(name))?;
            group.put("cpu.cfs_period_us", PERIOD)?;
            group.put("cpu.cfs_quota_us", QUOTA)?;
            return Ok(group);
        }
        let controllers = fs::read_to_string(Path::new(V2).join("cgroup.controllers")).unwrap_or_default();
        if !controllers.split_whitespace().any(|name| name == "cpu") {
            bail!("there is no control group of the kind cpu here");
        }
        fs::write(Path::new(V2).join("cgroup.subtree_control"), "+cpu").context("cgroup.subtree_control")?;
        let group = Self::make(Path::new(V2).join(name))?;
        group.put("cpu.max", &format!("{QUOTA} {PERIOD}"))?;
        Ok(group)
    }

    fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn put(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.0.join(file), value).with_context(|| format!("cannot write {}", self.0.join(file).display()))
    }

    /// Moves a process, with all of its threads, into the group.
    pub(crate) fn hold(&self, process: u32) -> Result<()> {
        self.put("cgroup.procs", &process.to_string())
    }
}

impl Drop for Quarter {
    fn drop(&mut self) {
        // One that is left behind holds nothing.
        let _left_behind = fs::remove_dir(&self.0);
    }
}
