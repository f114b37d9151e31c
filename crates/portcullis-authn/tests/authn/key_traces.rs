//! When keys are fetched, and what becomes of each token: the traces of kube-apiserver's own package, recorded by the
//! differential test (`tests/golden/authn-keys.jsonl`), without Go.

use std::path::Path;
use std::time::Duration;

use portcullis_authn::{Authenticator, Network, Options, TrustConfiguration, Verdict};
use portcullis_runtime::{Clock, MockClock, Shutdown, Timestamp};
use portcullis_testkit::{KeyAudience, KeyRing, KeyScript, KeyTrace, verdict};
use serde::Deserialize;
use serde_json::Value;

const NOW: i64 = 1_800_000_000;

#[derive(Deserialize)]
struct Recorded {
    script: KeyScript,
    /// kube-apiserver's.
    traces: Vec<KeyTrace>,
}

/// Our authenticator, without its cache of tokens.
struct Ours {
    clock: Clock,
    time: MockClock,
    authenticator: Option<Authenticator>,
    shutdown: Shutdown,
}

impl KeyAudience for Ours {
    async fn open(&mut self, configuration: &Value) -> bool {
        let trust = TrustConfiguration::load(configuration.to_string().as_bytes(), &[]).expect("a valid file");
        let options = Options { cache_bytes: 0, ..Options::new(self.clock.clone()) };
        let hour = Duration::from_secs(3_600);
        let network = Network { retry: hour, timeout: Duration::from_secs(3), ..Network::default() };
        let issuers = trust.issuers().iter().cloned();
        let authenticator = Authenticator::start(issuers, options, &network, &self.shutdown).expect("a client");
        let health = loop {
            match authenticator.unhealthy() {
                Some(text) if text.ends_with("is not initialized") => tokio::task::yield_now().await,
                health => break health,
            }
        };
        self.authenticator = Some(authenticator);
        health.is_none()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn wait(&mut self, time: Duration) {
        self.time.advance(time);
    }

    async fn ask(&mut self, tokens: Vec<String>) -> Vec<String> {
        let authenticator = self.authenticator.as_ref().expect("opened");
        let ask = |token: String| {
            let authenticator = authenticator.clone();
            tokio::spawn(async move { authenticator.authenticate(&token).await })
        };
        let asked: Vec<_> = tokens.into_iter().map(ask).collect();
        let mut verdicts = Vec::new();
        for answer in asked {
            verdicts.push(match answer.await.expect("an answer") {
                Verdict::User(user) => verdict(Some(&user.info().username), None),
                Verdict::NoOpinion => verdict(None, None),
                Verdict::Refused(error) => verdict(None, Some(&error.to_string())),
            });
        }
        verdicts
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_traces_are_ours() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/authn-keys.jsonl");
    let text = std::fs::read_to_string(path).expect("the recordings");
    let ring = KeyRing::default();
    let (mut scripts, mut steps) = (0, 0);
    for (at, line) in text.lines().enumerate() {
        let recorded: Recorded = serde_json::from_str(line).expect("a recorded line");
        let (clock, time) = Clock::mock(NOW);
        let mut ours = Ours { clock, time, authenticator: None, shutdown: Shutdown::new() };
        let traces = recorded.script.play(&ring, &mut ours).await;
        ours.shutdown.trigger();
        assert_eq!(traces, recorded.traces, "line {}: {:#?}", at + 1, recorded.script);
        scripts += 1;
        steps += traces.len();
    }
    println!("{scripts} scripts, {steps} traces");
    assert!(scripts >= 100 && steps >= 500, "{scripts} scripts, {steps} traces");
}
