//! `storage: {type: kubernetes}` from the file to the tokens.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use portcullis_provider::config::{Config, Document, RawConfig};
use portcullis_provider::serve;
use portcullis_runtime::{Clock, Rng, Shutdown};
use portcullis_testkit::{ControlPlane, HttpClient, HttpResponse, TestCa, free_ports};
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn config(issuer_port: u16, port: u16, kubeconfig: &Path, hash: &str) -> Config {
    let text = format!(
        "issuer: http://127.0.0.1:{issuer_port}/dex\n\
         storage: {{type: kubernetes, config: {{kubeConfigFile: {}}}}}\n\
         web: {{http: '127.0.0.1:{port}'}}\n\
         enablePasswordDB: true\n\
         oauth2: {{passwordConnector: local, skipApprovalScreen: true}}\n\
         staticClients: [{{id: c, secret: s, name: C, redirectURIs: ['http://127.0.0.1/cb']}}]\n\
         staticPasswords: [{{email: jane@example.com, hash: '{hash}', username: jane, userID: '1'}}]\n",
        kubeconfig.display()
    );
    let document = Document::parse(&text, "c.yaml").unwrap();
    RawConfig::read(&document.root()).0.validate(&|_| None).unwrap()
}

async fn ready(client: &HttpClient, port: u16) -> HttpResponse {
    let mut last = String::new();
    for _ in 0..300 {
        match client.get(&format!("http://127.0.0.1:{port}/dex/keys"), &[]).await {
            Ok(response) if response.status == 200 => return response,
            other => last = format!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no keys at {port}: {last}");
}

async fn token(client: &HttpClient, port: u16, form: &[(&str, &str)]) -> (u16, Value) {
    let form = [form, &[("client_id", "c"), ("client_secret", "s")]].concat();
    let response = client.post_form(&format!("http://127.0.0.1:{port}/dex/token"), &form, &[]).await.unwrap();
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_share_keys_and_refresh_tokens() {
    let mut plane = ControlPlane::start(&[]).await;
    let kubeconfig = plane.admin_kubeconfig();
    let hash = bcrypt::hash("a good password", 10).unwrap();
    let ports: [u16; 2] = free_ports();
    let shutdown = Shutdown::new();
    let mut replicas = JoinSet::new();
    for port in ports {
        let config = config(ports[0], port, &kubeconfig, &hash);
        replicas.spawn(serve(config, Clock::system(), Rng::system(), shutdown.clone()));
    }
    let client = TestCa::default().http_client();
    let [one, two] = ports;
    let keys = [ready(&client, one).await.body, ready(&client, two).await.body];
    assert!(replicas.try_join_next().is_none(), "a replica has ended");
    // The first is the one that signs. One replica may have made the next already and the other not looked since, for
    // which a key is published long before it signs.
    let signing = keys.map(|document| serde_json::from_slice::<Value>(&document).unwrap()["keys"][0].clone());
    assert!(signing[0]["kid"].is_string(), "{signing:?}");
    assert_eq!(signing[0], signing[1]);

    let password = [
        ("grant_type", "password"),
        ("username", "jane@example.com"),
        ("password", "a good password"),
        ("scope", "openid offline_access"),
    ];
    let (status, given) = token(&client, one, &password).await;
    assert_eq!(status, 200, "{given}");
    let first = given["refresh_token"].as_str().unwrap().to_owned();
    plane.restart_apiserver().await;
    let refresh = |token: String| [("grant_type", "refresh_token".to_owned()), ("refresh_token", token)];
    let mut tokens = vec![first];
    for port in [two, one, two, one] {
        let form = refresh(tokens.last().unwrap().clone());
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (status, given) = token(&client, port, &form).await;
        assert_eq!(status, 200, "{given}");
        tokens.push(given["refresh_token"].as_str().unwrap().to_owned());
    }
    // A token from long ago ends the family for both.
    for (port, token_now) in [(one, &tokens[0]), (two, &tokens[4])] {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token_now.as_str())];
        let (status, refused) = token(&client, port, &form).await;
        assert_eq!((status, &refused["error"]), (400, &Value::from("invalid_request")), "{refused}");
    }
    shutdown.trigger();
    while let Some(ended) = replicas.join_next().await {
        ended.unwrap().unwrap();
    }
}

/// `kubectl apply` of an object.
fn apply(plane: &ControlPlane, kind: &str, name: &str, spec: &Value) {
    let object = json!({"apiVersion": "portcullis.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let mut command = plane.kubectl(&plane.admin_kubeconfig());
    let mut child = command.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{object}");
}

/// Waits until both replicas answer a form with this status, no longer than an edit may take.
async fn both(client: &HttpClient, ports: [u16; 2], form: &[(&str, &str)], wanted: u16) {
    for port in ports {
        let begun = Instant::now();
        loop {
            let url = format!("http://127.0.0.1:{port}/dex/token");
            let response = client.post_form(&url, form, &[]).await.unwrap();
            if response.status == wanted {
                break;
            }
            let said = String::from_utf8_lossy(&response.body).into_owned();
            assert!(begun.elapsed() < Duration::from_secs(2), "{port}: {} {said}", response.status);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn sign_in<'a>(user: &'a str, password: &'a str, client: &'a str, secret: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("grant_type", "password"),
        ("username", user),
        ("password", password),
        ("scope", "openid"),
        ("client_id", client),
        ("client_secret", secret),
    ]
}

fn message(plane: &ControlPlane, kind: &str, name: &str) -> String {
    let path = "jsonpath={.status.conditions[0].status} {.status.conditions[0].reason} {.status.conditions[0].message}";
    let output = plane.kubectl(&plane.admin_kubeconfig()).args(["get", kind, name, "-o", path]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The status of an object, once it begins so.
async fn status(plane: &ControlPlane, kind: &str, name: &str, begins: &str) -> String {
    let begun = Instant::now();
    loop {
        let found = message(plane, kind, name);
        if found.starts_with(begins) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{kind} {name}: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_clients_that_kubectl_writes_are_in_force_on_both_replicas() {
    let plane = ControlPlane::start(&[]).await;
    let kubeconfig = plane.admin_kubeconfig();
    let hash = |password: &str| bcrypt::hash(password, 10).unwrap();
    let ports: [u16; 2] = free_ports();
    let shutdown = Shutdown::new();
    let mut replicas = JoinSet::new();
    for port in ports {
        let config = config(ports[0], port, &kubeconfig, &hash("a good password"));
        replicas.spawn(serve(config, Clock::system(), Rng::system(), shutdown.clone()));
    }
    let client = TestCa::default().http_client();
    for port in ports {
        ready(&client, port).await;
    }
    let joe =
        |password: &str| json!({"email": "Joe@example.com", "hash": hash(password), "username": "joe", "userID": "2"});

    apply(&plane, "LocalUser", "joe", &joe("first"));
    both(&client, ports, &sign_in("joe@example.com", "first", "c", "s"), 200).await;
    status(&plane, "localuser", "joe", "True Accepted").await;
    apply(&plane, "LocalUser", "joe", &joe("second"));
    both(&client, ports, &sign_in("joe@example.com", "second", "c", "s"), 200).await;
    // What the schema lets through and the provider does not changes nothing.
    let weak = bcrypt::hash("third", 5).unwrap();
    apply(&plane, "LocalUser", "joe", &json!({"email": "Joe@example.com", "hash": weak, "userID": "2"}));
    let said = status(&plane, "localuser", "joe", "False Invalid").await;
    assert!(
        said.contains("does not meet minimum cost") && said.ends_with("what it said before stays in force"),
        "{said}"
    );
    both(&client, ports, &sign_in("joe@example.com", "second", "c", "s"), 200).await;
    let deleted = plane.kubectl(&kubeconfig).args(["delete", "localuser", "joe"]).output().unwrap();
    assert!(deleted.status.success());
    both(&client, ports, &sign_in("joe@example.com", "second", "c", "s"), 401).await;

    // A client: unknown, there, with another secret, gone.
    let by = |secret: &'static str| sign_in("jane@example.com", "a good password", "kubernetes", secret);
    both(&client, ports, &by("one"), 401).await;
    let spec = |secret: &str| json!({"id": "kubernetes", "secret": secret, "name": "Kubernetes"});
    apply(&plane, "OAuthClient", "cluster", &spec("one"));
    both(&client, ports, &by("one"), 200).await;
    apply(&plane, "OAuthClient", "cluster", &spec("two"));
    both(&client, ports, &by("two"), 200).await;
    both(&client, ports, &by("one"), 401).await;
    apply(
        &plane,
        "OAuthClient",
        "cluster",
        &json!({"id": "kubernetes", "secret": "three", "name": "K", "mfaChain": ["totp"]}),
    );
    let said = status(&plane, "oauthclient", "cluster", "False Invalid").await;
    assert!(said.contains("unknown MFA authenticator"), "{said}");
    both(&client, ports, &by("two"), 200).await;
    // One with the id of the file's client says that it is shadowed.
    apply(&plane, "OAuthClient", "c", &json!({"public": true, "name": "C"}));
    status(&plane, "oauthclient", "c", "False ShadowedByConfiguration").await;
    apply(&plane, "Connector", "corp", &json!({"type": "oidc", "name": "Corp", "config": {"issuer": "https://x"}}));
    status(&plane, "connector", "corp", "False TypeNotServed connectors of type \"oidc\" are not served yet").await;
    let deleted = plane.kubectl(&kubeconfig).args(["delete", "oac", "cluster"]).output().unwrap();
    assert!(deleted.status.success());
    both(&client, ports, &by("two"), 401).await;
    shutdown.trigger();
    while let Some(ended) = replicas.join_next().await {
        ended.unwrap().unwrap();
    }
}
