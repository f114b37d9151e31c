//! `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0), as prepared bytes.
//!
//! Compat: Dex's members in Dex's order, indented by two spaces. What is not served yet is not advertised (device,
//! introspection). Last comes `authorization_response_iss_parameter_supported` (RFC 9207), which Dex does not have.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use portcullis_oidc::DiscoveryDocument;

use crate::config::{Config, Grant};
use crate::http::Reply;
use crate::signer::Ring;
use crate::tokens::Document;

/// The discovery document.
pub(crate) struct Discovery {
    rest: DiscoveryDocument,
    prepared: ArcSwap<(Vec<&'static str>, Document)>,
}

impl Discovery {
    /// `browser_base` replaces scheme and authority of the one endpoint that browsers see.
    pub(crate) fn new(config: &Config, browser_base: Option<&str>, ring: &Ring) -> Self {
        let issuer = &config.issuer;
        let list = |items: &[&str]| items.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>();
        let authorization =
            browser_base.map_or_else(|| issuer.at("/auth"), |base| format!("{base}{}/auth", issuer.path()));
        let rest = DiscoveryDocument {
            issuer: issuer.as_str().to_owned(),
            authorization_endpoint: Some(authorization),
            token_endpoint: Some(issuer.at("/token")),
            jwks_uri: Some(issuer.at("/keys")),
            userinfo_endpoint: Some(issuer.at("/userinfo")),
            grant_types_supported: config.oauth2.grants.iter().map(|g: &Grant| g.as_str().to_owned()).collect(),
            response_types_supported: list(&["code"]),
            subject_types_supported: list(&["public"]),
            code_challenge_methods_supported: config
                .oauth2
                .pkce_methods
                .iter()
                .map(|m| m.as_str().to_owned())
                .collect(),
            scopes_supported: list(&["openid", "email", "groups", "profile", "offline_access"]),
            token_endpoint_auth_methods_supported: list(&["client_secret_basic", "client_secret_post"]),
            claims_supported: list(&[
                "iss",
                "sub",
                "aud",
                "iat",
                "exp",
                "email",
                "email_verified",
                "locale",
                "name",
                "preferred_username",
                "at_hash",
                "groups",
                "federated_claims",
            ]),
            other: [("authorization_response_iss_parameter_supported".to_owned(), true.into())].into_iter().collect(),
            ..DiscoveryDocument::default()
        };
        let prepared = ArcSwap::from_pointee(prepare(&rest, &ring.algorithms));
        Self { rest, prepared }
    }

    /// The answer, with the algorithms of the keys that are published now.
    pub(crate) fn reply(&self, ring: &Ring, headers: &HeaderMap) -> Reply {
        let mut prepared = self.prepared.load_full();
        if prepared.0 != ring.algorithms {
            prepared = Arc::new(prepare(&self.rest, &ring.algorithms));
            self.prepared.store(prepared.clone());
        }
        prepared.1.reply(headers, "application/json", "no-cache")
    }
}

fn prepare(rest: &DiscoveryDocument, algorithms: &[&'static str]) -> (Vec<&'static str>, Document) {
    let mut document = rest.clone();
    document.id_token_signing_alg_values_supported = algorithms.iter().map(|a| (*a).to_owned()).collect();
    (algorithms.to_vec(), Document::new(serde_json::to_vec_pretty(&document).unwrap_or_default()))
}
