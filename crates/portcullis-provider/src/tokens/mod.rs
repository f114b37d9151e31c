//! What is in tokens, and issuing them.

mod claims;
mod document;
mod issue;
mod scopes;

pub(crate) use document::Document;
pub(crate) use issue::{IssueError, TokenRequest, Tokens};
pub(crate) use scopes::{ScopeError, check_peers, check_scopes};
