//! A server under test, and raw connections to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use portcullis_runtime::Shutdown;
use portcullis_runtime::server::{
    ConnInfo, Handler, Request, Response, ServerLimits, Transport, bind, handler_fn, read_body, respond, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Longer than anything here takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(transport: Transport, limits: ServerLimits, handler: Arc<dyn Handler>) -> Self {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let task = tokio::spawn(serve(listener, transport, handler, limits, shutdown.clone()));
        Self { address, shutdown, task }
    }

    pub(crate) async fn plain(limits: ServerLimits) -> Self {
        Self::start(Transport::Plain, limits, echo()).await
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/", self.address)
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Answers with what it knows of the connection; reads bodies of at most 1 KiB, within 50 ms.
pub(crate) fn echo() -> Arc<dyn Handler> {
    handler_fn(|request: Request| async move {
        let info = request.extensions().get::<ConnInfo>().unwrap().clone();
        let version = request.version();
        match read_body(request.into_body(), 1024, Duration::from_millis(50)).await {
            Ok(body) => text(
                StatusCode::OK,
                format!(
                    "{version:?} tls={} cert={} {}",
                    info.tls,
                    info.client_cert.is_some(),
                    String::from_utf8_lossy(&body)
                ),
            ),
            Err(error) => text(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        }
    })
}

pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Response {
    respond(status, "text/plain", body.into())
}

/// Writes `request` and reads until the peer closes.
pub(crate) async fn exchange(mut stream: TcpStream, request: &[u8]) -> String {
    // The peer may close while we still write; what it said is what counts.
    let _ = stream.write_all(request).await;
    rest(&mut stream).await
}

/// Reads until the peer closes.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}
