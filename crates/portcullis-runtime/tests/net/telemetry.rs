//! The telemetry listener.

use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::Clock;
use portcullis_runtime::server::{Request, ServerLimits, Transport, handler_fn};
use portcullis_runtime::telemetry::{Health, MatchedRoute, Metrics, TelemetryHandler, instrument};
use portcullis_testkit::TestCa;

use crate::support::{Server, text};

#[tokio::test]
async fn health_and_metrics_are_served_as_dex_serves_them() {
    let clock = Clock::mock(0).0;
    let health = Health::new(clock.clone(), Duration::from_secs(15), Duration::from_secs(1));
    let metrics = Metrics::new(&clock);
    metrics.counter("logins_total", "Logins.", &[]).inc(&[]);
    let handler = Arc::new(TelemetryHandler::new(metrics, health.clone()));
    let server = Server::start(Transport::Plain, ServerLimits::default(), handler).await;
    let client = TestCa::default().http_client();
    let get = async |path: &str| {
        let response = client.get(&format!("http://{}{path}", server.address), &[]).await.unwrap();
        (
            response.status,
            response.header("content-type").unwrap().to_owned(),
            String::from_utf8(response.body.to_vec()).unwrap(),
        )
    };
    assert_eq!(get("/healthz/live").await, (200, "text/plain; charset=utf-8".to_owned(), "ok".to_owned()));
    health.check("storage", || async { Err("down".to_owned()) });
    assert_eq!(
        get("/healthz/ready?type=short").await,
        (200, "application/json".to_owned(), "{\n\t\"storage\": \"PASS\"\n}\n".to_owned())
    );
    health.run_once().await;
    let (status, _, body) = get("/healthz").await;
    assert!(status == 503 && body.contains("\"message\": \"down\""), "{body}");
    assert_eq!(get("/healthz/live").await.0, 200, "alive though not ready");
    let (status, content_type, body) = get("/metrics").await;
    assert_eq!((status, content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(body.contains("logins_total 1\n") && body.ends_with('\n'));
    assert_eq!(get("/other").await.0, 404);
}

#[tokio::test]
async fn only_requests_that_met_a_route_are_counted_and_under_its_pattern() {
    let metrics = Metrics::new(&Clock::mock(0).0);
    let inner = handler_fn(|request: Request| async move {
        let mut response = text(http::StatusCode::OK, "0123456789");
        if request.uri().path().starts_with("/auth/") {
            response.extensions_mut().insert(MatchedRoute("/auth/{connector}"));
        }
        response
    });
    let server = Server::start(Transport::Plain, ServerLimits::default(), instrument(inner, &metrics)).await;
    let client = TestCa::default().http_client();
    for path in ["auth/local", "auth/github", "random"] {
        client.get(&format!("{}{path}", server.url("http")), &[]).await.unwrap();
    }
    let text = metrics.encode();
    assert!(
        text.contains("http_requests_total{code=\"200\",handler=\"/auth/{connector}\",method=\"get\"} 2\n"),
        "{text}"
    );
    assert!(
        text.contains("response_size_bytes_sum{code=\"200\",handler=\"/auth/{connector}\",method=\"get\"} 20\n"),
        "{text}"
    );
    assert!(!text.contains("random") && !text.contains("local"), "{text}");
}
