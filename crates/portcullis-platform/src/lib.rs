//! Trust configuration of Kubernetes platforms, one file per platform: text in, text out.
//!
//! [`kind`]: a kind cluster config is read for the API server flags, the address and the port it asks for, so that
//! `portcullis up` can serve the same cluster without kind. [`kubeadm`] and [`k3s`]: the API server flags of their files, for
//! `portcullis check`. Nothing here opens a file, a socket or an environment variable.

pub mod k3s;
pub mod kind;
pub mod kubeadm;

mod document;
mod parts;

pub use document::{Place, Warning, WrongType, nearest};
pub use parts::{Format, detect};
