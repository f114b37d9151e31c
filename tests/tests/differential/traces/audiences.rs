//! Kubernetes' own authenticator and ours, as scripts see them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use portcullis_authn::{Authenticator, Network, Options, TrustConfiguration, Verdict};
use portcullis_runtime::{Clock, MockClock, Shutdown, Timestamp};
use portcullis_testkit::{KeyAudience, Peer, peer, verdict};
use serde_json::{Value, json};

/// Time for a request on both sides: long enough for a busy machine, and short enough to be waited for.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The oracle's authenticator.
pub(super) struct Theirs {
    program: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Theirs {
    pub(super) fn start() -> Self {
        let path = peer(Peer::Oracle);
        let mut program = Command::new(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", path.display()));
        let stdin = program.stdin.take().expect("a pipe");
        let stdout = BufReader::new(program.stdout.take().expect("a pipe"));
        Self { program, stdin, stdout }
    }

    /// Blocks; the issuer answers on other threads.
    fn say(&mut self, line: &Value) -> Value {
        tokio::task::block_in_place(|| {
            writeln!(self.stdin, "{line}").expect("the oracle reads");
            let mut answer = String::new();
            self.stdout.read_line(&mut answer).expect("the oracle answers");
            let answer: Value = serde_json::from_str(&answer).expect("the oracle writes JSON");
            assert!(answer["badcase"].is_null() && answer["initErr"].is_null(), "{answer} to {line}");
            answer
        })
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl KeyAudience for Theirs {
    async fn open(&mut self, configuration: &Value) -> bool {
        let timeout = u64::try_from(TIMEOUT.as_millis()).expect("short");
        self.say(&json!({ "session": "open", "config": configuration, "timeoutMs": timeout }))["health"] == ""
    }

    /// It stays: only the keys grow older.
    fn now(&self) -> Timestamp {
        Clock::system().now()
    }

    async fn wait(&mut self, time: Duration) {
        self.say(&json!({ "session": "wait", "seconds": time.as_secs() }));
    }

    async fn ask(&mut self, tokens: Vec<String>) -> Vec<String> {
        let answer = self.say(&json!({ "session": "ask", "tokens": tokens }));
        let answers = answer["answers"].as_array().expect("answers");
        answers.iter().map(|one| verdict(one["user"].as_str(), one["err"].as_str())).collect()
    }
}

/// Our authenticator, without its cache of tokens, which the oracle's has no part in.
pub(super) struct Ours {
    clock: Clock,
    time: MockClock,
    authenticator: Option<Authenticator>,
    shutdown: Shutdown,
}

impl Ours {
    pub(super) fn start() -> Self {
        let (clock, time) = Clock::mock(Clock::system().now().unix_seconds());
        Self { clock, time, authenticator: None, shutdown: Shutdown::new() }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl KeyAudience for Ours {
    async fn open(&mut self, configuration: &Value) -> bool {
        let trust = TrustConfiguration::load(configuration.to_string().as_bytes(), &[]).expect("a valid file");
        let options = Options { cache_bytes: 0, ..Options::new(self.clock.clone()) };
        // Upstream's ten seconds are longer than a script.
        let network = Network { retry: Duration::from_secs(3_600), timeout: TIMEOUT, ..Network::default() };
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
