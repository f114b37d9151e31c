//! Upgrades of exec, port-forward and log requests, and what clients then send, over a connection in memory: every session
//! ends whatever its client does, gives its places back and holds no more than it may, also for who sends and does not read.
//!
//! The input is a byte that says how the rest is framed and how the client ends, one that says how it is cut, a request as
//! text, a NUL, and what the client sends: bytes, WebSocket frames, SPDY frames or those in WebSocket frames.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use portcullis_apiserver::fuzzing::{Body, Site, Upgraded};
use portcullis_apiserver::{PartControl, PartPort, StreamLimits};
use portcullis_fuzz::peer::{spdy, websocket};
use portcullis_fuzz::{Limit, Request, runtime};
use portcullis_runtime::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Bytes in flight on a connection.
const PIPE: usize = 4 * 1024;
/// Longer than any session may go on without its client.
const LONG: Duration = Duration::from_secs(24 * 3_600);
/// For a client's bytes to be taken.
const STUCK: Duration = Duration::from_secs(5);
/// Memory that one session may take: its buffers, windows and tables of compression.
const MEMORY: usize = 4 << 20;

thread_local! {
    static SITE: RefCell<Option<(Runtime, Site)>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    let [how, cut, rest @ ..] = data else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (head, script) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some(request) = Request::read(head) else { return };
    let sent = match how & 3 {
        0 => script.to_vec(),
        1 => websocket(script),
        2 => spdy(script),
        _ => {
            let spdy = spdy(script);
            let pieces = spdy.chunks(100).flat_map(|piece| [[0x82, piece.len() as u8].as_slice(), piece].concat());
            websocket(&pieces.collect::<Vec<u8>>())
        }
    };
    SITE.with_borrow_mut(|slot| {
        let (runtime, site) = slot.get_or_insert_with(|| {
            let runtime = runtime();
            let site = runtime.block_on(async { site() });
            (runtime, site)
        });
        runtime.block_on(one(site, request, &sent, Client { how: how >> 2, cut: usize::from(*cut) + 1 }));
    });
});

/// Limits that inputs can reach.
fn site() -> Site {
    let limits = StreamLimits {
        sessions: 2,
        forwards_per_session: 4,
        forwards: 4,
        followers: 2,
        stream_buffer: 2 * 1024,
        session_buffer: 8 * 1024,
        idle: Duration::from_secs(600),
        pairing: Duration::from_secs(30),
        stall: Duration::from_secs(30),
    };
    let site = Site::new(limits);
    let echo = || {
        let (ours, theirs) = duplex(PIPE);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(theirs);
            let _ended = tokio::io::copy(&mut read, &mut write).await;
        });
        Some(ours)
    };
    // Takes nothing, says nothing, and keeps the connection.
    let stuck = || {
        let (ours, theirs) = duplex(64);
        tokio::spawn(async move {
            tokio::time::sleep(LONG).await;
            drop(theirs);
        });
        Some(ours)
    };
    let ports = vec![
        PartPort::in_process("echo", 80, Arc::new(echo)),
        PartPort::in_process("stuck", 81, Arc::new(stuck)),
        PartPort::in_process("none", 82, Arc::new(|| None)),
        PartPort::in_process("gone", 83, Arc::new(|| Some(duplex(1).0))),
    ];
    let logs = site.log();
    (0..300).for_each(|line| logs.push(&format!("line {line}")));
    let (control, mut signals) = PartControl::new();
    tokio::spawn(async move { while signals.recv().await.is_some() {} });
    site.part("part", ports, logs, control);
    site
}

/// What a client does.
struct Client {
    /// Bit 0: it reads nothing. Then: how it ends.
    how: u8,
    /// Bytes that it sends at once.
    cut: usize,
}

async fn one(site: &Site, request: Request<'_>, sent: &[u8], client: Client) {
    let Some(answer) = request.send(site).await else { return };
    match answer.body {
        Body::Whole(_) => {}
        Body::Frames(mut frames) => {
            // A log that is followed goes on for ever; a watch ends by the server's clock.
            while let Ok(Some(piece)) = timeout(Duration::from_secs(1), frames.next()).await {
                assert!(!piece.is_empty() && piece.len() < 1 << 20);
            }
        }
        Body::Upgrade(session) => {
            assert_eq!(answer.status, 101);
            let _limit = Limit::of(MEMORY);
            session_with(session, sent, client).await;
        }
    }
    // What is spawned by a session may end a moment after it.
    tokio::time::sleep(2 * LONG).await;
    assert!(site.is_quiet(), "a place was not given back");
}

async fn session_with(session: Upgraded, sent: &[u8], client: Client) {
    let (ours, theirs) = duplex(PIPE);
    let stop = Shutdown::new();
    let running = tokio::spawn(session.run(theirs, stop.clone()));
    let (mut read, mut write) = tokio::io::split(ours);
    let reader = (client.how & 1 == 0).then(|| tokio::spawn(async move { (drain(&mut read).await, read) }));
    for piece in sent.chunks(client.cut) {
        if !matches!(timeout(STUCK, write.write_all(piece)).await, Ok(Ok(()))) {
            break;
        }
    }
    match client.how >> 1 & 3 {
        // It ends its direction, and waits.
        0 => drop(timeout(STUCK, write.shutdown()).await),
        // It goes.
        1 => {
            if let Some(reader) = &reader {
                reader.abort();
            }
            drop(write);
        }
        // The server stops.
        2 => stop.trigger(),
        // It does nothing more.
        _ => {}
    }
    let ended = timeout(LONG, running).await.expect("a session ends");
    ended.expect("without a panic");
}

async fn drain(read: &mut tokio::io::ReadHalf<DuplexStream>) -> usize {
    let (mut all, mut piece) = (0, [0; 1024]);
    while let Ok(read @ 1..) = read.read(&mut piece).await {
        all += read;
    }
    all
}
