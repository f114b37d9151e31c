//! CEL as Kubernetes uses it in an AuthenticationConfiguration: the same expressions compile, with the same messages where
//! they do not, come to the same values, and stop at the same cost.
//!
//! The flow: an [`Environment`] (variables and their types) compiles text to a [`Program`] in four steps, each a module:
//! `parse` (tokens, grammar, macros) → `check` (types and overloads) → `plan` (what is known beforehand is computed) →
//! [`Program::evaluate`] against an [`Activation`] and a cost limit. What is wrong with an expression are [`Issues`]: each has its
//! place, upstream's words, and where possible a hint of our own.
//!
//! The crate is pure: no clock, no files, no network. It knows neither tokens nor Kubernetes' objects; Kubernetes' function
//! libraries are part of the language here. Depth, size and cost are bounded for every expression ([`limits`]).
//!
//! Compat: cel-go 0.29.2 (`github.com/google/cel-go`) in the environment for stored expressions of
//! `k8s.io/apiserver/pkg/cel/environment/base.go` 0.37.2, with the values of
//! `plugin/pkg/authenticator/token/oidc/oidc.go`: numbers in claims are doubles, `claims` is read field by field, and
//! `a__dot__b` finds `a.b`. The static cost estimate of cel-go is not here: authentication does not ask for one.
//!
//! What differs, on purpose, is in `docs/compat/kube-apiserver-cel.md`: most of it is that only the first syntax error is
//! reported, that messages of Protocol Buffers cannot be made, and that values which outgrow their cost end an evaluation.

mod ast;
mod check;
mod cost;
mod environment;
mod error;
mod escape;
mod eval;
mod library;
pub mod limits;
mod list;
mod map;
mod ops;
mod parse;
mod plan;
mod program;
mod show;
mod source;
mod spent;
mod types;
mod value;

pub use environment::{Environment, ObjectType};
pub use error::EvalError;
pub use library::formats::NamedFormat;
pub use library::net::Cidr;
pub use library::quantity::Quantity;
pub use library::semver::Semver;
pub use library::time::Timestamp;
pub use library::url::Url;
pub use list::{List, ListKind};
pub use map::Map;
pub use program::{Activation, Evaluation, Program};
pub use source::{Issue, Issues, Location};
pub use types::Type;
pub use value::{Fields, MutableMap, Object, Value};
