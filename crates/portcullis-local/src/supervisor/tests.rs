//! Parts whose tasks are really aborted, really panic and really do not answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use portcullis_apiserver::PartControl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A listener that answers a byte with a byte, and can be made to fail in every way.
#[derive(Clone)]
struct Part {
    address: SocketAddr,
    task: Arc<Mutex<Option<AbortHandle>>>,
    panics: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    refuses_to_start: Arc<AtomicBool>,
    starts: Arc<AtomicU32>,
}

struct Bench {
    part: Part,
    reports: watch::Receiver<Vec<Report>>,
    logs: LogRing,
    control: PartControl,
    stop: Shutdown,
    keeping: tokio::task::JoinHandle<()>,
}

impl Part {
    async fn start(&self, stop: Shutdown) -> Result<JoinSet<()>, String> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        if self.refuses_to_start.load(Ordering::SeqCst) {
            return Err("address in use".to_owned());
        }
        let listener = TcpListener::bind(self.address).await.map_err(|error| error.to_string())?;
        let part = self.clone();
        let mut tasks = JoinSet::new();
        let handle = tasks.spawn(async move {
            stop.unless(part.serve(listener)).await;
        });
        *self.task.lock().unwrap() = Some(handle);
        Ok(tasks)
    }

    async fn serve(&self, listener: TcpListener) {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            assert!(!self.panics.load(Ordering::SeqCst), "the part hit a bug");
            if !self.silent.load(Ordering::SeqCst) {
                let _gone = stream.write_all(b"!").await;
            } else {
                drop(tokio::spawn(async move {
                    tokio::time::sleep(PATIENCE).await;
                    drop(stream);
                }));
            }
        }
    }

    fn program(&self) -> Program {
        let (starting, address) = (self.clone(), self.address);
        Program {
            container: "dex",
            pod: "dex-0_mural-system(dex-0)".to_owned(),
            start: Box::new(move |stop| {
                let part = starting.clone();
                Box::pin(async move { part.start(stop).await })
            }),
            probe: Box::new(move || {
                Box::pin(async move {
                    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
                    stream.read_exact(&mut [0]).await.map(drop).map_err(|error| error.to_string())
                })
            }),
        }
    }
}

impl Bench {
    async fn start(pace: Pace) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let part = Part {
            address,
            task: Arc::default(),
            panics: Arc::default(),
            silent: Arc::default(),
            refuses_to_start: Arc::default(),
            starts: Arc::default(),
        };
        let (control, signals) = PartControl::new();
        let (told, reports) = watch::channel(Vec::new());
        let (logs, clock) = (LogRing::default(), Clock::system());
        let tell = Box::new(move |report| told.send_modify(|reports| reports.push(report)));
        let supervisor = Supervisor::new(part.program(), pace, clock.clone(), logs.clone(), signals, tell);
        let (run_stop, stop) = (Shutdown::new(), Shutdown::new());
        let tasks = part.start(run_stop.clone()).await.unwrap();
        let run = Run { tasks, stop: run_stop, started: clock.now() };
        let keeping = tokio::spawn(supervisor.keep(run, stop.clone()));
        Self { part, reports, logs, control, stop, keeping }
    }

    fn statuses(&self) -> Vec<PartStatus> {
        let status = |report: &Report| match report {
            Report::Status(status) => Some(status.clone()),
            Report::Event(_) => None,
        };
        self.reports.borrow().iter().filter_map(status).collect()
    }

    fn has(&self, event: &PartEvent) -> bool {
        self.reports.borrow().iter().any(|report| *report == Report::Event(event.clone()))
    }

    /// Waits for a status, and says how long it took.
    async fn until(&self, what: &str, is: impl Fn(&PartStatus) -> bool) -> Duration {
        self.told(what, |statuses| statuses.iter().any(&is)).await
    }

    /// Waits for what all statuses so far say, and says how long it took.
    async fn told(&self, what: &str, say: impl Fn(&[PartStatus]) -> bool) -> Duration {
        let start = Instant::now();
        let mut reports = self.reports.clone();
        let heard = async {
            while !say(&self.statuses()) {
                reports.changed().await.expect("the supervisor goes on");
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, heard).await.is_ok();
        assert!(in_time, "{what}: {:#?}", self.statuses());
        start.elapsed()
    }

    async fn back(&self, restarts: u32) {
        self.until("it comes back", |s| s.restarts == restarts && s.ready && running(s)).await;
    }

    async fn end(self) {
        self.stop.trigger();
        tokio::time::timeout(PATIENCE, self.keeping).await.expect("it ends").unwrap();
        assert!(TcpStream::connect(self.part.address).await.is_err(), "nothing listens any more");
    }
}

fn running(status: &PartStatus) -> bool {
    matches!(status.state, PartState::Running { .. })
}

fn exit(status: &PartStatus) -> Option<i32> {
    match &status.state {
        PartState::Ended(ended) => Some(ended.exit_code),
        PartState::Running { .. } | PartState::Waiting { .. } => None,
    }
}

fn quick() -> Pace {
    Pace {
        probe: Duration::from_millis(50),
        answer: Duration::from_millis(100),
        look: Duration::from_millis(50),
        wait: Duration::from_millis(100),
        longest_wait: Duration::from_millis(400),
        grace: Duration::from_millis(200),
        ..Pace::default()
    }
}

#[tokio::test]
async fn an_aborted_listener_is_not_ready_and_comes_back() {
    let bench = Bench::start(quick()).await;
    bench.part.task.lock().unwrap().as_ref().unwrap().abort();
    bench.until("its end is told", |s| exit(s) == Some(137) && !s.ready).await;
    bench.back(1).await;
    let last = bench.statuses().into_iter().rev().find(|s| s.restarts == 1).unwrap().last.unwrap();
    assert_eq!(last.exit_code, 137);
    assert_eq!(bench.logs.run(), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_panic_is_an_end_with_its_words() {
    let bench = Bench::start(quick()).await;
    bench.part.panics.store(true, Ordering::SeqCst);
    bench.until("its end is told", |s| exit(s) == Some(101)).await;
    bench.part.panics.store(false, Ordering::SeqCst);
    bench.back(1).await;
    let ended = bench.statuses().into_iter().find_map(|s| s.last).unwrap();
    assert!(ended.message.starts_with("panicked: the part hit a bug"), "{}", ended.message);
    bench.end().await;
}

#[tokio::test]
async fn a_part_that_does_not_answer_is_not_ready_within_two_seconds_and_started_again() {
    let bench = Bench::start(Pace { look: Duration::from_millis(50), failures: 3, ..Pace::default() }).await;
    bench.until("it answers", |s| s.ready).await;
    bench.part.silent.store(true, Ordering::SeqCst);
    let took = bench.until("it is not ready", |s| !s.ready && running(s)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    bench.until("it is ended", |s| exit(s) == Some(137)).await;
    bench.part.silent.store(false, Ordering::SeqCst);
    bench.back(1).await;
    let why = "no answer within 500 ms".to_owned();
    assert!(bench.has(&PartEvent::Unhealthy { probe: "Readiness", why: why.clone() }));
    assert!(bench.has(&PartEvent::Unhealthy { probe: "Liveness", why }));
    assert!(bench.has(&PartEvent::Killing { unhealthy: true }));
    bench.end().await;
}

#[tokio::test]
async fn a_moment_of_silence_costs_readiness_alone() {
    let bench = Bench::start(Pace { failures: 1_000, ..quick() }).await;
    bench.part.silent.store(true, Ordering::SeqCst);
    bench.until("it is not ready", |s| !s.ready).await;
    bench.part.silent.store(false, Ordering::SeqCst);
    bench.told("it is ready again", |statuses| statuses.last().unwrap().ready).await;
    assert_eq!(bench.part.starts.load(Ordering::SeqCst), 1);
    bench.end().await;
}

#[tokio::test]
async fn signals_end_it_as_they_say() {
    let bench = Bench::start(Pace { wait: Duration::from_millis(50), ..quick() }).await;
    assert!(bench.control.signal(PartSignal::Terminate));
    bench.until("it ends in order", |s| exit(s) == Some(0)).await;
    bench.back(1).await;
    assert!(bench.control.signal(PartSignal::Kill));
    bench.until("it is killed", |s| exit(s) == Some(137)).await;
    bench.back(2).await;
    assert!(bench.has(&PartEvent::Killing { unhealthy: false }));
    bench.end().await;
}

#[tokio::test]
async fn a_part_that_keeps_ending_waits_longer_each_time_and_says_so() {
    let bench = Bench::start(quick()).await;
    bench.part.refuses_to_start.store(true, Ordering::SeqCst);
    bench.part.task.lock().unwrap().as_ref().unwrap().abort();
    bench.until("it waits", |s| matches!(&s.state, PartState::Waiting { reason, message }
        if reason == "CrashLoopBackOff" && message == "back-off 0s restarting failed container=dex pod=dex-0_mural-system(dex-0)"
            && s.last.as_ref().is_some_and(|last| last.exit_code == 1 && last.message == "address in use")))
        .await;
    bench.until("it was tried again", |s| s.restarts >= 3).await;
    assert!(bench.has(&PartEvent::BackOff));
    bench.part.refuses_to_start.store(false, Ordering::SeqCst);
    bench.until("it comes back", |s| s.restarts >= 4 && s.ready && running(s)).await;
    bench.end().await;
}

#[tokio::test]
async fn the_end_of_everything_does_not_wait_for_a_wait() {
    let bench = Bench::start(Pace { wait: PATIENCE * 10, ..quick() }).await;
    bench.part.refuses_to_start.store(true, Ordering::SeqCst);
    bench.part.task.lock().unwrap().as_ref().unwrap().abort();
    bench.until("it waits", |s| matches!(s.state, PartState::Waiting { .. })).await;
    bench.end().await;
}

#[test]
fn waits_are_written_as_go_does() {
    let shown = |seconds| shown(Duration::from_secs(seconds));
    assert_eq!(
        (shown(10), shown(40), shown(80), shown(300)),
        ("10s".into(), "40s".into(), "1m20s".into(), "5m0s".into())
    );
}
