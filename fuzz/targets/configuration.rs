//! An AuthenticationConfiguration from an administrator: reading, checking and compiling it never panics and takes bounded
//! memory; one that is refused says why; one that is accepted is accepted again in its own place, and its issuers judge a token.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use portcullis_authn::{Authenticator, MAX_ISSUERS, Options, TrustConfiguration, Verdict};
use portcullis_fuzz::Limit;
use portcullis_jose::{CompactJws, JoseError, SignatureVerifier, base64url_encode};
use portcullis_oidc::client::{KeySource, StaticKeys};
use portcullis_runtime::Clock;
use serde_json::json;

/// Memory that an input may take, in bytes: expressions of 64 issuers, each with its compiled patterns.
const MEMORY: usize = 256 << 20;

/// Trusts every signature, so that the rules are reached.
struct Trusting;

impl SignatureVerifier for Trusting {
    fn verify_signature(&self, _jws: &CompactJws<'_>) -> Result<(), JoseError> {
        Ok(())
    }
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));

fuzz_target!(|data: &[u8]| {
    let _limit = Limit::of(MEMORY + 64 * data.len());
    let trust = match TrustConfiguration::load(data, &[]) {
        Ok(trust) => trust,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "what is refused says why");
            return;
        }
    };
    assert!(trust.issuers().len() <= MAX_ISSUERS);
    assert_eq!(trust.reload(data, &[]).as_ref(), Ok(&trust), "what the server started with is no change");
    let Some(first) = trust.issuers().first() else { return };
    let (issuer, audience) = (first.config().issuer_url.clone(), first.config().audiences.first().cloned());
    let keys: Arc<dyn KeySource> = Arc::new(StaticKeys(Trusting));
    let issuers = trust.issuers().iter().map(|valid| (valid.clone(), Arc::clone(&keys)));
    let options = Options { cache_bytes: 0, ..Options::new(Clock::mock(1_700_000_000).0) };
    let authenticator = Authenticator::with_key_sources(issuers.collect::<Vec<_>>(), options);
    let claims = json!({
        "iss": issuer, "aud": audience, "exp": 1_999_999_999, "sub": "s", "email": "a@b.c", "email_verified": true,
        "groups": ["g", "h"], "roles": "r,s", "hd": "x", "nested": {"a.b": [1, null, {"c": true}]},
    });
    let token = |claims: &[u8]| format!("{}.{}.{}", base64url_encode(br#"{"alg":"RS256"}"#), base64url_encode(claims), base64url_encode(b"signature"));
    if let Verdict::User(user) = RUNTIME.block_on(authenticator.authenticate(&token(claims.to_string().as_bytes()))) {
        assert_eq!(user.issuer(), issuer);
    }
});
