//! Connections that leave HTTP, with real kubectl.

mod port_forward;
mod socket;
