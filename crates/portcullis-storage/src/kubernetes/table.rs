//! What is known of one kind's objects, and what of it is in force.
//!
//! Of several objects that claim one id the oldest counts. Its content comes into force when the judge accepts it; what is
//! refused leaves in force what the same object said before, as long as this process lives. Each object's status is to say
//! what became of it; it is written when this process has come to another result than before, and never over another
//! replica's result for the same content, so that two replicas that disagree do not write in turns.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};

use super::typed::{Object, Shape};
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
    /// Whether all objects have been listed.
    listed: bool,
    /// Names of objects whose status is to be written.
    due: BTreeSet<String>,
}

struct Entry {
    uid: String,
    version: u64,
    generation: i64,
    created: String,
    id: Option<String>,
    /// The error is for people.
    record: Result<Arc<Record>, String>,
    /// The status as it was read.
    status: Value,
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
            listed: false,
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
        self.objects.get(name).map(|entry| (entry.version, entry.uid.as_str()))
    }

    /// Takes the whole list.
    pub(super) fn replace(&mut self, objects: Vec<Object>, version: u64) -> Change {
        let names: BTreeSet<String> = objects.iter().map(|object| object.metadata.name.clone()).collect();
        for object in objects {
            self.apply(object);
        }
        // What was made after the list was read is known from a write of our own.
        let gone = self.objects.iter().filter(|(name, entry)| !names.contains(*name) && entry.version <= version);
        let gone: Vec<(String, u64)> = gone.map(|(name, entry)| (name.clone(), entry.version)).collect();
        for (name, version) in gone {
            self.remove(&name, version);
        }
        self.listed = true;
        Change::All
    }

    /// Takes an object as it is. The ids whose meaning has changed; none when it is known already, or newer.
    pub(super) fn apply(&mut self, object: Object) -> Change {
        let name = object.metadata.name.clone();
        let version = object.version();
        let before = self.objects.get(&name);
        if before.is_some_and(|entry| entry.version >= version) {
            return Change::Ids(BTreeSet::new());
        }
        // Whatever holds an object's end up, it is over for everybody who looks at it.
        let over = object.is_being_deleted();
        let id = self.shape.id_of(&object).filter(|_| !over);
        let record = match &id {
            None if over => Err("it is being deleted".to_owned()),
            Some(id) => self.shape.record(&object, id).map(Arc::new),
            None => Err("it has no id that could be used: 1 to 1024 bytes".to_owned()),
        };
        let same = before.filter(|entry| entry.uid == object.metadata.uid);
        let unchanged = same.is_some_and(|entry| entry.id == id && data(&entry.record) == data(&record));
        let old_id = before.and_then(|entry| entry.id.clone());
        let entry = Entry {
            uid: object.metadata.uid,
            version,
            generation: object.metadata.generation,
            created: object.metadata.creation_timestamp,
            id: id.clone(),
            record,
            status: object.status,
            result: same.and_then(|entry| entry.result.clone()),
            told: same.and_then(|entry| entry.told.clone()),
        };
        self.forget_claim(&name);
        if let Some(id) = &id {
            let claim = Claim { created: entry.created.clone(), uid: entry.uid.clone(), name: name.clone() };
            self.claims.entry(id.clone()).or_default().insert(claim);
        }
        self.objects.insert(name.clone(), entry);
        let ids: BTreeSet<String> = old_id.into_iter().chain(id.clone()).collect();
        for id in &ids {
            self.settle(id);
        }
        if id.is_none() {
            self.settle_object(&name, None);
        }
        Change::Ids(if unchanged { BTreeSet::new() } else { ids })
    }

    /// Takes an object away, unless it is known to be there at a later version.
    pub(super) fn remove(&mut self, name: &str, version: u64) -> Change {
        if self.objects.get(name).is_none_or(|entry| entry.version > version) {
            return Change::Ids(BTreeSet::new());
        }
        self.forget_claim(name);
        self.due.remove(name);
        let id = self.objects.remove(name).and_then(|entry| entry.id);
        if let Some(id) = &id {
            self.settle(id);
        }
        Change::Ids(id.into_iter().collect())
    }

    fn forget_claim(&mut self, name: &str) {
        let Some(id) = self.objects.get(name).and_then(|entry| entry.id.as_ref()) else { return };
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
            self.objects.iter().filter(|(_, entry)| entry.id.is_none()).map(|(name, _)| name.clone()).collect();
        nameless.iter().for_each(|name| self.settle_object(name, None));
    }

    /// What somebody has found out about the object that counts for an id. False when there is none.
    pub(super) fn tell(&mut self, id: &str, verdict: Verdict) -> bool {
        let Some(name) = self.name_for(id).map(ToOwned::to_owned) else { return false };
        if let Some(entry) = self.objects.get_mut(&name) {
            entry.told = Some((entry.generation, verdict));
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
        let verdict = match &entry.record {
            Err(what) => Verdict::refused("Invalid", what.clone()),
            Ok(record) => self.judge.as_ref().map_or(Verdict::Accepted, |judge| judge(self.shape.kind, record)),
        };
        let told = entry.told.as_ref().filter(|(generation, _)| *generation == entry.generation);
        let told = told.map(|(_, verdict)| verdict.clone());
        if let Some(id) = id {
            match (&verdict, &entry.record) {
                (Verdict::Accepted, Ok(record)) => {
                    let kept = InForce { uid: entry.uid.clone(), record: Arc::clone(record) };
                    self.in_force.insert(id.to_owned(), kept);
                }
                // What another object has said is not this one's last good version.
                _ if self.in_force.get(id).is_some_and(|kept| kept.uid != entry.uid) => {
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
        let result = Some((entry.generation, verdict));
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

fn data(record: &Result<Arc<Record>, String>) -> Result<&[u8], &String> {
    record.as_ref().map(|record| record.data.as_slice())
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
        self.status.get("conditions")?.as_array()?.iter().find(|condition| condition["type"] == "Accepted")
    }

    /// Whether the status that was read says what this process has come to.
    fn is_said(&self) -> bool {
        let (Some((status, reason, message)), Some(condition)) = (self.words(), self.condition()) else { return false };
        self.status.get("observedGeneration").and_then(Value::as_i64) == Some(self.generation)
            && condition["status"] == status
            && condition["reason"] == reason
            && condition["message"] == *message
    }

    fn patch(&self, now: &str) -> Option<Value> {
        let (status, reason, message) = self.words()?;
        let since = self.condition().filter(|condition| condition["status"] == status);
        let since = since.and_then(|condition| condition["lastTransitionTime"].as_str()).unwrap_or(now);
        Some(json!({
            "metadata": {"resourceVersion": self.version.to_string()},
            "status": {
                "observedGeneration": self.generation,
                "conditions": [{
                    "type": "Accepted", "status": status, "reason": reason, "message": message,
                    "observedGeneration": self.generation, "lastTransitionTime": since,
                }],
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::typed::SHAPES;
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn object(name: &str, id: &str, version: u64, text: &str) -> Object {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string(),
                "generation": version, "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"id": id, "public": true, "name": text},
        }))
        .unwrap()
    }

    /// A table whose judge refuses what is called so.
    fn judged() -> Table {
        let mut table = Table::new(SHAPES[0]);
        table.replace(Vec::new(), 0);
        table.judge_with(Arc::new(|_, record| {
            let bad = String::from_utf8_lossy(&record.data).contains("bad");
            if bad { Verdict::refused("Invalid", "it is bad") } else { Verdict::Accepted }
        }));
        table
    }

    fn name_in_force(table: &Table, id: &str) -> Option<String> {
        let record = table.in_force(id)?;
        let document: Value = serde_json::from_slice(&record.data).unwrap();
        Some(document["v"]["name"].as_str().unwrap().to_owned())
    }

    fn ids(of: &[&str]) -> Change {
        Change::Ids(of.iter().map(|id| (*id).to_owned()).collect())
    }

    /// Name, status, reason and message of each status that is due.
    fn reports(table: &mut Table) -> Vec<(String, String)> {
        let mut all = Vec::new();
        while let Some(Report { name, patch }) = table.next_report(NOW) {
            let condition = &patch["status"]["conditions"][0];
            let text = |member: &str| condition[member].as_str().unwrap().to_owned();
            all.push((name, format!("{} {}: {}", text("status"), text("reason"), text("message"))));
        }
        all
    }

    fn report(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn a_bad_edit_leaves_the_last_good_version_in_force_and_a_deletion_ends_it() {
        let mut table = judged();
        assert_eq!(table.apply(object("a", "app", 1, "good")), ids(&["app"]));
        assert_eq!(reports(&mut table), [report("a", "True Accepted: in force")]);
        assert_eq!(table.apply(object("a", "app", 2, "bad")), ids(&["app"]));
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("good"));
        let said = "False Invalid: it is bad; what it said before stays in force";
        assert_eq!(reports(&mut table), [report("a", said)]);
        table.apply(object("a", "app", 3, "better"));
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("better"));
        assert_eq!(table.remove("a", 4), ids(&["app"]));
        assert_eq!(name_in_force(&table, "app"), None);
    }

    #[test]
    fn a_process_that_starts_while_an_object_is_bad_has_nothing_of_it_in_force() {
        let mut table = judged();
        table.replace(vec![object("a", "app", 2, "bad")], 5);
        assert_eq!(name_in_force(&table, "app"), None);
        assert_eq!(reports(&mut table), [report("a", "False Invalid: it is bad; nothing of it is in force")]);
    }

    #[test]
    fn of_two_objects_with_one_id_the_older_counts_and_the_other_says_so() {
        let mut table = judged();
        let mut younger = object("a", "app", 1, "younger");
        younger.metadata.creation_timestamp = "2026-01-01T00:00:01Z".to_owned();
        table.apply(younger);
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("younger"));
        table.apply(object("z", "app", 2, "older"));
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("older"));
        assert_eq!(table.name_for("app"), Some("z"));
        let said = reports(&mut table);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].1.starts_with("False Duplicate: the object \"z\" is older") && said[1].1.starts_with("True"));
        // The bad edit of the one that counts does not bring the other one into force.
        table.apply(object("z", "app", 3, "bad"));
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("older"));
        table.remove("z", 4);
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("younger"));
        assert_eq!(reports(&mut table), [report("a", "True Accepted: in force")]);
    }

    #[test]
    fn what_another_object_said_is_no_last_good_version() {
        let mut table = judged();
        table.apply(object("a", "app", 1, "good"));
        let mut again = object("a", "app", 3, "bad");
        again.metadata.uid = "another".to_owned();
        table.apply(again);
        assert_eq!(name_in_force(&table, "app"), None);
    }

    #[test]
    fn late_news_changes_nothing() {
        let mut table = judged();
        table.apply(object("a", "app", 5, "new"));
        assert_eq!(table.apply(object("a", "app", 4, "old")), ids(&[]));
        assert_eq!(table.remove("a", 4), ids(&[]));
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("new"));
        // A list that was read before our own write came back does not take it away.
        table.replace(Vec::new(), 4);
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("new"));
        table.replace(Vec::new(), 6);
        assert_eq!(name_in_force(&table, "app"), None);
    }

    #[test]
    fn a_status_is_written_once_and_not_over_another_replicas_for_the_same_content() {
        let mut table = judged();
        table.apply(object("a", "app", 1, "good"));
        let Some(Report { patch, .. }) = table.next_report(NOW) else { panic!("a status is due") };
        assert_eq!(patch["metadata"]["resourceVersion"], "1");
        let mut said = object("a", "app", 2, "good");
        said.metadata.generation = 1;
        said.status = patch["status"].clone();
        assert_eq!(table.apply(said.clone()), ids(&[]), "a status is no change of the object");
        assert!(table.next_report(NOW).is_none());
        said.status["conditions"][0]["status"] = json!("False");
        said.metadata.resource_version = "3".to_owned();
        table.apply(said.clone());
        assert!(table.next_report(NOW).is_none(), "another replica sees it otherwise");
        // A replica that starts says what it has come to, once, and keeps the time of the last change.
        let mut other = judged();
        said.status["conditions"][0] = patch["status"]["conditions"][0].clone();
        other.apply(said.clone());
        assert!(other.next_report("2027-01-01T00:00:00Z").is_none(), "it says so already");
        said.status["conditions"][0]["message"] = json!("x");
        let mut third = judged();
        third.apply(said);
        let Some(Report { patch, .. }) = third.next_report("2027-01-01T00:00:00Z") else { panic!("a status is due") };
        assert_eq!(patch["status"]["conditions"][0]["lastTransitionTime"], NOW);
    }

    #[test]
    fn what_was_listed_before_the_judge_came_is_judged_too() {
        let mut table = Table::new(SHAPES[0]);
        table.replace(vec![object("a", "app", 1, "bad"), object("b", "other", 1, "good")], 1);
        let refuses = |word: &'static str| -> Judge {
            Arc::new(move |_, record| {
                let bad = String::from_utf8_lossy(&record.data).contains(word);
                if bad { Verdict::refused("Invalid", "it is bad") } else { Verdict::Accepted }
            })
        };
        table.judge_with(refuses("bad"));
        assert_eq!(name_in_force(&table, "app"), None);
        assert_eq!(name_in_force(&table, "other").as_deref(), Some("good"));
        assert_eq!(reports(&mut table)[0], report("a", "False Invalid: it is bad; nothing of it is in force"));
        // Other rules: what they refuse is not in force either.
        table.judge_with(refuses("good"));
        assert_eq!(name_in_force(&table, "other"), None);
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("bad"));
    }

    #[test]
    fn what_is_being_deleted_is_over_whatever_holds_its_end_up() {
        let mut table = judged();
        table.apply(object("a", "app", 1, "good"));
        let mut ending = object("a", "app", 2, "good");
        ending.metadata.deletion_timestamp = Some(NOW.to_owned());
        assert_eq!(table.apply(ending), ids(&["app"]));
        assert_eq!((name_in_force(&table, "app"), table.name_for("app")), (None, None));
        table.apply(object("b", "app", 3, "next"));
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("next"));
    }

    #[test]
    fn without_a_judge_everything_is_in_force_and_nothing_is_said() {
        let mut table = Table::new(SHAPES[0]);
        assert!(!table.is_listed());
        table.replace(vec![object("a", "app", 1, "bad")], 1);
        assert!(table.is_listed() && table.next_report(NOW).is_none());
        assert_eq!(name_in_force(&table, "app").as_deref(), Some("bad"));
    }

    #[test]
    fn what_others_have_found_is_said_until_the_object_changes() {
        let mut table = judged();
        table.apply(object("a", "app", 1, "good"));
        reports(&mut table);
        assert!(table.tell("app", Verdict::refused("Unreachable", "no answer")));
        assert!(!table.tell("other", Verdict::Accepted));
        assert_eq!(reports(&mut table), [report("a", "False Unreachable: no answer")]);
        table.apply(object("a", "app", 2, "better"));
        assert_eq!(reports(&mut table), [report("a", "True Accepted: in force")]);
    }
}
