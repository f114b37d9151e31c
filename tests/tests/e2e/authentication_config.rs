//! `portcullis apiserver --authentication-config FILE` beside a real kube-apiserver with the same file: users, refusals,
//! anonymous requests, what becomes of a file that changes, and what is said of one that cannot be used.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::Method;
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, HttpResponse, Roots};
use portcullis_testkit::{Clock, ControlPlane, FakeIssuer};
use serde_json::{Value, json};

use crate::world::{Running, World, finish};

/// kube-apiserver looks for a new issuer every ten seconds, and takes a changed file once all have been found.
const PATIENCE: Duration = Duration::from_secs(90);
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
/// Nobody listens there.
const DOWN: &str = "https://127.0.0.1:1";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn entry(issuer: &FakeIssuer, username: Value) -> Value {
    json!({
        "issuer": {"url": issuer.issuer(), "audiences": ["kubernetes"], "certificateAuthority": issuer.ca().pem()},
        "claimMappings": {"username": username, "groups": {"claim": "groups", "prefix": "g:"}},
    })
}

fn file(jwt: &[Value]) -> Value {
    json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": jwt})
}

/// Puts the file in place of the one before, as a careful program does.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A real server and ours, with the same file.
struct Both {
    plane: ControlPlane,
    theirs: (HttpClient, String),
    ours: (HttpClient, String),
    _running: Running,
}

impl Both {
    async fn start(world: &World, path: &Path) -> Self {
        let flag = format!("--authentication-config={}", path.display());
        let mut running = Running::start(&mut world.portcullis(&["apiserver", "--secure-port=0", &flag]));
        let url = our_url(&mut running);
        assert!(running.wait_for("issuers").contains(path.to_str().unwrap()));
        running.wait_for("Ctrl-C");
        let client = our_client(world);
        let plane = ControlPlane::start(&[flag]).await;
        let theirs = (plane.http_client(), plane.url().to_owned());
        Self { plane, theirs, ours: (client, url), _running: running }
    }

    async fn get(&self, path: &str, token: Option<&str>) -> [HttpResponse; 2] {
        let ask = async |(client, url): &(HttpClient, String)| {
            let bearer = token.map(|token| format!("Bearer {token}"));
            let headers: Vec<(&str, &str)> = bearer.iter().map(|value| ("authorization", value.as_str())).collect();
            client.get(&format!("{url}{path}"), &headers).await.unwrap()
        };
        [ask(&self.theirs).await, ask(&self.ours).await]
    }

    /// What each says of a token: status, and who it is.
    async fn who(&self, token: &str) -> [(u16, Value); 2] {
        let ask = async |(client, url): &(HttpClient, String)| {
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let url = format!("{url}{REVIEWS}");
            let answer = client.request(Method::POST, &url, &headers, Some(body.into())).await.unwrap();
            let review: Value = serde_json::from_slice(&answer.body).unwrap();
            (answer.status, if answer.status == 201 { review["status"]["userInfo"].clone() } else { review })
        };
        [ask(&self.theirs).await, ask(&self.ours).await]
    }

    /// Asks until both say the same, and that is as wanted.
    async fn until(&self, what: &str, token: impl Fn(usize) -> String, wanted: impl Fn(u16, &Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        for n in 0.. {
            // A new token each time: an accepted one is remembered for ten seconds.
            let [theirs, ours] = self.who(&token(n)).await;
            if wanted(theirs.0, &theirs.1) && wanted(ours.0, &ours.1) {
                assert_eq!(theirs, ours, "{what}");
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {theirs:?} {ours:?}\n{}", self.plane.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn our_url(running: &mut Running) -> String {
    let line = running.wait_for("api server");
    line.split_whitespace().find(|word| word.starts_with("https://")).unwrap().to_owned()
}

/// A client without credentials.
fn our_client(world: &World) -> HttpClient {
    let roots = Roots::only_pem(&std::fs::read(world.dev("ca/ca.pem")).unwrap()).unwrap();
    HttpClient::new(HttpClientConfig { roots, ..HttpClientConfig::default() }).unwrap()
}

/// A line of metrics without the server's identity, which is a hash of its host's name.
fn without_identity(line: &str) -> String {
    match line.split_once("apiserver_id_hash=\"") {
        Some((before, rest)) => format!("{before}{}", rest.split_once('"').unwrap().1),
        None => line.to_owned(),
    }
}

/// What clients see of an answer.
fn seen(response: &HttpResponse) -> (u16, Vec<Option<String>>, String) {
    let headers = ["content-type", "www-authenticate", "x-content-type-options", "cache-control"];
    let headers = headers.map(|name| response.header(name).map(str::to_owned));
    (response.status, headers.to_vec(), String::from_utf8_lossy(&response.body).into_owned())
}

fn claims(issuer: &FakeIssuer, id: &str) -> Value {
    let now = Clock::system().now().unix_seconds();
    json!({"iss": issuer.issuer(), "sub": "jane", "aud": "kubernetes", "exp": now + 600, "iat": now, "jti": id,
        "groups": ["a", "b"], "email": "jane@example.com", "email_verified": true})
}

fn named(user: &Value, name: &str) -> bool {
    user["username"] == json!(name)
}

#[test]
fn the_same_file_gives_the_same_users_and_a_changed_one_is_taken_and_a_bad_one_is_not() {
    let world = World::new();
    runtime().block_on(async {
        let (first, second, third) = tokio::join!(FakeIssuer::start(), FakeIssuer::start(), FakeIssuer::start());
        let by_sub = |issuer: &FakeIssuer| entry(issuer, json!({"claim": "sub", "prefix": "one:"}));
        let by_email = |issuer: &FakeIssuer| {
            entry(
                issuer,
                json!({"expression": "claims.?email_verified.orValue(false) == true ? claims.email : claims.sub"}),
            )
        };
        // The last one is down when they start, which keeps the others from nothing.
        let down = json!({
            "issuer": {"url": DOWN, "audiences": ["kubernetes"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
        });
        let path = world.write("authentication.json", &file(&[by_sub(&first), by_email(&second), down]).to_string());
        let both = Both::start(&world, &path).await;
        let of = |issuer: &FakeIssuer, id: &str| issuer.sign(&claims(issuer, id));
        let fresh = |issuer: &'static str, n: usize| format!("{issuer}-{n}");
        both.until(
            "the first",
            |n| of(&first, &fresh("first", n)),
            |code, user| code == 201 && named(user, "one:jane"),
        )
        .await;
        both.until(
            "the second",
            |n| of(&second, &fresh("second", n)),
            |code, user| code == 201 && named(user, "jane@example.com"),
        )
        .await;

        let mut stolen = claims(&second, "stolen");
        stolen["iss"] = json!(first.issuer());
        let mut other_audience = claims(&first, "audience");
        other_audience["aud"] = json!("other");
        let mut of_down = claims(&first, "down");
        of_down["iss"] = json!(DOWN);
        for (what, token) in [
            ("garbage", "garbage".to_owned()),
            ("another issuer's signature", second.sign(&stolen)),
            ("another audience", first.sign(&other_audience)),
            ("an issuer that is down", first.sign(&of_down)),
            ("an issuer that nobody trusts", of(&third, "third")),
        ] {
            for path in ["/api/v1/namespaces", "/livez", "/nowhere"] {
                let [theirs, ours] = both.get(path, Some(&token)).await;
                assert_eq!(theirs.status, 401, "{what} at {path}");
                assert_eq!(seen(&ours), seen(&theirs), "{what} at {path}");
            }
        }
        let [theirs, ours] = both.get("/api/v1/namespaces", None).await;
        assert_eq!((theirs.status, seen(&theirs)), (403, seen(&ours)), "anonymous");

        // Another prefix for the first, the second gone, a third one there.
        let new = file(&[entry(&first, json!({"claim": "sub", "prefix": "two:"})), by_sub(&third)]);
        replace(&path, &new.to_string());
        both.until(
            "the changed one",
            |n| of(&first, &fresh("changed", n)),
            |code, user| code == 201 && named(user, "two:jane"),
        )
        .await;
        both.until(
            "the new one",
            |n| of(&third, &fresh("new", n)),
            |code, user| code == 201 && named(user, "one:jane"),
        )
        .await;
        both.until("the one that is gone", |n| of(&second, &fresh("gone", n)), |code, _| code == 401).await;

        // Files that must change nothing: each is refused by both, in the same words.
        let mut anonymous = new.clone();
        anonymous["anonymous"] = json!({"enabled": false});
        let bad = [
            ("{", None),
            (&new.to_string().replace("\"jwt\"", "\"jwts\""), Some("strict decoding error: unknown field \"jwts\"")),
            (&anonymous.to_string(), Some("anonymous: Forbidden: changed from initial configuration file")),
            (
                &new.to_string().replace("two:", "three:").replace("[\"kubernetes\"]", "[]"),
                Some("issuer.audiences: Required value"),
            ),
        ];
        let log = || std::fs::read_to_string(world.dev("up.log")).unwrap();
        for (text, words) in bad {
            let (before, our_before) = (both.plane.log().len(), log().len());
            replace(&path, text);
            let words = words.unwrap_or("");
            let quoted = portcullis_kube::go::quote(words);
            let says = |log: &str| log.contains(words) || log.contains(quoted.trim_matches('"'));
            let deadline = Instant::now() + PATIENCE;
            loop {
                let (theirs, ours) = (both.plane.log(), log());
                let theirs = theirs[before..].contains("authentication config\"") && says(&theirs[before..]);
                let ours =
                    ours[our_before..].contains("not reloaded, the former one stays") && says(&ours[our_before..]);
                if theirs && ours {
                    break;
                }
                assert!(Instant::now() < deadline, "{text}: {theirs} {ours}\n{}\n{}", both.plane.log(), log());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            both.until(
                "as before",
                |n| of(&first, &format!("{}-{n}", text.len())),
                |code, user| code == 201 && named(user, "two:jane"),
            )
            .await;
        }
        // Gone, a folder in its place, and there again with nobody in it.
        std::fs::remove_file(&path).unwrap();
        crate::world::eventually("it is said", || log().contains("authentication.json: no such file or directory"));
        std::fs::create_dir(&path).unwrap();
        crate::world::eventually("it is said", || log().contains("authentication.json: is a directory"));
        both.until("as before", |n| of(&first, &fresh("away", n)), |code, user| code == 201 && named(user, "two:jane"))
            .await;
        std::fs::remove_dir(&path).unwrap();
        replace(&path, &file(&[]).to_string());
        both.until("nobody is trusted", |n| of(&first, &fresh("nobody", n)), |code, _| code == 401).await;
        assert!(!log().contains("eyJ"), "no token is in the log");

        // Both tell the same metrics; those of the other issuers and of each server's identity are its own.
        let raw = ["get", "--raw", "/metrics"];
        let mut kubectl = both.plane.kubectl(&both.plane.admin_kubeconfig());
        let mut told = Vec::new();
        for text in [finish(kubectl.args(raw)).ok().stdout, world.kubectl(&raw).ok().stdout] {
            let lines = text.lines().filter(|line| line.contains("apiserver_authentication_config_controller_"));
            let lines = lines.filter(|line| line.starts_with('#') || line.contains("last_config_info"));
            let lines: Vec<String> = lines.map(without_identity).collect();
            assert!(text.contains("automatic_reloads_total{apiserver_id_hash=\"sha256:"), "{text}");
            let failures = text.lines().filter(|line| line.contains("reloads_total{") && line.contains("\"failure\""));
            let failures: f64 = failures.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
            assert!(failures >= 4.0, "{text}");
            told.push(lines);
        }
        assert_eq!(told[0], told[1]);
        assert_eq!(told[0].len(), 7, "three metrics with help and type, and one content: {told:?}");
    });
}

#[test]
fn anonymous_requests_come_where_the_file_lets_them_in() {
    let world = World::new();
    let paths = [
        "/livez",
        "/livez/",
        "/livez/ping",
        "/livez?verbose",
        "/%6civez",
        "/LIVEZ",
        "//livez",
        "/readyz",
        "/healthz",
        "/version",
        "/version/",
        "/",
        "/api",
        "/apis",
        "/api/v1/namespaces",
        "/api/v1/namespaces/default",
        "/api/v1/namespaces?watch=true",
        "/openid/v1/jwks",
        "/.well-known/openid-configuration",
        "/nowhere",
        "/metrics",
    ];
    let some = json!([{"path": "/livez"}, {"path": "/api/v1/namespaces/default"}, {"path": "/version"}]);
    runtime().block_on(async {
        for (what, anonymous) in [
            ("off", json!({"enabled": false})),
            ("on", json!({"enabled": true})),
            ("here and there", json!({"enabled": true, "conditions": some})),
        ] {
            let mut text = file(&[]);
            text["anonymous"] = anonymous;
            let path = world.write("authentication.json", &text.to_string());
            let both = Both::start(&world, &path).await;
            let (mut refused, mut let_in) = (0, 0);
            for path in paths {
                let [theirs, ours] = both.get(path, None).await;
                assert_eq!(theirs.status, ours.status, "{what}: {path}");
                if theirs.status == 401 {
                    assert_eq!(seen(&theirs), seen(&ours), "{what}: {path}");
                    refused += 1;
                } else {
                    let_in += 1;
                }
                let [theirs, ours] = both.get(path, Some("garbage")).await;
                assert_eq!((theirs.status, ours.status), (401, 401), "{what}: a bad token at {path}");
            }
            assert_eq!((refused == 0, let_in == 0), (what == "on", what == "off"), "{what}: {refused} {let_in}");
        }
    });
}

#[test]
fn the_flag_alone_switches_anonymous_requests_off_and_the_administrator_works_on() {
    let world = World::new();
    let mut running =
        Running::start(&mut world.portcullis(&["apiserver", "--secure-port=0", "--anonymous-auth=false"]));
    let url = our_url(&mut running);
    running.wait_for("Ctrl-C");
    runtime().block_on(async {
        for path in ["/livez", "/version", "/api/v1/namespaces"] {
            assert_eq!(our_client(&world).get(&format!("{url}{path}"), &[]).await.unwrap().status, 401, "{path}");
        }
    });
    assert_eq!(world.kubectl(&["get", "--raw", "/livez"]).ok().stdout, "ok");
}

#[test]
fn a_file_that_cannot_be_used_is_refused_at_the_start_in_kube_apiservers_words() {
    let world = World::new();
    let write = |name: &str, text: &str| world.write(name, text).display().to_string();
    let good = file(&[]).to_string();
    let mut anonymous = file(&[]);
    anonymous["anonymous"] = json!({"enabled": true});
    let mut conditions = file(&[]);
    conditions["anonymous"] = json!({"enabled": false, "conditions": [{"path": "/livez"}]});
    let own = json!({
        "issuer": {"url": "https://kubernetes.default.svc.cluster.local", "audiences": ["a"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
    });
    let folder = world.home().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let good = write("good.json", &good);
    let with = |file: &str, more: &[&str]| {
        let mut flags = vec![format!("--authentication-config={file}")];
        flags.extend(more.iter().map(ToString::to_string));
        flags
    };
    let missing: PathBuf = world.home().join("missing");
    let cases = [
        (with(&good, &["--oidc-issuer-url=https://a"]), "authentication-config file and oidc-* flags are mutually exclusive".to_owned()),
        (with(missing.to_str().unwrap(), &["--oidc-username-claim=sub"]), "authentication-config file and oidc-* flags are mutually exclusive".to_owned()),
        (
            with(&write("anonymous.json", &anonymous.to_string()), &["--anonymous-auth=true"]),
            "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file".to_owned(),
        ),
        (
            with(missing.to_str().unwrap(), &[]),
            format!("failed to load authentication configuration from file \"{0}\": open {0}: no such file or directory", missing.display()),
        ),
        (
            with(folder.to_str().unwrap(), &[]),
            format!("failed to load authentication configuration from file \"{0}\": read {0}: is a directory", folder.display()),
        ),
        (
            with(&write("empty.json", ""), &[]),
            format!("failed to load authentication configuration from file \"{}\": empty config data", world.home().join("empty.json").display()),
        ),
        (
            with(&write("unknown.json", &file(&[]).to_string().replace("\"jwt\"", "\"jwts\"")), &[]),
            format!("failed to load authentication configuration from file \"{}\": strict decoding error: unknown field \"jwts\"", world.home().join("unknown.json").display()),
        ),
        (
            with(&write("conditions.json", &conditions.to_string()), &[]),
            "invalid authentication configuration: anonymous.conditions: Invalid value: [{\"Path\":\"/livez\"}]: enabled should be set to true when conditions are defined".to_owned(),
        ),
        (
            with(&write("own.json", &file(&[own]).to_string()), &[]),
            "issuer.url: Invalid value: \"https://kubernetes.default.svc.cluster.local\": URL must not overlap with disallowed issuers: [https://kubernetes.default.svc.cluster.local]".to_owned(),
        ),
    ];
    let runtime = runtime();
    for (flags, words) in cases {
        let theirs = runtime.block_on(ControlPlane::refusal(&flags));
        let quoted = portcullis_kube::go::quote(&words);
        assert!(theirs.contains(&words) || theirs.contains(quoted.trim_matches('"')), "{words}\nis not in\n{theirs}");
        let mut arguments = vec!["apiserver", "--secure-port=0"];
        arguments.extend(flags.iter().map(String::as_str));
        let ours = finish(&mut world.portcullis(&arguments)).fails(1).stderr;
        assert!(ours.lines().any(|line| line == format!("error: {words}")), "{words}\nis not in\n{ours}");
    }
}
