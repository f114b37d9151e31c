//! Secrets under data keys, and new keys while the store is used: promises S2, S3, S5 and S7. In some of the histories.

use std::{sync::Arc, time::Duration};

use portcullis_runtime::{Rng, Timestamp};
use portcullis_storage::{
    KeyEncryption, KeyEncryptionKey, KeyWrapper, SealingError, StoreError, Sweep, SweepStep,
    kernel::{Kernel, Kind, Page},
};

use super::{
    Checked,
    tally::{Op, Outcome},
    violated,
    world::{MAX_SKEW, World, at_once},
};
use crate::kit::{DAY, HOUR};

/// Data keys that change often enough for a history to see several.
const LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);
/// How long a data key is kept that seals no longer.
const KEPT: Duration = DAY;
/// Records of one step of a sweep.
const STEP: usize = 100;

/// What is known of how secrets are sealed.
pub(super) struct Sealed {
    /// How often the key-encryption key has been replaced.
    generation: u8,
    /// With which one each replica was started.
    started: Vec<u8>,
    /// The data keys, oldest first, and from when on each seals.
    known: Vec<(String, Timestamp)>,
}

impl Sealed {
    pub(super) fn of(replicas: usize) -> Self {
        Self { generation: 0, started: vec![0; replicas], known: Vec::new() }
    }
}

/// A configuration: the key of this generation, and the one before.
fn keys(generation: u8) -> KeyEncryption {
    let key = |generation: u8| -> Arc<dyn KeyWrapper> {
        let (id, rng) = (format!("k{generation}"), Rng::seeded(u64::from(generation)));
        Arc::new(KeyEncryptionKey::new(Some(&id), "a simulation", &[generation; 32], rng).unwrap())
    };
    let older = generation.checked_sub(1).map(key).into_iter().collect();
    KeyEncryption { older, data_key_lifetime: LIFETIME, ..KeyEncryption::new(key(generation)) }
}

/// The data keys of the store, as their record has them.
fn data_keys(kernel: &dyn Kernel) -> Vec<(String, Timestamp)> {
    let record = at_once(kernel.get(Kind::DataKeys, "keys")).unwrap().expect("data keys");
    let doc: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
    let keys = doc["v"]["keys"].as_array().unwrap().iter();
    keys.map(|key| {
        let from = key["seals_from"].as_i64().unwrap();
        (key["id"].as_str().unwrap().to_owned(), Timestamp::from_unix_nanos(from * 1_000_000))
    })
    .collect()
}

/// A record in which something is sealed with this data key.
fn carrier(kernel: &dyn Kernel, id: &str) -> Option<(Kind, String)> {
    let sealed = format!("s.{id}.");
    let carries = |data: &[u8]| data.windows(sealed.len()).any(|part| part == sealed.as_bytes());
    Kind::ALL.into_iter().find_map(|kind| {
        let records = at_once(kernel.list(kind, Page::first(1_000))).unwrap().records;
        let found = records.into_iter().find(|record| carries(&record.data))?;
        Some((kind, found.id))
    })
}

impl World {
    /// A replica opens the data keys as it starts. It is started again when the store fails it.
    pub(super) fn unlock(&self, replica: usize) -> Checked {
        let Some(sealed) = &self.model.sealed else { return Ok(()) };
        let generation = sealed.started[replica];
        for _ in 0..4 {
            match self.quietly(replica, |store| at_once(store.unlock(Some(keys(generation))))) {
                Ok(_) => return Ok(()),
                Err(SealingError::Store(_)) => {}
                Err(error) => {
                    return Err(format!("S3: replica {replica} with key {generation} does not start: {error}"));
                }
            }
        }
        Err(format!("S3: replica {replica} does not start"))
    }

    /// What every replica does twice a minute has been done when time has passed; the turns of two of them come together.
    pub(super) fn tend_all(&mut self) -> Checked {
        if self.model.sealed.is_none() {
            return Ok(());
        }
        let told = |replica: usize, answer| match answer {
            Ok(()) | Err(SealingError::Store(_)) => Ok(()),
            Err(error) => Err(format!("S3: replica {replica} cannot keep the data keys: {error}")),
        };
        let slow = self.some_replica();
        let others = |world: &mut Self| {
            for replica in (0..world.replicas()).filter(|replica| *replica != slow) {
                told(replica, world.quietly(replica, |store| at_once(store.tend_sealing())))?;
            }
            world.data_keys_are_kept()
        };
        let answer = self.held_up(slow, |store| async move { store.tend_sealing().await }, others)?;
        told(slow, answer)?;
        self.data_keys_are_kept()
    }

    /// A data key is there for as long as somebody may need it.
    fn data_keys_are_kept(&mut self) -> Checked {
        let latest = self.latest_clock();
        let Some(sealed) = &mut self.model.sealed else { return Ok(()) };
        let now = data_keys(&*self.kernel);
        let is_there = |id: &str| now.iter().any(|(other, _)| other == id);
        for (at, (id, _)) in sealed.known.iter().enumerate().filter(|(_, (id, _))| !is_there(id)) {
            let superseded = sealed.known[at + 1..].iter().any(|(_, from)| *from + KEPT <= latest);
            violated(!superseded, || format!("S2: the data key {id} is gone before its time"))?;
            let carrier = carrier(&*self.kernel, id);
            violated(carrier.is_some(), || format!("S7: the data key {id} is gone, and {carrier:?} needs it"))?;
            self.model.tally.outcome(Outcome::DataKeyRemoved);
        }
        let known = |id: &str| sealed.known.iter().any(|(other, _)| other == id);
        if now.iter().any(|(id, _)| !known(id)) {
            self.model.tally.outcome(Outcome::DataKeyMade);
        }
        sealed.known = now;
        Ok(())
    }

    /// No replica has met a secret whose data key it does not know, or was kept from sealing.
    pub(super) fn every_secret_opens(&self) -> Checked {
        if self.model.sealed.is_none() {
            return Ok(());
        }
        let missed = (0..self.replicas()).find(|replica| self.has_missed_a_data_key(*replica));
        violated(missed.is_some(), || format!("S2: replica {missed:?} met a data key that it does not know"))
    }

    pub(super) fn tend(&mut self) -> Checked {
        let replica = self.some_replica();
        // One task of each replica does it.
        if self.is_suspended(replica, Op::Tend) {
            return Ok(());
        }
        self.ask(
            (Op::Tend, replica, String::new),
            |store| async move { store.tend_sealing().await },
            |_, _| {},
            move |_, _, answer| match answer {
                Ok(()) | Err(SealingError::Store(_)) => Ok(()),
                Err(error) => Err(format!("S3: replica {replica} cannot keep the data keys: {error}")),
            },
        )?;
        // Also while another replica is about to make the next one.
        self.data_keys_are_kept()
    }

    pub(super) fn sweep(&mut self) -> Checked {
        let replica = self.some_replica();
        if self.is_suspended(replica, Op::Sweep) {
            return Ok(());
        }
        self.sweep_on(replica)
    }

    fn sweep_on(&mut self, replica: usize) -> Checked {
        let mut sweep = self.model.handles[replica].sweep.take().unwrap_or_default();
        let resting = self.is_resting();
        self.ask(
            (Op::Sweep, replica, String::new),
            |store| async move {
                let step = loop {
                    match store.sweep(&mut sweep, STEP).await {
                        Ok(SweepStep::More) => {}
                        step => break step,
                    }
                };
                (sweep, step)
            },
            |_, _| {},
            move |model, _, (sweep, step): (Sweep, Result<SweepStep, StoreError>)| {
                model.handles[replica].sweep = Some(sweep);
                if let Ok(SweepStep::Done { written, why, .. }) = step {
                    if written > 0 {
                        model.tally.outcome(Outcome::SealedAgain);
                    }
                    // While the store refuses writes, that is why.
                    return violated(resting && why.is_some(), || {
                        format!("S5: a secret cannot be sealed again: {why:?}")
                    });
                }
                Ok(())
            },
        )?;
        self.data_keys_are_kept()
    }

    /// A replica is started with another key-encryption key, which the others get next: never are there three in use.
    pub(super) fn rekey(&mut self) -> Checked {
        let some = self.some_replica();
        let Some(sealed) = &mut self.model.sealed else { return Ok(()) };
        let generation = &mut sealed.generation;
        let behind = sealed.started.iter().position(|started| started < generation);
        *generation += u8::from(behind.is_none());
        let (replica, generation) = (behind.unwrap_or(some), *generation);
        sealed.started[replica] = generation;
        self.made(Op::Rekey, replica, || format!("with key {generation}"));
        self.restart(replica)
    }

    /// When all replicas have the newest keys and everything was looked at, the old ones are needed nowhere.
    pub(super) fn sealing_at_rest(&mut self) -> Checked {
        let Some(sealed) = &mut self.model.sealed else { return Ok(()) };
        let generation = sealed.generation;
        sealed.started.fill(generation);
        for replica in 0..self.replicas() {
            self.restart(replica)?;
        }
        // What expires is gone, and what stopped sealing has done so for a day.
        for _ in 0..2 {
            self.wait_out(DAY + HOUR)?;
            self.collect_on(0)?;
            self.sweep_on(0)?;
        }
        let summary = at_once(self.store(0).sealing_summary(usize::MAX)).map_err(|error| format!("S5: {error}"))?;
        for (kind, counts) in &summary.fields {
            let unknown = counts.sealed.keys().find(|id| summary.data_keys.iter().all(|key| key.id != **id));
            violated(unknown.is_some(), || format!("S7: the data key {unknown:?} is gone, and a {kind} needs it"))?;
            violated(counts.unreadable > 0, || format!("S5: {} secrets of {kind} are damaged", counts.unreadable))?;
            // Sign-ins and codes are left alone; a clock that was ahead may have kept one.
            let short = matches!(kind, Kind::Login | Kind::Code);
            violated(counts.clear > 0 && !short, || format!("S5: {} secrets of {kind} are in clear", counts.clear))?;
        }
        self.load_keys()?;
        self.sealing_keys()?;
        self.read_client()?;
        self.every_secret_opens()
    }

    /// The furthest that any clock may be.
    fn latest_clock(&self) -> Timestamp {
        self.true_time() + MAX_SKEW
    }
}
