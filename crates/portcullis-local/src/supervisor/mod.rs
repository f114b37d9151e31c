//! What keeps a part of this process running: the kubelet of one container.
//!
//! ```text
//! running --ends, panics, is killed, does not answer--> ended --at once, then after 10 s, 20 s, …--> running
//! ```
//! A part is probed through its own socket every second; it is ready as long as it answers, and is ended when it has not
//! twenty times in a row. Everything is told as it happens: the status and the events that its pod shows are never anything
//! else than what is seen here.
//!
//! Compat: `pkg/kubelet/kuberuntime` and `pkg/kubelet/prober` of Kubernetes 1.37 with their defaults; probes are more frequent.

mod backoff;
pub(crate) mod probe;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::pin::Pin;
use std::time::Duration;

use portcullis_apiserver::{Ended, PartEvent, PartSignal, PartState, PartStatus};
use portcullis_runtime::{Clock, LogRing, Shutdown, Timestamp};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};

use self::backoff::BackOff;

/// A future with nothing borrowed.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The tasks of a run, or why there is none.
pub(crate) type Started = Result<JoinSet<()>, String>;

/// Starts a program; it runs as long as its tasks, and ends in its own time when the token is triggered.
pub(crate) type Start = Box<dyn Fn(Shutdown) -> BoxFuture<Started> + Send + Sync>;

/// Asks a program whether it is well, through its own socket.
pub(crate) type Probe = Box<dyn Fn() -> BoxFuture<Result<(), String>> + Send + Sync>;

/// What runs as a part.
pub(crate) struct Program {
    /// Name of its container.
    pub(crate) container: &'static str,
    /// The name that a kubelet's messages give its pod.
    pub(crate) pod: String,
    pub(crate) start: Start,
    pub(crate) probe: Probe,
}

/// A run of a program: its tasks, and what asks them to end.
pub(crate) struct Run {
    pub(crate) tasks: JoinSet<()>,
    pub(crate) stop: Shutdown,
    pub(crate) started: Timestamp,
}

/// What is to be told of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    Status(PartStatus),
    Event(PartEvent),
}

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Between two probes.
    pub(crate) probe: Duration,
    /// For a probe's answer.
    pub(crate) answer: Duration,
    /// Probes without an answer until the part is ended.
    pub(crate) failures: u32,
    /// From an end to the next start: a kubelet looks once a second.
    pub(crate) look: Duration,
    /// The first wait of a part that ends again; each further one is twice as long.
    pub(crate) wait: Duration,
    /// The longest wait. A part that ran twice as long begins anew.
    pub(crate) longest_wait: Duration,
    /// For a part to end in its own time.
    pub(crate) grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            probe: Duration::from_secs(1),
            answer: Duration::from_millis(500),
            // Compat: kubeadm's API server has two minutes. A machine that is busy for some seconds ends nobody's connections.
            failures: 20,
            look: Duration::from_secs(1),
            wait: Duration::from_secs(10),
            longest_wait: Duration::from_secs(300),
            grace: Duration::from_secs(30),
        }
    }
}

/// Why a run is over.
enum End {
    /// Everything stops.
    Stop,
    /// The run alone, with an exit code and a word.
    Run(i32, String),
}

/// Keeps one part running.
pub(crate) struct Supervisor {
    program: Program,
    pace: Pace,
    clock: Clock,
    logs: LogRing,
    signals: mpsc::Receiver<PartSignal>,
    tell: Box<dyn Fn(Report) + Send + Sync>,
    status: PartStatus,
    back_off: BackOff,
}

impl Supervisor {
    /// For a program that has just been started.
    pub(crate) fn new(
        program: Program,
        pace: Pace,
        clock: Clock,
        logs: LogRing,
        signals: mpsc::Receiver<PartSignal>,
        tell: Box<dyn Fn(Report) + Send + Sync>,
    ) -> Self {
        let status = PartStatus::running(clock.now());
        let back_off = BackOff::new(pace.wait, pace.longest_wait);
        Self { program, pace, clock, logs, signals, tell, status, back_off }
    }

    /// Keeps it running until `stop`, and ends it then.
    pub(crate) async fn keep(mut self, mut run: Run, stop: Shutdown) {
        self.status = PartStatus::running(run.started);
        self.event(PartEvent::Created);
        self.event(PartEvent::Started);
        self.show();
        loop {
            match self.watch(&mut run, &stop).await {
                End::Stop => {
                    run.stop.trigger();
                    // Servers bound the time that they take themselves.
                    while run.tasks.join_next().await.is_some() {}
                    return;
                }
                End::Run(exit_code, message) => self.ended(run.started, exit_code, message),
            }
            match stop.unless(self.start_again()).await {
                Some(next) => run = next,
                None => return,
            }
        }
    }

    /// Waits for the end of a run.
    async fn watch(&mut self, run: &mut Run, stop: &Shutdown) -> End {
        let mut ticks = self.ticks();
        let mut failures = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.triggered() => return End::Stop,
                ended = run.tasks.join_next() => {
                    let (exit_code, message) = exit_of(ended);
                    abort(run).await;
                    return End::Run(exit_code, message);
                }
                Some(signal) = self.signals.recv() => return self.obey(signal, run).await,
                _ = ticks.tick() => {
                    let answer = tokio::time::timeout(self.pace.answer, (self.program.probe)()).await;
                    let late = || format!("no answer within {} ms", self.pace.answer.as_millis());
                    match answer.unwrap_or_else(|_| Err(late())) {
                        Ok(()) => {
                            failures = 0;
                            self.ready(true);
                        }
                        Err(why) => {
                            failures += 1;
                            self.ready(false);
                            if failures < self.pace.failures {
                                self.event(PartEvent::Unhealthy { probe: "Readiness", why });
                                continue;
                            }
                            self.event(PartEvent::Unhealthy { probe: "Liveness", why });
                            self.event(PartEvent::Killing { unhealthy: true });
                            abort(run).await;
                            return End::Run(137, String::new());
                        }
                    }
                }
            }
        }
    }

    fn ticks(&self) -> Interval {
        let mut ticks = tokio::time::interval(self.pace.probe);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    async fn obey(&self, signal: PartSignal, run: &mut Run) -> End {
        self.event(PartEvent::Killing { unhealthy: false });
        if signal == PartSignal::Kill {
            abort(run).await;
            return End::Run(137, String::new());
        }
        run.stop.trigger();
        let all = async { while run.tasks.join_next().await.is_some() {} };
        match tokio::time::timeout(self.pace.grace, all).await {
            Ok(()) => End::Run(0, String::new()),
            Err(_) => {
                abort(run).await;
                End::Run(137, String::new())
            }
        }
    }

    /// Notes an end.
    fn ended(&mut self, started: Timestamp, exit_code: i32, message: String) {
        let (finished, container) = (self.clock.now(), self.program.container);
        tracing::warn!(container, exit_code, message, "a part has ended");
        self.back_off.ran(finished.saturating_since(started));
        let ended = Ended { started, finished, exit_code, message };
        self.status.state = PartState::Ended(ended);
        self.status.ready = true;
        self.ready(false);
    }

    /// Starts the part, however long that takes.
    async fn start_again(&mut self) -> Run {
        loop {
            tokio::time::sleep(self.pace.look).await;
            if let Some(wait) = self.back_off.next() {
                self.wait(wait).await;
            }
            // What was asked of the run that has ended is done.
            while self.signals.try_recv().is_ok() {}
            let last = match &self.status.state {
                PartState::Ended(ended) => Some(ended.clone()),
                PartState::Waiting { .. } | PartState::Running { .. } => self.status.last.clone(),
            };
            self.logs.begin_run();
            let (started, stop) = (self.clock.now(), Shutdown::new());
            let outcome = (self.program.start)(stop.clone()).await;
            self.status.restarts += 1;
            self.status.last = last;
            self.event(PartEvent::Created);
            match outcome {
                Ok(tasks) => {
                    self.status.state = PartState::Running { started };
                    self.event(PartEvent::Started);
                    self.show();
                    return Run { tasks, stop, started };
                }
                Err(message) => self.ended(started, 1, message),
            }
        }
    }

    async fn wait(&mut self, wait: Duration) {
        if let PartState::Ended(ended) = &self.status.state {
            self.status.last = Some(ended.clone());
        }
        let (container, pod) = (self.program.container, &self.program.pod);
        self.status.state = PartState::Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message: format!("back-off {} restarting failed container={container} pod={pod}", shown(wait)),
        };
        self.event(PartEvent::BackOff);
        self.show();
        tokio::time::sleep(wait).await;
    }

    fn ready(&mut self, ready: bool) {
        if self.status.ready != ready {
            self.status.ready = ready;
            self.status.ready_since = self.clock.now();
            self.show();
        }
    }

    fn show(&self) {
        (self.tell)(Report::Status(self.status.clone()));
    }

    fn event(&self, event: PartEvent) {
        (self.tell)(Report::Event(event));
    }
}

async fn abort(run: &mut Run) {
    run.tasks.abort_all();
    while run.tasks.join_next().await.is_some() {}
}

/// What the end of one of a part's tasks means.
fn exit_of(ended: Option<Result<(), JoinError>>) -> (i32, String) {
    match ended {
        None | Some(Ok(())) => (1, "it stopped by itself".to_owned()),
        Some(Err(error)) if error.is_panic() => (101, said(&*error.into_panic())),
        Some(Err(_)) => (137, String::new()),
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    format!("panicked: {}", text.chars().take(1_000).collect::<String>())
}

/// As Go writes a duration of whole seconds.
fn shown(wait: Duration) -> String {
    match (wait.as_secs() / 60, wait.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
