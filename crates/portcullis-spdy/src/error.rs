//! What ends a session.

use crate::frame::{FrameError, GoAwayStatus, StreamId};

/// Why a session ended before its time. Sorted by blame: the peer, then the circumstances, then us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer's bytes are no frames, or cross a limit.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer opened a stream with a number that is ours to use, or lower than an earlier one.
    #[error("the peer opened stream {0}, which is not its next number")]
    StreamOrder(StreamId),
    /// The peer sends PING or SETTINGS frames faster than [`crate::Limits::pings`].
    #[error("the peer sent more than {0} PING or SETTINGS frames in the interval that is allowed for them")]
    Pings(u32),
    /// The peer broke the session's flow control: it overran the window, or opened ours beyond 2^31 - 1.
    #[error("the peer broke the flow control of the session")]
    FlowControl,
    /// Nothing happened for [`crate::Limits::idle`].
    #[error("no frame came or went for {0} seconds")]
    Idle(u64),
    /// Our own headers could not be compressed.
    #[error("a header block could not be compressed")]
    Compression,
}

impl SessionError {
    /// What GOAWAY says of it.
    #[must_use]
    pub const fn status(&self) -> GoAwayStatus {
        match self {
            Self::Frame(_) | Self::StreamOrder(_) | Self::Pings(_) | Self::FlowControl => GoAwayStatus::PROTOCOL_ERROR,
            Self::Idle(_) => GoAwayStatus::OK,
            Self::Compression => GoAwayStatus::INTERNAL_ERROR,
        }
    }
}
