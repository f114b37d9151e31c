//! Leases are `Lease` objects: what people see, what they may do to them, and what the provider may do to others'.

use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::{Clock, MockClock, Rng};
use portcullis_storage::kernel::Kind;
use portcullis_storage::{Candidate, CrdHandling, Duty, Kernel, LEASE_LIFETIME, Store};
use portcullis_testkit::ControlPlane;

use crate::kit::{Pod, Shared, kubectl, open};

fn replica(kernel: &Shared, seed: u64) -> (Store, MockClock) {
    let (clock, hand) = Clock::mock(1_800_000_000);
    (Store::new(Arc::clone(kernel) as _, clock, Rng::seeded(seed)), hand)
}

fn candidate(store: &Store) -> Candidate {
    store.leases().candidate(Duty::Collect, LEASE_LIFETIME)
}

fn in_namespace(plane: &ControlPlane, args: &[&str]) -> String {
    kubectl(plane, &[args, &["--namespace=portcullis"]].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_who_holds_a_lease() {
    let plane = ControlPlane::start(&[]).await;
    let pod = Pod::deploy_all(&plane);
    let kernel: Shared = Arc::new(open(&pod.options(CrdHandling::Check)).await.unwrap());
    let [(a, a_hand), (b, b_hand)] = [1, 2].map(|seed| replica(&kernel, seed));
    let (mut one, mut other) = (candidate(&a), candidate(&b));
    assert_eq!((one.contend().await, other.contend().await), (Ok(true), Ok(false)));

    let table = in_namespace(&plane, &["get", "leases"]);
    let [head, row] = table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    assert!(head.split_whitespace().eq(["NAME", "HOLDER", "AGE"]), "{table}");
    assert!(row.starts_with("portcullis-collector ") && row.contains(one.id()), "{table}");
    let member = |path: &str| in_namespace(&plane, &["get", "lease", "portcullis-collector", "-o", path]);
    let path = "jsonpath={.spec.leaseDurationSeconds} {.spec.leaseTransitions} {.spec.acquireTime} {.spec.renewTime}";
    assert_eq!(member(path), "60 0 2027-01-15T08:00:00.000000Z 2027-01-15T08:00:00.000000Z");

    a_hand.advance(Duration::from_secs(20));
    assert_eq!((one.contend().await, other.contend().await), (Ok(true), Ok(false)));
    assert_eq!(member(path), "60 0 2027-01-15T08:00:00.000000Z 2027-01-15T08:00:20.000000Z");
    b_hand.advance(LEASE_LIFETIME);
    assert_eq!((other.contend().await, one.contend().await), (Ok(true), Ok(false)));
    assert!(member("jsonpath={.spec.holderIdentity} {.spec.leaseTransitions}") == format!("{} 1", other.id()));

    // What somebody writes beside the lease costs its holder nothing.
    in_namespace(&plane, &["annotate", "lease", "portcullis-collector", "note=x"]);
    assert_eq!(other.contend().await, Ok(true));
    other.release().await.unwrap();
    assert_eq!(member("jsonpath={.spec.holderIdentity}"), "");
    assert_eq!(one.contend().await, Ok(true));

    // A lease is no record and no configured object, and in no snapshot.
    for plural in ["oauthclients", "localusers", "connectors"] {
        assert_eq!(in_namespace(&plane, &["get", plural, "-o", "name"]), "", "{plural}");
    }
    let records = in_namespace(&plane, &["get", "records", "-o", "name"]);
    assert_eq!(records, "record.portcullis.dev/schema\n", "the number of the layout, which is no record of a kind");
    assert_eq!(a.census().await.unwrap().len(), 0);

    // Deleted by hand, it is made anew.
    in_namespace(&plane, &["delete", "lease", "portcullis-collector"]);
    assert_eq!(one.contend().await, Ok(true));
}

/// The leases of other components are out of reach, and ours cannot be deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leases_of_others_are_out_of_reach() {
    let plane = ControlPlane::start(&[]).await;
    let pod = Pod::deploy_all(&plane);
    let kernel: Shared = Arc::new(open(&pod.options(CrdHandling::Check)).await.unwrap());
    let (store, _) = replica(&kernel, 1);
    assert_eq!(candidate(&store).contend().await, Ok(true));
    let ask = |verb: &str, name: &str| {
        let account = "--as=system:serviceaccount:portcullis:portcullis";
        let lease = format!("leases.coordination.k8s.io/{name}");
        let args = ["auth", "can-i", verb, lease.as_str(), "--namespace=portcullis", account];
        let output = plane.kubectl(&plane.admin_kubeconfig()).args(args).output().unwrap();
        output.status.success()
    };
    for name in Duty::ALL.map(Duty::name).into_iter().chain(["use"]) {
        let name = format!("portcullis-{name}");
        assert!(ask("get", &name) && ask("update", &name), "{name}");
        assert!(!ask("delete", &name) && !ask("patch", &name), "{name}");
    }
    assert!(!ask("get", "kube-controller-manager") && !ask("update", "kube-controller-manager"));
    let found = kernel.get(Kind::Lease, Duty::Collect.name()).await.unwrap().unwrap();
    assert!(kernel.delete(Kind::Lease, Duty::Collect.name(), found.version).await.is_err());
    assert!(kernel.get(Kind::Lease, "another").await.is_err());

    // Without the rights the work is not done, and the error says what is missing.
    kubectl(&plane, &["delete", "rolebinding", "portcullis-store", "--namespace=portcullis"]);
    let error = candidate(&store).contend().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains(r#"cannot get resource "leases""#), "{source}");
}
