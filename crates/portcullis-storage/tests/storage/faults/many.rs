//! Operations on many records: pages of an index, the collector, snapshots.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use portcullis_runtime::Timestamp;
use portcullis_storage::{
    Applied, KernelError, Snapshot,
    kernel::{IndexKey, Page, Slot, Write},
};
use portcullis_testkit::Traffic;

use super::behind::{Behind, KIND, RECOVERY, Server, applied, write};

/// What becomes of the next request, or of all for a while.
const FAULTS: [Traffic; 4] =
    [Traffic::LoseRequest, Traffic::LoseReply, Traffic::RepeatReply, Traffic::Delay(Duration::from_millis(80))];
/// How often each: what is lost may also be something else of the protocol's.
const ROUNDS: usize = 3;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

/// Ends a fault, which must have met a request or a reply.
fn has_struck(store: &Behind, fault: Traffic) {
    let struck = store.proxy.traffic() == Traffic::Pass || matches!(fault, Traffic::Delay(_));
    store.proxy.set(Traffic::Pass);
    assert!(struck, "{fault:?}");
}

/// Asks until the store answers again.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, KernelError>) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < RECOVERY, "{error}"),
        }
    }
}

/// A page of an index holds what it should: what was lost is asked for again, and a reply that came twice is at worst an error.
pub(super) async fn a_page_of_an_index_is_right_whatever_was_lost(server: &Server) {
    let store = server.store().await;
    let key = || IndexKey::of(&["many"]);
    let expected: Vec<String> = (10..22).map(|number| number.to_string()).collect();
    for id in &expected {
        let write = Write { index: [Some(key()), None], ..write("x") };
        store.direct.insert(KIND, id, write).await.unwrap();
    }
    store.there("another", "x").await;
    let ask = async || {
        let listing = store.kernel.by_index(KIND, Slot::First, key(), Page::first(100)).await?;
        assert!(listing.next.is_none());
        Ok(listing.records.into_iter().map(|record| record.id).collect::<Vec<_>>())
    };
    for fault in FAULTS {
        for _ in 0..ROUNDS {
            store.warm().await;
            store.proxy.set(fault);
            let asked = ask().await;
            has_struck(&store, fault);
            match &asked {
                Ok(ids) => assert_eq!(*ids, expected, "{fault:?}"),
                Err(error) => {
                    assert!(matches!(fault, Traffic::RepeatReply), "{fault:?}: {error}");
                    assert_eq!(applied(&asked), Some(Applied::No), "{error}");
                }
            }
            assert_eq!(answered(ask).await, expected, "{fault:?}");
        }
    }
}

/// The collector says how many it has deleted, or that nobody knows; it takes the rest the next time, and nothing that lives.
pub(super) async fn the_collector_tells_what_it_has_done(server: &Server) {
    const MANY: usize = 12;
    let store = server.store().await;
    let until = |seconds| Write { expires_at: Some(at(seconds)), ..write("x") };
    store.direct.insert(KIND, "lives", until(1_000)).await.unwrap();
    for fault in FAULTS {
        for round in 0..ROUNDS {
            let ids: Vec<String> = (0..MANY).map(|number| format!("{fault:?} {round} {number}")).collect();
            for id in &ids {
                store.direct.insert(KIND, id, until(10)).await.unwrap();
            }
            let there = async || {
                let mut there = 0;
                for id in &ids {
                    there += usize::from(store.data(id).await.is_some());
                }
                there
            };
            store.warm().await;
            store.proxy.set(fault);
            let first = store.kernel.expire(at(20), 100).await;
            has_struck(&store, fault);
            let left = there().await;
            match applied(&first) {
                None => assert_eq!(first, Ok(MANY - left), "{fault:?}"),
                Some(Applied::No) => assert_eq!(left, MANY, "{fault:?}: {first:?}"),
                // It may be at work still.
                Some(Applied::Unknown) => {}
            }
            let rest = answered(async || store.kernel.expire(at(20), 100).await).await;
            assert!(rest <= left, "{fault:?}: {rest} of {left} after {first:?}");
            assert_eq!(there().await, 0, "{fault:?}: {first:?}");
            assert!(store.data("lives").await.is_some(), "{fault:?}");
        }
    }
}

/// The ids of what is left of a snapshot.
async fn ids(mut snapshot: Snapshot) -> Result<BTreeSet<String>, KernelError> {
    let mut ids = BTreeSet::new();
    while let Some(batch) = snapshot.next().await? {
        ids.extend(batch.into_iter().map(|(_, record)| record.id));
    }
    Ok(ids)
}

/// A snapshot that loses its connection is read on or is an error; what ends is whole.
pub(super) async fn a_snapshot_is_whole_or_an_error(server: &Server) {
    let store = server.store().await;
    let expected: BTreeSet<String> = (100..150).map(|number| number.to_string()).collect();
    let large = "x".repeat(100 * 1024);
    for id in &expected {
        store.there(id, &large).await;
    }
    let whole = async || ids(store.kernel.snapshot().await?).await;
    for fault in FAULTS {
        for _ in 0..ROUNDS {
            store.warm().await;
            store.proxy.set(fault);
            let read = whole().await;
            has_struck(&store, fault);
            match read {
                Ok(ids) => assert_eq!(ids, expected, "{fault:?}"),
                Err(error) => assert!(!matches!(fault, Traffic::Delay(_)), "{error}"),
            }
        }
    }
    // In its middle: more of it is to come than anybody reads ahead.
    for _ in 0..ROUNDS {
        store.warm().await;
        let mut snapshot = answered(async || store.kernel.snapshot().await).await;
        let first = snapshot.next().await.unwrap().unwrap();
        store.proxy.cut();
        let first: BTreeSet<String> = first.into_iter().map(|(_, record)| record.id).collect();
        if let Ok(rest) = ids(snapshot).await {
            assert_eq!(first.into_iter().chain(rest).collect::<BTreeSet<_>>(), expected);
        }
    }
    assert_eq!(answered(whole).await, expected);
}
