//! `check --stream`: many cases, a line of JSON each, answered in the shape of `peers/oracle`.
//!
//! `peers/oracle` puts the same lines into Kubernetes' own package, so anyone can repeat the comparison: the same file into
//! both programs, and the answers side by side. The differential test does that with [`answer`], the golden test with the
//! released program.
//!
//! Flow of a line: [`Question`] → the file decoded → key sets → the rules of the file → the verifier → [`Answer`].
//!
//! Compat: `peers/oracle/README.md` for members and order. Members are matched by their exact names, and a name that occurs
//! twice makes a line no question.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _, Write};

use portcullis_authn::{Authenticator, ConfigError, Options, Policy, TrustConfiguration, Verdict};
use portcullis_jose::{JwkSet, Limits, UnknownKeys};
use portcullis_kube::authentication_config::AuthenticationConfiguration;
use portcullis_runtime::Clock;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Bytes that a line may have: the largest file, token and key sets fit several times. A longer one is skipped, with a word.
pub const LINE_LIMIT: usize = 16 * 1024 * 1024;

/// A case: a file, keys and a token.
#[derive(Debug, Clone, Default)]
pub struct Question<'a> {
    /// Its name, handed back.
    pub id: Cow<'a, str>,
    /// The text of the AuthenticationConfiguration.
    pub config: Cow<'a, str>,
    /// The text of the one that the server started with; `config` is then its reload.
    pub initial: Option<Cow<'a, str>>,
    /// The key set of issuers that have none of their own in `issuer_jwks`, as JSON.
    pub jwks: Cow<'a, str>,
    /// Issuer URLs, and the key sets that they serve.
    pub issuer_jwks: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The text after `Bearer `.
    pub token: Cow<'a, str>,
    /// Algorithms that are allowed; empty for all that kube-apiserver knows.
    pub algs: Vec<String>,
    /// Issuers of the server's own service accounts.
    pub disallowed: Vec<String>,
}

/// What becomes of a case. Members that do not apply are left out, as by the oracle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// That of the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The verdict, once there is one; `false` without `err` is no opinion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Why the token is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub err: Option<String>,
    /// Why the file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_err: Option<String>,
    /// Why a key set is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_err: Option<String>,
    /// Why the file is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_err: Option<String>,
    /// What the file says of requests without credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
    /// Why the line is no question; nothing else is there then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub badcase: Option<String>,
}

/// A user, without the group `system:authenticated` that the server adds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct User {
    /// The user name.
    pub name: String,
    /// The uid; empty for none.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Further attributes.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What holds for requests without credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Anonymous {
    /// Whether they are let in.
    pub enabled: bool,
    /// On which paths; empty for all.
    pub paths: Vec<String>,
}

/// A line as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    config: Option<&'a RawValue>,
    #[serde(borrow, default)]
    initial: Option<&'a RawValue>,
    #[serde(borrow, default)]
    jwks: Option<&'a RawValue>,
    #[serde(borrow, default)]
    issuer_jwks: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
    #[serde(default)]
    algs: Option<Vec<String>>,
    #[serde(default)]
    disallowed: Option<Vec<String>>,
}

impl<'a> Question<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, and in which column.
    pub fn parse(line: &'a str) -> Result<Self, serde_json::Error> {
        let line: Line<'a> = serde_json::from_str(line)?;
        let issuers = line.issuer_jwks.unwrap_or_default().into_iter();
        Ok(Self {
            id: line.id.unwrap_or_default(),
            config: line.config.map(file).transpose()?.unwrap_or_default(),
            initial: line.initial.map(file).transpose()?,
            jwks: line.jwks.map(RawValue::get).unwrap_or_default().into(),
            issuer_jwks: issuers.map(|(issuer, set)| (issuer.into(), set.get().into())).collect(),
            token: line.token.unwrap_or_default(),
            algs: line.algs.unwrap_or_default(),
            disallowed: line.disallowed.unwrap_or_default(),
        })
    }

    /// `file` is its configuration, decoded.
    fn trust(&self, file: AuthenticationConfiguration) -> Result<TrustConfiguration, String> {
        let text = |error: ConfigError| error.to_string();
        let trust = match &self.initial {
            None => TrustConfiguration::new(file, &self.disallowed),
            Some(initial) => TrustConfiguration::load(initial.as_bytes(), &self.disallowed)
                .map_err(|error| format!("initial: {error}"))?
                .reload(self.config.as_bytes(), &self.disallowed),
        };
        let trust = trust.map_err(text)?;
        if self.algs.is_empty() { Ok(trust) } else { trust.with_signing_algs(&self.algs).map_err(text) }
    }

    fn key_set(&self, issuer: &str) -> &str {
        let own = self.issuer_jwks.iter().find(|(url, _)| url == issuer);
        own.map_or(&self.jwks, |(_, set)| set)
    }
}

/// The text of a file: inside a string, or an object as it is written, members that occur twice included.
fn file(raw: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    if raw.get().starts_with('"') { serde_json::from_str(raw.get()).map(Cow::Owned) } else { Ok(raw.get().into()) }
}

/// What becomes of `question` at the time that `clock` shows.
pub async fn answer(question: &Question<'_>, policy: Policy, clock: &Clock) -> Answer {
    let answer = Answer { id: Some(question.id.clone().into_owned()), ..Answer::default() };
    let file = match AuthenticationConfiguration::decode(question.config.as_bytes()) {
        Ok(file) => file,
        Err(error) => return Answer { decode_err: Some(error.to_string()), ..answer },
    };
    // The oracle reads the key sets before it looks at the rules.
    let mut keys = Vec::new();
    for jwt in &file.jwt {
        let text = question.key_set(&jwt.issuer.url);
        match JwkSet::parse(text.as_bytes(), UnknownKeys::RejectSet, &Limits::default()) {
            Ok(set) => keys.push(set),
            Err(error) => return Answer { jwks_err: Some(error.to_string()), ..answer },
        }
    }
    let trust = match question.trust(file) {
        Ok(trust) => trust,
        Err(error) => return Answer { init_err: Some(error), ..answer },
    };
    let anonymous = trust.anonymous().map(|anonymous| Anonymous {
        enabled: anonymous.enabled,
        paths: anonymous.conditions.iter().map(|condition| condition.path.clone()).collect(),
    });
    let answer = Answer { anonymous, ok: Some(false), ..answer };
    let options = Options { policy, cache_bytes: 0, ..Options::new(clock.clone()) };
    let issuers = trust.issuers().iter().cloned().zip(keys);
    match Authenticator::with_static_keys(issuers, options).authenticate(&question.token).await {
        Verdict::User(user) => {
            let info = user.info().clone();
            let user = User { name: info.username, uid: info.uid, groups: info.groups, extra: info.extra };
            Answer { ok: Some(true), user: Some(user), ..answer }
        }
        Verdict::NoOpinion => answer,
        Verdict::Refused(error) => Answer { err: Some(error.to_string()), ..answer },
    }
}

/// How many lines there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub lines: u64,
    /// Those that were no questions, and were answered so.
    pub bad: u64,
}

/// Answers each line of `input`, at once.
///
/// # Errors
/// When a stream fails.
pub async fn run(mut input: impl BufRead, mut output: impl Write, clock: &Clock) -> io::Result<Counts> {
    let mut counts = Counts::default();
    let mut line = Vec::new();
    while let Some(complete) = next(&mut input, &mut line)? {
        counts.lines += 1;
        let question = match (complete, std::str::from_utf8(&line)) {
            (false, _) => Err(format!("longer than {LINE_LIMIT} bytes")),
            (true, Err(error)) => Err(format!("no UTF-8: {error}")),
            (true, Ok(text)) => Question::parse(text).map_err(|error| error.to_string()),
        };
        let answer = match question {
            Ok(question) => answer(&question, Policy::Faithful, clock).await,
            Err(reason) => {
                counts.bad += 1;
                let badcase = Some(format!("line {}: {reason}", counts.lines));
                Answer { badcase, ..Answer::default() }
            }
        };
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
        // Whoever asks one question at a time wants each answer at once.
        output.flush()?;
    }
    Ok(counts)
}

/// Reads a line into `line`; whether all of it is there, `None` at the end. What is too long is passed over.
fn next(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let most = u64::try_from(LINE_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    if input.take(most).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(true));
    }
    if line.len() <= LINE_LIMIT {
        return Ok(Some(true));
    }
    input.skip_until(b'\n')?;
    Ok(Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"apiVersion":"apiserver.config.k8s.io/v1","kind":"AuthenticationConfiguration","jwt":[{"issuer":{"url":"https://a","audiences":["c"]},"claimMappings":{"username":{"claim":"sub","prefix":""}}}],"anonymous":{"enabled":true,"conditions":[{"path":"/livez"}]}}"#;

    async fn ask(input: &[u8]) -> (Vec<serde_json::Value>, Counts) {
        let mut output = Vec::new();
        let counts = run(input, &mut output, &Clock::mock(1_800_000_000).0).await.unwrap();
        let lines = String::from_utf8(output).unwrap();
        (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), counts)
    }

    #[tokio::test]
    async fn each_line_gets_an_answer_in_the_oracles_shape() {
        let none = r#"{"keys":[]}"#;
        let lines = [
            format!(r#"{{"id":"foreign","config":{FILE},"jwks":{none},"token":"x"}}"#),
            format!(r#"{{"id":"text","config":{},"jwks":{none},"token":"x","other":1}}"#, serde_json::json!(FILE)),
            format!(r#"{{"id":"keys","config":{FILE},"jwks":{{"keys":{{}}}},"token":"x"}}"#),
            format!(r#"{{"id":"own","config":{FILE},"jwks":null,"issuerJwks":{{"https://a":{none}}},"token":"x"}}"#),
            format!(r#"{{"id":"init","config":{FILE},"jwks":{none},"disallowed":["https://a"]}}"#),
            format!(r#"{{"id":"algs","config":{FILE},"jwks":{none},"algs":["none"]}}"#),
            format!(r#"{{"id":"reload","config":{FILE},"initial":{{}},"jwks":{none}}}"#),
            r#"{"id":"decode","config":{"kind":"Pod","apiVersion":"v1"},"jwks":null}"#.to_owned(),
            r#"{"id":1}"#.to_owned(),
            r#"{"id":"a","id":"b"}"#.to_owned(),
            String::new(),
        ];
        let (answers, counts) = ask(lines.join("\n").as_bytes()).await;
        assert_eq!(counts, Counts { lines: 10, bad: 2 }, "nothing follows the last line break");
        let anonymous = serde_json::json!({"enabled": true, "paths": ["/livez"]});
        for at in [0, 1, 3] {
            let want = serde_json::json!({"id": answers[at]["id"], "ok": false, "anonymous": anonymous});
            assert_eq!(answers[at], want, "{at}");
        }
        for (at, id, member) in [
            (2, "keys", "jwksErr"),
            (4, "init", "initErr"),
            (5, "algs", "initErr"),
            (6, "reload", "initErr"),
            (7, "decode", "decodeErr"),
        ] {
            let members: Vec<&str> = answers[at].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!((members, &answers[at]["id"]), (vec!["id", member], &id.into()), "{:?}", answers[at]);
        }
        assert!(answers[6]["initErr"].as_str().unwrap().starts_with("initial: "));
        for (at, text) in [(8, "line 9: invalid type: integer `1`"), (9, "line 10: duplicate field `id`")] {
            assert!(answers[at]["badcase"].as_str().unwrap().starts_with(text), "{:?}", answers[at]);
        }
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_passed_over_and_the_next_one_is_answered() {
        let most = format!(r#"{{"token":"{}"}}"#, "x".repeat(LINE_LIMIT - 12));
        assert_eq!(most.len(), LINE_LIMIT);
        let input = [most.as_bytes(), most.as_bytes(), b" \n", most.as_bytes(), b"\n\xff\n{}"].concat();
        // Two at once are too long, then one that is not, no text, and a last one without a line break.
        let (answers, counts) = ask(&input).await;
        assert_eq!(counts, Counts { lines: 4, bad: 2 });
        assert_eq!(answers[0]["badcase"], "line 1: longer than 16777216 bytes");
        assert!(answers[2]["badcase"].as_str().unwrap().starts_with("line 3: no UTF-8"));
        for at in [1, 3] {
            assert_eq!(answers[at]["decodeErr"], "empty config data");
        }
        let (answers, _) = ask(&[most.as_bytes(), b" "].concat()).await;
        assert_eq!(answers[0]["badcase"], "line 1: longer than 16777216 bytes");
    }
}
