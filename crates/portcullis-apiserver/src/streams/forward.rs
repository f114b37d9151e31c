//! One forwarded connection: two streams at the client's side, a socket at the part's.

use std::time::Duration;

use portcullis_spdy::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::sockets::Sockets;

/// Bytes that are moved at once, in each direction.
const PIECE: usize = 16 * 1024;
/// How long a client may take to close its side of a stream that we are done with.
const CLOSING: Duration = Duration::from_secs(10);
/// Bytes that it may still send meanwhile, and that are thrown away.
const LATE: usize = 1024 * 1024;

/// Moves bytes both ways until both have ended, or either side has broken; each direction ends by itself, so that a half
/// close is passed on. Why nothing was moved goes to the error stream.
pub(crate) async fn forward(mut data: Stream, error: Stream, port: u16, sockets: &Sockets) {
    let mut connected = match sockets.connect(port).await {
        Ok(connected) => connected,
        Err(why) => {
            tokio::join!(finish(error, &why), finish(data, ""));
            return;
        }
    };
    let moved = tokio::io::copy_bidirectional_with_sizes(&mut data, &mut connected.stream, PIECE, PIECE).await;
    drop(connected);
    // Where either side broke, the stream is dropped and so reset: to close it would claim a good end.
    match moved {
        Ok(_) => tokio::join!(finish(error, ""), finish(data, "")).1,
        Err(why) => {
            tracing::debug!(port, error = %why, "a forwarded connection broke");
            drop(data);
            finish(error, "").await;
        }
    }
}

/// Says what there is to say, closes our direction, and waits for the other to be closed.
pub(crate) async fn finish(mut stream: Stream, text: &str) {
    let finished = async {
        if !text.is_empty() {
            stream.write_all(text.as_bytes()).await?;
        }
        stream.shutdown().await?;
        discard(&mut stream).await
    };
    // A client that is gone, or does not close its side, gets the reset of a dropped stream.
    let _ended = tokio::time::timeout(CLOSING, finished).await;
}

async fn discard(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut piece = [0; 1024];
    let mut left = LATE;
    while left > 0 {
        match stream.read(&mut piece).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
