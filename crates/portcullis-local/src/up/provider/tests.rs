//! Background work that panics ends the part, whichever configuration it belongs to.

use portcullis_apiserver::{PartControl, PartState, PartStatus};
use portcullis_provider::config::{Document, RawConfig};
use portcullis_runtime::LogRing;
use tokio::sync::watch;

use super::*;
use crate::ca::{Authority, Purpose};
use crate::supervisor::{Pace, Program, Report, Run, Supervisor};

const PATIENCE: Duration = Duration::from_secs(30);
const CONFIG: &str = "issuer: https://localhost:5554\nstorage: {type: memory}\n\
    web: {https: '127.0.0.1:5554', tlsCert: c, tlsKey: k}\nenablePasswordDB: true\n";

fn config() -> Config {
    let document = Document::parse(CONFIG, "config").unwrap();
    RawConfig::read(&document.root()).0.validate(&|_| None).unwrap()
}

/// A provider that is reached in memory, under its supervisor.
struct Bench {
    running: RunningProvider,
    statuses: watch::Receiver<Vec<PartStatus>>,
    stop: Shutdown,
    keeping: JoinHandle<()>,
}

impl Bench {
    async fn start(before: impl FnOnce(&Provider)) -> Self {
        let (clock, rng, folder) = (Clock::system(), Rng::system(), tempfile::tempdir().unwrap());
        let state = StateDir::new(folder.path(), "dev").unwrap();
        let _locked = state.open().unwrap();
        let now = clock.now().to_offset_date_time();
        let authority = Authority::load_or_make(&state, Purpose::Servers, now).unwrap().0;
        let gone = || Arc::new(Front(RwLock::new(Arc::new(Gone) as Arc<dyn Handler>)));
        let shared = Arc::new(Shared {
            front: gone(),
            telemetry: gone(),
            tls: tls_of(&authority.issue_server("test", now).unwrap()).unwrap(),
            sockets: Vec::new(),
            issuer_port: 5554,
            clock: clock.clone(),
            rng: rng.clone(),
            config: Mutex::new(config()),
            current: Mutex::new(None),
        });
        let provider = make(config(), (clock.clone(), rng), 5554).await.unwrap();
        before(&provider);
        let (run, stop) = (Shutdown::new(), Shutdown::new());
        let tasks = shared.clone().run(provider, Vec::new(), &run);
        let running = RunningProvider { shared, tasks: Mutex::new(tasks) };
        let issuer = Url::parse("https://localhost:5554").unwrap();
        let program = Program {
            container: "dex",
            pod: "dex".to_owned(),
            start: Box::new(running.start_again()),
            probe: Box::new(running.probe(&issuer)),
        };
        let (told, statuses) = watch::channel(Vec::new());
        let tell = Box::new(move |report| {
            if let Report::Status(status) = report {
                told.send_modify(|all: &mut Vec<PartStatus>| all.push(status));
            }
        });
        let pace = Pace { look: Duration::from_millis(10), probe: Duration::from_millis(50), ..Pace::default() };
        let (_control, signals) = PartControl::new();
        let run = Run { tasks: running.hand_over(), stop: run, started: clock.now() };
        let supervisor = Supervisor::new(program, pace, clock, LogRing::default(), signals, tell);
        let keeping = tokio::spawn(supervisor.keep(run, stop.clone()));
        Self { running, statuses, stop, keeping }
    }

    async fn until(&mut self, what: &str, is: impl Fn(&PartStatus) -> bool) -> PartStatus {
        let seen = self.statuses.wait_for(|all| all.iter().any(&is));
        let all = tokio::time::timeout(PATIENCE, seen).await.expect(what).unwrap();
        all.iter().find(|status| is(status)).unwrap().clone()
    }

    async fn comes_back(mut self) {
        let back = self.until("it is back", |status| status.restarts == 1 && status.ready).await;
        let ended = back.last.unwrap();
        assert_eq!((ended.exit_code, ended.message.as_str()), (101, "panicked: the check hit a bug"));
        self.stop.trigger();
        tokio::time::timeout(PATIENCE, self.keeping).await.unwrap().unwrap();
        assert!(self.running.shared.lock_current().is_none());
    }
}

fn break_a_check(provider: &Provider) {
    provider.health().check("broken", || async { panic!("the check hit a bug") });
}

#[tokio::test]
async fn a_panic_in_background_work_ends_the_part_and_it_is_started_again() {
    let mut bench = Bench::start(break_a_check).await;
    bench.until("its end", |status| matches!(&status.state, PartState::Ended(_)) && !status.ready).await;
    bench.comes_back().await;
}

#[tokio::test]
async fn so_does_one_in_the_work_of_a_changed_configuration() {
    let mut bench = Bench::start(|_| {}).await;
    bench.until("it is ready", |status| status.ready).await;
    let changed = bench.running.prepare(config()).await.unwrap();
    break_a_check(&changed.0);
    bench.running.take_over(changed).await;
    bench.comes_back().await;
}
