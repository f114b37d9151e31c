//! Any list of operations means the same on memory and on SQLite; any text is a refresh token or none.

use std::collections::HashMap;

use portcullis_runtime::{Clock, Secret, Timestamp};
use portcullis_storage::{
    Kernel, KernelError, MemoryKernel, RefreshToken, SqliteKernel, SqliteOptions,
    kernel::{IndexKey, Kind, Listing, Page, Slot, Version, Write},
};
use proptest::prelude::*;

const IDS: [&str; 6] = ["a", "A", "a\0", "ä", "😀", "b"];

#[derive(Clone, Debug)]
enum Operation {
    Get(usize),
    Insert(usize, Fields),
    /// An update or delete of the record's current version, or of an earlier one.
    Update(usize, bool, Fields),
    Delete(usize, bool),
    List(usize, usize),
    ByIndex(u8, bool, usize),
    Expire(i64),
}

#[derive(Clone, Debug)]
struct Fields {
    index: [Option<u8>; 2],
    expires_at: Option<i64>,
    data: Vec<u8>,
}

fn key(number: u8) -> IndexKey {
    IndexKey::of(&[&number.to_string()])
}

impl Fields {
    fn write(&self) -> Write {
        let expires_at = self.expires_at.map(Timestamp::from_unix_nanos);
        Write { index: self.index.map(|number| number.map(key)), expires_at, data: self.data.clone() }
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let number = || prop::option::of(0..3_u8);
    ((number(), number()), prop::option::of(-3..6_i64), prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|((first, second), expires_at, data)| Fields { index: [first, second], expires_at, data })
}

fn operation() -> impl Strategy<Value = Operation> {
    let id = || 0..IDS.len();
    prop_oneof![
        id().prop_map(Operation::Get),
        (id(), fields()).prop_map(|(id, fields)| Operation::Insert(id, fields)),
        (id(), any::<bool>(), fields()).prop_map(|(id, stale, fields)| Operation::Update(id, stale, fields)),
        (id(), any::<bool>()).prop_map(|(id, stale)| Operation::Delete(id, stale)),
        (0..=IDS.len(), 0..4_usize).prop_map(|(after, limit)| Operation::List(after, limit)),
        (0..3_u8, any::<bool>(), 0..4_usize).prop_map(|(key, first, limit)| Operation::ByIndex(key, first, limit)),
        (-3..6_i64).prop_map(Operation::Expire),
    ]
}

/// A kernel with the versions that it gave, so that results can be compared without them.
struct Subject {
    kernel: Box<dyn Kernel>,
    versions: HashMap<usize, Vec<Version>>,
}

type Seen = Vec<(String, [Option<IndexKey>; 2], Option<Timestamp>, Vec<u8>)>;

fn seen(listing: Listing) -> (Seen, Option<Page>) {
    let records = listing.records.into_iter();
    (records.map(|record| (record.id, record.index, record.expires_at, record.data)).collect(), listing.next)
}

impl Subject {
    fn version(&self, id: usize, stale: bool) -> Version {
        let versions = self.versions.get(&id).map_or(&[][..], Vec::as_slice);
        let version = if stale { versions.first() } else { versions.last() };
        version.copied().unwrap_or(Version::new(0))
    }

    fn remember(&mut self, id: usize, version: Version) {
        self.versions.entry(id).or_default().push(version);
    }

    async fn run(&mut self, operation: &Operation) -> Result<(Seen, Option<Page>, usize), KernelError> {
        let kind = Kind::Client;
        let nothing = (Vec::new(), None, 0);
        match operation {
            Operation::Get(id) => {
                let records = self.kernel.get(kind, IDS[*id]).await?.into_iter().collect();
                let (records, _) = seen(Listing { records, next: None });
                Ok((records, None, 0))
            }
            Operation::Insert(id, fields) => {
                let version = self.kernel.insert(kind, IDS[*id], fields.write()).await?;
                self.remember(*id, version);
                Ok(nothing)
            }
            Operation::Update(id, stale, fields) => {
                let old = self.version(*id, *stale);
                let version = self.kernel.update(kind, IDS[*id], old, fields.write()).await?;
                self.remember(*id, version);
                Ok(nothing)
            }
            Operation::Delete(id, stale) => {
                self.kernel.delete(kind, IDS[*id], self.version(*id, *stale)).await?;
                Ok(nothing)
            }
            Operation::List(after, limit) => {
                let page = Page { after: IDS.get(*after).map(|id| (*id).to_owned()), limit: *limit };
                let (records, next) = seen(self.kernel.list(kind, page).await?);
                Ok((records, next, 0))
            }
            Operation::ByIndex(number, first, limit) => {
                let slot = if *first { Slot::First } else { Slot::Second };
                let (records, next) = seen(self.kernel.by_index(kind, slot, key(*number), Page::first(*limit)).await?);
                Ok((records, next, 0))
            }
            // Which of several that end at the same time go first is open, so all of them go.
            Operation::Expire(now) => {
                let deleted = self.kernel.expire(Timestamp::from_unix_nanos(*now), 1000).await?;
                Ok((Vec::new(), None, deleted))
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_sqlite_give_the_same_answers(operations in prop::collection::vec(operation(), 1..80)) {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = SqliteKernel::open(&folder.path().join("store.db"), &Clock::system(), &SqliteOptions::default());
        let mut memory = Subject { kernel: Box::new(MemoryKernel::new()), versions: HashMap::new() };
        let mut sqlite = Subject { kernel: Box::new(sqlite.unwrap()), versions: HashMap::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for operation in &operations {
            let (one, other) = runtime.block_on(async { (memory.run(operation).await, sqlite.run(operation).await) });
            prop_assert_eq!(one, other, "{:?}", operation);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_token_survives_the_wire(family in "\\PC{1,200}", secret in "\\PC{0,200}") {
        let token = RefreshToken { family: family.into(), secret: Secret::new(secret) };
        prop_assert_eq!(RefreshToken::decode(token.encode().expose()), Some(token));
    }

    #[test]
    fn any_text_is_a_token_or_none(text in "[A-Za-z0-9_=-]{0,120}|\\PC{0,60}") {
        if let Some(token) = RefreshToken::decode(&text) {
            prop_assert_eq!(RefreshToken::decode(token.encode().expose()), Some(token));
        }
    }
}
