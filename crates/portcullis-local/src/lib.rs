//! What joins the roles on one machine: `up` and `down`, and the dev API server alone.
//!
//! It reads the guide's files, makes a local authority, starts the provider and the dev API server in this process, writes
//! a kubeconfig, and signs the demo user in through the real pages. It binds loopback addresses only, keeps everything in
//! one state folder, and changes nothing outside it unless asked (`--kubeconfig`, `--trust`), which `down` undoes.

pub mod apiserver;
mod authentication;
pub mod ca;
pub mod check;
pub mod down;
pub mod form;
pub mod kubeconfig;
mod plugin_link;
pub mod ports;
pub mod process;
pub mod state;
pub mod steps;
mod supervisor;
pub mod system_trust;
pub mod table;
mod trust_folder;
pub mod up;
