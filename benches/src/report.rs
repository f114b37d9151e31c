//! The table in docs/benchmarks.md: what, ours, the peer's, the budget, and whether it is met.

use std::fmt::Write as _;

/// One row.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) ours: String,
    pub(crate) peer: String,
    pub(crate) budget: String,
    /// `None` where there is no budget.
    pub(crate) met: Option<bool>,
}

#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// A figure that must stay at or below a limit.
    pub(crate) fn at_most(&mut self, what: &str, unit: &str, ours: f64, limit: f64, peer: Option<String>) {
        let row = Row {
            what: what.to_owned(),
            ours: format!("{ours:.2} {unit}"),
            peer: peer.unwrap_or_else(|| "absent".to_owned()),
            budget: format!("≤ {limit} {unit}"),
            met: Some(ours <= limit),
        };
        self.push(row);
    }

    /// A figure that is only told.
    pub(crate) fn told(&mut self, what: &str, ours: String) {
        self.push(Row { what: what.to_owned(), ours, peer: "–".to_owned(), budget: "–".to_owned(), met: None });
    }

    fn push(&mut self, row: Row) {
        crate::say(&format!(
            "{:<58} {:>16}  budget {:<14} {}",
            row.what,
            row.ours,
            row.budget,
            row.met.map_or("", |m| if m { "met" } else { "MISSED" })
        ));
        self.0.push(row);
    }

    pub(crate) fn markdown(&self, machine: &str) -> String {
        let mut text = format!(
            "# Benchmarks\n\nMade by `cargo xtask bench`; one run, medians, on {machine}.\nA peer that was not there is printed as absent; its figures of another day are no comparison.\n\n| What | Portcullis | Peer | Budget | |\n|---|---|---|---|---|\n"
        );
        for row in &self.0 {
            let verdict = row.met.map_or("", |met| if met { "met" } else { "**missed**" });
            let _infallible =
                writeln!(text, "| {} | {} | {} | {} | {verdict} |", row.what, row.ours, row.peer, row.budget);
        }
        text
    }
}
