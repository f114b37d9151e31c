//! How long things live: `expiry`, `signer`, and the delays of `portcullis.passwords`.

use std::time::Duration;

use portcullis_jose::KeyKind;

use super::duration::parse_duration;
use super::raw::{RawConfig, RawExpiry, RawOwn};
use super::reader::Field;
use super::settings::{Attempts, Expiry, RefreshPolicy, Signer};
use super::validate::{Findings, text};
use crate::signer::PUBLISH_BEFORE;

/// How long a person may take to sign in (design.md decision 1).
const FLOW_LIFETIME: Duration = Duration::from_secs(15 * 60);

pub(super) fn expiry(raw: &RawExpiry, f: &mut Findings<'_>) -> Expiry {
    let mut read = |field: &Option<Field<String>>, prefix: &dyn Fn(&str) -> String| -> Option<Duration> {
        let field = field.as_ref().filter(|x| !x.value.is_empty())?;
        match parse_duration(&field.value) {
            Ok(duration) => Some(duration),
            Err(error) => {
                f.value(
                    &field.place,
                    format!("{}: {error}", prefix(&field.value)),
                    "write a duration such as 30m, 8h or 720h; there is no unit for days",
                );
                None
            }
        }
    };
    let named = |what: &'static str| move |v: &str| format!("invalid config value {v:?} for {what} expiry");
    let refresh = |_: &str| "invalid refresh token expiration policy config".to_owned();
    let id_tokens = read(&raw.id_tokens, &named("id token"));
    let auth_requests = read(&raw.auth_requests, &named("auth request"));
    read(&raw.device_requests, &named("device request"));
    let reuse_interval = read(&raw.reuse_interval, &refresh);
    let absolute_lifetime = read(&raw.absolute_lifetime, &refresh);
    let valid_if_not_used_for = read(&raw.valid_if_not_used_for, &refresh);
    if id_tokens.is_some_and(|d| d < Duration::from_secs(1))
        && let Some(field) = &raw.id_tokens
    {
        f.value(&field.place, "tokens must live for at least a second", "write a duration such as 8h");
    }
    if auth_requests.is_some_and(|d| d > FLOW_LIFETIME)
        && let Some(field) = &raw.auth_requests
    {
        f.notice(&field.place, "a sign-in may take at most 15 minutes here; longer values count as 15m", "");
    }
    Expiry {
        id_tokens: id_tokens.unwrap_or(Duration::from_secs(24 * 3600)),
        auth_requests: auth_requests.filter(|d| !d.is_zero()).unwrap_or(FLOW_LIFETIME).min(FLOW_LIFETIME),
        refresh: RefreshPolicy {
            rotate: !raw.disable_rotation.as_ref().is_some_and(|b| b.value),
            reuse_interval,
            absolute_lifetime: absolute_lifetime.filter(|d| !d.is_zero()),
            valid_if_not_used_for,
        },
    }
}

pub(super) fn signer(raw: &RawConfig, f: &mut Findings<'_>) -> Signer {
    let hint = "write a duration such as 6h";
    let mut rotation = None;
    let mut kind = KeyKind::Rsa2048;
    let old = raw.expiry.signing_keys.as_ref().filter(|k| !k.value.is_empty());
    let from_expiry = old.and_then(|field| {
        parse_duration(&field.value)
            .map_err(|e| {
                f.value(
                    &field.place,
                    format!("invalid config value {:?} for signing keys expiry: {e}", field.value),
                    hint,
                )
            })
            .ok()
    });
    if let Some(signer) = &raw.signer {
        match text(signer.kind.as_ref()) {
            "" => {}
            "local" => {
                let period = signer.keys_rotation_period.as_ref().map(|field| (field, f.expand(&field.value)));
                match period.filter(|(_, text)| !text.is_empty()) {
                    None => f.value(
                        &signer.place,
                        "failed to open local signer: signer.config.keysRotationPeriod must be specified",
                        "add `keysRotationPeriod: 6h` under `signer.config`",
                    ),
                    Some((field, text)) => match parse_duration(&text) {
                        Ok(duration) => rotation = Some(duration),
                        Err(error) => f.value(
                            &field.place,
                            format!("invalid config value {text:?} for local signer rotation period: {error}"),
                            hint,
                        ),
                    },
                }
                if let (Some(old), Some(_)) = (old, rotation) {
                    f.notice(
                        &old.place,
                        "signer.config.keysRotationPeriod counts instead",
                        "remove `expiry.signingKeys`",
                    );
                }
                match f.expand(text(signer.algorithm.as_ref())).as_str() {
                    "" | "RS256" => {}
                    "ES256" => kind = KeyKind::P256,
                    other => {
                        let place = signer.algorithm.as_ref().map_or(&signer.place, |a| &a.place);
                        f.value(
                            place,
                            format!("parse signer config: unsupported local signer algorithm {other:?}"),
                            "use RS256 or ES256",
                        );
                    }
                }
            }
            "vault" => f.unsupported(
                &signer.place,
                "the vault signer is not served yet",
                "use `type: local` with `config: {keysRotationPeriod: 6h}`",
            ),
            other => f.value(&signer.place, format!("unknown signer type {other:?}"), "use `type: local`"),
        }
    }
    let rotation = rotation.or(from_expiry).unwrap_or(Duration::from_secs(6 * 3600));
    if rotation < Duration::from_secs(60) {
        let place = old.map_or_else(|| f.whole_file(), |o| o.place.clone());
        f.value(&place, "signing keys must live for at least a minute", hint);
    }
    if rotation < PUBLISH_BEFORE {
        let place = old.map_or_else(|| f.whole_file(), |o| o.place.clone());
        let least = PUBLISH_BEFORE.as_secs() / 60;
        f.notice(
            &place,
            format!("a key is published for {least} minutes before it signs, so keys change no faster"),
            "",
        );
    }
    Signer { kind, rotation }
}

pub(super) fn attempts(raw: &RawOwn, f: &mut Findings<'_>) -> Attempts {
    let d = Attempts::default();
    let mut number = |field: &Option<Field<i64>>, default: usize, low: i64, high: i64| -> usize {
        let Some(field) = field else { return default };
        if !(low..=high).contains(&field.value) {
            f.value(&field.place, format!("must be from {low} to {high}"), "");
            return default;
        }
        usize::try_from(field.value).unwrap_or(default)
    };
    let max_failures = number(&raw.max_failures, d.max_failures as usize, 1, 1000);
    let per_minute = number(&raw.attempts_per_minute, d.per_minute as usize, 1, 100_000);
    let hash_workers = number(&raw.hash_workers, d.hash_workers, 0, 256);
    let hash_queue = number(&raw.hash_queue, d.hash_queue, 1, 100_000);
    let mut time = |field: &Option<Field<String>>, default: Duration, low: u64, high: u64| -> Duration {
        let Some(field) = field else { return default };
        match parse_duration(&field.value) {
            Ok(duration) if (Duration::from_secs(low)..=Duration::from_secs(high)).contains(&duration) => duration,
            Ok(_) => {
                f.value(&field.place, format!("must be from {low}s to {high}s"), "");
                default
            }
            Err(error) => {
                f.value(&field.place, error.to_string(), "write a duration such as 5m");
                default
            }
        }
    };
    Attempts {
        max_failures: u32::try_from(max_failures).unwrap_or(d.max_failures),
        window: time(&raw.failure_window, d.window, 1, 86_400),
        max_delay: time(&raw.max_delay, d.max_delay, 1, 600),
        per_minute: u32::try_from(per_minute).unwrap_or(d.per_minute),
        hash_workers,
        hash_queue,
    }
}
