//! Invariants F1 to F10 of docs/store-invariants.md.

use std::{collections::HashSet, time::Duration};

use portcullis_runtime::Secret;
use portcullis_storage::{
    CreateError, Identity, MAX_FAMILIES, RefreshError, RefreshToken, Refreshed, RotationPolicy, SecretBytes,
    StoreError, StoreOptions,
    conformance::{Counts, Fault},
    kernel::{Kind, Page},
};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::kit::{DAY, HOUR, Kit, identity, new_family, on_every_backend, policy, refresh};

const SECOND: Duration = Duration::from_secs(1);

on_every_backend!(
    parallel_refreshes_of_one_token_give_one_live_branch,
    a_refresh_rotates_and_the_retry_gives_the_same_again,
    a_refresh_costs_two_reads_and_one_write,
    reuse_after_the_grace_ends_the_family,
    an_older_token_ends_the_family_even_within_the_grace,
    an_invented_token_changes_nothing,
    another_clients_token_changes_nothing,
    a_refresh_survives_lost_and_late_requests,
    a_refresh_that_stays_unknown_can_be_tried_again,
    a_family_that_ended_meanwhile_gives_nothing,
    a_slow_refresh_is_superseded_and_harms_nobody,
    without_rotation_the_token_stays,
    the_reuse_interval_gives_the_current_token_back,
    families_end_after_idle_and_absolute_life,
    what_the_connector_said_at_a_refresh_is_kept,
    the_33rd_family_ends_the_longest_idle,
    a_use_of_a_family_that_was_taken_off_ends_no_other,
    a_family_that_its_list_has_lost_is_put_on_it_again,
    families_that_are_over_make_room_first,
    parallel_sign_ins_never_exceed_the_limit,
    a_tombstone_that_was_not_written_is_written_by_the_next_sign_in,
    revoking_a_users_client_reaches_a_family_that_is_being_created,
    signing_a_user_out_is_one_write,
    parallel_sign_outs_lose_nothing,
    revoking_by_user_and_by_client_ends_those_and_no_others,
    a_client_may_revoke_its_own_token_and_no_other,
    a_live_family_outlives_every_collection,
    what_is_over_is_collected,
    a_family_id_is_used_once,
);

async fn parallel_refreshes_of_one_token_give_one_live_branch(kit: Kit) {
    let first = kit.family().await;
    let stores = [kit.store.clone(), kit.replica(2, StoreOptions::default())];
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let (store, token) = (stores[number % 2].clone(), first.clone());
        tasks.spawn(async move { refresh(&store, &token, &policy()).await });
    }
    let given: HashSet<String> =
        tasks.join_all().await.into_iter().map(|result| result.unwrap().secret.expose().to_owned()).collect();
    assert_eq!(given.len(), 1, "every caller holds the same successor");
    let second = RefreshToken { family: first.family.clone(), secret: Secret::new(given.into_iter().next().unwrap()) };
    let third = kit.refresh(&second).await.unwrap();
    assert_eq!(kit.refresh(&first).await.unwrap_err(), RefreshError::Reused);
    assert_eq!(kit.refresh(&third).await.unwrap_err(), RefreshError::Revoked);
}

async fn a_refresh_rotates_and_the_retry_gives_the_same_again(kit: Kit) {
    let first = kit.family().await;
    let second = kit.refresh(&first).await.unwrap();
    assert_eq!(second.family, first.family);
    assert_ne!(second.secret, first.secret);
    kit.hand.advance(30 * SECOND);
    kit.faults.take_counts();
    assert_eq!(kit.refresh(&first).await.unwrap(), second);
    assert_eq!(kit.faults.take_counts(), Counts { gets: 2, lists: 0, writes: 0 });
    let third = kit.refresh(&second).await.unwrap();
    assert_eq!(kit.refresh(&second).await.unwrap(), third);
}

/// Over more than a day of refreshes every 10 minutes, all but those that move the collection time (less than once a
/// week) cost exactly this.
async fn a_refresh_costs_two_reads_and_one_write(kit: Kit) {
    let mut token = kit.family().await;
    let mut dearer = 0;
    for _ in 0..200 {
        kit.hand.advance(10 * Duration::from_secs(60));
        kit.faults.take_counts();
        token = kit.refresh(&token).await.unwrap();
        match kit.faults.take_counts() {
            Counts { gets: 2, lists: 0, writes: 1 } => {}
            Counts { gets: 3, lists: 0, writes: 2 } => dearer += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(dearer <= 1, "{dearer} refreshes moved the collection time");
}

async fn reuse_after_the_grace_ends_the_family(kit: Kit) {
    let first = kit.family().await;
    let second = kit.refresh(&first).await.unwrap();
    kit.hand.advance(30 * SECOND + Duration::from_millis(1));
    assert_eq!(kit.refresh(&first).await.unwrap_err(), RefreshError::Reused);
    for token in [&first, &second] {
        assert_eq!(kit.refresh(token).await.unwrap_err(), RefreshError::Revoked);
    }
}

async fn an_older_token_ends_the_family_even_within_the_grace(kit: Kit) {
    let first = kit.family().await;
    let mut newest = kit.refresh(&first).await.unwrap();
    for _ in 0..40 {
        newest = kit.refresh(&newest).await.unwrap();
    }
    assert_eq!(kit.refresh(&first).await.unwrap_err(), RefreshError::Reused);
    assert_eq!(kit.refresh(&newest).await.unwrap_err(), RefreshError::Revoked);
}

async fn an_invented_token_changes_nothing(kit: Kit) {
    let token = kit.family().await;
    let other = kit.family().await;
    let mut flipped = token.secret.expose().to_owned();
    flipped.replace_range(0..1, if flipped.starts_with('A') { "B" } else { "A" });
    let before = kit.dump().await;
    for secret in [
        flipped,
        String::new(),
        "x".to_owned(),
        "A".repeat(64),
        "A".repeat(1_000),
        other.secret.expose().to_owned(),
        format!("{}{}", &token.secret.expose()[..43], "A".repeat(21)),
    ] {
        let invented = RefreshToken { family: token.family.clone(), secret: Secret::new(secret.clone()) };
        if secret[..42.min(secret.len())] != token.secret.expose()[..42] {
            assert_eq!(kit.refresh(&invented).await.unwrap_err(), RefreshError::Invalid, "{secret}");
        }
    }
    for family in ["", "unknown", &"x".repeat(3_000)] {
        let invented = RefreshToken { family: family.to_owned().into(), secret: token.secret.clone() };
        assert_eq!(kit.refresh(&invented).await.unwrap_err(), RefreshError::Invalid);
        assert!(!kit.store.families().revoke(&invented, "app").await.unwrap());
    }
    assert_eq!(kit.dump().await, before);
    kit.refresh(&token).await.unwrap();
}

async fn another_clients_token_changes_nothing(kit: Kit) {
    let first = kit.family().await;
    let second = kit.refresh(&first).await.unwrap();
    kit.hand.advance(HOUR);
    let before = kit.dump().await;
    for token in [&first, &second] {
        let opened = kit.store.families().open(token, "other", &policy()).await;
        assert_eq!(opened.unwrap_err(), RefreshError::OtherClient);
    }
    assert_eq!(kit.dump().await, before);
}

async fn a_refresh_survives_lost_and_late_requests(kit: Kit) {
    let scripts: [&[Fault]; 6] = [
        &[Fault::LostReply],
        &[Fault::LostRequest],
        &[Fault::LateRequest],
        &[Fault::LostRequest, Fault::LostRequest, Fault::LostReply],
        &[Fault::LateRequest, Fault::LateRequest],
        &[Fault::LostReply, Fault::LostReply],
    ];
    let mut token = kit.family().await;
    for script in scripts {
        kit.faults.script_writes(script.iter().copied());
        let next = kit.refresh(&token).await.unwrap();
        kit.hand.advance(HOUR);
        token = kit.refresh(&next).await.unwrap();
        kit.hand.advance(HOUR);
    }
}

/// The client hears nothing, or 503, and tries again with the token that it has.
async fn a_refresh_that_stays_unknown_can_be_tried_again(kit: Kit) {
    let mut token = kit.family().await;
    for fault in [Fault::LostReply, Fault::LostRequest, Fault::LateRequest, Fault::Refused] {
        kit.faults.script_writes([fault; 8]);
        let unknown = kit.refresh(&token).await.unwrap_err();
        assert!(matches!(unknown, RefreshError::Store(StoreError::Kernel(_))), "{fault:?}: {unknown:?}");
        kit.faults.script_writes([]);
        kit.hand.advance(SECOND);
        token = kit.refresh(&token).await.unwrap();
        kit.hand.advance(HOUR);
        token = kit.refresh(&token).await.unwrap();
    }
}

async fn a_family_that_ended_meanwhile_gives_nothing(kit: Kit) {
    let token = kit.family().await;
    let open = kit.store.families().open(&token, "app", &policy()).await.unwrap();
    assert!(kit.store.families().revoke(&token, "app").await.unwrap());
    let advanced = kit.store.families().advance(open, &policy(), Refreshed::default()).await;
    assert_eq!(advanced.unwrap_err(), RefreshError::Revoked);
}

async fn a_slow_refresh_is_superseded_and_harms_nobody(kit: Kit) {
    let first = kit.family().await;
    let slow = kit.store.families().open(&first, "app", &policy()).await.unwrap();
    let second = kit.refresh(&first).await.unwrap();
    let third = kit.refresh(&second).await.unwrap();
    let late = kit.store.families().advance(slow, &policy(), Refreshed::default()).await;
    assert_eq!(late.unwrap_err(), RefreshError::Superseded);
    kit.refresh(&third).await.unwrap();
}

async fn without_rotation_the_token_stays(kit: Kit) {
    let policy = RotationPolicy { rotate: false, ..policy() };
    let token = kit.family().await;
    for _ in 0..3 {
        kit.hand.advance(80 * DAY);
        assert_eq!(refresh(&kit.store, &token, &policy).await.unwrap(), token);
    }
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let (store, token, policy) = (kit.store.clone(), token.clone(), policy.clone());
        tasks.spawn(async move { refresh(&store, &token, &policy).await.unwrap() == token });
    }
    assert!(tasks.join_all().await.into_iter().all(|same| same));
    kit.hand.advance(90 * DAY);
    assert_eq!(refresh(&kit.store, &token, &policy).await.unwrap_err(), RefreshError::Expired);
}

/// Compat: Dex's `reuseInterval`.
async fn the_reuse_interval_gives_the_current_token_back(kit: Kit) {
    let policy = RotationPolicy { reuse_interval: 3 * SECOND, grace: Duration::ZERO, ..policy() };
    let first = kit.family().await;
    assert_eq!(refresh(&kit.store, &first, &policy).await.unwrap(), first, "used just now, by its creation");
    kit.hand.advance(4 * SECOND);
    let second = refresh(&kit.store, &first, &policy).await.unwrap();
    assert_ne!(second, first);
    kit.hand.advance(3 * SECOND);
    assert_eq!(refresh(&kit.store, &first, &policy).await.unwrap(), second, "the obsolete token gives the current one");
    assert_eq!(refresh(&kit.store, &second, &policy).await.unwrap(), second, "nothing advances");
    kit.hand.advance(SECOND);
    assert_eq!(refresh(&kit.store, &first, &policy).await.unwrap_err(), RefreshError::Reused);
}

async fn families_end_after_idle_and_absolute_life(kit: Kit) {
    let policy = RotationPolicy { absolute_lifetime: Some(100 * DAY), idle_lifetime: Some(30 * DAY), ..policy() };
    let id = kit.store.families().new_id();
    let mut token = kit.store.families().create(&id, new_family("app"), &policy).await.unwrap();
    for _ in 0..3 {
        kit.hand.advance(30 * DAY - SECOND);
        token = refresh(&kit.store, &token, &policy).await.unwrap();
    }
    kit.hand.advance(10 * DAY + 3 * SECOND);
    assert_eq!(refresh(&kit.store, &token, &policy).await.unwrap_err(), RefreshError::Expired, "absolute");
    let id = kit.store.families().new_id();
    let token = kit.store.families().create(&id, new_family("app"), &policy).await.unwrap();
    kit.hand.advance(30 * DAY);
    assert_eq!(refresh(&kit.store, &token, &policy).await.unwrap_err(), RefreshError::Expired, "idle");
}

async fn what_the_connector_said_at_a_refresh_is_kept(kit: Kit) {
    let token = kit.family().await;
    let open = kit.store.families().open(&token, "app", &policy()).await.unwrap();
    let data = kit.store.families().connector_data(&open).unwrap().unwrap();
    assert_eq!(data.expose(), b"upstream secret");
    let promoted = Identity { groups: vec!["admins".to_owned()], ..identity() };
    let refreshed =
        Refreshed { identity: Some(promoted.clone()), connector_data: Some(SecretBytes::from(&b"newer"[..])) };
    let token = kit.store.families().advance(open, &policy(), refreshed).await.unwrap();
    let open = kit.store.families().open(&token, "app", &policy()).await.unwrap();
    assert_eq!(open.family().identity, promoted);
    assert_eq!(kit.store.families().connector_data(&open).unwrap().unwrap().expose(), b"newer");
}

async fn the_33rd_family_ends_the_longest_idle(kit: Kit) {
    let mut tokens = Vec::new();
    for _ in 0..MAX_FAMILIES {
        tokens.push(kit.family().await);
        kit.hand.advance(SECOND);
    }
    // The oldest is used, so the second oldest is idle the longest.
    tokens[0] = kit.refresh(&tokens[0]).await.unwrap();
    kit.hand.advance(SECOND);
    let other_client =
        kit.store.families().create(&kit.store.families().new_id(), new_family("other"), &policy()).await;
    let newest = kit.family().await;
    for (number, token) in tokens.iter().chain([&newest]).enumerate() {
        let refreshed = kit.refresh(token).await;
        if number == 1 {
            assert_eq!(refreshed.unwrap_err(), RefreshError::Revoked);
        } else {
            assert!(refreshed.is_ok(), "family {number}: {refreshed:?}");
        }
    }
    kit.store.families().open(&other_client.unwrap(), "other", &policy()).await.unwrap();
    assert_eq!(kit.store.families().of_user("u1", "local", &policy()).await.unwrap().len(), MAX_FAMILIES + 1);
}

/// A refresh that was under way when a 33rd sign-in ended its family, and that would prolong it.
async fn a_use_of_a_family_that_was_taken_off_ends_no_other(kit: Kit) {
    let mut tokens = Vec::new();
    for _ in 0..MAX_FAMILIES {
        tokens.push(kit.family().await);
        kit.hand.advance(SECOND);
    }
    let under_way = kit.store.families().open(&tokens[0], "app", &policy()).await.unwrap();
    kit.hand.advance(8 * DAY);
    let newest = kit.family().await;
    let late = kit.store.families().advance(under_way, &policy(), Refreshed::default()).await;
    assert_eq!(late.unwrap_err(), RefreshError::Revoked);
    for (number, token) in tokens.iter().chain([&newest]).enumerate().skip(1) {
        let refreshed = kit.refresh(token).await;
        assert!(refreshed.is_ok(), "family {number}: {refreshed:?}");
    }
}

/// Somebody has deleted the list: a use that prolongs the family mends it, so that signing the user out reaches the family.
async fn a_family_that_its_list_has_lost_is_put_on_it_again(kit: Kit) {
    let token = kit.family().await;
    let kernel = kit.store.kernel();
    let lists = kernel.list(Kind::FamilyList, Page::first(10)).await.unwrap().records;
    kernel.delete(Kind::FamilyList, &lists[0].id, lists[0].version).await.unwrap();
    kit.hand.advance(8 * DAY);
    let token = kit.refresh(&token).await.unwrap();
    kit.store.families().revoke_user("u1", "local").await.unwrap();
    assert_eq!(kit.refresh(&token).await.unwrap_err(), RefreshError::Revoked);
}

async fn families_that_are_over_make_room_first(kit: Kit) {
    let mut tokens = Vec::new();
    for _ in 0..MAX_FAMILIES {
        tokens.push(kit.family().await);
    }
    let revoked = tokens.pop().unwrap();
    assert!(kit.store.families().revoke(&revoked, "app").await.unwrap());
    kit.hand.advance(SECOND);
    let newest = kit.family().await;
    for token in tokens.iter().chain([&newest]) {
        kit.refresh(token).await.unwrap();
    }
}

async fn parallel_sign_ins_never_exceed_the_limit(kit: Kit) {
    let mut tasks = JoinSet::new();
    for _ in 0..MAX_FAMILIES + 24 {
        let store = kit.store.clone();
        tasks.spawn(async move {
            let id = store.families().new_id();
            store.families().create(&id, new_family("app"), &policy()).await
        });
    }
    let mut live = 0;
    for created in tasks.join_all().await {
        // A creation may find that later ones have already made it the longest idle.
        let Ok(token) = created else { continue };
        live += usize::from(kit.refresh(&token).await.is_ok());
    }
    assert!((1..=MAX_FAMILIES).contains(&live), "{live} live families");
    assert_eq!(kit.store.families().of_user("u1", "local", &policy()).await.unwrap().len(), live);
}

async fn a_tombstone_that_was_not_written_is_written_by_the_next_sign_in(kit: Kit) {
    let mut tokens = Vec::new();
    for _ in 0..MAX_FAMILIES {
        tokens.push(kit.family().await);
        kit.hand.advance(SECOND);
    }
    // The list is written; the tombstone of the evicted one is not.
    kit.faults.script_writes([Fault::None, Fault::Refused]);
    let id = kit.store.families().new_id();
    let failed = kit.store.families().create(&id, new_family("app"), &policy()).await.unwrap_err();
    assert!(matches!(failed, CreateError::Store(_)));
    tokens[0] = kit.refresh(&tokens[0]).await.unwrap();
    kit.hand.advance(SECOND);
    kit.family().await;
    assert_eq!(kit.refresh(&tokens[0]).await.unwrap_err(), RefreshError::Revoked);
}

async fn revoking_a_users_client_reaches_a_family_that_is_being_created(kit: Kit) {
    let token = kit.family().await;
    let replica = kit.replica(2, StoreOptions::default());
    kit.faults.before_write(
        Kind::Family,
        Box::new(move || {
            Box::pin(async move {
                assert_eq!(replica.families().revoke_user_client("u1", "local", "app").await.unwrap(), 2);
                Ok(())
            })
        }),
    );
    let id = kit.store.families().new_id();
    let late = kit.store.families().create(&id, new_family("app"), &policy()).await;
    assert_eq!(late.unwrap_err(), CreateError::Ended);
    assert_eq!(kit.refresh(&token).await.unwrap_err(), RefreshError::Revoked);
    kit.refresh(&kit.family().await).await.unwrap();
}

/// However many there are, on whatever clients: what the store refuses afterwards brings none of them back.
async fn signing_a_user_out_is_one_write(kit: Kit) {
    let mut tokens = Vec::new();
    for client in ["app", "app", "cli"] {
        let id = kit.store.families().new_id();
        tokens.push((client, kit.store.families().create(&id, new_family(client), &policy()).await.unwrap()));
    }
    let opened = kit.store.families().open(&tokens[0].1, "app", &policy()).await.unwrap();
    kit.faults.script_writes([Fault::None, Fault::Refused]);
    kit.store.families().revoke_user("u1", "local").await.unwrap();
    assert_eq!(kit.store.families().of_user("u1", "local", &policy()).await.unwrap(), []);
    // A refresh that was under way gives a token that is good for nothing.
    let late = kit.store.families().advance(opened, &policy(), Refreshed::default()).await.unwrap();
    tokens.push(("app", late));
    for (client, token) in tokens.iter().rev() {
        // Nor does the answer depend on what is cleared away for it.
        kit.faults.script_writes([Fault::Refused]);
        let refused = kit.store.families().open(token, client, &policy()).await.unwrap_err();
        assert_eq!(refused, RefreshError::Revoked, "{client}");
    }
    // Who signs in again is in, and what is over leaves the list.
    let token = kit.family().await;
    kit.refresh(&token).await.unwrap();
    assert_eq!(kit.store.families().of_user("u1", "local", &policy()).await.unwrap().len(), 1);
    let lists = kit.store.kernel().list(Kind::FamilyList, Page::first(10)).await.unwrap().records;
    let lists = lists.iter().map(|record| serde_json::from_slice::<Value>(&record.data).unwrap()["v"].clone());
    let app: Vec<Value> = lists.filter(|list| list["client_id"] == "app").collect();
    assert_eq!((app.len(), app[0]["families"].as_array().unwrap().len()), (1, 1), "{app:?}");
    let mut findings = Vec::new();
    kit.store.check(|finding| findings.push(finding)).await.unwrap();
    assert_eq!(findings, []);
}

/// Two who sign a user out at once, and one whose first reply is lost: each counts, and nobody is signed in.
async fn parallel_sign_outs_lose_nothing(kit: Kit) {
    let token = kit.family().await;
    kit.faults.script_writes([Fault::LostReply]);
    let (one, two) = (kit.store.clone(), kit.replica(2, StoreOptions::default()));
    let (one, two) = (one.families(), two.families());
    let (one, two) = tokio::join!(one.revoke_user("u1", "local"), two.revoke_user("u1", "local"));
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert_eq!(kit.refresh(&token).await.unwrap_err(), RefreshError::Revoked);
    kit.refresh(&kit.family().await).await.unwrap();
}

async fn revoking_by_user_and_by_client_ends_those_and_no_others(kit: Kit) {
    let create = async |user: &str, connector: &str, client: &str| {
        let mut new = new_family(client);
        new.identity.user_id = user.to_owned();
        new.connector_id = connector.to_owned();
        kit.store.families().create(&kit.store.families().new_id(), new, &policy()).await.unwrap()
    };
    let live =
        async |token: &RefreshToken, client: &str| kit.store.families().open(token, client, &policy()).await.is_ok();
    let a_app = create("a", "local", "app").await;
    let a_cli = create("a", "local", "cli").await;
    let a_ldap = create("a", "ldap", "app").await;
    let b_app = create("b", "local", "app").await;
    let ab = create("alo", "cal", "app").await;
    kit.store.families().revoke_user("a", "local").await.unwrap();
    assert!(!live(&a_app, "app").await && !live(&a_cli, "cli").await);
    assert!(live(&a_ldap, "app").await && live(&b_app, "app").await && live(&ab, "app").await);
    let c_cli = create("c", "local", "cli").await;
    assert_eq!(kit.store.families().revoke_client("app").await.unwrap(), 3);
    assert!(!live(&a_ldap, "app").await && !live(&b_app, "app").await && live(&c_cli, "cli").await);
    assert_eq!(kit.store.families().revoke_client("nobody").await.unwrap(), 0);
}

async fn a_client_may_revoke_its_own_token_and_no_other(kit: Kit) {
    let first = kit.family().await;
    let second = kit.refresh(&first).await.unwrap();
    assert!(!kit.store.families().revoke(&second, "other").await.unwrap());
    let second = kit.refresh(&second).await.unwrap();
    // An old token of the family is as good as a new one for that: whoever has it wants the grant gone.
    assert!(kit.store.families().revoke(&first, "app").await.unwrap());
    assert!(!kit.store.families().revoke(&first, "app").await.unwrap());
    assert_eq!(kit.refresh(&second).await.unwrap_err(), RefreshError::Revoked);
}

/// Used every 80 days for five years, with a collection every ten, a family and its owner's list stay.
async fn a_live_family_outlives_every_collection(kit: Kit) {
    let mut token = kit.family().await;
    for day in 0..1_825 / 10 {
        kit.hand.advance(10 * DAY);
        kit.store.collect(1_000).await.unwrap();
        if day % 8 == 7 {
            token = kit.refresh(&token).await.unwrap_or_else(|error| panic!("after {day}0 days: {error}"));
        }
    }
    kit.store.families().revoke_user("u1", "local").await.unwrap();
    assert_eq!(kit.refresh(&token).await.unwrap_err(), RefreshError::Revoked);
}

async fn what_is_over_is_collected(kit: Kit) {
    let token = kit.family().await;
    for _ in 0..3 {
        kit.family().await;
    }
    kit.store.families().revoke(&token, "app").await.unwrap();
    kit.hand.advance(DAY);
    kit.store.collect(1_000).await.unwrap();
    assert_eq!(kit.count(Kind::Family).await, 4, "clocks may differ by five minutes");
    kit.hand.advance(5 * Duration::from_secs(60));
    assert_eq!(kit.store.collect(1_000).await.unwrap().records, 1, "the tombstone");
    assert_eq!(kit.refresh(&token).await.unwrap_err(), RefreshError::Invalid);
    kit.hand.advance(90 * DAY);
    kit.store.collect(1_000).await.unwrap();
    kit.hand.advance(7 * DAY);
    kit.store.collect(1_000).await.unwrap();
    assert_eq!(kit.dump().await, "", "an empty store");
}

async fn a_family_id_is_used_once(kit: Kit) {
    let token = kit.family().await;
    let again = kit.store.families().create(&token.family, new_family("app"), &policy()).await;
    assert_eq!(again.unwrap_err(), CreateError::Ended);
    kit.refresh(&token).await.unwrap();
}
