//! kube-apiserver's OIDC verdict: what it makes of a bearer token, given its `--oidc-*` flags or its AuthenticationConfiguration.
//!
//! Flow: [`OidcFlags`], or a file as [`TrustConfiguration`] → [`ValidConfig`] for each issuer → [`Authenticator`] →
//! [`Verdict`] for each token. The same authenticator serves the dev API server, the webhook, the gateway and `check`;
//! [`Policy`] says how far kube-apiserver's leniency goes.
//!
//! An authenticator is made once, cloned at will, and asked with each token:
//! ```
//! use portcullis_authn::{Authenticator, Options, TrustConfiguration, Verdict};
//! use portcullis_jose::{JwkSet, KeyKind, SigningKey, sign_compact};
//! use portcullis_runtime::Clock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let file = br#"
//! apiVersion: apiserver.config.k8s.io/v1
//! kind: AuthenticationConfiguration
//! jwt:
//! - issuer: {url: "https://issuer.example", audiences: [kubernetes]}
//!   claimMappings:
//!     username: {expression: "'oidc:' + claims.sub"}
//!     groups: {claim: groups, prefix: ""}
//! "#;
//! let trust = TrustConfiguration::load(file, &[])?;
//! // With `Authenticator::start` the issuers are discovered, and their keys fetched when a token needs them; with
//! // `Authenticator::with_key_sources` a `KeySource` of your own is asked about signatures. Both have an example of their own.
//! let key = SigningKey::generate(KeyKind::P256, "a".to_owned())?;
//! let keys = JwkSet::from_keys(vec![key.public().clone()]);
//! let issuers = trust.issuers().iter().map(|issuer| (issuer.clone(), keys.clone()));
//! let authenticator = Authenticator::with_static_keys(issuers, Options::new(Clock::mock(1_800_000_000).0));
//!
//! let claims = br#"{"iss":"https://issuer.example","aud":"kubernetes","sub":"jane","exp":1800003600,"groups":["dev"]}"#;
//! let token = sign_compact(&key, key.default_algorithm(), None, claims)?;
//! let Verdict::User(user) = authenticator.authenticate(&token).await else { panic!("not accepted") };
//! assert_eq!(user.info().username, "oidc:jane");
//! assert_eq!(user.info().groups, ["dev"]);
//! assert!(matches!(authenticator.authenticate("opaque").await, Verdict::NoOpinion));
//! # Ok(())
//! # }
//! ```
//!
//! It must never know our own provider: tokens of every issuer are treated alike, or the comparison with kube-apiserver
//! would prove nothing. It knows no authorization, and it makes no decision on bytes that were not verified.

#![warn(clippy::missing_errors_doc)]

mod authenticator;
mod cache;
mod cel;
mod claims;
mod config;
mod configuration;
mod distributed;
mod error;
mod explain;
mod flags;
mod go;
mod issuer;
mod keys;
mod live;
mod mapping;
mod policy;
mod route;
mod rules;
mod verdict;
mod verify;

pub use authenticator::{Authenticator, Options};
pub use config::{ALL_SIGNING_ALGS, ConfigError, FieldErrors, JwtConfig, PrefixedClaim, ValidConfig};
pub use configuration::{MAX_ISSUERS, TrustConfiguration};
pub use distributed::{ClaimFetchError, ClaimHostError, ClaimHosts, DistributedClaims, DistributedError};
pub use error::{AuthnError, ClaimsError, Step, StrictError, VerifyError};
pub use explain::{Evaluation, Purpose, claimed_issuer};
pub use flags::{FLAG_NAMES, FlagError, OidcFlags};
pub use keys::Network;
pub use live::{Change, ConfigFile, LiveAuthenticator, ReloadError, ReloadMetrics, Reloaded};
pub use policy::Policy;
pub use portcullis_oidc::client::{KeySource, KeySourceError, Verification};
pub use verdict::{Verdict, VerifiedUser};
