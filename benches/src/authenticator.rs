//! One verdict of the authenticator, uncached and cached, beside Kubernetes' own package on the same tokens.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portcullis_authn::{Authenticator, OidcFlags, Options as AuthnOptions, Verdict};
use portcullis_jose::{Algorithm, JwkSet, KeyKind, SigningKey, sign_compact};
use portcullis_runtime::Clock;

use crate::Options;
use crate::report::{Peer, Report};

const TOKENS: usize = 2_000;
const ISSUER: &str = "https://issuer.example.com";

pub(crate) fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let key = SigningKey::generate(KeyKind::Rsa2048, "bench".to_owned())?;
    let keys = JwkSet::from_keys(vec![key.public().clone()]);
    let tokens: Vec<String> = (0..TOKENS).map(|number| token(&key, number)).collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    let uncached = authenticator(&keys, 0)?;
    let time = runtime.block_on(one_by_one(&uncached, &tokens))?;
    let oracle = options.peers.join("oracle");
    let peer = oracle.is_file().then(|| ask_oracle(&oracle, &keys, &tokens)).transpose()?;
    report.at_most(
        "authenticator, RS256, uncached",
        "µs",
        micros(time),
        25.0,
        Peer::of(peer.map(|t| format!("{:.1} µs", micros(t)))),
    );

    let cached = authenticator(&keys, 32 << 20)?;
    runtime.block_on(ask(&cached, &tokens))?;
    let mut times = (0..21).map(|_| runtime.block_on(ask(&cached, &tokens))).collect::<Result<Vec<_>>>()?;
    times.sort();
    report.at_most("authenticator, cached", "µs", micros(crate::process::median(&times)), 0.4, Peer::None);
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn authenticator(keys: &JwkSet, cache_bytes: usize) -> Result<Authenticator> {
    let arguments = [
        format!("--oidc-issuer-url={ISSUER}"),
        "--oidc-client-id=kubernetes".to_owned(),
        "--oidc-username-claim=email".to_owned(),
        "--oidc-groups-claim=groups".to_owned(),
    ];
    let (flags, _) = OidcFlags::parse(&arguments)?;
    let config = flags.config(&[])?.context("OIDC is off")?;
    let options = AuthnOptions { cache_bytes, ..AuthnOptions::new(Clock::system()) };
    Ok(Authenticator::with_static_keys([(config, keys.clone())], options))
}

/// A token of the size that a company's provider issues: twenty groups.
fn token(key: &SigningKey, number: usize) -> Result<String> {
    let groups: Vec<String> = (0..20).map(|group| format!("team-{group:02}")).collect();
    let claims = serde_json::json!({
        "iss": ISSUER, "sub": format!("user-{number}"), "aud": "kubernetes", "exp": 4_102_444_800_u64, "iat": 1_700_000_000,
        "jti": format!("{number:032x}"), "email": format!("user-{number}@example.com"), "email_verified": true, "groups": groups,
    });
    Ok(sign_compact(key, Algorithm::Rs256, None, claims.to_string().as_bytes())?)
}

/// Median time of one verdict, as the oracle's; every token is accepted.
async fn one_by_one(authenticator: &Authenticator, tokens: &[String]) -> Result<Duration> {
    let mut times = Vec::with_capacity(tokens.len());
    for token in tokens {
        let begin = Instant::now();
        let verdict = authenticator.authenticate(token).await;
        times.push(begin.elapsed());
        ensure!(matches!(verdict, Verdict::User(_)), "a good token was refused");
    }
    times.sort();
    Ok(crate::process::median(&times))
}

/// Mean time of one verdict, for times that are too short to be measured one by one; every token is accepted.
async fn ask(authenticator: &Authenticator, tokens: &[String]) -> Result<Duration> {
    let begin = Instant::now();
    for token in tokens {
        let verdict = authenticator.authenticate(token).await;
        ensure!(matches!(verdict, Verdict::User(_)), "a good token was refused");
    }
    Ok(begin.elapsed() / u32::try_from(tokens.len())?)
}

/// Median of the times that the oracle gives for Kubernetes' package alone, without its own parsing of the line.
fn ask_oracle(oracle: &std::path::Path, keys: &JwkSet, tokens: &[String]) -> Result<Duration> {
    let config = serde_json::json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "jwt": [{"issuer": {"url": ISSUER, "audiences": ["kubernetes"]}, "claimMappings": {"username": {"claim": "email", "prefix": ""}, "groups": {"claim": "groups", "prefix": ""}}}],
    });
    let jwks: serde_json::Value = serde_json::from_str(&keys.to_json_string())?;
    let mut child = Command::new(oracle).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut stdin = child.stdin.take().context("no pipe")?;
    let lines: Vec<String> = tokens
        .iter()
        .map(|token| {
            serde_json::json!({"id": "bench", "config": config, "jwks": jwks, "token": token, "algs": ["RS256"]})
                .to_string()
        })
        .collect();
    let writer = std::thread::spawn(move || lines.iter().try_for_each(|line| writeln!(stdin, "{line}")));
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer failed"))??;
    let mut times = Vec::new();
    for line in output.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let answer: serde_json::Value = serde_json::from_slice(line)?;
        ensure!(answer.get("ok") == Some(&serde_json::Value::Bool(true)), "the oracle refused a good token: {answer}");
        times.push(Duration::from_micros(answer.get("us").and_then(serde_json::Value::as_u64).context("no time")?));
    }
    times.sort();
    Ok(crate::process::median(&times))
}
