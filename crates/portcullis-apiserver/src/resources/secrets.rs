//! Secrets: `stringData`, what each type must hold, immutability.
//!
//! Contents never appear in messages: the real server writes `<secret contents redacted>`, and so does this one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

use super::check::formats::config_key;
use super::check::{IMMUTABLE, Path, Wrong, meta};
use super::config_maps::{MAX_BYTES, decoded_length, fixed};
use super::key_pairs;
use super::rules::Rules;
use super::tree::{Members, default, members_at, object, string_at};
use crate::json::{self, Node};

pub(crate) const RULES: Rules = Rules { prepare_update, validate, validate_update, warnings, ..Rules::NAMESPACED };
const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const REDACTED: &str = "<secret contents redacted>";

/// Takes `stringData` into `data`: it is for writing only.
///
/// Compat: done when the body is read, so also for an update and before validation.
pub(crate) fn fill(members: &mut Members) {
    if let Some(Value::Object(strings)) = members.shift_remove("stringData") {
        let data = object(members, "data");
        for (key, value) in strings {
            let text = value.as_str().unwrap_or_default();
            data.insert(key, Value::String(STANDARD.encode(text)));
        }
    }
    default(members, "type", "Opaque");
}

fn prepare_update(new: &mut Members, old: &Members) {
    default(new, "type", string_at(old, &["type"]));
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    let (data, path) = (members_at(new, &["data"]), Path::new("data"));
    let mut bytes = 0_usize;
    for (key, value) in data {
        wrong.each(&path.key(key), key, config_key(key));
        bytes = bytes.saturating_add(decoded_length(value.as_str().unwrap_or_default()));
    }
    if bytes > MAX_BYTES {
        wrong.push(FieldError::too_long(&path, MAX_BYTES));
    }
    let mut need = |key: &str| {
        if !data.contains_key(key) {
            wrong.required(&path.key(key), "");
        }
    };
    match string_at(new, &["type"]) {
        "kubernetes.io/service-account-token"
            if string_at(new, &["metadata", "annotations", SERVICE_ACCOUNT_NAME]).is_empty() =>
        {
            wrong.required(&Path::new("metadata.annotations").key(SERVICE_ACCOUNT_NAME), "");
        }
        "kubernetes.io/dockercfg" => json_object(data, ".dockercfg", &path, wrong),
        "kubernetes.io/dockerconfigjson" => json_object(data, ".dockerconfigjson", &path, wrong),
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth"
            if data.get("ssh-privatekey").and_then(Value::as_str).unwrap_or_default().is_empty() =>
        {
            wrong.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}

fn json_object(data: &Members, key: &str, path: &Path, wrong: &mut Wrong) {
    let Some(value) = data.get(key) else {
        wrong.required(&path.key(key), "");
        return;
    };
    let why = match json::parse(&bytes_of(value)) {
        Err(error) => error.to_string(),
        Ok(Node::Object(_) | Node::Null) => return,
        Ok(other) => cannot(other.kind()),
    };
    wrong.invalid(&path.key(key), REDACTED, why);
}

fn cannot(kind: &str) -> String {
    format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let kind = string_at(new, &["type"]);
    if kind != string_at(old, &["type"]) {
        wrong.push_last(FieldError::invalid("type", kind, IMMUTABLE));
    }
    fixed(new, old, &["data"], wrong);
    validate(new, wrong);
}

/// Compat: what Go's `tls.X509KeyPair` says first of a pair that is none.
fn warnings(new: &Members, _: Option<&Members>) -> Vec<String> {
    if string_at(new, &["type"]) != "kubernetes.io/tls" {
        return Vec::new();
    }
    let data = members_at(new, &["data"]);
    let labels = |key: &str| pem_labels(&bytes_of(data.get(key).unwrap_or(&Value::Null)));
    let (certificate, key) = (labels("tls.crt"), labels("tls.key"));
    let is_key = |label: &String| label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY");
    if !certificate.iter().any(|label| label == "CERTIFICATE") {
        return vec![match certificate.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if is_key(one) => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
                 have been switched"
                    .to_owned()
            }
            found => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]",
                found.join(" ")
            ),
        }];
    }
    if key.iter().any(is_key) {
        let text = |key: &str| {
            let bytes = bytes_of(data.get(key).unwrap_or(&Value::Null));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        return key_pairs::problem(&text("tls.crt"), &text("tls.key")).map(str::to_owned).into_iter().collect();
    }
    vec![match key.as_slice() {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [one] if one == "CERTIFICATE" => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        found => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the \
             following types: [{}]",
            found.join(" ")
        ),
    }]
}

/// The labels of the whole PEM blocks in a text.
fn pem_labels(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut labels = Vec::new();
    for line in text.lines().map(str::trim) {
        let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        if let Some(label) = label
            && text.contains(&format!("-----END {label}-----"))
        {
            labels.push(label.to_owned());
        }
    }
    labels
}

fn bytes_of(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(kind: &str, data: &[(&str, &str)]) -> Members {
        let data: Members = data.iter().map(|(k, v)| ((*k).to_owned(), json!(STANDARD.encode(v)))).collect();
        json!({"metadata": {"name": "s", "namespace": "d", "resourceVersion": "1"}, "data": data, "type": kind})
            .as_object()
            .unwrap()
            .clone()
    }

    fn problems(new: &Members) -> Vec<String> {
        let mut wrong = Wrong::default();
        validate(new, &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn strings_become_data_and_win_over_it() {
        let mut members = json!({"metadata": {}, "data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "new"}})
            .as_object()
            .unwrap()
            .clone();
        fill(&mut members);
        assert_eq!(
            Value::Object(members),
            json!({"metadata": {}, "data": {"a": "bmV3", "b": "eQ=="}, "type": "Opaque"})
        );
    }

    #[test]
    fn each_type_asks_for_its_keys() {
        for (kind, data, want) in [
            ("Opaque", vec![], vec![]),
            ("kubernetes.io/tls", vec![("tls.crt", "")], vec!["data[tls.key]: Required value"]),
            (
                "kubernetes.io/basic-auth",
                vec![],
                vec!["data[username]: Required value", "data[password]: Required value"],
            ),
            ("kubernetes.io/basic-auth", vec![("password", "p")], vec![]),
            ("kubernetes.io/ssh-auth", vec![("ssh-privatekey", "")], vec!["data[ssh-privatekey]: Required value"]),
            ("kubernetes.io/dockerconfigjson", vec![], vec!["data[.dockerconfigjson]: Required value"]),
            (
                "kubernetes.io/dockerconfigjson",
                vec![(".dockerconfigjson", "hunter2")],
                vec![
                    "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'h' looking for beginning of value",
                ],
            ),
            (
                "kubernetes.io/dockercfg",
                vec![(".dockercfg", "[]")],
                vec![
                    "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into Go value of type map[string]interface {}",
                ],
            ),
            (
                "kubernetes.io/service-account-token",
                vec![],
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
        ] {
            assert_eq!(problems(&secret(kind, &data)), want, "{kind}");
        }
    }

    #[test]
    fn the_type_stays() {
        let (old, mut new) = (secret("a", &[]), secret("b", &[]));
        let mut wrong = Wrong::default();
        validate_update(&new, &old, &mut wrong);
        assert_eq!(wrong.finish()[0].to_string(), "type: Invalid value: \"b\": field is immutable");
        new.insert("type".to_owned(), json!(""));
        prepare_update(&mut new, &old);
        assert_eq!(new["type"], "a");
    }

    #[test]
    fn a_pair_that_is_none_is_warned_about() {
        let block = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let (certificate, key) = (block("CERTIFICATE"), block("EC PRIVATE KEY"));
        let said = |a: &str, b: &str| warnings(&secret("kubernetes.io/tls", &[("tls.crt", a), ("tls.key", b)]), None);
        assert_eq!(said(&certificate, &key), ["x509: malformed certificate"]);
        assert_eq!(said("x", &key), ["tls: failed to find any PEM data in certificate input"]);
        assert_eq!(said(&certificate, "x"), ["tls: failed to find any PEM data in key input"]);
        assert!(said(&key, &certificate)[0].ends_with("PEM inputs may have been switched"));
        assert!(said(&certificate, &certificate)[0].contains("found a certificate rather than a key"));
    }
}
