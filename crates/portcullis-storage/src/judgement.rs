//! Which configured objects can be used: what the store knows of it itself, and what its user says of the rest.

use std::sync::{Arc, Weak};

use crate::{
    clients::Client,
    configured::ConfiguredObject,
    connectors::Connector,
    document::decode,
    error::StoreError,
    kernel::{Kind, Record, Verdict},
    passwords::Password,
    store::Store,
};

/// A configured object that is to be judged.
#[derive(Clone, Copy, Debug)]
pub enum Configured<'a> {
    /// A client.
    Client(&'a Client),
    /// A local user.
    Password(&'a Password),
    /// A connector.
    Connector(&'a Connector),
}

impl Store {
    /// Has configured objects judged before they come into force, where people write them past the facades (on Kubernetes).
    /// What is refused says so in its status and changes nothing. Takes the place of an earlier judge; everything is judged
    /// again.
    pub fn judge(&self, judge: impl Fn(Configured<'_>) -> Verdict + Send + Sync + 'static) {
        // The kernel must not keep alive the store that keeps it alive.
        let inner = Arc::downgrade(self.inner());
        self.kernel().judge_with(Arc::new(move |kind, record| match Weak::upgrade(&inner) {
            Some(inner) => verdict(&Self::of(inner), kind, record, &judge),
            // Nobody is left who could say yes.
            None => Verdict::refused("NotJudged", "the provider that judges it has ended"),
        }));
    }
}

fn verdict(
    store: &Store,
    kind: Kind,
    record: &Record,
    judge: &(impl Fn(Configured<'_>) -> Verdict + Send + Sync + 'static),
) -> Verdict {
    let id = record.id.as_str();
    let judged = match kind {
        Kind::Client if store.static_clients().has(id) => return shadowed("staticClients"),
        Kind::Password if store.static_passwords().has(id) => return shadowed("staticPasswords"),
        Kind::Connector if store.static_connectors().has(id) => return shadowed("connectors"),
        Kind::Client => open(store, record).map(|client| judge(Configured::Client(&client))),
        Kind::Password => open(store, record).map(|password| judge(Configured::Password(&password))),
        Kind::Connector => open(store, record).map(|connector| judge(Configured::Connector(&connector))),
        _ => return Verdict::Accepted,
    };
    judged.unwrap_or_else(|error| Verdict::refused("Unreadable", error.to_string()))
}

fn open<T: ConfiguredObject>(store: &Store, record: &Record) -> Result<T, StoreError> {
    T::open(decode(T::KIND, record)?.value, &record.id, store)
}

fn shadowed(key: &str) -> Verdict {
    let message = format!("the configuration file's `{key}` has one with this id, which counts; remove one of the two");
    Verdict::refused("ShadowedByConfiguration", message)
}
