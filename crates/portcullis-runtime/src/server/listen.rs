//! Accepting connections, within limits, until shutdown.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use super::connection::{ConnInfo, Context, Http, Transport};
use super::handler::Handler;
use super::limits::ServerLimits;
use crate::Shutdown;

/// Connections that the kernel queues for us.
const BACKLOG: u32 = 1024;
/// How long to wait after a failed accept (mostly: out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on `addr`, which may be in TIME_WAIT. Port 0 takes a free one.
///
/// # Errors
/// When the address cannot be used; the text names it.
pub async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let listen = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error: io::Error| io::Error::new(error.kind(), format!("listen on {addr}: {error}")))
}

/// Serves connections of `listener` until `shutdown`, then lets running requests finish for at most `limits.drain` and
/// ends what is left. It returns when nothing of it runs any more. Dropping the future ends all of it at once.
pub async fn serve(
    listener: TcpListener,
    transport: Transport,
    handler: Arc<dyn Handler>,
    limits: ServerLimits,
    shutdown: Shutdown,
) {
    let context = Arc::new(Context::new(transport, handler, limits, shutdown));
    let _when_dropped = context.kill.clone().drop_guard();
    context.shutdown.unless(accept_all(&listener, &context)).await;
    drop(listener);
    context.tasks.close();
    if tokio::time::timeout(limits.drain, context.tasks.wait()).await.is_err() {
        tracing::warn!(connections = context.tasks.len(), "ending connections that did not finish in time");
        context.kill.cancel();
        context.tasks.wait().await;
    }
}

/// Serves one connection over any stream, such as one in memory, until it ends or `shutdown`.
pub async fn serve_stream<S>(
    stream: S,
    info: ConnInfo,
    handler: Arc<dyn Handler>,
    limits: ServerLimits,
    shutdown: Shutdown,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let context = Context::new(Transport::Plain, handler, limits, shutdown);
    context.serve(stream, info, Http::Either).await;
}

/// Serves one connection over any stream, such as one in memory, as a listener of `transport` would: `peer` is taken for the
/// address of the other end. It ends with the connection or `shutdown`.
pub async fn serve_stream_as<S>(
    stream: S,
    (peer, local): (SocketAddr, SocketAddr),
    transport: Transport,
    handler: Arc<dyn Handler>,
    limits: ServerLimits,
    shutdown: Shutdown,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let context = Context::new(transport, handler, limits, shutdown);
    Arc::new(context).run_stream(stream, (peer, local)).await;
}

async fn accept_all(listener: &TcpListener, context: &Arc<Context>) {
    let slots = Arc::new(Semaphore::new(context.limits.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let peers = Arc::new(Peers { limit: context.limits.max_connections_per_peer, open: Mutex::default() });
    loop {
        // The semaphore is never closed.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_peers_fault(&error) {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let Some(seat) = Peers::take(&peers, peer.ip().to_canonical()) else {
            tracing::debug!(%peer, "closed a connection of a peer that has too many");
            continue;
        };
        prepare(&stream);
        context.tasks.spawn(context.clone().run(stream, peer, (slot, seat)));
    }
}

fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Small writes go out at once; a peer that vanished is noticed.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(unix)]
    {
        let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
        let _ = rustix::net::sockopt::set_tcp_keepidle(stream, Duration::from_secs(60));
    }
}

/// How many connections each address has open.
struct Peers {
    limit: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Peers {
    fn take(this: &Arc<Self>, ip: IpAddr) -> Option<Seat> {
        let mut open = this.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(ip).or_insert(0);
        if *count >= this.limit.max(1) {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Seat { peers: this.clone(), ip })
    }
}

/// One connection's share of its address's limit.
struct Seat {
    peers: Arc<Peers>,
    ip: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.ip);
            }
        }
    }
}
