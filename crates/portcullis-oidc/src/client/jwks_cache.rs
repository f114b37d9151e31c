//! An issuer's keys, fetched when needed and kept.
//!
//! Flow of a verification: try the keys at hand (lock-free) → if none fits, and the policy allows it, fetch (one request
//! for all who wait; it goes on when they go away) → try again. A failed fetch keeps the old keys.
//!
//! Two policies, because kube-apiserver's own is lenient where safety asks for more: see [`JwksPolicy`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use portcullis_jose::{CompactJws, JoseError, JwkSet, KeyHints, Limits, UnknownKeys, VerifiedPayload};
use portcullis_runtime::{Clock, Timestamp, http_client::HttpClient};
use tokio::sync::watch;

use super::{
    JwksFetchError,
    jwks_fetch::{Fetched, fetch},
    key_source::{KeySource, KeySourceError, Verification},
};

/// How long before the end of freshness an unknown key may trigger a fetch (go-oidc `keysExpiryDelta`).
const EXPIRY_DELTA: Duration = Duration::from_secs(30);
/// How long a token waits for fresher keys while there are stale ones that may still be used.
const PATIENCE: Duration = Duration::from_secs(5);

/// When keys are fetched again, and how long they are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwksPolicy {
    /// Exactly kube-apiserver (go-oidc 2.5): a key at hand that verifies is trusted however old it is; a token that no
    /// key verifies makes a fetch when less than 30 s of freshness are left, however often that happens.
    Faithful,
    /// Every fetch, also a failed one, starts at least `min_interval` after the one before. Stale keys are refreshed
    /// before they are trusted; while the issuer fails, or takes longer than 5 seconds, they stay in use until `max_stale`
    /// after their fetch, or the end of their freshness if that is later. A token that no key verifies makes a fetch even
    /// when the keys are fresh. Requests carry `Cache-Control: no-cache`, so that no cache between hides a rotation.
    Limited {
        /// Shortest time between two fetches.
        min_interval: Duration,
        /// Freshness of a set whose headers name none.
        default_fresh: Duration,
        /// How long after their fetch stale keys are trusted.
        max_stale: Duration,
    },
}

impl JwksPolicy {
    /// [`JwksPolicy::Limited`] with 10 seconds, 5 minutes, 24 hours.
    pub const LIMITED: Self = Self::Limited {
        min_interval: Duration::from_secs(10),
        default_fresh: Duration::from_secs(5 * 60),
        max_stale: Duration::from_secs(24 * 60 * 60),
    };
}

/// How the keys of an issuer are read and kept.
#[derive(Clone, Copy, Debug)]
pub struct JwksOptions {
    /// What an unknown key does to its set.
    pub unknown_keys: UnknownKeys,
    /// Whether `alg` and `use` of a key are enforced.
    pub key_hints: KeyHints,
    /// Bounds of the document. The HTTP client's own body limit applies as well.
    pub limits: Limits,
    /// When to fetch.
    pub policy: JwksPolicy,
}

impl JwksOptions {
    /// What kube-apiserver 1.37 does.
    pub fn faithful() -> Self {
        Self {
            unknown_keys: UnknownKeys::RejectSet,
            key_hints: KeyHints::Ignore,
            limits: Limits::default(),
            policy: JwksPolicy::Faithful,
        }
    }

    /// What everything else should do.
    pub fn limited() -> Self {
        Self {
            unknown_keys: UnknownKeys::Skip,
            key_hints: KeyHints::Enforce,
            limits: Limits::default(),
            policy: JwksPolicy::LIMITED,
        }
    }
}

/// The keys of one issuer. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct JwksCache {
    shared: Arc<Shared>,
}

struct Shared {
    http: HttpClient,
    uri: String,
    options: JwksOptions,
    clock: Clock,
    keys: ArcSwapOption<Snapshot>,
    flight: Mutex<Flight>,
}

/// A fetched set.
#[derive(Debug)]
struct Snapshot {
    keys: JwkSet,
    fetched_at: Timestamp,
    fresh_until: Timestamp,
}

type Outcome = Result<Arc<Snapshot>, JwksFetchError>;

#[derive(Default)]
struct Flight {
    current: Option<watch::Receiver<Option<Outcome>>>,
    /// When the last fetch began, and how it ended if it failed.
    last_start: Option<Timestamp>,
    last_error: Option<JwksFetchError>,
}

impl JwksCache {
    /// An empty cache; nothing is fetched until a token needs it.
    pub fn new(http: HttpClient, uri: impl Into<String>, options: JwksOptions, clock: Clock) -> Self {
        let (uri, keys, flight) = (uri.into(), ArcSwapOption::empty(), Mutex::default());
        Self { shared: Arc::new(Shared { http, uri, options, clock, keys, flight }) }
    }

    /// Where the keys come from.
    pub fn uri(&self) -> &str {
        &self.shared.uri
    }

    /// Checks a token's signature under the cache's policy. With keys at hand that fit, nothing is awaited.
    ///
    /// # Errors
    /// [`KeySourceError::Signature`] when no key confirms it; [`KeySourceError::Fetch`] when newer ones were due and could not be had.
    pub async fn verify(&self, jws: CompactJws<'_>) -> Result<VerifiedPayload, KeySourceError> {
        match self.shared.options.policy {
            JwksPolicy::Faithful => self.verify_faithful(jws).await,
            JwksPolicy::Limited { min_interval, max_stale, .. } => {
                self.verify_limited(jws, min_interval, max_stale).await
            }
        }
    }

    /// Fetches the keys now, whatever the policy says, or joins a fetch that is under way. The old keys stay on failure.
    ///
    /// # Errors
    /// [`JwksFetchError`].
    pub async fn refresh(&self) -> Result<(), JwksFetchError> {
        self.fetch_or_join(None).await.map(|_| ())
    }

    async fn verify_faithful(&self, mut jws: CompactJws<'_>) -> Result<VerifiedPayload, KeySourceError> {
        if let Some(snapshot) = self.shared.keys.load_full() {
            match jws.try_verify(&snapshot.keys) {
                Ok(payload) => return Ok(payload),
                Err(rejected) if self.shared.clock.now() + EXPIRY_DELTA <= snapshot.fresh_until => {
                    return Err(KeySourceError::Signature(rejected.error));
                }
                Err(rejected) => jws = rejected.jws,
            }
        }
        let snapshot = self.fetch_or_join(None).await.map_err(KeySourceError::Fetch)?;
        jws.verify(&snapshot.keys).map_err(KeySourceError::Signature)
    }

    async fn verify_limited(
        &self,
        jws: CompactJws<'_>,
        min_interval: Duration,
        max_stale: Duration,
    ) -> Result<VerifiedPayload, KeySourceError> {
        let now = self.shared.clock.now();
        let old = self.shared.keys.load_full();
        let stale = old.as_ref().is_none_or(|snapshot| now >= snapshot.fresh_until);
        let snapshot = match old {
            Some(snapshot) if !stale => snapshot,
            Some(old) if now < (old.fetched_at + max_stale).max(old.fresh_until) => {
                self.fresher_than(old, min_interval).await
            }
            _ => self.fetch_or_join(Some(min_interval)).await.map_err(KeySourceError::Fetch)?,
        };
        let rejected = match jws.try_verify(&snapshot.keys) {
            Ok(payload) => return Ok(payload),
            Err(rejected) => rejected,
        };
        if !stale
            && !is_hopeless(&rejected.error)
            && let Ok(newer) = self.fetch_or_join(Some(min_interval)).await
            && !Arc::ptr_eq(&newer, &snapshot)
        {
            return rejected.jws.verify(&newer.keys).map_err(KeySourceError::Signature);
        }
        Err(KeySourceError::Signature(rejected.error))
    }

    /// Fetches newer keys, and gives `old` back when that fails or takes too long. The fetch goes on without us; while the
    /// last one has failed nobody waits at all, so an outage of the issuer does not stall every request.
    async fn fresher_than(&self, old: Arc<Snapshot>, min_interval: Duration) -> Arc<Snapshot> {
        let patience = {
            let state = self.shared.flight();
            let waited = match (&state.current, state.last_start) {
                (Some(_), Some(start)) => self.shared.clock.now().saturating_since(start),
                _ => Duration::ZERO,
            };
            if state.last_error.is_some() { Duration::ZERO } else { PATIENCE.saturating_sub(waited) }
        };
        match tokio::time::timeout(patience, self.fetch_or_join(Some(min_interval))).await {
            Ok(Ok(newer)) => newer,
            Ok(Err(_)) | Err(_) => old,
        }
    }

    /// Waits for the fetch under way or starts one. With `min_interval`, a fetch that would come too soon after the last
    /// is not made: its outcome is that of the last one.
    async fn fetch_or_join(&self, min_interval: Option<Duration>) -> Outcome {
        let mut flight = {
            let mut state = self.shared.flight();
            match &state.current {
                Some(flight) => flight.clone(),
                None => {
                    let now = self.shared.clock.now();
                    // A last start in the future means that the clock was set back; it must not block us until then.
                    let too_soon = min_interval.is_some_and(|interval| {
                        state.last_start.is_some_and(|start| start <= now && now < start + interval)
                    });
                    if too_soon {
                        return match (&state.last_error, self.shared.keys.load_full()) {
                            (None, Some(snapshot)) => Ok(snapshot),
                            (error, _) => Err(error.clone().unwrap_or(JwksFetchError::Interrupted)),
                        };
                    }
                    state.last_start = Some(now);
                    let (sender, receiver) = watch::channel(None);
                    state.current = Some(receiver.clone());
                    tokio::spawn(Arc::clone(&self.shared).fly(sender, now));
                    receiver
                }
            }
        };
        match flight.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(JwksFetchError::Interrupted)),
            Err(_) => {
                // The task ended without an outcome (it panicked, or its runtime is gone): the next caller starts anew.
                self.shared.flight().current = None;
                Err(JwksFetchError::Interrupted)
            }
        }
    }
}

impl Shared {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fly(self: Arc<Self>, sender: watch::Sender<Option<Outcome>>, started: Timestamp) {
        let outcome = fetch(&self.http, &self.uri, &self.options, started).await.map(|fetched| {
            let now = self.clock.now();
            let snapshot = Arc::new(self.snapshot(fetched, now));
            self.keys.store(Some(Arc::clone(&snapshot)));
            snapshot
        });
        if let Err(error) = &outcome {
            tracing::warn!(uri = self.uri, error = %error, "cannot fetch the issuer's keys");
        }
        {
            let mut state = self.flight();
            state.last_error = outcome.as_ref().err().cloned();
            state.current = None;
        }
        sender.send_replace(Some(outcome));
    }

    fn snapshot(&self, fetched: Fetched, now: Timestamp) -> Snapshot {
        let default = match self.options.policy {
            JwksPolicy::Faithful => Duration::ZERO,
            JwksPolicy::Limited { default_fresh, .. } => default_fresh,
        };
        let fresh_until = now + fetched.fresh_for.unwrap_or(default);
        Snapshot { keys: fetched.keys, fetched_at: now, fresh_until }
    }
}

/// No other key could make a difference.
fn is_hopeless(error: &JoseError) -> bool {
    matches!(error, JoseError::UnsupportedAlgorithm(_) | JoseError::Critical)
}

impl KeySource for JwksCache {
    fn verify<'a>(&'a self, jws: CompactJws<'a>) -> Verification<'a> {
        Box::pin(self.verify(jws))
    }
}

impl std::fmt::Debug for JwksCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwksCache")
            .field("uri", &self.shared.uri)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}
