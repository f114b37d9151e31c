//! `up` with a person at a terminal: it says where and as whom to sign in, and waits until Ctrl-C.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::world::{PASSWORD, Running, USER, World, eventually, guide, is_free, runs};

/// What is said to a person about the demo user.
const WHO: &str = "sign in as oidc-demo-user@example.com / ChangeMe!234";
const URL: &str = "http://localhost:8000/";

#[test]
fn on_a_desktop_the_browser_opens_and_url_and_password_are_said() {
    let world = World::new();
    world.install_browser(USER, PASSWORD);
    let mut up = world.up_in_terminal(Some(":0"), &[]);
    assert_eq!(up.wait_for("sign in as"), format!("  your browser opens {URL}: {WHO}"));
    up.wait_for("NAMESPACE");
    up.wait_for("In another terminal:");
    for line in ["export PATH=", "export KUBECONFIG=", "export NGROK_ENDPOINT=https://localhost:"] {
        up.wait_for(line);
    }
    up.wait_for("running until Ctrl-C");
    up.press("\u{3}");
    let ended = up.output();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    eventually("no child is left", || world.processes().is_empty());
}

#[test]
fn in_a_terminal_without_a_desktop_the_url_is_printed_and_waited_for() {
    let world = World::new();
    // It would sign in at once; an empty DISPLAY is no desktop.
    world.install_browser(USER, PASSWORD);
    for display in [None, Some("")] {
        let mut up = world.up_in_terminal(display, &[]);
        assert_eq!(up.wait_for("sign in as"), format!("  {WHO}"));
        assert_eq!(up.wait_for("Please visit"), format!("Please visit the following URL in your browser: {URL}"));
        // For this run alone it waits longer than any person; the kubeconfig says nothing of it.
        let command = fs::read_to_string(format!("/proc/{}/cmdline", world.plugin())).unwrap();
        assert!(command.contains("--authentication-timeout-sec=4294967295\0--skip-open-browser"), "{command}");
        assert!(!fs::read_to_string(world.dev("kubeconfig")).unwrap().contains("authentication-timeout"));
        world.sign_in_at(URL).ok();
        up.wait_for("NAMESPACE");
        up.wait_for("running until Ctrl-C");
        up.press("\u{3}");
        assert_eq!(up.output().status.code(), Some(0));
    }
    assert!(!world.home().join("browser.log").exists(), "no browser was opened");
}

#[test]
fn ctrl_c_ends_the_wait_and_leaves_nothing_behind() {
    let world = World::new();
    let mut up = world.up_in_terminal(None, &["--values", &guide("values.yaml")]);
    up.wait_for("Please visit");
    let plugin = world.plugin();
    assert!(runs(plugin) && !is_free(8000));
    up.press("\u{3}");
    let ended = up.output();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(said.contains("stopped; ") && !said.contains("error"), "{said}");
    assert!(!runs(plugin) && is_free(8000), "the plugin is gone, and its port free");
    assert_eq!(world.processes(), [""; 0]);
    assert_eq!(world.state_file().get("plugin"), None);
}

#[test]
fn a_sign_in_that_fails_says_why_and_starts_again() {
    let world = World::new();
    let mut up = world.up_in_terminal(None, &["--values", &guide("values.yaml")]);
    up.wait_for("Please visit");
    let first = world.plugin();
    refuse();
    assert_eq!(
        up.wait_for("error: "),
        "error: get-token: authentication error: authcode-browser error: authentication error: authorization code flow error: oauth2 error: authorization error: authorization error from server: access_denied no"
    );
    up.wait_for("the sign-in failed; it starts again in 1 s, until Ctrl-C");
    up.wait_for("Please visit");
    refuse();
    up.wait_for("the sign-in failed; it starts again in 2 s, until Ctrl-C");
    up.wait_for("Please visit");
    assert_ne!(world.plugin(), first);
    world.sign_in_at(URL).ok();
    up.wait_for("NAMESPACE");
    up.wait_for("running until Ctrl-C");
}

/// What a browser brings back when its person says no.
fn refuse() {
    let start = get("/");
    let state = start.split("state=").nth(1).unwrap().split(['&', '\r']).next().unwrap().to_owned();
    get(&format!("/?error=access_denied&error_description=no&state={state}"));
}

fn get(path: &str) -> String {
    let mut connection = TcpStream::connect("127.0.0.1:8000").unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_user_with_another_password_is_named_without_it() {
    let world = World::new();
    let values = fs::read_to_string(guide("values.yaml")).unwrap();
    let hash = bcrypt::hash("hunter2-secret", 10).unwrap();
    let values = values.replace("$2y$12$VQP6H7iU2C3O59odzJFYYuYhBqUi0wyvbitNdLFdcE8zmsMGIXgHu", &hash);
    let values = world.write("values.yaml", &values);
    let mut up = world.up_in_terminal(None, &["--values", values.to_str().unwrap()]);
    let line = up.wait_for("sign in as");
    assert_eq!(line, format!("  sign in as {USER}, with the password of its hash in {}", values.display()));
}

/// The guide registers one redirect URI, so a plugin that outlives its `up` would hold the only port there is.
#[test]
fn a_kill_while_it_waits_ends_the_plugin_too() {
    let world = World::new();
    let files = ["--values", &guide("values.yaml"), "--cluster-config", &guide("kind-config.yaml")];
    let mut up = world.up_in_terminal(None, &files);
    up.wait_for("Please visit");
    let plugin = world.plugin();
    up.signal(Signal::KILL);
    drop(up);
    eventually("the plugin ends with its `up`", || !runs(plugin) && is_free(8000));
    world.up(&files).ok();
}

/// Should the plugin hang, what was written down ends it.
#[test]
fn a_plugin_that_outlived_its_up_is_ended_by_the_next_up_and_by_down() {
    let world = World::new();
    let files = ["--values", &guide("values.yaml"), "--cluster-config", &guide("kind-config.yaml")];
    for next in ["up", "down"] {
        let up = world.up_and_keep(&files);
        let plugin = waiting_plugin(&world);
        let id = plugin.id();
        let mut state = world.state_file();
        state["plugin"] = serde_json::json!({"pid": id, "started": portcullis_local::process::started(id).unwrap()});
        fs::write(world.dev("state.json"), state.to_string()).unwrap();
        up.signal(Signal::KILL);
        drop(up);
        assert!(runs(id) && !is_free(8000));
        if next == "down" {
            let down = world.down().ok();
            assert!(down.stderr.contains(&format!("still waited (process {id})")), "{}", down.stderr);
            assert!(!world.dev("").exists());
        } else {
            let up = world.up(&files).ok();
            let said = format!("ended the sign-in of an earlier `up` that still waited (process {id})");
            assert!(up.stderr.contains(&said), "{}", up.stderr);
        }
        assert!(!runs(id));
        drop(plugin);
    }
}

/// A plugin as `up` starts it, of whose end nobody tells it.
fn waiting_plugin(world: &World) -> Running {
    let issuer = world.state_file()["issuer"].as_str().unwrap().to_owned();
    let mut plugin = Running::start(world.command(world.dev("bin/kubectl-oidc_login")).args([
        "get-token",
        &format!("--oidc-issuer-url={issuer}"),
        "--oidc-client-id=kubernetes",
        "--oidc-client-secret=demo-client-secret-change-me",
        &format!("--certificate-authority={}", world.dev("ca/ca.pem").display()),
        "--token-cache-storage=none",
        "--skip-open-browser",
        "--listen-address=127.0.0.1:8000",
    ]));
    plugin.wait_for("Please visit");
    plugin
}
