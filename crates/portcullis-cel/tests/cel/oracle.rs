//! Upstream's own answer, from the program in `peers/cel-oracle`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use portcullis_testkit::{Peer, peer};
use serde_json::{Value, json};

/// What both sides are given.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// The variable that is there: `claims` or `user`.
    pub(crate) variable: &'static str,
    pub(crate) expression: String,
    /// The variable's value, as JSON.
    pub(crate) value: &'static str,
    /// What the expression is about.
    pub(crate) features: Vec<&'static str>,
}

/// What one side makes of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `compile`, `program`, `error` or `value`.
    pub(crate) stage: String,
    /// The error's text.
    pub(crate) text: String,
    /// For `compile`: the first message in the order in which they were found, and its place.
    pub(crate) first: String,
    pub(crate) line: i64,
    pub(crate) column: i64,
    /// The type that is known beforehand.
    pub(crate) output: String,
    pub(crate) value: String,
    /// For lists: what upstream holds them in.
    pub(crate) native: String,
    pub(crate) cost: u64,
}

impl Outcome {
    pub(crate) fn from_json(json: &Value) -> Self {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| json[name].as_i64().unwrap_or_default();
        Self {
            stage: text("stage"),
            text: text("text"),
            first: text("first"),
            line: number("line"),
            column: number("column"),
            output: text("output"),
            value: text("value"),
            native: text("native"),
            cost: json["cost"].as_u64().unwrap_or_default(),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut json = json!({"stage": self.stage});
        for (name, text) in [
            ("text", &self.text),
            ("first", &self.first),
            ("output", &self.output),
            ("value", &self.value),
            ("native", &self.native),
        ] {
            if !text.is_empty() {
                json[name] = json!(text);
            }
        }
        if self.line != 0 || self.column != 0 {
            json["line"] = json!(self.line);
            json["column"] = json!(self.column);
        }
        json["cost"] = json!(self.cost);
        json
    }

    /// Whether upstream's parser reported it, which goes on guessing after the first error, as ours does not.
    pub(crate) fn is_syntax(&self) -> bool {
        self.stage == "compile"
            && (self.first.starts_with("Syntax error:") || self.first.starts_with("expression recursion limit"))
    }

    /// Whether the two agree in all that is compared.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        if self.is_syntax() && other.is_syntax() {
            return (&self.first, self.line, self.column) == (&other.first, other.line, other.column);
        }
        // Beyond that a cost is what the processor makes of a double that is too large for an integer.
        let cost = |outcome: &Self| outcome.cost.min(1 << 63);
        self.stage == other.stage
            && self.text == other.text
            && self.output == other.output
            && self.value == other.value
            && self.native == other.native
            && cost(self) == cost(other)
    }
}

/// Asks the oracle about every case, in order, `tries` times each; gives the different outcomes of each.
pub(crate) fn ask<'c>(cases: impl IntoIterator<Item = &'c Case>, tries: usize) -> Vec<Vec<Outcome>> {
    let questions: Vec<String> = cases
        .into_iter()
        .enumerate()
        .map(|(id, case)| {
            let vars: Value = serde_json::from_str(case.value).expect("the values are JSON");
            json!({"id": id, "env": case.variable, "expr": case.expression, "vars": vars, "tries": tries}).to_string()
        })
        .collect();
    let count = questions.len();
    let mut answers = Vec::with_capacity(count);
    for (at, answer) in answered(questions).into_iter().enumerate() {
        assert_eq!(answer["id"].as_u64(), u64::try_from(at).ok(), "answers come in order");
        let outcomes = answer["outcomes"].as_array().expect("an answer has outcomes");
        answers.push(outcomes.iter().map(Outcome::from_json).collect());
    }
    assert_eq!(answers.len(), count, "every question has an answer");
    answers
}

/// The declarations of all functions that expressions over `variable` can call, an overload a line.
pub(crate) fn functions(variable: &str) -> String {
    let answers = answered(vec![json!({"env": variable, "functions": true}).to_string()]);
    let functions = answers[0]["functions"].as_array().expect("the answer has functions");
    functions.iter().map(|line| format!("{}\n", line.as_str().expect("a declaration is text"))).collect()
}

/// Writes each question as a line, and reads all answers.
fn answered(questions: Vec<String>) -> Vec<Value> {
    let mut child = Command::new(peer(Peer::CelOracle))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cel-oracle starts");
    let mut input = child.stdin.take().expect("its input is a pipe");
    let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let writer = std::thread::spawn(move || {
        for question in questions {
            writeln!(input, "{question}").expect("cel-oracle reads");
        }
    });
    let read = |line: std::io::Result<String>| {
        serde_json::from_str(&line.expect("cel-oracle writes text")).expect("cel-oracle writes JSON")
    };
    let answers = output.lines().map(read).collect();
    writer.join().expect("all questions are written");
    assert!(child.wait().expect("cel-oracle ends").success(), "cel-oracle failed");
    answers
}
