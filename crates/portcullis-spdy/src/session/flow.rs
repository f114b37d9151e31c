//! Flow control: the windows of SPDY/3.1 (draft, section 2.6.8), and the pause that stands in for them with peers that
//! know none.
//!
//! A stream's window is given back as its reader reads. The session's window is given back as data arrives, as long as
//! all streams together hold little: so a stream that nobody reads fills its own window and never the session's.

use std::time::{Duration, Instant};

use super::stream::StreamState;
use crate::limits::{Config, FlowControl};

/// The draft's initial window, of a stream and of the session, in bytes.
const INITIAL: u32 = 64 * 1024;

/// The largest window.
pub(super) const MAX_WINDOW: i64 = 0x7fff_ffff;

/// The session's window that we open, in bytes, unless [`crate::Limits::connection_buffer`] is small.
const SESSION: usize = 1024 * 1024;

/// The windows of a session.
pub(super) struct Flow {
    mode: FlowControl,
    /// What a stream's window is with us.
    window: u32,
    stream_buffer: usize,
    connection_buffer: usize,
    /// What the session's window is with us.
    session_window: usize,
    session_receive: i64,
    session_credit: usize,
    session_send: i64,
    /// What a stream's window is with the peer.
    peer_window: i64,
    /// The peer announced a window: it counts what we send, and wants to hear what it may send.
    peer_counts: bool,
    /// The peer sent more than a window: telling it of more is no use.
    peer_overruns: bool,
    buffered: usize,
    /// Streams that hold more than `stream_buffer`.
    full: usize,
    paused_since: Option<Instant>,
}

impl Flow {
    pub(super) fn new(config: &Config) -> Self {
        // A peer may use the draft's window before it has read ours, so ours is not smaller.
        let window = config.window.clamp(INITIAL, u32::MAX >> 1);
        let whole = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let session_window = SESSION.min(config.limits.connection_buffer / 2).max(whole(INITIAL));
        Self {
            mode: config.flow,
            window,
            stream_buffer: config.limits.stream_buffer.max(whole(window)),
            connection_buffer: config.limits.connection_buffer,
            session_window,
            session_receive: i64::try_from(session_window).unwrap_or(MAX_WINDOW),
            session_credit: 0,
            session_send: i64::from(INITIAL),
            peer_window: i64::from(INITIAL),
            peer_counts: config.flow == FlowControl::Strict,
            peer_overruns: false,
            buffered: 0,
            full: 0,
            paused_since: None,
        }
    }

    pub(super) const fn mode(&self) -> FlowControl {
        self.mode
    }

    /// The window to announce.
    pub(super) const fn window(&self) -> u32 {
        self.window
    }

    /// By how much the session's window is larger than the draft's.
    pub(super) fn opening(&self) -> Option<u32> {
        u32::try_from(self.session_window).ok()?.checked_sub(INITIAL).filter(|delta| *delta > 0)
    }

    /// The windows of a new stream: to send, to receive.
    pub(super) fn new_stream(&self) -> (i64, i64) {
        (self.peer_window, i64::from(self.window))
    }

    /// How much may be sent on a stream.
    pub(super) fn room(&self, stream: &StreamState) -> usize {
        if self.peer_counts {
            usize::try_from(stream.send_window.min(self.session_send)).unwrap_or(0)
        } else {
            usize::MAX
        }
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.session_send = self.session_send.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The peer's window for new streams is another now. Returns by how much those of open streams change.
    pub(super) fn peer_window(&mut self, window: u32) -> i64 {
        self.peer_counts = true;
        let change = i64::from(window) - self.peer_window;
        self.peer_window = i64::from(window);
        change
    }

    /// The peer gave a window back. Of the session's: false when it is too large now.
    pub(super) fn peer_gave(&mut self, session: Option<u32>) -> bool {
        self.peer_counts = true;
        self.session_send += i64::from(session.unwrap_or(0));
        self.session_send <= MAX_WINDOW
    }

    /// Data has arrived, for whatever stream. False when it is more than the session's window.
    pub(super) fn arrived(&mut self, bytes: usize) -> bool {
        self.session_receive -= i64::try_from(bytes).unwrap_or(i64::MAX);
        self.session_credit += bytes;
        self.peer_overruns |= self.session_receive < 0;
        self.session_receive >= 0
    }

    /// Data has arrived that a stream now holds. False when it is more than the stream's window.
    pub(super) fn hold(&mut self, stream: &mut StreamState, bytes: usize, now: Instant) -> bool {
        stream.receive_window -= i64::try_from(bytes).unwrap_or(i64::MAX);
        self.peer_overruns |= stream.receive_window < 0;
        let before = stream.buffered > self.stream_buffer;
        stream.buffered += bytes;
        self.buffered += bytes;
        self.full += usize::from(!before && stream.buffered > self.stream_buffer);
        if self.is_paused() {
            self.paused_since.get_or_insert(now);
        }
        stream.receive_window >= 0
    }

    /// The caller has read from a stream. Returns what to tell the peer.
    pub(super) fn consumed(&mut self, stream: &mut StreamState, bytes: usize) -> Option<u32> {
        let bytes = bytes.min(stream.buffered);
        let before = stream.buffered > self.stream_buffer;
        stream.buffered -= bytes;
        self.less(bytes, before && stream.buffered <= self.stream_buffer);
        stream.credit += bytes;
        let delta = u32::try_from(stream.credit).ok()?;
        // Half a window at a time: each update costs the peer a frame.
        if !stream.remote_open || stream.reset.is_some() || !self.tells() || delta < self.window / 2 {
            return None;
        }
        stream.credit = 0;
        stream.receive_window += i64::from(delta);
        Some(delta)
    }

    /// Whether the peer is told what it may send.
    ///
    /// Compat: `spdystream` puts each WINDOW_UPDATE into the queue of one of five workers, of which one may stand still
    /// behind a stream that is not read; 50 of them there, and the connection stands still.
    const fn tells(&self) -> bool {
        self.peer_counts && !self.peer_overruns
    }

    /// What a stream holds is given up.
    pub(super) fn dropped(&mut self, stream: &StreamState) {
        self.less(stream.buffered, stream.buffered > self.stream_buffer);
    }

    fn less(&mut self, bytes: usize, not_full: bool) {
        self.buffered -= bytes;
        self.full -= usize::from(not_full);
        if !self.is_paused() {
            self.paused_since = None;
        }
    }

    /// What to add to the session's window, if anything.
    pub(super) fn session_update(&mut self) -> Option<u32> {
        let little = self.buffered <= self.connection_buffer / 2;
        if !self.tells() || !little || self.session_credit < self.session_window / 2 {
            return None;
        }
        let delta = u32::try_from(self.session_credit).ok()?;
        self.session_credit = 0;
        self.session_receive += i64::from(delta);
        Some(delta)
    }

    pub(super) const fn buffered(&self) -> usize {
        self.buffered
    }

    /// Nothing must be read until a reader has caught up.
    pub(super) const fn is_paused(&self) -> bool {
        self.full > 0 || self.buffered > self.connection_buffer
    }

    /// When a pause has lasted for too long.
    pub(super) fn stall_deadline(&self, stall: Option<Duration>) -> Option<Instant> {
        self.paused_since?.checked_add(stall?)
    }

    /// A stalled stream was reset; the next one has its own time.
    pub(super) const fn restart_stall(&mut self, now: Instant) {
        if self.paused_since.is_some() {
            self.paused_since = Some(now);
        }
    }
}
