//! One file per command of kubelogin.

pub(crate) mod clean;
pub(crate) mod get_token;
pub(crate) mod setup;
