//! A second `up` of a name that runs: it asks the running one to take what the files say now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::state::StateDir;
use crate::steps::Steps;

use super::Options;
use super::control::{self, AtStart, Request};
use super::error::UpError;
use super::inputs::Sources;

/// The variables that the files asked for, with their values where they have one.
pub(super) struct Seen(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Seen {
    pub(super) fn names(&self) -> BTreeMap<String, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes which variables are looked up from here on.
pub(super) fn record_environment(options: &mut Options) -> Seen {
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let (given, noted) = (options.environment.clone(), seen.clone());
    options.environment = Arc::new(move |name| {
        let value = given(name);
        noted.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value.clone());
        value
    });
    Seen(seen)
}

/// What the files and flags ask of the one that runs.
pub(super) fn request(options: &Options, sources: &Sources, environment: BTreeMap<String, Option<String>>) -> Request {
    Request {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sources: sources.clone(),
        environment,
        port: options.port,
        issuer_port: options.issuer_port,
        keep_issuer: options.keep_issuer,
        fix_demo_hash: options.fix_demo_hash,
        at_start: AtStart {
            guide: options.guide,
            no_bind: options.no_bind,
            trust: options.trust,
            use_context: options.use_context,
            keep_state: options.keep_state,
            kubeconfig: options.kubeconfig.clone(),
        },
        external: None,
    }
}

/// Hands a request over, and says what came of it.
pub(super) async fn ask(state: &StateDir, request: &Request, steps: &Steps) -> Result<(), UpError> {
    let answer = control::ask(state, request).await?;
    for line in &answer.lines {
        steps.line(line);
    }
    match answer.error {
        None => Ok(()),
        Some(text) => Err(UpError::Refused { text, hint: answer.hint }),
    }
}
