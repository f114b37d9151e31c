//! A SPDY peer: whatever it sends, a session holds no more than it may, answers alike however the bytes were cut, and never
//! panics.
//!
//! The first byte chooses role and flow control, the second how the input is cut. With the third bit set the rest is not frames but
//! header blocks, each after its length, which are compressed first: so that fuzzing reaches what is behind zlib.
#![no_main]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use flate2::{Compress, Compression, FlushCompress};
use libfuzzer_sys::fuzz_target;
use portcullis_spdy::{Config, Event, FlowControl, Headers, Role, Session};

/// Limits that a small input can reach.
fn config(strict: bool) -> Config {
    let mut config = Config { window: 64 * 1024, ..Config::default() };
    config.flow = if strict { FlowControl::Strict } else { FlowControl::Lenient };
    config.limits.control_frame = 2_048;
    config.limits.compressed_block = 1_024;
    config.limits.header_block = 2_048;
    config.limits.headers = 8;
    config.limits.settings = 4;
    config.limits.streams = 4;
    config.limits.output = 2_048;
    config.limits.pings = 8;
    config
}

/// What a session saw, with the pieces of data joined.
fn run(role: Role, config: &Config, input: &[u8], cut: usize) -> (Vec<String>, bool) {
    let now = Instant::now();
    let mut session = Session::new(role, config, now);
    let (mut seen, mut data) = (Vec::new(), Vec::new());
    let (mut buffer, mut output) = (BytesMut::new(), BytesMut::new());
    let ours = session.open(Headers::new(), Default::default()).expect("a new session");
    for piece in input.chunks(cut) {
        buffer.extend_from_slice(piece);
        // The reader of stream data reads all; the transport takes all output.
        loop {
            match session.receive(now + Duration::from_secs(1), &mut buffer) {
                Ok(Some(Event::Data { id, payload, fin })) => {
                    session.consumed(id, payload.len());
                    data.push((id, payload.len(), fin));
                }
                Ok(Some(event)) => {
                    if let Event::Opened { id, .. } = &event {
                        let _ = session.reply(*id, Headers::new(), false);
                        let _ = session.send(*id, b"hello", false);
                    }
                    seen.push(format!("{data:?}", data = joined(&mut data)));
                    seen.push(format!("{event:?}"));
                }
                Ok(None) if session.output_len() > 0 => {
                    output.clear();
                    session.take_output(now, &mut output);
                }
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.to_string());
                    return (seen, true);
                }
            }
            assert!(session.buffered() <= config.limits.connection_buffer + 64 * 1024);
            assert!(session.output_len() <= 3 * config.limits.output + 4_096, "{}", session.output_len());
        }
    }
    session.release(ours);
    let _ = session.tick(now + Duration::from_secs(100_000));
    seen.push(format!("{:?}", joined(&mut data)));
    (seen, false)
}

/// Pieces of one stream's data, together.
fn joined<T: PartialEq + Copy + std::fmt::Debug>(data: &mut Vec<(T, usize, bool)>) -> Vec<(T, usize, bool)> {
    let mut all = Vec::<(T, usize, bool)>::new();
    for (id, length, fin) in data.drain(..) {
        match all.last_mut() {
            Some((last, total, ended)) if *last == id && !*ended => (*total, *ended) = (*total + length, fin),
            _ => all.push((id, length, fin)),
        }
    }
    all
}

/// SYN_STREAM frames around header blocks.
fn wrap(mut blocks: &[u8]) -> Vec<u8> {
    let mut zlib = Compress::new(Compression::fast(), true);
    let (mut frames, mut number) = (Vec::new(), 1_u32);
    while let [length, rest @ ..] = blocks {
        let (block, later) = rest.split_at(rest.len().min(usize::from(*length)));
        blocks = later;
        // Without the dictionary: a peer may compress as it likes.
        let mut compressed = Vec::with_capacity(block.len() + 128);
        if zlib.compress_vec(block, &mut compressed, FlushCompress::Sync).is_err() {
            break;
        }
        let length = u32::try_from(compressed.len() + 10).expect("short").to_be_bytes();
        frames.extend_from_slice(&[0x80, 3, 0, 1, 0, length[1], length[2], length[3]]);
        frames.extend_from_slice(&number.to_be_bytes());
        frames.extend_from_slice(&[0; 6]);
        frames.extend_from_slice(&compressed);
        number += 2;
    }
    frames
}

fuzz_target!(|data: &[u8]| {
    let [choice, cut, rest @ ..] = data else { return };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let config = config(choice & 2 != 0);
    let wrapped = wrap(if choice & 4 != 0 { rest } else { &[] });
    let input = if choice & 4 != 0 { &wrapped } else { rest };
    let whole = run(role, &config, input, usize::MAX);
    let pieces = run(role, &config, input, usize::from(*cut) + 1);
    assert_eq!(whole, pieces);
});
