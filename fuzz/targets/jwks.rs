//! A key set from an issuer: parsing never panics, and what is written again is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_jose::{JwkSet, Limits, UnknownKeys};

fuzz_target!(|data: &[u8]| {
    let _ = JwkSet::parse(data, UnknownKeys::RejectSet, &Limits::default());
    let Ok(set) = JwkSet::parse(data, UnknownKeys::Skip, &Limits::default()) else { return };
    let again = JwkSet::parse(set.to_json_string().as_bytes(), UnknownKeys::RejectSet, &Limits::default()).expect("our own output");
    assert_eq!(again.keys().len(), set.keys().len());
});
