//! What a session knows of one stream.

use crate::frame::ResetStatus;

/// One stream, from its SYN_STREAM until the caller releases it.
pub(super) struct StreamState {
    /// We opened it.
    pub(super) ours: bool,
    /// A SYN_REPLY came or went.
    pub(super) replied: bool,
    /// We may send.
    pub(super) local_open: bool,
    /// The peer may send.
    pub(super) remote_open: bool,
    /// It was ended before its time.
    pub(super) reset: Option<ResetStatus>,
    /// Bytes that we may send by the peer's window; below zero after the peer made it smaller.
    pub(super) send_window: i64,
    /// Bytes that the peer may send by ours.
    pub(super) receive_window: i64,
    /// Bytes received and not consumed.
    pub(super) buffered: usize,
    /// Bytes consumed and not yet given back to the peer's window.
    pub(super) credit: usize,
}

impl StreamState {
    /// A new stream; `opener` and `other` say who may send. `windows` are ours to send and the peer's.
    pub(super) const fn new(ours: bool, opener: bool, other: bool, windows: (i64, i64)) -> Self {
        let (local_open, remote_open) = if ours { (opener, other) } else { (other, opener) };
        Self {
            ours,
            replied: false,
            local_open,
            remote_open,
            reset: None,
            send_window: windows.0,
            receive_window: windows.1,
            buffered: 0,
            credit: 0,
        }
    }

    /// Neither side sends any more.
    pub(super) const fn is_closed(&self) -> bool {
        !self.local_open && !self.remote_open
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.send_window = self.send_window.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
