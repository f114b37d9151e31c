//! What the server believes of a service account token.
//!
//! Flow: issuer → key → signature → audience → times → the account and the object that it is bound to, as they are now.
//! A token outlives neither: whoever deletes the account or the pod ends it.
//!
//! It must never believe a claim before the signature, and never an object of the same name but another uid.
//!
//! Compat: `pkg/serviceaccount/jwt.go` and `claims.go`: times have a minute of leeway, texts are upstream's. Results are not
//! cached: verifying takes microseconds.

use std::time::Duration;

use portcullis_jose::{CompactJws, Limits};
use portcullis_kube::UserInfo;
use portcullis_kube::go::quote_all;
use portcullis_kube::status::GroupResource;
use portcullis_runtime::Timestamp;
use serde::Deserialize;

use super::claims::{Claims, Reference, username};
use super::{ISSUER, ServiceAccounts};
use crate::resources::{self, text};
use crate::store::Store;
use crate::store::object::Object;

/// Clocks may differ by this much.
const LEEWAY: Duration = Duration::from_secs(60);
/// Whatever is wrong with what a token is bound to.
const INVALIDATED: &str = "service account token has been invalidated";

/// What became of a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not one of ours.
    NoOpinion,
    /// It is one of ours, and not good.
    Refused(String),
    /// The account, and those of the wanted audiences that it is for.
    Account { user: UserInfo, audiences: Vec<String> },
}

impl ServiceAccounts {
    /// Verifies a token for any of the audiences `wanted`.
    pub(crate) async fn verify(&self, store: &Store, now: Timestamp, token: &str, wanted: &[String]) -> Verdict {
        #[derive(Deserialize)]
        struct Unverified {
            #[serde(default)]
            iss: String,
        }
        let Ok(jws) = CompactJws::parse(token, &Limits::default()) else { return Verdict::NoOpinion };
        let issuer = serde_json::from_slice::<Unverified>(jws.unverified_payload());
        if !issuer.is_ok_and(|claims| claims.iss == ISSUER) {
            return Verdict::NoOpinion;
        }
        match self.claims(jws).await.and_then(|claims| account(store, now, &claims, wanted)) {
            Ok((user, audiences)) => Verdict::Account { user, audiences },
            Err(why) => Verdict::Refused(why),
        }
    }

    async fn claims(&self, jws: CompactJws<'_>) -> Result<Claims, String> {
        let keys = self.keys().await.map_err(|error| error.to_string())?;
        if jws.kid().is_some_and(|kid| !kid.is_empty() && kid != keys.signing.kid()) {
            return Err("invalid signature, no keys found".to_owned());
        }
        let bad = |_| "go-jose/go-jose: error in cryptographic primitive".to_owned();
        let payload = jws.verify(&keys.public).map_err(bad)?;
        serde_json::from_slice(payload.bytes()).map_err(|error| error.to_string())
    }
}

fn account(
    store: &Store,
    now: Timestamp,
    claims: &Claims,
    wanted: &[String],
) -> Result<(UserInfo, Vec<String>), String> {
    let audiences: Vec<String> = wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
    if audiences.is_empty() {
        let (has, target) = (quote_all(&claims.aud), quote_all(wanted));
        return Err(format!("token audiences {has} is invalid for the target audiences {target}"));
    }
    if now + LEEWAY < claims.nbf {
        return Err("service account token is not valid yet".to_owned());
    }
    if claims.exp + LEEWAY < now {
        return Err("service account token has expired".to_owned());
    }
    if now + LEEWAY < claims.iat {
        return Err("service account token is issued in the future".to_owned());
    }
    let binding = &claims.kubernetes;
    let (namespace, name) = (&binding.namespace, &binding.serviceaccount.name);
    let Some(found) = find(store, "serviceaccounts", namespace, name) else {
        let what = GroupResource::new("", "serviceaccounts");
        return Err(portcullis_kube::Status::not_found(what, name).message);
    };
    if *found.uid != *binding.serviceaccount.uid {
        let claimed = &binding.serviceaccount.uid;
        return Err(format!("service account UID ({}) does not match claim ({claimed})", found.uid));
    }
    if gone(&found, now) {
        return Err(format!("service account {namespace}/{name} has been deleted"));
    }
    if let Some(secret) = &binding.secret {
        bound(store, now, "secrets", namespace, secret).map_err(|why| why.text("secret"))?;
    }
    if let Some(pod) = &binding.pod {
        bound(store, now, "pods", namespace, pod).map_err(|why| why.text("pod"))?;
    }
    if let (Some(node), None) = (&binding.node, &binding.pod) {
        bound(store, now, "nodes", "", node).map_err(|why| why.text("node"))?;
    }
    Ok((user(claims), audiences))
}

fn user(claims: &Claims) -> UserInfo {
    let binding = &claims.kubernetes;
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", binding.namespace)];
    let mut user = UserInfo::new(username(&binding.namespace, &binding.serviceaccount.name), groups);
    user.uid.clone_from(&binding.serviceaccount.uid);
    let mut extra = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &binding.pod {
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(node) = &binding.node {
        extra("node-name", &node.name);
        if !node.uid.is_empty() {
            extra("node-uid", &node.uid);
        }
    }
    user
}

/// What is wrong with a bound object.
enum Unbound {
    Gone,
    Other { uid: String, claimed: String },
}

impl Unbound {
    fn text(self, kind: &str) -> String {
        match self {
            Self::Gone => INVALIDATED.to_owned(),
            Self::Other { uid, claimed } => {
                format!("{kind} UID ({uid}) does not match service account {kind} ref claim ({claimed})")
            }
        }
    }
}

fn bound(store: &Store, now: Timestamp, plural: &str, namespace: &str, claimed: &Reference) -> Result<(), Unbound> {
    let object = find(store, plural, namespace, &claimed.name).ok_or(Unbound::Gone)?;
    if *object.uid != *claimed.uid {
        return Err(Unbound::Other { uid: object.uid.to_string(), claimed: claimed.uid.clone() });
    }
    if gone(&object, now) { Err(Unbound::Gone) } else { Ok(()) }
}

fn find(store: &Store, plural: &str, namespace: &str, name: &str) -> Option<std::sync::Arc<Object>> {
    store.get(resources::find("", "v1", plural)?, namespace, name)
}

/// It was deleted longer ago than clocks may differ, and something holds it.
fn gone(object: &Object, now: Timestamp) -> bool {
    let deleted = || Timestamp::parse_rfc3339(&text(&object.members(), &["metadata", "deletionTimestamp"]));
    object.terminating && deleted().is_none_or(|deleted| deleted + LEEWAY < now)
}
