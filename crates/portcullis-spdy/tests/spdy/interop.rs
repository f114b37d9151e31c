//! Against the Go libraries that kubectl and kube-apiserver are built from (`peers/stream-peer`), both ways, over
//! loopback: plain SPDY, SPDY in WebSocket messages, and the channel protocols.
//!
//! These fail without `PORTCULLIS_PEERS`, the folder of the peers: `cargo xtask test` builds them.

mod channels;
mod harness;
mod streams;
