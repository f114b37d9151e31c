//! WebSocket messages, each for a numbered channel: the framing of port-forward before tunnels.
//!
//! Compat: `streaming/pkg/httpstream/wsstream/conn.go` of Kubernetes 1.37. The first byte of a message is the channel, as a
//! digit where the rest is base64; empty messages mean nothing; messages for a channel that takes none are dropped.
//!
//! A channel whose receiver is busy holds up the whole connection, as upstream, so that nothing but a few pieces is kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use portcullis_spdy::websocket::{CloseCode, Codec, Event, Kind, Limits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::FAREWELL;

/// Pieces, of 64 KiB at most, that wait for a channel's receiver, and messages that wait for the client.
pub(crate) const QUEUE: usize = 2;
/// Bytes read at once.
const READ: usize = 16 * 1024;

/// A message to be sent.
pub(crate) struct Message {
    pub(crate) channel: u8,
    pub(crate) payload: Bytes,
}

/// Where the messages of each channel go. A channel without a receiver takes none.
pub(crate) type Inputs = Vec<Option<mpsc::Sender<Bytes>>>;

/// How channels are written into messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    /// Text messages, with the payload in base64.
    pub(crate) base64: bool,
    /// Without a byte either way for this long, the connection ends.
    pub(crate) idle: Duration,
}

/// Moves messages until the client closes, nobody sends any more, or the connection is idle for too long.
pub(crate) async fn run<T>(transport: T, framing: Framing, inputs: Inputs, outputs: mpsc::Receiver<Message>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = tokio::io::split(transport);
    let now = Instant::now();
    let limits = Limits { idle: None, ..Limits::default() };
    let state = State { codec: Codec::server(limits, now.into_std()), moved: now };
    let shared = Shared { state: Mutex::new(state), output: Notify::new(), drained: Notify::new() };
    let shared = Arc::new(shared);
    let reading = read(reader, &shared, framing, &inputs);
    let writing = write(writer, &shared, framing, outputs);
    let mut reading = std::pin::pin!(reading);
    tokio::select! {
        () = &mut reading => {}
        wrote = writing => {
            if wrote {
                // Everything was said: the client closes its side too.
                let _closed = tokio::time::timeout(FAREWELL, reading).await;
            }
        }
        () = shared.idle(framing.idle) => tracing::debug!("a connection with channels was idle for too long"),
    }
}

struct Shared {
    state: Mutex<State>,
    /// There is output.
    output: Notify,
    /// There was too much output to read on, and now there is not.
    drained: Notify,
}

struct State {
    codec: Codec,
    /// When bytes were moved last.
    moved: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn idle(&self, limit: Duration) {
        loop {
            let until = self.lock().moved + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

async fn read<T: AsyncRead>(mut transport: ReadHalf<T>, shared: &Shared, framing: Framing, inputs: &Inputs) {
    let mut bytes = BytesMut::new();
    let mut parser = Parser { base64: framing.base64, place: Place::Start };
    loop {
        let event = {
            let mut state = shared.lock();
            let event = state.codec.receive(Instant::now().into_std(), &mut bytes);
            if !state.codec.output().is_empty() {
                shared.output.notify_one();
            }
            event
        };
        match event {
            Ok(Some(Event::Data { payload, last, .. })) => {
                let Some((channel, payload)) = parser.take(payload, last) else { continue };
                if let Some(Some(input)) = inputs.get(usize::from(channel)) {
                    // A receiver that has gone wants no more.
                    let _gone = input.send(payload).await;
                }
            }
            Ok(Some(Event::Close { .. })) | Err(_) => {
                // The answer leaves with the writer.
                return farewell(shared).await;
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                if !shared.lock().codec.wants_input() {
                    shared.drained.notified().await;
                    continue;
                }
                bytes.reserve(READ);
                match transport.read_buf(&mut bytes).await {
                    Ok(read) if read > 0 => shared.lock().moved = Instant::now(),
                    _ => return,
                }
            }
        }
    }
}

async fn farewell(shared: &Shared) {
    let gone = async {
        while !shared.lock().codec.output().is_empty() {
            shared.drained.notified().await;
        }
    };
    let _gone = tokio::time::timeout(FAREWELL, gone).await;
}

/// Whether everything was sent, with a close at its end.
async fn write<T: AsyncWrite>(
    mut transport: WriteHalf<T>,
    shared: &Shared,
    framing: Framing,
    mut outputs: mpsc::Receiver<Message>,
) -> bool {
    let mut over = false;
    loop {
        let output = {
            let mut state = shared.lock();
            let output = state.codec.output().split();
            if !output.is_empty() {
                state.moved = Instant::now();
            }
            output
        };
        if !output.is_empty() {
            if transport.write_all(&output).await.is_err() || transport.flush().await.is_err() {
                return false;
            }
            shared.drained.notify_one();
            continue;
        }
        if over {
            return true;
        }
        tokio::select! {
            () = shared.output.notified() => {}
            message = outputs.recv() => {
                let mut state = shared.lock();
                match message {
                    Some(Message { channel, payload }) => {
                        // After a close nothing can be sent, and nobody listens.
                        let _closed = state.codec.send(framing.kind(), &framing.message(channel, &payload));
                    }
                    None => {
                        over = true;
                        state.codec.close(CloseCode::NORMAL, "");
                    }
                }
            }
        }
    }
}

impl Framing {
    const fn kind(self) -> Kind {
        if self.base64 { Kind::Text } else { Kind::Binary }
    }

    fn message(self, channel: u8, payload: &[u8]) -> Vec<u8> {
        if self.base64 {
            let mut message = vec![channel.wrapping_add(b'0')];
            message.extend_from_slice(STANDARD.encode(payload).as_bytes());
            return message;
        }
        let mut message = Vec::with_capacity(payload.len() + 1);
        message.push(channel);
        message.extend_from_slice(payload);
        message
    }
}

/// Takes messages apart, whose pieces it gets as they come.
struct Parser {
    base64: bool,
    place: Place,
}

/// Where in a message we are.
enum Place {
    Start,
    /// In a channel's payload, with the characters of base64 that wait for others.
    Payload(u8, Vec<u8>),
    /// In what is dropped.
    Drop,
}

impl Parser {
    /// The next bytes of a channel, if the piece has any.
    fn take(&mut self, mut piece: Bytes, last: bool) -> Option<(u8, Bytes)> {
        if matches!(self.place, Place::Start) {
            let byte = *piece.first()?;
            piece.advance(1);
            let channel = if self.base64 { byte.wrapping_sub(b'0') } else { byte };
            self.place = Place::Payload(channel, Vec::new());
        }
        let taken = match &mut self.place {
            Place::Payload(channel, _) if !self.base64 => Some((*channel, piece)),
            Place::Payload(channel, kept) => {
                kept.extend_from_slice(&piece);
                let whole = if last { kept.len() } else { kept.len() / 4 * 4 };
                let decoded = STANDARD.decode(kept.get(..whole).unwrap_or_default());
                kept.drain(..whole);
                match decoded {
                    Ok(bytes) => Some((*channel, bytes.into())),
                    // Compat: such a message is left out, and the connection goes on.
                    Err(_) => {
                        self.place = Place::Drop;
                        None
                    }
                }
            }
            Place::Start | Place::Drop => None,
        };
        if last {
            self.place = Place::Start;
        }
        taken.filter(|(_, bytes)| !bytes.is_empty())
    }
}
