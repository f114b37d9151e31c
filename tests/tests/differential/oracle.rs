//! kube-apiserver's own verdict, from the program in `peers/oracle`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use portcullis_testkit::{Peer, peer};
use serde::de::IgnoredAny;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) anonymous: Option<Anonymous>,
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

/// What a file says of requests without credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Anonymous {
    pub(crate) enabled: bool,
    pub(crate) paths: Vec<String>,
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

/// Key sets, and files in JSON, go in as they are written, duplicate members included.
fn question(at: usize, case: &Case) -> String {
    let mut line = json!({
        "id": at.to_string(),
        "token": case.token,
        "algs": case.algs,
        "disallowed": case.disallowed,
    })
    .to_string();
    line.pop();
    let issuers: Vec<String> =
        case.issuer_jwks.iter().map(|(issuer, jwks)| format!("{}:{jwks}", json!(issuer))).collect();
    let initial = case.initial.as_ref().map(|text| format!(",\"initial\":{}", file(text))).unwrap_or_default();
    format!(
        "{line},\"config\":{}{initial},\"jwks\":{},\"issuerJwks\":{{{}}}}}",
        file(&case.file),
        case.jwks,
        issuers.join(",")
    )
}

/// A file as the oracle takes it: an object as it is where it is one and has no line break, else its text.
fn file(text: &str) -> String {
    let object = text.starts_with('{') && !text.contains('\n') && serde_json::from_str::<IgnoredAny>(text).is_ok();
    if object { text.to_owned() } else { json!(text).to_string() }
}
