//! A large store: a million refresh token families and a hundred thousand sign-ins. How fast a provider is ready on it, what
//! a lookup takes over one in an empty store, and how long the collector keeps others waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use portcullis_runtime::{Clock, Rng, Secret};
use portcullis_storage::kernel::Write;
use portcullis_storage::{
    Identity, Kernel, NewFamily, NewLogin, PostgresKernel, PostgresServer, RefreshToken, RotationPolicy, SqlOptions,
    SqlTls, SqlTlsMode, SqliteKernel, SqliteOptions, Store, kernel::Kind,
};
use portcullis_testkit::Database;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::process::median;
use crate::report::{Peer, Report};
use crate::site::{Backend, CLIENT, Program, Site, postgres};
use crate::traffic::{self, CLIENTS};
use crate::{Options, say};

/// Families of one user.
const EACH: usize = 4;
/// Families to a sign-in that has not been collected yet.
const PER_LOGIN: usize = 10;
/// Families whose lookups are timed, and how often together.
const SAMPLE: usize = 10_000;
const SMALL_SAMPLE: usize = 500;
const LOOKUPS: usize = 20_000;
/// The stores are timed in turns, and the best counts: what else the machine does only adds.
const TURNS: usize = 3;
const STARTS: usize = 5;
/// Refreshes by HTTP that are timed.
const REFRESHES: usize = 1_280;
/// Writes on their way while the store is filled.
const WRITERS: usize = 64;
/// For the server to take them all on.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records that the collector deletes, as many at a time as the provider lets it.
const COLLECTED: usize = 250_000;
const BATCH: usize = 250;
/// After this, all of it is over.
const LATER: Duration = Duration::from_secs(400 * 24 * 3600);
/// Between two writes of whoever is kept waiting.
const BETWEEN: Duration = Duration::from_millis(2);
const DATABASE: &str = "provider";

/// A store, and how to open it.
struct Place {
    site: Site,
    database: Option<Database>,
}

impl Place {
    fn new(backend: Backend, program: Program<'_>) -> Result<Self> {
        let database = (backend == Backend::Postgres).then(|| postgres(DATABASE));
        let site = match &database {
            Some(server) => Site::on(server, DATABASE, CLIENTS)?,
            None => Site::new(program, CLIENTS)?,
        };
        Ok(Self { site, database })
    }

    /// The store, in this process.
    async fn open(&self, clock: Clock, options: &SqlOptions) -> Result<Store> {
        let kernel: Arc<dyn Kernel> = match &self.database {
            None => Arc::new(SqliteKernel::open(&self.site.file(), &clock, &SqliteOptions::default())?),
            Some(server) => {
                let server = PostgresServer {
                    host: "127.0.0.1".to_owned(),
                    port: server.port(),
                    user: Some(Database::USER.to_owned()),
                    password: Some(Secret::new(Database::PASSWORD)),
                    database: Some(DATABASE.to_owned()),
                    tls: SqlTls { mode: SqlTlsMode::Disabled, ..SqlTls::default() },
                };
                Arc::new(PostgresKernel::open(&server, &clock, options).await?)
            }
        };
        Ok(Store::new(kernel, clock, Rng::system()))
    }

    /// Fills the store as sign-ins do; returns the tokens of some families.
    async fn fill(&self, families: usize, sample: usize) -> Result<Vec<RefreshToken>> {
        let options = SqlOptions {
            max_open: WRITERS / 2,
            max_idle: WRITERS / 2,
            connect_time: PATIENCE,
            answer_time: PATIENCE,
            ..SqlOptions::default()
        };
        if let Some(server) = &self.database {
            // What is filled in need not survive a power cut.
            let _ = server.ask(DATABASE, &format!("ALTER DATABASE {DATABASE} SET synchronous_commit = off"));
        }
        let store = self.open(Clock::system(), &options).await?;
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (store, users) = (store.clone(), (writer..families.div_ceil(EACH)).step_by(WRITERS));
            let every = families.div_ceil(sample);
            writers.spawn(async move {
                let mut tokens = Vec::new();
                for user in users {
                    for number in (user * EACH..families).take(EACH) {
                        let token = sign_in(&store, user, number).await?;
                        tokens.extend(number.is_multiple_of(every).then_some(token));
                    }
                }
                Ok::<_, anyhow::Error>(tokens)
            });
        }
        let mut tokens = Vec::new();
        while let Some(written) = writers.join_next().await {
            tokens.extend(written??);
        }
        if let Some(server) = &self.database {
            // As the server does by itself in time.
            let _ = server.ask(DATABASE, &format!("ALTER DATABASE {DATABASE} RESET synchronous_commit"));
            let _ = server.ask(DATABASE, "VACUUM (ANALYZE)");
            let _ = server.ask(DATABASE, "CHECKPOINT");
        }
        Ok(tokens)
    }
}

/// What a sign-in leaves behind: a family, and the user's list of families; a login record for some.
async fn sign_in(store: &Store, user: usize, number: usize) -> Result<RefreshToken> {
    let (client_id, connector_id) = (CLIENT.to_owned(), "local".to_owned());
    let identity = Identity {
        user_id: format!("somebody-{user}"),
        username: format!("somebody-{user}"),
        email: format!("somebody-{user}@example.com"),
        ..Identity::default()
    };
    let auth_time = Clock::system().now();
    if number.is_multiple_of(PER_LOGIN) {
        let new = NewLogin {
            client_id: client_id.clone(),
            connector_id: connector_id.clone(),
            connector_data: None,
            identity: identity.clone(),
            auth_time,
            approved: true,
        };
        store.logins().begin(&Rng::system().token(16), new, auth_time + Duration::from_secs(900)).await?;
    }
    let new = NewFamily {
        client_id,
        connector_id,
        connector_data: None,
        identity,
        scopes: ["openid", "email", "offline_access"].map(str::to_owned).to_vec(),
        nonce: String::new(),
        auth_time,
    };
    let families = store.families();
    Ok(families.create(&families.new_id(), new, &RotationPolicy::default()).await?)
}

pub(crate) fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let ours = options.bin.join("portcullis");
    for backend in [Backend::Sqlite, Backend::Postgres] {
        one(report, backend, Program::Ours(&ours), options)?;
    }
    Ok(())
}

fn one(report: &mut Report, backend: Backend, program: Program<'_>, options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let [small, large] = [Place::new(backend, program)?, Place::new(backend, program)?];
    let few = runtime.block_on(small.fill(SMALL_SAMPLE, SMALL_SAMPLE))?;
    let begin = Instant::now();
    let many = runtime.block_on(large.fill(options.families, SAMPLE))?;
    say(&format!("filled in within {:.0} s", begin.elapsed().as_secs_f64()));
    let name =
        format!("{}, {} families and {} sign-ins", backend.name(), options.families, options.families / PER_LOGIN);

    let mut best = [Duration::MAX; 2];
    for _ in 0..TURNS {
        for ((place, tokens), best) in [(&small, &few), (&large, &many)].into_iter().zip(&mut best) {
            *best = (*best).min(runtime.block_on(lookups(place, tokens.clone()))?);
        }
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let times = |[small, large]: [Duration; 2]| large.as_secs_f64() / small.as_secs_f64();
    report.told(&format!("{name}: a family's lookup"), format!("{:.3} ms", ms(best[1])));
    report.at_most(&format!("{name}: that over one in an empty store"), "×", times(best), 1.2, Peer::None);

    let (starts, best) = serve(&runtime, program, [&small, &large])?;
    report.at_most(&format!("{name}: ready"), "ms", ms(starts), 1_000.0, Peer::None);
    report.told(&format!("{name}: a refresh by HTTP"), format!("{:.3} ms", ms(best[1])));
    report.at_most(&format!("{name}: that over one with an empty store"), "×", times(best), 1.2, Peer::None);

    drop(small);
    let held = runtime.block_on(collect(&large))?;
    let what = format!("{name}: the collector's longest hold (of {} batches)", held.batches);
    report.at_most(&what, "ms", ms(held.longest), 50.0, Peer::None);
    report.told(&format!("{name}: a batch of it as a rule"), format!("{:.1} ms, {BATCH} records", ms(held.median)));
    report.told(
        &format!("{name}: beside it, a write as a rule, and the longest of {}", held.writes),
        format!("{:.1} ms, {:.1} ms", ms(held.write), ms(held.longest_write)),
    );
    Ok(())
}

/// The median time of a family's lookup by its token.
async fn lookups(place: &Place, tokens: Vec<RefreshToken>) -> Result<Duration> {
    let store = place.open(Clock::system(), &SqlOptions::default()).await?;
    let looking = tokio::spawn(async move {
        let policy = RotationPolicy::default();
        let mut times = Vec::with_capacity(LOOKUPS);
        for token in tokens.iter().cycle().take(LOOKUPS) {
            let begin = Instant::now();
            store.families().open(token, CLIENT, &policy).await?;
            times.push(begin.elapsed());
        }
        times.sort();
        Ok::<_, anyhow::Error>(median(&times))
    });
    looking.await?
}

/// The median time to readiness on the large store, and the best median times of refreshes with either.
fn serve(runtime: &Runtime, program: Program<'_>, places: [&Place; 2]) -> Result<(Duration, [Duration; 2])> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(places[1].site.start(program)?.1);
    }
    starts.sort();
    let servers = [places[0].site.start(program)?, places[1].site.start(program)?];
    let mut chains = Vec::new();
    for place in places {
        chains.push(runtime.block_on(traffic::chains(&place.site, CLIENTS))?);
    }
    let mut best = [Duration::MAX; 2];
    for _ in 0..TURNS {
        for (chains, best) in chains.iter_mut().zip(&mut best) {
            *best = (*best).min(median(&runtime.block_on(traffic::latencies(chains, REFRESHES))?));
        }
    }
    drop(servers);
    Ok((median(&starts), best))
}

/// How long the collector kept others waiting.
struct Held {
    batches: usize,
    /// A batch is one statement as a rule, and never holds a lock for longer than it takes.
    median: Duration,
    longest: Duration,
    writes: usize,
    write: Duration,
    longest_write: Duration,
}

async fn collect(place: &Place) -> Result<Held> {
    let now = Clock::system().now();
    // Nobody moves it.
    let (later, _hand) = Clock::mock((now + LATER).unix_seconds());
    let store = place.open(later, &SqlOptions::default()).await?;
    let kernel = store.shared_kernel();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let beside = tokio::spawn(async move {
        let write = || Write { data: vec![b'x'; 600], ..Write::default() };
        let mut version = kernel.insert(Kind::Failures, "beside-the-collector", write()).await?;
        let mut times = Vec::new();
        while stopped.try_recv().is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Empty) {
            let begin = Instant::now();
            version = kernel.update(Kind::Failures, "beside-the-collector", version, write()).await?;
            times.push(begin.elapsed());
            tokio::time::sleep(BETWEEN).await;
        }
        times.sort();
        Ok::<_, anyhow::Error>(times)
    });
    let collecting = tokio::spawn(async move {
        let (mut times, mut records) = (Vec::new(), 0);
        while records < COLLECTED {
            let begin = Instant::now();
            let done = store.collect(BATCH).await?;
            times.push(begin.elapsed());
            records += done.records;
            if !done.more {
                break;
            }
        }
        times.sort();
        Ok::<_, anyhow::Error>(times)
    });
    let times = collecting.await??;
    let _ended_already = stop.send(());
    let writes = beside.await??;
    let last = |times: &[Duration]| times.last().copied().context("nothing was timed");
    Ok(Held {
        batches: times.len(),
        median: median(&times),
        longest: last(&times)?,
        writes: writes.len(),
        write: median(&writes),
        longest_write: last(&writes)?,
    })
}
