//! A configured record as an object that people read and write, and back.
//!
//! The data of such a record is the JSON document of its facade, `{"n": nonce, "v": {…}}`. In the object the same members
//! have the names of Dex's configuration file, a secret is text and a connector's configuration an object; what is sealed
//! has a member of its own. What is empty is left out where that means the same.
//!
//! The id is in the object: people choose names freely. Objects that the provider makes have a name that follows from the
//! id, so that of two replicas one makes it.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_kubeclient::Resource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::base32;
use crate::{
    kernel::{Kind, MAX_DATA_BYTES, Record, Version, check_id},
    passwords::lower_case_email,
};

pub(super) const API_VERSION: &str = "portcullis.dev/v1";
/// The request nonce of the last write through a facade.
const NONCE: &str = "portcullis.dev/nonce";
/// What a secret in clear begins with in a document.
const CLEAR: &str = "p.";
/// Characters of an id that are kept in an object's name, and of the hash behind them.
const SLUG: usize = 40;
const HASH: usize = 20;

/// How a kind looks.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    pub(super) resource: Resource,
    pub(super) object_kind: &'static str,
    fields: &'static [Field],
    secret: SecretField,
}

/// A member by its name in the document and in the object.
#[derive(Debug)]
struct Field {
    document: &'static str,
    object: &'static str,
    /// Whether an empty list or `false` says something that absence does not.
    empty_counts: bool,
}

/// A member of the document that is a secret.
#[derive(Debug)]
struct SecretField {
    document: &'static str,
    /// Its name in the object, when it is in clear.
    clear: &'static str,
    sealed: &'static str,
    /// Whether it is an object in clear; text otherwise.
    object: bool,
}

const fn field(document: &'static str, object: &'static str) -> Field {
    Field { document, object, empty_counts: false }
}

const fn telling(document: &'static str, object: &'static str) -> Field {
    Field { document, object, empty_counts: true }
}

const fn resource(plural: &'static str) -> Resource {
    Resource { group: "portcullis.dev", version: "v1", plural, namespaced: true }
}

/// The kinds of [`Kind::CONFIGURED`], in that order.
pub(super) const SHAPES: [&Shape; 3] = [
    &Shape {
        kind: Kind::Client,
        resource: resource("oauthclients"),
        object_kind: "OAuthClient",
        fields: &[
            field("redirect_uris", "redirectURIs"),
            field("trusted_peers", "trustedPeers"),
            field("public", "public"),
            field("name", "name"),
            field("logo_url", "logoURL"),
            field("allowed_connectors", "allowedConnectors"),
            telling("mfa_chain", "mfaChain"),
            telling("sso_shared_with", "ssoSharedWith"),
            field("post_logout_redirect_uris", "postLogoutRedirectURIs"),
            field("backchannel_logout_uri", "backchannelLogoutURI"),
            field("refresh_token_lifetime", "refreshTokenLifetime"),
            telling("client_credentials_claims", "clientCredentialsClaims"),
        ],
        secret: SecretField { document: "secret", clear: "secret", sealed: "sealedSecret", object: false },
    },
    &Shape {
        kind: Kind::Password,
        resource: resource("localusers"),
        object_kind: "LocalUser",
        fields: &[
            field("email", "email"),
            field("username", "username"),
            field("name", "name"),
            field("preferred_username", "preferredUsername"),
            telling("email_verified", "emailVerified"),
            field("user_id", "userID"),
            field("groups", "groups"),
        ],
        secret: SecretField { document: "hash", clear: "hash", sealed: "sealedHash", object: false },
    },
    &Shape {
        kind: Kind::Connector,
        resource: resource("connectors"),
        object_kind: "Connector",
        fields: &[field("type", "type"), field("name", "name"), field("grant_types", "grantTypes")],
        secret: SecretField { document: "config", clear: "config", sealed: "sealedConfig", object: true },
    },
];

/// The metadata of an object that matter here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) generation: i64,
    pub(super) creation_timestamp: String,
    pub(super) deletion_timestamp: Option<String>,
    annotations: Option<Map<String, Value>>,
}

/// An object as it is read. Nothing in it fails to be read, so that one object stops no list.
#[derive(Clone, Deserialize)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    pub(super) status: Value,
}

impl Object {
    /// Reads what a server has sent.
    pub(super) fn read(whole: &Value) -> Option<Self> {
        Self::deserialize(whole).ok()
    }

    /// Whether it is deleted and only waits for its finalizers.
    pub(super) const fn is_being_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn version(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    n: u64,
    v: Map<String, Value>,
}

impl Shape {
    /// The name of the object that the provider makes for an id: what of it names may hold, and a hash.
    pub(super) fn name_of(&self, id: &str) -> String {
        let hash = digest::digest(&digest::SHA256, format!("{}\0{id}", self.kind).as_bytes());
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        let slug: String = id
            .chars()
            .take(SLUG)
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let hash: String = base32::encode(&bytes).chars().take(HASH).collect();
        format!("{}-{hash}", slug.trim_matches('-')).trim_start_matches('-').to_owned()
    }

    /// The id that an object claims.
    pub(super) fn id_of(&self, object: &Object) -> Option<String> {
        let text = |member| object.spec.get(member).and_then(Value::as_str).filter(|text| !text.is_empty());
        let id = match self.kind {
            Kind::Password => lower_case_email(text("email")?),
            _ => text("id").unwrap_or(&object.metadata.name).to_owned(),
        };
        check_id(&id).is_ok().then_some(id)
    }

    /// The record that an object is. The error is for people.
    pub(super) fn record(&self, object: &Object, id: &str) -> Result<Record, String> {
        let mut v = Map::new();
        let secret = &self.secret;
        let sealed = object.spec.get(secret.sealed).and_then(Value::as_str).map(ToOwned::to_owned);
        let clear = object.spec.get(secret.clear).filter(|clear| !is_empty(clear));
        let clear = clear.map(|clear| match clear.as_str() {
            Some(text) if !secret.object => text.as_bytes().to_vec(),
            _ => clear.to_string().into_bytes(),
        });
        let clear = clear.map(|clear| format!("{CLEAR}{}", URL_SAFE_NO_PAD.encode(clear)));
        if let Some(blob) = clear.or(sealed) {
            v.insert(secret.document.to_owned(), Value::String(blob));
        }
        for field in self.fields {
            if let Some(value) = object.spec.get(field.object).filter(|value| !value.is_null()) {
                v.insert(field.document.to_owned(), value.clone());
            }
        }
        let nonce = object.metadata.annotations.as_ref().and_then(|all| all.get(NONCE)?.as_str()?.parse().ok());
        let data = serde_json::to_vec(&Document { n: nonce.unwrap_or_default(), v })
            .map_err(|_| "it cannot be read".to_owned())?;
        if data.len() > MAX_DATA_BYTES {
            return Err(format!("it has {} bytes; allowed are {MAX_DATA_BYTES}", data.len()));
        }
        let version = Version::new(object.version());
        Ok(Record { id: id.to_owned(), version, index: [None, None], expires_at: None, data })
    }

    /// The object for a record's data; `replaced` is the one whose place it takes. The error names no content.
    pub(super) fn object(&self, id: &str, data: &[u8], replaced: Option<Value>) -> Result<Value, &'static str> {
        let Document { n, mut v } =
            serde_json::from_slice(data).map_err(|_| "the data of a configured record is a document of its facade")?;
        let mut spec = Map::new();
        match self.kind {
            Kind::Password => {
                if v.get("email").and_then(Value::as_str).map(lower_case_email).as_deref() != Some(id) {
                    return Err("a user's id is the address in lower case");
                }
            }
            _ => {
                spec.insert("id".to_owned(), json!(id));
            }
        }
        let secret = &self.secret;
        if let Some(blob) = v.remove(secret.document).and_then(|blob| blob.as_str().map(ToOwned::to_owned)) {
            let (member, value) = match clear(&blob, secret.object) {
                Some(clear) => (secret.clear, clear),
                None => (secret.sealed, Value::String(blob)),
            };
            spec.insert(member.to_owned(), value);
        }
        for field in self.fields {
            let Some(value) = v.remove(field.document).filter(|value| field.empty_counts || !is_empty(value)) else {
                continue;
            };
            if !value.is_null() {
                spec.insert(field.object.to_owned(), value);
            }
        }
        if v.values().any(|value| !value.is_null()) {
            return Err("the document has a member that its kind does not have");
        }
        // A user's object that names no id has its name for one, and stays so.
        if let Some(before) = &replaced
            && before.pointer("/spec/id").is_none()
        {
            spec.remove("id");
        }
        let mut object = replaced.unwrap_or_else(
            || json!({"apiVersion": API_VERSION, "kind": self.object_kind, "metadata": {"name": self.name_of(id)}}),
        );
        if let Some(members) = object.as_object_mut() {
            members.insert("spec".to_owned(), Value::Object(spec));
            let metadata = members.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
                if let Some(annotations) = annotations.as_object_mut() {
                    annotations.insert(NONCE.to_owned(), json!(n.to_string()));
                }
            }
        }
        Ok(object)
    }
}

/// The data of a configured record in the form in which it comes back from Kubernetes; `None` for other records, and for what
/// is no document. Two forms of one document have the same.
pub(crate) fn canonical(kind: Kind, record: &Record) -> Option<Vec<u8>> {
    let shape = SHAPES.into_iter().find(|shape| shape.kind == kind)?;
    let mut object = shape.object(&record.id, &record.data, None).ok()?;
    // As the API server does with what it does not know.
    object.sort_all_objects();
    let object = Object::read(&object)?;
    shape.record(&object, &record.id).ok().map(|record| record.data)
}

/// What a blob holds, when it is in clear and can be written as people would.
fn clear(blob: &str, object: bool) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(blob.strip_prefix(CLEAR)?).ok()?;
    if object {
        return serde_json::from_slice::<Map<String, Value>>(&bytes).ok().map(Value::Object);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty()).map(Value::String)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(shape: &Shape, object: &Value) -> Record {
        let object: Object = serde_json::from_value(object.clone()).unwrap();
        let id = shape.id_of(&object).unwrap();
        shape.record(&object, &id).unwrap()
    }

    fn value(record: &Record) -> Value {
        serde_json::from_slice(&record.data).unwrap()
    }

    #[test]
    fn what_a_person_writes_is_a_record() {
        let object = json!({
            "metadata": {"name": "app", "resourceVersion": "7"},
            "spec": {"secret": "s3cret", "redirectURIs": ["https://a/cb"], "name": "App", "mfaChain": []},
        });
        let record = read(SHAPES[0], &object);
        assert_eq!((record.id.as_str(), record.version), ("app", Version::new(7)));
        let document = json!({"n": 0, "v": {
            "secret": "p.czNjcmV0", "redirect_uris": ["https://a/cb"], "name": "App", "mfa_chain": [],
        }});
        assert_eq!(value(&record), document);
        let user = json!({"metadata": {"name": "jane"}, "spec": {"email": "Jane@Example.COM", "emailVerified": false}});
        let record = read(SHAPES[1], &user);
        assert_eq!(record.id, "jane@example.com");
        assert_eq!(value(&record)["v"], json!({"email": "Jane@Example.COM", "email_verified": false}));
        let connector = json!({
            "metadata": {"name": "x"}, "spec": {"id": "corp", "type": "ldap", "config": {"host": "h:636", "z": [1]}},
        });
        let record = read(SHAPES[2], &connector);
        assert_eq!(record.id, "corp");
        let config = value(&record)["v"]["config"].as_str().unwrap().to_owned();
        let config = URL_SAFE_NO_PAD.decode(config.strip_prefix("p.").unwrap()).unwrap();
        assert_eq!(config, br#"{"host":"h:636","z":[1]}"#);
    }

    #[test]
    fn what_a_facade_writes_comes_back_but_for_the_order_of_its_members() {
        for (shape, id, v) in [
            (SHAPES[0], "a/ö", json!({"secret": "p.czNjcmV0", "public": true, "name": "x", "sso_shared_with": []})),
            (SHAPES[0], "b", json!({"secret": "s.key.AAAA", "client_credentials_claims": {"groups": ["g"]}})),
            (
                SHAPES[1],
                "jane@example.com",
                json!({"email": "Jane@example.com", "hash": "$2a$", "email_verified": false}),
            ),
            (SHAPES[2], "c", json!({"config": "p.eyJhIjoxfQ", "type": "oidc", "grant_types": ["password"]})),
            // No object, so it cannot be written as one.
            (SHAPES[2], "d", json!({"config": "p.WzFd", "type": "oidc"})),
        ] {
            let data = format!(r#"{{"n":18446744073709551615,"v":{v}}}"#);
            let mut object = shape.object(id, data.as_bytes(), None).unwrap();
            assert_eq!(object["metadata"]["name"], json!(shape.name_of(id)));
            object["metadata"]["resourceVersion"] = json!("9");
            let record = read(shape, &object);
            let written: Value = serde_json::from_str(&data).unwrap();
            assert_eq!((record.id.as_str(), value(&record)), (id, written), "{object}");
        }
    }

    #[test]
    fn secrets_are_text_in_clear_and_have_a_member_of_their_own_when_sealed() {
        let object = |v: Value, shape: &Shape| {
            shape.object("c", json!({"n": 1, "v": v}).to_string().as_bytes(), None).unwrap()["spec"].clone()
        };
        assert_eq!(
            object(json!({"secret": "p.czNjcmV0", "name": ""}), SHAPES[0]),
            json!({"id": "c", "secret": "s3cret"})
        );
        assert_eq!(object(json!({"secret": "s.k.AA"}), SHAPES[0]), json!({"id": "c", "sealedSecret": "s.k.AA"}));
        let spec = object(json!({"type": "t", "config": "p.eyJhIjoxfQ"}), SHAPES[2]);
        assert_eq!(spec, json!({"id": "c", "config": {"a": 1}, "type": "t"}));
    }

    #[test]
    fn a_change_keeps_what_a_person_has_written_beside_the_spec() {
        let before = json!({
            "metadata": {"name": "mine", "labels": {"team": "a"}, "annotations": {"note": "x"}, "resourceVersion": "5"},
            "spec": {"public": true, "name": "old"}, "status": {"conditions": []},
        });
        let data = json!({"n": 3, "v": {"public": true, "name": "new"}}).to_string();
        let object = SHAPES[0].object("mine", data.as_bytes(), Some(before)).unwrap();
        assert_eq!(object["spec"], json!({"public": true, "name": "new"}), "no id where there was none");
        assert_eq!(object["metadata"]["labels"], json!({"team": "a"}));
        assert_eq!(object["metadata"]["annotations"], json!({"note": "x", "portcullis.dev/nonce": "3"}));
    }

    #[test]
    fn two_forms_of_one_document_are_one() {
        let form = |kind: Kind, v: Value| {
            let data = json!({"n": 5, "v": v}).to_string().into_bytes();
            let record =
                Record { id: "c".to_owned(), version: Version::new(1), index: [None, None], expires_at: None, data };
            canonical(kind, &record)
        };
        let short = form(Kind::Client, json!({"public": true}));
        assert!(short.is_some());
        assert_eq!(
            short,
            form(Kind::Client, json!({"name": "", "public": true, "mfa_chain": null, "trusted_peers": []}))
        );
        assert_ne!(short, form(Kind::Client, json!({"public": true, "mfa_chain": []})));
        let config = |text: &str| {
            let blob = format!("p.{}", URL_SAFE_NO_PAD.encode(text));
            form(Kind::Connector, json!({"type": "x", "config": blob}))
        };
        assert_eq!(config(r#"{"b":{"d":1,"c":2},"a":3}"#), config(r#"{ "a": 3, "b": {"c": 2, "d": 1} }"#));
        assert_ne!(config(r#"{"a":3}"#), config(r#"{"a":4}"#));
        assert_eq!(form(Kind::Code, json!({})), None);
    }

    #[test]
    fn what_is_no_document_is_refused_without_its_content() {
        for (shape, data) in [
            (SHAPES[0], "hunter2"),
            (SHAPES[0], r#"{"n":1,"v":{"hunter2":true}}"#),
            (SHAPES[1], r#"{"n":1,"v":{"email":"other@example.com"}}"#),
        ] {
            let error = shape.object("id", data.as_bytes(), None).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let large =
            json!({"metadata": {"name": "x"}, "spec": {"type": "t", "config": {"a": "x".repeat(MAX_DATA_BYTES)}}});
        let object: Object = serde_json::from_value(large).unwrap();
        assert!(SHAPES[2].record(&object, "x").unwrap_err().contains("allowed are 262144"));
    }

    #[test]
    fn names_are_readable_valid_and_differ_with_every_byte() {
        let shape = SHAPES[0];
        assert!(shape.name_of("My App").starts_with("my-app-"), "{}", shape.name_of("My App"));
        let names = ["a", "A", "ä", "a\0", "-", &"x".repeat(1024)].map(|id| shape.name_of(id));
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        for name in names {
            assert!(name.len() <= 63 && portcullis_name(&name), "{name}");
        }
        assert_ne!(SHAPES[0].name_of("a"), SHAPES[2].name_of("a"));
    }

    fn portcullis_name(name: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        name.bytes().all(|byte| plain(byte) || byte == b'-')
            && name.bytes().next().is_some_and(plain)
            && name.bytes().last().is_some_and(plain)
    }
}
