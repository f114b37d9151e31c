//! The sockets that a part's pod leads to.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::parts::{PartPort, PartSocket};

/// For a connection to be made, which on loopback is at once or never.
const CONNECT: Duration = Duration::from_secs(10);

/// What the streams of one session may reach.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Name of the pod.
    pub(crate) pod: String,
    /// Its identity.
    pub(crate) uid: String,
    /// The ports that it declares.
    pub(crate) ports: Arc<[PartPort]>,
    /// Places of connections.
    pub(crate) places: Arc<Semaphore>,
}

/// Bytes both ways.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection to a part, and its place among those that may be open.
pub(crate) struct Connected {
    pub(crate) stream: Box<dyn Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Sockets {
    /// Connects to the socket behind a port of the pod. The error is what the client is shown.
    ///
    /// This keeps a port-forward from being a way to everything on loopback: a port that the part does not declare is as
    /// closed as it would be in a pod with a network of its own.
    ///
    /// Compat: the texts of the kubelet and containerd, as kubectl shows them.
    pub(crate) async fn connect(&self, port: u16) -> Result<Connected, String> {
        let failed = |why: &str| {
            let Self { pod, uid, .. } = self;
            format!("error forwarding port {port} to pod {pod}, uid {uid}: {why}")
        };
        let refused = |why: &str| {
            let pod = &self.pod;
            failed(&format!(
                "failed to connect to localhost:{port} inside namespace \"{pod}\", IPv4: dial tcp4 127.0.0.1:{port}: connect: {why}"
            ))
        };
        let declared = self.ports.iter().find(|declared| declared.number == port);
        let Some(socket) = declared.map(|port| &port.socket) else { return Err(refused("connection refused")) };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(failed("too many connections are forwarded at this time"));
        };
        let socket = match socket {
            PartSocket::InProcess(dial) => {
                let stream = dial().ok_or_else(|| refused("connection refused"))?;
                return Ok(Connected { stream: Box::new(stream), _place: place });
            }
            PartSocket::Loopback(socket) if socket.ip().is_loopback() => *socket,
            PartSocket::Loopback(_) => return Err(refused("connection refused")),
        };
        match tokio::time::timeout(CONNECT, TcpStream::connect(socket)).await {
            Ok(Ok(stream)) => {
                // Small pieces, such as those of a TLS handshake, must not wait.
                let _ = stream.set_nodelay(true);
                Ok(Connected { stream: Box::new(stream), _place: place })
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(refused("connection refused"))
            }
            Ok(Err(error)) => Err(refused(&error.to_string())),
            Err(_) => Err(refused("connection timed out")),
        }
    }
}
