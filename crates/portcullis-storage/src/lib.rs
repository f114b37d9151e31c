//! Where Portcullis keeps what must outlive a request.
//!
//! Below is the [`Kernel`]: seven operations over versioned records, the same on every backend ([`MemoryKernel`],
//! [`SqliteKernel`]). Above are the typed facades of a [`Store`]: sign-ins, codes, refresh token families, keys,
//! clients, passwords, failure counters. Each transition has one deciding record that is changed first by
//! compare-and-swap; every other write is derived from it, idempotent, and redone by whoever finds it missing. The
//! invariants that follow from this are named in `docs/store-invariants.md`, each with the test that checks it.
//!
//! A write whose reply was lost is recognised by its request nonce, which every write leaves in its record. Nothing that
//! a client presents (code, refresh token) is stored; other secrets are sealed when a key-encryption key is given.
//!
//! This crate never knows HTTP, grants or who calls it, and never reads the clock or draws a random number but through
//! the [`Clock`](portcullis_runtime::Clock) and [`Rng`](portcullis_runtime::Rng) that it was given.

mod clients;
mod codes;
#[cfg(feature = "conformance")]
pub mod conformance;
mod document;
mod error;
mod failures;
mod families;
mod identity;
pub mod kernel;
mod logins;
mod memory;
mod passwords;
mod requests;
mod seal;
mod sealing_keys;
mod signing_keys;
mod sqlite;
mod stamp;
mod store;

pub use clients::{Client, ClientCredentialsClaims, Clients, WriteError};
pub use codes::{CodeError, CodeGrant, Codes, OpenCode, Pkce, RedeemedCode};
pub use error::{Applied, KernelError, StoreError, Trouble};
pub use failures::{FailureCounters, Failures, Subject};
pub use families::{
    CreateError, EndReason, Families, Family, FamilyId, MAX_FAMILIES, NewFamily, OpenFamily, RefreshError,
    RefreshToken, Refreshed, RotationPolicy,
};
pub use identity::Identity;
pub use kernel::Kernel;
pub use logins::{CodeRequest, IssuedCode, Login, LoginError, LoginState, Logins, NewLogin};
pub use memory::MemoryKernel;
pub use passwords::{Password, Passwords, lower_case_email};
pub use requests::{RequestError, RequestOrigin, Requests};
pub use seal::{KeyEncryption, KeyEncryptionKey, KeyEncryptionKeyError, SecretBytes};
pub use sealing_keys::{SealingKey, SealingKeys, SealingPolicy, SealingRing};
pub use signing_keys::{Loaded, SigningKeyRecord, SigningKeySet, SigningKeys};
pub use sqlite::{OpenError, SqliteKernel, SqliteOptions};
pub use store::{Collected, Store, StoreOptions};
