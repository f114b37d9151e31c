//! The limits that this crate sets. Each stands where kube-apiserver has none, or a wider one, unless it says otherwise.

/// Bytes of a patch: kube-apiserver's limit on every request body.
pub const MAX_PATCH_BYTES: usize = 3 * 1024 * 1024;

/// Bytes of a document, and of what a patch makes of it. Escapes can make the text of a stored object six times as long
/// as the body it came from.
pub const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;

/// Values (members, elements, scalars) of a patch, of a document and of a result. 3 MiB of JSON can hold 1.5 million.
pub const MAX_VALUES: usize = 200_000;

/// Levels of nested objects and lists; what `serde_json` reads. Go's limit is 10,000.
pub const MAX_DEPTH: usize = 127;

/// Operations of a JSON patch. kube-apiserver's own limit.
pub const MAX_OPERATIONS: usize = 10_000;

/// Bytes that the `copy` operations of one JSON patch may add. kube-apiserver's own limit.
pub const MAX_COPY_BYTES: usize = 3 * 1024 * 1024;

/// Elements that the operations of one JSON patch may move or look at together. Ten thousand operations on one long list
/// would otherwise take a minute.
pub const MAX_STEPS: usize = 50_000_000;

/// Unknown and duplicate members that are reported. Upstream's own limit.
pub const MAX_FINDINGS: usize = 100;
