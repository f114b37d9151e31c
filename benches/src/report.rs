//! The table in docs/benchmarks.md: what, ours, the peer's, the budget, and whether it is met.

/// One row.
struct Row {
    what: String,
    ours: String,
    peer: String,
    budget: String,
    verdict: String,
}

/// What stands in the peer's column.
pub(crate) enum Peer {
    /// Its figure, from this run.
    Figure(String),
    /// There is such a peer, and it was not given to this run.
    Absent,
    /// No peer does this.
    None,
}

impl Peer {
    /// The figure of a peer that may have been absent.
    pub(crate) fn of(figure: Option<String>) -> Self {
        figure.map_or(Self::Absent, Self::Figure)
    }

    fn text(self) -> String {
        match self {
            Self::Figure(text) => text,
            Self::Absent => "absent".to_owned(),
            Self::None => "–".to_owned(),
        }
    }
}

/// What stands before the machine's name.
const MADE: &str = "Made by `cargo xtask bench`; one run, medians, on ";

/// What stands between a part that was measured by itself and its machine's name.
const OWN_RUN: &str = " are of a run of their own, on ";

/// How the table is to be read.
const ABOUT: &str = "\
A peer that was not there is printed as absent; its figures of another day are no comparison.

A verdict of the authenticator is beside Kubernetes' own package, both with keys given, on tokens with 20 groups and RSA keys of
2,048 bits; the peer's cached verdict is its token cache's. Times follow the processor and what else the machine does: from run to run
compare the ratios of the two. Allocations are their number, and the bytes asked for.

The rows of SQLite and PostgreSQL: clients, provider and database server share the machine's cores, and every commit waits for the
disk, on either side. Clients keep their connections; each is a user of its own. A code flow is authorization request, form, consent,
code and tokens; the POST of its password is made but not counted, because its bcrypt hash, the same on either side, is most of all
work. The budgets of rates are five times Dex's of the same run: for refreshes on PostgreSQL of one chain, because most answers to
many clients are 500 there. How often a request asks the store is in docs/store-invariants.md.
";

#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// A figure that must stay at or below a limit.
    pub(crate) fn at_most(&mut self, what: &str, unit: &str, ours: f64, limit: f64, peer: Peer) {
        let verdict = if ours <= limit {
            "met".to_owned()
        } else {
            format!("**missed** by {:.0} %", (ours / limit - 1.0) * 100.0)
        };
        self.push(Row {
            what: what.to_owned(),
            ours: format!("{ours:.2} {unit}"),
            peer: peer.text(),
            budget: format!("≤ {} {unit}", (limit * 1e4).round() / 1e4),
            verdict,
        });
    }

    /// A figure that must reach a limit.
    pub(crate) fn at_least(&mut self, what: &str, unit: &str, ours: f64, limit: f64, peer: Peer) {
        let verdict = if ours >= limit {
            "met".to_owned()
        } else {
            format!("**missed** by {:.0} %", (1.0 - ours / limit) * 100.0)
        };
        self.push(Row {
            what: what.to_owned(),
            ours: format!("{ours:.2} {unit}"),
            peer: peer.text(),
            budget: format!("≥ {} {unit}", (limit * 1e2).round() / 1e2),
            verdict,
        });
    }

    /// A figure that could not be measured here, and why.
    pub(crate) fn not_run(&mut self, what: &str, why: &str) {
        self.push(Row {
            what: what.to_owned(),
            ours: "not run".to_owned(),
            peer: Peer::None.text(),
            budget: "–".to_owned(),
            verdict: why.to_owned(),
        });
    }

    /// A figure that is only told.
    pub(crate) fn told(&mut self, what: &str, ours: String) {
        self.push(Row {
            what: what.to_owned(),
            ours,
            peer: Peer::None.text(),
            budget: "–".to_owned(),
            verdict: String::new(),
        });
    }

    /// A figure beside the peer's, without a budget.
    pub(crate) fn beside(&mut self, what: &str, ours: String, peer: Peer) {
        self.push(Row {
            what: what.to_owned(),
            ours,
            peer: peer.text(),
            budget: "–".to_owned(),
            verdict: String::new(),
        });
    }

    fn push(&mut self, row: Row) {
        crate::say(&format!("{:<58} {:>16}  budget {:<14} {}", row.what, row.ours, row.budget, row.verdict));
        self.0.push(row);
    }

    /// The whole document.
    pub(crate) fn markdown(&self, machine: &str) -> String {
        self.document(machine, &[], "")
    }

    /// The document with what a run of `part` alone has measured: rows of `before` that were not measured stay in their places.
    pub(crate) fn merged(&self, part: &str, machine: &str, before: &str) -> String {
        let whole = before.lines().find_map(|line| line.strip_prefix(MADE)?.strip_suffix('.'));
        let about = format!("Rows of `bench {part}`{OWN_RUN}");
        let others = |line: &&str| line.contains(OWN_RUN) && !line.starts_with(&about);
        let mut parts: Vec<String> = before.lines().filter(others).map(str::to_owned).collect();
        parts.push(format!("{about}{machine}."));
        self.document(whole.unwrap_or(machine), &parts, before)
    }

    fn document(&self, machine: &str, parts: &[String], before: &str) -> String {
        let mut text = format!("# Benchmarks\n\n{MADE}{machine}.\n");
        for part in parts {
            text.extend([part, "\n"]);
        }
        text.extend([ABOUT, "\n| What | Portcullis | Peer | Budget | |\n|---|---|---|---|---|\n"]);
        let mut new: Vec<String> = self.0.iter().map(Row::line).collect();
        for old in before.lines().filter(|line| line.starts_with('|')).skip(2) {
            match new.iter().position(|line| what(line) == what(old)) {
                Some(at) => text.extend(new.drain(..=at)),
                None if self.0.iter().any(|row| row.what.trim() == what(old)) => {}
                None => text.extend([old, "\n"]),
            }
        }
        text.extend(new);
        text
    }
}

impl Row {
    fn line(&self) -> String {
        format!("| {} | {} | {} | {} | {} |\n", self.what, self.ours, self.peer, self.budget, self.verdict)
    }
}

/// What a line of the table is about.
fn what(line: &str) -> &str {
    line.split('|').nth(1).unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_not_measured_stay_and_the_others_are_replaced_in_their_places() {
        let mut first = Report::default();
        for what in ["plugin", "server, ready", "server, memory", "chain"] {
            first.told(what, "1".to_owned());
        }
        let before = first.markdown("a machine");
        let mut second = Report::default();
        for what in ["server, ready", "server, kept", "server, memory"] {
            second.told(what, "2".to_owned());
        }
        let after = second.merged("--server-only", "another", &before);
        let rows: Vec<_> = after.lines().filter(|line| line.starts_with('|')).skip(2).collect();
        let row = |what: &str, figure: u8| format!("| {what} | {figure} | – | – |  |");
        let expected = [("plugin", 1), ("server, ready", 2), ("server, kept", 2), ("server, memory", 2), ("chain", 1)];
        assert_eq!(rows, expected.map(|(what, figure)| row(what, figure)));
        assert_eq!(second.merged("--server-only", "another", &after), after, "once more changes nothing");
    }

    #[test]
    fn each_part_names_the_machine_of_its_last_run() {
        let report = Report::default();
        let parts = [("--a-only", "one"), ("--b-only", "two"), ("--a-only", "three")];
        let text = parts
            .iter()
            .fold(report.markdown("the first"), |text, (part, machine)| report.merged(part, machine, &text));
        let machines: Vec<&str> =
            text.lines().filter(|line| line.starts_with(MADE) || line.contains(OWN_RUN)).collect();
        assert_eq!(
            machines,
            [
                "Made by `cargo xtask bench`; one run, medians, on the first.",
                "Rows of `bench --b-only` are of a run of their own, on two.",
                "Rows of `bench --a-only` are of a run of their own, on three.",
            ]
        );
        assert!(!report.markdown("x").contains(OWN_RUN), "a whole run is of one machine");
    }
}
