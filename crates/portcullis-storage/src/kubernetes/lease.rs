//! A lease as a `Lease` of `coordination.k8s.io`, so that `kubectl get leases` shows who does what.
//!
//! Each member of the record's document is one of the `Lease`'s, and the request nonce an annotation. The name is the record's id
//! behind a prefix: rights can be granted for a name, and other components keep leases in the same namespace.

use std::collections::BTreeMap;

use portcullis_kubeclient::Resource;
use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::{KernelError, Trouble},
    kernel::{Kind, Record, Version, Write},
    leases::{LEASE_SECONDS, LeaseDoc},
};

/// The resource that leases are kept as; every cluster has it.
pub(super) const LEASES: Resource =
    Resource { group: "coordination.k8s.io", version: "v1", plural: "leases", namespaced: true };
const PREFIX: &str = "portcullis-";
/// The request nonce of the last write, as on configured objects.
const NONCE: &str = "portcullis.dev/nonce";
const NAME_LABEL: &str = "app.kubernetes.io/name";

/// The name of the object that keeps a lease.
pub(super) fn lease_name(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// The record's data, as the facades write it.
#[derive(Serialize, Deserialize)]
struct Document {
    n: u64,
    v: LeaseDoc,
}

/// `LeaseSpec`; times are `MicroTime`s.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    holder_identity: Option<String>,
    lease_duration_seconds: Option<i32>,
    acquire_time: Option<String>,
    renew_time: Option<String>,
    lease_transitions: Option<i32>,
}

/// The object for a write; `replaced` is the one whose place it takes, of which what others have written stays.
pub(super) fn object(id: &str, write: &Write, replaced: Option<Value>) -> Result<Value, KernelError> {
    let refused = |what: &str| KernelError::not_applied(Trouble::Other(what.to_owned()));
    if write.index != [None, None] || write.expires_at.is_some() {
        return Err(refused("a lease record has no index keys and no expiry"));
    }
    let Document { n, v } = serde_json::from_slice(&write.data)
        .map_err(|_| refused("the data of a lease record is a document of its facade"))?;
    let LeaseDoc { holder, taken_at, renewed_at, seconds, transitions } = v;
    let number = |number: u32| Some(i32::try_from(number).unwrap_or(i32::MAX));
    let spec = Spec {
        holder_identity: holder,
        lease_duration_seconds: number(seconds),
        acquire_time: Some(taken_at.rfc3339_micros()),
        renew_time: Some(renewed_at.rfc3339_micros()),
        lease_transitions: number(transitions),
    };
    let mut object = replaced.unwrap_or_else(|| {
        let metadata = json!({"name": lease_name(id), "labels": {NAME_LABEL: "portcullis"}});
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata})
    });
    if let Some(members) = object.as_object_mut() {
        members.insert("spec".to_owned(), json!(spec));
        let metadata = members.get_mut("metadata").and_then(Value::as_object_mut);
        let annotations = metadata.map(|metadata| metadata.entry("annotations").or_insert_with(|| json!({})));
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.insert(NONCE.to_owned(), json!(n.to_string()));
        }
    }
    Ok(object)
}

/// An object that is read.
#[derive(Deserialize)]
pub(super) struct Lease {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Lease {
    /// The version.
    pub(super) fn version(&self) -> Result<Version, KernelError> {
        let number = self.metadata.resource_version.parse();
        number.map(Version::new).map_err(|_| KernelError::Corrupt {
            what: "the resourceVersion of a leases.coordination.k8s.io is no number".to_owned(),
        })
    }

    /// The record. A member that is missing or that somebody has broken counts as what is harmless: the holder, the lifetime and the
    /// version are what counts, the times are for people.
    pub(super) fn into_record(self, id: &str) -> Result<Record, KernelError> {
        let version = self.version()?;
        let Spec { holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions } = self.spec;
        let time = |text: Option<String>| {
            text.and_then(|text| Timestamp::parse_rfc3339(&text)).unwrap_or(Timestamp::UNIX_EPOCH)
        };
        let seconds = lease_duration_seconds.and_then(|seconds| u32::try_from(seconds).ok());
        let v = LeaseDoc {
            holder: holder_identity.filter(|holder| !holder.is_empty()),
            taken_at: time(acquire_time),
            renewed_at: time(renew_time),
            seconds: seconds.unwrap_or(LEASE_SECONDS),
            transitions: lease_transitions.and_then(|number| u32::try_from(number).ok()).unwrap_or_default(),
        };
        let nonce = self.metadata.annotations.get(NONCE).and_then(|text| text.parse().ok());
        let data = serde_json::to_vec(&Document { n: nonce.unwrap_or_default(), v })
            .map_err(|_| KernelError::Corrupt { what: format!("the {} {id:?} cannot be read", Kind::Lease) })?;
        Ok(Record { id: id.to_owned(), version, index: [None, None], expires_at: None, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = r#"{"n":18446744073709551615,"v":{"holder":"h","taken_at":1800000000123,"renewed_at":1800000000124,"seconds":60,"transitions":3}}"#;

    fn read(object: Value) -> Record {
        serde_json::from_value::<Lease>(object).unwrap().into_record("collector").unwrap()
    }

    #[test]
    fn a_lease_is_an_object_and_back() {
        let write = Write { data: DATA.into(), ..Write::default() };
        let made = object("collector", &write, None).unwrap();
        let spec = json!({
            "holderIdentity": "h", "leaseDurationSeconds": 60, "leaseTransitions": 3,
            "acquireTime": "2027-01-15T08:00:00.123000Z", "renewTime": "2027-01-15T08:00:00.124000Z",
        });
        let nonce = "18446744073709551615";
        assert_eq!(
            made,
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
                "metadata": {
                    "name": "portcullis-collector", "labels": {"app.kubernetes.io/name": "portcullis"},
                    "annotations": {"portcullis.dev/nonce": nonce},
                },
            })
        );
        // What others have written beside it stays; uid and version say which object it is.
        let before = json!({
            "metadata": {"resourceVersion": "7", "uid": "u", "annotations": {"note": "x"}},
            "spec": {"holderIdentity": "old", "strategy": "s"},
        });
        let changed = object("collector", &write, Some(before)).unwrap();
        let annotations = json!({"note": "x", "portcullis.dev/nonce": nonce});
        let metadata = json!({"resourceVersion": "7", "uid": "u", "annotations": annotations});
        assert_eq!(changed, json!({"metadata": metadata, "spec": spec}));
        let record = read(changed);
        assert_eq!((record.id.as_str(), record.version), ("collector", Version::new(7)));
        assert_eq!(record.data, DATA.as_bytes());
    }

    #[test]
    fn what_people_have_broken_is_read_as_what_is_harmless() {
        let bare = read(json!({"metadata": {"resourceVersion": "1"}}));
        let nobody = r#"{"n":0,"v":{"taken_at":0,"renewed_at":0,"seconds":60,"transitions":0}}"#;
        assert_eq!(String::from_utf8(bare.data).unwrap(), nobody);
        let odd = json!({
            "metadata": {"resourceVersion": "1", "annotations": {"portcullis.dev/nonce": "x"}},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": -1, "renewTime": "now", "leaseTransitions": -5},
        });
        assert_eq!(String::from_utf8(read(odd).data).unwrap(), nobody);
        let unreadable = json!({"metadata": {"resourceVersion": "x"}});
        assert!(serde_json::from_value::<Lease>(unreadable).unwrap().into_record("collector").is_err());
    }

    #[test]
    fn what_no_facade_writes_is_refused_without_its_content() {
        let now = Some(Timestamp::UNIX_EPOCH);
        for write in [
            Write { data: b"hunter2".to_vec(), ..Write::default() },
            Write { data: DATA.into(), expires_at: now, ..Write::default() },
        ] {
            let error = object("collector", &write, None).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
