//! An answer of an issuer's discovery endpoint: the client's reading of it never panics, and takes no document that speaks
//! for another issuer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_oidc::client::read_discovery;

const ISSUER: &str = "https://issuer.example";

fuzz_target!(|data: &[u8]| {
    if let Ok(document) = read_discovery(ISSUER, "application/json", data) {
        assert_eq!(document.issuer, ISSUER);
        let _ = document.supports_s256();
    }
});
