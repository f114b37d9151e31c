//! A real kube-apiserver, one at a time: each takes 300 MB and a core.

use std::time::{Duration, Instant};

use portcullis_testkit::{ChildGuard, ControlPlane, HttpClient};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

/// Connections that ask at the same time.
const PARALLEL: usize = 4;
/// How long the real server's informers and controllers may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static TURN: Mutex<()> = Mutex::const_new(());

pub(crate) const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
pub(crate) const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";

/// The running server with upstream's aggregation controller.
pub(crate) struct Real {
    controller: ChildGuard,
    pub(crate) plane: ControlPlane,
    pub(crate) admin: HttpClient,
    _turn: MutexGuard<'static, ()>,
}

impl Real {
    pub(crate) async fn start(flags: &[String]) -> Self {
        let turn = TURN.lock().await;
        let plane = ControlPlane::start(flags).await;
        let controller = plane.aggregation_controller();
        let admin = plane.admin_client();
        let mut real = Self { controller, plane, admin, _turn: turn };
        real.wait_for("its bootstrap policy", async |real| {
            let last = "/namespaces/kube-public/rolebindings/system:controller:bootstrap-signer";
            let admin = real.get(&format!("{RBAC}/clusterroles/admin")).await;
            real.exists(&format!("{RBAC}{last}")).await && !admin["rules"].is_null()
        })
        .await;
        real
    }

    /// A GET by the administrator, which must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.admin.get(&format!("{}{path}", self.plane.url()), &[]).await.expect("an answer");
        assert_eq!(response.status, 200, "GET {path}: {}", String::from_utf8_lossy(&response.body));
        serde_json::from_slice(&response.body).expect("JSON")
    }

    async fn exists(&self, path: &str) -> bool {
        self.admin.get(&format!("{}{path}", self.plane.url()), &[]).await.expect("an answer").status == 200
    }

    /// A POST by the administrator, acting as others when headers say so.
    pub(crate) async fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let url = format!("{}{path}", self.plane.url());
        let response = self.admin.request("POST".parse().unwrap(), &url, &all, Some(body.to_string().into())).await;
        let response = response.expect("an answer");
        (response.status, serde_json::from_slice(&response.body).expect("JSON"))
    }

    /// Creates an object, which must succeed.
    pub(crate) async fn create(&self, path: &str, object: &Value) {
        let (status, answer) = self.post(path, object, &[]).await;
        assert_eq!(status, 201, "POST {path} {object}: {answer}");
    }

    /// Asks again and again until it is so.
    pub(crate) async fn wait_for(&mut self, what: &str, ready: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !ready(self).await {
            assert!(self.controller.ended().is_none(), "{}", self.controller.tail());
            assert!(Instant::now() < deadline, "the real server does not show {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Does something with every item, a few at a time, and gives the results in order.
    pub(crate) async fn each<T: Sync, R>(&self, items: &[T], act: impl AsyncFn(&Self, &T) -> R) -> Vec<R> {
        let share = items.len().div_ceil(PARALLEL).max(1);
        let mut shares = items.chunks(share);
        let run = async |items: &[T]| {
            let mut done = Vec::with_capacity(items.len());
            for item in items {
                done.push(act(self, item).await);
            }
            done
        };
        let mut next = || run(shares.next().unwrap_or_default());
        let (a, b, c, d) = tokio::join!(next(), next(), next(), next());
        [a, b, c, d].into_iter().flatten().collect()
    }
}
