//! What a verdict of the authenticator allocates: one line of JSON for the benchmarks.
//!
//! A program of its own, because counting takes time: no other figure is measured with this allocator.
#![expect(clippy::print_stdout, reason = "a program that reports figures")]

#[path = "../verdicts.rs"]
mod verdicts;

use std::alloc::System;

use anyhow::{Result, ensure};
use portcullis_authn::Verdict;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::verdicts::{CACHE_BYTES, Case, Cases};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    let cases = Cases::new()?;
    let [first, ..] = &cases.many;
    let told = json!({
        "rs256": count(&cases.rs256, 0)?,
        "es256": count(&cases.es256, 0)?,
        "many": count(first, 0)?,
        "cel": count(&cases.cel, 0)?,
        "cached": count(&cases.rs256, CACHE_BYTES)?,
    });
    println!("{told}");
    Ok(())
}

/// The means of a verdict, warm.
fn count(case: &Case, cache_bytes: usize) -> Result<Value> {
    let authenticator = case.authenticator(cache_bytes)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let ask = async || {
            for token in &case.tokens {
                let verdict = authenticator.authenticate(token).await;
                ensure!(matches!(verdict, Verdict::User(_)), "a good token was refused");
            }
            Ok(())
        };
        ask().await?;
        let region = Region::new(ALLOCATOR);
        ask().await?;
        let change = region.change();
        let verdicts = case.tokens.len();
        // A block that grows is made anew.
        let bytes = change.bytes_allocated.saturating_add_signed(change.bytes_reallocated);
        Ok(json!({"allocs": (change.allocations + change.reallocations) / verdicts, "bytes": bytes / verdicts}))
    })
}
