//! Scripts of what happens to an issuer's keys, played before an authenticator: key sets, failures, cache headers, time
//! that passes, and tokens. What each token costs the issuer in requests, and what becomes of it, is the trace.
//!
//! The same script is played before Kubernetes' own authenticator and before ours, whose traces have to be the same;
//! recorded traces (`tests/golden/authn-keys.jsonl`) are compared without Go. Keys have letters here: they are fresh in
//! each run, and a script says which of them signs and which are published.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_jose::{KeyKind, SigningKey};
use portcullis_runtime::{Shutdown, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::issuer::DISCOVERY;
use crate::{FakeIssuer, Reply};

/// How long answers are held back when several tokens come at once.
const HELD: Duration = Duration::from_millis(100);
/// Tokens end so many seconds after the script began: no script lasts so long.
const LIFETIME: i64 = 365 * 24 * 3600;

/// A script.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyScript {
    /// What the issuer says of itself when it is first asked.
    pub discovery: KeyReply,
    /// What follows.
    pub steps: Vec<KeyStep>,
}

/// A step of a script.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum KeyStep {
    /// The issuer answers so from now on when it is asked for its keys.
    Keys(KeyReply),
    /// It says so of itself from now on.
    Discovery(KeyReply),
    /// Seconds pass.
    Wait(u64),
    /// Tokens come, all at once.
    Tokens {
        /// The letter of the key that signs.
        signer: char,
        /// The key id in the header.
        kid: Option<String>,
        /// How many.
        count: usize,
    },
}

/// An answer of the issuer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyReply {
    /// The status.
    pub status: u16,
    /// Further headers. `@-60` stands for the time of the answer, less 60 seconds.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: KeyBody,
}

/// The body of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum KeyBody {
    /// A key set.
    Set {
        /// Letters of keys, and the ids that they are published under.
        keys: Vec<(char, Option<String>)>,
        /// Other keys, as they are written.
        more: Vec<Value>,
    },
    /// A discovery document with these changes; `null` takes a member out, `/path` stands for the URL of that path.
    Document(Vec<(String, Value)>),
    /// Anything.
    Text(String),
    /// Redirects with the answer's status, so many, and then this text with 200.
    Redirects(usize, Box<KeyReply>),
    /// No answer.
    Hang,
}

impl KeyReply {
    /// 200 without headers.
    #[must_use]
    pub const fn ok(body: KeyBody) -> Self {
        Self { status: 200, headers: Vec::new(), body }
    }
}

/// What a step was worth: the beginning, or the coming of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTrace {
    /// The paths that were asked for since the step before.
    pub asked: Vec<String>,
    /// What became of the tokens ([`verdict`]), in order of their texts; in the beginning whether discovery succeeded.
    pub verdicts: Vec<String>,
}

/// An authenticator before which scripts are played.
#[expect(async_fn_in_trait, reason = "nobody asks whether the futures may be sent elsewhere")]
pub trait KeyAudience {
    /// Starts with this AuthenticationConfiguration and waits until discovery has been tried; whether it succeeded.
    async fn open(&mut self, configuration: &Value) -> bool;
    /// Its clock, which dates in headers are read by.
    fn now(&self) -> Timestamp;
    /// Time passes: what is at hand becomes older.
    async fn wait(&mut self, time: Duration);
    /// What becomes of these tokens, which come at once, as [`verdict`] says it.
    async fn ask(&mut self, tokens: Vec<String>) -> Vec<String>;
}

impl KeyScript {
    /// Plays the script.
    pub async fn play(&self, ring: &KeyRing, audience: &mut impl KeyAudience) -> Vec<KeyTrace> {
        let mut stage = Stage::start(self, ring, audience.now()).await;
        let opened = if audience.open(&stage.configuration()).await { "ready" } else { "not ready" };
        let mut traces = vec![stage.trace(vec![opened.to_owned()])];
        for step in &self.steps {
            match stage.take(step) {
                Turn::Nothing => {}
                Turn::Wait(time) => {
                    audience.wait(time).await;
                    stage.is_later(audience.now());
                }
                Turn::Tokens(tokens) => {
                    let verdicts = audience.ask(tokens).await;
                    traces.push(stage.trace(verdicts));
                }
            }
        }
        traces
    }
}

/// The keys of a run.
pub struct KeyRing(Vec<(char, SigningKey)>);

impl Default for KeyRing {
    fn default() -> Self {
        let kind = |letter| if letter == 'r' { KeyKind::Rsa2048 } else { KeyKind::P256 };
        let key = |letter: char| SigningKey::generate(kind(letter), letter.to_string()).expect("a key");
        Self(Self::LETTERS.map(|letter| (letter, key(letter))).to_vec())
    }
}

impl KeyRing {
    /// The letters that there are; `x` is meant never to be published, `r` is an RSA key.
    pub const LETTERS: [char; 5] = ['a', 'b', 'c', 'r', 'x'];

    fn key(&self, letter: char) -> &SigningKey {
        let found = self.0.iter().find(|(other, _)| *other == letter);
        &found.unwrap_or_else(|| panic!("no key {letter}")).1
    }
}

/// An issuer that plays a script.
struct Stage<'k> {
    issuer: FakeIssuer,
    ring: &'k KeyRing,
    keys: KeyReply,
    seen: usize,
    now: Timestamp,
    /// When the tokens end.
    end: i64,
    tokens: usize,
}

/// What a step asks of whoever plays.
enum Turn {
    /// Nothing.
    Nothing,
    /// Time passes.
    Wait(Duration),
    /// These tokens are to be asked about at once.
    Tokens(Vec<String>),
}

impl<'k> Stage<'k> {
    /// Starts the issuer at `now`, as the authenticator's clock has it.
    async fn start(script: &KeyScript, ring: &'k KeyRing, now: Timestamp) -> Self {
        let nothing = KeyReply { status: 404, ..KeyReply::ok(KeyBody::Text(String::new())) };
        let issuer = FakeIssuer::start().await;
        let end = now.unix_seconds() + LIFETIME;
        let stage = Self { issuer, ring, keys: nothing, seen: 0, now, end, tokens: 0 };
        stage.publish(DISCOVERY, &script.discovery, None);
        stage
    }

    /// An AuthenticationConfiguration that trusts the issuer, whose tokens are for `c` and whose users are named by `sub`.
    fn configuration(&self) -> Value {
        json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthenticationConfiguration",
            "jwt": [{
                "issuer": {
                    "url": self.issuer.issuer(),
                    "audiences": ["c"],
                    "certificateAuthority": self.issuer.ca().pem(),
                },
                "claimMappings": { "username": { "claim": "sub", "prefix": "" } },
            }],
        })
    }

    /// Takes a step.
    fn take(&mut self, step: &KeyStep) -> Turn {
        match step {
            KeyStep::Keys(reply) => {
                self.keys = reply.clone();
                self.publish("/keys", reply, None);
                Turn::Nothing
            }
            KeyStep::Discovery(reply) => {
                self.publish(DISCOVERY, reply, None);
                Turn::Nothing
            }
            KeyStep::Wait(seconds) => Turn::Wait(Duration::from_secs(*seconds)),
            KeyStep::Tokens { signer, kid, count } => {
                if *count > 1 {
                    let gate = Shutdown::new();
                    self.publish("/keys", &self.keys, Some(&gate));
                    tokio::spawn(async move {
                        tokio::time::sleep(HELD).await;
                        gate.trigger();
                    });
                }
                Turn::Tokens((0..*count).map(|_| self.token(*signer, kid.as_deref())).collect())
            }
        }
    }

    /// Dates in headers are those of the answer.
    fn is_later(&mut self, now: Timestamp) {
        self.now = now;
        self.publish("/keys", &self.keys, None);
    }

    /// The paths that were asked for since this was last called.
    fn asked(&mut self) -> Vec<String> {
        let requests = self.issuer.requests();
        let new = requests.iter().skip(self.seen).map(|request| request.path.clone()).collect();
        self.seen = requests.len();
        new
    }

    /// The trace of the tokens that were last asked about.
    fn trace(&mut self, mut verdicts: Vec<String>) -> KeyTrace {
        verdicts.sort_unstable();
        KeyTrace { asked: self.asked(), verdicts }
    }

    fn token(&mut self, signer: char, kid: Option<&str>) -> String {
        self.tokens += 1;
        let key = self.ring.key(signer);
        let alg = key.default_algorithm().to_string();
        let header = match kid {
            Some(kid) => json!({ "alg": alg, "kid": kid }),
            None => json!({ "alg": alg }),
        };
        let exp = self.end;
        let claims = json!({ "iss": self.issuer.issuer(), "aud": "c", "sub": "jane", "exp": exp, "jti": self.tokens.to_string() });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let input = format!("{header}.{claims}");
        let signature = key.sign(key.default_algorithm(), input.as_bytes()).expect("a signature");
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn publish(&self, path: &str, reply: &KeyReply, gate: Option<&Shutdown>) {
        let answer = match &reply.body {
            KeyBody::Set { keys, more } => Reply::json(&self.set(keys, more)),
            KeyBody::Document(changes) => Reply::json(&self.document(changes)),
            KeyBody::Text(text) => Reply::bytes(text.as_str()),
            KeyBody::Hang => Reply::hang(),
            KeyBody::Redirects(hops, last) => {
                let hop = |at: usize| format!("{path}/{at}");
                for at in 1..*hops {
                    let next = Reply::redirect(&self.issuer.url(&hop(at + 1))).status(reply.status);
                    self.issuer.reply(&hop(at), next);
                }
                self.publish(&hop(*hops), last, gate);
                Reply::redirect(&self.issuer.url(&hop(1)))
            }
        };
        let now = self.now;
        // Otherwise the server would say what time it really is.
        let answer = answer.status(reply.status).header("date", &date(now, 0));
        let answer = reply.headers.iter().fold(answer, |answer, (name, value)| match value.strip_prefix('@') {
            Some(seconds) => answer.header(name, &date(now, seconds.parse().expect("seconds"))),
            None => answer.header(name, value),
        });
        self.issuer.reply(
            path,
            match gate {
                Some(gate) => answer.after(gate.clone()),
                None => answer,
            },
        );
    }

    fn set(&self, keys: &[(char, Option<String>)], more: &[Value]) -> Value {
        let published = keys.iter().map(|(letter, kid)| {
            let mut key = self.ring.key(*letter).public().to_json();
            let members = key.as_object_mut().expect("a key is an object");
            members.remove("kid");
            members.extend(kid.iter().map(|kid| ("kid".to_owned(), json!(kid))));
            key
        });
        json!({ "keys": published.chain(more.iter().cloned()).collect::<Vec<_>>() })
    }

    fn document(&self, changes: &[(String, Value)]) -> Value {
        let mut document = self.issuer.discovery_document();
        let members = document.as_object_mut().expect("a document is an object");
        for (name, value) in changes {
            match value {
                Value::Null => drop(members.remove(name)),
                Value::String(path) if path.starts_with('/') => {
                    members.insert(name.clone(), json!(self.issuer.url(path)));
                }
                value => drop(members.insert(name.clone(), value.clone())),
            }
        }
        document
    }
}

/// The time of an answer, in the form of HTTP.
fn date(now: Timestamp, seconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(now.unix_seconds() + seconds).expect("a time");
    let form =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    at.format(form).expect("a date")
}

/// What became of a token: the user, or the part of the refusal that both sides word alike.
#[must_use]
pub fn verdict(user: Option<&str>, error: Option<&str>) -> String {
    match (user, error) {
        (Some(user), _) => format!("user {user}"),
        (None, None) => "no opinion".to_owned(),
        (None, Some(error)) => {
            let fetch = error.split_once("fetching keys oidc: ").map(|(_, reason)| reason);
            match fetch.map(|reason| (reason, reason.strip_prefix("get keys failed: "))) {
                // With the status.
                Some((_, Some(status))) => format!("keys: status {}", status.get(..3).unwrap_or(status)),
                Some((reason, None)) if reason.starts_with("get keys failed") => "keys: no answer".to_owned(),
                Some((reason, None)) if reason.starts_with("failed to decode keys") => "keys: no key set".to_owned(),
                _ => error.to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        for (error, want) in [
            (
                "oidc: verify token: failed to verify signature: fetching keys oidc: get keys failed: 500 Internal",
                "keys: status 500",
            ),
            (
                "oidc: verify token: failed to verify signature: fetching keys oidc: get keys failed Get \"x\": EOF",
                "keys: no answer",
            ),
            (
                "oidc: verify token: failed to verify signature: fetching keys oidc: failed to decode keys: x",
                "keys: no key set",
            ),
            ("oidc: authenticator not initialized", "oidc: authenticator not initialized"),
        ] {
            assert_eq!(verdict(None, Some(error)), want);
        }
        assert_eq!(verdict(Some("jane"), None), "user jane");
        assert_eq!(verdict(None, None), "no opinion");
        assert_eq!(date(Timestamp::from_unix_seconds(1_795_456_800), 60), "Mon, 23 Nov 2026 18:01:00 GMT");
    }
}
