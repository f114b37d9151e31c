//! Something that listens as a part does, and what clients send through a port-forward.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server that sends back what it gets, and at the end of that a byte more, so that a lost half close is seen.
pub(super) struct Echo {
    pub(super) addr: SocketAddr,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

pub(super) const LAST: u8 = b'.';

impl Echo {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let open = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&open);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                counter.fetch_add(1, Ordering::SeqCst);
                connections.spawn(async move {
                    let _broken = echo(stream).await;
                    counter.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { addr, open, task }
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Ends it and its connections.
    pub(super) fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.write_all(&[LAST]).await?;
    writer.shutdown().await
}

/// Bytes that depend on where they are and on a seed.
pub(super) fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|place| (place.wrapping_mul(2_654_435_761).wrapping_add(seed * 40_503) >> 13).to_le_bytes()[0])
        .collect()
}

/// Sends `bytes`, closes that direction, and reads to the end meanwhile.
pub(super) async fn exchange(port: u16, bytes: Vec<u8>) -> Vec<u8> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        writer.write_all(&bytes).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    reader.read_to_end(&mut back).await.unwrap();
    sending.await.unwrap();
    back
}
