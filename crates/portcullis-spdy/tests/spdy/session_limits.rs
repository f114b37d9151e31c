//! Every limit of a session, crossed; and flow control, with peers that count and peers that do not.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use portcullis_spdy::frame::{Encoder, Frame, GoAwayStatus, ResetStatus, Setting};
use portcullis_spdy::{
    Cause, Config, Event, FlowControl, Headers, Limits, Role, SessionError, StreamError, StreamOptions,
};

use crate::support::{Bench, data, id};

const SECOND: Duration = Duration::from_secs(1);

fn server(change: impl FnOnce(&mut Config)) -> Bench {
    let mut config = Config::default();
    change(&mut config);
    Bench::new(Role::Server, &config)
}

fn payload(number: u32, length: usize) -> Frame {
    Frame::Data { id: id(number), fin: false, payload: Bytes::from(vec![7; length]) }
}

fn window(number: u32, delta: u32) -> Frame {
    Frame::WindowUpdate { id: id(number).into(), delta }
}

fn rst(number: u32, status: ResetStatus) -> Frame {
    Frame::RstStream { id: id(number), status }
}

fn initial_window(value: u32) -> Frame {
    Frame::Settings { entries: vec![Setting { flags: 0, id: Setting::INITIAL_WINDOW_SIZE, value }] }
}

/// A server with an accepted stream 1.
fn with_stream(change: impl FnOnce(&mut Config)) -> Bench {
    let mut bench = server(change);
    bench.open(1);
    bench.session.reply(id(1), Headers::new(), false).expect("a reply");
    bench.sent();
    bench
}

/// Sends on stream 1 until nothing more is taken.
fn fill(bench: &mut Bench) -> usize {
    let mut total = 0;
    loop {
        match bench.session.send(id(1), &[1; 100_000], false).expect("an open stream") {
            0 => return total,
            more => total += more,
        }
        bench.sent();
    }
}

#[test]
fn streams_over_the_limit_are_refused_until_one_is_released() {
    let mut server = server(|config| config.limits.streams = 2);
    assert_eq!((server.open(1).len(), server.open(3).len(), server.open(5).len()), (1, 1, 0));
    assert_eq!(server.sent(), [rst(5, ResetStatus::REFUSED_STREAM)]);
    // Opening and resetting in turn gains nothing as long as our side still works on the stream.
    server.receive(rst(1, ResetStatus::CANCEL));
    assert_eq!(server.open(7).len(), 0);
    server.session.release(id(1));
    assert_eq!(server.open(9).len(), 1);
}

#[test]
fn the_peers_limit_of_streams_is_kept() {
    let mut client = Bench::client();
    let entry = Setting { flags: 0, id: Setting::MAX_CONCURRENT_STREAMS, value: 1 };
    let later = Setting { value: 9, ..entry };
    client.receive(Frame::Settings { entries: vec![entry, later] });
    let mut open = || client.session.open(Headers::new(), StreamOptions::default());
    assert_eq!((open(), open()), (Ok(id(1)), Err(StreamError::TooMany(1))), "the first of two values counts");
    client.session.release(id(1));
    assert_eq!(client.session.open(Headers::new(), StreamOptions::default()), Ok(id(3)));
}

#[test]
fn pings_and_settings_share_a_limit_in_time() {
    let mut server = server(|config| (config.limits.pings, config.limits.ping_interval) = (2, SECOND * 10));
    assert!(server.receive_at(SECOND, Frame::Ping { id: 1 }).is_ok());
    assert!(server.receive_at(SECOND * 2, initial_window(1 << 16)).is_ok());
    assert!(server.receive_at(SECOND * 11, Frame::Ping { id: 3 }).is_ok());
    assert!(server.receive_at(SECOND * 11, Frame::Ping { id: 5 }).is_ok());
    assert_eq!(server.receive_at(SECOND * 11, Frame::Ping { id: 7 }).unwrap_err(), SessionError::Pings(2));
    let farewell = Frame::GoAway { last: None, status: GoAwayStatus::PROTOCOL_ERROR };
    assert_eq!(server.sent().pop(), Some(farewell));
}

#[test]
fn a_session_without_frames_ends_when_its_time_is_over() {
    let mut server = server(|config| config.limits.idle = Some(SECOND * 60));
    let start = server.start;
    assert_eq!(server.session.deadline(), Some(start + SECOND * 60));
    server.receive_at(SECOND * 30, Frame::Ping { id: 1 }).unwrap();
    assert_eq!(server.session.tick(start + SECOND * 89), Ok(()));
    server.session.take_output(start + SECOND * 89, &mut BytesMut::new());
    assert_eq!(server.session.deadline(), Some(start + SECOND * 149), "what we send counts too");
    assert_eq!(server.session.tick(start + SECOND * 149), Err(SessionError::Idle(60)));
    assert_eq!(server.sent(), [Frame::GoAway { last: None, status: GoAwayStatus::OK }]);
    assert_eq!(self::server(|config| config.limits.idle = None).session.deadline(), None);
}

#[test]
fn a_peer_that_asks_and_does_not_listen_is_no_longer_read() {
    let mut server = server(|config| {
        config.limits.output = 600;
        config.limits.pings = u32::MAX;
    });
    let mut input = BytesMut::new();
    let mut encoder = Encoder::new();
    for _ in 0..1_000 {
        encoder.encode(&Frame::Ping { id: 1 }, &mut input).unwrap();
    }
    server.receive_bytes(Duration::ZERO, &mut input).unwrap();
    assert!(!server.session.wants_input());
    assert_eq!((server.session.output_len(), input.len()), (1_200, 12_000 - 1_200));
    assert_eq!(server.sent().len(), 100);
    server.receive_bytes(Duration::ZERO, &mut input).unwrap();
    assert_eq!(input.len(), 12_000 - 2 * 1_200, "it is read again when the output has left");
}

#[test]
fn a_peer_that_knows_no_windows_is_sent_to_without_waiting() {
    let mut server = with_stream(|_| {});
    let mut total = 0;
    while total < 10 << 20 {
        total += server.session.send(id(1), &[1; 100_000], false).unwrap();
        server.sent();
    }
}

#[test]
fn output_that_waits_stops_the_streams_that_write() {
    let mut server = with_stream(|config| config.limits.output = 50_000);
    let sent = [(); 4].map(|()| server.session.send(id(1), &[1; 100_000], false).unwrap());
    assert_eq!(sent, [32_768, 50_000 - 32_768 - 8, 0, 0]);
    assert!(server.session.output_full());
    assert_eq!(server.session.send(id(1), b"", true), Ok(0), "the end of the data needs no room");
    assert_eq!(server.sent().pop(), Some(data(1, b"", true)));
}

#[test]
fn windows_of_a_peer_that_counts_are_kept_and_given_back() {
    let mut server = with_stream(|_| {});
    server.receive(initial_window(70_000));
    assert_eq!(fill(&mut server), 65_536, "the session's window is still the draft's");
    assert_eq!(server.receive(Frame::WindowUpdate { id: None, delta: 100_000 }), [Event::Window { id: None }]);
    assert_eq!(fill(&mut server), 70_000 - 65_536, "now the stream's counts");
    assert_eq!(server.receive(window(1, 5)), [Event::Window { id: Some(id(1)) }]);
    assert_eq!(fill(&mut server), 5);
    assert_eq!(server.session.send(id(1), b"", true), Ok(0), "the end of the data needs no window");
    assert_eq!(server.sent(), [data(1, b"", true)]);
}

#[test]
fn a_window_may_shrink_below_nothing_and_comes_back() {
    let mut server = with_stream(|config| config.flow = FlowControl::Strict);
    assert_eq!(fill(&mut server), 65_536);
    server.receive(Frame::WindowUpdate { id: None, delta: 1 << 20 });
    server.receive(initial_window(1_000));
    server.receive(window(1, 64_536));
    assert_eq!(fill(&mut server), 0);
    server.receive(window(1, 1));
    assert_eq!(fill(&mut server), 1);
    server.receive(initial_window(1_010));
    assert_eq!(fill(&mut server), 10);
}

#[test]
fn windows_beyond_31_bits_and_updates_by_nothing_are_errors() {
    let mut server = with_stream(|_| {});
    let reset = |status| [Event::Reset { id: id(1), status, cause: Cause::Session }];
    assert_eq!(server.receive(window(1, 0x7fff_ffff)), reset(ResetStatus::FLOW_CONTROL_ERROR));
    let mut server = with_stream(|_| {});
    assert_eq!(server.receive(window(1, 0)), reset(ResetStatus::PROTOCOL_ERROR));
    let mut server = with_stream(|_| {});
    server.receive(window(1, 0x7fff_0000 - 1));
    let events = server.receive(initial_window(65_537 + 1));
    assert_eq!(events[..1], reset(ResetStatus::FLOW_CONTROL_ERROR));
    for bad in [
        initial_window(0x8000_0000),
        Frame::WindowUpdate { id: None, delta: 0 },
        Frame::WindowUpdate { id: None, delta: 0x7fff_ffff },
    ] {
        assert_eq!(Bench::server().try_receive(bad).unwrap_err(), SessionError::FlowControl);
    }
}

#[test]
fn windows_are_given_back_by_halves_as_the_reader_reads() {
    let mut server = with_stream(|_| {});
    server.receive(initial_window(1 << 16));
    server.receive(payload(1, 40_000));
    server.session.consumed(id(1), 32_767);
    assert!(server.sent().is_empty());
    server.session.consumed(id(1), 1);
    assert_eq!(server.sent(), [window(1, 32_768)]);
    server.session.consumed(id(1), 1_000_000);
    assert_eq!(server.session.buffered(), 0, "no more is given back than came");
}

#[test]
fn a_peer_that_announced_no_window_is_told_of_none_until_it_does() {
    let mut server = with_stream(|_| {});
    for _ in 0..40 {
        server.receive(payload(1, 60_000));
        server.session.consumed(id(1), 60_000);
        assert!(server.sent().is_empty(), "spdystream would queue it behind a stream that stands still");
    }
    // A stream that ran out of a window that nobody counted must not stop when somebody begins to.
    let mut server = with_stream(|_| {});
    server.receive(payload(1, 60_000));
    server.session.consumed(id(1), 60_000);
    server.receive(initial_window(1 << 16));
    server.receive(payload(1, 10));
    server.session.consumed(id(1), 10);
    assert_eq!(server.sent(), [window(1, 60_010)]);
}

#[test]
fn the_sessions_window_is_given_back_as_data_arrives_while_little_is_held() {
    let mut server = server(|config| config.flow = FlowControl::Strict);
    for number in (1..=95).step_by(2) {
        server.open(number);
        server.receive(payload(number, 65_536));
    }
    let updates: Vec<Frame> = server.sent();
    let given: u64 = updates
        .iter()
        .map(|frame| match frame {
            Frame::WindowUpdate { id: None, delta } => u64::from(*delta),
            other => panic!("{other:?}"),
        })
        .sum();
    // From 2 MiB on, which nobody has read, the window is kept back: 3 MiB have come, and no more may.
    assert_eq!(given, 2 << 20);
    assert_eq!(server.session.buffered(), 3 << 20);
    server.open(97);
    server.session.consumed(id(1), 65_536);
    assert_eq!(server.sent(), [window(1, 65_536)], "too much is held still");
    assert_eq!(server.try_receive(payload(97, 1)).unwrap_err(), SessionError::FlowControl);
}

#[test]
fn a_strict_session_resets_a_stream_that_overruns_its_window() {
    let mut server = with_stream(|config| config.flow = FlowControl::Strict);
    assert_eq!(server.receive(payload(1, 65_536)).len(), 1);
    let status = ResetStatus::FLOW_CONTROL_ERROR;
    assert_eq!(server.receive(payload(1, 1)), [Event::Reset { id: id(1), status, cause: Cause::Session }]);
    assert_eq!(server.sent(), [rst(1, status)]);
    assert_eq!(server.session.buffered(), 0);
}

/// A server to which a peer without flow control has sent more on stream 1 than it may hold.
fn stalled(bench: &mut Bench) -> BytesMut {
    let mut input = BytesMut::new();
    let mut encoder = Encoder::new();
    encoder.encode(&payload(1, 1 << 20), &mut input).unwrap();
    encoder.encode(&data(3, b"behind it", false), &mut input).unwrap();
    bench.open(3);
    bench.receive_bytes(Duration::ZERO, &mut input).unwrap();
    input
}

#[test]
fn a_stream_that_nobody_reads_stops_the_reading_and_not_the_memory() {
    let mut server = with_stream(|config| config.limits.stream_buffer = 100_000);
    let mut input = stalled(&mut server);
    assert!(!server.session.wants_input());
    let held = server.session.buffered();
    assert!(held > 100_000 && held <= 100_000 + 65_536, "{held}");
    assert_eq!(input.len(), (1 << 20) + 8 + 9 - held, "the rest was not read");
    // Its reader catches up: it goes on.
    server.session.consumed(id(1), held - 100_000);
    assert!(server.session.wants_input());
    assert!(!server.receive_bytes(Duration::ZERO, &mut input).unwrap().is_empty());
    assert!(!server.session.wants_input());
    assert!(server.sent().is_empty(), "a peer that overran its window is told of none");
}

#[test]
fn a_stream_that_stalls_the_others_for_too_long_is_reset() {
    let mut server = with_stream(|config| config.limits.stall = Some(SECOND * 30));
    let mut input = stalled(&mut server);
    let start = server.start;
    assert_eq!(server.session.deadline(), Some(start + SECOND * 30));
    server.session.tick(start + SECOND * 29).unwrap();
    assert!(!server.session.wants_input());
    server.session.tick(start + SECOND * 30).unwrap();
    let events = server.receive_bytes(SECOND * 30, &mut input).unwrap();
    let status = ResetStatus::FLOW_CONTROL_ERROR;
    assert_eq!(
        events,
        [
            Event::Reset { id: id(1), status, cause: Cause::Session },
            Event::Data { id: id(3), payload: Bytes::from_static(b"behind it"), fin: false },
        ]
    );
    assert_eq!(server.sent(), [rst(1, status)]);
    assert_eq!(server.session.buffered(), 9);
}

#[test]
fn without_a_stall_limit_a_stream_may_wait_for_its_reader() {
    let mut server = with_stream(|config| (config.limits.stall, config.limits.idle) = (None, None));
    stalled(&mut server);
    assert_eq!(server.session.deadline(), None);
    server.session.tick(server.start + SECOND * 1_000_000).unwrap();
    assert!(!server.session.wants_input());
}

#[test]
fn all_streams_together_hold_no_more_than_the_connection_may() {
    let mut server = server(|config| config.limits.connection_buffer = 1 << 20);
    let mut number = 1;
    while server.session.wants_input() {
        server.open(number);
        server.receive(payload(number, 200_000));
        number += 2;
        assert!(number < 1_000, "it must stop");
    }
    let held = server.session.buffered();
    assert!(held > 1 << 20 && held <= (1 << 20) + 65_536, "{held}");
    server.session.release(id(1));
    assert!(server.session.wants_input(), "what a released stream held is free");
    assert_eq!(server.session.buffered(), held - 200_000);
}

#[test]
fn limits_of_frames_end_the_session_with_a_word() {
    let mut server = server(|config| config.limits = Limits { settings: 0, ..Limits::default() });
    let error = server.try_receive(initial_window(1)).unwrap_err();
    assert!(matches!(error, SessionError::Frame(_)), "{error}");
    assert_eq!(server.sent(), [Frame::GoAway { last: None, status: GoAwayStatus::PROTOCOL_ERROR }]);
    assert!(!server.session.wants_input());
    assert_eq!(server.session.tick(server.start), Err(error));
}
