//! Local passwords: hashes, the bounded pool that computes them, what slows down guessing, and the check itself.

mod check;
mod hash;
mod pool;
mod throttle;

pub(crate) use check::{LocalPasswords, Outcome, PasswordError};
pub use hash::{BcryptHash, HashError};
pub(crate) use pool::HashPool;
pub(crate) use throttle::Throttle;
