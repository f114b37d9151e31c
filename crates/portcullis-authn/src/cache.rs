//! Accepted tokens of the last seconds, so that a client that sends the same token again costs no signature.
//!
//! Compat: kube-apiserver keeps successes for 10 seconds and failures not at all (`pkg/authentication/token/cache`). Ours
//! never outlives the token's `exp` (kubernetes/kubernetes lets a token work up to 10 seconds longer).
//!
//! A keyed hash of the token's end finds the entry, then all bytes of the token are compared in constant time: neither a
//! chosen collision nor the time of a comparison tells an attacker anything. The end is enough to find an entry by: it is the
//! signature's, only accepted tokens get in, and no two of them share a signature but by spelling.
//! The cache is bounded in bytes and evicts what is used least.
//!
//! There is no single flight: upstream coalesces concurrent lookups of one token because a lookup may fetch keys or groups.
//! Here those fetches are single-flight themselves, and what is left (one signature, about 20 µs) is cheaper than waiting
//! for another task.

use std::hash::{BuildHasher as _, RandomState};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use crate::verdict::VerifiedUser;

/// How long a success is remembered.
const SUCCESS_TTL: Duration = Duration::from_secs(10);

/// Bytes at a token's end that are hashed: 384 bits of signature.
const HASHED: usize = 64;

/// Entries that the cache is laid out for; the bound is in bytes.
const EXPECTED_ENTRIES: usize = 4_096;

/// What an entry costs beside its token, about.
const ENTRY_OVERHEAD: usize = 512;

pub(crate) struct TokenCache {
    hasher: RandomState,
    /// `None` remembers nothing.
    entries: Option<Cache<u64, Arc<Entry>, ByBytes>>,
}

struct Entry {
    token: Zeroizing<Vec<u8>>,
    valid_until: Timestamp,
    user: VerifiedUser,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<u64, Arc<Entry>> for ByBytes {
    fn weight(&self, _: &u64, entry: &Arc<Entry>) -> u64 {
        u64::try_from(entry.token.len() + ENTRY_OVERHEAD).unwrap_or(u64::MAX)
    }
}

impl TokenCache {
    /// A cache that holds at most about `bytes` bytes of tokens; 0 remembers nothing.
    pub(crate) fn new(bytes: usize) -> Self {
        let capacity = u64::try_from(bytes).unwrap_or(u64::MAX);
        let entries = (bytes > 0).then(|| Cache::with_weighter(EXPECTED_ENTRIES, capacity, ByBytes));
        Self { hasher: RandomState::new(), entries }
    }

    /// The user of a token that was accepted a moment ago.
    pub(crate) fn get(&self, token: &str, now: Timestamp) -> Option<VerifiedUser> {
        let entries = self.entries.as_ref()?;
        let key = self.key(token);
        let entry = entries.get(&key)?;
        if !same(&entry.token, token.as_bytes()) {
            return None;
        }
        if now < entry.valid_until {
            return Some(entry.user.clone());
        }
        entries.remove(&key);
        None
    }

    /// Remembers a success until 10 seconds from `now`, or until `exp` (Unix seconds) when that is sooner.
    pub(crate) fn insert(&self, token: &str, user: &VerifiedUser, exp: i64, now: Timestamp) {
        let Some(entries) = &self.entries else { return };
        let valid_until = Timestamp::from_unix_seconds(exp).min(now + SUCCESS_TTL);
        if now >= valid_until {
            return;
        }
        let key = self.key(token);
        let token = Zeroizing::new(token.as_bytes().to_vec());
        entries.insert(key, Arc::new(Entry { token, valid_until, user: user.clone() }));
    }

    fn key(&self, token: &str) -> u64 {
        let bytes = token.as_bytes();
        self.hasher.hash_one(bytes.get(bytes.len().saturating_sub(HASHED)..).unwrap_or(bytes))
    }

    #[cfg(test)]
    fn bytes(&self) -> u64 {
        self.entries.as_ref().map_or(0, Cache::weight)
    }
}

/// Whether two byte strings are equal, in a time that depends on their lengths alone.
///
/// `subtle` compares byte by byte, which costs more than the whole rest of a lookup; here every eight bytes are one step,
/// and no step depends on an earlier result.
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (a_words, a_rest) = a.as_chunks::<8>();
    let (b_words, b_rest) = b.as_chunks::<8>();
    let words = a_words
        .iter()
        .zip(b_words)
        .fold(0u64, |differ, (x, y)| differ | (u64::from_ne_bytes(*x) ^ u64::from_ne_bytes(*y)));
    let rest = a_rest.iter().zip(b_rest).fold(0u8, |differ, (x, y)| differ | (x ^ y));
    black_box(words | u64::from(rest)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_kube::user_info::UserInfo;

    fn user(name: &str) -> VerifiedUser {
        let info = UserInfo { username: name.to_owned(), ..UserInfo::default() };
        VerifiedUser::for_test(info)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn a_success_lasts_ten_seconds_and_never_past_its_expiry() {
        let cache = TokenCache::new(1 << 20);
        cache.insert("long", &user("a"), 10_000, at(100));
        cache.insert("short", &user("b"), 103, at(100));
        cache.insert("over", &user("c"), 100, at(100));
        assert_eq!(cache.get("long", at(109)).map(|user| user.info().username.clone()).as_deref(), Some("a"));
        assert!(cache.get("long", at(110)).is_none());
        assert!(cache.get("short", at(102)).is_some() && cache.get("short", at(103)).is_none());
        assert!(cache.get("over", at(100)).is_none());
        assert!(cache.get("other", at(100)).is_none());
    }

    #[test]
    fn a_hash_alone_finds_nothing() {
        let cache = TokenCache::new(1 << 20);
        let end = "signature".repeat(10);
        cache.insert(&format!("good.{end}"), &user("a"), 10_000, at(0));
        for other in [format!("evil.{end}"), format!("good..{end}"), end.clone()] {
            assert_eq!(cache.key(&other), cache.key(&format!("good.{end}")), "the same place");
            assert!(cache.get(&other, at(0)).is_none(), "{other}");
        }
        assert!(cache.get(&format!("good.{end}"), at(0)).is_some());
    }

    #[test]
    fn many_tokens_leave_memory_bounded() {
        let cache = TokenCache::new(100_000);
        for n in 0..20_000 {
            cache.insert(&format!("token {n}"), &user("a"), 10_000, at(0));
        }
        assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
        let none = TokenCache::new(0);
        none.insert("token", &user("a"), 10_000, at(0));
        assert!(none.get("token", at(0)).is_none());
    }

    #[test]
    fn comparing_finds_a_difference_in_every_place() {
        let text: Vec<u8> = (0..100).collect();
        assert!(same(&text, &text) && same(b"", b""));
        assert!(!same(&text, &text[..99]) && !same(&text[..8], &text[1..9]));
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 0x80;
            assert!(!same(&text, &other), "{at}");
        }
    }
}
