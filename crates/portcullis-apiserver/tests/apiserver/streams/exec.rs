//! `kubectl exec POD -- kill 1`, over WebSocket and over SPDY, and what a pod says of a part that ends and comes back.

use std::process::{Command, Output};
use std::time::Duration;

use portcullis_apiserver::{Ended, Part, PartControl, PartEvent, PartSignal, PartState, PartStatus};
use portcullis_testkit::{Peer, peer};

use crate::bench::{Bench, dex};

fn part(control: PartControl) -> Part {
    Part { control, ..dex() }
}

/// `kubectl exec` of the administrator. `way` is what `KUBECTL_REMOTE_COMMAND_WEBSOCKETS` says.
async fn exec(bench: &Bench, way: &str, line: &str) -> (Option<i32>, String, String) {
    let kubeconfig = bench.kubeconfig("admin", &["system:masters"]);
    let mut command = Command::new(peer(Peer::Kubectl));
    command.env_clear().env("HOME", bench.folder.path()).env("KUBECONFIG", kubeconfig);
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", way);
    command.args(["exec", "-n", "mural-system"]).args(line.split(' '));
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_1_is_the_one_command() {
    let bench = Bench::start().await;
    let (control, mut signals) = PartControl::new();
    bench.running.seed().part(&part(control)).unwrap();
    for way in ["true", "false"] {
        let done = |code, stderr: &str| (Some(code), String::new(), stderr.to_owned());
        assert_eq!(exec(&bench, way, "dex-0 -- kill 1").await, done(0, ""), "{way}");
        assert_eq!(signals.try_recv(), Ok(PartSignal::Terminate));
        assert_eq!(exec(&bench, way, "-i -c dex dex-0 -- kill -9 1").await, done(0, ""), "{way}");
        assert_eq!(signals.try_recv(), Ok(PartSignal::Kill));
        let no_such = "kill: (2) - No such process\ncommand terminated with exit code 1\n";
        assert_eq!(exec(&bench, way, "dex-0 -- kill 2").await, done(1, no_such), "{way}");
        let (code, _, why) = exec(&bench, way, "dex-0 -- sh").await;
        assert_eq!(code, Some(1));
        assert!(why.contains("exec: \"sh\": executable file not found in $PATH"), "{why}");
        assert!(why.contains("it understands `kill 1`"), "{why}");
    }
    assert!(signals.try_recv().is_err());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_tells_how_its_part_is() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let seed = bench.running.seed();
    let definition = part(PartControl::default());
    seed.part(&definition).unwrap();
    let say = async |line: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        let output = bench.kubectl(&admin, &args).await;
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let row = async || {
        let text = say("get pod dex-0 -n mural-system --no-headers").await;
        text.split_whitespace().take(4).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row().await, "dex-0 1/1 Running 0");
    let started = definition.started;
    let finished = started + Duration::from_secs(5);
    let ended = Ended { started, finished, exit_code: 137, message: String::new() };
    let status = PartStatus {
        state: PartState::Ended(ended.clone()),
        ready: false,
        ready_since: finished,
        restarts: 0,
        last: None,
    };
    assert!(seed.part_status("mural-system", "dex-0", &status));
    assert_eq!(row().await, "dex-0 0/1 Error 0");
    let why =
        bench.kubectl(&admin, &["wait", "-n", "mural-system", "--for=condition=Ready", "pod/dex-0", "--timeout=1s"]);
    assert!(!why.await.status.success());
    let waiting = PartState::Waiting {
        reason: "CrashLoopBackOff".to_owned(),
        message: "back-off 10s restarting failed container=dex".to_owned(),
    };
    seed.part_status("mural-system", "dex-0", &PartStatus { state: waiting, last: Some(ended.clone()), ..status });
    for _ in 0..3 {
        seed.part_event("mural-system", "dex-0", &PartEvent::BackOff);
    }
    assert_eq!(row().await, "dex-0 0/1 CrashLoopBackOff 0");
    let again = PartStatus {
        state: PartState::Running { started: finished },
        ready: true,
        ready_since: finished,
        restarts: 1,
        last: Some(ended),
    };
    seed.part_status("mural-system", "dex-0", &again);
    seed.part_event("mural-system", "dex-0", &PartEvent::Started);
    assert!(row().await.starts_with("dex-0 1/1 Running 1"));
    say("wait -n mural-system --for=condition=Ready pod/dex-0 --timeout=5s").await;
    let described = say("describe pod dex-0 -n mural-system").await;
    for part in ["Last State:     Terminated", "Reason:       Error", "Exit Code:    137", "Restart Count:  1"] {
        assert!(described.contains(part), "{part}\n{described}");
    }
    for part in ["(x3 over", "Back-off restarting failed container dex in pod dex-0_mural-system(", "Container started"]
    {
        assert!(described.contains(part), "{part}\n{described}");
    }
    bench.stop().await;
}
