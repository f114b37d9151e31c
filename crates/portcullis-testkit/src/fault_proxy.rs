//! A TCP proxy that loses, delays or repeats what it should deliver, for clients of a real server.
//!
//! Flow: a test starts it before a server, hands its address to the client, and says with [`FaultProxy::set`] what
//! becomes of the bytes from then on. It knows no protocol: a request is what the client sends, a reply what comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes that are read at once.
const BUFFER: usize = 64 * 1024;
/// Pieces that are on their way in one direction of a connection; no more are read.
const ON_THEIR_WAY: usize = 256;

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// They are delivered.
    Pass,
    /// They are delivered this long after they came, in either direction. It is a long way, not a narrow one: whatever is on
    /// its way meanwhile is no later than that.
    Delay(Duration),
    /// Replies alone are delivered this long after they came.
    DelayReplies(Duration),
    /// The connection ends when the client sends something, which the server never sees.
    CutRequests,
    /// That becomes of the next request alone; then they are delivered.
    LoseRequest,
    /// The next reply ends its connection, and the client never sees it; then they are delivered.
    LoseReply,
    /// The next reply is delivered twice, one right after the other; then they are delivered once.
    RepeatReply,
    /// The server gets the requests; its replies vanish. The connection stays.
    DropReplies,
    /// Whatever is sent vanishes, in either direction. The connection stays.
    Silence,
    /// Nothing moves in either direction; what was sent is delivered when this ends.
    Hold,
    /// New connections end at once.
    Refuse,
}

/// A proxy on loopback. Dropping it ends its connections.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    state: watch::Sender<State>,
    accepted: AtomicUsize,
    requests: watch::Sender<usize>,
}

#[derive(Clone, Copy)]
struct State {
    traffic: Traffic,
    /// How often all connections were ended.
    cuts: u64,
}

impl FaultProxy {
    /// Listens at a port of its own and connects to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            state: watch::Sender::new(State { traffic: Traffic::Pass, cuts: 0 }),
            accepted: AtomicUsize::new(0),
            requests: watch::Sender::new(0),
        });
        let of_connections = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                of_connections.accepted.fetch_add(1, Ordering::Relaxed);
                let State { traffic, cuts } = of_connections.now();
                if traffic != Traffic::Refuse {
                    tokio::spawn(connection(client, target, Arc::clone(&of_connections), cuts));
                }
            }
        });
        Self { address, shared, accepting }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What becomes of the bytes from now on.
    pub fn set(&self, traffic: Traffic) {
        self.shared.state.send_modify(|state| state.traffic = traffic);
    }

    /// What becomes of them now: what is meant for the next request or reply alone is over when that has come.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.shared.now().traffic
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.shared.state.send_modify(|state| state.cuts += 1);
    }

    /// Ends all connections, and delivers what is sent over new ones: nothing of the old ones is delivered in between.
    pub fn cut_and_pass(&self) {
        self.shared.state.send_modify(|state| *state = State { traffic: Traffic::Pass, cuts: state.cuts + 1 });
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// How often clients have sent something so far; a request of 64 KiB and more may count more than once.
    #[must_use]
    pub fn requests(&self) -> usize {
        *self.shared.requests.borrow()
    }

    /// Ends when there have been more than so many.
    pub async fn asked_more_than(&self, requests: usize) {
        // The sender lives as long as this proxy.
        let mut seen = self.shared.requests.subscribe();
        let _never_closed = seen.wait_for(|now| *now > requests).await;
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Shared {
    fn now(&self) -> State {
        *self.state.borrow()
    }

    /// Takes what is meant for the next request or reply; somebody else may have been faster.
    fn takes(&self, once: Traffic) -> bool {
        self.state.send_if_modified(|state| {
            let takes = state.traffic == once;
            if takes {
                state.traffic = Traffic::Pass;
            }
            takes
        })
    }

    /// What becomes of bytes that came at that time over a connection that was made after so many cuts.
    async fn fate(&self, from: Side, came: Instant, made_after: u64) -> Fate {
        let mut state = self.state.subscribe();
        let moves = state.wait_for(|state| state.traffic != Traffic::Hold || state.cuts > made_after).await;
        let Ok(State { traffic: now, cuts }) = moves.map(|state| *state) else { return Fate::End };
        if cuts > made_after {
            return Fate::End;
        }
        match (now, from) {
            (Traffic::CutRequests, Side::Client) => Fate::End,
            (Traffic::LoseRequest, Side::Client) | (Traffic::LoseReply, Side::Server) if self.takes(now) => Fate::End,
            (Traffic::RepeatReply, Side::Server) if self.takes(now) => Fate::Deliver(2),
            (Traffic::DropReplies, Side::Server) | (Traffic::Silence, _) => Fate::Vanish,
            (Traffic::Delay(time), _) | (Traffic::DelayReplies(time), Side::Server) => {
                tokio::time::sleep_until(came + time).await;
                Fate::Deliver(1)
            }
            _ => Fate::Deliver(1),
        }
    }
}

/// Where bytes come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

enum Fate {
    /// So often.
    Deliver(usize),
    Vanish,
    /// The connection ends.
    End,
}

async fn connection(client: TcpStream, target: SocketAddr, shared: Arc<Shared>, made_after: u64) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut state = shared.state.subscribe();
    // Whichever ends first ends both, and with them the sockets.
    tokio::select! {
        _ = state.wait_for(|state| state.cuts > made_after) => {}
        () = pump(from_client, to_server, &shared, Side::Client, made_after) => {}
        () = pump(from_server, to_client, &shared, Side::Server, made_after) => {}
    }
}

/// Moves bytes until one side ends, or they end the connection. What has come before its sender ended is still delivered.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, side: Side, made_after: u64) {
    let (came, mut coming) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THEIR_WAY);
    let read = async move {
        let mut buffer = vec![0; BUFFER];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if side == Side::Client {
                shared.requests.send_modify(|requests| *requests += 1);
            }
            let piece = buffer.get(..count).unwrap_or_default().to_vec();
            if came.send((Instant::now(), piece)).await.is_err() {
                return;
            }
        }
    };
    let deliver = async {
        while let Some((when, piece)) = coming.recv().await {
            match shared.fate(side, when, made_after).await {
                Fate::End => return,
                Fate::Vanish => {}
                Fate::Deliver(times) => {
                    if to.write_all(&piece.repeat(times)).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    // The reader's end ends the deliverer when that is done.
    tokio::select! {
        () = deliver => {}
        () = async { read.await; std::future::pending().await } => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A server that answers every byte with the next one, and counts them.
    async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        count.fetch_add(1, Ordering::Relaxed);
                        let _ = stream.write_u8(byte + 1).await;
                    }
                });
            }
        });
        (address, seen)
    }

    async fn ask(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        stream.write_u8(byte).await.ok()?;
        timeout(Duration::from_millis(200), stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn each_traffic_does_what_it_says() {
        let (target, seen) = server().await;
        let proxy = FaultProxy::start(target).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, 1).await, Some(2));
        proxy.set(Traffic::DropReplies);
        assert_eq!((ask(&mut stream, 3).await, seen.load(Ordering::Relaxed)), (None, 2));
        proxy.set(Traffic::Hold);
        assert_eq!((ask(&mut stream, 5).await, seen.load(Ordering::Relaxed)), (None, 2));
        proxy.set(Traffic::Pass);
        assert_eq!(timeout(Duration::from_secs(5), stream.read_u8()).await.unwrap().unwrap(), 6);
        proxy.set(Traffic::CutRequests);
        assert_eq!((ask(&mut stream, 7).await, seen.load(Ordering::Relaxed)), (None, 3));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set(Traffic::Hold);
        assert_eq!((ask(&mut stream, 7).await, seen.load(Ordering::Relaxed)), (None, 3));
        proxy.cut_and_pass();
        assert_eq!((ask(&mut stream, 7).await, seen.load(Ordering::Relaxed)), (None, 3));
        proxy.set(Traffic::Refuse);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!((ask(&mut refused, 9).await, seen.load(Ordering::Relaxed)), (None, 3));
        assert_eq!(proxy.accepted(), 3);
    }

    #[tokio::test]
    async fn what_is_meant_for_one_strikes_once() {
        let (target, seen) = server().await;
        let proxy = FaultProxy::start(target).await;
        let connect = || TcpStream::connect(proxy.address());
        let mut stream = connect().await.unwrap();
        proxy.set(Traffic::LoseRequest);
        assert_eq!((ask(&mut stream, 10).await, seen.load(Ordering::Relaxed)), (None, 0));
        assert_eq!(proxy.traffic(), Traffic::Pass);
        let mut stream = connect().await.unwrap();
        assert_eq!(ask(&mut stream, 20).await, Some(21));
        proxy.set(Traffic::LoseReply);
        assert_eq!((ask(&mut stream, 30).await, seen.load(Ordering::Relaxed)), (None, 2));
        assert_eq!((proxy.traffic(), proxy.requests()), (Traffic::Pass, 3));
        let mut stream = connect().await.unwrap();
        proxy.set(Traffic::Silence);
        assert_eq!((ask(&mut stream, 40).await, seen.load(Ordering::Relaxed)), (None, 2));
        let delay = Duration::from_millis(20);
        proxy.set(Traffic::Delay(delay));
        let begun = std::time::Instant::now();
        let mut stream = connect().await.unwrap();
        assert_eq!(ask(&mut stream, 50).await, Some(51));
        assert!(begun.elapsed() >= 2 * delay);
    }

    #[tokio::test]
    async fn replies_are_repeated_once_and_late_without_waiting_for_each_other() {
        const LATE: Duration = Duration::from_millis(400);
        let (target, _) = server().await;
        let proxy = FaultProxy::start(target).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set(Traffic::RepeatReply);
        assert_eq!((ask(&mut stream, 1).await, stream.read_u8().await.unwrap()), (Some(2), 2));
        assert_eq!((ask(&mut stream, 3).await, proxy.traffic()), (Some(4), Traffic::Pass));
        proxy.set(Traffic::DelayReplies(LATE));
        let begun = std::time::Instant::now();
        for byte in [10, 20, 30, 40, 50, 60, 70, 80] {
            stream.write_u8(byte).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for byte in [11, 21, 31, 41, 51, 61, 71, 81] {
            assert_eq!(stream.read_u8().await.unwrap(), byte);
        }
        // One after the other they would take eight times as long.
        assert!(begun.elapsed() >= LATE && begun.elapsed() < 4 * LATE, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_cut_ends_the_connections_of_that_moment() {
        let (target, _) = server().await;
        let proxy = FaultProxy::start(target).await;
        let mut first = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut first, 1).await, Some(2));
        proxy.cut();
        let mut second = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!((ask(&mut first, 1).await, ask(&mut second, 1).await), (None, Some(2)));
    }
}
