//! Local passwords: hashes, the bounded pool that computes them, and what slows down guessing.

mod hash;
mod pool;

pub use hash::{BcryptHash, HashError};
