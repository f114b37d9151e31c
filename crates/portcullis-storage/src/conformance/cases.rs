//! What one caller sees.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use portcullis_runtime::Timestamp;
use tokio::time::timeout;

use super::{Outcome, ensure};
use crate::{
    error::KernelError,
    kernel::{
        Change, Feed, IndexKey, Kernel, Kind, Listing, MAX_DATA_BYTES, MAX_ID_BYTES, MAX_PAGE_BYTES, Mark, Page,
        Record, Slot, Version, Write,
    },
    leases::Duty,
};

type TestKernel = Arc<dyn Kernel>;

fn text(error: KernelError) -> String {
    format!("unexpected error: {error:?}")
}

pub(super) fn write(data: &str) -> Write {
    Write { data: data.as_bytes().to_vec(), ..Write::default() }
}

/// What a record of this kind may hold: for configured kinds and leases a document of their facade.
pub(super) fn content(kind: Kind, id: &str, text: &str) -> Write {
    let (id, text) = (serde_json::Value::from(id), serde_json::Value::from(text));
    match kind {
        Kind::Client => write(&format!(r#"{{"n":1,"v":{{"public":true,"name":{text}}}}}"#)),
        Kind::Password => write(&format!(r#"{{"n":1,"v":{{"email":{id},"name":{text}}}}}"#)),
        Kind::Connector => write(&format!(r#"{{"n":1,"v":{{"type":"x","name":{text}}}}}"#)),
        Kind::Lease => write(&format!(
            r#"{{"n":1,"v":{{"holder":{text},"taken_at":1,"renewed_at":2,"seconds":3,"transitions":4}}}}"#
        )),
        _ => write(text.as_str().unwrap_or_default()),
    }
}

/// The kinds that lists have.
pub(super) fn listed() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::Lease)
}

fn datas(listing: &Listing) -> Vec<&[u8]> {
    listing.records.iter().map(|record| record.data.as_slice()).collect()
}

fn until(seconds: i64) -> Write {
    Write { expires_at: Some(at(seconds)), ..Write::default() }
}

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

async fn insert(kernel: &TestKernel, kind: Kind, id: &str, write: Write) -> Result<Version, String> {
    kernel.insert(kind, id, write).await.map_err(|error| format!("insert of {id:?}: {error:?}"))
}

async fn get(kernel: &TestKernel, kind: Kind, id: &str) -> Result<Option<Record>, String> {
    kernel.get(kind, id).await.map_err(text)
}

async fn data_of(kernel: &TestKernel, kind: Kind, id: &str) -> Result<Option<Vec<u8>>, String> {
    Ok(get(kernel, kind, id).await?.map(|record| record.data))
}

fn ids(listing: &Listing) -> Vec<&str> {
    listing.records.iter().map(|record| record.id.as_str()).collect()
}

/// All ids of a kind, in the order in which the pages bring them.
async fn walk(kernel: &TestKernel, kind: Kind, limit: usize) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut page = Some(Page::first(limit));
    while let Some(current) = page {
        let listing = kernel.list(kind, current).await.map_err(text)?;
        ensure!(listing.records.len() <= limit, "a page of {limit} has {} records", listing.records.len());
        all.extend(listing.records.into_iter().map(|record| record.id));
        page = listing.next;
        ensure!(all.len() < 100_000, "the walk does not end");
    }
    Ok(all)
}

pub(super) async fn what_was_inserted_is_read_back(kernel: TestKernel) -> Outcome {
    let key = |name: &str| Some(IndexKey::of(&[name]));
    let written = Write { index: [key("a"), key("b")], expires_at: Some(at(1_000_000)), data: b"some data".to_vec() };
    let version = insert(&kernel, Kind::Login, "id", written.clone()).await?;
    let found = get(&kernel, Kind::Login, "id").await?;
    let Write { index, expires_at, data } = written;
    let expected = Record { id: "id".to_owned(), version, index, expires_at, data };
    ensure!(found.as_ref() == Some(&expected), "expected {expected:?}, found {found:?}");
    let missing = get(&kernel, Kind::Login, "other").await?;
    ensure!(missing.is_none(), "a record that nobody wrote: {missing:?}");
    Ok(())
}

pub(super) async fn an_id_is_inserted_once(kernel: TestKernel) -> Outcome {
    let version = insert(&kernel, Kind::Code, "id", write("first")).await?;
    let again = kernel.insert(Kind::Code, "id", write("second")).await;
    ensure!(again == Err(KernelError::AlreadyExists), "the second insert: {again:?}");
    let found = get(&kernel, Kind::Code, "id").await?.ok_or("the record is gone")?;
    ensure!(found.data == b"first" && found.version == version, "the second insert changed the record: {found:?}");
    Ok(())
}

pub(super) async fn an_update_needs_the_current_version(kernel: TestKernel) -> Outcome {
    let first = insert(&kernel, Kind::Code, "id", write("1")).await?;
    let second = kernel.update(Kind::Code, "id", first, write("2")).await.map_err(text)?;
    ensure!(first != second, "the version did not change");
    let stale = kernel.update(Kind::Code, "id", first, write("3")).await;
    ensure!(stale == Err(KernelError::Conflict), "an update of an old version: {stale:?}");
    let found = get(&kernel, Kind::Code, "id").await?.ok_or("the record is gone")?;
    ensure!(found.data == b"2" && found.version == second, "after a refused update: {found:?}");
    let absent = kernel.update(Kind::Code, "other", second, write("4")).await;
    ensure!(absent == Err(KernelError::NotFound), "an update of nothing: {absent:?}");
    let made = get(&kernel, Kind::Code, "other").await?;
    ensure!(made.is_none(), "an update made a record: {made:?}");
    Ok(())
}

pub(super) async fn a_delete_needs_the_current_version(kernel: TestKernel) -> Outcome {
    let first = insert(&kernel, Kind::Code, "id", write("1")).await?;
    let second = kernel.update(Kind::Code, "id", first, write("2")).await.map_err(text)?;
    let stale = kernel.delete(Kind::Code, "id", first).await;
    ensure!(stale == Err(KernelError::Conflict), "a delete of an old version: {stale:?}");
    ensure!(get(&kernel, Kind::Code, "id").await?.is_some(), "a refused delete deleted");
    kernel.delete(Kind::Code, "id", second).await.map_err(text)?;
    ensure!(get(&kernel, Kind::Code, "id").await?.is_none(), "a deleted record is read");
    let again = kernel.delete(Kind::Code, "id", second).await;
    ensure!(again == Err(KernelError::NotFound), "a second delete: {again:?}");
    Ok(())
}

/// Without this, a writer that read a record, slept through its deletion and the insertion of another one under the same
/// id, could overwrite what it never saw.
pub(super) async fn a_version_is_never_used_again(kernel: TestKernel) -> Outcome {
    let mut seen: Vec<Version> = Vec::new();
    for round in 0..20 {
        let mut version = insert(&kernel, Kind::Family, "id", write("new")).await?;
        for _ in 0..round % 4 {
            ensure!(!seen.contains(&version), "version {version:?} was given twice");
            seen.push(version);
            version = kernel.update(Kind::Family, "id", version, write("newer")).await.map_err(text)?;
        }
        for old in &seen {
            let stale = kernel.update(Kind::Family, "id", *old, write("stale")).await;
            ensure!(stale == Err(KernelError::Conflict), "an update of an earlier life's version: {stale:?}");
        }
        ensure!(!seen.contains(&version), "version {version:?} was given twice");
        seen.push(version);
        kernel.delete(Kind::Family, "id", version).await.map_err(text)?;
    }
    Ok(())
}

pub(super) async fn ids_are_compared_as_bytes(kernel: TestKernel) -> Outcome {
    let longest = "x".repeat(MAX_ID_BYTES);
    let longest_wide = "é".repeat(MAX_ID_BYTES / 2);
    let different = [
        "a",
        "A",
        "a ",
        " a",
        "a\0",
        "a\0b",
        "ä",
        "a\u{308}",
        "Ä",
        "ß",
        "ss",
        "SS",
        "İ",
        "i",
        "ı",
        "I",
        "ﬀ",
        "ff",
        "%",
        "_",
        "a%",
        "a_",
        "'",
        "\"",
        "\\",
        "a/b",
        "../a",
        ".",
        "..",
        "a.b",
        "\u{feff}a",
        "a\u{200b}",
        "1",
        "01",
        "1.0",
        "\u{10ffff}",
        "\u{e000}",
        "😀",
        "\n",
        "\t",
        "null",
        "NULL",
        "true",
        "Ω",
        "\u{2126}",
        &longest,
        &longest_wide,
        &longest[1..],
    ];
    for id in different {
        insert(&kernel, Kind::FamilyList, id, write(id)).await?;
    }
    for id in different {
        let found = data_of(&kernel, Kind::FamilyList, id).await?;
        ensure!(found.as_deref() == Some(id.as_bytes()), "{id:?} reads {found:?}");
    }
    let mut sorted: Vec<_> = different.iter().map(|id| (*id).to_owned()).collect();
    sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    let walked = walk(&kernel, Kind::FamilyList, 7).await?;
    ensure!(walked == sorted, "ids are not in byte order: {walked:?}");
    Ok(())
}

pub(super) async fn ids_out_of_bounds_are_refused(kernel: TestKernel) -> Outcome {
    let long = "x".repeat(MAX_ID_BYTES + 1);
    let version = insert(&kernel, Kind::FamilyList, "id", write("1")).await?;
    for id in ["", &long] {
        let expected = KernelError::Id { bytes: id.len() };
        let results = [
            kernel.insert(Kind::FamilyList, id, write("1")).await.map(|_| ()),
            kernel.update(Kind::FamilyList, id, version, write("1")).await.map(|_| ()),
            kernel.delete(Kind::FamilyList, id, version).await,
            kernel.get(Kind::FamilyList, id).await.map(|_| ()),
        ];
        for result in results {
            ensure!(result.as_ref() == Err(&expected), "an id of {} bytes: {result:?}", id.len());
        }
    }
    Ok(())
}

pub(super) async fn kinds_do_not_meet(kernel: TestKernel) -> Outcome {
    let key = IndexKey::of(&["k"]);
    let indexed = |kind: Kind| !Kind::CONFIGURED.contains(&kind);
    for kind in listed() {
        let write = Write { index: [indexed(kind).then_some(key), None], ..content(kind, "id", kind.name()) };
        insert(&kernel, kind, "id", write).await?;
    }
    for kind in listed() {
        let data = content(kind, "id", kind.name()).data;
        let found = data_of(&kernel, kind, "id").await?;
        ensure!(found.as_ref() == Some(&data), "{kind} reads {found:?}");
        let listed = kernel.list(kind, Page::first(10)).await.map_err(text)?;
        ensure!(datas(&listed) == [data.as_slice()], "{kind} lists {listed:?}");
        let found = kernel.by_index(kind, Slot::First, key, Page::first(10)).await.map_err(text)?;
        let expected: &[&[u8]] = if indexed(kind) { &[data.as_slice()] } else { &[] };
        ensure!(datas(&found) == expected, "{kind} finds {found:?}");
    }
    let version = get(&kernel, Kind::Login, "id").await?.ok_or("gone")?.version;
    kernel.delete(Kind::Login, "id", version).await.map_err(text)?;
    ensure!(get(&kernel, Kind::Code, "id").await?.is_some(), "deleting one kind deleted another");
    Ok(())
}

/// Under the ids that the facade gives them, and by what it does with them: on Kubernetes rights need not reach further.
pub(super) async fn leases_are_records(kernel: TestKernel) -> Outcome {
    let [id, other] = Duty::ALL.map(Duty::name);
    let lease = |holder: &str| content(Kind::Lease, id, holder);
    ensure!(get(&kernel, Kind::Lease, id).await?.is_none(), "there is a lease before one was made");
    let first = insert(&kernel, Kind::Lease, id, lease("a")).await?;
    let again = kernel.insert(Kind::Lease, id, lease("b")).await;
    ensure!(again == Err(KernelError::AlreadyExists), "a second insert: {again:?}");
    let second = kernel.update(Kind::Lease, id, first, lease("c")).await.map_err(text)?;
    ensure!(second != first, "an update left the version as it was");
    let late = kernel.update(Kind::Lease, id, first, lease("d")).await;
    ensure!(late == Err(KernelError::Conflict), "an update of an old version: {late:?}");
    let missing = kernel.update(Kind::Lease, other, second, lease("e")).await;
    ensure!(missing == Err(KernelError::NotFound), "an update of what is not there: {missing:?}");
    ensure!(get(&kernel, Kind::Lease, other).await?.is_none(), "an update made a lease");
    let found = get(&kernel, Kind::Lease, id).await?.ok_or("gone")?;
    ensure!(found.id == id && found.version == second && found.data == lease("c").data, "it reads {found:?}");
    let mut snapshot = kernel.snapshot().await.map_err(text)?;
    while let Some(batch) = snapshot.next().await.map_err(text)? {
        ensure!(batch.is_empty(), "a snapshot has {batch:?}");
    }
    Ok(())
}

pub(super) async fn data_is_kept_to_the_byte(kernel: TestKernel) -> Outcome {
    let every_byte: Vec<u8> = (0..=255).collect();
    let largest: Vec<u8> = every_byte.iter().cycle().take(MAX_DATA_BYTES).copied().collect();
    for (id, data) in [("empty", Vec::new()), ("every byte", every_byte), ("largest", largest)] {
        let version = insert(&kernel, Kind::Family, id, Write { data: data.clone(), ..Write::default() }).await?;
        let found = data_of(&kernel, Kind::Family, id).await?;
        ensure!(found.as_ref() == Some(&data), "{id}: {} bytes came back changed", data.len());
        let reversed: Vec<u8> = data.into_iter().rev().collect();
        let write = Write { data: reversed.clone(), ..Write::default() };
        kernel.update(Kind::Family, id, version, write).await.map_err(text)?;
        let found = data_of(&kernel, Kind::Family, id).await?;
        ensure!(found.as_ref() == Some(&reversed), "{id}: {} bytes came back changed after an update", reversed.len());
    }
    Ok(())
}

pub(super) async fn too_much_data_is_refused(kernel: TestKernel) -> Outcome {
    let bytes = MAX_DATA_BYTES + 1;
    let large = Write { data: vec![0; bytes], ..Write::default() };
    let inserted = kernel.insert(Kind::Family, "id", large.clone()).await;
    ensure!(inserted == Err(KernelError::Data { bytes }), "an insert of {bytes} bytes: {inserted:?}");
    let version = insert(&kernel, Kind::Family, "id", write("1")).await?;
    let updated = kernel.update(Kind::Family, "id", version, large).await;
    ensure!(updated == Err(KernelError::Data { bytes }), "an update to {bytes} bytes: {updated:?}");
    let found = get(&kernel, Kind::Family, "id").await?.ok_or("gone")?;
    ensure!(found.version == version, "a refused update changed the record");
    Ok(())
}

async fn indexed(kernel: &TestKernel, slot: Slot, key: IndexKey) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut page = Some(Page::first(2));
    while let Some(current) = page {
        let listing = kernel.by_index(Kind::FamilyList, slot, key, current).await.map_err(text)?;
        ensure!(listing.records.len() <= 2, "a page of 2 has {} records", listing.records.len());
        all.extend(listing.records.into_iter().map(|record| record.id));
        page = listing.next;
    }
    Ok(all)
}

pub(super) async fn both_indices_find_their_records(kernel: TestKernel) -> Outcome {
    let (x, y) = (IndexKey::of(&["x"]), IndexKey::of(&["y"]));
    let records = [
        ("e", [Some(x), Some(y)]),
        ("d", [Some(x), None]),
        ("c", [None, Some(x)]),
        ("b", [None, None]),
        ("a", [Some(x), Some(x)]),
        ("f", [Some(y), Some(y)]),
    ];
    for (id, index) in records {
        insert(&kernel, Kind::FamilyList, id, Write { index, ..Write::default() }).await?;
    }
    for (slot, key, expected) in [
        (Slot::First, x, vec!["a", "d", "e"]),
        (Slot::First, y, vec!["f"]),
        (Slot::Second, x, vec!["a", "c"]),
        (Slot::Second, y, vec!["e", "f"]),
        (Slot::First, IndexKey::of(&["z"]), vec![]),
    ] {
        let found = indexed(&kernel, slot, key).await?;
        ensure!(found == expected, "{slot:?} finds {found:?} instead of {expected:?}");
    }
    Ok(())
}

pub(super) async fn indices_follow_updates_and_deletes(kernel: TestKernel) -> Outcome {
    let (x, y) = (IndexKey::of(&["x"]), IndexKey::of(&["y"]));
    let with = |first, second| Write { index: [first, second], ..Write::default() };
    let version = insert(&kernel, Kind::FamilyList, "a", with(Some(x), Some(y))).await?;
    let version = kernel.update(Kind::FamilyList, "a", version, with(Some(y), None)).await.map_err(text)?;
    for (slot, key, expected) in [(Slot::First, x, vec![]), (Slot::First, y, vec!["a"]), (Slot::Second, y, vec![])] {
        let found = indexed(&kernel, slot, key).await?;
        ensure!(found == expected, "after an update {slot:?} finds {found:?} instead of {expected:?}");
    }
    kernel.delete(Kind::FamilyList, "a", version).await.map_err(text)?;
    let found = indexed(&kernel, Slot::First, y).await?;
    ensure!(found.is_empty(), "after a delete: {found:?}");
    insert(&kernel, Kind::FamilyList, "b", Write { expires_at: Some(at(1)), ..with(Some(y), None) }).await?;
    kernel.expire(at(2), 10).await.map_err(text)?;
    let found = indexed(&kernel, Slot::First, y).await?;
    ensure!(found.is_empty(), "after expiry: {found:?}");
    Ok(())
}

pub(super) async fn times_are_kept_to_the_nanosecond(kernel: TestKernel) -> Outcome {
    let times = [
        Timestamp::from_unix_nanos(1),
        Timestamp::from_unix_nanos(1_800_000_000_123_456_789),
        Timestamp::from_unix_nanos(-1),
        Timestamp::UNIX_EPOCH,
        Timestamp::MAX,
    ];
    for (number, time) in times.into_iter().enumerate() {
        let id = number.to_string();
        insert(&kernel, Kind::Login, &id, Write { expires_at: Some(time), ..Write::default() }).await?;
        let found = get(&kernel, Kind::Login, &id).await?.ok_or("gone")?.expires_at;
        ensure!(found == Some(time), "{} came back as {found:?}", time.unix_nanos());
    }
    Ok(())
}

pub(super) async fn a_walk_over_pages_meets_every_record_once(kernel: TestKernel) -> Outcome {
    let names: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
    for name in names.iter().rev() {
        insert(&kernel, Kind::Family, name, write("")).await?;
    }
    insert(&kernel, Kind::Code, "12", write("")).await?;
    for limit in [1, 2, 24, 25, 26, 1000] {
        let walked = walk(&kernel, Kind::Family, limit).await?;
        ensure!(walked == names, "in pages of {limit}: {walked:?}");
    }
    let middle = Page { after: Some("07x".to_owned()), limit: 2 };
    let listing = kernel.list(Kind::Family, middle).await.map_err(text)?;
    ensure!(ids(&listing) == ["08", "09"], "after an id that does not exist: {:?}", ids(&listing));
    let end = Page { after: Some("24".to_owned()), limit: 2 };
    let listing = kernel.list(Kind::Family, end).await.map_err(text)?;
    ensure!(listing == Listing::default(), "after the last one: {listing:?}");
    let zero = kernel.list(Kind::Family, Page::first(0)).await.map_err(text)?;
    ensure!(ids(&zero) == ["00"], "a page of no records has one: {:?}", ids(&zero));
    Ok(())
}

pub(super) async fn a_walk_survives_changes_between_its_pages(kernel: TestKernel) -> Outcome {
    let mut staying = BTreeMap::new();
    for number in 0..20 {
        let id = format!("{number:02}");
        let version = insert(&kernel, Kind::Family, &id, write("")).await?;
        staying.insert(id, version);
    }
    let mut walked = Vec::new();
    let mut page = Some(Page::first(3));
    let mut round = 0;
    while let Some(current) = page {
        let listing = kernel.list(Kind::Family, current).await.map_err(text)?;
        walked.extend(listing.records.into_iter().map(|record| record.id));
        page = listing.next;
        // New ones before and after the walk's place, the one at its place deleted, another one changed.
        insert(&kernel, Kind::Family, &format!("!{round}"), write("")).await?;
        insert(&kernel, Kind::Family, &format!("{:02}b", round * 3 % 20), write("")).await?;
        if let Some(version) = walked.last().and_then(|id| staying.remove(id)) {
            let id = walked.last().map_or("", String::as_str);
            kernel.delete(Kind::Family, id, version).await.map_err(text)?;
        }
        if let Some((id, version)) = staying.iter_mut().next_back() {
            *version = kernel.update(Kind::Family, id, *version, write("x")).await.map_err(text)?;
        }
        round += 1;
    }
    for id in staying.keys() {
        let times = walked.iter().filter(|walked| *walked == id).count();
        ensure!(times == 1, "{id} stayed throughout and was met {times} times");
    }
    let mut sorted = walked.clone();
    sorted.sort();
    sorted.dedup();
    ensure!(sorted == walked, "the walk met something twice or out of order: {walked:?}");
    Ok(())
}

pub(super) async fn a_page_ends_when_it_is_heavy(kernel: TestKernel) -> Outcome {
    let count = MAX_PAGE_BYTES / MAX_DATA_BYTES + 4;
    for number in 0..count {
        let write = Write { data: vec![b'x'; MAX_DATA_BYTES], ..Write::default() };
        insert(&kernel, Kind::Request, &format!("{number:03}"), write).await?;
    }
    let first = kernel.list(Kind::Request, Page::first(1000)).await.map_err(text)?;
    let bytes: usize = first.records.iter().map(|record| record.data.len()).sum();
    ensure!(bytes <= MAX_PAGE_BYTES + MAX_DATA_BYTES, "a page of {bytes} bytes");
    ensure!(first.next.is_some(), "a heavy page has no next one");
    let walked = walk(&kernel, Kind::Request, 1000).await?;
    ensure!(walked.len() == count, "{} of {count} were met", walked.len());
    Ok(())
}

pub(super) async fn expiry_deletes_what_is_over_and_nothing_else(kernel: TestKernel) -> Outcome {
    let key = IndexKey::of(&["k"]);
    for (kind, id, seconds) in
        [(Kind::Login, "a", 10), (Kind::Code, "a", 10), (Kind::Login, "b", 11), (Kind::Family, "c", 9)]
    {
        insert(&kernel, kind, id, Write { index: [Some(key), None], ..until(seconds) }).await?;
    }
    insert(&kernel, Kind::Login, "forever", write("")).await?;
    let before = kernel.expire(at(8), 100).await.map_err(text)?;
    ensure!(before == 0, "{before} deleted before anything was over");
    let deleted = kernel.expire(at(10), 100).await.map_err(text)?;
    ensure!(deleted == 3, "{deleted} deleted instead of 3");
    for (kind, id, there) in [
        (Kind::Login, "a", false),
        (Kind::Code, "a", false),
        (Kind::Family, "c", false),
        (Kind::Login, "b", true),
        (Kind::Login, "forever", true),
    ] {
        let found = get(&kernel, kind, id).await?.is_some();
        ensure!(found == there, "{kind} {id}: there is {found}, expected {there}");
    }
    let again = kernel.expire(at(10), 100).await.map_err(text)?;
    ensure!(again == 0, "{again} deleted by a second call");
    let end = kernel.expire(Timestamp::MAX, 100).await.map_err(text)?;
    ensure!(end == 1, "{end} deleted at the end of time instead of 1");
    insert(&kernel, Kind::Login, "a", write("a second life")).await?;
    Ok(())
}

pub(super) async fn expiry_follows_updates(kernel: TestKernel) -> Outcome {
    let longer = insert(&kernel, Kind::Family, "longer", until(10)).await?;
    let shorter = insert(&kernel, Kind::Family, "shorter", until(1_000)).await?;
    let never = insert(&kernel, Kind::Family, "never", until(10)).await?;
    kernel.update(Kind::Family, "longer", longer, until(1_000)).await.map_err(text)?;
    kernel.update(Kind::Family, "shorter", shorter, until(10)).await.map_err(text)?;
    kernel.update(Kind::Family, "never", never, write("")).await.map_err(text)?;
    let deleted = kernel.expire(at(100), 100).await.map_err(text)?;
    ensure!(deleted == 1, "{deleted} deleted instead of 1");
    ensure!(get(&kernel, Kind::Family, "shorter").await?.is_none(), "the one whose time was cut is there");
    Ok(())
}

pub(super) async fn expiry_is_bounded_and_takes_the_earliest_first(kernel: TestKernel) -> Outcome {
    for number in (0..30).rev() {
        insert(&kernel, Kind::Code, &format!("{number:02}"), until(number)).await?;
    }
    let none = kernel.expire(at(100), 0).await.map_err(text)?;
    ensure!(none == 0, "{none} deleted with a limit of 0");
    let first = kernel.expire(at(100), 12).await.map_err(text)?;
    ensure!(first == 12, "{first} deleted with a limit of 12");
    let left = walk(&kernel, Kind::Code, 100).await?;
    ensure!(left.first().map(String::as_str) == Some("12") && left.len() == 18, "left are {left:?}");
    let rest = kernel.expire(at(100), 1000).await.map_err(text)?;
    ensure!(rest == 18, "{rest} deleted instead of the rest of 18");
    Ok(())
}

pub(super) async fn a_record_that_is_over_is_read_until_it_is_collected(kernel: TestKernel) -> Outcome {
    let version = insert(&kernel, Kind::Login, "id", until(-10)).await?;
    ensure!(get(&kernel, Kind::Login, "id").await?.is_some(), "the kernel hides a record that is over");
    let again = kernel.insert(Kind::Login, "id", write("")).await;
    ensure!(again == Err(KernelError::AlreadyExists), "its id is free before it is collected: {again:?}");
    kernel.update(Kind::Login, "id", version, until(-5)).await.map_err(text)?;
    Ok(())
}

pub(super) async fn configured_records_are_records(kernel: TestKernel) -> Outcome {
    for kind in Kind::CONFIGURED {
        let longest = "x".repeat(if kind == Kind::Password { 320 } else { MAX_ID_BYTES });
        let different = ["a", "a b", "b/c", "-", "\u{e4}", "a\u{308}", "z\u{1f600}", &longest];
        for id in different {
            insert(&kernel, kind, id, content(kind, id, id)).await?;
            let again = kernel.insert(kind, id, content(kind, id, "other")).await;
            ensure!(again == Err(KernelError::AlreadyExists), "{kind} {id:?}, a second time: {again:?}");
        }
        if kind != Kind::Password {
            // A user's id is in lower case.
            insert(&kernel, kind, "A", content(kind, "A", "A")).await?;
            ensure!(data_of(&kernel, kind, "a").await? == Some(content(kind, "a", "a").data), "{kind}: A is a");
        }
        let mut sorted: Vec<String> = different.iter().map(|id| (*id).to_owned()).collect();
        sorted.extend((kind != Kind::Password).then(|| "A".to_owned()));
        sorted.sort();
        ensure!(walk(&kernel, kind, 3).await? == sorted, "{kind}: ids are not in byte order");
        let first = get(&kernel, kind, "a").await?.ok_or("gone")?;
        ensure!(first.data == content(kind, "a", "a").data, "{kind} reads {first:?}");
        let second = kernel.update(kind, "a", first.version, content(kind, "a", "2")).await.map_err(text)?;
        ensure!(data_of(&kernel, kind, "a").await? == Some(content(kind, "a", "2").data), "{kind}: not updated");
        let stale = kernel.update(kind, "a", first.version, content(kind, "a", "3")).await;
        ensure!(stale == Err(KernelError::Conflict), "{kind}, a stale update: {stale:?}");
        let stale = kernel.delete(kind, "a", first.version).await;
        ensure!(stale == Err(KernelError::Conflict), "{kind}, a stale delete: {stale:?}");
        // The same once more is a write as well.
        let third = kernel.update(kind, "a", second, content(kind, "a", "2")).await.map_err(text)?;
        kernel.delete(kind, "a", third).await.map_err(text)?;
        ensure!(get(&kernel, kind, "a").await?.is_none(), "{kind}: not deleted");
        for result in [
            kernel.delete(kind, "a", third).await,
            kernel.update(kind, "a", third, content(kind, "a", "4")).await.map(|_| ()),
        ] {
            ensure!(result == Err(KernelError::NotFound), "{kind}, what is gone: {result:?}");
        }
        let anew = insert(&kernel, kind, "a", content(kind, "a", "5")).await?;
        ensure!(anew != third && anew != first.version, "{kind}: a version came again");
    }
    Ok(())
}

pub(super) async fn what_was_written_is_in_force_at_once(kernel: TestKernel) -> Outcome {
    for kind in Kind::CONFIGURED {
        let recent = async |expected: Option<&str>| {
            let found = kernel.recent(kind, "a").await.map_err(text)?.map(|record| record.data);
            let expected = expected.map(|text| content(kind, "a", text).data);
            ensure!(found == expected, "{kind}: {found:?} in place of {expected:?}");
            Ok(())
        };
        recent(None).await?;
        let mut version = insert(&kernel, kind, "a", content(kind, "a", "0")).await?;
        recent(Some("0")).await?;
        for round in 1..4 {
            let written = content(kind, "a", &round.to_string());
            version = kernel.update(kind, "a", version, written).await.map_err(text)?;
            recent(Some(&round.to_string())).await?;
        }
        kernel.delete(kind, "a", version).await.map_err(text)?;
        recent(None).await?;
    }
    Ok(())
}

pub(super) async fn changes_of_configured_records_are_told(kernel: TestKernel) -> Outcome {
    for kind in Kind::CONFIGURED {
        let mut told = Told { feed: kernel.feed(kind), mark: Mark::default(), kernel: &kernel, kind };
        told.settle().await?;
        let version = insert(&kernel, kind, "a", content(kind, "a", "1")).await?;
        told.change("an insert").await?;
        let version = kernel.update(kind, "a", version, content(kind, "a", "2")).await.map_err(text)?;
        told.change("an update").await?;
        for other in Kind::CONFIGURED.into_iter().filter(|other| *other != kind) {
            insert(&kernel, other, kind.name(), content(other, kind.name(), "x")).await?;
        }
        told.nothing("changes of other kinds").await?;
        kernel.delete(kind, "a", version).await.map_err(text)?;
        told.change("a delete").await?;
    }
    Ok(())
}

/// A reader of changes, by whichever of the two ways the kernel has.
struct Told<'a> {
    feed: Option<Feed>,
    mark: Mark,
    kernel: &'a TestKernel,
    kind: Kind,
}

impl Told<'_> {
    async fn settle(&mut self) -> Outcome {
        if let Some(feed) = &mut self.feed {
            // What was there before the feed may be told.
            let _ = timeout(Duration::from_millis(300), feed.next()).await;
        } else {
            self.mark = self.kernel.mark(self.kind).await.map_err(text)?;
        }
        Ok(())
    }

    async fn change(&mut self, what: &str) -> Outcome {
        if let Some(feed) = &mut self.feed {
            let change = timeout(Duration::from_secs(2), feed.next()).await;
            let told = change.map_err(|_| format!("{}: {what} is not told", self.kind))?;
            let expected = Change::Ids(["a".to_owned()].into());
            ensure!(told == expected, "{}: {what} is told as {told:?}", self.kind);
            return Ok(());
        }
        let before = self.mark;
        self.mark = self.kernel.mark(self.kind).await.map_err(text)?;
        ensure!(self.mark != before, "{}: {what} leaves the mark", self.kind);
        Ok(())
    }

    async fn nothing(&mut self, what: &str) -> Outcome {
        if let Some(feed) = &mut self.feed {
            let change = timeout(Duration::from_millis(300), feed.next()).await;
            ensure!(change.is_err(), "{}: {what} are told as {change:?}", self.kind);
            return Ok(());
        }
        let now = self.kernel.mark(self.kind).await.map_err(text)?;
        ensure!(now == self.mark, "{}: {what} move the mark", self.kind);
        Ok(())
    }
}
