//! A good object of each kind that is served, for mistakes to be made in.

use serde_json::{Value, json};

/// Where an object is created, and what it looks like without a name.
pub(super) struct Seed {
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) object: Value,
}

impl Seed {
    /// The object under that name.
    pub(super) fn named(&self, name: &str) -> Value {
        let mut object = json!({"kind": self.kind, "apiVersion": self.api_version, "metadata":
            {"name": name, "labels": {"app": "a", "tier": "b"}, "annotations": {"note": "some text"}}});
        for (key, value) in self.object.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    }

    /// Whether it is stored as one of another version, which is among the seeds too.
    pub(super) fn is_another_form(&self) -> bool {
        ["autoscaling/v1", "events.k8s.io/v1"].contains(&self.api_version)
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let seed = |path, api_version, kind, object| Seed { path, kind, api_version, object };
    let meta = json!({"labels": {"app": "a"}});
    let pod = json!({"containers": [{"name": "c", "image": "i:1", "command": ["sh", "-c"], "env": [{"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}], "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": 0.5}},
            "readinessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 5}, "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}]}],
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}], "nodeSelector": {"a": "b"}, "terminationGracePeriodSeconds": 5,
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}], "securityContext": {"runAsUser": 1000}});
    let once = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]});
    let template = json!({"metadata": meta, "spec": pod});
    let selector = json!({"matchLabels": {"app": "a"}});
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let target = json!({"kind": "Deployment", "apiVersion": "apps/v1", "name": "d"});
    let rules = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]);
    let subjects = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "zoe"}]);
    let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let rbac = "rbac.authorization.k8s.io/v1";
    // A pod that says what admission would add can be sent again as it is.
    let mut as_itself = pod;
    as_itself["serviceAccountName"] = json!("default");
    as_itself["automountServiceAccountToken"] = json!(false);
    vec![
        seed(
            "/api/v1/namespaces/bad/configmaps",
            "v1",
            "ConfigMap",
            json!({"data": {"a": "1", "b": "two"}, "binaryData": {"c": "AAEC"}, "immutable": false}),
        ),
        seed(
            "/api/v1/namespaces/bad/secrets",
            "v1",
            "Secret",
            json!({"type": "Opaque", "data": {"a": "AAEC"}, "stringData": {"b": "x"}}),
        ),
        seed(
            "/api/v1/namespaces/bad/serviceaccounts",
            "v1",
            "ServiceAccount",
            json!({"secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "p"}], "automountServiceAccountToken": true}),
        ),
        seed(
            "/api/v1/namespaces/bad/services",
            "v1",
            "Service",
            json!({"spec": {"type": "ClusterIP", "selector": {"app": "a"}, "ports": [{"name": "p", "port": 80, "targetPort": "web", "protocol": "TCP"}], "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 100}}}}),
        ),
        seed(
            "/api/v1/namespaces/bad/endpoints",
            "v1",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "1.2.3.4", "hostname": "h"}], "ports": [{"port": 80, "name": "p"}]}]}),
        ),
        seed(
            "/api/v1/namespaces/bad/events",
            "v1",
            "Event",
            json!({"involvedObject": {"kind": "Pod", "namespace": "bad", "name": "p"}, "reason": "R", "message": "m", "type": "Normal", "count": 1, "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"}),
        ),
        seed(
            "/api/v1/namespaces/bad/limitranges",
            "v1",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "1"}}]}}),
        ),
        seed(
            "/api/v1/namespaces/bad/resourcequotas",
            "v1",
            "ResourceQuota",
            json!({"spec": {"hard": {"pods": "100", "requests.cpu": "1000"}}}),
        ),
        seed("/api/v1/namespaces", "v1", "Namespace", json!({"spec": {"finalizers": ["kubernetes"]}})),
        seed(
            "/api/v1/nodes",
            "v1",
            "Node",
            json!({"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "unschedulable": true, "taints": [{"key": "a", "effect": "NoSchedule"}]}, "status": {"capacity": {"cpu": "2", "memory": "1Gi"}}}),
        ),
        seed("/api/v1/namespaces/bad/pods", "v1", "Pod", json!({"spec": as_itself})),
        seed(
            "/api/v1/persistentvolumes",
            "v1",
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}, "persistentVolumeReclaimPolicy": "Retain"}}),
        ),
        seed("/api/v1/namespaces/bad/persistentvolumeclaims", "v1", "PersistentVolumeClaim", json!({"spec": claim})),
        seed("/api/v1/namespaces/bad/podtemplates", "v1", "PodTemplate", json!({"template": template})),
        seed(
            "/api/v1/namespaces/bad/replicationcontrollers",
            "v1",
            "ReplicationController",
            json!({"spec": {"replicas": 2, "minReadySeconds": 1, "selector": {"app": "a"}, "template": template}}),
        ),
        seed(
            "/apis/apps/v1/namespaces/bad/deployments",
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 2, "selector": selector, "template": template, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}}),
        ),
        seed(
            "/apis/apps/v1/namespaces/bad/replicasets",
            "apps/v1",
            "ReplicaSet",
            json!({"spec": {"replicas": 2, "selector": selector, "template": template}}),
        ),
        seed(
            "/apis/apps/v1/namespaces/bad/daemonsets",
            "apps/v1",
            "DaemonSet",
            json!({"spec": {"selector": selector, "template": template, "updateStrategy": {"type": "OnDelete"}}}),
        ),
        seed(
            "/apis/apps/v1/namespaces/bad/statefulsets",
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"replicas": 1, "serviceName": "s", "selector": selector, "template": template, "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": claim}]}}),
        ),
        seed(
            "/apis/apps/v1/namespaces/bad/controllerrevisions",
            "apps/v1",
            "ControllerRevision",
            json!({"revision": 3, "data": {"spec": {"template": {"a": [1, 2.5, null]}}}}),
        ),
        seed(
            "/apis/autoscaling/v2/namespaces/bad/horizontalpodautoscalers",
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
                {"type": "Pods", "pods": {"metric": {"name": "m", "selector": selector}, "target": {"type": "AverageValue", "averageValue": "1500m"}}},
                {"type": "Object", "object": {"describedObject": target, "metric": {"name": "n"}, "target": {"type": "Value", "value": "10"}}},
                {"type": "External", "external": {"metric": {"name": "e"}, "target": {"type": "AverageValue", "averageValue": 3}}},
                {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60, "tolerance": "50m", "selectPolicy": "Min", "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}]}}}}),
        ),
        seed(
            "/apis/autoscaling/v1/namespaces/bad/horizontalpodautoscalers",
            "autoscaling/v1",
            "HorizontalPodAutoscaler",
            json!({"spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9, "targetCPUUtilizationPercentage": 60}}),
        ),
        seed(
            "/apis/batch/v1/namespaces/bad/jobs",
            "batch/v1",
            "Job",
            json!({"spec": {"parallelism": 2, "completions": 4, "backoffLimit": 3, "template": {"spec": once}}}),
        ),
        seed(
            "/apis/batch/v1/namespaces/bad/cronjobs",
            "batch/v1",
            "CronJob",
            json!({"spec": {"schedule": "*/5 * * * *", "suspend": false, "jobTemplate": {"spec": {"template": {"spec": once}}}}}),
        ),
        seed(
            "/apis/coordination.k8s.io/v1/namespaces/bad/leases",
            "coordination.k8s.io/v1",
            "Lease",
            json!({"spec": {"holderIdentity": "h", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}}),
        ),
        seed(
            "/apis/discovery.k8s.io/v1/namespaces/bad/endpointslices",
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"], "conditions": {"ready": true}}], "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]}),
        ),
        seed(
            "/apis/events.k8s.io/v1/namespaces/bad/events",
            "events.k8s.io/v1",
            "Event",
            json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i", "action": "A", "reason": "R",
                "regarding": {"kind": "Pod", "namespace": "bad", "name": "p"}, "related": {"kind": "Node", "name": "n"}, "note": "n", "type": "Normal",
                "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}}),
        ),
        seed(
            "/apis/networking.k8s.io/v1/ingressclasses",
            "networking.k8s.io/v1",
            "IngressClass",
            json!({"spec": {"controller": "example.com/c", "parameters": {"kind": "K", "name": "n", "scope": "Cluster"}}}),
        ),
        seed(
            "/apis/networking.k8s.io/v1/namespaces/bad/ingresses",
            "networking.k8s.io/v1",
            "Ingress",
            json!({"spec": {"rules": [{"host": "a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
        ),
        seed(
            "/apis/networking.k8s.io/v1/namespaces/bad/networkpolicies",
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 80, "protocol": "TCP"}]}]}}),
        ),
        seed(
            "/apis/policy/v1/namespaces/bad/poddisruptionbudgets",
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"minAvailable": "50%", "selector": selector}}),
        ),
        seed("/apis/rbac.authorization.k8s.io/v1/clusterroles", rbac, "ClusterRole", json!({"rules": rules})),
        seed(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            rbac,
            "ClusterRoleBinding",
            json!({"subjects": subjects, "roleRef": role_ref}),
        ),
        seed("/apis/rbac.authorization.k8s.io/v1/namespaces/bad/roles", rbac, "Role", json!({"rules": rules})),
        seed(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/bad/rolebindings",
            rbac,
            "RoleBinding",
            json!({"subjects": subjects, "roleRef": role_ref}),
        ),
        seed(
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            "scheduling.k8s.io/v1",
            "PriorityClass",
            json!({"value": 10, "description": "d", "preemptionPolicy": "Never"}),
        ),
        seed(
            "/apis/storage.k8s.io/v1/storageclasses",
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": "example.com/p", "parameters": {"a": "b"}, "mountOptions": ["ro"], "volumeBindingMode": "Immediate", "allowVolumeExpansion": true}),
        ),
        seed(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            "authorization.k8s.io/v1",
            "SubjectAccessReview",
            json!({"spec": {"user": "jane", "groups": ["g"], "extra": {"k": ["v"]}, "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "n"}}}),
        ),
        seed(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/x"}}}),
        ),
    ]
}
