//! A sign-in before anybody has proved anything: the authorization request travels sealed in a cookie.
//!
//! Design decision 1. One cookie per flow, at most four flows a browser and 6 KB together; a request that is too large
//! for a cookie is stored under a cap, and the cookie holds its handle. The cookie binds the flow to the browser that
//! began it, so that a link or a form of somebody else leads nowhere (CVE-2022-39222: codes of a flow that another
//! browser had begun could be fetched). Its name carries a hash of the issuer, because cookies ignore ports; `__Host-`
//! and `Secure` follow the scheme of the request. It is sealed for the issuer and the flow's id ([`Sealer`]).

use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use http::header;
use portcullis_jose::base64url_encode;
use portcullis_runtime::{Clock, Rng, Timestamp};
use portcullis_storage::{RequestError, RequestOrigin, SealingPolicy, Store, StoreError};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::request::AuthRequest;
use super::sealer::{SealError, Sealer, Use, time_of};
use crate::http::{Cookies, Inbound, Reply, SetCookie, network};

/// Most flows of one browser.
const MAX_FLOWS: usize = 4;
/// Most bytes of all flows' cookies, names included.
const MAX_TOTAL: usize = 6 * 1024;
/// Largest cookie: browsers allow 4096 bytes with name and attributes.
const MAX_COOKIE: usize = 3500;

/// Why there is no flow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlowError {
    /// The browser: no cookie, or not one of ours.
    #[error("there is no such flow in this browser")]
    Unknown,
    /// The browser: it took too long.
    #[error("the flow is over")]
    Expired,
    /// The address, or everybody at the client: too many large requests, or one that is too large.
    #[error("the request cannot be kept")]
    Refused(#[source] RequestError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl From<SealError> for FlowError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Foreign => Self::Unknown,
            SealError::Store(error) => Self::Store(error),
        }
    }
}

/// A flow that this browser began.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Flow {
    #[serde(skip)]
    pub(crate) id: String,
    /// Key of the step codes in our own URLs and forms (Dex: HMACKey).
    secret: String,
    #[serde(rename = "exp", with = "portcullis_runtime::unix_seconds")]
    pub(crate) expires_at: Timestamp,
    #[serde(flatten)]
    pub(crate) request: AuthRequest,
}

/// What is sealed: the flow, or where it is.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Sealed {
    Stored { handle: String },
    Whole(Box<Flow>),
}

/// A step of the flow that only this browser can take next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Post the login form.
    Login,
    /// Go on after the connector.
    Continue,
    /// See and answer the consent page.
    Approval,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Login => "step:login",
            Self::Continue => "step:continue",
            Self::Approval => "step:approval",
        }
    }
}

impl Flow {
    /// A fresh flow for a request.
    pub(crate) fn begin(rng: &Rng, request: AuthRequest, expires_at: Timestamp) -> Self {
        Self { id: new_id(rng), secret: rng.token(18), expires_at, request }
    }

    /// The code of a step. Compat: Dex's HMAC over the protobuf list `[flow id, step]`, base64url.
    pub(crate) fn mac(&self, step: Step) -> String {
        let mut message = Vec::with_capacity(64);
        for part in [self.id.as_str(), step.name()] {
            message.push(0x0a);
            message.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            message.extend_from_slice(part.as_bytes());
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        base64url_encode(hmac::sign(&key, &message).as_ref())
    }

    /// Whether `mac` is the code of `step`.
    pub(crate) fn allows(&self, step: Step, mac: &str) -> bool {
        self.mac(step).as_bytes().ct_eq(mac.as_bytes()).into()
    }
}

/// Compat: Dex's `NewID`: a letter and 24 characters of lower-case base32.
pub(crate) fn new_id(rng: &Rng) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let [first, rest @ ..] = rng.bytes::<16>();
    let letter = |n: u8| char::from(ALPHABET.get(usize::from(n)).copied().unwrap_or(b'a'));
    let mut id = String::with_capacity(25);
    id.push(letter(first % 26));
    let bits = rest.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    for i in (0..24).rev() {
        id.push(letter(u8::try_from(bits >> (5 * i) & 31).unwrap_or(0)));
    }
    id
}

/// How much longer than the flow its cookie is kept by the browser: long enough to say that the flow has expired, rather
/// than that there never was one. What counts is the time inside the seal.
const SAY_EXPIRED: Duration = Duration::from_secs(300);

/// Seals flows into cookies, and opens them.
pub(crate) struct Flows {
    store: Store,
    clock: Clock,
    sealer: Sealer,
    /// Cookie name up to the flow's id, without `__Host-`.
    prefix: String,
    path: String,
}

/// How the names of our cookies begin: a host's issuers have different ones.
pub(super) fn cookie_base(issuer: &str) -> String {
    let hash = digest::digest(&digest::SHA256, issuer.as_bytes());
    format!("portcullis-{}", base64url_encode(hash.as_ref().get(..6).unwrap_or_default()))
}

impl Flows {
    pub(crate) fn new(store: Store, clock: Clock, rng: Rng, issuer: &str, path: &str) -> Self {
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        let sealer = Sealer::new(store.clone(), clock.clone(), rng, issuer, (Use::Flow, SealingPolicy::default()));
        Self { store, clock, sealer, prefix: format!("{}-", cookie_base(issuer)), path }
    }

    /// Puts a flow into the answer's cookies, and drops the oldest of this browser's flows beyond the limits.
    pub(crate) async fn put(&self, inbound: &Inbound, flow: &Flow, mut reply: Reply) -> Result<Reply, FlowError> {
        let mut value = self.seal(&flow.id, &Sealed::Whole(Box::new(flow.clone()))).await?;
        if value.len() > MAX_COOKIE {
            // What is stored is sealed as well: its handle alone shows nothing.
            let lifetime = flow.expires_at.saturating_since(self.clock.now());
            let address = inbound.from.network().map(|ip| ip.to_string()).unwrap_or_default();
            let claimed = inbound.from.claimed.map(|ip| network(ip).to_string());
            let client_id = &flow.request.client_id;
            let origin = RequestOrigin { client_id, address: &address, claimed: claimed.as_deref() };
            let kept = self.store.requests().keep(value.as_bytes(), lifetime, origin).await;
            let handle = kept.map_err(|error| match error {
                RequestError::Store(error) => FlowError::Store(error),
                other => FlowError::Refused(other),
            })?;
            value = self.seal(&flow.id, &Sealed::Stored { handle }).await?;
        }
        let prefix = self.prefix(inbound.secure);
        let cookies = inbound.cookies();
        let mut others: Vec<(u32, &str, usize)> = cookies
            .with_prefix(&prefix)
            .filter(|(id, _)| *id != flow.id)
            .map(|(id, value)| (time_of(value), id, prefix.len() + id.len() + value.len()))
            .collect();
        others.sort_by_key(|(time, ..)| std::cmp::Reverse(*time));
        let mut total = prefix.len() + flow.id.len() + value.len();
        let mut count = 1;
        for (_, id, size) in others {
            if count < MAX_FLOWS && total + size <= MAX_TOTAL {
                count += 1;
                total += size;
            } else {
                self.set(&mut reply, &prefix, id, "", inbound.secure, 0);
            }
        }
        let left = flow.expires_at.saturating_since(self.clock.now()).as_secs();
        self.set(&mut reply, &prefix, &flow.id, &value, inbound.secure, left + SAY_EXPIRED.as_secs());
        Ok(reply)
    }

    /// Removes a flow's cookie.
    pub(crate) fn forget(&self, inbound: &Inbound, id: &str, mut reply: Reply) -> Reply {
        self.set(&mut reply, &self.prefix(inbound.secure), id, "", inbound.secure, 0);
        reply
    }

    /// Frees what a large request occupied in the store.
    pub(crate) async fn release(&self, inbound: &Inbound, id: &str) {
        if let Ok(Sealed::Stored { handle }) = self.unseal_cookie(&inbound.cookies(), inbound.secure, id).await
            && let Err(error) = self.store.requests().forget(&handle).await
        {
            tracing::warn!(%error, "a stored authorization request could not be removed; it expires by itself");
        }
    }

    /// The flow `id` of this browser.
    pub(crate) async fn get(&self, inbound: &Inbound, id: &str) -> Result<Flow, FlowError> {
        let mut flow = match self.unseal_cookie(&inbound.cookies(), inbound.secure, id).await? {
            Sealed::Whole(flow) => *flow,
            Sealed::Stored { handle } => {
                let sealed = self.store.requests().get(&handle).await?.ok_or(FlowError::Unknown)?;
                let sealed = String::from_utf8(sealed).map_err(|_| FlowError::Unknown)?;
                match self.unseal(id, &sealed).await? {
                    Sealed::Whole(flow) => *flow,
                    Sealed::Stored { .. } => return Err(FlowError::Unknown),
                }
            }
        };
        if flow.expires_at <= self.clock.now() {
            return Err(FlowError::Expired);
        }
        id.clone_into(&mut flow.id);
        Ok(flow)
    }

    fn prefix(&self, secure: bool) -> String {
        if secure { format!("__Host-{}", self.prefix) } else { self.prefix.clone() }
    }

    fn set(&self, reply: &mut Reply, prefix: &str, id: &str, value: &str, secure: bool, max_age: u64) {
        // `__Host-` demands the path `/`.
        let path = if secure { "/" } else { self.path.as_str() };
        let name = format!("{prefix}{id}");
        if let Some(header) = (SetCookie { name: &name, value, path, secure, max_age }).header() {
            reply.headers_mut().append(header::SET_COOKIE, header);
        }
    }

    async fn unseal_cookie(&self, cookies: &Cookies<'_>, secure: bool, id: &str) -> Result<Sealed, FlowError> {
        if !is_id(id) {
            return Err(FlowError::Unknown);
        }
        let value = cookies.get(&format!("{}{id}", self.prefix(secure))).ok_or(FlowError::Unknown)?;
        self.unseal(id, value).await
    }

    async fn seal(&self, id: &str, content: &Sealed) -> Result<String, FlowError> {
        let content = serde_json::to_vec(content).map_err(|_| FlowError::Unknown)?;
        Ok(self.sealer.seal(id, content).await?)
    }

    async fn unseal(&self, id: &str, value: &str) -> Result<Sealed, FlowError> {
        serde_json::from_slice(&self.sealer.open(id, value).await?).map_err(|_| FlowError::Unknown)
    }
}

fn is_id(id: &str) -> bool {
    id.len() == 25 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Nothing of a flow but its client belongs into a log.
impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("client_id", &self.request.client_id).finish_non_exhaustive()
    }
}

/// Whether the answer sets any cookie (for tests and logs).
#[cfg(test)]
pub(crate) fn cookies_of(reply: &Reply) -> Vec<String> {
    reply
        .headers()
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|v: &http::HeaderValue| v.to_str().ok())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
