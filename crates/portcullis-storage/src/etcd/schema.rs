//! Which layout the keys have: a number beside them (`layout.rs`).

use std::sync::Arc;

use super::{
    EtcdOpenError,
    client::Client,
    keys::Keys,
    wire::{Compare, RangeRequest, RequestOp, TxnRequest},
};
use crate::{
    error::KernelError,
    layout::{self, Unfit},
};

/// The layout in [`super::keys`].
pub(super) const SCHEMA: u64 = 1;

/// Checks the number, or writes it into a store without one.
pub(super) async fn check(client: &Arc<Client>, keys: &Keys) -> Result<(), EtcdOpenError> {
    let key = keys.schema();
    let found = client.range(&RangeRequest::one(key.clone())).await.map_err(unusable)?;
    if let Some(entry) = found.kvs.first() {
        return judge(client, keys, &entry.value);
    }
    let write = TxnRequest {
        compare: vec![Compare::changed_at(key.clone(), 0)],
        success: vec![RequestOp::put(key.clone(), SCHEMA.to_string().into_bytes())],
        failure: vec![RequestOp::get(key.clone())],
    };
    let written = match client.write(&write).await {
        Ok(written) => written,
        // Whether or not it was this process that wrote it: what counts is what is there now.
        Err(error @ KernelError::Unavailable { .. }) => {
            let there = client.range(&RangeRequest::one(key)).await.map_err(unusable)?;
            return there.kvs.first().map_or_else(|| Err(unusable(error)), |entry| judge(client, keys, &entry.value));
        }
        Err(error) => return Err(unusable(error)),
    };
    match written.found().next() {
        None => Ok(()),
        Some(entry) => judge(client, keys, &entry.value),
    }
}

/// Checks the number of a store that is there; `false` when none is. Writes nothing.
pub(super) async fn look(client: &Arc<Client>, keys: &Keys) -> Result<bool, EtcdOpenError> {
    let found = client.range(&RangeRequest::one(keys.schema())).await.map_err(unusable)?;
    found.kvs.first().map_or(Ok(false), |entry| judge(client, keys, &entry.value).map(|()| true))
}

fn judge(client: &Client, keys: &Keys, value: &[u8]) -> Result<(), EtcdOpenError> {
    layout::check(value, SCHEMA).map_err(|unfit| match unfit {
        Unfit::Newer { found } => EtcdOpenError::Newer { place: place(client, keys), found, known: SCHEMA },
        Unfit::Foreign => EtcdOpenError::Foreign { place: place(client, keys) },
    })
}

/// Where the store is, for messages.
pub(super) fn place(client: &Client, keys: &Keys) -> String {
    format!("the keys {:?} in etcd at {}", keys.root(), client.origins())
}

fn unusable(error: KernelError) -> EtcdOpenError {
    EtcdOpenError::Unusable { source: error }
}
