//! Service account tokens beside those of a real kube-apiserver: the same requests get the same answers, tokens that say the
//! same, the same user behind them and the same refusals; real `kubectl create token` prints the same.

use portcullis_runtime::http_client::HttpClient;
use portcullis_testkit::ControlPlane;
use serde_json::{Value, json};

use crate::bench::{Bench, kubectl_of};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

struct Side {
    base: String,
    client: HttpClient,
    anonymous: HttpClient,
}

impl Side {
    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let headers = [("user-agent", "test"), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string().into());
        let url = format!("{}{path}", self.base);
        let response = self.client.request(method.parse().unwrap(), &url, &headers, body).await.unwrap();
        let text =
            std::str::from_utf8(&response.body).unwrap().replace(self.base.trim_start_matches("https://"), "HOST");
        (response.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn token(&self, account: &str, spec: &Value) -> String {
        let (status, answer) =
            self.send("POST", &format!("{ACCOUNTS}/{account}/token"), Some(&json!({"spec": spec}))).await;
        assert_eq!(status, 201, "{answer}");
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// What whoever shows a token is told about themselves.
    async fn whoami(&self, token: &str) -> (u16, Value) {
        let headers = [
            ("user-agent", "test"),
            ("content-type", "application/json"),
            ("authorization", &format!("Bearer {token}")),
        ];
        let url = format!("{}/apis/authentication.k8s.io/v1/selfsubjectreviews", self.base);
        let response =
            self.anonymous.request("POST".parse().unwrap(), &url, &headers, Some("{}".into())).await.unwrap();
        (response.status, scrubbed(serde_json::from_slice(&response.body).unwrap()))
    }
}

/// Ids, times and signatures out; a token becomes what it says.
fn scrubbed(mut value: Value) -> Value {
    scrub(&mut value);
    value
}

fn scrub(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.shift_remove("managedFields");
            for (key, value) in members.iter_mut() {
                match key.as_str() {
                    "uid"
                    | "creationTimestamp"
                    | "expirationTimestamp"
                    | "resourceVersion"
                    | "jti"
                    | "iat"
                    | "nbf"
                    | "exp"
                    | "warnafter"
                    | "kid"
                    | "n"
                    | "authentication.kubernetes.io/credential-id"
                    | "authentication.kubernetes.io/pod-uid"
                    | "authentication.kubernetes.io/node-uid" => {
                        assert!(!value.is_null(), "{key}");
                        *value = Value::from("-");
                    }
                    _ => scrub(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(scrub),
        Value::String(text) => *text = scrub_text(text),
        _ => {}
    }
}

fn scrub_text(text: &str) -> String {
    let words = text.split_inclusive([' ', '\n', '"', '(', ')']).map(|word| {
        let end =
            word.len() - word.chars().last().filter(|c| !c.is_alphanumeric() && *c != '-').map_or(0, char::len_utf8);
        let (word, end) = word.split_at(end);
        let is_uid = word.len() == 36 && word.matches('-').count() == 4;
        let is_time = word.len() == 20 && word.ends_with('Z');
        if is_uid || is_time {
            return format!("-{end}");
        }
        match claims(word) {
            Some(claims) => format!("{}{end}", scrubbed(claims)),
            None => format!("{word}{end}"),
        }
    });
    words.collect()
}

/// The payload of a token, with how long it is good instead of from when to when.
fn claims(token: &str) -> Option<Value> {
    let payload = portcullis_jose::base64url_decode(token.strip_prefix("eyJ")?.split('.').nth(1)?).ok()?;
    let mut claims: Value = serde_json::from_slice(&payload).ok()?;
    let seconds = |name: &str| claims[name].as_i64();
    // Not one of the servers' own, such as a token that a test made up.
    let (issued, ends) = (seconds("iat")?, seconds("exp")?);
    assert_eq!(seconds("nbf"), Some(issued));
    claims["good"] = Value::from(ends - issued);
    Some(claims)
}

async fn sides(real: &ControlPlane, bench: &Bench) -> [Side; 2] {
    let admin = Some(("admin", &["system:masters"][..]));
    [
        Side { base: real.url().to_owned(), client: real.admin_client(), anonymous: real.http_client() },
        Side { base: bench.url(""), client: bench.client(admin), anonymous: bench.client(None) },
    ]
}

async fn furnish(side: &Side) {
    for name in ["robot", "other"] {
        let (status, answer) = side.send("POST", ACCOUNTS, Some(&json!({"metadata": {"name": name}}))).await;
        assert_eq!(status, 201, "{answer}");
    }
    let account = json!({"metadata": {"name": "default"}});
    let (status, answer) = side.send("POST", ACCOUNTS, Some(&account)).await;
    assert!(matches!(status, 201 | 409), "{answer}");
    let plain = json!({"metadata": {"name": "plain"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (status, answer) = side.send("POST", "/api/v1/namespaces/default/pods", Some(&plain)).await;
    assert_eq!(status, 201, "{answer}");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "robot", "nodeName": "ghost",
        "containers": [{"name": "c", "image": "i"}]}});
    let (status, answer) = side.send("POST", "/api/v1/namespaces/default/pods", Some(&pod)).await;
    assert_eq!(status, 201, "{answer}");
}

fn requests() -> Vec<(String, String, Value)> {
    let to = |account: &str| format!("{ACCOUNTS}/{account}/token");
    let bound = |kind: &str, version: &str, name: &str| json!({"spec": {"boundObjectRef": {"kind": kind, "apiVersion": version, "name": name}}});
    let webhook = |spec: Value| {
        let reference = json!({"kind": "MutatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1", "name": "w"});
        let mut spec = spec;
        spec["boundObjectRef"] = reference;
        json!({"spec": spec})
    };
    let group =
        |value: Value| webhook(json!({"audiences": ["a"], "attestations": {"admissionReviewAPIGroups": value}}));
    let mut all: Vec<(String, Value)> = [
        json!({}),
        json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"audiences": ["a", "b"], "expirationSeconds": 600}}),
        json!({"spec": {"expirationSeconds": 599}}),
        json!({"spec": {"expirationSeconds": -1}}),
        json!({"spec": {"expirationSeconds": 0}}),
        json!({"spec": {"expirationSeconds": 4_294_967_296_i64}}),
        json!({"spec": {"expirationSeconds": 4_294_967_297_i64, "attestations": {}}}),
        json!({"spec": {"expirationSeconds": "x"}}),
        json!({"spec": {"audiences": [""]}}),
        json!({"spec": {"audiences": "a"}}),
        json!({"metadata": {"name": "zz"}}),
        json!({"metadata": {"name": "robot", "namespace": "default", "labels": {"a": "b"}, "annotations": {"c": "d"}, "generateName": "g"}}),
        json!({"metadata": {"namespace": "zz"}}),
        json!({"metadata": {"uid": "zz"}}),
        json!({"status": {"token": "x"}}),
        bound("Pod", "v1", "p"),
        bound("Pod", "", "p"),
        bound("Pod", "v2", "p"),
        bound("Pod", "v1", "none"),
        bound("Pod", "v1", ""),
        bound("Node", "v1", "none"),
        bound("Secret", "v1", "none"),
        bound("ConfigMap", "v1", "p"),
        bound("Deployment", "apps/v1", "p"),
        bound("Deployment", "a/b/c", "p"),
        bound("", "", ""),
        json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "x"}}}),
        json!({"spec": {"expirationSeconds": 3607, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}}),
        json!({"spec": {"expirationSeconds": 3607, "audiences": ["a"], "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}}),
        json!({"spec": {"attestations": {"a": ["b"]}, "expirationSeconds": 1}}),
        webhook(json!({})),
        webhook(json!({"audiences": ["a", "b"]})),
        webhook(json!({"audiences": ["a"], "attestations": {"odd": ["x"]}})),
        group(json!(["*"])),
        group(json!([""])),
        group(json!(["a", "b"])),
        group(json!(["_x"])),
        group(json!(["apps"])),
        json!({"kind": "Pod", "apiVersion": "v1"}),
        json!([]),
    ]
    .into_iter()
    .map(|body| (to("robot"), body))
    .collect();
    all.extend([
        (to("other"), bound("Pod", "v1", "p")),
        (to("default"), bound("Pod", "v1", "plain")),
        (to("robot"), bound("Pod", "v1", "plain")),
        (to("none"), json!({})),
        ("/api/v1/namespaces/none/serviceaccounts/robot/token".to_owned(), json!({})),
        (format!("{}?dryRun=All&fieldManager=x", to("robot")), json!({})),
        (format!("{}?fieldValidation=Strict", to("robot")), json!({"foo": 1, "spec": {"bar": 2}})),
        (format!("{}?fieldValidation=Odd", to("robot")), json!({})),
        (format!("{}/x", to("robot")), json!({})),
        (format!("{ACCOUNTS}/robot/tokens"), json!({})),
        ("/api/v1/namespaces/default/pods/p/token".to_owned(), json!({})),
    ]);
    let mut all: Vec<(String, String, Value)> =
        all.into_iter().map(|(path, body)| ("POST".to_owned(), path, body)).collect();
    all.extend(["GET", "PUT", "PATCH", "DELETE"].map(|method| (method.to_owned(), to("robot"), json!({}))));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn service_account_tokens_are_those_of_a_real_kube_apiserver() {
    let real = ControlPlane::start(&[]).await;
    let bench = Bench::start().await;
    let [theirs, ours] = sides(&real, &bench).await;
    furnish(&theirs).await;
    furnish(&ours).await;
    let mut wrong = Vec::new();
    let mut check = |what: String, want: (u16, Value), got: (u16, Value)| {
        let (want, got) = ((want.0, scrubbed(want.1)), (got.0, scrubbed(got.1)));
        if want != got {
            wrong.push(format!("== {what}\nreal: {} {}\nours: {} {}", want.0, want.1, got.0, got.1));
        }
    };
    let requests = requests();
    for (method, path, body) in &requests {
        let (want, got) = (theirs.send(method, path, Some(body)).await, ours.send(method, path, Some(body)).await);
        check(format!("{method} {path} {body}"), want, got);
    }
    for path in [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1",
        "/.well-known",
    ] {
        let (want, mut got) = (theirs.send("GET", path, None).await, ours.send("GET", path, None).await);
        // The test kit gives the real server an ECDSA key.
        let text = got.1.to_string().replace("RS256", "ES256");
        got.1 = serde_json::from_str(&text).unwrap();
        if path.contains("jwks") {
            assert_eq!(got.1["keys"][0]["kty"], "RSA");
            continue;
        }
        check(path.to_owned(), want, got);
    }
    let pod = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}});
    for spec in [json!({}), json!({"audiences": ["x", "y"]}), pod.clone()] {
        let (want, got) = (theirs.token("robot", &spec).await, ours.token("robot", &spec).await);
        check(format!("whoami {spec}"), theirs.whoami(&want).await, ours.whoami(&got).await);
        for audiences in [
            json!(null),
            json!([]),
            json!(["y"]),
            json!(["x", "https://kubernetes.default.svc.cluster.local"]),
            json!(["z"]),
        ] {
            let review = |token: &str| json!({"spec": {"token": token, "audiences": audiences}});
            let (want, got) = (
                theirs.send("POST", REVIEWS, Some(&review(&want))).await,
                ours.send("POST", REVIEWS, Some(&review(&got))).await,
            );
            check(format!("review {spec} {audiences}"), want, got);
        }
    }
    // Tokens of others, broken ones, and those of whom is no longer there.
    let (their_good, our_good) = (theirs.token("robot", &pod).await, ours.token("robot", &pod).await);
    let (their_plain, our_plain) = (theirs.token("robot", &json!({})).await, ours.token("robot", &json!({})).await);
    let broken = |token: &str| {
        let (body, signature) = token.rsplit_once('.').unwrap();
        let (header, payload) = body.split_once('.').unwrap();
        let foreign = portcullis_jose::base64url_encode(br#"{"alg":"RS256","kid":"zz"}"#);
        let other = portcullis_jose::base64url_encode(br#"{"iss":"https://else.where","sub":"x"}"#);
        vec![
            "junk".to_owned(),
            "a.b.c".to_owned(),
            String::new(),
            format!("{body}.{}", "A".repeat(signature.len())),
            format!("{body}."),
            format!("{foreign}.{payload}.{signature}"),
            format!("{header}.{other}.{signature}"),
            body.to_owned(),
        ]
    };
    let review = |token: &str| json!({"spec": {"token": token}});
    for (want, got) in broken(&their_good).iter().zip(broken(&our_good)) {
        let mut want = theirs.send("POST", REVIEWS, Some(&review(want))).await;
        let mut got = ours.send("POST", REVIEWS, Some(&review(&got))).await;
        // The tokens themselves come back in the answers.
        for answer in [&mut want.1, &mut got.1] {
            answer.as_object_mut().unwrap().shift_remove("spec");
        }
        check("a broken token".to_owned(), want, got);
    }
    for (method, path) in [
        ("DELETE", "/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0".to_owned()),
        ("DELETE", format!("{ACCOUNTS}/robot")),
    ] {
        for side in [&theirs, &ours] {
            side.send(method, &path, None).await;
        }
        // The real server may still have the token's verdict: for 10 seconds, as its cache has it.
        for (want, got) in [(&their_good, &our_good), (&their_plain, &our_plain)] {
            let want = settled(&theirs, &review(want)).await;
            check(format!("after {method} {path}"), want, ours.send("POST", REVIEWS, Some(&review(got))).await);
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), requests.len(), wrong.join("\n"));
    bench.stop().await;
}

/// A review whose answer does not come from the cache: audiences are part of its key.
async fn settled(side: &Side, review: &Value) -> (u16, Value) {
    static ASKED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = ASKED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut review = review.clone();
    let own = "https://kubernetes.default.svc.cluster.local";
    review["spec"]["audiences"] = json!([own, format!("none-{number}")]);
    let (status, mut answer) = side.send("POST", REVIEWS, Some(&review)).await;
    if let Some(spec) = answer["spec"].as_object_mut() {
        spec.shift_remove("audiences");
    }
    (status, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_create_token_works_as_against_a_real_kube_apiserver() {
    let real = ControlPlane::start(&[]).await;
    let bench = Bench::start().await;
    let sides = sides(&real, &bench).await;
    for side in &sides {
        furnish(side).await;
    }
    let configs = [real.admin_kubeconfig(), bench.kubeconfig("admin", &["system:masters"])];
    for line in [
        "create token robot",
        "create token robot -n default --duration=10m",
        "create token robot --duration=5m",
        "create token robot --duration=-1s",
        "create token robot --duration=999999h",
        "create token robot --audience=a --audience=b",
        "create token robot --bound-object-kind=Pod --bound-object-name=p",
        "create token robot --bound-object-kind=Pod --bound-object-name=p --bound-object-uid=x",
        "create token robot --bound-object-kind=Pod --bound-object-name=none",
        "create token robot --bound-object-kind=Node --bound-object-name=none",
        "create token robot --bound-object-kind=Secret --bound-object-name=none",
        "create token robot --bound-object-kind=Deployment --bound-object-name=none",
        "create token robot --bound-object-name=p",
        "create token other --bound-object-kind=Pod --bound-object-name=p",
        "create token none",
        "create token robot -n none",
        "create token robot -o json",
        "create token robot -o yaml --audience=x",
        "create token robot -o name",
        "create token",
        "create serviceaccount third -o name",
        "create token third --as=nobody",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let mut outputs = Vec::new();
        for config in &configs {
            let output = kubectl_of(&bench.folder, config, &args).await;
            let text = |bytes: Vec<u8>| scrub_output(&String::from_utf8(bytes).unwrap());
            outputs.push((output.status.code(), text(output.stdout), text(output.stderr)));
        }
        assert_eq!(outputs[1], outputs[0], "kubectl {line}");
    }
    bench.stop().await;
}

/// Object output as a value; all other by its words.
fn scrub_output(text: &str) -> String {
    if text.starts_with('{') || text.starts_with("apiVersion:") {
        let value: Value = portcullis_kube::yaml::parse(text, "output", 1 << 20).unwrap();
        return scrubbed(value).to_string();
    }
    scrub_text(text)
}
