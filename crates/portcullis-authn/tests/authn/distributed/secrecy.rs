//! Access tokens are in no log and no error.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_testkit::Reply;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::{ENDPOINT, World};

/// Everything that is logged, at every level, by whatever library.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Everything {
    fn add(&self, record: impl FnOnce(&mut dyn Visit)) {
        struct Text<'a>(&'a mut String);
        impl Visit for Text<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                let _infallible = writeln!(self.0, "{field}={value:?}");
            }
        }
        record(&mut Text(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.add(|visit| span.record(visit));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        self.add(|visit| values.record(visit));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.add(|visit| event.record(visit));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn access_tokens_are_in_no_log_and_no_error() {
    let everything = Everything::default();
    // This test's runtime has one thread, and so has everything in it.
    let _guard = tracing::subscriber::set_default(everything.clone());
    let world = World::new().await;
    let mut errors = String::new();
    let mut ask = async |endpoint: &str, access_token: &str| {
        let token = world.issuer.sign(&world.pointing_to(endpoint, access_token));
        let verdict = world.authenticator.authenticate(&token).await;
        let _infallible = writeln!(errors, "{verdict:?} {:?}", verdict.refusal().map(ToString::to_string));
        verdict.user().is_some()
    };
    let endpoint =
        world.claims.url(ENDPOINT).replacen("https://", "https://hunter1:hunter2@", 1) + "?t=hunter3#hunter4";
    while !ask(&endpoint, "hunter5").await {
        tokio::task::yield_now().await;
    }
    world.claims.reply(ENDPOINT, Reply::bytes("hunter6").status(401));
    assert!(!ask(&endpoint, "hunter5").await);
    world.claims.reply(ENDPOINT, Reply::redirect("https://hunter1:hunter2@127.0.0.1:1/?hunter3"));
    assert!(!ask(&endpoint, "hunter5").await);
    world.claims.reply(ENDPOINT, Reply::bytes("hunter6"));
    for broken in [endpoint.as_str(), "https://hunter1:hunter2@a:b/?hunter3", "x:hunter2@a?hunter3"] {
        assert!(!ask(broken, "hunter5").await);
        assert!(!ask(broken, "hunter5\n").await);
    }
    let logged = everything.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(logged.contains("issuer discovered"), "the log is seen: {logged}");
    for text in [&logged, &errors] {
        assert!(!text.contains("hunter"), "{text}");
    }
}
