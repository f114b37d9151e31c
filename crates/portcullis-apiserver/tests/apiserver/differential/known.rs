//! What is known to differ, and why. `docs/compat/kube-apiserver.md` says it to users.

/// A part of a request's line, and why its answers differ. A request that no longer differs fails the test.
pub(super) const KNOWN: &[(&str, &str)] = &[
    ("persistentvolumes/v {\"spec\":{\"hostPath\"", "no diff of what may not change"),
    ("persistentvolumeclaims/c {\"spec\":{\"accessModes\"", "no diff of what may not change"),
    (
        "statefulsets/st {\"spec\":{\"volumeClaimTemplates\"",
        "the message shows the field as upstream's internal type has it",
    ),
    (
        "GET /apis/apps/v1/namespaces/workloads/daemonsets ",
        "a table's objects carry the annotation with the old generation, as the daemon set itself does",
    ),
];
