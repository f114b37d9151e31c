//! What the authenticators are asked: configurations, keys, and tokens that all of them accept.

use anyhow::Result;
use portcullis_authn::{Authenticator, Options, TrustConfiguration};
use portcullis_jose::{JwkSet, KeyKind, SigningKey, sign_compact};
use portcullis_runtime::Clock;
use serde_json::{Value, json};

/// Tokens of each kind.
const TOKENS: usize = 2_000;

/// The issuers of the largest file.
const ISSUERS: usize = 64;

/// Bytes of the token cache, where there is one.
pub(crate) const CACHE_BYTES: usize = 32 << 20;

/// A file, and tokens that are good by it.
pub(crate) struct Case {
    pub(crate) config: Value,
    pub(crate) keys: JwkSet,
    pub(crate) tokens: Vec<String>,
}

pub(crate) struct Cases {
    /// One issuer, RS256.
    pub(crate) rs256: Case,
    /// One issuer, ES256.
    pub(crate) es256: Case,
    /// Of 64 issuers the first, the middle and the last one, RS256.
    pub(crate) many: [Case; 3],
    /// The same tokens as those of `rs256`, mapped and judged by expressions.
    pub(crate) cel: Case,
}

impl Cases {
    pub(crate) fn new() -> Result<Self> {
        let rsa = SigningKey::generate(KeyKind::Rsa2048, "bench".to_owned())?;
        let ec = SigningKey::generate(KeyKind::P256, "bench".to_owned())?;
        let case = |jwt: Vec<Value>, key: &SigningKey, issuer: usize| -> Result<Case> {
            let keys = JwkSet::from_keys(vec![key.public().clone()]);
            let tokens = (0..TOKENS).map(|number| token(key, issuer, number)).collect::<Result<_>>()?;
            Ok(Case { config: file(jwt), keys, tokens })
        };
        let all = || (0..ISSUERS).map(by_claims).collect();
        Ok(Self {
            rs256: case(vec![by_claims(0)], &rsa, 0)?,
            es256: case(vec![by_claims(0)], &ec, 0)?,
            many: [case(all(), &rsa, 0)?, case(all(), &rsa, ISSUERS / 2)?, case(all(), &rsa, ISSUERS - 1)?],
            cel: case(vec![by_expressions()], &rsa, 0)?,
        })
    }
}

impl Case {
    /// Ours, as `portcullis` makes it of the file.
    pub(crate) fn authenticator(&self, cache_bytes: usize) -> Result<Authenticator> {
        let trust = TrustConfiguration::load(self.config.to_string().as_bytes(), &[])?;
        let issuers = trust.issuers().iter().map(|issuer| (issuer.clone(), self.keys.clone()));
        Ok(Authenticator::with_static_keys(issuers, Options { cache_bytes, ..Options::new(Clock::system()) }))
    }
}

fn file(jwt: Vec<Value>) -> Value {
    json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": jwt})
}

fn issuer_url(issuer: usize) -> String {
    format!("https://issuer-{issuer:02}.example.com")
}

fn by_claims(issuer: usize) -> Value {
    json!({
        "issuer": {"url": issuer_url(issuer), "audiences": ["kubernetes"]},
        "claimMappings": {"username": {"claim": "email", "prefix": ""}, "groups": {"claim": "groups", "prefix": ""}},
    })
}

fn by_expressions() -> Value {
    json!({
        "issuer": {"url": issuer_url(0), "audiences": ["kubernetes"]},
        "claimMappings": {
            "username": {"expression": "'oidc:' + claims.email"},
            "groups": {"expression": "dyn(claims.groups).map(group, 'oidc:' + group)"},
            "extra": [{"key": "example.com/subject", "valueExpression": "claims.sub"}],
        },
        "claimValidationRules": [{"expression": "claims.email_verified == true", "message": "the address is not verified"}],
        "userValidationRules": [{"expression": "user.groups.all(group, !group.startsWith('system:'))", "message": "reserved"}],
    })
}

/// A token of the size that a company's provider issues: twenty groups.
fn token(key: &SigningKey, issuer: usize, number: usize) -> Result<String> {
    let groups: Vec<String> = (0..20).map(|group| format!("team-{group:02}")).collect();
    let claims = json!({
        "iss": issuer_url(issuer), "sub": format!("user-{number}"), "aud": "kubernetes", "exp": 4_102_444_800_u64,
        "iat": 1_700_000_000, "jti": format!("{number:032x}"), "email": format!("user-{number}@example.com"),
        "email_verified": true, "groups": groups,
    });
    Ok(sign_compact(key, key.default_algorithm(), None, claims.to_string().as_bytes())?)
}
