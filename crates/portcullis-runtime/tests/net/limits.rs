//! What a peer cannot do to a listener.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use portcullis_runtime::server::{ServerLimits, Transport, handler_fn, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{PATIENCE, Server, exchange, rest};

const SHORT: Duration = Duration::from_millis(60);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const GET_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_head_over_the_size_limit_is_431() {
    let server = Server::plain(ServerLimits { header_bytes: 8 * 1024, ..ServerLimits::default() }).await;
    let fits = format!("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx: {}\r\n\r\n", "a".repeat(7 * 1024));
    assert!(exchange(server.connect().await, fits.as_bytes()).await.starts_with("HTTP/1.1 200"));
    let flood = format!("GET / HTTP/1.1\r\nhost: h\r\nx: {}", "a".repeat(64 * 1024));
    assert!(exchange(server.connect().await, flood.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let path = format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "a".repeat(64 * 1024));
    let answer = exchange(server.connect().await, path.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"), "{answer}");
}

#[tokio::test]
async fn too_many_header_fields_are_431() {
    for (limit, count, status) in [(100, 90, 200), (100, 101, 431), (5, 4, 200), (5, 6, 431)] {
        let server = Server::plain(ServerLimits { header_count: limit, ..ServerLimits::default() }).await;
        let fields: String = (0..count - 1).map(|n| format!("x{n}: 1\r\n")).collect();
        let request = format!("GET / HTTP/1.1\r\nconnection: close\r\n{fields}\r\n");
        let answer = exchange(server.connect().await, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{limit} {count}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_closes_the_connection_however_it_trickles() {
    let server = Server::plain(ServerLimits { header_timeout: SHORT, ..ServerLimits::default() }).await;
    let start = Instant::now();
    let mut silent = server.connect().await;
    assert_eq!(rest(&mut silent).await, "");
    assert!(start.elapsed() >= SHORT);

    let (mut read, mut write) = server.connect().await.into_split();
    let trickle = tokio::spawn(async move {
        let _ = write.write_all(b"GET / HTTP/1.1\r\n").await;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        // Ends when the server has closed the connection.
        while write.write_all(b"x: 1\r\n").await.is_ok() {
            ticks.tick().await;
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, read.read_to_end(&mut answer)).await.expect("closed");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    tokio::time::timeout(PATIENCE, trickle).await.expect("closed for writing as well").unwrap();
}

#[tokio::test]
async fn a_connection_between_requests_is_closed_after_the_idle_timeout_not_the_header_timeout() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(40),
        idle_timeout: Duration::from_millis(250),
        ..ServerLimits::default()
    };
    let server = Server::plain(limits).await;
    let mut stream = server.connect().await;
    stream.write_all(GET).await.unwrap();
    let start = Instant::now();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());

    // The second head of a connection has the header timeout again.
    let mut stream = server.connect().await;
    stream.write_all(GET).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    rest(&mut stream).await;
}

#[tokio::test]
async fn a_slow_handler_is_not_cut_off_by_the_header_or_idle_timeout() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(20),
        idle_timeout: Duration::from_millis(20),
        write_timeout: Duration::from_millis(20),
        ..ServerLimits::default()
    };
    let handler = handler_fn(|_| async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        crate::support::text(http::StatusCode::OK, "slow but there")
    });
    let server = Server::start(Transport::Plain, limits, handler).await;
    assert!(exchange(server.connect().await, GET_CLOSE).await.ends_with("slow but there"));
}

#[tokio::test]
async fn a_watch_that_is_quiet_for_long_stays_open_and_its_pieces_come_at_once() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(20),
        idle_timeout: Duration::from_millis(20),
        write_timeout: Duration::from_millis(20),
        ..ServerLimits::default()
    };
    let (send, receive) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let receive = std::sync::Arc::new(std::sync::Mutex::new(Some(receive)));
    let handler = handler_fn(move |_| {
        let receive = receive.lock().unwrap().take().unwrap();
        async move {
            let pieces = futures_util::stream::unfold(receive, |mut receive| async move {
                let piece = receive.recv().await?;
                Some((Ok(bytes::Bytes::from_static(piece.as_bytes())), receive))
            });
            http::Response::new(stream(pieces))
        }
    });
    let server = Server::start(Transport::Plain, limits, handler).await;
    let mut connection = server.connect().await;
    connection.write_all(GET_CLOSE).await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    for piece in ["ADDED", "MODIFIED"] {
        // Quiet for several times every timeout.
        tokio::time::sleep(Duration::from_millis(100)).await;
        send.send(piece).unwrap();
        while !seen.contains(piece) {
            let read = tokio::time::timeout(PATIENCE, connection.read(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(read, 0, "closed too early: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }
    drop(send);
    rest(&mut connection).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_response_is_closed() {
    let (ended, mut end) = tokio::sync::mpsc::unbounded_channel::<()>();
    let handler = handler_fn(move |_| {
        let ended = ended.clone();
        async move {
            // Endless, so that no socket buffer can take it.
            let pieces = futures_util::stream::unfold(ended, |ended| async move {
                Some((Ok(bytes::Bytes::from(vec![0; 64 * 1024])), ended))
            });
            http::Response::new(stream(pieces))
        }
    });
    let server =
        Server::start(Transport::Plain, ServerLimits { write_timeout: SHORT, ..ServerLimits::default() }, handler)
            .await;
    let mut connection = server.connect().await;
    connection.write_all(GET).await.unwrap();
    // The stream, and with it the sender, is dropped when the server gives up. The handler's own sender stays.
    let gone = async {
        loop {
            if end.sender_strong_count() == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let first_read = connection.read(&mut [0; 16]).await.unwrap();
    assert_ne!(first_read, 0);
    tokio::time::timeout(PATIENCE, gone).await.expect("the server gives up on the peer");
    end.close();
}

#[tokio::test]
async fn a_body_over_the_limit_or_too_slow_is_refused() {
    let server = Server::plain(ServerLimits::default()).await;
    let post = |head: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{head}\r\n\r\n{body}").into_bytes()
    };
    let fits = "a".repeat(1024);
    let large = "a".repeat(1025);
    for (request, want) in [
        (post("content-length: 1024", &fits), fits.as_str()),
        (post("content-length: 1025", &large), "the request body is too large"),
        (post("content-length: 99999999999", ""), "the request body is too large"),
        (post("transfer-encoding: chunked", &format!("401\r\n{large}\r\n0\r\n\r\n")), "the request body is too large"),
        (
            post(
                "transfer-encoding: chunked",
                &format!("200\r\n{}\r\n200\r\n{}\r\n0\r\n\r\n", &fits[..512], &fits[..512]),
            ),
            fits.as_str(),
        ),
        (post("content-length: 5", "ab"), "the request body did not arrive in time"),
        (post("transfer-encoding: chunked", "zz\r\n"), "the request body is broken"),
    ] {
        let answer = exchange(server.connect().await, &request).await;
        assert!(answer.ends_with(want), "{} => {answer}", String::from_utf8_lossy(&request[..request.len().min(120)]));
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_then_are_served() {
    let server = Server::plain(ServerLimits { max_connections: 1, ..ServerLimits::default() }).await;
    let mut first = server.connect().await;
    first.write_all(GET).await.unwrap();
    let mut buffer = [0; 12];
    first.read_exact(&mut buffer).await.unwrap();
    let second = tokio::spawn(exchange(server.connect().await, GET_CLOSE));
    tokio::time::sleep(SHORT).await;
    assert!(!second.is_finished());
    drop(first);
    assert!(tokio::time::timeout(PATIENCE, second).await.unwrap().unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_of_one_address_beyond_its_limit_are_closed() {
    let server = Server::plain(ServerLimits { max_connections_per_peer: 2, ..ServerLimits::default() }).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(GET).await.unwrap();
        let mut buffer = [0; 12];
        stream.read_exact(&mut buffer).await.unwrap();
        open.push(stream);
    }
    assert_eq!(exchange(server.connect().await, GET_CLOSE).await, "");
    open.pop();
    // The seat is free as soon as the server has seen the end of the connection.
    let served = async {
        while !exchange(server.connect().await, GET_CLOSE).await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.unwrap();
}

#[tokio::test]
async fn a_handler_that_panics_is_a_500_and_the_server_goes_on() {
    let handler = handler_fn(|request: portcullis_runtime::server::Request| async move {
        assert_ne!(request.uri().path(), "/panic");
        crate::support::text(http::StatusCode::OK, "fine")
    });
    let server = Server::start(Transport::Plain, ServerLimits::default(), handler).await;
    let answer = exchange(server.connect().await, b"GET /panic HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(exchange(server.connect().await, GET_CLOSE).await.ends_with("fine"));
}

#[tokio::test]
async fn bytes_that_are_no_http_get_an_answer_or_a_close_and_nothing_else() {
    let server = Server::plain(ServerLimits { header_timeout: SHORT, ..ServerLimits::default() }).await;
    for garbage in [
        &b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..],
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxxxxx",
        b"PRI * HT",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = exchange(server.connect().await, garbage).await;
        assert!(!answer.contains("200 OK"), "{garbage:?} => {answer}");
    }
    assert!(exchange(server.connect().await, GET_CLOSE).await.starts_with("HTTP/1.1 200"));
}

/// Connects over HTTP/2 without TLS, asking for answers to pings all the time.
async fn http2(
    server: &Server,
) -> (hyper::client::conn::http2::SendRequest<http_body_util::Empty<bytes::Bytes>>, tokio::task::JoinHandle<()>) {
    let io = hyper_util::rt::TokioIo::new(server.connect().await);
    let (sender, connection) = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .timer(hyper_util::rt::TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(5))
        .keep_alive_while_idle(true)
        .handshake(io)
        .await
        .unwrap();
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

fn http2_get() -> http::Request<http_body_util::Empty<bytes::Bytes>> {
    http::Request::get("http://h/").body(http_body_util::Empty::new()).unwrap()
}

#[tokio::test]
async fn an_http2_connection_without_requests_is_closed_however_often_it_pings() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(150),
        ..ServerLimits::default()
    };
    let server = Server::plain(limits).await;
    let (unused, driver) = http2(&server).await;
    tokio::time::timeout(PATIENCE, driver).await.expect("closed without a request").unwrap();
    drop(unused);

    let (mut used, driver) = http2(&server).await;
    let start = Instant::now();
    assert_eq!(used.send_request(http2_get()).await.unwrap().status(), 200);
    tokio::time::timeout(PATIENCE, driver).await.expect("closed after a request").unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn an_http2_peer_that_does_not_take_its_response_is_closed_and_one_that_waits_for_us_is_not() {
    let limits =
        ServerLimits { header_timeout: SHORT, idle_timeout: SHORT, write_timeout: SHORT, ..ServerLimits::default() };
    let endless = handler_fn(|_| async {
        let pieces = futures_util::stream::repeat_with(|| Ok(bytes::Bytes::from(vec![0; 64 * 1024])));
        http::Response::new(stream(pieces))
    });
    let server = Server::start(Transport::Plain, limits, endless).await;
    let (mut sender, driver) = http2(&server).await;
    let response = sender.send_request(http2_get()).await.unwrap();
    tokio::time::timeout(PATIENCE, driver).await.expect("the stalled connection is closed").unwrap();
    drop(response);

    let quiet = handler_fn(|_| async { http::Response::new(stream(futures_util::stream::pending())) });
    let server = Server::start(Transport::Plain, limits, quiet).await;
    let (mut sender, driver) = http2(&server).await;
    let response = sender.send_request(http2_get()).await.unwrap();
    tokio::time::sleep(SHORT * 5).await;
    assert!(!driver.is_finished(), "a quiet watch stays open");
    drop((response, sender));
}

#[tokio::test]
async fn an_http2_stream_that_is_left_stalled_is_reset_while_a_live_one_beside_it_goes_on() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let (ended, mut end) = tokio::sync::mpsc::unbounded_channel::<&str>();
    let handler = handler_fn(move |request: portcullis_runtime::server::Request| {
        let ended = ended.clone();
        async move {
            if request.uri().path() == "/large" {
                // What goes out at once is as bad as what comes piece by piece.
                return http::Response::new(portcullis_runtime::server::full(vec![b'x'; 4 << 20]));
            }
            let live = request.uri().path() == "/live";
            let pieces = futures_util::stream::unfold(ended, move |ended| async move {
                if live {
                    tokio::time::sleep(TIMEOUT / 30).await;
                }
                Some((Ok(bytes::Bytes::from(vec![b'x'; if live { 10 } else { 20_000 }])), ended))
            });
            http::Response::new(stream(pieces))
        }
    });
    let limits = ServerLimits { write_timeout: TIMEOUT, ..ServerLimits::default() };
    let server = Server::start(Transport::Plain, limits, handler).await;
    let (mut sender, driver) = http2(&server).await;
    let mut get = async |path: &str| {
        let mut request = http2_get();
        *request.uri_mut() = format!("http://h{path}").parse().unwrap();
        sender.send_request(request).await.unwrap().into_body()
    };
    // The first stream's window is not opened again: nobody reads it.
    let (mut live, mut endless, mut large) = (get("/live").await, get("/endless").await, get("/large").await);
    let start = Instant::now();
    let mut pieces = 0;
    // The handler's own sender, the live stream's, and until it is reset the endless one's.
    while end.sender_strong_count() > 2 {
        live.frame().await.expect("the live stream goes on").unwrap();
        pieces += 1;
        assert!(start.elapsed() < PATIENCE, "the stalled stream is never ended");
    }
    assert!(start.elapsed() >= TIMEOUT / 2 && pieces > 5, "{:?}, {pieces}", start.elapsed());
    let until = Instant::now() + TIMEOUT * 3;
    while Instant::now() < until {
        live.frame().await.expect("the live stream goes on").unwrap();
    }
    for (name, stalled) in [("endless", &mut endless), ("large", &mut large)] {
        let mut taken = 0;
        let reset = loop {
            match stalled.frame().await {
                Some(Ok(frame)) => taken += frame.into_data().map_or(0, |data| data.len()),
                ended => break ended.is_some(),
            }
        };
        assert!(reset && taken < 4 << 20, "{name} ended after {taken} bytes");
    }
    assert!(!driver.is_finished(), "the connection stays");
    end.close();
}

#[tokio::test]
async fn what_a_peer_does_not_take_costs_one_piece_and_the_sockets_buffers() {
    let (produced, mut produce) = tokio::sync::mpsc::unbounded_channel::<()>();
    let handler = handler_fn(move |_| {
        let produced = produced.clone();
        async move {
            let pieces = futures_util::stream::unfold(produced, |produced| async move {
                let _ = produced.send(());
                Some((Ok(bytes::Bytes::from(vec![0; 1024])), produced))
            });
            http::Response::new(stream(pieces))
        }
    });
    // A stream in memory that holds 4 KiB: what else is taken from the body stays with the server.
    let (mut near, far) = tokio::io::duplex(4 * 1024);
    let address = "127.0.0.1:1".parse().unwrap();
    let info = portcullis_runtime::server::ConnInfo {
        peer: address,
        local: address,
        tls: false,
        client_cert: None,
        client_cert_error: None,
    };
    let stop = portcullis_runtime::Shutdown::new();
    let serving = portcullis_runtime::server::serve_stream(far, info, handler, ServerLimits::default(), stop.clone());
    let served = tokio::spawn(serving);
    near.write_all(GET).await.unwrap();
    // All of it is in memory and on one thread: the server gets as many turns as it could want.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let taken = std::iter::from_fn(|| produce.try_recv().ok()).count();
    assert!((1..=6).contains(&taken), "{taken} KiB were taken for a peer that reads nothing");
    // Whoever reads gets on.
    let mut read = 0;
    let mut buffer = [0; 8 * 1024];
    while read < 1 << 20 {
        read += tokio::time::timeout(PATIENCE, near.read(&mut buffer)).await.unwrap().unwrap();
    }
    drop(near);
    stop.trigger();
    served.await.unwrap();
}

#[tokio::test]
async fn an_http2_head_over_the_size_limit_is_refused_and_streams_are_limited() {
    let limits = ServerLimits { header_bytes: 8 * 1024, http2_max_concurrent_streams: 3, ..ServerLimits::default() };
    let server = Server::plain(limits).await;
    let (mut sender, _driver) = http2(&server).await;
    assert_eq!(sender.send_request(http2_get()).await.unwrap().status(), 200);
    let mut request = http2_get();
    request.headers_mut().insert("x", "a".repeat(16 * 1024).parse().unwrap());
    let refused = sender.send_request(request).await;
    assert!(refused.is_err() || refused.unwrap().status() == 431);

    let running = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = running.clone();
    let handler = handler_fn(move |request: portcullis_runtime::server::Request| {
        let count = count.clone();
        async move {
            if request.uri().path() == "/wait" {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            crate::support::text(http::StatusCode::OK, "now")
        }
    });
    let server = Server::start(Transport::Plain, limits, handler).await;
    let (mut sender, _driver) = http2(&server).await;
    // The limit comes with the server's first frame, before any response.
    sender.send_request(http2_get()).await.unwrap();
    let mut asked = Vec::new();
    for _ in 0..6 {
        let mut sender = sender.clone();
        let mut request = http2_get();
        *request.uri_mut() = "http://h/wait".parse().unwrap();
        asked.push(tokio::spawn(async move { drop(sender.send_request(request).await) }));
    }
    tokio::time::sleep(SHORT).await;
    assert_eq!(running.load(std::sync::atomic::Ordering::SeqCst), 3);
    for request in asked {
        request.abort();
    }
}

#[tokio::test]
async fn no_request_bytes_bring_the_server_down() {
    use portcullis_runtime::server::{ConnInfo, serve_stream};
    let seeds: [&[u8]; 4] = [
        b"POST /token?x=%41 HTTP/1.1\r\nhost: localhost:5554\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 9\r\n\r\ncode=abcd",
        b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x0a\x01\x05\0\0\0\x01\x82\x84\x87\x41\x8a\xa0\xe4\x1d\x13\x9d\x09",
        b"GET http://h/../%00//x HTTP/1.0\r\nconnection: keep-alive, upgrade\r\nupgrade: websocket\r\nexpect: 100-continue\r\n\r\n",
    ];
    let rng = portcullis_runtime::Rng::seeded(42);
    let address = "127.0.0.1:1".parse().unwrap();
    for round in 0..800 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..rng.below(6) {
            let at = rng.below(u32::try_from(bytes.len()).unwrap()) as usize;
            match rng.below(4) {
                0 => bytes[at] = rng.bytes::<1>()[0],
                1 => bytes.truncate(at + 1),
                2 => bytes.insert(at, b"\r\n\0 :;%"[rng.below(7) as usize]),
                _ => {
                    bytes.remove(at);
                    if bytes.is_empty() {
                        bytes.push(b'G');
                    }
                }
            }
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        let info = ConnInfo { peer: address, local: address, tls: false, client_cert: None, client_cert_error: None };
        let limits = ServerLimits {
            header_timeout: SHORT,
            idle_timeout: SHORT,
            write_timeout: SHORT,
            ..ServerLimits::default()
        };
        let served = serve_stream(far, info, crate::support::echo(), limits, portcullis_runtime::Shutdown::new());
        let (mut read, mut write) = tokio::io::split(near);
        let peer = async {
            let _ = write.write_all(&bytes).await;
            let _ = write.shutdown().await;
            let mut answer = Vec::new();
            let _ = read.read_to_end(&mut answer).await;
        };
        tokio::time::timeout(PATIENCE, async { tokio::join!(served, peer) })
            .await
            .unwrap_or_else(|_| panic!("hangs on {bytes:?}"));
    }
}
