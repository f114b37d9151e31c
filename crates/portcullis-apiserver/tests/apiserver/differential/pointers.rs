//! Structs in which nothing is set, where there is a pointer to one: upstream tells them from none when it asks whether an
//! update changes what may not change, and whether it counts as a new generation.

use portcullis_testkit::ControlPlane;
use serde_json::{Value, json};

use super::script::Step;
use super::{Answer, Side, difference, make_namespace, settled};
use crate::bench::Bench;

const NAMESPACE: &str = "pointers";
/// What there is in a container, a pod's specification and a template, behind the pointer to it.
const OF_CONTAINER: &[&str] = &[
    "securityContext",
    "securityContext/capabilities",
    "securityContext/seLinuxOptions",
    "securityContext/windowsOptions",
    "securityContext/seccompProfile",
    "lifecycle",
    "lifecycle/postStart",
    "lifecycle/preStop",
    "livenessProbe",
    "livenessProbe/tcpSocket",
    "readinessProbe",
    "startupProbe",
    "startupProbe/exec",
    "resources",
    "resources/limits",
    "env/0/valueFrom",
    "env/0/valueFrom/configMapKeyRef",
    "envFrom/0/secretRef",
];
const OF_POD: &[&str] = &[
    "affinity",
    "affinity/nodeAffinity",
    "affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
    "affinity/podAffinity",
    "affinity/podAntiAffinity",
    "securityContext",
    "securityContext/seLinuxOptions",
    "securityContext/windowsOptions",
    "securityContext/seccompProfile",
    "securityContext/appArmorProfile",
    "dnsConfig",
    "os",
    "resources",
    "schedulingGroup",
    "nodeSelector",
    "overhead",
    "topologySpreadConstraints/0/labelSelector",
    "volumes/0/emptyDir",
    "volumes/0/configMap",
    "volumes/1/secret",
    "volumes/1/csi",
];

/// A collection, an object in it, and what is put there; `TEMPLATE` stands for all that a pod's specification may have.
fn objects() -> Vec<(&'static str, Value, Vec<String>)> {
    let pod = json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "i", "env": [{"name": "E"}], "envFrom": [{"configMapRef": {"name": "m"}}]}],
        "volumes": [{"name": "v"}, {"name": "w", "secret": {"secretName": "s"}}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "t", "whenUnsatisfiable": "DoNotSchedule"}]});
    let with = |name: &str, value: Value| {
        let mut pod = pod.clone();
        pod[name] = value;
        pod
    };
    let anti = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}});
    let zone = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}}});
    let gates = json!([{"name": "a"}]);
    let mut gated = with("affinity", zone.clone());
    gated["schedulingGates"] = gates.clone();
    let once = json!({"restartPolicy": "Never", "containers": pod["containers"], "volumes": pod["volumes"]});
    let mut once_there = once.clone();
    once_there["affinity"] = zone;
    let labels = json!({"metadata": {"labels": {"app": "a"}}});
    let template = |pod: &Value| json!({"metadata": labels["metadata"], "spec": pod});
    let selector = json!({"matchLabels": {"app": "a"}});
    let apps = |pod: &Value| json!({"spec": {"selector": selector, "template": template(pod)}});
    let under = |at: &str, more: &[&str]| {
        let own = OF_POD.iter().map(|part| format!("{at}/{part}"));
        let container = OF_CONTAINER.iter().map(|part| format!("{at}/containers/0/{part}"));
        let more = more.iter().map(|part| (*part).to_owned());
        own.chain(container).chain(more).collect::<Vec<_>>()
    };
    let listed = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let within = "/spec/template/spec";
    let pods = "/api/v1/namespaces/pointers/pods";
    let jobs = "/apis/batch/v1/namespaces/pointers/jobs";
    let job = ["/spec/selector", "/spec/podFailurePolicy", "/spec/successPolicy", "/spec/scheduling"];
    // What else a suspended job may change is not told alike.
    let affinities = || under(within, &[]).into_iter().filter(|place| place.contains("affinity")).collect::<Vec<_>>();
    let suspended = |pod: &Value| json!({"spec": {"suspend": true, "template": {"spec": pod}}});
    vec![
        (pods, json!({"spec": pod}), under("/spec", &[])),
        (pods, json!({"spec": with("affinity", anti)}), under("/spec", &[])),
        (pods, json!({"spec": with("schedulingGates", gates)}), under("/spec", &[])),
        (pods, json!({"spec": gated}), under("/spec", &[])),
        (jobs, json!({"spec": {"template": {"spec": once}}}), under(within, &job)),
        (jobs, suspended(&once), affinities()),
        (jobs, suspended(&once_there), affinities()),
        (
            "/apis/apps/v1/namespaces/pointers/deployments",
            apps(&pod),
            under(within, &["/spec/strategy/rollingUpdate", "/spec/strategy", "/spec/selector"]),
        ),
        (
            "/apis/apps/v1/namespaces/pointers/statefulsets",
            apps(&pod),
            under(
                within,
                &["/spec/updateStrategy/rollingUpdate", "/spec/persistentVolumeClaimRetentionPolicy", "/spec/ordinals"],
            ),
        ),
        (
            "/apis/apps/v1/namespaces/pointers/daemonsets",
            apps(&pod),
            under(within, &["/spec/updateStrategy/rollingUpdate"]),
        ),
        ("/apis/apps/v1/namespaces/pointers/replicasets", apps(&pod), under(within, &[])),
        (
            "/api/v1/namespaces/pointers/replicationcontrollers",
            json!({"spec": {"selector": {"app": "a"}, "template": template(&pod)}}),
            // Warnings of its constraints come at other times.
            under(within, &["/spec/selector", "/spec/template"])
                .into_iter()
                .filter(|place| !place.contains("topologySpread"))
                .collect(),
        ),
        ("/api/v1/namespaces/pointers/podtemplates", json!({"template": template(&pod)}), under("/template/spec", &[])),
        (
            "/apis/batch/v1/namespaces/pointers/cronjobs",
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": once}}}}}),
            under(
                "/spec/jobTemplate/spec/template/spec",
                &["/spec/jobTemplate/spec/selector", "/spec/jobTemplate/spec/podFailurePolicy"],
            ),
        ),
        (
            "/apis/autoscaling/v2/namespaces/pointers/horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "d"},
                "metrics": [{"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}}]}}),
            listed(&[
                "/spec/behavior",
                "/spec/behavior/scaleUp",
                "/spec/behavior/scaleDown",
                "/spec/metrics/0/pods/metric/selector",
                "/spec/metrics/0/resource",
            ]),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/pointers/ingresses",
            json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 1}}}, "rules": [{"host": "a.b"}]}}),
            listed(&["/spec/rules/0/http", "/spec/defaultBackend/resource", "/spec/defaultBackend"]),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/pointers/networkpolicies",
            json!({"spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": selector}]}]}}),
            listed(&[
                "/spec/ingress/0/from/0/namespaceSelector",
                "/spec/ingress/0/from/0/podSelector",
                "/spec/ingress/0/from/0/ipBlock",
                "/spec/podSelector",
            ]),
        ),
        (
            "/apis/policy/v1/namespaces/pointers/poddisruptionbudgets",
            json!({"spec": {"minAvailable": 1}}),
            listed(&["/spec/selector"]),
        ),
        (
            "/api/v1/persistentvolumes",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "iscsi": {"targetPortal": "1.2.3.4", "iqn": "iqn.2015-02.example.com:test", "lun": 0}}}),
            listed(&["/spec/hostPath", "/spec/claimRef"]),
        ),
        (
            "/api/v1/namespaces/pointers/persistentvolumeclaims",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
            listed(&["/spec/selector", "/spec/resources/limits"]),
        ),
        (
            "/apis/networking.k8s.io/v1/ingressclasses",
            json!({"spec": {"controller": "a.b/c"}}),
            listed(&["/spec/parameters"]),
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/pointers/endpointslices",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}], "ports": []}),
            listed(&["/endpoints/0/targetRef", "/endpoints/0/hints", "/endpoints/0/conditions"]),
        ),
        (
            "/api/v1/namespaces/pointers/endpoints",
            json!({"subsets": [{"addresses": [{"ip": "1.2.3.4"}]}]}),
            listed(&["/subsets/0/addresses/0/targetRef"]),
        ),
        (
            "/apis/events.k8s.io/v1/namespaces/pointers/events",
            json!({"metadata": {"namespace": NAMESPACE}, "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i",
                "action": "A", "reason": "R", "type": "Normal", "regarding": {"kind": "Pod", "namespace": NAMESPACE, "name": "p"}}),
            listed(&["/series", "/related", "/regarding"]),
        ),
        (
            "/api/v1/namespaces/pointers/services",
            json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}]}}),
            listed(&["/spec/sessionAffinityConfig", "/spec/sessionAffinityConfig/clientIP", "/spec/selector"]),
        ),
    ]
}

/// Leaves out what a refusal shows of the value: it is upstream's internal type there, or a difference.
fn without_values(answer: &mut Answer) {
    let shown = [": Invalid value: {", " is immutable after creation"];
    if answer.0 == 422
        && let Some(at) = shown.iter().filter_map(|text| answer.3.find(text)).min()
    {
        answer.3.truncate(at);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_to_an_empty_struct_is_told_from_none_as_by_a_real_kube_apiserver() {
    let plane = ControlPlane::start(&[]).await;
    let bench = Bench::start().await;
    settled(&plane).await;
    make_namespace(&plane, &bench, NAMESPACE).await;
    let mut real = Side::new(plane.url().to_owned(), plane.admin_client());
    let mut ours = Side::new(bench.url(""), bench.client(Some(("admin", &["system:masters"]))));
    let (mut differences, mut taken, mut refused) = (Vec::new(), 0, 0);
    for (number, (collection, mut object, places)) in objects().into_iter().enumerate() {
        let name = format!("o{number}");
        object["metadata"]["name"] = json!(name);
        let create = Step {
            method: "POST".to_owned(),
            path: collection.to_owned(),
            headers: Vec::new(),
            body: object.to_string(),
        };
        let (want, got) = (real.ask(&create).await, ours.ask(&create).await);
        assert!(want == got && want.0 == 201, "{}\n{}", create.body, difference(&want, &got));
        for place in places {
            for operations in [
                json!([{"op": "add", "path": place, "value": {}}]),
                json!([{"op": "add", "path": place, "value": {}}]),
                json!([{"op": "remove", "path": place}]),
            ] {
                let patch = Step {
                    method: "PATCH".to_owned(),
                    path: format!("{collection}/{name}"),
                    headers: vec![("content-type".to_owned(), "application/json-patch+json".to_owned())],
                    body: operations.to_string(),
                };
                let (mut want, mut got) = (real.ask(&patch).await, ours.ask(&patch).await);
                [&mut want, &mut got].into_iter().for_each(without_values);
                match want.0 {
                    200 => taken += 1,
                    _ => refused += 1,
                }
                if want != got {
                    differences.push(format!("== {} {}\n{}", patch.path, patch.body, difference(&want, &got)));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{} differ\n{}", differences.len(), differences.join("\n"));
    assert!(taken >= 300 && refused >= 300, "{taken} taken, {refused} refused");
    bench.stop().await;
}
