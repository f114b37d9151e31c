//! Connections that leave HTTP, with real kubectl.

mod exec;
mod logs;
mod port_forward;
mod socket;
