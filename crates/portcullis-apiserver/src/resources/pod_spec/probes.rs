//! Probes and lifecycle hooks: one handler each, and sensible numbers.

use portcullis_kube::field::FieldError;
use serde_json::Value;

use super::super::check::{Path, Wrong, formats};
use super::super::tree::{child, has, integer, list, string};

const ONE_HANDLER: &str = "may not specify more than 1 handler type";

/// Everything of a container that is asked or run beside its process.
pub(super) fn all(container: &Value, path: &Path, wrong: &mut Wrong) {
    let lifecycle = child(container, "lifecycle");
    for hook in ["postStart", "preStop"].into_iter().filter(|hook| has(lifecycle, hook)) {
        handler(child(lifecycle, hook), &path.child("lifecycle").child(hook), wrong);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"].into_iter().filter(|name| has(container, name)) {
        let (probe, path) = (child(container, name), path.child(name));
        self::probe(probe, &path, wrong);
        let grace = integer(probe, "terminationGracePeriodSeconds");
        match (name, grace) {
            ("readinessProbe", Some(seconds)) => wrong.push(FieldError::invalid_json(
                path.child("terminationGracePeriodSeconds"),
                &seconds,
                "must not be set for readinessProbes",
            )),
            ("readinessProbe", None) => {}
            _ => {
                let threshold = integer(probe, "successThreshold").unwrap_or(0);
                if threshold != 1 {
                    wrong.push(FieldError::invalid_json(path.child("successThreshold"), &threshold, "must be 1"));
                }
            }
        }
    }
}

fn probe(probe: &Value, path: &Path, wrong: &mut Wrong) {
    handler(probe, path, wrong);
    for name in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        wrong.not_negative(&path.child(name), integer(probe, name));
    }
    if let Some(seconds) = integer(probe, "terminationGracePeriodSeconds").filter(|seconds| *seconds <= 0) {
        let at = path.child("terminationGracePeriodSeconds");
        wrong.push(FieldError::invalid_json(at, &seconds, "must be greater than 0"));
    }
}

fn handler(handler: &Value, path: &Path, wrong: &mut Wrong) {
    let mut handlers = 0;
    for name in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"].into_iter().filter(|name| has(handler, name)) {
        let (action, path) = (child(handler, name), path.child(name));
        handlers += 1;
        if handlers > 1 {
            wrong.forbidden(&path, ONE_HANDLER);
            continue;
        }
        match name {
            "exec" if list(action, "command").is_empty() => wrong.required(&path.child("command"), ""),
            "httpGet" => http_get(action, &path, wrong),
            "tcpSocket" | "grpc" => formats::port_number_or_name(&path.child("port"), child(action, "port"), wrong),
            "sleep" => {
                let seconds = integer(action, "seconds").unwrap_or(0);
                if seconds < 0 {
                    let why = "must be non-negative and less than terminationGracePeriodSeconds";
                    wrong.push(FieldError::invalid_json(&path, &seconds, why));
                }
            }
            _ => {}
        }
    }
    if handlers == 0 {
        wrong.required(path, "must specify a handler type");
    }
}

fn http_get(action: &Value, path: &Path, wrong: &mut Wrong) {
    formats::port_number_or_name(&path.child("port"), child(action, "port"), wrong);
    wrong.one_of(&path.child("scheme"), string(action, "scheme"), &["HTTP", "HTTPS"]);
    for header in list(action, "httpHeaders") {
        let name = string(header, "name");
        wrong.each(&path.child("httpHeaders"), name, formats::http_header_name(name));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::problems;
    use super::*;

    fn with(part: &str, value: Value) -> Vec<String> {
        problems(json!({"containers": [{"name": "c", "image": "i", part: value}]}))
    }

    #[test]
    fn probes_have_one_handler_and_sensible_numbers() {
        assert!(with("livenessProbe", json!({"httpGet": {"port": 80}})).is_empty());
        assert_eq!(
            with("livenessProbe", json!({"periodSeconds": -1, "successThreshold": 2})),
            [
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
                "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"
            ]
        );
        assert_eq!(
            with(
                "readinessProbe",
                json!({"exec": {}, "tcpSocket": {"port": "x y"}, "terminationGracePeriodSeconds": 5})
            ),
            [
                "spec.containers[0].readinessProbe.exec.command: Required value",
                "spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes"
            ]
        );
        let http =
            with("startupProbe", json!({"httpGet": {"port": 0, "scheme": "FTP", "httpHeaders": [{"name": "a b"}]}}));
        assert_eq!(http.len(), 3, "{http:#?}");
    }

    #[test]
    fn hooks_have_a_handler_too() {
        let found = with("lifecycle", json!({"preStop": {}, "postStart": {"exec": {"command": ["true"]}}}));
        assert_eq!(found, ["spec.containers[0].lifecycle.preStop: Required value: must specify a handler type"]);
    }
}
