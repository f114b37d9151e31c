//! Random histories over two replicas on one store, with lost and late requests, interleaved steps and a moving clock.
//!
//! A model follows what was acknowledged. After every step the invariants of docs/store-invariants.md are asked: a flow
//! is begun once (L1), a code is redeemed once (C1), a replay ends what the code gave (C2), a family has one live branch
//! (F1), reuse ends it (F2), an ended family stays ended (F3), and a live one is never collected (F7). Where a request
//! was lost for good, the model knows that it does not know.
//!
//! The simulation is worth something only if it notices: each mutant breaks one thing below the facades and must be
//! caught.

use std::{sync::Arc, time::Duration};

use portcullis_runtime::{Clock, MockClock, Rng, Secret, Timestamp};
use portcullis_storage::{
    CodeError, CreateError, FamilyId, Kernel, LoginError, MemoryKernel, OpenCode, OpenFamily, RefreshError,
    RefreshToken, Refreshed, RotationPolicy, Store,
    conformance::{Fault, FaultyKernel, Noise},
    kernel::{IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write},
};

use crate::kit::{DAY, HOUR, MINUTE, START, code_request, new_family, new_login, policy};

const HISTORIES: u64 = 1_000;
const STEPS: usize = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    UpdatesIgnoreTheVersion,
    InsertsOverwrite,
    TombstonesAreDropped,
    RedemptionsAreNotStored,
    NoncesAreForgotten,
    CollectsTwoMonthsEarly,
    RotationsAreNotStored,
}

struct Mutant {
    inner: MemoryKernel,
    bug: Bug,
}

impl Mutant {
    fn drops(&self, kind: Kind, write: &Write) -> bool {
        let says = |what: &str| String::from_utf8_lossy(&write.data).contains(what);
        match self.bug {
            Bug::TombstonesAreDropped => kind == Kind::Family && says("\"ended\""),
            Bug::RedemptionsAreNotStored => kind == Kind::Code && says("\"redeemed\""),
            Bug::RotationsAreNotStored => kind == Kind::Family && says("\"previous\""),
            _ => false,
        }
    }
}

impl Kernel for Mutant {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        Box::pin(async move {
            let mut record = self.inner.get(kind, id).await?;
            if self.bug == Bug::NoncesAreForgotten
                && let Some(record) = &mut record
            {
                let text = String::from_utf8_lossy(&record.data).replacen("{\"n\":", "{\"n\":0,\"m\":", 1);
                record.data = text.into_bytes();
            }
            Ok(record)
        })
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            if self.drops(kind, &write) {
                return Ok(Version::new(1));
            }
            match self.inner.get(kind, id).await? {
                Some(old) if self.bug == Bug::InsertsOverwrite => self.inner.update(kind, id, old.version, write).await,
                _ => self.inner.insert(kind, id, write).await,
            }
        })
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            if self.drops(kind, &write) {
                return Ok(version);
            }
            match self.inner.get(kind, id).await? {
                Some(old) if self.bug == Bug::UpdatesIgnoreTheVersion => {
                    self.inner.update(kind, id, old.version, write).await
                }
                _ => self.inner.update(kind, id, version, write).await,
            }
        })
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        self.inner.delete(kind, id, version)
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        self.inner.list(kind, page)
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        self.inner.by_index(kind, slot, key, page)
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        let early = if self.bug == Bug::CollectsTwoMonthsEarly { 60 * DAY } else { Duration::ZERO };
        self.inner.expire(now + early, limit)
    }
}

/// What the model knows of a code.
struct CodeModel {
    code: Secret,
    expires_at: Timestamp,
    family: Option<FamilyId>,
    redeemed: usize,
    replayed: bool,
    /// A redemption failed without word: it may have happened.
    doubt: bool,
}

/// What the model knows of a family.
struct FamilyModel {
    id: FamilyId,
    /// Every token that was given, oldest first.
    tokens: Vec<RefreshToken>,
    /// It was last used between these two times: a retry may have found what an unknown attempt had done before.
    used_after: Timestamp,
    last_used: Timestamp,
    /// A step failed without word: there may be a newer token than the model knows.
    doubt: bool,
    ended: bool,
    /// A step failed without word that may have ended it.
    may_have_ended: bool,
}

struct World {
    replicas: [Store; 2],
    faults: [Arc<FaultyKernel>; 2],
    hand: MockClock,
    dice: Rng,
    policy: RotationPolicy,
    flows: Vec<(String, Timestamp)>,
    codes: Vec<CodeModel>,
    open_codes: Vec<(usize, OpenCode)>,
    families: Vec<FamilyModel>,
    open_families: Vec<(usize, usize, bool, OpenFamily)>,
    tally: Tally,
}

/// How often things happened: a simulation in which nothing happens finds nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    begun: usize,
    redeemed: usize,
    replayed: usize,
    created: usize,
    refreshed: usize,
    given_again: usize,
    reused: usize,
    unknown: usize,
    collected: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.redeemed += other.redeemed;
        self.replayed += other.replayed;
        self.created += other.created;
        self.refreshed += other.refreshed;
        self.given_again += other.given_again;
        self.reused += other.reused;
        self.unknown += other.unknown;
        self.collected += other.collected;
    }

    fn least(&self) -> usize {
        let Self { begun, redeemed, replayed, created, refreshed, given_again, reused, unknown, collected } = *self;
        [begun, redeemed, replayed, created, refreshed, given_again, reused, unknown, collected]
            .into_iter()
            .min()
            .unwrap()
    }
}

type Checked = Result<(), String>;

fn violated(condition: bool, what: impl FnOnce() -> String) -> Checked {
    if condition { Err(what()) } else { Ok(()) }
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let (clock, hand) = Clock::mock(START);
        let kernel: Arc<dyn Kernel> = Arc::new(Mutant { inner: MemoryKernel::new(), bug });
        let faults = [1, 2].map(|number| Arc::new(FaultyKernel::new(Arc::clone(&kernel), seed * 2 + number)));
        let replicas = [0, 1].map(|number| {
            let kernel: Arc<dyn Kernel> = Arc::clone(&faults[number]) as _;
            Store::new(kernel, clock.clone(), Rng::seeded(seed * 31 + number as u64))
        });
        // Every fourth history has a quiet network.
        if !seed.is_multiple_of(4) {
            for faults in &faults {
                faults.set_noise(Noise { lost_requests: 60, lost_replies: 60, late_requests: 60 });
            }
        }
        Self {
            replicas,
            faults,
            hand,
            dice: Rng::seeded(seed),
            policy: policy(),
            flows: Vec::new(),
            codes: Vec::new(),
            open_codes: Vec::new(),
            families: Vec::new(),
            open_families: Vec::new(),
            tally: Tally::default(),
        }
    }

    fn pick(&self, bound: usize) -> usize {
        self.dice.below(u32::try_from(bound).unwrap()) as usize
    }

    fn store(&self) -> Store {
        self.replicas[self.pick(2)].clone()
    }

    fn now(&self) -> Timestamp {
        self.hand.now()
    }

    async fn step(&mut self) -> Checked {
        match self.pick(100) {
            0..14 => self.begin().await,
            14..18 => self.begin_again().await,
            18..30 => self.open_code().await,
            30..39 => self.redeem().await,
            39..48 => self.create().await,
            48..70 => self.open_family().await,
            70..86 => self.advance().await,
            86..90 => {
                // A write, with all its repetitions, whose outcome nobody learns.
                let fault = [Fault::LostRequest, Fault::LostReply, Fault::LateRequest][self.pick(3)];
                self.faults[self.pick(2)].script_writes([fault; 4]);
                Ok(())
            }
            90..97 => {
                let steps = [
                    Duration::from_secs(1),
                    Duration::from_secs(20),
                    Duration::from_secs(40),
                    MINUTE,
                    HOUR,
                    DAY,
                    20 * DAY,
                ];
                self.hand.advance(steps[self.pick(steps.len())]);
                Ok(())
            }
            _ => {
                if let Ok(collected) = self.store().collect(1_000).await {
                    self.tally.collected += collected.records;
                }
                Ok(())
            }
        }
    }

    async fn begin(&mut self) -> Checked {
        let store = self.store();
        let flow = format!("flow {}", self.flows.len());
        let end = self.now() + 15 * MINUTE;
        self.flows.push((flow.clone(), end));
        match store.logins().begin(&flow, new_login(true), end).await {
            Ok(_) => self.tally.begun += 1,
            Err(LoginError::Store(_)) => return Ok(()),
            Err(error) => return Err(format!("L1: a fresh flow is refused: {error}")),
        }
        let code = store.codes().new_code();
        for _ in 0..2 {
            match store.logins().issue_code(&flow, &code, code_request(), 10 * MINUTE).await {
                Ok(issued) => {
                    let expires_at = issued.expires_at;
                    let model =
                        CodeModel { code, expires_at, family: None, redeemed: 0, replayed: false, doubt: false };
                    self.codes.push(model);
                    return Ok(());
                }
                Err(LoginError::Store(_)) => {}
                Err(error) => return Err(format!("L3: no code for a fresh flow: {error}")),
            }
        }
        Ok(())
    }

    async fn begin_again(&self) -> Checked {
        if self.flows.is_empty() {
            return Ok(());
        }
        let (flow, end) = self.flows[self.pick(self.flows.len())].clone();
        let begun = self.store().logins().get(&flow).await.is_ok();
        let again = self.store().logins().begin(&flow, new_login(true), end).await;
        violated(begun && again.is_ok(), || format!("L1: {flow} was begun twice"))?;
        violated(self.now() >= end && again.is_ok(), || format!("L2: {flow} was begun after its end"))
    }

    async fn open_code(&mut self) -> Checked {
        if self.codes.is_empty() {
            return Ok(());
        }
        // Mostly the newest, which is good; the others are replays or too old.
        let newest = self.codes.len() - 1;
        let number = if self.pick(3) > 0 { newest } else { self.pick(self.codes.len()) };
        let now = self.now();
        let opened = self.store().codes().open(self.codes[number].code.expose(), "app").await;
        let model = &mut self.codes[number];
        match opened {
            Ok(open) => {
                violated(model.redeemed > 0, || format!("C1: code {number} was redeemed and opens"))?;
                self.open_codes.push((number, open));
            }
            Err(CodeError::Replayed) => {
                violated(model.redeemed == 0 && !model.doubt, || {
                    format!("C4: code {number} is called replayed and was never redeemed")
                })?;
                self.replayed(number);
            }
            Err(CodeError::Store(_)) => self.replay_in_doubt(number),
            Err(CodeError::Expired | CodeError::Invalid) => {
                violated(now < model.expires_at, || format!("C5: code {number} ended early"))?;
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    async fn redeem(&mut self) -> Checked {
        if self.open_codes.is_empty() {
            return Ok(());
        }
        let (number, open) = self.open_codes.remove(self.pick(self.open_codes.len()));
        let redeemed = self.store().codes().redeem(open).await;
        let model = &mut self.codes[number];
        match redeemed {
            Ok(redeemed) => {
                self.tally.redeemed += 1;
                model.redeemed += 1;
                violated(model.redeemed > 1, || format!("C1: code {number} was redeemed twice"))?;
                model.family = Some(redeemed.family);
            }
            Err(CodeError::Replayed) => {
                violated(model.redeemed == 0 && !model.doubt, || {
                    format!("C4: the only redemption of code {number} is called a replay")
                })?;
                self.replayed(number);
            }
            Err(CodeError::Store(_)) => {
                model.doubt = true;
                self.tally.unknown += 1;
                self.replay_in_doubt(number);
            }
            Err(CodeError::Expired) => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// A replay was answered as one: what the code gave has ended.
    fn replayed(&mut self, number: usize) {
        self.tally.replayed += 1;
        self.codes[number].replayed = true;
        let family = self.codes[number].family.clone();
        for model in self.families.iter_mut().filter(|model| Some(&model.id) == family.as_ref()) {
            model.ended = true;
        }
    }

    fn replay_in_doubt(&mut self, number: usize) {
        let family = self.codes[number].family.clone();
        for model in self.families.iter_mut().filter(|model| Some(&model.id) == family.as_ref()) {
            model.may_have_ended = true;
        }
    }

    async fn create(&mut self) -> Checked {
        let known = |id: &FamilyId| self.families.iter().any(|model| model.id == *id);
        let waiting: Vec<usize> = (0..self.codes.len())
            .filter(|number| self.codes[*number].family.as_ref().is_some_and(|id| !known(id)))
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let number = waiting[self.pick(waiting.len())];
        let id = self.codes[number].family.clone().unwrap();
        let now = self.now();
        let created = self.store().families().create(&id, new_family("app"), &self.policy).await;
        let code = &mut self.codes[number];
        // A paused process that wakes up days after its client has gone may meet a tombstone that was collected.
        let tombstone_stands = now < code.expires_at + 20 * HOUR;
        match created {
            Ok(token) => {
                violated(code.replayed && tombstone_stands, || {
                    format!("C2: the family of replayed code {number} was created")
                })?;
                self.tally.created += 1;
                self.families.push(FamilyModel {
                    id,
                    tokens: vec![token],
                    used_after: now,
                    last_used: now,
                    doubt: false,
                    ended: false,
                    may_have_ended: false,
                });
            }
            // If the store failed, the client never hears of that family.
            Err(CreateError::Ended | CreateError::Store(_)) => code.family = None,
        }
        Ok(())
    }

    async fn open_family(&mut self) -> Checked {
        if self.families.is_empty() {
            return Ok(());
        }
        let number = self.pick(self.families.len());
        let count = self.families[number].tokens.len();
        let position = match self.pick(10) {
            0..7 => count - 1,
            7..9 => count.saturating_sub(2),
            _ => self.pick(count),
        };
        let token = self.families[number].tokens[position].clone();
        let now = self.now();
        let opened = self.store().families().open(&token, "app", &self.policy).await;
        let model = &mut self.families[number];
        let (newest, before) = (position + 1 == count, position + 2 == count);
        let in_grace = now <= model.last_used + self.policy.grace;
        let surely_in_grace = now <= model.used_after + self.policy.grace;
        let idle = now >= model.used_after + self.policy.idle_lifetime.unwrap();
        match opened {
            Ok(open) => {
                violated(model.ended, || format!("F3: family {number} has ended and opens"))?;
                violated(!newest && !before, || format!("F2: token {position} of {count} of family {number} opens"))?;
                violated(before && !in_grace, || {
                    format!("F2: the previous token of family {number} opens after its grace")
                })?;
                // In doubt, the newest that the model knows may be the one before, which gives its successor unchanged.
                self.open_families.push((number, position, newest && !model.doubt, open));
            }
            Err(RefreshError::Reused) => {
                violated(newest && !model.doubt, || {
                    format!("F1: the newest token of family {number} is called reused")
                })?;
                violated(before && surely_in_grace && !model.doubt, || {
                    format!("F4: a retry for family {number} within the grace is called reuse")
                })?;
                model.ended = true;
                self.tally.reused += 1;
            }
            Err(RefreshError::Revoked) => {
                violated(!model.ended && !model.may_have_ended, || {
                    format!("F3: family {number} is revoked and nobody did it")
                })?;
                model.ended = true;
            }
            Err(RefreshError::Expired) => violated(!idle, || format!("F6: family {number} expired early"))?,
            Err(RefreshError::Invalid) => {
                violated(!model.ended && !model.may_have_ended && !idle, || {
                    format!("F7: family {number} is live and was collected")
                })?;
            }
            Err(RefreshError::Store(_)) => model.may_have_ended |= !newest || model.doubt,
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    async fn advance(&mut self) -> Checked {
        if self.open_families.is_empty() {
            return Ok(());
        }
        let (number, position, newest, open) = self.open_families.remove(self.pick(self.open_families.len()));
        let now = self.now();
        let advanced = self.store().families().advance(open, &self.policy, Refreshed::default()).await;
        let model = &mut self.families[number];
        match advanced {
            Ok(token) => match model.tokens.get(position + 1) {
                Some(successor) => {
                    violated(*successor != token, || {
                        format!("F1: token {position} of family {number} has two successors")
                    })?;
                    self.tally.given_again += 1;
                }
                None => {
                    violated(model.ended && newest, || format!("F3: family {number} has ended and rotates"))?;
                    violated(model.tokens.contains(&token), || {
                        format!("F1: an old token of family {number} came back")
                    })?;
                    model.tokens.push(token);
                    model.last_used = now;
                    if !model.doubt {
                        model.used_after = now;
                    }
                    model.doubt = false;
                    self.tally.refreshed += 1;
                }
            },
            Err(RefreshError::Revoked) => {
                let over = now >= model.used_after + self.policy.idle_lifetime.unwrap();
                violated(!model.ended && !model.may_have_ended && !over, || {
                    format!("F3: family {number} is revoked and nobody did it")
                })?;
            }
            Err(RefreshError::Superseded) => {
                let moved_on = position + 1 < model.tokens.len();
                violated(!moved_on && !model.doubt, || format!("F1: family {number} was rotated by nobody"))?;
            }
            Err(RefreshError::Store(_)) => {
                self.tally.unknown += 1;
                model.doubt = true;
                model.last_used = model.last_used.max(now);
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// With a quiet network and time for every grace to pass: of all tokens of a family, the newest alone is good.
    async fn at_rest(&self) -> Checked {
        for faults in &self.faults {
            faults.set_noise(Noise::default());
            faults.script_writes([]);
        }
        // What was late arrives.
        let _ = self.replicas[0].logins().get("none").await;
        let _ = self.replicas[1].logins().get("none").await;
        self.hand.advance(self.policy.grace + Duration::from_secs(1));
        for (number, model) in self.families.iter().enumerate() {
            let idle = self.now() >= model.used_after + self.policy.idle_lifetime.unwrap();
            if model.doubt || model.may_have_ended || idle {
                continue;
            }
            let newest = model.tokens.last().unwrap();
            let open = self.replicas[0].families().open(newest, "app", &self.policy).await;
            violated(open.is_ok() == model.ended, || format!("F1: family {number}, ended {}: {open:?}", model.ended))?;
            if let [.., old, _] = model.tokens.as_slice()
                && !model.ended
            {
                let reused = self.replicas[1].families().open(old, "app", &self.policy).await;
                violated(!matches!(reused, Err(RefreshError::Reused)), || format!("F2: family {number}: {reused:?}"))?;
                let after = self.replicas[0].families().open(newest, "app", &self.policy).await;
                violated(!matches!(after, Err(RefreshError::Revoked)), || format!("F2: family {number}: {after:?}"))?;
            }
        }
        Ok(())
    }
}

async fn history(seed: u64, bug: Bug) -> Result<Tally, String> {
    let mut world = World::new(seed, bug);
    for step in 0..STEPS {
        world.step().await.map_err(|what| format!("history {seed}, step {step}: {what}"))?;
    }
    world.at_rest().await.map_err(|what| format!("history {seed}, at rest: {what}"))?;
    Ok(world.tally)
}

#[tokio::test]
async fn random_histories_keep_every_invariant() {
    let mut tally = Tally::default();
    for seed in 0..HISTORIES {
        tally.add(&history(seed, Bug::None).await.unwrap());
    }
    println!("{tally:?}");
    assert!(tally.least() >= 100, "{tally:?}");
}

#[tokio::test]
async fn every_mutant_is_caught() {
    for bug in [
        Bug::UpdatesIgnoreTheVersion,
        Bug::InsertsOverwrite,
        Bug::TombstonesAreDropped,
        Bug::RedemptionsAreNotStored,
        Bug::NoncesAreForgotten,
        Bug::CollectsTwoMonthsEarly,
        Bug::RotationsAreNotStored,
    ] {
        let mut caught = None;
        for seed in 0..HISTORIES {
            if let Err(what) = history(seed, bug).await {
                caught = Some(what);
                break;
            }
        }
        println!("{bug:?}: {caught:?}");
        assert!(caught.is_some(), "{bug:?} was not caught");
    }
}
