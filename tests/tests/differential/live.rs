//! A real kube-apiserver with a file of 64 issuers, and tokens of all of them as TokenReviews: user, groups, uid and extra must be
//! those of our authenticator, which has the same file and discovers the same issuers over TLS. 63 issuers are generated, with
//! tokens of their own; the last one's are those of all families about tokens.
//!
//! The other comparisons hand keys over; here what lies before and behind the verifier has its say too: discovery, the list of
//! authenticators, the review's own form. Times need no care: families take them an hour away from now, or within what is allowed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use portcullis_authn::{Authenticator, Network, Options, TrustConfiguration, Verdict};
use portcullis_runtime::http_client::HttpClient;
use portcullis_runtime::{Clock, Shutdown};
use portcullis_testkit::{ControlPlane, FakeIssuer, Reply, temp_dir};
use serde_json::{Value, json};

use crate::draft::{CLIENT, ISSUER, World};
use crate::families::{self, file::generated};
use crate::oracle::User;
use crate::report::{Class, Counts, print_counts};
use crate::tree::{Tree, map, text};
use crate::words;

/// Generated issuers of the file: with that of the families as many as there may be.
const ISSUERS: usize = 63;
const TOKENS_EACH: usize = 32;
const ANONYMOUS: &str = "system:anonymous";
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
    assert_eq!(trust.issuers().len(), portcullis_authn::MAX_ISSUERS);
    let options = Options { cache_bytes: 0, ..Options::new(Clock::system()) };
    let ours = Authenticator::start(trust.issuers().iter().cloned(), options, &Network::default(), &shutdown);
    let ours = ours.expect("an HTTP client");
    tokio::time::timeout(PATIENCE, ours.ready()).await.expect("every issuer is discovered");

    let url = format!("{}/apis/authentication.k8s.io/v1/tokenreviews", plane.url());
    let mut both = Both {
        admin: plane.admin_client(),
        url,
        ours,
        families: BTreeMap::new(),
        different: Vec::new(),
        other_words: Vec::new(),
    };
    for issuer in &issuers {
        both.wait_until_discovered(&generated::token(&world, issuer, &issuer.key)).await;
        for _ in 0..TOKENS_EACH {
            let signer = if world.chance(30) { &issuers[0].key } else { &issuer.key };
            both.ask("generated", &generated::token(&world, issuer, signer)).await;
        }
    }
    both.wait_until_discovered(&world.draft().parts().join(".")).await;
    let families = families::of_tokens(&world);
    for family in &families {
        for case in &family.cases {
            both.ask(family.name, &case.token).await;
        }
    }
    shutdown.trigger();

    print_counts(&both.families);
    for (what, list) in [("verdicts differ", &both.different), ("refused in unlisted words", &both.other_words)] {
        let shown: Vec<&str> = list.iter().take(10).map(String::as_str).collect();
        assert!(list.is_empty(), "{} {what} (seed {seed}):\n{}", list.len(), shown.join("\n"));
    }
    let generated = both.families.remove("generated").expect("asked");
    let total = ISSUERS * TOKENS_EACH;
    assert!(generated.cases == total && generated.accepted * 5 >= total && generated.refused * 10 >= total);
    let sum = |of: fn(&Counts) -> usize| both.families.values().map(of).sum::<usize>();
    let (tokens, accepted, refused) = (sum(|c| c.cases), sum(|c| c.accepted), sum(|c| c.refused));
    assert!(families.len() >= 20 && both.families.len() == families.len(), "{} families", both.families.len());
    assert!(
        tokens >= 1_500 && accepted * 5 >= tokens && refused * 5 >= tokens,
        "{accepted} accepted and {refused} refused of {tokens}"
    );
}

/// Both authenticators, and what became of the tokens that they were asked about.
struct Both {
    admin: HttpClient,
    url: String,
    ours: Authenticator,
    families: BTreeMap<&'static str, Counts>,
    different: Vec<String>,
    other_words: Vec<String>,
}

impl Both {
    async fn ask(&mut self, family: &'static str, token: &str) {
        if token.is_empty() {
            // That is no review: 400.
            return;
        }
        let (theirs, words) = self.review(token).await;
        // What is no header is nobody's, and who sends none is anonymous.
        let (verdict, nobody) = match as_header(token) {
            Some(token) => (self.ours.authenticate(token).await, "invalid bearer token"),
            None => (Verdict::NoOpinion, ANONYMOUS),
        };
        let (ours, said, class) = match verdict {
            Verdict::User(user) => (Some(of(user.info())), String::new(), Class::User),
            Verdict::NoOpinion => (None, nobody.to_owned(), Class::NoOpinion),
            Verdict::Refused(error) => (None, error.to_string(), Class::Refused),
        };
        let counts = self.families.entry(family).or_default();
        counts.add(class);
        if class == Class::Refused {
            counts.texts += 1;
            // Another authenticator, of service accounts, has its say before.
            let of_oidc = words.strip_prefix("[invalid bearer token, ").and_then(|words| words.strip_suffix(']'));
            let of_oidc = of_oidc.unwrap_or(&words);
            counts.same_text += usize::from(of_oidc == said);
            if of_oidc != said && words::allowed(of_oidc, &said).is_none() {
                self.other_words.push(format!("[{family}] {token}\n  kube-apiserver: {words}\n  ours: {said}"));
            }
        }
        // Whose token it is must be decided alike, too.
        if theirs != ours || (words == nobody) != (class == Class::NoOpinion) {
            let different =
                format!("[{family}] {token}\n  kube-apiserver: {theirs:?} {words}\n  ours: {ours:?} {said}");
            self.different.push(different);
        }
    }

    /// A new verifier is asked once it has been discovered; until then it says so.
    async fn wait_until_discovered(&self, token: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, words) = self.review(token).await;
            if !words.contains("not initialized") {
                return;
            }
            assert!(Instant::now() < deadline, "{words}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The user, or the words of the refusal.
    async fn review(&self, token: &str) -> (Option<User>, String) {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token },
        });
        let (url, headers) = (&self.url, [("content-type", "application/json")]);
        let answer = self.admin.request(Method::POST, url, &headers, Some(body.to_string().into())).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let mut review: Value = serde_json::from_slice(&answer.body).expect("a review");
        let status = review["status"].take();
        let words = status["error"].as_str().unwrap_or_default().to_owned();
        if status["authenticated"] != json!(true) {
            return (None, words);
        }
        let info = &status["user"];
        if info["username"] == json!(ANONYMOUS) {
            return (None, ANONYMOUS.to_owned());
        }
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
}

/// What the API server reads of a review's token: it makes a header of it, which ends at a blank and has no white space at its end.
fn as_header(token: &str) -> Option<&str> {
    token.trim_end().split(' ').next().filter(|token| !token.is_empty())
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
        serve(server, &n.to_string(), &issuer.url, generated::key_set(world, &issuer.key));
        issuers.push(issuer);
    }
    let of_families = of_families(world, server);
    let file = file(&issuers.iter().map(|issuer| &issuer.entry).chain([&of_families]).collect::<Vec<_>>());
    (issuers, file)
}

/// The issuer whose tokens the families make, with all keys that they sign with.
fn of_families(world: &World, server: &FakeIssuer) -> Tree {
    let keys = &world.keys;
    let keys = [&keys.rsa[0], &keys.p256[0], &keys.p384, &keys.p521, &keys.ed25519];
    serve(server, "families", ISSUER, json!({ "keys": keys.map(|key| key.public().to_json()) }).to_string());
    let issuer = map([
        ("url", text(ISSUER)),
        ("audiences", Tree::List(vec![text(CLIENT)])),
        ("discoveryURL", text(&server.url("/discovery-families"))),
        ("certificateAuthority", text(server.ca().pem())),
    ]);
    let prefixed = |claim: &str, prefix: &str| map([("claim", text(claim)), ("prefix", text(prefix))]);
    let optional = |claim: &str| text(&format!("claims.?{claim}.orValue('')"));
    let name = map([("key", text("acme.io/name")), ("valueExpression", optional("name"))]);
    let mappings = map([
        ("username", prefixed("sub", "")),
        ("groups", prefixed("groups", "p:")),
        ("uid", map([("expression", optional("oid"))])),
        ("extra", Tree::List(vec![name])),
    ]);
    let rule = |expression: &str| map([("expression", text(expression)), ("message", text("not so"))]);
    let rules = [rule("claims.?hd.orValue('') != 'Example.com'"), rule("claims.?email_verified.orValue(true) == true")];
    map([("issuer", issuer), ("claimMappings", mappings), ("claimValidationRules", Tree::List(rules.into()))])
}

/// Lets an issuer be discovered.
fn serve(server: &FakeIssuer, name: &str, issuer: &str, keys: String) {
    let mut document = server.discovery_document();
    document["issuer"] = json!(issuer);
    document["jwks_uri"] = json!(server.url(&format!("/keys-{name}")));
    server.reply(&format!("/discovery-{name}"), Reply::json(&document));
    server.reply(&format!("/keys-{name}"), Reply::bytes(keys));
}

fn file(entries: &[&Tree]) -> String {
    let head = [
        ("apiVersion", text("apiserver.config.k8s.io/v1")),
        ("kind", text("AuthenticationConfiguration")),
        ("jwt", Tree::List(entries.iter().map(|entry| (*entry).clone()).collect())),
    ];
    map(head).json()
}

fn of(info: &portcullis_kube::UserInfo) -> User {
    User {
        name: info.username.clone(),
        uid: info.uid.clone(),
        groups: info.groups.clone(),
        extra: info.extra.iter().map(|(key, values)| (key.clone(), values.clone())).collect(),
    }
}
