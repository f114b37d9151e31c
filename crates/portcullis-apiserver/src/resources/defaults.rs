//! Versioned defaults: what the server fills in for each type, wherever the type stands.
//!
//! The walk follows the schema, so a container in a cron job's template gets the same as one in a pod. A type's own rule runs
//! before those of its parts, as Go's generated defaulters do.
//!
//! Compat: `pkg/apis/*/v1/defaults.go` and `zz_generated.defaults.go` of Kubernetes 1.37.

use std::sync::LazyLock;

use serde_json::Value;

use super::pod_spec::fill as pods;
use super::tree::{Members, default};
use super::{autoscalers, network_policies, nodes, secrets, services, storage, workloads};
use crate::json::MAX_VALUES;
use crate::schema::quantity::Quantity;
use crate::schema::{Kind, SCHEMA, TypeId};

/// Seconds that a token lives unless asked for otherwise.
pub(crate) const TOKEN_SECONDS: i64 = 60 * 60;

fn token_lifetime(spec: &mut Members) {
    default(spec, "expirationSeconds", TOKEN_SECONDS);
}

type Fill = fn(&mut Members);

const RULES: &[(&str, Fill)] = &[
    ("apps.DaemonSet", workloads::fill_daemon_set),
    ("apps.Deployment", workloads::fill_deployment),
    ("apps.ReplicaSet", workloads::fill_replica_set),
    ("apps.StatefulSet", workloads::fill_stateful_set),
    ("authn.TokenRequestSpec", token_lifetime),
    ("autoscaling.HorizontalPodAutoscaler", autoscalers::fill_v1),
    ("autoscalingv2.HorizontalPodAutoscaler", autoscalers::fill),
    ("batch.CronJob", workloads::fill_cron_job),
    ("batch.Job", workloads::fill_job),
    ("batch.JobSpec", workloads::fill_job_spec),
    ("batch.PodFailurePolicyOnPodConditionsPattern", workloads::fill_condition_pattern),
    ("core.AzureDiskVolumeSource", pods::azure_disk),
    ("core.ConfigMapVolumeSource", pods::file_mode),
    ("core.Container", pods::container),
    ("core.ContainerPort", pods::protocol),
    ("core.DownwardAPIVolumeSource", pods::file_mode),
    ("core.EndpointPort", pods::protocol),
    ("core.EphemeralContainerCommon", pods::container),
    ("core.FileKeySelector", pods::file_key),
    ("core.GRPCAction", pods::grpc),
    ("core.HTTPGetAction", pods::http_get),
    ("core.HostPathVolumeSource", pods::host_path),
    ("core.ISCSIPersistentVolumeSource", pods::iscsi),
    ("core.ISCSIVolumeSource", pods::iscsi),
    ("core.LimitRangeItem", storage::fill_limit_range_item),
    ("core.Namespace", super::namespaces::fill),
    ("core.NodeSpec", nodes::fill_spec),
    ("core.NodeStatus", nodes::fill_status),
    ("core.ObjectFieldSelector", pods::field_ref),
    ("core.PersistentVolume", storage::fill_volume),
    ("core.PersistentVolumeClaim", storage::fill_claim),
    ("core.PersistentVolumeClaimSpec", storage::fill_volume_mode),
    ("core.Pod", pods::pod),
    ("core.PodSpec", pods::pod_spec),
    ("core.PodStatus", pods::pod_status),
    ("core.Probe", pods::probe),
    ("core.ProjectedVolumeSource", pods::file_mode),
    ("core.RBDPersistentVolumeSource", pods::rbd),
    ("core.RBDVolumeSource", pods::rbd),
    ("core.ReplicationController", workloads::replication_controllers::fill),
    ("core.ScaleIOPersistentVolumeSource", pods::scale_io),
    ("core.ScaleIOVolumeSource", pods::scale_io),
    ("core.Secret", secrets::fill),
    ("core.SecretVolumeSource", pods::file_mode),
    ("core.Service", services::fill),
    ("core.ServiceAccountTokenProjection", pods::token_projection),
    ("core.Volume", pods::volume),
    ("discovery.EndpointPort", super::endpoint_slices::fill_port),
    ("networking.IngressClassParametersReference", super::ingresses::fill_parameters),
    ("networking.NetworkPolicy", network_policies::fill),
    ("networking.NetworkPolicyPort", network_policies::protocol),
    ("rbac.ClusterRoleBinding", super::rbac::fill_cluster_role_binding),
    ("rbac.RoleBinding", super::rbac::fill_role_binding),
    ("scheduling.PriorityClass", super::priority_classes::fill),
    ("storage.StorageClass", storage::fill_class),
];

/// The rule of each type, by its place in the schema.
static BY_TYPE: LazyLock<Vec<Option<Fill>>> = LazyLock::new(|| {
    let mut table = vec![None; SCHEMA.len()];
    for (name, rule) in RULES {
        if let Some(slot) = SCHEMA.find(name).and_then(|id| table.get_mut(id.place())) {
            *slot = Some(*rule);
        }
    }
    table
});

/// Fills in what an object of type `id` leaves out. It must be in its type's shape; afterwards it no longer is in its order.
///
/// It ends early once it has added more values than any object may have: whoever goes on with the object looks at that.
pub(crate) fn fill(id: TypeId, members: &mut Members) {
    Filling { left: MAX_VALUES + 1 }.fill(id, members);
}

struct Filling {
    /// Values that may still be added, roughly: rules set members of what they are about.
    left: usize,
}

impl Filling {
    fn fill(&mut self, id: TypeId, members: &mut Members) {
        if self.left == 0 {
            return;
        }
        if let Some(Some(rule)) = BY_TYPE.get(id.place()) {
            let before = members.len();
            rule(members);
            self.left = self.left.saturating_sub(members.len().saturating_sub(before));
        }
        for field in SCHEMA.fields(id) {
            match (&field.kind, field.inline) {
                (Kind::Message(inner), true) => self.fill(*inner, members),
                (kind, _) if reaches_further(kind) => {
                    if let Some(value) = members.get_mut(field.name) {
                        self.value(kind, value);
                    }
                }
                _ => {}
            }
        }
    }

    fn value(&mut self, kind: &Kind, value: &mut Value) {
        match (kind, value) {
            (Kind::Message(id), Value::Object(members)) => self.fill(*id, members),
            (Kind::List(inner), Value::Array(items)) => items.iter_mut().for_each(|item| self.value(inner, item)),
            (Kind::Map(inner), Value::Object(members)) => {
                for (_, item) in members.iter_mut() {
                    // The maps of quantities are resource lists, whose amounts are kept in thousandths.
                    if let (Kind::Quantity, Value::String(text)) = (&**inner, &mut *item) {
                        if let Ok(amount) = Quantity::parse(text) {
                            *text = amount.to_milli().to_string();
                        }
                    } else {
                        self.value(inner, item);
                    }
                }
            }
            _ => {}
        }
    }
}

fn reaches_further(kind: &Kind) -> bool {
    match kind {
        Kind::Message(_) => true,
        Kind::List(inner) => reaches_further(inner),
        Kind::Map(inner) => matches!(**inner, Kind::Quantity) || reaches_further(inner),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_rule_belongs_to_a_type_and_they_are_in_order() {
        assert!(RULES.iter().all(|(name, _)| SCHEMA.find(name).is_some()), "a type has gone");
        assert!(RULES.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn filling_in_ends_once_there_is_more_than_any_object_may_have() {
        let mut pod = json!({"spec": {"containers": vec![json!({"name": "", "resources": {}}); 90_000]}});
        fill(SCHEMA.find("core.Pod").unwrap(), pod.as_object_mut().unwrap());
        let values = crate::json::values(&pod);
        assert!((MAX_VALUES + 1..3 * MAX_VALUES).contains(&values), "{values}");
    }

    #[test]
    fn a_container_is_filled_in_wherever_it_stands() {
        let mut job = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i",
            "resources": {"limits": {"cpu": "0.0001"}}}]}}}}}});
        fill(SCHEMA.find("batch.CronJob").unwrap(), job.as_object_mut().unwrap());
        let container = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["resources"]["limits"]["cpu"], "1m");
    }
}
