//! A server whose listener is killed and served again: what it holds stays, and what was connected ends.

use std::time::Duration;

use portcullis_apiserver::PartPort;
use portcullis_runtime::{Shutdown, server};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::port_forward::{Forward, open, part, wait};
use super::socket::Echo;
use crate::bench::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_listener_takes_its_connections_along_and_leaves_the_objects() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let echo = Echo::start().await;
    bench.running.seed().part(&part(vec![PartPort::inside("https", 5554, echo.addr)])).unwrap();
    assert!(bench.kubectl(&admin, &["create", "namespace", "kept"]).await.status.success());
    let client = bench.client(Some(("admin", &["system:masters"])));
    let watch_url = bench.url("/api/v1/namespaces?watch=true&timeoutSeconds=600");
    let watching = tokio::spawn(async move { client.get(&watch_url, &[]).await.map(|response| response.body.len()) });
    let forwards = [
        Forward::start(&bench, &admin, "true", "pod/dex-0 :5554").await,
        Forward::start(&bench, &admin, "false", "pod/dex-0 :5554").await,
    ];
    let mut streams = Vec::new();
    for forward in &forwards {
        streams.push(open(forward.port).await);
    }
    let idle = TcpStream::connect(bench.running.addr()).await.unwrap();

    let mut tasks = bench.running.hand_over();
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    assert!(TcpStream::connect(bench.running.addr()).await.is_err(), "nothing listens");
    for (mut forward, mut stream) in forwards.into_iter().zip(streams) {
        let end = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 8])).await.unwrap();
        assert!(end.map_or(true, |read| read == 0));
        wait(|| forward.child.ended()).await;
    }
    wait(|| (echo.open() == 0).then_some(())).await;
    let _cut_off = tokio::time::timeout(Duration::from_secs(20), watching).await.expect("watches end").unwrap();
    let mut idle = idle;
    let end = tokio::time::timeout(Duration::from_secs(20), idle.read(&mut [0; 8])).await.unwrap();
    assert!(end.map_or(true, |read| read == 0), "a connection in its handshake ends too");

    let (listener, stop) = (server::bind(bench.running.addr()).await.unwrap(), Shutdown::new());
    let mut again = bench.running.front().serve(listener, &stop);
    let kept = bench.kubectl(&admin, &["get", "namespace", "kept", "-o", "name"]).await;
    assert_eq!(String::from_utf8(kept.stdout).unwrap(), "namespace/kept\n");
    let forward = Forward::start(&bench, &admin, "true", "pod/dex-0 :5554").await;
    drop(open(forward.port).await);
    stop.trigger();
    while again.join_next().await.is_some() {}
    bench.stop().await;
}
