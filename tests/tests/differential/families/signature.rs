//! Families about algorithms, keys, key sets and the JOSE header.

use std::sync::Arc;

use portcullis_authn::ALL_SIGNING_ALGS;
use portcullis_jose::{Algorithm, SigningKey};
use serde_json::{Value, json};

use crate::draft::{Case, World};

/// Where the RFCs' private keys are in the file of vectors, and what they sign with.
const PRIVATE_KEYS: [(&str, Algorithm); 3] =
    [("/0/jwk", Algorithm::Rs256), ("/1/jwk", Algorithm::Es256), ("/2/jwk", Algorithm::Es512)];

pub(crate) fn algorithm(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for algorithm in Algorithm::ALL {
        out.push(world.draft().algorithm(algorithm).into_case(family));
        for allowed in [&["RS256"][..], &["ES256", "RS256"], &["PS256", "PS384", "ES512"]] {
            let allowed: Vec<String> = allowed.iter().map(|alg| (*alg).to_owned()).collect();
            out.push(world.draft().algorithm(algorithm).config(|c| c.signing_algs = allowed).into_case(family));
        }
    }
    for alg in ["none", "None", "NONE", "HS256", "HS512", "rs256", "RS256 ", "", "ES256K", "EdDSA", "RS1", "RSA-OAEP"] {
        out.push(world.draft().header("alg", json!(alg).to_string()).into_case(family));
        let draft = world.draft().header("alg", json!(alg).to_string());
        let [header, payload, _] = draft.parts();
        out.push(draft.into_case_with(family, format!("{header}.{payload}.")));
    }
    // The header claims one algorithm and the signature is another's.
    for (claimed, real) in [
        ("RS256", Algorithm::Rs384),
        ("PS256", Algorithm::Rs256),
        ("RS256", Algorithm::Ps256),
        ("ES256", Algorithm::Es384),
    ] {
        out.push(world.draft().algorithm(real).header("alg", json!(claimed).to_string()).into_case(family));
    }
    out.push(world.draft().without_header("alg").into_case(family));
    out.push(world.draft().header("alg", "null").into_case(family));
    for alg in ["RS256", "HS256", "EdDSA", "none", ""] {
        out.push(world.draft().config(|c| c.signing_algs = vec![alg.to_owned()]).into_case(family));
    }
    assert_eq!(ALL_SIGNING_ALGS.len(), 9);
}

pub(crate) fn kid(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let keys = &world.keys;
    let sets: [Vec<Value>; 4] = [
        vec![keys.rsa[0].public().to_json(), keys.p256[0].public().to_json()],
        vec![
            keys.rsa[1].public().to_json(),
            keys.rsa[0].public().to_json(),
            keys.p256[1].public().to_json(),
            keys.p256[0].public().to_json(),
        ],
        vec![keys.rsa[1].public().to_json(), keys.p256[1].public().to_json()],
        vec![],
    ];
    for set in sets {
        out.push(world.draft().keys(set.clone()).into_case(family));
        out.push(world.draft().keys(set.clone()).without_header("kid").into_case(family));
        for kid in ["\"unknown\"", "\"\"", "\"RSA\"", "\"rsa-2\"", "\"p256-2\"", "\"rsa\"", "\"\\u0072sa\""] {
            out.push(world.draft().keys(set.clone()).header("kid", kid).into_case(family));
        }
        // All keys under one id, and keys without one.
        let renamed = |kid: Option<&str>| -> Vec<Value> {
            let mut set = set.clone();
            for key in &mut set {
                key.as_object_mut().expect("a key").shift_remove("kid");
                if let Some(kid) = kid {
                    key["kid"] = json!(kid);
                }
            }
            set
        };
        out.push(world.draft().keys(renamed(Some("rsa"))).header("kid", "\"rsa\"").into_case(family));
        out.push(world.draft().keys(renamed(None)).into_case(family));
        out.push(world.draft().keys(renamed(None)).without_header("kid").into_case(family));
        out.push(world.draft().keys(renamed(None)).header("kid", "\"\"").into_case(family));
    }
    for kid in ["1", "[]", "{}", "true"] {
        out.push(world.draft().header("kid", kid).into_case(family));
    }
}

pub(crate) fn signature(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let keys = &world.keys;
    for algorithm in [Algorithm::Rs256, Algorithm::Ps384, Algorithm::Es256, Algorithm::Es384, Algorithm::Es512] {
        let draft = || world.draft().algorithm(algorithm);
        let [header, payload, signature] = draft().parts();
        let token = |signature: &str| format!("{header}.{payload}.{signature}");
        out.push(draft().into_case(family));
        out.push(draft().into_case_with(family, token(&signature)));
        for cut in ["", "AAAA", &signature[4..], &signature[..signature.len() - 4]] {
            out.push(draft().into_case_with(family, token(cut)));
        }
        out.push(draft().into_case_with(family, token(&format!("AAAA{signature}"))));
        out.push(draft().into_case_with(family, token(&format!("{signature}AAAA"))));
        let at = world.rng.below(u32::try_from(signature.len() - 2).expect("short")) as usize;
        let other = if &signature[at..=at] == "A" { "B" } else { "A" };
        out.push(
            draft().into_case_with(family, token(&format!("{}{other}{}", &signature[..at], &signature[at + 1..]))),
        );
        // Somebody else's claims under this signature.
        let [_, foreign, _] = draft().claim("sub", "\"admin\"").parts();
        out.push(draft().into_case_with(family, format!("{header}.{foreign}.{signature}")));
    }
    // The right key id over the wrong key.
    let mut stolen = world.draft().algorithm(Algorithm::Rs256);
    stolen.key = keys.rsa[1].clone();
    out.push(stolen.into_case(family));
    let mut stolen = world.draft().algorithm(Algorithm::Es256);
    stolen.key = keys.p256[1].clone();
    out.push(stolen.into_case(family));
}

pub(crate) fn key_set(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    // Members beside the key itself.
    for (member, value) in [
        ("alg", json!("RS512")),
        ("alg", json!("HS256")),
        ("alg", json!("")),
        ("alg", json!(null)),
        ("alg", json!(1)),
        ("use", json!("enc")),
        ("use", json!("sig")),
        ("use", json!("")),
        ("use", json!([])),
        ("key_ops", json!(["encrypt"])),
        ("ext", json!(true)),
        ("x5t", json!("")),
        ("x5t", json!("AAAA")),
        ("x5t", json!(1)),
        ("x5t#S256", json!("AAAA")),
        ("x5t#S256", json!("!")),
        ("x5c", json!([])),
        ("x5c", json!(null)),
        ("x5c", json!(["AAAA"])),
        ("x5c", json!("AAAA")),
        ("x5u", json!("https://issuer.example/cert")),
        ("x5u", json!(null)),
        ("x5u", json!({})),
        ("kid", json!(1)),
        ("k", json!("AAAA")),
        ("k", json!(1)),
        ("p", json!("!")),
        ("oth", json!([])),
        ("crv", json!(1)),
        ("y", json!(1)),
        ("n", json!(1)),
        ("KTY", json!("oct")),
        ("d", json!("")),
        ("d", json!("AQAB")),
        ("d", json!(null)),
        ("dp", json!("AQAB")),
        ("qi", json!(1)),
    ] {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let mut draft = world.draft().algorithm(algorithm);
            draft.jwks[0][member] = value.clone();
            out.push(draft.into_case(family));
        }
    }
    // Keys that spoil a set, or do not.
    let ed = world.keys.ed25519.public().to_json();
    for other in [
        json!({"kty":"AKP","kid":"a","alg":"ML-DSA-44","pub":"AAAA"}),
        json!({"kty":"OKP","crv":"Ed448","x":"AAAA"}),
        json!({"kty":"EC","crv":"secp256k1","x":"AAAA","y":"AAAA"}),
        json!({"kty":"oct","k":"AAAA"}),
        json!({"kty":"oct"}),
        json!({"kty":"RSA"}),
        json!({"kty":"RSA","n":"AQAB"}),
        json!({"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}),
        json!({"kty":"EC","crv":"P-256"}),
        json!({}),
        json!({"kty":""}),
        json!({"kty":"rsa","n":"AQAB","e":"AQAB"}),
        json!({"kty":1}),
        json!({"kty":"RSA","n":"!","e":"AQAB"}),
        json!([]),
        json!("x"),
        ed,
        json!({"kty":"OKP","crv":"X25519","x":"AAAA"}),
    ] {
        for position in [0, 1] {
            let mut draft = world.draft();
            draft.jwks.insert(position, other.clone());
            out.push(draft.into_case(family));
        }
    }
    for raw in [r#"{"keys":null}"#, r#"{"keys":[]}"#, "{}", r#"{"keys":{}}"#, r#"{"keys":"x"}"#, "[]", r#""x""#, "1"] {
        let mut draft = world.draft();
        draft.raw_jwks = Some(raw.to_owned());
        out.push(draft.into_case(family));
    }
    private_keys(world, family, out);
    // Names twice, those that nobody reads too; numbers as Go's decoder takes them.
    let spelled = world.draft().algorithm(Algorithm::Es256);
    let (key, x) = (spelled.jwks[0].to_string(), spelled.jwks[0]["x"].as_str().expect("a coordinate").to_owned());
    for more in [
        r#""zz":1,"zz":2"#,
        r#""zz":1,"z\u007a":2"#,
        r#""key_ops":["verify"],"key_ops":[]"#,
        r#""ZZ":1,"zz":2"#,
        r#""zz":{"a":1,"a":2}"#,
        r#""zz":1e99999"#,
    ] {
        let mut draft = spelled.clone();
        draft.raw_jwks = Some(format!(r#"{{"keys":[{},{more}}}]}}"#, key.trim_end_matches('}')));
        out.push(draft.into_case(family));
    }
    let broken = x.split_at(20);
    for text in [format!("{}\n{}", broken.0, broken.1), format!("{x}\r\n"), format!("{x} "), format!("{x}=")] {
        let mut draft = spelled.clone();
        draft.jwks[0]["x"] = json!(text);
        out.push(draft.into_case(family));
    }
    // Of 32 bytes the last character says four bits, and two more that count for nothing.
    let last = x.chars().last().expect("a character");
    for other in ('A'..='Z').chain('a'..='z').filter(|c| *c != last) {
        let mut draft = spelled.clone();
        draft.jwks[0]["x"] = json!(format!("{}{other}", &x[..x.len() - 1]));
        out.push(draft.into_case(family));
    }
    // Exponents at Go's border, beside the key that signed and instead of it.
    for e in ["Aw", "f____w", "gAAAAw", "_____w", "AQAAAAs", "AgAAAAc", "AQAAAAAAAAABAAE"] {
        for only in [false, true] {
            if only && e.len() > 12 {
                // Go keeps the lower 64 bits: docs/compat/kube-apiserver-authn.md.
                continue;
            }
            let mut draft = world.draft().algorithm(Algorithm::Rs256);
            let mut other = draft.jwks[0].clone();
            other["e"] = json!(e);
            if only {
                draft.jwks = vec![other];
            } else {
                draft.jwks.insert(0, other);
            }
            out.push(draft.into_case(family));
        }
    }
    let draft = world.draft().algorithm(Algorithm::Es256);
    let mut twice = draft.jwks[0].clone();
    twice["kid"] = json!("other");
    out.push(draft.clone().keys(vec![twice, draft.jwks[0].clone()]).into_case(family));
    for _ in 0..3 {
        out.push(world.draft().algorithm(world.pick(&Algorithm::ALL)).into_case(family));
    }
}

/// Private keys in a set, alone and beside others. go-jose makes private keys of them, which verify nothing.
fn private_keys(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let vectors = include_str!("../../../../crates/portcullis-jose/tests/jose/rfc_vectors.json");
    let vectors: Value = serde_json::from_str(vectors).expect("the RFCs' vectors");
    for (place, algorithm) in PRIVATE_KEYS {
        let private = vectors.pointer(place).expect("a private key").clone();
        let key = SigningKey::from_jwk(private.to_string().as_bytes()).expect("a private key");
        let other = world.draft().jwks[0].clone();
        let public = key.public().to_json();
        let mut named = private.clone();
        named["kid"] = json!("one");
        for (keys, kid) in [
            (vec![private.clone()], None),
            (vec![named.clone()], Some("\"one\"")),
            (vec![private.clone(), public.clone()], None),
            (vec![public.clone(), named.clone()], None),
            (vec![private, other], None),
        ] {
            let mut draft = world.draft().algorithm(algorithm).without_header("kid").keys(keys);
            draft.key = key.clone();
            if let Some(kid) = kid {
                draft = draft.header("kid", kid);
            }
            out.push(draft.into_case(family));
        }
        // Beside the key that signed.
        let mut beside = world.draft();
        beside.jwks.push(named.clone());
        out.push(beside.clone().into_case(family));
        for missing in ["p", "q", "d"].into_iter().filter(|member| named.get(member).is_some()) {
            let mut draft = beside.clone();
            draft.jwks.last_mut().and_then(Value::as_object_mut).expect("a key").remove(missing);
            out.push(draft.into_case(family));
        }
    }
}

pub(crate) fn header(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for (name, value) in [
        ("typ", "\"JWT\""),
        ("typ", "\"at+jwt\""),
        ("typ", "\"\""),
        ("cty", "\"JWT\""),
        ("crit", "[\"exp\"]"),
        ("crit", "[\"x\",\"b64\"]"),
        ("crit", "\"b64\""),
        ("crit", "1"),
        ("b64", "false"),
        ("b64", "true"),
        ("b64", "0"),
        ("x", "{\"deep\":[1,{}]}"),
        ("jku", "\"https://evil.example/jwks\""),
        ("x5u", "\"https://evil.example\""),
        ("nonce", "\"n\""),
        ("x5t", "\"AAAA\""),
        ("Alg", "\"none\""),
        ("ALG", "1"),
        ("jwk", "{\"kty\":\"oct\",\"k\":\"AAAA\"}"),
        ("jwk", "{}"),
        ("jwk", "1"),
        ("typ", "null"),
        ("x", "\"\\ud800\""),
        ("x", "null"),
        ("nonce", "1"),
        ("nonce", "null"),
        ("x5c", "[\"AAAA\"]"),
        ("x5c", "\"x\""),
        ("x5c", "[]"),
        ("x5c", "null"),
        ("jwk", "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"AAAA\"}"),
        ("jwk", "{\"kty\":\"RSA\"}"),
        ("jwk", "{\"kty\":\"AKP\"}"),
        ("jwk", "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}"),
        ("jwk", "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AA\"}"),
        ("jwk", "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAAAAAAAAAA\"}"),
        ("jwk", "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"\"}"),
        ("jwk", "{\"kty\":\"RSA\",\"n\":\"\",\"e\":\"AQAB\"}"),
        ("jwk", "{\"kty\":\"RSA\",\"n\":\"AAAA\",\"e\":\"AQAB\"}"),
        ("jwk", "{\"kty\":\"RSA\",\"n\":\"AQAAAAAAAAAA\",\"e\":\"AQAB\"}"),
        ("jwk", "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\",\"p\":\"AQ\",\"k\":\"AQ\",\"oth\":[]}"),
        ("jwk", "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\",\"zz\":1,\"zz\":2}"),
        ("x", "1e99999"),
        ("x", "{\"a\":[-1e400]}"),
        ("x", "\"1e99999\""),
        ("x", "1e-99999"),
    ] {
        out.push(world.draft().header(name, value).into_case(family));
    }
    let public = world.keys.p256[1].public().to_json().to_string();
    out.push(world.draft().header("jwk", public.clone()).into_case(family));
    out.push(world.draft().header("kid", "null").into_case(family));
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    out.push(world.draft().header("x", deep).into_case(family));
    // The key in the header is never trusted.
    let mut smuggled = world.draft().algorithm(Algorithm::Es256).header("jwk", public);
    smuggled.key = world.keys.p256[1].clone();
    out.push(smuggled.clone().into_case(family));
    out.push(smuggled.without_header("kid").into_case(family));
    let mut twice = world.draft();
    twice.header.push(("alg".to_owned(), "\"RS256\"".to_owned()));
    out.push(twice.into_case(family));
    let mut twice = world.draft();
    twice.header.push(("kid".to_owned(), "\"other\"".to_owned()));
    out.push(twice.into_case(family));
    for _ in 0..6 {
        out.push(world.draft().header(world.pick(&["foo", "typ", "exp", "iss"]), "\"x\"").into_case(family));
    }
}

/// What kube-apiserver accepts and we refuse (`docs/compat/kube-apiserver-authn.md`).
pub(crate) fn deliberate(world: &Arc<World>, out: &mut Vec<Case>) {
    for (name, value) in [("crit", "[\"b64\"]"), ("crit", "[]"), ("crit", "null"), ("typ", "1"), ("jwk", "null")] {
        out.push(world.draft().header(name, value).into_case("header member"));
    }
    let mut many = world.draft();
    many.header.extend((0..300).map(|n| (format!("x{n}"), "1".to_owned())));
    out.push(many.into_case("header members"));
    let mut odd = world.draft();
    odd.raw_jwks = Some(json!({ "Keys": odd.jwks }).to_string());
    out.push(odd.into_case("key set in odd case"));
    let mut twice = world.draft();
    let keys = json!(twice.jwks).to_string();
    twice.raw_jwks = Some(format!("{{\"keys\":{keys},\"keys\":{keys}}}"));
    out.push(twice.into_case("key set twice"));
    let mut many = world.draft();
    many.jwks = (0..101)
        .map(|n| {
            let mut key = many.jwks[0].clone();
            if n < 100 {
                key["kid"] = json!(format!("k{n}"));
            }
            key
        })
        .collect();
    out.push(many.into_case("101 keys"));
    let vectors: Value = serde_json::from_str(include_str!("../../../fixtures/authn/narrower.json")).expect("vectors");
    for vector in vectors.as_array().expect("a list") {
        let mut draft = world.draft();
        draft.raw_jwks = Some(vector["jwks"].to_string());
        out.push(draft.into_case_with("vector", vector["token"].as_str().expect("a token").to_owned()));
    }
}

/// What kube-apiserver refuses and we do not: the signature is right all the same.
pub(crate) fn wider(world: &Arc<World>, out: &mut Vec<Case>) {
    out.push(world.draft().header("x", "{\"a\":1,\"a\":2}").into_case("name twice below the header's top"));
    out.push(world.draft().header("x5c", "[\"MAA=\"]").into_case("header x5c that is no certificate"));
    let mut draft = world.draft();
    draft.jwks[0]["x5c"] = json!(["MAA="]);
    out.push(draft.into_case("key x5c that is no certificate"));
}
