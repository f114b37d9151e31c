//! Wire types of Kubernetes: what its API server, kubectl and client-go read and write, byte for byte where they compare.
//!
//! Types mirror `k8s.io/api` and `k8s.io/apimachinery` v0.37.2 in field order, because Go prints JSON in that order.
//! [`go::to_json`] writes the same bytes as Go's encoder; [`status`] builds the error bodies; [`kubeconfig`] keeps what it does
//! not know. Nothing here does I/O, knows a transport, reads a clock, or decides who may do what.

pub mod authentication;
pub mod authentication_config;
pub mod authorization;
pub mod discovery;
pub mod exec_credential;
pub mod field;
pub mod go;
pub mod kubeconfig;
pub mod meta;
pub mod names;
pub mod query;
pub mod rbac;
pub mod secret;
pub mod status;
pub mod table;
pub mod timestamp;
pub mod user_info;
pub mod yaml;

mod wire;

pub use exec_credential::ExecCredential;
pub use kubeconfig::Kubeconfig;
pub use meta::ObjectMeta;
pub use query::Query;
pub use secret::SecretText;
pub use status::Status;
pub use timestamp::Time;
pub use user_info::UserInfo;
