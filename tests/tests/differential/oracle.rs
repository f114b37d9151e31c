//! kube-apiserver's own verdict, from the program in `peers/oracle`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use portcullis_testkit::{Peer, peer};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::draft::Case;

/// One side's answer, in the oracle's own terms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) err: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) init_err: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decode_err: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jwks_err: Option<String>,
    #[serde(skip_serializing)]
    pub(crate) id: String,
    #[serde(skip_serializing)]
    pub(crate) badcase: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) groups: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// Go prints an empty list or map as `null`.
fn nullable<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Asks the oracle about every case, in order. Panics when the program is missing: the comparison is never skipped.
pub(crate) fn ask(cases: &[Case]) -> Vec<Answer> {
    let program = peer(Peer::Oracle);
    let mut oracle = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    let mut stdin = oracle.stdin.take().expect("a pipe");
    let stdout = BufReader::new(oracle.stdout.take().expect("a pipe"));
    let lines: Vec<String> = cases.iter().enumerate().map(|(at, case)| question(at, case)).collect();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        scope.spawn(move || {
            for line in lines {
                writeln!(stdin, "{line}").expect("the oracle reads");
            }
        });
        stdout
            .lines()
            .map(|line| serde_json::from_str(&line.expect("a line")).expect("the oracle writes JSON"))
            .collect()
    });
    oracle.wait().expect("the oracle ends");
    assert_eq!(answers.len(), cases.len(), "the oracle died on a case");
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!((answer.id.as_str(), &answer.badcase), (at.to_string().as_str(), &None));
    }
    answers
}

/// The key set goes in as it is written, duplicate members included.
fn question(at: usize, case: &Case) -> String {
    let mut line = json!({
        "id": at.to_string(),
        "config": case.oracle_config(),
        "token": case.token,
        "algs": case.config.signing_algs,
        "disallowed": case.disallowed,
    })
    .to_string();
    line.pop();
    format!("{line},\"jwks\":{}}}", case.jwks)
}
