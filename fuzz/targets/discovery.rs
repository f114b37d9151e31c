//! An answer of an issuer's discovery endpoint: the client's reading of it never panics, takes no document that speaks for
//! another issuer, and says why in a text of bounded length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_oidc::client::read_discovery;

const ISSUER: &str = "https://issuer.example";

fuzz_target!(|data: &[u8]| {
    match read_discovery(ISSUER, "application/json", data) {
        Ok(document) => {
            assert_eq!(document.issuer, ISSUER);
            let _ = document.supports_s256();
        }
        Err(error) => assert!(error.to_string().len() < 8 * 1024, "{error}"),
    }
    // The content type is the issuer's as well.
    let content_type = String::from_utf8_lossy(data);
    let error = read_discovery(ISSUER, &content_type, b"<html>").expect_err("a page");
    assert!(error.to_string().len() < 8 * 1024, "{error}");
});
