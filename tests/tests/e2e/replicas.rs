//! Two replicas of the released `portcullis serve` under load, while one is killed and started again, and the other is
//! stopped. What was acknowledged is there afterwards, and nothing is honoured twice.
//!
//! A chain is a client that refreshes its token, and tries again with the same when it hears nothing. A code is presented
//! to both replicas at once. Who waits for the stopped replica until it goes on is owed a right answer by it. Only a client that
//! gives up and goes on elsewhere may be signed out: what it gave up on arrives late, as an old token. It signs in anew then, and
//! how often that may be is bounded.
//!
//! One of the stops is longer than a lease lives, so that the replica comes back in the belief that it holds what has been
//! another's for long.

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
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use crate::{
    databases::{GOOD, refresh, replica, token},
    world::{Running, USER, World},
};

/// Longest wait for an answer before a client gives up, when it does.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a replica is stopped: longer than that.
const STOPPED: Duration = Duration::from_secs(8);
/// How long a lease lives that nobody renews (`LEASE_LIFETIME` of the store).
const LEASE: Duration = Duration::from_secs(60);
/// The longest that a driver may go on.
const BOUND: Duration = Duration::from_secs(40);
/// The longest that a client waits which does not give up: for the longest stop, and as long as a driver may go on after it.
const WAITS: Duration = Duration::from_secs(60 + 60 + 40);
const HELD_HERE: &str = "the lease is held here\" lease=collector holder=";
const CALLBACK: &str = "http://localhost:8000";

/// How a client treats the replica that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// It does not know it.
    Elsewhere,
    /// It waits for its answer, and goes to the other with what it was given.
    Waits,
    /// It gives up, and goes on at the other. What it gave up on arrives late, and ends its family.
    GivesUp,
}

/// A chain each.
const HABITS: [Habit; 6] =
    [Habit::Elsewhere, Habit::Waits, Habit::GivesUp, Habit::Elsewhere, Habit::Waits, Habit::GivesUp];

#[derive(Clone)]
struct Driver {
    http: HttpClient,
    /// The replica that is stopped, whose address is the issuer's; and the one that is killed.
    ports: [u16; 2],
    /// Chains refresh twice a second, and not as often as they can.
    calm: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

/// What came of a request.
enum Answer {
    /// Tokens. The refresh token is empty where the code came a second time before it was made.
    Given(String),
    /// The provider says no.
    Refused(String),
    /// Nobody knows, and no answer will come.
    Unknown,
    /// Nobody waits for the answer any more.
    GivenUp,
}

/// A replica that is stopped.
struct Stopped {
    /// What the other has honoured meanwhile, and has given for it.
    code: String,
    token: String,
    /// The answer to who presented it here.
    late: JoinHandle<Answer>,
}

/// What a chain saw.
struct Chain {
    habit: Habit,
    /// What it was given since it last signed in.
    tokens: Vec<String>,
    /// How much it was given in all.
    given: usize,
    unknown: usize,
    /// Whether a request of this sign-in may still arrive at the stopped replica.
    gave_up: bool,
    /// How often such a request has ended what it had.
    ends: usize,
    /// How often it has waited there for longer than others do, and got its answer.
    waited: usize,
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

    async fn ask(&self, port: u16, patience: Duration, form: &[(&str, &str)]) -> Answer {
        match tokio::time::timeout(patience, token(&self.http, port, form)).await {
            Ok(Ok(tokens)) => Answer::Given(tokens["refresh_token"].as_str().unwrap_or_default().to_owned()),
            Ok(Err(error)) if error.starts_with("400 ") => Answer::Refused(error),
            Ok(Err(_)) => Answer::Unknown,
            Err(_) => Answer::GivenUp,
        }
    }

    async fn refresh(&self, port: u16, patience: Duration, with: &str) -> Answer {
        self.ask(port, patience, &[("grant_type", "refresh_token"), ("refresh_token", with)]).await
    }

    /// A first refresh token, of the replica that is killed.
    async fn sign_in(&self) -> String {
        let form =
            [("grant_type", "password"), ("username", USER), ("password", GOOD), ("scope", "openid offline_access")];
        let begun = Instant::now();
        loop {
            match self.ask(self.ports[1], PATIENCE, &form).await {
                Answer::Given(token) => return token,
                Answer::Refused(why) => panic!("nobody can sign in: {why}"),
                Answer::Unknown | Answer::GivenUp => assert!(begun.elapsed() < BOUND, "nobody can sign in"),
            }
        }
    }

    /// Refreshes until the end.
    async fn chain(self, number: usize, habit: Habit) -> Chain {
        let tokens = vec![self.sign_in().await];
        let mut chain = Chain { habit, tokens, given: 1, unknown: 0, gave_up: false, ends: 0, waited: 0 };
        let mut at = 1;
        while self.goes_on() {
            let (asked, stopped) = (Instant::now(), at == 0);
            let patience = if stopped && habit == Habit::Waits { WAITS } else { PATIENCE };
            match self.refresh(self.ports[at], patience, chain.tokens.last().unwrap()).await {
                Answer::Given(next) => {
                    assert!(!next.is_empty(), "chain {number} got no refresh token");
                    chain.tokens.push(next);
                    chain.given += 1;
                    chain.waited += usize::from(stopped && asked.elapsed() > PATIENCE);
                    at = 1 - at;
                }
                // Who waits asks again where it has asked: elsewhere it could have to wait for longer than a retry may.
                Answer::Unknown => {
                    chain.unknown += 1;
                    // That it cannot say is an answer too of a replica whose time for the store was over when it went on.
                    chain.waited += usize::from(stopped && asked.elapsed() > PATIENCE);
                    at = if habit == Habit::GivesUp { 1 - at } else { at };
                }
                Answer::GivenUp => {
                    assert!(!(stopped && habit == Habit::Waits), "chain {number} has waited for {WAITS:?}");
                    chain.unknown += 1;
                    chain.gave_up |= stopped;
                    at = if habit == Habit::GivesUp { 1 - at } else { at };
                }
                Answer::Refused(why) => {
                    assert!(chain.gave_up, "chain {number} ({habit:?}) is refused after {} tokens: {why}", chain.given);
                    self.is_over(&chain).await;
                    chain.ends += 1;
                    chain.tokens = vec![self.sign_in().await];
                    (chain.given, chain.gave_up) = (chain.given + 1, false);
                }
            }
            if habit == Habit::Elsewhere {
                at = 1;
            }
            let pause = if self.calm.load(Ordering::Relaxed) { 500 } else { 20 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        chain
    }

    /// What has ended stays so, with all that it was given last.
    async fn is_over(&self, chain: &Chain) {
        for token in chain.tokens.iter().rev().take(2) {
            assert!(self.settled(self.ports[1], token).await.is_err(), "an ended chain gave something");
        }
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

    /// Presents a code, and waits for the answer wherever it is.
    async fn present(&self, at: usize, code: &str) -> Answer {
        let form = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK)];
        self.ask(self.ports[at], WAITS, &form).await
    }

    async fn codes(self) -> Codes {
        let mut seen = Codes::default();
        while self.goes_on() {
            let Some(code) = self.code().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let answers = tokio::join!(self.present(0, &code), self.present(1, &code));
            seen.presented += 1;
            match answers {
                (Answer::Given(_), Answer::Given(_)) => panic!("a code was honoured twice"),
                (Answer::GivenUp, _) | (_, Answer::GivenUp) => panic!("a code got no answer in {WAITS:?}"),
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

    /// Presents a code until somebody says what it is worth.
    async fn insist(&self, at: usize, code: &str) -> Answer {
        let begun = Instant::now();
        loop {
            match self.present(at, code).await {
                Answer::Unknown => assert!(begun.elapsed() < BOUND, "nobody says what a code is worth"),
                known => return known,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops a replica, and presents a code to it that the other honours. What that gave, and what the stopped one will say.
    async fn stop(&self, replica: &Running) -> Stopped {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < BOUND, "nobody honours a code");
            let Some(code) = self.code().await else { continue };
            replica.freeze();
            let (driver, late) = (self.clone(), code.clone());
            let late = tokio::spawn(async move { driver.present(0, &late).await });
            match self.present(1, &code).await {
                Answer::Given(token) => {
                    assert!(!late.is_finished(), "the replica is not stopped");
                    return Stopped { code, token, late };
                }
                // The replica that is killed may have been so in between, and what it has done is not known.
                Answer::Unknown => {
                    replica.signal(Signal::CONT);
                    tokio::time::timeout(BOUND, late).await.expect("an answer to who has waited").unwrap();
                }
                Answer::Refused(why) => panic!("a code was not honoured: {why}"),
                Answer::GivenUp => panic!("a code got no answer in {WAITS:?}"),
            }
        }
    }

    /// Lets the replica go on. It refuses what has been honoured, and ends what that gave.
    async fn go_on(&self, replica: &Running, Stopped { code, token, late }: Stopped) {
        replica.signal(Signal::CONT);
        let late = match tokio::time::timeout(BOUND, late).await.expect("an answer to who has waited").unwrap() {
            Answer::Unknown => self.insist(0, &code).await,
            known => known,
        };
        assert!(matches!(late, Answer::Refused(_)), "a code that was honoured elsewhere is no good");
        assert!(self.settled(self.ports[1], &token).await.is_err(), "what a replayed code gave lives");
    }

    /// Asks until somebody answers.
    async fn settled(&self, port: u16, with: &str) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            match self.refresh(port, PATIENCE, with).await {
                Answer::Given(next) => return Ok(next),
                Answer::Refused(why) => return Err(why),
                Answer::Unknown | Answer::GivenUp => assert!(begun.elapsed() < BOUND, "nobody answers"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The pair of replicas: that which is stopped, and that which is killed.
struct Pair {
    world: World,
    storage: String,
    ports: [u16; 2],
    stopped: Running,
    killed: Option<Running>,
}

impl Pair {
    fn start(storage: String) -> Self {
        let (world, ports): (_, [u16; 2]) = (World::new(), free_ports());
        let mut stopped = replica(&world, ports[0], ports[0], &storage);
        stopped.wait_for(HELD_HERE);
        let mut pair = Self { world, storage, ports, stopped, killed: None };
        pair.kill();
        pair
    }

    /// Kills the one, as dropping it does, and starts it again.
    fn kill(&mut self) {
        self.killed = None;
        self.killed = Some(replica(&self.world, self.ports[1], self.ports[0], &self.storage));
    }

    /// Stops the other until this one has its lease. It must not take itself for the holder then.
    async fn outlive_the_lease(&mut self, driver: &Driver, holder: impl Fn() -> String) {
        let late = driver.stop(&self.stopped).await;
        // A replica that starts now sees the last renewal at once, and counts from there.
        let begun = Instant::now();
        self.kill();
        tokio::time::sleep(LEASE - Duration::from_secs(1)).await;
        let line = self.killed.as_mut().unwrap().wait_within(BOUND, HELD_HERE);
        assert!(begun.elapsed() >= LEASE, "a lease was taken over after {:?}", begun.elapsed());
        let (_, id) = line.split_once(HELD_HERE).unwrap();
        driver.go_on(&self.stopped, late).await;
        self.stopped.wait_for("the lease was lost, and its work has stopped here\" lease=collector");
        let holder = holder();
        assert!(holder.contains(&format!("\"{id}\"")), "{id} holds the lease, and not {holder}");
    }

    /// Ends both; whether each has ever held the lease for the collector, and how often.
    fn end(self) -> [usize; 2] {
        [self.stopped, self.killed.unwrap()].map(|serves| {
            serves.signal(Signal::TERM);
            String::from_utf8_lossy(&serves.output().stderr).matches(HELD_HERE).count()
        })
    }
}

/// With `holder`, which reads the collector's lease, one stop outlives that.
#[expect(clippy::print_stdout, reason = "figures for whoever runs the test with --nocapture")]
async fn nothing_is_lost_and_nothing_is_honoured_twice(
    name: &str,
    storage: String,
    holder: Option<&(dyn Fn() -> String + Sync)>,
) {
    let mut pair = Pair::start(storage);
    // The sign-in is walked step by step, and who waits for the longest stop is not cut off.
    let settings = TestCa::default().http_client_config();
    let http = HttpClient::new(HttpClientConfig { max_redirects: 0, timeout: WAITS * 2, ..settings }).unwrap();
    let driver = Driver { http: http.clone(), ports: pair.ports, calm: Arc::default(), over: Arc::default() };
    let mut chains = JoinSet::new();
    for (number, habit) in HABITS.into_iter().enumerate() {
        chains.spawn(driver.clone().chain(number, habit));
    }
    let mut codes = JoinSet::new();
    (0..2).for_each(|_| drop(codes.spawn(driver.clone().codes())));

    // The kills and the stops are at these times, under load: that they come at any moment is what is tried.
    let mut stops = 0;
    for round in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        pair.kill();
        if round == 1 {
            let late = driver.stop(&pair.stopped).await;
            tokio::time::sleep(STOPPED).await;
            driver.go_on(&pair.stopped, late).await;
            stops += 1;
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    if let Some(holder) = holder {
        pair.world.make_room();
        driver.calm.store(true, Ordering::Relaxed);
        pair.outlive_the_lease(&driver, holder).await;
        stops += 1;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    driver.over.store(true, Ordering::Relaxed);
    let mut chains = tokio::time::timeout(BOUND, chains.join_all()).await.expect("every client ends");
    let codes = tokio::time::timeout(BOUND, codes.join_all()).await.expect("every client ends");

    let ports = pair.ports;
    for (number, chain) in chains.iter_mut().enumerate() {
        // The last token that was acknowledged is good, at either replica.
        let last = chain.tokens.last().unwrap();
        let next = match driver.settled(ports[number % 2], last).await {
            Ok(next) => next,
            Err(why) => {
                assert!(chain.gave_up, "chain {number} ({:?}) lost what it was given: {why}", chain.habit);
                driver.is_over(chain).await;
                chain.ends += 1;
                continue;
            }
        };
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
    let given: usize = chains.iter().map(|chain| chain.given).sum();
    let unknown: usize = chains.iter().map(|chain| chain.unknown).sum();
    let ends: usize = chains.iter().map(|chain| chain.ends).sum();
    let excused = stops * HABITS.iter().filter(|habit| **habit == Habit::GivesUp).count();
    println!(
        "{name}: {given} tokens in {} chains over {stops} stops, {unknown} requests without an answer; {ends} times a late request of \
         its own ended a chain that had given up, of {excused} at most; {presented} codes, {honoured} honoured, {replayed} of them \
         replayed",
        chains.len()
    );
    assert!(ends <= excused, "{ends} chains were ended by late requests, of {excused} that can be");
    for Chain { habit, waited, .. } in chains.iter().filter(|chain| chain.habit == Habit::Waits) {
        assert!(*waited >= stops, "{habit:?}: {waited} answers came late, after {stops} stops");
    }
    assert!(given > 20 * HABITS.len() && unknown > 0, "{given} tokens, {unknown} unknown: there was no load");
    assert!(honoured > 0 && replayed > 0, "{honoured} codes, {replayed} replayed");
    assert_eq!(pair.end(), [1, usize::from(holder.is_some())], "how often each has held the lease");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_postgresql_lose_nothing_under_load() {
    let server = Database::start(DatabaseKind::Postgres, DatabaseOptions::default());
    server.create("dex");
    let (port, user, password) = (server.port(), Database::USER, Database::PASSWORD);
    let storage = format!(
        "{{type: postgres, config: {{host: 127.0.0.1, port: {port}, user: {user}, password: {password}, database: dex, ssl: {{mode: disable}}}}}}"
    );
    let lease = "SELECT convert_from(data, 'UTF8') FROM portcullis_record WHERE kind = 13 AND id = 'collector'";
    let holder = || server.ask("dex", lease);
    nothing_is_lost_and_nothing_is_honoured_twice("PostgreSQL", storage, Some(&holder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_etcd_lose_nothing_under_load() {
    let etcd = Etcd::start().await;
    let storage = format!("{{type: etcd, config: {{endpoints: ['{}']}}}}", etcd.url());
    nothing_is_lost_and_nothing_is_honoured_twice("etcd", storage, None).await;
}
