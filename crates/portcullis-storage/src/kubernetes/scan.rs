//! Reading a whole selection in chunks, and keeping no more of it than is asked for.
//!
//! The API server lists in the order of names, which are hashes. So a page in the order of ids is a scan of everything that
//! the selector admits, of which the smallest ids are kept; what is over is found by the label, and the earliest are kept.
//! Memory is bounded by a page and a chunk. The answers are in proportion to what the selector admits; the API server, which has
//! no index of labels, looks at every record of the namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use portcullis_kubeclient::{Client, ClientError, Form, Instant, List, ListQuery};
use portcullis_runtime::Timestamp;
use serde::de::DeserializeOwned;

use super::{
    configured::records_at,
    error::of_read,
    object::{Metadata, Object, RECORDS},
};
use crate::{
    error::{KernelError, Trouble},
    kernel::{Listing, MAX_PAGE_BYTES, Page, Record},
    snapshot::{Batch, Snapshot},
};

/// Objects that are asked for at a time, unless they are too large together.
const CHUNK: usize = 500;
/// How often a scan begins anew because its version became too old. etcd forgets versions every few minutes.
const MAX_RESTARTS: usize = 16;

/// Hands every object that the selector admits to `each`, some perhaps twice. Each object that exists throughout is met.
pub(super) async fn scan<T: DeserializeOwned>(
    client: &Client,
    selector: &str,
    form: Form,
    deadline: Instant,
    mut each: impl FnMut(T) -> Result<(), KernelError> + Send,
) -> Result<(), KernelError> {
    let mut limit = CHUNK;
    let mut restarts = 0;
    let mut token: Option<String> = None;
    loop {
        let query = ListQuery {
            label_selector: selector,
            limit,
            continue_token: token.as_deref(),
            form,
            ..ListQuery::default()
        };
        match client.list::<T>(&RECORDS, &query, deadline).await {
            Ok(List { metadata, items }) => {
                items.into_iter().try_for_each(&mut each)?;
                if metadata.continue_token.is_empty() {
                    return Ok(());
                }
                token = Some(metadata.continue_token);
            }
            Err(ClientError::TooLarge { .. }) if limit > 1 => limit /= 2,
            // Compat: the way on that the server gives leaves out what it had read for this chunk already, when the selector made it
            // read more than once (`pagedChunks` in `apiserver/pkg/storage/etcd3/store.go` moves `continueKey` on).
            Err(ClientError::Expired) if restarts < MAX_RESTARTS => {
                restarts += 1;
                token = None;
            }
            Err(error) => return Err(of_read(&error)),
        }
        if Instant::now() >= deadline {
            return Err(KernelError::not_applied(Trouble::Timeout));
        }
    }
}

/// Begins to read all records as they are now: the API server serves all chunks of a list from one version, while it keeps
/// it. What people configure is few, and is read at that version first.
pub(super) async fn snapshot(client: &Client, time: Duration) -> Result<Snapshot, KernelError> {
    let mut chunks = Chunks { client: client.clone(), time, limit: CHUNK, token: None, version: String::new() };
    let first = chunks.next().await?;
    let (configured, left_out) = records_at(client, &chunks.version, Instant::now() + time).await?;
    let snapshot = Snapshot::read_by(move |sink| async move {
        for batch in configured {
            if sink.put(batch).await.is_err() {
                return;
            }
        }
        let mut chunk = Ok(first);
        while let Ok(Some(batch)) = chunk {
            if sink.put(batch).await.is_err() {
                return;
            }
            chunk = chunks.next().await;
        }
        sink.close(chunk.map(|_| ())).await;
    });
    Ok(snapshot.without(left_out))
}

/// The chunks of one list.
struct Chunks {
    client: Client,
    time: Duration,
    limit: usize,
    /// The way on; empty after the last chunk.
    token: Option<String>,
    /// The version that all of them show.
    version: String,
}

impl Chunks {
    async fn next(&mut self) -> Result<Option<Batch>, KernelError> {
        if self.token.as_ref().is_some_and(String::is_empty) {
            return Ok(None);
        }
        let deadline = Instant::now() + self.time;
        loop {
            let token = self.token.as_deref();
            let query = ListQuery { limit: self.limit, continue_token: token, ..ListQuery::default() };
            match self.client.list::<Object>(&RECORDS, &query, deadline).await {
                Ok(List { metadata, items }) => {
                    self.token = Some(metadata.continue_token);
                    self.version = metadata.resource_version;
                    let records = items.into_iter().filter(|object| !object.is_schema());
                    return records.map(Object::into_any_record).collect::<Result<_, _>>().map(Some);
                }
                Err(ClientError::TooLarge { .. }) if self.limit > 1 => self.limit /= 2,
                Err(ClientError::Expired) => return Err(KernelError::not_applied(Trouble::Forgotten)),
                Err(error) => return Err(of_read(&error)),
            }
        }
    }
}

/// The records of one page: those with the smallest ids after the page's start, and one more to know that there is one.
pub(super) struct Smallest {
    page: Page,
    records: BTreeMap<String, Record>,
    bytes: usize,
}

impl Smallest {
    pub(super) const fn new(page: Page) -> Self {
        Self { page, records: BTreeMap::new(), bytes: 0 }
    }

    /// Takes a record, unless it cannot be on the page.
    pub(super) fn push(&mut self, record: Record) {
        if self.page.after.as_ref().is_some_and(|after| record.id <= *after) {
            return;
        }
        self.bytes = self.bytes.saturating_add(record.data.len());
        if let Some(older) = self.records.insert(record.id.clone(), record) {
            self.bytes = self.bytes.saturating_sub(older.data.len());
        }
        while self.has_one_too_many() {
            if let Some((_, last)) = self.records.pop_last() {
                self.bytes = self.bytes.saturating_sub(last.data.len());
            }
        }
    }

    /// Whether the page is full, and known to have a next one, without the last record.
    fn has_one_too_many(&self) -> bool {
        if self.records.len() > self.page.clamped_limit().saturating_add(1) {
            return true;
        }
        let last_two: usize = self.records.values().rev().take(2).map(|record| record.data.len()).sum();
        self.records.len() > 2 && self.bytes.saturating_sub(last_two) >= MAX_PAGE_BYTES
    }

    pub(super) fn into_listing(self) -> Result<Listing, KernelError> {
        Listing::collect(&self.page, self.records.into_values().map(Ok))
    }
}

/// An object that is over. Ordered by its expiry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Over {
    pub(super) at: Timestamp,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
}

/// Of what is over at `now`, the earliest.
pub(super) struct Earliest {
    now: Timestamp,
    limit: usize,
    /// A scan that began anew meets some twice.
    kept: BTreeSet<Over>,
    more: bool,
}

impl Earliest {
    pub(super) const fn new(now: Timestamp, limit: usize) -> Self {
        Self { now, limit, kept: BTreeSet::new(), more: false }
    }

    /// Takes an object that is over. One whose expiry cannot be read stays where it is: an error names it, and the others go.
    pub(super) fn push(&mut self, metadata: Metadata) {
        let at = match metadata.expires_at() {
            Ok(Some(at)) if at <= self.now => at,
            Ok(_) => return,
            Err(error) => {
                tracing::error!(%error, "a record cannot be collected");
                return;
            }
        };
        let Metadata { name, uid, resource_version, .. } = metadata;
        self.kept.insert(Over { at, name, uid, resource_version });
        if self.kept.len() > self.limit {
            self.kept.pop_last();
            self.more = true;
        }
    }

    /// The earliest first, and whether there are more.
    pub(super) fn into_sorted(self) -> (Vec<Over>, bool) {
        (self.kept.into_iter().collect(), self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{MAX_DATA_BYTES, Version};

    fn record(id: &str, bytes: usize) -> Record {
        Record {
            id: id.to_owned(),
            version: Version::new(1),
            index: [None, None],
            expires_at: None,
            data: vec![0; bytes],
        }
    }

    /// What the page would be if everything were kept.
    fn plain(records: &[Record], page: &Page) -> Listing {
        let mut sorted: Vec<_> =
            records.iter().filter(|r| page.after.as_ref().is_none_or(|after| r.id > *after)).cloned().collect();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        Listing::collect::<KernelError>(page, sorted.into_iter().map(Ok)).unwrap()
    }

    #[test]
    fn no_more_is_kept_than_a_page() {
        let mut kept = Smallest::new(Page::first(1000));
        for number in (0..200).rev() {
            kept.push(record(&format!("{number:03}"), MAX_DATA_BYTES));
            assert!(kept.bytes <= MAX_PAGE_BYTES + 2 * MAX_DATA_BYTES, "{}", kept.bytes);
        }
        assert_eq!(kept.bytes, kept.records.values().map(|r| r.data.len()).sum::<usize>());
        let mut many = Smallest::new(Page::first(5));
        (0..1000).for_each(|number| many.push(record(&number.to_string(), 1)));
        assert_eq!(many.records.len(), 6);
    }

    proptest::proptest! {
        #[test]
        fn a_page_is_what_sorting_everything_gives(
            ids in proptest::collection::vec("[ab]{1,3}", 0..40),
            sizes in proptest::collection::vec(proptest::sample::select(vec![0, 1, MAX_DATA_BYTES, 2 * 1024 * 1024]), 40),
            after in proptest::option::of("[ab]{0,3}"),
            limit in 0_usize..8,
        ) {
            let page = Page { after, limit };
            let mut once = BTreeMap::new();
            for (id, size) in ids.iter().zip(sizes) {
                once.entry(id.clone()).or_insert_with(|| record(id, size));
            }
            let mut kept = Smallest::new(page.clone());
            // As met, and each a second time.
            ids.iter().chain(&ids).filter_map(|id| once.get(id)).for_each(|record| kept.push(record.clone()));
            let records: Vec<_> = once.into_values().collect();
            proptest::prop_assert_eq!(kept.into_listing().unwrap(), plain(&records, &page));
        }
    }

    #[test]
    fn the_earliest_are_kept_and_told_apart_to_the_nanosecond() {
        let metadata = |name: &str, nanos: i64| -> Metadata {
            let at = Timestamp::from_unix_nanos(nanos).rfc3339_nanos();
            let object = serde_json::json!({"name": name, "annotations": {"portcullis.dev/expires-at": at}});
            serde_json::from_value(object).unwrap()
        };
        let mut earliest = Earliest::new(Timestamp::from_unix_nanos(100), 3);
        for (name, nanos) in [("e", 5), ("later", 101), ("a", 1), ("d", 4), ("a", 1), ("c", 3), ("now", 100), ("b", 2)]
        {
            earliest.push(metadata(name, nanos));
        }
        earliest.push(serde_json::from_value(serde_json::json!({"name": "never"})).unwrap());
        let damaged = serde_json::json!({"name": "x", "annotations": {"portcullis.dev/expires-at": "soon"}});
        earliest.push(serde_json::from_value(damaged).unwrap());
        let (over, more) = earliest.into_sorted();
        assert_eq!(over.iter().map(|over| over.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(more);
        let (none, more) = Earliest::new(Timestamp::MAX, 0).into_sorted();
        assert!(none.is_empty() && !more);
    }
}
