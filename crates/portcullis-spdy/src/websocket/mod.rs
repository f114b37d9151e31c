//! WebSocket (RFC 6455) as Kubernetes uses it, in both roles and without extensions.
//!
//! - [`handshake`]: what an upgrade asks for, and its answer.
//! - [`Codec`]: frames and messages, without I/O. Messages are handed on in pieces: `kubectl` may send one of any length,
//!   in fragments of 33 KiB.
//! - [`Tunnel`]: bytes in binary messages, as something to read from and write to: SPDY/3.1 goes through it under the
//!   subprotocol `SPDY/3.1+portforward.k8s.io`.
//! - [`channel`]: the channel protocols of exec and attach.
//!
//! Why no library does this: docs/decisions/0014.

pub mod channel;
mod close;
mod codec;
pub mod handshake;
mod header;
mod mask;
mod tunnel;
mod utf8;

use std::time::Duration;

pub use close::{Close, CloseCode};
pub use codec::{Codec, Event, Kind, WebSocketError};
pub use mask::MaskKeys;
pub use tunnel::Tunnel;

/// Bounds on what a WebSocket peer can cause. [`Limits::default`] suits kubectl.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest payload of a frame, in bytes. Payloads are not collected, so this costs no memory. Default 16 MiB + 64 KiB,
    /// which holds the largest SPDY frame.
    pub frame: u64,
    /// Longest message, in bytes. Messages are not collected either. Default 64 MiB.
    pub message: u64,
    /// Most frames of a message. Default 4,096.
    pub fragments: u32,
    /// Pings that are answered within [`Limits::ping_interval`]; one more ends the connection. Default 64.
    pub pings: u32,
    /// See [`Limits::pings`]. Default 10 s.
    pub ping_interval: Duration,
    /// Without a byte from the peer for this long, the connection ends. kubectl's exec pings every 5 seconds. Default 4
    /// hours, as kubelet's.
    pub idle: Option<Duration>,
    /// Bytes of output that wait for the transport. Nothing is read above this, so that a peer which asks and does not
    /// listen gets no memory. Default 128 KiB.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: (16 << 20) + (64 << 10),
            message: 64 << 20,
            fragments: 4_096,
            pings: 64,
            ping_interval: Duration::from_secs(10),
            idle: Some(Duration::from_secs(4 * 60 * 60)),
            output: 128 * 1024,
        }
    }
}
