//! Random histories over two or three replicas on one store.
//!
//! Each replica has a clock of its own, at most five minutes from the others'. Requests get lost, replies get lost,
//! requests arrive late or twice, the store refuses; a call is suspended between any two of its own steps while others go
//! on; replicas end without warning and start anew with nothing but the store. A model follows what was acknowledged, and
//! knows what it does not know. Whatever the store then answers must follow from the promises of
//! docs/store-invariants.md, and each violation begins with the name of the promise.
//!
//! The simulation is worth something only if it notices: each mutant breaks one thing, most of them below the facades and
//! in the place where a facade with that fault would have left its mark, and must be caught.
//!
//! `PORTCULLIS_HISTORIES` sets how many histories are run. A history that fails is told with its seed and its steps.

mod families;
mod leases;
mod logins;
mod mutants;
mod objects;
mod sealing;
mod tally;
mod world;

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use self::{mutants::Bug, tally::Tally, world::World};

/// How many histories are run unless the environment says otherwise: `cargo xtask test` asks for 100,000.
const HISTORIES: u64 = 10_000;
/// Calls of the facades in a history.
const CALLS: u32 = 50;
/// How many histories may pass before a mutant is caught.
const PATIENCE: u64 = 40_000;

/// How a check ends: the text names the promise that was broken.
type Checked = Result<(), String>;

fn violated(condition: bool, what: impl FnOnce() -> String) -> Checked {
    if condition { Err(what()) } else { Ok(()) }
}

/// Runs one history. With `told`, the text of a failure has its steps.
fn history(seed: u64, bug: Bug, told: bool, tally: &mut Tally) -> Checked {
    let mut world = World::new(seed, bug, told);
    let outcome = world.run(CALLS);
    tally.add(world.tally());
    outcome.map_err(|what| format!("history {seed}: {what}{}", world.told()))
}

/// The first failure among histories 0 to `count`, and the tally of all that were run.
fn histories(count: u64) -> (Tally, Option<String>) {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let run = || {
            let mut tally = Tally::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= count {
                    return tally;
                }
                if history(seed, Bug::None, false, &mut tally).is_err() {
                    next.store(count, Ordering::Relaxed);
                    let again = history(seed, Bug::None, true, &mut Tally::default());
                    *failed.lock().unwrap() = Some(again.expect_err("a history is the same every time"));
                }
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        for thread in running {
            tally.add(&thread.join().unwrap());
        }
    });
    (tally, failed.into_inner().unwrap())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "who looks for rare histories runs more of them")]
fn random_histories_keep_every_invariant() {
    let count = std::env::var("PORTCULLIS_HISTORIES").map_or(HISTORIES, |count| count.parse().expect("a number"));
    let (tally, failed) = histories(count);
    println!("{count} histories\n{tally}");
    if let Some(failed) = failed {
        panic!("{failed}");
    }
    tally.assert_everything_happened();
}

/// Runs histories until one shows that a promise is broken which this bug breaks.
fn catch(bug: Bug) -> Result<String, String> {
    let promises = bug.breaks();
    let mut others = 0;
    for seed in 0..PATIENCE {
        let Err(caught) = history(seed, bug, false, &mut Tally::default()) else { continue };
        if promises.is_empty() || promises.iter().any(|promise| caught.contains(&format!(": {promise}: "))) {
            return Ok(format!("{bug:?}, after {} histories: {caught}", seed + 1));
        }
        others += 1;
    }
    Err(format!("{bug:?} was not caught in {PATIENCE} histories to break one of {promises:?}, but {others} others"))
}

#[test]
fn every_mutant_is_caught() {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let missed: Vec<String> = std::thread::scope(|scope| {
        let run = || {
            let mut missed = Vec::new();
            while let Some(bug) = Bug::ALL.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap()) {
                match catch(*bug) {
                    Ok(caught) => println!("{caught}"),
                    Err(what) => missed.push(what),
                }
            }
            missed
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(missed, [""; 0]);
}
