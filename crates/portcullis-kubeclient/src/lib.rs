//! A small client for real clusters: what the parts of Portcullis need of an API server, and nothing more.
//!
//! Flow: [`Access`] (a kubeconfig file, or a pod's service account) → [`Client::new`] → `get`, `list`, `create`, `replace`,
//! `patch`, `delete`, `watch` of one [`Resource`] (or [`follow`], which lists and watches for ever) → [`ClientError`], which says whether a write that failed may have happened all the same.
//! Every call has a deadline; throttling (429) and connections that could not be made are waited out within it; a request
//! that may have been carried out is never sent again, unless it only reads.
//!
//! It knows no object's meaning, and a token's only so far that it may name a namespace. Why it does not stand on the `kube`
//! crate: docs/decisions/0032.

mod access;
mod client;
mod credential;
mod error;
mod follow;
mod kubeconfig;
mod resource;
mod watch;

pub use access::{Access, AccessError, InCluster};
pub use client::Client;
pub use error::ClientError;
pub use follow::{Follower, Listed, follow};
pub use portcullis_kube::{
    meta::{ListMeta, Preconditions},
    yaml,
};
pub use resource::{Form, List, ListQuery, Part, Resource};
pub use tokio::time::Instant;
pub use watch::{Event, Watch};
