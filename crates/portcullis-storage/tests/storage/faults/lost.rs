//! Connections that end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_storage::{Applied, CodeError, KernelError, kernel::Kind};
use portcullis_testkit::Traffic;

use super::behind::{Behind, IDLE, KIND, Op, RECOVERY, Server, applied, write};
use crate::kit::{HOUR, Kit};

/// Whoever asked cannot know that the server does not know: the write is told as unknown, and nothing of it ever happens. What
/// finds no connection afterwards certainly has not happened, and a read is asked again until its time is over.
pub(super) async fn a_connection_that_ends_before_the_server_knows_has_done_nothing(server: &Server) {
    let store = server.store().await;
    for op in Op::ALL {
        // What is lost may also be something else of the protocol's; then the request itself is sent over a new connection.
        let mut unknown = false;
        for round in 0..20 {
            let id = format!("{op:?} {round}");
            let version = op.prepare(&store, &id).await;
            store.warm().await;
            store.proxy.set(Traffic::LoseRequest);
            let result = op.run(&*store.kernel, &id, version).await;
            assert_eq!(store.proxy.traffic(), Traffic::Pass, "it struck");
            let (before, after) = op.effect();
            match applied(&result) {
                None => assert_eq!((result, store.data(&id).await.as_deref()), (Ok(()), after), "{id}"),
                Some(applied) => {
                    unknown |= applied == Applied::Unknown;
                    assert_eq!(store.data(&id).await.as_deref(), before, "{id}");
                    assert_eq!(op.run(&*store.kernel, &id, version).await, Ok(()), "{id}");
                    assert_eq!(store.data(&id).await.as_deref(), after, "{id}");
                }
            }
            if unknown {
                break;
            }
        }
        assert!(unknown, "{op:?} was never lost");
    }
    let store = server.hasty_store().await;
    store.proxy.set(Traffic::CutRequests);
    store.proxy.cut();
    tokio::time::sleep(IDLE).await;
    let (read, unsent) = tokio::join!(store.kernel.get(KIND, "any"), store.kernel.insert(KIND, "unsent", write("new")));
    assert_eq!(applied(&read), Some(Applied::No), "{read:?}");
    assert_eq!(applied(&unsent), Some(Applied::No), "{unsent:?}");
    store.proxy.set(Traffic::Pass);
    store.warm().await;
    assert_eq!(store.data("unsent").await, None);
}

/// The write has happened, once, and is told as unknown: neither as done nor as refused. A read is asked again.
pub(super) async fn a_connection_that_ends_after_the_commit_is_told_as_unknown(server: &Server) {
    let store = server.store().await;
    for op in Op::ALL {
        let mut committed = false;
        for round in 0..20 {
            let id = format!("{op:?} {round}");
            committed = cut_after_the_commit(&store, op, &id).await;
            // All connections were cut, which the kernel has to notice.
            tokio::time::sleep(IDLE).await;
            if committed {
                break;
            }
        }
        assert!(committed, "{op:?} was never carried out");
    }
    store.there("read", "x").await;
    store.warm().await;
    store.proxy.set(Traffic::DropReplies);
    let (kernel, before) = (Arc::clone(&store.kernel), store.proxy.requests());
    let reading = tokio::spawn(async move { kernel.get(KIND, "read").await });
    store.proxy.asked_more_than(before).await;
    store.proxy.cut_and_pass();
    assert_eq!(reading.await.unwrap().unwrap().unwrap().data, b"x");
}

/// Whether the write went over a connection that was there, so that it was carried out before the cut.
async fn cut_after_the_commit(store: &Behind, op: Op, id: &str) -> bool {
    let version = op.prepare(store, id).await;
    store.warm().await;
    store.proxy.set(Traffic::DropReplies);
    let writing = tokio::spawn({
        let (kernel, id) = (Arc::clone(&store.kernel), id.to_owned());
        async move { op.run(&*kernel, &id, version).await }
    });
    let (before, after) = op.effect();
    while !writing.is_finished() && store.data(id).await.as_deref() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.proxy.cut_and_pass();
    let written = writing.await.unwrap();
    let there = store.data(id).await;
    if there.as_deref() == before {
        assert!(applied(&written).is_some(), "{id}: {written:?}");
        return false;
    }
    assert_eq!((applied(&written), there.as_deref()), (Some(Applied::Unknown), after), "{id}: {written:?}");
    let begun = Instant::now();
    let again = loop {
        let again = op.run(&*store.kernel, id, version).await;
        if applied(&again).is_none() || begun.elapsed() > RECOVERY {
            break again;
        }
    };
    assert_eq!(again, Err(op.repeated()), "{id}");
    assert_eq!(store.data(id).await.as_deref(), after, "{id}");
    true
}

/// Servers restart and firewalls forget: a connection that was idle costs no write. One that was used a moment ago may, and
/// then the answer is true.
pub(super) async fn a_connection_that_ended_while_nobody_used_it_is_replaced(server: &Server) {
    let store = server.store().await;
    let mut version = store.there("id", "").await;
    for round in 0..2 {
        store.warm().await;
        store.proxy.cut();
        tokio::time::sleep(IDLE).await;
        version = store.kernel.update(KIND, "id", version, write(&round.to_string())).await.unwrap();
    }
    store.warm().await;
    store.proxy.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let result = store.kernel.update(KIND, "id", version, write("soon")).await;
    let there = store.data("id").await.as_deref() == Some("soon");
    let is_true = match &result {
        Ok(_) => there,
        Err(KernelError::Unavailable { applied, .. }) => *applied == Applied::Unknown || !there,
        Err(_) => false,
    };
    assert!(is_true, "{result:?}, and it is there: {there}");
}

/// A facade whose write or whose answer was lost knows its own write again: one effect, and no false refusal.
pub(super) async fn a_write_is_recognised_by_its_nonce_whatever_was_lost(server: &Server) {
    let store = server.store().await;
    let kit = Kit::at(Arc::clone(&store.kernel), (store.clock.clone(), store.hand.clone()));
    let strike = |kind, fault| {
        let proxy = Arc::clone(&store.proxy);
        let hook = move || {
            Box::pin(async move {
                proxy.set(fault);
                Ok(())
            }) as _
        };
        kit.faults.before_write(kind, Box::new(hook));
    };
    let mut token = kit.family().await;
    token = kit.refresh(&token).await.unwrap();
    for round in 0..6 {
        let fault = if round % 2 == 0 { Traffic::LoseReply } else { Traffic::LoseRequest };
        kit.hand.advance(HOUR);
        store.warm().await;
        strike(Kind::Family, fault);
        let next = kit.refresh(&token).await.unwrap();
        assert_eq!(store.proxy.traffic(), Traffic::Pass, "it struck");
        // A client that heard nothing tries again, and gets the same.
        assert_eq!(kit.refresh(&token).await.unwrap(), next);
        token = next;

        let code = kit.code(&format!("flow {round}")).await;
        let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
        store.warm().await;
        strike(Kind::Code, fault);
        kit.store.codes().redeem(open).await.unwrap();
        assert_eq!(store.proxy.traffic(), Traffic::Pass, "it struck");
        assert_eq!(kit.store.codes().open(code.expose(), "app").await.unwrap_err(), CodeError::Replayed);
    }
}
