//! Groups behind distributed claims: the same tokens to a real kube-apiserver and to our authenticator, with the same
//! flags, the same issuers and the same endpoints. User and groups, the words of a refusal, and what the endpoints were
//! asked must be the same.

use std::time::{Duration, Instant};

use http::Method;
use portcullis_authn::{Authenticator, Network, OidcFlags, Options, Verdict};
use portcullis_jose::{KeyKind, SigningKey};
use portcullis_kube::go::quote;
use portcullis_runtime::http_client::HttpClient;
use portcullis_runtime::{Clock, Shutdown};
use portcullis_testkit::{ControlPlane, FakeIssuer, IssuerOptions, Reply, TestCa};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const NOT_KNOWN: &str = "verifier not initialized for issuer";

/// Name and groups, or nothing.
type Answer = Option<(String, Vec<String>)>;

/// What is known of a refusal's words.
enum Words {
    /// They are the same.
    Same,
    /// They begin the same, after the common beginning of all.
    Begin(&'static str),
}

struct World {
    /// Signs the users' tokens.
    issuer: FakeIssuer,
    /// Serves the groups.
    claims: FakeIssuer,
    plane: ControlPlane,
    http: HttpClient,
    ours: Authenticator,
    now: i64,
    shutdown: Shutdown,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

async fn issuer(ca: &str, plain: bool) -> FakeIssuer {
    let key = SigningKey::generate(KeyKind::Rsa2048, "k".to_owned()).unwrap();
    FakeIssuer::start_with(IssuerOptions {
        key: Some(key),
        ca: Some(TestCa::new(ca)),
        plain,
        ..IssuerOptions::default()
    })
    .await
}

impl World {
    async fn new() -> Self {
        let (issuer, claims) = (issuer("users", false).await, issuer("groups", false).await);
        let folder = portcullis_testkit::temp_dir();
        let ca = folder.path().join("issuers.pem");
        std::fs::write(&ca, format!("{}{}", issuer.ca().pem(), claims.ca().pem())).unwrap();
        let flags = [
            format!("--oidc-issuer-url={}", issuer.issuer()),
            "--oidc-client-id=kubernetes".to_owned(),
            "--oidc-username-prefix=-".to_owned(),
            "--oidc-groups-claim=groups".to_owned(),
            "--oidc-groups-prefix=p:".to_owned(),
            format!("--oidc-ca-file={}", ca.display()),
        ];
        let (read, _) = OidcFlags::parse(&flags).unwrap();
        let config = read.config(&[]).unwrap().expect("OIDC is on");
        let shutdown = Shutdown::new();
        let options = Options { cache_bytes: 0, ..Options::new(Clock::system()) };
        let ours = Authenticator::start([config], options, &Network::default(), &shutdown).unwrap();
        ours.ready().await;
        let plane = ControlPlane::start(&flags).await;
        let (http, now) = (plane.http_client(), Clock::system().now().unix_seconds());
        Self { issuer, claims, plane, http, ours, now, shutdown }
    }

    /// The claims of a token whose groups are at `endpoint`; no two are the same.
    fn user(&self, n: usize, endpoint: &str, access_token: &str) -> Value {
        json!({
            "iss": self.issuer.issuer(), "aud": "kubernetes", "sub": format!("jane-{n}"), "exp": self.now + 3_600,
            "_claim_names": { "groups": "src" },
            "_claim_sources": { "src": { "endpoint": endpoint, "access_token": access_token } },
        })
    }

    /// The claims that an endpoint gives.
    fn groups(&self) -> Value {
        json!({ "iss": self.claims.issuer(), "aud": "kubernetes", "exp": self.now + 3_600, "groups": ["a", "b"] })
    }

    async fn ask_kube(&self, token: &str) -> Answer {
        let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" }).to_string();
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let url = format!("{}{REVIEWS}", self.plane.url());
        let answer = self.http.request(Method::POST, &url, &headers, Some(body.into())).await.unwrap();
        if answer.status == 401 {
            return None;
        }
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let review: Value = serde_json::from_slice(&answer.body).unwrap();
        let user = &review["status"]["userInfo"];
        let groups = user["groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let groups = groups.filter(|group| *group != "system:authenticated").map(str::to_owned).collect();
        Some((user["username"].as_str().unwrap().to_owned(), groups))
    }

    /// The answer, and the words when it is a refusal.
    async fn ask_ours(&self, token: &str) -> (Answer, String) {
        match self.ours.authenticate(token).await {
            Verdict::User(user) => (Some((user.info().username.clone(), user.info().groups.clone())), String::new()),
            Verdict::NoOpinion => (None, "no opinion".to_owned()),
            Verdict::Refused(error) => (None, error.to_string()),
        }
    }

    /// Waits until both know the issuers, asking with a good token.
    async fn warm(&self, n: usize, claims: &Value) {
        let path = format!("/warm-{n}");
        self.claims.reply(&path, Reply::bytes(self.claims.sign(claims)));
        let token = self.issuer.sign(&self.user(n, &self.claims.url(&path), ""));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (kube, (ours, words)) = (self.ask_kube(&token).await, self.ask_ours(&token).await);
            if kube.is_some() && ours.is_some() {
                return;
            }
            assert!(Instant::now() < deadline, "{kube:?} {words}\n{}", self.plane.log());
        }
    }

    /// What the endpoints were asked since the counts in `before`: path and credentials.
    fn asked(&self, before: usize) -> Vec<(String, Option<String>)> {
        let requests = self.claims.requests();
        let endpoints =
            requests.iter().skip(before).filter(|r| r.path.starts_with("/case") || r.path.starts_with("/hop"));
        endpoints.map(|r| (r.path.clone(), r.header("authorization").map(str::to_owned))).collect()
    }

    /// Waits until kube-apiserver's log after `before` says why it refused.
    async fn kube_said(&self, before: usize, words: &str, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        let quoted = quote(words);
        let quoted = quoted.trim_matches('"');
        loop {
            let log = self.plane.log();
            let new = log.get(before..).unwrap_or_default();
            if new.contains(quoted) {
                return;
            }
            assert!(Instant::now() < deadline, "{name}: {quoted}\nis not in\n{new}");
            tokio::task::yield_now().await;
        }
    }
}

struct Case {
    name: &'static str,
    claims: Value,
    words: Words,
}

/// All cases; their endpoints are set up as a side effect.
fn cases(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let signed = world.claims.sign(&world.groups());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = world.groups();
        change(&mut claims);
        Reply::bytes(world.claims.sign(&claims))
    };
    let mut served = |name: &'static str, reply: Reply, words: Words| {
        let n = cases.len();
        let path = format!("/case{n}");
        world.claims.reply(&path, reply);
        cases.push(Case { name, claims: world.user(n, &world.claims.url(&path), "s3cret"), words });
    };
    served("groups", Reply::bytes(signed.clone()), Words::Same);
    served("one group", with(&|c| c["groups"] = json!("one")), Words::Same);
    served("null groups", with(&|c| c["groups"] = json!(null)), Words::Same);
    served("several audiences", with(&|c| c["aud"] = json!(["x", "kubernetes"])), Words::Same);
    served("white space", Reply::bytes(format!(" {signed}\r\n")), Words::Same);
    served("201", Reply::bytes(signed.clone()).status(201), Words::Same);
    served("226", Reply::bytes(signed.clone()).status(226), Words::Same);
    served(
        "227",
        Reply::bytes(signed.clone()).status(227),
        Words::Begin("while getting distributed claim \"groups\": error while getting distributed claim JWT: 227"),
    );
    served("401", Reply::bytes(signed.clone()).status(401), Words::Same);
    served("403", Reply::bytes("").status(403), Words::Same);
    served("500", Reply::bytes("").status(500), Words::Same);
    served("302 to nowhere", Reply::bytes(signed.clone()).status(302), Words::Same);
    served("304", Reply::bytes("").status(304), Words::Same);
    served("empty", Reply::bytes(""), Words::Same);
    served("html", Reply::bytes("<html>"), Words::Same);
    served("plain claims", Reply::json(&world.groups()), Words::Same);
    served("no base64", Reply::bytes("a.!.c"), Words::Begin("getting untrusted issuer from endpoint "));
    served("no object", Reply::bytes("a.W10.c"), Words::Begin("getting untrusted issuer from endpoint "));
    served("no header", Reply::bytes(format!(".{}.", signed.split('.').nth(1).unwrap())), Words::Same);
    served("other audience", with(&|c| c["aud"] = json!("other")), Words::Same);
    served(
        "expired",
        with(&|c| c["exp"] = json!(world.now - 1)),
        Words::Begin("verify distributed claim token: oidc: token is expired (Token Expiry: "),
    );
    served(
        "not yet valid",
        with(&|c| c["nbf"] = json!(world.now + 3_000)),
        Words::Begin("verify distributed claim token: oidc: current time "),
    );
    served("groups missing", with(&|c| drop(c.as_object_mut().unwrap().remove("groups"))), Words::Same);
    served(
        "groups in odd case",
        with(&|c| {
            c.as_object_mut().unwrap().remove("groups");
            c["Groups"] = json!(["a"]);
        }),
        Words::Same,
    );
    served("dangling source", with(&|c| c["_claim_names"] = json!({ "x": "y" })), Words::Same);
    served("numeric sub", with(&|c| c["sub"] = json!(1)), Words::Same);
    served("another issuer's key", Reply::bytes(world.issuer.sign(&world.groups())), Words::Same);
    served(
        "another algorithm",
        Reply::bytes(world.claims.sign_as(portcullis_jose::Algorithm::Ps256, &world.groups())),
        Words::Same,
    );
    served("an issuer that does not answer", with(&|c| c["iss"] = json!("https://127.0.0.1:1")), Words::Same);
    served("an issuer that is no URL", with(&|c| c["iss"] = json!("")), Words::Same);
    served(
        "an issuer with a slash more",
        with(&|c| c["iss"] = json!(format!("{}/", world.claims.issuer()))),
        Words::Same,
    );
    served(
        "the users' issuer",
        Reply::bytes({
            let mut claims = world.groups();
            claims["iss"] = json!(world.issuer.issuer());
            world.issuer.sign(&claims)
        }),
        Words::Same,
    );

    // Redirects, and who sees the access token.
    let port = world.claims.issuer().rsplit(':').next().unwrap().to_owned();
    world.claims.reply("/hop-end", Reply::bytes(signed.clone()));
    world.claims.reply("/hop-back", Reply::redirect(&world.claims.url("/hop-end")));
    for n in 0..9 {
        let next = if n == 0 { "/hop-end".to_owned() } else { format!("/hop-{}", n - 1) };
        world.claims.reply(&format!("/hop-{n}"), Reply::redirect(&next));
    }
    served("redirect", Reply::redirect("/hop-end"), Words::Same);
    served("308", Reply::redirect("hop-end?x=y").status(308), Words::Same);
    served("another name and back", Reply::redirect(&format!("https://localhost:{port}/hop-back")), Words::Same);
    served("nine redirects", Reply::redirect("/hop-7"), Words::Same);
    served(
        "ten redirects",
        Reply::redirect("/hop-8"),
        Words::Begin("while getting distributed claim \"groups\": Get \""),
    );
    served(
        "redirect to no URL",
        Reply::redirect("https://a:b/"),
        Words::Begin("while getting distributed claim \"groups\": Get \""),
    );

    // What the user's token says.
    let mut told = |name: &'static str, words: Words, change: &dyn Fn(&mut Value)| {
        let n = cases.len();
        let path = format!("/case{n}");
        world.claims.reply(&path, Reply::bytes(signed.clone()));
        let mut claims = world.user(n, &world.claims.url(&path), "s3cret");
        change(&mut claims);
        cases.push(Case { name, claims, words });
    };
    let endpoint = |claims: &mut Value, url: &str| claims["_claim_sources"]["src"]["endpoint"] = json!(url);
    told("no access token", Words::Same, &|c| c["_claim_sources"]["src"]["access_token"] = json!(""));
    told("own groups", Words::Same, &|c| c["groups"] = json!(["own"]));
    told("own null", Words::Same, &|c| c["groups"] = json!(null));
    told("aggregated", Words::Same, &|c| c["_claim_sources"]["src"] = json!({ "JWT": "a.b.c" }));
    told("other claim", Words::Same, &|c| c["_claim_names"] = json!({ "roles": "src" }));
    told("no sources", Words::Same, &|c| {
        c["_claim_names"] = json!({});
        c.as_object_mut().unwrap().remove("_claim_sources");
    });
    told("user in the endpoint", Words::Same, &|c| {
        let url = c["_claim_sources"]["src"]["endpoint"].as_str().unwrap().replacen("https://", "https://u:p@", 1);
        c["_claim_sources"]["src"] = json!({ "endpoint": url });
    });
    told("user and access token", Words::Same, &|c| {
        let url = c["_claim_sources"]["src"]["endpoint"].as_str().unwrap().replacen("https://", "https://u:p@", 1);
        endpoint(c, &url);
    });
    told("line break in the access token", Words::Same, &|c| {
        c["_claim_sources"]["src"]["access_token"] = json!("a\nb")
    });
    told("no scheme", Words::Same, &|c| endpoint(c, "groups"));
    told("odd scheme", Words::Same, &|c| endpoint(c, "ftp://127.0.0.1/x"));
    told("no host", Words::Same, &|c| endpoint(c, "https:///x"));
    told("opaque", Words::Same, &|c| endpoint(c, "https:x"));
    told("no URL", Words::Same, &|c| endpoint(c, "https://a:b/x"));
    told("broken escape", Words::Same, &|c| endpoint(c, "https://127.0.0.1:1/%zz"));
    told(
        "nobody listens",
        Words::Begin("while getting distributed claim \"groups\": Get \"https://127.0.0.1:1/x\": "),
        &|c| {
            endpoint(c, "https://127.0.0.1:1/x");
        },
    );
    cases
}

async fn compare(world: &World) {
    world.warm(10_001, &world.groups()).await;
    let mut own = world.groups();
    own["iss"] = json!(world.issuer.issuer());
    world.issuer.reply("/warm", Reply::bytes(world.issuer.sign(&own)));
    let deadline = Instant::now() + PATIENCE;
    let token = world.issuer.sign(&world.user(10_002, &world.issuer.url("/warm"), ""));
    while world.ask_kube(&token).await.is_none() || world.ask_ours(&token).await.0.is_none() {
        assert!(Instant::now() < deadline, "{}", world.plane.log());
    }
    let (mut accepted, mut same, mut begin) = (0, 0, 0);
    for Case { name, claims, words } in cases(world) {
        let token = world.issuer.sign(&claims);
        let (log, requests) = (world.plane.log().len(), world.claims.requests().len());
        let theirs = world.ask_kube(&token).await;
        let they_asked = world.asked(requests);
        let requests = world.claims.requests().len();
        let (ours, text) = world.ask_ours(&token).await;
        assert_eq!(theirs, ours, "{name}: {text}\n{}", world.plane.log().get(log..).unwrap_or_default());
        assert_eq!(they_asked, world.asked(requests), "{name}: what the endpoints were asked");
        if ours.is_some() {
            accepted += 1;
            continue;
        }
        match words {
            Words::Same => {
                same += 1;
                world.kube_said(log, &text, name).await;
            }
            Words::Begin(words) => {
                begin += 1;
                let words = format!("oidc: could not expand distributed claims: {words}");
                assert!(text.starts_with(&words), "{name}: {text}");
                world.kube_said(log, &words, name).await;
            }
        }
    }
    // Accepted; refused in the same words; refused with the same beginning.
    assert_eq!((accepted, same, begin), (19, 27, 8));
}

/// Where kube-apiserver goes further, on purpose (docs/compat/kube-apiserver-authn.md).
async fn deliberate(world: &World) {
    let plain = issuer("nobody", true).await;
    let signed = world.claims.sign(&world.groups());
    plain.reply("/x", Reply::bytes(signed.clone()));
    world.claims.reply("/downgrade", Reply::redirect(&plain.url("/x")));
    world.claims.reply("/huge", Reply::bytes(format!("{signed}{}", " ".repeat(2 * 1024 * 1024))));
    for (n, path) in ["/downgrade", "/huge"].into_iter().enumerate() {
        let token = world.issuer.sign(&world.user(20_000 + n, &world.claims.url(path), ""));
        let (ours, text) = world.ask_ours(&token).await;
        assert!(world.ask_kube(&token).await.is_some(), "{path}: upstream changed");
        assert!(ours.is_none() && !text.contains(NOT_KNOWN), "{path}: {text}");
    }
    // A plain endpoint is the issuer's choice for both.
    let token = world.issuer.sign(&world.user(20_010, &plain.url("/x"), ""));
    assert!(world.ask_kube(&token).await.is_some() && world.ask_ours(&token).await.0.is_some());
}

/// The first token of an issuer of claims only starts its discovery.
async fn first_hit(world: &World) {
    for n in 0..3 {
        let base = format!("/late-{n}");
        let document = json!({ "issuer": world.claims.url(&base), "jwks_uri": world.claims.url("/keys") });
        world.claims.reply(&format!("{base}/.well-known/openid-configuration"), Reply::json(&document));
        let mut claims = world.groups();
        claims["iss"] = json!(world.claims.url(&base));
        world.claims.reply(&format!("{base}/groups"), Reply::bytes(world.claims.sign(&claims)));
        let token = world.issuer.sign(&world.user(30_000 + n, &world.claims.url(&format!("{base}/groups")), ""));
        let log = world.plane.log().len();
        let (theirs, (ours, text)) = (world.ask_kube(&token).await, world.ask_ours(&token).await);
        assert!(theirs.is_none() && ours.is_none() && text.contains(NOT_KNOWN), "{theirs:?} {ours:?} {text}");
        world.kube_said(log, &text, "first hit").await;
        world.warm(40_000 + n, &claims).await;
    }
}

#[test]
fn groups_behind_an_endpoint_are_the_same_for_kube_apiserver_and_for_us() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        compare(&world).await;
        deliberate(&world).await;
        first_hit(&world).await;
    });
}
