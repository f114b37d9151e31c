//! Service account tokens: the server is their issuer and their verifier.
//!
//! The key is RSA, made at start away from the threads that serve, unless one was given. `claims` is what a token says,
//! `verify` what the server believes of it, `handlers/token.rs` who gets one.
//!
//! A token is never written to the log. A key that the server made dies with it, and all of its tokens too.
//!
//! Compat: `pkg/serviceaccount` of Kubernetes 1.37.

pub(crate) mod claims;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use portcullis_jose::{Algorithm, JoseError, JwkSet, KeyKind, PublicJwk, SigningKey, sign_compact};
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use self::claims::Claims;
pub(crate) use self::verify::Verdict;
use crate::json;

/// Who issues service account tokens, and for whom they are when nobody says otherwise. No OIDC issuer may have this name.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Where the server's own discovery document is.
pub(crate) const CONFIGURATION: &str = "/.well-known/openid-configuration";
/// Where its keys are.
pub(crate) const KEYS: &str = "/openid/v1/jwks";

/// The issuer of service account tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ServiceAccounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    audiences: Vec<String>,
    configuration: Bytes,
    given: Option<SigningKey>,
    keys: OnceCell<Keys>,
}

/// The key in its forms.
#[derive(Debug)]
struct Keys {
    signing: SigningKey,
    public: JwkSet,
    /// The document at [`KEYS`].
    document: Bytes,
}

impl ServiceAccounts {
    /// `address` is where clients find the server; `key` is an RSA key to go on with, under whatever id.
    pub(crate) fn new(address: &str, key: Option<SigningKey>) -> Self {
        let configuration = json!({"issuer": ISSUER, "jwks_uri": format!("https://{address}{KEYS}"),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [Algorithm::Rs256.name()]});
        Self(Arc::new(Inner {
            audiences: vec![ISSUER.to_owned()],
            configuration: json::to_vec(&configuration).into(),
            given: key,
            keys: OnceCell::new(),
        }))
    }

    /// The audiences of the API server itself.
    pub(crate) fn audiences(&self) -> &[String] {
        &self.0.audiences
    }

    /// The document at [`CONFIGURATION`].
    pub(crate) fn configuration(&self) -> Bytes {
        self.0.configuration.clone()
    }

    /// The document at [`KEYS`].
    pub(crate) async fn document(&self) -> Result<Bytes, JoseError> {
        Ok(self.keys().await?.document.clone())
    }

    /// Makes the key when there is none yet: it takes 20 to 150 ms of a thread that serves nobody.
    pub(crate) async fn prepare(&self) {
        if let Err(error) = self.keys().await {
            tracing::error!(%error, "no key for service account tokens could be made");
        }
    }

    /// A token that says `claims`.
    pub(crate) async fn sign(&self, claims: &Claims) -> Result<String, JoseError> {
        sign_compact(&self.keys().await?.signing, Algorithm::Rs256, None, &json::to_vec(claims))
    }

    async fn keys(&self) -> Result<&Keys, JoseError> {
        let make = || async {
            let given = self.0.given.clone();
            let work = tokio::task::spawn_blocking(move || Keys::new(given));
            work.await.map_err(|_| JoseError::Crypto)?
        };
        self.0.keys.get_or_try_init(make).await
    }
}

impl Keys {
    fn new(given: Option<SigningKey>) -> Result<Self, JoseError> {
        let key = given.map_or_else(|| SigningKey::generate(KeyKind::Rsa2048, String::new()), Ok)?;
        let der = key.to_pkcs8_der()?;
        let signing = SigningKey::from_pkcs8_der(&der, key_id(&der)?)?;
        let document = json!({"keys": [in_order(signing.public())]});
        let public = JwkSet::from_keys(vec![signing.public().clone()]);
        Ok(Self { document: json::to_vec(&document).into(), signing, public })
    }
}

/// Compat: `keyIDFromPublicKey`: the hash of the public key in DER.
fn key_id(pkcs8: &[u8]) -> Result<String, JoseError> {
    let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| JoseError::InvalidKey)?;
    let der = pair.public_key().as_der().map_err(|_| JoseError::Crypto)?;
    Ok(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der.as_ref())))
}

/// The members in the order in which upstream writes them.
fn in_order(key: &PublicJwk) -> Value {
    let all = key.to_json();
    let member = |name: &str| Some((name.to_owned(), all.get(name)?.clone()));
    Value::Object(["use", "kty", "kid", "alg", "n", "e"].into_iter().filter_map(member).collect::<Map<_, _>>())
}
