//! What one verdict of the authenticator costs, beside Kubernetes' own package in the same run.
//!
//! The two are asked in turn, in several rounds, so that both meet what else the machine does; the figures are the medians of
//! the rounds. Both are given their keys and never fetch.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portcullis_authn::{Authenticator, Verdict};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Options;
use crate::process::median;
use crate::report::{Peer, Report};
use crate::verdicts::{CACHE_BYTES, Case, Cases};

/// Rounds of each comparison.
const ROUNDS: usize = 7;

/// Passes over all tokens of a round whose answers are too short to be timed one by one.
const PASSES: usize = 21;

pub(crate) fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let cases = Cases::new()?;
    let oracle = options.peers.join("oracle");
    let mut bench = Bench {
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        oracle: oracle.is_file().then(|| Oracle::start(&oracle)).transpose()?,
    };

    let rs256 = bench.uncached(&cases.rs256)?;
    rs256.report(report, "RS256, uncached", 25.0);
    let es256 = bench.uncached(&cases.es256)?;
    es256.report(report, "ES256, uncached", f64::INFINITY);
    let cel = bench.uncached(&cases.cel)?;
    cel.report(report, "RS256, uncached, expressions and rules", f64::INFINITY);

    let (ours, theirs) = bench.many(&cases)?;
    let shown = Peer::of(theirs.map(|times| format!("{times:.2} ×")));
    report.at_most("authenticator, 64 issuers over one: worst of first, middle, last", "×", ours, 1.05, shown);

    let cached = bench.cached(&cases.rs256)?;
    cached.report(report, "cached", 0.4);

    let counted = count_ours()?;
    for (name, what, theirs) in [
        ("rs256", "RS256, uncached", &rs256),
        ("es256", "ES256, uncached", &es256),
        ("cel", "RS256, uncached, expressions and rules", &cel),
        ("cached", "cached", &cached),
    ] {
        let ours = counted.get(name).context("a count is missing")?;
        let theirs = Peer::of(theirs.peer.as_ref().map(allocated).transpose()?);
        report.beside(&format!("authenticator, allocations of a verdict, {what}"), allocated(ours)?, theirs);
    }
    Ok(())
}

/// Microseconds of a verdict.
struct Figure {
    ours: f64,
    /// The oracle's last answer, with the median of its times.
    peer: Option<Value>,
}

impl Figure {
    fn theirs(&self) -> Option<f64> {
        self.peer.as_ref()?.get("ns")?.as_f64().map(|nanos| nanos / 1e3)
    }

    /// At most half the peer's time, and `limit` at most.
    fn report(&self, report: &mut Report, what: &str, limit: f64) {
        let what = format!("authenticator, {what}");
        let shown = Peer::of(self.theirs().map(|theirs| format!("{theirs:.2} µs")));
        let limit = self.theirs().map_or(limit, |theirs| limit.min(theirs / 2.0));
        if limit.is_finite() {
            report.at_most(&what, "µs", self.ours, limit, shown);
        } else {
            report.beside(&what, format!("{:.2} µs", self.ours), shown);
        }
    }
}

struct Bench {
    runtime: Runtime,
    oracle: Option<Oracle>,
}

impl Bench {
    fn uncached(&mut self, case: &Case) -> Result<Figure> {
        let authenticator = case.authenticator(0)?;
        let ours = |runtime: &Runtime| runtime.block_on(one_by_one(&authenticator, &case.tokens));
        self.compare(case, "uncached", ours)
    }

    fn cached(&mut self, case: &Case) -> Result<Figure> {
        self.compare(case, "cached", |runtime| {
            let authenticator = case.authenticator(CACHE_BYTES)?;
            runtime.block_on(async {
                pass(&authenticator, &case.tokens).await?;
                let mut times = Vec::with_capacity(PASSES);
                for _ in 0..PASSES {
                    times.push(pass(&authenticator, &case.tokens).await?);
                }
                Ok(sorted_median(times))
            })
        })
    }

    fn compare(
        &mut self,
        case: &Case,
        kind: &str,
        mut measure: impl FnMut(&Runtime) -> Result<Duration>,
    ) -> Result<Figure> {
        // Once for nothing: the first pass finds everything cold.
        measure(&self.runtime)?;
        let (mut ours, mut theirs, mut last) = (Vec::new(), Vec::new(), None);
        for _ in 0..ROUNDS {
            ours.push(measure(&self.runtime)?);
            if let Some(oracle) = &mut self.oracle {
                let (time, answer) = oracle.ask(case, kind)?;
                theirs.push(time);
                last = Some(answer);
            }
        }
        if let Some(answer) = last.as_mut().and_then(Value::as_object_mut) {
            answer.insert("ns".to_owned(), u64::try_from(sorted_median(theirs).as_nanos())?.into());
        }
        Ok(Figure { ours: micros(sorted_median(ours)), peer: last })
    }

    /// How many times as long a verdict takes with 64 issuers in the file as with one: the worst of the three, on either side.
    fn many(&mut self, cases: &Cases) -> Result<(f64, Option<f64>)> {
        let one = cases.rs256.authenticator(0)?;
        let all = cases.many.iter().map(|case| Ok((case.authenticator(0)?, case))).collect::<Result<Vec<_>>>()?;
        let mut pairs = vec![(&one, &cases.rs256)];
        pairs.extend(all.iter().map(|(authenticator, case)| (authenticator, *case)));
        // Token by token in turn, because a twentieth is less than what the machine's speed changes by from pass to pass.
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); pairs.len()];
        self.runtime.block_on(async {
            for _ in 0..ROUNDS {
                for number in 0..cases.rs256.tokens.len() {
                    for ((authenticator, case), times) in pairs.iter().zip(&mut times) {
                        times.push(verdict(authenticator, case.tokens.get(number).context("no token")?).await?);
                    }
                }
            }
            anyhow::Ok(())
        })?;
        let ours = worst(times.into_iter().map(sorted_median));

        let Some(oracle) = &mut self.oracle else { return Ok((ours, None)) };
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); pairs.len()];
        for _ in 0..ROUNDS {
            for ((_, case), times) in pairs.iter().zip(&mut times) {
                times.push(oracle.ask(case, "uncached")?.0);
            }
        }
        Ok((ours, Some(worst(times.into_iter().map(sorted_median)))))
    }
}

/// The longest of the times over the first.
fn worst(mut times: impl Iterator<Item = Duration>) -> f64 {
    let one = times.next().unwrap_or_default();
    times.max().unwrap_or_default().as_secs_f64() / one.as_secs_f64()
}

fn sorted_median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    median(&times)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

async fn verdict(authenticator: &Authenticator, token: &str) -> Result<Duration> {
    let begin = Instant::now();
    let verdict = authenticator.authenticate(token).await;
    let time = begin.elapsed();
    ensure!(matches!(verdict, Verdict::User(_)), "a good token was refused");
    Ok(time)
}

/// Median time of one verdict.
async fn one_by_one(authenticator: &Authenticator, tokens: &[String]) -> Result<Duration> {
    let mut times = Vec::with_capacity(tokens.len());
    for token in tokens {
        times.push(verdict(authenticator, token).await?);
    }
    Ok(sorted_median(times))
}

/// Mean time of one verdict.
async fn pass(authenticator: &Authenticator, tokens: &[String]) -> Result<Duration> {
    let begin = Instant::now();
    for token in tokens {
        let verdict = authenticator.authenticate(token).await;
        ensure!(matches!(verdict, Verdict::User(_)), "a good token was refused");
    }
    Ok(begin.elapsed() / u32::try_from(tokens.len())?)
}

/// What ours allocates, by the program next to this one.
fn count_ours() -> Result<Value> {
    let program = std::env::current_exe()?.with_file_name("allocations");
    let output = Command::new(&program).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| {
        format!("cannot run {}: build all of it with `cargo build --release -p portcullis-benches`", program.display())
    })?;
    ensure!(output.status.success(), "{} failed", program.display());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn allocated(counted: &Value) -> Result<String> {
    let number = |name: &str| counted.get(name).and_then(Value::as_u64).with_context(|| format!("no {name}"));
    Ok(format!("{}, {:.1} KiB", number("allocs")?, number("bytes")? as f64 / 1024.0))
}

/// Kubernetes' own package: peers/oracle, one question at a time.
struct Oracle {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    fn start(program: &Path) -> Result<Self> {
        let mut child =
            Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let questions = child.stdin.take().context("no pipe")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Self { child, questions, answers })
    }

    /// Its median time, and the whole answer.
    fn ask(&mut self, case: &Case, kind: &str) -> Result<(Duration, Value)> {
        let jwks: Value = serde_json::from_str(&case.keys.to_json_string())?;
        let question = json!({"bench": kind, "config": case.config, "jwks": jwks, "tokens": case.tokens});
        writeln!(self.questions, "{question}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)?;
        let nanos = answer.get("ns").and_then(Value::as_u64).with_context(|| format!("the oracle: {answer}"))?;
        Ok((Duration::from_nanos(nanos), answer))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
