//! `up` is killed at any step; the next one recovers, and what must survive survives.

use std::fs;

use rustix::process::Signal;

use crate::world::{Running, World};

/// The steps that `up` names, in order; the process is killed right after each.
const STEPS: &[&str] = &["state", "authority", "provider", "api server", "kubeconfig", "binding", "sign-in"];

#[test]
fn a_kill_after_any_step_is_recovered_by_the_next_up() {
    let world = World::new();
    world.up(&[]).ok();
    let authority = fs::read(world.dev("ca/ca.pem")).unwrap();
    for step in STEPS {
        let mut running = Running::start(&mut world.portcullis(&[
            "up",
            "--unattended",
            "--keep",
            "--port",
            "0",
            "--issuer-port",
            "0",
        ]));
        running.wait_for(&format!("  {step} "));
        running.signal(Signal::KILL);
        drop(running);
        let next = world.up(&[]);
        assert_eq!(next.code, Some(0), "after a kill at {step:?}:\n{}", next.stderr);
        assert_eq!(fs::read(world.dev("ca/ca.pem")).unwrap(), authority, "after a kill at {step:?}");
    }
}

#[test]
fn the_providers_keys_and_store_survive_a_kill() {
    let world = World::new();
    let running = world.up_and_keep(&["--issuer-port", "0"]);
    running.signal(Signal::KILL);
    drop(running);
    let store = fs::metadata(world.dev("provider/store.db")).unwrap().len();
    assert!(store > 0);
    world.up(&[]).ok();
    assert!(fs::metadata(world.dev("provider/store.db")).unwrap().len() > 0);
}
