//! The sign-in plugin: kubelogin's commands, flags, streams, exit codes and token cache, on `portcullis-oidc`.
//!
//! [`run`] is the whole program; both binaries call it. The flow of `get-token` is in `commands/get_token.rs`: cache hit
//! → print, with nothing started; else lock → refresh or sign in (`grant/`, `callback/`, `browser.rs`) → verify → save →
//! print.
//!
//! This crate never knows our own provider: to it every issuer is a stranger. It never shows a token, code, password or
//! client secret at any verbosity, and stdout carries nothing but the credential, help and completion. Every difference
//! from kubelogin is in `docs/compat/kubelogin.md`.

mod browser;
mod cache;
mod callback;
mod commands;
mod completion;
mod console;
mod encoding;
mod error;
mod exec_credential;
mod flags;
mod grant;
mod help;
mod jwt;
mod options;
mod paths;
mod pflag;
mod run;
mod session;
mod setup_text;
mod trust;
mod world;

pub use browser::{Browser, Opening, SystemBrowser};
pub use run::run;
pub use trust::trust_file;
pub use world::{Env, Io, Outcome};
