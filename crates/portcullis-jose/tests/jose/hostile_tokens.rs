//! Tokens that must not verify, each with the reason that is given.

use portcullis_jose::{
    Algorithm, CompactJws, JoseError, JwkSet, KeyHints, Limits, SignatureVerifier, SigningKey, TokenPart,
    base64url_encode, sign_compact,
};

use crate::support::{ED, P256, P384, P521, PAYLOAD, RSA, set, token, verify};

fn good() -> String {
    token(&RSA, Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa"}"#)
}

#[test]
fn every_algorithm_verifies_what_it_signed() {
    let set = set(&[&RSA, &P256, &P384, &P521, &ED]).with_hints(KeyHints::Ignore);
    for key in [&*RSA, &P256, &P384, &P521, &ED] {
        for algorithm in key.public().algorithms() {
            let token = sign_compact(key, *algorithm, Some("JWT"), PAYLOAD).unwrap();
            let jws = CompactJws::parse(&token, &Limits::default()).unwrap();
            assert_eq!((jws.algorithm(), jws.kid(), jws.typ()), (Ok(*algorithm), Some(key.kid()), Some("JWT")));
            assert_eq!(jws.unverified_payload(), PAYLOAD);
            let verified = jws.verify(&set).unwrap();
            assert_eq!(
                (verified.bytes(), verified.algorithm(), verified.kid()),
                (PAYLOAD, *algorithm, Some(key.kid()))
            );
        }
    }
}

#[test]
fn shapes_that_are_no_compact_jws_are_refused() {
    let good = good();
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let cases: Vec<(String, JoseError)> = vec![
        (String::new(), JoseError::PartCount),
        ("..".into(), JoseError::HeaderJson),
        ("a.b".into(), JoseError::PartCount),
        (format!("{good}."), JoseError::PartCount),
        (format!(".{good}"), JoseError::PartCount),
        (".".repeat(60_000), JoseError::PartCount),
        (format!("{header}..{signature}"), JoseError::BadSignature),
        (format!("{header}.{payload}."), JoseError::BadSignature),
        (format!("{header}.{payload}.AAAA"), JoseError::BadSignature),
        (format!("{header}.{payload}.{signature}AAAA"), JoseError::BadSignature),
        (format!(".{payload}.{signature}"), JoseError::HeaderJson),
        (format!(" {good}"), JoseError::TokenBase64Url(TokenPart::Header)),
        (format!("{good}\n"), JoseError::TokenBase64Url(TokenPart::Signature)),
        (format!("{header}=.{payload}.{signature}"), JoseError::TokenBase64Url(TokenPart::Header)),
        (format!("{header}.{payload}=.{signature}"), JoseError::TokenBase64Url(TokenPart::Payload)),
        (format!("{header}.{payload}.{signature}=="), JoseError::TokenBase64Url(TokenPart::Signature)),
        (
            format!("{header}.{}.{signature}", payload.replacen('e', "\n", 1)),
            JoseError::TokenBase64Url(TokenPart::Payload),
        ),
        (format!("{header}.{payload}+.{signature}"), JoseError::TokenBase64Url(TokenPart::Payload)),
        (r#"{"payload":"e30","signatures":[]}"#.into(), JoseError::PartCount),
        ("ä.ö.ü".into(), JoseError::TokenBase64Url(TokenPart::Header)),
        (format!("{}.{payload}.{signature}", base64url_encode(b"\xff\xfe")), JoseError::HeaderJson),
        (
            format!("{}.{payload}.{signature}", base64url_encode(b"{\"alg\":\"RS256\",\"kid\":\"\xff\"}")),
            JoseError::HeaderMember("kid"),
        ),
    ];
    for (token, expected) in cases {
        let shown: String = token.chars().take(40).collect();
        assert_eq!(verify(&token, &set(&[&RSA])), Err(expected), "{shown}");
    }
}

#[test]
fn non_zero_trailing_bits_are_refused() {
    // 256 bytes of signature leave two bits in the last character; Go's decoder ignores them.
    let good = good();
    let (start, last) = good.split_at(good.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    let changed = format!("{start}{}", &alphabet[at + 1..=at + 1]);
    assert_eq!(verify(&changed, &set(&[&RSA])), Err(JoseError::TokenBase64Url(TokenPart::Signature)));
}

#[test]
fn any_changed_byte_of_header_payload_or_signature_is_noticed() {
    let set = set(&[&P256]);
    let good = token(&P256, Algorithm::Es256, r#"{"alg":"ES256","kid":"p256"}"#);
    assert!(verify(&good, &set).is_ok());
    for position in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[position] = match changed[position] {
            b'A' => b'B',
            _ => b'A',
        };
        assert!(verify(std::str::from_utf8(&changed).unwrap(), &set).is_err(), "byte {position}");
    }
}

#[test]
fn none_symmetric_and_unknown_algorithms_are_refused_by_name() {
    let public_as_secret = RSA.public().to_json().to_string();
    for name in ["none", "None", "NONE", "HS256", "HS512", "rs256", "ES256K", "RSA-OAEP", "Ed25519", ""] {
        let header = base64url_encode(format!(r#"{{"alg":"{name}","kid":"rsa"}}"#).as_bytes());
        for signature in ["", &base64url_encode(public_as_secret.as_bytes())] {
            let token = format!("{header}.{}.{signature}", base64url_encode(PAYLOAD));
            let expected = Err(JoseError::UnsupportedAlgorithm(name.into()));
            assert_eq!(verify(&token, &set(&[&RSA])), expected, "{name}");
            let jws = CompactJws::parse(&token, &Limits::default()).unwrap();
            assert_eq!(jws.algorithm_name(), name);
        }
    }
}

#[test]
fn no_verifier_can_vouch_for_an_algorithm_that_is_not_supported() {
    struct Gullible;
    impl SignatureVerifier for Gullible {
        fn verify_signature(&self, _: &CompactJws<'_>) -> Result<(), JoseError> {
            Ok(())
        }
    }
    let token = format!("{}.{}.", base64url_encode(br#"{"alg":"none"}"#), base64url_encode(PAYLOAD));
    let jws = CompactJws::parse(&token, &Limits::default()).unwrap();
    assert_eq!(jws.verify(&Gullible).err(), Some(JoseError::UnsupportedAlgorithm("none".into())));
}

#[test]
fn critical_extensions_are_refused_though_the_signature_is_right() {
    for crit in [r#"["b64"]"#, r#"["exp"]"#, "[]", "null", r#""b64""#] {
        let header = format!(r#"{{"alg":"RS256","kid":"rsa","crit":{crit},"b64":true}}"#);
        let token = token(&RSA, Algorithm::Rs256, &header);
        assert_eq!(verify(&token, &set(&[&RSA])), Err(JoseError::Critical), "{crit}");
    }
}

#[test]
fn an_algorithm_never_meets_a_key_of_another_type_or_curve() {
    for key in [&*RSA, &P256, &P384, &P521, &ED] {
        for algorithm in Algorithm::ALL {
            let fits = key.public().algorithms().contains(&algorithm);
            assert_eq!(key.sign(algorithm, PAYLOAD).is_ok(), fits);
            if !fits {
                assert_eq!(key.sign(algorithm, PAYLOAD), Err(JoseError::AlgorithmNotForKey(algorithm)));
                let header = base64url_encode(format!(r#"{{"alg":"{algorithm}"}}"#).as_bytes());
                for length in [64, 96, 132, 256] {
                    let signature = base64url_encode(&vec![1; length]);
                    let token = format!("{header}.{}.{signature}", base64url_encode(PAYLOAD));
                    assert_eq!(verify(&token, &set(&[key])), Err(JoseError::AlgorithmKeyMismatch));
                }
            }
        }
    }
}

#[test]
fn a_single_key_refuses_an_algorithm_of_another_type_or_curve_too() {
    for key in [&*RSA, &P256, &P384, &P521, &ED] {
        let signature = key.sign(key.default_algorithm(), PAYLOAD).unwrap();
        for algorithm in Algorithm::ALL.into_iter().filter(|other| !key.public().algorithms().contains(other)) {
            let outcome = key.public().verify(algorithm, PAYLOAD, &signature);
            assert_eq!(outcome, Err(JoseError::AlgorithmKeyMismatch), "{algorithm}");
            let token = token(key, key.default_algorithm(), &format!(r#"{{"alg":"{algorithm}"}}"#));
            let jws = CompactJws::parse(&token, &Limits::default()).unwrap();
            assert_eq!(jws.verify_with(key.public()), Err(JoseError::AlgorithmKeyMismatch), "{algorithm}");
        }
    }
}

#[test]
fn a_signature_of_one_rsa_padding_is_not_one_of_the_other() {
    for (signed, claimed) in [
        (Algorithm::Rs256, Algorithm::Ps256),
        (Algorithm::Ps256, Algorithm::Rs256),
        (Algorithm::Rs256, Algorithm::Rs512),
    ] {
        let token = token(&RSA, signed, &format!(r#"{{"alg":"{claimed}","kid":"rsa"}}"#));
        let set = set(&[&RSA]).with_hints(KeyHints::Ignore);
        assert_eq!(verify(&token, &set), Err(JoseError::BadSignature));
    }
}

#[test]
fn ecdsa_signatures_of_zero_are_refused() {
    // CVE-2022-21449: r = s = 0 verified everything.
    for (key, algorithm, length) in [(&P256, "ES256", 64), (&P384, "ES384", 96), (&P521, "ES512", 132)] {
        let header = base64url_encode(format!(r#"{{"alg":"{algorithm}"}}"#).as_bytes());
        let token = format!("{header}.{}.{}", base64url_encode(PAYLOAD), base64url_encode(&vec![0; length]));
        assert_eq!(verify(&token, &set(&[key])), Err(JoseError::BadSignature));
    }
}

#[test]
fn keys_in_the_header_are_never_trusted() {
    let jwk = P256.public().to_json();
    let header = format!(r#"{{"alg":"ES256","jwk":{jwk},"jku":"https://evil.example/keys","x5c":["MAA="]}}"#);
    let token = token(&P256, Algorithm::Es256, &header);
    assert_eq!(verify(&token, &set(&[&P384])), Err(JoseError::AlgorithmKeyMismatch));
    let other = SigningKey::generate(portcullis_jose::KeyKind::P256, "other".into()).unwrap();
    assert_eq!(verify(&token, &set(&[&other])), Err(JoseError::BadSignature));
    assert!(verify(&token, &set(&[&P256])).is_ok());
}

#[test]
fn the_key_id_chooses_the_keys() {
    let other = SigningKey::generate(portcullis_jose::KeyKind::P256, "p256".into()).unwrap();
    let named = token(&P256, Algorithm::Es256, r#"{"alg":"ES256","kid":"p256"}"#);
    let unnamed = token(&P256, Algorithm::Es256, r#"{"alg":"ES256"}"#);
    let empty = token(&P256, Algorithm::Es256, r#"{"alg":"ES256","kid":""}"#);
    let unknown = token(&P256, Algorithm::Es256, r#"{"alg":"ES256","kid":"new"}"#);

    // Several keys may share an id: each is tried.
    assert!(verify(&named, &set(&[&other, &P256])).is_ok());
    assert_eq!(verify(&named, &set(&[&other])), Err(JoseError::BadSignature));
    assert!(verify(&unnamed, &set(&[&RSA, &other, &P256])).is_ok());
    assert!(verify(&empty, &set(&[&RSA, &other, &P256])).is_ok());
    assert_eq!(verify(&unknown, &set(&[&RSA, &P256])), Err(JoseError::NoMatchingKey));
    assert_eq!(verify(&unnamed, &JwkSet::default()), Err(JoseError::NoMatchingKey));
    assert_eq!(verify(&named, &set(&[&RSA])), Err(JoseError::NoMatchingKey));
    let nameless = JwkSet::from_keys(vec![P256.public().with(None, None, None)]);
    assert_eq!(verify(&named, &nameless), Err(JoseError::NoMatchingKey));
    assert!(verify(&unnamed, &nameless).is_ok());
}

#[test]
fn what_a_key_is_meant_for_is_enforced_unless_told_otherwise() {
    let ps256 = token(&RSA, Algorithm::Ps256, r#"{"alg":"PS256","kid":"rsa"}"#);
    for (alg, use_) in [(Some("RS256"), None), (Some("RSA-OAEP"), None), (None, Some("enc")), (None, Some("SIG"))] {
        let set = JwkSet::from_keys(vec![RSA.public().with(Some("rsa"), alg, use_)]);
        assert_eq!(verify(&ps256, &set), Err(JoseError::AlgorithmKeyMismatch), "{alg:?} {use_:?}");
        assert!(verify(&ps256, &set.with_hints(KeyHints::Ignore)).is_ok(), "{alg:?} {use_:?}");
    }
    for (alg, use_) in [(None, None), (Some("PS256"), Some("sig"))] {
        assert!(verify(&ps256, &JwkSet::from_keys(vec![RSA.public().with(Some("rsa"), alg, use_)])).is_ok());
    }
}

#[test]
fn one_key_as_verifier_minds_its_id_and_its_purpose() {
    let named = token(&P256, Algorithm::Es256, r#"{"alg":"ES256","kid":"p256"}"#);
    let check = |key: &portcullis_jose::PublicJwk| {
        CompactJws::parse(&named, &Limits::default()).unwrap().verify(key).map(|_| ())
    };
    assert_eq!(check(P256.public()), Ok(()));
    assert_eq!(check(&P256.public().with(None, None, None)), Ok(()));
    assert_eq!(check(&P256.public().with(Some("x"), None, None)), Err(JoseError::NoMatchingKey));
    assert_eq!(check(&P256.public().with(None, None, Some("enc"))), Err(JoseError::AlgorithmKeyMismatch));
}

#[test]
fn limits_are_crossed_by_one() {
    let good = good();
    let exact = Limits { token_bytes: good.len(), ..Limits::default() };
    assert!(CompactJws::parse(&good, &exact).is_ok());
    let short = Limits { token_bytes: good.len() - 1, ..Limits::default() };
    assert_eq!(CompactJws::parse(&good, &short).err(), Some(JoseError::TokenTooLarge { limit: good.len() - 1 }));
    let header = r#"{"alg":"RS256","kid":"rsa"}"#.len();
    let exact = Limits { header_bytes: header, kid_bytes: 3, header_members: 2, ..Limits::default() };
    assert!(CompactJws::parse(&good, &exact).is_ok());
    let short = Limits { header_bytes: header - 1, ..Limits::default() };
    assert_eq!(CompactJws::parse(&good, &short).err(), Some(JoseError::HeaderTooLarge { limit: header - 1 }));
    let short = Limits { kid_bytes: 2, ..Limits::default() };
    assert_eq!(CompactJws::parse(&good, &short).err(), Some(JoseError::KidTooLong { limit: 2 }));
    let short = Limits { header_members: 1, ..Limits::default() };
    assert_eq!(CompactJws::parse(&good, &short).err(), Some(JoseError::HeaderJson));
}

#[test]
fn a_refused_token_can_be_tried_again_with_other_keys() {
    let good = good();
    let rejected = CompactJws::parse(&good, &Limits::default()).unwrap().try_verify(&set(&[&P256])).unwrap_err();
    assert_eq!(rejected.error, JoseError::NoMatchingKey);
    assert_eq!(rejected.jws.verify(&set(&[&RSA])).unwrap().bytes(), PAYLOAD);
}

#[test]
fn errors_and_debug_output_show_no_part_of_a_signature() {
    let good = good();
    let signature = good.rsplit_once('.').unwrap().1;
    let error = verify(&good.replace("rsa", "x"), &set(&[&P256])).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&signature[..20]));
}
