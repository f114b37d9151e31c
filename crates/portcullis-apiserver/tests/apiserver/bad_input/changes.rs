//! Bodies of changes: objects in PUT, patches in PATCH, options in DELETE.

use serde_json::{Value, json};

use super::bodies::{STRATA, spoil, validation};
use super::metadata::THERE;
use super::seeds::seeds;
use super::wire::Case;
use crate::rbac::Dice;

const KEPT: &str = "/api/v1/namespaces/bad/configmaps/kept";
/// No object has this label.
const NONE: &str = "/api/v1/namespaces/bad/configmaps?labelSelector=none&dryRun=All";
/// Their refusals show what no two servers have in common: addresses, times, labels, conditions, or differences; data of
/// revisions are compared by what they say here, and byte for byte there.
const TELLING: [&str; 7] =
    ["pods", "services", "persistentvolumes", "persistentvolumeclaims", "jobs", "statefulsets", "controllerrevisions"];

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    // What upstream's code panics of.
    let taints =
        json!({"spec": {"taints": [{"key": "b", "effect": "NoExecute"}], "$setElementOrder/taints": [{"key": "b"}]}});
    let mut out = vec![
        Case::new("fixed", "PATCH", "/api/v1/nodes/there?dryRun=All")
            .header("content-type", "application/strategic-merge-patch+json")
            .body(taints.to_string()),
    ];
    for stratum in STRATA {
        for seed in seeds() {
            let plural = seed.path.rsplit('/').next().unwrap();
            if plural.ends_with("reviews") || TELLING.contains(&plural) {
                continue;
            }
            let query = validation(dice).replace('?', "&");
            let case = Case::new(stratum, "PUT", format!("{}/{THERE}?dryRun=All{query}", seed.path));
            out.push(spoil(dice, &seed.named(THERE), stratum, case));
        }
        for (media_type, target, patch) in patches() {
            let query = validation(dice).replace('?', "&");
            let case = Case::new(stratum, "PATCH", format!("{target}?dryRun=All{query}"));
            let mut case = spoil(dice, &patch, stratum, case);
            case.headers.retain(|(name, _)| name != "content-type");
            out.push(case.header("content-type", media_type));
        }
        for options in options() {
            let target = if dice.percent(60) { KEPT } else { NONE };
            out.push(spoil(dice, &options, stratum, Case::new(stratum, "DELETE", target)));
        }
    }
    out
}

/// Media types, what is patched, and a good patch of it.
fn patches() -> Vec<(&'static str, &'static str, Value)> {
    let deployment = "/apis/apps/v1/namespaces/bad/deployments/there";
    let merge = "application/merge-patch+json";
    let strategic = "application/strategic-merge-patch+json";
    let steps = "application/json-patch+json";
    let kind = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "kept", "labels": {"a": "b"}},
        "data": {"a": "x", "c": null}, "immutable": false});
    let containers = json!([{"name": "c", "image": "i:2", "env": [{"name": "A", "$patch": "delete"}], "ports": [{"containerPort": 80}]},
        {"name": "d", "image": "i"}]);
    vec![
        (merge, KEPT, kind.clone()),
        (strategic, KEPT, kind),
        (
            strategic,
            deployment,
            json!({"metadata": {"annotations": {"n": "m"}}, "spec": {"replicas": 3, "template": {"spec": {"containers": containers}}}}),
        ),
        (
            merge,
            deployment,
            json!({"spec": {"replicas": 3, "minReadySeconds": 5, "strategy": {"rollingUpdate": {"maxSurge": 1}}}}),
        ),
        (
            strategic,
            KEPT,
            json!({"metadata": {"finalizers": ["a.b/c"], "$setElementOrder/finalizers": ["a.b/c"]}, "data": {"$retainKeys": ["a"], "a": "x"}, "binaryData": {"$patch": "replace"}}),
        ),
        (
            steps,
            KEPT,
            json!([{"op": "test", "path": "/data/a", "value": "b"}, {"op": "add", "path": "/data/c", "value": "d"},
            {"op": "copy", "from": "/data/a", "path": "/data/e"}, {"op": "move", "from": "/data/e", "path": "/data/f"}]),
        ),
        (
            steps,
            deployment,
            json!([{"op": "replace", "path": "/spec/replicas", "value": 3}, {"op": "remove", "path": "/metadata/labels/tier"},
            {"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "d", "image": "i"}}]),
        ),
    ]
}

fn options() -> [Value; 3] {
    let (kind, version) = ("DeleteOptions", "v1");
    [
        json!({"kind": kind, "apiVersion": version, "gracePeriodSeconds": 5, "propagationPolicy": "Background", "dryRun": ["All"]}),
        json!({"kind": kind, "apiVersion": "meta.k8s.io/v1", "preconditions": {"uid": "u", "resourceVersion": "1"}, "orphanDependents": true}),
        json!({"propagationPolicy": "Foreground", "dryRun": ["All"], "ignoreStoreReadErrorWithClusterBreakingPotential": false}),
    ]
}
