//! What is sent again, what is not, and what the caller is told.

use std::time::Duration;

use portcullis_kubeclient::{ClientError, Form, Instant, ListQuery, Preconditions, Resource};
use portcullis_testkit::free_port;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::server::{Answer, Server, client_at, client_of};

const WIDGETS: Resource = Resource { group: "example.com", version: "v1", plural: "widgets", namespaced: true };
const THROTTLED: &str = r#"{"kind":"Status","reason":"TooManyRequests","code":429}"#;

fn within(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

fn throttled(seconds: u32) -> Answer {
    Answer::new(429, &format!("Retry-After: {seconds}\r\n"), THROTTLED)
}

#[tokio::test]
async fn throttling_is_waited_out_for_as_long_as_the_server_asks() {
    let folder = tempdir().unwrap();
    let server = Server::start([throttled(1), Answer::ok(r#"{"a":1}"#)]).await;
    let client = server.client("token: t", folder.path()).await;
    let start = Instant::now();
    let made: Value = client.create(&WIDGETS, &json!({"b": 2}), within(10_000)).await.unwrap();
    assert_eq!(made, json!({"a": 1}));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    let first =
        "POST /apis/example.com/v1/namespaces/ns/widgets?fieldManager=portcullis&fieldValidation=Strict HTTP/1.1\r\n";
    for request in asked {
        assert!(request.starts_with(first) && request.ends_with(r#"{"b":2}"#), "{request}");
        assert!(request.contains("authorization: Bearer t\r\n"), "{request}");
        assert!(request.contains("accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1\r\n"));
    }
}

#[tokio::test]
async fn throttling_beyond_the_deadline_is_told_at_once() {
    let folder = tempdir().unwrap();
    let server = Server::start([throttled(30)]).await;
    let client = server.client("", folder.path()).await;
    let start = Instant::now();
    let error = client.create::<Value>(&WIDGETS, &json!({}), within(2_000)).await.unwrap_err();
    assert_eq!(error, ClientError::Throttled);
    assert!(!error.may_have_happened() && start.elapsed() < Duration::from_secs(1));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_write_that_may_have_arrived_is_never_sent_again() {
    let folder = tempdir().unwrap();
    let words = r#"{"kind":"Status","message":"etcdserver: request timed out","reason":"InternalError","code":500}"#;
    for (answer, millis) in [(Answer::Close, 5_000), (Answer::new(500, "", words), 5_000), (Answer::Hang, 500)] {
        let server = Server::start([answer.clone(), Answer::ok("{}"), Answer::ok("{}")]).await;
        let client = server.client("", folder.path()).await;
        let start = Instant::now();
        let error = client.replace::<Value>(&WIDGETS, "n", &json!({}), within(millis)).await.unwrap_err();
        assert!(matches!(error, ClientError::Lost { .. }) && error.may_have_happened(), "{answer:?}: {error}");
        assert_eq!(server.asked().len(), 1, "{answer:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{answer:?}");
    }
}

#[tokio::test]
async fn a_read_is_sent_again() {
    let folder = tempdir().unwrap();
    let server = Server::start([
        Answer::Close,
        Answer::new(500, "", "oops"),
        Answer::new(503, "Retry-After: 1\r\n", ""),
        throttled(0),
        Answer::ok(r#"{"x":true}"#),
    ])
    .await;
    let client = server.client("", folder.path()).await;
    let found: Value = client.get(&WIDGETS, "n", within(10_000)).await.unwrap();
    assert_eq!((found, server.asked().len()), (json!({"x": true}), 5));
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_until_the_deadline() {
    let folder = tempdir().unwrap();
    let port = free_port();
    let client = client_of(port, "", folder.path()).await;
    let start = Instant::now();
    let error = client.create::<Value>(&WIDGETS, &json!({}), within(600)).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }) && !error.may_have_happened(), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_secs(2));

    let waiting = tokio::spawn(async move { client.create::<Value>(&WIDGETS, &json!({}), within(20_000)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let server = Server::at(&format!("127.0.0.1:{port}"), [Answer::ok("{}")]).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(server.asked().len(), 1);
}

/// Packets vanish: no connection is made before the deadline, so the write was never sent.
#[tokio::test]
async fn a_write_that_found_no_connection_was_never_sent() {
    let folder = tempdir().unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_at(&format!("https://{}", silent.local_addr().unwrap()), "", folder.path()).await;
    let error = client.create::<Value>(&WIDGETS, &json!({}), within(300)).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }) && !error.may_have_happened(), "{error}");
}

#[tokio::test]
async fn a_refused_token_is_read_again_once() {
    let folder = tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "old").unwrap();
    let refused = || Answer::new(401, "", r#"{"kind":"Status","message":"Unauthorized","code":401}"#);
    let server = Server::start([Answer::ok("{}"), refused(), Answer::ok("{}"), refused(), refused()]).await;
    let client = server.client("tokenFile: token", folder.path()).await;
    let get = || client.get::<Value>(&WIDGETS, "n", within(5_000));
    get().await.unwrap();
    std::fs::write(&token, "new").unwrap();
    get().await.unwrap();
    assert_eq!(get().await, Err(ClientError::Unauthorized { message: "Unauthorized".to_owned() }));
    let asked = server.asked();
    let tokens: Vec<_> =
        asked.iter().flat_map(|r| r.lines().filter_map(|l| l.strip_prefix("authorization: Bearer "))).collect();
    assert_eq!(tokens, ["old", "old", "new", "new", "new"]);
}

#[tokio::test]
async fn answers_are_bounded_and_never_printed() {
    let folder = tempdir().unwrap();
    let large = Answer::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n".to_owned());
    let server = Server::start([large, Answer::ok(r#"{"secret":"hunter2""#)]).await;
    let client = server.client("", folder.path()).await;
    let query = ListQuery {
        label_selector: "a=b,c<5",
        limit: 7,
        continue_token: Some("t/+"),
        form: Form::Metadata,
        ..ListQuery::default()
    };
    let error = client.list::<Value>(&WIDGETS, &query, within(5_000)).await.unwrap_err();
    assert_eq!(error, ClientError::TooLarge { limit: 8 * 1024 * 1024 });
    let request = server.asked().remove(0);
    assert!(request.contains("widgets?labelSelector=a%3Db%2Cc%3C5&limit=7&continue=t%2F%2B HTTP"), "{request}");
    assert!(request.contains("as=PartialObjectMetadataList;"), "{request}");

    let error = client.create::<Value>(&WIDGETS, &json!({}), within(5_000)).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreadable { .. }) && error.may_have_happened());
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_delete_names_what_it_deletes() {
    let folder = tempdir().unwrap();
    let conflict = r#"{"kind":"Status","reason":"Conflict","code":409}"#;
    let server = Server::start([Answer::ok("{}"), Answer::new(409, "", conflict)]).await;
    let client = server.client("username: u, password: p", folder.path()).await;
    let conditions = || Preconditions { uid: Some("the-uid".to_owned()), resource_version: Some("42".to_owned()) };
    client.delete(&WIDGETS, "n", conditions(), within(5_000)).await.unwrap();
    let again = client.delete(&WIDGETS, "n", conditions(), within(5_000)).await;
    assert_eq!(again, Err(ClientError::Conflict));
    let request = server.asked().remove(0);
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["preconditions"], json!({"uid": "the-uid", "resourceVersion": "42"}));
    assert!(request.starts_with("DELETE /apis/example.com/v1/namespaces/ns/widgets/n HTTP"), "{request}");
    assert!(request.contains("authorization: Basic dTpw\r\n"), "{request}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_requests_are_on_their_way() {
    let folder = tempdir().unwrap();
    let server = Server::start(std::iter::repeat_n(Answer::Hang, 100)).await;
    let client = server.client("", folder.path()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let client = client.clone();
        tasks.spawn(async move { client.create::<Value>(&WIDGETS, &json!({}), within(3_000)).await.unwrap_err() });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let error = client.create::<Value>(&WIDGETS, &json!({}), within(300)).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }) && !error.may_have_happened(), "{error}");
    assert_eq!(server.asked().len(), 32);
    assert!(tasks.join_all().await.iter().all(ClientError::may_have_happened));
}
