//! What runs under `up --issuer`, and how another one changes it: the provider is asked again, the API server's new trust
//! finds it beside the old one, kubeconfigs are written, and it takes over. Until then nothing of the old is touched.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_apiserver::Running;
use portcullis_authn::{Network, OidcFlags};
use portcullis_runtime::{Clock, Shutdown, chain};

use crate::kubeconfig::{Entries, PluginEntry};
use crate::state::{StateDir, StateFile};
use crate::steps::Steps;

use super::super::changes::{Line, flags as compare_flags};
use super::super::control::{Answer, Request};
use super::super::error::UpError;
use super::super::live::{answer, part, summary};
use super::super::{Options, api_server, outside};
use super::error::IssuerError;
use super::wish::Wish;
use super::{ca_file, issuer, next_steps, write_ca};

/// How long the API server's new trust may take to find a provider that has just answered.
const FOUND: Duration = Duration::from_secs(30);

/// What was applied last.
pub(super) struct Applied {
    pub(super) wish: Wish,
    pub(super) flags: OidcFlags,
    pub(super) scopes: Vec<String>,
    pub(super) entries: Entries,
    /// Ends the API server's look-out for the issuer.
    pub(super) tokens_stop: Shutdown,
}

/// A run whose server is up.
pub(super) struct Live<'a> {
    pub(super) options: &'a Options,
    pub(super) state: &'a StateDir,
    pub(super) steps: &'a Steps,
    pub(super) stop: &'a Shutdown,
    pub(super) file: &'a Mutex<StateFile>,
    pub(super) api: &'a Running,
    pub(super) network: Network,
    pub(super) clock: Clock,
    pub(super) port: u16,
    pub(super) applied: Mutex<Applied>,
}

impl Live<'_> {
    fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts our entries into the kubeconfigs. The user of the own one's context, where the user's own choice stays.
    pub(super) fn write_kubeconfigs(&self, steps: &Steps) -> Result<Option<String>, UpError> {
        let mut applied = self.applied();
        let applied = &mut *applied;
        let arguments = applied.wish.plugin_arguments(&applied.flags, &applied.scopes, self.state);
        self.write(&mut applied.entries, &applied.flags.issuer_url, arguments, self.options.use_context, steps)
    }

    fn write(
        &self,
        entries: &mut Entries,
        issuer: &str,
        arguments: Vec<String>,
        make_current: bool,
        steps: &Steps,
    ) -> Result<Option<String>, UpError> {
        let plugin = PluginEntry { issuer: issuer.to_owned(), arguments, signed_in: false };
        let before = entries.plugin.replace(plugin);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let issuer_before = file.issuer.replace(issuer.to_owned());
        let written = outside::renew_own(self.state, &mut file, entries, steps).and_then(|chosen| {
            if let Some(path) = &self.options.kubeconfig {
                outside::merge(self.state, &mut file, path, entries, make_current, steps)?;
            }
            Ok(chosen)
        });
        if written.is_err() {
            entries.plugin = before;
            file.issuer = issuer_before;
        }
        written
    }

    /// What to do now.
    pub(super) fn next_steps(&self, chosen: Option<&str>) {
        next_steps(self.options, self.state, &self.applied().flags, chosen, self.steps);
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
        let running = self.applied().flags.issuer_url.clone();
        let Some(wish) = request.external else { return Err(UpError::TrustsAnother(running)) };
        let (given, options) = (&request.at_start, self.options);
        let other_kubeconfig = given.kubeconfig.is_some() && given.kubeconfig != options.kubeconfig;
        for (counts, flag) in [
            (given.use_context && !options.use_context, "--use"),
            (given.keep_state && !options.keep_state, "--keep-state"),
            (other_kubeconfig, "--kubeconfig"),
        ] {
            if counts {
                lines.push(part("note", &format!("{flag} has an effect at a start alone")));
            }
        }
        let port = request.port.filter(|port| *port != 0 && *port != self.port && Some(*port) != options.port);
        let later = port.map(|port| part("restart needed", &format!("--port: port {} becomes port {port}", self.port)));

        let issuer::Checked { mut flags, scopes, doubt } = issuer::check(&wish, &self.network, &self.clock).await?;
        let doubt = doubt.map(|doubt| part("note", &doubt));
        flags.ca_file = ca_file(self.state, &wish);
        let arguments = wish.plugin_arguments(&flags, &scopes, self.state);
        let (mut changes, ca_changed, plugin_changed) = {
            let applied = self.applied();
            let mut changes = Vec::new();
            compare_flags(&applied.flags, &flags, &mut changes);
            let before = applied.wish.plugin_arguments(&applied.flags, &applied.scopes, self.state);
            (changes, applied.wish.ca_pem != wish.ca_pem, before != arguments)
        };
        let trust_changed = !changes.is_empty() || ca_changed;
        let now = trust_changed || plugin_changed;
        let new_trust = if trust_changed { Some(self.find(&wish, &flags).await?) } else { None };
        if ca_changed {
            changes.push(Line { part: "api server", text: "oidc-ca-file changed".to_owned() });
            if let Err(error) = write_ca(self.state, &wish) {
                self.undo(lines, new_trust);
                return Err(error);
            }
        }
        lines.extend(changes.iter().map(|line| part(line.part, &line.text)));
        if plugin_changed {
            let quiet = Steps::silent();
            let mut applied = self.applied();
            if let Err(error) = self.write(&mut applied.entries, &flags.issuer_url, arguments, false, &quiet) {
                drop(applied);
                self.undo(lines, new_trust);
                return Err(error);
            }
            let own = self.state.path("kubeconfig");
            for path in std::iter::once(&own).chain(&options.kubeconfig) {
                lines.push(part("kubeconfig", &format!("{} renewed", path.display())));
            }
            lines.extend(quiet.words().iter().map(|text| part("note", text)));
        }
        lines.extend(doubt);
        let restart = later.is_some();
        lines.extend(later);
        lines.push(summary(self.state.name(), now, restart));
        let mut applied = self.applied();
        if let Some((tokens, stop)) = new_trust {
            self.api.trust(tokens);
            std::mem::replace(&mut applied.tokens_stop, stop).trigger();
        }
        (applied.wish, applied.flags, applied.scopes) = (wish, flags, scopes);
        Ok(())
    }

    /// Puts the authority and our own kubeconfig back to what counts still, and ends the new look-out; what cannot be put back is
    /// said. Another kubeconfig is the last that is written, so it is as it was.
    fn undo(&self, lines: &mut Vec<String>, new_trust: Option<(portcullis_apiserver::TokenAuthenticator, Shutdown)>) {
        if let Some((_tokens, stop)) = new_trust {
            stop.trigger();
        }
        lines.clear();
        let applied = self.applied();
        let ca = write_ca(self.state, &applied.wish).map(drop);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let own = outside::renew_own(self.state, &mut file, &applied.entries, &Steps::silent()).map(drop);
        for error in [ca, own].into_iter().filter_map(Result::err) {
            lines.push(part("note", &format!("not put back: {}", chain(&error))));
        }
    }

    /// What will know tokens, once it has found the issuer. The authority is not in the state folder yet.
    async fn find(
        &self,
        wish: &Wish,
        flags: &OidcFlags,
    ) -> Result<(portcullis_apiserver::TokenAuthenticator, Shutdown), UpError> {
        let stop = self.stop.child();
        let ca = wish.ca_pem.clone().unwrap_or_default();
        let valid = flags.config_with(&[], |_| Ok(ca.into_bytes())).map_err(IssuerError::from)?;
        let found = api_server::trust_of(valid, None, &self.clock, &self.network, &stop)?;
        if let Some(authenticator) = &found
            && tokio::time::timeout(FOUND, authenticator.ready()).await.is_err()
        {
            stop.trigger();
            return Err(UpError::IssuerNotFound(flags.issuer_url.clone()));
        }
        Ok((api_server::tokens(found), stop))
    }
}
