//! Expressions that are ready to be evaluated.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::error::EvalError;
use crate::eval::Evaluator;
use crate::limits;
use crate::plan::node::Node;
use crate::types::Type;
use crate::value::Value;

/// A compiled expression. Clones share it.
#[derive(Clone)]
pub struct Program(Arc<Compiled>);

struct Compiled {
    source: String,
    output: Type,
    root: Node,
    /// Variables and their fields.
    selections: BTreeSet<(Box<str>, Box<str>)>,
}

/// Gives variables their values.
pub trait Activation {
    /// The value of `name`, if it has one.
    fn resolve(&self, name: &str) -> Option<Value>;
}

/// One variable and its value.
impl Activation for (&str, Value) {
    fn resolve(&self, name: &str) -> Option<Value> {
        (name == self.0).then(|| self.1.clone())
    }
}

/// What came of an evaluation.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The value, or why there is none.
    pub result: Result<Value, EvalError>,
    /// The cost up to the end, in units of Kubernetes.
    pub cost: u64,
}

impl Program {
    pub(crate) fn new(source: &str, output: Type, root: Node, selections: BTreeSet<(Box<str>, Box<str>)>) -> Self {
        Self(Arc::new(Compiled { source: source.to_owned(), output, root, selections }))
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The type of what it comes to, as far as that is known beforehand.
    pub fn output_type(&self) -> &Type {
        &self.0.output
    }

    /// Whether `variable.field`, `has(variable.field)` or `variable.?field` stands in it. `variable['field']` does not count, nor does
    /// what only comes to the variable, such as `dyn(variable).field`.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        self.0.selections.iter().any(|(of, name)| **of == *variable && **name == *field)
    }

    /// Evaluates the expression, for at most `cost_limit` units.
    ///
    /// # Errors
    /// What an operation failed with, or that the limit was passed.
    pub fn evaluate(&self, variables: &dyn Activation, cost_limit: u64) -> Result<Value, EvalError> {
        self.evaluate_counted(variables, cost_limit).result
    }

    /// The same, with what it cost.
    pub fn evaluate_counted(&self, variables: &dyn Activation, cost_limit: u64) -> Evaluation {
        let mut evaluator = Evaluator::new(variables, cost_limit);
        let result = evaluator.run(&self.0.root).map(Value::settled).and_then(|value| {
            let fits = value.weight() <= limits::MADE;
            if fits { Ok(value) } else { Err(EvalError::TooLarge("the result is too large")) }
        });
        Evaluation { result, cost: evaluator.cost() }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("source", &self.0.source)
            .field("output", &self.0.output)
            .finish_non_exhaustive()
    }
}
