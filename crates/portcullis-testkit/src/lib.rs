//! What the tests of several crates share: a certificate authority, a scripted issuer, child processes that end with
//! their test, and the real programs (kube-apiserver, etcd, kubectl, the oracle, PostgreSQL,
//! MariaDB) with a way to start them, a stand-in for Vault's transit engine, and a proxy that loses what passes
//! through it.
//!
//! Everything listens on loopback at a port of its own, keeps its files in a temporary folder, and stops when dropped.
//! Helpers panic with the reason where a test cannot go on. This crate is for tests only; nothing that ships uses it.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up has failed")]

mod ca;
mod child;
mod control_plane;
#[cfg(unix)]
mod databases;
mod etcd;
mod fault_proxy;
mod issuer;
mod key_script;
mod peers;
mod ports;
mod transit;

pub use ca::{Leaf, TestCa, Validity};
pub use child::ChildGuard;
pub use control_plane::ControlPlane;
#[cfg(unix)]
pub use databases::{Database, DatabaseKind, DatabaseOptions};
pub use etcd::Etcd;
pub use fault_proxy::{FaultProxy, Traffic};
pub use issuer::{FakeIssuer, IssuerOptions, Recorded, Reply};
pub use key_script::{KeyAudience, KeyBody, KeyReply, KeyRing, KeyScript, KeyStep, KeyTrace, verdict};
pub use peers::{Peer, peer, peers_folder};
pub use portcullis_runtime::http_client::{HttpClient, HttpResponse};
pub use portcullis_runtime::{Clock, MockClock, Rng, Timestamp};
pub use ports::{free_port, free_ports};
pub use tempfile::TempDir;
pub use transit::{TransitGrant, TransitStandIn};

/// A temporary folder that is removed with its value.
#[must_use]
pub fn temp_dir() -> TempDir {
    tempfile::Builder::new().prefix("portcullis-").tempdir().expect("a temporary folder")
}
