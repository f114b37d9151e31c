//! What the crate promises to its callers, through its public API alone.

#[cfg(test)]
mod connection;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod frames_property;
#[cfg(test)]
mod session;
#[cfg(test)]
mod session_limits;
#[cfg(test)]
mod support;
