//! What an evaluation has taken of the limits that cost does not set: [`WORK`](crate::limits::WORK) and
//! [`MADE`](crate::limits::MADE).
//!
//! Both are charged before a function looks at its arguments, by the [weight](Value::weight) of those, which lists and maps
//! know without a walk.

use crate::cost::Fatal;
use crate::error::EvalError;
use crate::limits::{MADE, WORK};
use crate::plan::node::{CallNode, Implementation};
use crate::value::Value;

/// What compiling a regular expression counts as.
const PATTERN: u64 = 5_000;

/// Functions whose result can be larger than what they were charged for.
const GROWING: [&str; 6] = ["findAll", "flatten", "format", "join", "replace", "split"];

#[derive(Debug, Default)]
pub(crate) struct Spent {
    work: u64,
    made: u64,
}

fn weight(args: &[Value]) -> u64 {
    args.iter().fold(0u64, |sum, arg| sum.saturating_add(arg.weight()))
}

impl Spent {
    pub(crate) fn work(&mut self, work: u64) -> Result<(), Fatal> {
        self.work = self.work.saturating_add(work);
        if self.work > WORK { Err(Fatal(EvalError::TooLarge("values are looked at too often"))) } else { Ok(()) }
    }

    fn made(&mut self, weight: u64) -> Result<(), Fatal> {
        self.made = self.made.saturating_add(weight);
        if self.made > MADE { Err(Fatal(EvalError::TooLarge("too much text is made"))) } else { Ok(()) }
    }

    /// Charges a call that is about to be made.
    pub(crate) fn before(&mut self, call: &CallNode, args: &[Value]) -> Result<(), Fatal> {
        let name = call.declared.name;
        if name == "format" {
            self.made(weight(args))?;
        }
        self.work(match (name, args) {
            ("_+_", [Value::List(left), Value::List(right)]) => left.copied_by_join(right),
            ("size" | "type" | "dyn", [Value::List(_) | Value::Map(_)]) => 1,
            ("cel.@mapInsert", [Value::Gathering(_), rest @ ..]) => weight(rest),
            ("distinct", [list]) => list.weight().saturating_mul(list.weight()),
            ("sets.contains" | "sets.equivalent" | "sets.intersects", [a, b]) => a.weight().saturating_mul(b.weight()),
            ("matches" | "find" | "findAll", _) if !matches!(call.implementation, Implementation::Pattern(_)) => {
                weight(args).saturating_add(PATTERN)
            }
            _ => weight(args),
        })
    }

    /// Charges what a call made.
    pub(crate) fn after(&mut self, call: &CallNode, value: &Value) -> Result<(), Fatal> {
        if GROWING.contains(&call.declared.name) { self.made(value.weight()) } else { Ok(()) }
    }
}
