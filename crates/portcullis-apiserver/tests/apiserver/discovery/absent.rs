//! What a real kube-apiserver serves and ours does not: the one list by which discovery and OpenAPI may differ.
//!
//! `docs/compat/kube-apiserver.md` shows users the same list. An entry that the real server does not have, or that ours has
//! meanwhile, fails the test.

use std::collections::BTreeSet;

use serde_json::Value;

/// Groups, resources with their version, and verbs of resources that are served.
const ABSENT: &[&str] = &[
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "node.k8s.io",
    "resource.k8s.io",
    "storagemigration.k8s.io",
    "v1 componentstatuses",
    "v1 nodes/proxy",
    "v1 services/proxy",
    "apiextensions.k8s.io/v1 customresourcedefinitions create delete deletecollection patch update",
    "apiextensions.k8s.io/v1 customresourcedefinitions/status",
    "certificates.k8s.io/v1 clustertrustbundles",
    "certificates.k8s.io/v1 podcertificaterequests",
    "certificates.k8s.io/v1 podcertificaterequests/status",
    "networking.k8s.io/v1 ipaddresses",
    "networking.k8s.io/v1 servicecidrs",
    "networking.k8s.io/v1 servicecidrs/status",
    "storage.k8s.io/v1 csidrivers",
    "storage.k8s.io/v1 csinodes",
    "storage.k8s.io/v1 csinodes/status",
    "storage.k8s.io/v1 csistoragecapacities",
    "storage.k8s.io/v1 volumeattachments",
    "storage.k8s.io/v1 volumeattachments/status",
    "storage.k8s.io/v1 volumeattributesclasses",
];

/// What of a resource is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Nothing,
    Verbs(&'static str),
    Whole,
}

/// The list, and what of it was needed.
#[derive(Default)]
pub(super) struct Absent {
    needed: BTreeSet<&'static str>,
}

impl Absent {
    /// Whether a group is.
    pub(super) fn group(&mut self, name: &str) -> bool {
        let entry = ABSENT.iter().find(|entry| **entry == name);
        self.needed.extend(entry);
        entry.is_some()
    }

    /// What of a resource, or of `resource/part`, is.
    pub(super) fn resource(&mut self, group_version: &str, name: &str) -> Part {
        let of = |entry: &&&'static str| {
            let mut words = entry.split(' ');
            words.next() == Some(group_version) && words.next() == Some(name)
        };
        let Some(entry) = ABSENT.iter().find(of) else { return Part::Nothing };
        self.needed.insert(entry);
        match entry.splitn(3, ' ').nth(2) {
            Some(verbs) => Part::Verbs(verbs),
            None => Part::Whole,
        }
    }

    /// A description of a resource as ours has to show it; `None` where ours must not have it.
    pub(super) fn rest(&mut self, group_version: &str, name: &str, described: &Value) -> Option<Value> {
        let mut described = described.clone();
        match self.resource(group_version, name) {
            Part::Nothing => {}
            Part::Verbs(gone) => {
                let verbs = described["verbs"].as_array_mut().unwrap();
                verbs.retain(|verb| !gone.split(' ').any(|gone| verb == gone));
            }
            Part::Whole => return None,
        }
        Some(described)
    }

    /// Every entry was needed, and users can read all of them.
    pub(super) fn judge(&self) {
        let idle: Vec<_> = ABSENT.iter().filter(|entry| !self.needed.contains(**entry)).collect();
        assert!(idle.is_empty(), "no difference needs {idle:?}: take them off");
        let told = include_str!("../../../../../docs/compat/kube-apiserver.md");
        let (_, told) = told.split_once("\n## Absent from discovery\n").unwrap();
        let block = told.split("```").nth(1).unwrap();
        let told: Vec<&str> = block.trim_start_matches("text").trim().lines().collect();
        assert_eq!(told, ABSENT, "docs/compat/kube-apiserver.md lists something else");
    }
}
