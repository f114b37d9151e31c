//! Refresh token families (design decision 3; RFC 9700 section 4.14.2).
//!
//! One family per grant. Its record decides every refresh: [`Families::open`] reads it, and its user's epoch (`epoch`);
//! [`Families::advance`] is the one write. A rotation replaces the hash of the current token by that of its successor and keeps
//! the one before:
//! - the current token rotates;
//! - the previous token, within a short grace, gives the current one again, because a reply can be lost;
//! - any other token that this family once issued is reuse: the family ends, for thief and victim alike;
//! - anything else is refused and changes nothing.
//!
//! Tokens form a chain (`token`), so parallel refreshes of one token all receive the same successor: there is never a
//! second live branch. An ended family leaves a tombstone, so that a creation that is late fails.

mod epoch;
mod list;
mod policy;
mod record;
mod token;

use portcullis_runtime::Timestamp;

pub(crate) use self::{epoch::inspect as inspect_epoch, list::inspect as inspect_list};
pub use self::{
    list::MAX_FAMILIES,
    policy::RotationPolicy,
    record::{EndReason, Family},
    token::{FamilyId, RefreshToken},
};
use self::{
    list::{Admission, Occasion, Owner},
    record::{EndedDoc, FamilyDoc, LiveDoc},
    token::{Chain, Link, LinkHash, Presented},
};
use crate::{
    document::{Inserted, Stored, Swapped, decode},
    error::StoreError,
    identity::Identity,
    inspect::{Mentions, same_expiry},
    kernel::{IndexKey, Kind, Record, Slot, Version},
    seal::{Place, SecretBytes},
    stamp,
    store::Store,
};

/// How often a transition is decided anew after losing a race.
const RACES: usize = 16;
/// The same for ending a family, which must not give up while its token is in heavy use.
const END_RACES: usize = 1024;

/// A grant that gets a refresh token.
#[derive(Clone, Debug)]
pub struct NewFamily {
    /// The client.
    pub client_id: String,
    /// The connector that vouched for the identity.
    pub connector_id: String,
    /// What the connector wants to see again at a refresh.
    pub connector_data: Option<SecretBytes>,
    /// Who signed in.
    pub identity: Identity,
    /// The scopes that were granted.
    pub scopes: Vec<String>,
    /// The authorization request's `nonce`; empty when it had none.
    pub nonce: String,
    /// When the person proved who they are.
    pub auth_time: Timestamp,
}

/// What a refresh learned from the connector.
#[derive(Clone, Debug, Default)]
pub struct Refreshed {
    /// The identity as it is now.
    pub identity: Option<Identity>,
    /// What the connector wants to see at the next refresh.
    pub connector_data: Option<SecretBytes>,
}

/// A family whose token was presented and is good. Nothing has changed yet.
#[derive(Debug)]
pub struct OpenFamily {
    id: FamilyId,
    version: Version,
    expires_at: Option<Timestamp>,
    doc: LiveDoc,
    presented: Presented,
    position: Position,
}

impl OpenFamily {
    /// The family's id; it stays the same through all rotations.
    #[must_use]
    pub const fn id(&self) -> &FamilyId {
        &self.id
    }

    /// What the family stands for.
    #[must_use]
    pub const fn family(&self) -> &Family {
        &self.doc.family
    }
}

/// Why a family cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The client: the grant has been revoked, or its family was created by another call.
    #[error("the grant has ended")]
    Ended,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a refresh token gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// The client: no such family, or not a token of it. Nothing was changed.
    #[error("the refresh token is not known")]
    Invalid,
    /// The client: the family has ended.
    #[error("the refresh token has been revoked")]
    Revoked,
    /// The client: a good token of another one. Nothing was changed.
    #[error("the refresh token belongs to another client")]
    OtherClient,
    /// The client: the family is over its absolute or idle life.
    #[error("the refresh token has expired")]
    Expired,
    /// The client, or a thief: an old token. The family has been ended.
    #[error("the refresh token was used before")]
    Reused,
    /// The client: other requests with this token rotated it while this one was under way, further than a retry can
    /// follow. Nothing was changed.
    #[error("the refresh token was rotated by another request")]
    Superseded,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The facade of refresh token families.
#[derive(Clone, Copy)]
pub struct Families<'a> {
    store: &'a Store,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Current,
    Previous,
}

impl<'a> Families<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// An id for a family that does not come from a code.
    #[must_use]
    pub fn new_id(&self) -> FamilyId {
        FamilyId::random(self.store.rng())
    }

    /// Creates a family under an id that a code fixed (or [`Families::new_id`] made), and returns its first token.
    ///
    /// # Errors
    /// [`CreateError::Ended`] when the id was revoked before, [`CreateError::Store`].
    pub async fn create(
        &self,
        id: &FamilyId,
        new: NewFamily,
        policy: &RotationPolicy,
    ) -> Result<RefreshToken, CreateError> {
        let now = stamp::truncate(self.store.now());
        let key = self.store.rng().bytes::<32>();
        let (chain, link) = (Chain::new(&key), Link::random(self.store.rng()));
        let data = new.connector_data.map(|data| self.store.seal(data_place(id), data.expose())).transpose()?;
        // Before anything of the family is written: whoever signs the user out later ends it too.
        let epoch = self.epoch(&new.identity.user_id, &new.connector_id).await?;
        let doc = LiveDoc {
            key: self.store.seal(key_place(id), &key)?,
            current: link.hash(),
            previous: None,
            connector_data: data,
            epoch,
            family: Family {
                client_id: new.client_id,
                connector_id: new.connector_id,
                identity: new.identity,
                scopes: new.scopes,
                nonce: new.nonce,
                auth_time: stamp::truncate(new.auth_time),
                created_at: now,
                last_used: now,
            },
        };
        let indexed = doc.indexed(policy);
        if self.admit(Owner::of(&doc.family), (id, epoch), indexed.expires_at, policy, Occasion::Creation).await?
            == Admission::Ending
        {
            return Err(CreateError::Ended);
        }
        let doc = FamilyDoc::Live(Box::new(doc));
        match self.store.insert(Kind::Family, id.as_str(), &doc, indexed).await? {
            Inserted::Done(_) => Ok(RefreshToken { family: id.clone(), secret: chain.secret(&link) }),
            Inserted::Exists => Err(CreateError::Ended),
        }
    }

    /// Looks at a refresh token that `client_id` presents. Changes nothing, except that reuse ends the family.
    ///
    /// # Errors
    /// [`RefreshError`], all but `Superseded`.
    pub async fn open(
        &self,
        token: &RefreshToken,
        client_id: &str,
        policy: &RotationPolicy,
    ) -> Result<OpenFamily, RefreshError> {
        let presented = Presented::parse(&token.secret).ok_or(RefreshError::Invalid)?;
        let hash = presented.link.hash();
        let Stored { version, value, expires_at } = self.stored(&token.family).await?.ok_or(RefreshError::Invalid)?;
        let FamilyDoc::Live(doc) = value else { return Err(RefreshError::Revoked) };
        let position = place_of(&doc, &hash);
        if position.is_none() && !self.chain(&token.family, &doc)?.issued(&presented) {
            return Err(RefreshError::Invalid);
        }
        if doc.family.client_id != client_id {
            return Err(RefreshError::OtherClient);
        }
        if self.is_signed_out(&doc).await? {
            // The epoch has decided that. The tombstone may come late.
            if let Err(error) = self.end(&token.family, EndReason::Revoked).await {
                tracing::warn!(%error, "a family of a user who was signed out is cleared away later");
            }
            return Err(RefreshError::Revoked);
        }
        let now = self.store.now();
        if doc.is_over(policy, now) {
            return Err(RefreshError::Expired);
        }
        let position = match position {
            Some(Position::Current) => Position::Current,
            Some(Position::Previous) if policy.accepts_previous(doc.family.last_used, now) => Position::Previous,
            Some(Position::Previous) | None => {
                self.end(&token.family, EndReason::TokenReused).await?;
                return Err(RefreshError::Reused);
            }
        };
        Ok(OpenFamily { id: token.family.clone(), version, expires_at, doc: *doc, presented, position })
    }

    /// What the connector wanted to see at a refresh.
    ///
    /// # Errors
    /// When it is sealed and cannot be opened.
    pub fn connector_data(&self, open: &OpenFamily) -> Result<Option<SecretBytes>, StoreError> {
        open.doc.connector_data.as_ref().map(|blob| self.store.unseal(data_place(&open.id), blob)).transpose()
    }

    /// Rotates the token that was opened, records its use and what was refreshed, and returns the token that the client
    /// holds from now on. Within the reuse interval, and for a token in its grace, nothing is written.
    ///
    /// # Errors
    /// [`RefreshError::Revoked`] when the family ended in the meantime, [`RefreshError::Superseded`],
    /// [`RefreshError::Store`].
    pub async fn advance(
        &self,
        open: OpenFamily,
        policy: &RotationPolicy,
        refreshed: Refreshed,
    ) -> Result<RefreshToken, RefreshError> {
        let OpenFamily { id, mut version, mut expires_at, mut doc, presented, position } = open;
        let chain = self.chain(&id, &doc)?;
        let link = presented.link;
        let give = |link: &Link| Ok(RefreshToken { family: id.clone(), secret: chain.secret(link) });
        let next = chain.next(&link);
        if position == Position::Previous {
            return give(&next);
        }
        let now = self.store.now();
        if policy.gives_back(doc.family.last_used, now) {
            return give(&link);
        }
        let hash = link.hash();
        let data = refreshed.connector_data.map(|data| self.store.seal(data_place(&id), data.expose())).transpose()?;
        for _ in 0..RACES {
            if policy.rotate {
                doc.previous = Some(std::mem::replace(&mut doc.current, next.hash()));
            }
            doc.family.last_used = stamp::truncate(now);
            if let Some(identity) = &refreshed.identity {
                doc.family.identity = identity.clone();
            }
            doc.key = self.store.reseal(key_place(&id), doc.key)?;
            doc.connector_data = match (&data, doc.connector_data) {
                (Some(new), _) => Some(new.clone()),
                (None, Some(old)) => Some(self.store.reseal(data_place(&id), old)?),
                (None, None) => None,
            };
            let indexed = doc.indexed(policy);
            let prolongs = expires_at.is_some_and(|old| indexed.expires_at.is_none_or(|new| new > old));
            if prolongs
                && self
                    .admit(Owner::of(&doc.family), (&id, doc.epoch), indexed.expires_at, policy, Occasion::Use)
                    .await?
                    == Admission::Ending
            {
                return Err(RefreshError::Revoked);
            }
            let live = FamilyDoc::Live(Box::new(doc));
            match self.store.swap(Kind::Family, id.as_str(), version, &live, indexed).await? {
                Swapped::Done(_) if policy.rotate => return give(&next),
                Swapped::Done(_) => return give(&link),
                Swapped::Lost => {}
            }
            let stored = self.stored(&id).await?.ok_or(RefreshError::Revoked)?;
            let FamilyDoc::Live(changed) = stored.value else { return Err(RefreshError::Revoked) };
            match place_of(&changed, &hash) {
                Some(Position::Previous) if policy.accepts_previous(changed.family.last_used, now) => {
                    return give(&next);
                }
                Some(Position::Current) if !policy.rotate => return give(&link),
                Some(Position::Current) => {
                    doc = *changed;
                    version = stored.version;
                    expires_at = stored.expires_at;
                }
                Some(Position::Previous) | None => return Err(RefreshError::Superseded),
            }
        }
        Err(StoreError::Contended { kind: Kind::Family }.into())
    }

    /// Ends the family of a token that `client_id` presents (RFC 7009). Any token that the family ever issued will do;
    /// an unknown or foreign one changes nothing. True when there was something to end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke(&self, token: &RefreshToken, client_id: &str) -> Result<bool, StoreError> {
        let Some(presented) = Presented::parse(&token.secret) else { return Ok(false) };
        let Some(Stored { value: FamilyDoc::Live(doc), .. }) = self.stored(&token.family).await? else {
            return Ok(false);
        };
        if doc.family.client_id != client_id || !self.chain(&token.family, &doc)?.issued(&presented) {
            return Ok(false);
        }
        self.end(&token.family, EndReason::Revoked).await?;
        Ok(true)
    }

    /// Ends every family of a user at a client. Compat: what Dex's `RevokeRefresh` ends.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_user_client(
        &self,
        user_id: &str,
        connector_id: &str,
        client_id: &str,
    ) -> Result<usize, StoreError> {
        self.end_list(Owner { user_id, connector_id, client_id }, EndReason::Revoked).await
    }

    /// Ends every family of a user, at all clients, with one write. What follows from it (tombstones, empty lists) is done
    /// as far as the store lets it, and does not change that.
    ///
    /// # Errors
    /// [`StoreError`] when that write may not have happened.
    pub async fn revoke_user(&self, user_id: &str, connector_id: &str) -> Result<(), StoreError> {
        self.next_epoch(user_id, connector_id).await?;
        let key = IndexKey::of(&[user_id, connector_id]);
        if let Err(error) = self.end_lists(Slot::First, key, EndReason::Revoked).await {
            tracing::warn!(%error, "a user is signed out; the records of what has ended are cleared away later");
        }
        Ok(())
    }

    /// Ends every family at a client, of all users.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_client(&self, client_id: &str) -> Result<usize, StoreError> {
        self.end_lists(Slot::Second, IndexKey::of(&[client_id]), EndReason::Revoked).await
    }

    /// The live families of a user, at all clients.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of_user(
        &self,
        user_id: &str,
        connector_id: &str,
        policy: &RotationPolicy,
    ) -> Result<Vec<(FamilyId, Family)>, StoreError> {
        let now = self.store.now();
        let epoch = self.epoch(user_id, connector_id).await?;
        let mut live = Vec::new();
        for id in self.ids_of_user(user_id, connector_id).await? {
            if let Some(Stored { value: FamilyDoc::Live(doc), .. }) = self.stored(&id).await?
                && !doc.is_over(policy, now)
                && doc.epoch >= epoch
            {
                live.push((id, doc.family));
            }
        }
        Ok(live)
    }

    /// Ends a family, or makes sure that it never begins. Only for ids that this store made: a tombstone is written
    /// also when there is no family.
    pub(crate) async fn end(&self, id: &FamilyId, reason: EndReason) -> Result<(), StoreError> {
        let ended = EndedDoc { reason, at: stamp::truncate(self.store.now()) };
        let tombstone = FamilyDoc::Ended(ended);
        for _ in 0..END_RACES {
            let done = match self.stored(id).await? {
                None => {
                    let inserted = self.store.insert(Kind::Family, id.as_str(), &tombstone, ended.indexed()).await?;
                    matches!(inserted, Inserted::Done(_))
                }
                Some(Stored { value: FamilyDoc::Ended(_), .. }) => true,
                Some(Stored { version, value: FamilyDoc::Live(_), .. }) => {
                    let swapped =
                        self.store.swap(Kind::Family, id.as_str(), version, &tombstone, ended.indexed()).await?;
                    matches!(swapped, Swapped::Done(_))
                }
            };
            if done {
                return Ok(());
            }
        }
        Err(StoreError::Contended { kind: Kind::Family })
    }

    /// Whether the family's user was signed out everywhere after it was created.
    async fn is_signed_out(&self, doc: &LiveDoc) -> Result<bool, StoreError> {
        Ok(doc.epoch < self.epoch(&doc.family.identity.user_id, &doc.family.connector_id).await?)
    }

    async fn stored(&self, id: &FamilyId) -> Result<Option<Stored<FamilyDoc>>, StoreError> {
        self.store.read(Kind::Family, id.as_str()).await
    }

    fn chain(&self, id: &FamilyId, doc: &LiveDoc) -> Result<Chain, StoreError> {
        Ok(Chain::new(self.store.unseal(key_place(id), &doc.key)?.expose()))
    }
}

/// For [`Store::check`].
pub(crate) fn inspect(store: &Store, record: &Record) -> Result<Mentions, StoreError> {
    let place = |field| Place { kind: Kind::Family, id: &record.id, field };
    match decode::<FamilyDoc>(Kind::Family, record)?.value {
        FamilyDoc::Live(live) => {
            store.unseal(place("key"), &live.key)?;
            if let Some(blob) = &live.connector_data {
                store.unseal(place("connector_data"), blob)?;
            }
            Ok(Mentions { lives: Some(record.id.clone()), ..Mentions::default() })
        }
        FamilyDoc::Ended(ended) => {
            same_expiry(Kind::Family, record, ended.indexed())?;
            Ok(Mentions::default())
        }
    }
}

fn place_of(doc: &LiveDoc, hash: &LinkHash) -> Option<Position> {
    if doc.current == *hash {
        return Some(Position::Current);
    }
    doc.previous.as_ref().is_some_and(|previous| previous == hash).then_some(Position::Previous)
}

fn key_place(id: &FamilyId) -> Place<'_> {
    Place { kind: Kind::Family, id: id.as_str(), field: "key" }
}

fn data_place(id: &FamilyId) -> Place<'_> {
    Place { kind: Kind::Family, id: id.as_str(), field: "connector_data" }
}
