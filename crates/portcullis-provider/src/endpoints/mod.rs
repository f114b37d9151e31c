//! Endpoints that need no flow: one file each.

mod discovery;
mod health;
mod keys;
mod userinfo;

pub(crate) use discovery::Discovery;
pub(crate) use health::health;
pub(crate) use keys::keys;
pub(crate) use userinfo::userinfo;
