//! WebSocket: RFC 6455's examples and rules, limits crossed, and properties.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use portcullis_spdy::websocket::{Close, CloseCode, Codec, Event, Kind, Limits, MaskKeys, WebSocketError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn server(limits: Limits) -> Codec {
    Codec::server(limits, Instant::now())
}

fn client(limits: Limits) -> Codec {
    Codec::client(MaskKeys::new(|| KEY), limits, Instant::now())
}

fn read(codec: &mut Codec, bytes: &[u8]) -> Result<Vec<Event>, WebSocketError> {
    let (mut input, mut events) = (BytesMut::from(bytes), Vec::new());
    while let Some(event) = codec.receive(Instant::now(), &mut input)? {
        events.push(event);
    }
    Ok(events)
}

fn text(payload: &'static [u8], first: bool, last: bool) -> Event {
    Event::Data { kind: Kind::Text, payload: Bytes::from_static(payload), first, last }
}

/// What the client of a test sends.
fn sent(send: impl FnOnce(&mut Codec)) -> BytesMut {
    let mut codec = client(Limits::default());
    send(&mut codec);
    codec.output().split()
}

#[test]
fn the_examples_of_section_5_7_are_read_and_written() {
    let mut server_end = server(Limits::default());
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(read(&mut server_end, &masked), Ok(vec![text(b"Hello", true, true)]));
    assert_eq!(sent(|codec| codec.send(Kind::Text, b"Hello").unwrap()), &masked[..]);

    let mut client_end = client(Limits::default());
    let fragments = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    assert_eq!(read(&mut client_end, &fragments), Ok(vec![text(b"Hel", true, false), text(b"lo", false, true)]));
    server_end.fragment(Kind::Text, b"Hel", true, false).unwrap();
    server_end.fragment(Kind::Text, b"lo", false, true).unwrap();
    assert_eq!(server_end.output().split(), &fragments[..]);

    // A ping is answered with its own content, masked by the client.
    assert_eq!(read(&mut client_end, &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]), Ok(vec![]));
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(client_end.output().split(), &pong[..]);
    assert_eq!(read(&mut server_end, &pong), Ok(vec![Event::Pong { payload: Bytes::from_static(b"Hello") }]));

    server_end.send(Kind::Binary, &[7; 256]).unwrap();
    assert_eq!(server_end.output().split()[..4], [0x82, 0x7e, 0x01, 0x00]);
    server_end.send(Kind::Binary, &[7; 65_536]).unwrap();
    assert_eq!(server_end.output().split()[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn control_frames_may_stand_between_fragments() {
    let bytes = sent(|codec| {
        codec.fragment(Kind::Text, b"Hel", true, false).unwrap();
        codec.ping(b"?").unwrap();
        codec.fragment(Kind::Text, b"", false, false).unwrap();
        codec.fragment(Kind::Text, b"lo", false, true).unwrap();
    });
    let mut server = server(Limits::default());
    let expected = [text(b"Hel", true, false), text(b"", false, false), text(b"lo", false, true)];
    assert_eq!(read(&mut server, &bytes), Ok(expected.to_vec()));
    assert_eq!(server.output().split(), &[0x8a, 0x01, b'?'][..]);
}

#[test]
fn rules_that_are_broken_close_the_connection_with_the_code_they_have() {
    let masked = |first: u8, payload: &[u8]| {
        let length = 0x80 | u8::try_from(payload.len()).unwrap();
        [&[first, length, 0, 0, 0, 0], payload].concat()
    };
    let cases: [(Vec<u8>, WebSocketError, u16); 15] = [
        (vec![0x81, 0x01, b'x'], WebSocketError::NotMasked, 1002),
        (masked(0xc1, b"x"), WebSocketError::Reserved, 1002),
        (masked(0x83, b"x"), WebSocketError::Opcode, 1002),
        (masked(0x09, b"x"), WebSocketError::Control, 1002),
        (vec![0x89, 0xfe, 0, 126], WebSocketError::Control, 1002),
        (vec![0x82, 0xfe, 0, 5], WebSocketError::Length, 1002),
        (masked(0x80, b"x"), WebSocketError::Fragment, 1002),
        ([masked(0x01, b"x"), masked(0x81, b"y")].concat(), WebSocketError::Fragment, 1002),
        ([masked(0x01, b"x"), masked(0x82, b"y")].concat(), WebSocketError::Fragment, 1002),
        (masked(0x81, b"\xff"), WebSocketError::Utf8, 1007),
        (masked(0x81, b"\xc3"), WebSocketError::Utf8, 1007),
        ([masked(0x01, b"\xc3"), masked(0x80, b"x")].concat(), WebSocketError::Utf8, 1007),
        (masked(0x88, b"\x03"), WebSocketError::Close, 1002),
        (masked(0x88, b"\x03\xed"), WebSocketError::Close, 1002),
        (masked(0x88, b"\x03\xe8\xff"), WebSocketError::Utf8, 1007),
    ];
    for (bytes, error, code) in cases {
        let mut server = server(Limits::default());
        assert_eq!(read(&mut server, &bytes), Err(error), "{bytes:?}");
        let out = server.output().split();
        assert_eq!((out[0], u16::from_be_bytes([out[2], out[3]])), (0x88, code), "{bytes:?}");
        assert_eq!(read(&mut server, b""), Err(error), "it stays so");
        assert_eq!(server.send(Kind::Binary, b"x"), Err(WebSocketError::Closed));
    }
    assert_eq!(read(&mut client(Limits::default()), &masked(0x81, b"x")), Err(WebSocketError::Masked));
}

#[test]
fn a_close_is_answered_once_and_nothing_is_read_after_it() {
    let bytes = sent(|codec| codec.close(CloseCode::GOING_AWAY, "good night"));
    let mut server_end = server(Limits::default());
    let mut input = [&bytes[..], b"junk"].concat();
    let close = Close { code: CloseCode::GOING_AWAY, reason: "good night".to_owned() };
    assert_eq!(read(&mut server_end, &input), Ok(vec![Event::Close { close: Some(close) }]));
    assert_eq!(server_end.output().split(), &[0x88, 0x02, 0x03, 0xe9][..]);
    input.extend_from_slice(&bytes);
    assert_eq!(read(&mut server_end, &input), Ok(vec![]));
    assert_eq!(server_end.ping(b""), Err(WebSocketError::Closed));

    // Whoever closed first still reads, answers no ping, and does not answer the answer.
    let mut client_end = client(Limits::default());
    client_end.close(CloseCode::NORMAL, "");
    client_end.close(CloseCode::POLICY, "");
    assert_eq!(client_end.output().split().len(), 8);
    let events = read(&mut client_end, &[0x89, 0x00, 0x82, 0x01, 7, 0x88, 0x00]).unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(events[1], Event::Close { close: None });
    assert!(client_end.output().is_empty());
}

#[test]
fn frames_messages_and_fragments_are_bounded() {
    let limits = || Limits { frame: 10, message: 15, fragments: 2, ..Limits::default() };
    let fragments = |lengths: &[usize]| {
        sent(|codec| {
            for (place, length) in lengths.iter().enumerate() {
                let (first, last) = (place == 0, place + 1 == lengths.len());
                codec.fragment(Kind::Binary, &vec![1; *length], first, last).unwrap();
            }
        })
    };
    assert_eq!(read(&mut server(limits()), &fragments(&[10, 5])).map(|events| events.len()), Ok(2));
    let cases: [(&[usize], WebSocketError); 3] = [
        (&[11], WebSocketError::FrameTooLong),
        (&[10, 6], WebSocketError::MessageTooLong),
        (&[1, 1, 1], WebSocketError::Fragments),
    ];
    for (lengths, error) in cases {
        let mut server = server(limits());
        let mut bytes = fragments(lengths);
        assert_eq!(read(&mut server, &bytes), Err(error), "{lengths:?}");
        assert_eq!(server.output()[2..4], [0x03, 0xf1], "1009");
        // It is seen from the header alone.
        bytes.truncate(bytes.len() - lengths.last().unwrap());
        let mut again = self::server(limits());
        assert_eq!(read(&mut again, &bytes), Err(error), "{lengths:?}");
    }
}

#[test]
fn pings_and_silence_are_bounded_in_time() {
    let start = Instant::now();
    let (second, limits) =
        (Duration::from_secs(1), Limits { pings: 2, idle: Some(Duration::from_secs(60)), ..Limits::default() });
    let mut server = Codec::server(limits, start);
    let mut ping = |after| server.receive(start + after, &mut sent(|codec| codec.ping(b"x").unwrap()));
    assert_eq!(
        (ping(second), ping(second * 2), ping(second * 11), ping(second * 12)),
        (Ok(None), Ok(None), Ok(None), Ok(None))
    );
    assert_eq!(ping(second * 13), Err(WebSocketError::Pings));

    let mut server = Codec::server(Limits { idle: Some(second * 60), ..Limits::default() }, start);
    let mut bytes = sent(|codec| codec.send(Kind::Binary, &[7; 1_000]).unwrap());
    let mut rest = bytes.split_off(500);
    server.receive(start + second, &mut bytes).unwrap();
    assert_eq!(server.deadline(), Some(start + second * 61));
    server.receive(start + second * 4, &mut rest).unwrap();
    assert_eq!(server.deadline(), Some(start + second * 64), "a frame that is still coming is a sign of life");
    server.receive(start + second * 5, &mut sent(|codec| codec.ping(b"").unwrap())).unwrap();
    assert_eq!(server.deadline(), Some(start + second * 65));
    assert_eq!(server.tick(start + second * 64), Ok(()));
    server.output().clear();
    assert_eq!(server.tick(start + second * 65), Err(WebSocketError::Idle));
    assert_eq!((server.output()[0], &server.output()[2..4]), (0x88, &[0x03, 0xe9][..]), "1001");
}

#[test]
fn a_peer_that_pings_and_does_not_listen_is_no_longer_read() {
    let mut server = server(Limits { output: 100, pings: u32::MAX, ..Limits::default() });
    let one = sent(|codec| codec.ping(b"12345678").unwrap());
    let mut input = BytesMut::from(one.repeat(100).as_slice());
    assert_eq!(server.receive(Instant::now(), &mut input), Ok(None));
    assert!(!server.wants_input());
    assert_eq!((server.output().len(), input.len()), (110, one.len() * 89));
    server.output().clear();
    assert_eq!(server.receive(Instant::now(), &mut input), Ok(None));
    assert_eq!(input.len(), one.len() * 78);
}

/// What was sent and what was read, made comparable: messages joined.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

fn seen(codec: &mut Codec, bytes: &[u8], cuts: &[Index]) -> (Vec<Seen>, Vec<u8>, Option<WebSocketError>) {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let (mut all, mut message, mut input) = (Vec::new(), Vec::new(), BytesMut::new());
    for piece in places.windows(2) {
        input.extend_from_slice(&bytes[piece[0]..piece[1]]);
        loop {
            match codec.receive(Instant::now(), &mut input) {
                Ok(None) => break,
                Ok(Some(Event::Data { kind, payload, first, last })) => {
                    assert!(!first || message.is_empty(), "a message begins within another");
                    message.extend_from_slice(&payload);
                    if last {
                        all.push(Seen::Message(kind, std::mem::take(&mut message)));
                    }
                }
                Ok(Some(Event::Pong { payload })) => all.push(Seen::Pong(payload.to_vec())),
                Ok(Some(Event::Close { close })) => all.push(Seen::Close(close.map(|close| close.code.0))),
                Ok(Some(other)) => panic!("{other:?}"),
                Err(error) => return (all, codec.output().to_vec(), Some(error)),
            }
        }
    }
    (all, codec.output().to_vec(), None)
}

#[derive(Clone, Debug)]
enum Send {
    Text(String, Vec<Index>),
    Binary(Vec<u8>, Vec<Index>),
    Ping(Vec<u8>),
}

fn send() -> impl Strategy<Value = Send> {
    prop_oneof![
        (".{0,20}", vec(any::<Index>(), 0..3)).prop_map(|(text, cuts)| Send::Text(text, cuts)),
        (vec(any::<u8>(), 0..300), vec(any::<Index>(), 0..3)).prop_map(|(bytes, cuts)| Send::Binary(bytes, cuts)),
        vec(any::<u8>(), 0..=125).prop_map(Send::Ping),
    ]
}

/// Sends, with messages in fragments; and what should be seen of it.
fn write(codec: &mut Codec, sends: &[Send]) -> Vec<Seen> {
    let mut expected = Vec::new();
    for send in sends {
        let (kind, bytes, cuts) = match send {
            Send::Text(text, cuts) => (Kind::Text, text.as_bytes(), cuts),
            Send::Binary(bytes, cuts) => (Kind::Binary, bytes.as_slice(), cuts),
            Send::Ping(payload) => {
                codec.ping(payload).expect("open");
                continue;
            }
        };
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let last = places.len() - 2;
        for (number, place) in places.windows(2).enumerate() {
            codec.fragment(kind, &bytes[place[0]..place[1]], number == 0, number == last).expect("open");
        }
        expected.push(Seen::Message(kind, bytes.to_vec()));
    }
    codec.close(CloseCode::NORMAL, "");
    expected.push(Seen::Close(Some(1000)));
    expected
}

proptest! {
    #[test]
    fn what_is_sent_is_read_however_it_is_cut(
        sends in vec(send(), 0..8),
        cuts in vec(any::<Index>(), 0..12),
        to_server in any::<bool>(),
    ) {
        let (mut from, mut to) = if to_server {
            (client(Limits::default()), server(Limits::default()))
        } else {
            (server(Limits::default()), client(Limits::default()))
        };
        let expected = write(&mut from, &sends);
        let bytes = from.output().split();
        let (found, _, error) = seen(&mut to, &bytes, &cuts);
        prop_assert_eq!(error, None);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn spoiled_bytes_are_read_alike_however_they_are_cut(
        sends in vec(send(), 1..5),
        spoil in vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut from = client(Limits::default());
        write(&mut from, &sends);
        let mut bytes = from.output().split();
        for (place, value) in spoil {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let whole = seen(&mut server(Limits::default()), &bytes, &[]);
        let pieces = seen(&mut server(Limits::default()), &bytes, &cuts);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn bytes_of_any_kind_are_answered(bytes in vec(prop_oneof![Just(0x81_u8), Just(0x80), any::<u8>()], 0..200)) {
        let _ = seen(&mut server(Limits::default()), &bytes, &[]);
        let _ = seen(&mut client(Limits::default()), &bytes, &[]);
    }
}
