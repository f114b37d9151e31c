//! The table in docs/benchmarks.md: what, ours, the peer's, the budget, and whether it is met.

use std::fmt::Write as _;

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

    pub(crate) fn markdown(&self, machine: &str) -> String {
        let mut text = format!(
            "# Benchmarks\n\nMade by `cargo xtask bench`; one run, medians, on {machine}.\nA peer that was not there is printed as absent; its figures of another day are no comparison.\n\n| What | Portcullis | Peer | Budget | |\n|---|---|---|---|---|\n"
        );
        for row in &self.0 {
            let _infallible =
                writeln!(text, "| {} | {} | {} | {} | {} |", row.what, row.ours, row.peer, row.budget, row.verdict);
        }
        text
    }
}
