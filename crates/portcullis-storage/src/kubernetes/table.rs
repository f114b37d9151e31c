//! What is known of one kind's objects, and what of it is in force.
//!
//! Of several objects that claim one id the oldest counts. Its content comes into force when the judge accepts it; what is
//! refused leaves in force what the same object said before, as long as this process lives. Each object's status is to say
//! what became of it; it is written when this process has come to another result than before, and never over another
//! replica's result for the same content, so that two replicas that disagree do not write in turns.

//! What the watch and the lists tell comes in the order in which it was written. What this process asks for by itself, because
//! it has just written, may come late: it counts only where the watch has not told as much yet. A list counts over everything
//! that is known, but what was asked for after the list had begun and is newer than it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    seen::{Room, Seen},
    typed::Shape,
};
use crate::{
    changes::Change,
    kernel::{Judge, Record, Verdict},
};

/// Longest message in a status, in characters.
const MAX_MESSAGE: usize = 1024;

/// The objects of one kind.
pub(super) struct Table {
    shape: &'static Shape,
    objects: HashMap<String, Entry>,
    claims: HashMap<String, BTreeSet<Claim>>,
    in_force: HashMap<String, InForce>,
    judge: Option<Judge>,
    room: Room,
    /// Whether all objects have been listed.
    listed: bool,
    /// Up to which version the watch and the lists have told everything.
    told_up_to: u64,
    /// Counts the lists that have begun.
    round: u64,
    /// The uids of objects of which this process knows that they are gone, until the watch or a list has told so: what was
    /// written before their end must not bring them back.
    gone: HashSet<String>,
    /// Names of objects whose status is to be written.
    due: BTreeSet<String>,
}

struct Entry {
    seen: Seen,
    /// During which round this process has asked for it by itself; `None` when the watch or a list has told it.
    asked: Option<u64>,
    /// What this process has come to, and for which generation.
    result: Option<(i64, Verdict)>,
    /// What somebody else than the judge has found, and for which generation.
    told: Option<(i64, Verdict)>,
}

/// An object's claim to an id. The oldest comes first; of two that are as old, the order is the same everywhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    created: String,
    uid: String,
    name: String,
}

struct InForce {
    uid: String,
    record: Arc<Record>,
}

/// A status that is to be written.
pub(super) struct Report {
    pub(super) name: String,
    pub(super) patch: Value,
}

impl Table {
    pub(super) fn new(shape: &'static Shape) -> Self {
        Self {
            shape,
            objects: HashMap::new(),
            claims: HashMap::new(),
            in_force: HashMap::new(),
            judge: None,
            room: Room::default(),
            listed: false,
            told_up_to: 0,
            round: 0,
            gone: HashSet::new(),
            due: BTreeSet::new(),
        }
    }

    pub(super) const fn is_listed(&self) -> bool {
        self.listed
    }

    /// The record of an id that is in force.
    pub(super) fn in_force(&self, id: &str) -> Option<Arc<Record>> {
        self.in_force.get(id).map(|kept| Arc::clone(&kept.record))
    }

    /// The name of the object that counts for an id.
    pub(super) fn name_for(&self, id: &str) -> Option<&str> {
        self.claims.get(id)?.first().map(|claim| claim.name.as_str())
    }

    /// The version and the uid of an object.
    pub(super) fn known(&self, name: &str) -> Option<(u64, &str)> {
        self.objects.get(name).map(|entry| (entry.seen.version, entry.seen.uid.as_str()))
    }

    /// Whether no further object can be kept.
    pub(super) const fn is_full(&self) -> bool {
        self.room.is_full()
    }

    /// Whether there is more than is kept.
    pub(super) const fn is_crowded(&self) -> bool {
        self.room.crowded
    }

    /// A list begins.
    pub(super) fn listing(&mut self) {
        self.round += 1;
        self.gone.clear();
    }

    /// Takes the whole list, of which more than is here may have been left out.
    pub(super) fn replace(&mut self, mut objects: Vec<Seen>, version: u64, crowded: bool) -> Change {
        // What this process has deleted while the list was read.
        objects.retain(|seen| !self.gone.contains(&seen.uid));
        if version < self.told_up_to {
            // The cluster's store was restored from a backup: what was told happened in a history that has ended, and so did
            // what objects said before they were refused. As in a process that starts.
            self.objects.clear();
            self.claims.clear();
            self.in_force.clear();
            self.due.clear();
            self.room = Room::default();
        }
        self.told_up_to = version;
        let round = self.round;
        let newer = |entry: &Entry| entry.asked == Some(round) && entry.seen.version > version;
        let names: HashSet<&str> = objects.iter().map(|seen| seen.name.as_str()).collect();
        let gone = self.objects.iter().filter(|(name, entry)| !names.contains(name.as_str()) && !newer(entry));
        let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.take_away(&name);
        }
        self.room = Room::default();
        self.room.crowded = crowded;
        self.objects.values().filter(|entry| newer(entry)).for_each(|entry| self.room.add(&entry.seen));
        for seen in objects {
            if !self.objects.get(&seen.name).is_some_and(newer) {
                self.place(seen, None);
            }
        }
        self.listed = true;
        Change::All
    }

    /// Takes an object as the watch tells it. The ids whose meaning has changed; none when it is known already, or newer.
    pub(super) fn apply(&mut self, seen: Seen) -> Change {
        self.told_up_to = self.told_up_to.max(seen.version);
        let known = self.objects.get(&seen.name).is_some_and(|entry| entry.seen.version >= seen.version);
        if known || self.gone.contains(&seen.uid) {
            return Change::none();
        }
        self.put(seen, None)
    }

    /// Takes an object that this process has asked for, unless the watch has told of it or of what came after.
    pub(super) fn observe(&mut self, seen: Seen) -> Change {
        let known = self.objects.get(&seen.name).is_some_and(|entry| entry.seen.version >= seen.version);
        if known || seen.version <= self.told_up_to || self.gone.contains(&seen.uid) {
            return Change::none();
        }
        self.put(seen, Some(self.round))
    }

    /// Takes an object away, as the watch tells; not when it is known to be there at a later version.
    pub(super) fn remove(&mut self, name: &str, uid: &str, version: u64) -> Change {
        self.told_up_to = self.told_up_to.max(version);
        self.gone.remove(uid);
        if self.objects.get(name).is_none_or(|entry| entry.seen.version > version) {
            return Change::none();
        }
        self.take_away(name)
    }

    /// Everything up to a version has been told.
    pub(super) fn bookmark(&mut self, version: u64) {
        self.told_up_to = self.told_up_to.max(version);
    }

    /// The object with this uid is gone, as this process has learnt by itself.
    pub(super) fn end(&mut self, name: &str, uid: &str) -> Change {
        let known = self.objects.get(name).is_some_and(|entry| entry.seen.uid == uid);
        // Of one that is not known, the watch may still tell how it was before.
        self.gone.insert(uid.to_owned());
        if known { self.take_away(name) } else { Change::none() }
    }

    fn put(&mut self, seen: Seen, asked: Option<u64>) -> Change {
        if let Some(before) = self.objects.get(&seen.name) {
            self.room.give_back(&before.seen);
        }
        self.place(seen, asked)
    }

    /// Puts an object in the place of the one that had its name, whose room is free already.
    fn place(&mut self, seen: Seen, asked: Option<u64>) -> Change {
        let name = seen.name.clone();
        let Some(seen) = self.room.take(seen) else { return Change::none() };
        let before = self.objects.get(&name);
        let same = before.filter(|entry| entry.seen.uid == seen.uid);
        let unchanged = same.is_some_and(|entry| entry.seen.id == seen.id && entry.seen.data() == seen.data());
        let old_id = before.and_then(|entry| entry.seen.id.clone());
        let result = same.and_then(|entry| entry.result.clone());
        let told = same.and_then(|entry| entry.told.clone());
        self.forget_claim(&name);
        let id = seen.id.clone();
        if let Some(id) = &id {
            let claim = Claim { created: seen.created.clone(), uid: seen.uid.clone(), name: name.clone() };
            self.claims.entry(id.clone()).or_default().insert(claim);
        }
        self.objects.insert(name.clone(), Entry { seen, asked, result, told });
        let ids: BTreeSet<String> = old_id.into_iter().chain(id.clone()).collect();
        for id in &ids {
            self.settle(id);
        }
        if id.is_none() {
            self.settle_object(&name, None);
        }
        if unchanged { Change::none() } else { Change::Ids(ids) }
    }

    fn take_away(&mut self, name: &str) -> Change {
        self.forget_claim(name);
        self.due.remove(name);
        let entry = self.objects.remove(name);
        if let Some(entry) = &entry {
            self.room.give_back(&entry.seen);
        }
        let id = entry.and_then(|entry| entry.seen.id);
        if let Some(id) = &id {
            self.settle(id);
        }
        Change::Ids(id.into_iter().collect())
    }

    fn forget_claim(&mut self, name: &str) {
        let Some(id) = self.objects.get(name).and_then(|entry| entry.seen.id.as_ref()) else { return };
        if let Some(claims) = self.claims.get_mut(id) {
            claims.retain(|claim| claim.name != name);
            if claims.is_empty() {
                self.claims.remove(id);
            }
        }
    }

    /// Judges everything anew, also what is in force: before the first judge came nobody had looked at it.
    pub(super) fn judge_with(&mut self, judge: Judge) {
        let kind = self.shape.kind;
        self.in_force.retain(|_, kept| judge(kind, &kept.record) == Verdict::Accepted);
        self.judge = Some(judge);
        let ids: Vec<String> = self.claims.keys().cloned().collect();
        ids.iter().for_each(|id| self.settle(id));
        let nameless: Vec<String> =
            self.objects.iter().filter(|(_, entry)| entry.seen.id.is_none()).map(|(name, _)| name.clone()).collect();
        nameless.iter().for_each(|name| self.settle_object(name, None));
    }

    /// The same judge knows more than before.
    pub(super) fn judge_again(&mut self) {
        if let Some(judge) = self.judge.clone() {
            self.judge_with(judge);
        }
    }

    /// What somebody has found out about the object that counts for an id. False when there is none.
    pub(super) fn tell(&mut self, id: &str, verdict: Verdict) -> bool {
        let Some(name) = self.name_for(id).map(ToOwned::to_owned) else { return false };
        if let Some(entry) = self.objects.get_mut(&name) {
            entry.told = Some((entry.seen.generation, verdict));
        }
        self.settle(id);
        true
    }

    /// Decides what an id means now.
    fn settle(&mut self, id: &str) {
        let Some(claims) = self.claims.get(id).cloned() else {
            self.in_force.remove(id);
            return;
        };
        let mut claims = claims.into_iter();
        let Some(first) = claims.next() else { return };
        self.settle_object(&first.name, Some(id));
        for other in claims {
            let message = format!(
                "the object {:?} is older and has this id as well, so it counts; delete one of the two",
                first.name
            );
            self.conclude(&other.name, Verdict::refused("Duplicate", message));
        }
    }

    /// Decides about an object that has its id (or none) for itself.
    fn settle_object(&mut self, name: &str, id: Option<&str>) {
        let Some(entry) = self.objects.get(name) else { return };
        let verdict = match &entry.seen.record {
            Err(what) => Verdict::refused("Invalid", what.clone()),
            Ok(record) => self.judge.as_ref().map_or(Verdict::Accepted, |judge| judge(self.shape.kind, record)),
        };
        let told = entry.told.as_ref().filter(|(generation, _)| *generation == entry.seen.generation);
        let told = told.map(|(_, verdict)| verdict.clone());
        if let Some(id) = id {
            match (&verdict, &entry.seen.record) {
                (Verdict::Accepted, Ok(record)) => {
                    let kept = InForce { uid: entry.seen.uid.clone(), record: Arc::clone(record) };
                    self.in_force.insert(id.to_owned(), kept);
                }
                // What another object has said is not this one's last good version.
                _ if self.in_force.get(id).is_some_and(|kept| kept.uid != entry.seen.uid) => {
                    self.in_force.remove(id);
                }
                _ => {}
            }
        }
        let verdict = match (verdict, told) {
            (Verdict::Accepted, Some(told)) => told,
            (Verdict::Refused { reason, message }, _) => {
                let kept = id.is_some_and(|id| self.in_force.contains_key(id));
                let rest = if kept { "what it said before stays in force" } else { "nothing of it is in force" };
                Verdict::refused(reason, format!("{message}; {rest}"))
            }
            (verdict, None) => verdict,
        };
        self.conclude(name, verdict);
    }

    fn conclude(&mut self, name: &str, verdict: Verdict) {
        let Some(entry) = self.objects.get_mut(name) else { return };
        let result = Some((entry.seen.generation, verdict));
        if self.judge.is_none() || entry.result == result {
            return;
        }
        entry.result = result;
        if entry.is_said() {
            self.due.remove(name);
        } else {
            self.due.insert(name.to_owned());
        }
    }

    /// The next status that is to be written, if any. `now` is a time in RFC 3339.
    pub(super) fn next_report(&mut self, now: &str) -> Option<Report> {
        while let Some(name) = self.due.pop_first() {
            let entry = self.objects.get(&name).filter(|entry| !entry.is_said());
            if let Some(patch) = entry.and_then(|entry| entry.patch(now)) {
                return Some(Report { name, patch });
            }
        }
        None
    }

    /// A status could not be written for a reason that may pass.
    pub(super) fn again(&mut self, name: String) {
        if self.objects.contains_key(&name) {
            self.due.insert(name);
        }
    }
}

impl Entry {
    /// Status, reason and message of the condition.
    fn words(&self) -> Option<(&'static str, &'static str, String)> {
        match &self.result.as_ref()?.1 {
            Verdict::Accepted => Some(("True", "Accepted", "in force".to_owned())),
            Verdict::Refused { reason, message } => {
                Some(("False", reason, message.chars().take(MAX_MESSAGE).collect()))
            }
        }
    }

    fn condition(&self) -> Option<&Value> {
        self.seen.status.get("conditions")?.as_array()?.iter().find(|condition| condition["type"] == "Accepted")
    }

    /// Whether the status that was read says what this process has come to.
    fn is_said(&self) -> bool {
        let (Some((status, reason, message)), Some(condition)) = (self.words(), self.condition()) else { return false };
        self.seen.status.get("observedGeneration").and_then(Value::as_i64) == Some(self.seen.generation)
            && condition["status"] == status
            && condition["reason"] == reason
            && condition["message"] == *message
    }

    fn patch(&self, now: &str) -> Option<Value> {
        let (status, reason, message) = self.words()?;
        let since = self.condition().filter(|condition| condition["status"] == status);
        let since = since.and_then(|condition| condition["lastTransitionTime"].as_str()).unwrap_or(now);
        Some(json!({
            "metadata": {"resourceVersion": self.seen.version.to_string()},
            "status": {
                "observedGeneration": self.seen.generation,
                "conditions": [{
                    "type": "Accepted", "status": status, "reason": reason, "message": message,
                    "observedGeneration": self.seen.generation, "lastTransitionTime": since,
                }],
            },
        }))
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
