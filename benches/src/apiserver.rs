//! The dev API server beside the real kube-apiserver with etcd: time to ready, memory, CPU of calls and events.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_kube::kubeconfig::Kubeconfig;
use portcullis_runtime::Secret;
use portcullis_runtime::http_client::{ClientIdentity, HttpClient, HttpClientConfig, Roots};
use portcullis_testkit::ControlPlane;

use crate::Options;
use crate::load::{self, Cost, Target};
use crate::process::{self, Memory, Server, median};
use crate::report::{Peer, Report};

const STARTS: usize = 15;
/// Starts with kept objects.
const STARTS_AGAIN: usize = 5;
const GETS: u32 = 4_000;
/// Requests under way at a time.
const PARALLEL: u32 = 8;
/// Of an answer: the documents of the API are large.
const MAX_BODY: usize = 32 << 20;
const PATH: &str = "/api/v1/namespaces?limit=1";

pub(crate) fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let program = options.bin.join("portcullis");
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        times.push(runtime.block_on(Site::start(&program))?.1);
    }
    times.sort();
    let again = runtime.block_on(again(&program))?;
    let guide = guide(&program)?;
    let (site, _) = runtime.block_on(Site::start(&program))?;
    let client = site.client()?;
    let memory = Memory::of(site.server.0.id()).context("the dev API server has ended")?;
    let get = runtime.block_on(gets(&client, &site.url, &[site.server.0.id()]))?;
    drop(site);
    let (site, _) = runtime.block_on(Site::start(&program))?;
    let cost = runtime.block_on(async { load::measure(&site.target()?).await })?;
    drop(site);
    let (site, _) = runtime.block_on(Site::start(&program))?;
    let full = runtime.block_on(async { load::full(&site.target()?).await })?;
    drop(site);

    let peer = if options.peers.join("kube-apiserver").is_file() { Some(runtime.block_on(real())?) } else { None };
    let told = |text: fn(&Real) -> String| Peer::of(peer.as_ref().map(text));
    report.at_most(
        "dev API server, fresh state to ready",
        "ms",
        median(&times).as_secs_f64() * 1e3,
        200.0,
        told(|p| format!("{:.0} ms", p.ready.as_secs_f64() * 1e3)),
    );
    report.told(
        "dev API server, start with 5,000 kept objects, after kill -9",
        format!("{:.0} ms", again.as_secs_f64() * 1e3),
    );
    report.at_most(
        "up --guide, memory when ready: provider and API server",
        "MB",
        guide.resident as f64 * 1024.0 / 1e6,
        40.0,
        Peer::None,
    );
    report.at_most(
        "dev API server, memory when idle",
        "MB",
        memory.resident as f64 * 1024.0 / 1e6,
        40.0,
        told(|p| format!("{:.0} MB", p.resident as f64 * 1024.0 / 1e6)),
    );
    let what = "dev API server, memory with 200 watches and 5,000 objects";
    report.at_most(what, "MB", full, 40.0, told(|p| format!("{:.0} MB", p.full)));
    let what = "dev API server, CPU of a GET (a fifth of the peer's)";
    let get = get.as_secs_f64() * 1e3;
    match &peer {
        Some(real) => {
            let theirs = real.get.as_secs_f64() * 1e3;
            report.at_most(what, "ms", get, theirs / 5.0, Peer::Figure(format!("{theirs:.3} ms")));
        }
        // Without the peer there is nothing to be a fifth of.
        None => report.told(what, format!("{get:.2} ms")),
    }
    loads(report, &cost, peer.as_ref().map(|real| &real.cost));
    Ok(())
}

/// What calls, events and memory cost both; the peer's CPU is kube-apiserver's alone, its memory etcd's too.
fn loads(report: &mut Report, cost: &Cost, peer: Option<&Cost>) {
    let told = |text: &dyn Fn(&Cost) -> String| Peer::of(peer.map(text));
    let megabytes = |of: fn(&Cost) -> f64| move |cost: &Cost| format!("{:.0} MB", of(cost));
    let (guide, worn) = (megabytes(|cost| cost.guide), megabytes(|cost| cost.worn));
    report.at_most(
        "dev API server, memory with the guide's objects, after kubectl's documents",
        "MB",
        cost.guide,
        40.0,
        told(&guide),
    );
    let what = "dev API server, that memory after 30,000 calls and a million events before";
    report.at_most(what, "MB", cost.worn, 40.0, told(&worn));
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    for (what, of) in [
        (
            "dev API server, CPU of a GET of one object (a fifth of the peer's)",
            (|cost| cost.get) as fn(&Cost) -> Duration,
        ),
        ("dev API server, CPU of that by a service account, judged by RBAC", |cost| cost.bound),
    ] {
        match peer {
            Some(real) => {
                let theirs = millis(of(real));
                report.at_most(what, "ms", millis(of(cost)), theirs / 5.0, Peer::Figure(format!("{theirs:.3} ms")));
            }
            None => report.told(what, format!("{:.3} ms", millis(of(cost)))),
        }
    }
    for (what, of) in [
        ("dev API server, CPU of a LIST of 50 objects", (|cost| cost.list) as fn(&Cost) -> Duration),
        ("dev API server, CPU of a PATCH", |cost| cost.patch),
    ] {
        let text = |cost: &Cost| format!("{:.3} ms", millis(of(cost)));
        report.beside(what, text(cost), told(&text));
    }
    let event = |cost: &Cost| format!("{:.2} µs", millis(cost.event) * 1e3);
    report.beside("dev API server, CPU of an event for one of 100 watchers", event(cost), told(&event));
    let lost = |cost: &Cost| cost.lost.to_string();
    report.at_most("dev API server, events lost of 10,000 to 100 watchers", "", cost.lost as f64, 0.0, told(&lost));
}

/// How long a server with kept objects takes to be ready when the one before was killed: the median.
async fn again(program: &Path) -> Result<Duration> {
    let (mut site, _) = Site::start_in(program, tempfile::tempdir()?, &["--keep-state"]).await?;
    site.target()?.fill().await?;
    let mut times = Vec::with_capacity(STARTS_AGAIN);
    for _ in 0..STARTS_AGAIN {
        let Site { server, folder, .. } = site;
        drop(server);
        let (started, took) = Site::start_in(program, folder, &["--keep-state"]).await?;
        anyhow::ensure!(started.target()?.is_filled().await?, "an object is missing");
        times.push(took);
        site = started;
    }
    times.sort();
    Ok(median(&times))
}

/// The memory of `up --guide` when it is ready for the guide's steps.
fn guide(program: &Path) -> Result<Memory> {
    let folder = tempfile::tempdir()?;
    let mut up = Server(
        Command::new(program)
            .args(["up", "--guide", "--port", "0", "--state"])
            .arg(folder.path().join("state"))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?,
    );
    let mut told = BufReader::new(up.0.stderr.take().context("no pipe")?).lines();
    while !told.next().context("up --guide has ended")??.starts_with("running until") {}
    Memory::of(up.0.id()).context("up --guide has ended")
}

/// A dev API server with a state folder of its own.
struct Site {
    server: Server,
    url: String,
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
}

impl Site {
    /// Starts it, and says how long it took until `/readyz` was answered.
    async fn start(program: &Path) -> Result<(Self, Duration)> {
        Self::start_in(program, tempfile::tempdir()?, &[]).await
    }

    /// Likewise with the state that is in `folder`.
    async fn start_in(program: &Path, folder: tempfile::TempDir, flags: &[&str]) -> Result<(Self, Duration)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = format!("https://127.0.0.1:{port}");
        let begin = Instant::now();
        let server = Server(
            Command::new(program)
                .args(["apiserver", "--secure-port", &port.to_string(), "--state"])
                .arg(folder.path())
                .args(flags)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        let authority = folder.path().join("dev/ca/ca.pem");
        while begin.elapsed() < Duration::from_secs(10) {
            if let Ok(pem) = std::fs::read(&authority)
                && let Ok(roots) = Roots::only_pem(&pem)
            {
                let client = HttpClient::new(HttpClientConfig { roots, ..HttpClientConfig::default() })?;
                while begin.elapsed() < Duration::from_secs(10) {
                    if client.get(&format!("{url}/readyz"), &[]).await.is_ok_and(|answer| answer.status == 200) {
                        let took = begin.elapsed();
                        let kubeconfig = folder.path().join("dev/kubeconfig");
                        return Ok((Self { server, url, kubeconfig, folder }, took));
                    }
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        bail!("the dev API server was not ready after ten seconds")
    }

    /// The administrator, as the server's own kubeconfig has them; it is written a moment after the server is ready.
    /// Authority, certificate and key in PEM.
    fn credentials(&self) -> Result<(Vec<u8>, Vec<u8>, String)> {
        let begin = Instant::now();
        while !self.kubeconfig.is_file() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let text = std::fs::read_to_string(&self.kubeconfig).context("no kubeconfig")?;
        let config = Kubeconfig::parse(&text, "kubeconfig")?;
        let cluster = config.cluster("kind-dev")?.context("no cluster")?;
        let user = config.user("kind-dev")?.context("no user")?;
        let authority = cluster.certificate_authority_pem().context("no authority")?;
        let key = String::from_utf8(STANDARD.decode(user.client_key_data.expose())?)?;
        Ok((authority, STANDARD.decode(&user.client_certificate_data)?, key))
    }

    fn client(&self) -> Result<HttpClient> {
        let (authority, certificate_pem, key_pem) = self.credentials()?;
        let identity = Some(ClientIdentity { certificate_pem, key_pem: Secret::new(key_pem) });
        let roots = Roots::only_pem(&authority)?;
        Ok(HttpClient::new(HttpClientConfig { roots, identity, max_body: MAX_BODY, ..HttpClientConfig::default() })?)
    }

    fn target(&self) -> Result<Target<'_>> {
        let (authority_pem, mut identity_pem, key) = self.credentials()?;
        identity_pem.extend_from_slice(key.as_bytes());
        let id = self.server.0.id();
        Ok(Target { url: &self.url, client: self.client()?, authority_pem, identity_pem, ids: vec![id], all: vec![id] })
    }
}

/// CPU of one GET in the processes `ids`, over connections that stay open.
async fn gets(client: &HttpClient, url: &str, ids: &[u32]) -> Result<Duration> {
    let url = format!("{url}{PATH}");
    let used = || ids.iter().map(|id| process::cpu(*id)).sum::<Result<Duration>>();
    some(client, &url, 40).await?;
    let before = used()?;
    some(client, &url, GETS / PARALLEL).await?;
    Ok((used()? - before) / GETS)
}

/// `each` requests in each of [`PARALLEL`] rows.
async fn some(client: &HttpClient, url: &str, each: u32) -> Result<()> {
    let rows = (0..PARALLEL).map(|_| async {
        for _ in 0..each {
            let answer = client.get(url, &[]).await?;
            anyhow::ensure!(answer.status == 200, "status {}", answer.status);
        }
        Ok(())
    });
    futures_util::future::try_join_all(rows).await.map(|_| ())
}

/// What the real server costs.
struct Real {
    ready: Duration,
    resident: u64,
    get: Duration,
    cost: Cost,
    full: f64,
}

async fn real() -> Result<Real> {
    let begin = Instant::now();
    let plane = start_real().await;
    let ready = begin.elapsed();
    let (apiserver, etcd) = plane.ids();
    let resident = [apiserver, etcd].into_iter().filter_map(Memory::of).map(|memory| memory.resident).sum();
    let get = gets(&plane.admin_client(), plane.url(), &[apiserver]).await?;
    let cost = load::measure(&real_target(&plane)).await?;
    drop(plane);
    let full = load::full(&real_target(&start_real().await)).await?;
    Ok(Real { ready, resident, get, cost, full })
}

async fn start_real() -> ControlPlane {
    ControlPlane::start(&["--disable-admission-plugins=ServiceAccount".to_owned()]).await
}

fn real_target(plane: &ControlPlane) -> Target<'_> {
    let (apiserver, etcd) = plane.ids();
    let admin = plane.ca().client("kubernetes-admin", &["system:masters"]);
    Target {
        url: plane.url(),
        client: plane.admin_client(),
        authority_pem: plane.ca().pem().as_bytes().to_vec(),
        identity_pem: [admin.certificate_pem, admin.key_pem].concat().into_bytes(),
        ids: vec![apiserver],
        all: vec![apiserver, etcd],
    }
}
