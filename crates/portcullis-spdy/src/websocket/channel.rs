//! The channel protocols of exec and attach: the first byte of each message is the channel that the rest is for.
//!
//! Compat: `k8s.io/streaming` v0.37.2 (pkg/httpstream/wsstream) and `k8s.io/client-go` (tools/remotecommand). Empty
//! messages mean nothing; messages for a channel that is not there are dropped; only the fifth version can close a channel, with
//! a message of the byte 255 and the channel; a malformed one ends the connection.

use bytes::{Buf, Bytes};

/// Input of the command.
pub const STDIN: u8 = 0;
/// Output of the command.
pub const STDOUT: u8 = 1;
/// Error output of the command.
pub const STDERR: u8 = 2;
/// How the command ended, as a Status object in JSON.
pub const ERROR: u8 = 3;
/// Sizes of the terminal, in JSON.
pub const RESIZE: u8 = 4;

/// The number of channels.
const COUNT: u8 = 5;

/// What a message for closing begins with.
const CLOSE: u8 = 255;

/// Which version was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelVersion {
    /// `v4.channel.k8s.io`: no half close.
    V4,
    /// `v5.channel.k8s.io`: the end of the input can be told.
    V5,
}

impl ChannelVersion {
    /// The subprotocol's name.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// Data for a channel.
    Data {
        /// The channel: 0 to 4.
        channel: u8,
        /// The bytes; not none.
        payload: Bytes,
    },
    /// Nothing more comes for a channel.
    Close {
        /// The channel: 0 to 4.
        channel: u8,
    },
}

/// What cannot be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// A message for closing does not name one channel.
    #[error("a message that closes a channel must be two bytes, 255 and a channel from 0 to 4")]
    Close,
}

/// Reads the channels out of messages, whose pieces it takes as they come.
pub struct Channels {
    version: ChannelVersion,
    state: State,
}

/// Where in a message we are.
#[derive(Clone, Copy)]
enum State {
    Start,
    Data(u8),
    Drop,
    Closing,
    Closed(u8),
}

impl Channels {
    /// At the start of a connection.
    #[must_use]
    pub const fn new(version: ChannelVersion) -> Self {
        Self { version, state: State::Start }
    }

    /// Reads a piece of a message; `last` ends it. Text and binary messages are the same here, as upstream's server takes
    /// them.
    ///
    /// # Errors
    /// The peer broke the protocol: the connection has to end.
    pub fn receive(&mut self, mut piece: Bytes, last: bool) -> Result<Option<ChannelEvent>, ChannelError> {
        while let (State::Start | State::Closing | State::Closed(_), Some(byte)) = (self.state, piece.first().copied())
        {
            piece.advance(1);
            self.state = match self.state {
                State::Start if byte == CLOSE && self.version == ChannelVersion::V5 => State::Closing,
                State::Start if byte < COUNT => State::Data(byte),
                State::Closing if byte < COUNT => State::Closed(byte),
                State::Closing | State::Closed(_) => return Err(ChannelError::Close),
                _ => State::Drop,
            };
        }
        let state = self.state;
        if last {
            self.state = State::Start;
        }
        match state {
            State::Data(channel) if !piece.is_empty() => Ok(Some(ChannelEvent::Data { channel, payload: piece })),
            State::Closed(channel) if last => Ok(Some(ChannelEvent::Close { channel })),
            State::Closing if last => Err(ChannelError::Close),
            _ => Ok(None),
        }
    }

    /// The message that closes a channel; the fourth version has none.
    #[must_use]
    pub fn close(&self, channel: u8) -> Option<[u8; 2]> {
        (self.version == ChannelVersion::V5).then_some([CLOSE, channel])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: ChannelVersion, pieces: &[(&'static [u8], bool)]) -> Result<Vec<ChannelEvent>, ChannelError> {
        let mut channels = Channels::new(version);
        let mut events = Vec::new();
        for (piece, last) in pieces {
            events.extend(channels.receive(Bytes::from_static(piece), *last)?);
        }
        Ok(events)
    }

    fn data(channel: u8, payload: &'static [u8]) -> ChannelEvent {
        ChannelEvent::Data { channel, payload: Bytes::from_static(payload) }
    }

    #[test]
    fn the_first_byte_of_a_message_is_the_channel_of_all_its_pieces() {
        let pieces: [(&[u8], bool); 6] =
            [(b"\x00ls\n", true), (b"", false), (b"\x01a", false), (b"b", false), (b"", true), (b"\x03c", true)];
        let events = read(ChannelVersion::V4, &pieces).unwrap();
        assert_eq!(events, [data(STDIN, b"ls\n"), data(STDOUT, b"a"), data(STDOUT, b"b"), data(ERROR, b"c")]);
    }

    #[test]
    fn empty_messages_and_channels_that_are_not_there_mean_nothing() {
        let pieces: [(&[u8], bool); 5] =
            [(b"", true), (b"\x05x", true), (b"\x04", true), (b"\xfe\x00", true), (b"\x02y", true)];
        assert_eq!(read(ChannelVersion::V5, &pieces), Ok(vec![data(STDERR, b"y")]));
        assert_eq!(read(ChannelVersion::V4, &[(b"\xff\x00", true)]), Ok(vec![]));
    }

    #[test]
    fn the_fifth_version_closes_a_channel_however_the_message_is_cut() {
        let close = Ok(vec![ChannelEvent::Close { channel: STDIN }]);
        assert_eq!(read(ChannelVersion::V5, &[(b"\xff\x00", true)]), close);
        assert_eq!(read(ChannelVersion::V5, &[(b"\xff", false), (b"", false), (b"\x00", false), (b"", true)]), close);
        assert_eq!(Channels::new(ChannelVersion::V5).close(STDIN), Some([255, 0]));
        assert_eq!(Channels::new(ChannelVersion::V4).close(STDIN), None);
        for malformed in [&b"\xff"[..], b"\xff\x05", b"\xff\x00\x00", b"\xff\xff"] {
            assert_eq!(read(ChannelVersion::V5, &[(malformed, true)]), Err(ChannelError::Close), "{malformed:?}");
        }
    }
}
