//! What comes into force when objects are listed, watched, written and judged.

use super::super::{
    seen::{MAX_BYTES, MAX_OBJECTS},
    typed::{Object, SHAPES},
};
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

fn seen(object: Object) -> Seen {
    Seen::of(SHAPES[0], object)
}

fn apply(table: &mut Table, object: Object) -> Change {
    table.apply(seen(object))
}

fn replace(table: &mut Table, objects: Vec<Object>, version: u64) {
    table.listing();
    table.replace(objects.into_iter().map(seen).collect(), version, false);
}

/// A table whose judge refuses what is called so.
fn judged() -> Table {
    let mut table = Table::new(SHAPES[0]);
    replace(&mut table, Vec::new(), 0);
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
    assert_eq!(apply(&mut table, object("a", "app", 1, "good")), ids(&["app"]));
    assert_eq!(reports(&mut table), [report("a", "True Accepted: in force")]);
    assert_eq!(apply(&mut table, object("a", "app", 2, "bad")), ids(&["app"]));
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("good"));
    let said = "False Invalid: it is bad; what it said before stays in force";
    assert_eq!(reports(&mut table), [report("a", said)]);
    apply(&mut table, object("a", "app", 3, "better"));
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("better"));
    assert_eq!(table.remove("a", "uid-a", 4), ids(&["app"]));
    assert_eq!(name_in_force(&table, "app"), None);
}

#[test]
fn a_process_that_starts_while_an_object_is_bad_has_nothing_of_it_in_force() {
    let mut table = judged();
    replace(&mut table, vec![object("a", "app", 2, "bad")], 5);
    assert_eq!(name_in_force(&table, "app"), None);
    assert_eq!(reports(&mut table), [report("a", "False Invalid: it is bad; nothing of it is in force")]);
}

#[test]
fn of_two_objects_with_one_id_the_older_counts_and_the_other_says_so() {
    let mut table = judged();
    let mut younger = object("a", "app", 1, "younger");
    younger.metadata.creation_timestamp = "2026-01-01T00:00:01Z".to_owned();
    apply(&mut table, younger);
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("younger"));
    apply(&mut table, object("z", "app", 2, "older"));
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("older"));
    assert_eq!(table.name_for("app"), Some("z"));
    let said = reports(&mut table);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].1.starts_with("False Duplicate: the object \"z\" is older") && said[1].1.starts_with("True"));
    // The bad edit of the one that counts does not bring the other one into force.
    apply(&mut table, object("z", "app", 3, "bad"));
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("older"));
    table.remove("z", "uid-z", 4);
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("younger"));
    assert_eq!(reports(&mut table), [report("a", "True Accepted: in force")]);
}

#[test]
fn what_another_object_said_is_no_last_good_version() {
    let mut table = judged();
    apply(&mut table, object("a", "app", 1, "good"));
    let mut again = object("a", "app", 3, "bad");
    again.metadata.uid = "another".to_owned();
    apply(&mut table, again);
    assert_eq!(name_in_force(&table, "app"), None);
}

#[test]
fn late_news_changes_nothing() {
    let mut table = judged();
    apply(&mut table, object("a", "app", 5, "new"));
    assert_eq!(apply(&mut table, object("a", "app", 4, "old")), ids(&[]));
    assert_eq!(table.remove("a", "uid-a", 4), ids(&[]));
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("new"));
}

#[test]
fn a_list_takes_away_nothing_that_was_written_while_it_was_read() {
    let mut table = judged();
    table.listing();
    table.observe(seen(object("a", "app", 5, "new")));
    table.replace(Vec::new(), 4, false);
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("new"));
    // One that began afterwards knows better, whatever its version.
    replace(&mut table, Vec::new(), 4);
    assert_eq!(name_in_force(&table, "app"), None);
    // What was deleted while it was read stays so, also for what the watch still tells of it.
    apply(&mut table, object("a", "app", 6, "again"));
    table.listing();
    assert_eq!(table.end("a", "uid-a"), ids(&["app"]));
    table.replace(vec![seen(object("a", "app", 6, "again"))], 6, false);
    assert_eq!(name_in_force(&table, "app"), None);
    assert_eq!(apply(&mut table, object("a", "app", 7, "status")), ids(&[]));
    table.remove("a", "uid-a", 8);
    assert_eq!(name_in_force(&table, "app"), None);
    let mut next = object("a", "app", 9, "next");
    next.metadata.uid = "another".to_owned();
    apply(&mut table, next);
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("next"));
}

#[test]
fn a_list_with_a_lower_version_is_that_of_a_restored_store_and_counts() {
    let mut table = judged();
    replace(&mut table, vec![object("a", "app", 100, "good"), object("b", "other", 101, "later")], 102);
    apply(&mut table, object("c", "third", 110, "made since"));
    apply(&mut table, object("a", "app", 111, "bad"));
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("good"));
    table.end("d", "uid-d");
    let restored =
        || vec![object("b", "other", 50, "earlier"), object("a", "app", 51, "bad"), object("d", "d", 52, "x")];
    replace(&mut table, restored(), 60);
    assert_eq!(name_in_force(&table, "third"), None, "what was made after the backup is gone");
    assert_eq!(name_in_force(&table, "other").as_deref(), Some("earlier"));
    assert_eq!(name_in_force(&table, "d").as_deref(), Some("x"), "what was deleted after the backup is there again");
    assert_eq!(name_in_force(&table, "app"), None, "what it said in the history that has ended was not before");
    apply(&mut table, object("b", "other", 61, "next"));
    assert_eq!(name_in_force(&table, "other").as_deref(), Some("next"));
}

#[test]
fn what_was_asked_for_does_not_bring_back_what_the_watch_has_told_the_end_of() {
    let mut table = judged();
    // Written and asked for at 5; the watch, which was late, tells of the write and of a deletion by somebody else first.
    apply(&mut table, object("a", "app", 5, "good"));
    table.remove("a", "uid-a", 6);
    assert_eq!(table.observe(seen(object("a", "app", 5, "good"))), ids(&[]));
    assert_eq!(name_in_force(&table, "app"), None);
    // The same where it has told of the end alone, or of nothing but how far it is.
    table.bookmark(9);
    assert_eq!(table.observe(seen(object("b", "other", 8, "good"))), ids(&[]));
    assert_eq!(table.observe(seen(object("b", "other", 10, "good"))), ids(&["other"]));
}

/// Above each limit what was known stays in force, what comes is left out, and what goes makes room.
#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let mut table = judged();
    let numbered = |number: usize| object(&format!("n{number}"), &format!("id{number}"), 1, "x");
    replace(&mut table, (0..MAX_OBJECTS - 1).map(numbered).collect(), 1);
    assert!(!table.is_full() && !table.is_crowded());
    apply(&mut table, object("last", "last", 2, "x"));
    assert!(table.is_full() && !table.is_crowded());
    assert_eq!(apply(&mut table, object("over", "over", 3, "x")), ids(&[]));
    assert!(table.is_crowded() && name_in_force(&table, "over").is_none());
    assert_eq!(name_in_force(&table, "id0").as_deref(), Some("x"));
    apply(&mut table, object("n0", "id0", 4, "changed"));
    assert_eq!(name_in_force(&table, "id0").as_deref(), Some("changed"));
    table.remove("n1", "uid-n1", 5);
    apply(&mut table, object("over", "over", 6, "x"));
    assert_eq!(name_in_force(&table, "over").as_deref(), Some("x"));

    let mut table = judged();
    let large = "x".repeat(200 * 1024);
    let fitting = MAX_BYTES / (201 * 1024);
    let all = |count: usize| (0..count).map(|number| object(&format!("n{number}"), &format!("id{number}"), 1, &large));
    replace(&mut table, all(fitting).collect(), 1);
    assert!(!table.is_crowded());
    reports(&mut table);
    for number in 0..8 {
        apply(&mut table, object(&format!("more{number}"), &format!("more{number}"), 2, &large));
    }
    assert!(table.is_crowded() && name_in_force(&table, "more7").is_none());
    assert_eq!(name_in_force(&table, "id0").as_deref(), Some(large.as_str()));
    let (name, said) = reports(&mut table).pop().unwrap();
    assert_eq!(name, "more7");
    assert!(said.starts_with("False Invalid: all objects of this kind have more than 64 MiB together"), "{said}");
    // The next list says that there is room again.
    replace(&mut table, all(fitting - 1).collect(), 3);
    assert!(!table.is_crowded());
    apply(&mut table, object("more7", "more7", 4, &large));
    assert!(name_in_force(&table, "more7").is_some() && !table.is_crowded());
}

#[test]
fn a_status_is_written_once_and_not_over_another_replicas_for_the_same_content() {
    let mut table = judged();
    apply(&mut table, object("a", "app", 1, "good"));
    let Some(Report { patch, .. }) = table.next_report(NOW) else { panic!("a status is due") };
    assert_eq!(patch["metadata"]["resourceVersion"], "1");
    let mut said = object("a", "app", 2, "good");
    said.metadata.generation = 1;
    said.status = patch["status"].clone();
    assert_eq!(apply(&mut table, said.clone()), ids(&[]), "a status is no change of the object");
    assert!(table.next_report(NOW).is_none());
    said.status["conditions"][0]["status"] = json!("False");
    said.metadata.resource_version = "3".to_owned();
    apply(&mut table, said.clone());
    assert!(table.next_report(NOW).is_none(), "another replica sees it otherwise");
    // A replica that starts says what it has come to, once, and keeps the time of the last change.
    let mut other = judged();
    said.status["conditions"][0] = patch["status"]["conditions"][0].clone();
    apply(&mut other, said.clone());
    assert!(other.next_report("2027-01-01T00:00:00Z").is_none(), "it says so already");
    said.status["conditions"][0]["message"] = json!("x");
    let mut third = judged();
    apply(&mut third, said);
    let Some(Report { patch, .. }) = third.next_report("2027-01-01T00:00:00Z") else { panic!("a status is due") };
    assert_eq!(patch["status"]["conditions"][0]["lastTransitionTime"], NOW);
}

#[test]
fn what_was_listed_before_the_judge_came_is_judged_too() {
    let mut table = Table::new(SHAPES[0]);
    replace(&mut table, vec![object("a", "app", 1, "bad"), object("b", "other", 1, "good")], 1);
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
    apply(&mut table, object("a", "app", 1, "good"));
    let mut ending = object("a", "app", 2, "good");
    ending.metadata.deletion_timestamp = Some(NOW.to_owned());
    assert_eq!(apply(&mut table, ending), ids(&["app"]));
    assert_eq!((name_in_force(&table, "app"), table.name_for("app")), (None, None));
    apply(&mut table, object("b", "app", 3, "next"));
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("next"));
}

#[test]
fn without_a_judge_everything_is_in_force_and_nothing_is_said() {
    let mut table = Table::new(SHAPES[0]);
    assert!(!table.is_listed());
    replace(&mut table, vec![object("a", "app", 1, "bad")], 1);
    assert!(table.is_listed() && table.next_report(NOW).is_none());
    assert_eq!(name_in_force(&table, "app").as_deref(), Some("bad"));
}

#[test]
fn what_others_have_found_is_said_until_the_object_changes() {
    let mut table = judged();
    apply(&mut table, object("a", "app", 1, "good"));
    reports(&mut table);
    assert!(table.tell("app", Verdict::refused("Unreachable", "no answer")));
    assert!(!table.tell("other", Verdict::Accepted));
    assert_eq!(reports(&mut table), [report("a", "False Unreachable: no answer")]);
    apply(&mut table, object("a", "app", 2, "better"));
    assert_eq!(reports(&mut table), [report("a", "True Accepted: in force")]);
}
