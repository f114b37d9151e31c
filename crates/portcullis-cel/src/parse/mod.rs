//! Text into an expression: tokens, grammar, and macros expanded.

mod build;
mod grammar;
mod lexer;
mod macros;
mod tree;
mod unescape;

use std::sync::Arc;

use self::build::Builder;
use self::grammar::{Failed, Grammar};
use crate::ast::Ast;
use crate::source::{Issues, Location, Source};

/// Longest expression, in code points.
pub(crate) const MAX_CODE_POINTS: usize = 100_000;

/// Texts that are no token and are still reported one by one.
const MAX_LEXER_ERRORS: usize = 100;

/// Parses `text`. After the first syntax error nothing more is looked for.
pub(crate) fn parse(text: &str) -> Result<Ast, Issues> {
    let source = Arc::new(Source::new(text));
    let mut issues = Issues::new(Arc::clone(&source));
    let size = source.chars().len();
    if size > MAX_CODE_POINTS {
        return Err(Issues::oversized(size, MAX_CODE_POINTS));
    }
    let tokens = lexer::tokenize(&source);
    let report_lexer = |issues: &mut Issues, count: usize| {
        for (index, (at, text)) in tokens.errors.iter().take(count).enumerate() {
            if index == MAX_LEXER_ERRORS {
                let message = format!("Syntax error: More than {MAX_LEXER_ERRORS} syntax errors");
                issues.report(source.location(*at), message);
                return false;
            }
            let message = format!("Syntax error: token recognition error at: '{text}'");
            issues.report(source.location(*at), message);
        }
        true
    };
    match Grammar::new(&source, &tokens).start() {
        Ok(tree) => {
            if report_lexer(&mut issues, tokens.errors.len()) {
                let mut builder = Builder::new(Arc::clone(&source), issues);
                let root = builder.start(&tree);
                return builder.finish(root);
            }
        }
        Err(Failed::Syntax { at, message, lexer_errors }) => {
            if report_lexer(&mut issues, lexer_errors) {
                // Upstream's end of an expression that is empty lies before its start.
                let place = if size == 0 { Location { line: 1, column: -1 } } else { source.location(at) };
                issues.report(place, format!("Syntax error: {message}"));
            }
        }
        Err(Failed::Recursion { lexer_errors }) => {
            if report_lexer(&mut issues, lexer_errors) {
                let message = format!("expression recursion limit exceeded: {}", tree::MAX_DEPTH);
                issues.report(Location::NONE, message);
            }
        }
    }
    Err(issues)
}
