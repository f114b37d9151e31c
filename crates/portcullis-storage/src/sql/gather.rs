//! Operations that find every connection in use wait, and those that wait are sent together (docs/decisions/0041).
//!
//! One statement for many costs the server, the disk and the network little more than one for one. Nothing waits for company: as
//! long as a connection is free, an operation is sent by itself. Each of them succeeds or fails by itself, too; when the common
//! statement fails and has certainly done nothing, each is sent once more, alone.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Dialect, Fault,
    engine::unknown,
    pool::{Lease, Pool},
    work::{Put, Wanted},
};
use crate::{
    error::{KernelError, Trouble},
    kernel::{Kind, MAX_DATA_BYTES, MAX_PAGE_BYTES, Record},
};

/// Most bytes of data in one statement, unless the first operation alone has more.
const MAX_BYTES: usize = 1024 * 1024;

/// An operation that can be sent with others.
pub(crate) trait Gathered: Send + Sync + Sized + 'static {
    /// What it gives.
    type Answer: Send;
    /// Whether it changes anything. Two changes of one record are never in the same statement.
    const WRITES: bool;

    /// Its record.
    fn key(&self) -> (Kind, &str);

    /// The data that it sends, or may be sent.
    fn bytes(&self) -> usize;

    /// How many of them go into one statement, of `together` that the server takes.
    fn most(together: usize) -> usize;

    /// Where it waits.
    fn queue<D: Dialect>(gatherer: &Gatherer<D>) -> &Mutex<Queue<Self>>;

    /// Makes the statement ready.
    fn prepare<D: Dialect>(connection: &mut D::Connection) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Carries all out at once; the answers are in the order of `works`.
    fn perform<D: Dialect>(
        connection: &mut D::Connection,
        works: &[Arc<Self>],
    ) -> impl Future<Output = sqlx::Result<Vec<Self::Answer>>> + Send;
}

/// What became of an operation.
#[derive(Debug)]
pub(crate) enum Outcome<A> {
    /// It was carried out.
    Done(A),
    /// It was not, for a reason that may be another's: it is to be sent by itself.
    Alone,
    /// It failed.
    Failed(KernelError),
}

/// Operations of one sort that wait.
pub(crate) struct Queue<W: Gathered> {
    waiting: VecDeque<Waiting<W>>,
    /// Whether a task waits for a connection on their behalf.
    attended: bool,
}

struct Waiting<W: Gathered> {
    work: Arc<W>,
    deadline: Instant,
    answer: oneshot::Sender<Outcome<W::Answer>>,
}

pub(crate) struct Gatherer<D: Dialect> {
    pool: Arc<Pool<D>>,
    wanted: Mutex<Queue<Wanted>>,
    puts: Mutex<Queue<Put>>,
}

impl<D: Dialect> Gatherer<D> {
    pub(crate) fn new(pool: Arc<Pool<D>>) -> Self {
        Self { pool, wanted: Mutex::default(), puts: Mutex::default() }
    }

    /// Whether an operation would have to wait, and can do so in company.
    pub(crate) fn is_called_for(&self) -> bool {
        D::TOGETHER > 1 && !self.pool.has_room()
    }

    /// Waits with others for a connection, until `deadline`.
    pub(crate) async fn join<W: Gathered>(self: &Arc<Self>, work: &Arc<W>, deadline: Instant) -> Outcome<W::Answer> {
        let (answer, mut answered) = oneshot::channel();
        let attended = {
            let mut queue = lock(W::queue(self));
            queue.waiting.push_back(Waiting { work: Arc::clone(work), deadline, answer });
            std::mem::replace(&mut queue.attended, true)
        };
        let place = Place { gatherer: self, work };
        if !attended {
            // A task of its own: what was sent for many does not end because one of the callers has gone.
            tokio::spawn(Arc::clone(self).attend::<W>());
        }
        match timeout_at(deadline, &mut answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Failed(unknown(W::WRITES, Trouble::Closed)),
            Err(_) if place.withdraw() => Outcome::Failed(KernelError::not_applied(Trouble::Timeout)),
            Err(_) => answered.try_recv().unwrap_or_else(|_| Outcome::Failed(unknown(W::WRITES, Trouble::Timeout))),
        }
    }

    /// Waits until a connection may be used, and sends over it what has come together meanwhile.
    async fn attend<W: Gathered>(self: Arc<Self>) {
        let mut watch = Watch { queue: W::queue(&self), over: false };
        loop {
            let last = lock(watch.queue).waiting.back().map(|waiting| waiting.deadline);
            // Each caller keeps its own time, so the place in the line is kept for the last of them.
            let slot = self.pool.slot(last.unwrap_or_else(Instant::now)).await;
            if let Ok(slot) = slot {
                let batch = self.next::<W>();
                watch.over = true;
                let Some(deadline) = batch.iter().map(|waiting| waiting.deadline).max() else { return };
                match self.pool.lease_in(slot, deadline).await {
                    Ok(lease) => send(lease, batch, deadline).await,
                    // Nothing was sent, and others of the connections may live.
                    Err(_) => alone(batch),
                }
                return;
            }
            let mut queue = lock(watch.queue);
            let now = Instant::now();
            for waiting in std::mem::take(&mut queue.waiting) {
                if waiting.deadline <= now {
                    tell(waiting.answer, Outcome::Failed(KernelError::not_applied(Trouble::Timeout)));
                } else {
                    queue.waiting.push_back(waiting);
                }
            }
            if queue.waiting.is_empty() {
                queue.attended = false;
                watch.over = true;
                return;
            }
        }
    }

    /// What goes into the next statement. What does not is attended by another task.
    fn next<W: Gathered>(self: &Arc<Self>) -> Vec<Waiting<W>> {
        let mut queue = lock(W::queue(self));
        // Nobody waits for these any more.
        queue.waiting.retain(|waiting| !waiting.answer.is_closed());
        let mut batch: Vec<Waiting<W>> = Vec::with_capacity(queue.waiting.len().min(W::most(D::TOGETHER)));
        let mut bytes = 0;
        let mut place = 0;
        while batch.len() < W::most(D::TOGETHER)
            && let Some(waiting) = queue.waiting.get(place)
        {
            let key = waiting.work.key();
            if W::WRITES && batch.iter().any(|other| other.work.key() == key) {
                place += 1;
                continue;
            }
            bytes += waiting.work.bytes();
            if bytes > MAX_BYTES && !batch.is_empty() {
                break;
            }
            batch.extend(queue.waiting.remove(place));
        }
        queue.attended = !queue.waiting.is_empty();
        if queue.attended {
            tokio::spawn(Arc::clone(self).attend::<W>());
        }
        drop(queue);
        if W::WRITES {
            // All statements lock their records in the same order, so no two of them wait for each other.
            batch.sort_by(|one, other| one.work.key().cmp(&other.work.key()));
        }
        batch
    }
}

impl<W: Gathered> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), attended: false }
    }
}

/// An operation's place in its queue, which it leaves when its caller goes.
struct Place<'g, D: Dialect, W: Gathered> {
    gatherer: &'g Gatherer<D>,
    work: &'g Arc<W>,
}

impl<D: Dialect, W: Gathered> Place<'_, D, W> {
    /// Takes the operation back; false when it has been sent, or is about to be, or is over.
    fn withdraw(&self) -> bool {
        let mut queue = lock(W::queue(self.gatherer));
        let place = queue.waiting.iter().position(|waiting| Arc::ptr_eq(&waiting.work, self.work));
        place.is_some_and(|place| queue.waiting.remove(place).is_some())
    }
}

impl<D: Dialect, W: Gathered> Drop for Place<'_, D, W> {
    fn drop(&mut self) {
        // Whoever has been answered is not in the queue.
        if Arc::strong_count(self.work) > 1 {
            self.withdraw();
        }
    }
}

/// The attention that a task pays to a queue. When it ends before its time, those that wait are told, and the next one is
/// attended again.
struct Watch<'q, W: Gathered> {
    queue: &'q Mutex<Queue<W>>,
    over: bool,
}

impl<W: Gathered> Drop for Watch<'_, W> {
    fn drop(&mut self) {
        if !self.over {
            *lock(self.queue) = Queue::default();
        }
    }
}

/// Sends a batch, and tells each operation what became of it.
async fn send<D: Dialect, W: Gathered>(mut lease: Lease<'_, D>, batch: Vec<Waiting<W>>, deadline: Instant) {
    let works: Vec<Arc<W>> = batch.iter().map(|waiting| Arc::clone(&waiting.work)).collect();
    match timeout_at(deadline, W::prepare::<D>(&mut lease.connection)).await {
        Err(_) => return fail(batch, &KernelError::not_applied(Trouble::Timeout)),
        Ok(Err(error)) => {
            lease.after(&D::fault(&error).before_sending());
            return alone(batch);
        }
        Ok(Ok(())) => {}
    }
    let error = match timeout_at(deadline, W::perform::<D>(&mut lease.connection, &works)).await {
        Err(_) => return fail(batch, &unknown(W::WRITES, Trouble::Timeout)),
        Ok(Err(error)) => error,
        Ok(Ok(answers)) => {
            lease.give_back();
            for (waiting, answer) in batch.into_iter().zip(answers) {
                tell(waiting.answer, Outcome::Done(answer));
            }
            return;
        }
    };
    let fault = D::fault(&error);
    lease.after(&fault);
    match fault {
        // A read can be sent again; and what the server itself says of damage undoes the statement.
        Fault::Lost(_) if W::WRITES => fail(batch, &unknown(W::WRITES, fault.trouble())),
        Fault::Corrupt(_) if W::WRITES && error.as_database_error().is_none() => {
            fail(batch, &unknown(W::WRITES, fault.trouble()));
        }
        _ => alone(batch),
    }
}

/// Nothing has happened: each is sent by itself.
fn alone<W: Gathered>(batch: Vec<Waiting<W>>) {
    batch.into_iter().for_each(|waiting| tell(waiting.answer, Outcome::Alone));
}

fn fail<W: Gathered>(batch: Vec<Waiting<W>>, error: &KernelError) {
    for waiting in batch {
        tell(waiting.answer, Outcome::Failed(error.clone()));
    }
}

/// A caller that has gone need not know.
fn tell<A>(answer: oneshot::Sender<Outcome<A>>, outcome: Outcome<A>) {
    let _gone = answer.send(outcome);
}

fn lock<W: Gathered>(queue: &Mutex<Queue<W>>) -> MutexGuard<'_, Queue<W>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gathered for Wanted {
    type Answer = Option<Record>;
    const WRITES: bool = false;

    fn key(&self) -> (Kind, &str) {
        (self.kind, &self.id)
    }

    /// Nobody knows beforehand; the number of records is the limit.
    fn bytes(&self) -> usize {
        0
    }

    /// What comes back may be as large as a page.
    fn most(together: usize) -> usize {
        together.min(MAX_PAGE_BYTES / MAX_DATA_BYTES)
    }

    fn queue<D: Dialect>(gatherer: &Gatherer<D>) -> &Mutex<Queue<Self>> {
        &gatherer.wanted
    }

    async fn prepare<D: Dialect>(connection: &mut D::Connection) -> sqlx::Result<()> {
        D::prepare_reads(connection).await
    }

    async fn perform<D: Dialect>(
        connection: &mut D::Connection,
        works: &[Arc<Self>],
    ) -> sqlx::Result<Vec<Option<Record>>> {
        // Many want the same client; it comes once.
        let mut distinct: Vec<Arc<Self>> = Vec::with_capacity(works.len());
        let places: Vec<usize> = works
            .iter()
            .map(|work| {
                distinct.iter().position(|other| other.key() == work.key()).unwrap_or_else(|| {
                    distinct.push(Arc::clone(work));
                    distinct.len() - 1
                })
            })
            .collect();
        let records = D::read_together(connection, &distinct).await?;
        Ok(places.into_iter().map(|place| records.get(place).cloned().flatten()).collect())
    }
}

impl Gathered for Put {
    type Answer = bool;
    const WRITES: bool = true;

    fn key(&self) -> (Kind, &str) {
        (self.kind, &self.id)
    }

    fn bytes(&self) -> usize {
        self.write.data.len()
    }

    fn most(together: usize) -> usize {
        together
    }

    fn queue<D: Dialect>(gatherer: &Gatherer<D>) -> &Mutex<Queue<Self>> {
        &gatherer.puts
    }

    async fn prepare<D: Dialect>(connection: &mut D::Connection) -> sqlx::Result<()> {
        D::prepare_puts(connection).await
    }

    async fn perform<D: Dialect>(connection: &mut D::Connection, works: &[Arc<Self>]) -> sqlx::Result<Vec<bool>> {
        D::put_together(connection, works).await
    }
}
