//! The kernels on database servers behind a network that loses things.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_storage::{
    Applied, CodeError, Kernel, KernelError, SqlOptions, Trouble,
    kernel::{Kind, Version, Write},
};
use portcullis_testkit::{DatabaseKind, FaultProxy, Traffic};
use tokio::task::JoinSet;

use crate::{
    kit::{HOUR, Kit},
    servers::{Server, Way, on_both, write},
};

on_both!(faults_are_told_as_they_are, lost_replies_are_recognised, no_update_is_lost_among_64_writers);

const ID: &str = "id";

/// A store behind a proxy, and the same without.
struct Path {
    proxy: Arc<FaultProxy>,
    kernel: Arc<dyn Kernel>,
    direct: Arc<dyn Kernel>,
}

impl Path {
    async fn to(server: &Server, options: SqlOptions) -> Self {
        let store = server.fresh();
        let proxy = Arc::new(FaultProxy::start((Ipv4Addr::LOCALHOST, server.database.port()).into()).await);
        let direct = server.open(&store, &server.way()).await.unwrap();
        let way = Way { port: proxy.address().port(), options, ..server.way() };
        let kernel = server.open(&store, &way).await.unwrap();
        Self { proxy, kernel, direct }
    }

    /// A record whose connection has carried every statement before.
    async fn warm(&self) -> Version {
        let kernel = &self.kernel;
        let version = kernel.insert(Kind::Family, "warm", write("")).await.unwrap();
        let version = kernel.update(Kind::Family, "warm", version, write("")).await.unwrap();
        kernel.delete(Kind::Family, "warm", version).await.unwrap();
        kernel.get(Kind::Family, ID).await.unwrap().map_or(Version::new(0), |record| record.version)
    }

    async fn data(&self) -> Option<String> {
        let record = self.direct.get(Kind::Family, ID).await.unwrap();
        record.map(|record| String::from_utf8(record.data).unwrap())
    }
}

fn applied<T>(result: Result<T, KernelError>) -> Option<Applied> {
    match result {
        Err(KernelError::Unavailable { applied, .. }) => Some(applied),
        _ => None,
    }
}

async fn faults_are_told_as_they_are(kind: DatabaseKind) {
    let mut server = Server::start(kind);
    let options = SqlOptions {
        connect_time: Duration::from_secs(2),
        answer_time: Duration::from_secs(3),
        ..SqlOptions::default()
    };
    let path = Path::to(&server, options).await;
    requests_and_replies_get_lost(&path).await;
    connections_that_died_while_idle_are_replaced(&path).await;
    a_silent_store_is_a_timeout(&path).await;
    a_slow_store_is_waited_for(&path).await;
    a_store_that_is_gone_comes_back(&path).await;
    // The same when it is the server that goes.
    server.database.kill();
    let begun = Instant::now();
    let refused = loop {
        match path.direct.insert(Kind::Family, "gone", write("")).await.unwrap_err() {
            KernelError::Unavailable { applied: Applied::No, trouble } => break trouble.to_string(),
            error => assert!(begun.elapsed() < Duration::from_secs(10), "{error}"),
        }
    };
    assert!(refused.contains("cannot connect") && refused.contains("refused"), "{refused}");
    server.database.restart();
    path.warm().await;
}

async fn requests_and_replies_get_lost(path: &Path) {
    path.kernel.insert(Kind::Family, ID, write("1")).await.unwrap();
    let version = path.warm().await;
    path.proxy.set(Traffic::LoseRequest);
    let lost = path.kernel.update(Kind::Family, ID, version, write("2")).await;
    assert_eq!(applied(lost), Some(Applied::Unknown));
    assert_eq!((path.data().await.as_deref(), path.proxy.traffic()), (Some("1"), Traffic::Pass));

    path.warm().await;
    path.proxy.set(Traffic::LoseReply);
    let lost = path.kernel.update(Kind::Family, ID, version, write("2")).await;
    assert_eq!(applied(lost), Some(Applied::Unknown));
    assert_eq!((path.data().await.as_deref(), path.proxy.traffic()), (Some("2"), Traffic::Pass));

    // A read is asked again over another connection.
    for fault in [Traffic::LoseRequest, Traffic::LoseReply] {
        path.warm().await;
        path.proxy.set(fault);
        assert_eq!(path.kernel.get(Kind::Family, ID).await.unwrap().unwrap().data, b"2");
        assert_eq!(path.proxy.traffic(), Traffic::Pass);
    }

    let version = path.warm().await;
    path.proxy.set(Traffic::LoseReply);
    assert_eq!(applied(path.kernel.delete(Kind::Family, ID, version).await), Some(Applied::Unknown));
    assert_eq!(path.data().await, None);
    path.warm().await;
    path.proxy.set(Traffic::LoseReply);
    assert_eq!(applied(path.kernel.insert(Kind::Family, ID, write("3")).await), Some(Applied::Unknown));
    assert_eq!(path.data().await.as_deref(), Some("3"));
}

/// What has been idle for a second is asked first, so that nothing is lost to a restart that nobody noticed.
async fn connections_that_died_while_idle_are_replaced(path: &Path) {
    for round in 0..3 {
        let version = path.warm().await;
        path.proxy.cut();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        path.kernel.update(Kind::Family, ID, version, write(&format!("idle {round}"))).await.unwrap();
    }
    // Not asked: the answer may not be a guess.
    let version = path.warm().await;
    path.proxy.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let result = path.kernel.update(Kind::Family, ID, version, write("unasked")).await;
    let there = path.data().await.as_deref() == Some("unasked");
    let true_to_itself = match &result {
        Ok(_) => there,
        Err(KernelError::Unavailable { applied, .. }) => *applied == Applied::Unknown || !there,
        Err(_) => false,
    };
    assert!(true_to_itself, "{result:?}, and it is there: {there}");
}

async fn a_silent_store_is_a_timeout(path: &Path) {
    let version = path.warm().await;
    path.proxy.set(Traffic::Silence);
    let begun = Instant::now();
    let unknown = KernelError::maybe_applied(Trouble::Timeout);
    assert_eq!(path.kernel.update(Kind::Family, ID, version, write("silent")).await, Err(unknown));
    assert!((3..6).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    // No connection can be made now: nothing was asked.
    let refused = path.kernel.update(Kind::Family, ID, version, write("silent")).await.unwrap_err();
    assert!(refused.to_string().contains("cannot connect"), "{refused}");
    assert!(matches!(refused, KernelError::Unavailable { applied: Applied::No, .. }), "{refused:?}");
    path.proxy.set(Traffic::Pass);
    assert_ne!(path.data().await.as_deref(), Some("silent"));
    path.kernel.update(Kind::Family, ID, version, write("loud")).await.unwrap();
}

async fn a_slow_store_is_waited_for(path: &Path) {
    let version = path.warm().await;
    path.proxy.set(Traffic::Delay(Duration::from_millis(200)));
    let (begun, before) = (Instant::now(), path.proxy.requests());
    path.kernel.update(Kind::Family, ID, version, write("slow")).await.unwrap();
    // One round trip, each way delayed once.
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    assert_eq!(path.proxy.requests() - before, 1);
    path.proxy.set(Traffic::Pass);
}

async fn a_store_that_is_gone_comes_back(path: &Path) {
    let version = path.warm().await;
    path.proxy.set(Traffic::Refuse);
    path.proxy.cut();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for _ in 0..5 {
        let begun = Instant::now();
        let gone = path.kernel.update(Kind::Family, ID, version, write("gone")).await.unwrap_err();
        assert!(matches!(gone, KernelError::Unavailable { applied: Applied::No, .. }), "{gone:?}");
        assert!(gone.to_string().contains("cannot connect to"), "{gone}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    path.proxy.set(Traffic::Pass);
    path.kernel.update(Kind::Family, ID, version, write("back")).await.unwrap();
    assert_eq!(path.data().await.as_deref(), Some("back"));
}

/// A facade whose write was lost, or whose answer was, knows its own write again by the nonce.
async fn lost_replies_are_recognised(kind: DatabaseKind) {
    let server = Server::start(kind);
    let path = Path::to(&server, SqlOptions::default()).await;
    let kit = Kit::on(Arc::clone(&path.kernel));
    let strike = |kind, fault| {
        let proxy = Arc::clone(&path.proxy);
        kit.faults.before_write(
            kind,
            Box::new(move || {
                Box::pin(async move {
                    proxy.set(fault);
                    Ok(())
                })
            }),
        );
    };
    let mut token = kit.family().await;
    token = kit.refresh(&token).await.unwrap();
    for round in 0..10 {
        let fault = if round % 2 == 0 { Traffic::LoseReply } else { Traffic::LoseRequest };
        kit.hand.advance(HOUR);
        path.warm().await;
        strike(Kind::Family, fault);
        let next = kit.refresh(&token).await.unwrap();
        assert_eq!(path.proxy.traffic(), Traffic::Pass, "it struck");
        // A client that heard nothing tries again, and gets the same.
        assert_eq!(kit.refresh(&token).await.unwrap(), next);
        token = next;

        let code = kit.code(&format!("flow {round}")).await;
        let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
        path.warm().await;
        strike(Kind::Code, fault);
        kit.store.codes().redeem(open).await.unwrap();
        assert_eq!(path.proxy.traffic(), Traffic::Pass, "it struck");
        assert_eq!(kit.store.codes().open(code.expose(), "app").await.unwrap_err(), CodeError::Replayed);
    }
}

/// Each of 64 writers adds its names to one record, over a network that loses a request or an answer every few
/// milliseconds, and all connections now and then. In the end every name is there once.
async fn no_update_is_lost_among_64_writers(kind: DatabaseKind) {
    const WRITERS: usize = 64;
    const EACH: usize = 3;
    /// Writers that are too fast for the network's faults go on until one was met.
    const MOST: usize = 100;
    let server = Server::start(kind);
    let path = Path::to(&server, SqlOptions { max_open: 16, max_idle: 16, ..SqlOptions::default() }).await;
    path.direct.insert(Kind::Family, ID, write("")).await.unwrap();
    let mut writers = JoinSet::new();
    let unknown = Arc::new(AtomicUsize::new(0));
    for number in 0..WRITERS {
        let (kernel, unknown) = (Arc::clone(&path.kernel), Arc::clone(&unknown));
        writers.spawn(async move {
            let mut part = 0;
            while part < EACH || (part < MOST && unknown.load(Ordering::Relaxed) == 0) {
                unknown.fetch_add(add(&kernel, format!("<{number}.{part}>")).await, Ordering::Relaxed);
                part += 1;
            }
            (number, part)
        });
    }
    let proxy = Arc::clone(&path.proxy);
    let chaos = tokio::spawn(async move {
        for round in 0_u64.. {
            match round % 16 {
                15 => proxy.cut(),
                even if even % 2 == 0 => proxy.set(Traffic::LoseReply),
                _ => proxy.set(Traffic::LoseRequest),
            }
            tokio::time::sleep(Duration::from_millis(250 + round % 7)).await;
        }
    });
    let written = writers.join_all().await;
    chaos.abort();
    let unknown = unknown.load(Ordering::Relaxed);
    println!("{kind:?}: {unknown} writes of which nobody knew");
    assert!(unknown > 0, "the network lost nothing");
    let data = path.data().await.unwrap();
    for (number, parts) in written {
        for part in 0..parts {
            assert_eq!(data.matches(&format!("<{number}.{part}>")).count(), 1, "{number}.{part} in {data}");
        }
    }
}

/// Adds a name once, however often it has to be tried. Returns how often nobody knew whether it had been added.
async fn add(kernel: &Arc<dyn Kernel>, name: String) -> usize {
    let mut unknown = 0;
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        let Ok(Some(record)) = kernel.get(Kind::Family, ID).await else { continue };
        let data = String::from_utf8(record.data).unwrap();
        if data.contains(&name) {
            return unknown;
        }
        let data = Write { data: format!("{data}{name}").into_bytes(), ..Write::default() };
        match kernel.update(Kind::Family, ID, record.version, data).await {
            Ok(_) => return unknown,
            Err(KernelError::Unavailable { applied: Applied::Unknown, .. }) => unknown += 1,
            Err(KernelError::Unavailable { applied: Applied::No, .. } | KernelError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{name} could not be added in time")
}
