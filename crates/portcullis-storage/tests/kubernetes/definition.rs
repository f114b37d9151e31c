//! The definition of the records: who installs it, what it admits, and what people see.

use portcullis_runtime::{Clock, Rng, Timestamp};
use portcullis_storage::kernel::{Kind, Write};
use portcullis_storage::{CrdHandling, Kernel, KernelError, KubernetesError, KubernetesKernel, Trouble};
use portcullis_testkit::ControlPlane;

use crate::kit::{CRDS, Pod, data, deploy, is_unknown, kubectl, open};

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
