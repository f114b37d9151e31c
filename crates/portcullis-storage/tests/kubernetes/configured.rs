//! Clients, local users and connectors as custom resources: written with kubectl, in force on two replicas within two seconds.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_runtime::{Clock, Rng, Secret};
use portcullis_storage::kernel::{Kind, Verdict};
use portcullis_storage::{
    BackupFile, Change, Client, Configured, Connector, CrdHandling, FillError, FillOptions, Finding, Kernel,
    KeyEncryption, KeyEncryptionKey, KubernetesKernel, KubernetesOptions, MemoryKernel, Password, Scope, Store,
    StoreOptions, Sweep, SweepStep, WriteError, copy_store, restore_backup, write_backup,
};
use portcullis_testkit::ControlPlane;
use serde_json::{Value, json};

use crate::kit::{Pod, kubectl, open, options};

/// How long an edit may take until it is in force.
const IN_FORCE: Duration = Duration::from_secs(2);

/// A cluster with the definitions and the smallest rights.
struct Cluster {
    plane: ControlPlane,
    pod: Pod,
}

impl Cluster {
    async fn start() -> Self {
        let plane = ControlPlane::start(&[]).await;
        let pod = Pod::deploy_all(&plane);
        Self { plane, pod }
    }

    /// A replica that judges: what is called "bad" is refused, and so are connectors.
    async fn replica(&self, options: StoreOptions) -> Store {
        Self::with(&self.pod.options(CrdHandling::Check), options).await
    }

    async fn with(access: &KubernetesOptions, options: StoreOptions) -> Store {
        let kernel: Arc<dyn Kernel> = Arc::new(open(access).await.unwrap());
        let store = Store::with_options(kernel, Clock::system(), Rng::system(), options);
        store.judge(|object| match object {
            Configured::Client(client) if client.name == "bad" => Verdict::refused("Invalid", "it is called bad"),
            Configured::Connector(_) => Verdict::refused("TypeNotServed", "no connectors yet"),
            Configured::Client(_) | Configured::Password(_) => Verdict::Accepted,
        });
        store
    }

    fn kubectl(&self, args: &[&str]) -> String {
        kubectl(&self.plane, &[args, &["--namespace=portcullis"]].concat())
    }

    /// `kubectl apply` of an object of this kind; the error's text when it is refused.
    fn try_apply(&self, kind: &str, name: &str, spec: &Value) -> Result<(), String> {
        let object = json!({"apiVersion": "portcullis.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let mut command = self.plane.kubectl(&self.plane.admin_kubeconfig());
        command.args(["apply", "--namespace=portcullis", "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
    }

    fn apply(&self, kind: &str, name: &str, spec: &Value) {
        self.try_apply(kind, name, spec).unwrap();
    }

    /// Status, reason and message of an object's condition, once it has been looked at in its present form.
    async fn condition(&self, kind: &str, name: &str) -> (String, String, String) {
        let begun = Instant::now();
        loop {
            let object: Value = serde_json::from_str(&self.kubectl(&["get", kind, name, "-o", "json"])).unwrap();
            let condition = &object["status"]["conditions"][0];
            if object["status"]["observedGeneration"] == object["metadata"]["generation"] {
                assert_eq!(condition["type"], "Accepted");
                assert!(condition["lastTransitionTime"].as_str().unwrap().ends_with('Z'), "{object}");
                let text = |member: &str| condition[member].as_str().unwrap().to_owned();
                return (text("status"), text("reason"), text("message"));
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{object}");
        }
    }
}

/// Waits until what is asked for is so, no longer than an edit may take.
async fn soon<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask().await {
            println!("{what}: {:?}", begun.elapsed());
            return found;
        }
        assert!(begun.elapsed() < IN_FORCE, "not in force in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn client_name(store: &Store, id: &str) -> Option<String> {
    store.clients().get(id).await.unwrap().map(|client| client.name.clone())
}

async fn named(stores: &[&Store], id: &str, name: Option<&str>) {
    for store in stores {
        soon(&format!("{id} is {name:?}"), async || (client_name(store, id).await.as_deref() == name).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_write_is_in_force_on_every_replica_and_a_bad_edit_changes_nothing() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.replica(StoreOptions::default()).await, cluster.replica(StoreOptions::default()).await);
    let mut changes = two.clients().changes();
    // What was there before is told as everything.
    assert_eq!(client_name(&two, "app").await, None);
    let _ = tokio::time::timeout(Duration::from_millis(500), changes.next()).await;
    let both = [&one, &two];
    let spec = |name: &str| json!({"secret": "s3cret", "name": name, "redirectURIs": ["https://app.example.com/cb"]});
    cluster.apply("OAuthClient", "app", &spec("first"));
    named(&both, "app", Some("first")).await;
    let found = one.clients().get("app").await.unwrap().unwrap();
    assert_eq!(
        (found.secret.expose(), found.redirect_uris.as_slice()),
        ("s3cret", &["https://app.example.com/cb".to_owned()][..])
    );
    let told = tokio::time::timeout(IN_FORCE, changes.next()).await.unwrap().unwrap();
    assert_eq!(told, Change::Ids(["app".to_owned()].into()));
    let in_force = ("True".to_owned(), "Accepted".to_owned(), "in force".to_owned());
    assert_eq!(cluster.condition("oauthclients", "app").await, in_force);

    cluster.apply("OAuthClient", "app", &spec("second"));
    named(&both, "app", Some("second")).await;
    cluster.apply("OAuthClient", "app", &spec("bad"));
    let (status, reason, message) = cluster.condition("oac", "app").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
    assert_eq!(message, "it is called bad; what it said before stays in force");
    named(&both, "app", Some("second")).await;
    // A replica that starts now has never seen a good version.
    let three = cluster.replica(StoreOptions::default()).await;
    assert_eq!(client_name(&three, "app").await, None);
    cluster.apply("OAuthClient", "app", &spec("third"));
    named(&[&one, &two, &three], "app", Some("third")).await;
    assert_eq!(cluster.condition("oauthclients", "app").await, in_force);
    cluster.kubectl(&["delete", "oauthclient", "app"]);
    named(&[&one, &two, &three], "app", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_what_they_have_written_and_are_told_what_is_wrong_with_it() {
    let cluster = Cluster::start().await;
    let _store = cluster.replica(StoreOptions::default()).await;
    cluster.apply("OAuthClient", "app", &json!({"public": true, "name": "App"}));
    cluster.apply("LocalUser", "jane", &json!({"email": "Jane@example.com", "hash": "$2a$", "userID": "1"}));
    cluster.apply(
        "Connector",
        "corp",
        &json!({"type": "oidc", "name": "Corp", "config": {"issuer": "https://x", "n": 1}}),
    );
    for (kind, name) in [("oauthclients", "app"), ("localusers", "jane")] {
        assert_eq!(cluster.condition(kind, name).await.0, "True", "{kind}");
    }
    let (status, reason, message) = cluster.condition("connectors", "corp").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "TypeNotServed"));
    assert_eq!(message, "no connectors yet; nothing of it is in force");

    let table = |kind: &str| cluster.kubectl(&["get", kind]);
    let columns = |kind: &str| {
        let words: Vec<String> =
            table(kind).lines().next().unwrap().split("  ").map(|word| word.trim().to_owned()).collect();
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(columns("oauthclients"), ["NAME", "ID", "DISPLAY NAME", "PUBLIC", "ACCEPTED", "AGE"]);
    assert_eq!(columns("lu"), ["NAME", "EMAIL", "USER ID", "ACCEPTED", "AGE"]);
    assert_eq!(columns("conn"), ["NAME", "ID", "TYPE", "DISPLAY NAME", "ACCEPTED", "AGE"]);
    assert!(table("oac").contains("App") && table("lu").contains("Jane@example.com"), "{}", table("oac"));
    let all = table("portcullis");
    for name in ["oauthclient.portcullis.dev/app", "localuser.portcullis.dev/jane", "connector.portcullis.dev/corp"] {
        assert!(all.contains(name), "{all}");
    }
    let wide = cluster.kubectl(&["get", "connectors", "-o", "wide"]);
    assert!(wide.contains("REASON") && wide.contains("no connectors yet"), "{wide}");
    let explained = cluster.kubectl(&["explain", "oauthclients.spec.redirectURIs"]);
    assert!(explained.contains("Where an authorization may return to"), "{explained}");

    for (kind, spec, said) in [
        ("OAuthClient", json!({"id": "", "name": "x"}), "spec.id"),
        ("OAuthClient", json!({"public": true, "refreshTokenLifetime": "x"}), "Unsupported value"),
        ("OAuthClient", json!({"public": true, "redirectURIs": "x"}), "must be of type array"),
        ("OAuthClient", json!({"public": true, "redirectUris": ["x"]}), "unknown field \"spec.redirectUris\""),
        ("OAuthClient", json!({"secret": "a", "sealedSecret": "b"}), "exclude each other"),
        ("OAuthClient", json!({"public": true, "name": "x".repeat(1025)}), "Too long"),
        ("LocalUser", json!({"hash": "x"}), "spec.email"),
        ("Connector", json!({"type": "x", "grantTypes": ["implicit", "x"]}), "Unsupported value"),
        ("Connector", json!({"type": "x", "config": "text"}), "must be of type object"),
    ] {
        let error = cluster.try_apply(kind, "new", &spec).unwrap_err();
        assert!(error.contains(said), "{kind} {spec}: {error}");
    }
    // The id stays; a user's may change its case of letters.
    let renamed = cluster.try_apply("OAuthClient", "app", &json!({"id": "other", "public": true, "name": "App"}));
    assert!(renamed.unwrap_err().contains("the id cannot be changed"));
    let renamed = cluster.try_apply("LocalUser", "jane", &json!({"email": "joe@example.com", "hash": "$2a$"}));
    assert!(renamed.unwrap_err().contains("the email cannot be changed"));
    cluster.apply("LocalUser", "jane", &json!({"email": "jane@example.com", "hash": "$2a$"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_and_the_provider_meet_in_the_same_objects() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.replica(StoreOptions::default()).await, cluster.replica(StoreOptions::default()).await);
    let client = Client { id: "My App!".to_owned(), name: "made".to_owned(), public: true, ..Client::default() };
    one.clients().create(&client).await.unwrap();
    // A write is seen at once where it was made, and soon elsewhere.
    assert_eq!(client_name(&one, "My App!").await.as_deref(), Some("made"));
    named(&[&two], "My App!", Some("made")).await;
    assert!(matches!(two.clients().create(&client).await, Err(WriteError::Exists)));
    let name = cluster.kubectl(&["get", "oac", "-o", "jsonpath={.items[0].metadata.name}"]);
    assert!(name.starts_with("my-app-"), "{name}");

    // What a person writes beside the spec stays when the provider writes, and the other way round.
    cluster.kubectl(&["label", "oac", &name, "team=a"]);
    let changed = two.clients().update("My App!", |client| client.logo_url = "https://l".to_owned()).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.logo_url.as_str()), ("made", "https://l"));
    cluster.kubectl(&["patch", "oac", &name, "--type=merge", "-p", r#"{"spec":{"name":"patched"}}"#]);
    named(&[&one, &two], "My App!", Some("patched")).await;
    let labels = cluster.kubectl(&["get", "oac", &name, "-o", "jsonpath={.metadata.labels.team} {.spec.logoURL}"]);
    assert_eq!(labels, "a https://l");
    assert_eq!(one.clients().get("My App!").await.unwrap().unwrap().logo_url, "https://l");

    // A person's object without an id has its name for one, and stays so.
    cluster.apply("OAuthClient", "mine", &json!({"secret": "a", "name": "mine"}));
    named(&[&one, &two], "mine", Some("mine")).await;
    let taken = Client { id: "mine".to_owned(), public: true, ..Client::default() };
    assert!(matches!(one.clients().create(&taken).await, Err(WriteError::Exists)));
    one.clients().update("mine", |client| client.secret = Secret::new("b")).await.unwrap();
    let spec = cluster.kubectl(&["get", "oac", "mine", "-o", "jsonpath={.spec}"]);
    assert_eq!(serde_json::from_str::<Value>(&spec).unwrap(), json!({"secret": "b", "name": "mine"}));

    // Two objects with one id: the older one counts.
    tokio::time::sleep(Duration::from_millis(1_100)).await; // creation times are whole seconds
    cluster.apply("OAuthClient", "also-mine", &json!({"id": "mine", "public": true, "name": "younger"}));
    let (status, reason, message) = cluster.condition("oac", "also-mine").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Duplicate"));
    assert!(message.contains("\"mine\" is older"), "{message}");
    assert_eq!(one.clients().list().await.unwrap().len(), 2);
    one.clients().delete("mine").await.unwrap();
    named(&[&one, &two], "mine", Some("younger")).await;
    assert_eq!(cluster.condition("oac", "also-mine").await.0, "True");

    // Users and connectors, both ways.
    let user = Password { email: "Joe@Example.com".to_owned(), groups: vec!["g".to_owned()], ..Password::default() };
    one.passwords().create(&user).await.unwrap();
    assert_eq!(one.passwords().get("joe@example.com").await.unwrap().as_deref(), Some(&user));
    cluster.apply("LocalUser", "jane", &json!({"email": "Jane@example.com", "hash": "h", "emailVerified": false}));
    let jane = soon("jane", async || two.passwords().get("JANE@example.com").await.unwrap()).await;
    assert_eq!((jane.hash.expose(), jane.email_verified), ("h", Some(false)));
    let connector = Connector {
        id: "corp".to_owned(),
        kind: "ldap".to_owned(),
        name: "Corp".to_owned(),
        // As the API server sorts it.
        config: br#"{"bindPW":"p","host":"h"}"#[..].into(),
        grant_types: vec!["password".to_owned()],
    };
    two.connectors().create(&connector).await.unwrap();
    // It is not served, so it is not in force; but it is there.
    assert_eq!(two.connectors().get("corp").await.unwrap(), None);
    assert_eq!(*two.connectors().list().await.unwrap()[0], connector);
    let host = cluster.kubectl(&["get", "conn", "-o", "jsonpath={.items[0].spec.config.host} {.items[0].spec.type}"]);
    assert_eq!(host, "h ldap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_provider_writes_is_sealed_and_what_people_write_is_as_they_wrote_it() {
    let cluster = Cluster::start().await;
    let store = cluster.replica(StoreOptions::default()).await;
    let key = KeyEncryptionKey::new(Some("k1"), "a test", &[7; 32], Rng::system()).unwrap();
    store.unlock(Some(KeyEncryption::new(Arc::new(key)))).await.unwrap();
    let client = Client { id: "app".to_owned(), secret: Secret::new("hunter2"), ..Client::default() };
    store.clients().create(&client).await.unwrap();
    let config = br#"{"clientSecret":"hunter2"}"#[..].into();
    let connector = Connector { id: "c".to_owned(), kind: "oidc".to_owned(), config, ..Connector::default() };
    store.connectors().create(&connector).await.unwrap();
    cluster.apply("OAuthClient", "theirs", &json!({"secret": "in clear"}));
    let user = Password { email: "j@example.com".to_owned(), hash: Secret::new("hunter2"), ..Password::default() };
    store.passwords().create(&user).await.unwrap();
    let theirs = soon("theirs", async || store.clients().get("theirs").await.unwrap()).await;
    assert_eq!(theirs.secret.expose(), "in clear");
    let all = cluster.kubectl(&["get", "portcullis", "-o", "yaml"]);
    assert!(all.contains("sealedSecret: s.") && all.contains("sealedConfig: s."), "{all}");
    assert!(!all.contains("hunter2") && all.contains("secret: in clear"), "{all}");
    assert_eq!(store.clients().get("app").await.unwrap().unwrap().secret.expose(), "hunter2");
    // The sweep seals what facades have written, and leaves what people have.
    let mut sweep = Sweep::default();
    while store.sweep(&mut sweep, 100).await.unwrap() == SweepStep::More {}
    let after = cluster.kubectl(&["get", "oac", "theirs", "-o", "jsonpath={.spec.secret}"]);
    assert_eq!(after, "in clear");
    // Who has no key cannot use it, and says so without a word of its content. Once it is open, what it sealed is judged again.
    let without = cluster.replica(StoreOptions::default()).await;
    assert_eq!(without.clients().get("app").await.unwrap(), None);
    let key = KeyEncryptionKey::new(Some("k1"), "a test", &[7; 32], Rng::system()).unwrap();
    without.unlock(Some(KeyEncryption::new(Arc::new(key)))).await.unwrap();
    assert_eq!(without.clients().get("app").await.unwrap().unwrap().secret.expose(), "hunter2");
}

/// A store that is put back to a backup gives versions a second time: what was made since is gone, what was deleted since is
/// there, and what is edited afterwards is in force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restored_cluster_holds_is_in_force_and_nothing_else() {
    let mut cluster = Cluster::start().await;
    let access = options(&cluster.plane, "portcullis", CrdHandling::Check);
    let store = Cluster::with(&access, StoreOptions::default()).await;
    let spec = |name: &str| json!({"public": true, "name": name});
    for id in ["edited", "deleted"] {
        cluster.apply("OAuthClient", id, &spec("before"));
    }
    named(&[&store], "deleted", Some("before")).await;
    let backup = cluster.plane.backup_etcd().await;
    let begun = Instant::now();
    while cluster.try_apply("OAuthClient", "made", &spec("since")).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the API server does not come back");
    }
    cluster.apply("OAuthClient", "edited", &spec("since"));
    cluster.kubectl(&["delete", "oauthclient", "deleted"]);
    // As many writes as make sure that the watch is far ahead of all that the restored server does by itself.
    for round in 0..30 {
        cluster.kubectl(&["annotate", "oauthclient", "made", "--overwrite", &format!("round={round}")]);
    }
    named(&[&store], "made", Some("since")).await;
    named(&[&store], "edited", Some("since")).await;
    named(&[&store], "deleted", None).await;

    cluster.plane.restore_etcd(backup.path()).await;
    named(&[&store], "made", None).await;
    named(&[&store], "edited", Some("before")).await;
    named(&[&store], "deleted", Some("before")).await;
    cluster.apply("OAuthClient", "edited", &spec("after"));
    named(&[&store], "edited", Some("after")).await;
}

/// A record has at most 256 KiB, an object of a person's up to 1.5 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_too_large_says_so_and_is_missing_in_backups_and_copies_by_name() {
    let cluster = Cluster::start().await;
    let store = cluster.replica(StoreOptions::default()).await;
    let key = KeyEncryptionKey::new(Some("k1"), "a test", &[7; 32], Rng::system()).unwrap();
    store.unlock(Some(KeyEncryption::new(Arc::new(key)))).await.unwrap();
    cluster.apply("OAuthClient", "app", &json!({"public": true, "name": "App"}));
    let large = json!({
        "apiVersion": "portcullis.dev/v1", "kind": "Connector", "metadata": {"name": "large"},
        "spec": {"type": "oidc", "name": "Corp", "config": {"text": "x".repeat(300 * 1024)}},
    });
    let url = format!("{}/apis/portcullis.dev/v1/namespaces/portcullis/connectors", cluster.plane.url());
    let headers = [("content-type", "application/json")];
    let body = Some(large.to_string().into());
    let made = cluster.plane.admin_client().request(http::Method::POST, &url, &headers, body).await.unwrap();
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    let (status, reason, message) = cluster.condition("connectors", "large").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
    assert!(message.ends_with("allowed are 262144; nothing of it is in force"), "{message}");

    let named = |left_out: &[Finding]| {
        let [Finding { kind, id, what }] = left_out else { panic!("{left_out:?}") };
        assert_eq!((*kind, id.as_str()), (Kind::Connector, "large"));
        assert!(what.starts_with("the object connectors \"large\": it has "), "{what}");
    };
    let mut out = Vec::new();
    let taken = Clock::system().now();
    let written = write_backup(store.kernel(), taken, Scope::Everything, &mut out, &mut |_| {}).await.unwrap();
    named(&written.left_out);
    let file = cluster.plane.folder().join("backup");
    std::fs::write(&file, out).unwrap();
    let on = |kernel: &Arc<dyn Kernel>| Store::new(Arc::clone(kernel), Clock::system(), Rng::system());
    let target: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let backup = BackupFile::open(&file).unwrap();
    let restored = restore_backup(&backup, &on(&target), FillOptions::default(), &mut |_| {}).await.unwrap();
    assert_eq!((restored.written, written.records), (written.records, restored.written));
    assert!(target.get(Kind::Client, "app").await.unwrap().is_some());
    let target: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let copied = copy_store(store.kernel(), &on(&target), FillOptions::default(), &mut |_| {}).await.unwrap();
    named(&copied.left_out);
    let mut findings = Vec::new();
    store.check(|finding| findings.push(finding)).await.unwrap();
    named(&findings);
    assert!(!store.sealing_summary(1000).await.unwrap().complete);
    // Nor can it be told whether it is what a backup has.
    let again = restore_backup(&backup, &store, FillOptions::default(), &mut |_| {}).await;
    assert!(matches!(&again, Err(FillError::Unfit { what }) if what.contains("large")), "{again:?}");
}

/// Restarts of the API server, versions that etcd has forgotten meanwhile: every edit is in force soon after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watch_survives_a_restart_and_forgotten_versions() {
    let mut cluster = Cluster::start().await;
    // By certificate: the kit's API server has another key for tokens after each start.
    let access = options(&cluster.plane, "portcullis", CrdHandling::Check);
    let store = Cluster::with(&access, StoreOptions::default()).await;
    let spec = |name: &str| json!({"public": true, "name": name});
    cluster.apply("OAuthClient", "app", &spec("0"));
    named(&[&store], "app", Some("0")).await;
    for round in 1..3 {
        cluster.plane.restart_apiserver().await;
        cluster.apply("OAuthClient", "app", &spec(&round.to_string()));
        cluster.apply("OAuthClient", &format!("new-{round}"), &spec("new"));
        named(&[&store], "app", Some(&round.to_string())).await;
        named(&[&store], &format!("new-{round}"), Some("new")).await;
        let version = cluster.kubectl(&["get", "oac", "app", "-o", "jsonpath={.metadata.resourceVersion}"]);
        cluster.plane.compact_etcd(version.parse().unwrap()).await;
    }
    // While the API server's store is away, what is known stays in force.
    cluster.plane.kill_etcd();
    let begun = Instant::now();
    while cluster.try_apply("OAuthClient", "app", &spec("nobody")).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the API server's store is not away");
    }
    let begun = Instant::now();
    assert_eq!(client_name(&store, "app").await.as_deref(), Some("2"));
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
    cluster.plane.restart_etcd().await;
    let begun = Instant::now();
    while cluster.try_apply("OAuthClient", "app", &spec("after")).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the API server does not come back");
    }
    named(&[&store], "app", Some("after")).await;
}

/// Only health can tell that a kind is not watched while everything else works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_of_which_nothing_is_heard_is_told_and_news_of_it_ends_that() {
    let cluster = Cluster::start().await;
    let (clock, hand) = Clock::mock(1_800_000_000);
    let options = cluster.pod.options(CrdHandling::Check);
    let kernel: Arc<dyn Kernel> = Arc::new(KubernetesKernel::open(&options, &clock, Rng::system()).await.unwrap());
    let store = Store::new(Arc::clone(&kernel), clock, Rng::system());
    let client = |id: &str| Client { id: id.to_owned(), public: true, ..Client::default() };
    // What was written is known when it returns, so all three are watched by then.
    store.clients().create(&client("first")).await.unwrap();
    let jane = Password { email: "jane@example.com".to_owned(), hash: "$2a$".into(), ..Password::default() };
    store.passwords().create(&jane).await.unwrap();
    let corp =
        Connector { id: "corp".to_owned(), kind: "oidc".to_owned(), name: "Corp".to_owned(), ..Connector::default() };
    store.connectors().create(&corp).await.unwrap();
    assert_eq!(kernel.trouble(), None);
    hand.advance(Duration::from_secs(10 * 60));
    let told = kernel.trouble().unwrap();
    for plural in ["oauthclients", "localusers", "connectors"] {
        assert!(told.contains(plural), "{told}");
    }
    store.clients().create(&client("second")).await.unwrap();
    let told = kernel.trouble().unwrap();
    assert!(!told.contains("oauthclients") && told.contains("localusers"), "{told}");
}
