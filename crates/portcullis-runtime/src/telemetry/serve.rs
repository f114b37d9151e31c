//! The telemetry listener's handler, and counting of requests.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::{Health, HttpMetrics, Metrics};
use crate::server::{Handler, Request, Response, ResponseFuture, respond};

const TEXT: &str = "text/plain; charset=utf-8";

/// Which route answered: handlers put it into their response's extensions, and [`instrument`] counts the request under
/// it. Responses without one (unknown paths, static files) are not counted, as in Dex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedRoute(pub &'static str);

/// Counts the requests that `inner` answers.
#[must_use]
pub fn instrument(inner: Arc<dyn Handler>, metrics: &Metrics) -> Arc<dyn Handler> {
    Arc::new(Instrumented { inner, metrics: metrics.http().clone() })
}

struct Instrumented {
    inner: Arc<dyn Handler>,
    metrics: HttpMetrics,
}

impl Handler for Instrumented {
    fn handle(self: Arc<Self>, request: Request) -> ResponseFuture {
        let method = request.method().clone();
        Box::pin(async move {
            let start = Instant::now();
            let response = self.inner.clone().handle(request).await;
            self.count(&method, &response, start.elapsed());
            response
        })
    }
}

impl Instrumented {
    fn count(&self, method: &Method, response: &Response, took: Duration) {
        if let Some(MatchedRoute(route)) = response.extensions().get() {
            let size = response.body().size_hint().exact().unwrap_or_default();
            self.metrics.observe(response.status().as_u16(), method.as_str(), route, took, size);
        }
    }
}

/// Answers `/metrics`, `/healthz`, `/healthz/live` and `/healthz/ready`.
#[derive(Debug)]
pub struct TelemetryHandler {
    metrics: Metrics,
    health: Health,
}

impl TelemetryHandler {
    /// A handler for the telemetry listener.
    #[must_use]
    pub const fn new(metrics: Metrics, health: Health) -> Self {
        Self { metrics, health }
    }

    fn answer(&self, request: &Request) -> Response {
        match request.uri().path() {
            "/metrics" => respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.encode()),
            "/healthz" | "/healthz/ready" => {
                let short =
                    request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "type=short"));
                let status = if self.health.is_healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                respond(status, "application/json", self.health.report(short))
            }
            "/healthz/live" => respond(StatusCode::OK, TEXT, "ok"),
            _ => respond(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
        }
    }
}

impl Handler for TelemetryHandler {
    fn handle(self: Arc<Self>, request: Request) -> ResponseFuture {
        Box::pin(async move { self.answer(&request) })
    }
}
