//! The channel protocols of exec with `gorilla/websocket`: both versions, both roles, messages in fragments.

use bytes::BytesMut;
use portcullis_spdy::websocket::channel::{ChannelEvent, ChannelVersion, Channels, ERROR, RESIZE, STDIN, STDOUT};
use portcullis_spdy::websocket::{CloseCode, Codec, Event, Kind, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::harness::{PATIENCE, dial, listen, serve, upgrade_as_client, upgrade_as_server};
use crate::support::pattern;
use crate::tunnel::keys;

const VERSIONS: [(&str, ChannelVersion); 2] = [("v4", ChannelVersion::V4), ("v5", ChannelVersion::V5)];

/// What moves: several messages of the peer's, each in several fragments.
const SIZE: usize = 1_234_567;

/// A codec and its socket.
struct Socket {
    codec: Codec,
    channels: Channels,
    transport: TcpStream,
    input: BytesMut,
}

/// What a test sees.
enum Seen {
    Channel(ChannelEvent),
    Closed(Option<CloseCode>),
}

impl Socket {
    fn new(codec: Codec, version: ChannelVersion, transport: TcpStream) -> Self {
        Self { codec, channels: Channels::new(version), transport, input: BytesMut::new() }
    }

    async fn send(&mut self, channel: u8, payload: &[u8]) {
        self.codec.fragment(Kind::Binary, &[channel], true, false).expect("open");
        self.codec.fragment(Kind::Binary, payload, false, true).expect("open");
        self.flush().await;
    }

    async fn flush(&mut self) {
        let output = self.codec.output().split();
        self.transport.write_all(&output).await.expect("an open transport");
    }

    async fn next(&mut self) -> Seen {
        loop {
            let event = self.codec.receive(Instant::now().into_std(), &mut self.input).expect("by the rules");
            self.flush().await;
            match event {
                Some(Event::Data { payload, last, .. }) => {
                    if let Some(event) = self.channels.receive(payload, last).expect("by the rules") {
                        return Seen::Channel(event);
                    }
                }
                Some(Event::Close { close }) => return Seen::Closed(close.map(|close| close.code)),
                Some(_) => {}
                None => assert!(self.transport.read_buf(&mut self.input).await.expect("open") > 0, "it broke off"),
            }
        }
    }
}

/// Our server: what `peers/stream-peer` serves, too.
async fn serve_channels(transport: TcpStream, version: ChannelVersion) {
    let transport = upgrade_as_server(transport, version.subprotocol()).await;
    let codec = Codec::server(Limits::default(), Instant::now().into_std());
    let mut socket = Socket::new(codec, version, transport);
    let mut total = 0;
    loop {
        match socket.next().await {
            Seen::Channel(ChannelEvent::Data { channel: STDIN, payload }) => {
                total += payload.len();
                socket.send(STDOUT, &payload).await;
            }
            Seen::Channel(ChannelEvent::Data { channel: RESIZE, .. } | ChannelEvent::Close { channel: STDIN }) => {
                socket.send(ERROR, total.to_string().as_bytes()).await;
                socket.codec.close(CloseCode::NORMAL, "");
                socket.flush().await;
            }
            Seen::Channel(other) => panic!("{other:?}"),
            Seen::Closed(_) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_client_speaks_channels_with_our_codec() {
    for (name, version) in VERSIONS {
        let address = listen(move |transport| serve_channels(transport, version)).await;
        dial(name, &address, &["channels", &SIZE.to_string()]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_codec_speaks_channels_with_the_go_server() {
    for (name, version) in VERSIONS {
        let server = serve(name).await;
        let transport = upgrade_as_client(&server.address, version.subprotocol()).await;
        let codec = Codec::client(keys(), Limits::default(), Instant::now().into_std());
        let mut socket = Socket::new(codec, version, transport);
        let sent = pattern(7, 0, SIZE);
        let (mut echoed, mut answer) = (Vec::new(), String::new());
        let mut expected = 0;
        for piece in sent.chunks(100_000) {
            socket.send(STDIN, piece).await;
            expected += piece.len();
            // The server answers each message before it reads the next.
            while echoed.len() < expected {
                match socket.next().await {
                    Seen::Channel(ChannelEvent::Data { channel: STDOUT, payload }) => {
                        echoed.extend_from_slice(&payload)
                    }
                    _ => panic!("nothing else comes yet"),
                }
            }
        }
        match socket.channels.close(STDIN) {
            Some(message) => socket.codec.send(Kind::Binary, &message).expect("open"),
            None => socket.send(RESIZE, b"{}").await,
        }
        socket.flush().await;
        let code = loop {
            match tokio::time::timeout(PATIENCE, socket.next()).await.expect("an end") {
                Seen::Channel(ChannelEvent::Data { channel: STDOUT, payload }) => echoed.extend_from_slice(&payload),
                Seen::Channel(ChannelEvent::Data { channel: ERROR, payload }) => {
                    answer = String::from_utf8(payload.to_vec()).expect("digits")
                }
                Seen::Channel(other) => panic!("{other:?}"),
                Seen::Closed(code) => break code,
            }
        };
        assert!(echoed == sent, "{name}: other bytes came back");
        assert_eq!((answer, code), (SIZE.to_string(), Some(CloseCode::NORMAL)));
    }
}
