//! What many callers see at once.

use std::{collections::HashSet, sync::Arc};

use portcullis_runtime::Timestamp;
use tokio::task::JoinSet;

use super::{
    Outcome,
    cases::{content, write},
    ensure,
};
use crate::{
    error::KernelError,
    kernel::{Kernel, Kind, Write},
};

type TestKernel = Arc<dyn Kernel>;

const WRITERS: usize = 64;

pub(super) async fn one_of_many_inserts_wins(kernel: TestKernel) -> Outcome {
    let mut tasks = JoinSet::new();
    for number in 0..WRITERS {
        let kernel = Arc::clone(&kernel);
        tasks.spawn(async move { (number, kernel.insert(Kind::Login, "flow", write(&number.to_string())).await) });
    }
    let mut winners = Vec::new();
    while let Some(done) = tasks.join_next().await {
        match done.map_err(|error| error.to_string())? {
            (number, Ok(_)) => winners.push(number),
            (_, Err(KernelError::AlreadyExists)) => {}
            (number, Err(error)) => return Err(format!("writer {number}: {error:?}")),
        }
    }
    ensure!(winners.len() == 1, "{} of {WRITERS} inserts won", winners.len());
    let data = kernel.get(Kind::Login, "flow").await.map_err(|error| error.to_string())?.ok_or("gone")?.data;
    let expected = winners.first().map(|number| number.to_string().into_bytes());
    ensure!(Some(&data) == expected.as_ref(), "another one's data was kept than the winner's");
    Ok(())
}

pub(super) async fn one_of_many_inserts_of_a_client_wins(kernel: TestKernel) -> Outcome {
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let kernel = Arc::clone(&kernel);
        let write = content(Kind::Client, "app", &number.to_string());
        tasks.spawn(async move { (write.data.clone(), kernel.insert(Kind::Client, "app", write).await) });
    }
    let mut winners = Vec::new();
    while let Some(done) = tasks.join_next().await {
        match done.map_err(|error| error.to_string())? {
            (data, Ok(_)) => winners.push(data),
            (_, Err(KernelError::AlreadyExists)) => {}
            (_, Err(error)) => return Err(format!("{error:?}")),
        }
    }
    ensure!(winners.len() == 1, "{} of 16 inserts won", winners.len());
    let kept = kernel.recent(Kind::Client, "app").await.map_err(|error| error.to_string())?.map(|record| record.data);
    ensure!(kept == winners.pop(), "another one's data was kept than the winner's");
    Ok(())
}

pub(super) async fn no_update_is_lost_among_64_writers(kernel: TestKernel) -> Outcome {
    const EACH: usize = 4;
    kernel.insert(Kind::Family, "counter", write("0")).await.map_err(|error| error.to_string())?;
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        let kernel = Arc::clone(&kernel);
        tasks.spawn(async move {
            let mut versions = Vec::new();
            while versions.len() < EACH {
                let record = kernel.get(Kind::Family, "counter").await?.ok_or(KernelError::NotFound)?;
                let count: u64 = String::from_utf8_lossy(&record.data).parse().unwrap_or(u64::MAX / 2);
                match kernel.update(Kind::Family, "counter", record.version, write(&(count + 1).to_string())).await {
                    Ok(version) => versions.push(version),
                    Err(KernelError::Conflict) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(versions)
        });
    }
    let mut versions = HashSet::new();
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        versions.extend(done);
    }
    let total = WRITERS * EACH;
    ensure!(versions.len() == total, "{} different versions for {total} updates", versions.len());
    let data = kernel.get(Kind::Family, "counter").await.map_err(|error| error.to_string())?.ok_or("gone")?.data;
    ensure!(data == total.to_string().as_bytes(), "{total} updates counted to {}", String::from_utf8_lossy(&data));
    Ok(())
}

pub(super) async fn one_of_many_deletes_wins(kernel: TestKernel) -> Outcome {
    let version = kernel.insert(Kind::Code, "id", write("")).await.map_err(|error| error.to_string())?;
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        let kernel = Arc::clone(&kernel);
        tasks.spawn(async move { kernel.delete(Kind::Code, "id", version).await });
    }
    let mut won = 0;
    while let Some(done) = tasks.join_next().await {
        match done.map_err(|error| error.to_string())? {
            Ok(()) => won += 1,
            Err(KernelError::NotFound) => {}
            Err(error) => return Err(format!("{error:?}")),
        }
    }
    ensure!(won == 1, "{won} of {WRITERS} deletes won");
    Ok(())
}

/// A record whose expiry is moved while the collector runs is either deleted (and the update says so) or lives on.
pub(super) async fn expiry_and_updates_do_not_mix_up(kernel: TestKernel) -> Outcome {
    let now = Timestamp::from_unix_seconds(100);
    let until = |seconds| Write { expires_at: Some(Timestamp::from_unix_seconds(seconds)), ..Write::default() };
    let mut tasks = JoinSet::new();
    for number in 0..WRITERS {
        let id = format!("{number}");
        let version = kernel.insert(Kind::Family, &id, until(50)).await.map_err(|error| error.to_string())?;
        let kernel = Arc::clone(&kernel);
        tasks.spawn(async move {
            let moved = kernel.update(Kind::Family, &id, version, until(1_000)).await;
            (id, moved)
        });
    }
    for _ in 0..8 {
        kernel.expire(now, 16).await.map_err(|error| error.to_string())?;
    }
    while let Some(done) = tasks.join_next().await {
        let (id, moved) = done.map_err(|error| error.to_string())?;
        let there = kernel.get(Kind::Family, &id).await.map_err(|error| error.to_string())?.is_some();
        match moved {
            Ok(_) => ensure!(there, "{id} was prolonged and is gone"),
            Err(KernelError::NotFound) => ensure!(!there, "{id} was not found and is there"),
            Err(error) => return Err(format!("{id}: {error:?}")),
        }
    }
    Ok(())
}

/// Index keys, expiry and data of one write belong together.
pub(super) async fn a_reader_never_sees_a_mixture(kernel: TestKernel) -> Outcome {
    let of = |number: i64| Write {
        expires_at: Some(Timestamp::from_unix_seconds(number)),
        data: number.to_string().into_bytes().repeat(2_000),
        ..Write::default()
    };
    let mut version = kernel.insert(Kind::Family, "id", of(0)).await.map_err(|error| error.to_string())?;
    let reading = Arc::clone(&kernel);
    let reader = tokio::spawn(async move {
        for _ in 0..200 {
            let record = reading.get(Kind::Family, "id").await?.ok_or(KernelError::NotFound)?;
            let number = record.expires_at.map_or(-1, Timestamp::unix_seconds);
            if record.data != number.to_string().into_bytes().repeat(2_000) {
                return Err(KernelError::Corrupt { what: "a mixture of two writes".to_owned() });
            }
        }
        Ok(())
    });
    for number in 1..100 {
        version = kernel.update(Kind::Family, "id", version, of(number)).await.map_err(|error| error.to_string())?;
    }
    reader.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
