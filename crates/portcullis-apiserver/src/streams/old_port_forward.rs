//! A port-forward over WebSocket channels: for each port that the query names, in order, a channel for data and one for an
//! error. Each begins with the port's number, in two bytes, the lower first.
//!
//! Compat: `cri-streaming/pkg/streaming/portforward/websocket.go` of Kubernetes 1.37; the Python client speaks it. There is no
//! half close: a port's channels are done when the part has closed its connection.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use portcullis_runtime::Shutdown;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::StreamLimits;
use super::channels::{Framing, Inputs, Message, QUEUE, run};
use super::sockets::Sockets;

/// The subprotocols, best first; the empty one stands for none.
pub(crate) const PROTOCOLS: &[&str] = &["", "v4.channel.k8s.io", BASE64];
/// The one whose messages are text.
const BASE64: &str = "v4.base64.channel.k8s.io";
/// Most ports of a connection: a channel's number is a byte, and 255 means something else.
pub(crate) const MAX_PORTS: usize = 127;
/// Bytes that are read from a part at once.
const PIECE: usize = 16 * 1024;

/// Serves a port-forward until the client, the parts or the server end.
pub(crate) async fn serve<T>(
    transport: T,
    protocol: &str,
    ports: &[u16],
    sockets: Sockets,
    limits: &StreamLimits,
    over: &Shutdown,
    stop: &Shutdown,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let sockets = Arc::new(sockets);
    let (output, outputs) = mpsc::channel(QUEUE);
    let mut inputs: Inputs = Vec::new();
    let mut running = JoinSet::new();
    for (port, data) in ports.iter().copied().zip((0_u8..).step_by(2)) {
        let (input, from_client) = mpsc::channel(QUEUE);
        inputs.extend([Some(input), None]);
        let pair = Pair { port, data, sockets: Arc::clone(&sockets), from_client, output: output.clone() };
        running.spawn(pair.run());
    }
    drop(output);
    let framing = Framing { base64: protocol == BASE64, idle: limits.idle };
    tokio::select! {
        () = run(transport, framing, inputs, outputs) => {}
        () = over.triggered() => {}
        () = stop.triggered() => {}
    }
}

/// A port's two channels.
struct Pair {
    port: u16,
    /// Number of the data channel; that of the error channel follows.
    data: u8,
    sockets: Arc<Sockets>,
    from_client: mpsc::Receiver<Bytes>,
    output: mpsc::Sender<Message>,
}

impl Pair {
    async fn say(&self, channel: u8, payload: Bytes) -> Result<(), ()> {
        self.output.send(Message { channel, payload }).await.map_err(drop)
    }

    async fn run(mut self) {
        let error = self.data.saturating_add(1);
        let number = Bytes::copy_from_slice(&self.port.to_le_bytes());
        if self.say(self.data, number.clone()).await.is_err() || self.say(error, number).await.is_err() {
            return;
        }
        let mut connected = match self.sockets.connect(self.port).await {
            Ok(connected) => connected,
            Err(why) => {
                // A client that has gone need not be told.
                let _gone = self.say(error, why.into()).await;
                return;
            }
        };
        let (mut from_part, mut to_part) = tokio::io::split(&mut connected.stream);
        let (data, output) = (self.data, self.output.clone());
        let up = async {
            while let Some(piece) = self.from_client.recv().await {
                if to_part.write_all(&piece).await.is_err() {
                    break;
                }
            }
        };
        let down = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PIECE);
                match from_part.read_buf(&mut buffer).await {
                    Ok(read) if read > 0 => {}
                    _ => return,
                }
                if output.send(Message { channel: data, payload: buffer.split().freeze() }).await.is_err() {
                    return;
                }
            }
        };
        let mut down = std::pin::pin!(down);
        tokio::select! {
            () = &mut down => {}
            // What the part has still to say is passed on, unless the client has gone: then sending fails.
            () = up => down.await,
        }
    }
}
