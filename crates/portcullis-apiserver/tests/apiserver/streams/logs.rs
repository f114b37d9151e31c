//! `kubectl logs` of a part.

use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_apiserver::Part;
use portcullis_runtime::LogRing;
use portcullis_testkit::{ChildGuard, Peer, peer};

use crate::bench::{Bench, dex};

fn part(logs: &LogRing) -> Part {
    Part { logs: logs.clone(), ..dex() }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_and_follows_what_a_part_logs() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let logs = LogRing::default();
    bench.running.seed().part(&part(&logs)).unwrap();
    let say = async |line: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        let output = bench.kubectl(&admin, &args).await;
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let shown = |text: &str| (true, text.to_owned(), String::new());
    assert_eq!(say("logs -n mural-system dex-0").await, shown(""));
    for line in ["one", "two", "three"] {
        logs.push(line);
    }
    assert_eq!(say("logs -n mural-system dex-0").await, shown("one\ntwo\nthree\n"));
    assert_eq!(say("logs -n mural-system dex-0 -c dex --tail=1").await, shown("three\n"));
    assert_eq!(say("logs -n mural-system dex-0 --limit-bytes=5").await, shown("one\nt"));
    assert_eq!(say("logs -n mural-system dex-0 --since=1h").await, shown("one\ntwo\nthree\n"));
    let prefixed = say("logs -n mural-system -l app.kubernetes.io/name=dex --prefix").await;
    assert!(prefixed.1.contains("[pod/dex-0/dex] three\n"), "{prefixed:?}");
    let timed = say("logs -n mural-system dex-0 --timestamps --tail=1").await.1;
    let (time, rest) = timed.split_once(' ').unwrap();
    assert!(time.len() == 30 && time.ends_with('Z') && rest == "three\n", "{timed}");
    let (ok, _, why) = say("logs -n mural-system dex-0 -p").await;
    assert_eq!(
        (ok, why.as_str()),
        (false, "Error from server (BadRequest): previous terminated container \"dex\" in pod \"dex-0\" not found\n")
    );
    let (ok, _, why) = say("logs -n mural-system dex-0 -c other").await;
    let not_valid = "error: container other is not valid for pod dex-0 out of: dex\n";
    assert!(!ok && why.ends_with(not_valid), "{why}");

    let mut command = Command::new(peer(Peer::Kubectl));
    command.env_clear().env("HOME", bench.folder.path()).env("KUBECONFIG", &admin);
    command.args(["logs", "-n", "mural-system", "-f", "--tail=1", "dex-0"]);
    let mut following = ChildGuard::spawn("logs", bench.folder.path(), &mut command);
    let start = Instant::now();
    let wait = async |text: &str, following: &ChildGuard| {
        while !following.output().contains(text) {
            assert!(start.elapsed() < Duration::from_secs(30), "{}", following.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    wait("three", &following).await;
    logs.push("four");
    wait("four", &following).await;
    logs.begin_run();
    logs.push("back again");
    wait("back again", &following).await;
    assert_eq!(say("logs -n mural-system dex-0").await, shown("back again\n"));
    assert!(following.ended().is_none());
    // A part that is taken off ends what follows it.
    bench.running.seed().remove_part("mural-system", "dex-0");
    while following.ended().is_none() {
        assert!(start.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(following.output(), "three\nfour\nback again\n");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_pod_that_does_not_run_is_empty() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";
    std::fs::write(bench.folder.path().join("pod.yaml"), pod).unwrap();
    assert!(bench.kubectl(&admin, &["create", "-f", "pod.yaml"]).await.status.success());
    let output = bench.kubectl(&admin, &["logs", "web"]).await;
    assert_eq!((output.status.success(), output.stdout, output.stderr), (true, Vec::new(), Vec::new()));
    bench.stop().await;
}
