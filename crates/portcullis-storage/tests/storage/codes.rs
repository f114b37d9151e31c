//! Invariants C1 to C6 of docs/store-invariants.md.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::Secret;
use portcullis_storage::{
    Applied, CodeError, CreateError, KernelError, RefreshError, StoreError, Trouble,
    conformance::{Counts, Fault},
    kernel::Kind,
};
use tokio::task::JoinSet;

use crate::kit::{HOUR, Kit, MINUTE, new_family, on_every_backend, policy};

on_every_backend!(
    one_of_100_parallel_redemptions_succeeds,
    a_replay_ends_what_the_code_gave,
    a_replay_before_the_family_exists_makes_its_creation_fail,
    a_replay_while_the_family_is_being_created_ends_it,
    a_redemption_survives_lost_and_late_requests,
    a_redemption_that_stays_unknown_is_never_two,
    a_store_that_refuses_leaves_the_code_usable,
    looking_at_a_code_changes_nothing,
    a_code_ends_with_its_lifetime,
    what_is_no_code_is_invalid,
    nothing_that_can_be_presented_is_stored,
    a_redemption_costs_one_read_and_one_write,
);

async fn one_of_100_parallel_redemptions_succeeds(kit: Kit) {
    let code = kit.code("flow").await;
    let stores = [kit.store.clone(), kit.replica(2, Default::default())];
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let (store, code) = (stores[number % 2].clone(), code.clone());
        tasks.spawn(async move {
            let open = store.codes().open(code.expose(), "app").await?;
            store.codes().redeem(open).await
        });
    }
    let mut successes = 0;
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            Ok(redeemed) => {
                assert_eq!(redeemed.grant.identity.user_id, "u1");
                successes += 1;
            }
            Err(error) => assert_eq!(error, CodeError::Replayed),
        }
    }
    assert_eq!(successes, 1);
}

async fn a_replay_ends_what_the_code_gave(kit: Kit) {
    let code = kit.code("flow").await;
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    let redeemed = kit.store.codes().redeem(open).await.unwrap();
    let token = kit.store.families().create(&redeemed.family, new_family("app"), &policy()).await.unwrap();
    let token = kit.refresh(&token).await.unwrap();
    assert_eq!(kit.store.codes().open(code.expose(), "other").await.unwrap_err(), CodeError::OtherClient);
    let token = kit.refresh(&token).await.unwrap();
    assert_eq!(kit.store.codes().open(code.expose(), "app").await.unwrap_err(), CodeError::Replayed);
    assert_eq!(kit.refresh(&token).await.unwrap_err(), RefreshError::Revoked);
}

async fn a_replay_before_the_family_exists_makes_its_creation_fail(kit: Kit) {
    let code = kit.code("flow").await;
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    let redeemed = kit.store.codes().redeem(open).await.unwrap();
    assert_eq!(kit.store.codes().open(code.expose(), "app").await.unwrap_err(), CodeError::Replayed);
    let late = kit.store.families().create(&redeemed.family, new_family("app"), &policy()).await;
    assert_eq!(late.unwrap_err(), CreateError::Ended);
}

/// The replay comes between the creation's two writes: after the list knows the family, before the family is there.
async fn a_replay_while_the_family_is_being_created_ends_it(kit: Kit) {
    let code = kit.code("flow").await;
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    let redeemed = kit.store.codes().redeem(open).await.unwrap();
    let (replica, replayed) = (kit.replica(2, Default::default()), code.clone());
    kit.faults.before_write(
        Kind::Family,
        Box::new(move || {
            Box::pin(async move {
                let replay = replica.codes().open(replayed.expose(), "app").await;
                assert_eq!(replay.unwrap_err(), CodeError::Replayed);
                Ok(())
            })
        }),
    );
    let late = kit.store.families().create(&redeemed.family, new_family("app"), &policy()).await;
    assert_eq!(late.unwrap_err(), CreateError::Ended);
}

async fn a_redemption_survives_lost_and_late_requests(kit: Kit) {
    let scripts: [&[Fault]; 5] = [
        &[Fault::LostReply],
        &[Fault::LostRequest],
        &[Fault::LateRequest],
        &[Fault::LostRequest, Fault::LostReply],
        &[Fault::LateRequest, Fault::LostRequest, Fault::LostReply],
    ];
    for (number, script) in scripts.iter().enumerate() {
        let code = kit.code(&format!("flow {number}")).await;
        let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
        kit.faults.script_writes(script.iter().copied());
        let redeemed = kit.store.codes().redeem(open).await;
        assert!(redeemed.is_ok(), "{script:?}: {redeemed:?}");
        assert_eq!(kit.store.codes().open(code.expose(), "app").await.unwrap_err(), CodeError::Replayed, "{script:?}");
    }
}

async fn a_redemption_that_stays_unknown_is_never_two(kit: Kit) {
    for (number, fault) in [Fault::LostReply, Fault::LostRequest, Fault::LateRequest].into_iter().enumerate() {
        let code = kit.code(&format!("flow {number}")).await;
        let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
        // Four attempts, then the read that asks who won.
        kit.faults.script([fault; 16]);
        let unknown = kit.store.codes().redeem(open).await.unwrap_err();
        let lost = KernelError::Unavailable { applied: Applied::Unknown, trouble: Trouble::Timeout };
        assert_eq!(unknown, CodeError::Store(StoreError::Kernel(lost)), "{fault:?}");
        kit.faults.script([]);
        let mut successes = 0;
        for _ in 0..3 {
            match kit.store.codes().open(code.expose(), "app").await {
                Ok(open) => successes += usize::from(kit.store.codes().redeem(open).await.is_ok()),
                Err(error) => assert_eq!(error, CodeError::Replayed),
            }
        }
        assert_eq!(successes, usize::from(fault == Fault::LostRequest), "{fault:?}");
    }
}

async fn a_store_that_refuses_leaves_the_code_usable(kit: Kit) {
    let code = kit.code("flow").await;
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    kit.faults.script([Fault::Refused]);
    let refused = kit.store.codes().redeem(open).await.unwrap_err();
    assert!(matches!(refused, CodeError::Store(error) if error.is_temporary()));
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    kit.store.codes().redeem(open).await.unwrap();
}

async fn looking_at_a_code_changes_nothing(kit: Kit) {
    let code = kit.code("flow").await;
    let before = kit.dump().await;
    for _ in 0..3 {
        let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
        assert_eq!(open.grant().redirect_uri, "http://localhost:8000");
        assert_eq!(open.grant().pkce.as_ref().unwrap().challenge, "c");
        assert_eq!(kit.store.codes().open(code.expose(), "other").await.unwrap_err(), CodeError::OtherClient);
    }
    assert_eq!(kit.dump().await, before);
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    let redeemed = kit.store.codes().redeem(open).await.unwrap();
    assert_eq!(redeemed.connector_data.unwrap().expose(), b"upstream secret");
}

async fn a_code_ends_with_its_lifetime(kit: Kit) {
    let code = kit.code("flow").await;
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    let last_moment = kit.store.codes().open(code.expose(), "app").await.unwrap();
    kit.hand.advance(10 * MINUTE - Duration::from_millis(1));
    kit.store.codes().open(code.expose(), "app").await.unwrap();
    kit.hand.advance(Duration::from_millis(1));
    assert_eq!(kit.store.codes().open(code.expose(), "app").await.unwrap_err(), CodeError::Expired);
    assert_eq!(kit.store.codes().redeem(open).await.unwrap_err(), CodeError::Expired);
    drop(last_moment);
    kit.hand.advance(2 * HOUR);
    assert!(kit.store.collect(1000).await.unwrap().records >= 2);
    assert_eq!(kit.store.codes().open(code.expose(), "app").await.unwrap_err(), CodeError::Invalid);
}

async fn what_is_no_code_is_invalid(kit: Kit) {
    kit.code("flow").await;
    for code in ["", "x", "\0", &"x".repeat(1024), &"x".repeat(1025), "ß😀"] {
        assert_eq!(kit.store.codes().open(code, "app").await.unwrap_err(), CodeError::Invalid, "{code:?}");
    }
}

async fn nothing_that_can_be_presented_is_stored(kit: Kit) {
    let mut secrets = Vec::new();
    for sealed in [false, true] {
        if sealed {
            kit.store.unlock(Some(crate::sealing::keys(&[("k1", 1)]))).await.unwrap();
            assert!(kit.store.seals_secrets());
        }
        let code = kit.code(if sealed { "sealed flow" } else { "flow" }).await;
        let issued = kit.dump().await;
        let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
        let redeemed = kit.store.codes().redeem(open).await.unwrap();
        let token = kit.store.families().create(&redeemed.family, new_family("app"), &policy()).await.unwrap();
        let next = kit.refresh(&token).await.unwrap();
        let all = issued + &kit.dump().await;
        for secret in [&code, &token.encode(), &next.encode()] {
            // In the form in which it is presented, and the bytes that are encoded there in hex.
            secrets.push(secret.expose().to_owned());
            let bytes = URL_SAFE_NO_PAD.decode(secret.expose()).unwrap();
            secrets.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        // The secret's first 42 characters are its 32-byte token; the last two of 44 would share bits with the tag.
        secrets.extend([&token, &next].map(|token| token.secret.expose()[..42].to_owned()));
        for secret in &secrets {
            assert!(!all.contains(secret), "{secret} is in {all}");
        }
        assert!(!kit.dump().await.contains("\"open\""), "a redeemed code still holds its grant");
    }
}

async fn a_redemption_costs_one_read_and_one_write(kit: Kit) {
    let code = kit.code("flow").await;
    kit.faults.take_counts();
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    kit.store.codes().redeem(open).await.unwrap();
    assert_eq!(kit.faults.take_counts(), Counts { gets: 1, lists: 0, writes: 1 });
}

#[test]
fn codes_are_long_and_differ() {
    let kit = Kit::new(crate::kit::Backend::Memory);
    let codes: Vec<Secret> = (0..100).map(|_| kit.store.codes().new_code()).collect();
    let different: std::collections::HashSet<_> = codes.iter().map(|code| code.expose().to_owned()).collect();
    assert!(different.len() == 100 && codes.iter().all(|code| code.expose().len() == 43));
}
