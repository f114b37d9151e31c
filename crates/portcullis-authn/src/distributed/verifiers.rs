//! The issuers that claims endpoints' tokens come from: found in the background, a bounded number of them.
//!
//! Which issuers there are is up to the endpoints, and the `iss` that makes a new one is not even signed yet. So the
//! number is bounded twice, in a way that leaves issuers in use alone:
//! - at most [`MAX_PENDING`] issuers are looked for at a time. One more takes the place of one whose discovery has failed
//!   and that was asked for longest ago; while there is none, it has to wait for its next token;
//! - at most [`MAX_VERIFIERS`] are held. One more takes the place of a known one that was asked for longest ago.
//!
//! Compat: `claimResolver.Verifier` and `asyncIDTokenVerifier` of `oidc.go` in `k8s.io/apiserver` v0.37: the token that
//! brings a new issuer is refused as "not initialized", discovery is tried at once and then every ten seconds for as long
//! as the issuer is held, and what was discovered is never discovered again. Upstream holds every issuer for good.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_oidc::DiscoveryDocument;
use portcullis_oidc::client::JwksCache;
use portcullis_runtime::Shutdown;

use crate::config::JwtConfig;
use crate::keys::{Discovered, Discovery, Outside, Purpose};

/// Most issuers that are held, discovered or not.
const MAX_VERIFIERS: usize = 64;
/// Most issuers that are being looked for. Each costs one request in ten seconds.
const MAX_PENDING: usize = 16;
/// Longest issuer that is looked for, in bytes.
const MAX_ISSUER_BYTES: usize = 2_048;

pub(super) struct Verifiers {
    outside: Outside,
    shutdown: Shutdown,
    /// A well-known URL, and where its document is instead.
    document: Option<(String, String)>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_issuer: HashMap<String, Entry>,
    /// Grows with each question.
    clock: u64,
}

struct Entry {
    verifier: Arc<Discovered>,
    discovery: Shutdown,
    asked: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.discovery.trigger();
    }
}

impl Verifiers {
    /// None yet. `shutdown` ends all discoveries.
    pub(super) fn new(config: &JwtConfig, outside: Outside, shutdown: Shutdown) -> Self {
        // Compat: upstream rewrites the well-known URL of the configured issuer wherever it is asked for.
        let document = config.discovery_url.clone().map(|url| (DiscoveryDocument::url(&config.issuer_url), url));
        Self { outside, shutdown, document, held: Mutex::default() }
    }

    /// The keys of `issuer`, once they can be had. The first question starts the search.
    ///
    /// Must be called inside a Tokio runtime.
    pub(super) fn get(&self, issuer: &str) -> Option<JwksCache> {
        if issuer.len() > MAX_ISSUER_BYTES {
            return None;
        }
        let mut held = self.held();
        held.clock += 1;
        let asked = held.clock;
        if let Some(entry) = held.by_issuer.get_mut(issuer) {
            entry.asked = asked;
            return entry.verifier.keys().cloned();
        }
        if held.make_room() {
            let discovery = self.shutdown.child();
            let verifier = Discovered::start(self.search(issuer), discovery.clone());
            held.by_issuer.insert(issuer.to_owned(), Entry { verifier, discovery, asked });
        }
        None
    }

    fn search(&self, issuer: &str) -> Discovery {
        let well_known = DiscoveryDocument::url(issuer);
        let elsewhere = self.document.as_ref().filter(|(url, _)| *url == well_known);
        Discovery {
            outside: self.outside.clone(),
            issuer: issuer.to_owned(),
            document_url: elsewhere.map(|(_, url)| url.clone()),
            purpose: Purpose::Claims,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Makes room for one more issuer, unless all places belong to issuers that are still in their first attempt.
    fn make_room(&mut self) -> bool {
        let pending = self.by_issuer.values().filter(|entry| entry.verifier.keys().is_none()).count();
        let full = self.by_issuer.len() >= MAX_VERIFIERS;
        match (pending >= MAX_PENDING, full) {
            (false, false) => true,
            (true, _) => self.forget(|verifier| verifier.keys().is_none() && verifier.has_failed()),
            (false, true) => self.forget(|verifier| verifier.keys().is_some()),
        }
    }

    /// Forgets the issuer of this kind that was asked for longest ago. `false` when there is none.
    fn forget(&mut self, kind: impl Fn(&Discovered) -> bool) -> bool {
        let oldest =
            self.by_issuer.iter().filter(|(_, entry)| kind(&entry.verifier)).min_by_key(|(_, entry)| entry.asked);
        let Some(issuer) = oldest.map(|(issuer, _)| issuer.clone()) else { return false };
        self.by_issuer.remove(&issuer).is_some()
    }
}
