//! A configuration file that is replaced while issuers work, fail, move and go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use portcullis_authn::{Change, ConfigFile, LiveAuthenticator, Network, Options, Reloaded, Verdict};
use portcullis_jose::{KeyKind, SigningKey, sign_compact};
use portcullis_kube::authentication_config::{AnonymousAuthConfig, BYTES_LIMIT};
use portcullis_runtime::{Clock, Shutdown};
use portcullis_testkit::{FakeIssuer, Reply};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";
const LIMIT: Duration = Duration::from_secs(30);
/// Nobody listens there.
const DOWN: &str = "https://127.0.0.1:1";

const BAD_SIGNATURE: &str = "oidc: verify token: failed to verify signature: failed to verify id token signature";

/// A file, and an authenticator that follows it.
struct World {
    folder: tempfile::TempDir,
    issuer: FakeIssuer,
    live: LiveAuthenticator,
    shutdown: Shutdown,
    /// Tokens by id. Each is made once: another signature would make another token of it.
    tokens: Mutex<HashMap<String, String>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// An entry for `issuer`.
fn entry(issuer: &FakeIssuer) -> Value {
    json!({
        "issuer": { "url": issuer.issuer(), "audiences": ["c"], "certificateAuthority": issuer.ca().pem() },
        "claimMappings": { "username": { "claim": "sub", "prefix": "" } },
    })
}

/// An entry for an issuer that cannot be reached.
fn down() -> Value {
    json!({
        "issuer": { "url": DOWN, "audiences": ["c"] },
        "claimMappings": { "username": { "claim": "sub", "prefix": "" } },
    })
}

fn file(entries: &[Value]) -> Value {
    json!({ "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": entries })
}

async fn issuer() -> FakeIssuer {
    let issuer = FakeIssuer::start().await;
    issuer.set_key(SigningKey::generate(KeyKind::P256, "one".to_owned()).expect("a key"));
    issuer
}

impl World {
    /// Starts with one issuer, discovered, whose keys are known.
    async fn new() -> Self {
        let issuer = issuer().await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("authentication.json");
        std::fs::write(&path, file(&[entry(&issuer)]).to_string()).expect("the file");
        let shutdown = Shutdown::new();
        let options = Options::new(Clock::mock(NOW).0);
        let network = Network { retry: Duration::from_millis(5), ..Network::default() };
        let own = vec!["https://kubernetes.default.svc".to_owned()];
        let file = ConfigFile { disallowed: own, ..ConfigFile::at(&path) };
        let live = LiveAuthenticator::start(file, options, &network, &shutdown).expect("a valid file");
        let world = Self { folder, issuer, live, shutdown, tokens: Mutex::default() };
        tokio::time::timeout(LIMIT, world.live.authenticator().ready()).await.expect("discovery succeeds");
        assert_eq!(world.ask("first").await, "ok jane");
        world
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("authentication.json")
    }

    fn write(&self, file: &Value) {
        std::fs::write(self.path(), file.to_string()).expect("the file");
    }

    fn reload(&self, file: &Value) -> Result<Option<Reloaded>, String> {
        self.write(file);
        self.live.look().map_err(|error| error.to_string())
    }

    /// The issuer's token of this id.
    fn token(&self, id: &str) -> String {
        let make = || {
            let claims =
                json!({ "iss": self.issuer.issuer(), "aud": "c", "sub": "jane", "exp": NOW + 1_000_000, "jti": id });
            let key = self.issuer.key();
            sign_compact(&key, key.default_algorithm(), None, claims.to_string().as_bytes()).expect("a token")
        };
        self.tokens.lock().expect("no panic").entry(id.to_owned()).or_insert_with(make).clone()
    }

    async fn ask(&self, id: &str) -> String {
        match self.live.authenticator().authenticate(&self.token(id)).await {
            Verdict::User(user) => format!("ok {}", user.info().username),
            Verdict::NoOpinion => "no opinion".to_owned(),
            Verdict::Refused(error) => error.to_string(),
        }
    }

    /// Requests for the discovery document and for the keys.
    fn asked(&self) -> (usize, usize) {
        (self.issuer.count(DISCOVERY), self.issuer.count(KEYS))
    }
}

fn changes(changes: &[Change], unchanged: usize) -> Result<Option<Reloaded>, String> {
    Ok(Some(Reloaded { changes: changes.to_vec(), unchanged }))
}

#[tokio::test]
async fn an_unchanged_issuer_keeps_its_keys_whatever_becomes_of_others() {
    let world = World::new().await;
    let asked = world.asked();
    let both = file(&[down(), entry(&world.issuer)]);
    assert_eq!(world.reload(&both), changes(&[Change::Added(DOWN.to_owned())], 1));
    assert_eq!(world.ask("second").await, "ok jane");
    assert_eq!(world.asked(), asked, "nothing was fetched again");
    let health = world.live.authenticator().unhealthy().expect("one is down");
    assert!(health.contains(DOWN), "{health}");
    assert_eq!(world.reload(&file(&[entry(&world.issuer)])), changes(&[Change::Removed(DOWN.to_owned())], 1));
    assert_eq!((world.ask("third").await.as_str(), world.asked()), ("ok jane", asked));
    assert_eq!(world.live.authenticator().unhealthy(), None);
}

#[tokio::test]
async fn a_file_that_is_not_valid_changes_nothing_and_is_not_tried_twice() {
    let world = World::new().await;
    let bad = |change: fn(&mut Value)| {
        let mut bad = file(&[entry(&world.issuer)]);
        change(&mut bad);
        bad
    };
    for (file, want) in [
        (
            bad(|file| file["jwt"][0]["issuer"]["Url"] = json!("x")),
            "strict decoding error: unknown field \"jwt[0].issuer.Url\"",
        ),
        (
            bad(|file| file["jwt"][0]["issuer"]["audiences"] = json!([])),
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        ),
        (
            bad(|file| file["anonymous"] = json!({ "enabled": true })),
            "anonymous: Forbidden: changed from initial configuration file",
        ),
        (
            bad(|file| file["jwt"][0]["issuer"]["url"] = json!("https://kubernetes.default.svc")),
            "jwt[0].issuer.url: Invalid value: \"https://kubernetes.default.svc\": URL must not overlap with disallowed issuers: [https://kubernetes.default.svc]",
        ),
        (
            bad(|file| file["jwt"][0]["claimMappings"]["username"] = json!({ "expression": "claim.sub" })),
            "jwt[0].claimMappings.username.expression: Invalid value: \"claim.sub\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'claim' (in container '')\n | claim.sub\n | ^",
        ),
    ] {
        assert_eq!(world.reload(&file), Err(want.to_owned()));
        assert_eq!(world.live.look().expect("not tried again"), None, "{want}");
        assert_eq!(world.ask(want).await, "ok jane");
    }
    assert_eq!(world.reload(&file(&[entry(&world.issuer)])), changes(&[], 1), "the first one again");
}

#[tokio::test]
async fn a_refused_file_comes_with_what_to_write_instead() {
    let world = World::new().await;
    let mut bad = entry(&world.issuer);
    bad["claimMappings"]["groups"] = json!({ "expression": "claims.groups.map(g, g)" });
    world.write(&file(&[bad]));
    let hint = world.live.look().expect_err("it does not compile").hint().expect("a hint");
    assert!(hint.contains("dyn(claims.groups)"), "{hint}");
    std::fs::remove_file(world.path()).expect("the file is removed");
    assert_eq!(world.live.look().expect_err("there is none").hint(), None);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_tried_again_and_a_huge_one_is_refused() {
    let world = World::new().await;
    std::fs::remove_file(world.path()).expect("the file is removed");
    for _ in 0..2 {
        let error = world.live.look().expect_err("there is none").to_string();
        assert_eq!(error, format!("open {}: no such file or directory", world.path().display()));
    }
    std::fs::create_dir(world.path()).expect("a folder in its place");
    let error = world.live.look().expect_err("a folder").to_string();
    assert_eq!(error, format!("read {}: is a directory", world.path().display()));
    std::fs::remove_dir(world.path()).expect("it is removed");
    assert_eq!(world.ask("still").await, "ok jane");
    let padded = |bytes: usize| {
        let text = file(&[entry(&world.issuer)]).to_string();
        format!("{text}{}", " ".repeat(bytes - text.len()))
    };
    std::fs::write(world.path(), padded(BYTES_LIMIT)).expect("the file");
    assert_eq!(world.live.look().map_err(|error| error.to_string()), changes(&[], 1));
    std::fs::write(world.path(), padded(10 * BYTES_LIMIT)).expect("the file");
    let error = world.live.look().expect_err("too large").to_string();
    assert_eq!(error, format!("{} bytes of config data, at most {BYTES_LIMIT} are read", BYTES_LIMIT + 1));
    assert_eq!(world.ask("still").await, "ok jane");
}

#[tokio::test]
async fn new_rules_hold_at_once_with_the_keys_at_hand_and_without_the_old_cache() {
    let world = World::new().await;
    let (asked, url) = (world.asked(), world.issuer.issuer().to_owned());
    let mut stricter = entry(&world.issuer);
    stricter["claimMappings"]["username"]["prefix"] = json!("oidc:");
    assert_eq!(world.reload(&file(&[stricter.clone()])), changes(&[Change::Rules(url.clone())], 0));
    assert_eq!(world.ask("first").await, "ok oidc:jane", "the user accepted before is not remembered");
    stricter["claimValidationRules"] = json!([{ "claim": "hd", "requiredValue": "example.com" }]);
    assert_eq!(world.reload(&file(&[stricter])), changes(&[Change::Rules(url.clone())], 0));
    assert_eq!(world.ask("first").await, "oidc: required claim hd not present in ID token");
    assert_eq!(world.asked(), asked);
    assert_eq!(world.reload(&file(&[])), changes(&[Change::Removed(url)], 0));
    assert_eq!(world.ask("first").await, "no opinion");
}

#[tokio::test]
async fn an_issuer_that_moves_stays_what_it_was_until_it_is_found() {
    let world = World::new().await;
    let url = world.issuer.issuer().to_owned();
    world.issuer.reply("/elsewhere", Reply::bytes("not yet").status(503));
    let mut moved = entry(&world.issuer);
    moved["issuer"]["discoveryURL"] = json!(world.issuer.url("/elsewhere"));
    moved["claimMappings"]["username"]["prefix"] = json!("new:");
    assert_eq!(world.reload(&file(&[moved.clone()])), changes(&[Change::Moved(url.clone())], 0));
    assert_eq!(world.ask("while").await, "ok jane", "former rules with former keys");
    tokio::time::timeout(LIMIT, async {
        while !world.live.authenticator().unhealthy().is_some_and(|text| text.contains("503")) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is said that the new place fails");
    // Moving once more, and another change before it is found, keep what works.
    moved["issuer"]["discoveryURL"] = json!(format!("{DOWN}/x"));
    assert_eq!(world.reload(&file(&[moved.clone()])), changes(&[Change::Moved(url.clone())], 0));
    assert_eq!(world.ask("again").await, "ok jane");
    moved["claimMappings"]["username"]["prefix"] = json!("newer:");
    assert_eq!(world.reload(&file(&[moved.clone()])), changes(&[Change::Rules(url.clone())], 0));
    assert_eq!(world.ask("once more").await, "ok jane");
    // At last the new place answers, with keys of its own.
    let mut document = world.issuer.discovery_document();
    document["jwks_uri"] = json!(world.issuer.url("/other-keys"));
    world.issuer.reply("/elsewhere", Reply::json(&document));
    world.issuer.reply("/other-keys", Reply::json(&json!({ "keys": [] })));
    moved["issuer"]["discoveryURL"] = json!(world.issuer.url("/elsewhere"));
    assert_eq!(world.reload(&file(&[moved])), changes(&[Change::Moved(url)], 0));
    tokio::time::timeout(LIMIT, world.live.authenticator().ready()).await.expect("it is found");
    assert_eq!(world.ask("after").await, BAD_SIGNATURE, "the former keys count no more");
}

#[tokio::test]
async fn who_was_accepted_by_the_former_keys_is_forgotten_when_the_issuer_is_found() {
    let world = World::new().await;
    let gate = Shutdown::new();
    let mut document = world.issuer.discovery_document();
    document["jwks_uri"] = json!(world.issuer.url("/other-keys"));
    world.issuer.reply("/elsewhere", Reply::json(&document).after(gate.clone()));
    world.issuer.reply("/other-keys", Reply::json(&json!({ "keys": [] })));
    let mut moved = entry(&world.issuer);
    moved["issuer"]["discoveryURL"] = json!(world.issuer.url("/elsewhere"));
    let url = world.issuer.issuer().to_owned();
    assert_eq!(world.reload(&file(&[moved])), changes(&[Change::Moved(url)], 0));
    for _ in 0..2 {
        assert_eq!(world.ask("while").await, "ok jane");
    }
    gate.trigger();
    tokio::time::timeout(LIMIT, world.live.authenticator().ready()).await.expect("it is found");
    assert_eq!(world.ask("while").await, BAD_SIGNATURE, "in the same second of the mock clock");
}

#[tokio::test]
async fn an_issuer_that_is_gone_is_not_looked_for_any_more() {
    let world = World::new().await;
    let (gone, still) = (issuer().await, issuer().await);
    for issuer in [&gone, &still] {
        issuer.reply(DISCOVERY, Reply::bytes("no").status(500));
    }
    world.reload(&file(&[entry(&gone), entry(&still), entry(&world.issuer)])).expect("valid");
    asked(&gone, 3).await;
    world.reload(&file(&[entry(&still), entry(&world.issuer)])).expect("valid");
    // The other one, which is looked for as often, tells the time. One request may still be under way.
    asked(&still, still.count(DISCOVERY) + 3).await;
    let before = gone.count(DISCOVERY);
    asked(&still, still.count(DISCOVERY) + 10).await;
    assert_eq!(gone.count(DISCOVERY), before);
    assert_eq!(world.ask("still").await, "ok jane");
}

/// Waits until the discovery document of `issuer` has been asked for so often.
async fn asked(issuer: &FakeIssuer, times: usize) {
    tokio::time::timeout(LIMIT, async {
        while issuer.count(DISCOVERY) < times {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is looked for");
}

#[tokio::test]
async fn two_issuers_speak_for_themselves_and_nobody_is_trusted_in_an_empty_file() {
    let world = World::new().await;
    let other = issuer().await;
    other.set_key(SigningKey::generate(KeyKind::P256, "one".to_owned()).expect("a key"));
    world.reload(&file(&[entry(&other), entry(&world.issuer)])).expect("valid");
    tokio::time::timeout(LIMIT, world.live.authenticator().ready()).await.expect("both are found");
    let stolen = json!({ "iss": other.issuer(), "aud": "c", "sub": "jane", "exp": NOW + 1_000 }).to_string();
    let key = world.issuer.key();
    let stolen = sign_compact(&key, key.default_algorithm(), None, stolen.as_bytes()).expect("a token");
    let verdict = world.live.authenticator().authenticate(&stolen).await;
    assert!(verdict.refusal().is_some_and(|error| error.to_string().contains("failed to verify")), "{verdict:?}");
    assert_eq!(world.ask("own").await, "ok jane");
    world.reload(&file(&[])).expect("valid");
    assert_eq!(world.ask("own").await, "no opinion");
    assert_eq!(world.live.authenticator().unhealthy(), None);
}

fn start(file: ConfigFile) -> Result<LiveAuthenticator, String> {
    let started =
        LiveAuthenticator::start(file, Options::new(Clock::mock(NOW).0), &Network::default(), &Shutdown::new());
    started.map_err(|error| portcullis_runtime::chain(&error))
}

#[tokio::test]
async fn a_server_does_not_start_with_a_bad_file_and_says_so_in_upstreams_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a \"file\"");
    let start = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(&path, text).expect("the file");
        }
        start(ConfigFile::at(&path)).map(drop).expect_err("refused")
    };
    let load = format!("failed to load authentication configuration from file {:?}: ", path.display().to_string());
    assert_eq!(start(None), format!("{load}open {}: no such file or directory", path.display()));
    assert_eq!(start(Some("")), format!("{load}empty config data"));
    let unknown = file(&[]).to_string().replace("\"jwt\"", "\"Jwt\"");
    assert_eq!(start(Some(&unknown)), format!("{load}strict decoding error: unknown field \"Jwt\""));
    let invalid = file(&[json!({})]).to_string();
    assert!(
        start(Some(&invalid)).starts_with("invalid authentication configuration: [jwt[0].issuer.url: Required value")
    );
    std::fs::remove_file(&path).expect("the file");
    std::fs::create_dir(&path).expect("a folder in its place");
    assert_eq!(start(None), format!("{load}read {}: is a directory", path.display()));
}

#[tokio::test]
async fn either_the_file_or_the_flag_speaks_of_anonymous_requests() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("authentication.json");
    let start = |anonymous: Option<Value>, flag: Option<bool>, jwt: &[Value]| {
        let mut text = file(jwt);
        if let Some(anonymous) = anonymous {
            text["anonymous"] = anonymous;
        }
        std::fs::write(&path, text.to_string()).expect("the file");
        start(ConfigFile { anonymous_auth: flag, ..ConfigFile::at(&path) }).map(|live| live.anonymous())
    };
    let plain = |enabled: bool| Ok(AnonymousAuthConfig::everywhere(enabled));
    assert_eq!(start(None, None, &[]), plain(true));
    assert_eq!(start(None, Some(true), &[]), plain(true));
    assert_eq!(start(None, Some(false), &[]), plain(false));
    assert_eq!(start(Some(json!({})), None, &[]), plain(false));
    assert_eq!(start(Some(json!({ "enabled": true })), None, &[]), plain(true));
    let of_livez = json!({ "enabled": true, "conditions": [{ "path": "/livez" }] });
    let told = start(Some(of_livez.clone()), None, &[]).expect("valid");
    assert!(told.enabled && told.conditions.len() == 1 && told.conditions[0].path == "/livez", "{told:?}");
    for flag in [true, false] {
        // Compat: it is said before anything of the file is checked.
        for jwt in [&[][..], &[json!({})]] {
            assert_eq!(
                start(Some(of_livez.clone()), Some(flag), jwt),
                Err("anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file".to_owned())
            );
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_is_read_once() {
    let world = World::new().await;
    std::fs::remove_file(world.path()).expect("the file is removed");
    std::os::unix::fs::symlink("/dev/null", world.path()).expect("a link");
    assert_eq!(world.live.look().map_err(|error| error.to_string()), Ok(None));
    assert_eq!(world.ask("still").await, "ok jane");
}
