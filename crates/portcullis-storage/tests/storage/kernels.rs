//! The conformance suite on every backend.

use std::sync::Arc;

use portcullis_runtime::Clock;
use portcullis_storage::{
    EtcdKernel, EtcdOptions, Kernel, KernelError, MemoryKernel, SqliteKernel, SqliteOptions, conformance::check_kernel,
};
use portcullis_testkit::Etcd;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_kernel_keeps_every_promise() {
    let passed = check_kernel(&|| Box::pin(async { Arc::new(MemoryKernel::new()) as Arc<dyn Kernel> })).await.unwrap();
    assert!(passed.len() >= 28, "{passed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sqlite_kernel_keeps_every_promise() {
    let folder = tempfile::tempdir().unwrap();
    let number = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let path = folder.path().to_owned();
    let make = move || {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = path.join(format!("{number}.db"));
        Box::pin(async move {
            Arc::new(SqliteKernel::open(&file, &Clock::system(), &SqliteOptions::default()).unwrap()) as Arc<dyn Kernel>
        }) as _
    };
    let passed = check_kernel(&make).await.unwrap();
    assert!(passed.len() >= 28, "{passed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_etcd_kernel_keeps_every_promise() {
    let etcd = Etcd::start().await;
    let number = std::sync::atomic::AtomicUsize::new(0);
    let make = || {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let namespace = format!("store-{number}/");
        let options = EtcdOptions { endpoints: vec![etcd.url()], namespace, ..EtcdOptions::default() };
        Box::pin(async move { Arc::new(EtcdKernel::open(options).await.unwrap()) as Arc<dyn Kernel> }) as _
    };
    let passed = check_kernel(&make).await.unwrap();
    assert!(passed.len() >= 28, "{passed:?}");
}

/// The suite is worth something only if it notices. Each mutant breaks one promise.
mod mutants {
    use std::sync::atomic::{AtomicU64, Ordering};

    use portcullis_runtime::Timestamp;
    use portcullis_storage::{
        Sink, Snapshot,
        kernel::{Description, IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write},
    };

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Bug {
        UpdatesIgnoreTheVersion,
        InsertsOverwrite,
        DeletesIgnoreTheVersion,
        IdsFoldCase,
        VersionsStartAnew,
        ExpiryHidesRecords,
        ExpiryTakesTheLatest,
        IndexForgetsUpdates,
        PagesRepeatTheirLast,
        DataIsCut,
        SnapshotsReadOn,
        SnapshotsForget,
    }

    struct Mutant {
        inner: Arc<MemoryKernel>,
        bug: Bug,
        expired: AtomicU64,
    }

    impl Mutant {
        fn id(&self, id: &str) -> String {
            if self.bug == Bug::IdsFoldCase { id.to_lowercase() } else { id.to_owned() }
        }
    }

    impl Kernel for Mutant {
        fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
            Box::pin(async move {
                let record = self.inner.get(kind, &self.id(id)).await?;
                Ok(record
                    .filter(|record| {
                        self.bug != Bug::ExpiryHidesRecords
                            || record.expires_at.is_none_or(|at| at > Timestamp::UNIX_EPOCH)
                    })
                    .map(|mut record| {
                        if self.bug == Bug::VersionsStartAnew {
                            record.version = Version::new(record.version.number() % 2);
                        }
                        record
                    }))
            })
        }

        fn insert<'a>(&'a self, kind: Kind, id: &'a str, mut write: Write) -> KernelFuture<'a, Version> {
            Box::pin(async move {
                let id = self.id(id);
                if self.bug == Bug::DataIsCut {
                    write.data.truncate(64 * 1024);
                }
                if self.bug == Bug::InsertsOverwrite
                    && let Some(old) = self.inner.get(kind, &id).await?
                {
                    return self.inner.update(kind, &id, old.version, write).await;
                }
                self.inner.insert(kind, &id, write).await
            })
        }

        fn update<'a>(
            &'a self,
            kind: Kind,
            id: &'a str,
            version: Version,
            mut write: Write,
        ) -> KernelFuture<'a, Version> {
            Box::pin(async move {
                let id = self.id(id);
                let old = self.inner.get(kind, &id).await?.ok_or(KernelError::NotFound)?;
                let version = match self.bug {
                    Bug::UpdatesIgnoreTheVersion => old.version,
                    Bug::VersionsStartAnew if old.version.number() % 2 == version.number() % 2 => old.version,
                    _ => version,
                };
                if self.bug == Bug::IndexForgetsUpdates {
                    write.index = old.index;
                }
                self.inner.update(kind, &id, version, write).await
            })
        }

        fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
            Box::pin(async move {
                let id = self.id(id);
                let old = self.inner.get(kind, &id).await?.ok_or(KernelError::NotFound)?;
                let version = if self.bug == Bug::DeletesIgnoreTheVersion { old.version } else { version };
                self.inner.delete(kind, &id, version).await
            })
        }

        fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
            Box::pin(async move {
                let mut listing = self.inner.list(kind, page).await?;
                if self.bug == Bug::PagesRepeatTheirLast
                    && let Some(next) = &mut listing.next
                    && let [.., before, _] = listing.records.as_slice()
                {
                    next.after = Some(before.id.clone());
                }
                Ok(listing)
            })
        }

        fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
            self.inner.by_index(kind, slot, key, page)
        }

        fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
            Box::pin(async move {
                if self.bug == Bug::ExpiryTakesTheLatest && limit == 12 {
                    self.expired.fetch_add(1, Ordering::Relaxed);
                    return self.inner.expire(now, 11).await.map(|count| count + 1);
                }
                self.inner.expire(now, limit).await
            })
        }

        fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
            match self.bug {
                Bug::SnapshotsReadOn => {
                    let inner = Arc::clone(&self.inner);
                    Box::pin(async move { Ok(Snapshot::read_by(|sink| walk(inner, sink))) })
                }
                Bug::SnapshotsForget => Box::pin(async { MemoryKernel::new().snapshot().await }),
                _ => self.inner.snapshot(),
            }
        }

        fn description(&self) -> Description {
            self.inner.description()
        }
    }

    /// A snapshot that is none: it reads kind after kind, each as it is when its turn comes.
    async fn walk(kernel: Arc<MemoryKernel>, sink: Sink) {
        for kind in Kind::ALL {
            let mut page = Some(Page::first(1000));
            while let Some(current) = page {
                let Listing { records, next } = kernel.list(kind, current).await.unwrap();
                if sink.put(records.into_iter().map(|record| (kind, record)).collect()).await.is_err() {
                    return;
                }
                page = next;
            }
        }
        sink.close(Ok(())).await;
    }

    #[tokio::test]
    async fn every_mutant_is_caught() {
        for bug in [
            Bug::UpdatesIgnoreTheVersion,
            Bug::InsertsOverwrite,
            Bug::DeletesIgnoreTheVersion,
            Bug::IdsFoldCase,
            Bug::VersionsStartAnew,
            Bug::ExpiryHidesRecords,
            Bug::ExpiryTakesTheLatest,
            Bug::IndexForgetsUpdates,
            Bug::PagesRepeatTheirLast,
            Bug::DataIsCut,
            Bug::SnapshotsReadOn,
            Bug::SnapshotsForget,
        ] {
            let make = move || {
                let mutant = Mutant { inner: Arc::new(MemoryKernel::new()), bug, expired: AtomicU64::new(0) };
                Box::pin(async move { Arc::new(mutant) as Arc<dyn Kernel> }) as _
            };
            let caught = check_kernel(&make).await;
            println!("{bug:?}: {caught:?}");
            assert!(caught.is_err(), "{bug:?} was not caught");
        }
    }
}
