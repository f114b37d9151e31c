//! A collection that is followed for ever: listed once, then watched; listed anew when the server has forgotten where the
//! watch was, and now and then, so that nothing that went wrong stays wrong.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::Client;
use crate::error::ClientError;
use crate::resource::{List, ListQuery, Resource};
use crate::watch::Event;

/// Objects that are asked for at a time, unless they are too large together.
const CHUNK: usize = 500;
/// How often a list begins anew because its version became too old.
const MAX_RESTARTS: usize = 16;
/// How long a list may take, waiting included.
const LIST_TIME: Duration = Duration::from_secs(60);
/// How long a watch may take to begin, waiting included.
const OPEN_TIME: Duration = Duration::from_secs(30);
/// After this time a watch is begun anew where it ended; up to a quarter longer, so that replicas do not come together.
const WATCH_TIME: Duration = Duration::from_secs(5 * 60);
/// After this time everything is listed anew.
const RESYNC: Duration = Duration::from_secs(30 * 60);
/// The pause after a failure; it doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The longest one where the server says no, which people have to mend first: a missing right, or kind.
const LONGEST_PAUSE_REFUSED: Duration = Duration::from_secs(30);

/// Who is told of a collection. Called from one task, in order; must not block.
pub trait Follower<T>: Send {
    /// These are all objects, as of a version.
    fn replace(&mut self, objects: Vec<T>, version: &str);

    /// What has changed since.
    fn change(&mut self, event: Event<T>);

    /// A watch has begun: what was told is how things stand.
    fn opened(&mut self) {}

    /// The version of an object, from which a watch that broke goes on.
    fn version_of(object: &T) -> &str;

    /// The collection cannot be read at the moment; it will be tried again.
    fn failed(&mut self, error: &ClientError);
}

impl Client {
    /// Reads a whole collection in chunks, and the version that it shows: as it is now (everything is read from etcd, not
    /// from a cache that could be behind), or as it was at a version.
    ///
    /// # Errors
    /// [`ClientError::Expired`] when the version that was asked for has been forgotten; see [`ClientError`].
    pub async fn list_all<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        at: Option<&str>,
        deadline: Instant,
    ) -> Result<(Vec<T>, String), ClientError> {
        let (mut limit, mut restarts) = (CHUNK, 0);
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let from = if token.is_none() { at.unwrap_or_default() } else { "" };
            let query = ListQuery { limit, continue_token: token.as_deref(), at: from, ..ListQuery::default() };
            match self.list::<T>(resource, &query, deadline).await {
                Ok(List { metadata, items }) => {
                    objects.extend(items);
                    if metadata.continue_token.is_empty() {
                        // Something in between may answer 200 with a text of its own, which must not pass for an empty list.
                        if metadata.resource_version.is_empty() {
                            return Err(ClientError::Unreadable { what: "a list without a version".to_owned() });
                        }
                        return Ok((objects, metadata.resource_version));
                    }
                    token = Some(metadata.continue_token);
                }
                Err(ClientError::TooLarge { .. }) if limit > 1 => limit /= 2,
                Err(ClientError::Expired) if at.is_none() && restarts < MAX_RESTARTS => {
                    restarts += 1;
                    token = None;
                    objects.clear();
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(ClientError::Lost { reason: "the list did not end in time".to_owned() });
            }
        }
    }
}

/// Follows a collection until the future is dropped.
pub async fn follow<T: DeserializeOwned + Send + 'static>(
    client: &Client,
    resource: &Resource,
    follower: &mut impl Follower<T>,
) {
    let client = &client.eager();
    let mut pause = FIRST_PAUSE;
    loop {
        let round = Round { client, resource, follower: &mut *follower, watched: false };
        match round.run().await {
            // Listed anew at once: it was all right so far.
            (true, None) => pause = FIRST_PAUSE,
            (watched, error) => {
                let mut longest = LONGEST_PAUSE;
                if let Some(error) = &error {
                    follower.failed(error);
                    if !error.is_temporary() {
                        longest = LONGEST_PAUSE_REFUSED;
                    }
                }
                if watched {
                    pause = FIRST_PAUSE;
                }
                sleep(client.spread(pause)).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// From one list to the next.
struct Round<'a, F> {
    client: &'a Client,
    resource: &'a Resource,
    follower: &'a mut F,
    /// Whether a watch has begun.
    watched: bool,
}

impl<F> Round<'_, F> {
    /// Whether a watch had begun, and what ended the round: `None` for its time.
    async fn run<T: DeserializeOwned + Send + 'static>(mut self) -> (bool, Option<ClientError>)
    where
        F: Follower<T>,
    {
        let end = self.client.list_all::<T>(self.resource, None, Instant::now() + LIST_TIME).await;
        let outcome = match end {
            Ok((objects, version)) => {
                self.follower.replace(objects, &version);
                self.watch(version).await
            }
            Err(error) => Err(error),
        };
        // A version that was forgotten is nothing that went wrong.
        (self.watched, outcome.err().filter(|error| !matches!(error, ClientError::Expired)))
    }

    /// Watches from a version on, over watches that end or break, until all must be listed anew.
    async fn watch<T: DeserializeOwned + Send + 'static>(&mut self, mut version: String) -> Result<(), ClientError>
    where
        F: Follower<T>,
    {
        let resync = Instant::now() + self.client.spread(RESYNC);
        let mut pause = FIRST_PAUSE;
        while Instant::now() < resync {
            let time = self.client.spread(WATCH_TIME);
            match self.events(&mut version, time, resync).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) if error.is_temporary() => {
                    self.follower.failed(&error);
                    sleep(self.client.spread(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn events<T: DeserializeOwned + Send + 'static>(
        &mut self,
        version: &mut String,
        time: Duration,
        resync: Instant,
    ) -> Result<(), ClientError>
    where
        F: Follower<T>,
    {
        let opened = self.client.watch::<T>(self.resource, version, time, Instant::now() + OPEN_TIME).await;
        let mut watch = opened?;
        self.watched = true;
        self.follower.opened();
        while let Ok(next) = timeout_at(resync, watch.next()).await {
            let Some(event) = next? else { return Ok(()) };
            match &event {
                Event::Applied(object) | Event::Deleted(object) => F::version_of(object).clone_into(version),
                Event::Bookmark(at) => version.clone_from(at),
            }
            self.follower.change(event);
        }
        Ok(())
    }
}
