//! Discovery and OpenAPI beside those of a real kube-apiserver: both describe the same, byte for byte, but for what `absent`
//! lists, and real kubectl explains it in the same words.

mod absent;
mod openapi;

use std::collections::BTreeSet;
use std::path::Path;

use portcullis_runtime::http_client::HttpClient;
use portcullis_testkit::ControlPlane;
use serde_json::Value;

use self::absent::Absent;
use crate::bench::Bench;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

struct Side<'b> {
    base: &'b str,
    client: HttpClient,
}

/// Status, headers that clients act on, body.
type Answer = (u16, Vec<(&'static str, String)>, String);

impl Side<'_> {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("user-agent", "test")];
        all.extend(headers);
        let response = self.client.get(&format!("{}{path}", self.base), &all).await.unwrap();
        let kept = ["content-type", "cache-control", "vary", "etag", "location", "content-encoding"];
        let kept = kept.into_iter().filter_map(|name| {
            let values: Vec<&str> = response.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
            (!values.is_empty()).then(|| (name, values.join(", ")))
        });
        (response.status, kept.collect(), String::from_utf8(response.body.to_vec()).unwrap())
    }

    async fn tree(&self, path: &str, accept: &str) -> Value {
        let (status, _, body) = self.get(path, &[("accept", accept)]).await;
        assert_eq!(status, 200, "{path}");
        serde_json::from_str(&body).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_described_as_by_a_real_kube_apiserver() {
    let real = ControlPlane::start(&[]).await;
    let bench = Bench::start().await;
    let (ours_url, real_url) = (bench.url(""), real.url().to_owned());
    let ours = Side { base: &ours_url, client: bench.client(Some(("admin", &["system:masters"]))) };
    let theirs = Side { base: &real_url, client: real.admin_client() };

    let mut absent = Absent::default();
    legacy_documents_agree(&theirs, &ours, &mut absent).await;
    aggregated_documents_agree(&theirs, &ours, &mut absent).await;
    negotiation_agrees(&theirs, &ours).await;
    openapi::documents_agree(&theirs, &ours, &mut absent).await;
    absent.judge();
    kubectl_says_the_same(&real, &bench).await;
    bench.stop().await;
}

async fn legacy_documents_agree(real: &Side<'_>, ours: &Side<'_>, absent: &mut Absent) {
    let (mut want, got) = (real.tree("/apis", "application/json").await, ours.tree("/apis", "application/json").await);
    want["groups"].as_array_mut().unwrap().retain(|group| !absent.group(group["name"].as_str().unwrap()));
    assert_eq!(got.to_string(), want.to_string(), "/apis");
    let mut lists = vec![("v1".to_owned(), "/api/v1".to_owned())];
    for group in got["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        let document = format!("/apis/{name}");
        assert_eq!(ours.get(&document, &[]).await, real.get(&document, &[]).await, "{document}");
        for version in group["versions"].as_array().unwrap() {
            let version = version["groupVersion"].as_str().unwrap();
            lists.push((version.to_owned(), format!("/apis/{version}")));
        }
    }
    for (version, path) in lists {
        let (mut want, got) = (real.tree(&path, "*/*").await, ours.tree(&path, "*/*").await);
        let all = want["resources"].as_array().unwrap().iter();
        want["resources"] =
            all.filter_map(|resource| absent.rest(&version, resource["name"].as_str().unwrap(), resource)).collect();
        let names = |document: &Value| -> BTreeSet<String> {
            document["resources"].as_array().unwrap().iter().map(|resource| resource["name"].to_string()).collect()
        };
        assert_eq!(names(&got), names(&want), "{path}");
        // As text: the order of members counts too.
        assert_eq!(got.to_string(), want.to_string(), "{path}");
    }
}

async fn aggregated_documents_agree(real: &Side<'_>, ours: &Side<'_>, absent: &mut Absent) {
    for path in ["/api", "/apis"] {
        let (mut want, got) = (real.tree(path, AGGREGATED).await, ours.tree(path, AGGREGATED).await);
        let groups = want["items"].as_array_mut().unwrap();
        groups.retain(|group| !group["metadata"]["name"].as_str().is_some_and(|name| absent.group(name)));
        for group in groups {
            let name = group["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            for version in group["versions"].as_array_mut().unwrap() {
                let place = version["version"].as_str().unwrap();
                let place = if name.is_empty() { place.to_owned() } else { format!("{name}/{place}") };
                version["resources"] = described(&place, &version["resources"], absent);
            }
        }
        assert_eq!(got.to_string(), want.to_string(), "{path}");
        for side in [real, ours] {
            let (status, headers, _) = side.get(path, &[("accept", AGGREGATED)]).await;
            let etag = headers.iter().find(|(name, _)| *name == "etag").unwrap().1.clone();
            assert_eq!((status, etag.len()), (200, 130));
            let again = side.get(path, &[("accept", AGGREGATED), ("if-none-match", &etag)]).await;
            let want = vec![("cache-control", "public".to_owned()), ("vary", "Accept".to_owned()), ("etag", etag)];
            assert_eq!(again, (304, want, String::new()), "{path}");
        }
    }
}

/// The resources of a version as ours has to list them.
fn described(version: &str, resources: &Value, absent: &mut Absent) -> Value {
    let mut kept = Vec::new();
    for resource in resources.as_array().unwrap() {
        let name = resource["resource"].as_str().unwrap();
        let Some(mut resource) = absent.rest(version, name, resource) else { continue };
        if let Some(parts) = resource.get("subresources") {
            let rest =
                |part: &Value| absent.rest(version, &format!("{name}/{}", part["subresource"].as_str().unwrap()), part);
            let parts: Vec<Value> = parts.as_array().unwrap().iter().filter_map(rest).collect();
            let members = resource.as_object_mut().unwrap();
            if parts.is_empty() {
                members.shift_remove("subresources");
            } else {
                members.insert("subresources".to_owned(), Value::Array(parts));
            }
        }
        kept.push(resource);
    }
    Value::Array(kept)
}

/// The same `Accept` headers give the same status, headers and refusals.
async fn negotiation_agrees(real: &Side<'_>, ours: &Side<'_>) {
    let yaml = AGGREGATED.replace("json", "yaml");
    let any = AGGREGATED.replace("application/json", "*/*");
    let old = AGGREGATED.replace("v=v2", "v=v2beta1");
    let second = format!("application/json,{AGGREGATED}");
    let nopeer = format!("{AGGREGATED};profile=nopeer");
    let list = [
        "",
        "*/*",
        "application/json",
        "application/yaml",
        "text/foo",
        AGGREGATED,
        &yaml,
        &any,
        &old,
        &second,
        &nopeer,
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "text/foo,application/json;q=0.5",
    ];
    let paths = [
        "/api",
        "/apis",
        "/api/v1",
        "/apis/rbac.authorization.k8s.io",
        "/apis/rbac.authorization.k8s.io/v1/",
        "/version",
        "/openapi/v3/version",
        "/openapi/v2",
    ];
    for path in paths {
        for accept in list {
            let headers = [("accept", accept)];
            let headers = if accept.is_empty() { &[][..] } else { &headers[..] };
            let (want, got) = (real.get(path, headers).await, ours.get(path, headers).await);
            let without_etag = |answer: &Answer| {
                let kept = answer.1.iter().filter(|(name, _)| *name != "etag");
                (answer.0, kept.cloned().collect::<Vec<_>>(), answer.1.len())
            };
            assert_eq!(without_etag(&got), without_etag(&want), "{path} {accept}");
            if want.0 != 200 {
                assert_eq!(value(&got.2), value(&want.2), "{path} {accept}");
            }
        }
    }
}

/// YAML is compared by value: ours does not fold long lines.
fn value(body: &str) -> Value {
    if body.starts_with("apiVersion:") {
        return portcullis_kube::yaml::parse(body, "body", 1 << 20).unwrap();
    }
    Value::from(body)
}

/// `kubectl explain` in all its forms, and the lists of what there is.
async fn kubectl_says_the_same(real: &ControlPlane, bench: &Bench) {
    let (their_config, our_config) = (real.admin_kubeconfig(), bench.kubeconfig("admin", &["system:masters"]));
    let kinds = bench.kubectl(&our_config, &["api-resources", "-o", "name"]).await;
    let kinds = String::from_utf8(kinds.stdout).unwrap();
    let kinds: Vec<&str> = kinds.lines().collect();
    assert!(kinds.len() >= 15, "{kinds:?}");
    let mut commands: Vec<String> = Vec::new();
    for kind in &kinds {
        commands
            .extend(["", " --recursive", " --output=plaintext-openapiv2"].map(|form| format!("explain {kind}{form}")));
    }
    commands.extend(
        [
            "explain pods.spec.containers.ports",
            "explain po.spec.affinity.podAffinity --recursive",
            "explain pods.spec.containers.imagePullPolicy",
            "explain pod.status.phase",
            "explain pods.metadata.managedFields.fieldsV1",
            "explain pod.spec.volumes --recursive --max-depth=2",
            "explain pods.spec.containers.ports --output=plaintext-openapiv2",
            "explain pod.spec.containers.livenessProbe.httpGet.port --output=plaintext-openapiv2",
            "explain pods --api-version=v1",
            "explain clusterroles --api-version=rbac.authorization.k8s.io/v1",
            "explain clusterroles.rules.verbs",
            "explain clusterrole.aggregationRule.clusterRoleSelectors",
            "explain pods.spec.nope",
            "explain nope",
            "explain pods --api-version=v9",
            "explain pods --output=odd",
            "explain pods --max-depth=2",
            "explain",
            "explain pods nodes",
            "explain rolebindings --recursive -o plaintext-openapiv2",
            "explain crd.spec.versions.schema.openAPIV3Schema --recursive --max-depth=2",
            "get crd",
            "get crds -o wide",
            "get crd -o yaml",
            "get crd none.example.com",
        ]
        .map(str::to_owned),
    );
    for line in &commands {
        let args: Vec<&str> = line.split(' ').collect();
        let want = run(real, &their_config, &args).await;
        let output = bench.kubectl(&our_config, &args).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let got = (output.status.code(), text(&output.stdout), text(&output.stderr));
        assert_eq!(got, want, "kubectl {line}");
    }
}

async fn run(real: &ControlPlane, config: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = real.kubectl(config);
    command.args(args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
