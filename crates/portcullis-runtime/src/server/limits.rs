//! What a peer may cost a listener.

use std::time::Duration;

/// Limits of a listener. All are enforced; the defaults suit a public provider and a development API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Largest request head in bytes (at least 8 KiB). Beyond: 431. Default: 64 KiB.
    pub header_bytes: usize,
    /// Most header fields of an HTTP/1.1 request. Beyond: 431. Default: 100.
    pub header_count: usize,
    /// From the first byte of a request head (or from the connection's start) to its last. Default: 10 s.
    pub header_timeout: Duration,
    /// How long a connection may stay open without a request. Default: 75 s.
    pub idle_timeout: Duration,
    /// How long a peer may leave responses untaken. Default: 60 s.
    pub write_timeout: Duration,
    /// For the TLS handshake, from the first byte. Default: 10 s.
    pub handshake_timeout: Duration,
    /// Connections at a time. Beyond: new ones wait in the kernel's queue. Default: 10,000.
    pub max_connections: usize,
    /// Connections of one address at a time. Beyond: closed. Default: 5,000, so that one address cannot take all.
    pub max_connections_per_peer: usize,
    /// HTTP/2 streams of a connection at a time. Default: 250.
    pub http2_max_concurrent_streams: u32,
    /// How often a silent HTTP/2 peer is asked whether it is still there. Default: 30 s.
    pub http2_keep_alive: Duration,
    /// How long running requests may take after shutdown was asked for. Default: 10 s.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            header_bytes: 64 * 1024,
            header_count: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            max_connections_per_peer: 5_000,
            http2_max_concurrent_streams: 250,
            http2_keep_alive: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}
