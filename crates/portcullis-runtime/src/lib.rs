//! What every Portcullis program stands on and no protocol knows: time, randomness, secrets, shutdown, listeners with
//! TLS, the HTTP client, logs, metrics and health.
//!
//! Time, randomness and the network are inputs: everything above this crate takes a [`Clock`], an [`Rng`] and an
//! `http_client::HttpClient` as values, so that an eight-hour session is tested in milliseconds.
//!
//! Features (none by default): `client` (HTTP client), `server` (listeners, TLS, client address), `http1-server` (the
//! same without HTTP/2), `telemetry` (logs, metrics, health).
//!
//! This crate never knows OIDC or Kubernetes, never reads the environment, and never holds a lock across an await.

mod clock;
mod error;
#[cfg(feature = "client")]
pub mod http_client;
mod log_ring;
pub mod net;
#[cfg(feature = "http1-server")]
pub mod real_ip;
mod rng;
mod secret;
#[cfg(feature = "http1-server")]
pub mod server;
pub mod shutdown;
#[cfg(feature = "telemetry")]
pub mod telemetry;
mod timestamp;
#[cfg(any(feature = "http1-server", feature = "client"))]
pub mod tls;

pub use clock::{Clock, MockClock};
pub use error::chain;
pub use log_ring::{LogLine, LogRing, LogRingLimits};
pub use rng::Rng;
pub use secret::Secret;
pub use shutdown::Shutdown;
pub use timestamp::{Timestamp, unix_seconds};
