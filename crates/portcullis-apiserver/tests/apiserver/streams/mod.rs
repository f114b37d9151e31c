//! Connections that leave HTTP, with real kubectl.

mod again;
mod exec;
mod logs;
mod port_forward;
mod socket;
