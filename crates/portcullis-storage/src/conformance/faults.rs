//! A kernel that behaves like a network: requests and replies get lost, requests arrive late.
//!
//! Faults come from a list that a test makes, or at random from a seed; either way the same test sees the same faults.
//! The kernel also counts what passes through it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use portcullis_runtime::{Rng, Timestamp};

use crate::{
    error::{KernelError, Trouble},
    kernel::{IndexKey, Kernel, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write},
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
    /// The store refuses, and says that it did nothing.
    Refused,
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_fault(&self, writes: bool) -> Fault {
        let mut state = self.lock();
        if writes && let Some(fault) = state.write_script.pop_front() {
            return fault;
        }
        if let Some(fault) = state.script.pop_front() {
            return fault;
        }
        let Noise { lost_requests, lost_replies, late_requests } = state.noise;
        match state.rng.below(1000) {
            dice if dice < lost_requests => Fault::LostRequest,
            dice if dice < lost_requests + lost_replies => Fault::LostReply,
            dice if dice < lost_requests + lost_replies + late_requests => Fault::LateRequest,
            _ => Fault::None,
        }
    }

    async fn read<T>(&self, operation: KernelFuture<'_, T>) -> Result<T, KernelError> {
        let result = match self.next_fault(false) {
            Fault::None => operation.await,
            Fault::Refused => Err(refused()),
            Fault::LostRequest | Fault::LostReply | Fault::LateRequest => Err(lost()),
        };
        self.deliver_late().await;
        result
    }

    async fn write<T>(&self, operation: Operation, run: KernelFuture<'_, T>) -> Result<T, KernelError> {
        self.lock().counts.writes += 1;
        let kind = match &operation {
            Operation::Insert(kind, ..) | Operation::Update(kind, ..) => Some(*kind),
            Operation::Delete(..) => None,
        };
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

impl Kernel for FaultyKernel {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        self.lock().counts.gets += 1;
        Box::pin(self.read(self.inner.get(kind, id)))
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
        Box::pin(self.read(self.inner.list(kind, page)))
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        self.lock().counts.lists += 1;
        Box::pin(self.read(self.inner.by_index(kind, slot, key, page)))
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        self.lock().counts.writes += 1;
        Box::pin(self.read(self.inner.expire(now, limit)))
    }
}
