//! The Go program as client and as server, and the HTTP upgrade around a WebSocket.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use portcullis_spdy::websocket::handshake::{accept, check_response, key, request};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Bounds every run: whatever hangs is ended and named.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

fn program() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "a test learns from its environment where the peers are")]
    let folder = std::env::var_os("PORTCULLIS_PEERS").map(PathBuf::from);
    let program =
        folder.expect("PORTCULLIS_PEERS must name the folder of the peers: run cargo xtask test").join("stream-peer");
    assert!(program.is_file(), "{} is missing: cargo xtask test builds it", program.display());
    program
}

/// Runs the Go client against `address`; it must be content.
pub(super) async fn dial(transport: &str, address: &str, scenario: &[&str]) {
    let child = Command::new(program())
        .args(["dial", transport, address])
        .args(scenario)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("stream-peer");
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("an end").expect("an exit");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{transport} {scenario:?}: {said}");
}

/// The Go server. It ends with its standard input.
pub(super) struct Served {
    pub(super) address: String,
    _child: Child,
}

pub(super) async fn serve(transport: &str) -> Served {
    let mut child = Command::new(program())
        .args(["serve", transport])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("stream-peer");
    let mut address = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut address).await.expect("an address");
    Served { address: address.trim().to_owned(), _child: child }
}

/// A server of ours on a free port, which hands each connection to `handle`.
pub(super) async fn listen<F, W>(handle: F) -> String
where
    F: Fn(TcpStream) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let handle = Arc::new(handle);
    tokio::spawn(async move {
        while let Ok((transport, _)) = listener.accept().await {
            transport.set_nodelay(true).expect("a socket");
            tokio::spawn(handle(transport));
        }
    });
    address
}

/// Reads an HTTP head: its first line and its headers.
async fn head(transport: &mut TcpStream) -> (String, HeaderMap) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(transport.read_u8().await.expect("a whole head"));
    }
    let text = String::from_utf8(bytes).expect("ASCII");
    let mut lines = text.trim_end().split("\r\n");
    let first = lines.next().expect("a first line").to_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').expect("a header");
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, HeaderValue::from_str(value.trim()).expect("a value"));
    }
    (first, headers)
}

fn lines(headers: &HeaderMap) -> String {
    let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}\r\n", value.to_str().expect("ASCII"));
    headers.iter().map(line).collect::<String>() + "\r\n"
}

/// Answers a WebSocket handshake that offers `protocol`.
pub(super) async fn upgrade_as_server(mut transport: TcpStream, protocol: &str) -> TcpStream {
    let (first, headers) = head(&mut transport).await;
    let method = Method::from_bytes(first.split(' ').next().expect("a method").as_bytes()).expect("a method");
    let accepted = accept(&method, &headers, &[protocol]).expect("a good request");
    assert_eq!(accepted.protocol, Some(protocol));
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{}", lines(&accepted.headers));
    transport.write_all(answer.as_bytes()).await.expect("an answer");
    transport
}

/// Asks for a WebSocket with `protocol`.
pub(super) async fn upgrade_as_client(address: &str, protocol: &str) -> TcpStream {
    let mut transport = TcpStream::connect(address).await.expect("a connection");
    transport.set_nodelay(true).expect("a socket");
    let (key, protocols) = (key(*b"sixteen of bytes"), ["other.k8s.io", protocol]);
    let headers = request(&key, &protocols).expect("good headers");
    let text = format!("GET / HTTP/1.1\r\nHost: {address}\r\n{}", lines(&headers));
    transport.write_all(text.as_bytes()).await.expect("a request");
    let (first, headers) = head(&mut transport).await;
    let status = StatusCode::from_bytes(first.split(' ').nth(1).expect("a status").as_bytes()).expect("a status");
    assert_eq!(check_response(status, &headers, &key, &protocols), Ok(Some(protocol)));
    transport
}
