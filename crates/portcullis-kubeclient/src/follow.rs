//! A collection that is followed for ever: listed once, then watched; listed anew when the server has forgotten where the
//! watch was, and now and then, so that nothing that went wrong stays wrong.

use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::Client;
use crate::error::ClientError;
use crate::resource::{Form, List, ListQuery, Resource};
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
    /// What is kept of an object of a list until all of them have come.
    type Kept: Send;

    /// A list begins, or begins anew: what was kept of it is thrown away, and what is read elsewhere from now on may be newer
    /// than what it will show.
    fn listing(&mut self) {}

    /// An object of the list that has begun; `None` leaves it out.
    fn keep(&mut self, object: T) -> Option<Self::Kept>;

    /// These are all objects, as of a version. It can be lower than one that was told before: the server's store was restored
    /// from a backup then, and what was told does not count.
    fn replace(&mut self, objects: Vec<Self::Kept>, version: &str);

    /// What has changed since.
    fn change(&mut self, event: Event<T>);

    /// A watch has begun: what was told is how things stand.
    fn opened(&mut self) {}

    /// The version of an object, from which a watch that broke goes on.
    fn version_of(object: &T) -> &str;

    /// The collection cannot be read at the moment; it will be tried again.
    fn failed(&mut self, error: &ClientError);
}

/// What a list hands over.
#[derive(Debug)]
pub enum Listed<T> {
    /// It begins, or begins anew: what came before does not count.
    Begins,
    /// One of its objects.
    Object(T),
}

impl Client {
    /// Reads a whole collection in chunks, of which one is held at a time, and returns the version that it shows: as it is now
    /// (everything is read from etcd, not from a cache that could be behind), or as it was at a version.
    ///
    /// # Errors
    /// [`ClientError::Expired`] when the version that was asked for has been forgotten; see [`ClientError`].
    pub async fn list_each<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        at: Option<&str>,
        deadline: Instant,
        each: &mut (dyn FnMut(Listed<T>) + Send),
    ) -> Result<String, ClientError> {
        let (mut limit, mut restarts) = (CHUNK, 0);
        let mut token: Option<String> = None;
        each(Listed::Begins);
        loop {
            let from = if token.is_none() { at.unwrap_or_default() } else { "" };
            let query = ListQuery { limit, continue_token: token.as_deref(), at: from, ..ListQuery::default() };
            match self.list::<T>(resource, &query, deadline).await {
                Ok(List { metadata, items }) => {
                    items.into_iter().map(Listed::Object).for_each(&mut *each);
                    if metadata.continue_token.is_empty() {
                        // Something in between may answer 200 with a text of its own, which must not pass for an empty list.
                        if metadata.resource_version.is_empty() {
                            return Err(ClientError::Unreadable { what: "a list without a version".to_owned() });
                        }
                        return Ok(metadata.resource_version);
                    }
                    token = Some(metadata.continue_token);
                }
                Err(ClientError::TooLarge { .. }) if limit > 1 => limit /= 2,
                Err(ClientError::Expired) if at.is_none() && restarts < MAX_RESTARTS => {
                    restarts += 1;
                    token = None;
                    each(Listed::Begins);
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(ClientError::Lost { reason: "the list did not end in time".to_owned() });
            }
        }
    }

    /// Whether the server's history has come to a version. After its store was restored from a backup it has not: a watch
    /// from there would be silent until it has, and miss everything before.
    async fn has_come_to(&self, resource: &Resource, version: &str, deadline: Instant) -> Result<bool, ClientError> {
        let query = ListQuery { limit: 1, form: Form::Metadata, ..ListQuery::default() };
        let List { metadata, .. } = self.list::<IgnoredAny>(resource, &query, deadline).await?;
        // Compat: versions are etcd's revisions; one that is no number tells nothing.
        let (known, now) = (version.parse::<u64>(), metadata.resource_version.parse::<u64>());
        Ok(!matches!((known, now), (Ok(known), Ok(now)) if now < known))
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
        let outcome = match self.list::<T>().await {
            Ok((objects, version)) => {
                self.follower.replace(objects, &version);
                self.watch(version).await
            }
            Err(error) => Err(error),
        };
        // A version that was forgotten is nothing that went wrong.
        (self.watched, outcome.err().filter(|error| !matches!(error, ClientError::Expired)))
    }

    async fn list<T: DeserializeOwned + Send + 'static>(&mut self) -> Result<(Vec<F::Kept>, String), ClientError>
    where
        F: Follower<T>,
    {
        let (mut kept, follower) = (Vec::new(), &mut *self.follower);
        let mut each = |listed| match listed {
            Listed::Begins => {
                kept.clear();
                follower.listing();
            }
            Listed::Object(object) => kept.extend(follower.keep(object)),
        };
        let deadline = Instant::now() + LIST_TIME;
        let version = self.client.list_each::<T>(self.resource, None, deadline, &mut each).await?;
        Ok((kept, version))
    }

    /// Watches from a version on, over watches that end or break, until all must be listed anew.
    async fn watch<T: DeserializeOwned + Send + 'static>(&mut self, mut version: String) -> Result<(), ClientError>
    where
        F: Follower<T>,
    {
        let resync = Instant::now() + self.client.spread(RESYNC);
        let (mut pause, mut again) = (FIRST_PAUSE, false);
        while Instant::now() < resync {
            match self.events(&mut version, std::mem::replace(&mut again, true), resync).await {
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
        again: bool,
        resync: Instant,
    ) -> Result<(), ClientError>
    where
        F: Follower<T>,
    {
        let (time, deadline) = (self.client.spread(WATCH_TIME), Instant::now() + OPEN_TIME);
        // Whatever has ended the watch before may have been a restart with another store.
        if again && !self.client.has_come_to(self.resource, version, deadline).await? {
            return Err(ClientError::Expired);
        }
        let opened = self.client.watch::<T>(self.resource, version, time, deadline).await;
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
