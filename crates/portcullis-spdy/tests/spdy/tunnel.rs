//! The tunnel: bytes through binary messages, between two ends of ours and with ends that misbehave.

use std::io::ErrorKind;

use bytes::BytesMut;
use portcullis_spdy::websocket::{CloseCode, Codec, Event, Kind, Limits, MaskKeys, Tunnel};
use portcullis_spdy::{Config, Headers, Role, StreamOptions, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use crate::support::pattern;

/// Keys that a test can foresee, and that differ.
pub(crate) fn keys() -> MaskKeys {
    let mut number = 0_u32;
    MaskKeys::new(move || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number.to_be_bytes()
    })
}

/// A client's codec, and the server's tunnel at the other end of its transport.
fn lone_server(limits: Limits) -> (Codec, DuplexStream, Tunnel<DuplexStream>) {
    let (near, far) = duplex(1 << 20);
    (Codec::client(keys(), Limits::default(), Instant::now().into_std()), near, Tunnel::server(far, limits))
}

#[tokio::test]
async fn bytes_pass_in_both_directions_through_transports_of_any_width() {
    for width in [1, 7, 4096, 1 << 20] {
        let (near, far) = duplex(width);
        let (mut client_from, mut client_to) = tokio::io::split(Tunnel::client(near, keys(), Limits::default()));
        let (mut server_from, mut server_to) = tokio::io::split(Tunnel::server(far, Limits::default()));
        let length = if width < 100 { 3_000 } else { 1_000_000 };
        let (up, down) = (pattern(1, 0, length), pattern(2, 0, length));
        let (mut up_read, mut down_read) = (Vec::new(), Vec::new());
        let (a, b, c, d) = tokio::join!(
            async {
                client_to.write_all(&up).await?;
                client_to.shutdown().await
            },
            async {
                // In pieces of all sizes, with flushes between.
                let mut rest = down.as_slice();
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at(rest.len().min(1 + later_size(rest.len())));
                    server_to.write_all(piece).await?;
                    server_to.flush().await?;
                    rest = later;
                }
                server_to.shutdown().await
            },
            server_from.read_to_end(&mut up_read),
            client_from.read_to_end(&mut down_read),
        );
        a.unwrap();
        b.unwrap();
        c.unwrap();
        d.unwrap();
        assert!(up_read == up && down_read == down, "width {width}");
    }
}

const fn later_size(left: usize) -> usize {
    left * 7_919 % 90_001
}

#[tokio::test]
async fn messages_of_a_byte_and_fragments_read_as_one_stream() {
    let (mut codec, mut near, mut server) = lone_server(Limits::default());
    for byte in b"hello " {
        codec.send(Kind::Binary, &[*byte]).unwrap();
        codec.send(Kind::Binary, b"").unwrap();
    }
    codec.fragment(Kind::Binary, b"wor", true, false).unwrap();
    codec.ping(b"?").unwrap();
    codec.fragment(Kind::Binary, b"", false, false).unwrap();
    codec.fragment(Kind::Binary, b"ld", false, true).unwrap();
    codec.close(CloseCode::NORMAL, "");
    near.write_all(codec.output()).await.unwrap();
    let mut all = String::new();
    server.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "hello world");
    assert_eq!(server.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);

    // The pong and the answer to the close left with the reader.
    let mut answers = BytesMut::new();
    while answers.len() < 3 + 4 {
        near.read_buf(&mut answers).await.unwrap();
    }
    let now = Instant::now().into_std();
    assert!(matches!(codec.receive(now, &mut answers), Ok(Some(Event::Pong { payload })) if payload == "?"));
    assert!(
        matches!(codec.receive(now, &mut answers), Ok(Some(Event::Close { close: Some(close) })) if close.code == CloseCode::NORMAL)
    );
}

#[tokio::test]
async fn ends_that_are_not_the_end_are_errors() {
    type Misbehave = fn(&mut Codec);
    let cases: [(Misbehave, ErrorKind, &str); 4] = [
        (
            |codec| codec.close(CloseCode::GOING_AWAY, "x"),
            ErrorKind::ConnectionAborted,
            "the peer closed the WebSocket with code 1001",
        ),
        (
            |codec| codec.send(Kind::Text, b"x").unwrap(),
            ErrorKind::InvalidData,
            "this kind of message is not taken here",
        ),
        (
            |codec| codec.output().extend_from_slice(&[0x82, 0x01, b'x']),
            ErrorKind::InvalidData,
            "a frame from the client is not masked",
        ),
        (|_| {}, ErrorKind::UnexpectedEof, "unexpected end of file"),
    ];
    for (misbehave, kind, text) in cases {
        let (mut codec, mut near, mut server) = lone_server(Limits::default());
        codec.send(Kind::Binary, b"before").unwrap();
        misbehave(&mut codec);
        near.write_all(codec.output()).await.unwrap();
        near.shutdown().await.unwrap();
        let mut all = Vec::new();
        let error = server.read_to_end(&mut all).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str(), all.as_slice()), (kind, text, &b"before"[..]));
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_code() {
    let (mut codec, mut near, mut server) = lone_server(Limits { message: 5, ..Limits::default() });
    codec.send(Kind::Binary, b"123456").unwrap();
    near.write_all(codec.output()).await.unwrap();
    assert_eq!(server.read_u8().await.unwrap_err().to_string(), "a message is too long");
    let mut said = [0; 4];
    near.read_exact(&mut said).await.unwrap();
    assert_eq!((said[0], u16::from_be_bytes([said[2], said[3]])), (0x88, 1009));
}

#[tokio::test]
async fn spdy_runs_through_the_tunnel() {
    let (near, far) = duplex(64 * 1024);
    let (client, driver) = connect(Tunnel::client(near, keys(), Limits::default()), Role::Client, &Config::default());
    let client_end = tokio::spawn(driver);
    let (server, driver) = connect(Tunnel::server(far, Limits::default()), Role::Server, &Config::default());
    let server_end = tokio::spawn(driver);
    let echo = tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            let (mut from, mut to) = tokio::io::split(incoming.accept(Headers::new()).unwrap());
            tokio::spawn(async move {
                tokio::io::copy(&mut from, &mut to).await.unwrap();
                to.shutdown().await.unwrap();
            });
        }
    });
    let sent = pattern(3, 0, 3 << 20);
    let (mut from, mut to) = tokio::io::split(client.open(Headers::new(), StreamOptions::default()).await.unwrap());
    let mut all = Vec::new();
    let (wrote, read) = tokio::join!(
        async {
            to.write_all(&sent).await?;
            to.shutdown().await
        },
        from.read_to_end(&mut all)
    );
    wrote.unwrap();
    read.unwrap();
    assert!(all == sent);
    drop((from, to));
    client.close().await.expect("a clean end");
    client_end.await.unwrap().expect("a clean end");
    server_end.await.unwrap().expect("a clean end");
    echo.await.unwrap();
}
