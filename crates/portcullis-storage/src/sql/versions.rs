//! Version numbers that no other process, now or later, has.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{KernelError, Trouble};

/// Versions that a process takes at once. Those it does not use are never used.
pub(crate) const VERSION_BLOCK: i64 = 1 << 20;

/// The block that this process has taken.
#[derive(Default)]
pub(crate) struct Versions {
    block: Mutex<Block>,
    /// Held while a new block is being taken, so that many callers take one.
    pub(crate) taking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Block {
    next: i64,
    end: i64,
}

impl Versions {
    /// The next number; `None` when the block is used up.
    pub(crate) fn next(&self) -> Option<i64> {
        let mut block = self.lock();
        let next = block.next;
        (next < block.end).then(|| {
            block.next += 1;
            next
        })
    }

    /// The block that ends before `end` has been taken.
    pub(crate) fn taken(&self, end: u64) -> Result<(), KernelError> {
        let end = i64::try_from(end).ok().filter(|end| *end > VERSION_BLOCK);
        let end = end.ok_or_else(|| {
            KernelError::not_applied(Trouble::Other("the store has no version numbers left".to_owned()))
        })?;
        *self.lock() = Block { next: end - VERSION_BLOCK, end };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Block> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_each_of_its_numbers_once() {
        let versions = Versions::default();
        assert_eq!(versions.next(), None);
        versions.taken(u64::try_from(VERSION_BLOCK).unwrap() + 1).unwrap();
        assert_eq!((versions.next(), versions.next()), (Some(1), Some(2)));
        versions.lock().next = VERSION_BLOCK;
        assert_eq!((versions.next(), versions.next()), (Some(VERSION_BLOCK), None));
        assert!(versions.taken(3).is_err() && versions.taken(u64::MAX).is_err());
        assert_eq!(versions.next(), None);
    }
}
