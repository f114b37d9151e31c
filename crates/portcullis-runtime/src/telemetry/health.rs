//! Health: named checks that run in the background, and what the last runs said.
//!
//! Compat: the JSON of Dex's `/healthz` and `/healthz/ready` is go-sundheit's: one member a check with `message`,
//! `error`, `timestamp`, `duration` (nanoseconds), `contiguousFailures` and `timeOfFirstFailure`; `?type=short` gives
//! `PASS` or `FAIL` only. A check that has not run yet passes, as Dex's is set up.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{Clock, Shutdown, Timestamp};

/// Most checks.
const CHECKS: usize = 64;
/// Longest message or error that is shown, in characters.
const TEXT: usize = 512;

/// What a check says: a message, or what is wrong.
pub type CheckResult = Result<String, String>;
type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = CheckResult> + Send>> + Send + Sync>;

/// The checks of a program. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Health {
    clock: Clock,
    interval: Duration,
    timeout: Duration,
    checks: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

struct State {
    check: Check,
    last: CheckResult,
    at: Timestamp,
    took: Duration,
    failures: u64,
    first_failure: Option<Timestamp>,
}

impl Health {
    /// No checks yet. They will run every `interval` (Dex: 15 s) and fail after `timeout`.
    #[must_use]
    pub fn new(clock: Clock, interval: Duration, timeout: Duration) -> Self {
        Self { clock, interval, timeout, checks: Arc::default() }
    }

    /// Adds a check, or replaces the one of that name. Beyond 64 checks it is left out, with a log line.
    pub fn check<F, R>(&self, name: &'static str, check: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = CheckResult> + Send + 'static,
    {
        let check: Check = Arc::new(move || Box::pin(check()));
        let state = State {
            check,
            last: Ok("not run yet".to_owned()),
            at: self.clock.now(),
            took: Duration::ZERO,
            failures: 0,
            first_failure: None,
        };
        let mut checks = self.lock();
        if checks.len() >= CHECKS && !checks.contains_key(name) {
            tracing::error!(name, "too many health checks");
            return;
        }
        checks.insert(name, state);
    }

    /// Runs the checks until `shutdown`.
    pub async fn run(&self, shutdown: &Shutdown) {
        let rounds = async {
            loop {
                self.run_once().await;
                self.clock.sleep(self.interval).await;
            }
        };
        shutdown.unless(rounds).await;
    }

    /// Runs each check once, one after the other.
    pub async fn run_once(&self) {
        let checks: Vec<_> = self.lock().iter().map(|(name, state)| (*name, state.check.clone())).collect();
        for (name, check) in checks {
            let start = tokio::time::Instant::now();
            let result = tokio::time::timeout(self.timeout, check()).await;
            let result = result.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)));
            self.record(name, result, start.elapsed());
        }
    }

    /// Whether every check passes.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.lock().values().all(|state| state.last.is_ok())
    }

    /// The report as JSON, indented by tabs; `short` gives PASS or FAIL only.
    #[must_use]
    pub fn report(&self, short: bool) -> String {
        let report: Map<String, Value> = self
            .lock()
            .iter()
            .map(|(name, state)| ((*name).to_owned(), if short { state.short() } else { state.long() }))
            .collect();
        let mut out = Vec::new();
        let mut serializer =
            serde_json::Serializer::with_formatter(&mut out, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
        // Writing JSON values into memory cannot fail.
        let _ = serde::Serialize::serialize(&report, &mut serializer);
        out.push(b'\n');
        String::from_utf8(out).unwrap_or_default()
    }

    fn record(&self, name: &'static str, result: CheckResult, took: Duration) {
        let now = self.clock.now();
        let mut checks = self.lock();
        let Some(state) = checks.get_mut(name) else { return };
        match (&state.last, &result) {
            (Ok(_), Err(error)) => tracing::error!(check = name, error, "health check failed"),
            (Err(_), Ok(_)) => tracing::info!(check = name, "health check passes again"),
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
        }
        if result.is_ok() {
            (state.failures, state.first_failure) = (0, None);
        } else {
            state.failures = state.failures.saturating_add(1);
            state.first_failure.get_or_insert(now);
        }
        (state.last, state.at, state.took) = (result, now, took);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("healthy", &self.is_healthy()).finish_non_exhaustive()
    }
}

impl State {
    fn short(&self) -> Value {
        Value::from(if self.last.is_ok() { "PASS" } else { "FAIL" })
    }

    fn long(&self) -> Value {
        let cut = |text: &String| text.chars().take(TEXT).collect::<String>();
        let mut value = Map::new();
        match &self.last {
            Ok(message) => value.insert("message".to_owned(), json!(cut(message))),
            Err(error) => value.insert("error".to_owned(), json!({ "message": cut(error) })),
        };
        value.insert("timestamp".to_owned(), json!(self.at.rfc3339()));
        let nanos = u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX);
        if nanos > 0 {
            value.insert("duration".to_owned(), json!(nanos));
        }
        value.insert("contiguousFailures".to_owned(), json!(self.failures));
        value.insert("timeOfFirstFailure".to_owned(), json!(self.first_failure.map(Timestamp::rfc3339)));
        Value::Object(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn health(clock: Clock) -> Health {
        Health::new(clock, Duration::from_secs(15), Duration::from_secs(5))
    }

    #[tokio::test]
    async fn a_check_passes_until_it_ran_and_then_says_what_it_found() {
        let (clock, hand) = Clock::mock(0);
        let health = health(clock);
        let broken = Arc::new(AtomicBool::new(true));
        let flag = broken.clone();
        health.check("storage", move || {
            let broken = flag.load(Ordering::Relaxed);
            async move { if broken { Err("disk full".to_owned()) } else { Ok(String::new()) } }
        });
        assert!(health.is_healthy());
        health.run_once().await;
        hand.advance(Duration::from_secs(15));
        health.run_once().await;
        assert!(!health.is_healthy());
        let report: String = health
            .report(false)
            .lines()
            .filter(|line| !line.contains("duration"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            report,
            "{\n\t\"storage\": {\n\t\t\"error\": {\n\t\t\t\"message\": \"disk full\"\n\t\t},\n\t\t\"timestamp\": \"1970-01-01T00:00:15Z\",\n\t\t\"contiguousFailures\": 2,\n\t\t\"timeOfFirstFailure\": \"1970-01-01T00:00:00Z\"\n\t}\n}\n"
        );
        assert_eq!(health.report(true), "{\n\t\"storage\": \"FAIL\"\n}\n");
        broken.store(false, Ordering::Relaxed);
        health.run_once().await;
        assert!(health.is_healthy());
        assert!(health.report(false).contains("\"contiguousFailures\": 0,\n\t\t\"timeOfFirstFailure\": null"));
    }

    #[tokio::test]
    async fn a_check_that_hangs_fails() {
        let health = Health::new(Clock::mock(0).0, Duration::from_secs(15), Duration::from_millis(5));
        health.check("slow", std::future::pending);
        health.run_once().await;
        assert!(!health.is_healthy());
        assert!(health.report(false).contains("no answer within 5ms"));
    }

    #[tokio::test]
    async fn running_ends_with_shutdown() {
        let health = health(Clock::mock(0).0);
        let shutdown = Shutdown::new();
        let ran = Arc::new(AtomicBool::new(false));
        let (flag, stop) = (ran.clone(), shutdown.clone());
        health.check("c", move || {
            flag.store(true, Ordering::Relaxed);
            stop.trigger();
            async { Ok(String::new()) }
        });
        health.run(&shutdown).await;
        assert!(ran.load(Ordering::Relaxed));
    }

    #[test]
    fn the_number_of_checks_is_limited() {
        let health = health(Clock::mock(0).0);
        for n in 0..CHECKS + 5 {
            let name: &'static str = Box::leak(format!("c{n}").into_boxed_str());
            health.check(name, || async { Ok(String::new()) });
        }
        assert_eq!(health.lock().len(), CHECKS);
    }
}
