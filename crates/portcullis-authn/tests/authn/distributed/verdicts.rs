//! Which distributed claims are taken and which are refused, with kube-apiserver's texts.

use portcullis_authn::{Authenticator, ClaimHosts, DistributedClaims, JwtConfig, Options, Policy, PrefixedClaim};
use portcullis_jose::{JwkSet, KeyKind, SigningKey, sign_compact};
use portcullis_runtime::Clock;
use portcullis_testkit::{FakeIssuer, Reply};
use serde_json::{Value, json};

use super::{DISCOVERY, ENDPOINT, NOW, World, stranger, unknown};

const JANE: &str = r#"jane ["p:a", "p:b"]"#;

#[tokio::test]
async fn groups_come_from_the_endpoint_once_its_issuer_is_known() {
    let world = World::new().await;
    let token = world.token();
    assert_eq!(world.ask(&token).await, unknown(world.claims.issuer()), "the first token starts the discovery");
    assert_eq!(world.ask_known(&token).await, JANE);
    let before = world.fetches();
    assert_eq!(world.ask(&token).await, JANE);
    assert_eq!(world.fetches(), before + 1, "nothing of an endpoint's answer is remembered");
    assert_eq!(world.claims.count(DISCOVERY), 1, "an issuer is discovered once");
    for request in world.claims.requests_to(ENDPOINT) {
        assert_eq!((request.method.as_str(), request.header("authorization")), ("GET", Some("Bearer s3cret")));
    }
    assert!(world.issuer.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn without_an_access_token_none_is_sent() {
    let world = World::new().await;
    for source in [
        json!({ "endpoint": world.claims.url(ENDPOINT) }),
        json!({ "endpoint": world.claims.url(ENDPOINT), "access_token": "" }),
    ] {
        let mut claims = world.pointing_to("", "");
        claims["_claim_sources"]["src"] = source;
        assert_eq!(world.ask_known(&world.issuer.sign(&claims)).await, JANE);
    }
    assert!(world.claims.requests_to(ENDPOINT).iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn the_issuers_own_endpoint_is_discovered_for_claims_as_well() {
    let world = World::new().await;
    let claims = json!({ "iss": world.issuer.issuer(), "aud": ["x", "c"], "exp": NOW + 1_000, "groups": "one" });
    world.issuer.reply(ENDPOINT, Reply::bytes(world.issuer.sign(&claims)));
    let token = world.token_to(&world.issuer.url(ENDPOINT));
    assert_eq!(world.ask(&token).await, unknown(world.issuer.issuer()), "as upstream, which keeps the two apart");
    assert_eq!(world.ask_known(&token).await, r#"jane ["p:one"]"#);
    assert_eq!(world.issuer.count(DISCOVERY), 2);
}

#[tokio::test]
async fn what_the_token_holds_itself_and_what_nobody_asked_for_is_never_fetched() {
    let world = World::new().await;
    let change = |change: &dyn Fn(&mut Value)| {
        let mut claims = world.pointing_to(&world.claims.url(ENDPOINT), "s3cret");
        change(&mut claims);
        world.issuer.sign(&claims)
    };
    for (token, want) in [
        (change(&|claims| claims["groups"] = json!(["own"])), r#"jane ["p:own"]"#),
        (change(&|claims| claims["groups"] = json!(null)), "jane []"),
        (change(&|claims| claims["_claim_names"] = json!({ "roles": "src" })), "jane []"),
        (change(&|claims| claims["_claim_sources"]["src"] = json!({ "JWT": "a.b.c" })), "jane []"),
        (
            change(&|claims| claims["_claim_names"]["groups"] = json!("gone")),
            "oidc: verify token: oidc: source does not exist",
        ),
    ] {
        assert_eq!(world.ask(&token).await, want);
    }
    let without_groups = World::with(|setup, _| setup.config.groups = None).await;
    assert_eq!(without_groups.ask(&without_groups.token()).await, "jane []");
    assert_eq!((world.fetches(), without_groups.fetches()), (0, 0));
}

#[tokio::test]
async fn an_endpoints_token_is_checked_like_any_other() {
    let world = World::warm().await;
    let token = world.token();
    let good = world.groups(&json!(["a", "b"]));
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(name);
        claims
    };
    let endpoint = world.claims.url(ENDPOINT);
    let missing = format!("jwt returned by distributed claim endpoint {endpoint:?} did not contain claim: groups");
    let verify = |text: &str| format!("verify distributed claim token: {text}");
    for (claims, want) in [
        (with("aud", json!("other")), verify(r#"oidc: expected audience "c" got ["other"]"#)),
        (with("exp", json!(NOW - 1)), verify("oidc: token is expired (Token Expiry: 2027-01-15 07:59:59 +0000 UTC)")),
        (without("exp"), verify("oidc: token is expired (Token Expiry: 0001-01-01 00:00:00 +0000 UTC)")),
        (
            with("nbf", json!(NOW + 61)),
            verify(
                "oidc: current time 2027-01-15 08:00:00 +0000 UTC before the nbf (not before) time: 2027-01-15 08:01:01 +0000 UTC",
            ),
        ),
        (without("groups"), missing.clone()),
        (json!({ "iss": world.claims.issuer(), "aud": "c", "exp": NOW + 9, "Groups": ["a"] }), missing),
        (with("_claim_names", json!({ "x": "y" })), verify("oidc: source does not exist")),
        (
            with("sub", json!(1)),
            verify(
                "oidc: failed to unmarshal claims: json: cannot unmarshal number into Go struct field idToken.sub of type string",
            ),
        ),
        (with("groups", json!("one")), r#"jane ["p:one"]"#.to_owned()),
        (with("groups", json!(null)), "jane []".to_owned()),
        (
            with("groups", json!(7)),
            r#"oidc: parse groups claim "groups": json: cannot unmarshal number into Go value of type string"#
                .to_owned(),
        ),
        (with("sub", json!("somebody else")), JANE.to_owned()),
    ] {
        world.serve(&claims);
        assert_eq!(world.ask(&token).await, want, "{claims}");
    }
}

#[tokio::test]
async fn only_the_named_issuers_key_and_a_configured_algorithm_will_do() {
    let world = World::warm().await;
    let token = world.token();
    let good = world.groups(&json!(["a", "b"]));
    let sign = |key: &SigningKey| {
        let signed = sign_compact(key, key.default_algorithm(), None, good.to_string().as_bytes());
        Reply::bytes(signed.expect("a token"))
    };
    let foreign = SigningKey::generate(KeyKind::P256, "k".to_owned()).expect("a key");
    let other_kind = SigningKey::generate(KeyKind::P384, "k".to_owned()).expect("a key");
    // The issuer of the user's token does not speak for that of the claims.
    for (reply, want) in [
        (sign(&foreign), "failed to verify signature: failed to verify id token signature"),
        (sign(&world.issuer.key()), "failed to verify signature: failed to verify id token signature"),
        (sign(&other_kind), r#"oidc: id token signed with unsupported algorithm, expected ["ES256"] got "ES384""#),
        (
            Reply::bytes(format!(".{}.", good_payload(&world.claims, &good))),
            r#"oidc: id token signed with unsupported algorithm, expected ["ES256"] got """#,
        ),
    ] {
        world.claims.reply(ENDPOINT, reply);
        assert_eq!(world.ask(&token).await, format!("verify distributed claim token: {want}"));
    }
    // An issuer that does not answer for the name that it was asked by is never known.
    let liar = world.claims.url("/liar");
    world.claims.reply(&format!("/liar{DISCOVERY}"), Reply::json(&world.claims.discovery_document()));
    let mut claims = good;
    claims["iss"] = json!(liar);
    world.serve(&claims);
    assert_eq!(world.ask(&token).await, unknown(&liar));
    super::until(|| world.claims.count(&format!("/liar{DISCOVERY}")) > 2).await;
    assert_eq!(world.ask(&token).await, unknown(&liar));
}

/// The middle part of a signed token.
fn good_payload(issuer: &FakeIssuer, claims: &Value) -> String {
    issuer.sign(claims).split('.').nth(1).expect("a payload").to_owned()
}

#[tokio::test]
async fn an_answer_that_is_no_token_is_refused() {
    let world = World::warm().await;
    let token = world.token();
    let endpoint = world.claims.url(ENDPOINT);
    let signed = world.claims.sign(&world.groups(&json!(["a", "b"])));
    let no_issuer = |reason: &str| {
        format!("getting untrusted issuer from endpoint {endpoint} failed for claim \"groups\": {reason}")
    };
    let status = |text: &str| {
        format!("while getting distributed claim \"groups\": error while getting distributed claim JWT: {text}")
    };
    for (reply, want) in [
        (Reply::bytes(signed.clone()).status(201), JANE.to_owned()),
        (Reply::bytes(signed.clone()).status(226), JANE.to_owned()),
        (Reply::bytes(format!(" {signed}\r\n")), JANE.to_owned()),
        (Reply::bytes(signed.clone()).status(227), status("227")),
        (Reply::bytes(signed.clone()).status(401), status("401 Unauthorized")),
        (Reply::bytes("").status(404), status("404 Not Found")),
        (Reply::bytes(signed.clone()).status(302), status("302 Found")),
        (Reply::bytes(signed.clone()).status(304), status("304 Not Modified")),
        (Reply::bytes("").status(500), status("500 Internal Server Error")),
        (Reply::bytes("").status(204), no_issuer("malformed token")),
        (Reply::bytes("<html>"), no_issuer("malformed token")),
        (Reply::json(&json!({ "groups": ["a"] })), no_issuer("token is not compact JWT")),
        (Reply::bytes("a.!.c"), no_issuer("error decoding token: illegal base64 data")),
        (Reply::bytes(b"a.\xff.c".to_vec()), no_issuer("error decoding token: illegal base64 data")),
        (Reply::bytes("a.W10.c"), no_issuer("while unmarshaling token: no JSON object with a text for iss")),
        (Reply::bytes("a.e30.c"), unknown("")),
    ] {
        world.claims.reply(ENDPOINT, reply.clone());
        assert_eq!(world.ask(&token).await, want, "{reply:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_asked_is_named() {
    let stranger = stranger().await;
    let world = World::new().await;
    let get = |endpoint: &str, reason: &str| {
        format!("while getting distributed claim \"groups\": Get {endpoint:?}: {reason}")
    };
    let untrusted = stranger.url(ENDPOINT);
    let long = format!("https://127.0.0.1/{}", "x".repeat(20_000));
    for (endpoint, want) in [
        ("ftp://a/b".to_owned(), get("ftp://a/b", r#"unsupported protocol scheme "ftp""#)),
        (untrusted.clone(), get(&untrusted, "tls: invalid peer certificate: UnknownIssuer")),
        (long.clone(), get(&format!("{}…", &long[..512]), "longer than 16 KiB")),
    ] {
        assert_eq!(world.ask(&world.token_to(&endpoint)).await, want);
    }
    let refused = world.ask(&world.token_to("https://127.0.0.1:1/x")).await;
    assert!(refused.starts_with(&get("https://127.0.0.1:1/x", "cannot connect: ")), "{refused}");
    let url = world.ask(&world.token_to("https://a:b/x")).await;
    assert_eq!(
        url,
        r#"while getting distributed claim "groups": while calling https://a:b/x: parse "https://a:b/x": invalid port ":b" after host"#
    );
    assert_eq!(stranger.requests().len(), 0, "no request got through");
}

#[tokio::test]
async fn tokens_are_refused_until_the_issuer_of_the_claims_comes_up() {
    let mut world = World::new().await;
    // The endpoint is up, the issuer behind it is not.
    let signed = world.claims.sign(&world.groups(&json!(["a", "b"])));
    world.issuer.reply(ENDPOINT, Reply::bytes(signed));
    let token = world.token_to(&world.issuer.url(ENDPOINT));
    world.claims.stop().await;
    for _ in 0..20 {
        assert_eq!(world.ask(&token).await, unknown(world.claims.issuer()));
    }
    world.claims.restart().await;
    assert_eq!(world.ask_known(&token).await, JANE);
}

#[tokio::test]
async fn a_document_elsewhere_serves_the_claims_of_the_issuer_too() {
    let world = World::with(|setup, issuer| {
        issuer.reply("/elsewhere", Reply::json(&issuer.discovery_document()));
        issuer.reply(DISCOVERY, Reply::bytes("").status(500));
        setup.config.discovery_url = Some(issuer.url("/elsewhere"));
    })
    .await;
    let claims = json!({ "iss": world.issuer.issuer(), "aud": "c", "exp": NOW + 1_000, "groups": ["a", "b"] });
    world.issuer.reply(ENDPOINT, Reply::bytes(world.issuer.sign(&claims)));
    assert_eq!(world.ask_known(&world.token_to(&world.issuer.url(ENDPOINT))).await, JANE);
    // For other issuers it does not.
    assert_eq!(world.ask_known(&world.token()).await, JANE);
    assert_eq!((world.issuer.count(DISCOVERY), world.claims.count(DISCOVERY)), (0, 1));
}

#[tokio::test]
async fn what_was_fetched_counts_for_every_later_step() {
    let world = World::with(|setup, _| {
        setup.config.groups = Some(PrefixedClaim { claim: "role".into(), prefix: "p:".into() });
        setup.config.required_claims = vec![("role".into(), "admin".into())];
    })
    .await;
    let mut claims = world.pointing_to(&world.claims.url(ENDPOINT), "s3cret");
    claims["_claim_names"] = json!({ "role": "src" });
    let token = world.issuer.sign(&claims);
    let mut served = world.groups(&json!(["a"]));
    served["role"] = json!("admin");
    world.serve(&served);
    assert_eq!(world.ask_known(&token).await, r#"jane ["p:admin"]"#);
    served["role"] = json!("guest");
    world.serve(&served);
    assert_eq!(world.ask(&token).await, "oidc: required claim role value does not match. Got = guest, want = admin");
}

#[tokio::test]
async fn several_audiences_hold_for_the_endpoints_token_too() {
    let world = World::with(|setup, _| {
        setup.config.audiences = vec!["c".into(), "d".into()];
        setup.config.audience_match_policy = "MatchAny".into();
    })
    .await;
    let mut claims = world.groups(&json!(["a", "b"]));
    claims["aud"] = json!(["d"]);
    world.serve(&claims);
    assert_eq!(world.ask_known(&world.token()).await, JANE);
    claims["aud"] = json!("e");
    world.serve(&claims);
    assert_eq!(
        world.ask(&world.token()).await,
        r#"verify distributed claim token: oidc: expected audience in ["c" "d"] got ["e"]"#
    );
}

#[tokio::test]
async fn a_user_is_not_remembered_beyond_the_end_of_the_groups() {
    let world = World::with(|setup, _| setup.options.cache_bytes = 1 << 20).await;
    let mut claims = world.groups(&json!(["a", "b"]));
    claims["exp"] = json!(NOW + 3);
    world.serve(&claims);
    let token = world.token();
    assert_eq!(world.ask_known(&token).await, JANE);
    let before = world.fetches();
    assert_eq!(world.ask(&token).await, JANE);
    assert_eq!(world.fetches(), before, "remembered");
    world.clock.advance(std::time::Duration::from_secs(4));
    assert!(world.ask(&token).await.contains("token is expired"));
    world.serve(&world.groups(&json!(["c"])));
    assert_eq!(world.ask(&token).await, r#"jane ["p:c"]"#);
}

#[tokio::test]
async fn strict_reads_the_endpoints_token_strictly() {
    for (policy, accepted) in [(Policy::Faithful, true), (Policy::Strict, false)] {
        let world = World::with_claims(|setup, _, claims| {
            setup.options.policy = policy;
            setup.options.distributed_claims = DistributedClaims::FetchFrom(hosts(&[claims]));
        })
        .await;
        assert_eq!(world.ask_known(&world.token()).await, JANE);
        let key = world.claims.key();
        let claims = world.groups(&json!(["a", "b"])).to_string();
        let twice = claims.replacen('{', r#"{"groups":["x"],"#, 1);
        let signed = sign_compact(&key, key.default_algorithm(), None, twice.as_bytes()).expect("a token");
        world.claims.reply(ENDPOINT, Reply::bytes(signed));
        let refused = r#"verify distributed claim token: refused by strict policy: the claim "groups" occurs twice"#;
        assert_eq!(world.ask(&world.token()).await, if accepted { JANE } else { refused });
        // Line breaks around it are the endpoint's way of writing, not another spelling of the user's token.
        let signed = world.claims.sign(&world.groups(&json!(["a", "b"])));
        world.claims.reply(ENDPOINT, Reply::bytes(format!("{signed}\n")));
        assert_eq!(world.ask(&world.token()).await, JANE);
    }
}

/// The hosts of issuers.
fn hosts(issuers: &[&FakeIssuer]) -> ClaimHosts {
    let hosts: Vec<&str> =
        issuers.iter().map(|issuer| issuer.issuer().strip_prefix("https://").expect("https")).collect();
    ClaimHosts::new(hosts).expect("hosts")
}

#[tokio::test]
async fn strict_asks_the_issuers_own_host_and_listed_ones_alone() {
    let out = |url: &str| {
        let why = "it is not https at the issuer's own host or a listed one";
        format!("while getting distributed claim \"groups\": claims are not fetched from {url:?}: {why}")
    };
    // Neither the endpoint nor anybody behind a redirect is asked.
    let world = World::with(|setup, _| setup.options.policy = Policy::Strict).await;
    let endpoint = world.claims.url(ENDPOINT);
    assert_eq!(world.ask(&world.token_to(&format!("{endpoint}?access_token=x"))).await, out(&endpoint));
    world.issuer.reply("/away", Reply::redirect(&endpoint));
    assert_eq!(world.ask(&world.token_to(&world.issuer.url("/away"))).await, out(&endpoint));
    let plain = world.issuer.url("/groups").replacen("https", "http", 1);
    assert_eq!(world.ask(&world.token_to(&plain)).await, out(&plain));
    assert!(world.claims.requests().is_empty());
    // The answer of the issuer's own host names another issuer: its keys are not looked for.
    world.issuer.reply("/groups", Reply::bytes(world.claims.sign(&world.groups(&json!(["a", "b"])))));
    let refused = world.ask(&world.token_to(&world.issuer.url("/groups"))).await;
    assert!(
        refused.starts_with("keys are not fetched from the issuer") && refused.contains(world.claims.issuer()),
        "{refused}"
    );
    assert!(world.claims.requests().is_empty());
    // All of it at the issuer's own host.
    let mut own = world.groups(&json!(["a", "b"]));
    own["iss"] = json!(world.issuer.issuer());
    world.issuer.reply("/groups", Reply::bytes(world.issuer.sign(&own)));
    assert_eq!(world.ask_known(&world.token_to(&world.issuer.url("/groups"))).await, JANE);

    // A list holds under the faithful policy too, and does not hold for those that it does not name.
    let listed = World::with_claims(|setup, _, claims| {
        setup.options.distributed_claims = DistributedClaims::FetchFrom(hosts(&[claims]));
    })
    .await;
    assert_eq!(listed.ask_known(&listed.token()).await, JANE);
    assert_eq!(listed.ask(&listed.token_to(&endpoint)).await, out(&endpoint));
}

#[tokio::test]
async fn who_must_not_be_sent_to_other_hosts_refuses_instead() {
    let world = World::with(|setup, _| setup.options.distributed_claims = DistributedClaims::Refuse).await;
    let endpoint = world.claims.url(ENDPOINT);
    let want = format!(
        "while getting distributed claim \"groups\": this authenticator does not fetch claims from {endpoint:?}"
    );
    assert_eq!(world.ask(&world.token_to(&format!("{endpoint}?access_token=x"))).await, want);
    let mut direct = world.pointing_to(&endpoint, "s3cret");
    direct["groups"] = json!(["own"]);
    assert_eq!(world.ask(&world.issuer.sign(&direct)).await, r#"jane ["p:own"]"#);

    // With keys given there is no network at all.
    let config = JwtConfig {
        issuer_url: world.issuer.issuer().to_owned(),
        audiences: vec!["c".into()],
        username: PrefixedClaim { claim: "sub".into(), prefix: String::new() },
        groups: Some(PrefixedClaim { claim: "groups".into(), prefix: String::new() }),
        signing_algs: vec!["ES256".into()],
        ..JwtConfig::default()
    };
    let config = config.validate("", &[]).expect("a valid configuration");
    let keys = JwkSet::from_keys(vec![world.issuer.key().public().clone()]);
    let authenticator = Authenticator::with_static_keys([(config, keys)], Options::new(Clock::mock(NOW).0));
    let verdict = authenticator.authenticate(&world.token()).await;
    let refusal = verdict.refusal().expect("refused").to_string();
    assert_eq!(refusal, format!("{}{want}", super::PREFIX));
    assert_eq!(world.claims.requests().len(), 0, "nobody was asked");
}
