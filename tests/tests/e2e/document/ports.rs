//! The ports that the document names. A reader takes them as they stand, and so does the test: where somebody else has one, it
//! says who, and does not take another.

use std::fs;

use portcullis_local::ports::{Holder, Obstacle, obstacle};

use crate::world::eventually;

/// Ports, and what takes each.
const PORTS: [(u16, &str); 3] = [(5554, "the port-forward"), (6443, "the API server"), (8000, "the sign-in plugin")];

/// Fails with the holder's name when a port is taken.
#[track_caller]
pub(super) fn must_be_free() {
    // A program of another test ends within a moment of its test.
    eventually("the programs of other tests end", || !PORTS.iter().any(|(port, _)| is_of_a_test(*port)));
    if let Some(taken) = taken(&PORTS) {
        panic!("{taken}");
    }
}

fn is_of_a_test(port: u16) -> bool {
    let Some(Obstacle::Held(Holder::Process { pid, .. })) = obstacle(port) else { return false };
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("portcullis-e2e-")
}

fn taken(ports: &[(u16, &str)]) -> Option<String> {
    let taken: Vec<_> =
        ports.iter().filter_map(|(port, user)| Some(format!("port {port} ({user}) {}", obstacle(*port)?))).collect();
    let all = taken.join("; ");
    let why = "docs/guide.md is walked as it stands, with these ports: end what holds them, and run the test again";
    (!taken.is_empty()).then(|| format!("{all}. {why}"))
}

#[test]
fn a_port_that_is_taken_is_named_with_its_holder() {
    let held = portcullis_local::ports::bind(0).unwrap();
    let free = portcullis_testkit::free_port();
    let said = taken(&[(free, "nobody"), (held.port, "the API server")]).unwrap();
    let wanted = format!("port {} (the API server) is held by ", held.port);
    assert!(said.starts_with(&wanted) && said.contains(&format!("(process {})", std::process::id())), "{said}");
    assert_eq!(taken(&[(free, "nobody")]), None);
}
