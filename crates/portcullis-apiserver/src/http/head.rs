//! Heads that upstream's HTTP server refuses before anything else looks at them, and ends the connection.
//!
//! A body whose end two readers could see in different places is refused here, where hyper would read it: a transfer encoding
//! other than `chunked`, once, and lengths beyond all numbers. That stops smuggling a second request behind a first.
//!
//! Compat: `net/http` of Go 1.26, `readRequest` and `parseTransferEncoding`.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Uri, Version};

use super::reply::Reply;

/// The answer to a head that is none.
pub(crate) fn refused(version: Version, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Reply> {
    if version < Version::HTTP_2
        && let Some(reply) = refused_lines(version, method, uri, headers)
    {
        return Some(reply);
    }
    match uri.path() {
        "" if *method != Method::CONNECT => Some(Reply::bad_head()),
        // Compat: answered for the server as such, before anyone is asked who they are.
        "*" if *method == Method::OPTIONS => Some(Reply::empty(StatusCode::OK, HeaderMap::new())),
        // Nothing is reached through this server.
        _ if *method == Method::CONNECT && version < Version::HTTP_2 => Some(Reply::page_not_found()),
        _ if version < Version::HTTP_2 => unexpected(headers),
        _ => None,
    }
}

/// What HTTP/2 has not: lengths and hosts in lines of their own.
fn refused_lines(version: Version, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Reply> {
    let values = |name: HeaderName| headers.get_all(name).iter().collect::<Vec<_>>();
    let hosts = values(HOST);
    match values(TRANSFER_ENCODING).as_slice() {
        [] => {}
        [only] if only.as_bytes().eq_ignore_ascii_case(b"chunked") => {}
        _ => return Some(Reply::closing(501, "Unsupported transfer encoding")),
    }
    // hyper has read it, as a larger number than Go's.
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| i64::try_from(length).is_err()) {
        return Some(Reply::bad_head());
    }
    let wrong = match hosts.as_slice() {
        [] if version == Version::HTTP_11 && *method != Method::CONNECT => ": missing required Host header",
        [only] if !only.as_bytes().iter().all(may_stand_in_host) => ": malformed Host header",
        [_, _, ..] => "",
        _ if !is_target(method, uri) => "",
        _ => return None,
    };
    Some(Reply::closing(400, format!("400 Bad Request{wrong}")))
}

/// Whether a request's target is a path or a whole URL, and its escapes are some.
fn is_target(method: &Method, uri: &Uri) -> bool {
    let authority_alone = uri.scheme().is_none() && uri.authority().is_some();
    let escaped = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    (*method == Method::CONNECT || !authority_alone) && uri.path().split('%').skip(1).all(escaped)
}

/// Whether the client waits to be told to send its body.
pub(crate) fn waits(headers: &HeaderMap) -> bool {
    let words = headers.get(EXPECT).map(HeaderValue::as_bytes).unwrap_or_default();
    words.split(|byte| b" ,\t".contains(byte)).any(|word| word.eq_ignore_ascii_case(b"100-continue"))
}

/// Compat: whatever is expected beside going on is not met.
fn unexpected(headers: &HeaderMap) -> Option<Reply> {
    if headers.get(EXPECT)?.is_empty() || waits(headers) {
        return None;
    }
    let headers = HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("close"))]);
    Some(Reply::empty(StatusCode::EXPECTATION_FAILED, headers))
}

fn may_stand_in_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&()*+,-.:;=['_]~".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(version: Version, lines: &[(HeaderName, &str)]) -> Option<(u16, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.clone(), value.parse().unwrap());
        }
        let reply = refused(version, &Method::GET, &Uri::from_static("/"), &headers)?;
        assert_eq!(reply.headers[CONNECTION], "close");
        Some((reply.status.as_u16(), String::from_utf8(reply.bytes().to_vec()).unwrap()))
    }

    #[test]
    fn targets_are_paths_or_whole_urls() {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("a"))]);
        for (method, target, want) in [
            (Method::GET, "/a%20b", None),
            (Method::GET, "https://a/b", None),
            (Method::GET, "/a%zz", Some(400)),
            (Method::GET, "/a%2", Some(400)),
            (Method::GET, "a:80", Some(400)),
            (Method::OPTIONS, "*", Some(200)),
            (Method::CONNECT, "a:80", Some(404)),
        ] {
            let reply = refused(Version::HTTP_11, &method, &target.parse().unwrap(), &headers);
            assert_eq!(reply.map(|reply| reply.status.as_u16()), want, "{target}");
        }
    }

    #[test]
    fn one_host_and_plain_chunks_are_taken_and_nothing_else() {
        let host = (HOST, "127.0.0.1:6443");
        assert_eq!(refusal(Version::HTTP_11, std::slice::from_ref(&host)), None);
        assert_eq!(refusal(Version::HTTP_2, &[]), None);
        assert_eq!(refusal(Version::HTTP_10, &[]), None);
        for value in ["chunked", "Chunked"] {
            assert_eq!(refusal(Version::HTTP_11, &[host.clone(), (TRANSFER_ENCODING, value)]), None, "{value}");
        }
        for value in ["", "gzip, chunked", "chunked, chunked", "identity", "chunked;q=1"] {
            let refused = refusal(Version::HTTP_11, &[host.clone(), (TRANSFER_ENCODING, value)]).unwrap();
            assert_eq!(refused, (501, "Unsupported transfer encoding".to_owned()), "{value}");
        }
        let twice = [host.clone(), (TRANSFER_ENCODING, "chunked"), (TRANSFER_ENCODING, "chunked")];
        assert_eq!(refusal(Version::HTTP_11, &twice).unwrap().0, 501);
        for (lines, why) in [
            (vec![], ": missing required Host header"),
            (vec![(HOST, "a b")], ": malformed Host header"),
            (vec![host.clone(), host.clone()], ""),
        ] {
            assert_eq!(refusal(Version::HTTP_11, &lines), Some((400, format!("400 Bad Request{why}"))));
        }
        for (length, want) in [("9223372036854775807", None), ("9223372036854775808", Some(400))] {
            let refused = refusal(Version::HTTP_11, &[host.clone(), (CONTENT_LENGTH, length)]);
            assert_eq!(refused.map(|(status, _)| status), want, "{length}");
        }
        for (value, want) in [("100-continue", None), ("odd, 100-Continue", None), ("", None), ("odd", Some(417))] {
            let refused = refusal(Version::HTTP_11, &[host.clone(), (EXPECT, value)]);
            assert_eq!(refused.map(|(status, _)| status), want, "{value}");
        }
    }
}
