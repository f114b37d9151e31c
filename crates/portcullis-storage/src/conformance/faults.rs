//! A kernel that behaves like a network: requests and replies get lost, requests arrive late.
//!
//! Faults come from a list that a test makes, or at random from a seed; either way the same test sees the same faults.
//! The kernel also counts what passes through it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use portcullis_runtime::{Rng, Timestamp};

use crate::{
    error::{KernelError, Trouble},
    kernel::{
        Description, Feed, IndexKey, Judge, Kernel, KernelFuture, Kind, Listing, Mark, Page, Record, Slot, Verdict,
        Version, Write,
    },
    snapshot::Snapshot,
};

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is carried out and answered.
    None,
    /// The request never arrives; the caller cannot know.
    LostRequest,
    /// It is carried out, and the reply never arrives; the caller cannot know.
    LostReply,
    /// The caller gives up on it; it arrives after the next operation. Reads are lost instead.
    LateRequest,
    /// It arrives twice. The second time is answered too, to nobody.
    Duplicated,
    /// The store refuses, and says that it did nothing.
    Refused,
    /// The store refuses what is written, in words of its own, and would take another record. Not among the random ones.
    Unacceptable,
}

impl Fault {
    /// Every fault that comes at random.
    pub const ALL: [Self; 5] = [Self::LostRequest, Self::LostReply, Self::LateRequest, Self::Duplicated, Self::Refused];
}

/// How often the random faults come, in thousandths of all operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// Lost requests.
    pub lost_requests: u32,
    /// Lost replies.
    pub lost_replies: u32,
    /// Late requests.
    pub late_requests: u32,
    /// Requests that arrive twice.
    pub duplicates: u32,
    /// Refusals.
    pub refusals: u32,
}

impl Noise {
    /// The fault that a number below a thousand stands for.
    fn fault(&self, dice: u32) -> Fault {
        let shares = [self.lost_requests, self.lost_replies, self.late_requests, self.duplicates, self.refusals];
        let mut below = 0;
        for (fault, share) in Fault::ALL.into_iter().zip(shares) {
            below += share;
            if dice < below {
                return fault;
            }
        }
        Fault::None
    }
}

/// How many operations have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads of one record.
    pub gets: usize,
    /// Reads of lists.
    pub lists: usize,
    /// Inserts, updates, deletes and expiries.
    pub writes: usize,
}

/// What a test does just before a write arrives.
pub type WriteHook = Box<dyn FnOnce() -> KernelFuture<'static, ()> + Send>;

/// A kernel that loses requests and replies.
pub struct FaultyKernel {
    inner: Arc<dyn Kernel>,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    noise: Noise,
    script: VecDeque<Fault>,
    write_script: VecDeque<Fault>,
    hook: Option<(Kind, WriteHook)>,
    late: Vec<Operation>,
    counts: Counts,
    struck: Vec<Fault>,
    /// How many operations pass before one is held.
    hold: Option<u32>,
    held: Option<Held>,
}

/// An operation that waits before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A read of one record of this kind.
    Get(Kind),
    /// Another read, or an expiry.
    Read,
    /// An insert of this kind.
    Insert(Kind),
    /// An update of this kind.
    Update(Kind),
    /// A delete of this kind.
    Delete(Kind),
}

/// A write that can be carried out later.
enum Operation {
    Insert(Kind, String, Write),
    Update(Kind, String, Version, Write),
    Delete(Kind, String, Version),
}

impl FaultyKernel {
    /// Stands before `inner`. Without noise and script it loses nothing.
    #[must_use]
    pub fn new(inner: Arc<dyn Kernel>, seed: u64) -> Self {
        let state = State {
            rng: Rng::seeded(seed),
            noise: Noise::default(),
            script: VecDeque::new(),
            write_script: VecDeque::new(),
            hook: None,
            late: Vec::new(),
            counts: Counts::default(),
            struck: Vec::new(),
            hold: None,
            held: None,
        };
        Self { inner, state: Mutex::new(state) }
    }

    /// Random faults from now on.
    pub fn set_noise(&self, noise: Noise) {
        self.lock().noise = noise;
    }

    /// What happens to the next operations, one by one.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().script = faults.into_iter().collect();
    }

    /// What happens to the next writes, one by one.
    pub fn script_writes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().write_script = faults.into_iter().collect();
    }

    /// Runs `hook` once, just before the next insert or update of this kind arrives.
    pub fn before_write(&self, kind: Kind, hook: WriteHook) {
        self.lock().hook = Some((kind, hook));
    }

    /// What has arrived since the last call.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.lock().counts)
    }

    /// The faults that have struck since the last call, in their order.
    pub fn take_struck(&self) -> Vec<Fault> {
        std::mem::take(&mut self.lock().struck)
    }

    /// Holds one operation, after `operations` more have passed: its caller is suspended just before it is sent, once,
    /// and goes on when it is polled again. With `None`, none is held. For tests that poll their futures themselves, and
    /// so decide what happens between two steps of one call.
    pub fn hold_after(&self, operations: Option<u32>) {
        self.lock().hold = operations;
    }

    /// The operation that was held last.
    pub fn held(&self) -> Option<Held> {
        self.lock().held
    }

    async fn hold(&self, operation: Held) {
        {
            let mut state = self.lock();
            match state.hold {
                None => return,
                Some(0) => (state.hold, state.held) = (None, Some(operation)),
                Some(more) => {
                    state.hold = Some(more - 1);
                    return;
                }
            }
        }
        let mut polled = false;
        poll_fn(|context| {
            if std::mem::replace(&mut polled, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_fault(&self, writes: bool) -> Fault {
        let mut state = self.lock();
        let scripted = if writes { state.write_script.pop_front() } else { None };
        let fault = match scripted.or_else(|| state.script.pop_front()) {
            Some(fault) => fault,
            None if state.noise == Noise::default() => Fault::None,
            None => state.noise.fault(state.rng.below(1000)),
        };
        match fault {
            Fault::None => fault,
            // A read that is answered twice is a read.
            Fault::Duplicated if !writes => Fault::None,
            _ => {
                state.struck.push(fault);
                fault
            }
        }
    }

    async fn read<T>(&self, held: Held, operation: KernelFuture<'_, T>) -> Result<T, KernelError> {
        self.hold(held).await;
        let result = match self.next_fault(false) {
            Fault::None | Fault::Duplicated => operation.await,
            Fault::Refused => Err(refused()),
            Fault::Unacceptable => Err(unacceptable()),
            Fault::LostRequest | Fault::LostReply | Fault::LateRequest => Err(lost()),
        };
        self.deliver_late().await;
        result
    }

    async fn write<T>(&self, operation: Operation, run: KernelFuture<'_, T>) -> Result<T, KernelError> {
        self.lock().counts.writes += 1;
        let (kind, held) = match &operation {
            Operation::Insert(kind, ..) => (Some(*kind), Held::Insert(*kind)),
            Operation::Update(kind, ..) => (Some(*kind), Held::Update(*kind)),
            Operation::Delete(kind, ..) => (None, Held::Delete(*kind)),
        };
        self.hold(held).await;
        let hook = self.lock().hook.take_if(|(wanted, _)| kind == Some(*wanted));
        if let Some((_, hook)) = hook {
            hook().await?;
        }
        match self.next_fault(true) {
            Fault::None => {
                let result = run.await;
                self.deliver_late().await;
                result
            }
            Fault::Duplicated => {
                let result = run.await;
                self.lock().late.push(operation);
                self.deliver_late().await;
                result
            }
            Fault::LostReply => {
                let _ = run.await;
                self.deliver_late().await;
                Err(lost())
            }
            Fault::LostRequest => {
                self.deliver_late().await;
                Err(lost())
            }
            Fault::LateRequest => {
                self.deliver_late().await;
                self.lock().late.push(operation);
                Err(lost())
            }
            Fault::Refused => Err(refused()),
            Fault::Unacceptable => Err(unacceptable()),
        }
    }

    /// Carries out what was late. Nobody waits for its outcome.
    async fn deliver_late(&self) {
        let late = std::mem::take(&mut self.lock().late);
        for operation in late {
            let _ = match operation {
                Operation::Insert(kind, id, write) => self.inner.insert(kind, &id, write).await.map(|_| ()),
                Operation::Update(kind, id, version, write) => {
                    self.inner.update(kind, &id, version, write).await.map(|_| ())
                }
                Operation::Delete(kind, id, version) => self.inner.delete(kind, &id, version).await,
            };
        }
    }
}

const fn lost() -> KernelError {
    KernelError::maybe_applied(Trouble::Timeout)
}

const fn refused() -> KernelError {
    KernelError::not_applied(Trouble::DiskFull)
}

fn unacceptable() -> KernelError {
    KernelError::not_applied(Trouble::Other("a policy does not allow it".to_owned()))
}

impl Kernel for FaultyKernel {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        self.lock().counts.gets += 1;
        Box::pin(self.read(Held::Get(kind), self.inner.get(kind, id)))
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        let operation = Operation::Insert(kind, id.to_owned(), write.clone());
        Box::pin(self.write(operation, self.inner.insert(kind, id, write)))
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version> {
        let operation = Operation::Update(kind, id.to_owned(), version, write.clone());
        Box::pin(self.write(operation, self.inner.update(kind, id, version, write)))
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        let operation = Operation::Delete(kind, id.to_owned(), version);
        Box::pin(self.write(operation, self.inner.delete(kind, id, version)))
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        self.lock().counts.lists += 1;
        Box::pin(self.read(Held::Read, self.inner.list(kind, page)))
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        self.lock().counts.lists += 1;
        Box::pin(self.read(Held::Read, self.inner.by_index(kind, slot, key, page)))
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        self.lock().counts.writes += 1;
        Box::pin(self.read(Held::Read, self.inner.expire(now, limit)))
    }

    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        self.lock().counts.lists += 1;
        Box::pin(self.read(Held::Read, self.inner.snapshot()))
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn trouble(&self) -> Option<String> {
        self.inner.trouble()
    }

    fn recent<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        self.lock().counts.gets += 1;
        Box::pin(self.read(Held::Get(kind), self.inner.recent(kind, id)))
    }

    fn feed(&self, kind: Kind) -> Option<Feed> {
        self.inner.feed(kind)
    }

    fn mark<'a>(&'a self, kind: Kind) -> KernelFuture<'a, Mark> {
        Box::pin(self.read(Held::Read, self.inner.mark(kind)))
    }

    fn judge_with(&self, judge: Judge) {
        self.inner.judge_with(judge);
    }

    fn judge_again(&self) {
        self.inner.judge_again();
    }

    fn report<'a>(&'a self, kind: Kind, id: &'a str, verdict: Verdict) -> KernelFuture<'a, ()> {
        self.inner.report(kind, id, verdict)
    }
}
