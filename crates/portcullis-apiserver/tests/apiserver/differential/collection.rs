//! What the controllers of a real cluster do about objects that go, beside ours: upstream's garbage collector and namespace
//! controller run against the real kube-apiserver, and a GET waits until both sides show the same.

use std::time::{Duration, Instant};

use portcullis_testkit::ControlPlane;

use super::script::steps;
use super::{Side, difference, make_namespace, settled};
use crate::bench::Bench;

/// How long ours is given to act upon an object that goes, before what both show counts.
const PAUSE: Duration = Duration::from_millis(500);
/// Upstream's namespace controller looks again after eight seconds.
const LONGEST: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn what_deletions_leave_behind_is_what_upstreams_controllers_leave() {
    let real_plane = ControlPlane::start(&[]).await;
    let bench = Bench::start().await;
    settled(&real_plane).await;
    let _controllers = real_plane.controllers();
    let mut real = Side::new(real_plane.url().to_owned(), real_plane.admin_client());
    let mut ours = Side::new(bench.url(""), bench.client(Some(("admin", &["system:masters"]))));
    for namespace in ["collection", "elsewhere"] {
        make_namespace(&real_plane, &bench, namespace).await;
    }
    let (mut compared, mut differences) = (0, Vec::new());
    for (number, step) in steps("collection", include_str!("requests/collection.txt")).into_iter().enumerate() {
        let deadline = Instant::now() + LONGEST;
        let mut looked_again = false;
        loop {
            let (mut want, mut got) = (real.ask(&step).await, ours.ask(&step).await);
            finalizers_in_order(&mut want.3);
            finalizers_in_order(&mut got.3);
            if want == got {
                // Both may show the state before either has acted.
                if looked_again || step.method != "GET" || !want.3.contains("deletionTimestamp") {
                    break;
                }
                looked_again = true;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let place = format!("{:03}: {} {} {}", number + 1, step.method, step.path, step.body);
            if step.method != "GET" || Instant::now() > deadline {
                differences.push(format!("== {place}\n{}", difference(&want, &got)));
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        compared += 1;
    }
    assert!(differences.is_empty(), "{} of {compared} answers differ\n{}", differences.len(), differences.join("\n"));
    assert!(compared > 100, "{compared}");
    bench.stop().await;
}

/// The real server writes finalizers that a deletion adds in the order of a Go map, which is random.
fn finalizers_in_order(body: &mut String) {
    let Ok(mut object) = serde_json::from_str::<serde_json::Value>(body) else { return };
    if let Some(list) = object.pointer_mut("/metadata/finalizers").and_then(|list| list.as_array_mut()) {
        list.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        *body = serde_json::to_string_pretty(&object).unwrap();
    }
}
