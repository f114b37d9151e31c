//! Clients beyond kubectl: kube-rs, client-go and the official Python client list, watch and patch without error through
//! thousands of changes, two cuts of their connections and a 410.
//!
//! Flow: objects → each client lists pages, starts its watches → changes by a driver and patches by the clients, cut twice
//! in the middle → nobody gets through, and the server forgets what happened meanwhile → more changes → each client's record
//! beside the driver's, and every error that it was told: none but those of the cuts and the 410. The same goes through a real
//! kube-apiserver, so that the scenario itself is known to be right.
//!
//! Needs `client-go-peer` among the peers, and `PORTCULLIS_PYTHON`, a Python that has the client; `cargo xtask test` sees to both.

mod driver;
mod errors;
mod kube_rs;
mod program;
mod proxy;
mod server;
mod verdict;

use std::path::Path;
use std::process::Command;

use driver::{Driver, NAMESPACE};
use errors::Window;
use program::{Client, Stream};
use proxy::Proxy;
use server::Kind;
pub(crate) use server::Server;
use verdict::Truth;

use crate::world::peers;

/// Patches by each client at a time.
const PATCHES: usize = 60;
/// Bytes of an object that fills the server's memory of what happened.
const BIG: usize = 100_000;
/// How often it changes: more than the 2 MiB that the dev API server remembers of a resource.
const BIG_CHANGES: usize = 100;
/// What the clients change objects with.
const KINDS: &[&str] = &["merge", "strategic", "json", "update"];

const GO: &[Stream] = &[
    Stream { name: "informer", in_order: false, tells_cut: true, tells_gone: false },
    Stream { name: "dynamic", in_order: false, tells_cut: true, tells_gone: false },
    Stream { name: "metadata", in_order: false, tells_cut: true, tells_gone: false },
    Stream { name: "retry-watcher", in_order: true, tells_cut: true, tells_gone: true },
];
const PYTHON: &[Stream] = &[
    Stream { name: "watch", in_order: true, tells_cut: true, tells_gone: true },
    Stream { name: "informer", in_order: true, tells_cut: true, tells_gone: true },
];

#[test]
fn clients_see_ten_thousand_changes_once_and_in_order_through_cuts_and_a_410() {
    runtime().block_on(async { scenario(Server::ours(), 10_000).await });
}

/// Fewer changes: what is shown here is that the scenario holds where nobody doubts the server.
#[test]
fn the_same_scenario_holds_against_a_real_kube_apiserver() {
    runtime().block_on(async { scenario(Server::real().await, 2_000).await });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn scenario(mut server: Server, changes: usize) {
    let mut driver = Driver::new(&server).await;
    for client in ["client-go", "client-python", "client-rust"] {
        for number in 0..5 {
            driver.create(&format!("{client}-{number}")).await;
        }
    }
    driver.create("barrier").await;
    driver.create("remade").await;
    driver.change(240).await;
    let mut clients = start(&server);
    for client in &clients {
        for stream in client.streams {
            client.wait("its first list", |line| line.stream == stream.name && line.what == "ready").await;
        }
    }
    driver.unwatched = false;
    let batches = 8;
    for batch in 0..batches {
        let command = format!("patch {PATCHES}");
        clients.iter_mut().for_each(|client| client.tell(&command));
        let connections: Vec<usize> = clients.iter().map(|client| client.proxy.accepted()).collect();
        driver.change(changes / batches / 2).await;
        let cut = batch == 1 || batch == 3;
        if cut {
            for client in &clients {
                client.enter(Window::Cut);
                client.proxy.cut();
            }
        }
        driver.change(changes / batches / 2).await;
        for client in &clients {
            client.done(&command, batch + 1).await;
        }
        barrier(&mut driver, &clients, batch).await;
        clients.iter().for_each(|client| client.enter(Window::Calm));
        for (client, before) in clients.iter().zip(connections) {
            assert!(!cut || client.proxy.accepted() > before, "{} did not connect again", client.name);
        }
        if batch == 5 {
            forget(&mut server, &mut driver, &clients).await;
        }
    }
    for client in &mut clients {
        client.tell("state");
        client.done("state", 1).await;
    }
    let truth = Truth::new(&driver.made, &clients, driver.state().await);
    assert!(truth.watched() >= changes, "{} changes", truth.watched());
    let told = clients.iter().flat_map(errors::judge);
    let seen = clients.iter().flat_map(|client| client.streams.iter().flat_map(|stream| truth.judge(client, stream)));
    let wrong: Vec<String> = told.chain(seen).collect();
    assert!(wrong.is_empty(), "of {} changes:\n{}", truth.watched(), wrong.join("\n"));
    for client in &clients {
        client.streams.iter().for_each(|stream| doubted(&truth, client, stream));
        errors::doubted(client);
    }
    for (client, paged) in clients.iter().zip([true, true, false]) {
        let lines = client.lines.lock().unwrap();
        let many = lines.iter().any(|line| line.what == "pages" && line.text.parse::<usize>().unwrap() > 1);
        assert!(many || !paged, "{} never saw a second page", client.name);
    }
}

/// The verdict would have found a lost event, one that came twice, and two that changed places.
fn doubted(truth: &Truth, client: &Client, stream: &Stream) {
    let as_it_was = client.lines.lock().unwrap().clone();
    let of_stream = |what: &str| {
        let mine = |line: &program::Line| line.stream == stream.name && line.what == what;
        as_it_was.iter().rposition(mine).unwrap()
    };
    let at = of_stream(if stream.tells_gone && client.name == "kube-rs" { "applied" } else { "modified" });
    let before = as_it_was[..at].iter().rposition(|line| line.uid == as_it_was[at].uid && line.stream == stream.name);
    let mut lost = as_it_was.clone();
    lost.remove(at);
    let mut twice = as_it_was.clone();
    twice.insert(at, as_it_was[at].clone());
    let mut swapped = as_it_was.clone();
    swapped.swap(at, before.unwrap());
    for wrong in [lost, twice, swapped] {
        *client.lines.lock().unwrap() = wrong;
        assert!(!truth.judge(client, stream).is_empty(), "{} {}", client.name, stream.name);
    }
    *client.lines.lock().unwrap() = as_it_was;
}

/// A change that everyone must have seen before anything else happens.
async fn barrier(driver: &mut Driver, clients: &[Client], number: usize) {
    let (uid, version) = driver.set("barrier", &format!("b{number}")).await;
    for client in clients {
        client.caught_up(&uid, version).await;
    }
}

/// So much happens while nobody gets through that the version where the clients stand is no longer remembered.
async fn forget(server: &mut Server, driver: &mut Driver, clients: &[Client]) {
    for client in clients {
        client.enter(Window::Down);
        client.proxy.down();
    }
    driver.unwatched = true;
    driver.create("big").await;
    for number in 0..BIG_CHANGES {
        driver.set("big", &format!("{number}{}", "x".repeat(BIG))).await;
    }
    driver.delete("big").await;
    driver.delete("remade").await;
    driver.create("remade").await;
    driver.change(80).await;
    let (uid, version) = driver.set("barrier", "after").await;
    driver.unwatched = false;
    if let Kind::Real(plane) = &mut server.kind {
        // Its watch cache holds more than a minute; a restart empties it.
        plane.restart_apiserver().await;
    }
    clients.iter().for_each(|client| client.proxy.up());
    for client in clients {
        client.caught_up(&uid, version).await;
        client.enter(Window::Calm);
    }
}

fn start(server: &Server) -> Vec<Client> {
    let folder = server.folder.path();
    let prepare = |name: &str| {
        let proxy = Proxy::start(server.addr);
        let kubeconfig = server.kubeconfig_at(proxy.addr());
        let path = folder.join(format!("{name}.kubeconfig"));
        std::fs::write(&path, &kubeconfig).unwrap();
        (proxy, kubeconfig, path, folder.join(format!("{name}.log")))
    };
    let kinds = KINDS.join(",");
    let (proxy, _, path, log) = prepare("client-go");
    let mut command = Command::new(peers().join("client-go-peer"));
    command.arg(path).args([NAMESPACE, &kinds]);
    let go = Client::program("client-go", GO, proxy, &mut command, &log);
    let (proxy, _, path, log) = prepare("python");
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py")).arg(path).args([NAMESPACE, &kinds]);
    let python = Client::program("python", PYTHON, proxy, &mut command, &log);
    let (proxy, kubeconfig, ..) = prepare("kube-rs");
    vec![go, python, kube_rs::start(proxy, &kubeconfig, NAMESPACE, KINDS)]
}

/// A Python that has the official client.
pub(crate) fn python() -> std::ffi::OsString {
    std::env::var_os("PORTCULLIS_PYTHON").expect("PORTCULLIS_PYTHON names a Python that has the official client")
}
