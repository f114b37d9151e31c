//! What the peer's frames do to a session.

use std::time::Instant;

use bytes::BytesMut;

use super::flow::MAX_WINDOW;
use super::stream::StreamState;
use super::{Cause, Event, Session, StreamOptions};
use crate::Role;
use crate::error::SessionError;
use crate::frame::{Decoded, Frame, GoAwayStatus, ResetStatus, Setting, StreamId};
use crate::headers::Headers;

impl Session {
    /// Reads from the front of `input` up to the next event. `None` when `input` must grow, or the session does not
    /// [want](Session::wants_input) any.
    ///
    /// # Errors
    /// The session is over, and the output holds the GOAWAY that says why.
    pub fn receive(&mut self, now: Instant, input: &mut BytesMut) -> Result<Option<Event>, SessionError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            if !self.wants_input() {
                return Ok(None);
            }
            let handled = match self.decoder.decode(input) {
                Ok(None) => return Ok(None),
                Ok(Some(decoded)) => {
                    self.idle.touch(now);
                    self.handle(now, decoded)
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = handled {
                return Err(self.fail(error));
            }
        }
    }

    fn handle(&mut self, now: Instant, decoded: Decoded) -> Result<(), SessionError> {
        let frame = match decoded {
            Decoded::Frame(frame) => frame,
            Decoded::Malformed { id, opens, error: _ } => {
                // The header block was read, so the session can go on.
                if !opens || self.admit(id)? {
                    self.stream_error(id, ResetStatus::PROTOCOL_ERROR);
                }
                return Ok(());
            }
        };
        match frame {
            Frame::SynStream { id, associated, priority, fin, unidirectional, headers } => {
                let options = StreamOptions { priority, associated, fin, unidirectional };
                return self.opened(id, headers, options);
            }
            Frame::SynReply { id, fin, headers } => self.replied(id, headers, fin),
            Frame::Headers { id, fin, headers } => {
                if self.receiving(id, fin) {
                    self.events.push_back(Event::Headers { id, headers, fin });
                }
            }
            Frame::Data { id, fin, payload } => {
                if !self.flow.arrived(payload.len()) && self.strict() {
                    return Err(SessionError::FlowControl);
                }
                self.grow_session_window();
                if !self.receiving(id, fin) {
                    return Ok(());
                }
                let strict = self.strict();
                if let Some(stream) = self.streams.get_mut(&id)
                    && !self.flow.hold(stream, payload.len(), now)
                    && strict
                {
                    self.stream_error(id, ResetStatus::FLOW_CONTROL_ERROR);
                } else if fin || !payload.is_empty() {
                    self.events.push_back(Event::Data { id, payload, fin });
                }
            }
            Frame::RstStream { id, status } => {
                if let Some(stream) = self.streams.get_mut(&id)
                    && stream.reset.is_none()
                    && !stream.is_closed()
                {
                    stream.reset = Some(status);
                    self.events.push_back(Event::Reset { id, status, cause: Cause::Peer });
                }
            }
            Frame::Settings { entries } => {
                self.count_ping(now)?;
                self.settings(&entries)?;
            }
            Frame::Ping { id } => {
                let ours = (id % 2 == 1) == (self.role == Role::Client);
                if let Some(position) = self.pings.iter().position(|ping| *ping == id) {
                    self.pings.remove(position);
                    self.events.push_back(Event::Pong { id });
                } else {
                    self.count_ping(now)?;
                    if !ours {
                        self.queue(&Frame::Ping { id });
                    }
                }
            }
            Frame::GoAway { last, status } => self.gone_away(last, status),
            Frame::WindowUpdate { id: None, delta } => {
                if delta == 0 || !self.flow.peer_gave(Some(delta)) {
                    return Err(SessionError::FlowControl);
                }
                self.events.push_back(Event::Window { id: None });
            }
            Frame::WindowUpdate { id: Some(id), delta } => self.window_update(id, delta),
        }
        Ok(())
    }

    /// PING and SETTINGS cost an answer or a walk over all streams, and gain the peer nothing.
    fn count_ping(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.rate.admit(now) { Ok(()) } else { Err(SessionError::Pings(self.limits.pings)) }
    }

    /// Looks at the number of a stream that the peer opens. False when it is not to be opened; what must be said to the
    /// peer of that is in the output.
    fn admit(&mut self, id: StreamId) -> Result<bool, SessionError> {
        let peers = id.is_clients() == (self.role == Role::Server);
        if !peers || id.get() < self.last_received {
            return Err(SessionError::StreamOrder(id));
        }
        if id.get() == self.last_received {
            self.stream_error(id, ResetStatus::PROTOCOL_ERROR);
            return Ok(false);
        }
        self.last_received = id.get();
        if self.said_go_away {
            return Ok(false);
        }
        if self.refusing || self.theirs >= self.limits.streams {
            self.queue(&Frame::RstStream { id, status: ResetStatus::REFUSED_STREAM });
            return Ok(false);
        }
        Ok(true)
    }

    fn opened(&mut self, id: StreamId, headers: Headers, options: StreamOptions) -> Result<(), SessionError> {
        if !self.admit(id)? {
            return Ok(());
        }
        self.last_accepted = Some(id);
        self.theirs += 1;
        let windows = self.flow.new_stream();
        self.streams.insert(id, StreamState::new(false, !options.fin, !options.unidirectional, windows));
        self.events.push_back(Event::Opened { id, headers, options });
        Ok(())
    }

    fn replied(&mut self, id: StreamId, headers: Headers, fin: bool) {
        let Some(stream) = self.streams.get_mut(&id) else { return self.stray(id) };
        if stream.reset.is_some() {
            return;
        }
        if !stream.ours {
            return self.stream_error(id, ResetStatus::PROTOCOL_ERROR);
        }
        if stream.replied {
            return self.stream_error(id, ResetStatus::STREAM_IN_USE);
        }
        stream.replied = true;
        stream.remote_open &= !fin;
        let fin = !stream.remote_open;
        self.events.push_back(Event::Replied { id, headers, fin });
    }

    /// The peer sends on a stream: may it? Notes its `fin`.
    fn receiving(&mut self, id: StreamId, fin: bool) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            self.stray(id);
            return false;
        };
        if stream.reset.is_some() {
            return false;
        }
        if !stream.remote_open {
            self.stream_error(id, ResetStatus::STREAM_ALREADY_CLOSED);
            return false;
        }
        if stream.ours && !stream.replied {
            self.stream_error(id, ResetStatus::PROTOCOL_ERROR);
            return false;
        }
        stream.remote_open = !fin;
        true
    }

    fn settings(&mut self, entries: &[Setting]) -> Result<(), SessionError> {
        for (position, entry) in entries.iter().enumerate() {
            // Of several values for one id the first counts (section 2.6.4).
            if entries.iter().take(position).any(|earlier| earlier.id == entry.id) {
                continue;
            }
            match entry.id {
                Setting::MAX_CONCURRENT_STREAMS => self.peer_streams = Some(entry.value),
                Setting::INITIAL_WINDOW_SIZE => {
                    if i64::from(entry.value) > MAX_WINDOW {
                        return Err(SessionError::FlowControl);
                    }
                    let change = self.flow.peer_window(entry.value);
                    let mut beyond = Vec::new();
                    for (id, stream) in &mut self.streams {
                        stream.send_window += change;
                        if stream.send_window > MAX_WINDOW {
                            beyond.push(*id);
                        }
                    }
                    beyond.sort_unstable();
                    for id in beyond {
                        self.stream_error(id, ResetStatus::FLOW_CONTROL_ERROR);
                    }
                    self.events.push_back(Event::Window { id: None });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn gone_away(&mut self, last: Option<StreamId>, status: GoAwayStatus) {
        self.heard_go_away = true;
        // Streams of ours that the peer never saw: as if they had been refused.
        let unseen = |(id, stream): &(&StreamId, &StreamState)| {
            stream.ours && !stream.replied && stream.reset.is_none() && last.is_none_or(|last| **id > last)
        };
        let mut gone: Vec<StreamId> = self.streams.iter().filter(unseen).map(|(id, _)| *id).collect();
        gone.sort_unstable();
        for id in gone {
            let status = ResetStatus::REFUSED_STREAM;
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.reset = Some(status);
            }
            self.events.push_back(Event::Reset { id, status, cause: Cause::Peer });
        }
        self.events.push_back(Event::GoAway { status });
    }

    fn window_update(&mut self, id: StreamId, delta: u32) {
        self.flow.peer_gave(None);
        // Updates for streams that are gone cross their end and mean nothing.
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.reset.is_some() {
            return;
        }
        stream.send_window += i64::from(delta);
        if delta == 0 {
            self.stream_error(id, ResetStatus::PROTOCOL_ERROR);
        } else if stream.send_window > MAX_WINDOW {
            self.stream_error(id, ResetStatus::FLOW_CONTROL_ERROR);
        } else {
            self.events.push_back(Event::Window { id: Some(id) });
        }
    }

    /// A frame for a stream that is not held here. One that was released is told nothing: the peer did not know yet.
    fn stray(&mut self, id: StreamId) {
        let peers = id.is_clients() == (self.role == Role::Server);
        let known = if peers { id.get() <= self.last_received } else { id.get() < self.next_id };
        if !known && !self.said_go_away {
            self.queue(&Frame::RstStream { id, status: ResetStatus::INVALID_STREAM });
        }
    }

    /// The peer broke a rule on a stream, which ends for that.
    pub(super) fn stream_error(&mut self, id: StreamId, status: ResetStatus) {
        self.queue(&Frame::RstStream { id, status });
        if self.streams.get(&id).is_some_and(|stream| stream.reset.is_none()) {
            self.forget(id, status);
            self.events.push_back(Event::Reset { id, status, cause: Cause::Session });
        }
    }
}
