//! `--keep-state` where nothing more can be written. The disk of these tests is a limit on the size of files, which anybody may
//! set on a process that runs, and take away again: every write of the kernel's beyond it fails.

use std::collections::BTreeMap;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Finished, Running, World, finish};

/// Bytes of a config map, of which few fill what is left.
const LARGE: usize = 40_000;

struct Server<'w> {
    world: &'w World,
    running: Running,
}

impl<'w> Server<'w> {
    fn start(world: &'w World) -> Self {
        let mut running = Running::start(&mut world.portcullis(&["apiserver", "--secure-port", "0", "--keep-state"]));
        running.wait_for("Ctrl-C");
        Self { world, running }
    }

    fn kubectl(&self, arguments: &[&str]) -> Finished {
        self.world.kubectl(arguments)
    }

    fn create(&self, name: &str, size: usize) -> Finished {
        let value = format!("--from-literal=a={}", "x".repeat(size));
        self.kubectl(&["create", "configmap", name, &value])
    }

    /// The bytes that a file may have from now on.
    fn limit(&self, bytes: &str) {
        let id = self.running.id().to_string();
        finish(Command::new("prlimit").args(["--pid", &id, &format!("--fsize={bytes}:")])).ok();
    }

    /// Leaves room for a few kilobytes at the end of the log.
    fn fill(&self) {
        let log = self.world.dev("apiserver/objects.db-wal");
        self.limit(&(std::fs::metadata(log).unwrap().len() + 100_000).to_string());
    }

    /// Makes config maps until one is refused: how many were made, and the refusal. Each is another one: what is deleted again
    /// leaves its room in the file.
    fn until_refused(&self, prefix: &str) -> (usize, Finished) {
        for made in 0..50 {
            let outcome = self.create(&format!("{prefix}{made}"), LARGE);
            if outcome.code != Some(0) {
                return (made, outcome);
            }
        }
        panic!("the disk does not fill");
    }

    /// Versions of the config maps, by name.
    fn maps(&self) -> BTreeMap<String, String> {
        let list: Value =
            serde_json::from_str(&self.kubectl(&["get", "configmaps", "-o", "json"]).ok().stdout).unwrap();
        let text = |item: &Value, key: &str| item["metadata"][key].as_str().unwrap().to_owned();
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| (text(item, "name"), text(item, "resourceVersion"))).collect()
    }
}

#[test]
fn writes_are_refused_with_the_cause_nothing_is_lost_and_all_is_well_when_there_is_room() {
    let world = World::new();
    let server = Server::start(&world);
    server.create("before", 10).ok();
    server.fill();
    let (made, refused) = server.until_refused("m");
    let cause = "the file that keeps the objects may not grow any more (`ulimit -f`): raise that limit of the server and try again";
    assert_eq!(
        (refused.code, refused.stderr.trim()),
        (Some(1), format!("error: failed to create configmap: Internal error occurred: {cause}").as_str())
    );
    // What is there is there, and can be read; what was refused is not.
    let there = server.maps();
    assert_eq!(there.len(), made + 2, "with the authorities: {there:?}");
    assert!(!there.contains_key(&format!("m{made}")));
    assert_eq!(server.kubectl(&["get", "--raw", "/readyz"]).ok().stdout, "ok");
    let more = server.create("more", LARGE).fails(1);
    assert!(more.stderr.contains(cause), "{}", more.stderr);

    // A kill while nothing can be written.
    server.running.signal(Signal::KILL);
    drop(server);
    let server = Server::start(&world);
    assert_eq!(server.maps(), there);

    // Room comes back while it runs.
    server.fill();
    server.until_refused("l");
    server.limit("unlimited");
    server.create("after", LARGE).ok();
    let there = server.maps();
    server.running.signal(Signal::KILL);
    drop(server);
    assert_eq!(Server::start(&world).maps(), there);
}

#[test]
fn a_start_without_room_is_refused_with_the_way_out() {
    let world = World::new();
    let server = Server::start(&world);
    server.create("kept", 10).ok();
    let there = server.maps();
    server.running.signal(Signal::KILL);
    drop(server);
    let mut limited = world.command("prlimit");
    limited.arg("--fsize=8192:").arg(crate::world::bin().join("portcullis"));
    let refused = finish(limited.args(["apiserver", "--secure-port", "0", "--keep-state"])).fails(1);
    let file = world.dev("apiserver/objects.db");
    assert!(refused.stderr.contains(file.to_str().unwrap()), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
    assert_eq!(Server::start(&world).maps(), there);
}
