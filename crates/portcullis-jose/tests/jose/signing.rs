//! What is signed and what is shown of a signing key.

use portcullis_jose::{Algorithm, KeyKind, Limits, PublicJwk, SigningKey, base64url_decode, sign_compact};

use crate::support::{ED, P256, P384, P521, PAYLOAD, RSA};

#[test]
fn the_header_has_alg_and_kid_and_typ_only_on_request() {
    let header = |typ| {
        let token = sign_compact(&P256, Algorithm::Es256, typ, PAYLOAD).unwrap();
        String::from_utf8(base64url_decode(token.split('.').next().unwrap()).unwrap()).unwrap()
    };
    assert_eq!(header(None), r#"{"alg":"ES256","kid":"p256"}"#);
    assert_eq!(header(Some("at+jwt")), r#"{"alg":"ES256","kid":"p256","typ":"at+jwt"}"#);
}

#[test]
fn public_halves_carry_the_members_that_dex_publishes_in_its_order() {
    let order = |key: &SigningKey| {
        let json = key.public().to_json();
        json.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(",")
    };
    assert_eq!(order(&RSA), "use,kty,kid,alg,n,e");
    assert_eq!(order(&P256), "use,kty,kid,alg,crv,x,y");
    assert_eq!(order(&ED), "use,kty,kid,alg,crv,x");
    assert_eq!(RSA.public().to_json()["e"], "AQAB");
    for (key, alg) in [(&RSA, "RS256"), (&P256, "ES256"), (&P384, "ES384"), (&P521, "ES512"), (&ED, "EdDSA")] {
        assert_eq!((key.public().alg(), key.public().use_()), (Some(alg), Some("sig")));
        assert_eq!(key.default_algorithm().name(), alg);
        let json = key.public().to_json().to_string();
        let again = PublicJwk::parse(json.as_bytes(), &Limits::default()).unwrap();
        assert_eq!((again.to_json().to_string(), again.thumbprint()), (json, key.public().thumbprint()));
    }
}

#[test]
fn fixed_ecdsa_signatures_have_the_full_length_always() {
    // One signature in 128 has a leading zero byte in r or s; the length must not follow it.
    for _ in 0..400 {
        assert_eq!(P256.sign(Algorithm::Es256, PAYLOAD).unwrap().len(), 64);
    }
    assert_eq!(P384.sign(Algorithm::Es384, PAYLOAD).unwrap().len(), 96);
    assert_eq!(P521.sign(Algorithm::Es512, PAYLOAD).unwrap().len(), 132);
}

#[test]
fn larger_rsa_keys_are_generated_as_asked() {
    let key = SigningKey::generate(KeyKind::Rsa3072, "big".into()).unwrap();
    assert_eq!(key.sign(Algorithm::Rs256, PAYLOAD).unwrap().len(), 384);
}

#[test]
fn debug_output_shows_nothing_private() {
    let shown = format!("{:?}", *RSA);
    assert_eq!(shown, r#"SigningKey { kid: "rsa", algorithm: Rs256, .. }"#);
}
