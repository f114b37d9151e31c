//! A server that holds an object of nearly every kind.

use portcullis_apiserver::fuzzing::Site;

use crate::{Request, tree};

/// Where an object is, and what it is made of.
pub const OBJECTS: &[(&str, &str)] = &[
    ("/api/v1/namespaces/default/configmaps/c", r#"{"data":{"a":"1"},"binaryData":{"b":"AQ=="}}"#),
    (
        "/api/v1/namespaces/default/pods/p",
        r#"{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}],"env":[{"name":"E","value":"1"}]}],"tolerations":[{"key":"k"}]}}"#,
    ),
    (
        "/apis/apps/v1/namespaces/default/deployments/d",
        r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
    ),
    (
        "/api/v1/namespaces/default/services/s",
        r#"{"spec":{"selector":{"a":"b"},"ports":[{"name":"h","port":80},{"name":"t","port":81,"protocol":"UDP"}]}}"#,
    ),
    ("/api/v1/namespaces/default/secrets/s", r#"{"data":{"a":"AQ=="},"type":"Opaque"}"#),
    ("/api/v1/namespaces/default/serviceaccounts/a", r#"{"secrets":[{"name":"s"}],"imagePullSecrets":[{"name":"s"}]}"#),
    ("/api/v1/namespaces/n", r#"{"metadata":{"labels":{"a":"b"}}}"#),
    (
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/r",
        r#"{"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}"#,
    ),
    (
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/b",
        r#"{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},"subjects":[{"kind":"User","name":"jane"}]}"#,
    ),
    (
        "/apis/apps/v1/namespaces/default/statefulsets/s",
        r#"{"spec":{"serviceName":"s","selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}},"volumeClaimTemplates":[{"metadata":{"name":"v"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}]}}"#,
    ),
    (
        "/apis/apps/v1/namespaces/default/daemonsets/d",
        r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
    ),
    (
        "/apis/batch/v1/namespaces/default/jobs/j",
        r#"{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}"#,
    ),
    (
        "/apis/batch/v1/namespaces/default/cronjobs/j",
        r#"{"spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}}"#,
    ),
    (
        "/apis/networking.k8s.io/v1/namespaces/default/ingresses/i",
        r#"{"spec":{"rules":[{"host":"h.example","http":{"paths":[{"path":"/","pathType":"Prefix","backend":{"service":{"name":"s","port":{"number":80}}}}]}}],"tls":[{"hosts":["h.example"]}]}}"#,
    ),
    (
        "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/n",
        r#"{"spec":{"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8"}}]}]}}"#,
    ),
    (
        "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b",
        r#"{"spec":{"minAvailable":"50%","selector":{"matchLabels":{"a":"b"}}}}"#,
    ),
    (
        "/api/v1/persistentvolumes/v",
        r#"{"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"hostPath":{"path":"/p"}}}"#,
    ),
    (
        "/api/v1/namespaces/default/persistentvolumeclaims/v",
        r#"{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}"#,
    ),
    ("/api/v1/nodes/m", r#"{"spec":{"taints":[{"key":"k","effect":"NoSchedule"}]},"status":{"capacity":{"cpu":"1"}}}"#),
    (
        "/api/v1/namespaces/default/endpoints/e",
        r#"{"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]}]}"#,
    ),
    (
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/e",
        r#"{"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"port":80}]}"#,
    ),
    (
        "/api/v1/namespaces/default/events/e",
        r#"{"involvedObject":{"kind":"Pod","name":"p","namespace":"default"},"reason":"R","message":"m","type":"Normal"}"#,
    ),
    ("/api/v1/namespaces/default/resourcequotas/q", r#"{"spec":{"hard":{"pods":"1","requests.cpu":"500m"}}}"#),
    (
        "/api/v1/namespaces/default/limitranges/l",
        r#"{"spec":{"limits":[{"type":"Container","max":{"cpu":"1"},"default":{"cpu":"500m"}}]}}"#,
    ),
    (
        "/api/v1/namespaces/default/replicationcontrollers/r",
        r#"{"spec":{"selector":{"a":"b"},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
    ),
    (
        "/apis/apps/v1/namespaces/default/replicasets/r",
        r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
    ),
    (
        "/api/v1/namespaces/default/podtemplates/t",
        r#"{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}"#,
    ),
    ("/apis/apps/v1/namespaces/default/controllerrevisions/r", r#"{"data":{"a":1},"revision":1}"#),
    (
        "/apis/coordination.k8s.io/v1/namespaces/default/leases/l",
        r#"{"spec":{"holderIdentity":"h","leaseDurationSeconds":10}}"#,
    ),
    ("/apis/networking.k8s.io/v1/ingressclasses/i", r#"{"spec":{"controller":"example.com/c"}}"#),
    ("/apis/scheduling.k8s.io/v1/priorityclasses/p", r#"{"value":5}"#),
    ("/apis/storage.k8s.io/v1/storageclasses/s", r#"{"provisioner":"example.com/p"}"#),
    (
        "/api/v1/namespaces/default/configmaps/held",
        r#"{"metadata":{"finalizers":["example.com/hold","example.com/too"]},"data":{"a":"1"}}"#,
    ),
    ("/apis/certificates.k8s.io/v1/certificatesigningrequests/r", REQUEST),
];

/// A request for a certificate, of an elliptic key and a subject `CN=jane`.
const REQUEST: &str = r#"{"spec":{"signerName":"example.com/s","usages":["client auth"],"request":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlISk1IRUNBUUF3RHpFTk1Bc0dBMVVFQXd3RWFtRnVaVEJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSApBMElBQkFoTVZXTCt3WmFsY3NsSHRlbERhVjBDSnFnM3BCNkJaWUcxNFZrVWZwVmJtVG8xSmRxSGZnbjk2OFJZCmV0c0VIa1VGMDVTNUl1T3JYWHhHd0o1b0FMU2dBREFLQmdncWhrak9QUVFEQWdOSUFEQkZBaUJhT21GeTNlNk0KQkdyNFBHU3hDYnRxeUl6aVlKSlR1S3BwUk41blBNUTI1QUloQUttclZFUjIwZzE0bThjVCtvSUxWZ1UzdE5scgp4M0Vyc01vcC9icU0xdzlYCi0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo="}}"#;

/// A server with all of [`OBJECTS`], of which `held` waits for its finalizers.
///
/// # Panics
/// When one is refused.
pub async fn filled() -> Site {
    let site = Site::new(Default::default());
    for (path, object) in OBJECTS {
        let (collection, name) = path.rsplit_once('/').expect("a name");
        let mut body: serde_json::Value = serde_json::from_str(object).expect("JSON");
        body["metadata"]["name"] = name.into();
        let body = body.to_string();
        let made = Request::of("POST", collection, "application/json", body.as_bytes());
        let answer = made.send(&site).await.expect("a request");
        assert_eq!(answer.status, 201, "{path}: {:?}", tree(&answer));
    }
    let gone = Request::of("DELETE", "/api/v1/namespaces/default/configmaps/held", "application/json", b"");
    assert_eq!(gone.send(&site).await.expect("a request").status, 200);
    assert!(site.settle());
    site
}
