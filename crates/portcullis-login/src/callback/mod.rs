//! The local server that the browser comes back to (int128/oauth2cli, reference section 2.4).
//!
//! 1. The browser is sent to `/` here, which redirects to the provider.
//! 2. The provider sends it back to the callback path with a code and the state; the first answer counts.
//! 3. The page waits until the exchange has succeeded or failed, and says which.
//!
//! Never answers under a foreign host name (DNS rebinding), never takes an answer without our state, never answers what a
//! page embeds or fetches (only a navigation counts), never shows text from the request.

mod handler;
pub(crate) mod listen;
mod page;

use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::Shutdown;
use portcullis_runtime::server::{ServerLimits, Transport, serve};
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use handler::CallbackHandler;
use listen::Bound;

/// How long the last page may take to reach the browser.
const FAREWELL: Duration = Duration::from_millis(500);

/// What the local server is told.
pub(crate) struct CallbackConfig {
    /// The path that the provider sends the browser to.
    pub(crate) callback_path: String,
    /// Host of the redirect URL, accepted beside localhost and addresses.
    pub(crate) redirect_host: Option<String>,
    /// Where `/` leads.
    pub(crate) authorization_url: String,
    /// The state that an answer must carry.
    pub(crate) state: String,
    /// `--open-url-after-authentication`.
    pub(crate) open_url_after: String,
}

/// Why the browser brought no code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum CallbackError {
    /// The provider refused.
    #[error("authorization error from server: {code} {description}")]
    Refused {
        /// `error`.
        code: String,
        /// `error_description`.
        description: String,
    },
    /// The answer is not to our request.
    #[error("state does not match (wants {wants} but got {got})")]
    State {
        /// Ours.
        wants: String,
        /// Theirs.
        got: String,
    },
    /// The server ended without an answer.
    #[error("no authorization response")]
    Ended,
}

/// How the sign-in ended, for the page that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Pending,
    Success,
    Failure,
}

/// The running local server.
pub(crate) struct CallbackServer {
    answer: Option<oneshot::Receiver<Result<String, CallbackError>>>,
    ending: watch::Sender<Ending>,
    shutdown: Shutdown,
    tasks: JoinSet<()>,
}

impl CallbackServer {
    /// Starts serving on `bound`.
    pub(crate) fn start(bound: Bound, transport: impl Fn() -> Transport, config: CallbackConfig) -> Self {
        let (send, answer) = oneshot::channel();
        let (ending, pending) = watch::channel(Ending::Pending);
        let handler = Arc::new(CallbackHandler::new(config, send, pending));
        let shutdown = Shutdown::new();
        let mut tasks = JoinSet::new();
        for listener in bound.listeners {
            let limits = ServerLimits { max_connections: 64, ..ServerLimits::default() };
            tasks.spawn(serve(
                listener,
                transport(),
                Arc::<CallbackHandler>::clone(&handler),
                limits,
                shutdown.clone(),
            ));
        }
        Self { answer: Some(answer), ending, shutdown, tasks }
    }

    /// Waits for the code. Called once; later calls say that there is none.
    pub(crate) async fn code(&mut self) -> Result<String, CallbackError> {
        match self.answer.take() {
            Some(answer) => answer.await.unwrap_or(Err(CallbackError::Ended)),
            None => Err(CallbackError::Ended),
        }
    }

    /// Tells the waiting page how it ended and stops serving, within [`FAREWELL`].
    pub(crate) async fn finish(mut self, success: bool) {
        self.ending.send_replace(if success { Ending::Success } else { Ending::Failure });
        self.shutdown.trigger();
        let _ = tokio::time::timeout(FAREWELL, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}
