//! Input that nobody should send, over a real connection: an answer, never a crash, never more memory than the limits.

use std::time::Duration;

use portcullis_kube::Status;
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig};
use portcullis_testkit::{TestCa, Validity};
use tokio::io::AsyncWriteExt;

use crate::bench::Bench;
use crate::tls::Connector;

const LIMIT: usize = 3 * 1024 * 1024;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(
    bench: &Bench,
    client: &HttpClient,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> u16 {
    let body = (!body.is_empty()).then(|| body.into());
    client.request(method.parse().unwrap(), &bench.url(path), headers, body).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_in_size_depth_and_number_of_values() {
    let bench = Bench::start().await;
    let admin = bench.client(Some(("admin", &["system:masters"])));
    let post = |body: Vec<u8>| {
        send(&bench, &admin, "POST", "/api/v1/namespaces", &[("content-type", "application/json")], body)
    };
    assert_eq!(post(vec![b' '; LIMIT + 1]).await, 413);
    let mut fits = br#"{"metadata":{"name":"fits"}}"#.to_vec();
    fits.resize(LIMIT, b' ');
    assert_eq!(post(fits).await, 201);
    assert_eq!(post(b"[".repeat(LIMIT)).await, 400);
    assert_eq!(post(br#"{"a":"#.repeat(100_000)).await, 400);
    assert_eq!(post([b"[".as_slice(), &b"0,".repeat(1_000_000), b"0]"].concat()).await, 413);
    assert_eq!(post(b"\xff\xfe{}".to_vec()).await, 400);
    assert_eq!(post(b"k8s\0".to_vec()).await, 400);
    let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
    for body in
        [b"k8s\0".to_vec(), b"k8s\0\x0a\xff\xff\xff\xff\x0f".to_vec(), b"k8s\0\x12\x03abc".to_vec(), vec![0xff; 10_000]]
    {
        let code = send(&bench, &admin, "POST", "/api/v1/namespaces", &protobuf, body).await;
        assert!((400..=422).contains(&code), "{code}");
    }
    let yaml = [("content-type", "application/yaml")];
    let bomb = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(2_000), "*a,".repeat(100_000));
    assert_eq!(send(&bench, &admin, "POST", "/api/v1/namespaces", &yaml, bomb.into_bytes()).await, 400);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_someone_unknown_is_not_waited_for() {
    let bench = Bench::start().await;
    let nobody = bench.client(None);
    let usual = vec![b' '; 200 * 1024];
    assert_eq!(
        send(&bench, &nobody, "POST", "/api/v1/namespaces", &[("authorization", "Bearer x")], usual.clone()).await,
        401
    );
    assert_eq!(send(&bench, &nobody, "POST", "/api/v1/namespaces", &[], usual).await, 403);
    let big = Some(vec![b' '; LIMIT].into());
    let refused = nobody.request("POST".parse().unwrap(), &bench.url("/api/v1/namespaces"), &[], big).await;
    assert!(refused.is_err() || refused.is_ok_and(|response| response.status == 403), "refused, or cut off");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_that_stall_hold_up_neither_small_ones_nor_deletions() {
    let bench = Bench::start().await;
    let leaf = bench.ca.client("slow", &["system:masters"]);
    let connector = Connector::new(bench.running.addr().port(), &bench.ca, Some(&leaf));
    // As many as are taken in at a time, and some that wait; half of them do not say how large they are.
    let mut stalled = Vec::new();
    for number in 0..80 {
        let mut stream = connector.connect().await;
        let size = ["content-length: 3000000", "transfer-encoding: chunked"][number % 2];
        let head =
            format!("POST {MAPS} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{size}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    // They are all there once their places are taken, which shows in what an eighty-first one gets.
    let admin = bench.client(Some(("admin", &["system:masters"])));
    let json = [("content-type", "application/json")];
    let waits = || send(&bench, &admin, "POST", MAPS, &json, vec![b' '; 100_000]);
    while tokio::time::timeout(Duration::from_millis(200), waits()).await.is_ok() {}
    let quick = async {
        let body = br#"{"metadata":{"name":"small"}}"#.to_vec();
        assert_eq!(send(&bench, &admin, "POST", MAPS, &json, body).await, 201);
        assert_eq!(send(&bench, &admin, "DELETE", &format!("{MAPS}/small"), &[], Vec::new()).await, 200);
    };
    tokio::time::timeout(Duration::from_secs(5), quick).await.expect("held up");
    drop(stalled);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_methods_and_headers_get_an_answer() {
    let bench = Bench::start().await;
    let admin = bench.client(Some(("admin", &["system:masters"])));
    let long = format!("/api/v1/namespaces/{}", "a".repeat(8_000));
    for (method, path, code) in [
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/api/v1/namespaces/..%2f..%2fpods", 404),
        ("GET", "/api/v1/namespaces/%00", 404),
        ("GET", "/api/v1/namespaces/%ff", 404),
        ("GET", "/api/v1/namespaces/default/pods/a/b/c/d/e", 404),
        ("GET", "/api/v1/watch", 500),
        ("GET", "//api//v1//pods", 404),
        ("GET", "/api/v1/pods?labelSelector=%zz", 200),
        ("GET", "/api/v1/pods?limit=99999999999999999999", 400),
        ("GET", "/api/v1/pods?continue=%F0%9F%A6%80", 400),
        ("TRACE", "/api/v1/pods", 405),
        ("PROPFIND", "/api/v1/pods", 405),
        ("DELETE", "/version", 405),
        ("HEAD", "/livez", 200),
        ("GET", long.as_str(), 404),
    ] {
        assert_eq!(send(&bench, &admin, method, path, &[], Vec::new()).await, code, "{method} {path}");
    }
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,".repeat(500);
    assert_eq!(send(&bench, &admin, "GET", "/api/v1/pods", &[("accept", &accept)], Vec::new()).await, 200);
    assert_eq!(
        send(&bench, &admin, "GET", "/api/v1/pods", &[("impersonate-group", "system:masters")], Vec::new()).await,
        400
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_do_not_count_are_401_and_not_anonymous() {
    let bench = Bench::start().await;
    let stranger = TestCa::new("another").client("admin", &["system:masters"]);
    let expired = bench.ca.client_for("admin", &["system:masters"], Validity::Expired);
    for leaf in [stranger, expired] {
        let identity = Some(leaf.client_identity());
        let client = HttpClient::new(HttpClientConfig { identity, ..bench.ca.http_client_config() }).unwrap();
        let response = client.get(&bench.url("/version"), &[]).await.unwrap();
        let status: Status = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((response.status, status.reason.as_str()), (401, "Unauthorized"));
    }
    let anonymous = bench.client(None).get(&bench.url("/version"), &[]).await.unwrap();
    assert_eq!(anonymous.status, 200);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_watches_end_with_the_server() {
    let bench = Bench::start().await;
    let admin = bench.client(Some(("admin", &["system:masters"])));
    let watches: Vec<_> = (0..50)
        .map(|_| {
            let (client, url) = (admin.clone(), bench.url("/api/v1/namespaces?watch=true&timeoutSeconds=600"));
            tokio::spawn(async move { client.get(&url, &[]).await.map(|response| response.body.len()) })
        })
        .collect();
    // A list that the server answers after it has taken in the watches above, on the same connection pool.
    assert_eq!(send(&bench, &admin, "GET", "/api/v1/namespaces", &[], Vec::new()).await, 200);
    tokio::time::timeout(Duration::from_secs(9), bench.stop()).await.expect("watches hold up the drain");
    for watch in watches {
        // Each ended: with what it had seen, or cut off before its answer began.
        let _ = watch.await.unwrap();
    }
}
