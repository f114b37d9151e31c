//! A discovery document from an issuer: reading never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_oidc::DiscoveryDocument;

fuzz_target!(|data: &[u8]| {
    if let Ok(document) = serde_json::from_slice::<DiscoveryDocument>(data) {
        let _ = document.supports_s256();
    }
});
