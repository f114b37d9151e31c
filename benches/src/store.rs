//! The provider on real stores, beside Dex's release on stores of the same kind: refreshes and code flows by 64 clients at
//! once, and two replicas on one database.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portcullis_testkit::Database;

use crate::process::Server;
use crate::quota::Quarter;
use crate::report::{Peer, Report};
use crate::site::{Backend, Program, Site, postgres};
use crate::traffic::{self, CLIENTS, Load, Meter};
use crate::{Options, million, say};

/// What issue 5 asks for: over the peer's rate.
const TIMES: f64 = 5.0;
/// Dex's rates of another day, for a run without Dex: one chain and code flows on PostgreSQL, 16 users and code flows on SQLite.
const DEX_POSTGRES: [f64; 2] = [131.0, 187.0];
const DEX_SQLITE: [f64; 2] = [267.0, 148.0];
/// Of two replicas over one.
const SCALE: f64 = 1.8;
const DATABASE: &str = "provider";

/// A part of what is measured here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Postgres,
    Sqlite,
    Replicas,
    Large,
}

/// What one program does on one backend.
struct Measured {
    chain: Load,
    refreshes: Load,
    flows: Load,
    /// How it writes.
    mode: String,
}

pub(crate) fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let ours = options.bin.join("portcullis");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wanted = |part| options.part.is_none_or(|only| only == part);
    for (backend, part) in [(Backend::Postgres, Part::Postgres), (Backend::Sqlite, Part::Sqlite)] {
        if !wanted(part) {
            continue;
        }
        let mine = runtime.block_on(drive(Program::Ours(&ours), backend, options))?;
        let peer = options.dex.as_deref().map(|dex| runtime.block_on(drive(Program::Dex(dex), backend, options)));
        tell(report, backend, &mine, peer.transpose()?.as_ref());
    }
    if wanted(Part::Replicas) {
        runtime.block_on(scale(report, &ours, options))?;
    }
    if wanted(Part::Large) {
        million::measure(report, options)?;
    }
    Ok(())
}

async fn drive(program: Program<'_>, backend: Backend, options: &Options) -> Result<Measured> {
    let database = (backend == Backend::Postgres).then(|| postgres(DATABASE));
    let site = match &database {
        Some(server) => Site::on(server, DATABASE, CLIENTS)?,
        None => Site::new(program, CLIENTS)?,
    };
    let (server, _) = site.start(program)?;
    let meter = Meter { providers: vec![server.0.id()], database: database.as_ref().map(Database::id) };
    let mut chains = traffic::chains(&site, CLIENTS).await?;
    let time = Duration::from_secs(options.seconds);
    let one = chains.get_mut(..1).context("no chain")?;
    let chain = traffic::refreshes(one, time, &meter).await?;
    let refreshes = traffic::refreshes(&mut chains, time, &meter).await?;
    let flows = traffic::flows(&site, options.flows, &meter).await?;
    Ok(Measured { chain, refreshes, flows, mode: mode(program, &site, database.as_ref())? })
}

/// How the store is written: so that both programs can be seen to wait for the disk alike.
fn mode(program: Program<'_>, site: &Site, database: Option<&Database>) -> Result<String> {
    if let Some(server) = database {
        let [sync, commit] = ["fsync", "synchronous_commit"].map(|name| server.ask(DATABASE, &format!("SHOW {name}")));
        return Ok(format!("fsync {sync}, synchronous_commit {commit}"));
    }
    // Which of its two kinds of journal a file has is in its header; how a connection waits is not in the file.
    let header = fs::read(site.file())?;
    let journal = if header.get(18) == Some(&2) { "write-ahead log" } else { "rollback journal" };
    let how = match program {
        Program::Ours(_) => "synchronous=FULL",
        Program::Dex(_) => "synchronous=FULL (by its DSN; its own is NORMAL)",
    };
    Ok(format!("{journal}, {how}"))
}

fn tell(report: &mut Report, backend: Backend, ours: &Measured, peer: Option<&Measured>) {
    let name = backend.name();
    let beside = |of: &dyn Fn(&Measured) -> String| Peer::of(peer.map(of));
    let rate = |load: &Load| format!("{:.0}/s", load.rate());
    let provider = |load: &Load| format!("{:.2} ms", load.provider_ms());
    let database = |load: &Load| format!("{:.2} ms", load.database_ms());
    report.beside(&format!("{name}, how it is written"), ours.mode.clone(), beside(&|m| m.mode.clone()));
    report.beside(&format!("{name}, refreshes of one chain"), rate(&ours.chain), beside(&|m| rate(&m.chain)));
    report.beside(&format!("{name}, CPU of such a refresh"), provider(&ours.chain), beside(&|m| provider(&m.chain)));
    let of_another_day = if backend == Backend::Postgres { DEX_POSTGRES } else { DEX_SQLITE };
    let limits = peer.map_or(of_another_day, |m| match backend {
        // Most of what it answers there to many at once is 500.
        Backend::Postgres => [m.chain.rate(), m.flows.rate()],
        Backend::Sqlite => [m.refreshes.rate().max(m.chain.rate()), m.flows.rate()],
    });
    type Part = fn(&Measured) -> &Load;
    let refreshes: Part = |m| &m.refreshes;
    let flows: Part = |m| &m.flows;
    for (what, one, part, limit) in [
        ("refreshes", "refresh", refreshes, limits[0]),
        ("code flows (but for the password's POST)", "flow", flows, limits[1]),
    ] {
        let [what, one] =
            [format!("{name}, {what} by {CLIENTS} clients"), format!("{name}, {CLIENTS} clients, CPU of a {one}")];
        report.at_least(&what, "/s", part(ours).rate(), TIMES * limit, beside(&|m| rate(part(m))));
        let errors = part(ours).failed();
        let what = format!("{what}: failed");
        report.at_most(&what, "", errors as f64, 0.0, beside(&|m| part(m).failures()));
        if errors > 0 {
            say(&part(ours).failures());
        }
        report.beside(&format!("{one}: provider"), provider(part(ours)), beside(&|m| provider(part(m))));
        if backend == Backend::Postgres {
            report.beside(&format!("{one}: PostgreSQL"), database(part(ours)), beside(&|m| database(part(m))));
        }
    }
}

/// One replica, and two, each with a quarter of a core. The database and the clients have the rest.
async fn scale(report: &mut Report, ours: &Path, options: &Options) -> Result<()> {
    let what = "PostgreSQL, two replicas over one, each with a quarter of a core";
    let groups = match [Quarter::new("a"), Quarter::new("b")] {
        [Ok(a), Ok(b)] => [a, b],
        [Err(why), _] | [_, Err(why)] => {
            report.not_run(what, &format!("{why:#}"));
            return Ok(());
        }
    };
    let database = postgres(DATABASE);
    let site = Site::on(&database, DATABASE, CLIENTS)?;
    let other = site.replica(&database, DATABASE, CLIENTS)?;
    let program = Program::Ours(ours);
    let servers: [Server; 2] = [site.start(program)?.0, other.start(program)?.0];
    let mut chains = traffic::chains(&site, CLIENTS).await?;
    for (server, group) in servers.iter().zip(&groups) {
        group.hold(server.0.id())?;
    }
    let time = Duration::from_secs(options.seconds);
    let providers: Vec<u32> = servers.iter().map(|server| server.0.id()).collect();
    let meter = Meter { providers, database: Some(database.id()) };
    let one = traffic::refreshes(&mut chains, time, &meter).await?;
    for chain in chains.iter_mut().skip(1).step_by(2) {
        chain.turn_to(&other)?;
    }
    let two = traffic::refreshes(&mut chains, time, &meter).await?;
    ensure!(one.failed() + two.failed() == 0, "replicas failed: {} and {}", one.failures(), two.failures());
    report.told("PostgreSQL, refreshes by one such replica", format!("{:.0}/s", one.rate()));
    report.told("PostgreSQL, refreshes by two such replicas", format!("{:.0}/s", two.rate()));
    report.at_least(what, "×", two.rate() / one.rate(), SCALE, Peer::None);
    // The groups can be removed when their processes have ended.
    drop(servers);
    drop(groups);
    Ok(())
}
