//! Refresh token families: promises F1 to F9.

use std::time::Duration;

use portcullis_runtime::Timestamp;
use portcullis_storage::{
    CreateError, FamilyId, Identity, MAX_FAMILIES, NewFamily, OpenFamily, RefreshError, RefreshToken, Refreshed,
    RotationPolicy, StoreError, conformance::Held, kernel::Kind,
};

use super::{
    Checked,
    tally::{Op, Outcome},
    violated,
    world::{MAX_SKEW, Model, Scene, World},
};
use crate::kit::{DAY, identity, new_family, policy};

/// Whose families: a user at a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    user: usize,
    client: usize,
}

/// The one who has as many families as are allowed.
pub(super) const CROWD: Owner = Owner { user: 2, client: 0 };
/// Those who have one each.
pub(super) const SINGLES: [Owner; 2] = [Owner { user: 0, client: 0 }, Owner { user: 1, client: 1 }];

const CONNECTOR: &str = "local";

impl Owner {
    pub(super) const fn user_id(self) -> &'static str {
        ["ann", "bob", "crowd"][self.user]
    }

    pub(super) const fn client_id(self) -> &'static str {
        ["app", "cli"][self.client]
    }

    pub(super) fn new_family(self) -> NewFamily {
        let identity = Identity { user_id: self.user_id().to_owned(), ..identity() };
        NewFamily { identity, ..new_family(self.client_id()) }
    }
}

/// Whose families are ended.
#[derive(Clone, Copy, Debug)]
enum Scope {
    User(usize),
    Client(usize),
    Both(Owner),
}

impl Scope {
    fn covers(self, owner: Owner) -> bool {
        match self {
            Self::User(user) => owner.user == user,
            Self::Client(client) => owner.client == client,
            Self::Both(both) => owner == both,
        }
    }
}

#[derive(Default)]
pub(super) struct Families {
    pub(super) known: Vec<Family>,
    /// Creations under way, or of which nobody heard again.
    creating: Vec<Creation>,
}

/// What the model knows of a family.
pub(super) struct Family {
    id: FamilyId,
    owner: Owner,
    /// Every token that was given, oldest first.
    tokens: Vec<RefreshToken>,
    /// It was last used between these two times: a retry may have found what an unknown attempt had done before.
    used_after: Timestamp,
    last_used: Timestamp,
    /// A step failed without word: there may be a newer token than the model knows.
    doubt: bool,
    pub(super) ended: bool,
    /// Its user was signed out everywhere: a refresh that was under way may still go on, to no avail.
    signed_out: bool,
    /// A step failed without word that may have ended it.
    pub(super) may_have_ended: bool,
    /// What calls have read that wait between this record and its user's epoch: what happens meanwhile they do not see, but
    /// for the epoch.
    looks: Vec<(u64, Look)>,
}

/// What can be read of a family at a time.
#[derive(Clone, Copy)]
struct Look {
    tokens: usize,
    used_after: Timestamp,
    last_used: Timestamp,
    doubt: bool,
    ended: bool,
}

struct Creation {
    call: u64,
    owner: Owner,
    /// Its family was on the list when the creation was suspended.
    admitted: bool,
    /// Everything of its owner was ended while it was.
    doomed: Option<Timestamp>,
    /// Its user was signed out everywhere while it was: if it comes to be, it gives nothing.
    signed_out: bool,
}

fn idle_life() -> Duration {
    policy().idle_lifetime.unwrap_or_default()
}

impl Look {
    fn may_be_over(&self, now: Timestamp) -> bool {
        now >= self.used_after + idle_life()
    }
}

impl Family {
    fn look(&self) -> Look {
        let &Self { used_after, last_used, doubt, ended, .. } = self;
        Look { tokens: self.tokens.len(), used_after, last_used, doubt, ended }
    }

    fn may_be_over(&self, now: Timestamp) -> bool {
        self.look().may_be_over(now)
    }

    fn is_surely_live(&self, now: Timestamp) -> bool {
        // To another replica it may be over.
        !self.ended && !self.may_have_ended && !self.may_be_over(now + MAX_SKEW)
    }
}

impl Families {
    /// A family that is there from the beginning.
    pub(super) fn found(&mut self, id: &FamilyId, owner: Owner, token: &RefreshToken, at: Timestamp) {
        self.begin(id.clone(), owner, token.clone(), at);
    }

    fn begin(&mut self, id: FamilyId, owner: Owner, token: RefreshToken, at: Timestamp) {
        self.known.push(Family {
            id,
            owner,
            tokens: vec![token],
            used_after: at,
            last_used: at,
            doubt: false,
            ended: false,
            signed_out: false,
            may_have_ended: false,
            looks: Vec::new(),
        });
    }

    fn is_crowded(&self) -> bool {
        self.known.get(SINGLES.len()).is_some_and(|family| family.owner == CROWD)
    }
}

impl Model {
    /// A creation may have made room on its owner's list: those may have ended that were idle the longest.
    fn room_may_be_made(&mut self, owner: Owner, newest: Option<usize>, now: Timestamp) {
        let Families { known, creating } = &mut self.families;
        let unheard = creating.iter().filter(|creation| creation.owner == owner).count();
        let possible = known.iter().filter(|family| family.owner == owner && !family.ended).count() + unheard;
        let Some(most) = possible.checked_sub(MAX_FAMILIES).filter(|most| *most > 0) else { return };
        self.tally.outcome(Outcome::EndedForRoom);
        let others =
            || known.iter().enumerate().filter(|(number, other)| other.owner == owner && Some(*number) != newest);
        let live: Vec<Timestamp> =
            others().filter(|(_, other)| other.is_surely_live(now)).map(|(_, other)| other.last_used).collect();
        let may_end = |family: &Family| live.iter().filter(|other| **other < family.used_after).count() < most;
        let ending: Vec<usize> = others().filter(|(_, family)| may_end(family)).map(|(number, _)| number).collect();
        for number in ending {
            known[number].may_have_ended = true;
        }
    }

    fn creation_in_doubt(&mut self, owner: Owner, scene: &Scene) {
        let admitted = scene.held == Some(Held::Insert(Kind::Family));
        match self.families.creating.iter_mut().find(|creation| creation.call == scene.call) {
            Some(creation) => creation.admitted |= admitted,
            None => self.families.creating.push(Creation {
                call: scene.call,
                owner,
                admitted,
                doomed: None,
                signed_out: false,
            }),
        }
        self.room_may_be_made(owner, None, scene.now);
    }

    fn created(
        &mut self,
        (id, owner, code): (FamilyId, Owner, Option<usize>),
        scene: &Scene,
        answer: Result<RefreshToken, CreateError>,
    ) -> Checked {
        if let Err(CreateError::Store(_)) = answer {
            // The client never hears of that family.
            self.creation_in_doubt(owner, scene);
            self.tally.outcome(Outcome::Unknown);
            return Ok(());
        }
        if answer.is_ok() && scene.now >= scene.began + DAY {
            // Who creates it was suspended for longer than a tombstone lives, and its client has gone.
            self.creation_in_doubt(owner, scene);
            return Ok(());
        }
        let at = self.families.creating.iter().position(|creation| creation.call == scene.call);
        let creation = at.map(|at| self.families.creating.swap_remove(at));
        let code = code.map(|number| (number, &mut self.logins.codes[number]));
        match answer {
            Ok(token) => {
                // A paused process that wakes up after a tombstone's life may meet none.
                let stands = |at: Option<Timestamp>| at.is_some_and(|at| scene.now < at + DAY);
                let mut first_tombstone = None;
                if let Some((number, code)) = code {
                    violated(code.replayed && stands(code.tombstone_at), || {
                        format!("C2: the family of the replayed code {number} was created")
                    })?;
                    code.created = Some(self.families.known.len());
                    // A replay of which nobody heard may have met it.
                    let doubt = code.tombstone_at.is_some();
                    // The first tombstone stands, and it is that one which is collected.
                    first_tombstone = code.tombstone_at;
                    self.families.begin(id, owner, token, scene.began);
                    let family = self.families.known.len() - 1;
                    self.families.known[family].may_have_ended = doubt;
                } else {
                    self.families.begin(id, owner, token, scene.began);
                }
                let family = self.families.known.len() - 1;
                if let Some(creation) = creation {
                    let doomed = creation.doomed.map(|at| first_tombstone.map_or(at, |first| at.min(first)));
                    violated(stands(doomed), || {
                        format!("F9: family {family} was created, and everything of its owner had been ended")
                    })?;
                    // Others may have made room, or ended everything, before it was heard of.
                    self.families.known[family].may_have_ended = true;
                    self.families.known[family].ended = creation.signed_out;
                    self.families.known[family].signed_out = creation.signed_out;
                }
                self.tally.outcome(Outcome::Created);
                self.room_may_be_made(owner, Some(family), scene.now);
            }
            Err(_) => {
                self.tally.outcome(Outcome::CreationRefused);
                let ended = code.is_some_and(|(_, code)| code.tombstone_at.is_some()) || scene.suspended;
                violated(!ended, || format!("F3: the new family {id} has ended, and nobody did it"))?;
            }
        }
        Ok(())
    }

    fn family_opened(
        &mut self,
        (number, position): (usize, usize),
        scene: &Scene,
        answer: Result<OpenFamily, RefreshError>,
    ) -> Checked {
        let RotationPolicy { grace, .. } = policy();
        let now = scene.now;
        let model = &mut self.families.known[number];
        let waited = model.looks.iter().position(|(call, _)| *call == scene.call);
        let look = match waited {
            Some(place) => model.looks.swap_remove(place).1,
            None => model.look(),
        };
        let count = look.tokens;
        let (newest, before) = (position + 1 == count, position + 2 == count);
        let in_grace = now <= look.last_used + grace;
        let surely_in_grace = now <= look.used_after + grace;
        let over = look.may_be_over(now);
        match answer {
            Ok(open) => {
                violated(look.ended || model.signed_out, || format!("F3: family {number} has ended and opens"))?;
                violated(!newest && !before, || format!("F2: token {position} of {count} of family {number} opens"))?;
                violated(before && !in_grace, || {
                    format!("F2: the previous token of family {number} opens after its grace")
                })?;
                violated(now >= look.last_used + idle_life(), || format!("F6: family {number} opens after its end"))?;
                violated(*open.id() != model.id || open.family().client_id != model.owner.client_id(), || {
                    format!("F5: the token of family {number} opens another one")
                })?;
                // In doubt, the newest that the model knows may be the one before, which gives its successor unchanged.
                let surely_newest = newest && !look.doubt;
                self.handles[scene.replica].families.push((number, position, surely_newest, open));
            }
            Err(RefreshError::Reused) => {
                violated(newest && !look.doubt, || {
                    format!("F1: the newest token of family {number} is called reused")
                })?;
                violated(before && surely_in_grace && !look.doubt, || {
                    format!("F4: a retry for family {number} within the grace is called reuse")
                })?;
                model.ended = true;
                self.tally.outcome(Outcome::Reused);
            }
            Err(RefreshError::Revoked) => {
                violated(model.is_surely_live(now), || format!("F3: family {number} is revoked and nobody did it"))?;
                model.ended = true;
            }
            Err(RefreshError::Expired) => violated(!over, || format!("F6: family {number} expired early"))?,
            Err(RefreshError::Invalid) => {
                violated(model.is_surely_live(now), || format!("F7: family {number} is live and was collected"))?;
            }
            Err(RefreshError::Store(_)) => model.reuse_in_doubt(position),
            Err(error) => return Err(format!("F5: family {number} is refused: {error}")),
        }
        Ok(())
    }

    fn advanced(
        &mut self,
        (number, position, newest): (usize, usize, bool),
        scene: &Scene,
        answer: Result<RefreshToken, RefreshError>,
    ) -> Checked {
        let model = &mut self.families.known[number];
        match answer {
            Ok(token) => match model.tokens.get(position + 1) {
                Some(successor) => {
                    violated(*successor != token, || {
                        format!("F1: token {position} of family {number} has two successors")
                    })?;
                    self.tally.outcome(Outcome::GivenAgain);
                }
                None => {
                    violated(model.ended && !model.signed_out && newest, || {
                        format!("F3: family {number} has ended and rotates")
                    })?;
                    violated(model.tokens.contains(&token), || {
                        format!("F1: an old token of family {number} came back")
                    })?;
                    model.tokens.push(token);
                    if model.doubt {
                        model.use_in_doubt(scene);
                    } else {
                        (model.used_after, model.last_used) = (scene.began, scene.now);
                    }
                    model.doubt = false;
                    self.tally.outcome(Outcome::Refreshed);
                }
            },
            Err(RefreshError::Revoked) => {
                violated(model.is_surely_live(scene.now), || {
                    format!("F3: family {number} is revoked and nobody did it")
                })?;
            }
            Err(RefreshError::Superseded) => {
                let moved_on = position + 1 < model.tokens.len();
                violated(!moved_on && !model.doubt, || format!("F1: family {number} was rotated by nobody"))?;
            }
            Err(RefreshError::Store(_)) => {
                self.tally.outcome(Outcome::Unknown);
                model.use_in_doubt(scene);
            }
            Err(error) => return Err(format!("F5: family {number} does not go on: {error}")),
        }
        Ok(())
    }

    fn revocation_in_doubt(&mut self, scope: Scope) {
        for family in self.families.known.iter_mut().filter(|family| scope.covers(family.owner)) {
            family.may_have_ended = true;
        }
    }

    /// Everything that was there when the revocation began has ended.
    fn revoked(&mut self, scope: Scope, known: usize, scene: &Scene) {
        self.revocation_in_doubt(scope);
        let covered = self.families.known.iter_mut().take(known).filter(|family| scope.covers(family.owner));
        let by_epoch = matches!(scope, Scope::User(_));
        for family in covered {
            family.ended = true;
            family.signed_out |= by_epoch;
        }
        if scene.suspended {
            return;
        }
        for creation in self.families.creating.iter_mut().filter(|creation| scope.covers(creation.owner)) {
            match (creation.admitted, by_epoch) {
                (true, true) => creation.signed_out = true,
                (true, false) => creation.doomed = creation.doomed.or(Some(scene.began)),
                (false, _) => {}
            }
        }
    }

    fn listed(&self, user: usize, scene: &Scene, ids: &[(FamilyId, portcullis_storage::Family)]) -> Checked {
        for client in [0, 1] {
            let owner = Owner { user, client };
            let count = ids.iter().filter(|(_, family)| family.client_id == owner.client_id()).count();
            violated(count > MAX_FAMILIES, || format!("F8: {owner:?} has {count} families"))?;
        }
        if scene.suspended {
            return Ok(());
        }
        for (number, family) in self.families.known.iter().enumerate().filter(|(_, family)| family.owner.user == user) {
            let listed = ids.iter().any(|(id, _)| *id == family.id);
            violated(listed && family.ended, || format!("F3: family {number} has ended and is on the list"))?;
            violated(!listed && family.is_surely_live(scene.now), || {
                format!("F9: family {number} is live and on no list")
            })?;
        }
        Ok(())
    }
}

impl Family {
    /// A call that presents this token may have ended the family.
    fn reuse_in_doubt(&mut self, position: usize) {
        self.may_have_ended |= position + 1 < self.tokens.len() || self.doubt;
    }

    fn use_in_doubt(&mut self, scene: &Scene) {
        self.doubt = true;
        // Another replica's clock may be behind the one that wrote before.
        self.used_after = self.used_after.min(scene.began);
        self.last_used = self.last_used.max(scene.now);
    }
}

impl World {
    pub(super) fn some_owner(&mut self) -> Owner {
        Owner { user: self.dice.below(2), client: self.dice.below(2) }
    }

    fn some_family(&mut self) -> Option<usize> {
        self.some_family_with(1)
    }

    /// One that has given at least so many tokens. The crowd is many, and mostly left alone.
    fn some_family_with(&mut self, tokens: usize) -> Option<usize> {
        let alone = self.dice.below(5) > 0;
        let known = self.model.families.known.iter().enumerate();
        let good = known.filter(|(_, family)| family.tokens.len() >= tokens && !(alone && family.owner == CROWD));
        let good: Vec<usize> = good.map(|(number, _)| number).collect();
        (!good.is_empty()).then(|| good[self.dice.below(good.len())])
    }

    pub(super) fn create(&mut self) -> Checked {
        let codes = self.model.logins.codes.iter().enumerate();
        let waiting = codes.filter(|(_, code)| code.family.is_some() && !code.creating);
        let waiting: Vec<usize> = waiting.map(|(number, _)| number).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let number = waiting[self.dice.below(waiting.len())];
        let code = &mut self.model.logins.codes[number];
        code.creating = true;
        let (id, owner) = (code.family.clone().unwrap(), code.owner);
        self.create_family(Op::Create, (id, owner, Some(number)))
    }

    /// A family that comes from no code, for the one who has as many as are allowed.
    pub(super) fn create_one_too_many(&mut self) -> Checked {
        if !self.model.families.is_crowded() {
            return Ok(());
        }
        let id = self.store(0).families().new_id();
        self.create_family(Op::CreateOneTooMany, (id, CROWD, None))
    }

    fn create_family(&mut self, op: Op, what: (FamilyId, Owner, Option<usize>)) -> Checked {
        let replica = self.some_replica();
        let (id, owner, code) = (what.0.clone(), what.1, what.2);
        let known = self.model.families.known.len();
        self.ask(
            (op, replica, || format!("of {owner:?} by code {code:?}, which would be family {known}")),
            move |store| async move { store.families().create(&id, owner.new_family(), &policy()).await },
            move |model, scene| model.creation_in_doubt(owner, scene),
            move |model, scene, answer| model.created(what, scene, answer),
        )
    }

    pub(super) fn open_family(&mut self, op: Op) -> Checked {
        let least = if op == Op::Refresh { 1 } else { 2 };
        let Some(number) = self.some_family_with(least) else { return Ok(()) };
        let count = self.model.families.known[number].tokens.len();
        let position = match op {
            Op::Refresh => count - 1,
            Op::Retry => count - 2,
            _ => self.dice.below(count - 1),
        };
        let replica = self.some_replica();
        let family = &self.model.families.known[number];
        let (token, client) = (family.tokens[position].clone(), family.owner.client_id());
        self.ask(
            (op, replica, || format!("family {number}, token {position} of {count}")),
            move |store| async move { store.families().open(&token, client, &policy()).await },
            move |model, scene| {
                let family = &mut model.families.known[number];
                if scene.held == Some(Held::Get(Kind::Epoch)) {
                    family.looks.push((scene.call, family.look()));
                }
                family.reuse_in_doubt(position);
            },
            move |model, scene, answer| model.family_opened((number, position), scene, answer),
        )
    }

    /// Another client's token, or one that nobody gave.
    pub(super) fn foreign(&mut self) -> Checked {
        let Some(number) = self.some_family() else { return Ok(()) };
        let replica = self.some_replica();
        let family = &self.model.families.known[number];
        let mut token = family.tokens[family.tokens.len() - 1].clone();
        let (invented, revokes) = (self.dice.below(2) == 0, self.dice.below(2) == 0);
        let mut owner = family.owner;
        if invented {
            // A token of another family under this one's id.
            let other = self.dice.below(self.model.families.known.len());
            if other == number {
                return Ok(());
            }
            token.secret = self.model.families.known[other].tokens[0].secret.clone();
        } else {
            owner.client = 1 - owner.client;
        }
        let client = owner.client_id();
        self.ask(
            (Op::Foreign, replica, || format!("family {number}, invented: {invented}, revokes: {revokes}")),
            move |store| async move {
                if revokes {
                    return match store.families().revoke(&token, client).await {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(RefreshError::Invalid),
                        Err(error) => Err(error.into()),
                    };
                }
                store.families().open(&token, client, &policy()).await.map(drop)
            },
            |_, _| {},
            move |_, _, answer| {
                let harmless = matches!(
                    answer,
                    Err(RefreshError::Invalid
                        | RefreshError::OtherClient
                        | RefreshError::Revoked
                        | RefreshError::Store(_))
                );
                violated(!harmless, || format!("F5: family {number} answers a stranger: {answer:?}"))
            },
        )
    }

    pub(super) fn advance(&mut self) -> Checked {
        let Some(replica) = self.replica_with(|handles| !handles.families.is_empty()) else { return Ok(()) };
        let open = &mut self.model.handles[replica].families;
        let (number, position, newest, open) = open.swap_remove(self.dice.below(open.len()));
        self.ask(
            (Op::Advance, replica, || format!("family {number}, token {position}")),
            move |store| async move { store.families().advance(open, &policy(), Refreshed::default()).await },
            move |model, scene| model.families.known[number].use_in_doubt(scene),
            move |model, scene, answer| model.advanced((number, position, newest), scene, answer),
        )
    }

    pub(super) fn revoke_token(&mut self) -> Checked {
        let Some(number) = self.some_family() else { return Ok(()) };
        let replica = self.some_replica();
        let family = &self.model.families.known[number];
        let position = self.dice.below(family.tokens.len());
        let (token, client) = (family.tokens[position].clone(), family.owner.client_id());
        self.ask(
            (Op::RevokeToken, replica, || format!("family {number}, token {position}")),
            move |store| async move { store.families().revoke(&token, client).await },
            move |model, _| model.families.known[number].may_have_ended = true,
            move |model, scene, answer| {
                let family = &mut model.families.known[number];
                match answer {
                    Ok(true) => family.ended = true,
                    Ok(false) => violated(family.is_surely_live(scene.now), || {
                        format!("F5: a client cannot revoke its family {number}")
                    })?,
                    Err(_) => family.may_have_ended = true,
                }
                Ok(())
            },
        )
    }

    pub(super) fn revoke(&mut self, op: Op) -> Checked {
        let owner = match self.dice.below(12) {
            0 => CROWD,
            _ => self.some_owner(),
        };
        let scope = match op {
            Op::RevokeClient => Scope::Client(usize::from(self.dice.below(4) > 0)),
            _ if self.dice.below(2) == 0 => Scope::User(owner.user),
            _ => Scope::Both(owner),
        };
        let replica = self.some_replica();
        let known = self.model.families.known.len();
        self.ask(
            (op, replica, || format!("{scope:?}")),
            move |store| async move {
                let families = store.families();
                match scope {
                    Scope::User(user) => {
                        let user = Owner { user, client: 0 };
                        families.revoke_user(user.user_id(), CONNECTOR).await.map(|()| 0)
                    }
                    Scope::Client(client) => families.revoke_client(Owner { user: 0, client }.client_id()).await,
                    Scope::Both(owner) => {
                        families.revoke_user_client(owner.user_id(), CONNECTOR, owner.client_id()).await
                    }
                }
            },
            move |model, _| model.revocation_in_doubt(scope),
            move |model, scene, answer: Result<usize, StoreError>| {
                match answer {
                    Ok(_) => model.revoked(scope, known, scene),
                    Err(_) => model.revocation_in_doubt(scope),
                }
                Ok(())
            },
        )
    }

    pub(super) fn list_families(&mut self) -> Checked {
        let user = match self.dice.below(6) {
            0 => CROWD.user,
            _ => self.dice.below(2),
        };
        self.list_families_of(user, Op::ListFamilies)
    }

    fn list_families_of(&mut self, user: usize, op: Op) -> Checked {
        let replica = self.some_replica();
        self.ask(
            (op, replica, || format!("user {user}")),
            move |store| async move {
                store.families().of_user(Owner { user, client: 0 }.user_id(), CONNECTOR, &policy()).await
            },
            |_, _| {},
            move |model, scene, answer| answer.map_or(Ok(()), |ids| model.listed(user, scene, &ids)),
        )
    }

    /// With time for every grace to pass on every clock, the newest token of a family alone is good, and the older one ends it.
    pub(super) fn families_at_rest(&mut self) -> Checked {
        let users = if self.model.families.is_crowded() { 3 } else { 2 };
        for user in 0..users {
            self.list_families_of(user, Op::ListFamilies)?;
        }
        self.wait_out(policy().grace + MAX_SKEW + Duration::from_secs(1))?;
        // Of those who were there from the beginning, a few: the one that is idle the longest, and others.
        let crowd = if self.model.families.is_crowded() { MAX_FAMILIES } else { 0 };
        let crowd = SINGLES.len()..SINGLES.len() + crowd;
        for number in 0..self.model.families.known.len() {
            if crowd.contains(&number) && number % 8 != SINGLES.len() {
                continue;
            }
            let replica = self.some_replica();
            let family = &self.model.families.known[number];
            let count = family.tokens.len();
            let (newest, client) = (family.tokens[count - 1].clone(), family.owner.client_id());
            let old = count.checked_sub(2).map(|old| family.tokens[old].clone());
            let quiet = family.is_surely_live(self.now(replica)) && !family.doubt;
            let open = |token: RefreshToken, position, op| {
                (
                    (op, replica, move || format!("family {number}, token {position} of {count}, at rest")),
                    move |store: portcullis_storage::Store| async move {
                        store.families().open(&token, client, &policy()).await
                    },
                )
            };
            let (what, call) = open(newest, count - 1, Op::Refresh);
            self.ask(
                what,
                call,
                |_, _| {},
                move |model, scene, answer| {
                    violated(quiet && answer.is_err(), || {
                        format!(
                            "F1: the newest token of the live family {number} is refused: {:?}",
                            answer.as_ref().err()
                        )
                    })?;
                    model.family_opened((number, count - 1), scene, answer)
                },
            )?;
            if let Some(old) = old
                && quiet
            {
                let (what, call) = open(old, count - 2, Op::Reuse);
                self.ask(
                    what,
                    call,
                    |_, _| {},
                    move |model, scene, answer| {
                        let ends = answer.as_ref().is_err_and(|error| *error == RefreshError::Reused);
                        violated(!ends, || {
                            format!("F2: an old token of family {number} does not end it: {:?}", answer.as_ref().err())
                        })?;
                        model.family_opened((number, count - 2), scene, answer)
                    },
                )?;
            }
        }
        Ok(())
    }
}
