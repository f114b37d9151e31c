//! What the crate promises to its callers, through its public API alone; and that it understands, and is understood by,
//! the Go implementations that kubectl and kube-apiserver are built from.

#[cfg(test)]
mod connection;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod frames_property;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod session;
#[cfg(test)]
mod session_limits;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tunnel;
#[cfg(test)]
mod websocket;
