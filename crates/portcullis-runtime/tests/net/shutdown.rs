//! The end of a listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use portcullis_runtime::Shutdown;
use portcullis_runtime::server::{ServerLimits, Transport, handler_fn, stream, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::{PATIENCE, Server, rest, text};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";

#[tokio::test]
async fn a_running_request_finishes_idle_connections_end_and_new_ones_are_refused() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (b, g) = (begun.clone(), go.clone());
    let handler = handler_fn(move |_| {
        let (begun, go) = (b.clone(), g.clone());
        async move {
            begun.notify_one();
            go.notified().await;
            text(StatusCode::OK, "finished")
        }
    });
    let server = Server::start(Transport::Plain, ServerLimits::default(), handler).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(GET).await.unwrap();
    begun.notified().await;
    server.shutdown.trigger();
    assert_eq!(rest(&mut idle).await, "");
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("the port is closed while the drain goes on");
    assert!(!server.task.is_finished());
    go.notify_one();
    assert!(rest(&mut busy).await.ends_with("finished"));
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_ended() {
    let handler = handler_fn(|_| std::future::pending());
    let drain = Duration::from_millis(50);
    let server = Server::start(Transport::Plain, ServerLimits { drain, ..ServerLimits::default() }, handler).await;
    let mut stuck = server.connect().await;
    stuck.write_all(GET).await.unwrap();
    let start = Instant::now();
    // The connection has to be accepted before the listener goes away.
    tokio::time::sleep(Duration::from_millis(30)).await;
    server.shutdown.trigger();
    tokio::time::timeout(PATIENCE, server.task).await.expect("the drain is bounded").unwrap();
    assert!(start.elapsed() >= drain);
    assert_eq!(rest(&mut stuck).await, "");
}

#[tokio::test]
async fn a_watch_until_shutdown_does_not_hold_up_the_drain() {
    let stop = Shutdown::new();
    let inner = stop.clone();
    let handler = handler_fn(move |_| {
        let stop = inner.clone();
        async move {
            let first = futures_util::stream::once(async { Ok(bytes::Bytes::from_static(b"first")) });
            let endless = futures_util::StreamExt::chain(first, futures_util::stream::pending());
            http::Response::new(stream(until(endless, stop)))
        }
    });
    let server = Server::start(Transport::Plain, ServerLimits::default(), handler).await;
    let mut watch = server.connect().await;
    watch.write_all(GET).await.unwrap();
    let mut buffer = vec![0; 1024];
    let mut seen = Vec::new();
    while !seen.ends_with(b"first\r\n") {
        let read = watch.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0);
        seen.extend_from_slice(&buffer[..read]);
    }
    stop.trigger();
    server.shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(5), server.task).await.expect("sooner than the drain time").unwrap();
    assert_eq!(rest(&mut watch).await, "0\r\n\r\n");
}
