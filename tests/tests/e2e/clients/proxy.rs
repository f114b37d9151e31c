//! A TCP proxy on loopback that cuts the connections which run through it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    open: Mutex<Vec<[TcpStream; 2]>>,
    down: AtomicBool,
    over: AtomicBool,
    accepted: AtomicUsize,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            open: Mutex::default(),
            down: AtomicBool::new(false),
            over: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.over.load(Ordering::Acquire) {
                    return;
                }
                if let Ok(client) = client {
                    accepting.take(client);
                }
            }
        });
        Self { addr, shared }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that have come so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Cuts every connection, in the middle of whatever it carries.
    pub(crate) fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts every connection and lets none through until `up`.
    pub(crate) fn down(&self) {
        self.shared.down.store(true, Ordering::Release);
        self.shared.cut();
    }

    pub(crate) fn up(&self) {
        self.shared.down.store(false, Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.shared.cut();
        let _wakes_the_listener = TcpStream::connect(self.addr);
    }
}

impl Shared {
    fn take(&self, client: TcpStream) {
        // Held while the connection is made, so that none slips through a cut.
        let mut open = self.open.lock().unwrap();
        if self.down.load(Ordering::Acquire) {
            return;
        }
        let Ok(server) = TcpStream::connect(self.server) else { return };
        self.accepted.fetch_add(1, Ordering::AcqRel);
        pump(&client, &server);
        pump(&server, &client);
        open.push([client, server]);
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..).flatten() {
            let _ended_already = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Carries one direction until either side ends.
fn pump(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let _until_cut = io::copy(&mut from, &mut to);
        let _ended_already = to.shutdown(Shutdown::Write);
    });
}
