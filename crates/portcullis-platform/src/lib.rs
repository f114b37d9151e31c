//! Trust configuration of Kubernetes platforms, one file per platform: text in, text out.
//!
//! So far [`kind`]: a kind cluster config is read for the API server flags, the address and the port it asks for, so that
//! `portcullis up` can serve the same cluster without kind. Nothing here opens a file, a socket or an environment variable.

pub mod kind;

mod document;

pub use document::{Place, Warning, WrongType, nearest};
