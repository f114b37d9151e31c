//! What the crate promises to its callers, through its public API alone.

#[cfg(test)]
mod hostile_keys;
#[cfg(test)]
mod hostile_tokens;
#[cfg(test)]
mod never_panics;
#[cfg(test)]
mod signing;
#[cfg(test)]
mod support;
#[cfg(test)]
mod vectors;
