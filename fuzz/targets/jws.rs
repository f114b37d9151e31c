//! A compact JWS from anybody: parsing never panics, and nothing unsigned is ever verified.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_jose::{CompactJws, JwkSet, Limits};

fuzz_target!(|data: &str| {
    let Ok(jws) = CompactJws::parse(data, &Limits::default()) else { return };
    let _ = (jws.algorithm(), jws.kid(), jws.typ(), jws.unverified_payload());
    assert!(jws.verify(&JwkSet::from_keys(Vec::new())).is_err());
});
