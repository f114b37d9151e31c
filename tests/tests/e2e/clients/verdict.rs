//! Whether what a client saw is what happened.
//!
//! Each change that was made while the client watched is there exactly once; no object's versions go back; the state at the
//! end is the server's.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::driver::{Change, Made};
use super::program::{Client, Line, Stream};

/// Everything that was made: by the driver, and by the clients' own patches.
pub(crate) struct Truth {
    written: HashMap<(String, u64), Made>,
    deleted: HashMap<String, Made>,
    state: BTreeSet<(String, String, u64)>,
}

impl Truth {
    pub(crate) fn new(made: &[Made], clients: &[Client], state: Vec<(String, String, u64)>) -> Self {
        let (mut written, mut deleted) = (HashMap::new(), HashMap::new());
        for one in made {
            match one.change {
                Change::Deleted => {
                    assert!(deleted.insert(one.uid.clone(), one.clone()).is_none(), "deleted twice: {one:?}");
                }
                Change::Added | Change::Modified => {
                    let key = (one.uid.clone(), one.version);
                    assert!(written.insert(key, one.clone()).is_none(), "written twice: {one:?}");
                }
            }
        }
        for client in clients {
            for line in client.lines.lock().unwrap().iter().filter(|line| line.what == "patched") {
                let (uid, version) = (line.uid.clone(), line.version());
                let one = Made { change: Change::Modified, uid: uid.clone(), version, unwatched: false };
                written.insert((uid, version), one);
            }
        }
        Self { written, deleted, state: state.into_iter().collect() }
    }

    /// Changes that a client must have seen one by one.
    pub(crate) fn watched(&self) -> usize {
        self.written.values().chain(self.deleted.values()).filter(|made| !made.unwatched).count()
    }

    /// What is wrong with a stream; nothing when all is well.
    pub(crate) fn judge(&self, client: &Client, stream: &Stream) -> Vec<String> {
        let lines = client.lines.lock().unwrap();
        let mine: Vec<&Line> = lines.iter().filter(|line| line.stream == stream.name).collect();
        let mut wrong = self.events(stream, &mine);
        let ready = mine.iter().position(|line| line.what == "ready").unwrap_or(mine.len());
        if !mine[ready..].iter().any(|line| line.what == "have") {
            wrong.push("it never had to list again".to_owned());
        }
        if stream.tells_gone && !mine.iter().any(|line| line.what == "gone") {
            wrong.push("it was never told 410".to_owned());
        }
        let held = mine.iter().filter(|line| line.what == "state");
        let held: BTreeSet<_> = held.map(|line| (line.name.clone(), line.uid.clone(), line.version())).collect();
        let differs: Vec<_> = held.symmetric_difference(&self.state).take(5).collect();
        if !differs.is_empty() {
            wrong.push(format!("its state at the end is not the server's: {differs:?}"));
        }
        wrong.truncate(10);
        wrong.into_iter().map(|why| format!("{} {}: {why}", client.name, stream.name)).collect()
    }

    fn events(&self, stream: &Stream, mine: &[&Line]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut latest: HashMap<&str, u64> = HashMap::new();
        let (mut seen, mut gone) = (HashSet::new(), HashSet::new());
        let mut newest = 0;
        for line in mine {
            let uid = line.uid.as_str();
            let live = matches!(line.what.as_str(), "added" | "modified" | "applied" | "deleted");
            if live || line.what == "have" {
                let before = latest.insert(uid, line.version()).unwrap_or(0);
                if line.version() < before || (live && line.version() == before) {
                    wrong.push(format!("after version {before} of its object: {line:?}"));
                }
                if gone.contains(uid) {
                    wrong.push(format!("after the end of its object: {line:?}"));
                }
            }
            if live && stream.in_order {
                if line.version() <= newest {
                    wrong.push(format!("after version {newest}: {line:?}"));
                }
                newest = line.version();
            }
            match line.what.as_str() {
                "added" | "modified" | "applied" => {
                    match (self.written.get(&(line.uid.clone(), line.version())), line.what.as_str()) {
                        (None, _) => wrong.push(format!("nobody made this: {line:?}")),
                        // An object of the same name that was made anew while nobody could watch.
                        (Some(made), _) if made.unwatched => {}
                        (Some(made), "added") if made.change != Change::Added => {
                            wrong.push(format!("a modification came as an addition: {line:?}"));
                        }
                        (Some(made), "modified") if made.change != Change::Modified => {
                            wrong.push(format!("an addition came as a modification: {line:?}"));
                        }
                        (Some(_), _) => {}
                    }
                    if !seen.insert((uid, line.version())) {
                        wrong.push(format!("seen twice: {line:?}"));
                    }
                }
                "deleted" | "vanished" => {
                    let allowed = self.deleted.get(uid).is_some_and(|made| line.what == "deleted" || made.unwatched);
                    if !allowed {
                        wrong.push(format!("nobody deleted this: {line:?}"));
                    }
                    if !gone.insert(uid) {
                        wrong.push(format!("deleted twice: {line:?}"));
                    }
                }
                _ => {}
            }
        }
        let missed = |made: &&Made| match made.change {
            Change::Deleted => !gone.contains(made.uid.as_str()),
            Change::Added | Change::Modified => !seen.contains(&(made.uid.as_str(), made.version)),
        };
        let all = self.written.values().chain(self.deleted.values()).filter(|made| !made.unwatched);
        let missed: Vec<&Made> = all.filter(missed).collect();
        if let Some(first) = missed.first() {
            let told: Vec<&str> = mine
                .iter()
                .filter(|line| line.what == "gone" || line.what == "broken")
                .map(|line| line.text.as_str())
                .collect();
            wrong.insert(
                0,
                format!("{} changes were never seen, such as {first:?}; it was told {told:?}", missed.len()),
            );
        }
        wrong
    }
}
