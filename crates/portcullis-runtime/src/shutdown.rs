//! Orderly end of a program: one token that everything long-running listens to.

use tokio_util::sync::CancellationToken;

/// A request to stop. Cheap to clone; all clones see the same trigger.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A token that nobody has triggered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds this token, or a child of it, to stop. Calling it again changes nothing.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Ends when stopping was asked for, at once if it already was.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// A token that this one triggers, and that can be triggered alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Runs `future` unless stopping is asked for first; `None` then.
    pub async fn unless<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.run_until_cancelled(future).await
    }
}

/// Triggers `shutdown` at the first SIGINT (Ctrl-C) or SIGTERM, and ends when `shutdown` is triggered by anyone.
/// Where the handlers cannot be installed it logs that and waits for the other triggers.
pub async fn on_signals(shutdown: &Shutdown) {
    let signal = tokio::select! {
        () = shutdown.triggered() => return,
        signal = next_signal() => signal,
    };
    tracing::info!(signal, "shutting down");
    shutdown.trigger();
}

#[cfg(unix)]
async fn next_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    match handlers {
        Ok((mut interrupt, mut terminate)) => tokio::select! {
            _ = interrupt.recv() => "interrupt",
            _ = terminate.recv() => "terminated",
        },
        Err(error) => {
            tracing::warn!(%error, "cannot listen for signals");
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
async fn next_signal() -> &'static str {
    match tokio::signal::ctrl_c().await {
        Ok(()) => "interrupt",
        Err(error) => {
            tracing::warn!(%error, "cannot listen for signals");
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trigger_reaches_clones_and_children_but_not_parents() {
        let parent = Shutdown::new();
        let child = parent.child();
        let sibling = parent.child();
        child.trigger();
        child.triggered().await;
        assert!(!parent.is_triggered() && !sibling.is_triggered());
        parent.clone().trigger();
        sibling.triggered().await;
        assert!(parent.is_triggered());
    }

    #[tokio::test]
    async fn unless_gives_up_when_triggered() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.unless(async { 1 }).await, Some(1));
        shutdown.trigger();
        assert_eq!(shutdown.unless(std::future::pending::<i32>()).await, None);
    }

    #[tokio::test]
    async fn waiting_for_signals_ends_with_the_token() {
        let shutdown = Shutdown::new();
        shutdown.trigger();
        on_signals(&shutdown).await;
    }
}
