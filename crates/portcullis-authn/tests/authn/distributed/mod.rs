//! Distributed claims against two issuers on loopback: one signs tokens that say where the groups are, the other serves
//! them, signed as well.

mod bounds;
mod redirects;
mod secrecy;
mod verdicts;

use std::time::Duration;

use portcullis_authn::{
    Authenticator, AuthnError, DistributedError, JwtConfig, Network, Options, PrefixedClaim, Verdict,
};
use portcullis_jose::{KeyKind, SigningKey};
use portcullis_runtime::{Clock, MockClock, Shutdown};
use portcullis_testkit::{FakeIssuer, IssuerOptions, Reply, TestCa};
use serde_json::{Value, json};

pub(crate) const NOW: i64 = 1_800_000_000;
const LIMIT: Duration = Duration::from_secs(60);
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the second issuer serves the groups.
const ENDPOINT: &str = "/groups";
const PREFIX: &str = "oidc: could not expand distributed claims: ";

struct World {
    /// Signs the tokens that are asked about.
    issuer: FakeIssuer,
    /// Serves the groups.
    claims: FakeIssuer,
    authenticator: Authenticator,
    clock: MockClock,
    shutdown: Shutdown,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// What a test may change before the authenticator starts.
struct Setup {
    config: JwtConfig,
    options: Options,
    network: Network,
}

async fn issuer() -> FakeIssuer {
    issuer_of(TestCa::default()).await
}

/// An issuer whose certificate nobody trusts.
async fn stranger() -> FakeIssuer {
    issuer_of(TestCa::new("another CA")).await
}

async fn issuer_of(ca: TestCa) -> FakeIssuer {
    let key = SigningKey::generate(KeyKind::P256, "k".to_owned()).expect("a key");
    FakeIssuer::start_with(IssuerOptions { key: Some(key), ca: Some(ca), ..IssuerOptions::default() }).await
}

impl World {
    async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    /// An authenticator that knows its issuer already; that of the claims is found when it is needed.
    async fn with(change: impl FnOnce(&mut Setup, &FakeIssuer)) -> Self {
        Self::with_claims(|setup, issuer, _| change(setup, issuer)).await
    }

    /// As [`World::with`]; the change is told of the issuer of the claims too.
    async fn with_claims(change: impl FnOnce(&mut Setup, &FakeIssuer, &FakeIssuer)) -> Self {
        let (issuer, claims) = (issuer().await, issuer().await);
        let (clock, mock) = Clock::mock(NOW);
        let mut setup = Setup {
            config: JwtConfig {
                issuer_url: issuer.issuer().to_owned(),
                certificate_authority: format!("{}{}", issuer.ca().pem(), claims.ca().pem()),
                audiences: vec!["c".into()],
                username: PrefixedClaim { claim: "sub".into(), prefix: String::new() },
                groups: Some(PrefixedClaim { claim: "groups".into(), prefix: "p:".into() }),
                signing_algs: vec!["ES256".into()],
                ..JwtConfig::default()
            },
            // No cache: every token shows what the endpoint says.
            options: Options { cache_bytes: 0, ..Options::new(clock) },
            network: Network { retry: Duration::from_millis(5), ..Network::default() },
        };
        change(&mut setup, &issuer, &claims);
        let Setup { config, options, network } = setup;
        let config = config.validate("jwt[0]", &[]).expect("a valid configuration");
        let shutdown = Shutdown::new();
        let authenticator = Authenticator::start([config], options, &network, &shutdown).expect("an authenticator");
        tokio::time::timeout(LIMIT, authenticator.ready()).await.expect("discovery succeeds");
        let this = Self { issuer, claims, authenticator, clock: mock, shutdown };
        this.serve(&this.groups(&json!(["a", "b"])));
        this
    }

    /// As [`World::new`], with the issuer of the claims known and every key at hand.
    async fn warm() -> Self {
        let this = Self::new().await;
        assert_eq!(this.ask_known(&this.token()).await, r#"jane ["p:a", "p:b"]"#);
        this
    }

    /// The claims that the endpoint gives.
    fn groups(&self, groups: &Value) -> Value {
        json!({ "iss": self.claims.issuer(), "aud": "c", "exp": NOW + 1_000, "groups": groups })
    }

    /// The endpoint gives these claims from now on.
    fn serve(&self, claims: &Value) {
        self.claims.reply(ENDPOINT, Reply::bytes(self.claims.sign(claims)));
    }

    /// The claims of a token whose groups are at `endpoint`.
    fn pointing_to(&self, endpoint: &str, access_token: &str) -> Value {
        let source = json!({ "endpoint": endpoint, "access_token": access_token });
        json!({
            "iss": self.issuer.issuer(), "aud": "c", "sub": "jane", "exp": NOW + 1_000,
            "_claim_names": { "groups": "src" }, "_claim_sources": { "src": source },
        })
    }

    /// A token whose groups are at the endpoint.
    fn token(&self) -> String {
        self.token_to(&self.claims.url(ENDPOINT))
    }

    fn token_to(&self, endpoint: &str) -> String {
        self.issuer.sign(&self.pointing_to(endpoint, "s3cret"))
    }

    /// Name and groups; else why not.
    async fn ask(&self, token: &str) -> String {
        match self.authenticator.authenticate(token).await {
            Verdict::User(user) => format!("{} {:?}", user.info().username, user.info().groups),
            Verdict::NoOpinion => "no opinion".to_owned(),
            Verdict::Refused(error) => {
                let text = error.to_string();
                text.strip_prefix(PREFIX).unwrap_or(&text).to_owned()
            }
        }
    }

    /// As [`World::ask`], once the issuer of the claims is known.
    async fn ask_known(&self, token: &str) -> String {
        tokio::time::timeout(LIMIT, async {
            while let Verdict::Refused(AuthnError::Distributed(DistributedError::NotInitialized { .. })) =
                self.authenticator.authenticate(token).await
            {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the issuer of the claims is found");
        self.ask(token).await
    }

    fn fetches(&self) -> usize {
        self.claims.count(ENDPOINT)
    }
}

/// What a token gets whose claims come from an issuer that is not known.
fn unknown(issuer: &str) -> String {
    format!("verifying untrusted issuer {issuer} failed: verifier not initialized for issuer: {issuer:?}")
}

/// Waits until `done`.
async fn until(done: impl Fn() -> bool) {
    tokio::time::timeout(LIMIT, async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what was waited for");
}
