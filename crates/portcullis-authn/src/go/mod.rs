//! The few semantics of Go's standard library that are part of kube-apiserver's contract.
//!
//! Which tokens are accepted depends on how Go reads JSON, base64, numbers and URLs, so those rules are written down here
//! once, as small functions over bytes, and used by every other module. Nothing here knows what a token is.
//!
//! Compat: `encoding/json`, `encoding/base64`, `net/netip`, `net/url`, `strconv` and `time` of Go 1.26.

mod address;
pub(crate) mod base64;
pub(crate) mod number;
pub(crate) mod time;
pub(crate) mod url;

pub(crate) use portcullis_kube::go::json;
