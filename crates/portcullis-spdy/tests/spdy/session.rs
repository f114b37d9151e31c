//! What frames mean: the life of a stream, by the draft's rules.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use portcullis_spdy::frame::{Frame, GoAwayStatus, ResetStatus, Setting};
use portcullis_spdy::{Cause, Config, Event, Headers, Role, Session, SessionError, StreamError, StreamOptions};

use crate::support::{Bench, control, data, headers, id, stored, syn};

fn rst(number: u32, status: ResetStatus) -> Frame {
    Frame::RstStream { id: id(number), status }
}

fn reply(number: u32, fin: bool) -> Frame {
    Frame::SynReply { id: id(number), fin, headers: Headers::new() }
}

fn reset_by_us(number: u32, status: ResetStatus) -> Event {
    Event::Reset { id: id(number), status, cause: Cause::Session }
}

fn open(bench: &mut Bench) -> u32 {
    bench.session.open(Headers::new(), StreamOptions::default()).expect("a stream").get()
}

#[test]
fn a_stream_is_opened_answered_used_in_both_directions_and_closed() {
    let (mut client, mut server) = (Bench::client(), Bench::server());
    let asked = headers(&[("streamtype", "data"), ("port", "5554")]);
    let stream = client.session.open(asked.clone(), StreamOptions { priority: 3, ..StreamOptions::default() }).unwrap();
    assert_eq!(stream, id(1));
    let mut sent = client.sent();
    let options = StreamOptions { priority: 3, ..StreamOptions::default() };
    assert_eq!(server.receive(sent.remove(0)), [Event::Opened { id: stream, headers: asked, options }]);

    let answer = headers(&[("a", "b")]);
    assert_eq!(server.session.send(stream, b"early", false), Err(StreamError::NotReplied));
    server.session.reply(stream, answer.clone(), false).unwrap();
    assert_eq!(server.session.reply(stream, Headers::new(), false), Err(StreamError::Replied));
    assert_eq!(server.session.send(stream, b"hello", true), Ok(5));
    assert_eq!(server.session.send(stream, b"more", false), Err(StreamError::Closed));
    assert_eq!(server.session.open_streams(), 1, "half closed");

    let mut events = Vec::new();
    for frame in server.sent() {
        events.extend(client.receive(frame));
    }
    assert_eq!(
        events,
        [
            Event::Replied { id: stream, headers: answer, fin: false },
            Event::Data { id: stream, payload: Bytes::from_static(b"hello"), fin: true },
        ]
    );
    assert_eq!(client.session.send(stream, b"", true), Ok(0));
    assert_eq!(client.session.open_streams(), 0);
    let last = client.sent().remove(0);
    assert_eq!(last, data(1, b"", true));
    assert_eq!(server.receive(last), [Event::Data { id: stream, payload: Bytes::new(), fin: true }]);
    assert_eq!(server.session.open_streams(), 0);
    server.session.release(stream);
    assert!(server.sent().is_empty(), "a stream that closed by itself is released without a word");
}

#[test]
fn the_opening_announces_streams_and_windows() {
    let mut session = Session::new(Role::Server, &Config::default(), std::time::Instant::now());
    let mut out = BytesMut::new();
    session.take_output(std::time::Instant::now(), &mut out);
    let setting = |id, value| Setting { flags: 0, id, value };
    assert_eq!(
        crate::support::frames(&out),
        [
            Frame::Settings { entries: vec![setting(4, 1_024), setting(7, 65_536)] },
            Frame::WindowUpdate { id: None, delta: (1 << 20) - 65_536 },
        ]
    );
}

#[test]
fn numbers_are_odd_for_clients_even_for_servers_and_only_grow() {
    let (mut client, mut server) = (Bench::client(), Bench::server());
    assert_eq!([open(&mut client), open(&mut client), open(&mut server), open(&mut server)], [1, 3, 2, 4]);
    assert_eq!(server.try_receive(syn(2)).unwrap_err(), SessionError::StreamOrder(id(2)));
    let mut server = Bench::server();
    server.open(7);
    assert_eq!(server.try_receive(syn(5)).unwrap_err(), SessionError::StreamOrder(id(5)));
    let farewell = Frame::GoAway { last: Some(id(7)), status: GoAwayStatus::PROTOCOL_ERROR };
    assert_eq!(server.sent(), [farewell]);
    assert_eq!(server.try_receive(syn(9)).unwrap_err(), SessionError::StreamOrder(id(5)), "it stays over");
    assert_eq!(server.session.open(Headers::new(), StreamOptions::default()), Err(StreamError::Ending));
}

#[test]
fn a_number_used_twice_ends_the_stream() {
    let mut server = Bench::server();
    server.open(1);
    assert_eq!(server.open(1), [reset_by_us(1, ResetStatus::PROTOCOL_ERROR)]);
    assert_eq!(server.sent(), [rst(1, ResetStatus::PROTOCOL_ERROR)]);
    assert_eq!(server.open(3).len(), 1);
}

#[test]
fn a_stream_whose_headers_are_malformed_is_refused_and_the_next_is_not() {
    let mut server = Bench::server();
    let bad = control(1, 0, &[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0], &stored(true, b"\0\0\0\x01\0\0\0\0\0\0\0\0")]);
    let good = control(1, 0, &[&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0], &stored(false, b"\0\0\0\0")]);
    let mut input = BytesMut::from([bad, good].concat().as_slice());
    let events = server.receive_bytes(Duration::ZERO, &mut input).unwrap();
    assert!(matches!(events.as_slice(), [Event::Opened { id: opened, .. }] if *opened == id(3)), "{events:?}");
    assert_eq!(server.sent(), [rst(1, ResetStatus::PROTOCOL_ERROR)]);
}

#[test]
fn data_for_a_stream_that_was_never_opened_is_answered() {
    let mut server = Bench::server();
    assert!(server.receive(data(1, b"x", false)).is_empty());
    assert!(server.receive(data(2, b"x", false)).is_empty());
    assert!(server.receive(reply(4, false)).is_empty());
    let invalid = ResetStatus::INVALID_STREAM;
    assert_eq!(server.sent(), [rst(1, invalid), rst(2, invalid), rst(4, invalid)]);
}

#[test]
fn what_comes_for_a_stream_after_its_end_is_dropped_without_a_word() {
    let mut server = Bench::server();
    server.open(1);
    server.session.release(id(1));
    assert_eq!(server.sent(), [rst(1, ResetStatus::CANCEL)]);
    for frame in [
        data(1, b"late", true),
        Frame::Headers { id: id(1), fin: false, headers: Headers::new() },
        rst(1, ResetStatus::CANCEL),
        Frame::WindowUpdate { id: Some(id(1)), delta: 1 },
    ] {
        assert!(server.receive(frame).is_empty());
    }
    assert!(server.sent().is_empty());
    assert_eq!(server.session.buffered(), 0);
}

#[test]
fn data_after_the_end_of_data_resets_the_stream() {
    let mut server = Bench::server();
    server.open(1);
    server.receive(data(1, b"x", true));
    let status = ResetStatus::STREAM_ALREADY_CLOSED;
    assert_eq!(server.receive(data(1, b"y", false)), [reset_by_us(1, status)]);
    assert_eq!(server.sent(), [rst(1, status)]);
    assert_eq!(server.session.buffered(), 0, "what it held is given up");
}

#[test]
fn data_before_the_reply_and_a_second_reply_reset_the_stream() {
    let mut client = Bench::client();
    open(&mut client);
    assert_eq!(client.receive(data(1, b"x", false)), [reset_by_us(1, ResetStatus::PROTOCOL_ERROR)]);
    open(&mut client);
    client.receive(reply(3, false));
    assert_eq!(client.receive(reply(3, false)), [reset_by_us(3, ResetStatus::STREAM_IN_USE)]);
    let mut server = Bench::server();
    server.open(1);
    assert_eq!(server.receive(reply(1, false)), [reset_by_us(1, ResetStatus::PROTOCOL_ERROR)]);
}

#[test]
fn a_reset_ends_both_directions_and_is_not_answered() {
    let mut server = Bench::server();
    server.open(1);
    server.session.reply(id(1), Headers::new(), false).unwrap();
    server.sent();
    let event = Event::Reset { id: id(1), status: ResetStatus::CANCEL, cause: Cause::Peer };
    assert_eq!(server.receive(rst(1, ResetStatus::CANCEL)), [event]);
    assert!(server.receive(rst(1, ResetStatus::CANCEL)).is_empty());
    assert_eq!(server.session.send(id(1), b"x", false), Err(StreamError::Reset(ResetStatus::CANCEL)));
    server.session.reset(id(1), ResetStatus::CANCEL);
    server.session.release(id(1));
    assert!(server.sent().is_empty());
}

#[test]
fn a_unidirectional_stream_goes_one_way() {
    let mut server = Bench::server();
    let Frame::SynStream { id, associated, priority, fin, headers, .. } = syn(1) else { unreachable!() };
    server.receive(Frame::SynStream { id, associated, priority, fin, unidirectional: true, headers });
    assert_eq!(server.session.reply(id, Headers::new(), false), Err(StreamError::Closed));
    assert_eq!(server.receive(data(1, b"x", true)).len(), 1);
    assert_eq!(server.session.open_streams(), 0);

    let mut client = Bench::client();
    let options = StreamOptions { unidirectional: true, ..StreamOptions::default() };
    let id = client.session.open(Headers::new(), options).unwrap();
    client.sent();
    assert_eq!(client.session.send(id, b"x", false), Ok(1));
    let status = ResetStatus::STREAM_ALREADY_CLOSED;
    assert_eq!(client.receive(data(1, b"y", false)), [reset_by_us(1, status)]);
}

#[test]
fn a_stream_opened_with_fin_has_no_data_from_its_opener() {
    let mut server = Bench::server();
    let Frame::SynStream { id, associated, priority, unidirectional, headers, .. } = syn(1) else { unreachable!() };
    server.receive(Frame::SynStream { id, associated, priority, fin: true, unidirectional, headers });
    server.session.reply(id, Headers::new(), true).unwrap();
    assert_eq!(server.session.open_streams(), 0);
    let mut client = Bench::client();
    let options = StreamOptions { fin: true, ..StreamOptions::default() };
    let id = client.session.open(Headers::new(), options).unwrap();
    assert_eq!(client.session.send(id, b"x", false), Err(StreamError::Closed));
    assert_eq!(client.receive(reply(1, true)), [Event::Replied { id, headers: Headers::new(), fin: true }]);
    assert_eq!(client.session.open_streams(), 0);
}

#[test]
fn headers_frames_come_through_and_may_end_a_direction() {
    let mut server = Bench::server();
    server.open(1);
    let more = headers(&[("a", "b")]);
    let frame = Frame::Headers { id: id(1), fin: true, headers: more.clone() };
    assert_eq!(server.receive(frame.clone()), [Event::Headers { id: id(1), headers: more.clone(), fin: true }]);
    assert_eq!(server.session.headers(id(1), more.clone(), true), Err(StreamError::NotReplied));
    server.session.reply(id(1), Headers::new(), false).unwrap();
    server.session.headers(id(1), more, true).unwrap();
    assert_eq!(server.sent().pop(), Some(frame));
    assert_eq!(server.session.open_streams(), 0);
}

#[test]
fn pings_are_answered_by_parity() {
    let mut server = Bench::server();
    assert!(server.receive(Frame::Ping { id: 1 }).is_empty());
    assert!(server.receive(Frame::Ping { id: 2 }).is_empty(), "an answer to nothing");
    assert_eq!(server.sent(), [Frame::Ping { id: 1 }]);
    assert_eq!(server.session.ping(), Some(2));
    assert_eq!(server.sent(), [Frame::Ping { id: 2 }]);
    assert_eq!(server.receive(Frame::Ping { id: 2 }), [Event::Pong { id: 2 }]);
    assert!(server.receive(Frame::Ping { id: 2 }).is_empty(), "only once");
    let asked: Vec<_> = (0..9).map(|_| server.session.ping()).collect();
    assert_eq!((asked[7], asked[8]), (Some(18), None), "eight at once");
}

#[test]
fn after_go_away_no_stream_is_opened_and_unseen_ones_are_refused() {
    let mut client = Bench::client();
    for _ in 0..3 {
        open(&mut client);
    }
    client.receive(reply(1, false));
    let refused = |number| Event::Reset { id: id(number), status: ResetStatus::REFUSED_STREAM, cause: Cause::Peer };
    let events = client.receive(Frame::GoAway { last: Some(id(3)), status: GoAwayStatus::OK });
    assert_eq!(events, [refused(5), Event::GoAway { status: GoAwayStatus::OK }]);
    assert_eq!(client.session.open(Headers::new(), StreamOptions::default()), Err(StreamError::Ending));
    assert_eq!(client.receive(data(1, b"x", false)).len(), 1, "open ones go on");

    let mut server = Bench::server();
    server.open(1);
    server.session.go_away(GoAwayStatus::OK);
    server.session.go_away(GoAwayStatus::OK);
    assert_eq!(server.sent(), [Frame::GoAway { last: Some(id(1)), status: GoAwayStatus::OK }]);
    assert!(server.open(3).is_empty());
    assert!(server.receive(data(3, b"x", false)).is_empty());
    assert!(server.sent().is_empty(), "ignored, not answered");
}

#[test]
fn a_session_that_refuses_streams_keeps_those_it_has() {
    let mut server = Bench::server();
    server.open(1);
    server.session.refuse_streams();
    assert!(server.open(3).is_empty());
    assert_eq!(server.sent(), [rst(3, ResetStatus::REFUSED_STREAM)]);
    assert_eq!(server.receive(data(1, b"x", false)).len(), 1);
}
