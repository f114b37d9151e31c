//! The world of one history: replicas, networks and clocks, and who does what next.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use portcullis_runtime::{Clock, MockClock, Rng, Timestamp};
use portcullis_storage::{
    Candidate, FamilyId, Kernel, MAX_FAMILIES, MemoryKernel, OpenCode, OpenFamily, RefreshToken, Store, Sweep, Tenure,
    conformance::{Fault, FaultyKernel, Held, Noise},
    kernel::{Kind, Page, Write},
};

use super::{
    Checked,
    families::{self, Families, Owner},
    leases::Leases,
    logins::Logins,
    mutants::{Bug, Mutant},
    objects::Objects,
    sealing::Sealed,
    tally::{Event, Op, Tally},
};
use crate::kit::{DAY, HOUR, MINUTE, START};

/// The furthest that two replicas' clocks are apart.
pub(super) const MAX_SKEW: Duration = Duration::from_secs(5 * 60);
/// Most calls that are suspended at once.
const MAX_SUSPENDED: usize = 3;

/// A small generator of random numbers (SplitMix64): a history draws hundreds.
pub(super) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// What is known of a call when it is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    /// The call's number.
    pub(super) call: u64,
    /// The replica that makes it.
    pub(super) replica: usize,
    /// What the replica's clock read when it began.
    pub(super) began: Timestamp,
    /// What it reads now.
    pub(super) now: Timestamp,
    /// Whether others came between its steps.
    pub(super) suspended: bool,
    /// The step before which it was suspended last.
    pub(super) held: Option<Held>,
}

/// All that is known and not known.
pub(super) struct Model {
    pub(super) logins: Logins,
    pub(super) families: Families,
    pub(super) objects: Objects,
    pub(super) leases: Leases,
    /// Where secrets are sealed.
    pub(super) sealed: Option<Sealed>,
    pub(super) handles: Vec<Handles>,
    pub(super) tally: Tally,
}

/// What a replica holds in memory between two calls.
#[derive(Default)]
pub(super) struct Handles {
    pub(super) codes: Vec<(usize, OpenCode)>,
    /// With the family and the token's position among those that were given.
    pub(super) families: Vec<(usize, usize, bool, OpenFamily)>,
    pub(super) keys: Option<super::objects::LoadedKeys>,
    /// Not while it is in a call.
    pub(super) candidate: Option<Candidate>,
    pub(super) tenure: Option<Tenure>,
    /// Not while it is in a call.
    pub(super) sweep: Option<Sweep>,
}

type Verdict = Box<dyn FnOnce(&mut Model, &Scene) -> Checked>;
type Doubt = Box<dyn Fn(&mut Model, &Scene)>;

/// A call on its way.
struct Call {
    op: Op,
    scene: Scene,
    future: Pin<Box<dyn Future<Output = Verdict>>>,
    doubt: Doubt,
}

struct Replica {
    store: Store,
    network: Arc<FaultyKernel>,
    clock: Clock,
    hand: MockClock,
    lives: u64,
}

pub(super) struct World {
    seed: u64,
    /// What the replicas share, without their networks.
    pub(super) kernel: Arc<dyn Kernel>,
    /// Whether networks lose things.
    noise: Noise,
    replicas: Vec<Replica>,
    suspended: Vec<Call>,
    calls: u64,
    time: Timestamp,
    steps: Option<Vec<String>>,
    /// The history is over: nothing is lost, suspended or counted any more.
    resting: bool,
    pub(super) dice: Dice,
    pub(super) model: Model,
}

/// What is stored before the first call, and what is known of it. Made once.
struct Beginning {
    records: Vec<(Kind, String, Write)>,
    families: Vec<(FamilyId, Owner, RefreshToken, Timestamp)>,
}

/// Carries out what never waits.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory kernel never waits"),
    }
}

impl Beginning {
    /// One family each for two users.
    fn of_singles() -> &'static Self {
        static SINGLES: OnceLock<Beginning> = OnceLock::new();
        SINGLES.get_or_init(|| Self::with(&families::SINGLES))
    }

    /// As many families for one user as are allowed.
    fn of_the_crowd() -> &'static Self {
        static CROWD: OnceLock<Beginning> = OnceLock::new();
        CROWD.get_or_init(|| Self::with(&[families::CROWD; MAX_FAMILIES]))
    }

    fn with(owners: &[Owner]) -> Self {
        let (clock, hand) = Clock::mock(START - 1_000);
        let kernel = Arc::new(MemoryKernel::new());
        let store = Store::new(Arc::clone(&kernel) as _, clock, Rng::seeded(u64::MAX - owners.len() as u64));
        let mut families = Vec::new();
        for owner in owners {
            let (id, at) = (store.families().new_id(), hand.now());
            let token = at_once(store.families().create(&id, owner.new_family(), &crate::kit::policy())).unwrap();
            families.push((id, *owner, token, at));
            hand.advance(Duration::from_secs(10));
        }
        let mut records = Vec::new();
        for kind in Kind::ALL {
            for record in at_once(kernel.list(kind, Page::first(1000))).unwrap().records {
                let write = Write { index: record.index, expires_at: record.expires_at, data: record.data };
                records.push((kind, record.id, write));
            }
        }
        Self { records, families }
    }

    fn put(&self, kernel: &MemoryKernel, families: &mut Families) {
        for (kind, id, write) in &self.records {
            let _ = at_once(kernel.insert(*kind, id, write.clone())).unwrap();
        }
        self.families.iter().for_each(|(id, owner, token, at)| families.found(id, *owner, token, *at));
    }
}

impl World {
    pub(super) fn new(seed: u64, bug: Bug, told: bool) -> Self {
        let mut dice = Dice(seed);
        let count = 2 + usize::from(dice.below(2) == 0);
        let memory = MemoryKernel::new();
        let mut model = Model {
            logins: Logins::default(),
            families: Families::default(),
            objects: Objects::default(),
            leases: Leases::default(),
            sealed: None,
            handles: (0..count).map(|_| Handles::default()).collect(),
            tally: Tally::of_history(count),
        };
        Beginning::of_singles().put(&memory, &mut model.families);
        // In every eighth history one user is at the limit.
        let crowded = dice.below(8) == 0;
        if crowded {
            Beginning::of_the_crowd().put(&memory, &mut model.families);
        }
        at_once(super::objects::prepare(&memory));
        let kernel: Arc<dyn Kernel> = match bug {
            Bug::None => Arc::new(memory),
            bug => Arc::new(Mutant::new(memory, bug)),
        };
        // Every fourth history has a quiet network.
        let noise = if dice.below(4) == 0 { Noise::default() } else { NOISE };
        // In every sixteenth secrets are sealed: such a one takes four times as long.
        model.sealed = (dice.below(16) == 0).then(|| Sealed::of(count));
        let replicas = (0..count).map(|number| {
            let network = Arc::new(FaultyKernel::new(Arc::clone(&kernel), seed * 4 + number as u64));
            network.set_noise(noise);
            let (clock, hand) = Clock::mock(START);
            let store = Store::new(Arc::clone(&network) as _, clock.clone(), Rng::seeded(seed * 64 + number as u64));
            Replica { store, network, clock, hand, lives: 1 }
        });
        let replicas: Vec<Replica> = replicas.collect();
        let steps = told.then(Vec::new);
        let time = Timestamp::from_unix_seconds(START);
        let mut world = Self {
            seed,
            kernel,
            noise,
            replicas,
            suspended: Vec::new(),
            calls: 0,
            time,
            steps,
            resting: false,
            dice,
            model,
        };
        (0..count).for_each(|number| world.set_clock(number));
        world
    }

    pub(super) fn run(&mut self, calls: u32) -> Checked {
        (0..self.replicas.len()).try_for_each(|number| self.unlock(number))?;
        while self.calls < u64::from(calls) {
            self.step()?;
            self.at_most_one_holds_the_lease()?;
            self.every_secret_opens()?;
        }
        self.at_rest()
    }

    pub(super) const fn tally(&self) -> &Tally {
        &self.model.tally
    }

    /// The steps so far, for whoever wants to know how it came to this.
    pub(super) fn told(&self) -> String {
        let steps = self.steps.iter().flatten().enumerate();
        steps.fold(String::new(), |text, (number, step)| format!("{text}\n  {number}: {step}"))
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            steps.push(what());
        }
    }

    pub(super) fn some_replica(&mut self) -> usize {
        self.dice.below(self.replicas.len())
    }

    /// One of the replicas that hold something.
    pub(super) fn replica_with(&mut self, holds: impl Fn(&Handles) -> bool) -> Option<usize> {
        let first = self.some_replica();
        let count = self.replicas.len();
        (0..count).map(|number| (first + number) % count).find(|number| holds(&self.model.handles[*number]))
    }

    pub(super) fn store(&self, replica: usize) -> Store {
        self.replicas[replica].store.clone()
    }

    pub(super) fn now(&self, replica: usize) -> Timestamp {
        self.replicas[replica].hand.now()
    }

    fn step(&mut self) -> Checked {
        match self.dice.below(100) {
            0..4 => self.pass(),
            4 => {
                let replica = self.some_replica();
                self.set_clock(replica);
                Ok(())
            }
            5 => {
                let replica = self.some_replica();
                self.restart(replica)
            }
            6 => {
                // A write, with all its repetitions, whose outcome nobody learns.
                let fault = self.dice.one_of(&[Fault::LostRequest, Fault::LostReply, Fault::LateRequest]);
                let replica = self.some_replica();
                self.note(|| format!("replica {replica}: {fault:?} four times"));
                self.replicas[replica].network.script_writes([fault; 4]);
                self.model.tally.event(Event::Blackout);
                Ok(())
            }
            7..16 if !self.suspended.is_empty() => {
                let number = self.dice.below(self.suspended.len());
                let call = self.suspended.swap_remove(number);
                self.note(|| format!("call {} goes on", call.scene.call));
                let again = (self.dice.below(4) == 0).then(|| self.dice.below(3));
                self.go_on(call, again)
            }
            _ => {
                let op = self.choose();
                self.call(op)
            }
        }
    }

    fn choose(&mut self) -> Op {
        if self.model.sealed.is_some() && self.dice.below(4) == 0 {
            return self.dice.one_of(&[Op::Tend, Op::Sweep, Op::Rekey]);
        }
        const SUM: u32 = {
            let (mut sum, mut at) = (0, 0);
            while at < Op::ALL.len() {
                sum += Op::ALL[at].weight();
                at += 1;
            }
            sum
        };
        let mut dice = u32::try_from(self.dice.below(SUM as usize)).unwrap();
        for op in Op::ALL {
            match dice.checked_sub(op.weight()) {
                None => return op,
                Some(rest) => dice = rest,
            }
        }
        Op::Collect
    }

    fn call(&mut self, op: Op) -> Checked {
        match op {
            Op::Begin => self.begin(),
            Op::BeginAgain => self.begin_again(),
            Op::Approve => self.approve(),
            Op::Deny => self.deny(),
            Op::Issue | Op::IssueAgain => self.issue(op),
            Op::OpenCode => self.open_code(),
            Op::Redeem => self.redeem(),
            Op::Create => self.create(),
            Op::CreateOneTooMany => self.create_one_too_many(),
            Op::Refresh | Op::Retry | Op::Reuse => self.open_family(op),
            Op::Foreign => self.foreign(),
            Op::Advance => self.advance(),
            Op::RevokeToken => self.revoke_token(),
            Op::RevokeUser | Op::RevokeClient => self.revoke(op),
            Op::ListFamilies => self.list_families(),
            Op::LoadKeys => self.load_keys(),
            Op::FirstKeys => self.first_keys(),
            Op::RotateKeys => self.rotate_keys(),
            Op::SealingKeys => self.sealing_keys(),
            Op::Fail => self.fail(),
            Op::Flush => self.flush(),
            Op::Count => self.count(),
            Op::Clear => self.clear(),
            Op::UpdateClient => self.update_client(),
            Op::ReadClient => self.read_client(),
            Op::KeepRequest => self.keep_request(),
            Op::FindRequest => self.find_request(),
            Op::ForgetRequest => self.forget_request(),
            Op::Collect => self.collect(),
            Op::Contend => self.contend(),
            Op::Release => self.release(),
            Op::Tend => self.tend(),
            Op::Sweep => self.sweep(),
            Op::Rekey => self.rekey(),
        }
    }

    /// Whether a replica is in the middle of such a call.
    pub(super) fn is_suspended(&self, replica: usize, op: Op) -> bool {
        self.suspended.iter().any(|call| call.scene.replica == replica && call.op == op)
    }

    /// A call that is made and answered in memory.
    pub(super) fn made(&mut self, op: Op, replica: usize, what: impl FnOnce() -> String) -> Scene {
        self.calls += 1;
        if !self.resting {
            self.model.tally.op(op);
        }
        let call = self.calls;
        self.note(|| format!("call {call}, replica {replica}: {op:?} {}", what()));
        let now = self.now(replica);
        Scene { call: self.calls, replica, began: now, now, suspended: false, held: None }
    }

    /// Makes a call. It may be suspended; then `doubt` notes what it may have done, now or at any time from now on, and
    /// what it answers in the end is judged when it does.
    pub(super) fn ask<T: 'static, F: Future<Output = T> + 'static>(
        &mut self,
        (op, replica, what): (Op, usize, impl FnOnce() -> String),
        call: impl FnOnce(Store) -> F,
        doubt: impl Fn(&mut Model, &Scene) + 'static,
        judge: impl FnOnce(&mut Model, &Scene, T) -> Checked + 'static,
    ) -> Checked {
        let scene = self.made(op, replica, what);
        let answer = call(self.store(replica));
        let future = Box::pin(async move {
            let answer = answer.await;
            Box::new(move |model: &mut Model, scene: &Scene| judge(model, scene, answer)) as Verdict
        });
        // Between looking at a request and forgetting it much can happen, and seldom does.
        let rarity = if op == Op::ForgetRequest { 2 } else { 8 };
        let may_wait = !self.resting && self.suspended.len() < MAX_SUSPENDED && self.dice.below(rarity) == 0;
        let hold = may_wait.then(|| self.dice.below(5));
        self.go_on(Call { op, scene, future, doubt: Box::new(doubt) }, hold)
    }

    fn go_on(&mut self, mut call: Call, hold: Option<usize>) -> Checked {
        let replica = call.scene.replica;
        let network = Arc::clone(&self.replicas[replica].network);
        network.hold_after(hold.map(|hold| u32::try_from(hold).unwrap()));
        let polled = call.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        network.hold_after(None);
        for fault in network.take_struck() {
            if let Some(event) = Event::of(fault) {
                self.model.tally.event(event);
            }
        }
        call.scene.now = self.now(replica);
        match polled {
            Poll::Ready(verdict) => verdict(&mut self.model, &call.scene),
            Poll::Pending => {
                call.scene.suspended = true;
                call.scene.held = network.held();
                self.note(|| format!("  is suspended before {:?}", call.scene.held));
                self.model.tally.event(Event::Suspended);
                (call.doubt)(&mut self.model, &call.scene);
                self.suspended.push(call);
                Ok(())
            }
        }
    }

    /// Lets time pass, on all clocks.
    pub(super) fn wait_out(&mut self, time: Duration) -> Checked {
        self.time += time;
        self.replicas.iter().for_each(|replica| replica.hand.advance(time));
        self.tend_all()
    }

    fn pass(&mut self) -> Checked {
        const STEPS: [Duration; 13] = [
            Duration::from_secs(1),
            Duration::from_secs(1),
            Duration::from_secs(5),
            Duration::from_secs(10),
            Duration::from_secs(20),
            Duration::from_secs(20),
            Duration::from_secs(40),
            MINUTE,
            Duration::from_secs(6 * 60),
            HOUR,
            DAY,
            Duration::from_secs(20 * 24 * 60 * 60),
            Duration::from_secs(100 * 24 * 60 * 60),
        ];
        let step = self.dice.one_of(&STEPS);
        self.note(|| format!("{step:?} pass"));
        self.model.tally.event(Event::Passed);
        if self.model.sealed.is_some() {
            self.end_what_cannot_wait(step)?;
        }
        self.wait_out(step)
    }

    /// Where secrets are sealed, no call is suspended for a day (docs/store-invariants.md, what is not promised), and what keeps the
    /// data keys is never late.
    fn end_what_cannot_wait(&mut self, time: Duration) -> Checked {
        let cannot = |call: &Call| time >= DAY || call.op == Op::Tend;
        while let Some(at) = self.suspended.iter().position(cannot) {
            let call = self.suspended.swap_remove(at);
            self.go_on(call, None)?;
        }
        Ok(())
    }

    /// What a replica does by itself, over a network that loses nothing.
    pub(super) fn quietly<T>(&self, number: usize, work: impl FnOnce(&Store) -> T) -> T {
        let Replica { store, network, .. } = &self.replicas[number];
        network.set_noise(Noise::default());
        let done = work(store);
        network.set_noise(if self.resting { Noise::default() } else { self.noise });
        done
    }

    /// The same, held before one of its steps while `others` happens.
    pub(super) fn held_up<T, F: Future<Output = T>>(
        &mut self,
        number: usize,
        work: impl FnOnce(Store) -> F,
        others: impl FnOnce(&mut Self) -> Checked,
    ) -> Result<T, String> {
        let mut work = std::pin::pin!(work(self.store(number)));
        let mut go_on =
            |world: &Self| world.quietly(number, |_| work.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        let steps = u32::try_from(self.dice.below(4)).unwrap();
        let network = Arc::clone(&self.replicas[number].network);
        network.hold_after(Some(steps));
        let first = go_on(self);
        network.hold_after(None);
        others(self)?;
        match first {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => match go_on(self) {
                Poll::Ready(done) => Ok(done),
                Poll::Pending => panic!("it is held once"),
            },
        }
    }

    pub(super) fn replicas(&self) -> usize {
        self.replicas.len()
    }

    pub(super) const fn is_resting(&self) -> bool {
        self.resting
    }

    /// By the clock that is right.
    pub(super) const fn true_time(&self) -> Timestamp {
        self.time
    }

    /// Whether a replica has asked, since this was asked last, to look at the data keys before their turn.
    pub(super) fn has_missed_a_data_key(&self, number: usize) -> bool {
        let missed = std::pin::pin!(self.replicas[number].store.data_key_missed());
        missed.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Sets one replica's clock: ahead of the true time, by no more than the bound. Not while it is in the middle of a call: a call takes
    /// its clock to go forward.
    fn set_clock(&mut self, number: usize) {
        if self.suspended.iter().any(|call| call.scene.replica == number) {
            return;
        }
        let ahead = [0, 0, 0, 0, 1, 29, 31, 120, 299, MAX_SKEW.as_secs()];
        let ahead = Duration::from_secs(self.dice.one_of(&ahead));
        self.note(|| format!("replica {number}: the clock is set to be {ahead:?} ahead"));
        self.model.tally.event(Event::ClockSet);
        self.replicas[number].hand.set(self.time + ahead);
    }

    /// Ends a replica in whatever it does, and starts it with nothing but the store.
    pub(super) fn restart(&mut self, number: usize) -> Checked {
        self.note(|| format!("replica {number} starts anew"));
        self.model.tally.event(Event::Restarted);
        self.suspended.retain(|call| call.scene.replica != number);
        self.model.handles[number] = Handles::default();
        self.model.objects.restarted(number);
        let Replica { store, network, clock, lives, .. } = &mut self.replicas[number];
        let seed = self.seed * 64 + *lives * 4 + number as u64;
        *lives += 1;
        *store = Store::new(Arc::clone(network) as _, clock.clone(), Rng::seeded(seed));
        self.unlock(number)
    }

    /// What was late arrives, what was suspended ends, the network is quiet: what the model knows must be there.
    fn at_rest(&mut self) -> Checked {
        self.note(|| "at rest".to_owned());
        self.resting = true;
        for Replica { network, .. } in &self.replicas {
            network.set_noise(Noise::default());
            network.script_writes([]);
            let _ = at_once(network.get(Kind::Login, "none"));
        }
        while let Some(call) = self.suspended.pop() {
            self.go_on(call, None)?;
        }
        self.families_at_rest()?;
        self.logins_at_rest()?;
        self.objects_at_rest()?;
        self.leases_at_rest()?;
        self.sealing_at_rest()
    }
}

const NOISE: Noise = Noise { lost_requests: 30, lost_replies: 30, late_requests: 30, duplicates: 40, refusals: 10 };
