//! Port-forwards without a listener: what limits them, what ends them, and what hostile clients get.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use portcullis_runtime::Shutdown;
use portcullis_spdy::frame::{Decoded, Decoder, Encoder, Frame, ResetStatus, StreamId};
use portcullis_spdy::websocket::{CloseCode, Codec, Event, Kind, Limits as WebSocketLimits, MaskKeys};
use portcullis_spdy::{Config, Connection, Headers, Limits, OpenError, Role, Stream, StreamOptions, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::sockets::Sockets;
use super::{StreamLimits, old_port_forward, port_forward};
use crate::http::Call;
use crate::parts::{Part, PartPort};
use crate::world::world;

const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    server: JoinHandle<()>,
    places: Arc<Semaphore>,
    over: Shutdown,
    stop: Shutdown,
}

/// A session on a connection in memory, to a part at `socket` with the ports 80 and 81.
fn session(limits: &StreamLimits, socket: SocketAddr, old: Option<&'static str>) -> (Bench, DuplexStream) {
    let (client, server) = duplex(64 * 1024);
    let (over, stop) = (Shutdown::new(), Shutdown::new());
    let places = Arc::new(Semaphore::new(limits.forwards));
    let ports = [80, 81].map(|number| PartPort::inside("", number, socket));
    let sockets =
        Sockets { pod: "p".to_owned(), uid: "u".to_owned(), ports: ports.into(), places: Arc::clone(&places) };
    let (limits, ending, stopping) = (limits.clone(), over.clone(), stop.clone());
    let server = tokio::spawn(async move {
        match old {
            None => port_forward::serve(server, sockets, &limits, &ending, &stopping).await,
            Some(protocol) => {
                old_port_forward::serve(server, protocol, &[80, 9, 81], sockets, &limits, &ending, &stopping).await;
            }
        }
    });
    (Bench { server, places, over, stop }, client)
}

/// The client's end of a session.
fn client(transport: DuplexStream) -> (Connection, JoinHandle<()>) {
    let (connection, driver) = connect(transport, Role::Client, &Config::default());
    (connection, tokio::spawn(async move { drop(driver.await) }))
}

async fn open(connection: &Connection, request: &str, kind: &str, port: &str) -> Result<Stream, OpenError> {
    let headers = [("port", port), ("streamType", kind), ("requestID", request)];
    let headers = headers.iter().fold(Headers::new(), |h, (name, value)| h.with(name, (*value).to_owned()).unwrap());
    timeout(PATIENCE, connection.open(headers, StreamOptions::default())).await.expect("an answer")
}

/// The two streams of a request, of which the error stream is closed on our side, as kubectl does.
async fn pair(connection: &Connection, request: &str, port: &str) -> (Stream, Stream) {
    let mut error = open(connection, request, "error", port).await.unwrap();
    error.shutdown().await.unwrap();
    (open(connection, request, "data", port).await.unwrap(), error)
}

async fn text(mut stream: Stream) -> String {
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("an end").unwrap();
    text
}

async fn ended(bench: Bench) {
    timeout(PATIENCE, bench.server).await.expect("the session ends").unwrap();
}

/// A listener, and what it accepts one by one.
async fn part() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap().0
}

#[tokio::test]
async fn places_of_sessions_are_limited_and_given_back() {
    let world = world();
    let seats: Vec<_> =
        (0..world.engine.streams.limits.sessions).map(|_| world.engine.streams.seat().unwrap()).collect();
    let refused = world.engine.streams.seat().unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (429, "TooManyRequests"));
    drop(seats);
    assert!(world.engine.streams.seat().is_ok());
}

#[tokio::test]
async fn places_of_followers_are_limited_and_given_back() {
    let world = world();
    let places: Vec<_> =
        (0..world.engine.streams.limits.followers).map(|_| world.engine.streams.follower().unwrap()).collect();
    assert_eq!(world.engine.streams.follower().unwrap_err().code, 429);
    drop(places);
    assert!(world.engine.streams.follower().is_ok());
}

#[tokio::test]
async fn connections_of_a_session_are_limited() {
    let (socket, listener) = part().await;
    let limits = StreamLimits { forwards_per_session: 2, ..StreamLimits::default() };
    let (bench, transport) = session(&limits, socket, None);
    let (connection, _driver) = client(transport);
    let first = pair(&connection, "0", "80").await;
    let second = pair(&connection, "1", "81").await;
    let (one, _two) = (accepted(&listener).await, accepted(&listener).await);
    assert!(open(&connection, "2", "error", "80").await.is_err(), "the third is refused");
    drop(one);
    drop((first, second));
    // Its streams are closed a moment later.
    let start = Instant::now();
    while open(&connection, "3", "error", "80").await.is_err() {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.stop.trigger();
    ended(bench).await;
}

#[tokio::test]
async fn connections_of_all_sessions_are_limited() {
    let (socket, listener) = part().await;
    let limits = StreamLimits { forwards: 1, ..StreamLimits::default() };
    let (bench, transport) = session(&limits, socket, None);
    let (connection, _driver) = client(transport);
    let (mut data, error) = pair(&connection, "0", "80").await;
    drop(accepted(&listener).await);
    data.shutdown().await.unwrap();
    assert_eq!((text(data).await, text(error).await), (String::new(), String::new()));
    let held = pair(&connection, "1", "80").await;
    let _there = accepted(&listener).await;
    let (_data, error) = pair(&connection, "2", "80").await;
    assert_eq!(
        text(error).await,
        "error forwarding port 80 to pod p, uid u: too many connections are forwarded at this time"
    );
    assert_eq!(bench.places.available_permits(), 0);
    drop(held);
    bench.stop.trigger();
    ended(bench).await;
}

#[tokio::test]
async fn a_part_that_does_not_read_holds_its_client_up_and_nothing_is_lost() {
    let (socket, listener) = part().await;
    let (bench, transport) = session(&StreamLimits::default(), socket, None);
    let (connection, _driver) = client(transport);
    let (mut data, _error) = pair(&connection, "0", "80").await;
    let mut there = accepted(&listener).await;
    let piece = vec![7; 64 * 1024];
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), data.write(&piece)).await {
        sent += written.unwrap();
        assert!(sent < 32 << 20, "what the kernel does not hold must not be held by us");
    }
    assert!(sent > 100_000, "{sent}");
    // Another stream goes on meanwhile: our own client keeps to its window.
    let (mut other, _error) = pair(&connection, "1", "80").await;
    let mut elsewhere = accepted(&listener).await;
    other.write_all(b"x").await.unwrap();
    timeout(PATIENCE, elsewhere.read_exact(&mut [0])).await.unwrap().unwrap();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        there.read_to_end(&mut all).await.unwrap();
        all
    });
    data.shutdown().await.unwrap();
    let all = timeout(PATIENCE, reading).await.expect("everything").unwrap();
    assert!(all.len() == sent && all.iter().all(|byte| *byte == 7));
    bench.stop.trigger();
    ended(bench).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_part_up() {
    let (socket, listener) = part().await;
    let (bench, transport) = session(&StreamLimits::default(), socket, None);
    let (connection, _driver) = client(transport);
    let (mut data, _error) = pair(&connection, "0", "80").await;
    let mut there = accepted(&listener).await;
    let piece = vec![7; 64 * 1024];
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), there.write(&piece)).await {
        sent += written.unwrap();
        assert!(sent < 32 << 20);
    }
    there.shutdown().await.unwrap();
    let mut all = Vec::new();
    timeout(PATIENCE, data.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all.len(), sent);
    bench.stop.trigger();
    ended(bench).await;
}

#[tokio::test]
async fn an_idle_session_ends() {
    let (socket, _listener) = part().await;
    for old in [None, Some("v4.channel.k8s.io")] {
        let limits = StreamLimits { idle: Duration::from_millis(200), ..StreamLimits::default() };
        let (bench, mut transport) = session(&limits, socket, old);
        ended(bench).await;
        let mut rest = Vec::new();
        timeout(PATIENCE, transport.read_to_end(&mut rest)).await.expect("an end").unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_stays_alone_is_told_so() {
    let (socket, _listener) = part().await;
    let limits = StreamLimits { pairing: Duration::from_millis(100), ..StreamLimits::default() };
    let (bench, transport) = session(&limits, socket, None);
    let (connection, _driver) = client(transport);
    let mut error = open(&connection, "7", "error", "80").await.unwrap();
    error.shutdown().await.unwrap();
    assert_eq!(text(error).await, "(request=7) timed out waiting for streams");
    let mut data = open(&connection, "8", "data", "80").await.unwrap();
    assert!(timeout(PATIENCE, data.read(&mut [0])).await.unwrap().is_err(), "it is reset");
    let mut twice = open(&connection, "9", "error", "80").await.unwrap();
    twice.shutdown().await.unwrap();
    let _second = open(&connection, "9", "error", "80").await.unwrap();
    assert_eq!(text(twice).await, "error processing stream for request 9: error stream already assigned");
    bench.stop.trigger();
    ended(bench).await;
}

#[tokio::test]
async fn the_end_of_the_part_or_the_server_ends_what_is_open() {
    let (socket, listener) = part().await;
    for part_ends in [true, false] {
        let (bench, transport) = session(&StreamLimits::default(), socket, None);
        let (connection, _driver) = client(transport);
        let (mut data, _error) = pair(&connection, "0", "80").await;
        let mut there = accepted(&listener).await;
        if part_ends {
            bench.over.trigger()
        } else {
            bench.stop.trigger()
        }
        ended(bench).await;
        assert!(timeout(PATIENCE, data.read(&mut [0])).await.unwrap().is_err(), "no good end is claimed");
        let _end = timeout(PATIENCE, there.read(&mut [0])).await.expect("the part hears of it");
        timeout(PATIENCE, connection.closed()).await.expect("the client hears of it").unwrap();
    }
}

#[tokio::test]
async fn hostile_frames_end_the_session_and_nothing_else() {
    let (socket, listener) = part().await;
    let noise: Vec<u8> = (0_u32..100_000).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let oversized = [&[0x80, 3, 0, 1, 0, 0x7f, 0xff, 0xff][..], &[0; 64]].concat();
    let wrong_version = [&[0x80, 2, 0, 1, 0, 0, 0, 10][..], &[0; 10]].concat();
    let not_zlib = [&[0x80, 3, 0, 1, 0, 0, 0, 30, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xff; 20]].concat();
    let even = [&[0x80, 3, 0, 1, 0, 0, 0, 30, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0][..], &[0; 20]].concat();
    let truncated = vec![0x80, 3, 0, 1, 0, 0];
    for frames in [noise, oversized, wrong_version, not_zlib, even, truncated] {
        let (bench, mut transport) = session(&StreamLimits::default(), socket, None);
        let length = frames.len();
        let (mut reader, mut writer) = tokio::io::split(&mut transport);
        let sending = async {
            let _cut_off = writer.write_all(&frames).await;
            let _cut_off = writer.shutdown().await;
        };
        let mut answer = Vec::new();
        let (_, read) =
            timeout(PATIENCE, async { tokio::join!(sending, reader.read_to_end(&mut answer)) }).await.unwrap();
        assert!(read.is_err() || answer.len() < 64 * 1024, "{length} bytes in, {} out", answer.len());
        ended(bench).await;
    }
    // Streams with bad headers are refused, and the session goes on.
    let (bench, transport) = session(&StreamLimits::default(), socket, None);
    let (connection, _driver) = client(transport);
    for (kind, port) in [("data", "0"), ("data", "x"), ("stdin", "80"), ("", "80"), ("error", "")] {
        assert!(open(&connection, "0", kind, port).await.is_err(), "{kind} {port}");
    }
    let long = "h".repeat(8 * 1024);
    assert!(open(&connection, &long, "error", "80").await.is_err(), "a long header");
    drop(connection);
    bench.stop.trigger();
    ended(bench).await;
    drop(listener);
}

/// A WebSocket client by hand.
struct WebSocket {
    transport: DuplexStream,
    codec: Codec,
    input: BytesMut,
}

impl WebSocket {
    fn new(transport: DuplexStream) -> Self {
        let codec =
            Codec::client(MaskKeys::new(|| [7, 1, 2, 3]), WebSocketLimits::default(), std::time::Instant::now());
        Self { transport, codec, input: BytesMut::new() }
    }

    async fn send(&mut self, kind: Kind, message: &[u8]) {
        self.codec.send(kind, message).unwrap();
        let output = self.codec.output().split();
        self.transport.write_all(&output).await.unwrap();
    }

    /// The next message, or the code of the close.
    async fn next(&mut self) -> Result<Vec<u8>, Option<CloseCode>> {
        let mut message = Vec::new();
        loop {
            match self.codec.receive(std::time::Instant::now(), &mut self.input).unwrap() {
                Some(Event::Data { payload, last, .. }) => {
                    message.extend_from_slice(&payload);
                    if last {
                        return Ok(message);
                    }
                }
                Some(Event::Close { close }) => return Err(close.map(|close| close.code)),
                Some(_) => {}
                None => {
                    let read = timeout(PATIENCE, self.transport.read_buf(&mut self.input)).await.expect("something");
                    if read.unwrap() == 0 {
                        return Err(None);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn channels_carry_each_port_of_the_query() {
    let (socket, listener) = part().await;
    let (bench, transport) = session(&StreamLimits::default(), socket, Some("v4.channel.k8s.io"));
    let mut client = WebSocket::new(transport);
    // Of 80, 9 (which the part does not declare) and 81: the number on both channels, in any order between ports.
    let mut first = Vec::new();
    for _ in 0..7 {
        first.push(client.next().await.unwrap());
    }
    first.sort();
    let refused = first.iter().position(|message| message.len() > 3).unwrap();
    let why = String::from_utf8(first.remove(refused)[1..].to_vec()).unwrap();
    assert!(
        why.starts_with("error forwarding port 9 to pod p, uid u: ") && why.ends_with("connection refused"),
        "{why}"
    );
    assert_eq!(first, [[0, 80, 0], [1, 80, 0], [2, 9, 0], [3, 9, 0], [4, 81, 0], [5, 81, 0]]);
    let (mut a, mut b) = (accepted(&listener).await, accepted(&listener).await);
    client.send(Kind::Binary, b"\x00to 80").await;
    client.send(Kind::Binary, b"").await;
    client.send(Kind::Binary, b"\x05to an error channel").await;
    client.send(Kind::Binary, b"\xffto none").await;
    client.send(Kind::Binary, b"\x04to 81").await;
    let (mut one, mut two) = ([0; 5], [0; 5]);
    timeout(PATIENCE, a.read_exact(&mut one)).await.unwrap().unwrap();
    timeout(PATIENCE, b.read_exact(&mut two)).await.unwrap().unwrap();
    let mut got = [one, two];
    got.sort_unstable();
    assert_eq!(got, [*b"to 80", *b"to 81"]);
    a.write_all(b"back").await.unwrap();
    let back = client.next().await.unwrap();
    assert_eq!(&back[1..], b"back");
    drop((a, b));
    assert_eq!(client.next().await, Err(Some(CloseCode::NORMAL)), "it closes when every port is done");
    drop(client);
    ended(bench).await;
}

#[tokio::test]
async fn channels_in_base64_are_text() {
    let (socket, listener) = part().await;
    let (bench, transport) = session(&StreamLimits::default(), socket, Some("v4.base64.channel.k8s.io"));
    let mut client = WebSocket::new(transport);
    let mut first = Vec::new();
    for _ in 0..7 {
        first.push(String::from_utf8(client.next().await.unwrap()).unwrap());
    }
    assert!(first.contains(&"0UAA=".to_owned()) && first.contains(&"5UQA=".to_owned()), "{first:?}");
    let (mut a, mut b) = (accepted(&listener).await, accepted(&listener).await);
    client.send(Kind::Text, b"0!!!!").await;
    client.send(Kind::Text, b"0aGVsbG8=").await;
    client.send(Kind::Text, b"4aGVsbG8=").await;
    for stream in [&mut a, &mut b] {
        let mut got = [0; 5];
        timeout(PATIENCE, stream.read_exact(&mut got)).await.unwrap().unwrap();
        assert_eq!(&got, b"hello");
    }
    bench.stop.trigger();
    ended(bench).await;
}

#[tokio::test]
async fn too_many_ports_or_none_are_refused_with_channels() {
    let world = world();
    let part = Part {
        namespace: "kube-system".to_owned(),
        name: "part".to_owned(),
        labels: BTreeMap::new(),
        container: "part".to_owned(),
        image: "portcullis".to_owned(),
        ports: vec![PartPort::open(80)],
        logs: Default::default(),
        control: Default::default(),
        started: world.engine.clock.now(),
    };
    world.seed().part(&part).unwrap();
    let ask = async |query: &str| {
        let call = Call::test(&format!("GET /api/v1/namespaces/kube-system/pods/part/portforward{query}"), "");
        let call =
            call.with("authorization", "Bearer admin").with("connection", "Upgrade").with("upgrade", "websocket");
        let call = call.with("sec-websocket-version", "13").with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        world.send(call).await.status.as_u16()
    };
    assert_eq!(ask("?ports=80").await, 101);
    assert_eq!(ask("").await, 400);
    let ports = |number: usize| format!("?ports={}", vec!["80"; number].join(","));
    assert_eq!((ask(&ports(127)).await, ask(&ports(128)).await), (101, 400));
}

/// A client like `spdystream`, which sends without looking at windows.
fn flood(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
    frames.iter().for_each(|frame| encoder.encode(frame, &mut out).unwrap());
    out
}

fn opening(id: u32, kind: &str) -> Frame {
    let headers = [("port", "80"), ("streamtype", kind), ("requestid", "0")];
    let headers = headers.iter().fold(Headers::new(), |h, (name, value)| h.with(name, (*value).to_owned()).unwrap());
    let id = StreamId::new(id).unwrap();
    Frame::SynStream { id, associated: None, priority: 0, fin: false, unidirectional: false, headers }
}

#[tokio::test]
async fn a_client_without_windows_is_read_no_further_than_the_buffers_and_a_stuck_stream_is_reset() {
    let (socket, listener) = part().await;
    let limits = StreamLimits { stall: Duration::from_millis(700), ..StreamLimits::default() };
    let (bench, transport) = session(&limits, socket, None);
    let (mut reader, mut writer) = tokio::io::split(transport);
    writer.write_all(&flood(&[opening(1, "error"), opening(3, "data")])).await.unwrap();
    let there = accepted(&listener).await;
    let data = StreamId::new(3).unwrap();
    let piece = flood(&[Frame::Data { id: data, fin: false, payload: vec![7; 16 * 1024].into() }]);
    let mut sent = 0;
    let stuck = Instant::now();
    while timeout(Duration::from_millis(300), writer.write_all(&piece)).await.is_ok() {
        sent += piece.len();
        assert!(sent < 32 << 20, "a part that does not read holds its client up");
        assert!(stuck.elapsed() < PATIENCE);
    }
    let (mut decoder, mut input) = (Decoder::new(&Limits::default()), BytesMut::new());
    let reset = async {
        loop {
            while let Some(decoded) = decoder.decode(&mut input).unwrap() {
                if let Decoded::Frame(Frame::RstStream { id, status }) = decoded
                    && id == data
                {
                    return status;
                }
            }
            assert!(reader.read_buf(&mut input).await.unwrap() > 0, "the session ended");
        }
    };
    assert_eq!(timeout(PATIENCE, reset).await.expect("a reset"), ResetStatus::FLOW_CONTROL_ERROR);
    drop(there);
    bench.stop.trigger();
    ended(bench).await;
}

#[tokio::test]
async fn hostile_websockets_end_their_session() {
    let (socket, _listener) = part().await;
    let unmasked = vec![0x82, 3, 0, b'a', b'b'];
    let reserved = vec![0xf2, 0x80, 0, 0, 0, 0];
    let opcode = vec![0x83, 0x80, 0, 0, 0, 0];
    let endless = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let orphan = vec![0x80, 0x81, 0, 0, 0, 0, 1];
    let long_ping = [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[0; 126]].concat();
    let pings = [0x89, 0x80, 0, 0, 0, 0].repeat(1_000);
    for frames in [unmasked, reserved, opcode, endless, orphan, long_ping, pings] {
        for tunnel in [true, false] {
            let (client, server) = duplex(64 * 1024);
            let (bench, old) = session(&StreamLimits::default(), socket, Some("v4.channel.k8s.io"));
            let (mut transport, ended_by_tunnel) = if tunnel {
                drop(old);
                let sockets = Sockets {
                    pod: "p".to_owned(),
                    uid: "u".to_owned(),
                    ports: [].into(),
                    places: Arc::new(Semaphore::new(1)),
                };
                let serving = tokio::spawn(async move {
                    let tunnel = portcullis_spdy::websocket::Tunnel::server(server, WebSocketLimits::default());
                    let never = Shutdown::new();
                    port_forward::serve(tunnel, sockets, &StreamLimits::default(), &never, &never).await;
                });
                (client, Some(serving))
            } else {
                (old, None)
            };
            let _cut_off = transport.write_all(&frames).await;
            let mut answer = Vec::new();
            let _cut_off = timeout(PATIENCE, transport.read_to_end(&mut answer)).await.expect("an end");
            assert!(answer.len() < 64 * 1024);
            if let Some(serving) = ended_by_tunnel {
                timeout(PATIENCE, serving).await.expect("the session ends").unwrap();
            }
            bench.stop.trigger();
            ended(bench).await;
        }
    }
}

#[tokio::test]
async fn a_part_that_does_not_run_refuses_connections() {
    let sockets = Sockets {
        pod: "dex-0".to_owned(),
        uid: "u".to_owned(),
        ports: [PartPort::in_process("https", 5554, Arc::new(|| None))].into(),
        places: Arc::new(Semaphore::new(1)),
    };
    let why = sockets.connect(5554).await.err().unwrap();
    assert!(why.ends_with("dial tcp4 127.0.0.1:5554: connect: connection refused"), "{why}");
    assert_eq!(sockets.places.available_permits(), 1);
}
