//! Invariants L1 to L4 of docs/store-invariants.md.

use portcullis_runtime::Timestamp;
use portcullis_storage::{
    CodeError, LoginError, LoginState, StoreOptions,
    conformance::{Counts, Fault},
    kernel::Kind,
};
use tokio::task::JoinSet;

use crate::kit::{DAY, HOUR, Kit, MINUTE, START, code_request, identity, new_login, on_every_backend};

on_every_backend!(
    a_flow_is_spent_once_however_many_try,
    a_spent_flow_stays_refused_until_the_end_of_time,
    steps_follow_the_order_and_nothing_else,
    only_one_of_many_answers_counts,
    one_flow_gives_one_code,
    a_lost_reply_is_no_second_sign_in,
    a_code_whose_record_was_not_written_is_written_by_the_repetition,
    a_code_that_has_ended_is_not_written_again,
    a_login_keeps_what_the_connector_said,
    strange_flow_ids_are_unknown_and_never_a_failure,
    a_code_flow_costs_what_it_says,
);

fn flow_end() -> Timestamp {
    Timestamp::from_unix_seconds(START) + 15 * MINUTE
}

async fn a_flow_is_spent_once_however_many_try(kit: Kit) {
    let stores = [kit.store.clone(), kit.replica(2, StoreOptions::default())];
    let mut tasks = JoinSet::new();
    for number in 0..64 {
        let store = stores[number % 2].clone();
        tasks.spawn(async move { store.logins().begin("flow", new_login(false), flow_end()).await });
    }
    let mut begun = 0;
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            Ok(_) => begun += 1,
            Err(error) => assert_eq!(error, LoginError::Spent),
        }
    }
    assert_eq!(begun, 1);
}

/// The cookie is refused by the clock from its end on, and until then (and well beyond) the record is there.
async fn a_spent_flow_stays_refused_until_the_end_of_time(kit: Kit) {
    kit.store.logins().begin("flow", new_login(true), flow_end()).await.unwrap();
    for _ in 0..300 {
        kit.store.collect(1000).await.unwrap();
        let again = kit.store.logins().begin("flow", new_login(true), flow_end()).await.unwrap_err();
        let expected = if kit.now() < flow_end() { LoginError::Spent } else { LoginError::Expired };
        assert_eq!(again, expected, "at {}", kit.now());
        if kit.now() >= flow_end() {
            let code = kit.store.codes().new_code();
            let issued = kit.store.logins().issue_code("flow", &code, code_request(), HOUR).await.unwrap_err();
            assert!(matches!(issued, LoginError::Expired | LoginError::Unknown), "{issued:?}");
        }
        kit.hand.advance(MINUTE);
    }
    assert_eq!(kit.count(Kind::Login).await, 0, "the record is collected in the end");
    // A replica whose clock is an hour behind still finds the record before it is collected.
    kit.hand.set(Timestamp::from_unix_seconds(START));
    kit.store.logins().begin("other", new_login(true), flow_end()).await.unwrap();
    kit.hand.set(flow_end() + HOUR);
    kit.store.collect(1000).await.unwrap();
    kit.hand.set(flow_end() - MINUTE);
    assert_eq!(kit.store.logins().begin("other", new_login(true), flow_end()).await.unwrap_err(), LoginError::Spent);
}

async fn steps_follow_the_order_and_nothing_else(kit: Kit) {
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Approve,
        Deny,
        Complete,
        Code,
    }
    use LoginState::{Approved, Authenticated, CodeIssued, Completed, Denied};
    let table = [
        (false, vec![], Authenticated),
        (true, vec![], Approved),
        (false, vec![Step::Deny], Denied),
        (true, vec![Step::Complete], Completed),
        (true, vec![Step::Code], CodeIssued),
        (false, vec![Step::Approve], CodeIssued),
    ];
    let take = async |flow: &str, step: Step| {
        let logins = kit.store.logins();
        let code = kit.store.codes().new_code();
        match step {
            Step::Approve => logins.approve(flow, &code, code_request(), HOUR).await.map(|_| CodeIssued),
            Step::Deny => logins.deny(flow).await.map(|login| login.state),
            Step::Complete => logins.complete(flow).await.map(|login| login.state),
            Step::Code => logins.issue_code(flow, &code, code_request(), HOUR).await.map(|_| CodeIssued),
        }
    };
    for (number, (approved, path, state)) in table.iter().enumerate() {
        for next in [Step::Approve, Step::Deny, Step::Complete, Step::Code] {
            let flow = format!("{number} {next:?}");
            kit.store.logins().begin(&flow, new_login(*approved), flow_end()).await.unwrap();
            for step in path {
                take(&flow, *step).await.unwrap();
            }
            assert_eq!(kit.store.logins().get(&flow).await.unwrap().state, *state);
            let allowed = match (state, next) {
                (Authenticated, Step::Approve) | (Approved, Step::Code) => Some(CodeIssued),
                (Authenticated, Step::Deny) => Some(Denied),
                (Approved, Step::Complete) => Some(Completed),
                _ => None,
            };
            let expected = allowed.ok_or(LoginError::WrongState { is: *state });
            assert_eq!(take(&flow, next).await, expected, "{state:?}, then {next:?}");
        }
    }
}

async fn only_one_of_many_answers_counts(kit: Kit) {
    kit.store.logins().begin("flow", new_login(false), flow_end()).await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..32 {
        let store = kit.store.clone();
        tasks.spawn(async move {
            if number % 2 == 0 {
                let code = store.codes().new_code();
                let issued = store.logins().approve("flow", &code, code_request(), HOUR).await;
                issued.map(|_| LoginState::CodeIssued)
            } else {
                store.logins().deny("flow").await.map(|login| login.state)
            }
        });
    }
    let results: Vec<_> = tasks.join_all().await;
    let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(kit.store.logins().get("flow").await.unwrap().state, *winners[0]);
    assert_eq!(kit.count(Kind::Code).await, usize::from(*winners[0] == LoginState::CodeIssued));
}

async fn one_flow_gives_one_code(kit: Kit) {
    kit.store.logins().begin("flow", new_login(true), flow_end()).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..32 {
        let store = kit.store.clone();
        tasks.spawn(async move {
            let code = store.codes().new_code();
            let issued = store.logins().issue_code("flow", &code, code_request(), HOUR).await;
            issued.map(|issued| (code, issued))
        });
    }
    let mut codes = Vec::new();
    for result in tasks.join_all().await {
        match result {
            Ok((code, issued)) => {
                assert!(!issued.again);
                codes.push(code);
            }
            Err(error) => assert_eq!(error, LoginError::WrongState { is: LoginState::CodeIssued }),
        }
    }
    assert_eq!(codes.len(), 1);
    assert_eq!(kit.count(Kind::Code).await, 1);
    let again = kit.store.logins().issue_code("flow", &codes[0], code_request(), HOUR).await.unwrap();
    assert!(again.again);
    kit.store.codes().open(codes[0].expose(), "app").await.unwrap();
}

async fn a_lost_reply_is_no_second_sign_in(kit: Kit) {
    for (number, fault) in [Fault::LostReply, Fault::LostRequest, Fault::LateRequest].into_iter().enumerate() {
        let flow = format!("flow {number}");
        kit.faults.script_writes([fault]);
        kit.store.logins().begin(&flow, new_login(false), flow_end()).await.unwrap();
        let code = kit.store.codes().new_code();
        kit.faults.script_writes([fault, Fault::None, fault]);
        kit.store.logins().approve(&flow, &code, code_request(), HOUR).await.unwrap();
        let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
        kit.store.codes().redeem(open).await.unwrap();
        assert_eq!(kit.store.logins().begin(&flow, new_login(false), flow_end()).await.unwrap_err(), LoginError::Spent);
    }
}

async fn a_code_whose_record_was_not_written_is_written_by_the_repetition(kit: Kit) {
    kit.store.logins().begin("flow", new_login(true), flow_end()).await.unwrap();
    let code = kit.store.codes().new_code();
    kit.faults.script_writes([Fault::None, Fault::Refused]);
    let failed = kit.store.logins().issue_code("flow", &code, code_request(), HOUR).await.unwrap_err();
    assert!(matches!(failed, LoginError::Store(_)));
    assert_eq!(kit.store.codes().open(code.expose(), "app").await.unwrap_err(), CodeError::Invalid);
    let again = kit.store.logins().issue_code("flow", &code, code_request(), HOUR).await.unwrap();
    assert!(again.again);
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    assert_eq!(open.grant().identity, identity());
    kit.store.codes().redeem(open).await.unwrap();
    // Once more does not bring a redeemed code back.
    kit.store.logins().issue_code("flow", &code, code_request(), HOUR).await.unwrap();
    assert_eq!(kit.store.codes().open(code.expose(), "app").await.unwrap_err(), CodeError::Replayed);
}

async fn a_code_that_has_ended_is_not_written_again(kit: Kit) {
    kit.store.logins().begin("flow", new_login(true), kit.now() + DAY).await.unwrap();
    let code = kit.store.codes().new_code();
    kit.store.logins().issue_code("flow", &code, code_request(), MINUTE).await.unwrap();
    let open = kit.store.codes().open(code.expose(), "app").await.unwrap();
    kit.store.codes().redeem(open).await.unwrap();
    kit.hand.advance(3 * HOUR);
    kit.store.collect(1000).await.unwrap();
    assert_eq!(kit.count(Kind::Code).await, 0);
    let again = kit.store.logins().issue_code("flow", &code, code_request(), MINUTE).await.unwrap_err();
    assert_eq!(again, LoginError::Expired);
    assert_eq!(kit.count(Kind::Code).await, 0);
}

async fn a_login_keeps_what_the_connector_said(kit: Kit) {
    let begun = kit.store.logins().begin("flow", new_login(false), flow_end()).await.unwrap();
    let read = kit.store.logins().get("flow").await.unwrap();
    assert_eq!(begun, read);
    assert_eq!(read.identity, identity());
    assert_eq!((read.client_id.as_str(), read.connector_id.as_str()), ("app", "local"));
    assert_eq!((read.auth_time, read.expires_at), (Timestamp::from_unix_seconds(START), flow_end()));
}

async fn strange_flow_ids_are_unknown_and_never_a_failure(kit: Kit) {
    for flow in ["", "\0", &"x".repeat(5_000), "../..", "😀"] {
        assert_eq!(kit.store.logins().get(flow).await.unwrap_err(), LoginError::Unknown, "{flow:?}");
        assert_eq!(kit.store.logins().deny(flow).await.unwrap_err(), LoginError::Unknown, "{flow:?}");
    }
}

async fn a_code_flow_costs_what_it_says(kit: Kit) {
    let counts = |gets, writes| Counts { gets, lists: 0, writes };
    kit.faults.take_counts();
    kit.store.logins().begin("flow", new_login(true), flow_end()).await.unwrap();
    assert_eq!(kit.faults.take_counts(), counts(0, 1));
    let code = kit.store.codes().new_code();
    kit.store.logins().issue_code("flow", &code, code_request(), HOUR).await.unwrap();
    assert_eq!(kit.faults.take_counts(), counts(1, 2));
    kit.store.logins().begin("asked", new_login(false), flow_end()).await.unwrap();
    kit.faults.take_counts();
    let code = kit.store.codes().new_code();
    kit.store.logins().approve("asked", &code, code_request(), HOUR).await.unwrap();
    assert_eq!(kit.faults.take_counts(), counts(1, 2), "consent costs nothing beside the code");
}
