//! The dev API server: unmodified kubectl works against it, and its answers are those of a real kube-apiserver.
//!
//! Flow of a request: `server` (TLS, body limits) → `engine` (authenticate → impersonate → authorize → route) → a file of
//! `handlers` (writes ask `admission`) → `store` → an answer in the negotiated form. `resources` says what is served, `schema` what objects look
//! like, `table` what `kubectl get` prints, `watch` streams changes, `streams` is what becomes of a connection that leaves HTTP.
//!
//! All state is in memory. Only Portcullis' own parts run as pods ([`Seed::part`]); a pod that a user creates stays Pending
//! and says why. It never knows the provider: tokens of every issuer are treated alike.

mod admission;
mod audit;
mod authenticate;
mod bootstrap;
mod controllers;
mod deletion;
mod discovery;
mod engine;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handlers;
mod http;
mod impersonate;
mod json;
mod large;
mod openapi;
mod parts;
mod policy;
mod resources;
mod schema;
mod seed;
mod selector;
mod server;
mod service_account;
mod store;
mod streams;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_urls;
mod watch;
#[cfg(any(test, fuzzing))]
mod world;

pub use audit::{AuditError, AuditLog, AuditMode, AuditOptions, AuditPolicy, AuditPolicyError};
pub use authenticate::TokenAuthenticator;
pub use parts::{
    Ended, PART_ANNOTATION, Part, PartControl, PartEvent, PartPort, PartSignal, PartSocket, PartState, PartStatus,
};
pub use seed::{Seed, SeedError};
pub use server::{ApiServer, ApiServerConfig, Front, GIT_VERSION, Running, StartError};
pub use service_account::ISSUER as SERVICE_ACCOUNT_ISSUER;
pub use store::StoreLimits;
pub use store::kept::KeptError;
pub use streams::StreamLimits;
