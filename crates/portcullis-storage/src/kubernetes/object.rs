//! A record as an object of the kind `Record`, and back.
//!
//! The name is a hash of kind and id, because ids are longer than names may be, are compared as bytes, and are nobody's
//! business in audit logs; the true id is inside and is compared on every read. Labels say what lists select by: the kind,
//! the second of the expiry, the index keys. The exact expiry is an annotation, so that metadata alone says what is over.
//!
//! The version is the `resourceVersion`: the revision of the write in etcd, which grows with every write of the cluster and is
//! never given twice. An update that changes nothing would keep it, so each content names the version that it replaced.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_kubeclient::Resource;
use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};

use super::base32;
use crate::{
    error::KernelError,
    kernel::{IndexKey, Kind, Record, Slot, Version, Write},
};

/// The resource that records are kept as (`deploy/crds`).
pub(super) const RECORDS: Resource =
    Resource { group: "portcullis.dev", version: "v1", plural: "records", namespaced: true };
const API_VERSION: &str = "portcullis.dev/v1";
const OBJECT_KIND: &str = "Record";
const KIND_LABEL: &str = "portcullis.dev/kind";
/// The name of the object with the number of the layout, and what stands there for a kind and an id. Names of records are
/// longer, so no record has it.
pub(super) const SCHEMA_NAME: &str = "schema";
/// Whole seconds since 1970 of the expiry, rounded down; 0 for what is before. Selected by `<`.
const EXPIRES_LABEL: &str = "portcullis.dev/expires";
const INDEX_LABELS: [&str; 2] = ["portcullis.dev/index-1", "portcullis.dev/index-2"];
/// The expiry to the nanosecond, RFC 3339.
const EXPIRES_ANNOTATION: &str = "portcullis.dev/expires-at";

/// An object that is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewObject<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: NewMetadata,
    spec: NewSpec<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMetadata {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct NewSpec<'a> {
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    /// The format `byte` of the definition does not admit an empty text.
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
}

impl std::fmt::Debug for NewSpec<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSpec").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<'a> NewObject<'a> {
    /// The object for a write that replaces `replaced`, or that is the first of its record.
    pub(super) fn new(kind: Kind, id: &'a str, write: &Write, replaced: Option<Version>) -> Self {
        let mut labels = BTreeMap::from([(KIND_LABEL, kind.name().to_owned())]);
        for (label, key) in INDEX_LABELS.into_iter().zip(write.index) {
            if let Some(key) = key {
                labels.insert(label, base32::encode(key.as_bytes()));
            }
        }
        let mut annotations = BTreeMap::new();
        if let Some(at) = write.expires_at {
            labels.insert(EXPIRES_LABEL, at.unix_seconds().max(0).to_string());
            annotations.insert(EXPIRES_ANNOTATION, at.rfc3339_nanos());
        }
        let replaced = replaced.map(|version| version.number().to_string());
        Self {
            api_version: API_VERSION,
            kind: OBJECT_KIND,
            metadata: NewMetadata { name: name_of(kind, id), resource_version: replaced.clone(), labels, annotations },
            spec: NewSpec { kind: kind.name(), id, replaces: replaced, data: STANDARD.encode(&write.data) },
        }
    }

    /// The object with the number of the layout.
    pub(super) fn schema(number: u64) -> Self {
        Self {
            api_version: API_VERSION,
            kind: OBJECT_KIND,
            metadata: NewMetadata {
                name: SCHEMA_NAME.to_owned(),
                resource_version: None,
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
            },
            spec: NewSpec {
                kind: SCHEMA_NAME,
                id: SCHEMA_NAME,
                replaces: None,
                data: STANDARD.encode(number.to_string()),
            },
        }
    }

    /// The object's name.
    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }
}

/// The name of the object that keeps a record.
pub(super) fn name_of(kind: Kind, id: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(kind.name().as_bytes());
    context.update(&[0]);
    context.update(id.as_bytes());
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    base32::encode(&bytes)
}

/// Selects the records of a kind, those with an index key only when one is given.
pub(super) fn selector(kind: Kind, index: Option<(Slot, IndexKey)>) -> String {
    let mut selector = format!("{KIND_LABEL}={}", kind.name());
    if let Some((slot, key)) = index {
        let [first, second] = INDEX_LABELS;
        let label = match slot {
            Slot::First => first,
            Slot::Second => second,
        };
        selector.push_str(&format!(",{label}={}", base32::encode(key.as_bytes())));
    }
    selector
}

/// Selects all records that are over at `now`, and some that are over within the same second.
pub(super) fn selector_of_over(now: Timestamp) -> String {
    format!("{EXPIRES_LABEL}<{}", now.unix_seconds().max(0).saturating_add(1))
}

/// The metadata of an object that is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// An object of which only the metadata is read.
#[derive(Debug, Deserialize)]
pub(super) struct MetadataOnly {
    pub(super) metadata: Metadata,
}

impl MetadataOnly {
    /// The version.
    pub(super) fn version(&self) -> Result<Version, KernelError> {
        self.metadata.version()
    }
}

impl Metadata {
    fn version(&self) -> Result<Version, KernelError> {
        let number = self.resource_version.parse().map_err(|_| self.corrupt("resourceVersion is no number"))?;
        Ok(Version::new(number))
    }

    /// The exact expiry.
    pub(super) fn expires_at(&self) -> Result<Option<Timestamp>, KernelError> {
        let Some(text) = self.annotations.get(EXPIRES_ANNOTATION) else { return Ok(None) };
        Timestamp::parse_rfc3339(text).map(Some).ok_or_else(|| self.corrupt("the expiry is no RFC 3339 time"))
    }

    fn index(&self) -> Result<[Option<IndexKey>; 2], KernelError> {
        let [first, second] = INDEX_LABELS;
        Ok([self.index_key(first)?, self.index_key(second)?])
    }

    fn index_key(&self, label: &str) -> Result<Option<IndexKey>, KernelError> {
        let Some(text) = self.labels.get(label) else { return Ok(None) };
        let bytes = base32::decode(text).ok_or_else(|| self.corrupt("an index label is not base32 of 32 bytes"))?;
        Ok(IndexKey::from_bytes(&bytes))
    }

    fn corrupt(&self, what: &str) -> KernelError {
        KernelError::Corrupt {
            what: format!("the object {}.{} {:?}: {what}", RECORDS.plural, RECORDS.group, self.name),
        }
    }
}

/// An object that is read.
#[derive(Deserialize)]
pub(super) struct Object {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    kind: String,
    id: String,
    #[serde(default)]
    data: String,
}

impl Object {
    /// Whether it is the object with the number of the layout.
    pub(super) fn is_schema(&self) -> bool {
        self.metadata.name == SCHEMA_NAME
    }

    /// What it says of the layout; nothing when that cannot be read.
    pub(super) fn into_schema(self) -> Vec<u8> {
        STANDARD.decode(&self.spec.data).unwrap_or_default()
    }

    /// The record and its kind, which this program must know.
    pub(super) fn into_any_record(self) -> Result<(Kind, Record), KernelError> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == self.spec.kind);
        let kind = kind.ok_or_else(|| {
            self.metadata.corrupt("its kind is not one that this version knows: use the newer version")
        })?;
        self.into_record(kind).map(|record| (kind, record))
    }

    /// The record, which must be of this kind and be kept under its own name.
    pub(super) fn into_record(self, kind: Kind) -> Result<Record, KernelError> {
        let Self { metadata, spec } = self;
        if spec.kind != kind.name() || metadata.name != name_of(kind, &spec.id) {
            return Err(metadata.corrupt("kind and id are not those of its name"));
        }
        let (version, index, expires_at) = (metadata.version()?, metadata.index()?, metadata.expires_at()?);
        let data = STANDARD.decode(&spec.data).map_err(|_| metadata.corrupt("the data is no base64"))?;
        Ok(Record { id: spec.id, version, index, expires_at, data })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn whole() -> Value {
        let write = Write {
            index: [None, Some(IndexKey::of(&["k"]))],
            expires_at: Some(Timestamp::from_unix_nanos(1_800_000_000_123_456_789)),
            data: b"hunter2".to_vec(),
        };
        serde_json::to_value(NewObject::new(Kind::FamilyList, "some id", &write, Some(Version::new(7)))).unwrap()
    }

    fn record(object: Value) -> Result<Record, KernelError> {
        serde_json::from_value::<Object>(object).unwrap().into_record(Kind::FamilyList)
    }

    #[test]
    fn a_record_is_an_object_and_back() {
        let object = whole();
        let key = base32::encode(IndexKey::of(&["k"]).as_bytes());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        assert_eq!(name.len(), 52);
        assert_eq!(
            object,
            json!({
                "apiVersion": "portcullis.dev/v1", "kind": "Record",
                "metadata": {
                    "name": name, "resourceVersion": "7",
                    "labels": {
                        "portcullis.dev/kind": "family-list", "portcullis.dev/expires": "1800000000",
                        "portcullis.dev/index-2": key,
                    },
                    "annotations": {"portcullis.dev/expires-at": "2027-01-15T08:00:00.123456789Z"},
                },
                "spec": {"kind": "family-list", "id": "some id", "replaces": "7", "data": "aHVudGVyMg=="},
            })
        );
        let record = record(object).unwrap();
        assert_eq!(
            (record.id.as_str(), record.version, record.data.as_slice()),
            ("some id", Version::new(7), &b"hunter2"[..])
        );
        assert_eq!(record.index, [None, Some(IndexKey::of(&["k"]))]);
        assert_eq!(record.expires_at, Some(Timestamp::from_unix_nanos(1_800_000_000_123_456_789)));
    }

    #[test]
    fn no_data_is_no_member() {
        let object = NewObject::new(Kind::FamilyList, "a", &Write::default(), Some(Version::new(1)));
        let object = serde_json::to_value(object).unwrap();
        assert_eq!(object["spec"], json!({"kind": "family-list", "id": "a", "replaces": "1"}));
        assert_eq!(record(object).unwrap().data, b"");
    }

    #[test]
    fn names_differ_by_kind_and_by_byte() {
        let names = [
            name_of(Kind::Family, "a"),
            name_of(Kind::FamilyList, "a"),
            name_of(Kind::Family, "A"),
            name_of(Kind::Family, "a\0"),
            name_of(Kind::Family, ""),
        ];
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())));
    }

    #[test]
    fn what_somebody_else_wrote_is_damage_that_names_the_object_and_no_content() {
        let damaged: [fn(&mut Value); 6] = [
            |o| o["spec"]["id"] = json!("another id"),
            |o| o["spec"]["kind"] = json!("family"),
            |o| o["spec"]["data"] = json!("hunter2!"),
            |o| o["metadata"]["resourceVersion"] = json!("x"),
            |o| o["metadata"]["labels"]["portcullis.dev/index-1"] = json!("abc"),
            |o| o["metadata"]["annotations"]["portcullis.dev/expires-at"] = json!("tomorrow"),
        ];
        for damage in damaged {
            let mut object = whole();
            damage(&mut object);
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let error = record(object).unwrap_err();
            assert!(matches!(&error, KernelError::Corrupt { what } if what.contains(&name)), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn selectors_reach_the_second_of_now() {
        assert_eq!(selector_of_over(Timestamp::from_unix_nanos(1_999_999_999)), "portcullis.dev/expires<2");
        assert_eq!(selector_of_over(Timestamp::from_unix_seconds(-5)), "portcullis.dev/expires<1");
        assert_eq!(selector_of_over(Timestamp::MAX), "portcullis.dev/expires<9223372037");
        let key = IndexKey::of(&["k"]);
        let want = format!("portcullis.dev/kind=login,portcullis.dev/index-1={}", base32::encode(key.as_bytes()));
        assert_eq!(selector(Kind::Login, Some((Slot::First, key))), want);
        assert_eq!(selector(Kind::Login, None), "portcullis.dev/kind=login");
    }
}
