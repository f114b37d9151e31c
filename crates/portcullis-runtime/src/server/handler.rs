//! What answers requests.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming;

use super::body::{Body, full};

/// A request as it comes from a connection; [`super::ConnInfo`] is in its extensions.
pub type Request = http::Request<Incoming>;
/// A response.
pub type Response = http::Response<Body>;
/// What a handler returns.
pub type ResponseFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Answers requests. It must not fail: whatever goes wrong is a response.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. A handler that panics is answered for with 500.
    fn handle(self: Arc<Self>, request: Request) -> ResponseFuture;
}

struct HandlerFn<F>(F);

impl<F, R> Handler for HandlerFn<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    fn handle(self: Arc<Self>, request: Request) -> ResponseFuture {
        Box::pin((self.0)(request))
    }
}

/// A handler from a function.
pub fn handler_fn<F, R>(function: F) -> Arc<dyn Handler>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    Arc::new(HandlerFn(function))
}

/// A response with a content type and a prepared body.
pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
