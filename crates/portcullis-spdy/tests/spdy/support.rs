//! Helpers of several test modules.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use portcullis_spdy::frame::{Decoded, Decoder, Encoder, Frame, FrameError, StreamId};
use portcullis_spdy::{Config, Event, Headers, Limits, Role, Session, SessionError};

pub(crate) fn id(number: u32) -> StreamId {
    StreamId::new(number).expect("a stream number")
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.append(name, (*value).to_owned()).expect("a good header");
    }
    headers
}

/// Header blocks as deflate's stored blocks, written by hand (RFC 1950, RFC 1951): the first with zlib's header and the
/// dictionary's id.
pub(crate) fn stored(first: bool, plain: &[u8]) -> Vec<u8> {
    let mut bytes = if first { vec![0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2] } else { Vec::new() };
    let length = u16::try_from(plain.len()).expect("a short block");
    bytes.push(0);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&(!length).to_le_bytes());
    bytes.extend_from_slice(plain);
    bytes
}

/// A control frame by hand.
pub(crate) fn control(kind: u8, flags: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let length = u32::try_from(body.len()).expect("a length").to_be_bytes();
    [&[0x80, 0x03, 0x00, kind, flags, length[1], length[2], length[3]], body.as_slice()].concat()
}

/// Everything a decoder finds in `bytes`.
pub(crate) fn decode(limits: &Limits, bytes: &[u8]) -> Result<Vec<Decoded>, FrameError> {
    let mut decoder = Decoder::new(limits);
    let mut input = BytesMut::from(bytes);
    let mut found = Vec::new();
    while let Some(decoded) = decoder.decode(&mut input)? {
        found.push(decoded);
    }
    assert!(input.is_empty() || found.is_empty(), "{} bytes left", input.len());
    Ok(found)
}

/// The frames of an output.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Frame> {
    let found = decode(&Limits::default(), bytes).expect("frames");
    found
        .into_iter()
        .map(|decoded| match decoded {
            Decoded::Frame(frame) => frame,
            other @ Decoded::Malformed { .. } => panic!("{other:?}"),
        })
        .collect()
}

/// One session, and a peer who sends whatever frames a test likes.
pub(crate) struct Bench {
    pub(crate) session: Session,
    pub(crate) start: Instant,
    encoder: Encoder,
    decoder: Decoder,
    output: BytesMut,
}

impl Bench {
    pub(crate) fn new(role: Role, config: &Config) -> Self {
        let start = Instant::now();
        let mut bench = Self {
            session: Session::new(role, config, start),
            start,
            encoder: Encoder::new(),
            decoder: Decoder::new(&Limits::default()),
            output: BytesMut::new(),
        };
        let opening = bench.sent();
        assert!(matches!(opening.first(), Some(Frame::Settings { .. })), "{opening:?}");
        bench
    }

    pub(crate) fn server() -> Self {
        Self::new(Role::Server, &Config::default())
    }

    pub(crate) fn client() -> Self {
        Self::new(Role::Client, &Config::default())
    }

    /// What the session sent since last asked.
    pub(crate) fn sent(&mut self) -> Vec<Frame> {
        self.session.take_output(self.start, &mut self.output);
        let mut frames = Vec::new();
        while let Some(decoded) = self.decoder.decode(&mut self.output).expect("frames") {
            match decoded {
                Decoded::Frame(frame) => frames.push(frame),
                other @ Decoded::Malformed { .. } => panic!("{other:?}"),
            }
        }
        frames
    }

    pub(crate) fn receive(&mut self, frame: Frame) -> Vec<Event> {
        self.try_receive(frame).expect("a session that goes on")
    }

    pub(crate) fn try_receive(&mut self, frame: Frame) -> Result<Vec<Event>, SessionError> {
        self.receive_at(Duration::ZERO, frame)
    }

    pub(crate) fn receive_at(&mut self, after: Duration, frame: Frame) -> Result<Vec<Event>, SessionError> {
        let mut input = BytesMut::new();
        self.encoder.encode(&frame, &mut input).expect("a good frame");
        self.receive_bytes(after, &mut input)
    }

    pub(crate) fn receive_bytes(&mut self, after: Duration, input: &mut BytesMut) -> Result<Vec<Event>, SessionError> {
        let mut events = Vec::new();
        while let Some(event) = self.session.receive(self.start + after, input)? {
            events.push(event);
        }
        Ok(events)
    }

    /// The peer opens a stream.
    pub(crate) fn open(&mut self, number: u32) -> Vec<Event> {
        self.receive(syn(number))
    }
}

pub(crate) fn syn(number: u32) -> Frame {
    Frame::SynStream {
        id: id(number),
        associated: None,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: Headers::new(),
    }
}

pub(crate) fn data(number: u32, payload: &'static [u8], fin: bool) -> Frame {
    Frame::Data { id: id(number), fin, payload: Bytes::from_static(payload) }
}

/// Bytes that depend on where they are and on a seed: what arrives out of place is seen.
pub(crate) fn pattern(seed: u32, from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|place| pattern_byte(seed, place)).collect()
}

pub(crate) fn pattern_byte(seed: u32, place: usize) -> u8 {
    let place = u32::try_from(place).expect("a place");
    let mixed = place.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 13;
    mixed.to_le_bytes()[0]
}
