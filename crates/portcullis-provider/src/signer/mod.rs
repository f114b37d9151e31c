//! Signing keys: the record in the store, rotation, and the ring that requests use.
//!
//! Flow: [`Signer::open`] loads the keys or makes the first one → requests take the [`Ring`] of the moment → every 30 s
//! [`Signer::check`] loads the record again, carries out the rotation's [`rotation::plan`], and swaps the ring. Keys are
//! made on a blocking thread; a request never waits for one.

mod ring;
mod rotation;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use portcullis_jose::{JoseError, SigningKey};
use portcullis_runtime::{Clock, Rng, Timestamp};
use portcullis_storage::{SigningKeyRecord, SigningKeySet, Store, StoreError};
use tokio::task::JoinHandle;

pub(crate) use ring::{Ring, RingError, etag};
pub(crate) use rotation::{CHECK_EVERY, MAX_AGE, PUBLISH_BEFORE, Policy};

use rotation::{Plan, plan, with_key};

/// How often a lost race for the record is tried again.
const RACES: usize = 8;

/// Keys cannot be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// A key could not be made.
    #[error("a signing key could not be made: {0}")]
    Generate(JoseError),
    /// What is stored cannot be used.
    #[error("{0}")]
    Stored(String),
    /// Other replicas kept changing the record.
    #[error("other replicas keep changing the signing keys")]
    Contended,
}

impl From<RingError> for SignerError {
    fn from(error: RingError) -> Self {
        Self::Stored(error.to_string())
    }
}

/// The local signer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Signer(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    rng: Rng,
    policy: Policy,
    state: ArcSwap<State>,
    /// The key that lost the race to be the first.
    spare: Mutex<Option<Making>>,
}

/// A key that is being made on a blocking thread: RSA takes tens of milliseconds, and now and then hundreds.
type Making = JoinHandle<Result<SigningKey, JoseError>>;

struct State {
    set: SigningKeySet,
    ring: Arc<Ring>,
}

impl Signer {
    /// Loads the keys; makes one when there is none. The second one is made by [`Signer::check`], after start.
    pub(crate) async fn open(store: Store, clock: Clock, rng: Rng, policy: Policy) -> Result<Self, SignerError> {
        for _ in 0..RACES {
            let now = clock.now();
            let (mut made, mut spare) = (None, None);
            let set = match store.signing_keys().load().await? {
                Some(loaded) if rotation::signing_at(&loaded.value, now).is_some() => loaded.value,
                Some(loaded) => {
                    let Plan::Generate(rest, from) = plan(&loaded.value, now, &policy) else {
                        return Err(SignerError::Contended);
                    };
                    let (record, key) = finish(begin(&rng, policy), now, from).await?;
                    let set = with_key(rest, record);
                    if !store.signing_keys().replace(&loaded, &set).await? {
                        continue;
                    }
                    made = Some(key);
                    set
                }
                None => {
                    // Finding primes takes a time that varies much: of two keys the one that is ready first signs, and
                    // the other is the next one, which would have to be made anyway.
                    let (one, other) = first_of(begin(&rng, policy), begin(&rng, policy)).await;
                    spare = Some(other);
                    let (record, key) = record_of(one.map_err(SignerError::Generate)?, now, now)?;
                    let set = with_key(SigningKeySet::default(), record);
                    if !store.signing_keys().create(&set).await? {
                        continue;
                    }
                    tracing::info!("made the first signing key");
                    made = Some(key);
                    set
                }
            };
            let ring = Arc::new(Ring::with(&set, now, made)?);
            let state = ArcSwap::from_pointee(State { set, ring });
            return Ok(Self(Arc::new(Inner { store, clock, rng, policy, state, spare: Mutex::new(spare) })));
        }
        Err(SignerError::Contended)
    }

    /// The keys of this moment.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        let state = self.0.state.load();
        let now = self.0.clock.now();
        if now < state.ring.stale_from {
            return state.ring.clone();
        }
        match Ring::new(&state.set, now) {
            Ok(ring) => {
                let ring = Arc::new(ring);
                // Unless a check has brought newer keys in the meantime.
                self.0.state.compare_and_swap(&*state, Arc::new(State { set: state.set.clone(), ring: ring.clone() }));
                ring
            }
            Err(error) => {
                tracing::error!(%error, "the next signing key cannot be used; the old one goes on");
                state.ring.clone()
            }
        }
    }

    /// Loads the record, does what the rotation asks for, and uses the result.
    pub(crate) async fn check(&self) -> Result<(), SignerError> {
        let Inner { store, clock, rng, policy, .. } = &*self.0;
        for _ in 0..RACES {
            let now = clock.now();
            let loaded = store
                .signing_keys()
                .load()
                .await?
                .ok_or(SignerError::Stored("the signing keys are gone from the store".to_owned()))?;
            let set = match plan(&loaded.value, now, policy) {
                Plan::Keep => loaded.value,
                Plan::Write(set) => match store.signing_keys().replace(&loaded, &set).await? {
                    true => set,
                    false => continue,
                },
                Plan::Generate(rest, from) => {
                    let spare = self.0.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let (record, _) = finish(spare.unwrap_or_else(|| begin(rng, *policy)), now, from).await?;
                    let set = with_key(rest, record);
                    if !store.signing_keys().replace(&loaded, &set).await? {
                        tracing::info!("keys already rotated by another server instance");
                        continue;
                    }
                    let retired = set.keys.iter().filter(|k| k.verifies_until.is_some()).count();
                    tracing::info!(
                        next_signs_from = from.rfc3339(),
                        retired,
                        "keys rotated: made the next signing key"
                    );
                    set
                }
            };
            self.adopt(set, now)?;
            return Ok(());
        }
        Err(SignerError::Contended)
    }

    fn adopt(&self, set: SigningKeySet, now: Timestamp) -> Result<(), SignerError> {
        if self.0.state.load().set != set {
            let ring = Arc::new(Ring::new(&set, now)?);
            self.0.state.store(Arc::new(State { set, ring }));
        }
        Ok(())
    }
}

/// Begins to make a key.
fn begin(rng: &Rng, policy: Policy) -> Making {
    let kid: String = rng.bytes::<20>().iter().map(|b| format!("{b:02x}")).collect();
    tokio::task::spawn_blocking(move || SigningKey::generate(policy.kind, kid))
}

/// The key that is ready first, and the other one.
async fn first_of(mut one: Making, mut other: Making) -> (Result<SigningKey, JoseError>, Making) {
    let lost = Err(JoseError::Crypto);
    tokio::select! {
        made = &mut one => (made.unwrap_or(lost), other),
        made = &mut other => (made.unwrap_or(lost), one),
    }
}

async fn finish(
    making: Making,
    now: Timestamp,
    from: Timestamp,
) -> Result<(SigningKeyRecord, SigningKey), SignerError> {
    let key = making.await.unwrap_or(Err(JoseError::Crypto)).map_err(SignerError::Generate)?;
    record_of(key, now, from)
}

fn record_of(key: SigningKey, now: Timestamp, from: Timestamp) -> Result<(SigningKeyRecord, SigningKey), SignerError> {
    let record = SigningKeyRecord::of(&key, now, from).map_err(SignerError::Generate)?;
    Ok((record, key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use portcullis_jose::KeyKind;
    use portcullis_storage::MemoryKernel;

    use super::*;

    #[tokio::test]
    async fn the_key_that_lost_the_race_is_the_next_one() {
        let (clock, _hand) = Clock::mock(1_790_000_000);
        let store = Store::new(Arc::new(MemoryKernel::new()), clock.clone(), Rng::seeded(1));
        let (rotation, token_lifetime) = (Duration::from_secs(6 * 3600), Duration::from_secs(24 * 3600));
        let policy = Policy { kind: KeyKind::P256, rotation, token_lifetime };
        let signer = Signer::open(store.clone(), clock, Rng::seeded(7), policy).await.unwrap();
        signer.check().await.unwrap();
        let set = store.signing_keys().load().await.unwrap().unwrap().value;
        let kids: BTreeSet<String> = set.keys.iter().map(|key| key.kid.clone()).collect();
        let rng = Rng::seeded(7);
        let drawn = || rng.bytes::<20>().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(kids, BTreeSet::from([drawn(), drawn()]), "a third key was made");
    }
}
