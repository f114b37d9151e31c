//! Where Portcullis keeps what must outlive a request.
//!
//! Below is the [`Kernel`]: seven operations over versioned records, the same on every backend ([`MemoryKernel`],
//! [`SqliteKernel`], [`PostgresKernel`], [`MySqlKernel`], [`EtcdKernel`], [`KubernetesKernel`]). Above are the typed facades of
//! a [`Store`]: sign-ins, codes, refresh token families, keys, clients, passwords, connectors, failure counters, leases. Each transition has one
//! deciding record that is changed first by compare-and-swap; every other write is derived from it, idempotent, and redone by
//! whoever finds it missing. The invariants that follow from this are named in `docs/store-invariants.md`, each with the test
//! that checks it.
//!
//! A write whose reply was lost is recognised by its request nonce, which every write leaves in its record. Nothing that
//! a client presents (code, refresh token) is stored; other secrets are sealed when a key-encryption key is given.
//!
//! This crate never knows HTTP, grants or who calls it, and never reads the clock or draws a random number but through
//! the [`Clock`](portcullis_runtime::Clock) and [`Rng`](portcullis_runtime::Rng) that it was given.

mod backup;
mod batch;
mod changes;
mod clients;
mod codes;
mod collect;
mod configured;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connectors;
mod document;
mod error;
mod etcd;
mod failures;
mod families;
mod identity;
mod inspect;
mod judgement;
pub mod kernel;
mod kubernetes;
mod layout;
mod leases;
mod logins;
mod memory;
mod migrations;
mod mysql;
mod passwords;
mod patience;
mod postgres;
mod requests;
mod seal;
mod sealing_keys;
mod signing_keys;
mod snapshot;
mod sql;
mod sqlite;
mod stamp;
mod store;

pub use backup::{
    BackedUp, BackupError, BackupFile, BackupHeader, FillError, FillOptions, Filled, MAX_LINE_BYTES, Scope, copy_store,
    restore_backup, write_backup,
};
pub use changes::{Change, Changes, Feed, MAX_CHANGED_IDS};
pub use clients::{Client, ClientCredentialsClaims, Clients, WriteError};
pub use codes::{CodeError, CodeGrant, Codes, OpenCode, Pkce, RedeemedCode};
pub use collect::Collected;
pub use connectors::{Connector, Connectors};
pub use error::{Applied, KernelError, StoreError, Trouble};
pub use etcd::{EtcdClientCertificate, EtcdCredentials, EtcdKernel, EtcdOpenError, EtcdOptions, EtcdTls};
pub use failures::{FailureCounters, Failures, Subject};
pub use families::{
    CreateError, EndReason, Families, Family, FamilyId, MAX_FAMILIES, NewFamily, OpenFamily, RefreshError,
    RefreshToken, Refreshed, RotationPolicy,
};
pub use identity::Identity;
pub use inspect::{Checked, Finding, KindCensus};
pub use judgement::Configured;
pub use kernel::{Kernel, Verdict};
pub use kubernetes::{CrdHandling, KubernetesAccess, KubernetesError, KubernetesKernel, KubernetesOptions};
pub use leases::{Candidate, Duty, LEASE_LIFETIME, Leases, Tenure, UseError};
pub use logins::{CodeRequest, IssuedCode, Login, LoginError, LoginState, Logins, NewLogin};
pub use memory::MemoryKernel;
#[cfg(feature = "conformance")]
pub use migrations::Migration;
pub use mysql::{MySqlKernel, MySqlServer};
pub use passwords::{Password, Passwords, lower_case_email};
pub use portcullis_kubeclient::InCluster;
pub use postgres::{PostgresKernel, PostgresServer};
pub use requests::{RequestError, RequestOrigin, Requests};
pub use seal::{
    DataKeyBytes, DataKeySummary, FieldCounts, KeyEncryption, KeyEncryptionKey, KeyEncryptionKeyError,
    KeyEncryptionKeySummary, KeyWrapper, PUBLISH_BEFORE, SealingError, SealingState, SealingSummary, SecretBytes,
    Sweep, SweepStep, Unlocked, VaultToken, VaultTransit, VaultTransitOptions, WrapError, WrapFuture,
};
pub use sealing_keys::{SealingKey, SealingKeys, SealingPolicy, SealingRing};
pub use signing_keys::{Loaded, SigningKeyRecord, SigningKeySet, SigningKeys};
pub use snapshot::{Batch, Gone, Sink, Snapshot};
pub use sql::{SqlOpenError, SqlOptions, SqlTls, SqlTlsMode};
pub use sqlite::{OpenError, SqliteKernel, SqliteOptions};
pub use store::{Store, StoreOptions};
