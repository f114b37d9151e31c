//! A key set from an issuer: parsing never panics, says why not in a text of bounded length, and what is written again is read as
//! the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_jose::{JwkSet, Limits, UnknownKeys};

fuzz_target!(|data: &[u8]| {
    if let Err(error) = JwkSet::parse(data, UnknownKeys::RejectSet, &Limits::default()) {
        assert!(error.to_string().len() < 1024, "{error}");
    }
    let Ok(set) = JwkSet::parse(data, UnknownKeys::Skip, &Limits::default()) else { return };
    let again = JwkSet::parse(set.to_json_string().as_bytes(), UnknownKeys::RejectSet, &Limits::default()).expect("our own output");
    assert_eq!(again.keys().len(), set.keys().len());
    for (key, again) in set.keys().iter().zip(again.keys()) {
        assert_eq!((key, key.thumbprint()), (again, again.thumbprint()));
        // A signature of nothing is nobody's, whatever the key.
        for algorithm in key.algorithms() {
            assert!(key.verify(*algorithm, b"message", &[0; 64]).is_err());
        }
    }
});
