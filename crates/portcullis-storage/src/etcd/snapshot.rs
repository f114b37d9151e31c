//! Reading all records at one revision.

use std::sync::Arc;

use super::{
    BATCH,
    client::Client,
    keys::{Keys, after, decode, end_of},
    wire::RangeRequest,
};
use crate::{
    error::KernelError,
    snapshot::{Sink, Snapshot, unknown_kind},
};

/// Asks for the present revision, and begins to read the store as it is then.
pub(super) async fn begin(client: &Arc<Client>, keys: &Arc<Keys>) -> Result<Snapshot, KernelError> {
    let now = client.range(&RangeRequest::one(keys.schema())).await?;
    let revision = now.header.map(|header| header.revision).filter(|revision| *revision > 0);
    let revision = revision.ok_or_else(|| KernelError::Corrupt { what: "etcd's answer has no revision".to_owned() })?;
    let (client, keys) = (Arc::clone(client), Arc::clone(keys));
    Ok(Snapshot::read_by(move |sink| async move {
        if let Some(outcome) = read(&client, &keys, revision, &sink).await.transpose() {
            sink.close(outcome).await;
        }
    }))
}

/// `None` when nobody wants the rest.
async fn read(client: &Arc<Client>, keys: &Keys, revision: i64, sink: &Sink) -> Result<Option<()>, KernelError> {
    let prefix = keys.all_records();
    let mut from = prefix.clone();
    loop {
        let request = RangeRequest {
            key: from,
            range_end: end_of(&prefix),
            limit: i64::try_from(BATCH).unwrap_or(i64::MAX),
            revision,
            ..RangeRequest::default()
        };
        let found = client.range(&request).await?;
        let last = found.kvs.last().filter(|_| found.more).map(|entry| entry.key.clone());
        let mut batch = Vec::with_capacity(found.kvs.len());
        for entry in &found.kvs {
            let (kind, id) = keys.split_record(&entry.key).ok_or_else(|| unknown_kind("etcd"))?;
            batch.push((kind, decode(kind, id, entry.mod_revision, &entry.value)?));
        }
        if sink.put(batch).await.is_err() {
            return Ok(None);
        }
        let Some(last) = last else { return Ok(Some(())) };
        from = after(last, "");
    }
}
