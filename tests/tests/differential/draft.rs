//! A case before it becomes bytes: configuration, keys, header and claims that families change at will.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_authn::{JwtConfig, PrefixedClaim};
use portcullis_jose::{Algorithm, KeyKind, SigningKey};
use portcullis_runtime::Rng;
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const CLIENT: &str = "my-client";

/// One comparison: what both sides are given.
pub(crate) struct Case {
    pub(crate) family: &'static str,
    /// The AuthenticationConfiguration's text.
    pub(crate) file: String,
    /// The text that the server started with, when `file` is a reload.
    pub(crate) initial: Option<String>,
    pub(crate) algs: Vec<String>,
    /// Issuers that the API server's own service accounts use.
    pub(crate) disallowed: Vec<String>,
    pub(crate) jwks: String,
    /// The keys of issuers that have others than `jwks`, by URL.
    pub(crate) issuer_jwks: Vec<(String, String)>,
    pub(crate) token: String,
}

/// The AuthenticationConfiguration that says the same as `config`.
fn written(config: &JwtConfig) -> String {
    let mut issuer = json!({ "url": config.issuer_url, "audiences": config.audiences });
    for (key, value) in [
        ("discoveryURL", config.discovery_url.clone().unwrap_or_default()),
        ("certificateAuthority", config.certificate_authority.clone()),
        ("audienceMatchPolicy", config.audience_match_policy.clone()),
    ] {
        if !value.is_empty() {
            issuer[key] = json!(value);
        }
    }
    let prefixed = |mapping: &PrefixedClaim| json!({ "claim": mapping.claim, "prefix": mapping.prefix });
    let mut mappings = json!({ "username": prefixed(&config.username) });
    if let Some(groups) = &config.groups {
        mappings["groups"] = prefixed(groups);
    }
    if let Some(uid) = &config.uid_claim {
        mappings["uid"] = json!({ "claim": uid });
    }
    let rules: Vec<Value> =
        config.required_claims.iter().map(|(claim, value)| json!({ "claim": claim, "requiredValue": value })).collect();
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [{ "issuer": issuer, "claimMappings": mappings, "claimValidationRules": rules }],
    })
    .to_string()
}

/// Keys of one run.
pub(crate) struct Keys {
    pub(crate) rsa: [SigningKey; 2],
    pub(crate) p256: [SigningKey; 2],
    pub(crate) p384: SigningKey,
    pub(crate) p521: SigningKey,
    pub(crate) ed25519: SigningKey,
}

impl Keys {
    pub(crate) fn generate() -> Self {
        let make = |kind, kid: &str| SigningKey::generate(kind, kid.to_owned()).expect("a key");
        Self {
            rsa: [make(KeyKind::Rsa2048, "rsa"), make(KeyKind::Rsa2048, "rsa-2")],
            p256: [make(KeyKind::P256, "p256"), make(KeyKind::P256, "p256-2")],
            p384: make(KeyKind::P384, "p384"),
            p521: make(KeyKind::P521, "p521"),
            ed25519: make(KeyKind::Ed25519, "ed"),
        }
    }

    /// The key that verifies `algorithm`.
    pub(crate) fn for_algorithm(&self, algorithm: Algorithm) -> &SigningKey {
        match algorithm {
            Algorithm::Es256 => &self.p256[0],
            Algorithm::Es384 => &self.p384,
            Algorithm::Es512 => &self.p521,
            Algorithm::EdDsa => &self.ed25519,
            _ => &self.rsa[0],
        }
    }
}

/// Times in Unix seconds. Near ones for a comparison now, far ones for recordings that must stay true.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) past: i64,
    pub(crate) future: i64,
    /// Less than a minute ahead.
    pub(crate) soon: i64,
}

impl Times {
    pub(crate) fn near(now: i64) -> Self {
        Self { past: now - 3600, future: now + 3600, soon: now + 40 }
    }

    pub(crate) fn far() -> Self {
        Self { past: 1_000_000_000, future: 4_102_444_800, soon: 1_700_000_001 }
    }
}

/// What families draw from.
pub(crate) struct World {
    pub(crate) keys: Keys,
    pub(crate) times: Times,
    pub(crate) rng: Rng,
    /// Sign with RSA unless a case asks for something else (otherwise ES256, which makes short recordings).
    pub(crate) prefer_rsa: bool,
}

impl World {
    pub(crate) fn pick<T: Copy>(&self, choices: &[T]) -> T {
        let bound = u32::try_from(choices.len()).expect("a short list");
        choices[self.rng.below(bound) as usize]
    }

    pub(crate) fn chance(&self, one_in: u32) -> bool {
        self.rng.below(one_in) == 0
    }

    /// A token that is accepted, before anyone changes it.
    pub(crate) fn draft(self: &Arc<Self>) -> Draft {
        let rsa = self.prefer_rsa && !self.chance(4);
        let algorithm = if rsa { Algorithm::Rs256 } else { Algorithm::Es256 };
        let key = self.keys.for_algorithm(algorithm).clone();
        let config = JwtConfig {
            issuer_url: ISSUER.to_owned(),
            audiences: vec![CLIENT.to_owned()],
            username: PrefixedClaim { claim: "sub".to_owned(), prefix: self.pick(&["", "", "oidc:"]).to_owned() },
            groups: Some(PrefixedClaim { claim: "groups".to_owned(), prefix: self.pick(&["", "p:"]).to_owned() }),
            signing_algs: portcullis_authn::ALL_SIGNING_ALGS.map(str::to_owned).to_vec(),
            ..JwtConfig::default()
        };
        let claims = vec![
            ("iss".to_owned(), json!(ISSUER).to_string()),
            ("aud".to_owned(), json!(CLIENT).to_string()),
            ("exp".to_owned(), self.times.future.to_string()),
            ("iat".to_owned(), self.times.past.to_string()),
            ("sub".to_owned(), json!("jane").to_string()),
        ];
        Draft {
            world: Arc::clone(self),
            config,
            disallowed: Vec::new(),
            header: vec![
                ("alg".to_owned(), json!(algorithm.to_string()).to_string()),
                ("kid".to_owned(), json!(key.kid()).to_string()),
            ],
            claims,
            jwks: vec![key.public().to_json()],
            raw_jwks: None,
            raw_payload: None,
            algorithm,
            key,
        }
    }
}

/// A case under construction. Header and claims are lists of names and raw JSON, so that they can be wrong in any way.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) world: Arc<World>,
    pub(crate) config: JwtConfig,
    pub(crate) disallowed: Vec<String>,
    pub(crate) header: Vec<(String, String)>,
    pub(crate) claims: Vec<(String, String)>,
    pub(crate) jwks: Vec<Value>,
    pub(crate) raw_jwks: Option<String>,
    pub(crate) raw_payload: Option<Vec<u8>>,
    /// What the signature is really made with, whatever the header says.
    pub(crate) algorithm: Algorithm,
    pub(crate) key: SigningKey,
}

impl Draft {
    /// Replaces the claim, or adds it; `raw` is JSON.
    pub(crate) fn claim(mut self, name: &str, raw: impl Into<String>) -> Self {
        let raw = raw.into();
        match self.claims.iter_mut().find(|(other, _)| other == name) {
            Some((_, value)) => *value = raw,
            None => self.claims.push((name.to_owned(), raw)),
        }
        self
    }

    /// Adds a claim, even when it is there already.
    pub(crate) fn also(mut self, name: &str, raw: impl Into<String>) -> Self {
        self.claims.push((name.to_owned(), raw.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn header(mut self, name: &str, raw: impl Into<String>) -> Self {
        self.header.retain(|(other, _)| other != name);
        self.header.push((name.to_owned(), raw.into()));
        self
    }

    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.header.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn config(mut self, change: impl FnOnce(&mut JwtConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Signs with this algorithm and its key, and says so in header and key set.
    pub(crate) fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self.key = self.world.keys.for_algorithm(algorithm).clone();
        self.jwks = vec![self.key.public().to_json()];
        let kid = json!(self.key.kid()).to_string();
        self.header("alg", json!(algorithm.to_string()).to_string()).header("kid", kid)
    }

    pub(crate) fn keys(mut self, jwks: Vec<Value>) -> Self {
        self.jwks = jwks;
        self
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        self.raw_payload.clone().unwrap_or_else(|| object(&self.claims).into_bytes())
    }

    /// Header and payload, encoded, and the signature over them.
    pub(crate) fn parts(&self) -> [String; 3] {
        let header = URL_SAFE_NO_PAD.encode(object(&self.header));
        let payload = URL_SAFE_NO_PAD.encode(self.payload());
        let input = format!("{header}.{payload}");
        let signature = self.key.sign(self.algorithm, input.as_bytes()).expect("a signature");
        [header, payload, URL_SAFE_NO_PAD.encode(signature)]
    }

    pub(crate) fn into_case(self, family: &'static str) -> Case {
        let token = self.parts().join(".");
        self.into_case_with(family, token)
    }

    /// A case with another token than the draft's own.
    pub(crate) fn into_case_with(self, family: &'static str, token: String) -> Case {
        let jwks = self.raw_jwks.unwrap_or_else(|| json!({ "keys": self.jwks }).to_string());
        Case {
            family,
            file: written(&self.config),
            initial: None,
            algs: self.config.signing_algs,
            disallowed: self.disallowed,
            jwks,
            issuer_jwks: Vec::new(),
            token,
        }
    }
}

/// A JSON object with members in this order, names as JSON strings unless they are given raw (with quotes).
pub(crate) fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| {
            let name = if name.starts_with('"') { name.clone() } else { json!(name).to_string() };
            format!("{name}:{value}")
        })
        .collect();
    format!("{{{}}}", members.join(","))
}
