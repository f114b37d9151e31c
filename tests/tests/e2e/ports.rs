//! Ports that others hold. The well-known ones are held here only if they are free: on this machine somebody else may have
//! them, which shows the same.

use std::fs;
use std::net::TcpListener;

use crate::world::{World, finish, guide};

/// Holds a port for the test; `None` when it is somebody else's already.
fn hold(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}

/// `port N is held by PROGRAM (process ID)`, where this test holds it.
fn held_by_us(stderr: &str, port: u16, ends: &str) {
    let line = stderr.lines().find(|line| line.contains(&format!("port {port} is held by ")));
    let line = line.unwrap_or_else(|| panic!("nothing about {port} in:\n{stderr}"));
    assert!(line.contains(&format!("(process {}): {ends}", std::process::id())), "{line}");
}

#[test]
fn flags_that_name_taken_ports_move_with_a_word() {
    let world = World::new();
    let (api, issuer) = (hold(0).unwrap(), hold(0).unwrap());
    let port = |held: &TcpListener| held.local_addr().unwrap().port();
    let (api_port, issuer_port) = (port(&api), port(&issuer));
    let up = world.up(&["--port", &api_port.to_string(), "--issuer-port", &issuer_port.to_string()]).ok();
    held_by_us(&up.stderr, api_port, "the API server is on ");
    held_by_us(&up.stderr, issuer_port, "the provider is on ");
    assert!(up.stdout.contains("Running"));
}

#[test]
fn default_ports_and_those_of_the_values_move_with_a_word() {
    let world = World::new();
    let held: Vec<(u16, &str, Option<TcpListener>)> = [
        (6443, "the API server is on "),
        (5554, "the provider is on "),
        (5556, "web.http is on "),
        (5558, "telemetry.http is on "),
    ]
    .into_iter()
    .map(|(port, what)| (port, what, hold(port)))
    .collect();
    let up = finish(&mut world.portcullis(&[
        "up",
        "--unattended",
        "--values",
        &guide("values.yaml"),
        "--cluster-config",
        &guide("kind-config.yaml"),
    ]))
    .ok();
    for (port, what, ours) in &held {
        match ours {
            Some(_) => held_by_us(&up.stderr, *port, what),
            None => assert!(up.stderr.contains(&format!("port {port} is held by ")), "{}", up.stderr),
        }
    }
    assert!(up.stdout.contains("Running"));
}

#[test]
fn ports_and_name_of_the_files_are_used_where_no_flag_says_others() {
    let world = World::new();
    let free: Vec<u16> = (0..2).map(|_| hold(0).unwrap()).map(|held| held.local_addr().unwrap().port()).collect();
    let values =
        fs::read_to_string(guide("values.yaml")).unwrap().replace("0.0.0.0:5554", &format!("0.0.0.0:{}", free[0]));
    let kind = fs::read_to_string(guide("kind-config.yaml"))
        .unwrap()
        .replace("6443", &free[1].to_string())
        .replace("networking:", "name: from-file\nnetworking:");
    let (values, kind) = (world.write("values.yaml", &values), world.write("kind-config.yaml", &kind));
    let files = ["--values", values.to_str().unwrap(), "--cluster-config", kind.to_str().unwrap()];
    finish(&mut world.portcullis(&[&["up", "--unattended"], &files[..]].concat())).ok();
    let state = fs::read(world.state().join("from-file/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["issuer"], format!("https://localhost:{}", free[0]));
    assert_eq!(state["server"], format!("https://127.0.0.1:{}", free[1]));
    let kubeconfig = fs::read_to_string(world.state().join("from-file/kubeconfig")).unwrap();
    assert!(kubeconfig.contains("current-context: kind-from-file"), "{kubeconfig}");
}

#[test]
fn a_foreign_issuer_in_the_cluster_config_is_kept_only_by_refusing() {
    let world = World::new();
    let kind = fs::read_to_string(guide("kind-config.yaml")).unwrap();
    for (issuer, shown) in [("https://abcd-12.ngrok-free.app", "https://abcd-12.ngrok-free.app"), ("\"\"", "")] {
        let file = world.write("kind-config.yaml", &kind.replace("$NGROK_ENDPOINT", issuer));
        let file = file.to_str().unwrap();
        let refused = world.up(&["--cluster-config", file, "--keep-issuer"]).fails(1);
        let line = refused.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
        let start = format!(
            "error: {file}:13: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.oidc-issuer-url: the issuer is {shown:?}, not https://localhost:"
        );
        assert!(line.starts_with(&start) && line.ends_with(", and --keep-issuer is given"), "{line}");
        world.up(&["--cluster-config", file]).ok();
    }
}

#[test]
fn the_second_callback_port_is_used_with_a_word() {
    let world = World::new();
    let _held = hold(8000);
    let up = world.up(&[]).ok();
    held_by_us(&up.stderr, 8000, "the sign-in uses http://localhost:18000");
}

#[test]
fn a_busy_port_8000_names_its_holder_and_the_redirect_uri_to_add() {
    let world = World::new();
    let _held = hold(8000);
    let values = guide("values.yaml");
    let refused = world.up(&["--values", &values]).fails(1);
    let said: Vec<&str> = refused.stderr.lines().rev().take(2).collect();
    let start = format!(
        "error: {values}:45: dex.config.staticClients[0]: the sign-in plugin cannot listen on any of the client's redirect URIs: port 8000 is held by "
    );
    assert!(said[1].starts_with(&start), "{}", refused.stderr);
    assert!(said[1].ends_with(&format!("(process {})", std::process::id())), "{}", refused.stderr);
    assert_eq!(
        said[0],
        "hint: add http://localhost:18000 to the client's redirectURIs, or end the process that holds the port"
    );
}
