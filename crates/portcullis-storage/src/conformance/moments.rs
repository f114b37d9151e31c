//! Snapshots: whole, and of one moment.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_runtime::Timestamp;
use tokio::task::JoinSet;

use super::{
    Outcome,
    cases::{content, listed},
    ensure,
};
use crate::{
    error::KernelError,
    kernel::{IndexKey, Kernel, Kind, MAX_DATA_BYTES, Record, Write},
    snapshot::Snapshot,
};

type TestKernel = Arc<dyn Kernel>;
type All = BTreeMap<(Kind, String), Record>;

/// Records of each kind, and of one kind more than any backend reads at once.
const EACH: usize = 20;
const MANY: usize = 1_100;
/// Inserts at a time.
const PARALLEL: usize = 16;

fn text(error: KernelError) -> String {
    format!("unexpected error: {error:?}")
}

async fn fill(kernel: &TestKernel) -> Result<All, String> {
    let many = (0..MANY).map(|number| (Kind::Family, number));
    let mut all: Vec<(Kind, String, Write)> = listed()
        .filter(|kind| *kind != Kind::Family)
        .flat_map(|kind| (0..EACH).map(move |number| (kind, number)))
        .chain(many)
        .map(|(kind, number)| {
            let seconds = i64::try_from(number).unwrap_or(0);
            let expires_at = number.is_multiple_of(3).then(|| Timestamp::from_unix_nanos(seconds * 1_000_000_007));
            let key = IndexKey::of(&[&format!("{}", number % 5)]);
            let id = format!("{number:04}");
            let Write { data, .. } = content(kind, &id, &format!("{kind} {number}"));
            let write = match Kind::CONFIGURED.contains(&kind) {
                true => Write { data, ..Write::default() },
                false => Write { index: [Some(key), None], expires_at, data },
            };
            (kind, id, write)
        })
        .collect();
    let large = Write { data: vec![0xfe; MAX_DATA_BYTES], ..Write::default() };
    all.extend((0..3).map(|number| (Kind::Request, format!("large ä {number}"), large.clone())));
    let mut running = JoinSet::new();
    let mut waiting = all.into_iter();
    let mut made = All::new();
    loop {
        while running.len() < PARALLEL
            && let Some((kind, id, write)) = waiting.next()
        {
            let kernel = Arc::clone(kernel);
            running.spawn(async move {
                let Write { index, expires_at, data } = write.clone();
                let version = kernel.insert(kind, &id, write).await?;
                Ok((kind, Record { id, version, index, expires_at, data }))
            });
        }
        match running.join_next().await {
            Some(Ok(Ok((kind, record)))) => made.insert((kind, record.id.clone()), record),
            Some(Ok(Err(error))) => return Err(text(error)),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Ok(made),
        };
    }
}

async fn rest(mut snapshot: Snapshot, mut found: All) -> Result<All, String> {
    while let Some(batch) = snapshot.next().await.map_err(text)? {
        for (kind, record) in batch {
            let again = found.insert((kind, record.id.clone()), record);
            ensure!(again.is_none(), "{kind} {:?} comes twice", again.map(|record| record.id));
        }
    }
    Ok(found)
}

fn compare(found: &All, expected: &All) -> Outcome {
    for (name, record) in expected {
        ensure!(found.get(name) == Some(record), "{name:?} should be {record:?} and is {:?}", found.get(name));
    }
    let extra = found.keys().find(|name| !expected.contains_key(*name));
    ensure!(extra.is_none(), "there was no {extra:?}");
    Ok(())
}

pub(super) async fn a_snapshot_has_every_record(kernel: TestKernel) -> Outcome {
    let empty = rest(kernel.snapshot().await.map_err(text)?, All::new()).await?;
    ensure!(empty.is_empty(), "an empty store has {} records", empty.len());
    let expected = fill(&kernel).await?;
    compare(&rest(kernel.snapshot().await.map_err(text)?, All::new()).await?, &expected)
}

/// What is changed, deleted and made while it is read is in it as it was when it was taken.
pub(super) async fn a_snapshot_is_of_one_moment(kernel: TestKernel) -> Outcome {
    let expected = fill(&kernel).await?;
    let mut snapshot = kernel.snapshot().await.map_err(text)?;
    let mut found = All::new();
    for (kind, record) in snapshot.next().await.map_err(text)?.unwrap_or_default() {
        found.insert((kind, record.id.clone()), record);
    }
    for kind in listed() {
        kernel.insert(kind, "later", content(kind, "later", "made later")).await.map_err(text)?;
        let mut records = expected.iter().filter(|((of, _), _)| *of == kind).map(|(_, record)| record);
        for record in records.by_ref().take(3) {
            let new = content(kind, &record.id, "made later");
            kernel.update(kind, &record.id, record.version, new).await.map_err(text)?;
        }
        for record in records.take(3) {
            kernel.delete(kind, &record.id, record.version).await.map_err(text)?;
        }
    }
    compare(&rest(snapshot, found).await?, &expected)
}

/// Dropped half read, it holds nobody up.
pub(super) async fn a_snapshot_that_nobody_reads_on_leaves_the_store_free(kernel: TestKernel) -> Outcome {
    let expected = fill(&kernel).await?;
    for _ in 0..12 {
        let mut snapshot = kernel.snapshot().await.map_err(text)?;
        snapshot.next().await.map_err(text)?;
    }
    for ((kind, id), record) in expected.iter().take(20) {
        kernel.delete(*kind, id, record.version).await.map_err(text)?;
    }
    Ok(())
}
