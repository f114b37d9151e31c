//! One gRPC call over an HTTP/2 connection: the request's frame, the answer's frame, the status in the trailers.
//!
//! Every failure says whether the request may have reached the server, on which [`Applied`](crate::Applied) rests.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use prost::Message;
use tokio::time::{Instant, timeout_at};

use crate::error::Trouble;

/// Largest answer, in bytes: the largest batch of records (32 of 256 KiB) with room for their names.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Most of a server's text that is repeated, in characters.
const MAX_TEXT: usize = 300;
/// A frame begins with a compression flag and its length.
const FRAME_HEAD: usize = 5;

/// A connection; clones share it.
pub(super) type Connection = SendRequest<Full<Bytes>>;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The request has not left this process.
    Unsent(Trouble),
    /// It may have arrived, and no whole answer came.
    Lost(Trouble),
    /// The server's verdict.
    Status(Status),
}

/// A gRPC status other than OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// The code's number.
    pub(super) code: u32,
    /// The server's words.
    pub(super) message: String,
}

/// What is called, and with which headers.
pub(super) struct Call<'a> {
    /// Scheme and authority.
    pub(super) origin: &'a str,
    /// Service and method.
    pub(super) path: &'static str,
    /// etcd's token.
    pub(super) token: Option<HeaderValue>,
    /// The request's frame.
    pub(super) frame: Bytes,
    /// When to give up.
    pub(super) deadline: Instant,
}

/// A message as a frame.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEAD.saturating_add(length));
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // Cannot fail: a `BytesMut` grows.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

/// Calls, and waits for the answer until the deadline.
pub(super) async fn unary<A: Message + Default>(mut connection: Connection, call: Call<'_>) -> Result<A, Failure> {
    let deadline = call.deadline;
    let request = request(call)?;
    match timeout_at(deadline, connection.ready()).await {
        Err(_) => return Err(Failure::Unsent(Trouble::Timeout)),
        Ok(Err(error)) => return Err(Failure::Unsent(trouble(&error))),
        Ok(Ok(())) => {}
    }
    let response = match timeout_at(deadline, connection.try_send_request(request)).await {
        Err(_) => return Err(Failure::Lost(Trouble::Timeout)),
        Ok(Err(mut error)) => {
            // The request comes back when nothing of it was written.
            let unsent = error.take_message().is_some();
            let trouble = trouble(error.error());
            return Err(if unsent { Failure::Unsent(trouble) } else { Failure::Lost(trouble) });
        }
        Ok(Ok(response)) => response,
    };
    match timeout_at(deadline, answer(response)).await {
        Err(_) => Err(Failure::Lost(Trouble::Timeout)),
        Ok(answer) => answer,
    }
}

fn trouble(error: &dyn std::error::Error) -> Trouble {
    Trouble::Other(format!("the connection to etcd failed: {}", portcullis_runtime::chain(error)))
}

fn request(call: Call<'_>) -> Result<Request<Full<Bytes>>, Failure> {
    let left = call.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut request = Request::post(format!("{}{}", call.origin, call.path))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        // The server gives up as well, so that a write that nobody waits for is less often carried out.
        .header("grpc-timeout", format!("{}m", left.as_millis()))
        // A member that knows no leader says so before it does anything.
        .header("hasleader", "true");
    if let Some(token) = call.token {
        request = request.header("token", token);
    }
    request.body(Full::new(call.frame)).map_err(|error| Failure::Unsent(trouble(&error)))
}

async fn answer<A: Message + Default>(response: Response<Incoming>) -> Result<A, Failure> {
    let lost = |text: String| Failure::Lost(Trouble::Other(format!("etcd's answer cannot be read: {text}")));
    if response.status() != http::StatusCode::OK {
        return Err(lost(format!("HTTP status {}", response.status())));
    }
    // A call that fails at once has its status among the headers.
    if let Some(status) = status(response.headers()) {
        return Err(Failure::Status(status));
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| lost(portcullis_runtime::chain(error.as_ref())))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    if !trailers.contains_key("grpc-status") {
        return Err(lost("it has no status".to_owned()));
    }
    if let Some(status) = status(&trailers) {
        return Err(Failure::Status(status));
    }
    message(&body.to_bytes()).ok_or_else(|| lost("it is not the message that was asked for".to_owned()))
}

/// The message in an uncompressed frame.
fn message<A: Message + Default>(frame: &[u8]) -> Option<A> {
    let (head, body) = frame.split_first_chunk::<FRAME_HEAD>()?;
    let [0, length @ ..] = *head else { return None };
    if usize::try_from(u32::from_be_bytes(length)) != Ok(body.len()) {
        return None;
    }
    A::decode(body).ok()
}

/// The status in these headers; `None` when there is none, or it is OK.
fn status(headers: &HeaderMap) -> Option<Status> {
    /// `UNKNOWN`.
    const UNREADABLE: u32 = 2;
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    headers.get("grpc-status")?;
    let code = text("grpc-status").and_then(|code| code.parse().ok()).unwrap_or(UNREADABLE);
    let message = text("grpc-message").unwrap_or_default().chars().take(MAX_TEXT).collect();
    (code != 0).then_some(Status { code, message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::wire::ResponseHeader;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let header = ResponseHeader { revision: 300 };
        let frame = frame(&header);
        assert_eq!(&frame[..], [0, 0, 0, 0, 3, 0x18, 0xac, 0x02]);
        assert_eq!(message(&frame), Some(header));
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        let cases: [&[u8]; 5] = [&[], &[0, 0, 0, 0], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 1, 0xff, 0xff]];
        for frame in cases {
            assert_eq!(message::<ResponseHeader>(frame), None, "{frame:?}");
        }
    }

    #[test]
    fn a_status_is_read_from_headers() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value))).collect()
        };
        let status = |pairs: &[_]| status(&headers(pairs)).map(|status: Status| (status.code, status.message));
        assert_eq!(status(&[]), None);
        assert_eq!(status(&[("grpc-status", "0")]), None);
        assert_eq!(status(&[("grpc-status", "14"), ("grpc-message", "x")]), Some((14, "x".to_owned())));
        assert_eq!(status(&[("grpc-status", "many")]), Some((2, String::new())));
    }
}
