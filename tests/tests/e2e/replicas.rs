//! Two replicas of the released `portcullis serve` under load, while one is killed and started again, and the other is
//! stopped for longer than anybody waits. What was acknowledged is there afterwards, and nothing is honoured twice.
//!
//! A chain is a client that refreshes its token, and tries again with the same when it hears nothing. A code is presented
//! to both replicas at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_local::form::{self, Credentials};
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig};
use portcullis_testkit::{Database, DatabaseKind, DatabaseOptions, Etcd, TestCa, free_ports};
use rustix::process::Signal;
use tokio::task::JoinSet;
use url::Url;

use crate::{
    databases::{GOOD, refresh, replica, token},
    world::{USER, World},
};

/// Longest wait for an answer before a client tries again.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a replica is stopped: longer than a client waits, and than a store waits for an answer.
const STOPPED: Duration = Duration::from_secs(8);
/// The longest that a driver may go on.
const BOUND: Duration = Duration::from_secs(40);
const CHAINS: usize = 6;
const CALLBACK: &str = "http://localhost:8000";

#[derive(Clone)]
struct Driver {
    http: HttpClient,
    /// The replica that is stopped, whose address is the issuer's; and the one that is killed.
    ports: [u16; 2],
    over: Arc<AtomicBool>,
}

/// What came of a request.
enum Answer {
    /// Tokens. The refresh token is empty where the code came a second time before it was made.
    Given(String),
    /// The provider says no.
    Refused(String),
    /// Nobody knows.
    Unknown,
}

/// What a chain saw.
struct Chain {
    tokens: Vec<String>,
    unknown: usize,
    /// The provider ended it, and a request of its own was still on its way to the stopped replica.
    ended_by_itself: bool,
}

#[derive(Default)]
struct Codes {
    presented: usize,
    honoured: usize,
    /// How many came twice, both times with an answer, and what these gave.
    replayed: usize,
    given: Vec<String>,
}

impl Driver {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    async fn ask(&self, port: u16, form: &[(&str, &str)]) -> Answer {
        match tokio::time::timeout(PATIENCE, token(&self.http, port, form)).await {
            Ok(Ok(tokens)) => Answer::Given(tokens["refresh_token"].as_str().unwrap_or_default().to_owned()),
            Ok(Err(error)) if error.starts_with("400 ") => Answer::Refused(error),
            Ok(Err(_)) | Err(_) => Answer::Unknown,
        }
    }

    async fn refresh(&self, port: u16, with: &str) -> Answer {
        self.ask(port, &[("grant_type", "refresh_token"), ("refresh_token", with)]).await
    }

    /// Refreshes until the end. An even chain knows the killed replica only: what it gave up on never arrives late.
    async fn chain(self, number: usize) -> Chain {
        let form =
            [("grant_type", "password"), ("username", USER), ("password", GOOD), ("scope", "openid offline_access")];
        let begun = Instant::now();
        let first = loop {
            match self.ask(self.ports[1], &form).await {
                Answer::Given(token) => break token,
                Answer::Refused(why) => panic!("chain {number} cannot sign in: {why}"),
                Answer::Unknown => assert!(begun.elapsed() < BOUND, "chain {number} cannot sign in"),
            }
        };
        let mut chain = Chain { tokens: vec![first], unknown: 0, ended_by_itself: false };
        let mut abandoned = false;
        for round in 0.. {
            if !self.goes_on() {
                break;
            }
            let port = self.ports[if number.is_multiple_of(2) { 1 } else { round % 2 }];
            match self.refresh(port, chain.tokens.last().unwrap()).await {
                Answer::Given(next) => {
                    assert!(!next.is_empty(), "chain {number} got no refresh token");
                    chain.tokens.push(next);
                }
                Answer::Unknown => {
                    chain.unknown += 1;
                    abandoned |= port == self.ports[0];
                }
                Answer::Refused(why) => {
                    assert!(abandoned, "chain {number} is refused after {} tokens: {why}", chain.tokens.len());
                    chain.ended_by_itself = true;
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        chain
    }

    /// A code by the sign-in page.
    async fn code(&self) -> Option<String> {
        let mut start = Url::parse(&format!("http://127.0.0.1:{}/dex/auth", self.ports[0])).unwrap();
        start.query_pairs_mut().extend_pairs([
            ("client_id", "app"),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("scope", "openid offline_access"),
            ("state", "s"),
        ]);
        let callback = Url::parse(CALLBACK).unwrap();
        let credentials = Credentials { login: USER, password: GOOD };
        let signed_in = form::sign_in_for_code(&self.http, &start, &callback, &credentials);
        let redirect = tokio::time::timeout(PATIENCE, signed_in).await.ok()?.ok()?;
        redirect.query_pairs().find(|(key, _)| key == "code").map(|(_, code)| code.into_owned())
    }

    async fn codes(self) -> Codes {
        let mut seen = Codes::default();
        while self.goes_on() {
            let Some(code) = self.code().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let form = [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", CALLBACK)];
            let answers = tokio::join!(self.ask(self.ports[0], &form), self.ask(self.ports[1], &form));
            seen.presented += 1;
            match answers {
                (Answer::Given(_), Answer::Given(_)) => panic!("a code was honoured twice"),
                (Answer::Given(token), other) | (other, Answer::Given(token)) => {
                    seen.honoured += 1;
                    if let Answer::Refused(_) = other {
                        seen.replayed += 1;
                        seen.given.extend((!token.is_empty()).then_some(token));
                    }
                }
                _ => {}
            }
        }
        seen
    }

    /// Asks until somebody answers.
    async fn settled(&self, port: u16, with: &str) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            match self.refresh(port, with).await {
                Answer::Given(next) => return Ok(next),
                Answer::Refused(why) => return Err(why),
                Answer::Unknown => assert!(begun.elapsed() < BOUND, "nobody answers"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[expect(clippy::print_stdout, reason = "figures for whoever runs the test with --nocapture")]
async fn nothing_is_lost_and_nothing_is_honoured_twice(name: &str, storage: &str) {
    let world = World::new();
    let ports: [u16; 2] = free_ports();
    // The sign-in is walked step by step.
    let settings = TestCa::default().http_client_config();
    let http = HttpClient::new(HttpClientConfig { max_redirects: 0, ..settings }).unwrap();
    let stopped = replica(&world, ports[0], ports[0], storage);
    let mut killed = replica(&world, ports[1], ports[0], storage);
    let driver = Driver { http: http.clone(), ports, over: Arc::default() };
    let mut chains = JoinSet::new();
    (0..CHAINS).for_each(|number| drop(chains.spawn(driver.clone().chain(number))));
    let mut codes = JoinSet::new();
    (0..2).for_each(|_| drop(codes.spawn(driver.clone().codes())));

    // The kills and the stop are at these times, under load: that they come at any moment is what is tried.
    for round in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        killed.signal(Signal::KILL);
        killed.output();
        killed = replica(&world, ports[1], ports[0], storage);
        if round == 1 {
            stopped.signal(Signal::STOP);
            tokio::time::sleep(STOPPED).await;
            stopped.signal(Signal::CONT);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    driver.over.store(true, Ordering::Relaxed);
    let chains = tokio::time::timeout(BOUND, chains.join_all()).await.expect("every client ends");
    let codes = tokio::time::timeout(BOUND, codes.join_all()).await.expect("every client ends");

    let mut given = 0;
    for (number, chain) in chains.iter().enumerate() {
        given += chain.tokens.len();
        if chain.ended_by_itself {
            continue;
        }
        // The last token that was acknowledged is good, at either replica.
        let last = chain.tokens.last().unwrap();
        let next = driver.settled(ports[number % 2], last).await;
        let next = next.unwrap_or_else(|why| panic!("chain {number} lost what it was given: {why}"));
        let next = driver.settled(ports[1 - number % 2], &next).await.unwrap();
        // An old one gives nothing, and ends the chain.
        if let [.., old, _, _] = chain.tokens.as_slice() {
            assert!(driver.settled(ports[0], old).await.is_err(), "an old token of chain {number} was honoured");
            assert!(refresh(&http, ports[1], &next).await.is_err(), "chain {number} lives after its reuse");
        }
    }
    let (mut presented, mut honoured, mut replayed) = (0, 0, 0);
    for seen in &codes {
        (presented, honoured) = (presented + seen.presented, honoured + seen.honoured);
        replayed += seen.replayed;
        for token in &seen.given {
            assert!(driver.settled(ports[1], token).await.is_err(), "what a replayed code gave lives");
        }
    }
    let unknown: usize = chains.iter().map(|chain| chain.unknown).sum();
    let ended = chains.iter().filter(|chain| chain.ended_by_itself).count();
    println!(
        "{name}: {given} tokens in {CHAINS} chains, {unknown} requests without an answer, {ended} chains ended by a late \
         request of their own; {presented} codes, {honoured} honoured, {replayed} of them replayed"
    );
    assert!(given > 20 * CHAINS && unknown > 0, "{given} tokens, {unknown} unknown: there was no load");
    assert!(honoured > 0 && replayed > 0, "{honoured} codes, {replayed} replayed");
    for serves in [stopped, killed] {
        serves.signal(Signal::TERM);
        serves.output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_postgresql_lose_nothing_under_load() {
    let server = Database::start(DatabaseKind::Postgres, DatabaseOptions::default());
    server.create("dex");
    let (port, user, password) = (server.port(), Database::USER, Database::PASSWORD);
    let storage = format!(
        "{{type: postgres, config: {{host: 127.0.0.1, port: {port}, user: {user}, password: {password}, database: dex, ssl: {{mode: disable}}}}}}"
    );
    nothing_is_lost_and_nothing_is_honoured_twice("PostgreSQL", &storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_etcd_lose_nothing_under_load() {
    let etcd = Etcd::start().await;
    let storage = format!("{{type: etcd, config: {{endpoints: ['{}']}}}}", etcd.url());
    nothing_is_lost_and_nothing_is_honoured_twice("etcd", &storage).await;
}
