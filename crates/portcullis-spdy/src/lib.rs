//! The stream framing that kubectl uses for port-forward, exec and attach: SPDY/3.1, WebSocket, and SPDY/3.1 inside
//! WebSocket messages.
//!
//! Everything stands on cores without I/O, which take bytes and the time and give events and bytes, so that a fuzzer can
//! drive them; [`connect`] and [`websocket::Tunnel`] put them on any transport of tokio's.
//!
//! - [`frame`]: SPDY/3.1 frames, the header block and its compression.
//! - [`Session`]: streams, flow control, limits: what the frames mean. No I/O.
//! - [`connect`]: a [`Session`] on a transport; each stream reads and writes like a socket.
//! - [`websocket`]: RFC 6455 frames, handshake, Kubernetes' channel protocols, and the tunnel.
//!
//! The flow of a port-forward at the server: the HTTP upgrade is answered ([`websocket::handshake`]) → the transport, or
//! a [`websocket::Tunnel`] over it, goes into [`connect`] → [`Connection::accept`] → [`Incoming::accept`] → [`Stream`].
//!
//! Both roles are built from the same core. The peers met in practice run `github.com/moby/spdystream`, which differs
//! from the SPDY/3.1 draft; the differences that matter are at [`FlowControl`] and in docs/decisions/0014.
//!
//! The crate reads no clock but tokio's timers, no file, no environment and no randomness: time and masking keys are
//! inputs. It knows no Kubernetes object and never logs what streams carry.

mod connection;
mod dictionary;
mod error;
pub mod frame;
mod headers;
mod limits;
mod pace;
mod session;
pub mod websocket;
mod zlib;

pub use connection::{Connection, ConnectionError, Driver, Incoming, OpenError, Stream, connect};
pub use error::SessionError;
pub use headers::{Headers, HeadersError};
pub use limits::{Config, FlowControl, Limits};
pub use session::{Cause, Event, Session, StreamError, StreamOptions};

/// Which end of a connection this is. The client made the transport's connection; it opens odd streams and, in
/// WebSocket, masks what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that connected.
    Client,
    /// The end that was connected to.
    Server,
}
