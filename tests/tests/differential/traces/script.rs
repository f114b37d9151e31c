//! Scripts made by chance: key sets, failures, cache headers, time that passes, and tokens of every kind.

use portcullis_runtime::Rng;
use portcullis_testkit::{KeyBody, KeyReply, KeyScript, KeyStep};
use serde_json::{Value, json};

/// One script of chance; with `hangs` the issuer does not answer in the end, which costs timeouts.
pub(super) fn script(rng: &Rng, hangs: bool) -> KeyScript {
    let chance = Chance(rng);
    let mut steps = vec![KeyStep::Keys(chance.keys_reply())];
    for _ in 0..4 + chance.below(9) {
        let step = match chance.below(23) {
            0..=10 => chance.tokens(1),
            11..=14 => KeyStep::Keys(chance.keys_reply()),
            15..=17 => KeyStep::Wait(chance.pick(&[60, 60, 120, 600, 3_600, 86_400])),
            18 => {
                steps.extend(chance.crowd());
                continue;
            }
            19 => KeyStep::Discovery(chance.discovery(false)),
            _ => {
                steps.extend(chance.rotation());
                continue;
            }
        };
        steps.push(step);
    }
    steps.push(chance.tokens(1));
    let discovery = chance.discovery(chance.below(10) > 0);
    if hangs {
        steps.push(KeyStep::Keys(KeyReply::ok(KeyBody::Hang)));
        steps.push(KeyStep::Wait(86_400));
        steps.extend([chance.tokens(1), KeyStep::Tokens { signer: 'x', kid: None, count: 1 }]);
    }
    KeyScript { discovery, steps }
}

struct Chance<'r>(&'r Rng);

impl Chance<'_> {
    fn below(&self, bound: u32) -> u32 {
        self.0.below(bound)
    }

    fn pick<T: Clone>(&self, choices: &[T]) -> T {
        let at = self.below(u32::try_from(choices.len()).expect("a short list"));
        choices[usize::try_from(at).expect("a short list")].clone()
    }

    fn tokens(&self, count: usize) -> KeyStep {
        let signer = self.pick(&['a', 'a', 'a', 'b', 'b', 'c', 'r', 'x']);
        let kid = match self.below(10) {
            0..=5 => Some(signer.to_string()),
            6..=7 => None,
            8 => Some(self.pick(&["a", "b", "unknown", ""]).to_owned()),
            _ => Some("unknown".to_owned()),
        };
        KeyStep::Tokens { signer, kid, count }
    }

    /// Another key takes over, alone, and signs at once or later.
    fn rotation(&self) -> [KeyStep; 3] {
        let signer = self.pick(&['a', 'b', 'c', 'r']);
        let body = KeyBody::Set { keys: vec![(signer, Some(signer.to_string()))], more: Vec::new() };
        [
            KeyStep::Keys(KeyReply { headers: self.freshness(), ..KeyReply::ok(body) }),
            KeyStep::Wait(self.pick(&[0, 60, 600, 86_400])),
            KeyStep::Tokens { signer, kid: Some(signer.to_string()), count: 1 },
        ]
    }

    /// Several tokens at once, which are one request or none, however late one of them comes.
    fn crowd(&self) -> [KeyStep; 2] {
        let kid = Some("a".to_owned());
        let body = KeyBody::Set { keys: vec![('a', kid.clone())], more: Vec::new() };
        [
            KeyStep::Keys(KeyReply { headers: self.freshness(), ..KeyReply::ok(body) }),
            KeyStep::Tokens { signer: 'a', kid, count: 3 },
        ]
    }

    fn keys_reply(&self) -> KeyReply {
        let mut reply = match self.below(12) {
            0 => KeyReply { status: self.pick(&[500, 503, 404, 401, 429]), ..KeyReply::ok(self.text()) },
            1 => KeyReply { status: self.pick(&[201, 202, 304, 302, 203, 206]), ..KeyReply::ok(self.set()) },
            2 | 3 => KeyReply::ok(self.text()),
            4 => {
                let last = KeyReply { headers: self.freshness(), ..KeyReply::ok(self.set()) };
                let hops = usize::try_from(1 + self.below(3)).expect("a few");
                let status = self.pick(&[301, 302, 303, 307, 308]);
                KeyReply { status, ..KeyReply::ok(KeyBody::Redirects(hops, Box::new(last))) }
            }
            _ => KeyReply::ok(self.set()),
        };
        reply.headers.extend(self.freshness());
        reply
    }

    fn set(&self) -> KeyBody {
        let mut keys: Vec<(char, Option<String>)> = Vec::new();
        for letter in ['a', 'b', 'c', 'r'] {
            let id = letter.to_string();
            match self.below(10) {
                0..=4 => keys.push((letter, Some(id))),
                5 => keys.push((letter, None)),
                6 => keys.push((letter, Some(self.pick(&["a", "b", ""]).to_owned()))),
                _ => {}
            }
        }
        // Keys of kinds that nobody verifies with; the last three make the set unusable.
        let more = match self.below(24) {
            0 => vec![json!({ "kty": "oct", "k": "AAAA", "kid": "a" })],
            1 => vec![json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" })],
            2 => vec![json!({ "kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA" })],
            3 => vec![json!({ "kid": "a" })],
            _ => Vec::new(),
        };
        KeyBody::Set { keys, more }
    }

    fn text(&self) -> KeyBody {
        let text = self.pick(&[
            "",
            "null",
            "[]",
            "{}",
            "x",
            "<html>no</html>",
            r#"{"keys":[]}"#,
            r#"{"keys":null}"#,
            r#"{"keys":{}}"#,
            r#"{"keys":["#,
            r#"{"keys":[]} x"#,
            r#"{"keys":[null]}"#,
            r#"{"other":1}"#,
            "\u{feff}{\"keys\":[]}",
        ]);
        KeyBody::Text(text.to_owned())
    }

    /// Times are multiples of a minute, and freshness ends half a minute away from those, so that the time that a script
    /// really takes changes nothing.
    fn freshness(&self) -> Vec<(String, String)> {
        let headers: &[(&str, &str)] = self.pick(&[
            &[][..],
            &[],
            &[("cache-control", "max-age=0")],
            &[("cache-control", "max-age=10")],
            &[("cache-control", "max-age=45")],
            &[("cache-control", "max-age=120")],
            &[("cache-control", "max-age=600")],
            &[("cache-control", "max-age=86400")],
            &[("cache-control", "public, max-age=600, must-revalidate")],
            &[("cache-control", "max-age=600, s-maxage=0")],
            &[("cache-control", "s-maxage=600, max-age=0")],
            &[("cache-control", "MAX-AGE=600")],
            &[("cache-control", "max-age=\"600\"")],
            &[("cache-control", "max-age = 600")],
            &[("cache-control", "max-age=-600")],
            &[("cache-control", "max-age=x")],
            &[("cache-control", "max-age")],
            &[("cache-control", "max-age=120, max-age=86400")],
            &[("cache-control", "max-age=99999999999")],
            &[("cache-control", "no-store")],
            &[("cache-control", "no-cache")],
            &[("cache-control", "private")],
            &[("cache-control", "no-store, max-age=600")],
            &[("cache-control", "no-cache, max-age=600")],
            &[("cache-control", "private, max-age=600")],
            &[("cache-control", "public")],
            &[("cache-control", "immutable, max-age=600, stale-while-revalidate=60")],
            &[("cache-control", "max-age=0"), ("cache-control", "max-age=600")],
            &[("cache-control", "max-age=600"), ("cache-control", "max-age=0")],
            &[("cache-control", "max-age=600"), ("age", "600")],
            &[("cache-control", "max-age=600"), ("pragma", "no-cache")],
            &[("pragma", "no-cache")],
            &[("expires", "@600")],
            &[("expires", "@-600")],
            &[("expires", "0")],
            &[("expires", "@600"), ("cache-control", "max-age=0")],
            &[("expires", "@0"), ("cache-control", "max-age=600")],
            &[("expires", "@600"), ("cache-control", "no-store")],
            &[("last-modified", "@-6000")],
            &[("last-modified", "@6000")],
            &[("last-modified", "yesterday"), ("cache-control", "max-age=600")],
            &[("etag", "\"x\""), ("vary", "*")],
        ]);
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn discovery(&self, fine: bool) -> KeyReply {
        let document = |changes: &[(&str, Value)]| {
            let changes = changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            KeyBody::Document(changes.collect())
        };
        if fine {
            return match self.below(16) {
                0..=1 => KeyReply {
                    status: self.pick(&[302, 307]),
                    ..KeyReply::ok(KeyBody::Redirects(1, Box::new(KeyReply::ok(document(&[])))))
                },
                2 => KeyReply::ok(document(&[("jwks_uri", json!("https://127.0.0.1:1/keys"))])),
                3..=4 => {
                    KeyReply::ok(document(&[("scopes_supported", json!("openid")), ("token_endpoint", Value::Null)]))
                }
                5 => KeyReply {
                    headers: vec![("cache-control".to_owned(), "max-age=0".to_owned())],
                    ..KeyReply::ok(document(&[]))
                },
                _ => KeyReply::ok(document(&[])),
            };
        }
        match self.below(9) {
            0 => KeyReply { status: self.pick(&[500, 404, 201, 204]), ..KeyReply::ok(document(&[])) },
            1 => KeyReply::ok(self.text()),
            2 => KeyReply::ok(document(&[("issuer", json!("https://issuer.example"))])),
            3 => KeyReply::ok(document(&[("issuer", Value::Null)])),
            4 => KeyReply::ok(document(&[("jwks_uri", Value::Null)])),
            5 => KeyReply::ok(document(&[("jwks_uri", json!(""))])),
            6 => KeyReply::ok(document(&[("jwks_uri", json!(1))])),
            7 => KeyReply::ok(document(&[("jwks_uri", json!("keys"))])),
            _ => KeyReply::ok(document(&[("authorization_endpoint", json!(1))])),
        }
    }
}
