//! `DefaultIngressClass`: an ingress that names no class gets the default one, if there is one.
//!
//! Compat: `plugin/pkg/admission/network/defaultingressclass` of Kubernetes 1.37.

use serde_json::json;

use super::newest_marked;
use crate::engine::Engine;
use crate::resources::ingress_classes;
use crate::resources::tree::{Members, at, object};

const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
/// How ingresses once named their class.
const OLD_NAME: &str = "kubernetes.io/ingress.class";

/// Gives a new ingress its class.
pub(super) fn change_new(engine: &Engine, ingress: &mut Members) {
    let named = at(ingress, &["spec", "ingressClassName"]).is_some_and(|name| !name.is_null())
        || at(ingress, &["metadata", "annotations", OLD_NAME]).is_some();
    if named {
        return;
    }
    if let Some(class) = newest_marked(engine, ingress_classes(), &[MARK]) {
        object(ingress, "spec").insert("ingressClassName".to_owned(), json!(class));
    }
}
