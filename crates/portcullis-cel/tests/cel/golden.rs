//! Recorded answers of upstream's packages, so that our side can be checked without Go.
//!
//! `PORTCULLIS_RECORD=1 cargo test -p portcullis-cel --test cel golden` writes `tests/golden/cel.jsonl` anew; that needs
//! `cel-oracle`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::grammar::Grammar;
use crate::oracle::{Case, Outcome, ask};
use crate::ours;
use crate::productions::{CLAIMS, USERS};

/// Seed of what is recorded, expressions to choose from, and how many of each feature are kept.
const SEED: u64 = 37;
const EXPRESSIONS: usize = 6_000;
const SAMPLE: usize = 2;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cel.jsonl")
}

#[expect(clippy::disallowed_methods, reason = "recording is asked for by the environment")]
pub(crate) fn recording() -> bool {
    std::env::var_os("PORTCULLIS_RECORD").is_some()
}

fn record() {
    let mut grammar = Grammar::new(SEED);
    let cases: Vec<Case> = (0..EXPRESSIONS).map(|index| grammar.case(index)).collect();
    let mut kept: HashMap<&str, usize> = HashMap::new();
    let mut chosen = Vec::new();
    for case in cases {
        let first = case.features.first().copied().unwrap_or_default();
        if case.expression.len() < 300 && *kept.entry(first).or_default() < SAMPLE {
            *kept.entry(first).or_default() += 1;
            chosen.push(case);
        }
    }
    let mut lines = String::new();
    for (case, outcomes) in chosen.iter().zip(ask(&chosen, 60)) {
        if outcomes.first().is_some_and(|outcome| outcome.stage == "crash") {
            continue;
        }
        let want: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
        let line = json!({"env": case.variable, "expr": case.expression, "vars": case.value, "want": want});
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    std::fs::create_dir_all(path().parent().expect("a folder")).expect("the folder is made");
    std::fs::write(path(), lines).expect("the file is written");
}

#[test]
fn recorded_answers_are_ours() {
    if recording() {
        record();
    }
    let text = std::fs::read_to_string(path()).expect("the answers are recorded");
    let mut differ = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        let value = line["vars"].as_str().expect("values are text");
        let case = Case {
            variable: if line["env"] == "user" { "user" } else { "claims" },
            expression: line["expr"].as_str().expect("an expression is text").to_owned(),
            value: CLAIMS.iter().chain(USERS).find(|known| **known == value).expect("values are known ones"),
            features: Vec::new(),
        };
        let ours = ours::answer(&case);
        let theirs: Vec<Outcome> =
            line["want"].as_array().expect("answers are a list").iter().map(Outcome::from_json).collect();
        if !theirs.iter().any(|theirs| theirs.agrees(&ours)) {
            differ.push(format!("{}\n  ours   {}\n  theirs {}", case.expression, ours.to_json(), theirs[0].to_json()));
        }
        count += 1;
    }
    assert!(count > 400, "only {count} answers are recorded");
    assert!(differ.is_empty(), "{} of {count}:\n{}", differ.len(), differ.join("\n"));
}
