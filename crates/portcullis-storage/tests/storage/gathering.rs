//! Operations that find no connection free are sent together (docs/decisions/0041), and each succeeds or fails by itself.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use futures_util::future::{join_all, poll_immediate};
use portcullis_runtime::Timestamp;
use portcullis_storage::{
    Applied, Kernel, KernelError, SqlOptions,
    kernel::{IndexKey, Kind, MAX_DATA_BYTES, Page, Slot, Version, Write},
};
use portcullis_testkit::{Database, DatabaseKind, FaultProxy, Traffic};
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::task::JoinSet;

use crate::servers::{Server, Way, write};

/// A store that is asked over one connection, through a proxy that counts.
struct Narrow {
    server: Server,
    store: String,
    proxy: FaultProxy,
    kernel: Arc<dyn Kernel>,
}

impl Narrow {
    async fn start() -> Self {
        let server = Server::start(DatabaseKind::Postgres);
        let store = server.fresh();
        let proxy = FaultProxy::start((Ipv4Addr::LOCALHOST, server.database.port()).into()).await;
        let options = SqlOptions { max_open: 1, max_idle: 1, ..SqlOptions::default() };
        let way = Way { port: proxy.address().port(), options, ..server.way() };
        let kernel = server.open(&store, &way).await.unwrap();
        Self { server, store, proxy, kernel }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Read(Option<(String, Vec<u8>)>),
    Written(Result<(), KernelError>),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_together_is_judged_one_by_one() {
    let Narrow { kernel, proxy, server: _server, .. } = Narrow::start().await;
    let mut versions: Vec<Version> = Vec::new();
    for number in 0..40 {
        versions.push(kernel.insert(Kind::Family, &format!("old-{number}"), write("old")).await.unwrap());
    }
    let before = proxy.requests();
    let mut tasks = JoinSet::new();
    let mut wanted = 0;
    for (number, version) in versions.iter().copied().enumerate() {
        let old = format!("old-{number}");
        let key = IndexKey::of(&[&old]);
        let full = Write {
            index: [Some(key), None],
            expires_at: Some(Timestamp::from_unix_seconds(7)),
            data: format!("new-{number}").into_bytes(),
        };
        // Of two updates of one version one succeeds, so what they write is the same here.
        for (what, told) in [
            ("insert", Told::Written(Ok(()))),
            ("insert taken", Told::Written(Err(KernelError::AlreadyExists))),
            ("update missing", Told::Written(Err(KernelError::NotFound))),
            ("update twice", Told::Written(Ok(()))),
            ("update twice", Told::Written(Err(KernelError::Conflict))),
            ("read missing", Told::Read(None)),
            ("read fixed", Told::Read(Some(("fixed".to_owned(), b"fixed".to_vec())))),
        ] {
            let (kernel, old, full) = (Arc::clone(&kernel), old.clone(), full.clone());
            let fresh = format!("fresh-{number}");
            wanted += 1;
            tasks.spawn(async move {
                let written = |outcome: Result<Version, KernelError>| Told::Written(outcome.map(|_| ()));
                let got = match what {
                    "insert" => written(kernel.insert(Kind::Code, &fresh, full).await),
                    "insert taken" => written(kernel.insert(Kind::Family, &old, write("other")).await),
                    "update missing" => written(kernel.update(Kind::Code, &old, version, write("other")).await),
                    "update twice" => written(kernel.update(Kind::Family, &old, version, full).await),
                    "read missing" => Told::Read(kernel.get(Kind::Login, &old).await.unwrap().map(|r| (r.id, r.data))),
                    _ => Told::Read(kernel.get(Kind::Code, "fixed").await.unwrap().map(|r| (r.id, r.data))),
                };
                (what, told, got)
            });
        }
    }
    kernel.insert(Kind::Code, "fixed", write("fixed")).await.unwrap();
    let mut twice = Vec::new();
    for (what, told, got) in tasks.join_all().await {
        match what {
            "update twice" => twice.push(got),
            // It may have been sent before the record was made.
            "read fixed" if got == Told::Read(None) => {}
            _ => assert_eq!(got, told, "{what}"),
        }
    }
    let won = twice.iter().filter(|told| **told == Told::Written(Ok(()))).count();
    let lost = twice.iter().filter(|told| **told == Told::Written(Err(KernelError::Conflict))).count();
    assert_eq!((won, lost), (40, 40));
    let asked = proxy.requests() - before;
    assert!(asked * 2 < wanted, "{asked} requests for {wanted} operations");
    for number in 0..40 {
        let old = format!("old-{number}");
        for (kind, id) in [(Kind::Family, old.clone()), (Kind::Code, format!("fresh-{number}"))] {
            let record = kernel.get(kind, &id).await.unwrap().unwrap();
            assert_eq!(record.data, format!("new-{number}").into_bytes(), "{id}");
            assert_eq!(record.expires_at, Some(Timestamp::from_unix_seconds(7)));
            let found = kernel.by_index(kind, Slot::First, IndexKey::of(&[&old]), Page::first(10)).await.unwrap();
            assert_eq!(found.records, [record]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_the_server_refuses_spoils_no_other() {
    let Narrow { server, store, kernel, proxy: _proxy } = Narrow::start().await;
    let _nothing = server.database.ask(
        &store,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON portcullis_record FOR EACH ROW WHEN (NEW.id = 'bad') EXECUTE FUNCTION refuse()",
    );
    let mut tasks = JoinSet::new();
    for number in 0..60 {
        let kernel = Arc::clone(&kernel);
        let id = if number == 30 { "bad".to_owned() } else { number.to_string() };
        tasks.spawn(async move { (id.clone(), kernel.insert(Kind::Code, &id, write("x")).await) });
    }
    for (id, outcome) in tasks.join_all().await {
        match outcome {
            Ok(_) => assert_ne!(id, "bad"),
            Err(error) => assert!(id == "bad" && error.to_string() == "not this one", "{id}: {error}"),
        }
    }
    assert_eq!(kernel.list(Kind::Code, Page::first(100)).await.unwrap().records.len(), 59);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_waiting_takes_nobody_along_and_large_ones_go_in_parts() {
    let Narrow { kernel, proxy, server, store } = Narrow::start().await;
    proxy.set(Traffic::Hold);
    let mut waiting = Vec::new();
    for number in 0..40 {
        let data = Write { data: vec![b'x'; MAX_DATA_BYTES], ..Write::default() };
        let id = format!("{number:02}");
        let kernel = Arc::clone(&kernel);
        let mut insert = Box::pin(async move { kernel.insert(Kind::Code, &id, data).await });
        // Each has begun: the first one has the connection, the others wait.
        assert!(poll_immediate(&mut insert).await.is_none());
        waiting.push(insert);
    }
    let mut kept = Vec::new();
    for (number, insert) in waiting.into_iter().enumerate() {
        if number % 4 != 3 {
            kept.push(insert);
        }
    }
    proxy.set(Traffic::Pass);
    for outcome in join_all(kept).await {
        outcome.unwrap();
    }
    for number in 0..40 {
        let record = kernel.get(Kind::Code, &format!("{number:02}")).await.unwrap();
        assert_eq!(record.is_some(), number % 4 != 3, "{number} was given up before it was sent");
    }
    // What one statement has written has one transaction: together, and no more than the bound admits.
    let most = "SELECT max(n) FROM (SELECT count(*) AS n FROM portcullis_record GROUP BY xmin::text) AS written";
    let most: usize = server.database.ask(&store, most).trim().parse().unwrap();
    assert!((2..=4).contains(&most), "{most} in one statement");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_connection_is_lost_nobody_knows_of_any_of_them() {
    let Narrow { server, store, kernel, proxy } = Narrow::start().await;
    // The statement is known to the server: making it ready would wait for the lock, before anything is sent.
    for outcome in join_all(["a", "b", "c", "d"].map(|id| kernel.insert(Kind::Login, id, write("x")))).await {
        outcome.unwrap();
    }
    let way = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(server.database.port());
    let way = way.username(Database::USER).password(Database::PASSWORD).database(&store).ssl_mode(PgSslMode::Disable);
    let mut holder = way.connect().await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE portcullis_record IN EXCLUSIVE MODE").execute(&mut holder).await.unwrap();
    proxy.set(Traffic::Hold);
    // Reads do not wait for that lock.
    let mut first = kernel.get(Kind::Code, "none");
    assert!(poll_immediate(&mut first).await.is_none());
    let ids: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    let mut inserts = Vec::new();
    for id in &ids {
        let mut insert = kernel.insert(Kind::Code, id, write("x"));
        assert!(poll_immediate(&mut insert).await.is_none());
        inserts.push(insert);
    }
    proxy.set(Traffic::Pass);
    assert_eq!(first.await.unwrap(), None);
    let cutting = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'portcullis_record'::regclass AND NOT granted";
        until(async || server.database.ask(&store, waiting) == "1").await;
        proxy.cut();
    };
    let (outcomes, ()) = futures_util::join!(join_all(inserts), cutting);
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(matches!(error, KernelError::Unavailable { applied: Applied::Unknown, .. }), "{error}");
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    // What was sent is carried out when its turn comes, all of it or nothing.
    let there = kernel.list(Kind::Code, Page::first(100)).await.unwrap().records.len();
    assert!(there == 0 || there == 10, "{there}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_two_replicas_never_wait_for_each_other_in_a_circle() {
    const RECORDS: usize = 40;
    let server = Server::start(DatabaseKind::Postgres);
    let store = server.fresh();
    let options = SqlOptions { max_open: 3, ..SqlOptions::default() };
    let way = Way { options, ..server.way() };
    let replicas = [server.open(&store, &way).await.unwrap(), server.open(&store, &way).await.unwrap()];
    for number in 0..RECORDS {
        replicas[0].insert(Kind::Family, &number.to_string(), write("0")).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for worker in 0..64_usize {
        let kernel = Arc::clone(&replicas[worker % 2]);
        tasks.spawn(async move {
            let mut done = 0_usize;
            for turn in 0..40 {
                let id = (worker * 7 + turn * 11) % RECORDS;
                let record = kernel.get(Kind::Family, &id.to_string()).await.unwrap().unwrap();
                match kernel.update(Kind::Family, &record.id, record.version, write("1")).await {
                    Ok(_) => done += 1,
                    Err(error) => assert_eq!(error, KernelError::Conflict),
                }
            }
            done
        });
    }
    let done: usize = tasks.join_all().await.into_iter().sum();
    assert!(done > RECORDS, "{done} updates");
    // A session tells what it has met when it ends.
    drop(replicas);
    let sessions =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{store}' AND application_name = 'portcullis'");
    until(async || server.database.ask(&store, &sessions) == "0").await;
    let deadlocks = format!("SELECT deadlocks FROM pg_stat_database WHERE datname = '{store}'");
    assert_eq!(server.database.ask(&store, &deadlocks), "0");
}

/// A plan that was made for an empty table is kept, and has to do when there are many records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_of_an_empty_table_find_records_by_their_key_in_a_full_one() {
    let Narrow { server, store, kernel, proxy: _proxy } = Narrow::start().await;
    let _nothing = server.database.ask(&store, "ANALYZE portcullis_record");
    let ids: Vec<String> = (0..64).map(|number| number.to_string()).collect();
    let all = async || join_all(ids.iter().map(|id| kernel.get(Kind::Code, id))).await;
    assert!(all().await.into_iter().all(|record| record == Ok(None)));
    for outcome in join_all(ids.iter().map(|id| kernel.insert(Kind::Code, id, write("x")))).await {
        outcome.unwrap();
    }
    let _nothing = server.database.ask(
        &store,
        "INSERT INTO portcullis_record (kind, id, version, data) SELECT 0, n::text::bytea, 1000000 + n, 'x' \
         FROM generate_series(1000, 60000) AS n",
    );
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'portcullis_record_pkey'";
    let before: u64 = server.database.ask(&store, read).parse().unwrap();
    assert!(all().await.into_iter().all(|record| record.unwrap().is_some()));
    for outcome in join_all(ids.iter().map(|id| kernel.insert(Kind::Login, id, write("x")))).await {
        outcome.unwrap();
    }
    drop(kernel);
    let sessions =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{store}' AND application_name = 'portcullis'");
    until(async || server.database.ask(&store, &sessions) == "0").await;
    let after: u64 = server.database.ask(&store, read).parse().unwrap();
    assert!(after - before < 10_000, "{} entries of the key's index were read", after - before);
}

/// Waits for what comes soon.
async fn until(holds: impl AsyncFn() -> bool) {
    for _ in 0..200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not come to that");
}
