//! The claims of a token whose signature counts as good: the authenticator's reading of them never panics, a user comes only
//! of a token for our issuer and audience, and the strict policy only takes users away. The input is also read as a whole token.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use portcullis_authn::{Authenticator, OidcFlags, Options, Policy, Verdict};
use portcullis_jose::{CompactJws, JoseError, SignatureVerifier, base64url_encode};
use portcullis_oidc::client::{KeySource, StaticKeys};
use portcullis_runtime::Clock;

/// Trusts every signature, so that the fuzzer reaches the code behind it.
struct Trusting;

impl SignatureVerifier for Trusting {
    fn verify_signature(&self, _jws: &CompactJws<'_>) -> Result<(), JoseError> {
        Ok(())
    }
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
static FAITHFUL: LazyLock<Authenticator> = LazyLock::new(|| authenticator(Policy::Faithful));
static STRICT: LazyLock<Authenticator> = LazyLock::new(|| authenticator(Policy::Strict));

fn authenticator(policy: Policy) -> Authenticator {
    let arguments = ["--oidc-issuer-url=https://i", "--oidc-client-id=c", "--oidc-username-claim=email", "--oidc-groups-claim=groups", "--oidc-required-claim=hd=x"];
    let (flags, _) = OidcFlags::parse(arguments).expect("good flags");
    let config = flags.config(&[]).expect("good flags").expect("OIDC is on");
    let (clock, _) = Clock::mock(1_700_000_000);
    let keys: Arc<dyn KeySource> = Arc::new(StaticKeys(Trusting));
    Authenticator::with_key_sources([(config, keys)], Options { policy, cache_bytes: 0, ..Options::new(clock) })
}

fn ask(authenticator: &Authenticator, token: &str) -> Verdict {
    let verdict = RUNTIME.block_on(authenticator.authenticate(token));
    if let Verdict::Refused(error) = &verdict {
        assert!(!error.to_string().is_empty(), "what is refused says why");
    }
    verdict
}

fuzz_target!(|claims: &[u8]| {
    let token = format!("{}.{}.{}", base64url_encode(br#"{"alg":"RS256"}"#), base64url_encode(claims), base64url_encode(b"signature"));
    let faithful = ask(&FAITHFUL, &token);
    if let Verdict::User(strict) = ask(&STRICT, &token) {
        assert_eq!(Some(&strict), faithful.user());
    }
    if let Ok(token) = std::str::from_utf8(claims) {
        ask(&FAITHFUL, token);
    }
    if let Verdict::User(user) = faithful {
        assert_eq!(user.issuer(), "https://i");
        // A second reader, where it reads the same: names as they are written, the last of several counts.
        if let Ok(serde_json::Value::Object(read)) = serde_json::from_slice(claims) {
            let said = |name: &str| read.get(name).and_then(serde_json::Value::as_str);
            assert_eq!(said("email"), Some(user.info().username.as_str()));
            assert_eq!(said("hd"), Some("x"));
            assert!(read.get("email_verified").is_none_or(|verified| *verified == true));
            let any = |name: &str, holds: &dyn Fn(&serde_json::Value) -> bool| {
                read.iter().any(|(member, value)| member.eq_ignore_ascii_case(name) && holds(value))
            };
            assert!(any("iss", &|value| *value == "https://i") || read.keys().any(|name| !name.is_ascii()));
            assert!(any("aud", &|value| *value == "c" || value.as_array().is_some_and(|all| all.contains(&"c".into()))));
            assert!(any("exp", &|value| value.is_string() || value.as_f64().is_some_and(|exp| exp >= 1_700_000_000.0)));
            if let Some(groups) = read.get("groups").filter(|groups| !groups.is_null()) {
                let claimed = groups.as_array().map_or(1, Vec::len);
                assert_eq!(user.info().groups.len(), claimed, "{groups}");
            } else {
                assert!(user.info().groups.is_empty());
            }
        }
    }
});
