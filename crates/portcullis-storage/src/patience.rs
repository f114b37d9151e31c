//! Asking a store again that does not answer.

use std::time::Duration;

use tokio::time::sleep;

/// How often a call is made while the store does not take it, and the pause before the second time; it doubles.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);

/// What one call has left of it.
pub(crate) struct Patience {
    left: u32,
    pause: Duration,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { left: ATTEMPTS - 1, pause: PAUSE }
    }

    /// Waits before the call is made again; gives the failure back when it was the last time, or when `again` says that it would fare no
    /// better.
    pub(crate) async fn after<E>(&mut self, failure: E, again: impl FnOnce(&E) -> bool) -> Result<(), E> {
        if self.left == 0 || !again(&failure) {
            return Err(failure);
        }
        sleep(self.pause).await;
        self.left -= 1;
        self.pause *= 2;
        Ok(())
    }
}
