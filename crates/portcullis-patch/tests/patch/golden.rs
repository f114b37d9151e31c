//! Recorded answers of upstream's packages, so that our side can be checked without Go.
//!
//! `PORTCULLIS_RECORD=1 cargo test -p portcullis-patch --test patch golden` writes `tests/golden/*.jsonl` and
//! `tests/patch/types.txt` anew; that needs `patch-oracle`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::grammar::{self, Random};
use crate::oracle::{Case, Op, Outcome};
use crate::types::TYPES;
use crate::{oracle, ours};

/// Cases of each feature that are kept.
const SAMPLE: usize = 4;
/// Longer cases are not kept.
const MAX_LINE: usize = 3_000;

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    kind: String,
    features: Vec<String>,
    document: Text,
    patch: Text,
    report: bool,
    /// All answers that upstream gives: more than one when the order of a map decides.
    want: Vec<Want>,
}

/// An [`Outcome`], readable.
#[derive(Debug, Serialize, Deserialize)]
struct Want {
    class: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Text>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    left: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
}

/// Text as it is, and what is not UTF-8 in base64.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Bytes { base64: String },
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Bytes { base64: STANDARD.encode(bytes) },
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Plain(text) => text.clone().into_bytes(),
            Self::Bytes { base64 } => STANDARD.decode(base64).expect("base64"),
        }
    }
}

impl Want {
    fn of(outcome: &Outcome) -> Self {
        let Outcome { class, text, result, left, findings } = outcome.clone();
        let result = (!result.is_empty()).then(|| Text::of(&result));
        Self { class, text, result, left, findings }
    }

    fn is(&self, ours: &Outcome) -> bool {
        let result = self.result.as_ref().map(Text::bytes).unwrap_or_default();
        let same = self.text == ours.text && result == ours.result && self.left == ours.left;
        self.class == ours.class && (self.class == "crash" || (same && self.findings == ours.findings))
    }
}

fn file(op: Op) -> PathBuf {
    let name = serde_json::to_string(&op).expect("a name");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{}.jsonl", name.trim_matches('"')))
}

#[test]
fn recorded_answers_of_upstream_are_ours() {
    let mut compared = 0;
    for op in [Op::Json, Op::Merge, Op::Strategic] {
        let text = std::fs::read_to_string(file(op)).expect("a recording");
        for line in text.lines() {
            let line: Line = serde_json::from_str(line).expect("a case");
            let kind = TYPES.kinds.iter().map(|(kind, _)| *kind).find(|kind| *kind == line.kind).unwrap_or_default();
            let (document, patch) = (line.document.bytes(), line.patch.bytes());
            let case = Case { op, kind, document, patch, report: line.report, features: Vec::new() };
            let ours = ours::answer(&case);
            assert!(
                line.want.iter().any(|want| want.is(&ours)),
                "{op:?} {:?}\n{:?}\n{ours:?}",
                line.features,
                line.want
            );
            compared += 1;
        }
    }
    assert!(compared > 400, "{compared} recorded answers");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "recording is asked for by the environment")]
fn record() {
    if std::env::var_os("PORTCULLIS_RECORD").is_none() {
        return;
    }
    let types = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/patch/types.txt");
    std::fs::write(types, oracle::schema()).expect("the table of types");
    let cases = grammar::cases(&mut Random::new(1), [1_500, 1_000, 2_000]);
    let mut kept: HashMap<(Op, &str), usize> = HashMap::new();
    let kept: Vec<&Case> = cases
        .iter()
        .filter(|case| {
            let short = case.document.len() + case.patch.len() < MAX_LINE / 2;
            let mut rare = |feature: &&'static str| {
                *kept.entry((case.op, feature)).and_modify(|count| *count += 1).or_insert(1) <= SAMPLE
            };
            short && case.features.iter().filter(|feature| rare(feature)).count() > 0
        })
        .collect();
    let answers = oracle::ask(kept.iter().copied(), 200);
    for op in [Op::Json, Op::Merge, Op::Strategic] {
        let mut lines = String::new();
        for (case, want) in kept.iter().zip(&answers).filter(|(case, _)| case.op == op) {
            let line = Line {
                kind: case.kind.to_owned(),
                features: case.features.iter().map(|feature| (*feature).to_owned()).collect(),
                document: Text::of(&case.document),
                patch: Text::of(&case.patch),
                report: case.report,
                want: want.iter().map(Want::of).collect(),
            };
            let line = serde_json::to_string(&line).expect("a line");
            if line.len() <= MAX_LINE {
                writeln!(lines, "{line}").expect("writing to a string");
            }
        }
        std::fs::create_dir_all(file(op).parent().expect("a folder")).expect("a folder");
        std::fs::write(file(op), lines).expect("a recording");
    }
}
