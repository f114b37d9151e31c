//! The authenticator from outside: recorded verdicts of kube-apiserver, an issuer on loopback, hostile tokens.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up has failed")]

mod distributed;
mod golden;
mod issuer;
mod live;
mod properties;
mod verdicts;
