//! How kube-apiserver answers a patch that it does not take, and what it reports of one that it takes.

/// The class of an answer to a patch that cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Status 400, reason `BadRequest`; the message is the error's text.
    BadRequest,
    /// Status 413, reason `RequestEntityTooLarge`; the message is `Request entity too large: ` and the error's text.
    TooLarge,
    /// Status 422, reason `Invalid`; the message is `the server rejected our request due to an error in our request`.
    /// The error's text is not shown, it is for the log.
    Invalid,
    /// Status 500 without a reason; the message is the error's text.
    Failure,
    /// None: upstream's code panics, and the connection breaks off. A caller that answers with status 500 and the
    /// error's text, which is ours, says more.
    Crash,
}

/// What the request asks about members that nothing reads (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// `Ignore`: nothing is reported.
    Ignore,
    /// `Warn` and `Strict`: unknown and duplicate members are reported, and a patch of the wrong types is refused
    /// before it is applied. Whether a report is a warning or an error is for the caller.
    Report,
}
