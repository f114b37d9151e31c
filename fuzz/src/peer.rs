//! What clients of streaming connections send, made of few bytes, so that fuzzing reaches what is behind framing and zlib.

use bytes::{Bytes, BytesMut};
use portcullis_spdy::Headers;
use portcullis_spdy::frame::{Encoder, Frame, GoAwayStatus, ResetStatus, Setting, StreamId};

/// Most bytes that a script makes.
const MOST: usize = 1 << 20;
/// The streams of a port-forward, and those of a command.
const KINDS: [&str; 8] = ["error", "data", "stdin", "stdout", "stderr", "resize", "", "ERROR"];
const PORTS: [&str; 8] = ["80", "81", "82", "83", "84", "0", "", "x"];

/// WebSocket frames of a client: for each the first byte, a length and so many bytes.
pub fn websocket(mut script: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [first, length, rest @ ..] = script {
        let (payload, later) = rest.split_at(rest.len().min(usize::from(*length)));
        script = later;
        out.push(*first);
        match u8::try_from(payload.len()) {
            Ok(short @ ..=125) => out.push(0x80 | short),
            _ => out.extend([0xfe, 0, *length]),
        }
        // A mask of zeros leaves the bytes as they are.
        out.extend([0; 4]);
        out.extend_from_slice(payload);
    }
    out
}

/// SPDY frames: for each what it is, its stream, and a byte or two.
pub fn spdy(script: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
    let mut bytes = script.iter().copied();
    let mut next = || bytes.next();
    while let (Some(what), Some(stream), Some(more)) = (next(), next(), next())
        && out.len() < MOST
    {
        let Some(id) = StreamId::new(u32::from(stream)) else { continue };
        let fin = what & 0x80 != 0;
        let named = |list: [&'static str; 8], shift: u8| list[usize::from(more >> shift & 7)];
        let headers = || {
            [("streamtype", named(KINDS, 0)), ("port", named(PORTS, 3))]
                .iter()
                .try_fold(Headers::new(), |headers, (name, value)| headers.with(name, *value))?
                .with("requestid", (more >> 6).to_string())
        };
        let frame = match what & 7 {
            0 | 1 => headers().ok().map(|headers| Frame::SynStream {
                id,
                associated: None,
                priority: 0,
                fin,
                unidirectional: what & 0x40 != 0,
                headers,
            }),
            // Up to 64 KiB, so that buffers fill.
            2 | 3 => {
                let length = if what & 0x40 == 0 { usize::from(more) } else { usize::from(more) * 256 };
                Some(Frame::Data { id, fin, payload: Bytes::from(vec![more; length]) })
            }
            4 => Some(Frame::RstStream { id, status: ResetStatus(u32::from(more)) }),
            5 => Some(Frame::WindowUpdate {
                id: (more & 1 == 0).then_some(id),
                delta: u32::from(more) << (what >> 3 & 15),
            }),
            6 if what & 0x40 == 0 => Some(Frame::Ping { id: u32::from(more) }),
            6 => {
                let value = u32::from(stream) << (what >> 3 & 7);
                Some(Frame::Settings { entries: vec![Setting { flags: 0, id: u32::from(more & 7), value }] })
            }
            _ if what & 0x40 == 0 => headers().ok().map(|headers| Frame::Headers { id, fin, headers }),
            _ => Some(Frame::GoAway { last: Some(id), status: GoAwayStatus(u32::from(more)) }),
        };
        if let Some(frame) = frame {
            // What cannot be written is left out.
            let _written = encoder.encode(&frame, &mut out);
        }
    }
    out.to_vec()
}
