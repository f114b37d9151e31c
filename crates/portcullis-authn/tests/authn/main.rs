//! The authenticator from outside: recorded verdicts of kube-apiserver, an issuer on loopback, hostile tokens.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up has failed")]

mod attacks;
mod distributed;
mod golden;
mod issuer;
mod key_traces;
mod live;
mod properties;
mod verdicts;
