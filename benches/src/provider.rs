//! The provider: ready, memory, and the CPU of a refresh beside its floor: two signatures and the store's own work,
//! which are measured in this process with the provider's own crates.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use portcullis_jose::{Algorithm, KeyKind, SigningKey, sign_compact};
use portcullis_local::form::{self, Credentials};
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig};
use portcullis_runtime::{Clock, Rng};
use portcullis_storage::{Identity, NewFamily, Refreshed, RotationPolicy, SqliteKernel, SqliteOptions, Store};
use url::Url;

use crate::Options;
use crate::process::{self, Memory, Server, median};
use crate::report::{Peer, Report};

const STARTS: usize = 15;
const REFRESHES: u32 = 1_000;
const SIGNATURES: u32 = 1_000;
/// Dex's own well-known hash of "password", cost 10.
const HASH: &str = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";
const USER: &str = "bench@example.com";

pub(crate) fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let ours = options.bin.join("portcullis");
    let peer = options.dex.as_deref();
    let fresh = starts(&ours, true)?;
    report.at_most(
        "provider, first start to ready",
        "ms",
        ms(median(&fresh)),
        100.0,
        Peer::of(peer.map(|p| starts(p, true)).transpose()?.map(|t| format!("{:.1} ms", ms(median(&t))))),
    );
    let again = starts(&ours, false)?;
    report.at_most(
        "provider, further start to ready",
        "ms",
        ms(median(&again)),
        50.0,
        Peer::of(peer.map(|p| starts(p, false)).transpose()?.map(|t| format!("{:.1} ms", ms(median(&t))))),
    );

    let (idle, refresh) = load(&ours)?;
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
    report.told("CPU of the store's work for one refresh: one read, one write", format!("{:.3} ms", ms(store)));
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

struct Site {
    folder: tempfile::TempDir,
    config: PathBuf,
    issuer: String,
}

fn site() -> Result<Site> {
    let folder = tempfile::tempdir()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let issuer = format!("http://localhost:{port}");
    let config = folder.path().join("config.yaml");
    let text = format!(
        "issuer: {issuer}\nstorage:\n  type: sqlite3\n  config:\n    file: {}\nweb:\n  http: 127.0.0.1:{port}\nlogger:\n  level: error\nenablePasswordDB: true\noauth2:\n  skipApprovalScreen: true\n\
         staticPasswords:\n- email: {USER}\n  hash: '{HASH}'\n  username: bench\n  userID: '1'\nstaticClients:\n- id: bench\n  name: Bench\n  secret: bench-secret\n  redirectURIs: ['http://localhost:1/callback']\n",
        folder.path().join("store.db").display()
    );
    fs::write(&config, text)?;
    Ok(Site { folder, config, issuer })
}

fn start(program: &Path, site: &Site) -> Result<(Server, Duration)> {
    let begin = Instant::now();
    let server = Server(
        Command::new(program)
            .arg("serve")
            .arg(&site.config)
            .current_dir(site.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let address = Url::parse(&site.issuer)?
        .socket_addrs(|| None)?
        .into_iter()
        .find(std::net::SocketAddr::is_ipv4)
        .context("no address")?;
    while begin.elapsed() < Duration::from_secs(10) {
        if healthy(address) {
            return Ok((server, begin.elapsed()));
        }
        std::thread::park_timeout(Duration::from_micros(200));
    }
    bail!("{} was not ready after ten seconds", program.display())
}

fn healthy(address: std::net::SocketAddr) -> bool {
    use std::io::{Read, Write};
    let Ok(mut connection) = std::net::TcpStream::connect(address) else { return false };
    let mut answer = [0; 12];
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").is_ok()
        && connection.read_exact(&mut answer).is_ok()
        && answer.ends_with(b" 200")
}

fn starts(program: &Path, fresh: bool) -> Result<Vec<Duration>> {
    let kept = site()?;
    drop(start(program, &kept)?);
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let time = if fresh { start(program, &site()?)?.1 } else { start(program, &kept)?.1 };
        times.push(time);
    }
    times.sort();
    Ok(times)
}

/// Memory when idle, and the server's CPU for one refresh.
fn load(program: &Path) -> Result<(Memory, Duration)> {
    let site = site()?;
    let (server, _) = start(program, &site)?;
    std::thread::park_timeout(Duration::from_millis(500));
    let idle = Memory::of(server.0.id()).context("the provider has ended")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let per_refresh = runtime.block_on(refreshes(&site.issuer, server.0.id()))?;
    Ok((idle, per_refresh))
}

async fn refreshes(issuer: &str, pid: u32) -> Result<Duration> {
    let client = HttpClient::new(HttpClientConfig { max_redirects: 0, ..HttpClientConfig::default() })?;
    let code = sign_in(&client, issuer).await?;
    let token = format!("{issuer}/token");
    let ask = |form: Vec<(&'static str, String)>| {
        let (client, token) = (client.clone(), token.clone());
        async move {
            let mut form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
            form.extend([("client_id", "bench"), ("client_secret", "bench-secret")]);
            let response = client.post_form(&token, &form, &[]).await?;
            let body: serde_json::Value = serde_json::from_slice(&response.body)?;
            let next = body.get("refresh_token").and_then(|t| t.as_str()).map(str::to_owned);
            next.with_context(|| {
                format!("status {} and no refresh token: {}", response.status, body.get("error").unwrap_or_default())
            })
        }
    };
    let mut refresh = ask(vec![
        ("grant_type", "authorization_code".to_owned()),
        ("code", code),
        ("redirect_uri", "http://localhost:1/callback".to_owned()),
    ])
    .await?;
    for _ in 0..50 {
        refresh = ask(vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh)]).await?;
    }
    let before = process::cpu(pid)?;
    for _ in 0..REFRESHES {
        refresh = ask(vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh)]).await?;
    }
    Ok((process::cpu(pid)? - before) / REFRESHES)
}

/// Goes through the pages up to the redirect that carries the code.
async fn sign_in(client: &HttpClient, issuer: &str) -> Result<String> {
    let mut start = Url::parse(&format!("{issuer}/auth"))?;
    start.query_pairs_mut().extend_pairs([
        ("client_id", "bench"),
        ("redirect_uri", "http://localhost:1/callback"),
        ("response_type", "code"),
        ("scope", "openid email offline_access"),
        ("state", "s"),
    ]);
    let client_uri = Url::parse("http://localhost:1/callback")?;
    let redirect =
        form::sign_in_for_code(client, &start, &client_uri, &Credentials { login: USER, password: "password" }).await?;
    redirect.query_pairs().find(|(key, _)| key == "code").map(|(_, code)| code.into_owned()).context("no code")
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
        let identity = Identity { user_id: "1".to_owned(), email: USER.to_owned(), ..Identity::default() };
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
