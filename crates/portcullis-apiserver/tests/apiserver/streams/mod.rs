//! Connections that leave HTTP, with real kubectl.

mod logs;
mod port_forward;
mod socket;
