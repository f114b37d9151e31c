//! One connection: which protocol it speaks, and serving it to its end.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
#[cfg(feature = "server")]
use std::time::Duration;

use futures_util::FutureExt;
use http::{StatusCode, Version};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
#[cfg(feature = "server")]
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::{Activity, GuardedIo};
use super::handler::{Handler, Request, respond};
use super::limits::ServerLimits;
use super::response::GuardedBody;
#[cfg(feature = "server")]
use super::response::unless_stalled;
use crate::tls::ServerTls;
use crate::tls::client_auth::verdict;
use crate::{Shutdown, net};

/// First byte of a TLS record that holds a handshake message (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// What Go's servers answer to plain http on a TLS port, which kubectl's users know.
const HTTP_ON_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Bytes that a TLS connection keeps encrypted for a peer that does not take them; at least one full record (RFC 8446
/// section 5.1).
const TLS_BUFFER: usize = 16 * 1024;

/// Bytes of a response that an HTTP/2 stream keeps for a peer that does not take them.
#[cfg(feature = "server")]
const STREAM_BUFFER: usize = 16 * 1024;

/// What a listener speaks.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Plain http.
    Plain,
    /// TLS.
    Tls(ServerTls),
    /// TLS, and to loopback peers also plain http, told apart by the first byte (so that a browser on this machine
    /// never meets a certificate that it does not know). Plain http from elsewhere is closed. Whoever serves plain
    /// http here checks the `Host` header, because other sites' pages can reach loopback by DNS rebinding.
    TlsOrPlainOnLoopback(ServerTls),
}

impl Transport {
    /// Whether a connection's first byte decides how it is spoken to.
    const fn looks_first(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls(_) | Self::TlsOrPlainOnLoopback(_) => true,
        }
    }
}

/// What is known of the connection that a request came on.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// The peer's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The client's certificate, when one was shown and its chain was valid at the time of the handshake.
    pub client_cert: Option<Arc<CertificateDer<'static>>>,
    /// Why the certificate that was shown does not count.
    pub client_cert_error: Option<Arc<str>>,
}

/// What all connections of a listener share.
pub(super) struct Context {
    pub(super) transport: Transport,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) limits: Arc<ServerLimits>,
    pub(super) shutdown: Shutdown,
    /// Ends connections that did not finish within the drain time.
    pub(super) kill: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Context {
    pub(super) fn new(
        transport: Transport,
        handler: Arc<dyn Handler>,
        limits: ServerLimits,
        shutdown: Shutdown,
    ) -> Self {
        let (kill, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self { transport, handler, limits: Arc::new(limits), shutdown, kill, tasks }
    }

    /// Serves one connection to its end; `_held` is let go of then.
    pub(super) async fn run<T>(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, _held: T) {
        let Ok(local) = stream.local_addr() else { return };
        let first = async |stream: TcpStream| {
            let mut first = [0];
            let read = if self.transport.looks_first() { stream.peek(&mut first).await? } else { 0 };
            Ok(((read > 0).then_some(first[0]), stream))
        };
        self.run_from(stream, (peer, local), first).await;
    }

    /// The same over any stream. Its first byte cannot be looked at without being taken, so it is put before the rest again.
    pub(super) async fn run_stream<S>(self: Arc<Self>, stream: S, ends: (SocketAddr, SocketAddr))
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let first = async |mut stream: S| {
            let mut first = [0];
            let read = if self.transport.looks_first() { stream.read(&mut first).await? } else { 0 };
            let first = (read > 0).then_some(first[0]);
            Ok((first, Resumed { first, rest: stream }))
        };
        self.run_from(stream, ends, first).await;
    }

    /// `look` tells the first byte, which decides between TLS and plain http.
    async fn run_from<S, T>(
        &self,
        stream: S,
        (peer, local): (SocketAddr, SocketAddr),
        look: impl AsyncFnOnce(S) -> io::Result<(Option<u8>, T)>,
    ) where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // On the heap until the handshake is over: a future keeps room for everything that has ever passed through it.
        let opening = Box::pin(async {
            let (first, stream) = look(stream).await?;
            self.open(stream, first, peer).await
        });
        let opened = tokio::select! {
            () = self.shutdown.triggered() => return,
            () = self.kill.cancelled() => return,
            opened = tokio::time::timeout(self.limits.handshake_timeout, opening) => opened,
        };
        let info = |tls| ConnInfo { peer, local, tls, client_cert: None, client_cert_error: None };
        match opened {
            Ok(Ok(Opened::Plain(stream))) => self.serve(stream, info(false), Http::Either).await,
            Ok(Ok(Opened::Tls(stream, client))) => {
                let http = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Http::Two } else { Http::One };
                let mut info = info(true);
                match client {
                    Some(Ok(leaf)) => info.client_cert = Some(Arc::new(leaf)),
                    Some(Err(reason)) => info.client_cert_error = Some(reason.into()),
                    None => {}
                }
                self.serve(*stream, info, http).await;
            }
            Ok(Ok(Opened::Refused)) => tracing::debug!(%peer, "closed a connection that did not begin with TLS"),
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake error"),
            Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
        }
    }

    async fn open<S>(&self, stream: S, first: Option<u8>, peer: SocketAddr) -> io::Result<Opened<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (tls, plain_allowed) = match &self.transport {
            Transport::Plain => return Ok(Opened::Plain(stream)),
            Transport::Tls(tls) => (tls, false),
            Transport::TlsOrPlainOnLoopback(tls) => (tls, net::is_loopback(peer.ip())),
        };
        let Some(first) = first else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        if first != TLS_HANDSHAKE {
            return if plain_allowed { Ok(Opened::Plain(stream)) } else { refuse(stream).await };
        }
        let mut stream = TlsAcceptor::from(tls.config.clone()).accept(stream).await?;
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let client = match &tls.deferred {
            Some(verifier) => verdict(verifier.as_ref(), chain),
            // Without deferred checks a certificate is only there when the handshake has checked it.
            None => chain.first().cloned().map(Ok),
        };
        Ok(Opened::Tls(Box::new(stream), client))
    }

    /// Serves requests to the connection's end.
    pub(super) fn serve<'c, S>(&'c self, stream: S, info: ConnInfo, http: Http) -> Serving<'c>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = info.peer;
        let activity = Activity::new();
        let io = TokioIo::new(GuardedIo::new(stream, activity.clone(), self.limits.clone()));
        let handler = self.handler.clone();
        let service = service_fn(move |request| answer(handler.clone(), request, &info, &activity));
        // Put together here, where what is moved takes room on the stack alone.
        #[cfg(feature = "server")]
        if !matches!(http, Http::One) {
            let connection = Box::pin(self.builder(&http).serve_connection_with_upgrades(io, service).into_owned());
            return Box::pin(self.drive(peer, connection, |connection| connection.graceful_shutdown()));
        }
        // Known, it is not looked for: hyper's buffer for reading would be twice as large for the part that was looked at.
        let _known = http;
        let connection = Box::pin(self.http1().serve_connection(io, service).with_upgrades());
        Box::pin(self.drive(peer, connection, |connection| connection.graceful_shutdown()))
    }

    async fn drive<C, E>(&self, peer: SocketAddr, mut connection: Pin<Box<C>>, stop: fn(Pin<&mut C>))
    where
        C: Future<Output = Result<(), E>> + Send,
        E: std::fmt::Display,
    {
        let mut stopping = false;
        let result = loop {
            tokio::select! {
                biased;
                () = self.kill.cancelled() => break Ok(()),
                result = connection.as_mut() => break result,
                () = self.shutdown.triggered(), if !stopping => {
                    stopping = true;
                    stop(connection.as_mut());
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }

    fn http1(&self) -> http1::Builder {
        let limits = &self.limits;
        let mut http1 = http1::Builder::new();
        // The guard limits the time for a head; hyper's own timer would also run between requests.
        http1.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(limits.header_bytes.max(8 * 1024));
        if limits.header_count != 100 {
            http1.max_headers(limits.header_count);
        }
        http1
    }

    /// HTTP/2, or whichever version the peer begins to speak.
    #[cfg(feature = "server")]
    fn builder(&self, http: &Http) -> auto::Builder<Tracked> {
        let limits = &self.limits;
        let mut builder = auto::Builder::new(Tracked {
            tasks: self.tasks.clone(),
            kill: self.kill.clone(),
            write_timeout: limits.write_timeout,
        });
        {
            let mut http1 = builder.http1();
            http1.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(limits.header_bytes.max(8 * 1024));
            if limits.header_count != 100 {
                http1.max_headers(limits.header_count);
            }
        }
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_max_concurrent_streams)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(64)
            .max_send_buf_size(STREAM_BUFFER)
            .keep_alive_interval(limits.http2_keep_alive)
            .keep_alive_timeout(limits.http2_keep_alive);
        if matches!(http, Http::Two) { builder.http2_only() } else { builder }
    }
}

/// A connection that is served.
type Serving<'c> = Pin<Box<dyn Future<Output = ()> + Send + 'c>>;

enum Opened<S> {
    Plain(S),
    Tls(Box<tokio_rustls::server::TlsStream<S>>, Option<Result<CertificateDer<'static>, String>>),
    Refused,
}

/// Which versions of HTTP are spoken.
pub(super) enum Http {
    One,
    Two,
    Either,
}

/// A stream whose first byte has been taken.
struct Resumed<S> {
    first: Option<u8>,
    rest: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.rest).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Resumed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(cx)
    }
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<Opened<S>> {
    // Closing with unread bytes would reset the connection, and the peer might lose the answer.
    let _ = stream.read(&mut [0; 4096]).await?;
    stream.write_all(HTTP_ON_TLS).await?;
    stream.shutdown().await?;
    Ok(Opened::Refused)
}

/// Hands one request to the handler; a panic in it is a 500.
fn answer(
    handler: Arc<dyn Handler>,
    mut request: Request,
    info: &ConnInfo,
    activity: &Arc<Activity>,
) -> impl Future<Output = Result<http::Response<GuardedBody>, io::Error>> + Send + use<> {
    let in_flight = activity.begin(request.version() == Version::HTTP_2);
    let activity = activity.clone();
    request.extensions_mut().insert(info.clone());
    async move {
        let answered = AssertUnwindSafe(async { handler.handle(request).await }).catch_unwind().await;
        let response = answered.unwrap_or_else(|_| {
            tracing::error!("a request handler panicked");
            respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", "Internal Server Error\n")
        });
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            activity.upgrade();
        }
        Ok(response.map(|body| GuardedBody::new(body, in_flight)))
    }
}

/// Runs hyper's HTTP/2 streams where the drain sees them.
#[cfg(feature = "server")]
#[derive(Clone)]
struct Tracked {
    tasks: TaskTracker,
    kill: CancellationToken,
    write_timeout: Duration,
}

#[cfg(feature = "server")]
impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let kill = self.kill.clone();
        let stream = unless_stalled(future, self.write_timeout);
        self.tasks.spawn(async move { kill.run_until_cancelled(stream).await });
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::server::handler_fn;
    use crate::tls::{ClientAuth, TlsIdentity, TlsVersions, server_config};

    /// What a plain http request on the shared port gets when it comes from `peer`.
    async fn plain_http_from(peer: &str) -> String {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let identity =
            TlsIdentity::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
        let tls = server_config(identity, TlsVersions::default(), ClientAuth::None).unwrap();
        let context = Arc::new(Context {
            transport: Transport::TlsOrPlainOnLoopback(tls),
            handler: handler_fn(|_| async { respond(StatusCode::OK, "text/plain", "welcome") }),
            limits: Arc::new(ServerLimits::default()),
            shutdown: Shutdown::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let served = tokio::spawn(context.run(accepted, peer.parse().unwrap(), ()));
        let mut answer = Vec::new();
        let _ = client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        // A reset after the answer is as good as an end.
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = client.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
        }
        served.await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn plain_http_is_served_to_loopback_and_refused_to_everyone_else() {
        for peer in ["127.0.0.1:9", "127.3.2.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert!(plain_http_from(peer).await.ends_with("welcome"), "{peer}");
        }
        for peer in
            ["203.0.113.5:9", "10.0.0.1:9", "0.0.0.0:9", "[2001:db8::1]:9", "[fe80::1]:9", "[::ffff:10.0.0.1]:9"]
        {
            let answer = plain_http_from(peer).await;
            assert!(!answer.contains("welcome") && HTTP_ON_TLS.starts_with(answer.as_bytes()), "{peer}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_stream_in_memory_is_served_as_a_listener_would_with_tls_and_plain_http_told_apart() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let identity =
            TlsIdentity::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
        let tls = server_config(identity, TlsVersions::default(), ClientAuth::None).unwrap();
        let handler = handler_fn(|request| async move {
            let tls = request.extensions().get::<ConnInfo>().unwrap().tls;
            respond(StatusCode::OK, "text/plain", if tls { "over TLS" } else { "plain" })
        });
        let open = |peer: &str| {
            let (ours, theirs) = tokio::io::duplex(4096);
            let ends = (peer.parse().unwrap(), "127.0.0.1:5554".parse().unwrap());
            let transport = Transport::TlsOrPlainOnLoopback(tls.clone());
            let (handler, stop) = (handler.clone(), Shutdown::new());
            tokio::spawn(crate::server::serve_stream_as(
                theirs,
                ends,
                transport,
                handler,
                ServerLimits::default(),
                stop,
            ));
            ours
        };
        async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            let _ended_without_close_notify = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        }
        assert!(get(open("127.0.0.1:9")).await.ends_with("plain"));
        assert_eq!(get(open("10.0.0.1:9")).await.as_bytes(), HTTP_ON_TLS);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let stream = connector.connect("localhost".try_into().unwrap(), open("127.0.0.1:9")).await.unwrap();
        assert!(get(stream).await.ends_with("over TLS"));
    }
}
