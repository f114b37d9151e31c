//! The end of what ends by itself: events.

use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::Shutdown;

use crate::engine::Engine;

/// How often is looked: the longest that an event stays after its end.
pub(crate) const EVERY: Duration = Duration::from_secs(60);

/// Takes it away, until `shutdown`.
pub(crate) async fn run(engine: Arc<Engine>, shutdown: Shutdown) {
    while shutdown.unless(engine.clock.sleep(EVERY)).await.is_some() {
        match engine.store.expire() {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "events have ended"),
            // A full disk may have room by the next time.
            Err(error) => tracing::warn!(%error, "events that have ended stay for now"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources;
    use crate::world::world;

    #[tokio::test]
    async fn an_event_is_taken_away_within_a_minute_of_its_end() {
        let world = world();
        let body = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
        world.call("admin", "POST /api/v1/namespaces/default/pods", body).await;
        let store = &world.engine.store;
        let made = store.all(resources::events(), "default").len();
        assert!(made > 0, "a pod that waits has an event");
        let mut changes = store.subscribe(resources::events()).unwrap();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(run(Arc::clone(&world.engine), shutdown.clone()));
        tokio::task::yield_now().await;
        for _ in 0..59 {
            world.hand.advance(EVERY);
            tokio::task::yield_now().await;
        }
        assert_eq!(store.all(resources::events(), "default").len(), made);
        world.hand.advance(EVERY);
        while !store.all(resources::events(), "default").is_empty() {
            world.hand.advance(EVERY);
            tokio::time::timeout(EVERY, changes.changed()).await.expect("it ends").unwrap();
        }
        shutdown.trigger();
        running.await.unwrap();
    }
}
