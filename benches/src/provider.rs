//! The provider: ready, memory, and the CPU of a refresh beside its floor: two signatures and the store's own work,
//! which are measured in this process with the provider's own crates.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use portcullis_jose::{Algorithm, KeyKind, SigningKey, sign_compact};
use portcullis_runtime::{Clock, Rng};
use portcullis_storage::{Identity, NewFamily, Refreshed, RotationPolicy, SqliteKernel, SqliteOptions, Store};

use crate::process::{self, Memory, median};
use crate::report::{Peer, Report};
use crate::site::{Program, Site, user};
use crate::{Options, traffic};

const STARTS: usize = 15;
const REFRESHES: u32 = 1_000;
const SIGNATURES: u32 = 1_000;

pub(crate) fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let ours = options.bin.join("portcullis");
    let ours = Program::Ours(&ours);
    let peer = options.dex.as_deref().map(Program::Dex);
    let fresh = starts(ours, true)?;
    report.at_most(
        "provider, first start to ready",
        "ms",
        ms(median(&fresh)),
        100.0,
        Peer::of(peer.map(|p| starts(p, true)).transpose()?.map(|t| format!("{:.1} ms", ms(median(&t))))),
    );
    let again = starts(ours, false)?;
    report.at_most(
        "provider, further start to ready",
        "ms",
        ms(median(&again)),
        50.0,
        Peer::of(peer.map(|p| starts(p, false)).transpose()?.map(|t| format!("{:.1} ms", ms(median(&t))))),
    );

    let (idle, refresh) = load(ours)?;
    let of_peer = peer.map(load).transpose()?;
    report.at_most(
        "provider, memory when idle",
        "MiB",
        idle.resident as f64 / 1024.0,
        22.0,
        Peer::of(of_peer.map(|(m, _)| format!("{:.1} MiB", m.resident as f64 / 1024.0))),
    );
    report.told(
        "  of which its own (RssAnon) / files (RssFile)",
        format!("{:.1} / {:.1} MiB", idle.anonymous as f64 / 1024.0, idle.file as f64 / 1024.0),
    );
    let signature = signature_cpu()?;
    report.told("CPU of one RS256 signature", format!("{:.3} ms", ms(signature)));
    let store = store_cpu()?;
    report.told("CPU of the store's work for one refresh: two reads, one write", format!("{:.3} ms", ms(store)));
    let floor = 2.0 * signature.as_secs_f64() + store.as_secs_f64();
    report.at_most(
        "CPU of a refresh over its two signatures and the store's work",
        "×",
        refresh.as_secs_f64() / floor,
        1.3,
        Peer::of(of_peer.map(|(_, r)| format!("{:.2} ×", r.as_secs_f64() / floor))),
    );
    report.at_most(
        "CPU of a refresh (SQLite, full synchronisation)",
        "ms",
        ms(refresh),
        1.3 * floor * 1e3,
        Peer::of(of_peer.map(|(_, r)| format!("{:.3} ms", ms(r)))),
    );
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn starts(program: Program<'_>, fresh: bool) -> Result<Vec<Duration>> {
    let kept = Site::new(program, 1)?;
    drop(kept.start(program)?);
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let time = if fresh { Site::new(program, 1)?.start(program)?.1 } else { kept.start(program)?.1 };
        times.push(time);
    }
    times.sort();
    Ok(times)
}

/// Memory when idle, and the server's CPU for one refresh.
fn load(program: Program<'_>) -> Result<(Memory, Duration)> {
    let site = Site::new(program, 1)?;
    let (server, _) = site.start(program)?;
    std::thread::park_timeout(Duration::from_millis(500));
    let idle = Memory::of(server.0.id()).context("the provider has ended")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let per_refresh = runtime.block_on(refreshes(&site, server.0.id()))?;
    Ok((idle, per_refresh))
}

async fn refreshes(site: &Site, pid: u32) -> Result<Duration> {
    let mut chains = traffic::chains(site, 1).await?;
    traffic::latencies(&mut chains, 50).await?;
    let before = process::cpu(pid)?;
    traffic::latencies(&mut chains, REFRESHES as usize).await?;
    Ok((process::cpu(pid)? - before) / REFRESHES)
}

/// CPU of the store's own work for one refresh, on SQLite as the provider opens it: the family is read and written. (The
/// user and the client of this benchmark are in the configuration, which is no store.)
fn store_cpu() -> Result<Duration> {
    let folder = tempfile::tempdir()?;
    let clock = Clock::system();
    let kernel = SqliteKernel::open(&folder.path().join("store.db"), &clock, &SqliteOptions::default())?;
    let store = Store::new(Arc::new(kernel), clock.clone(), Rng::system());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let families = store.families();
        let policy = RotationPolicy::default();
        let identity = Identity { user_id: "1".to_owned(), email: user(1), ..Identity::default() };
        let new = NewFamily {
            client_id: "bench".to_owned(),
            connector_id: "local".to_owned(),
            connector_data: None,
            identity,
            scopes: vec!["openid".to_owned(), "email".to_owned(), "offline_access".to_owned()],
            nonce: String::new(),
            auth_time: clock.now(),
        };
        let mut token = families.create(&families.new_id(), new, &policy).await?;
        let mut before = Duration::ZERO;
        for round in 0..50 + REFRESHES {
            if round == 50 {
                before = process::cpu(std::process::id())?;
            }
            let open = families.open(&token, "bench", &policy).await?;
            token = families.advance(open, &policy, Refreshed::default()).await?;
        }
        Ok((process::cpu(std::process::id())? - before) / REFRESHES)
    })
}

/// CPU of one signature as the provider makes it, in this process.
fn signature_cpu() -> Result<Duration> {
    let key = SigningKey::generate(KeyKind::Rsa2048, "bench".to_owned())?;
    let payload = vec![b'x'; 600];
    let begin = Instant::now();
    for _ in 0..SIGNATURES {
        std::hint::black_box(sign_compact(&key, Algorithm::Rs256, None, &payload)?);
    }
    Ok(begin.elapsed() / SIGNATURES)
}
