//! The real control plane starts, serves, and is gone afterwards.
#![cfg(unix)]

use std::path::Path;

use portcullis_testkit::ControlPlane;

#[tokio::test(flavor = "multi_thread")]
async fn a_real_control_plane_serves_kubectl_and_leaves_nothing_behind() {
    let plane = ControlPlane::start(&["--anonymous-auth=false".to_owned()]).await;
    let kubeconfig = plane.admin_kubeconfig();
    let output = plane.kubectl(&kubeconfig).args(["get", "namespaces", "--output=name"]).output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    assert!(names.contains("namespace/kube-system\n"), "{names} {}", String::from_utf8_lossy(&output.stderr));
    let path = format!("{}/api/v1/namespaces", plane.url());
    assert_eq!(plane.http_client().get(&path, &[]).await.unwrap().status, 401);
    assert_eq!(plane.admin_client().get(&path, &[]).await.unwrap().status, 200);
    let (apiserver, etcd) = plane.ids();
    let folder = plane.folder().to_owned();
    drop(plane);
    assert!(!folder.exists());
    for id in [apiserver, etcd] {
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}

#[tokio::test]
#[should_panic(expected = "unknown flag: --no-such-flag")]
async fn a_flag_that_the_server_does_not_know_fails_at_once_with_its_words() {
    let _ = ControlPlane::start(&["--no-such-flag".to_owned()]).await;
}
