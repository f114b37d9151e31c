//! Browsers that have signed in before, known by a device cookie (docs/decisions/0011).
//!
//! It says that somebody has signed in to an account with this browser, and is worth one thing: others' failures do not
//! delay the browser's next attempt at that account ([`crate::passwords`]). It never signs anybody in, skips no step, and
//! names nobody: accounts are in it as hashes, sealed. It is made anew at each sign-in, lives for 90 days, and holds the
//! last few accounts of the browser.
//!
//! Source: OWASP, "Slow Down Online Guessing Attacks with Device Cookies".

use std::time::Duration;

use aws_lc_rs::digest;
use http::header;
use portcullis_jose::base64url_encode;
use portcullis_runtime::{Clock, Rng, Timestamp};
use portcullis_storage::{SealingPolicy, Store};
use serde::{Deserialize, Serialize};

use super::flow::cookie_base;
use super::sealer::{SealError, Sealer, Use};
use crate::http::{Inbound, Reply, SetCookie};

/// How long a browser is known after a sign-in.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Most accounts of one browser; the one that signed in longest ago goes.
const MAX_ACCOUNTS: usize = 4;
/// Longest cookie that is looked at, in bytes: four accounts take about 500.
const MAX_COOKIE: usize = 1024;
/// A key seals for a month, and opens as long as what it sealed lives.
const KEYS: SealingPolicy = SealingPolicy { rotate_after: Duration::from_secs(30 * 24 * 3600), opens_for: LIFETIME };

/// One account that a browser has signed in to.
#[derive(Clone, Serialize, Deserialize)]
struct Device {
    /// A hash of the account's name.
    #[serde(rename = "a")]
    account: String,
    /// What the browser is known by at this account.
    #[serde(rename = "d")]
    id: String,
    #[serde(rename = "t", with = "portcullis_runtime::unix_seconds")]
    since: Timestamp,
}

/// Knows browsers again.
pub(crate) struct Devices {
    sealer: Sealer,
    clock: Clock,
    rng: Rng,
    /// The cookie's name, without `__Host-`.
    name: String,
    path: String,
}

impl Devices {
    pub(crate) fn new(store: Store, clock: Clock, rng: Rng, issuer: &str, path: &str) -> Self {
        // No flow's cookie has a dot there.
        let name = format!("{}.device", cookie_base(issuer));
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        let sealer = Sealer::new(store, clock.clone(), rng.clone(), issuer, (Use::Device, KEYS));
        Self { sealer, clock, rng, name, path }
    }

    /// What this browser is known by at `account`, if it has signed in there before.
    pub(crate) async fn find(&self, inbound: &Inbound, account: &str) -> Option<String> {
        let account = hash(account);
        self.all(inbound).await.into_iter().find(|device| device.account == account).map(|device| device.id)
    }

    /// Makes the browser known at `account`, where it has just signed in. Without it the answer stays as it is: people
    /// can sign in all the same.
    pub(crate) async fn remember(&self, inbound: &Inbound, account: &str, mut reply: Reply) -> Reply {
        let account = hash(account);
        let mut devices = self.all(inbound).await;
        devices.retain(|device| device.account != account);
        devices.sort_by_key(|device| std::cmp::Reverse(device.since));
        devices.truncate(MAX_ACCOUNTS - 1);
        devices.push(Device { account, id: self.rng.token(12), since: self.clock.now() });
        let name = self.name(inbound.secure);
        let value = match serde_json::to_vec(&devices).map_err(|_| SealError::Foreign) {
            Ok(content) => self.sealer.seal(&self.name, content).await,
            Err(error) => Err(error),
        };
        match value {
            Ok(value) => {
                // `__Host-` demands the path `/`.
                let path = if inbound.secure { "/" } else { self.path.as_str() };
                let cookie =
                    SetCookie { name: &name, value: &value, path, secure: inbound.secure, max_age: LIFETIME.as_secs() };
                if let Some(cookie) = cookie.header() {
                    reply.headers_mut().append(header::SET_COOKIE, cookie);
                }
            }
            Err(error) => tracing::warn!(%error, "a browser could not be given its device cookie"),
        }
        reply
    }

    fn name(&self, secure: bool) -> String {
        if secure { format!("__Host-{}", self.name) } else { self.name.clone() }
    }

    /// The accounts of this browser that it is still known at.
    async fn all(&self, inbound: &Inbound) -> Vec<Device> {
        let cookies = inbound.cookies();
        let Some(value) = cookies.get(&self.name(inbound.secure)).filter(|value| value.len() <= MAX_COOKIE) else {
            return Vec::new();
        };
        let content = match self.sealer.open(&self.name, value).await {
            Ok(content) => content,
            Err(SealError::Foreign) => return Vec::new(),
            Err(error @ SealError::Store(_)) => {
                tracing::warn!(%error, "a device cookie could not be opened");
                return Vec::new();
            }
        };
        let devices: Vec<Device> = serde_json::from_slice(&content).unwrap_or_default();
        let now = self.clock.now();
        devices.into_iter().filter(|device| now.saturating_since(device.since) < LIFETIME).collect()
    }
}

fn hash(account: &str) -> String {
    base64url_encode(digest::digest(&digest::SHA256, account.as_bytes()).as_ref().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use portcullis_runtime::MockClock;
    use portcullis_storage::MemoryKernel;

    use super::*;
    use crate::authflow::cookies_of;

    struct World {
        devices: Devices,
        store: Store,
        clock: Clock,
        hand: MockClock,
    }

    fn world() -> World {
        let (clock, hand) = Clock::mock(1_000_000);
        let store = Store::new(Arc::new(MemoryKernel::new()), clock.clone(), Rng::seeded(1));
        let devices = Devices::new(store.clone(), clock.clone(), Rng::seeded(2), "https://a/dex", "/dex");
        World { devices, store, clock, hand }
    }

    fn inbound(secure: bool, cookie: &str) -> Inbound {
        let mut headers = http::HeaderMap::new();
        if !cookie.is_empty() {
            headers.insert(header::COOKIE, cookie.parse().unwrap());
        }
        Inbound {
            method: http::Method::POST,
            path: String::new(),
            query: String::new(),
            headers,
            body: Bytes::new(),
            secure,
            from: crate::http::Source::default(),
        }
    }

    impl World {
        /// The browser's cookie after a sign-in at `account`.
        async fn sign_in(&self, secure: bool, cookie: &str, account: &str) -> String {
            let reply = self.devices.remember(&inbound(secure, cookie), account, Reply::new(Bytes::new())).await;
            cookies_of(&reply).remove(0).split(';').next().unwrap().to_owned()
        }

        async fn find(&self, cookie: &str, account: &str) -> Option<String> {
            self.devices.find(&inbound(true, cookie), account).await
        }
    }

    #[tokio::test]
    async fn a_browser_is_known_where_it_signed_in_and_nowhere_else() {
        let w = world();
        let cookie = w.sign_in(true, "", "jane@x").await;
        assert!(w.find(&cookie, "jane@x").await.is_some());
        assert_eq!(w.find(&cookie, "joe@x").await, None);
        assert_eq!(w.find("", "jane@x").await, None);
        assert_eq!(
            w.devices.find(&inbound(false, &cookie), "jane@x").await,
            None,
            "the other scheme has other cookies"
        );
        let another = w.sign_in(true, "", "jane@x").await;
        assert_ne!(w.find(&cookie, "jane@x").await, w.find(&another, "jane@x").await, "browsers are told apart");
        let again = w.sign_in(true, &cookie, "jane@x").await;
        assert_ne!(w.find(&cookie, "jane@x").await, w.find(&again, "jane@x").await, "a copy gets nothing in the way");
        for other in ["https://a", "https://a:8443/dex"] {
            let other = Devices::new(w.store.clone(), w.clock.clone(), Rng::seeded(3), other, "/dex");
            let renamed = format!("{}={}", other.name(true), cookie.split_once('=').unwrap().1);
            assert_eq!(other.find(&inbound(true, &renamed), "jane@x").await, None, "the issuer is sealed in");
        }
    }

    #[tokio::test]
    async fn the_cookie_has_the_right_attributes_and_names_nobody() {
        let w = world();
        for (secure, name, attributes) in [
            (true, "__Host-portcullis-", "; Path=/; Max-Age=7776000; HttpOnly; SameSite=Lax; Secure"),
            (false, "portcullis-", "; Path=/dex; Max-Age=7776000; HttpOnly; SameSite=Lax"),
        ] {
            let reply = w.devices.remember(&inbound(secure, ""), "jane@x", Reply::new(Bytes::new())).await;
            let cookie = cookies_of(&reply).remove(0);
            assert!(cookie.starts_with(name) && cookie.ends_with(attributes), "{cookie}");
            assert!(!cookie.contains("jane"));
        }
    }

    #[tokio::test]
    async fn a_browser_is_known_for_ninety_days_by_every_replica() {
        let w = world();
        let day = Duration::from_secs(86_400);
        let cookie = w.sign_in(true, "", "jane@x").await;
        for days in [0, 29, 31, 61, 89] {
            w.hand.set(Timestamp::from_unix_seconds(1_000_000) + day * days);
            // Replicas that work, and rotate the keys.
            w.sign_in(true, "", "joe@x").await;
            let replica = Devices::new(w.store.clone(), w.clock.clone(), Rng::seeded(9), "https://a/dex", "/dex");
            assert!(replica.find(&inbound(true, &cookie), "jane@x").await.is_some(), "after {days} days");
            assert!(w.find(&cookie, "jane@x").await.is_some(), "after {days} days");
        }
        w.hand.set(Timestamp::from_unix_seconds(1_000_000) + day * 90);
        assert_eq!(w.find(&cookie, "jane@x").await, None);
    }

    #[tokio::test]
    async fn a_browser_is_known_at_its_last_four_accounts() {
        let w = world();
        let mut cookie = String::new();
        for number in 0..6 {
            w.hand.advance(Duration::from_secs(1));
            cookie = w.sign_in(true, &cookie, &format!("user{number}@x")).await;
        }
        w.hand.advance(Duration::from_secs(1));
        cookie = w.sign_in(true, &cookie, "user2@x").await;
        assert!(cookie.len() < MAX_COOKIE, "{}", cookie.len());
        for number in 0..6 {
            let known = w.find(&cookie, &format!("user{number}@x")).await.is_some();
            assert_eq!(known, number >= 2, "{number}");
        }
    }

    #[tokio::test]
    async fn a_changed_cookie_is_none() {
        let w = world();
        let cookie = w.sign_in(true, "", "jane@x").await;
        let (name, value) = cookie.split_once('=').unwrap();
        let bytes = portcullis_jose::base64url_decode(value).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(w.find(&format!("{name}={}", base64url_encode(&changed)), "jane@x").await, None, "byte {at}");
        }
        for value in ["", "x", &value[..40], &"A".repeat(4000)] {
            assert_eq!(w.find(&format!("{name}={value}"), "jane@x").await, None, "{value}");
        }
        let repaired = w.sign_in(true, &format!("{name}=x"), "jane@x").await;
        assert!(w.find(&repaired, "jane@x").await.is_some(), "and the next sign-in makes a new one");
    }
}
