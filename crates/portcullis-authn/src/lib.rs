//! kube-apiserver's OIDC verdict: what it makes of a bearer token, given its `--oidc-*` flags or its AuthenticationConfiguration.
//!
//! Flow: [`OidcFlags`], or a file as [`TrustConfiguration`] → [`ValidConfig`] for each issuer → [`Authenticator`] →
//! [`Verdict`] for each token. The same authenticator serves the dev API server, the webhook, the gateway and `check`;
//! [`Policy`] says how far kube-apiserver's leniency goes.
//!
//! It must never know our own provider: tokens of every issuer are treated alike, or the comparison with kube-apiserver
//! would prove nothing. It knows no authorization, and it makes no decision on bytes that were not verified.

mod authenticator;
mod cache;
mod cel;
mod claims;
mod config;
mod configuration;
mod distributed;
mod error;
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
pub use distributed::{ClaimFetchError, DistributedClaims, DistributedError};
pub use error::{AuthnError, ClaimsError, Step, StrictError, VerifyError};
pub use flags::{FLAG_NAMES, FlagError, OidcFlags};
pub use keys::Network;
pub use live::{Change, LiveAuthenticator, ReloadError, Reloaded};
pub use policy::Policy;
pub use verdict::{Verdict, VerifiedUser};
