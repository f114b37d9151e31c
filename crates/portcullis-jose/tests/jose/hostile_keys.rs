//! Keys and key sets that must not be used, and what they do to their neighbours.

use portcullis_jose::{
    JoseError, JwkSet, Limits, PublicJwk, SigningKey, UnknownKeys, base64url_decode, base64url_encode,
};
use serde_json::{Value, json};

use crate::support::{ED, P256, P384, RSA};

fn parse(key: &Value) -> Result<(), JoseError> {
    PublicJwk::parse(key.to_string().as_bytes(), &Limits::default()).map(|_| ())
}

fn parse_set(keys: &[Value], unknown: UnknownKeys) -> Result<(usize, usize), JoseError> {
    let document = json!({ "keys": keys }).to_string();
    JwkSet::parse(document.as_bytes(), unknown, &Limits::default()).map(|set| (set.keys().len(), set.skipped()))
}

fn with(key: &SigningKey, member: &str, value: impl Into<Value>) -> Value {
    let mut json = key.public().to_json();
    json[member] = value.into();
    json
}

fn without(key: &SigningKey, member: &str) -> Value {
    let mut json = key.public().to_json();
    json.as_object_mut().unwrap().remove(member);
    json
}

fn modulus(bytes: usize, first: u8, last: u8) -> String {
    let mut n = vec![0x55; bytes];
    (n[0], n[bytes - 1]) = (first, last);
    base64url_encode(&n)
}

#[test]
fn malformed_keys_are_refused_with_the_reason() {
    let x = base64url_decode(P256.public().to_json()["x"].as_str().unwrap()).unwrap();
    let mut off_curve = x.clone();
    off_curve[31] ^= 1;
    let long = [&[0][..], &x].concat();
    let cases: Vec<(Value, JoseError)> = vec![
        (json!([]), JoseError::KeyJson),
        (json!("x"), JoseError::KeyJson),
        (json!({}), JoseError::UnknownKeyType(String::new())),
        (json!({"kty": 1}), JoseError::KeyJson),
        (json!({"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA"}), JoseError::UnknownKeyType("AKP".into())),
        (json!({"kty": "oct", "k": "AAAA"}), JoseError::UnknownKeyType("oct".into())),
        (json!({"kty": "rsa", "n": "AQAB", "e": "AQAB"}), JoseError::UnknownKeyType("rsa".into())),
        (json!({"kty": "OKP", "crv": "Ed448", "x": "AA"}), JoseError::UnknownCurve("Ed448".into())),
        (json!({"kty": "OKP", "crv": "X25519", "x": "AA"}), JoseError::UnknownCurve("X25519".into())),
        (json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}), JoseError::UnknownCurve("secp256k1".into())),
        (json!({"kty": "EC", "x": "AA", "y": "AA"}), JoseError::UnknownCurve(String::new())),
        (without(&RSA, "n"), JoseError::MissingKeyMember("n")),
        (without(&RSA, "e"), JoseError::MissingKeyMember("e")),
        (without(&P256, "x"), JoseError::MissingKeyMember("x")),
        (without(&P256, "y"), JoseError::MissingKeyMember("y")),
        (without(&ED, "x"), JoseError::MissingKeyMember("x")),
        (with(&RSA, "n", "not base64url!"), JoseError::KeyMember("n")),
        (with(&RSA, "e", "AQAB="), JoseError::KeyMember("e")),
        (with(&RSA, "n", 3), JoseError::KeyJson),
        (with(&RSA, "kid", 3), JoseError::KeyJson),
        (with(&RSA, "n", ""), JoseError::RsaModulusSize { bits: 0 }),
        (with(&RSA, "n", modulus(128, 0x80, 1)), JoseError::RsaModulusSize { bits: 1024 }),
        (with(&RSA, "n", modulus(256, 0x7f, 1)), JoseError::RsaModulusSize { bits: 2047 }),
        (with(&RSA, "n", modulus(1025, 0x01, 1)), JoseError::RsaModulusSize { bits: 8193 }),
        (with(&RSA, "n", modulus(256, 0x80, 2)), JoseError::InvalidKey),
        (with(&RSA, "e", "AQ"), JoseError::InvalidKey),
        (with(&RSA, "e", "Ag"), JoseError::InvalidKey),
        (with(&RSA, "e", ""), JoseError::InvalidKey),
        (with(&RSA, "e", base64url_encode(&[2, 0, 0, 0, 1])), JoseError::InvalidKey),
        (with(&RSA, "e", base64url_encode(&[1, 0, 0, 0, 0, 1])), JoseError::InvalidKey),
        (with(&P256, "x", base64url_encode(&x[1..])), JoseError::KeyMember("x")),
        (with(&P256, "x", base64url_encode(&long)), JoseError::KeyMember("x")),
        (with(&P256, "x", base64url_encode(&off_curve)), JoseError::InvalidKey),
        (with(&P256, "y", base64url_encode(&[0; 32])), JoseError::InvalidKey),
        (with(&P256, "crv", "P-384"), JoseError::KeyMember("x")),
        (with(&ED, "x", base64url_encode(&[1; 31])), JoseError::KeyMember("x")),
        (with(&ED, "x", base64url_encode(&[1; 33])), JoseError::KeyMember("x")),
        (with(&RSA, "kid", "k".repeat(513)), JoseError::KidTooLong { limit: 512 }),
    ];
    for (key, expected) in cases {
        assert_eq!(parse(&key), Err(expected), "{key}");
    }
    assert_eq!(parse(&with(&RSA, "kid", "k".repeat(512))), Ok(()));
    assert_eq!(parse(&with(&RSA, "n", modulus(1024, 0x80, 1))), Ok(()));
    let listed = br#"["OKP",null,null,null,"Ed25519","11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",null,null,null,null,null,null,null,null,null,null,null]"#;
    assert_eq!(PublicJwk::parse(listed, &Limits::default()).err(), Some(JoseError::KeyJson));
    let twice = br#"{"kty":"OKP","crv":"Ed25519","x":"AA","x":"AA"}"#;
    assert_eq!(PublicJwk::parse(twice, &Limits::default()).err(), Some(JoseError::KeyJson));
}

#[test]
fn leading_zeros_of_an_rsa_modulus_are_tolerated_and_not_written() {
    let n = base64url_decode(RSA.public().to_json()["n"].as_str().unwrap()).unwrap();
    let padded = with(&RSA, "n", base64url_encode(&[&[0, 0][..], &n].concat()));
    let key = PublicJwk::parse(padded.to_string().as_bytes(), &Limits::default()).unwrap();
    assert_eq!(key.thumbprint(), RSA.public().thumbprint());
    assert_eq!(key, *RSA.public());
    assert_ne!(key, *P256.public());
}

/// Case family 65 of the kube-apiserver comparison, and its neighbours.
#[test]
fn unknown_keys_are_skipped_or_spoil_the_set_as_go_jose_does() {
    let good = RSA.public().to_json();
    let spoils = [
        json!({"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA"}),
        json!({"kty": "OKP", "crv": "Ed448", "x": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
        json!({"kty": "oct"}),
        json!({"kty": "RSA", "e": "AQAB"}),
        json!({}),
        json!(null),
        json!("RSA"),
        without(&P256, "y"),
        with(&P256, "crv", "P-384"),
        with(&P256, "x", base64url_encode(&[7; 32])),
        with(&RSA, "n", "not base64url!"),
        with(&RSA, "n", 3),
        with(&RSA, "d", "AQAB"),
    ];
    for key in spoils {
        let keys = [good.clone(), key.clone()];
        assert_eq!(parse_set(&keys, UnknownKeys::Skip), Ok((1, 1)), "{key}");
        assert!(parse_set(&keys, UnknownKeys::RejectSet).is_err(), "{key}");
    }
    let harmless = [
        json!({"kty": "oct", "k": "AAAA"}),
        with(&RSA, "n", modulus(128, 0x80, 1)),
        with(&RSA, "e", "Ag"),
        with(&ED, "x", base64url_encode(&[1; 31])),
        with(&RSA, "kid", "k".repeat(513)),
    ];
    for key in harmless {
        let keys = [good.clone(), key.clone()];
        assert_eq!(parse_set(&keys, UnknownKeys::Skip), Ok((1, 1)), "{key}");
        assert_eq!(parse_set(&keys, UnknownKeys::RejectSet), Ok((1, 1)), "{key}");
    }
    let error = parse_set(&[json!({"kty": "AKP"})], UnknownKeys::RejectSet).unwrap_err();
    assert_eq!(error.to_string(), "unknown json web key type 'AKP'");
}

#[test]
fn a_published_private_key_verifies_nothing() {
    for unknown in [UnknownKeys::Skip, UnknownKeys::RejectSet] {
        for (public, d) in [(P384.public(), vec![1; 48]), (RSA.public(), vec![1; 256]), (ED.public(), vec![1; 32])] {
            let mut key = public.to_json();
            key["d"] = base64url_encode(&d).into();
            (key["p"], key["q"]) = (json!("AQ"), json!("AQ"));
            // Neither it nor, by mistake, another key of the set.
            assert_eq!(parse_set(&[key, P256.public().to_json()], unknown), Ok((1, 1)));
        }
    }
}

#[test]
fn documents_that_are_no_key_set_are_refused() {
    for unknown in [UnknownKeys::Skip, UnknownKeys::RejectSet] {
        for document in [
            "",
            "[]",
            "{",
            r#"{"keys":{}}"#,
            r#"{"keys":"x"}"#,
            r#"{"keys":[]} x"#,
            r#"{"keys":[],"keys":[]}"#,
            r#"{"keys":[}"#,
        ] {
            let outcome = JwkSet::parse(document.as_bytes(), unknown, &Limits::default()).map(|_| ());
            assert_eq!(outcome, Err(JoseError::SetJson), "{document}");
        }
        let empty = JwkSet::parse(br#"{"x":1,"keys":[]}"#, unknown, &Limits::default()).unwrap();
        assert!(empty.keys().is_empty());
    }
    for document in ["null", "{}", r#"{"keys":null}"#] {
        let parse =
            |unknown| JwkSet::parse(document.as_bytes(), unknown, &Limits::default()).map(|set| set.keys().len());
        assert_eq!(parse(UnknownKeys::Skip), Err(JoseError::SetJson));
        assert_eq!(parse(UnknownKeys::RejectSet), Ok(0));
    }
}

#[test]
fn sets_are_bounded_in_size_and_number() {
    let limits = Limits { set_keys: 2, ..Limits::default() };
    let parse = |count: usize, limits: &Limits| {
        let document = json!({ "keys": vec![json!({"kty": "new"}); count] }).to_string();
        JwkSet::parse(document.as_bytes(), UnknownKeys::Skip, limits).map(|set| set.skipped())
    };
    assert_eq!(parse(2, &limits), Ok(2));
    assert_eq!(parse(3, &limits), Err(JoseError::TooManyKeys { limit: 2 }));
    assert_eq!(parse(100, &Limits::default()), Ok(100));
    assert_eq!(parse(101, &Limits::default()), Err(JoseError::TooManyKeys { limit: 100 }));
    let document = br#"{"keys":[]}"#;
    let parse = |limit| JwkSet::parse(document, UnknownKeys::Skip, &Limits { set_bytes: limit, ..Limits::default() });
    assert!(parse(document.len()).is_ok());
    assert_eq!(parse(document.len() - 1).err(), Some(JoseError::SetTooLarge { limit: document.len() - 1 }));
}

#[test]
fn private_keys_that_do_not_fit_together_are_refused() {
    let rfc: Vec<Value> = serde_json::from_str(include_str!("rfc_vectors.json")).unwrap();
    let key = |source: &str| rfc.iter().find(|vector| vector["source"] == source).unwrap()["jwk"].clone();
    let (rsa, ec, ed) = (key("RFC 7515 A.2"), key("RFC 7515 A.3"), key("RFC 8037 A"));
    let read = |json: &Value| SigningKey::from_jwk(json.to_string().as_bytes()).map(|_| ());
    let set = |key: &Value, member: &str, value: Value| {
        let mut key = key.clone();
        key[member] = value;
        read(&key)
    };
    let drop = |key: &Value, member: &str| {
        let mut key = key.clone();
        key.as_object_mut().unwrap().remove(member);
        read(&key)
    };
    assert_eq!((read(&rsa), read(&ec), read(&ed)), (Ok(()), Ok(()), Ok(())));
    for member in ["d", "p", "q", "dp", "dq", "qi"] {
        assert!(matches!(drop(&rsa, member), Err(JoseError::MissingKeyMember(_))), "{member}");
        assert!(set(&rsa, member, "AQAB".into()).is_err(), "{member}");
    }
    assert_eq!(set(&rsa, "oth", json!([])), Err(JoseError::KeyMember("oth")));
    assert_eq!(set(&rsa, "n", RSA.public().to_json()["n"].clone()), Err(JoseError::InvalidKey));
    assert_eq!(drop(&ec, "d"), Err(JoseError::MissingKeyMember("d")));
    assert_eq!(set(&ec, "d", base64url_encode(&[1; 32]).into()), Err(JoseError::InvalidKey));
    assert_eq!(set(&ec, "d", base64url_encode(&[1; 31]).into()), Err(JoseError::KeyMember("d")));
    assert_eq!(set(&ec, "d", base64url_encode(&[0; 32]).into()), Err(JoseError::InvalidKey));
    assert_eq!(drop(&ed, "d"), Err(JoseError::MissingKeyMember("d")));
    assert_eq!(set(&ed, "d", base64url_encode(&[1; 32]).into()), Err(JoseError::InvalidKey));
    assert_eq!(set(&ed, "d", base64url_encode(&[1; 33]).into()), Err(JoseError::KeyMember("d")));
    assert_eq!(read(&json!({"kty": "oct", "k": "AAAA"})), Err(JoseError::UnknownKeyType("oct".into())));
}

#[test]
fn private_key_files_of_other_kinds_are_refused() {
    for pem in [
        "",
        "x",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ] {
        assert_eq!(SigningKey::from_pkcs8_pem(pem, "k".into()).err(), Some(JoseError::PrivateKeyFormat), "{pem}");
    }
    let der = P256.to_pkcs8_der().unwrap();
    for length in [0, 1, der.len() / 2, der.len() - 1] {
        assert!(SigningKey::from_pkcs8_der(&der[..length], "k".into()).is_err());
    }
    let long = SigningKey::from_pkcs8_der(&der, "k".repeat(513));
    assert_eq!(long.err(), Some(JoseError::KidTooLong { limit: 512 }));
}
