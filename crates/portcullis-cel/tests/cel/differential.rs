//! Random expressions to both sides: they agree on whether an expression compiles, on each message and its place, on values and
//! their types, on errors, and on what it costs.

use std::collections::BTreeMap;

use crate::grammar::Grammar;
use crate::oracle::{Case, Outcome, ask};
use crate::ours;
use crate::productions::{PRODUCTIONS, REFUSED};

/// Seed of a run that names none.
const SEED: u64 = 20_261_127;
const EXPRESSIONS: usize = 24_000;
/// How often each feature is there at least.
const LEAST: usize = 60;
/// What we say where upstream's process panics.
const PANICS: [&str; 2] =
    ["an optional element cannot have the type '", "program instantiation failed: bytes cannot be the key of a map"];
/// How often the oracle is asked again where it and we differ: upstream walks maps in a random order.
const TRIES: usize = 200;

#[expect(clippy::disallowed_methods, reason = "a run can be repeated")]
fn number(variable: &str, or: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(or)
}

fn with_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(work).expect("a thread starts");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[test]
fn random_expressions_are_answered_as_upstream_answers_them() {
    with_stack(compare);
}

fn compare() {
    let seed = number("PORTCULLIS_SEED", SEED);
    let count = usize::try_from(number("PORTCULLIS_CEL_EXPRESSIONS", EXPRESSIONS as u64)).expect("a number");
    println!("PORTCULLIS_SEED={seed}, {count} expressions");
    let mut grammar = Grammar::new(seed);
    let cases: Vec<Case> = (0..count).map(|index| grammar.case(index)).collect();
    let answers = ask(&cases, 1);
    let mut stages: BTreeMap<String, usize> = BTreeMap::new();
    let mut features: BTreeMap<&str, [usize; 2]> = PRODUCTIONS.iter().map(|(name, _, _)| (*name, [0, 0])).collect();
    let mut suspects: Vec<(&Case, Outcome)> = Vec::new();
    for (case, theirs) in cases.iter().zip(&answers) {
        let ours = ours::answer(case);
        *stages.entry(theirs[0].stage.clone()).or_default() += 1;
        for feature in &case.features {
            let counts = features.entry(feature).or_default();
            counts[0] += 1;
            counts[1] += usize::from(theirs[0].stage == "value" || theirs[0].stage == "error");
        }
        if !theirs.iter().any(|theirs| theirs.agrees(&ours)) {
            suspects.push((case, ours));
        }
    }
    let again = ask(suspects.iter().map(|(case, _)| *case), TRIES);
    let mut differ = 0;
    let mut panics = [0; PANICS.len()];
    for ((case, ours), theirs) in suspects.iter().zip(&again) {
        if theirs[0].stage == "crash" {
            let said = PANICS.iter().position(|message| ours.text.contains(message));
            let said =
                said.unwrap_or_else(|| panic!("{}: upstream panics, we say {}", case.expression, ours.to_json()));
            panics[said] += 1;
            continue;
        }
        if theirs.iter().any(|theirs| theirs.agrees(ours)) {
            continue;
        }
        differ += 1;
        if differ <= 60 {
            println!("{} with {}\n  ours   {}", case.expression, case.value, ours.to_json());
            for theirs in theirs.iter().take(3) {
                println!("  theirs {}", theirs.to_json());
            }
        }
    }
    println!("{stages:?}; {} features; panics {panics:?}", features.len());
    for (name, [all, evaluated]) in &features {
        println!("{name}: {all}, {evaluated} evaluated");
    }
    assert_eq!(differ, 0, "of {count} expressions, {differ} are answered in another way");
    if count >= EXPRESSIONS {
        let rare: Vec<_> = features.iter().filter(|(_, [all, _])| *all < LEAST).collect();
        assert!(rare.is_empty(), "too rare: {rare:?}");
        // A feature that is never evaluated may be a mistake in the grammar.
        let (refused, open): (Vec<_>, Vec<_>) = features.iter().partition(|(name, _)| REFUSED.contains(name));
        let never: Vec<_> = open.iter().filter(|(_, [_, evaluated])| *evaluated == 0).collect();
        assert!(never.is_empty(), "never evaluated: {never:?}");
        assert_eq!(refused.len(), REFUSED.len(), "names of productions: {REFUSED:?}");
        let often: Vec<_> = refused.iter().filter(|(_, [all, evaluated])| evaluated * 20 > *all).collect();
        assert!(often.is_empty(), "evaluated after all: {often:?}");
        assert!(!panics.contains(&0), "upstream panicked {panics:?} times for {PANICS:?}");
        let evaluated =
            stages.get("value").copied().unwrap_or_default() + stages.get("error").copied().unwrap_or_default();
        assert!(evaluated * 3 > count, "only {evaluated} of {count} were evaluated");
    }
}
