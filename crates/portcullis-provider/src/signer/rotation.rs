//! What a key set should become, as a pure function of the set and the time (design.md decision 4).
//!
//! A key is published before it signs, for as long as anybody may hold a key set without it; it stays published until
//! the last token that it signed has expired. Which key signs follows from the record and the clock alone, so replicas
//! agree without talking; a write only drops what is over and asks for the next key.

use std::time::Duration;

use portcullis_jose::KeyKind;
use portcullis_runtime::Timestamp;
use portcullis_storage::{SigningKeyRecord, SigningKeySet};

/// How long key sets may be cached (`Cache-Control: max-age` of `/keys`), as Dex.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(600);
/// How often a replica looks at the record.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How long a key is published before it signs: caches, a replica that has not looked yet, and slack for clocks.
pub(crate) const PUBLISH_BEFORE: Duration = Duration::from_secs(600 + 30 + 30);

/// How keys live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// What new keys are.
    pub(crate) kind: KeyKind,
    /// How long a key signs.
    pub(crate) rotation: Duration,
    /// The longest life of a token.
    pub(crate) token_lifetime: Duration,
}

/// The key that signs at `now`: the one with a private half that began last.
pub(crate) fn signing_at(set: &SigningKeySet, now: Timestamp) -> Option<&SigningKeyRecord> {
    set.keys.iter().filter(|k| k.private.is_some() && k.signs_from <= now).max_by_key(|k| k.signs_from)
}

/// The key that will sign after that one.
pub(crate) fn next_after(set: &SigningKeySet, now: Timestamp) -> Option<&SigningKeyRecord> {
    set.keys.iter().filter(|k| k.private.is_some() && k.signs_from > now).min_by_key(|k| k.signs_from)
}

/// What has to be done to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    Keep,
    /// Write this.
    Write(SigningKeySet),
    /// Make a key that signs from then on, add it to this, and write.
    Generate(SigningKeySet, Timestamp),
}

/// What has to be done to `set` at `now`.
pub(crate) fn plan(set: &SigningKeySet, now: Timestamp, policy: &Policy) -> Plan {
    let Some(current) = signing_at(set, now) else {
        // No key signs: the very first one, or a damaged clock. Waiting for caches would only prolong the outage.
        return Plan::Generate(tidy(set, None, now, policy), now);
    };
    let tidied = tidy(set, Some(current), now, policy);
    match next_after(&tidied, now) {
        None => Plan::Generate(tidied, (current.signs_from + policy.rotation).max(now + PUBLISH_BEFORE)),
        Some(_) if tidied != *set => Plan::Write(tidied),
        Some(_) => Plan::Keep,
    }
}

/// Retires the keys that signed before `current`, and drops those whose last token is over.
fn tidy(set: &SigningKeySet, current: Option<&SigningKeyRecord>, now: Timestamp, policy: &Policy) -> SigningKeySet {
    let mut keys = set.keys.clone();
    if let Some(current) = current {
        for key in keys.iter_mut().filter(|k| k.signs_from <= now && k.kid != current.kid && k.verifies_until.is_none())
        {
            // Another replica's clock may be a little behind: it signed for a little longer.
            key.verifies_until = Some(current.signs_from + policy.token_lifetime + CHECK_EVERY);
            key.private = None;
        }
    }
    keys.retain(|k| k.verifies_until.is_none_or(|until| until > now));
    SigningKeySet { keys, next_rotation: set.next_rotation }
}

/// The set with a new key in it.
pub(crate) fn with_key(mut set: SigningKeySet, key: SigningKeyRecord) -> SigningKeySet {
    set.next_rotation = key.signs_from;
    set.keys.push(key);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kid: &str, signs_from: i64) -> SigningKeyRecord {
        SigningKeyRecord {
            kid: kid.to_owned(),
            algorithm: "RS256".to_owned(),
            private: Some(vec![1, 2, 3].as_slice().into()),
            public: "{}".to_owned(),
            created_at: Timestamp::from_unix_seconds(0),
            signs_from: Timestamp::from_unix_seconds(signs_from),
            verifies_until: None,
        }
    }

    const POLICY: Policy = Policy {
        kind: KeyKind::P256,
        rotation: Duration::from_secs(6 * 3600),
        token_lifetime: Duration::from_secs(24 * 3600),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn the_first_key_signs_at_once_and_the_second_is_published_before_it_signs() {
        let Plan::Generate(set, first) = plan(&SigningKeySet::default(), at(1000), &POLICY) else { panic!() };
        assert_eq!(first, at(1000));
        let set = with_key(set, key("a", 1000));
        let Plan::Generate(set, second) = plan(&set, at(1000), &POLICY) else { panic!() };
        assert_eq!(second, at(1000 + 6 * 3600));
        let set = with_key(set, key("b", second.unix_seconds()));
        assert_eq!(plan(&set, at(1001), &POLICY), Plan::Keep);
        assert_eq!(plan(&set, second - Duration::from_secs(1), &POLICY), Plan::Keep);
        assert_eq!(signing_at(&set, second - Duration::from_secs(1)).unwrap().kid, "a");
        assert_eq!(signing_at(&set, second).unwrap().kid, "b");
    }

    #[test]
    fn a_retired_key_loses_its_private_half_and_stays_until_its_last_token_is_over() {
        let set = SigningKeySet { keys: vec![key("a", 0), key("b", 21_600)], next_rotation: at(21_600) };
        let Plan::Generate(set, third) = plan(&set, at(21_600), &POLICY) else { panic!() };
        assert_eq!(third, at(43_200));
        let retired = set.keys.iter().find(|k| k.kid == "a").unwrap();
        assert!(retired.private.is_none());
        let until = retired.verifies_until.unwrap();
        assert!(until >= at(21_600) + POLICY.token_lifetime);
        let set = with_key(set, key("c", 43_200));
        assert_eq!(plan(&set, at(30_000), &POLICY), Plan::Keep);
        let Plan::Generate(set, _) = plan(&set, until, &POLICY) else { panic!() };
        assert!(!set.keys.iter().any(|k| k.kid == "a"));
    }

    #[test]
    fn after_a_long_sleep_the_old_key_signs_until_caches_know_the_new_one() {
        let set = SigningKeySet { keys: vec![key("a", 0)], next_rotation: at(0) };
        let Plan::Generate(set, next) = plan(&set, at(1_000_000), &POLICY) else { panic!() };
        assert_eq!(next, at(1_000_000) + PUBLISH_BEFORE);
        let set = with_key(set, key("b", next.unix_seconds()));
        assert_eq!(signing_at(&set, at(1_000_100)).unwrap().kid, "a");
    }

    #[test]
    fn no_key_ever_signs_that_was_not_published_long_enough() {
        // One day of half-minute checks with a one-hour rotation.
        let policy =
            Policy { rotation: Duration::from_secs(3600), token_lifetime: Duration::from_secs(7200), ..POLICY };
        let mut set = with_key(SigningKeySet::default(), key("k0", 0));
        let mut published = std::collections::HashMap::from([("k0".to_owned(), 0_i64)]);
        let mut last_signed = std::collections::HashMap::new();
        for now in (0..86_400).step_by(30) {
            match plan(&set, at(now), &policy) {
                Plan::Keep => {}
                Plan::Write(next) => set = next,
                Plan::Generate(next, from) => {
                    let kid = format!("k{}", published.len());
                    published.insert(kid.clone(), now);
                    set = with_key(next, key(&kid, from.unix_seconds()));
                }
            }
            let signer = signing_at(&set, at(now)).unwrap().kid.clone();
            assert!(signer == "k0" || now - published[&signer] >= 660, "{signer} signs at {now}");
            last_signed.insert(signer, now);
            for (kid, signed) in &last_signed {
                assert!(now >= signed + 7200 || set.keys.iter().any(|k| k.kid == *kid), "{kid} is gone at {now}");
            }
            assert!(set.keys.len() <= 5);
        }
        assert!(last_signed.len() >= 23);
    }
}
