//! A script of kubectl commands, run with the real kubectl against a real kube-apiserver and against the dev API server:
//! exit code, stdout, stderr and the requests with their answers must be the same, but for ids, times, ages and versions.
//!
//! The commands stand in `lines/*.txt` (`lines` says how), the files that they name in `files/`. `cluster` does for the bare
//! kube-apiserver what the rest of a control plane does; `allowed` lists what is known to differ.
//!
//! `PORTCULLIS_LINES=theme,theme` runs some themes only. With `PORTCULLIS_ARTEFACTS=folder` all that was printed is kept in
//! `folder/kubectl-script.txt`.

mod allowed;
mod cluster;
mod lines;
mod log;
mod scrub;
mod side;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use portcullis_testkit::{ControlPlane, Leaf, TestCa};

use self::cluster::Cluster;
use self::lines::{Does, Line};
use self::side::{Outcome, Side};
use crate::bench::Bench;

/// Who may ask, with their groups.
const PEOPLE: &[(&str, &[&str])] = &[("admin", &["system:masters"]), ("jane", &["devs", "ops"]), ("bob", &[])];
/// Commands that there must be at least.
const ENOUGH: usize = 1_100;
/// Themes that are run one after another on a cluster of their own; the others share another, at the same time.
const FIRST: [&str; 6] = ["basics", "create", "get", "describe", "run", "rollout"];

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_does_and_says_the_same_as_against_a_real_kube_apiserver() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apiserver/commands");
    let all = lines::all(&folder.join("lines"));
    let wanted = variable("PORTCULLIS_LINES");
    let lines: Vec<&Line> = all
        .iter()
        .filter(|line| wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|theme| theme == line.theme)))
        .collect();
    assert!(all.len() >= ENOUGH, "{} commands", all.len());

    let (first, second): (Vec<&Line>, Vec<&Line>) =
        lines.into_iter().partition(|line| FIRST.contains(&line.theme.as_str()));
    let files = folder.join("files");
    let (mut report, more) = tokio::join!(lane(&files, &first), lane(&files, &second));
    report.add(more);
    if let Some(folder) = variable("PORTCULLIS_ARTEFACTS") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join("kubectl-script.txt"), &report.transcript).unwrap();
    }
    report.judge(wanted.is_some());
}

/// Runs lines against a pair of servers of their own.
async fn lane(files: &Path, lines: &[&Line]) -> Report {
    let mut report = Report::default();
    if lines.is_empty() {
        return report;
    }
    let plane = ControlPlane::start(&["--service-cluster-ip-range=10.96.0.0/12".to_owned()]).await;
    crate::differential::started(&plane).await;
    let bench = Bench::start().await;
    let admin = bench.client(Some(("admin", &["system:masters"])));
    let cluster = Cluster::level(plane.admin_client(), plane.url(), &admin, &bench.url("")).await;
    let upstream = (plane.aggregation_controller(), plane.controllers());
    let keeper = tokio::spawn(cluster.clone().keep());
    let people = |ca: &TestCa| -> Vec<(&str, Leaf)> {
        PEOPLE.iter().map(|(name, groups)| (*name, ca.client(name, groups))).collect()
    };
    let mut real = Side::new(plane.url(), plane.ca(), &people(plane.ca()), files);
    let mut ours = Side::new(&bench.url(""), &bench.ca, &people(&bench.ca), files);

    for line in lines {
        let (want, got) = match &line.does {
            Does::Start => {
                tokio::join!(real.start(line), ours.start(line));
                continue;
            }
            Does::Run => tokio::join!(real.run(line), ours.run(line)),
            Does::Stop(id) => tokio::join!(real.stop(id), ours.stop(id)),
        };
        cluster.act().await;
        report.compare(line, want, got);
    }
    keeper.abort();
    drop((real, ours, upstream));
    bench.stop().await;
    report
}

#[derive(Default)]
struct Report {
    compared: usize,
    equal: usize,
    /// Rules and lines of `allowed` that were needed, and for how many lines.
    needed: BTreeMap<&'static str, usize>,
    allowed: BTreeSet<String>,
    wrong: Vec<String>,
    transcript: String,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.compared += other.compared;
        self.equal += other.equal;
        for (rule, lines) in other.needed {
            *self.needed.entry(rule).or_default() += lines;
        }
        self.allowed.extend(other.allowed);
        self.wrong.extend(other.wrong);
        self.transcript.push_str(&other.transcript);
    }

    fn compare(&mut self, line: &Line, mut want: Outcome, mut got: Outcome) {
        self.compared += 1;
        let _ = writeln!(self.transcript, "=== {} $ {}\n{}", line.name(), line.command, shown(&want));
        if want != got {
            let _ = writeln!(self.transcript, "--- ours\n{}", shown(&got));
        }
        let whole = (want.clone(), got.clone());
        let level = |without: Option<&str>| {
            let (mut want, mut got) = whole.clone();
            for rule in allowed::RULES.iter().filter(|rule| without != Some(rule.name)) {
                if want != got {
                    (rule.level)(&mut want, true);
                    (rule.level)(&mut got, false);
                }
            }
            (want, got)
        };
        (want, got) = level(None);
        if want != got
            && let Some(own) = allowed::LINES.iter().find(|own| own.name == line.name())
        {
            (own.level)(&mut want, true);
            (own.level)(&mut got, false);
            if want == got {
                self.allowed.insert(line.name());
                return;
            }
        }
        if want != got {
            self.wrong.push(format!("== {} $ {}\n{}", line.name(), line.command, difference(&want, &got)));
            return;
        }
        if whole.0 == whole.1 {
            self.equal += 1;
            return;
        }
        for rule in allowed::RULES {
            let (want, got) = level(Some(rule.name));
            if want != got {
                *self.needed.entry(rule.name).or_default() += 1;
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "figures for whoever runs the test with --nocapture")]
    fn judge(mut self, partial: bool) {
        println!(
            "{} kubectl commands: {} equal, {} equal but for what is known to differ, {} known to differ, {} wrong",
            self.compared,
            self.equal,
            self.compared - self.equal - self.allowed.len() - self.wrong.len(),
            self.allowed.len(),
            self.wrong.len(),
        );
        for rule in allowed::RULES {
            let lines = self.needed.get(rule.name).copied().unwrap_or_default();
            println!("  {lines:>3} {}: {}", rule.name, rule.why);
            if lines == 0 && !partial {
                self.wrong.push(format!("nothing needs the rule `{}` any more ({}): take it off", rule.name, rule.why));
            }
        }
        for own in allowed::LINES.iter().filter(|own| !partial && !self.allowed.contains(own.name)) {
            self.wrong.push(format!("{} no longer differs ({}): take it off the list", own.name, own.why));
        }
        assert!(self.wrong.is_empty(), "{} wrong\n{}", self.wrong.len(), self.wrong.join("\n"));
    }
}

fn shown(outcome: &Outcome) -> String {
    format!(
        "code {}\nstdout:\n{}\nstderr:\n{}\nrequests:\n{}\n",
        outcome.code,
        outcome.stdout,
        outcome.stderr,
        outcome.traffic.join("\n")
    )
}

/// Where two outcomes part.
fn difference(want: &Outcome, got: &Outcome) -> String {
    let mut out = String::new();
    if want.code != got.code {
        let _ = writeln!(out, "code: real {}, ours {}", want.code, got.code);
    }
    let traffic = |outcome: &Outcome| outcome.traffic.join("\n");
    for (what, want, got) in [
        ("stdout", want.stdout.clone(), got.stdout.clone()),
        ("stderr", want.stderr.clone(), got.stderr.clone()),
        ("requests", traffic(want), traffic(got)),
    ] {
        if want == got {
            continue;
        }
        let (want, got): (Vec<&str>, Vec<&str>) = (want.lines().collect(), got.lines().collect());
        let start = want.iter().zip(&got).take_while(|(want, got)| want == got).count();
        let _ = writeln!(out, "{what}, from line {}:", start + 1);
        for (side, lines) in [("real", &want), ("ours", &got)] {
            for line in lines.iter().skip(start).take(12) {
                let _ = writeln!(out, "  {side}> {line}");
            }
        }
    }
    out
}

#[expect(clippy::disallowed_methods, reason = "who runs the tests speaks through the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
