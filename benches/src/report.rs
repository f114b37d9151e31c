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

/// How the table is to be read.
const ABOUT: &str = "\
A peer that was not there is printed as absent; its figures of another day are no comparison.
Rows of `bench --apiserver-only` and of `bench --store-only` may be of a later run than the others.

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

    /// The whole document. Rows of `before` that were not measured now stay in their places.
    pub(crate) fn markdown(&self, machine: &str, before: &str) -> String {
        let mut text = format!(
            "# Benchmarks\n\nMade by `cargo xtask bench`; one run, medians, on {machine}.\n{ABOUT}\n| What | Portcullis | Peer | Budget | |\n|---|---|---|---|---|\n"
        );
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
        let before = first.markdown("a machine", "");
        let mut second = Report::default();
        for what in ["server, ready", "server, kept", "server, memory"] {
            second.told(what, "2".to_owned());
        }
        let after = second.markdown("a machine", &before);
        let rows: Vec<_> = after.lines().filter(|line| line.starts_with('|')).skip(2).collect();
        let row = |what: &str, figure: u8| format!("| {what} | {figure} | – | – |  |");
        let expected = [("plugin", 1), ("server, ready", 2), ("server, kept", 2), ("server, memory", 2), ("chain", 1)];
        assert_eq!(rows, expected.map(|(what, figure)| row(what, figure)));
        assert_eq!(second.markdown("a machine", &after), after, "once more changes nothing");
    }
}
