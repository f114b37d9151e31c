//! `check` as a whole: a token, a configuration and keys in, a report out.

mod faults;
mod files;
mod live;

use std::fs;
use std::path::PathBuf;

use portcullis_jose::{Algorithm, KeyKind, SigningKey, base64url_encode};
use portcullis_runtime::Clock;
use portcullis_runtime::http_client::ProxyFromEnv;
use portcullis_testkit::{TempDir, temp_dir};
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";
const OWN: &str = "https://kubernetes.default.svc.cluster.local";

/// A token, a configuration and keys that are all right, until something is changed.
struct World {
    folder: TempDir,
    key: SigningKey,
    header: Value,
    claims: Value,
    /// Given instead of the token that header and claims make.
    token: Option<String>,
    flags: Vec<String>,
    /// Given instead of the flags: an AuthenticationConfiguration.
    file: Option<Value>,
    /// `None` asks the issuer.
    jwks: Option<Value>,
}

impl World {
    fn new() -> Self {
        let key = SigningKey::generate(KeyKind::P256, "k1".to_owned()).unwrap();
        let jwks = json!({ "keys": [key.public().to_json()] });
        Self {
            folder: temp_dir(),
            key,
            header: json!({ "alg": "ES256", "kid": "k1", "typ": "JWT" }),
            claims: json!({
                "iss": ISSUER, "aud": "kubernetes", "sub": "u-1", "email": "jane@example.com", "email_verified": true,
                "name": "Jane", "groups": ["dev", "ops"], "iat": NOW - 60, "exp": NOW + 3_540,
            }),
            token: None,
            flags: [
                "--oidc-issuer-url=https://issuer.example",
                "--oidc-client-id=kubernetes",
                "--oidc-username-claim=email",
                "--oidc-groups-claim=groups",
                "--oidc-signing-algs=ES256",
            ]
            .map(str::to_owned)
            .to_vec(),
            file: None,
            jwks: Some(jwks),
        }
    }

    /// The file that says the same as the flags.
    fn with_file() -> Self {
        let file = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthenticationConfiguration",
            "jwt": [{
                "issuer": { "url": ISSUER, "audiences": ["kubernetes"] },
                "claimMappings": {
                    "username": { "claim": "email", "prefix": "" },
                    "groups": { "claim": "groups", "prefix": "" },
                },
            }],
        });
        Self { file: Some(file), ..Self::new() }
    }

    fn jwt(&mut self) -> &mut Value {
        &mut self.file.as_mut().unwrap()["jwt"][0]
    }

    /// Replaces a flag, or takes it away.
    fn flag(&mut self, name: &str, value: Option<&str>) {
        self.flags.retain(|flag| !flag.starts_with(&format!("--{name}=")));
        self.flags.extend(value.map(|value| format!("--{name}={value}")));
    }

    fn unclaim(&mut self, name: &str) {
        self.claims.as_object_mut().unwrap().remove(name);
    }

    fn signed(&self, payload: &str) -> String {
        let signed = format!(
            "{}.{}",
            base64url_encode(self.header.to_string().as_bytes()),
            base64url_encode(payload.as_bytes())
        );
        let signature = self.key.sign(Algorithm::Es256, signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64url_encode(&signature))
    }

    fn token(&self) -> String {
        self.token.clone().unwrap_or_else(|| self.signed(&self.claims.to_string()))
    }

    fn path(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn options(&self) -> Options {
        let config = match &self.file {
            Some(file) => ConfigFrom::File(self.path("authn.json", file.to_string()), None),
            None => ConfigFrom::Flags(self.flags.clone()),
        };
        Options {
            token: TokenFrom::Stdin,
            config,
            jwks: self.jwks.as_ref().map(|jwks| self.path("jwks.json", jwks.to_string())),
            ca: None,
            clock: Clock::mock(NOW).0,
            proxy: ProxyFromEnv::default(),
        }
    }

    async fn try_with(&self, options: &Options) -> Result<Report, CheckError> {
        let token = self.token();
        let report = run(options, token.as_bytes()).await?;
        let told = format!("{}\n{}\n{:?}", report.text(), serde_json::to_string(&report).unwrap(), report.error());
        let signature = token.rsplit('.').next().unwrap_or_default();
        assert!(signature.len() < 20 || !told.contains(signature), "the signature is shown: {told}");
        Ok(report)
    }

    async fn report(&self) -> Report {
        self.try_with(&self.options()).await.unwrap()
    }
}

#[tokio::test]
async fn a_good_token_is_accepted_with_its_user_and_every_step() {
    for world in [World::new(), World::with_file()] {
        let report = world.report().await;
        let user = report.user.as_ref().unwrap();
        assert_eq!(
            (user.username.as_str(), user.groups.as_slice()),
            ("jane@example.com", &["dev".into(), "ops".into()][..])
        );
        assert_eq!((report.verdict, &report.strict, &report.error()), (Verdict::Accepted, &None, &None));
        assert_eq!(report.warnings, [""; 0]);
        assert!(report.steps.iter().all(|line| line.outcome == Outcome::Ok && !line.detail.is_empty()));
        let steps: Vec<&str> = report.steps.iter().map(|line| line.step).collect();
        assert_eq!(
            steps,
            [
                "token",
                "issuer",
                "keys",
                "form",
                "algorithm",
                "signature",
                "claimTypes",
                "verifiedIssuer",
                "audience",
                "expiry",
                "notBefore",
                "username",
                "emailVerified",
                "groups"
            ]
        );
        let text = report.text();
        for part in [
            "accepted\n  user       \"jane@example.com\"\n  groups     \"dev\", \"ops\" (and system:authenticated",
            "  3. ok     keys              1 key from ",
            "alg \"ES256\", kid \"k1\", typ \"JWT\"",
            "exp is 2027-01-15T08:59:00Z, in 59 min; it is 2027-01-15T08:00:00Z",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["verdict"], &json["user"]["groups"][1]), (&json!("accepted"), &json!("ops")));
        assert_eq!(json["steps"][8], json!({"step": "audience", "outcome": "ok", "detail": report.steps[8].detail}));
        assert_eq!(json["expiresAt"], "2027-01-15T08:59:00Z");
    }
}

/// Bits behind the last byte count for nothing, as for kube-apiserver; what is shown is what was accepted.
#[tokio::test]
async fn a_token_with_unused_bits_is_shown_as_it_was_read() {
    let mut world = World::new();
    let token = (0..3).find_map(|more| {
        world.claims["pad"] = json!("x".repeat(more));
        let token = world.signed(&world.claims.to_string());
        let payload = token.split('.').nth(1).unwrap();
        (payload.len() % 4 == 2).then(|| token.clone())
    });
    let token = token.expect("one of three lengths has four bits too many");
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let (rest, last) = payload.split_at(payload.len() - 1);
    let odd = match last {
        "A" => "B",
        "Q" => "R",
        "g" => "h",
        "w" => "x",
        other => panic!("{other} has bits set"),
    };
    world.token = Some(format!("{header}.{rest}{odd}.{signature}"));
    let report = world.report().await;
    assert_eq!(report.verdict, Verdict::Accepted);
    let audience = report.steps.iter().find(|line| line.step == "audience").unwrap();
    assert!(!audience.detail.contains("no claim"), "{}", audience.detail);
    assert_eq!(report.warnings, [""; 0]);
}

#[tokio::test]
async fn the_signature_step_names_the_key_only_where_the_set_has_it() {
    let told = async |change: fn(&mut World)| {
        let mut world = World::new();
        change(&mut world);
        let report = world.report().await;
        report.steps.iter().find(|line| line.step == "signature").unwrap().detail.clone()
    };
    assert_eq!(told(|_| {}).await, "with the key \"k1\"");
    assert_eq!(
        told(|world| world.header["kid"] = json!("old")).await,
        "the token names the key \"old\", which the set does not have"
    );
    assert_eq!(
        told(|world| world.jwks = Some(json!("x"))).await,
        "the token names the key \"k1\", and there is no set that can be used"
    );
    assert_eq!(
        told(|world| drop(world.header.as_object_mut().unwrap().remove("kid"))).await,
        "the token names no key: each of the set is tried"
    );
    assert_eq!(told(|world| world.header["kid"] = json!("")).await, "the token names no key: each of the set is tried");
}

/// Upstream verifies with Go's decoder, which finds a claim in any case of letters, and maps by exact names.
#[tokio::test]
async fn names_in_other_letters_are_shown_as_each_step_reads_them() {
    let mut world = World::new();
    world.flag("oidc-username-claim", Some("sub"));
    for (name, other) in [("aud", "AUD"), ("exp", "Exp"), ("sub", "SUB"), ("groups", "Groups")] {
        world.claims[other] = world.claims[name].take();
        world.unclaim(name);
    }
    let detail = |report: &Report, step: &str| {
        let line = report.steps.iter().find(|line| line.step == step).unwrap();
        (line.outcome, line.detail.clone())
    };
    let report = world.report().await;
    assert_eq!(
        detail(&report, "audience"),
        (Outcome::Ok, "the claim \"aud\", spelled \"AUD\", is \"kubernetes\"; wanted: [\"kubernetes\"]".to_owned())
    );
    assert!(detail(&report, "expiry").1.starts_with("exp is 2027-01-15T08:59:00Z"), "{}", report.text());
    let (outcome, told) = detail(&report, "username");
    let want = "there is no claim \"sub\", and \"SUB\" is another name here; prefix \"https://issuer.example#\"";
    assert_eq!((outcome, told.as_str()), (Outcome::Failed, want));
    world.flag("oidc-username-claim", Some("SUB"));
    let report = world.report().await;
    assert_eq!(report.verdict, Verdict::Accepted, "{}", report.text());
    assert_eq!(report.user.unwrap().groups, [""; 0]);
    let doubt = "the token has no claim \"groups\" (\"Groups\" is another name here), so the user has no groups";
    assert!(report.warnings.iter().any(|warning| warning.contains(doubt)), "{:?}", report.warnings);
}

#[tokio::test]
async fn what_works_and_may_not_be_meant_is_a_warning() {
    let warned = async |change: fn(&mut World), want: &str| {
        let mut world = World::new();
        change(&mut world);
        let report = world.report().await;
        assert_eq!(report.verdict, Verdict::Accepted, "{}", report.text());
        assert!(report.warnings.iter().any(|warning| warning.contains(want)), "{want}: {:?}", report.warnings);
    };
    warned(|world| world.flag("oidc-username-claim", None), "roles must be bound to \"https://issuer.example#u-1\"")
        .await;
    warned(|world| world.flag("oidc-groups-prefix", Some("-")), "every group begins with a dash").await;
    warned(|world| world.unclaim("groups"), "no claim \"groups\", so the user has no groups").await;
    warned(|world| world.claims["email"] = json!(""), "the user name is empty").await;
    let by_index = |world: &mut World| {
        *world = World::with_file();
        world.jwt()["claimMappings"]["username"] = json!({ "expression": "claims['email']" });
    };
    warned(by_index, "none asks for email_verified").await;
    let own = |world: &mut World| {
        world.flag("oidc-issuer-url", Some(OWN));
        world.claims["iss"] = json!(OWN);
    };
    warned(own, "--oidc-issuer-url is the issuer of the cluster's own service accounts").await;
    let own_in_file = |world: &mut World| {
        *world = World::with_file();
        let (mut jwt, other) = (world.jwt().clone(), json!("https://other.example"));
        jwt["issuer"]["url"] = json!(OWN);
        world.jwt()["issuer"]["url"] = other;
        world.file.as_mut().unwrap()["jwt"].as_array_mut().unwrap().push(jwt);
        world.claims["iss"] = json!(OWN);
    };
    warned(own_in_file, "jwt[1].issuer.url is the issuer of the cluster's own service accounts").await;
    let selector = |world: &mut World| {
        *world = World::with_file();
        world.jwt()["issuer"]["egressSelectorType"] = json!("cluster");
    };
    warned(selector, "jwt[0].issuer.egressSelectorType is \"cluster\": kube-apiserver starts with it only where").await;
    warned(|world| world.claims["x"] = json!("y".repeat(9_000)), "proxies before an API server").await;
    warned(|world| world.claims["exp"] = json!(NOW + 30), "the token ends in 30 s").await;
}

#[tokio::test]
async fn where_the_strict_policy_differs_it_is_told() {
    let strict = async |change: fn(&mut World), message: &str, hint: &str| {
        let mut world = World::new();
        change(&mut world);
        let report = world.report().await;
        assert_eq!(report.verdict, Verdict::Accepted, "{}", report.text());
        let strict = report.strict.clone().unwrap();
        assert_eq!(strict.verdict, Verdict::Refused);
        assert!(strict.message.as_ref().unwrap().contains(message), "{strict:?}");
        assert!(strict.hint.as_ref().unwrap().contains(hint), "{strict:?}");
        assert!(report.text().contains("strict policy (gateway, webhook): refuses it: "), "{}", report.text());
    };
    strict(|world| world.claims["groups"] = json!(["system:masters"]), "Kubernetes' own", "put a prefix").await;
    strict(|world| world.claims["email"] = json!(""), "the user name is empty", "fill the claim").await;
    strict(
        |world| world.token = Some(world.signed(&world.claims.to_string().replacen('{', "{\"name\":\"x\",", 1))),
        "the claim \"name\" occurs twice",
        "send name once",
    )
    .await;
    strict(
        |world| world.token = Some(world.signed(&world.claims.to_string().replace("\"aud\"", "\"AUD\""))),
        "spelled \"AUD\"",
        "spell the claim aud",
    )
    .await;
    strict(|world| world.token = Some(world.token().replacen('.', " .", 1)), "canonical form", "white space").await;
    strict(
        |world| world.jwks.as_mut().unwrap()["keys"][0]["use"] = json!("enc"),
        "failed to verify signature",
        "another kind",
    )
    .await;
}

type Change = fn(&mut World);

/// What kube-apiserver's own package passes over (`families::deliberate` of the differential test). It accepts each but the one whose
/// curve is another, which it refuses for its signature.
#[tokio::test]
async fn what_this_program_alone_refuses_is_not_said_of_kube_apiserver() {
    let changes: [(&str, Change); 9] = [
        ("need nothing", |world| world.header["crit"] = json!(["b64"])),
        ("need nothing", |world| world.header["crit"] = json!([])),
        ("need nothing", |world| world.header["crit"] = json!(null)),
        ("typ", |world| world.header["typ"] = json!(1)),
        ("jwk", |world| world.header["jwk"] = json!(null)),
        ("many members", |world| (0..300).for_each(|n| world.header[format!("x{n}")] = json!(1))),
        ("other letters", |world| world.jwks = Some(json!({ "Keys": world.jwks.as_ref().unwrap()["keys"] }))),
        ("many keys", |world| {
            let key = world.jwks.as_ref().unwrap()["keys"][0].clone();
            world.jwks = Some(json!({ "keys": vec![key; 101] }));
        }),
        ("curve", |world| {
            world.header["alg"] = json!("ES384");
            world.flag("oidc-signing-algs", Some("ES384"));
        }),
    ];
    let mut worlds: Vec<(&str, World)> = Vec::new();
    for (what, change) in changes {
        let mut world = World::new();
        change(&mut world);
        worlds.push((what, world));
    }
    let vectors = include_str!("../../../../../tests/fixtures/authn/narrower.json");
    let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
    for vector in vectors.iter().filter(|vector| !vector["name"].as_str().unwrap().contains("salt")) {
        let mut world = World::new();
        world.flag("oidc-client-id", Some("my-client"));
        world.flag("oidc-signing-algs", Some("RS256,ES384,ES512"));
        world.jwks = Some(vector["jwks"].clone());
        world.token = Some(vector["token"].as_str().unwrap().to_owned());
        worlds.push((if vector["name"] == "RSA key of 1024 bits" { "RSA keys" } else { "curve" }, world));
    }
    for (what, world) in worlds {
        let report = world.report().await;
        let told = format!("{}: {}\n{report:?}", report.text(), report.error().unwrap());
        assert_eq!((report.verdict, &report.log), (Verdict::Refused, &None), "{told}");
        assert!(report.by_decision.is_some_and(|of| of.contains(what)), "{what}: {told}");
        assert!(report.hint.as_ref().unwrap().starts_with("kube-apiserver accepts "), "{told}");
        assert!(told.matches("for a reason that only Portcullis has").count() == 2, "{told}");
    }
}

#[tokio::test]
async fn limits_of_expressions_that_are_ours_are_not_said_of_kube_apiserver() {
    let deep = format!("{}1{}", "[".repeat(101), "]".repeat(101));
    for (what, claim, expression) in [
        ("a claim of that depth", serde_json::from_str(&deep).unwrap(), "string(claims.x == claims.x)"),
        ("an expression that makes values", json!("a".repeat(9_000)), "claims.x.replace('a', claims.x)"),
    ] {
        let mut world = World::with_file();
        world.claims["x"] = claim;
        world.jwt()["claimMappings"]["username"] = json!({ "expression": expression });
        let report = world.report().await;
        let told = format!("{}: {}\n{report:?}", report.text(), report.error().unwrap());
        assert_eq!((report.verdict, &report.log), (Verdict::Refused, &None), "{told}");
        assert!(report.by_decision.is_some_and(|of| of.contains(what)), "{what}: {told}");
        assert!(report.hint.as_ref().unwrap().contains("let the expression look at less"), "{told}");
    }
}

#[tokio::test]
async fn text_from_a_token_cannot_steer_a_terminal() {
    let mut world = World::new();
    world.flag("oidc-required-claim", Some("hd=x"));
    world.claims["hd"] = json!("\u{1b}[2J\u{9b}31m");
    let report = world.report().await;
    let told = format!("{}{}{}", report.text(), report.error().unwrap(), printable(report.hint.as_ref().unwrap()));
    assert!(!told.replace('\n', "").contains(char::is_control), "{told:?}");
    assert_eq!(printable("a\n | b\r\u{7f}"), "a\\n | b\u{fffd}\u{fffd}");
}
