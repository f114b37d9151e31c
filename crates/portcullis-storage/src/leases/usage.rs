//! That a store is used, told by its replicas together in one record, so that nothing fills it under them.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portcullis_runtime::{Shutdown, chain};

use super::{FILLING, LEASE_LIFETIME, LEASE_SECONDS, LeaseDoc, Leases, SERVING, USE};
use crate::{
    document::{Indexed, Inserted, Stored, Swapped, decode},
    error::{KernelError, StoreError},
    kernel::{Kernel, Kind, Version},
    snapshot::Snapshot,
    stamp,
};

/// How often each replica looks at the record. It writes when nobody has since it last looked, so in twice that time one of them
/// has written, and the third part of a lifetime is left for what goes wrong.
const LOOK_EVERY: Duration = Duration::from_secs(LEASE_LIFETIME.as_secs() / 3);
/// The same after a failure.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often one call is made anew because somebody else has changed the record. Replicas that start together do.
const RACES: usize = 16;

/// Why a store is not to be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UseError {
    /// It is being filled, or was when that process was killed.
    #[error("`store restore` or `store copy` is filling the store, or was killed while it did ({holder})")]
    Filling {
        /// What the record names.
        holder: String,
    },
    /// Filling has ended before its end.
    #[error("the store is half-filled: `store restore` or `store copy` has not come to its end")]
    HalfFilled,
    /// This process had used it, was cut off from it or stopped for as long as a lease lasts, and it was filled meanwhile.
    #[error("the store was filled by `store restore` or `store copy` while this process was cut off from it")]
    Replaced,
    /// It was filled, or filling began, while this process read it.
    #[error("the store was filled by `store restore` or `store copy` while it was read")]
    Meanwhile,
    /// It cannot be found out.
    #[error("the record that says whether the store is being filled cannot be read or written")]
    Store(#[from] StoreError),
}

impl UseError {
    /// What can be done.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Filling { .. } => {
                "wait until it has ended; if it was killed, run it again: it goes on where it was cut off"
            }
            Self::Meanwhile => "run the command again when that has ended",
            Self::HalfFilled => "run it again: it goes on where it was cut off",
            Self::Replaced => "start the provider again",
            Self::Store(_) => {
                "see that the store can be reached; on Kubernetes, that this version's deploy/rbac/provider.yaml is applied"
            }
        }
    }
}

/// What this process knows of the record; all of its stores on one kernel share it.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<Option<Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    version: Version,
    /// How often the store had been filled when this process began to use it.
    fills: u32,
}

impl Usage {
    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leases<'_> {
    /// Tells that this process is about to use the store. To be called before anything else is written to it: from then on nothing
    /// fills the store for a lease's lifetime at least, and for as long as [`Leases::keep_announced`] goes on.
    ///
    /// # Errors
    /// When the store is being filled or is half-filled, and when that cannot be found out.
    pub async fn announce(&self) -> Result<(), UseError> {
        *self.store.usage().lock() = None;
        self.look().await
    }

    /// Goes on telling that the store is used, until `shutdown`. Returns earlier when it is not to be used any more. A store that fails is
    /// asked again: what cannot reach it does no harm to it.
    pub async fn keep_announced(&self, shutdown: &Shutdown) -> Result<(), UseError> {
        let clock = self.store.clock();
        let mut failing = false;
        let looks = async {
            loop {
                // A store that is slow to answer makes the looks no rarer.
                let began = clock.monotonic();
                let next = match self.look().await {
                    Ok(()) => {
                        failing = false;
                        began.saturating_add(LOOK_EVERY)
                    }
                    Err(error @ UseError::Store(_)) => {
                        if !failing {
                            let (why, hint) = (chain(&error), error.hint());
                            tracing::error!(
                                error = why,
                                hint,
                                lease = USE,
                                "it could not be told that the store is used"
                            );
                        }
                        failing = true;
                        clock.monotonic().saturating_add(LOOK_AGAIN)
                    }
                    Err(error) => return error,
                };
                clock.sleep_until_monotonic(next).await;
            }
        };
        shutdown.unless(looks).await.map_or(Ok(()), Err)
    }

    /// Whether the store is whole, for a tool that only looks.
    ///
    /// # Errors
    /// When it is being filled or is half-filled, and when that cannot be found out.
    pub async fn whole(&self) -> Result<(), UseError> {
        let found = self.store.read::<LeaseDoc>(Kind::Lease, USE).await?;
        found.and_then(|found| found.value.holder).map_or(Ok(()), serves)
    }

    async fn look(&self) -> Result<(), UseError> {
        let before = *self.store.usage().lock();
        let seen = self.tell(before).await?;
        *self.store.usage().lock() = Some(seen);
        Ok(())
    }

    /// Writes that the store is used, where nobody else has done so since `before`.
    async fn tell(&self, before: Option<Seen>) -> Result<Seen, UseError> {
        let mut others = false;
        for _ in 0..RACES {
            let now = stamp::truncate(self.store.now());
            let holder = Some(format!("{SERVING}{}", self.store.rng().token(9)));
            let mine = LeaseDoc {
                holder,
                taken_at: now,
                renewed_at: now,
                seconds: LEASE_SECONDS,
                transitions: before.map_or(0, |seen| seen.fills),
            };
            let Some(Stored { version, value, .. }) = self.store.read::<LeaseDoc>(Kind::Lease, USE).await? else {
                if let Inserted::Done(version) = self.store.insert(Kind::Lease, USE, &mine, Indexed::default()).await? {
                    return Ok(Seen { version, fills: mine.transitions });
                }
                others = true;
                continue;
            };
            let is_free = value.holder.is_none();
            value.holder.map_or(Ok(()), serves)?;
            if before.is_some_and(|before| is_free || before.fills != value.transitions) {
                return Err(UseError::Replaced);
            }
            // Whoever fills counts from the last change that it has seen. One that came after we last looked, or while we were
            // about to write, is as good as ours.
            let changed = before.map_or(others && !is_free, |before| before.version != version);
            if changed {
                return Ok(Seen { version, fills: value.transitions });
            }
            let taken_at = if is_free { now } else { value.taken_at };
            let mine = LeaseDoc { taken_at, transitions: value.transitions, ..mine };
            if let Swapped::Done(version) =
                self.store.swap(Kind::Lease, USE, version, &mine, Indexed::default()).await?
            {
                return Ok(Seen { version, fills: mine.transitions });
            }
            others = true;
        }
        Err(StoreError::Contended { kind: Kind::Lease }.into())
    }
}

/// A snapshot of a store that is whole, and was so at the snapshot's moment.
pub(crate) async fn whole_snapshot(kernel: &dyn Kernel) -> Result<Snapshot, NoSnapshot> {
    let before = fills(kernel).await?;
    let snapshot = kernel.snapshot().await.map_err(NoSnapshot::Kernel)?;
    if fills(kernel).await? == before { Ok(snapshot) } else { Err(NoSnapshot::Unusable(UseError::Meanwhile)) }
}

/// Why there is none.
pub(crate) enum NoSnapshot {
    /// What it would be of is not whole.
    Unusable(UseError),
    /// The store.
    Kernel(KernelError),
}

/// How often a store that is whole has been filled. The first filler of one that nobody had used before leaves a record behind.
async fn fills(kernel: &dyn Kernel) -> Result<(u32, bool), NoSnapshot> {
    let Some(record) = kernel.get(Kind::Lease, USE).await.map_err(NoSnapshot::Kernel)? else { return Ok((0, false)) };
    let found: Stored<LeaseDoc> =
        decode(Kind::Lease, &record).map_err(|error| NoSnapshot::Unusable(UseError::Store(error)))?;
    let LeaseDoc { holder, transitions, .. } = found.value;
    let is_free = holder.is_none();
    holder.map_or(Ok(()), serves).map_err(NoSnapshot::Unusable)?;
    Ok((transitions, is_free))
}

/// Whether a record with this holder is of a store that serves. What this version does not know is none: a newer one has
/// written it, or somebody by hand.
fn serves(holder: String) -> Result<(), UseError> {
    if holder.starts_with(SERVING) {
        return Ok(());
    }
    Err(if holder.starts_with(FILLING) { UseError::Filling { holder } } else { UseError::HalfFilled })
}
