//! Differential test: the same configuration, keys and token into kube-apiserver's own `oidc` package and into ours.
//!
//! Class (user, no opinion, refused, configuration or key set refused) and user must agree in every case, the step that
//! refuses as well, and the words of the refusal but for those that are listed with a reason (`words.rs`). Keys and times are
//! fresh in each run; the random choices are not, unless `PORTCULLIS_SEED` asks for others. The test needs the oracle
//! (`cargo xtask test` builds it) and fails without it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed, and what it counted is printed"
)]

mod draft;
mod families;
mod golden;
mod live;
mod oracle;
mod ours;
mod report;
mod traces;
mod tree;
mod upstream;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use draft::{Keys, Times, World};
use portcullis_authn::Policy;
use portcullis_runtime::{Clock, Rng};
use report::{Class, Report};

/// The random choices of a run, unless told otherwise: the same in each, so that a run fails because something was changed.
const DEFAULT_SEED: u64 = 1;
/// Rounds over all families; one gives about 9,300 cases, and at least 22 in every family.
const ROUNDS: usize = 5;

#[tokio::test]
async fn verdicts_agree_with_kube_apiserver() {
    let seed = seed();
    println!("PORTCULLIS_SEED={seed}");
    let world = world(seed);
    let families = families::all(&world, ROUNDS);
    let cases: Vec<_> = families.into_iter().flat_map(|family| family.cases).collect();
    let theirs = oracle::ask(&cases);
    let mut report = Report::default();
    let mut algorithms: BTreeMap<String, usize> = BTreeMap::new();
    let reloads = cases.iter().filter(|case| case.family == "generated" && case.initial.is_some()).count();
    assert!(reloads >= 1_000, "only {reloads} generated reloads");
    for (case, theirs) in cases.iter().zip(&theirs) {
        report.add(case, theirs, &ours::ask(case, Policy::Faithful).await);
        if case.family == "generated" && theirs.ok {
            *algorithms.entry(algorithm(&case.token)).or_default() += 1;
        }
    }
    report.print();
    println!("accepted generated tokens by algorithm: {algorithms:?}");
    for (what, list) in [
        ("verdicts differ", &report.different),
        ("refused at another step", &report.other_step),
        ("refused at a step that is not listed in report.rs", &report.unknown_step),
        ("tokens refused in words that are not listed in words.rs", &report.other_words),
        ("configurations refused in other words", &report.other_config_text),
    ] {
        let shown: Vec<&str> = list.iter().take(10).map(String::as_str).collect();
        assert!(list.is_empty(), "{} {what} (seed {seed}):\n{}", list.len(), shown.join("\n"));
    }
    for (pair, count) in words::PAIRS.iter().zip(report.allowed_words) {
        assert!(count > 0 || !pair.is_sure, "nothing is said so any more: {}", pair.theirs);
    }
    assert!(report.total() >= 20_000, "{} cases are too few", report.total());
    assert!(report.accepted() * 5 >= report.total(), "only {} of {} accepted", report.accepted(), report.total());
    for (name, counts) in &report.families {
        assert!(counts.cases >= 100, "family {name} has only {} cases", counts.cases);
    }
    // What expressions come to is looked at in these two alone, so enough of their cases have to get so far.
    for (name, accepted, refused) in [("file mappings", 300, 200), ("file conditions", 350, 40)] {
        let counts = &report.families[name];
        assert!(counts.accepted >= accepted && counts.refused >= refused, "{name}: too few verdicts");
    }
    let generated = &report.families["generated"];
    assert!(generated.cases >= 20_000 && generated.accepted * 5 >= generated.cases, "too few generated files are used");
    for (step, least) in
        [("not before", 100), ("claim sources", 100), ("distributed claims", 20), (report::EXCLUDED, 100)]
    {
        let count = report.generated_steps.get(step).copied().unwrap_or_default();
        assert!(count >= least, "only {count} generated cases are refused for: {step}");
    }
    for name in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"] {
        assert!(algorithms.get(name).is_some_and(|count| *count >= 100), "too few users by {name}: {algorithms:?}");
    }
    let Report { parsers_words, yaml_refused_earlier, .. } = report;
    assert!(parsers_words <= 1_000, "the words of {parsers_words} configurations are not compared");
    assert!(yaml_refused_earlier <= 10, "our YAML parser refuses {yaml_refused_earlier} that upstream's takes");
}

#[tokio::test]
async fn deliberate_differences_are_refusals_and_nothing_else() {
    let world = world(seed());
    let cases = families::deliberate(&world);
    let theirs = oracle::ask(&cases);
    for (case, theirs) in cases.iter().zip(&theirs) {
        let ours = ours::ask(case, Policy::Faithful).await;
        assert_eq!(report::class(theirs), Class::User, "{}: upstream changed: {theirs:?}", case.family);
        assert!(matches!(report::class(&ours), Class::Refused | Class::KeySetRefused), "{}: {ours:?}", case.family);
    }
    println!("{} deliberate differences", cases.len());
}

#[tokio::test]
async fn the_known_wider_cases_are_still_the_only_ones_of_their_kind() {
    let world = world(seed());
    let cases = families::wider(&world);
    let theirs = oracle::ask(&cases);
    for (case, theirs) in cases.iter().zip(&theirs) {
        assert!(!theirs.ok, "{}: upstream changed", case.family);
        let ours = ours::ask(case, Policy::Faithful).await;
        assert!(ours.ok, "{}: agrees now, move it to its family: {ours:?}", case.family);
    }
}

#[tokio::test]
async fn strict_accepts_nothing_that_faithful_refuses() {
    let world = world(seed());
    let mut narrowed = 0;
    for family in families::all(&world, 1) {
        for case in family.cases {
            let faithful = ours::ask(&case, Policy::Faithful).await;
            let strict = ours::ask(&case, Policy::Strict).await;
            if strict.ok {
                assert_eq!(strict, faithful, "{}: {}", case.family, case.token);
            } else if faithful.ok {
                narrowed += 1;
            }
        }
    }
    println!("strict refuses {narrowed} tokens that kube-apiserver accepts");
    assert!(narrowed > 50, "only {narrowed}");
}

/// The algorithm that a token names.
fn algorithm(token: &str) -> String {
    let header =
        token.split('.').next().and_then(|part| portcullis_jose::base64url_decode(part).ok()).unwrap_or_default();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap_or_default();
    header["alg"].as_str().unwrap_or_default().to_owned()
}

fn world(seed: u64) -> Arc<World> {
    let now = Clock::system().now().unix_seconds();
    Arc::new(World { keys: Keys::generate(), times: Times::near(now), rng: Rng::seeded(seed), prefer_rsa: true })
}

#[expect(clippy::disallowed_methods, reason = "a failed run is repeated by its seed")]
fn seed() -> u64 {
    let given = std::env::var("PORTCULLIS_SEED").ok().map(|seed| seed.parse().expect("PORTCULLIS_SEED is a number"));
    given.unwrap_or(DEFAULT_SEED)
}
