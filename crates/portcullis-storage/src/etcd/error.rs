//! etcd's failures in the kernel's terms: what is wrong, whether the write may have happened, what to try next.

use super::{
    client::Effect,
    grpc::{Failure, Status},
};
use crate::error::{KernelError, Trouble};

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    GiveUp,
    /// Another endpoint, or the same one later. Never said of a write that may have taken effect.
    Elsewhere,
    /// A new token.
    Renew,
}

/// gRPC's codes that are told apart here.
mod code {
    pub(super) const UNKNOWN: u32 = 2;
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const PERMISSION_DENIED: u32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const FAILED_PRECONDITION: u32 = 9;
    pub(super) const OUT_OF_RANGE: u32 = 11;
    pub(super) const UNIMPLEMENTED: u32 = 12;
    pub(super) const UNAVAILABLE: u32 = 14;
    pub(super) const UNAUTHENTICATED: u32 = 16;
}

/// The error that a failure is, and what to do about it.
pub(super) fn judge(failure: Failure, effect: Effect) -> (KernelError, Next) {
    match failure {
        Failure::Unsent(trouble) => (KernelError::not_applied(trouble), Next::Elsewhere),
        Failure::Lost(trouble) => uncertain(trouble, effect),
        Failure::Status(status) => judge_status(&status, effect),
    }
}

/// A read had no effect in any case.
const fn uncertain(trouble: Trouble, effect: Effect) -> (KernelError, Next) {
    match effect {
        Effect::Reads => (KernelError::not_applied(trouble), Next::Elsewhere),
        Effect::Writes => (KernelError::maybe_applied(trouble), Next::GiveUp),
    }
}

fn judge_status(status: &Status, effect: Effect) -> (KernelError, Next) {
    let Status { code, message } = status;
    let trouble = Trouble::Other(format!("etcd refuses: {message} (gRPC code {code})"));
    match (*code, message.as_str()) {
        (code::UNAUTHENTICATED, _)
        | (code::INVALID_ARGUMENT, "etcdserver: revision of auth store is old" | "etcdserver: user name is empty") => {
            (KernelError::not_applied(trouble), Next::Renew)
        }
        (code::RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded") => {
            let text = "etcd's space quota is used up: compact and defragment it, then disarm its alarm";
            // Also said of a transaction that was carried out at the limit (`quotaApplierV3` in `server/etcdserver/apply`).
            let (error, _) = uncertain(Trouble::Other(text.to_owned()), effect);
            (error, Next::GiveUp)
        }
        // The member has not proposed the write to the cluster (etcd 3.7 `v3rpc/interceptor.go`, `v3_server.go`; raft's
        // `ErrProposalDropped`).
        (code::UNAVAILABLE, "etcdserver: no leader")
        | (code::UNKNOWN, "raft proposal dropped")
        | (code::RESOURCE_EXHAUSTED, "etcdserver: too many requests")
        | (code::FAILED_PRECONDITION, "etcdserver: rpc not supported for learner") => {
            (KernelError::not_applied(trouble), Next::Elsewhere)
        }
        (code::OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted") => {
            (KernelError::not_applied(Trouble::Forgotten), Next::GiveUp)
        }
        // The request itself is not taken, before or when it is applied.
        (
            code::INVALID_ARGUMENT
            | code::PERMISSION_DENIED
            | code::RESOURCE_EXHAUSTED
            | code::FAILED_PRECONDITION
            | code::OUT_OF_RANGE
            | code::UNIMPLEMENTED,
            _,
        ) => (KernelError::not_applied(trouble), Next::GiveUp),
        // Timeouts within the cluster, a server that stops: the write may be in the log.
        (_, _) => uncertain(Trouble::Other(format!("etcd did not carry it out: {message} (gRPC code {code})")), effect),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Applied;

    fn judged(code: u32, message: &str, effect: Effect) -> (Applied, Next) {
        let status = Status { code, message: message.to_owned() };
        match judge(Failure::Status(status), effect) {
            (KernelError::Unavailable { applied, .. }, next) => (applied, next),
            (other, _) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_status_says_about_a_write() {
        for (code, message, expected) in [
            (14, "etcdserver: no leader", (Applied::No, Next::Elsewhere)),
            (2, "raft proposal dropped", (Applied::No, Next::Elsewhere)),
            (8, "etcdserver: too many requests", (Applied::No, Next::Elsewhere)),
            (9, "etcdserver: rpc not supported for learner", (Applied::No, Next::Elsewhere)),
            (8, "etcdserver: mvcc: database space exceeded", (Applied::Unknown, Next::GiveUp)),
            (3, "etcdserver: request is too large", (Applied::No, Next::GiveUp)),
            (7, "etcdserver: permission denied", (Applied::No, Next::GiveUp)),
            (16, "etcdserver: invalid auth token", (Applied::No, Next::Renew)),
            (3, "etcdserver: revision of auth store is old", (Applied::No, Next::Renew)),
            (14, "etcdserver: request timed out", (Applied::Unknown, Next::GiveUp)),
            (14, "etcdserver: server stopped", (Applied::Unknown, Next::GiveUp)),
            (14, "etcdserver: leader changed", (Applied::Unknown, Next::GiveUp)),
            (4, "context deadline exceeded", (Applied::Unknown, Next::GiveUp)),
            (1, "", (Applied::Unknown, Next::GiveUp)),
            (2, "something else", (Applied::Unknown, Next::GiveUp)),
            (99, "", (Applied::Unknown, Next::GiveUp)),
        ] {
            assert_eq!(judged(code, message, Effect::Writes), expected, "{code} {message}");
            assert_eq!(judged(code, message, Effect::Reads).0, Applied::No, "{code} {message}");
        }
        assert_eq!(judged(14, "etcdserver: leader changed", Effect::Reads).1, Next::Elsewhere);
    }

    #[test]
    fn only_what_was_sent_may_have_been_applied() {
        let unsent = judge(Failure::Unsent(Trouble::Timeout), Effect::Writes);
        assert_eq!(unsent, (KernelError::not_applied(Trouble::Timeout), Next::Elsewhere));
        let lost = judge(Failure::Lost(Trouble::Timeout), Effect::Writes);
        assert_eq!(lost, (KernelError::maybe_applied(Trouble::Timeout), Next::GiveUp));
        let read = judge(Failure::Lost(Trouble::Timeout), Effect::Reads);
        assert_eq!(read, (KernelError::not_applied(Trouble::Timeout), Next::Elsewhere));
    }
}
