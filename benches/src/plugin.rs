//! The small plugin with a warm cache, beside kubelogin with the same cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use portcullis_jose::{Algorithm, KeyKind, SigningKey, sign_compact};

use crate::Options;
use crate::process::{self, median};
use crate::report::{Peer, Report};

const ROUNDS: usize = 400;
const ISSUER: &str = "http://127.0.0.1:19100";
/// kubelogin's cache key for that issuer and client `kubernetes` (reference: kubelogin 1.36, seen on disk).
const CACHE_KEY: &str = "cce95718cde5529fde650aa28be2caf165f5acdfb19612d37926f7761baac52b";

pub(crate) fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join(CACHE_KEY), cached_token()?).context("cannot write the cache")?;
    let small = options.bin.join("kubectl-oidc_login");
    let command = |program: &Path| {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", folder.path()).env("PATH", "/usr/bin:/bin");
        command
            .args(["get-token", "--oidc-client-id=kubernetes"])
            .arg(format!("--oidc-issuer-url={ISSUER}"))
            .arg(format!("--token-cache-dir={}", folder.path().display()));
        command
    };
    let peer = options
        .kubelogin
        .as_ref()
        .map(|kubelogin| process::wall_times(ROUNDS / 4, || command(kubelogin)))
        .transpose()?;
    let times = process::wall_times(ROUNDS, || command(&small))?;
    report.at_most(
        "plugin, warm cache, wall time",
        "ms",
        median(&times).as_secs_f64() * 1e3,
        2.0,
        Peer::of(peer.map(|p| format!("{:.2} ms", median(&p).as_secs_f64() * 1e3))),
    );
    let megabytes = |program: &Path| {
        process::memory_at_last_write(command(program)).map(|memory| memory.peak as f64 * 1024.0 / 1e6)
    };
    let of_peer = options.kubelogin.as_deref().map(megabytes).transpose()?;
    report.at_most(
        "plugin, warm cache, peak memory",
        "MB",
        megabytes(&small)?,
        6.0,
        Peer::of(of_peer.map(|mb| format!("{mb:.1} MB"))),
    );
    report.at_most(
        "plugin, size of the small binary",
        "MB",
        process::size_mb(&small)?,
        8.0,
        Peer::of(options.kubelogin.as_ref().map(|p| process::size_mb(p)).transpose()?.map(|s| format!("{s:.1} MB"))),
    );
    report.told("size of the big binary", format!("{:.1} MB", process::size_mb(&options.bin.join("portcullis"))?));
    Ok(())
}

/// A cache file as kubelogin writes it; only `exp` of a cached token is read.
fn cached_token() -> Result<String> {
    let key = SigningKey::generate(KeyKind::Rsa2048, "bench".to_owned())?;
    let claims = serde_json::json!({"iss": ISSUER, "sub": "bench", "aud": "kubernetes", "exp": 4_102_444_800_u64, "iat": 1_700_000_000});
    let token = sign_compact(&key, Algorithm::Rs256, None, claims.to_string().as_bytes())?;
    Ok(serde_json::json!({"id_token": token}).to_string())
}
