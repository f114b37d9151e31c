//! Leases: what one replica does for all of them, such as deleting what is over, and who does it (docs/decisions/0039).
//!
//! A lease is one record for each duty: who holds it, since when, when it was last renewed, and for how long that lasts. It
//! is taken, renewed, taken over and given back by compare-and-swap. The rule for taking it over is that of Kubernetes' own
//! components: it must not have changed for its whole lifetime **as the taker's monotonic clock has measured it**. The times in
//! the record are for people; no two replicas' clocks are ever compared. A holder stops earlier than anybody may take over:
//! two thirds of a lifetime after it last began to renew with success, by its monotonic clock and by its wall clock, because
//! the former may stand still while the machine sleeps.
//!
//! No lease stops a write that is on its way already. What is done under one must do no harm when two replicas do it for a
//! moment; a lease saves work, and what decides something is decided by the record that it is about.
//!
//! One record more, `use`, says whether the store serves or is being filled (docs/decisions/0042): `usage` is the provider's side of it,
//! `filling` that of `restore` and `copy`.
//!
//! On Kubernetes the record is a `Lease` of `coordination.k8s.io`, so that `kubectl get leases` shows the holder.

mod candidate;
mod filling;
mod tenure;
mod usage;
mod work;

use std::time::Duration;

use portcullis_runtime::{Shutdown, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::{candidate::Candidate, tenure::Tenure, usage::UseError};
pub(crate) use self::{
    filling::{Filling, NotTaken},
    usage::{NoSnapshot, Usage, whole_snapshot},
};
use crate::{stamp, store::Store};

/// How long a lease lasts without being renewed. It is renewed three times as often, so that another replica takes over within
/// a lifetime and a third after its holder was killed.
pub const LEASE_LIFETIME: Duration = Duration::from_secs(LEASE_SECONDS as u64);
/// The same in the form that records have it.
pub(crate) const LEASE_SECONDS: u32 = 60;
/// The shortest lifetime.
const SHORTEST: Duration = Duration::from_secs(3);

/// The id of the record that says whether the store serves or is being filled. On Kubernetes it is the `Lease` `portcullis-use`.
pub(crate) const USE: &str = "use";
/// What its holder is called, before a random id: any replica of the provider, or the one process that fills.
const SERVING: &str = "serving ";
const FILLING: &str = "filling ";
/// In its holder's place when filling has ended before its end.
const HALF_FILLED: &str = "half-filled";

/// What one replica does for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Deleting what is over.
    Collect,
    /// Sealing again what is not sealed with the current data key.
    Seal,
}

impl Duty {
    /// Every duty.
    pub const ALL: [Self; 2] = [Self::Collect, Self::Seal];

    /// The id of its lease. On Kubernetes the object's name is this with `portcullis-` before it; the rights in
    /// `deploy/rbac/provider.yaml` are for these names alone.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Collect => "collector",
            Self::Seal => "sealing",
        }
    }
}

/// The facade of the leases.
#[derive(Clone, Copy)]
pub struct Leases<'a> {
    store: &'a Store,
}

impl<'a> Leases<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Somebody who may come to hold the lease of this duty, under an id that is drawn now. Each task that contends is a candidate of
    /// its own. `lifetime` is rounded up to whole seconds, and to 3 at least.
    #[must_use]
    pub fn candidate(&self, duty: Duty, lifetime: Duration) -> Candidate {
        let seconds = lifetime.max(SHORTEST).as_millis().div_ceil(1000);
        Candidate::new(self.store.clone(), duty.name(), u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// Runs `job` whenever this process holds the lease of the duty, until `shutdown` or until a run of it ends by itself. A run
    /// is dropped, and so stopped between two of its steps, as soon as the lease is lost or could not be renewed in time; it begins anew when
    /// the lease is had again. At the end the lease is given back, if the store takes that within two seconds.
    ///
    /// A store that fails is asked again; nothing here fails, or holds anybody up.
    pub async fn run_while_held<F: Future<Output = ()> + Send>(
        &self,
        duty: Duty,
        shutdown: &Shutdown,
        job: impl FnMut() -> F + Send,
    ) {
        work::run(self.candidate(duty, LEASE_LIFETIME), shutdown, job).await;
    }
}

/// The record. On Kubernetes each member is one of the `Lease`'s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseDoc {
    /// Nobody when it was given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<String>,
    #[serde(with = "stamp")]
    pub(crate) taken_at: Timestamp,
    #[serde(with = "stamp")]
    pub(crate) renewed_at: Timestamp,
    /// How long it lasts after it was renewed.
    pub(crate) seconds: u32,
    /// How often it has passed to another holder.
    pub(crate) transitions: u32,
}
