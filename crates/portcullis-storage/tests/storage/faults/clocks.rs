//! A wall clock that somebody sets.

use std::{sync::Arc, time::Duration};

use portcullis_runtime::{Clock, Rng};
use portcullis_storage::{Client, CodeError, Duty, LEASE_LIFETIME, Store, kernel::Kind};
use tokio::{sync::mpsc, time::timeout};

use super::behind::Server;
use crate::kit::{DAY, HOUR, Kit, START};

/// Hours ahead, back, a year ahead, back, and an hour behind: sign-ins, codes, clients and leases live on, the collector takes none
/// of them, the kernel sees no trouble, and changes are told. What has ended by the clock is refused for as long as the clock says
/// so. Three hours ahead a code's record, which is kept for an hour beyond the code's end, would be collected by the clock; a year
/// ahead the family's too.
pub(super) async fn a_clock_that_is_set_ends_nothing_that_lives(server: &Server) {
    let store = server.store().await;
    let kit = Kit::at(Arc::clone(&store.kernel), (store.clock.clone(), store.hand.clone()));
    let (clock, _others_hand) = Clock::mock(START);
    let other = Store::new(Arc::clone(&store.direct), clock, Rng::seeded(7));

    let named = |id: &str| Client { id: id.to_owned(), ..Client::default() };
    kit.store.clients().create(&named("before")).await.unwrap();
    let mut token = kit.family().await;
    let code = kit.code("flow").await;
    let mut held = kit.store.leases().candidate(Duty::Collect, LEASE_LIFETIME);
    let mut wanted = other.leases().candidate(Duty::Collect, LEASE_LIFETIME);
    assert_eq!((held.contend().await, wanted.contend().await), (Ok(true), Ok(false)));

    // Told of every change of a client. A backend that has to be asked answers once at the start.
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut changes = kit.store.clients().changes();
    let telling = tokio::spawn(async move {
        while let Ok(change) = changes.next().await {
            let _ = tell.send(change);
        }
    });
    if store.kernel.feed(Kind::Client).is_none() {
        told.recv().await.unwrap();
    }
    let start = kit.now();
    let year = 365 * DAY;
    let steps = [(3 * HOUR, false), (Duration::ZERO, true), (year, false), (Duration::ZERO, true)]
        .map(|(ahead, lives)| (start + ahead, lives));
    for (wall, code_lives) in steps.into_iter().chain([(start - HOUR, true)]) {
        kit.hand.set(wall);
        assert_eq!(store.kernel.trouble(), None, "{wall:?}");
        assert_eq!(kit.store.collect(1_000).await.unwrap().records, 0, "{wall:?}");
        match kit.refresh(&token).await {
            Ok(next) => token = next,
            Err(refused) => assert!(wall == start + year, "{wall:?}: {refused:?}"),
        }
        let open = kit.store.codes().open(code.expose(), "app").await;
        assert_eq!(open.map(drop).err(), (!code_lives).then_some(CodeError::Expired), "{wall:?}");
        assert!(kit.store.clients().get("before").await.unwrap().is_some());
        assert_eq!(wanted.contend().await, Ok(false), "a lease is taken over by no wall clock");
    }
    assert_eq!(held.contend().await, Ok(true));

    // The clock is an hour behind the one by which the last wait began.
    while told.try_recv().is_ok() {}
    other.clients().create(&named("meanwhile")).await.unwrap();
    let mut change = None;
    for _ in 0..100 {
        // Far less than the hour in all. Who asks is perhaps about to wait only now.
        kit.hand.advance(Duration::from_secs(2));
        change = timeout(Duration::from_millis(200), told.recv()).await.ok().flatten();
        if change.is_some() {
            break;
        }
    }
    assert!(change.is_some(), "a change is told although the clock was set back");
    telling.abort();

    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    kit.store.codes().redeem(open).await.unwrap();
    kit.refresh(&token).await.unwrap();
}
