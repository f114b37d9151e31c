//! Connections on a transport: two ends of ours, and ends that misbehave.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::BytesMut;
use portcullis_spdy::frame::{Encoder, Frame, GoAwayStatus, ResetStatus};
use portcullis_spdy::{
    Config, Connection, ConnectionError, FlowControl, Headers, OpenError, Role, SessionError, Stream, StreamError,
    StreamOptions, connect,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use crate::support::{frames, headers, id, pattern, syn};

type Ended = JoinHandle<Result<(), ConnectionError>>;

/// A pair of ends, each driven by a task.
fn pair(client: &Config, server: &Config) -> ((Connection, Ended), (Connection, Ended)) {
    let (near, far) = duplex(64 * 1024);
    let start = |transport, role, config: &Config| {
        let (connection, driver) = connect(transport, role, config);
        (connection, tokio::spawn(driver))
    };
    (start(near, Role::Client, client), start(far, Role::Server, server))
}

/// A server of ours, and the other end of its transport.
fn lone_server(config: &Config) -> (Connection, Ended, DuplexStream) {
    let (near, far) = duplex(64 * 1024);
    let (connection, driver) = connect(near, Role::Server, config);
    (connection, tokio::spawn(driver), far)
}

async fn accept(connection: &Connection) -> Stream {
    connection.accept().await.expect("a stream").accept(Headers::new()).expect("an open stream")
}

async fn stream_pair(client: &Connection, server: &Connection) -> (Stream, Stream) {
    let (near, far) = tokio::join!(client.open(Headers::new(), StreamOptions::default()), accept(server));
    (near.expect("an accepted stream"), far)
}

fn write(transport: &mut BytesMut, encoder: &mut Encoder, frame: &Frame) {
    encoder.encode(frame, transport).expect("a good frame");
}

async fn read_all(stream: &mut Stream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.map(|_| all)
}

#[tokio::test]
async fn both_ends_open_streams_and_see_each_others_headers() {
    let ((client, _), (server, _)) = pair(&Config::default(), &Config::default());
    for (opener, accepter, number) in [(&client, &server, 1), (&server, &client, 2)] {
        let asked = headers(&[("port", "5554"), ("streamtype", "error")]);
        let (near, far) = tokio::join!(opener.open(asked.clone(), StreamOptions::default()), async {
            let incoming = accepter.accept().await.expect("a stream");
            assert_eq!((incoming.id(), incoming.headers()), (id(number), &asked));
            incoming.accept(headers(&[("answer", "yes")])).expect("an open stream")
        });
        let (near, far) = (near.expect("accepted"), far);
        assert_eq!(near.headers().get("answer"), Some("yes"));
        assert_eq!(far.headers(), &asked);
    }
}

#[tokio::test]
async fn data_flows_both_ways_and_half_closes() {
    for flow in [FlowControl::Lenient, FlowControl::Strict] {
        let config = Config { flow, ..Config::default() };
        let ((client, _), (server, _)) = pair(&config, &config);
        let mut tasks = Vec::new();
        for seed in 0..20 {
            let (near, far) = stream_pair(&client, &server).await;
            tasks.push(tokio::spawn(async move {
                // The far end sends back what it gets, until the end of it, and then its own end.
                let (mut from, mut to) = tokio::io::split(far);
                let echo = tokio::spawn(async move {
                    tokio::io::copy(&mut from, &mut to).await.expect("an open stream");
                    to.shutdown().await.expect("an open stream");
                });
                let (mut from, mut to) = tokio::io::split(near);
                let sent = pattern(seed, 0, 300_000);
                let expected = sent.clone();
                let writer = tokio::spawn(async move {
                    to.write_all(&sent).await.expect("an open stream");
                    to.shutdown().await.expect("an open stream");
                    to.shutdown().await.expect("twice is once");
                    assert_eq!(to.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
                });
                let mut all = Vec::new();
                from.read_to_end(&mut all).await.expect("an open stream");
                assert!(all == expected, "stream {seed}: other bytes came back");
                writer.await.expect("no panic");
                echo.await.expect("no panic");
            }));
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!((client.buffered(), server.buffered()), (0, 0));
    }
}

#[tokio::test]
async fn a_slow_reader_stops_its_own_stream_alone() {
    let ((client, _), (server, _)) = pair(&Config::default(), &Config::default());
    let (mut slow, _unread) = stream_pair(&client, &server).await;
    let writer = tokio::spawn(async move { slow.write_all(&vec![1; 10 << 20]).await });
    let (mut near, mut far) = stream_pair(&client, &server).await;
    let sent = pattern(1, 0, 2 << 20);
    let (wrote, read) = tokio::join!(
        async {
            near.write_all(&sent).await?;
            near.shutdown().await
        },
        read_all(&mut far)
    );
    wrote.expect("an open stream");
    assert!(read.expect("an open stream") == sent);
    assert_eq!(server.buffered(), 64 * 1024, "the slow stream holds its window and no more");
    assert!(!writer.is_finished(), "its writer waits");
}

#[tokio::test]
async fn a_stream_that_stalls_a_peer_without_flow_control_is_reset_and_the_others_go_on() {
    let mut config = Config::default();
    config.limits.stall = Some(Duration::from_millis(50));
    let (server, _driver, mut peer) = lone_server(&config);
    let (mut bytes, mut encoder) = (BytesMut::new(), Encoder::new());
    write(&mut bytes, &mut encoder, &syn(1));
    write(&mut bytes, &mut encoder, &syn(3));
    write(&mut bytes, &mut encoder, &Frame::Data { id: id(1), fin: false, payload: vec![1; 5 << 20].into() });
    write(&mut bytes, &mut encoder, &Frame::Data { id: id(3), fin: true, payload: vec![3; 70_000].into() });
    let writer = tokio::spawn(async move { peer.write_all(&bytes).await.map(|()| peer) });
    let (mut first, mut second) = (accept(&server).await, accept(&server).await);
    assert_eq!(read_all(&mut second).await.expect("data").len(), 70_000);
    let error = read_all(&mut first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(error.to_string(), "the stream was reset: FLOW_CONTROL_ERROR (7)");
    assert_eq!(server.buffered(), 0);
    writer.await.expect("no panic").expect("all was read");
}

#[tokio::test]
async fn resets_reach_the_other_end_in_both_directions() {
    let ((client, _), (server, _)) = pair(&Config::default(), &Config::default());
    let (near, mut far) = stream_pair(&client, &server).await;
    near.reset(ResetStatus::INTERNAL_ERROR);
    let error = far.read_u8().await.unwrap_err();
    assert_eq!(error.to_string(), "the stream was reset: INTERNAL_ERROR (6)");
    assert_eq!(far.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);

    // Dropping a stream that is still open is a reset; what was written before arrives before it.
    let (mut near, mut far) = stream_pair(&client, &server).await;
    near.write_all(b"last words").await.unwrap();
    drop(near);
    let mut all = [0; 10];
    far.read_exact(&mut all).await.expect("what came before the reset");
    assert_eq!(&all, b"last words");
    assert_eq!(far.read_u8().await.unwrap_err().to_string(), "the stream was reset: CANCEL (5)");
}

#[tokio::test]
async fn a_reset_after_the_end_of_the_data_does_not_spoil_it() {
    let ((client, _), (server, _)) = pair(&Config::default(), &Config::default());
    let (mut near, mut far) = stream_pair(&client, &server).await;
    near.write_all(b"all of it").await.unwrap();
    near.shutdown().await.unwrap();
    near.reset(ResetStatus::CANCEL);
    assert_eq!(read_all(&mut far).await.expect("whole"), b"all of it");
}

#[tokio::test]
async fn refused_streams_are_told_so() {
    let ((client, _), (server, _)) = pair(&Config::default(), &Config::default());
    for (status, refuse) in [(ResetStatus::CANCEL, true), (ResetStatus::REFUSED_STREAM, false)] {
        let (opened, ()) = tokio::join!(client.open(Headers::new(), StreamOptions::default()), async {
            let incoming = server.accept().await.expect("a stream");
            if refuse { incoming.refuse(status) } else { drop(incoming) }
        });
        assert!(matches!(opened, Err(OpenError::Stream(StreamError::Reset(found))) if found == status));
    }
}

#[tokio::test]
async fn giving_up_on_an_open_resets_the_stream() {
    let ((client, _), (server, _)) = pair(&Config::default(), &Config::default());
    let mut open = Box::pin(client.open(Headers::new(), StreamOptions::default()));
    let incoming = tokio::select! {
        incoming = server.accept() => incoming.expect("a stream"),
        _ = &mut open => panic!("nobody has accepted it"),
    };
    drop(open);
    // The reset travels before the next stream does.
    let (_near, _far) = stream_pair(&client, &server).await;
    let error = incoming.accept(Headers::new()).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "the stream was reset: CANCEL (5)");
}

#[tokio::test]
async fn a_stream_reset_before_it_was_taken_is_not_offered() {
    let (server, _driver, mut peer) = lone_server(&Config::default());
    let (mut bytes, mut encoder) = (BytesMut::new(), Encoder::new());
    write(&mut bytes, &mut encoder, &syn(1));
    write(&mut bytes, &mut encoder, &Frame::RstStream { id: id(1), status: ResetStatus::CANCEL });
    write(&mut bytes, &mut encoder, &syn(3));
    write(&mut bytes, &mut encoder, &Frame::Ping { id: 1 });
    peer.write_all(&bytes).await.unwrap();
    // The answer to the ping says that all of it was read.
    let mut answers = Vec::new();
    while !frames(&answers).contains(&Frame::Ping { id: 1 }) {
        peer.read_buf(&mut answers).await.unwrap();
    }
    assert_eq!(server.accept().await.expect("a stream").id(), id(3));
}

#[tokio::test]
async fn pings_are_answered() {
    let ((client, _), (server, _)) = pair(&Config::default(), &Config::default());
    assert!(client.ping().await.is_some());
    assert!(server.ping().await.is_some());
    let all = tokio::join!(client.ping(), client.ping(), client.ping());
    assert!(all.0.is_some() && all.1.is_some() && all.2.is_some());
}

#[tokio::test]
async fn closing_lets_streams_finish_and_refuses_new_ones() {
    let ((client, client_end), (server, server_end)) = pair(&Config::default(), &Config::default());
    let (mut near, mut far) = stream_pair(&client, &server).await;
    let closing = tokio::spawn({
        let server = server.clone();
        async move { server.close().await }
    });
    assert!(server.accept().await.is_none() || closing.is_finished());
    let refused = client.open(Headers::new(), StreamOptions::default()).await;
    assert!(matches!(refused, Err(OpenError::Stream(StreamError::Reset(ResetStatus::REFUSED_STREAM)))));
    assert!(server.open(Headers::new(), StreamOptions::default()).await.is_err());
    assert!(!closing.is_finished());
    far.write_all(b"the rest").await.unwrap();
    far.shutdown().await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(read_all(&mut near).await.unwrap(), b"the rest");
    closing.await.unwrap().expect("a clean end");
    server_end.await.unwrap().expect("a clean end");
    client_end.await.unwrap().expect("a clean end");
    assert!(matches!(client.open(Headers::new(), StreamOptions::default()).await, Err(OpenError::Closed(None))));
    assert!(client.accept().await.is_none());
    assert!(client.ping().await.is_none());
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let ((client, client_end), (server, server_end)) = pair(&Config::default(), &Config::default());
    let (mut near, mut far) = stream_pair(&client, &server).await;
    drop(client.clone());
    drop(client);
    near.write_all(b"still here").await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(read_all(&mut far).await.unwrap(), b"still here");
    far.shutdown().await.unwrap();
    client_end.await.unwrap().expect("a clean end");
    server_end.await.unwrap().expect("a clean end");
}

#[tokio::test]
async fn a_transport_that_breaks_off_is_an_error_for_every_stream() {
    let ((client, client_end), (server, server_end)) = pair(&Config::default(), &Config::default());
    let (mut near, _far) = stream_pair(&client, &server).await;
    server_end.abort();
    assert!(server_end.await.is_err(), "aborted");
    let error = near.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert!(matches!(client_end.await.unwrap(), Err(ConnectionError::Truncated)));
    assert!(matches!(server.closed().await, Err(ConnectionError::Dropped)));
    assert!(server.accept().await.is_none());
    assert!(matches!(server.open(Headers::new(), StreamOptions::default()).await, Err(OpenError::Closed(Some(_)))));
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_and_cut_off() {
    let (server, end, mut peer) = lone_server(&Config::default());
    peer.write_all(b"\x80\x02\x00\x01\x00\x00\x00\x00").await.unwrap();
    peer.write_all(&[0; 64]).await.unwrap();
    let mut said = Vec::new();
    // The transport is closed after the farewell.
    let _ = peer.read_to_end(&mut said).await;
    let farewell = Frame::GoAway { last: None, status: GoAwayStatus::PROTOCOL_ERROR };
    assert_eq!(frames(&said).last(), Some(&farewell));
    let error = end.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::Session(SessionError::Frame(_))), "{error}");
    assert!(server.closed().await.is_err());
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let mut config = Config::default();
    config.limits.idle = Some(Duration::from_millis(50));
    let (_server, end, mut peer) = lone_server(&config);
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.unwrap();
    assert_eq!(frames(&said).last(), Some(&Frame::GoAway { last: None, status: GoAwayStatus::OK }));
    assert!(matches!(end.await.unwrap(), Err(ConnectionError::Session(SessionError::Idle(0)))));
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_writers_and_no_memory() {
    let (server, _end, mut peer) = lone_server(&Config::default());
    let (mut bytes, mut encoder) = (BytesMut::new(), Encoder::new());
    for number in (1..=41).step_by(2) {
        write(&mut bytes, &mut encoder, &syn(number));
    }
    peer.write_all(&bytes).await.unwrap();
    let mut writers = Vec::new();
    for _ in 0..21 {
        let mut stream = accept(&server).await;
        writers.push(tokio::spawn(async move {
            stream.write_all(&vec![1; 1 << 20]).await?;
            stream.shutdown().await?;
            read_all(&mut stream).await.map(|_| ())
        }));
    }
    // All of them get through when the peer reads, whoever waited first.
    let (mut found, mut decoder) =
        (std::collections::HashMap::new(), portcullis_spdy::frame::Decoder::new(&Config::default().limits));
    let mut input = BytesMut::new();
    let mut ended = 0;
    while ended < 21 {
        assert!(peer.read_buf(&mut input).await.unwrap() > 0);
        while let Some(decoded) = decoder.decode(&mut input).unwrap() {
            if let portcullis_spdy::frame::Decoded::Frame(Frame::Data { id, fin, payload }) = decoded {
                *found.entry(id).or_insert(0) += payload.len();
                ended += usize::from(fin);
            }
        }
    }
    assert!(found.values().all(|length| *length == 1 << 20), "{found:?}");
    drop(peer);
    for writer in writers {
        assert_eq!(writer.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
}
