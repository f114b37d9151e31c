//! A real kube-apiserver: what its answers mean to us.

use std::time::Duration;

use portcullis_kubeclient::{
    Access, Client, ClientError, InCluster, Instant, List, ListQuery, Preconditions, Resource,
};
use portcullis_runtime::Rng;
use portcullis_runtime::http_client::ProxyFromEnv;
use portcullis_testkit::ControlPlane;
use serde_json::{Value, json};

const LEASES: Resource = Resource { group: "coordination.k8s.io", version: "v1", plural: "leases", namespaced: true };
const NOBODYS: Resource = Resource { group: "example.com", version: "v1", plural: "widgets", namespaced: true };

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn lease(name: &str, version: Option<&str>, holder: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "resourceVersion": version}, "spec": {"holderIdentity": holder},
    })
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_made_read_replaced_and_deleted() {
    // Its cache would keep versions that etcd has forgotten.
    let mut plane = ControlPlane::start(&["--watch-cache=false".to_owned()]).await;
    let access = Access::kubeconfig(&plane.admin_kubeconfig(), ProxyFromEnv::default()).await.unwrap();
    let client = Client::new(access, Rng::system()).unwrap();
    writes(&client).await;
    lists(&client, &plane).await;

    let missing = client.list::<Value>(&NOBODYS, &ListQuery::default(), soon()).await.unwrap_err();
    assert!(matches!(missing, ClientError::Missing { .. }), "{missing}");
    let unknown =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spoc": 1});
    let refused = client.create::<Value>(&LEASES, &unknown, soon()).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused { code: 400, message } if message.contains("spoc")), "{refused}");

    in_cluster(&plane).await;

    let waiting = tokio::spawn({
        let client = client.clone();
        async move {
            let mut made = 0;
            for number in 0..200 {
                let name = format!("during-{number}");
                let deadline = Instant::now() + Duration::from_secs(60);
                match client.create::<Value>(&LEASES, &lease(&name, None, "me"), deadline).await {
                    Ok(_) => made += 1,
                    Err(error) => assert!(error.may_have_happened(), "{error}"),
                }
            }
            made
        }
    });
    plane.restart_apiserver().await;
    let made = waiting.await.unwrap();
    assert!(made >= 190, "{made} of 200 across a restart");
}

async fn writes(client: &Client) {
    let first: Value = client.create(&LEASES, &lease("a", None, "one"), soon()).await.unwrap();
    assert_eq!((&first["kind"], &first["spec"]), (&json!("PartialObjectMetadata"), &Value::Null));
    let again = client.create::<Value>(&LEASES, &lease("a", None, "two"), soon()).await;
    assert_eq!(again, Err(ClientError::AlreadyExists));
    let found: Value = client.get(&LEASES, "a", soon()).await.unwrap();
    assert_eq!((&found["spec"]["holderIdentity"], version(&found)), (&json!("one"), version(&first)));

    let second: Value = client.replace(&LEASES, "a", &lease("a", Some(&version(&first)), "two"), soon()).await.unwrap();
    assert_ne!(version(&first), version(&second));
    let stale = client.replace::<Value>(&LEASES, "a", &lease("a", Some(&version(&first)), "x"), soon()).await;
    assert_eq!(stale, Err(ClientError::Conflict));
    assert_eq!(client.get::<Value>(&LEASES, "none", soon()).await, Err(ClientError::NotFound));

    let at = |version: String| Preconditions { uid: None, resource_version: Some(version) };
    let other = Preconditions { uid: Some("00000000-0000-0000-0000-000000000000".to_owned()), resource_version: None };
    assert_eq!(client.delete(&LEASES, "a", at(version(&first)), soon()).await, Err(ClientError::Conflict));
    assert_eq!(client.delete(&LEASES, "a", other, soon()).await, Err(ClientError::Conflict));
    client.delete(&LEASES, "a", at(version(&second)), soon()).await.unwrap();
    assert_eq!(client.delete(&LEASES, "a", at(version(&second)), soon()).await, Err(ClientError::NotFound));
}

/// Pages, and a page whose version etcd has forgotten.
async fn lists(client: &Client, plane: &ControlPlane) {
    for number in 0..5 {
        client.create::<Value>(&LEASES, &lease(&format!("l{number}"), None, "me"), soon()).await.unwrap();
    }
    let query = ListQuery { limit: 2, ..ListQuery::default() };
    let page: List<Value> = client.list(&LEASES, &query, soon()).await.unwrap();
    assert_eq!(page.items.len(), 2);
    let token = page.metadata.continue_token;
    let on = ListQuery { continue_token: Some(&token), ..query };
    assert_eq!(client.list::<Value>(&LEASES, &on, soon()).await.unwrap().items[0]["metadata"]["name"], "l2");

    let last: Value = client.create(&LEASES, &lease("l5", None, "me"), soon()).await.unwrap();
    plane.compact_etcd(version(&last).parse().unwrap()).await;
    assert_eq!(client.list::<Value>(&LEASES, &on, soon()).await.unwrap_err(), ClientError::Expired);
}

/// A pod's files with a real token of the service account `default`, which may do nothing.
async fn in_cluster(plane: &ControlPlane) {
    let kubeconfig = plane.admin_kubeconfig();
    let kubectl = |args: &[&str]| {
        let output = plane.kubectl(&kubeconfig).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    kubectl(&["create", "namespace", "pods-own"]);
    kubectl(&["create", "serviceaccount", "idp", "--namespace=pods-own"]);
    let folder = tempfile::tempdir().unwrap();
    let token = kubectl(&["create", "token", "idp", "--namespace=pods-own"]);
    std::fs::write(folder.path().join("token"), token).unwrap();
    std::fs::write(folder.path().join("ca.crt"), plane.ca().pem()).unwrap();
    let pod = InCluster {
        host: "127.0.0.1".to_owned(),
        port: plane.port().to_string(),
        namespace: None,
        service_account: folder.path().to_owned(),
    };
    let client = Client::new(Access::in_cluster(&pod).await.unwrap(), Rng::system()).unwrap();
    assert_eq!(client.namespace(), "pods-own");
    let error = client.get::<Value>(&LEASES, "x", soon()).await.unwrap_err();
    let ClientError::Forbidden { message } = error else { panic!("{error}") };
    assert!(message.contains(r#"User "system:serviceaccount:pods-own:idp" cannot get resource "leases""#), "{message}");

    std::fs::write(folder.path().join("token"), "not-a-token").unwrap();
    let client = Client::new(
        Access::in_cluster(&InCluster { namespace: Some("x".into()), ..pod }).await.unwrap(),
        Rng::system(),
    );
    let error = client.unwrap().get::<Value>(&LEASES, "x", soon()).await.unwrap_err();
    assert_eq!(error, ClientError::Unauthorized { message: "Unauthorized".to_owned() });
}
