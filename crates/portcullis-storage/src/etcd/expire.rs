//! The collector: records that are over are deleted in batches, the earliest first.
//!
//! A batch is one transaction of small ones, each on the revision of its own record: a record that was changed in the
//! meantime stays, and holds up no other. An expiry entry without its record, which only a foreign hand can leave
//! behind, is taken away on the same way. Kinds that a later version has written are collected like all others.

use std::sync::Arc;

use portcullis_runtime::Timestamp;

use super::{
    client::Client,
    keys::{Keys, decode_expiry},
    wire::{Answer, Compare, KeyValue, Operation, RangeRequest, RequestOp, TxnRequest},
};
use crate::error::{KernelError, Trouble};

/// Records in one transaction: etcd takes 128 operations, of which a nested transaction needs 5 below its own place.
const BATCH: usize = 64;
/// How often what is over is looked up again because other writers were faster.
const MAX_ROUNDS: usize = 100;

pub(super) async fn expire(
    client: &Arc<Client>,
    keys: &Keys,
    now: Timestamp,
    limit: usize,
) -> Result<usize, KernelError> {
    let mut deleted = 0_usize;
    for _ in 0..MAX_ROUNDS {
        let left = limit.saturating_sub(deleted);
        if left == 0 {
            return Ok(deleted);
        }
        let (key, range_end) = keys.expired(now);
        let limit = i64::try_from(left).unwrap_or(i64::MAX);
        let over = client.range(&RangeRequest { key, range_end, limit, ..RangeRequest::default() }).await;
        let over = over.map_err(|error| error.after(deleted))?.kvs;
        if over.is_empty() {
            return Ok(deleted);
        }
        for batch in over.chunks(BATCH) {
            deleted += delete(client, keys, batch).await.map_err(|error| error.after(deleted))?;
        }
    }
    let trouble = Trouble::Other("other writers keep changing the records that are over".to_owned());
    Err(KernelError::not_applied(trouble).after(deleted))
}

/// Deletes the records of these expiry entries as far as they have not changed; returns how many.
async fn delete(client: &Arc<Client>, keys: &Keys, batch: &[KeyValue]) -> Result<usize, KernelError> {
    let success = batch.iter().map(|entry| deletion(keys, entry)).collect::<Result<_, _>>()?;
    let response = client.write(&TxnRequest { success, ..TxnRequest::default() }).await?;
    let gone = response.responses.iter().filter(|answer| match &answer.response {
        Some(Answer::Txn(txn)) => txn.succeeded,
        Some(Answer::Range(_)) | None => false,
    });
    Ok(gone.count())
}

fn deletion(keys: &Keys, entry: &KeyValue) -> Result<RequestOp, KernelError> {
    let damaged = || KernelError::Corrupt {
        what: format!("the etcd key {:?} is not an expiry of ours", String::from_utf8_lossy(&entry.key)),
    };
    let (kind, id) = keys.split_expiry(&entry.key).ok_or_else(damaged)?;
    let index = decode_expiry(&entry.value).ok_or_else(damaged)?;
    let (record, entries) = keys.of_record(kind, id, index);
    let mut success = vec![RequestOp::delete(record.clone()), RequestOp::delete(entry.key.clone())];
    success.extend(entries.into_iter().map(RequestOp::delete));
    // Record and entry are always written together: an unchanged entry beside another record belongs to nobody.
    let orphan = TxnRequest {
        compare: vec![Compare::changed_at(entry.key.clone(), entry.mod_revision)],
        success: vec![RequestOp::delete(entry.key.clone())],
        failure: Vec::new(),
    };
    let compare = vec![Compare::changed_at(record, entry.mod_revision)];
    Ok(Operation::Txn(TxnRequest { compare, success, failure: vec![Operation::Txn(orphan).into()] }).into())
}
