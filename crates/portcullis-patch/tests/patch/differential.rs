//! Differential test: the same document and patch into upstream's packages and into ours.
//!
//! Class, result (byte for byte), error text, what is left of a strategic patch, and what a strict reader reports have to
//! agree. Where Go walks a map the answer can depend on the order: such a case is asked many times, and ours has to be
//! one of the answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::grammar::{self, AT_LEAST, Random};
use crate::oracle::{Case, Op, Outcome};
use crate::{oracle, ours};

/// Cases of each kind of patch: JSON, merge, strategic.
const SIZES: [usize; 3] = [3_000, 2_000, 5_000];

/// How often a case is asked whose answer may depend on the order of a map.
const TRIES: usize = 400;

#[test]
fn results_and_errors_are_those_of_upstream() {
    let seed = seed();
    println!("PORTCULLIS_SEED={seed}");
    let cases = grammar::cases(&mut Random::new(seed), SIZES);
    let answers: Vec<Outcome> = cases.iter().map(ours::answer).collect();
    let theirs = oracle::ask(&cases, 1);
    let mut open: Vec<usize> = Vec::new();
    for (at, (theirs, ours)) in theirs.iter().zip(&answers).enumerate() {
        if !theirs.iter().any(|theirs| agrees(theirs, ours)) {
            open.push(at);
        }
    }
    let again = oracle::ask(open.iter().map(|at| &cases[*at]), TRIES);
    let mut different = Vec::new();
    for (at, theirs) in open.iter().zip(&again) {
        if !theirs.iter().any(|theirs| agrees(theirs, &answers[*at])) {
            different.push(describe(&cases[*at], theirs, &answers[*at]));
        }
    }
    report(&cases, &answers, open.len() - different.len());
    let shown: Vec<&str> = different.iter().take(8).map(String::as_str).collect();
    assert!(different.is_empty(), "{} of {} differ (seed {seed}):\n{}", different.len(), cases.len(), shown.join("\n"));
    assert!(cases.len() >= 5_000);
    // Few enough that the answers above were compared and not guessed.
    assert!(open.len() * 20 <= cases.len(), "{} of {} depend on the order of a map", open.len(), cases.len());
}

/// A crash has no text that a client sees.
fn agrees(theirs: &Outcome, ours: &Outcome) -> bool {
    if theirs.class == "crash" { ours.class == "crash" } else { theirs == ours }
}

fn report(cases: &[Case], answers: &[Outcome], by_order: usize) {
    for op in [Op::Json, Op::Merge, Op::Strategic] {
        let of_op: Vec<(&Case, &Outcome)> = cases.iter().zip(answers).filter(|(case, _)| case.op == op).collect();
        let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
        let mut features: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (case, answer) in &of_op {
            *classes.entry(&answer.class).or_default() += 1;
            for feature in &case.features {
                let counts = features.entry(feature).or_default();
                counts.0 += 1;
                counts.1 += usize::from(answer.class == "ok");
            }
        }
        println!("{op:?}: {} cases, {classes:?}", of_op.len());
        for (feature, (met, applied)) in &features {
            println!("  {feature:<48} {met:>6} met {applied:>6} applied");
            assert!(*met >= AT_LEAST, "{op:?}: {feature} is met only {met} times");
        }
        let applied = classes.get("ok").copied().unwrap_or_default();
        assert!(applied * 5 >= of_op.len(), "{op:?}: only {applied} of {} are applied", of_op.len());
    }
    println!("{by_order} cases depend on the order of a map and agree with one of its orders");
}

fn describe(case: &Case, theirs: &[Outcome], ours: &Outcome) -> String {
    let shown = |text: &[u8]| String::from_utf8_lossy(text).chars().take(3_000).collect::<String>();
    let outcome = |outcome: &Outcome| {
        let mut text = format!("{} {:?} {:?}", outcome.class, outcome.text, outcome.findings);
        let _infallible = write!(text, "\n      {}\n      {}", shown(&outcome.result), outcome.left);
        text
    };
    let theirs: Vec<String> = theirs.iter().take(4).map(outcome).collect();
    format!(
        "[{:?} {} report={} {:?}]\n  document {}\n  patch    {}\n  theirs   {}\n  ours     {}",
        case.op,
        case.kind,
        case.report,
        case.features,
        shown(&case.document),
        shown(&case.patch),
        theirs.join("\n           "),
        outcome(ours)
    )
}

/// The recorded table of types is the one that Go's reflection gives.
#[test]
fn the_table_of_types_is_that_of_upstream() {
    assert!(oracle::schema() == include_str!("types.txt"), "record it anew with PORTCULLIS_RECORD=1");
}

#[expect(clippy::disallowed_methods, reason = "a failed run is repeated by its seed")]
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    let given = std::env::var("PORTCULLIS_SEED").ok().map(|seed| seed.parse().expect("PORTCULLIS_SEED is a number"));
    given.unwrap_or_else(|| RandomState::new().hash_one(0_u8))
}
