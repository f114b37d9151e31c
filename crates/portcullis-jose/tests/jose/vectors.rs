//! Vectors of RFC 7515, 7520, 7638 and 8037, and tokens and keys made with OpenSSL 3.0 (keys made for these tests alone).

use portcullis_jose::{CompactJws, JoseError, JwkSet, Limits, PublicJwk, SigningKey, base64url_encode};
use serde_json::Value;

use crate::support::verify;

fn rfc_vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("rfc_vectors.json")).unwrap()
}

fn openssl_vectors() -> Value {
    serde_json::from_str(include_str!("openssl_vectors.json")).unwrap()
}

#[test]
fn rfc_tokens_verify_with_the_rfc_keys_and_with_no_other() {
    let vectors = rfc_vectors();
    for vector in &vectors {
        let (source, token) = (&vector["source"], vector["token"].as_str().unwrap());
        let key = PublicJwk::parse(vector["jwk"].to_string().as_bytes(), &Limits::default()).unwrap();
        let payload = verify(token, &JwkSet::from_keys(vec![key])).unwrap_or_else(|e| panic!("{source}: {e}"));
        assert_eq!(base64url_encode(&payload), token.split('.').nth(1).unwrap());
        for other in vectors
            .iter()
            .filter(|other| other["jwk"]["n"] != vector["jwk"]["n"] || other["jwk"]["x"] != vector["jwk"]["x"])
        {
            let key = PublicJwk::parse(other["jwk"].to_string().as_bytes(), &Limits::default()).unwrap();
            let jws = CompactJws::parse(token, &Limits::default()).unwrap();
            assert!(jws.verify_with(&key).is_err(), "{source} with the key of {}", other["source"]);
        }
    }
}

#[test]
fn signing_with_rfc_keys_gives_the_rfc_signature_or_one_that_verifies() {
    for vector in rfc_vectors() {
        let (source, token) = (&vector["source"], vector["token"].as_str().unwrap());
        let key =
            SigningKey::from_jwk(vector["jwk"].to_string().as_bytes()).unwrap_or_else(|e| panic!("{source}: {e}"));
        let jws = CompactJws::parse(token, &Limits::default()).unwrap();
        let (input, signature) = token.rsplit_once('.').unwrap();
        let ours = key.sign(jws.algorithm().unwrap(), input.as_bytes()).unwrap();
        if vector["deterministic"].as_bool().unwrap() {
            assert_eq!(base64url_encode(&ours), signature, "{source}");
        }
        let again = format!("{input}.{}", base64url_encode(&ours));
        assert!(CompactJws::parse(&again, &Limits::default()).unwrap().verify_with(key.public()).is_ok(), "{source}");
    }
}

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    let rsa = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    let ed = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let thumbprint = |json: &str| PublicJwk::parse(json.as_bytes(), &Limits::default()).unwrap().thumbprint();
    assert_eq!(thumbprint(rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(thumbprint(ed), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn public_keys_are_written_as_they_were_read_without_their_private_half() {
    for vector in rfc_vectors() {
        let mut expected = vector["jwk"].clone();
        for private in ["d", "p", "q", "dp", "dq", "qi"] {
            expected.as_object_mut().unwrap().remove(private);
        }
        let key = PublicJwk::parse(vector["jwk"].to_string().as_bytes(), &Limits::default()).unwrap();
        assert_eq!(key.to_json(), expected);
        assert!(!format!("{key:?}").contains(vector["jwk"]["d"].as_str().unwrap()));
    }
}

#[test]
fn openssl_signatures_verify_except_in_the_forms_that_jose_forbids() {
    let vectors = openssl_vectors();
    for vector in vectors["tokens"].as_array().unwrap() {
        let name = vector["key"].as_str().unwrap();
        let key = SigningKey::from_pkcs8_pem(vectors["keys"][name].as_str().unwrap(), "ossl".into()).unwrap();
        let jws = CompactJws::parse(vector["token"].as_str().unwrap(), &Limits::default()).unwrap();
        // The bad ones: PSS with the longest salt, ECDSA in ASN.1.
        let expected = if vector["good"].as_bool().unwrap() { Ok(()) } else { Err(JoseError::BadSignature) };
        assert_eq!(jws.verify_with(key.public()), expected, "{name} {}", jws.algorithm_name());
    }
}

#[test]
fn openssl_private_keys_are_read_and_written_back() {
    let vectors = openssl_vectors();
    for (name, pem) in vectors["keys"].as_object().unwrap() {
        let key = SigningKey::from_pkcs8_pem(pem.as_str().unwrap(), name.clone()).unwrap();
        let again = SigningKey::from_pkcs8_der(&key.to_pkcs8_der().unwrap(), name.clone()).unwrap();
        assert_eq!(key.public().thumbprint(), again.public().thumbprint());
    }
    let weak = SigningKey::from_pkcs8_pem(vectors["weak"].as_str().unwrap(), "weak".into());
    assert_eq!(weak.err(), Some(JoseError::PrivateKeyFormat));
}
