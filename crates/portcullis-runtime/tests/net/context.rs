//! Request ids and client addresses.

use std::sync::Arc;

use http::HeaderName;
use portcullis_runtime::Rng;
use portcullis_runtime::real_ip::RealIp;
use portcullis_runtime::server::{
    ClientIp, Handler, Request, RequestId, ServerLimits, Transport, handler_fn, with_context,
};
use portcullis_testkit::TestCa;

use crate::support::{Server, text};

fn shows_context() -> Arc<dyn Handler> {
    handler_fn(|request: Request| async move {
        let (id, ip) =
            (request.extensions().get::<RequestId>().unwrap(), request.extensions().get::<ClientIp>().unwrap());
        text(http::StatusCode::OK, format!("{} {}", id.0, ip.0))
    })
}

async fn ask(server: &Server, headers: &[(&str, &str)]) -> (String, String) {
    let body = TestCa::default().http_client().get(&server.url("http"), headers).await.unwrap().body;
    let text = String::from_utf8(body.to_vec()).unwrap();
    let (id, ip) = text.split_once(' ').unwrap();
    (id.to_owned(), ip.to_owned())
}

#[tokio::test]
async fn every_request_has_its_own_id_which_the_client_cannot_choose() {
    let handler = with_context(shows_context(), Rng::seeded(1), None);
    let server = Server::start(Transport::Plain, ServerLimits::default(), handler).await;
    let (first, ip) = ask(&server, &[("x-request-id", "mine"), ("x-forwarded-for", "203.0.113.9")]).await;
    let (second, _) = ask(&server, &[]).await;
    assert_eq!((first.len(), ip.as_str()), (36, "127.0.0.1"));
    assert_ne!(first, second);
    assert_eq!(first, Rng::seeded(1).uuid_v4());
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_is_the_forwarded_one() {
    for (trusted, want) in [("127.0.0.0/8", "203.0.113.9"), ("10.0.0.0/8", "127.0.0.1")] {
        let real_ip = RealIp::new(HeaderName::from_static("x-forwarded-for"), vec![trusted.parse().unwrap()]);
        let handler = with_context(shows_context(), Rng::seeded(1), Some(real_ip));
        let server = Server::start(Transport::Plain, ServerLimits::default(), handler).await;
        assert_eq!(ask(&server, &[("x-forwarded-for", "1.1.1.1, 203.0.113.9")]).await.1, want, "{trusted}");
    }
}
