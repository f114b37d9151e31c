//! The part of etcd's v3 API that the kernel speaks (package `etcdserverpb`, services `KV` and `Auth`).
//!
//! Field numbers are those of etcd's published API; fields that nobody here reads or sets are left out, and prost skips
//! them when they come.

use std::fmt;

/// `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeyValue {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    /// The revision of the last change.
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    /// The value; empty when only keys were asked for.
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
}

/// `ResponseHeader`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct ResponseHeader {
    /// The store's revision when the request was carried out; for a write, the one that it made.
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
}

/// `RangeRequest`. Without `serializable` it is linearizable; results come in byte order of their keys.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeRequest {
    /// The key, or the first of a range.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    /// The first key after the range; empty for a single key.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
    /// Most results; 0 for all.
    #[prost(int64, tag = "3")]
    pub(super) limit: i64,
    /// The store as it was at this revision; 0 for now.
    #[prost(int64, tag = "4")]
    pub(super) revision: i64,
    /// Leaves the values out.
    #[prost(bool, tag = "8")]
    pub(super) keys_only: bool,
}

/// `RangeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeResponse {
    /// When it was read.
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    /// What was found.
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
    /// Whether the limit left something out.
    #[prost(bool, tag = "3")]
    pub(super) more: bool,
}

/// `PutRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PutRequest {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    /// Its value.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `DeleteRangeRequest`, of one key here.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DeleteRangeRequest {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
}

/// `RequestOp`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RequestOp {
    /// Which operation.
    #[prost(oneof = "Operation", tags = "1, 2, 3, 4")]
    pub(super) request: Option<Operation>,
}

/// `RequestOp.request`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Operation {
    /// `request_range`.
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    /// `request_put`.
    #[prost(message, tag = "2")]
    Put(PutRequest),
    /// `request_delete_range`.
    #[prost(message, tag = "3")]
    Delete(DeleteRangeRequest),
    /// `request_txn`.
    #[prost(message, tag = "4")]
    Txn(TxnRequest),
}

/// `ResponseOp`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResponseOp {
    /// Which answer; `None` for those that nobody reads.
    #[prost(oneof = "Answer", tags = "1, 4")]
    pub(super) response: Option<Answer>,
}

/// `ResponseOp.response`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Answer {
    /// `response_range`.
    #[prost(message, tag = "1")]
    Range(RangeResponse),
    /// `response_txn`.
    #[prost(message, tag = "4")]
    Txn(TxnResponse),
}

/// `Compare.CompareTarget` `MOD`: the revision of the key's last change, 0 when it does not exist.
pub(super) const COMPARE_MOD: i32 = 2;

/// `Compare`, with the result `EQUAL` (number 0, which is not sent).
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Compare {
    /// `Compare.CompareTarget`.
    #[prost(int32, tag = "2")]
    pub(super) target: i32,
    /// The key.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key: Vec<u8>,
    /// `mod_revision` of `target_union`: present on the wire also when it is 0.
    #[prost(int64, optional, tag = "6")]
    pub(super) mod_revision: Option<i64>,
}

/// `TxnRequest`: all comparisons hold → `success`, else `failure`; either is one change with one revision.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TxnRequest {
    /// The comparisons.
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    /// What is done when all hold.
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
    /// What is done otherwise.
    #[prost(message, repeated, tag = "3")]
    pub(super) failure: Vec<RequestOp>,
}

/// `TxnResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TxnResponse {
    /// Where the store is.
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    /// Whether all comparisons held.
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    /// The answers, in the order of the operations.
    #[prost(message, repeated, tag = "3")]
    pub(super) responses: Vec<ResponseOp>,
}

/// `AuthenticateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct AuthenticateRequest {
    /// The user.
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// The password.
    #[prost(string, tag = "2")]
    pub(super) password: String,
}

impl fmt::Debug for AuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `AuthenticateResponse`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct AuthenticateResponse {
    /// What later calls carry.
    #[prost(string, tag = "2")]
    pub(super) token: String,
}

impl fmt::Debug for AuthenticateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthenticateResponse([redacted])")
    }
}

impl RangeRequest {
    /// One key.
    pub(super) fn one(key: Vec<u8>) -> Self {
        Self { key, ..Self::default() }
    }
}

impl RequestOp {
    /// Reads a key.
    pub(super) fn get(key: Vec<u8>) -> Self {
        Operation::Range(RangeRequest::one(key)).into()
    }

    /// Reads whether a key exists.
    pub(super) fn exists(key: Vec<u8>) -> Self {
        Operation::Range(RangeRequest { keys_only: true, ..RangeRequest::one(key) }).into()
    }

    /// Writes a key.
    pub(super) fn put(key: Vec<u8>, value: Vec<u8>) -> Self {
        Operation::Put(PutRequest { key, value }).into()
    }

    /// Deletes a key.
    pub(super) fn delete(key: Vec<u8>) -> Self {
        Operation::Delete(DeleteRangeRequest { key }).into()
    }
}

impl From<Operation> for RequestOp {
    fn from(operation: Operation) -> Self {
        Self { request: Some(operation) }
    }
}

impl Compare {
    /// The key's last change has this revision; 0 for a key that does not exist.
    pub(super) const fn changed_at(key: Vec<u8>, revision: i64) -> Self {
        Self { target: COMPARE_MOD, key, mod_revision: Some(revision) }
    }
}

impl TxnResponse {
    /// The keys that the ranges found, range by range.
    pub(super) fn found(self) -> impl Iterator<Item = KeyValue> {
        self.responses.into_iter().flat_map(|answer| match answer.response {
            Some(Answer::Range(range)) => range.kvs,
            Some(Answer::Txn(_)) | None => Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Field 2 (the target) is 2, field 3 the key, field 6 (the revision) 0: a member of a oneof is sent also when it is 0.
    #[test]
    fn a_comparison_with_zero_is_written_out() {
        let compare = Compare::changed_at(b"k".to_vec(), 0);
        assert_eq!(compare.encode_to_vec(), [0x10, 0x02, 0x1a, 0x01, b'k', 0x30, 0x00]);
    }

    #[test]
    fn no_password_and_no_token_is_shown() {
        let request = AuthenticateRequest { name: "dex".to_owned(), password: "pw-hidden".to_owned() };
        let response = AuthenticateResponse { token: "pw-hidden".to_owned() };
        let shown = format!("{request:?} {response:?}");
        assert!(!shown.contains("pw-hidden") && shown.contains("dex"), "{shown}");
    }
}
