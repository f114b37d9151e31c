//! Listeners: HTTP/1.1 and HTTP/2 over TLS or plain TCP, with a limit on everything a peer can do.
//!
//! Flow: [`bind`] → [`serve`] accepts, up to the connection limits → handshake or first byte within its timeout →
//! hyper, inside a guard that ends silent, slow and stalled connections → the [`Handler`], with [`ConnInfo`] in the
//! request's extensions → on shutdown no new connections, running requests finish within the drain time.
//!
//! It must never wait for a peer without a limit, and never serve plain http to anyone but loopback where TLS is on.

mod body;
mod connection;
mod context;
mod guard;
mod handler;
mod limits;
mod listen;
mod response;
mod upgrade;

pub use body::{Body, BodyError, empty, fits, full, read_body, stream, until};
pub use connection::{ConnInfo, Transport};
pub use context::{ClientIp, RequestId, with_context};
pub use handler::{Handler, Request, Response, ResponseFuture, handler_fn, respond};
pub use limits::ServerLimits;
pub use listen::{bind, serve, serve_stream, serve_stream_as};
pub use upgrade::{Upgrade, Upgraded};
