//! Filling a store that nobody uses, and that nobody can begin to use before it is whole.

use std::time::Duration;

use super::{Candidate, Duty, FILLING, HALF_FILLED, LEASE_SECONDS, LeaseDoc, SERVING, USE};
use crate::{
    document::Stored,
    error::StoreError,
    kernel::{Kind, Version},
    patience::Patience,
    store::Store,
};

/// How often a lease is looked at that may be somebody's.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How soon renewing is tried again after a failure, as a part of the time between two renewals.
const RETRIES: u32 = 4;

/// Makes a call again while the store does not take it. No function: futures of closures that borrow are not known to be `Send`.
macro_rules! patiently {
    ($call:expr) => {{
        let mut patience = Patience::new();
        loop {
            match $call.await {
                Err(error) => patience.after(error, StoreError::is_temporary).await?,
                Ok(done) => break done,
            }
        }
    }};
}

/// Why a store may not be filled, or not any longer.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// Somebody has renewed a lease of it.
    InUse { lease: &'static str, holder: String },
    /// The record could not be renewed in time, or is another's.
    Lost,
    /// The leases cannot be read or written.
    Store(StoreError),
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The right to fill a store. Dropped without [`Filling::done`], the store is taken by nobody as whole.
#[derive(Debug)]
pub(crate) struct Filling {
    candidate: Candidate,
    /// The leases of the duties as they were when filling began.
    duties: [Option<Version>; Duty::ALL.len()],
}

impl Filling {
    /// Waits until nobody uses the store, which takes a lease's lifetime where a lease names a holder, and closes it for all others.
    /// Nothing is written before: a refusal leaves the store as it was, and those who wait shut nobody out.
    pub(crate) async fn begin(store: &Store) -> Result<Self, NotTaken> {
        let id = format!("{FILLING}{}", store.rng().token(9));
        let mut candidate = Candidate::called(store.clone(), USE, id, LEASE_SECONDS);
        // Programs that know nothing of the record are seen by the leases of what they do.
        let [collect, seal] = Duty::ALL.map(|duty| stands_still(store, duty.name()));
        let ((), collect, seal) = tokio::try_join!(may_be_taken(&mut candidate), collect, seal)?;
        match take(&mut candidate).await {
            Ok(()) => Ok(Self { candidate, duties: [collect, seal] }),
            Err(error) => {
                give_back(&candidate).await;
                Err(error)
            }
        }
    }

    /// Runs `work` while the record is held, and stops it between two of its steps when it is not.
    pub(crate) async fn run<T>(&mut self, work: impl Future<Output = T>) -> Result<T, NotTaken> {
        let tenure = self.candidate.tenure();
        tokio::select! {
            biased;
            done = tenure.while_held(work) => done.ok_or(NotTaken::Lost),
            () = renew(&mut self.candidate) => Err(NotTaken::Lost),
        }
    }

    /// Gives the store back as it was: nothing was written to it.
    pub(crate) async fn abandon(self) {
        give_back(&self.candidate).await;
    }

    /// Says that the store is half-filled. Where that fails, the record says that it is being filled.
    pub(crate) async fn fail(self) {
        if let Err(error) = leave_to(&self.candidate, Some(HALF_FILLED), false).await {
            tracing::warn!(%error, lease = USE, "it could not be written down that the store is half-filled");
        }
    }

    /// The store is whole, and may be used; an error when somebody has used it meanwhile.
    pub(crate) async fn done(self) -> Result<(), NotTaken> {
        for (duty, before) in Duty::ALL.into_iter().zip(self.duties) {
            let Some(Held { version, holder, .. }) = held(self.candidate.store(), duty.name()).await? else { continue };
            if Some(version) != before {
                self.fail().await;
                return Err(NotTaken::InUse { lease: duty.name(), holder });
            }
        }
        if leave_to(&self.candidate, None, false).await? { Ok(()) } else { Err(NotTaken::Lost) }
    }
}

/// Waits until nobody has the record, or its holder has not renewed it for its lifetime.
async fn may_be_taken(candidate: &mut Candidate) -> Result<(), NotTaken> {
    let is_free = patiently!(candidate.look());
    if !is_free {
        stands_still(candidate.store(), USE).await?;
    }
    Ok(())
}

/// Takes the record; waits once more for whoever has begun to use the store, or to fill it, while others were waited for.
async fn take(candidate: &mut Candidate) -> Result<(), NotTaken> {
    let store = candidate.store().clone();
    while !contend(candidate).await? {
        stands_still(&store, USE).await?;
    }
    Ok(())
}

async fn contend(candidate: &mut Candidate) -> Result<bool, StoreError> {
    Ok(patiently!(candidate.contend()))
}

async fn leave_to(candidate: &Candidate, next: Option<&str>, untaken: bool) -> Result<bool, StoreError> {
    Ok(patiently!(candidate.leave_to(next, untaken)))
}

/// Waits until a lease is nobody's, or has not been renewed for its lifetime. The version in which it names somebody all the same.
async fn stands_still(store: &Store, lease: &'static str) -> Result<Option<Version>, NotTaken> {
    let clock = store.clock();
    let began = clock.monotonic();
    let Some(Held { version, holder, lifetime }) = held(store, lease).await? else { return Ok(None) };
    tracing::warn!(lease, holder, "the store may be in use: looking for {} s whether it is", lifetime.as_secs());
    loop {
        let rest = began.saturating_add(lifetime).saturating_sub(clock.monotonic());
        if rest.is_zero() {
            return Ok(Some(version));
        }
        clock.sleep_until_monotonic(clock.monotonic().saturating_add(rest.min(LOOK_EVERY))).await;
        match held(store, lease).await? {
            None => return Ok(None),
            Some(now) if now.version == version => {}
            Some(Held { holder, .. }) => return Err(NotTaken::InUse { lease, holder }),
        }
    }
}

/// A lease that names somebody who may live.
struct Held {
    version: Version,
    holder: String,
    lifetime: Duration,
}

async fn held(store: &Store, lease: &'static str) -> Result<Option<Held>, StoreError> {
    let found: Option<Stored<LeaseDoc>> = patiently!(store.read(Kind::Lease, lease));
    Ok(found.and_then(|Stored { version, value, .. }| {
        let holder = value.holder.filter(|holder| holder != HALF_FILLED)?;
        Some(Held { version, holder, lifetime: Duration::from_secs(value.seconds.into()) })
    }))
}

/// Until it is another's.
async fn renew(candidate: &mut Candidate) {
    let mut pause = candidate.every();
    loop {
        let clock = candidate.store().clock().clone();
        clock.sleep_until_monotonic(clock.monotonic().saturating_add(pause)).await;
        pause = match candidate.contend().await {
            Ok(true) => candidate.every(),
            Ok(false) => return,
            Err(_) => candidate.every() / RETRIES,
        };
    }
}

/// Leaves the record as it was before: who served and was not to be seen may come back, and a store that was not whole is half-filled
/// still. What this version does not know was none that served.
async fn give_back(candidate: &Candidate) {
    let before = candidate.before().map(|before| if before.starts_with(SERVING) { before } else { HALF_FILLED });
    if let Err(error) = leave_to(candidate, before, true).await {
        tracing::warn!(%error, lease = USE, "the lease could not be given back; it runs out");
    }
}
