//! Frames as the draft draws them, bytes by hand; and the limits on them.

use bytes::{Bytes, BytesMut};
use portcullis_spdy::frame::{
    Decoded, Decoder, EncodeError, Encoder, Frame, FrameError, GoAwayStatus, ResetStatus, Setting,
};
use portcullis_spdy::{Headers, HeadersError, Limits};

use crate::support::{control, decode, frames, headers, id, stored};

const BLOCK: &[u8] = b"\0\0\0\x02\0\0\0\x04port\0\0\0\x045554\0\0\0\x0astreamtype\0\0\0\x0adata\0error";

fn decoded(bytes: &[u8]) -> Result<Vec<Decoded>, FrameError> {
    decode(&Limits::default(), bytes)
}

fn encoded(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    Encoder::new().encode(frame, &mut out).expect("a good frame");
    out
}

#[test]
fn syn_stream_syn_reply_and_headers_share_one_zlib_stream() {
    let bytes = [
        control(1, 0x01, &[&[0x80, 0, 0, 5, 0x80, 0, 0, 3, 0x5f, 0xff], &stored(true, BLOCK)]),
        control(1, 0x02, &[&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0], &stored(false, BLOCK)]),
        control(2, 0x01, &[&[0, 0, 0, 2], &stored(false, b"\0\0\0\0")]),
        control(8, 0x00, &[&[0, 0, 0, 2], &stored(false, b"\0\0\0\x01\0\0\0\x01a\0\0\0\x01b")]),
    ]
    .concat();
    let block = headers(&[("port", "5554"), ("streamtype", "data"), ("streamtype", "error")]);
    let expected = [
        Frame::SynStream {
            id: id(5),
            associated: Some(id(3)),
            priority: 2,
            fin: true,
            unidirectional: false,
            headers: block.clone(),
        },
        Frame::SynStream { id: id(7), associated: None, priority: 0, fin: false, unidirectional: true, headers: block },
        Frame::SynReply { id: id(2), fin: true, headers: Headers::new() },
        Frame::Headers { id: id(2), fin: false, headers: headers(&[("a", "b")]) },
    ];
    assert_eq!(frames(&bytes), expected);
}

/// What `github.com/moby/spdystream` v0.5.1 wrote for a SYN_STREAM and a SYN_REPLY (level 9, one header each).
#[test]
fn what_spdystream_writes_is_read() {
    let bytes = include_bytes!("spdystream_frames.bin");
    let expected = [
        Frame::SynStream {
            id: id(1),
            associated: None,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: headers(&[("streamtype", "data"), ("streamtype", "error")]),
        },
        Frame::SynReply { id: id(1), fin: false, headers: headers(&[("port", "5554")]) },
        Frame::Data { id: id(1), fin: false, payload: Bytes::from_static(b"hello") },
        Frame::Ping { id: 1 },
        Frame::RstStream { id: id(1), status: ResetStatus::CANCEL },
        Frame::Data { id: id(3), fin: true, payload: Bytes::new() },
        Frame::GoAway { last: Some(id(1)), status: GoAwayStatus::OK },
    ];
    assert_eq!(frames(bytes), expected);
}

#[test]
fn frames_without_headers_are_read_and_written_as_drawn() {
    let cases: [(Vec<u8>, Frame); 9] = [
        (control(3, 0, &[&[0, 0, 0, 1, 0, 0, 0, 5]]), Frame::RstStream { id: id(1), status: ResetStatus::CANCEL }),
        (
            control(4, 0, &[&[0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 100, 1, 0, 0, 7, 0, 1, 0, 0]]),
            Frame::Settings {
                entries: vec![
                    Setting { flags: 0, id: Setting::MAX_CONCURRENT_STREAMS, value: 100 },
                    Setting { flags: 1, id: Setting::INITIAL_WINDOW_SIZE, value: 65_536 },
                ],
            },
        ),
        (control(6, 0, &[&[0xff, 0xff, 0xff, 0xfe]]), Frame::Ping { id: 0xffff_fffe }),
        (
            control(7, 0, &[&[0, 0, 0, 0, 0, 0, 0, 2]]),
            Frame::GoAway { last: None, status: GoAwayStatus::INTERNAL_ERROR },
        ),
        (control(7, 0, &[&[0, 0, 0, 9, 0, 0, 0, 0]]), Frame::GoAway { last: Some(id(9)), status: GoAwayStatus::OK }),
        (control(9, 0, &[&[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]]), Frame::WindowUpdate { id: None, delta: 0x7fff_ffff }),
        (control(9, 0, &[&[0, 0, 0, 3, 0, 0, 0, 1]]), Frame::WindowUpdate { id: Some(id(3)), delta: 1 }),
        (
            b"\x7f\xff\xff\xff\x01\x00\x00\x05hello".to_vec(),
            Frame::Data { id: id(0x7fff_ffff), fin: true, payload: Bytes::from_static(b"hello") },
        ),
        (b"\0\0\0\x01\0\0\0\0".to_vec(), Frame::Data { id: id(1), fin: false, payload: Bytes::new() }),
    ];
    for (bytes, frame) in cases {
        assert_eq!(frames(&bytes), std::slice::from_ref(&frame));
        assert_eq!(encoded(&frame), bytes, "{frame:?}");
    }
}

#[test]
fn the_reserved_bit_of_a_word_means_nothing() {
    let bytes = control(9, 0, &[&[0x80, 0, 0, 3, 0x80, 0, 0, 1]]);
    assert_eq!(frames(&bytes), [Frame::WindowUpdate { id: Some(id(3)), delta: 1 }]);
}

#[test]
fn control_frames_of_unknown_types_are_skipped() {
    let bytes = [control(5, 0xff, &[]), control(10, 0, &[&[7; 100]]), control(6, 0, &[&[0, 0, 0, 1]])].concat();
    assert_eq!(frames(&bytes), [Frame::Ping { id: 1 }]);
}

#[test]
fn data_is_handed_on_before_its_frame_is_whole() {
    let mut decoder = Decoder::new(&Limits::default());
    let mut input = BytesMut::from(&b"\0\0\0\x01\x01\xff\xff\xffab"[..]);
    let piece = |payload| Decoded::Frame(Frame::Data { id: id(1), fin: false, payload: Bytes::from_static(payload) });
    assert_eq!(decoder.decode(&mut input), Ok(Some(piece(b"ab"))));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    input.extend_from_slice(b"c");
    assert_eq!(decoder.decode(&mut input), Ok(Some(piece(b"c"))));
    assert!(input.is_empty());
}

#[test]
fn malformed_frames_are_refused_by_name() {
    let cases: [(Vec<u8>, FrameError); 15] = [
        (b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x01".to_vec(), FrameError::Version(2)),
        (b"\0\0\0\0\0\0\0\x01x".to_vec(), FrameError::StreamZero),
        (control(1, 0, &[&[0; 10]]), FrameError::StreamZero),
        (control(3, 0, &[&[0x80, 0, 0, 0, 0, 0, 0, 1]]), FrameError::StreamZero),
        (control(1, 0, &[&[0, 0, 0, 1, 0, 0, 0, 0, 0]]), FrameError::Length { kind: 1, length: 9 }),
        (control(2, 0, &[&[0, 0, 0]]), FrameError::Length { kind: 2, length: 3 }),
        (control(3, 0, &[&[0, 0, 0, 1]]), FrameError::Length { kind: 3, length: 4 }),
        (control(3, 0, &[&[0, 0, 0, 1, 0, 0, 0, 0]]), FrameError::Zero { kind: 3 }),
        (control(4, 0, &[&[0, 0, 0, 1, 0, 0, 0, 4]]), FrameError::Length { kind: 4, length: 8 }),
        (control(4, 0, &[&[0, 0, 0, 0, 0]]), FrameError::Length { kind: 4, length: 5 }),
        (control(6, 0, &[&[0, 0, 0, 0]]), FrameError::Zero { kind: 6 }),
        (control(6, 0, &[&[0, 0, 0, 1, 0]]), FrameError::Length { kind: 6, length: 5 }),
        (control(7, 0, &[&[0, 0, 0, 1]]), FrameError::Length { kind: 7, length: 4 }),
        (control(9, 0, &[&[0; 9]]), FrameError::Length { kind: 9, length: 9 }),
        (control(2, 0, &[&[0, 0, 0, 1], b"no zlib"]), FrameError::Compression),
    ];
    for (bytes, error) in cases {
        assert_eq!(decoded(&bytes), Err(error), "{bytes:?}");
    }
}

#[test]
fn a_bad_header_block_ends_its_stream_and_not_the_session() {
    let bytes = [
        control(1, 0, &[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0], &stored(true, b"\0\0\0\x01\0\0\0\x01A\0\0\0\x01b")]),
        control(2, 0, &[&[0, 0, 0, 2], &stored(false, b"\0\0\0\x02\0\0\0\x01a\0\0\0\x01b")]),
        control(8, 0, &[&[0, 0, 0, 2], &stored(false, b"\0\0\0\x01\0\0\0\x01a\0\0\0\x01b")]),
    ]
    .concat();
    let expected = [
        Decoded::Malformed { id: id(1), opens: true, error: HeadersError::Name },
        Decoded::Malformed { id: id(2), opens: false, error: HeadersError::Length },
        Decoded::Frame(Frame::Headers { id: id(2), fin: false, headers: headers(&[("a", "b")]) }),
    ];
    assert_eq!(decoded(&bytes).expect("a session that goes on"), expected);
}

#[test]
fn a_control_frame_over_the_limit_is_refused_before_its_body_arrives() {
    let limits = Limits { control_frame: 12, ..Limits::default() };
    assert!(decode(&limits, &control(4, 0, &[&[0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1]])).is_ok());
    for kind in [1, 4, 99] {
        let header = [0x80, 3, 0, kind, 0, 0, 0, 13];
        let error = FrameError::TooLong { kind: kind.into(), length: 13, limit: 12 };
        assert_eq!(decode(&limits, &header), Err(error));
    }
}

#[test]
fn a_header_block_is_bounded_compressed_decompressed_and_in_number() {
    let reply = |block: &[u8]| control(2, 0, &[&[0, 0, 0, 1], block]);
    let block = stored(true, b"\0\0\0\x01\0\0\0\x01a\0\0\0\x03b\0c");
    let (compressed, plain) = (block.len(), 16);
    let limits = |compressed_block, header_block, headers| Limits {
        compressed_block,
        header_block,
        headers,
        ..Limits::default()
    };
    assert_eq!(decode(&limits(compressed, plain, 2), &reply(&block)).map(|found| found.len()), Ok(1));

    let error = FrameError::CompressedBlock { length: compressed, limit: compressed - 1 };
    assert_eq!(decode(&limits(compressed - 1, plain, 2), &reply(&block)), Err(error));

    let error = FrameError::HeaderBlock { limit: plain - 1 };
    assert_eq!(decode(&limits(compressed, plain - 1, 2), &reply(&block)), Err(error));

    let malformed = Decoded::Malformed { id: id(1), opens: false, error: HeadersError::TooMany { limit: 1 } };
    assert_eq!(decode(&limits(compressed, plain, 1), &reply(&block)), Ok(vec![malformed]));
}

#[test]
fn settings_are_counted_before_they_are_read() {
    let limits = Limits { settings: 1, ..Limits::default() };
    assert!(decode(&limits, &control(4, 0, &[&[0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1]])).is_ok());
    let error = |count| Err(FrameError::Settings { count, limit: 1 });
    assert_eq!(decode(&limits, &control(4, 0, &[&[0, 0, 0, 2], &[0; 16]])), error(2));
    // CVE-2026-35469: a count that the frame does not hold.
    assert_eq!(
        decode(&Limits::default(), &control(4, 0, &[&[0xff; 4]])),
        Err(FrameError::Settings { count: u32::MAX, limit: 32 })
    );
}

#[test]
fn what_is_too_long_is_not_written_and_leaves_the_encoder_as_it_was() {
    let mut encoder = Encoder::new();
    let mut out = BytesMut::new();
    let long = Headers::new().with("a", vec![b'x'; 1 << 20]).unwrap();
    let frame = Frame::SynReply { id: id(1), fin: false, headers: long };
    assert_eq!(encoder.encode(&frame, &mut out), Err(EncodeError::Headers((1 << 20) + 13)));
    let frame = Frame::Data { id: id(1), fin: false, payload: vec![0; 1 << 24].into() };
    assert_eq!(encoder.encode(&frame, &mut out), Err(EncodeError::Length(1 << 24)));
    let frame = Frame::Settings { entries: vec![Setting { flags: 0, id: 1, value: 1 }; 1 << 21] };
    assert_eq!(encoder.encode(&frame, &mut out), Err(EncodeError::Length((1 << 24) + 4)));
    assert!(out.is_empty());
    let frame = Frame::SynReply { id: id(1), fin: false, headers: headers(&[("a", "b")]) };
    encoder.encode(&frame, &mut out).unwrap();
    assert_eq!(frames(&out), [frame]);
}
