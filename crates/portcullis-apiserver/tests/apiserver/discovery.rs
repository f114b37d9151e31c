//! Discovery and OpenAPI beside those of a real kube-apiserver: what we serve of a group-version is described byte for byte
//! as there, and real kubectl explains it in the same words.

use std::path::Path;

use portcullis_runtime::http_client::HttpClient;
use portcullis_testkit::ControlPlane;
use serde_json::{Map, Value};

use crate::bench::Bench;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Resources of which we serve fewer verbs (docs/compat/kube-apiserver.md).
const READ_ONLY: [&str; 2] = ["nodes", "customresourcedefinitions"];

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

/// The members of `all` that `ours` has too, by `name`, in the order of `all`; with the verbs that ours has, where it stands
/// in [`READ_ONLY`].
fn common(all: &Value, ours: &Value, name: &str) -> Value {
    let mut kept = Vec::new();
    for one in all.as_array().unwrap() {
        let Some(own) = ours.as_array().unwrap().iter().find(|own| own[name] == one[name]) else { continue };
        let mut one = one.clone();
        if READ_ONLY.iter().any(|known| one[name] == *known) {
            let verbs = one["verbs"].as_array_mut().unwrap();
            verbs.retain(|verb| own["verbs"].as_array().unwrap().contains(verb));
        }
        kept.push(one);
    }
    Value::Array(kept)
}

fn paths_of(index: &Value) -> Map<String, Value> {
    index["paths"].as_object().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_described_as_by_a_real_kube_apiserver() {
    let real = ControlPlane::start(&[]).await;
    let bench = Bench::start().await;
    let (ours_url, real_url) = (bench.url(""), real.url().to_owned());
    let ours = Side { base: &ours_url, client: bench.client(Some(("admin", &["system:masters"]))) };
    let theirs = Side { base: &real_url, client: real.admin_client() };

    legacy_documents_agree(&theirs, &ours).await;
    aggregated_documents_agree(&theirs, &ours).await;
    negotiation_agrees(&theirs, &ours).await;
    openapi_documents_agree(&theirs, &ours).await;
    kubectl_says_the_same(&real, &bench).await;
    bench.stop().await;
}

async fn legacy_documents_agree(real: &Side<'_>, ours: &Side<'_>) {
    let (want, got) = (real.tree("/apis", "application/json").await, ours.tree("/apis", "application/json").await);
    assert_eq!(got["groups"], common(&want["groups"], &got["groups"], "name"), "/apis");
    let mut lists = vec!["/api/v1".to_owned()];
    for group in got["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        let document = format!("/apis/{name}");
        assert_eq!(ours.get(&document, &[]).await, real.get(&document, &[]).await, "{document}");
        let versions = group["versions"].as_array().unwrap().iter();
        lists.extend(versions.map(|version| format!("/apis/{}", version["groupVersion"].as_str().unwrap())));
    }
    for path in lists {
        let (want, got) = (real.tree(&path, "*/*").await, ours.tree(&path, "*/*").await);
        let mut expected = want.clone();
        expected["resources"] = common(&want["resources"], &got["resources"], "name");
        // As text: the order of members counts too.
        assert_eq!(got.to_string(), expected.to_string(), "{path}");
        // Nothing may be missing without being known: a resource without one of its subresources.
        let kept: Vec<&str> =
            got["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
        assert!(
            kept.iter().all(|name| !name.contains('/') || kept.contains(&name.split('/').next().unwrap())),
            "{path}"
        );
    }
}

async fn aggregated_documents_agree(real: &Side<'_>, ours: &Side<'_>) {
    for path in ["/api", "/apis"] {
        let (want, got) = (real.tree(path, AGGREGATED).await, ours.tree(path, AGGREGATED).await);
        let name = |group: &Value| group["metadata"]["name"].clone();
        let groups = got["items"].as_array().unwrap();
        let mut expected = want.clone();
        let known = want["items"].as_array().unwrap().iter().filter(|one| groups.iter().any(|g| name(g) == name(one)));
        let mut known: Vec<Value> = known.cloned().collect();
        assert_eq!(known.len(), groups.len(), "{path}");
        for (group, own) in known.iter_mut().zip(groups) {
            for (version, own) in
                group["versions"].as_array_mut().unwrap().iter_mut().zip(own["versions"].as_array().unwrap())
            {
                let mut resources = common(&version["resources"], &own["resources"], "resource");
                for (one, own) in resources.as_array_mut().unwrap().iter_mut().zip(own["resources"].as_array().unwrap())
                {
                    let Some(all) = one.as_object_mut().unwrap().shift_remove("subresources") else { continue };
                    if let Some(served) = own.get("subresources") {
                        one["subresources"] = common(&all, served, "subresource");
                    }
                }
                version["resources"] = resources;
            }
        }
        expected["items"] = Value::Array(known);
        assert_eq!(got.to_string(), expected.to_string(), "{path}");
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

async fn openapi_documents_agree(real: &Side<'_>, ours: &Side<'_>) {
    let (index, own_index) = (real.get("/openapi/v3", &[]).await, ours.get("/openapi/v3", &[]).await);
    assert_eq!(own_index.1, index.1);
    let places = paths_of(&serde_json::from_str(&own_index.2).unwrap());
    let known = paths_of(&serde_json::from_str(&index.2).unwrap());
    let mut compared = (0, 0);
    for (place, entry) in &places {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let want = real.get(known[place]["serverRelativeURL"].as_str().unwrap(), &[]).await;
        let got = ours.get(url, &[]).await;
        assert_eq!(
            got.1.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            want.1.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
        assert_eq!(got.1[1], ("cache-control", "public, immutable".to_owned()));
        let (want, got): (Value, Value) =
            (serde_json::from_str(&want.2).unwrap(), serde_json::from_str(&got.2).unwrap());
        compared.0 += same_paths(place, &want["paths"], &got["paths"]);
        compared.1 += same_members(place, &want["components"]["schemas"], &got["components"]["schemas"]);
        assert_eq!(got["info"], want["info"]);
        assert_eq!(got["components"]["securitySchemes"].to_string(), want["components"]["securitySchemes"].to_string());
        // A wrong hash leads to the right one; the client follows.
        for (side, right) in [(real, known[place]["serverRelativeURL"].as_str().unwrap()), (ours, url)] {
            let stale = side.get(&format!("/openapi/v3/{place}?hash=AB"), &[]).await;
            assert_eq!(stale, side.get(right, &[]).await, "{place}");
        }
    }
    assert!(compared.0 > 60 && compared.1 > 250, "{compared:?}");

    let json = |answer: Answer| serde_json::from_str::<Value>(&answer.2).unwrap();
    let (want, got) = (json(real.get("/openapi/v2", &[]).await), json(ours.get("/openapi/v2", &[]).await));
    assert!(same_paths("v2", &want["paths"], &got["paths"]) > 60);
    for (name, definition) in got["definitions"].as_object().unwrap() {
        assert_eq!(*definition, want["definitions"][name], "{name}");
    }
    for part in ["swagger", "info", "parameters", "security", "securityDefinitions"] {
        assert_eq!(got[part].to_string(), want[part].to_string(), "{part}");
    }
}

/// Every path of ours is one of theirs, with operations of theirs, byte for byte. How many.
fn same_paths(place: &str, want: &Value, got: &Value) -> usize {
    let got = got.as_object().unwrap();
    for (path, item) in got {
        same_members(&format!("{place} {path}"), &want[path], item);
    }
    got.len()
}

fn same_members(place: &str, want: &Value, got: &Value) -> usize {
    let Some(got) = got.as_object() else { return 0 };
    for (name, value) in got {
        assert_eq!(value.to_string(), want[name].to_string(), "{place} {name}");
    }
    got.len()
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
