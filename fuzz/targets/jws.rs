//! A compact JWS from anybody: parsing never panics, and the one thing that the key of RFC 7515 A.2 has ever signed is what
//! verifies under it; without keys nothing does.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_jose::{CompactJws, JwkSet, Limits, UnknownKeys, base64url_decode};

/// RFC 7515 A.2.1: key and payload.
const KEYS: &str = r#"{"keys": [{"kty": "RSA", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ", "e": "AQAB"}]}"#;
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

static SET: LazyLock<JwkSet> = LazyLock::new(|| JwkSet::parse(KEYS.as_bytes(), UnknownKeys::RejectSet, &Limits::default()).expect("keys"));

fuzz_target!(|data: &str| {
    let Ok(jws) = CompactJws::parse(data, &Limits::default()) else { return };
    let _ = (jws.algorithm(), jws.kid(), jws.typ(), jws.unverified_payload());
    assert!(jws.verify(&JwkSet::from_keys(Vec::new())).is_err());
    let Ok(jws) = CompactJws::parse(data, &Limits::default()) else { return };
    if let Ok(verified) = jws.verify(&*SET) {
        assert_eq!(verified.bytes(), base64url_decode(PAYLOAD).expect("base64").as_slice());
    }
});
