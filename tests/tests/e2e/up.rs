//! `up` and `down` on their own.

use std::fs;

use rustix::process::Signal;

use crate::world::{World, guide};

#[test]
fn one_command_goes_from_nothing_to_a_signed_in_table() {
    let world = World::new();
    let first = world.up(&[]).ok();
    let table: Vec<&str> = first.stdout.lines().collect();
    assert!(table[0].starts_with("NAMESPACE") && table[0].ends_with("AGE"), "{}", first.stdout);
    assert!(table.len() >= 3 && table[1..].iter().all(|row| row.contains("Running")), "{}", first.stdout);
    for line in ["export PATH=", "export KUBECONFIG=", "export NGROK_ENDPOINT=https://localhost:"] {
        assert!(first.stderr.contains(line), "{line} in {}", first.stderr);
    }

    let authority = fs::read(world.dev("ca/ca.pem")).unwrap();
    world.up(&[]).ok();
    assert_eq!(fs::read(world.dev("ca/ca.pem")).unwrap(), authority, "the authority survives");

    world.down().ok();
    assert!(!world.state().join("dev").exists());
    assert_eq!(fs::read_dir(world.state().join("trust")).map_or(0, Iterator::count), 0, "nothing is left to trust");
}

#[test]
fn the_guides_two_files_are_taken_unchanged_and_each_change_is_said() {
    let world = World::new();
    let up = world.up(&["--values", &guide("values.yaml"), "--cluster-config", &guide("kind-config.yaml")]).ok();
    for word in ["idTokens", "grpc", "$NGROK_ENDPOINT", "0.0.0.0", "kubernetes", "tls.crt"] {
        assert!(up.stderr.contains(word), "{word} in:\n{}", up.stderr);
    }
    assert!(up.stdout.contains("Running"));
}

#[test]
fn a_foreign_issuer_is_kept_only_by_refusing() {
    let world = World::new();
    let values =
        fs::read_to_string(guide("values.yaml")).unwrap().replace("$NGROK_ENDPOINT", "https://abcd-12.ngrok-free.app");
    let values = world.write("values.yaml", &values);
    let refused = world.up(&["--values", values.to_str().unwrap(), "--keep-issuer"]).fails(1);
    assert!(
        refused.stderr.contains("abcd-12.ngrok-free.app") && refused.stderr.contains("hint:"),
        "{}",
        refused.stderr
    );
    world.up(&["--values", values.to_str().unwrap()]).ok();
}

#[test]
fn the_guides_published_hash_is_recognised_and_mended_on_request() {
    let world = World::new();
    let published = "$2y$12$14X9Hz5bl8JdH5xaQQuGUe0cC./cb7n2wKGF08jm3jRjPpDkEfyAi";
    let values: String = fs::read_to_string(guide("values.yaml"))
        .unwrap()
        .lines()
        .map(|line| if line.contains("hash:") { format!("      hash: '{published}'\n") } else { format!("{line}\n") })
        .collect();
    let values = world.write("values.yaml", &values);
    let refused = world.up(&["--values", values.to_str().unwrap()]).fails(1);
    assert!(refused.stderr.contains("values.yaml:") && refused.stderr.contains("ChangeMe!234"), "{}", refused.stderr);
    let better = refused
        .stderr
        .split_whitespace()
        .map(|w| w.trim_matches(['\'', '"', ',', '.']))
        .find(|w| w.starts_with("$2") && *w != published)
        .unwrap_or_else(|| panic!("no hash in {}", refused.stderr));
    assert!(bcrypt::verify("ChangeMe!234", better).unwrap());
    world.up(&["--values", values.to_str().unwrap(), "--fix-demo-hash"]).ok();
}

#[test]
fn a_second_up_is_told_who_runs_and_down_ends_it() {
    let world = World::new();
    let mut running = world.up_and_keep(&[]);
    let second = world.up(&[]).fails(1);
    assert!(second.stderr.contains(&running.id().to_string()) && second.stderr.contains("hint:"), "{}", second.stderr);
    world.down().ok();
    assert!(running_ended(&mut running));
    assert!(!world.state().join("dev").exists());
}

#[test]
fn ctrl_c_stops_everything_cleanly() {
    let world = World::new();
    let running = world.up_and_keep(&[]);
    running.signal(Signal::INT);
    let output = running.output();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    world.up(&[]).ok();
}

fn running_ended(running: &mut crate::world::Running) -> bool {
    running.wait_for("stopped");
    true
}
