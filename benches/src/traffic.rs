//! What refreshes and code flows cost a provider, one after the other or by many clients at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use tokio::sync::Semaphore;
use url::Url;

use crate::client::{Client, Person, Refused};
use crate::process;
use crate::site::Site;

/// Clients at once.
pub(crate) const CLIENTS: usize = 64;
/// Passwords that are checked at once while nothing is measured: the hash is most of the work of a sign-in.
const HASHES: usize = 2;

/// Whose CPU counts.
pub(crate) struct Meter {
    pub(crate) providers: Vec<u32>,
    pub(crate) database: Option<u32>,
}

/// Requests, or whole flows, in some time.
#[derive(Default)]
pub(crate) struct Load {
    good: u64,
    /// Those that failed, by status.
    bad: BTreeMap<u16, u64>,
    took: Duration,
    /// User and system time of the providers, and of the database server.
    provider: Duration,
    database: Duration,
}

impl Load {
    pub(crate) fn rate(&self) -> f64 {
        self.good as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.bad.values().sum()
    }

    /// "39 (39 with 500) of 1060".
    pub(crate) fn failures(&self) -> String {
        let mut text = self.failed().to_string();
        let mut between = " (";
        for (status, count) in &self.bad {
            let _never_fails = match status {
                0 => write!(text, "{between}{count} without an answer"),
                status => write!(text, "{between}{count} with {status}"),
            };
            between = ", ";
        }
        if !self.bad.is_empty() {
            text.push(')');
        }
        format!("{text} of {}", self.good + self.failed())
    }

    /// CPU of the provider for one that was good, in ms.
    pub(crate) fn provider_ms(&self) -> f64 {
        self.provider.as_secs_f64() * 1e3 / self.good.max(1) as f64
    }

    /// CPU of the database server for one that was good, in ms.
    pub(crate) fn database_ms(&self) -> f64 {
        self.database.as_secs_f64() * 1e3 / self.good.max(1) as f64
    }

    fn count<T>(&mut self, outcome: &Result<T, Refused>) {
        match outcome {
            Ok(_) => self.good += 1,
            Err(Refused(status)) => *self.bad.entry(*status).or_default() += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.good += other.good;
        for (status, count) in other.bad {
            *self.bad.entry(status).or_default() += count;
        }
    }
}

impl Meter {
    fn read(&self) -> Result<[Duration; 2]> {
        let providers = self.providers.iter().map(|id| process::cpu(*id)).sum::<Result<_>>()?;
        Ok([providers, self.database.map(process::cpu_of_tree).transpose()?.unwrap_or_default()])
    }

    /// What it costs until `work` is done, beside what was measured before.
    async fn around(&self, load: &mut Load, work: impl Future<Output = Load>) -> Result<()> {
        let (before, begin) = (self.read()?, Instant::now());
        let done = work.await;
        load.took += begin.elapsed();
        let [provider, database] = self.read()?;
        load.provider += provider - before[0];
        load.database += database - before[1];
        load.add(done);
        Ok(())
    }
}

/// A client with the refresh token that it holds.
pub(crate) struct Chain {
    client: Client,
    number: usize,
    token: String,
}

impl Chain {
    /// Where its requests go from now on.
    pub(crate) fn turn_to(&mut self, site: &Site) -> Result<()> {
        self.client = Client::new(site, self.number)?;
        Ok(())
    }

    pub(crate) async fn refresh(&mut self) -> Result<(), Refused> {
        self.token = self.client.refresh(&self.token).await?;
        Ok(())
    }

    /// Refreshes until `end`. Whoever is told that the server failed tries again; whoever is refused has lost the token.
    async fn go_on(&mut self, end: Instant) -> Load {
        let mut load = Load::default();
        while Instant::now() < end {
            let outcome = self.refresh().await;
            load.count(&outcome);
            if outcome.is_err_and(|Refused(status)| (400..500).contains(&status)) {
                break;
            }
        }
        load
    }
}

/// Signs in as many users, each of them once.
pub(crate) async fn chains(site: &Site, count: usize) -> Result<Vec<Chain>> {
    let hashes = Semaphore::new(HASHES);
    let chain = |number| {
        let hashes = &hashes;
        async move {
            let _turn = hashes.acquire().await?;
            let mut client = Client::new(site, number)?;
            let token = client.sign_in(number).await.with_context(|| format!("the sign-in of user {number}"))?;
            Ok::<_, anyhow::Error>(Chain { client, number, token })
        }
    };
    try_join_all((0..count).map(chain)).await
}

/// All chains at once, for some time.
pub(crate) async fn refreshes(chains: &mut [Chain], time: Duration, meter: &Meter) -> Result<Load> {
    let mut load = Load::default();
    let end = Instant::now() + time;
    let all = join_all(chains.iter_mut().map(|chain| chain.go_on(end)));
    meter.around(&mut load, async { sum(all.await) }).await?;
    Ok(load)
}

fn sum(loads: Vec<Load>) -> Load {
    let mut all = Load::default();
    loads.into_iter().for_each(|load| all.add(load));
    all
}

/// A sign-in that waits for its next step.
struct Flow {
    person: Person,
    next: Url,
}

/// Whole code flows, by many clients at once: authorization request, page, password, consent, code, tokens. The password's
/// POST is not counted, because its hash is twenty times the rest: all flows come to that point, then all are let through,
/// then all go on. A client's flows are of one user, so that no two flows of a user are under way at once.
pub(crate) async fn flows(site: &Site, each: usize, meter: &Meter) -> Result<Load> {
    let mut load = Load::default();
    let mut clients = (0..CLIENTS).map(|number| Client::new(site, number)).collect::<Result<Vec<_>>>()?;
    let begun = async {
        let all = join_all(clients.iter_mut().enumerate().map(|(number, client)| async move {
            let (mut load, mut pages) = (Load::default(), Vec::with_capacity(each));
            for _ in 0..each {
                let mut person = Person::new(number);
                match client.begin(&mut person).await {
                    Ok(page) => pages.push((person, page)),
                    refused => load.count(&refused),
                }
            }
            (load, pages)
        }));
        all.await.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let mut pages = Vec::new();
    meter
        .around(&mut load, async {
            let (loads, all) = begun.await;
            pages = all;
            sum(loads)
        })
        .await?;

    let hashes = Semaphore::new(HASHES);
    let passed = clients.iter_mut().zip(pages).map(|(client, pages)| {
        let hashes = &hashes;
        async move {
            let (mut load, mut flows) = (Load::default(), Vec::with_capacity(pages.len()));
            for (mut person, page) in pages {
                let _turn = hashes.acquire().await?;
                match client.password(&mut person, page).await {
                    Ok(next) => flows.push(Flow { person, next }),
                    refused => load.count(&refused),
                }
            }
            Ok::<_, anyhow::Error>((load, flows))
        }
    });
    let (refused, flows): (Vec<_>, Vec<_>) = try_join_all(passed).await?.into_iter().unzip();
    load.add(sum(refused));
    ensure!(flows.iter().any(|flows| !flows.is_empty()), "no flow came past its password");

    let finished = join_all(clients.iter_mut().zip(flows).map(|(client, flows)| async move {
        let mut load = Load::default();
        for Flow { mut person, next } in flows {
            let outcome = match client.consent(&mut person, next).await {
                Ok(code) => client.redeem(&code).await,
                Err(refused) => Err(refused),
            };
            load.count(&outcome);
        }
        load
    }));
    meter.around(&mut load, async { sum(finished.await) }).await?;
    Ok(load)
}

/// Times of single refreshes, one after the other, the chains in turn; sorted.
pub(crate) async fn latencies(chains: &mut [Chain], count: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    while times.len() < count {
        for chain in &mut *chains {
            let begin = Instant::now();
            chain.refresh().await?;
            times.push(begin.elapsed());
        }
    }
    times.sort();
    Ok(times)
}
