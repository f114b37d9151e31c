//! What runs, and how it is changed while it runs: the guide's step 16.
//!
//! ```text
//! request -> files checked in full -> compared with what runs -> new provider and new trust made, beside the old ones
//!         -> kubeconfigs and binding written -> both take over at once
//! ```
//! Until the last step nothing of the old is touched, so that a bad file, a full disk or an issuer that cannot be found
//! changes nothing. Listeners and storage are made at a start; a change of theirs is said, and waits for one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_apiserver::{Running, TokenAuthenticator};
use portcullis_authn::{Authenticator, Network, OidcFlags};
use portcullis_provider::config::Config;
use portcullis_runtime::{Clock, Shutdown, chain};

use crate::kubeconfig::{Entries, PluginEntry};
use crate::state::{StateDir, StateFile};
use crate::steps::Steps;

use super::api_server::{self, Shown};
use super::changes::{Changes, Line, Settings, Start};
use super::control::{Answer, Request};
use super::error::UpError;
use super::inputs::{Asked, Demo, Environment, Inputs, Sources};
use super::listeners::Ports;
use super::provider::{Certificate, PodPorts, RunningProvider};
use super::{BINDING, Options, PartLogs, guide, outside, plugin_arguments};

/// How long the API server's new trust may take to find the issuer, which is this process.
const FOUND: Duration = Duration::from_secs(15);

/// How the API server finds the issuer.
pub(super) struct Trust {
    pub(super) network: Network,
    pub(super) clock: Clock,
    pub(super) discovery_url: Option<String>,
}

impl Trust {
    /// What knows the tokens that the flags are about; it looks for the issuer until `stop`.
    pub(super) fn authenticator(&self, flags: &OidcFlags, stop: &Shutdown) -> Result<Option<Authenticator>, UpError> {
        api_server::trust(flags, self.discovery_url.as_deref(), &self.clock, &self.network, stop)
    }
}

/// What was applied last.
pub(super) struct Applied {
    pub(super) sources: Sources,
    pub(super) asked: Asked,
    pub(super) inputs: Inputs,
    pub(super) config: Config,
    pub(super) flags: OidcFlags,
    /// Where the plugin may wait for the browser.
    pub(super) callback_ports: Vec<u16>,
    pub(super) entries: Entries,
    /// The provider's pod.
    pub(super) pod: Shown,
    /// What the files gave cause to say.
    pub(super) words: Vec<String>,
    /// The variables that the files may name.
    pub(super) environment: Variables,
    /// Ends the API server's look-out for the issuer.
    pub(super) tokens_stop: Shutdown,
}

/// What was so at the start.
pub(super) struct Started {
    pub(super) config: Config,
    /// The ports that were asked for.
    pub(super) ports: [Option<u16>; 4],
    /// Those of the provider's pod under `--guide`. That behind the issuer's stays.
    pub(super) pod_ports: PodPorts,
}

/// The process' own environment, and what other `up`s had in theirs.
#[derive(Clone)]
pub(super) struct Variables {
    pub(super) own: Environment,
    pub(super) others: BTreeMap<String, Option<String>>,
}

impl Variables {
    fn with(mut self, more: BTreeMap<String, Option<String>>) -> Self {
        self.others.extend(more);
        self
    }

    fn lookup(self) -> Environment {
        Arc::new(move |name| self.others.get(name).cloned().unwrap_or_else(|| (self.own)(name)))
    }
}

/// A run whose servers are up.
pub(super) struct Live<'a> {
    pub(super) options: &'a Options,
    pub(super) state: &'a StateDir,
    pub(super) steps: &'a Steps,
    pub(super) stop: &'a Shutdown,
    pub(super) logs: &'a PartLogs,
    pub(super) file: &'a Mutex<StateFile>,
    pub(super) api: &'a Running,
    pub(super) provider: &'a RunningProvider,
    pub(super) trust: Trust,
    pub(super) issuer: String,
    /// The port in the issuer's URL.
    pub(super) issuer_port: u16,
    /// The listeners that there are.
    pub(super) ports: Ports,
    pub(super) api_port: u16,
    pub(super) certificate: Certificate,
    pub(super) ca_path: PathBuf,
    /// What cannot change while it runs.
    pub(super) started: Started,
    pub(super) applied: Mutex<Applied>,
}

/// A change that was checked, and is not made yet.
struct Wanted {
    sources: Sources,
    asked: Asked,
    inputs: Inputs,
    config: Config,
    flags: OidcFlags,
    callback_ports: Vec<u16>,
    /// What the files gave cause to say.
    words: Vec<String>,
    changes: Changes,
    environment: Variables,
}

impl Live<'_> {
    pub(super) fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_file(&self) -> MutexGuard<'_, StateFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plugin as kubectl runs it.
    pub(super) fn plugin_arguments(&self) -> Vec<String> {
        let applied = self.applied();
        // A file without the client was refused.
        applied.inputs.client().map(|client| self.arguments_of(&client, &applied.callback_ports)).unwrap_or_default()
    }

    fn arguments_of(&self, client: &super::inputs::PluginClient, callback_ports: &[u16]) -> Vec<String> {
        plugin_arguments(&self.issuer, client, &self.ca_path, self.state, callback_ports)
    }

    /// Puts our entries into the kubeconfig of the state folder and into the one that the command line names. The user of
    /// the first one's context, where the user's own choice stays.
    pub(super) fn write_kubeconfigs(&self, steps: &Steps) -> Result<Option<String>, UpError> {
        let arguments = self.plugin_arguments();
        let mut applied = self.applied();
        self.write_entries(&mut applied.entries, arguments, self.options.use_context, steps)
    }

    fn write_entries(
        &self,
        entries: &mut Entries,
        arguments: Vec<String>,
        make_current: bool,
        steps: &Steps,
    ) -> Result<Option<String>, UpError> {
        let signed_in = !self.options.no_bind;
        let before = entries.plugin.replace(PluginEntry { issuer: self.issuer.clone(), arguments, signed_in });
        let mut file = self.state_file();
        let written = outside::renew_own(self.state, &mut file, entries, steps).and_then(|chosen| {
            if let Some(path) = &self.options.kubeconfig {
                outside::merge(self.state, &mut file, path, entries, make_current, steps)?;
            }
            Ok(chosen)
        });
        if written.is_err() {
            entries.plugin = before;
        }
        written
    }

    /// Answers another `up`: applies what it asks for, or says why not. What was done is said here too.
    pub(super) async fn change(&self, request: Request) -> Answer {
        let mut lines = Vec::new();
        let outcome = Box::pin(self.apply(request, &mut lines)).await;
        answer(self.steps, lines, outcome)
    }

    async fn apply(&self, request: Request, lines: &mut Vec<String>) -> Result<(), UpError> {
        if request.version != env!("CARGO_PKG_VERSION") {
            return Err(UpError::OtherVersion { ours: env!("CARGO_PKG_VERSION"), theirs: request.version });
        }
        if request.external.is_some() {
            return Err(UpError::HasItsOwn(self.issuer.clone()));
        }
        for flag in self.only_at_a_start(&request) {
            lines.push(part("note", &format!("{flag} has an effect at a start alone")));
        }
        let wanted = self.wanted(request)?;
        {
            let applied = self.applied();
            let new = wanted.words.iter().filter(|word| !applied.words.contains(word));
            lines.extend(new.map(|word| part("note", word)));
        }
        let provider = match wanted.changes.provider {
            true => Some(self.provider.prepare(wanted.config.clone()).await?),
            false => None,
        };
        let found = match wanted.changes.api_server {
            true => Some(self.find_issuer(&wanted.flags).await?),
            false => None,
        };
        let written =
            if self.options.guide { self.pod_and_service(&wanted)? } else { self.kubeconfigs_and_binding(&wanted)? };
        // From here on nothing fails.
        if let Some(provider) = provider {
            self.provider.take_over(provider).await;
        }
        let changes = &wanted.changes;
        lines.extend(changes.now.iter().chain(&written).chain(&changes.later).map(|line| part(line.part, &line.text)));
        lines.push(summary(
            self.state.name(),
            !changes.now.is_empty() || !written.is_empty(),
            !changes.later.is_empty(),
        ));
        let mut applied = self.applied();
        if let Some(found) = found {
            let (tokens, stop) = found.keep();
            self.api.trust(tokens);
            std::mem::replace(&mut applied.tokens_stop, stop).trigger();
        }
        if let Some(logs) = self.logs.written.as_ref().filter(|_| changes.logs) {
            logs.change(&wanted.inputs.logs());
        }
        let Wanted { sources, asked, inputs, config, flags, callback_ports, words, environment, .. } = wanted;
        let before = &mut *applied;
        (before.sources, before.asked, before.inputs, before.config) = (sources, asked, inputs, config);
        (before.flags, before.callback_ports, before.words) = (flags, callback_ports, words);
        before.environment = environment;
        Ok(())
    }

    /// Flags of the request that this run was not started with.
    fn only_at_a_start(&self, request: &Request) -> Vec<&'static str> {
        let (given, options) = (&request.at_start, self.options);
        let same_kubeconfig = given.kubeconfig.is_none() || given.kubeconfig == options.kubeconfig;
        [
            (given.guide && !options.guide, "--guide"),
            (given.no_bind && !options.no_bind, "--no-bind"),
            (given.trust && !options.trust, "--trust"),
            (given.use_context && !options.use_context, "--use"),
            (given.keep_state && !options.keep_state, "--keep-state"),
            (!same_kubeconfig, "--kubeconfig"),
        ]
        .into_iter()
        .filter_map(|(counts, flag)| counts.then_some(flag))
        .collect()
    }

    /// Checks the files in full, and compares them with what runs.
    fn wanted(&self, request: Request) -> Result<Wanted, UpError> {
        let Request { sources, environment, port, issuer_port, keep_issuer, fix_demo_hash, .. } = request;
        let applied = self.applied();
        // A file that is not named stays what it was.
        let sources = Sources {
            values: sources.values.or_else(|| applied.sources.values.clone()),
            cluster: sources.cluster.or_else(|| applied.sources.cluster.clone()),
        };
        let environment = applied.environment.clone().with(environment);
        let before = &applied.asked;
        let asked = Asked {
            name: Some(self.state.name().to_owned()),
            port: port.or(before.port),
            issuer_port: issuer_port.or(before.issuer_port),
            keep_issuer: keep_issuer || before.keep_issuer,
            fix_demo_hash: fix_demo_hash || before.fix_demo_hash,
            unattended: false,
            guide: self.options.guide,
            environment: environment.clone().lookup(),
        };
        let quiet = Steps::silent();
        let mut inputs = Inputs::of(&sources, &asked, &quiet)?;
        let issuer = inputs.settle_issuer(self.issuer_port, asked.keep_issuer, &quiet)?;
        if issuer != self.issuer {
            return Err(UpError::OtherIssuer { running: self.issuer.clone(), wanted: issuer });
        }
        let callback_ports = inputs.settle_callback_ports(&applied.callback_ports, &quiet)?;
        let config = inputs.provider_config(self.ports, &self.certificate, &self.state.path("provider/store.db"))?;
        let flags = inputs.oidc_flags(&self.issuer, &self.ca_path);
        inputs.client()?;
        let old = Settings { config: &applied.config, flags: &applied.flags };
        let mut changes = Changes::between(&old, &Settings { config: &config, flags: &flags });
        changes.compare_starts(
            &Start { config: &self.started.config, ports: self.started.ports },
            &Start { config: &config, ports: self.asked_ports(&inputs) },
        );
        Ok(Wanted { sources, asked, inputs, config, flags, callback_ports, words: quiet.words(), changes, environment })
    }

    /// The ports that the files and flags ask for, where they are not what there is: any free one is good.
    fn asked_ports(&self, inputs: &Inputs) -> [Option<u16>; 4] {
        let mut asked = asked_ports(inputs);
        let there = [Some(self.issuer_port), Some(self.api_port), self.ports.http, self.ports.telemetry];
        if self.options.guide {
            // Those of the pod, which may change.
            let [https, api, _, _] = asked;
            let [_, _, http, telemetry] = self.started.ports;
            asked = [https, api, http, telemetry];
        }
        for ((asked, started), there) in asked.iter_mut().zip(self.started.ports).zip(there) {
            if started.is_some() && (*asked == Some(0) || *asked == there) {
                *asked = started;
            }
        }
        asked
    }

    /// The provider's pod and service with the ports that the files give them, as `helm upgrade` would. The service comes
    /// back when somebody has deleted it.
    fn pod_and_service(&self, wanted: &Wanted) -> Result<Vec<Line>, UpError> {
        let ports_of = |inputs: &Inputs| PodPorts { https: self.started.pod_ports.https, ..guide::ports_of(inputs) };
        let mut applied = self.applied();
        let (old, new) = (ports_of(&applied.inputs), ports_of(&wanted.inputs));
        let mut pod = applied.pod.clone();
        let mut lines = Vec::new();
        if old != new {
            pod.ports = self.provider.pod_ports(new);
            api_server::show(self.api, pod.clone())?;
            let numbers: Vec<String> = pod.ports.iter().map(|port| format!("{} {}", port.name, port.number)).collect();
            lines.push(Line { part: "service", text: format!("dex has the ports {}", numbers.join(", ")) });
        }
        guide::ensure_service(self.api, &pod)?;
        applied.pod = pod;
        Ok(lines)
    }

    /// What will know tokens, once it has found the issuer.
    async fn find_issuer(&self, flags: &OidcFlags) -> Result<Found, UpError> {
        let stop = self.stop.child();
        let authenticator = self.trust.authenticator(flags, &stop)?;
        let found = Found { tokens: api_server::tokens(authenticator.clone()), stop: Some(stop) };
        if let Some(authenticator) = authenticator {
            let ready = tokio::time::timeout(FOUND, authenticator.ready()).await;
            ready.map_err(|_late| UpError::IssuerNotFound(self.issuer.clone()))?;
        }
        Ok(found)
    }

    /// The plugin's entries and who is cluster-admin, where that is this run's to set.
    fn kubeconfigs_and_binding(&self, wanted: &Wanted) -> Result<Vec<Line>, UpError> {
        let mut lines = Vec::new();
        let arguments = self.arguments_of(&wanted.inputs.client()?, &wanted.callback_ports);
        if arguments != self.plugin_arguments() {
            let quiet = Steps::silent();
            let mut applied = self.applied();
            self.write_entries(&mut applied.entries, arguments, false, &quiet)?;
            let own = self.state.path("kubeconfig");
            for path in std::iter::once(&own).chain(&self.options.kubeconfig) {
                lines.push(Line { part: "kubeconfig", text: format!("{} renewed", path.display()) });
            }
            lines.extend(quiet.words().into_iter().map(|text| Line { part: "note", text }));
        }
        let (old, new) = (self.applied().inputs.demo().clone(), wanted.inputs.demo());
        if self.options.no_bind || old == *new {
            return Ok(lines);
        }
        let text = match new {
            Demo::User { kubernetes_name, .. } => {
                api_server::bind_cluster_admin(self.api, BINDING, kubernetes_name)?;
                format!("{kubernetes_name} is cluster-admin ({BINDING})")
            }
            Demo::NoClaim { .. } | Demo::Nobody => {
                self.api.seed().remove_cluster_role_binding(BINDING);
                format!("{BINDING} removed: there is nobody for it")
            }
        };
        lines.push(Line { part: "binding", text });
        Ok(lines)
    }
}

/// A trust that is ready. Its look-out ends when it is dropped, unless it is kept.
struct Found {
    tokens: TokenAuthenticator,
    stop: Option<Shutdown>,
}

impl Found {
    fn keep(mut self) -> (TokenAuthenticator, Shutdown) {
        (std::mem::replace(&mut self.tokens, TokenAuthenticator::Nobody), self.stop.take().unwrap_or_default())
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        if let Some(stop) = &self.stop {
            stop.trigger();
        }
    }
}

/// The ports that the files and flags ask for: provider, API server, `web.http`, `telemetry.http`.
pub(super) fn asked_ports(inputs: &Inputs) -> [Option<u16>; 4] {
    [Some(inputs.issuer_port()), Some(inputs.api_port()), inputs.http_port(), inputs.telemetry_port()]
}

/// The answer to a change that was asked for; what was done is said here too.
pub(super) fn answer(steps: &Steps, lines: Vec<String>, outcome: Result<(), UpError>) -> Answer {
    let mut answer = Answer { lines, ..Answer::default() };
    if let Err(error) = outcome {
        answer.error = Some(chain(&error));
        answer.hint = error.hint();
    }
    if answer.error.is_none() && answer.lines.len() == 1 {
        // Nothing has changed: that is for whoever asked.
        return answer;
    }
    steps.line("");
    steps.line("another `up` of this name asked for a change:");
    answer.lines.iter().for_each(|line| steps.line(line));
    if let Some(error) = &answer.error {
        steps.line(&format!("  refused: {error}"));
    }
    answer
}

/// What is said last of a change.
pub(super) fn summary(name: &str, now: bool, later: bool) -> String {
    let pid = std::process::id();
    match (now, later) {
        (false, false) => format!("{name:?} is running (process {pid}), and nothing has changed"),
        (true, false) => format!("applied to {name:?}, which keeps running (process {pid})"),
        (false, true) => format!(
            "nothing was applied to {name:?} (process {pid}): what needs a restart takes effect when it is stopped and started again"
        ),
        (true, true) => format!(
            "applied to {name:?}, which keeps running (process {pid}); what needs a restart takes effect when it is stopped and started again"
        ),
    }
}

pub(super) fn part(name: &str, text: &str) -> String {
    format!("  {name:<14} {text}")
}
