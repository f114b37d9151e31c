//! The definition of the records: who installs it, what it admits, and what people see.

use portcullis_runtime::{Clock, Rng, Timestamp};
use portcullis_storage::kernel::{Kind, Page, Write};
use portcullis_storage::{CrdHandling, Kernel, KernelError, KubernetesError, KubernetesKernel, Trouble};
use portcullis_testkit::ControlPlane;

use crate::kit::{CRDS, Log, Pod, data, deploy, eventually, is_unknown, kubectl, open};

#[tokio::test(flavor = "multi_thread")]
async fn it_is_installed_on_request_and_with_the_rights_for_it() {
    let plane = ControlPlane::start(&[]).await;
    let pod = Pod::deploy(&plane, &["rbac/provider.yaml"]);

    let missing = open(&pod.options(CrdHandling::Check)).await.unwrap_err();
    assert!(matches!(missing, KubernetesError::NotInstalled { .. }), "{missing}");
    assert!(missing.to_string().starts_with("storage is not initialized, CRDs are not created"), "{missing}");
    let forbidden = open(&pod.options(CrdHandling::Ensure)).await.unwrap_err();
    assert!(forbidden.to_string().contains("cannot create resource"), "{forbidden}");
    assert!(forbidden.hint().unwrap().contains("deploy/rbac/install-crds.yaml"));
    // Whoever only looks asks for nothing to be installed.
    let looking = KubernetesKernel::look(&pod.options(CrdHandling::Ensure), &Clock::system(), Rng::system()).await;
    assert!(matches!(looking, Err(KubernetesError::NotInstalled { .. })), "{looking:?}");
    let unseen = open(&pod.options(CrdHandling::Skip)).await.unwrap();
    let error = unseen.insert(Kind::Code, "a", data("x")).await.unwrap_err();
    assert!(matches!(error, KernelError::Unavailable { .. }) && !is_unknown(&error), "{error}");
    let error = unseen.get(Kind::Code, "a").await.unwrap_err();
    assert!(matches!(&error, KernelError::Unavailable { trouble: Trouble::Other(_), .. }), "{error}");

    kubectl(&plane, &["apply", "-f", deploy("rbac/install-crds.yaml").to_str().unwrap()]);
    let (one, two) = (pod.options(CrdHandling::Ensure), pod.options(CrdHandling::Ensure));
    let (one, two) = tokio::join!(open(&one), open(&two));
    let (one, _) = (one.unwrap(), two.unwrap());
    let version = one.insert(Kind::Code, "a", data("x")).await.unwrap();

    // What was installed is what is installed by hand.
    for definition in CRDS {
        assert_eq!(kubectl(&plane, &["diff", "-f", deploy(definition).to_str().unwrap()]), "", "{definition}");
    }
    let open_again = open(&pod.options(CrdHandling::Check)).await.unwrap();
    assert_eq!(open_again.get(Kind::Code, "a").await.unwrap().unwrap().version, version);

    kubectl(&plane, &["delete", "rolebinding", "portcullis-store", "--namespace=portcullis"]);
    let refused = open(&pod.options(CrdHandling::Check)).await.unwrap_err();
    assert!(refused.to_string().contains(r#"cannot list resource "records""#), "{refused}");
    assert!(refused.hint().unwrap().contains("deploy/rbac/provider.yaml"));
}

/// The definition of the records as an older version had it, without a member that this one writes, and with what others have put
/// there.
const OLDER: &str = r#"[
    {"op": "remove", "path": "/metadata/annotations/portcullis.dev~1definition"},
    {"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/replaces"},
    {"op": "add", "path": "/metadata/annotations/example.com~1theirs", "value": "kept"},
    {"op": "add", "path": "/metadata/labels/theirs", "value": "kept"},
    {"op": "add", "path": "/spec/conversion", "value": {"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:9/convert"}}}}
]"#;

const RECORDS: &str = "records.portcullis.dev";

fn records(plane: &ControlPlane) -> serde_json::Value {
    serde_json::from_str(&kubectl(plane, &["get", "crd", RECORDS, "--output=json"])).unwrap()
}

fn patch_records(plane: &ControlPlane, patch: &str) {
    kubectl(plane, &["patch", "crd", RECORDS, "--type=json", "-p", patch]);
}

#[tokio::test]
async fn an_older_definition_is_brought_forward() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let plane = ControlPlane::start(&[]).await;
    let pod = Pod::deploy_all(&plane);
    patch_records(&plane, OLDER);
    let older = records(&plane);

    // Without the right to look, and with that one alone: the start goes on, and says what it cannot do.
    open(&pod.options(CrdHandling::Ensure)).await.unwrap();
    assert!(log.take().contains("grant it with deploy/rbac/install-crds.yaml"));
    open(&pod.options(CrdHandling::Check)).await.unwrap();
    kubectl(&plane, &["create", "clusterrole", "look", "--verb=get", "--resource=customresourcedefinitions"]);
    let account = "--serviceaccount=portcullis:portcullis";
    kubectl(&plane, &["create", "clusterrolebinding", "look", "--clusterrole=look", account]);
    let said = eventually("the right to look", async || {
        open(&pod.options(CrdHandling::Check)).await.unwrap();
        Some(log.take()).filter(|said| said.contains("kubectl apply -f deploy/crds/"))
    });
    let said = said.await;
    assert!(said.contains("deploy/crds/records.portcullis.dev.yaml") && !said.contains("localusers"), "{said}");
    open(&pod.options(CrdHandling::Ensure)).await.unwrap();
    let said = log.take();
    assert!(said.contains("cannot bring this custom resource forward") && said.contains("cannot update"), "{said}");
    assert_eq!(records(&plane), older, "nothing was written");

    // By two replicas at once, while somebody else goes on writing to it.
    kubectl(&plane, &["delete", "clusterrolebinding", "look"]);
    kubectl(&plane, &["apply", "-f", deploy("rbac/install-crds.yaml").to_str().unwrap()]);
    let url = format!("{}/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{RECORDS}", plane.url());
    let client = plane.admin_client();
    let write_on = async || {
        for count in 1..=40 {
            let patch = format!(r#"{{"metadata":{{"annotations":{{"example.com/count":"{count}"}}}}}}"#);
            let headers = [("content-type", "application/merge-patch+json")];
            let answer = client.request(http::Method::PATCH, &url, &headers, Some(patch.into())).await.unwrap();
            assert_eq!(answer.status, 200);
        }
    };
    let (one, two) = (pod.options(CrdHandling::Ensure), pod.options(CrdHandling::Ensure));
    eventually("the right to install", async || {
        let (one, two, ()) = tokio::join!(Box::pin(open(&one)), Box::pin(open(&two)), Box::pin(write_on()));
        one.and(two).unwrap();
        log.take().contains("brought the custom resource forward").then_some(())
    })
    .await;
    let kernel = open(&pod.options(CrdHandling::Ensure)).await.unwrap();
    assert!(!log.take().contains("custom resource"), "what is current is left alone without a word");
    let version = kernel.insert(Kind::Code, "a", data("x")).await.unwrap();
    // Writes the member that the older one has not. The server may take a moment to know the definition that it has stored.
    eventually("the new definition", async || kernel.update(Kind::Code, "a", version, data("y")).await.ok()).await;
    let now = records(&plane);
    let (metadata, spec) = (&now["metadata"], &now["spec"]);
    assert_eq!(metadata["annotations"]["portcullis.dev/definition"], "1");
    assert_eq!(metadata["annotations"]["example.com/theirs"], "kept");
    assert_eq!(metadata["annotations"]["example.com/count"], "40", "what was written meanwhile is there");
    assert_eq!(metadata["labels"]["theirs"], "kept");
    assert_eq!(spec["conversion"], older["spec"]["conversion"]);
    assert_eq!(kubectl(&plane, &["diff", "-f", deploy(CRDS[0]).to_str().unwrap()]), "");
    assert_eq!(metadata["uid"], older["metadata"]["uid"], "the records are still there");

    // A newer version's, and one whose number nobody knows, stay.
    for (number, text) in [("2", "a newer version has installed"), ("two", "and no number")] {
        let patch = format!(
            r#"[{{"op": "replace", "path": "/metadata/annotations/portcullis.dev~1definition", "value": "{number}"}},
                {{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "Another."}}]"#
        );
        patch_records(&plane, &patch);
        let before = records(&plane);
        open(&pod.options(CrdHandling::Ensure)).await.unwrap();
        let said = log.take();
        assert!(said.contains(text), "{said}");
        assert_eq!(records(&plane), before, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_or_foreign_store_is_refused_and_left_alone() {
    let plane = ControlPlane::start(&[]).await;
    let pod = Pod::deploy_all(&plane);
    let look = async || KubernetesKernel::look(&pod.options(CrdHandling::Check), &Clock::system(), Rng::system()).await;
    let absent = look().await.unwrap_err();
    assert!(matches!(absent, KubernetesError::Absent { .. }) && absent.hint().is_some(), "{absent}");
    assert_eq!(absent.to_string(), "there is no store in namespace \"portcullis\"");
    assert!(
        !kubectl(&plane, &["get", "records", "--namespace=portcullis"]).contains("schema"),
        "looking writes nothing"
    );

    let kernel = open(&pod.options(CrdHandling::Check)).await.unwrap();
    kernel.insert(Kind::Code, "a", data("x")).await.unwrap();
    assert_eq!(look().await.unwrap().get(Kind::Code, "a").await.unwrap().unwrap().data, b"x");
    let mut snapshot = kernel.snapshot().await.unwrap();
    let mut records = 0;
    while let Some(batch) = snapshot.next().await.unwrap() {
        records += batch.len();
    }
    assert_eq!(records, 1, "the number is no record");
    for (number, text) in [
        // "2 1": a layout that programs of number 1 can use.
        ("MiAx", None),
        ("Mg==", Some("has schema number 2, and this version knows 1 at most; use the newer version")),
        ("e30=", Some("\"schema\" in namespace \"portcullis\" is not ours")),
    ] {
        let patch = format!(r#"{{"spec":{{"data":"{number}"}}}}"#);
        kubectl(&plane, &["patch", "record", "schema", "--namespace=portcullis", "--type=merge", "-p", &patch]);
        for opened in [open(&pod.options(CrdHandling::Check)).await.err(), look().await.err()] {
            assert_eq!(opened.is_some(), text.is_some(), "{opened:?}");
            let said = opened.map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(text.unwrap_or_default()), "{said}");
        }
    }
}

/// The provider reads what people configure and seals it, and makes and deletes nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_providers_rights_end_where_its_work_does() {
    let plane = ControlPlane::start(&[]).await;
    let manifests: Vec<&str> = CRDS.into_iter().chain(["rbac/provider.yaml"]).collect();
    let pod = Pod::deploy(&plane, &manifests);
    let kernel = open(&pod.options(CrdHandling::Check)).await.unwrap();
    let client = || data(r#"{"n":1,"v":{"secret":"p.czNjcmV0","public":true,"mfa_chain":[]}}"#);
    let refused = kernel.insert(Kind::Client, "app", client()).await.unwrap_err();
    assert!(refused.to_string().contains(r#"cannot create resource "oauthclients""#), "{refused}");
    let rights = deploy("rbac/store-commands.yaml");
    kubectl(&plane, &["apply", "-f", rights.to_str().unwrap()]);
    let version =
        eventually("the right to create", async || kernel.insert(Kind::Client, "app", client()).await.ok()).await;
    kubectl(&plane, &["delete", "-f", rights.to_str().unwrap()]);
    let mut attempts = 0;
    let refused = eventually("the end of that right", async || {
        attempts += 1;
        kernel.insert(Kind::Client, &format!("app-{attempts}"), client()).await.err()
    });
    assert!(refused.await.to_string().contains("cannot create"));
    let version = kernel.update(Kind::Client, "app", version, client()).await.unwrap();
    let refused = kernel.delete(Kind::Client, "app", version).await.unwrap_err();
    assert!(refused.to_string().contains(r#"cannot delete resource "oauthclients""#), "{refused}");
    let left = kernel.list(Kind::Client, Page::first(100)).await.unwrap().records.len();
    assert_eq!(left, attempts, "one client, and those of the attempts that were still granted");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_what_a_record_is_and_not_what_is_in_it() {
    let plane = ControlPlane::start(&[]).await;
    let pod = Pod::deploy_all(&plane);
    let kernel = open(&pod.options(CrdHandling::Check)).await.unwrap();
    let expires_at = Some(Timestamp::from_unix_nanos(1_800_000_000_000_000_001));
    let write = Write { expires_at, data: b"hunter2".to_vec(), ..Write::default() };
    kernel.insert(Kind::Login, "jane@example.com", write).await.unwrap();
    kernel.insert(Kind::SigningKeys, "keys", data("hunter2")).await.unwrap();
    let table = kubectl(&plane, &["get", "records", "--namespace=portcullis"]);
    assert!(table.lines().next().unwrap().split_whitespace().eq(["NAME", "KIND", "EXPIRES", "AGE"]), "{table}");
    assert!(table.contains("login") && table.contains("2027-01-15T08:00:00.000000001Z"), "{table}");
    for secret in ["jane", "hunter2", "aHVudGVyMg"] {
        assert!(!table.contains(secret), "{table}");
    }
    // A member that the definition does not have, and a value that it does not admit, are refused by the server.
    let name = table.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    let url = format!("{}/apis/portcullis.dev/v1/namespaces/portcullis/records/{name}", plane.url());
    for patch in [r#"{"spec":{"data":"no base64!"}}"#, r#"{"spec":{"id":""}}"#, r#"{"spec":{"replaces":"x"}}"#] {
        let headers = [("content-type", "application/merge-patch+json")];
        let answer =
            plane.admin_client().request(http::Method::PATCH, &url, &headers, Some(patch.into())).await.unwrap();
        assert_eq!(answer.status, 422, "{patch}: {}", String::from_utf8_lossy(&answer.body));
    }
}
