//! `up` is killed at any step; the next one recovers, and what must survive survives.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

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
    let running = world.up_and_keep(&[]);
    let before = key_ids(&running);
    running.signal(Signal::KILL);
    drop(running);
    let again = world.up_and_keep(&[]);
    let after = key_ids(&again);
    assert!(!before.is_empty() && before.iter().any(|kid| after.contains(kid)), "{before:?} then {after:?}");
}

/// The ids of the keys that the running provider publishes, asked over loopback http as a browser could.
fn key_ids(running: &Running) -> Vec<String> {
    let stderr = running.stderr();
    let issuer = stderr.lines().find_map(|line| line.trim().strip_prefix("export NGROK_ENDPOINT=https://")).unwrap();
    let mut connection = TcpStream::connect(issuer).unwrap();
    write!(connection, "GET /keys HTTP/1.1\r\nHost: {issuer}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split("\"kid\"").skip(1).filter_map(|rest| rest.split('"').nth(1).map(str::to_owned)).collect()
}
