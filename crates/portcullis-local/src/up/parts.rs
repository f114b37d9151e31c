//! The parts of this process under their supervisors: what makes their pods tell the truth.

use portcullis_apiserver::{PartControl, PartSignal, Running};
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, HttpClientError, Roots};
use portcullis_runtime::{Clock, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use crate::ca::Leaf;
use crate::ports;
use crate::supervisor::{BoxFuture, Pace, Probe, Program, Report, Run, Start, Started, Supervisor, probe};

use super::api_server::{Shown, failed};
use super::error::UpError;
use super::provider::RunningProvider;

/// A part that has been started and is not kept running yet.
pub(crate) struct Part {
    pub(crate) shown: Shown,
    /// What others want of it.
    pub(crate) signals: mpsc::Receiver<PartSignal>,
    /// Ends its first run.
    pub(crate) run: Shutdown,
}

impl Part {
    /// With a way for signals.
    pub(crate) fn new(mut shown: Shown, run: Shutdown) -> Self {
        let (control, signals) = PartControl::new();
        shown.control = control;
        Self { shown, signals, run }
    }
}

/// Keeps the API server's listener running until `stop`. What it holds stays. `serving` is its certificate, where its
/// health endpoint is asked; without one its port is, which leaves nothing in an audit log.
pub(crate) fn keep_api_server(
    api: &Running,
    part: Part,
    serving: Option<&Leaf>,
    clock: &Clock,
    stop: &Shutdown,
) -> Result<JoinHandle<()>, UpError> {
    let (front, port) = (api.front(), api.addr().port());
    let probe = match serving {
        Some(leaf) => livez(leaf, port).map_err(failed)?,
        None => Box::new(move || {
            let asked = async move { probe::any_http(probe::connect(port).await?, port).await };
            Box::pin(asked) as BoxFuture<_>
        }),
    };
    let start = move |stop: Shutdown| {
        let front = front.clone();
        let started = async move {
            let listener = ports::bind_again(port).map_err(|error| format!("listen on port {port}: {error}"))?;
            // Known by its IPv4 address alone.
            let listener = listener.into_iter().next().ok_or_else(|| format!("port {port} has no listener"))?;
            let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
            tracing::info!(target: "portcullis_apiserver", port, "the API server has started");
            Started::Ok(front.serve(listener, &stop))
        };
        Box::pin(started) as BoxFuture<_>
    };
    let program = program(&part.shown, Box::new(start), probe);
    Ok(keep(api, part, program, api.hand_over(), clock, stop))
}

/// Asks the health endpoint, which anybody may. One that somebody has closed to everybody answers all the same.
fn livez(serving: &Leaf, port: u16) -> Result<Probe, HttpClientError> {
    let roots = Roots::only_pem(serving.cert_pem.as_bytes())?;
    let client = HttpClient::new(HttpClientConfig { roots, ..HttpClientConfig::default() })?;
    Ok(Box::new(move || {
        let client = client.clone();
        Box::pin(async move {
            let url = format!("https://127.0.0.1:{port}/livez");
            // A connection of its own each time, so that a listener that is gone is seen.
            let headers = [("connection", "close"), ("user-agent", "kube-probe/1.37")];
            match client.get(&url, &headers).await {
                Ok(answer) if answer.status < 500 => Ok(()),
                Ok(answer) => Err(format!("HTTP probe failed with statuscode: {}", answer.status)),
                Err(error) => Err(format!("Get \"{url}\": {error}")),
            }
        })
    }))
}

/// Keeps the provider running until `stop`.
pub(crate) fn keep_provider(
    api: &Running,
    provider: &RunningProvider,
    issuer: &Url,
    part: Part,
    clock: &Clock,
    stop: &Shutdown,
) -> JoinHandle<()> {
    let program = program(&part.shown, Box::new(provider.start_again()), Box::new(provider.probe(issuer)));
    keep(api, part, program, provider.hand_over(), clock, stop)
}

fn program(shown: &Shown, start: Start, probe: Probe) -> Program {
    // Compat: a static pod's identity at its node is the value of the annotation `kubernetes.io/config.mirror`.
    let pod = format!("{name}_{}({name})", shown.namespace, name = shown.name);
    Program { container: shown.container, pod, start, probe }
}

fn keep(
    api: &Running,
    part: Part,
    program: Program,
    tasks: JoinSet<()>,
    clock: &Clock,
    stop: &Shutdown,
) -> JoinHandle<()> {
    let run = Run { tasks, stop: part.run, started: part.shown.started };
    let (seed, namespace, name) = (api.seed().clone(), part.shown.namespace, part.shown.name.clone());
    let tell = move |report| match report {
        Report::Status(status) => drop(seed.part_status(namespace, &name, &status)),
        Report::Event(event) => seed.part_event(namespace, &name, &event),
    };
    let supervisor =
        Supervisor::new(program, Pace::default(), clock.clone(), part.shown.logs.clone(), part.signals, Box::new(tell));
    tokio::spawn(supervisor.keep(run, stop.clone()))
}
