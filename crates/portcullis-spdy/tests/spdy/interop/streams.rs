//! Streams with `spdystream`: what the Go client asks of our server, and ours of the Go server. The behaviours and scenarios
//! are described in `peers/stream-peer/README.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_spdy::frame::ResetStatus;
use portcullis_spdy::websocket::handshake::TUNNEL_PORT_FORWARD;
use portcullis_spdy::websocket::{Limits, Tunnel};
use portcullis_spdy::{
    Config, Connection, ConnectionError, Headers, OpenError, Role, Stream, StreamError, StreamOptions, connect,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::harness::{PATIENCE, dial, listen, serve, upgrade_as_client, upgrade_as_server};
use crate::support::{pattern, pattern_byte};
use crate::tunnel::keys;

/// Both ways to carry SPDY.
const TRANSPORTS: [&str; 2] = ["spdy", "tunnel"];

/// 100 streams, of which all together move 50 MiB each way.
const STREAMS: &str = "100";
const BYTES: usize = 50 * (1 << 20) / 100;

/// Limits under which a stalled stream is seen soon.
fn impatient() -> Config {
    let mut config = Config::default();
    config.limits.stall = Some(Duration::from_millis(200));
    config
}

/// Our server, for one transport. Returns its address.
async fn our_server(transport: &'static str, config: Config) -> String {
    let config = Arc::new(config);
    listen(move |socket: TcpStream| {
        let config = Arc::clone(&config);
        async move {
            if transport == "tunnel" {
                let socket = upgrade_as_server(socket, TUNNEL_PORT_FORWARD).await;
                serve_connection(Tunnel::server(socket, Limits::default()), &config).await;
            } else {
                serve_connection(socket, &config).await;
            }
        }
    })
    .await
}

async fn serve_connection<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(transport: T, config: &Config) {
    let (connection, driver) = connect(transport, Role::Server, config);
    tokio::spawn(driver);
    let resets = Arc::new(AtomicUsize::new(0));
    while let Some(incoming) = connection.accept().await {
        if incoming.headers().get("behaviour") == Some("refuse") {
            incoming.refuse(ResetStatus::REFUSED_STREAM);
            continue;
        }
        let Ok(stream) = incoming.accept(Headers::new()) else { continue };
        let resets = Arc::clone(&resets);
        tokio::spawn(async move { serve_stream(stream, &resets).await });
    }
}

async fn serve_stream(mut stream: Stream, resets: &AtomicUsize) -> std::io::Result<()> {
    let number = |name| stream.headers().get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (seed, size) = (u32::try_from(number("seed")).expect("a seed"), number("size"));
    match stream.headers().get("behaviour") {
        Some("echo") => {
            let (mut from, mut to) = tokio::io::split(stream);
            tokio::io::copy(&mut from, &mut to).await?;
            return to.shutdown().await;
        }
        Some("sink") => {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            stream.write_all(summary(&all).as_bytes()).await?;
        }
        Some("source") => {
            stream.write_all(&pattern(seed, 0, size)).await?;
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await?;
        }
        Some("headers") => {
            let text = dump(stream.headers());
            stream.write_all(text.as_bytes()).await?;
        }
        Some("reset") => {
            stream.read_u8().await?;
            stream.reset(ResetStatus::CANCEL);
            return Ok(());
        }
        // Held, and never read.
        Some("silent") => std::future::pending().await,
        Some("await-reset") => {
            let error = stream.read_u8().await.expect_err("a reset");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            resets.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        Some("resets") => stream.write_all(resets.load(Ordering::SeqCst).to_string().as_bytes()).await?,
        other => panic!("{other:?}"),
    }
    stream.shutdown().await
}

fn summary(all: &[u8]) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, all);
    let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {hex}", all.len())
}

fn dump(headers: &Headers) -> String {
    let mut lines = Vec::new();
    for (name, values) in headers.iter() {
        for (place, value) in values.iter().enumerate() {
            lines.push(format!("{name}/{place}={}\n", String::from_utf8_lossy(value)));
        }
    }
    lines.sort();
    lines.concat()
}

/// Our client.
struct Client {
    connection: Connection,
    end: JoinHandle<Result<(), ConnectionError>>,
}

impl Client {
    async fn dial(transport: &str, address: &str, config: &Config) -> Self {
        let (connection, end) = if transport == "tunnel" {
            let socket = upgrade_as_client(address, TUNNEL_PORT_FORWARD).await;
            let (connection, driver) = connect(Tunnel::client(socket, keys(), Limits::default()), Role::Client, config);
            (connection, tokio::spawn(driver))
        } else {
            let socket = TcpStream::connect(address).await.expect("a connection");
            socket.set_nodelay(true).expect("a socket");
            let (connection, driver) = connect(socket, Role::Client, config);
            (connection, tokio::spawn(driver))
        };
        Self { connection, end }
    }

    async fn open(&self, behaviour: &str, seed: u32, size: usize) -> Result<Stream, OpenError> {
        let headers = Headers::new()
            .with("behaviour", behaviour.to_owned())
            .and_then(|headers| headers.with("seed", seed.to_string()))
            .and_then(|headers| headers.with("size", size.to_string()))
            .expect("good headers");
        self.connection.open(headers, StreamOptions::default()).await
    }

    async fn answer(&self, headers: Headers) -> String {
        let mut stream = self.connection.open(headers, StreamOptions::default()).await.expect("a stream");
        stream.shutdown().await.expect("an open stream");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    async fn echo(&self, seed: u32, size: usize) {
        let stream = self.open("echo", seed, size).await.expect("a stream");
        let (mut from, mut to) = tokio::io::split(stream);
        let writer = tokio::spawn(async move {
            to.write_all(&pattern(seed, 0, size)).await.expect("an open stream");
            to.shutdown().await.expect("an open stream");
        });
        read_pattern(&mut from, seed, size).await;
        writer.await.expect("no panic");
    }

    /// The connection has done its work and ends as it should.
    async fn close(self) {
        tokio::time::timeout(PATIENCE, self.connection.close()).await.expect("an end").expect("a clean end");
        self.end.await.expect("no panic").expect("a clean end");
    }
}

async fn read_pattern(from: &mut (impl AsyncRead + Unpin), seed: u32, size: usize) {
    let (mut buffer, mut place) = (vec![0; 32 * 1024], 0);
    loop {
        let read = from.read(&mut buffer).await.expect("an open stream");
        if read == 0 {
            break;
        }
        let right = buffer[..read].iter().enumerate().all(|(offset, byte)| *byte == pattern_byte(seed, place + offset));
        assert!(right, "stream {seed}: other bytes at {place}");
        place += read;
    }
    assert_eq!(place, size, "stream {seed}");
}

/// Runs the same on many streams at once.
async fn together<F, W>(client: &Arc<Client>, each: F)
where
    F: Fn(Arc<Client>, u32) -> W,
    W: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = (0..100).map(|seed| tokio::spawn(each(Arc::clone(client), seed))).collect();
    for task in tasks {
        tokio::time::timeout(PATIENCE, task).await.expect("an end").expect("no panic");
    }
}

async fn our_client(transport: &str, address: &str) -> Arc<Client> {
    Arc::new(Client::dial(transport, address, &Config::default()).await)
}

async fn close(client: Arc<Client>) {
    Arc::into_inner(client).expect("all streams are done").close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_client_moves_50_mib_each_way_over_100_streams() {
    for transport in TRANSPORTS {
        dial(transport, &our_server(transport, Config::default()).await, &["echo", STREAMS, &BYTES.to_string()]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_moves_50_mib_each_way_over_100_streams() {
    for transport in TRANSPORTS {
        let server = serve(transport).await;
        let client = our_client(transport, &server.address).await;
        together(&client, |client, seed| async move { client.echo(seed, BYTES).await }).await;
        close(client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_client_half_closes_and_is_half_closed() {
    for transport in TRANSPORTS {
        let address = our_server(transport, Config::default()).await;
        dial(transport, &address, &["sink", STREAMS, "100000"]).await;
        dial(transport, &address, &["source", STREAMS, "100000"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_half_closes_and_is_half_closed() {
    for transport in TRANSPORTS {
        let server = serve(transport).await;
        let client = our_client(transport, &server.address).await;
        together(&client, |client, seed| async move {
            let sent = pattern(seed, 0, 100_000);
            let mut stream = client.open("sink", seed, sent.len()).await.expect("a stream");
            stream.write_all(&sent).await.expect("an open stream");
            stream.shutdown().await.expect("an open stream");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("an answer");
            assert_eq!(text, summary(&sent));
        })
        .await;
        together(&client, |client, seed| async move {
            let mut stream = client.open("source", seed, 100_000).await.expect("a stream");
            read_pattern(&mut stream, seed, 100_000).await;
            stream.shutdown().await.expect("our direction is still open");
        })
        .await;
        close(client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_client_sees_our_resets_refusals_headers_and_pongs() {
    for transport in TRANSPORTS {
        let address = our_server(transport, Config::default()).await;
        for scenario in [&["reset", STREAMS][..], &["refuse"], &["headers"], &["ping", "50"]] {
            dial(transport, &address, scenario).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_sees_resets_refusals_headers_and_pongs() {
    for transport in TRANSPORTS {
        let server = serve(transport).await;
        let client = our_client(transport, &server.address).await;
        together(&client, |client, _| async move {
            let mut stream = client.open("reset", 0, 0).await.expect("a stream");
            stream.write_u8(1).await.expect("an open stream");
            let error = stream.read_u8().await.unwrap_err();
            assert_eq!(error.to_string(), "the stream was reset: CANCEL (5)");
            client.open("await-reset", 0, 0).await.expect("a stream").reset(ResetStatus::CANCEL);
        })
        .await;
        let ask = || Headers::new().with("behaviour", "resets").expect("a good header");
        let all = async { while client.answer(ask()).await != STREAMS {} };
        tokio::time::timeout(PATIENCE, all).await.expect("all resets are seen");

        let refused = client.open("refuse", 0, 0).await.map(|_| ());
        assert!(matches!(refused, Err(OpenError::Stream(StreamError::Reset(ResetStatus::REFUSED_STREAM)))));

        let mut headers = Headers::new().with("behaviour", "headers").and_then(|h| h.with("empty", "")).unwrap();
        for name in 0..20 {
            for value in 0..5 {
                headers.append(&format!("name-{name}"), format!("value {value}, of ä")).unwrap();
            }
        }
        assert_eq!(client.answer(headers.clone()).await, dump(&headers));

        let stream = client.open("echo", 0, 0).await.expect("a stream");
        assert_eq!(stream.headers().get("seen"), Some("echo"), "headers of the reply");
        drop(stream);
        for _ in 0..50 {
            assert!(client.connection.ping().await.is_some());
        }
        close(client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_our_server_does_not_read_holds_the_go_client_up_for_a_while_only() {
    for transport in TRANSPORTS {
        dial(transport, &our_server(transport, impatient()).await, &["silent", &(4 << 20).to_string()]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_our_client_does_not_read_holds_it_up_for_a_while_only() {
    for transport in TRANSPORTS {
        let server = serve(transport).await;
        let client = Arc::new(Client::dial(transport, &server.address, &impatient()).await);
        let mut unread = client.open("source", 0, 4 << 20).await.expect("a stream");
        // It is full before the other begins.
        while client.connection.buffered() < 256 * 1024 {
            tokio::task::yield_now().await;
        }
        tokio::time::timeout(PATIENCE, client.echo(1, 1 << 20)).await.expect("an end");
        let held = client.connection.buffered();
        assert!(held <= 256 * 1024 + 64 * 1024, "{held}");
        let error = unread.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "the stream was reset: FLOW_CONTROL_ERROR (7)");
        drop(unread);
        close(client).await;
    }
}
