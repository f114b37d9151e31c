//! Local passwords: hashes, the bounded pool that computes them, what slows down guessing, and the check itself.

mod budget;
mod check;
mod hash;
mod pool;
mod throttle;

pub(crate) use check::{Attempt, LocalPasswords, Outcome, PasswordError, account_name};
pub use hash::{BcryptHash, HashError};
pub(crate) use pool::HashPool;
pub(crate) use throttle::Throttle;
