//! A WebSocket peer: whatever it sends, text is UTF-8, limits hold, the answer is the same however the bytes were cut, and nothing
//! panics.
//!
//! The first byte chooses the role, the channel protocol and whether frames are masked for the fuzzer; the second how the input is cut.
#![no_main]

use std::time::Instant;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use portcullis_spdy::websocket::channel::{ChannelVersion, Channels};
use portcullis_spdy::websocket::{Codec, Event, Kind, Limits, MaskKeys};

const LIMITS: Limits = Limits {
    frame: 70_000,
    message: 80_000,
    fragments: 8,
    pings: 8,
    ping_interval: std::time::Duration::from_secs(10),
    idle: None,
    output: 1_024,
};

fn run(choice: u8, input: &[u8], cut: usize) -> (Vec<String>, Vec<u8>) {
    let now = Instant::now();
    let mut codec = if choice & 1 == 0 {
        Codec::server(LIMITS, now)
    } else {
        Codec::client(MaskKeys::new(|| [1, 2, 3, 4]), LIMITS, now)
    };
    let version = if choice & 2 == 0 { ChannelVersion::V4 } else { ChannelVersion::V5 };
    let mut channels = Channels::new(version);
    let (mut seen, mut message, mut said, mut buffer) = (Vec::new(), Vec::new(), Vec::new(), BytesMut::new());
    for piece in input.chunks(cut) {
        buffer.extend_from_slice(piece);
        loop {
            let event = codec.receive(now, &mut buffer);
            assert!(codec.output().len() <= LIMITS.output + 256);
            match event {
                Ok(Some(Event::Data { kind, payload, first, last })) => {
                    assert!(!first || message.is_empty());
                    message.extend_from_slice(&payload);
                    assert!(message.len() <= 80_000);
                    // Of a text that turns out to be none, how much was handed on depends on how it was cut.
                    if kind == Kind::Binary
                        && let Err(error) = channels.receive(payload, last)
                    {
                        seen.push(error.to_string());
                        said.extend_from_slice(&codec.output().split());
                        return (seen, said);
                    }
                    if last {
                        assert!(kind == Kind::Binary || std::str::from_utf8(&message).is_ok());
                        seen.push(format!("{kind:?} {message:?}"));
                        message.clear();
                    }
                }
                Ok(Some(event)) => seen.push(format!("{event:?}")),
                Ok(None) if !codec.output().is_empty() => said.extend_from_slice(&codec.output().split()),
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.to_string());
                    said.extend_from_slice(&codec.output().split());
                    return (seen, said);
                }
            }
        }
    }
    (seen, said)
}

fuzz_target!(|data: &[u8]| {
    let [choice, cut, rest @ ..] = data else { return };
    let whole = run(*choice, rest, usize::MAX);
    let pieces = run(*choice, rest, usize::from(*cut) + 1);
    assert_eq!(whole, pieces);
});
