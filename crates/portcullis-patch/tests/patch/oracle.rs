//! Upstream's own answer, from the program in `peers/patch-oracle`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_testkit::{Peer, peer};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Which kind of patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    Json,
    Merge,
    Strategic,
}

/// What both sides are given.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) op: Op,
    /// The kind whose type a strategic patch asks for.
    pub(crate) kind: &'static str,
    pub(crate) document: Vec<u8>,
    pub(crate) patch: Vec<u8>,
    /// As under `fieldValidation` Warn and Strict.
    pub(crate) report: bool,
    /// What the case is about.
    pub(crate) features: Vec<&'static str>,
}

/// What one side makes of a case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Outcome {
    /// `ok`, or the class of the answer.
    pub(crate) class: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
    /// The JSON text of the result.
    #[serde(with = "base64_bytes", skip_serializing_if = "Vec::is_empty")]
    pub(crate) result: Vec<u8>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) left: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) findings: Vec<String>,
}

/// Bytes as Go's encoder writes them.
mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
struct Answer {
    id: String,
    #[serde(default)]
    outcomes: Vec<Outcome>,
    #[serde(default)]
    schema: String,
    badcase: Option<String>,
}

/// Asks the oracle about every case, in order, `tries` times each; gives the different outcomes of each.
pub(crate) fn ask<'c>(cases: impl IntoIterator<Item = &'c Case>, tries: usize) -> Vec<Vec<Outcome>> {
    let questions = cases.into_iter().enumerate().map(|(at, case)| {
        json!({
            "id": at.to_string(),
            "op": case.op,
            "kind": case.kind,
            "doc": STANDARD.encode(&case.document),
            "patch": STANDARD.encode(&case.patch),
            "report": case.report,
            "tries": tries,
        })
        .to_string()
    });
    let answers = exchange(questions.collect());
    answers.into_iter().map(|answer| answer.outcomes).collect()
}

/// The table of types, from Go's reflection.
pub(crate) fn schema() -> String {
    let question = json!({ "id": "0", "op": "schema" }).to_string();
    exchange(vec![question]).remove(0).schema
}

/// Panics when the program is missing: the comparison is never skipped.
fn exchange(lines: Vec<String>) -> Vec<Answer> {
    let program = peer(Peer::PatchOracle);
    let count = lines.len();
    let mut oracle = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    let mut stdin = oracle.stdin.take().expect("a pipe");
    let stdout = BufReader::new(oracle.stdout.take().expect("a pipe"));
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        scope.spawn(move || {
            for line in lines {
                writeln!(stdin, "{line}").expect("the oracle reads");
            }
        });
        let read = |line: std::io::Result<String>| {
            serde_json::from_str(&line.expect("a line")).expect("the oracle writes JSON")
        };
        stdout.lines().map(read).collect()
    });
    oracle.wait().expect("the oracle ends");
    assert_eq!(answers.len(), count, "the oracle died on a case");
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!((answer.id.as_str(), &answer.badcase), (at.to_string().as_str(), &None));
    }
    answers
}
