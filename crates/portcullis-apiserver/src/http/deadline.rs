//! `timeout` in a query: the time that a client gives for its answer.
//!
//! Compat: `endpoints/filters/request_deadline.go` and `server/filters/timeout.go`: it is looked at before who asks, and not
//! at all of what may last. Upstream says 504 when an answer is late; ours are there or refused at once, so that only what
//! nobody could meet is late.

use portcullis_kube::Status;
use portcullis_kube::meta::TypeMeta;
use portcullis_rbac::RequestInfo;

use super::negotiate::Encoding;
use super::reply::Reply;
use super::{Call, go_duration};

/// Nanoseconds in which nothing is answered.
const SHORTEST: i64 = 100_000;

/// Whether the time is one, and long enough. The error is the whole answer.
pub(crate) fn check(call: &Call, info: &RequestInfo, refuse: impl Fn(&Status) -> Reply) -> Result<(), Box<Reply>> {
    let lasting = matches!(info.verb.as_str(), "watch" | "proxy")
        || matches!(info.subresource.as_str(), "attach" | "exec" | "log" | "portforward" | "proxy");
    let text = call.params.get("timeout");
    if lasting || text.is_empty() {
        return Ok(());
    }
    match go_duration::parse(text) {
        Ok(nanos) if nanos <= 0 || nanos >= SHORTEST => Ok(()),
        Ok(_) => {
            let mut status = Status::timeout("request did not complete within the allotted timeout", 0);
            status.types = TypeMeta::default();
            call.audit.refused(info, &status.message);
            let mut reply = Reply::status(&status, Encoding::Json).unlogged();
            reply.set(http::header::CONTENT_TYPE, "text/plain; charset=utf-8");
            Err(Box::new(reply))
        }
        Err(why) => {
            let status = Status::bad_request(format!("invalid timeout specified in the request URL - {why}"));
            call.audit.refused(info, &status.message);
            Err(Box::new(refuse(&status)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_judged_unless_the_answer_may_last() {
        for (target, want) in [
            ("/version", 200),
            ("/version?timeout=", 200),
            ("/version?timeout=30s", 200),
            ("/version?timeout=0", 200),
            ("/version?timeout=-1s", 200),
            ("/version?timeout=1", 400),
            ("/version?timeout=x", 400),
            ("/version?timeout=99us", 504),
            ("/version?timeout=100us", 200),
            ("/api/v1/pods?timeout=x", 400),
            ("/api/v1/pods?watch=1&timeout=x", 200),
            ("/api/v1/namespaces/a/pods/b/log?timeout=x", 200),
        ] {
            let call = Call::test(&format!("GET {target}"), "");
            let info = RequestInfo::read("GET", &call.path, call.params.query()).unwrap();
            let code = check(&call, &info, |status| Reply::status(status, Encoding::Json))
                .err()
                .map_or(200, |reply| reply.status.as_u16());
            assert_eq!(code, want, "{target}");
        }
    }
}
