//! A real kube-apiserver with a generated file of 64 issuers, and tokens of all of them as TokenReviews: user, groups, uid and extra
//! must be those of our authenticator, which has the same file and discovers the same issuers over TLS.
//!
//! The other comparisons hand keys over; here what lies before and behind the verifier has its say too: discovery, the list of
//! authenticators, the review's own form.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use portcullis_authn::{Authenticator, Network, Options, TrustConfiguration, Verdict};
use portcullis_runtime::http_client::HttpClient;
use portcullis_runtime::{Clock, Shutdown};
use portcullis_testkit::{ControlPlane, FakeIssuer, Reply, temp_dir};
use serde_json::{Value, json};

use crate::draft::World;
use crate::families::file::generated;
use crate::oracle::User;
use crate::tree::{Tree, map, text};

/// Issuers of the file: as many as there may be.
const ISSUERS: usize = 64;
const TOKENS_EACH: usize = 32;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn token_reviews_of_a_real_kube_apiserver_agree() {
    let seed = crate::seed();
    println!("PORTCULLIS_SEED={seed}");
    let world = crate::world(seed);
    let server = FakeIssuer::start().await;
    let (issuers, file) = trusted(&world, &server);

    let folder = temp_dir();
    let path = folder.path().join("authentication.json");
    std::fs::write(&path, &file).expect("a file");
    let plane = ControlPlane::start(&[format!("--authentication-config={}", path.display())]).await;
    let shutdown = Shutdown::new();
    let trust = TrustConfiguration::load(file.as_bytes(), &[]).expect("a good file");
    let options = Options { cache_bytes: 0, ..Options::new(Clock::system()) };
    let ours = Authenticator::start(trust.issuers().iter().cloned(), options, &Network::default(), &shutdown);
    let ours = ours.expect("an HTTP client");
    tokio::time::timeout(PATIENCE, ours.ready()).await.expect("every issuer is discovered");

    let admin = plane.admin_client();
    let url = format!("{}/apis/authentication.k8s.io/v1/tokenreviews", plane.url());
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut different = Vec::new();
    for issuer in &issuers {
        wait_until_discovered(&admin, &url, &generated::token(&world, issuer, &issuer.key)).await;
        for _ in 0..TOKENS_EACH {
            let signer = if world.chance(30) { &issuers[0].key } else { &issuer.key };
            let token = generated::token(&world, issuer, signer);
            let (theirs, words) = review(&admin, &url, &token).await;
            let (ours, said, class) = match ours.authenticate(&token).await {
                Verdict::User(user) => (Some(of(user.info())), String::new(), "accepted"),
                Verdict::NoOpinion => (None, "invalid bearer token".to_owned(), "no opinion"),
                Verdict::Refused(error) => (None, error.to_string(), "refused"),
            };
            *counts.entry(class).or_default() += 1;
            if class != "accepted" && words.contains(&said) {
                *counts.entry("same words").or_default() += 1;
            }
            // Whose token it is must be decided alike, too.
            let nobody = words == "invalid bearer token";
            if theirs != ours || nobody != (class == "no opinion") {
                different.push(format!("{token}\n  kube-apiserver: {theirs:?} {words}\n  ours: {ours:?} {said}"));
            }
        }
    }
    shutdown.trigger();
    println!("{counts:?}");
    let show: Vec<&String> = different.iter().take(5).collect();
    assert!(different.is_empty(), "{} differ (seed {seed}): {show:#?}", different.len());
    let total = ISSUERS * TOKENS_EACH;
    assert!(counts["accepted"] * 5 >= total && counts["refused"] * 10 >= total, "{counts:?}");
    assert!(counts["same words"] * 10 >= (total - counts["accepted"]) * 9, "{counts:?}");
}

/// Issuers that are discovered at `server`, and the file that trusts them.
fn trusted(world: &Arc<World>, server: &FakeIssuer) -> (Vec<generated::Trusted>, String) {
    let mut issuers = Vec::new();
    while issuers.len() < ISSUERS {
        let n = issuers.len();
        let mut issuer = generated::issuer(world, n);
        let said = issuer.entry.get_mut("issuer");
        let said_now = said.clone().without("discoveryURL").without("certificateAuthority");
        *said = said_now
            .with("discoveryURL", text(&server.url(&format!("/discovery-{n}"))))
            .with("certificateAuthority", text(server.ca().pem()));
        // What does not load is compared elsewhere.
        if TrustConfiguration::load(file(&[&issuer.entry]).as_bytes(), &[]).is_err() {
            continue;
        }
        let mut document = server.discovery_document();
        document["issuer"] = json!(issuer.url);
        document["jwks_uri"] = json!(server.url(&format!("/keys-{n}")));
        server.reply(&format!("/discovery-{n}"), Reply::json(&document));
        server.reply(&format!("/keys-{n}"), Reply::bytes(generated::key_set(world, &issuer.key)));
        issuers.push(issuer);
    }
    let file = file(&issuers.iter().map(|issuer| &issuer.entry).collect::<Vec<_>>());
    (issuers, file)
}

fn file(entries: &[&Tree]) -> String {
    let head = [
        ("apiVersion", text("apiserver.config.k8s.io/v1")),
        ("kind", text("AuthenticationConfiguration")),
        ("jwt", Tree::List(entries.iter().map(|entry| (*entry).clone()).collect())),
    ];
    map(head).json()
}

/// A new verifier is asked once it has been discovered; until then it says so.
async fn wait_until_discovered(admin: &HttpClient, url: &str, token: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, words) = review(admin, url, token).await;
        if !words.contains("not initialized") {
            return;
        }
        assert!(Instant::now() < deadline, "{words}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The user, or the words of the refusal.
async fn review(admin: &HttpClient, url: &str, token: &str) -> (Option<User>, String) {
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token },
    });
    let headers = [("content-type", "application/json")];
    let answer = admin.request(Method::POST, url, &headers, Some(body.to_string().into())).await.expect("an answer");
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    let mut review: Value = serde_json::from_slice(&answer.body).expect("a review");
    let status = review["status"].take();
    let words = status["error"].as_str().unwrap_or_default().to_owned();
    if status["authenticated"] != json!(true) {
        return (None, words);
    }
    let info = &status["user"];
    let text = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    // The API server puts everybody who was authenticated into this group.
    let mut groups = texts(&info["groups"]);
    assert_eq!(groups.pop().as_deref(), Some("system:authenticated"));
    let extra = info["extra"].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), texts(value)));
    (Some(User { name: text("username"), uid: text("uid"), groups, extra: extra.collect() }), words)
}

fn of(info: &portcullis_kube::UserInfo) -> User {
    User {
        name: info.username.clone(),
        uid: info.uid.clone(),
        groups: info.groups.clone(),
        extra: info.extra.iter().map(|(key, values)| (key.clone(), values.clone())).collect(),
    }
}
