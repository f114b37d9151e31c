//! The claims of a token whose signature counts as good: the authenticator's reading of them never panics, and a user
//! comes only of a token for our issuer and audience.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use portcullis_authn::{Authenticator, OidcFlags, Options, Verdict};
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
static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    let arguments = ["--oidc-issuer-url=https://i", "--oidc-client-id=c", "--oidc-username-claim=email", "--oidc-groups-claim=groups", "--oidc-required-claim=hd=x"];
    let (flags, _) = OidcFlags::parse(arguments).expect("good flags");
    let config = flags.config(&[]).expect("good flags").expect("OIDC is on");
    let (clock, _) = Clock::mock(1_700_000_000);
    let keys: Arc<dyn KeySource> = Arc::new(StaticKeys(Trusting));
    Authenticator::with_key_sources([(config, keys)], Options { cache_bytes: 0, ..Options::new(clock) })
});

fuzz_target!(|claims: &[u8]| {
    let token = format!("{}.{}.{}", base64url_encode(br#"{"alg":"RS256"}"#), base64url_encode(claims), base64url_encode(b"signature"));
    if let Verdict::User(user) = RUNTIME.block_on(AUTHENTICATOR.authenticate(&token)) {
        let text = String::from_utf8_lossy(claims).to_lowercase();
        // Escapes may hide the letters; where there are none, the claims that were checked must be there.
        if !text.contains('\\') {
            assert!(text.contains("https://i") && text.contains("hd") && text.contains("email"));
        }
        assert_eq!(user.issuer(), "https://i");
    }
});
