//! Which layout the keys have: a number beside them.
//!
//! The first process to open a namespace writes the number. A newer program that changes the layout writes its own, and after
//! a blank the oldest number whose programs can use the store all the same (`2 1`); any other newer store is refused.

use std::sync::Arc;

use super::{
    EtcdOpenError,
    client::Client,
    keys::Keys,
    wire::{Compare, RangeRequest, RequestOp, TxnRequest},
};
use crate::error::KernelError;

/// The layout in [`super::keys`].
pub(super) const SCHEMA: u64 = 1;

/// Checks the number, or writes it into a store without one.
pub(super) async fn check(client: &Arc<Client>, keys: &Keys) -> Result<(), EtcdOpenError> {
    let key = keys.schema();
    let found = client.range(&RangeRequest::one(key.clone())).await.map_err(unusable)?;
    if let Some(entry) = found.kvs.first() {
        return judge(&entry.value);
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
            return there.kvs.first().map_or_else(|| Err(unusable(error)), |entry| judge(&entry.value));
        }
        Err(error) => return Err(unusable(error)),
    };
    match written.found().next() {
        None => Ok(()),
        Some(entry) => judge(&entry.value),
    }
}

/// Checks the number of a store that is there; `false` when none is. Writes nothing.
pub(super) async fn look(client: &Arc<Client>, keys: &Keys) -> Result<bool, EtcdOpenError> {
    let found = client.range(&RangeRequest::one(keys.schema())).await.map_err(unusable)?;
    found.kvs.first().map_or(Ok(false), |entry| judge(&entry.value).map(|()| true))
}

fn judge(value: &[u8]) -> Result<(), EtcdOpenError> {
    let text = std::str::from_utf8(value).map_err(|_| EtcdOpenError::Foreign)?;
    let (found, needs) = text.split_once(' ').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0).ok_or(EtcdOpenError::Foreign);
    let (found, needs) = (number(found)?, number(needs)?);
    if needs > SCHEMA {
        return Err(EtcdOpenError::Newer { found, known: SCHEMA });
    }
    Ok(())
}

fn unusable(error: KernelError) -> EtcdOpenError {
    EtcdOpenError::Unusable { source: error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_or_foreign_number_is_refused() {
        assert_eq!(judge(b"1"), Ok(()));
        assert_eq!(judge(b"2"), Err(EtcdOpenError::Newer { found: 2, known: 1 }));
        assert_eq!((judge(b"2 1"), judge(b"3 2")), (Ok(()), Err(EtcdOpenError::Newer { found: 3, known: 1 })));
        for value in
            [&b"2 "[..], b" 1", b"1 x", b"2 1 1", b"", b"0", b"-1", b"x", b"{}", b"\xff", b"99999999999999999999999"]
        {
            assert_eq!(judge(value), Err(EtcdOpenError::Foreign), "{value:?}");
        }
    }
}
