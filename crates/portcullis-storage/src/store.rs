//! The store: a kernel with clock and randomness, and the facades over it.

use std::sync::Arc;

use portcullis_runtime::{Clock, Rng, Timestamp};

use crate::{
    clients::{Client, Clients},
    codes::Codes,
    collect::{self, Believed, Collected},
    configured::Fixed,
    connectors::{Connector, Connectors},
    error::StoreError,
    failures::{FailureCounters, FailureTable},
    families::Families,
    kernel::Kernel,
    leases::{Leases, Usage},
    logins::Logins,
    passwords::{Password, Passwords},
    requests::Requests,
    seal::Sealing,
    sealing_keys::SealingKeys,
    signing_keys::SigningKeys,
};

/// A store. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    kernel: Arc<dyn Kernel>,
    clock: Clock,
    rng: Rng,
    sealing: Arc<Sealing>,
    static_clients: Fixed<Client>,
    static_passwords: Fixed<Password>,
    static_connectors: Fixed<Connector>,
    failures: Arc<FailureTable>,
    believed: Arc<Believed>,
    usage: Arc<Usage>,
}

/// What a store needs beside kernel, clock and randomness.
#[derive(Default)]
pub struct StoreOptions {
    /// Clients from the configuration file. They shadow stored ones and cannot be changed.
    pub static_clients: Vec<Client>,
    /// Local users from the configuration file. They shadow stored ones and cannot be changed.
    pub static_passwords: Vec<Password>,
    /// Connectors from the configuration file. They shadow stored ones and cannot be changed.
    pub static_connectors: Vec<Connector>,
}

impl Store {
    /// A store without static objects.
    #[must_use]
    pub fn new(kernel: Arc<dyn Kernel>, clock: Clock, rng: Rng) -> Self {
        Self::with_options(kernel, clock, rng, StoreOptions::default())
    }

    /// A store with static objects. Where secrets may be sealed it has to be unlocked; see [`Store::unlock`].
    #[must_use]
    pub fn with_options(kernel: Arc<dyn Kernel>, clock: Clock, rng: Rng, options: StoreOptions) -> Self {
        let StoreOptions { static_clients, static_passwords, static_connectors } = options;
        let failures = Arc::new(FailureTable::new(&rng));
        let believed = Arc::new(Believed::new(&clock));
        Self(Arc::new(Inner {
            kernel,
            clock,
            rng,
            sealing: Arc::default(),
            static_clients: Fixed::new(static_clients),
            static_passwords: Fixed::new(static_passwords),
            static_connectors: Fixed::new(static_connectors),
            failures,
            believed,
            usage: Arc::default(),
        }))
    }

    /// The same records, failure counts included, with other static objects: what a changed configuration file names. The
    /// store that this one is made from stays as it is, for the requests that still use it.
    #[must_use]
    pub fn with_static(&self, clients: Vec<Client>, passwords: Vec<Password>, connectors: Vec<Connector>) -> Self {
        let Inner { kernel, clock, rng, sealing, failures, believed, usage, .. } = &*self.0;
        Self(Arc::new(Inner {
            kernel: Arc::clone(kernel),
            clock: clock.clone(),
            rng: rng.clone(),
            sealing: Arc::clone(sealing),
            static_clients: Fixed::new(clients),
            static_passwords: Fixed::new(passwords),
            static_connectors: Fixed::new(connectors),
            failures: Arc::clone(failures),
            believed: Arc::clone(believed),
            usage: Arc::clone(usage),
        }))
    }

    /// Sign-ins that have succeeded and are on their way to a code.
    #[must_use]
    pub const fn logins(&self) -> Logins<'_> {
        Logins::new(self)
    }

    /// Authorization codes.
    #[must_use]
    pub const fn codes(&self) -> Codes<'_> {
        Codes::new(self)
    }

    /// Refresh token families.
    #[must_use]
    pub const fn families(&self) -> Families<'_> {
        Families::new(self)
    }

    /// The provider's signing keys.
    #[must_use]
    pub const fn signing_keys(&self) -> SigningKeys<'_> {
        SigningKeys::new(self)
    }

    /// The keys that seal the cookies of sign-ins under way.
    #[must_use]
    pub const fn sealing_keys(&self) -> SealingKeys<'_> {
        SealingKeys::of_flows(self)
    }

    /// The keys that seal the cookies by which browsers are known again.
    #[must_use]
    pub const fn device_keys(&self) -> SealingKeys<'_> {
        SealingKeys::of_devices(self)
    }

    /// OAuth clients.
    #[must_use]
    pub const fn clients(&self) -> Clients<'_> {
        Clients::new(self)
    }

    /// Local users.
    #[must_use]
    pub const fn passwords(&self) -> Passwords<'_> {
        Passwords::new(self)
    }

    /// Connectors.
    #[must_use]
    pub const fn connectors(&self) -> Connectors<'_> {
        Connectors::new(self)
    }

    /// Failed sign-ins.
    #[must_use]
    pub const fn failures(&self) -> FailureCounters<'_> {
        FailureCounters::new(self)
    }

    /// Authorization requests that are too large for a cookie.
    #[must_use]
    pub const fn requests(&self) -> Requests<'_> {
        Requests::new(self)
    }

    /// Who does what one replica does for all.
    #[must_use]
    pub const fn leases(&self) -> Leases<'_> {
        Leases::new(self)
    }

    /// Deletes up to about `limit` records that have been over for longer than replicas' clocks may differ. A wall clock that was set
    /// ahead counts when it has stood for an hour.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn collect(&self, limit: usize) -> Result<Collected, StoreError> {
        collect::collect(self.kernel(), &self.0.believed, self.clock(), limit).await
    }

    /// The kernel below, for tools such as backup and copy.
    #[must_use]
    pub fn kernel(&self) -> &dyn Kernel {
        &*self.0.kernel
    }

    /// The same, to be shared with tasks.
    #[must_use]
    pub fn shared_kernel(&self) -> Arc<dyn Kernel> {
        Arc::clone(&self.0.kernel)
    }

    pub(crate) fn sealing(&self) -> &Sealing {
        &self.0.sealing
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn rng(&self) -> &Rng {
        &self.0.rng
    }

    pub(crate) fn static_clients(&self) -> &Fixed<Client> {
        &self.0.static_clients
    }

    pub(crate) fn static_passwords(&self) -> &Fixed<Password> {
        &self.0.static_passwords
    }

    pub(crate) fn static_connectors(&self) -> &Fixed<Connector> {
        &self.0.static_connectors
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) const fn of(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(crate) fn kernel_and_clock(&self) -> (Arc<dyn Kernel>, Clock) {
        (Arc::clone(&self.0.kernel), self.0.clock.clone())
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.0.usage
    }

    pub(crate) fn failure_table(&self) -> &FailureTable {
        &self.0.failures
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("seals_secrets", &self.seals_secrets()).finish_non_exhaustive()
    }
}
