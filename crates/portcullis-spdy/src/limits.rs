//! What a peer may make us hold or do, and how flow control is taken.

use std::time::Duration;

/// Bounds on what a peer can cause. [`Limits::default`] suits kubectl.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest control frame, in bytes without its 8-byte header. The draft asks for at least 8,192. Default 64 KiB.
    pub control_frame: usize,
    /// Longest header block as sent, in bytes. Default 32 KiB.
    pub compressed_block: usize,
    /// Longest header block once decompressed, in bytes. Default 64 KiB.
    pub header_block: usize,
    /// Most values in a header block, over all names. Default 256.
    pub headers: usize,
    /// Most entries of a SETTINGS frame. Default 32.
    pub settings: usize,
    /// Most streams that the peer has open at once; more are refused. A stream counts until our side has let go of it,
    /// so that opening and resetting in turn gains nothing. Default 1,024.
    pub streams: usize,
    /// Bytes of one stream that were received and not yet read by our side. A peer that keeps to its windows stays below
    /// by itself; from another nothing more is read until the stream's reader has caught up. One piece more, of 64 KiB,
    /// may be held. Default 256 KiB.
    pub stream_buffer: usize,
    /// The same for all streams together. Default 4 MiB.
    pub connection_buffer: usize,
    /// Bytes of output that wait for the transport. Streams are not written to above this, and nothing is read at twice
    /// this, so that a peer which asks and does not listen gets no memory. Default 128 KiB.
    pub output: usize,
    /// PING and SETTINGS frames that are answered within [`Limits::ping_interval`]; one more ends the session. Default 64.
    pub pings: u32,
    /// See [`Limits::pings`]. Default 10 s.
    pub ping_interval: Duration,
    /// Without a frame in either direction for this long, the session ends. kubectl pings every 5 or 10 seconds. Default
    /// 4 hours, as kubelet's.
    pub idle: Option<Duration>,
    /// How long a stream that nobody reads may keep a peer without flow control from the other streams, before it is
    /// reset. `None` leaves them waiting, which an exec session wants: a program that does not read its input for a while
    /// must not lose it. Default 30 s.
    pub stall: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control_frame: 64 * 1024,
            compressed_block: 32 * 1024,
            header_block: 64 * 1024,
            headers: 256,
            settings: 32,
            streams: 1_024,
            stream_buffer: 256 * 1024,
            connection_buffer: 4 * 1024 * 1024,
            output: 128 * 1024,
            pings: 64,
            ping_interval: Duration::from_secs(10),
            idle: Some(Duration::from_secs(4 * 60 * 60)),
            stall: Some(Duration::from_secs(30)),
        }
    }
}

/// How windows are taken (SPDY/3.1 draft, section 2.6.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowControl {
    /// Windows count in both directions as soon as the peer shows that it counts, by announcing one; a peer that sends
    /// more than its window is read more slowly.
    ///
    /// Compat: `github.com/moby/spdystream` v0.5.1, and so kubectl, kubelet and the container runtimes, knows no windows:
    /// it neither sends SETTINGS or WINDOW_UPDATE nor looks at them, and sends without counting. Whoever waited for its
    /// WINDOW_UPDATE would wait for ever after 64 KiB. It is sent none but that of the opening.
    #[default]
    Lenient,
    /// Windows count from the first byte, as the draft has it; a stream that exceeds its own is reset. For ends that are
    /// both ours.
    Strict,
}

/// How a session behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bounds on what the peer can cause.
    pub limits: Limits,
    /// How windows are taken.
    pub flow: FlowControl,
    /// Bytes that the peer may send on a stream before our side has read them; at most [`Limits::stream_buffer`]
    /// counts. Default 64 KiB, the draft's.
    pub window: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { limits: Limits::default(), flow: FlowControl::default(), window: 64 * 1024 }
    }
}
