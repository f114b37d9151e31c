//! The connector `local`: a name and a password become an identity.
//!
//! Order: the address's attempts → the account's delay → the user → the hash, on the pool. A name that does not exist is
//! looked up by the same reads, costs a hash of the same cost, and is counted and delayed as one that does, and a failure
//! waits for no write, so that nobody learns which names exist (by answer or by time).

use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::Secret;
use portcullis_storage::{Identity, Password, Store, StoreError, lower_case_email};

use super::hash::BcryptHash;
use super::pool::{HashPool, PoolFull};
use super::throttle::{Throttle, Who};
use crate::config::rules::{self, PasswordHashError};
use crate::http::Source;

/// Longest name that is looked up, in bytes.
const MAX_NAME: usize = 320;
/// Cost of the hash for names that do not exist, when no user says better.
const DEFAULT_COST: u32 = 10;

/// A name, a password, and where they come from.
pub(crate) struct Attempt<'a> {
    /// The name as it was typed.
    pub(crate) login: &'a str,
    /// The password.
    pub(crate) password: Secret,
    /// Where the attempt comes from.
    pub(crate) from: Source,
    /// The device, when the browser has signed in to this account before.
    pub(crate) device: Option<&'a str>,
}

/// The name under which an account is known, whatever letters were typed.
pub(crate) fn account_name(login: &str) -> String {
    lower_case_email(login.get(..MAX_NAME).unwrap_or(login))
}

/// What came out of an attempt.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is this person.
    Identity(Box<Identity>),
    /// Name or password is wrong.
    Wrong,
    /// Too many attempts: wait.
    Wait(Duration),
    /// Too many password checks are waiting.
    Busy,
}

/// The attempt could not be judged: ours to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The stored hash cannot be used.
    #[error("the stored password hash cannot be used: {0}")]
    Hash(#[from] PasswordHashError),
}

/// Checks local passwords.
pub(crate) struct LocalPasswords {
    store: Store,
    pool: HashPool,
    throttle: Arc<Throttle>,
    dummy: BcryptHash,
}

impl LocalPasswords {
    /// `costs` are the costs of known hashes: the most frequent one is that of names that do not exist.
    pub(crate) fn new(store: Store, pool: HashPool, throttle: Throttle, costs: &[u32]) -> Self {
        Self { store, pool, throttle: Arc::new(throttle), dummy: BcryptHash::dummy(usual_cost(costs)) }
    }

    /// The same workers, and what is known of attempts so far, for other users.
    pub(crate) fn with_users(&self, store: Store, costs: &[u32]) -> Self {
        let (pool, throttle) = (self.pool.clone(), self.throttle.clone());
        Self { store, pool, throttle, dummy: BcryptHash::dummy(usual_cost(costs)) }
    }

    /// Judges an attempt.
    pub(crate) async fn check(&self, attempt: Attempt<'_>) -> Result<Outcome, PasswordError> {
        let Attempt { login, password, from, device } = attempt;
        let account = account_name(login);
        let who = Who { account: &account, from, device };
        let admitted = match self.throttle.admit(&who) {
            Ok(admitted) => admitted,
            Err(refused) => return Ok(Outcome::Wait(refused.wait)),
        };
        if let Err(refused) = self.throttle.delayed(&who).await? {
            return Ok(Outcome::Wait(refused.wait));
        }
        let user = if login.is_empty() || login.len() > MAX_NAME {
            None
        } else {
            self.store.passwords().get_evenly(&account).await?
        };
        let hash = match &user {
            Some(user) => rules::password_hash(user.hash.expose())?,
            None => self.dummy.clone(),
        };
        let worker = match self.pool.worker(device.is_some()).await {
            Ok(worker) => worker,
            Err(PoolFull) => return Ok(Outcome::Busy),
        };
        // Again: while this one waited, others may have failed. So a burst gets no further than there are workers.
        if let Err(refused) = self.throttle.delayed(&who).await? {
            return Ok(Outcome::Wait(refused.wait));
        }
        let right = worker.verify(hash, password).await;
        match user {
            Some(user) if right => {
                if let Err(error) = self.throttle.succeeded(&who, admitted).await {
                    // What is not forgotten ends with the window; whoever has the password is not sent away for it.
                    tracing::warn!(%error, "failure counts could not be removed after a sign-in");
                }
                Ok(Outcome::Identity(Box::new(identity(&user))))
            }
            user => {
                self.throttle.failed(&who, user.is_some());
                Ok(Outcome::Wrong)
            }
        }
    }

    /// The identity as it is now, for a refresh: `None` when the user is gone, or another one has the address.
    pub(crate) async fn refresh(&self, old: &Identity) -> Result<Option<Identity>, StoreError> {
        let user: Option<Arc<Password>> = self.store.passwords().get(&old.email).await?;
        Ok(user.filter(|u| u.user_id == old.user_id).map(|u| identity(&u)))
    }
}

/// The most frequent cost, the highest of those that are as frequent.
fn usual_cost(costs: &[u32]) -> u32 {
    let count = |cost: u32| costs.iter().filter(|c| **c == cost).count();
    costs.iter().copied().max_by_key(|c| (count(*c), *c)).unwrap_or(DEFAULT_COST)
}

fn identity(user: &Password) -> Identity {
    Identity {
        user_id: user.user_id.clone(),
        username: if user.name.is_empty() { user.username.clone() } else { user.name.clone() },
        preferred_username: user.preferred_username.clone(),
        email: user.email.clone(),
        email_verified: user.email_verified.unwrap_or(true),
        groups: user.groups.clone(),
    }
}
