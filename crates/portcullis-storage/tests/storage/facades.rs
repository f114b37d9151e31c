//! What the facades promise, on servers: every check in an empty store of its own. On PostgreSQL and MariaDB `servers.rs`
//! runs it, on etcd and Kubernetes this file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use portcullis_runtime::http_client::ProxyFromEnv;
use portcullis_runtime::{Clock, Rng};
use portcullis_storage::{
    CrdHandling, EtcdKernel, EtcdOptions, Kernel, KubernetesAccess, KubernetesKernel, KubernetesOptions,
};
use portcullis_testkit::{ControlPlane, Etcd};

use crate::{codes, families, filling, leases, logins, objects, sealing};

/// Runs every check of the facades that is for all backends; `fresh` opens an empty store.
pub(crate) async fn keep_every_invariant(fresh: &impl AsyncFn() -> Arc<dyn Kernel>) {
    codes::on_a_server(fresh).await;
    families::on_a_server(fresh).await;
    filling::on_a_server(fresh).await;
    leases::on_a_server(fresh).await;
    logins::on_a_server(fresh).await;
    objects::on_a_server(fresh).await;
    sealing::on_a_server(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_facades_keep_every_invariant_on_etcd() {
    let etcd = Etcd::start().await;
    let number = AtomicUsize::new(0);
    let fresh = async || {
        let namespace = format!("store{}/", number.fetch_add(1, Ordering::Relaxed));
        let options = EtcdOptions { endpoints: vec![etcd.url()], namespace, ..EtcdOptions::default() };
        Arc::new(EtcdKernel::open(options).await.unwrap()) as Arc<dyn Kernel>
    };
    keep_every_invariant(&fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_facades_keep_every_invariant_on_kubernetes() {
    let plane = ControlPlane::start(&[]).await;
    let administrator = std::fs::read_to_string(plane.admin_kubeconfig()).unwrap();
    let number = AtomicUsize::new(0);
    let fresh = async || {
        let namespace = format!("store-{}", number.fetch_add(1, Ordering::Relaxed));
        let made = plane.kubectl(&plane.admin_kubeconfig()).args(["create", "namespace", &namespace]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let file = plane.folder().join(format!("{namespace}.kubeconfig"));
        let context = format!("    user: admin\n    namespace: {namespace}\n");
        std::fs::write(&file, administrator.replace("    user: admin\n", &context)).unwrap();
        let access = KubernetesAccess::Kubeconfig { file, proxy: ProxyFromEnv::default() };
        let options = KubernetesOptions::new(access, CrdHandling::Ensure);
        Arc::new(KubernetesKernel::open(&options, &Clock::system(), Rng::system()).await.unwrap()) as Arc<dyn Kernel>
    };
    keep_every_invariant(&fresh).await;
}
