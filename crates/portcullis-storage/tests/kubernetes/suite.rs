//! Every promise of a kernel, by an administrator in fresh namespaces, and by the provider's account with its few rights.

use std::sync::Arc;

use portcullis_runtime::{Clock, Rng};
use portcullis_storage::{
    Client, CrdHandling, FillOptions, Kernel, MemoryKernel, Snapshot, Store,
    conformance::check_kernel,
    copy_store,
    kernel::{IndexKey, Kind, Write},
};
use portcullis_testkit::ControlPlane;

use crate::kit::{Namespaces, Pod, kubectl, open, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kubernetes_kernel_keeps_every_promise() {
    let plane = Arc::new(ControlPlane::start(&[]).await);
    let namespaces = Arc::new(Namespaces::new(&plane));
    let make = move || {
        let (plane, namespaces) = (Arc::clone(&plane), Arc::clone(&namespaces));
        Box::pin(async move {
            let namespace = namespaces.make().await;
            let kernel = open(&options(&plane, &namespace, CrdHandling::Ensure)).await.unwrap();
            Arc::new(kernel) as Arc<dyn Kernel>
        }) as _
    };
    let passed = check_kernel(&make).await.unwrap();
    assert!(passed.len() >= 33, "{passed:?}");
}

/// The rights are those of the manifests, no more: the account is refused everything else, and the suite passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_rights_are_enough_for_every_promise() {
    let plane = Arc::new(ControlPlane::start(&[]).await);
    let pod = Arc::new(Pod::deploy_all(&plane));
    let account = "--as=system:serviceaccount:portcullis:portcullis";
    let granted = kubectl(&plane, &["auth", "can-i", "--list", "--namespace=portcullis", account]);
    let rules: Vec<Vec<&str>> = granted
        .lines()
        .filter(|line| line.contains("portcullis.dev") || line.contains("leases"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let kept = ["[]", "[]", "[get", "list", "create", "update", "delete]"];
    // The provider's, and then those of the store commands.
    let configured = ["[]", "[]", "[get", "list", "watch", "update", "create", "delete]"];
    let leases = ["[portcullis-collector]", "[portcullis-sealing]", "[portcullis-use]"]
        .map(|name| ["[]", name, "[get", "update]"]);
    let mut leases = leases.iter();
    for rule in &rules {
        let (resource, rights) = rule.split_first().unwrap();
        let expected: &[&str] = match *resource {
            "records.portcullis.dev" => &kept,
            "oauthclients.portcullis.dev" | "localusers.portcullis.dev" | "connectors.portcullis.dev" => &configured,
            "oauthclients.portcullis.dev/status"
            | "localusers.portcullis.dev/status"
            | "connectors.portcullis.dev/status" => &["[]", "[]", "[patch]"],
            "leases.coordination.k8s.io" if rights.contains(&"[create]") => &["[]", "[]", "[create]"],
            "leases.coordination.k8s.io" => leases.next().unwrap(),
            other => panic!("{other}: {rights:?}"),
        };
        assert_eq!(rights, expected, "{resource}");
    }
    assert_eq!(rules.len(), 11, "{granted}");
    for verb in ["create", "get"] {
        let ask = ["auth", "can-i", verb, "customresourcedefinitions", account];
        let output = plane.kubectl(&plane.admin_kubeconfig()).args(ask).output().unwrap();
        assert!(!output.status.success(), "{verb}");
    }
    let make = move || {
        let (plane, pod) = (Arc::clone(&plane), Arc::clone(&pod));
        Box::pin(async move {
            for plural in ["records", "oauthclients", "localusers", "connectors"] {
                let all = format!("{}/apis/portcullis.dev/v1/namespaces/portcullis/{plural}", plane.url());
                let emptied = plane.admin_client().request(http::Method::DELETE, &all, &[], None).await.unwrap();
                assert_eq!(emptied.status, 200, "{}", String::from_utf8_lossy(&emptied.body));
            }
            Arc::new(open(&pod.options(CrdHandling::Check)).await.unwrap()) as Arc<dyn Kernel>
        }) as _
    };
    let passed = check_kernel(&make).await.unwrap();
    assert!(passed.len() >= 33, "{passed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_to_kubernetes_and_back() {
    let plane = Arc::new(ControlPlane::start(&[]).await);
    let namespace = Namespaces::new(&plane).make().await;
    let there: Arc<dyn Kernel> = Arc::new(open(&options(&plane, &namespace, CrdHandling::Ensure)).await.unwrap());
    let [first, back]: [Arc<dyn Kernel>; 2] = [Arc::new(MemoryKernel::new()), Arc::new(MemoryKernel::new())];
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Lease);
    for (number, kind) in kinds.enumerate() {
        let expires_at = portcullis_runtime::Timestamp::from_unix_nanos(1_800_000_000_123_456_789);
        let write = Write {
            index: [Some(IndexKey::of(&["a"])), None],
            expires_at: (number > 3).then_some(expires_at),
            data: format!("{{\"n\":1,\"v\":{{\"ä\":{number}}}}}").into_bytes(),
        };
        // Configured objects are documents, have no index keys, and stay.
        let id = format!("id/{number}");
        let document = |v: &str| Write { data: format!("{{\"n\":1,\"v\":{{{v}}}}}").into_bytes(), ..Write::default() };
        let write = match kind {
            Kind::Client => document(r#""secret":"p.czNjcmV0","public":true,"mfa_chain":[]"#),
            Kind::Password => document(&format!(r#""hash":"s.k.AAAA","email":"{id}""#)),
            Kind::Connector => document(r#""config":"p.eyJhIjoxfQ","type":"oidc""#),
            _ => write,
        };
        first.insert(kind, &id, write).await.unwrap();
    }
    // As a facade writes it, with members that Kubernetes does not keep.
    let rng = Rng::system();
    let facade = Store::new(Arc::clone(&first), Clock::system(), rng.clone());
    facade.clients().create(&Client { id: "c".to_owned(), public: true, ..Client::default() }).await.unwrap();
    let on = |kernel: &Arc<dyn Kernel>| Store::new(Arc::clone(kernel), Clock::system(), Rng::system());
    let copied = copy_store(&*first, &on(&there), FillOptions::default(), &mut |_| {}).await.unwrap();
    assert_eq!(copied.written, Kind::ALL.len() as u64, "a client more, and no lease");
    let again = copy_store(&*first, &on(&there), FillOptions::default(), &mut |_| {}).await.unwrap();
    assert_eq!(again.unchanged, copied.written, "what was cut off can be repeated");
    copy_store(&*there, &on(&back), FillOptions::default(), &mut |_| {}).await.unwrap();
    let document =
        |all: Vec<(Kind, String, Vec<u8>)>| -> Vec<_> { all.into_iter().filter(|(_, id, _)| id != "c").collect() };
    let expected = document(contents(first.snapshot().await.unwrap()).await);
    assert_eq!(document(contents(back.snapshot().await.unwrap()).await), expected);
    let back = Store::new(back, Clock::system(), rng);
    assert_eq!(back.clients().get("c").await.unwrap(), facade.clients().get("c").await.unwrap());
    assert!(there.description().place.contains(&namespace), "{:?}", there.description());
}

async fn contents(mut snapshot: Snapshot) -> Vec<(Kind, String, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(batch) = snapshot.next().await.unwrap() {
        all.extend(batch.into_iter().map(|(kind, record)| (kind, record.id, record.data)));
    }
    all
}
