//! The provider's view of HTTP: a request whose body has been read, and an answer whose body is there.
//!
//! Everything behind the router works on these two, so that the whole provider is tested without a socket.

mod cookies;
mod cors;
mod form;
mod reply;
mod request;
mod source;

pub(crate) use cookies::{Cookies, SetCookie};
pub(crate) use cors::{Cors, Decision};
pub(crate) use form::{Params, encode, encode_pairs};
pub(crate) use reply::{Reply, html, json_error, no_store, redirect, redirect_found, text, with_type};
pub(crate) use request::Inbound;
pub(crate) use source::{Source, claimed, claimed_by, network};
