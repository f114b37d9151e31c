//! Keys, configured objects, failure counters, stored requests: promises K1, K2, O1, N2, N3 and R1. And the collector.

use std::time::Duration;

use portcullis_runtime::{Clock, Rng, Timestamp};
use portcullis_storage::{
    Client, Failures, Loaded, MemoryKernel, RequestError, RequestOrigin, SealingPolicy, SealingRing, SecretBytes,
    SigningKeyRecord, SigningKeySet, Store, StoreError, Subject,
    kernel::{Kernel, Kind, Write},
};

use super::{
    Checked,
    tally::{Op, Outcome},
    violated,
    world::{MAX_SKEW, Model, Scene, World},
};
use crate::kit::{HOUR, MINUTE, START};

/// Sealing keys that change often enough for a history to see several.
const SEALING: SealingPolicy = SealingPolicy { rotate_after: HOUR, opens_for: Duration::from_secs(4 * 60 * 60) };
/// The window of the failure counters.
const WINDOW: Duration = Duration::from_secs(10 * 60 * 60);
/// How long a stored request is kept.
const REQUEST_LIFE: Duration = Duration::from_secs(60 * 60);
/// Most requests for one of those for whom an address says it speaks.
const MOST_REQUESTS: usize = 8;
const CLIENT: &str = "changed";
const SUBJECT: Subject<'static> = Subject::Account("ann");

#[derive(Default)]
pub(super) struct Objects {
    keys: Keys,
    seals: Vec<Seal>,
    newest: Option<(String, Timestamp)>,
    failures: Vec<Failure>,
    client: Marks,
    requests: Vec<Request>,
    /// Requests that may be kept, and nobody has their handle: whose, and until when.
    strays: Vec<(usize, Timestamp)>,
    numbers: u64,
}

/// The sets of signing keys that may be in force.
#[derive(Default)]
struct Keys {
    current: Option<u64>,
    /// Those that calls may have written of which nobody heard yet.
    possible: Vec<u64>,
}

/// A set of signing keys as a replica has read it.
#[derive(Clone)]
pub(super) struct LoadedKeys {
    number: u64,
    loaded: Loaded<SigningKeySet>,
}

/// Something that was sealed, and when.
struct Seal {
    key: String,
    at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    No,
    Maybe,
    Yes,
}

/// A failed sign-in.
struct Failure {
    at: Timestamp,
    replica: usize,
    /// Whether its replica still has it in memory, for itself.
    here: bool,
    written: Fact,
    cleared: Fact,
    /// How often it may be counted.
    times: u32,
}

/// The changes of one configured object.
#[derive(Default)]
struct Marks {
    made: Vec<u64>,
    possible: Vec<u64>,
}

struct Request {
    number: u64,
    whose: usize,
    handle: String,
    ends_at: Timestamp,
    gone: Fact,
}

impl Request {
    /// Whether it is surely there, at any time of the call.
    fn is_kept(&self, scene: &Scene) -> bool {
        self.gone == Fact::No && scene.now + MAX_SKEW < self.ends_at && scene.began + MAX_SKEW < self.ends_at
    }
}

/// What is there before the first call.
pub(super) async fn prepare(kernel: &MemoryKernel) {
    static CLIENT_RECORD: std::sync::OnceLock<Write> = std::sync::OnceLock::new();
    let write = match CLIENT_RECORD.get() {
        Some(write) => write.clone(),
        None => {
            let (made, (clock, _hand)) = (std::sync::Arc::new(MemoryKernel::new()), Clock::mock(START));
            let store = Store::new(std::sync::Arc::clone(&made) as _, clock, Rng::seeded(0));
            store.clients().create(&Client { id: CLIENT.to_owned(), ..Client::default() }).await.unwrap();
            let record = made.get(Kind::Client, CLIENT).await.unwrap().unwrap();
            let write = Write { index: record.index, expires_at: record.expires_at, data: record.data };
            CLIENT_RECORD.get_or_init(|| write).clone()
        }
    };
    let _ = kernel.insert(Kind::Client, CLIENT, write).await.unwrap();
}

fn key_set(number: u64) -> SigningKeySet {
    let at = Timestamp::from_unix_seconds(START);
    let key = SigningKeyRecord {
        kid: number.to_string(),
        algorithm: "RS256".to_owned(),
        private: Some(SecretBytes::from(&b"private"[..])),
        public: "{}".to_owned(),
        created_at: at,
        signs_from: at,
        verifies_until: None,
    };
    SigningKeySet { keys: vec![key], next_rotation: at }
}

fn number_of(set: &SigningKeySet) -> u64 {
    set.keys[0].kid.parse().unwrap()
}

impl Keys {
    fn may_be(&self, number: u64) -> bool {
        self.current == Some(number) || self.possible.contains(&number)
    }

    fn now_are(&mut self, number: u64) {
        self.current = Some(number);
        // What is on its way was made from what is no longer in force.
        self.possible.clear();
    }

    fn in_doubt(&mut self, number: u64) {
        if !self.may_be(number) {
            self.possible.push(number);
        }
    }
}

impl Objects {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A replica has lost what it had in memory.
    pub(super) fn restarted(&mut self, replica: usize) {
        for failure in self.failures.iter_mut().filter(|failure| failure.replica == replica && failure.here) {
            failure.here = false;
            if failure.written == Fact::No {
                failure.cleared = Fact::Yes;
            }
        }
    }

    fn flush_in_doubt(&mut self, replica: usize) {
        for failure in self.unwritten_of(replica) {
            failure.written = Fact::Maybe;
            // It may be in the store, and in memory, from where it is written again.
            failure.times += 1;
        }
    }

    fn unwritten_of(&mut self, replica: usize) -> impl Iterator<Item = &mut Failure> {
        let unwritten = move |failure: &&mut Failure| {
            failure.replica == replica && failure.here && failure.written != Fact::Yes && failure.cleared != Fact::Yes
        };
        self.failures.iter_mut().filter(unwritten)
    }

    /// How many failures a replica must and may know of.
    fn bounds(&self, scene: &Scene) -> (u32, u32) {
        let age = |failure: &Failure| scene.now.saturating_since(failure.at);
        // Parts of the window are a tenth of it, and clocks differ.
        let within = |failure: &&Failure| age(failure) + MAX_SKEW * 2 < WINDOW;
        let nearly_within = |failure: &&Failure| age(failure) < WINDOW + WINDOW / 5 + MAX_SKEW * 2;
        let known = |failure: &&Failure| {
            failure.cleared == Fact::No
                && (failure.written == Fact::Yes || (failure.replica == scene.replica && failure.here))
        };
        let least = self.failures.iter().filter(within).filter(known).count();
        let stored = self.failures.iter().filter(nearly_within).filter(|failure| failure.cleared != Fact::Yes);
        let own = |failure: &&Failure| failure.replica == scene.replica && failure.here;
        let here = self.failures.iter().filter(nearly_within).filter(own).count();
        let most: u32 = stored.map(|failure| failure.times).sum();
        (u32::try_from(least).unwrap(), most.max(u32::try_from(here).unwrap()))
    }

    fn counted(&self, scene: &Scene, failures: Failures) -> Checked {
        let (least, most) = self.bounds(scene);
        violated(failures.count < least, || {
            format!("N2: {} failures are counted on replica {}, of at least {least}", failures.count, scene.replica)
        })?;
        violated(failures.count > most, || {
            format!("N3: {} failures are counted on replica {}, of at most {most}", failures.count, scene.replica)
        })
    }

    fn clear_in_doubt(&mut self, scene: &Scene) {
        for failure in self.failures.iter_mut().filter(|failure| failure.cleared == Fact::No) {
            if failure.written != Fact::No || failure.replica == scene.replica {
                failure.cleared = Fact::Maybe;
            }
        }
    }

    fn sealed(&mut self, scene: &Scene, ring: &SealingRing) -> Result<bool, String> {
        let newest = (ring.newest().id().to_owned(), ring.newest().created_at());
        let lost = self
            .seals
            .iter()
            .find(|seal| scene.now + MAX_SKEW < seal.at + SEALING.opens_for && ring.find(&seal.key).is_none());
        violated(lost.is_some(), || "K2: what was sealed cannot be opened before it has expired".to_owned())?;
        let fresh = self.newest.as_ref() != Some(&newest);
        if fresh && let Some((_, before)) = &self.newest {
            violated(newest.1 < *before + SEALING.rotate_after, || "K2: a key was made before it was due".to_owned())?;
        }
        if self.seals.len() == 8 {
            self.seals.remove(0);
        }
        self.seals.push(Seal { key: newest.0.clone(), at: scene.now });
        self.newest = Some(newest);
        Ok(fresh)
    }
}

impl Model {
    fn keys_loaded(&mut self, scene: &Scene, answer: Result<Option<Loaded<SigningKeySet>>, StoreError>) -> Checked {
        let keys = &self.objects.keys;
        match answer {
            Ok(None) => violated(keys.current.is_some(), || "K1: the signing keys are gone".to_owned()),
            Ok(Some(loaded)) => {
                let number = number_of(&loaded.value);
                violated(!keys.may_be(number), || {
                    format!("K1: the keys {number} are read, and {:?} are in force", keys.current)
                })?;
                self.handles[scene.replica].keys = Some(LoadedKeys { number, loaded });
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }
}

impl World {
    pub(super) fn load_keys(&mut self) -> Checked {
        let replica = self.some_replica();
        self.ask(
            (Op::LoadKeys, replica, String::new),
            |store| async move { store.signing_keys().load().await },
            |_, _| {},
            |model, scene, answer| model.keys_loaded(scene, answer),
        )
    }

    pub(super) fn first_keys(&mut self) -> Checked {
        let replica = self.some_replica();
        let number = self.model.objects.number();
        self.ask(
            (Op::FirstKeys, replica, || format!("{number}")),
            move |store| async move { store.signing_keys().create(&key_set(number)).await },
            move |model, _| model.objects.keys.in_doubt(number),
            move |model, scene, answer| {
                let keys = &mut model.objects.keys;
                match answer {
                    Ok(true) => {
                        violated(keys.current.is_some(), || {
                            format!("K1: the first keys were made twice, as {number}")
                        })?;
                        keys.now_are(number);
                    }
                    Ok(false) => {
                        let possible = keys.possible.iter().any(|other| *other != number);
                        violated(keys.current.is_none() && !possible && !scene.suspended, || {
                            "K1: somebody was faster to make the first keys, and nobody did".to_owned()
                        })?;
                        keys.possible.retain(|other| *other != number);
                    }
                    Err(_) => keys.in_doubt(number),
                }
                Ok(())
            },
        )
    }

    pub(super) fn rotate_keys(&mut self) -> Checked {
        let Some(replica) = self.replica_with(|handles| handles.keys.is_some()) else { return Ok(()) };
        let held = &mut self.model.handles[replica].keys;
        // What was read once may be used twice.
        let used = if self.dice.below(2) == 0 { held.clone() } else { held.take() };
        let Some(LoadedKeys { number: old, loaded }) = used else { return Ok(()) };
        let number = self.model.objects.number();
        self.ask(
            (Op::RotateKeys, replica, || format!("{number} from {old}")),
            move |store| async move { store.signing_keys().replace(&loaded, &key_set(number)).await },
            move |model, _| model.objects.keys.in_doubt(number),
            move |model, _, answer| {
                let keys = &mut model.objects.keys;
                match answer {
                    Ok(true) => {
                        violated(!keys.may_be(old), || {
                            format!("K1: {number} was made from {old}, and {:?} was in force", keys.current)
                        })?;
                        keys.now_are(number);
                        model.tally.outcome(Outcome::Rotated);
                    }
                    Ok(false) => {
                        keys.possible.retain(|other| *other != number);
                        model.tally.outcome(Outcome::RotationLost);
                    }
                    Err(_) => keys.in_doubt(number),
                }
                Ok(())
            },
        )
    }

    pub(super) fn sealing_keys(&mut self) -> Checked {
        let replica = self.some_replica();
        self.ask(
            (Op::SealingKeys, replica, String::new),
            |store| async move { store.sealing_keys().load(SEALING).await },
            |_, _| {},
            |model, scene, answer: Result<SealingRing, StoreError>| {
                let Ok(ring) = answer else { return Ok(()) };
                if model.objects.sealed(scene, &ring)? {
                    model.tally.outcome(Outcome::NewSealingKey);
                }
                Ok(())
            },
        )
    }

    pub(super) fn fail(&mut self) -> Checked {
        let replica = self.some_replica();
        let Scene { now: at, .. } = self.made(Op::Fail, replica, String::new);
        self.store(replica).failures().record(SUBJECT, true, WINDOW);
        let failure = Failure { at, replica, here: true, written: Fact::No, cleared: Fact::No, times: 1 };
        self.model.objects.failures.push(failure);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Checked {
        let replica = self.some_replica();
        // One task of each replica writes, one time after the other.
        if self.is_suspended(replica, Op::Flush) {
            return Ok(());
        }
        let known = self.model.objects.failures.len();
        self.ask(
            (Op::Flush, replica, String::new),
            |store| async move { store.failures().flush(WINDOW).await },
            move |model, _| model.objects.flush_in_doubt(replica),
            move |model, scene, answer: Result<(), StoreError>| {
                if answer.is_err() || scene.suspended {
                    model.objects.flush_in_doubt(replica);
                }
                if answer.is_ok() {
                    let seen = model.objects.failures.iter_mut().take(known);
                    for failure in seen.filter(|failure| failure.replica == replica && failure.here) {
                        failure.written = if scene.suspended { Fact::Maybe } else { Fact::Yes };
                    }
                }
                Ok(())
            },
        )
    }

    pub(super) fn count(&mut self) -> Checked {
        let replica = self.some_replica();
        self.ask(
            (Op::Count, replica, String::new),
            |store| async move { store.failures().of(SUBJECT, WINDOW).await },
            |_, _| {},
            |model, scene, answer: Result<Failures, StoreError>| {
                // The store is read first, and the table afterwards.
                let Ok(failures) = answer else { return Ok(()) };
                if !scene.suspended {
                    model.objects.counted(scene, failures)?;
                    model.tally.outcome(Outcome::CountedAll);
                }
                Ok(())
            },
        )
    }

    pub(super) fn clear(&mut self) -> Checked {
        let replica = self.some_replica();
        // The table forgets before anything is asked of the store: what comes while the call is suspended stays.
        let known = self.model.objects.failures.len();
        self.ask(
            (Op::Clear, replica, String::new),
            |store| async move { store.failures().clear(SUBJECT).await },
            |model, scene| model.objects.clear_in_doubt(scene),
            move |model, scene, answer: Result<(), StoreError>| {
                let sure = answer.is_ok() && !scene.suspended;
                model.objects.clear_in_doubt(scene);
                for failure in model.objects.failures.iter_mut().take(known) {
                    let own = failure.replica == scene.replica && failure.here;
                    let gone = failure.written == Fact::Yes || (own && failure.written == Fact::No);
                    if sure && gone && failure.times == 1 {
                        failure.cleared = Fact::Yes;
                    }
                    failure.here &= !own;
                }
                Ok(())
            },
        )
    }

    pub(super) fn update_client(&mut self) -> Checked {
        let replica = self.some_replica();
        let number = self.model.objects.number();
        self.ask(
            (Op::UpdateClient, replica, || format!("mark {number}")),
            move |store| async move {
                let mark = format!("http://localhost/{number}");
                let add = |client: &mut Client| {
                    if !client.redirect_uris.contains(&mark) {
                        client.redirect_uris.push(mark.clone());
                    }
                };
                store.clients().update(CLIENT, add).await.map(drop)
            },
            move |model, _| model.objects.client.possible.push(number),
            move |model, _, answer| {
                let marks = &mut model.objects.client;
                match answer {
                    Ok(()) => marks.made.push(number),
                    Err(portcullis_storage::WriteError::Store(_)) => marks.possible.push(number),
                    Err(error) => return Err(format!("O1: the client cannot be changed: {error}")),
                }
                Ok(())
            },
        )
    }

    pub(super) fn read_client(&mut self) -> Checked {
        let replica = self.some_replica();
        self.ask(
            (Op::ReadClient, replica, String::new),
            |store| async move { store.clients().get(CLIENT).await },
            |_, _| {},
            |model, _, answer| {
                let Ok(client) = answer else { return Ok(()) };
                let Some(client) = client else { return Err("O1: the client is gone".to_owned()) };
                let marks = &model.objects.client;
                let found = |number: &u64| client.redirect_uris.contains(&format!("http://localhost/{number}"));
                let lost = marks.made.iter().find(|number| !found(number));
                violated(lost.is_some(), || format!("O1: change {lost:?} of the client is lost"))?;
                let most = marks.made.len() + marks.possible.len();
                let count = client.redirect_uris.len();
                violated(count > most, || format!("O1: the client has {count} changes, and {most} were made"))
            },
        )
    }

    fn origin(whose: usize) -> RequestOrigin<'static> {
        let claimed = ["198.51.100.1", "198.51.100.2"][whose];
        RequestOrigin { client_id: "app", address: "192.0.2.7", claimed: Some(claimed) }
    }

    pub(super) fn keep_request(&mut self) -> Checked {
        // Several from one place in a row: the cap is there for those.
        let rounds = if self.dice.below(6) == 0 { 1 + MOST_REQUESTS } else { 1 };
        let whose = self.dice.below(2);
        (0..rounds).try_for_each(|_| self.keep_one_request(whose))
    }

    fn keep_one_request(&mut self, whose: usize) -> Checked {
        let replica = self.some_replica();
        let number = self.model.objects.number();
        self.ask(
            (Op::KeepRequest, replica, || format!("{number} of {whose}")),
            move |store| async move {
                store.requests().keep(number.to_string().as_bytes(), REQUEST_LIFE, Self::origin(whose)).await
            },
            move |model, scene| model.objects.strays.push((whose, scene.began + REQUEST_LIFE)),
            move |model, scene, answer| {
                let objects = &mut model.objects;
                // Times are kept in whole milliseconds.
                let ends_at = scene.began + REQUEST_LIFE;
                let of = |request: &&Request| request.whose == whose;
                match answer {
                    Ok(handle) => {
                        let kept = objects.requests.iter().filter(of).filter(|request| request.is_kept(scene));
                        let kept = kept.count();
                        violated(kept >= MOST_REQUESTS, || format!("R1: {kept} requests are kept, and another one"))?;
                        objects.requests.push(Request { number, whose, handle, ends_at, gone: Fact::No });
                    }
                    Err(RequestError::Full) => {
                        let over = |end: Timestamp| scene.began >= end;
                        let waits =
                            objects.requests.iter().any(|other| other.gone != Fact::Yes && !over(other.ends_at))
                                || objects.strays.iter().any(|(_, end)| !over(*end));
                        violated(!waits, || "R1: there is no room, and nothing waits".to_owned())?;
                        model.tally.outcome(Outcome::RequestsFull);
                    }
                    Err(RequestError::Store(_)) => objects.strays.push((whose, ends_at)),
                    Err(error) => return Err(format!("R1: {error}")),
                }
                Ok(())
            },
        )
    }

    fn some_request(&mut self) -> Option<usize> {
        // Mostly one that is not over.
        let count = self.model.objects.requests.len();
        let newest = if self.dice.below(3) > 0 { count.min(4) } else { count };
        (count > 0).then(|| count - 1 - self.dice.below(newest))
    }

    pub(super) fn find_request(&mut self) -> Checked {
        match self.some_request() {
            Some(at) => self.find_this_request(at),
            None => Ok(()),
        }
    }

    fn find_this_request(&mut self, at: usize) -> Checked {
        let replica = self.some_replica();
        let Request { handle, number, .. } = &self.model.objects.requests[at];
        let (handle, number) = (handle.clone(), *number);
        self.ask(
            (Op::FindRequest, replica, || format!("{number}")),
            move |store| async move { store.requests().get(&handle).await },
            |_, _| {},
            move |model, scene, answer| {
                let request = &model.objects.requests[at];
                let Ok(found) = answer else { return Ok(()) };
                match found {
                    Some(content) => {
                        violated(content != number.to_string().as_bytes(), || {
                            format!("R1: request {number} was found and is another one")
                        })?;
                        violated(scene.now >= request.ends_at, || {
                            format!("R1: request {number} is found after its end")
                        })?;
                        violated(request.gone == Fact::Yes, || {
                            format!("R1: request {number} was forgotten and is found")
                        })
                    }
                    None => violated(request.is_kept(scene), || format!("R1: request {number} is gone before its end")),
                }
            },
        )
    }

    pub(super) fn forget_request(&mut self) -> Checked {
        let Some(at) = self.some_request() else { return Ok(()) };
        let replica = self.some_replica();
        let Request { handle, number, .. } = &self.model.objects.requests[at];
        let (handle, number) = (handle.clone(), *number);
        let maybe = move |model: &mut Model| {
            let request = &mut model.objects.requests[at];
            if request.gone == Fact::No {
                request.gone = Fact::Maybe;
            }
        };
        self.ask(
            (Op::ForgetRequest, replica, || format!("{number}")),
            move |store| async move { store.requests().forget(&handle).await },
            move |model, _| maybe(model),
            move |model, scene, answer| {
                // To a clock that is ahead it may have been over, and there was nothing to forget.
                match answer {
                    Ok(()) if scene.now < model.objects.requests[at].ends_at => {
                        model.objects.requests[at].gone = Fact::Yes;
                    }
                    _ => maybe(model),
                }
                Ok(())
            },
        )
    }

    pub(super) fn collect(&mut self) -> Checked {
        let replica = self.some_replica();
        self.collect_on(replica)
    }

    pub(super) fn collect_on(&mut self, replica: usize) -> Checked {
        self.ask(
            (Op::Collect, replica, String::new),
            |store| async move { store.collect(1_000).await },
            |_, _| {},
            |model, _, answer| {
                if answer.is_ok_and(|collected| collected.records > 0) {
                    model.tally.outcome(Outcome::Collected);
                }
                Ok(())
            },
        )
    }

    /// Every change that was acknowledged is there, and every request that waits is found.
    pub(super) fn objects_at_rest(&mut self) -> Checked {
        self.load_keys()?;
        self.sealing_keys()?;
        self.read_client()?;
        self.count()?;
        (0..self.model.objects.requests.len()).try_for_each(|at| self.find_this_request(at))?;
        self.wait_out(2 * MINUTE)
    }
}
