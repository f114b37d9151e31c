//! Kubernetes' role-based access control: who may do what, and why.
//!
//! A request becomes [`Attributes`] ([`RequestInfo`] reads them from method, path and query); a [`Policy`] holds roles and
//! bindings; [`authorize()`] gives the [`Decision`] with upstream's exact reason, and [`forbidden()`] the body of the 403.
//! [`bootstrap`] is what every cluster starts with, and [`reconcile`] brings an older cluster up to it. [`review`] answers access
//! reviews, [`impersonation`] decides who may act as whom, [`escalation`] keeps people from granting more than they have.
//!
//! Pure functions over values: no I/O, no tokens, no HTTP types, no clock.

pub mod attributes;
pub mod bootstrap;
pub mod escalation;
pub mod field_selector;
pub mod impersonation;
pub mod label_selector;
pub mod policy;
pub mod reconcile;
pub mod request_info;
pub mod review;

mod aggregate;
mod authorize;
mod forbidden;
mod matching;

pub use aggregate::aggregated_rules;
pub use attributes::{Attributes, ResourceTarget, Target};
pub use authorize::{Decision, RoleError, RulesFor, authorize, authorize_rbac, referenced_rules, rules_for};
pub use forbidden::{forbidden, forbidden_sentence};
pub use matching::rule_allows;
pub use policy::{Policy, PolicySource};
pub use request_info::{RequestInfo, RequestInfoError};
