//! Keys from the issuer itself: found as kube-apiserver finds them, within limits, and explained when they are not.

use portcullis_testkit::{FakeIssuer, Reply};

use super::*;

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";

async fn world() -> (World, FakeIssuer) {
    let issuer = FakeIssuer::start().await;
    let mut world = World::new();
    issuer.set_key(world.key.clone());
    world.claims["iss"] = json!(issuer.issuer());
    world.flag("oidc-issuer-url", Some(issuer.issuer()));
    let ca = world.path("ca.pem", issuer.ca().pem());
    world.flag("oidc-ca-file", ca.to_str());
    world.jwks = None;
    (world, issuer)
}

fn refused(report: &Report, step: &str, message: &str, hint: &str) {
    let text = format!("{}\nhint: {:?}", report.text(), report.hint);
    assert_eq!((report.verdict, report.step), (Verdict::Refused, Some(step)), "{text}");
    assert!(report.message.as_ref().unwrap().contains(message), "{text}");
    assert!(report.hint.as_ref().unwrap().contains(hint), "{text}");
    assert_eq!(report.steps.iter().find(|line| line.outcome == Outcome::Failed).unwrap().step, step, "{text}");
}

const NOT: &str = "oidc: authenticator not initialized";

#[tokio::test]
async fn the_issuers_keys_are_fetched_once() {
    let (world, issuer) = world().await;
    let report = world.report().await;
    assert_eq!(report.verdict, Verdict::Accepted, "{}", report.text());
    assert_eq!((issuer.count(DISCOVERY), issuer.count(KEYS)), (1, 1));
    assert!(report.steps[2].detail.contains("\"k1\" (EC P-256)"), "{}", report.text());
}

#[tokio::test]
async fn an_unknown_authority_is_named_and_ca_puts_it_right() {
    let (mut world, issuer) = world().await;
    world.flag("oidc-ca-file", None);
    let report = world.report().await;
    refused(&report, "keys", NOT, "into --oidc-ca-file (here: --ca)");
    assert!(report.log.as_ref().unwrap().contains("initializing plugin: "), "{report:?}");
    let ca = world.path("ca.pem", issuer.ca().pem());
    let report = world.try_with(&Options { ca: Some(ca), ..world.options() }).await.unwrap();
    assert_eq!(report.verdict, Verdict::Accepted, "{}", report.text());
    assert!(report.warnings[0].contains("--oidc-ca-file is not set: kube-apiserver asks with those of its machine"));
    let junk = world.path("junk.pem", "x");
    let error = world.try_with(&Options { ca: Some(junk), ..world.options() }).await.unwrap_err();
    assert!(error.to_string().contains("no certificate found") && error.hint().unwrap().contains("PEM"), "{error}");
}

#[tokio::test]
async fn the_authority_in_a_file_is_the_one_that_counts() {
    let (mut world, issuer) = world().await;
    let (right, other) = (issuer.ca().pem().to_owned(), FakeIssuer::start().await.ca().pem().to_owned());
    world.file = World::with_file().file;
    world.jwt()["issuer"]["url"] = json!(issuer.issuer());
    let report = async |world: &World, ca: Option<&str>| {
        let ca = ca.map(|ca| world.path("given.pem", ca));
        world.try_with(&Options { ca, ..world.options() }).await.unwrap()
    };
    world.jwt()["issuer"]["certificateAuthority"] = json!(right);
    for (ca, warnings) in [(None, 0), (Some(right.as_str()), 0), (Some(other.as_str()), 1)] {
        let report = report(&world, ca).await;
        assert_eq!((report.verdict, report.warnings.len()), (Verdict::Accepted, warnings), "{report:?}");
        let told = report
            .warnings
            .iter()
            .all(|warning| warning.starts_with("--ca is not used: jwt[0].issuer.certificateAuthority is there"));
        assert!(told, "{report:?}");
    }
    world.jwt()["issuer"]["certificateAuthority"] = json!(other);
    let refused = report(&world, Some(&right)).await;
    assert_eq!((refused.step, refused.warnings.len()), (Some("keys"), 1), "{refused:?}");
    // Of the flags, the file may be one of another machine.
    let mut world = World { file: None, ..world };
    let named = world.path("other.pem", &other);
    world.flag("oidc-ca-file", named.to_str());
    let report = report(&world, Some(&right)).await;
    assert_eq!(report.verdict, Verdict::Accepted, "{report:?}");
    assert!(report.warnings[0].contains("other.pem is there and says something else; --ca is used"), "{report:?}");
}

#[tokio::test]
async fn what_is_wrong_with_discovery_is_explained() {
    let (world, issuer) = world().await;
    let document = issuer.discovery_document();
    let with = |name: &str, value: Value| {
        let mut document = document.clone();
        document[name] = value;
        Reply::json(&document)
    };
    let slash = format!("{}/", issuer.issuer());
    for (reply, detail, hint) in [
        (
            Reply::bytes("nothing here").status(404),
            "404 Not Found: nothing here",
            "is --oidc-issuer-url right, path included?",
        ),
        (Reply::bytes("busy").status(503), "503 Service Unavailable: busy", "answers with 200"),
        (
            with("issuer", json!(slash)),
            "issuer did not match",
            "give it one issuer URL, which --oidc-issuer-url must be too",
        ),
        (Reply::bytes("<html>").header("content-type", "text/html"), "got \"text/html\"", "a login page or proxy"),
        (with("jwks_uri", json!("")), "provider did not return JWKS URL", "must name jwks_uri"),
        (Reply::bytes(vec![b' '; 1024 * 1024 + 1]), "larger than 1048576 bytes", "--jwks takes the keys from a file"),
    ] {
        issuer.reply(DISCOVERY, reply);
        let report = world.report().await;
        refused(&report, "keys", NOT, hint);
        assert!(report.steps[2].detail.contains(detail), "{detail}: {}", report.text());
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_keys_is_explained() {
    let (world, issuer) = world().await;
    let failed = "fetching keys oidc: get keys failed";
    issuer.reply(KEYS, Reply::bytes("boom").status(500));
    refused(
        &world.report().await,
        "signature",
        "get keys failed: 500 Internal Server Error boom",
        "must answer with 200",
    );
    issuer.reply(KEYS, Reply::bytes(vec![b' '; 1024 * 1024 + 1]));
    refused(&world.report().await, "signature", failed, "--jwks takes the keys from a file");
    issuer.reply(KEYS, Reply::json(&json!({ "keys": [] })));
    refused(&world.report().await, "signature", "failed to verify id token signature", "no key with an id");
    issuer.reply(KEYS, Reply::json(&json!({ "keys": [{ "kty": "AKP" }] })));
    refused(&world.report().await, "signature", "unknown json web key type 'AKP'", "take it out");
}

#[tokio::test]
async fn an_issuer_that_is_down_is_told_and_a_key_set_goes_without_it() {
    let (mut world, mut issuer) = world().await;
    issuer.stop().await;
    refused(&world.report().await, "keys", NOT, "can this machine reach it?");
    world.jwks = Some(json!({ "keys": [world.key.public().to_json()] }));
    assert_eq!(world.report().await.verdict, Verdict::Accepted);
}
