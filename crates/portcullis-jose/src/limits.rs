//! Upper bounds on what a stranger can make this crate read.
//!
//! Each bound is checked before the work that it bounds.

/// Limits of tokens and key sets. [`Limits::default`] suits every issuer met in practice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest compact token, in bytes. Default 64 KiB.
    pub token_bytes: usize,
    /// Longest decoded JOSE header, in bytes. Default 8 KiB (a header with an `x5c` chain has a few).
    pub header_bytes: usize,
    /// Most members of a JOSE header. Default 32.
    pub header_members: usize,
    /// Longest key id, in bytes, in a token or a key set. Default 512.
    pub kid_bytes: usize,
    /// Largest key set document, in bytes. Default 1 MiB.
    pub set_bytes: usize,
    /// Most keys of a set, usable or not. Default 100.
    pub set_keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            token_bytes: 64 * 1024,
            header_bytes: 8 * 1024,
            header_members: 32,
            kid_bytes: 512,
            set_bytes: 1024 * 1024,
            set_keys: 100,
        }
    }
}
