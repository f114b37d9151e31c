//! A server in memory, which requests reach as the listener would hand them over.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method, Uri};
use portcullis_runtime::{LogRing, Shutdown};
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;

use crate::http::reply::{Payload, Pieces};
use crate::openapi::OpenApi;
use crate::parts::{Part, PartControl, PartPort};
use crate::server::call_of;
use crate::service_account::ServiceAccounts;
use crate::store::StoreLimits;
use crate::streams::{Session, StreamLimits};
use crate::world::World;

/// Small enough for inputs to reach them.
const STORE: StoreLimits = StoreLimits {
    objects: 1_000,
    bytes: 8 << 20,
    log_events: 4_096,
    log_bytes: 1 << 20,
    event_ttl: Duration::from_secs(3_600),
};

/// What costs much and is the same in every server.
static SHARED: LazyLock<(ServiceAccounts, Arc<OpenApi>)> = LazyLock::new(|| {
    let start = portcullis_runtime::Timestamp::from_unix_seconds(1_700_000_000);
    (ServiceAccounts::new("127.0.0.1:6443", None), Arc::new(OpenApi::new(start)))
});

/// A server in memory. Two that were asked the same answer the same.
pub struct Site {
    world: World,
    streams: StreamLimits,
}

/// What was answered.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// What follows them.
    pub body: Body,
}

/// What follows the headers of an answer.
pub enum Body {
    /// Bytes.
    Whole(Bytes),
    /// A watch or a log.
    Frames(Frames),
    /// What runs on the connection from now on.
    Upgrade(Upgraded),
}

/// Pieces of a watch or a log.
pub struct Frames(Pieces);

/// A session that waits for its connection.
pub struct Upgraded(Session);

impl Site {
    /// A server that holds what a new one holds, with these limits for connections that leave HTTP.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(streams: StreamLimits) -> Self {
        let mut world = World::new(STORE, streams.clone()).expect("a server");
        if let Some(engine) = Arc::get_mut(&mut world.engine) {
            (engine.service_accounts, engine.openapi) = SHARED.clone();
        }
        Self { world, streams }
    }

    /// What is answered to a request, or `None` when the listener would not take it for one.
    pub async fn respond(&self, method: &str, target: &str, headers: HeaderMap, body: &[u8]) -> Option<Answer> {
        let (method, uri) = (Method::from_bytes(method.as_bytes()).ok()?, target.parse::<Uri>().ok()?);
        let mut call = call_of(&method, &uri, headers, None);
        if matches!(method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
            call.body = Bytes::copy_from_slice(body);
        }
        let reply = self.world.send(call).await;
        let body = match reply.payload {
            Payload::Whole(bytes) => Body::Whole(bytes),
            Payload::Pieces(pieces) => Body::Frames(Frames(pieces)),
            Payload::Upgrade(session) => Body::Upgrade(Upgraded(session)),
        };
        Some(Answer { status: reply.status.as_u16(), headers: reply.headers, body })
    }

    /// Does what the background has to do; false when it does not come to an end.
    pub fn settle(&self) -> bool {
        (0..100_000).any(|_| !self.world.engine.work_off())
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.world.engine.store.version()
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        self.world.hand.advance(by);
    }

    /// Shows a part as a pod, with these ports.
    ///
    /// # Panics
    /// When it cannot be shown.
    pub fn part(&self, name: &str, ports: Vec<PartPort>, logs: LogRing, control: PartControl) {
        let part = Part {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            labels: Default::default(),
            container: "c".to_owned(),
            image: "i".to_owned(),
            ports,
            logs,
            control,
            started: self.world.engine.clock.now(),
        };
        self.world.seed().part(&part).expect("a part");
    }

    /// A log on this server's clock.
    pub fn log(&self) -> LogRing {
        LogRing::new(self.world.engine.clock.clone(), Default::default())
    }

    /// Takes a part away.
    pub fn remove_part(&self, name: &str) {
        self.world.seed().remove_part("default", name);
    }

    /// Whether no session, connection to a part or follower holds a place.
    pub fn is_quiet(&self) -> bool {
        let (streams, limits) = (&self.world.engine.streams, &self.streams);
        let seats: Vec<_> = (0..limits.sessions).map_while(|_| streams.seat().ok()).collect();
        let followers: Vec<_> = (0..limits.followers).map_while(|_| streams.follower().ok()).collect();
        let forwards: Arc<Semaphore> = streams.forwards();
        (seats.len(), followers.len(), forwards.available_permits())
            == (limits.sessions, limits.followers, limits.forwards)
    }
}

impl Frames {
    /// The next piece.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.next().await?.ok()
    }
}

impl Upgraded {
    /// Runs on a connection until it ends or `stop`.
    pub async fn run(self, connection: DuplexStream, stop: Shutdown) {
        (self.0)(Box::new(connection), stop).await;
    }
}
