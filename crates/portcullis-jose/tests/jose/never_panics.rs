//! Arbitrary input is answered, never met with a panic; and what was verified is what was signed.

use portcullis_jose::{
    Algorithm, CompactJws, JwkSet, Limits, PublicJwk, SigningKey, UnknownKeys, base64url_decode, base64url_encode,
    sign_compact,
};
use proptest::prelude::*;

use crate::support::{ED, P256, PAYLOAD, RSA, set};

/// Text that looks like a token more often than chance would.
fn token_like() -> impl Strategy<Value = String> {
    let header = prop_oneof![
        Just(r#"{"alg":"RS256","kid":"rsa"}"#.to_owned()),
        Just(r#"{"alg":"EdDSA"}"#.to_owned()),
        r#"\{("(alg|kid|typ|crit|jwk)":("RS256"|null|1|\[\]|\{\}),?){0,4}\}?"#,
        ".{0,40}",
    ];
    let part = "[A-Za-z0-9_-]{0,40}={0,2}";
    prop_oneof![
        (header, part, part).prop_map(|(h, p, s)| format!("{}.{p}.{s}", base64url_encode(h.as_bytes()))),
        "[A-Za-z0-9._=-]{0,80}",
        ".{0,80}",
    ]
}

fn jwk_like() -> impl Strategy<Value = String> {
    let number = prop_oneof!["[A-Za-z0-9_-]{0,60}", Just("AQAB".to_owned()), Just(base64url_encode(&[0x81; 256]))];
    let kind = prop_oneof!["RSA|EC|OKP|oct|x", ".{0,4}"];
    let curve = prop_oneof!["P-256|P-384|P-521|Ed25519", ".{0,4}"];
    (kind, curve, number.clone(), number.clone(), number).prop_map(|(kty, crv, a, b, c)| {
        serde_json::json!({"kty": kty, "crv": crv, "n": a, "e": b, "x": a, "y": b, "d": c, "p": c, "q": c, "dp": c, "dq": c, "qi": c, "kid": c})
            .to_string()
    })
}

proptest! {
    #[test]
    fn tokens(token in token_like()) {
        if let Ok(jws) = CompactJws::parse(&token, &Limits::default()) {
            let _ = (jws.algorithm(), jws.kid(), jws.typ(), jws.unverified_payload());
            prop_assert!(jws.verify(&set(&[&RSA, &P256, &ED])).is_err());
        }
    }

    #[test]
    fn mutated_tokens_never_verify(position in 0_usize..400, byte in any::<u8>()) {
        static TOKEN: std::sync::LazyLock<String> =
            std::sync::LazyLock::new(|| sign_compact(&RSA, Algorithm::Rs256, None, PAYLOAD).unwrap());
        let mut bytes = TOKEN.clone().into_bytes();
        let position = position % bytes.len();
        prop_assume!(bytes[position] != byte);
        bytes[position] = byte;
        if let Ok(token) = std::str::from_utf8(&bytes)
            && let Ok(jws) = CompactJws::parse(token, &Limits::default())
        {
            prop_assert!(jws.verify(&set(&[&RSA])).is_err());
        }
    }

    #[test]
    fn keys(json in jwk_like()) {
        let _ = PublicJwk::parse(json.as_bytes(), &Limits::default());
        let _ = SigningKey::from_jwk(json.as_bytes());
        let document = format!(r#"{{"keys":[{json},{json}]}}"#);
        for unknown in [UnknownKeys::Skip, UnknownKeys::RejectSet] {
            let _ = JwkSet::parse(document.as_bytes(), unknown, &Limits::default());
        }
    }

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = PublicJwk::parse(&bytes, &Limits::default());
        let _ = JwkSet::parse(&bytes, UnknownKeys::Skip, &Limits::default());
        let _ = SigningKey::from_pkcs8_der(&bytes, String::new());
        let text = String::from_utf8_lossy(&bytes);
        let _ = CompactJws::parse(&text, &Limits::default());
        if let Ok(decoded) = base64url_decode(&text) {
            prop_assert_eq!(base64url_encode(&decoded), text);
        }
    }

    #[test]
    fn payloads_come_back_as_they_were_signed(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let token = sign_compact(&ED, Algorithm::EdDsa, None, &payload).unwrap();
        let verified = CompactJws::parse(&token, &Limits::default()).unwrap().verify(&set(&[&ED])).unwrap();
        prop_assert_eq!(verified.bytes(), payload);
    }
}
