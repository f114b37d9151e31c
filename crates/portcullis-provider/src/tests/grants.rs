//! `/token` (dex.md 3 and rows 67–106 of section 8).

use super::*;

const VERIFIER: &str = "66114650f56cc45dee7ee03c49f048ddf9aa53cbf5b09985832fa4f790ff2604";
const CHALLENGE: &str = "L7ZqsT_zNwvrH8E7J0CqPHx1wgBaFiaE-fAZcKUUAbc";

fn error(code: &str, description: &str) -> Value {
    if description.is_empty() {
        serde_json::json!({"error": code})
    } else {
        serde_json::json!({"error": code, "error_description": description})
    }
}

#[tokio::test]
async fn clients_prove_themselves_by_basic_or_form() {
    let world = World::new("").await;
    let invalid = (401, error("invalid_client", "Invalid client credentials."));
    let basic =
        |pair: &str| format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair));
    for (fields, header, good) in [
        (&[("client_id", "kubernetes"), ("client_secret", "demo-secret")][..], None, true),
        (&[], Some("kubernetes:demo-secret"), true),
        (&[("client_id", "kubernetes")], Some("kubernetes:demo-secret"), true),
        (&[("client_id", "cli")], None, true),
        (&[], Some("cli:"), true),
        (&[("client_id", "kubernetes"), ("client_secret", "wrong")], None, false),
        (&[("client_id", "kubernetes")], None, false),
        (&[("client_id", "cli"), ("client_secret", "x")], None, false),
        (&[("client_id", "nobody"), ("client_secret", "demo-secret")], None, false),
        (&[], None, false),
        (&[("client_id", "kubernetes"), ("client_secret", "demo-secret")], Some("kubernetes:wrong"), false),
    ] {
        let mut form = vec![("grant_type", "authorization_code")];
        form.extend_from_slice(fields);
        let header = header.map(basic);
        let headers: Vec<(&str, &str)> = header.iter().map(|h| ("authorization", h.as_str())).collect();
        let reply = world.post("/token", &form, &headers).await;
        assert!(!reply.headers().contains_key("www-authenticate"));
        if good {
            assert_eq!(json(&reply), (400, error("invalid_request", "Required param: code.")), "{fields:?}");
        } else {
            assert_eq!(json(&reply), invalid, "{fields:?}");
        }
    }
    // A stored client that is not public and has no secret can never prove itself.
    let empty = portcullis_storage::Client { id: "empty".into(), ..Default::default() };
    world.provider.app().store.clients().create(&empty).await.unwrap();
    assert_eq!(world.token(&[("grant_type", "refresh_token"), ("client_id", "empty")]).await, invalid);
}

#[tokio::test]
async fn what_is_no_token_request_is_refused() {
    let world = World::new("").await;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let reply = world.send(method.clone(), "/token", "", &[], String::new()).await;
        assert_eq!(json(&reply), (400, error("invalid_request", "method not allowed")), "{method}");
    }
    for grant in ["", "nope", "password", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"] {
        assert_eq!(
            world.token(&[("grant_type", grant), ("client_id", "kubernetes"), ("client_secret", "demo-secret")]).await,
            (400, error("unsupported_grant_type", "")),
            "{grant}"
        );
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let twice =
        world.send(Method::POST, "/token", "", &form, "grant_type=refresh_token&grant_type=password".to_owned()).await;
    assert_eq!(json(&twice), (400, error("invalid_request", "The parameter \"grant_type\" is given more than once.")));
    let reply = world
        .send(
            Method::POST,
            "/token",
            "grant_type=refresh_token",
            &[("content-type", "application/json")],
            "{}".to_owned(),
        )
        .await;
    assert_eq!(json(&reply), (400, error("unsupported_grant_type", "")), "neither query nor JSON count");
}

#[tokio::test]
async fn codes_are_redeemed_once_and_only_by_whom_they_are_for() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let gone = || (400, error("invalid_grant", "Invalid or expired code parameter."));
    assert_eq!(world.redeem("").await, (400, error("invalid_request", "Required param: code.")));
    assert_eq!(world.redeem("nope").await, gone());
    assert_eq!(world.redeem(&"x".repeat(50_000)).await, gone());

    let code = world.code("kubernetes", "openid offline_access", &[]).await;
    let other = world
        .token(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", CALLBACK),
            ("client_id", "other"),
            ("client_secret", "other-secret"),
        ])
        .await;
    assert_eq!(other, gone());
    for uri in ["", "http://localhost:8000/", "https://app.example/cb?keep=1"] {
        let (status, body) = world
            .token(&[
                ("grant_type", "authorization_code"),
                ("code", &code),
                ("redirect_uri", uri),
                ("client_id", "kubernetes"),
                ("client_secret", "demo-secret"),
            ])
            .await;
        assert_eq!(
            (status, body),
            (400, error("invalid_request", "redirect_uri did not match URI from initial request.")),
            "{uri}"
        );
    }
    let (status, tokens) = world.redeem(&code).await;
    assert_eq!(status, 200, "the failed attempts left the code usable");
    let refresh = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(world.redeem(&code).await, gone());
    assert_eq!(world.refresh(refresh).await.0, 400, "a replay ends what the code had given");

    let code = world.code("kubernetes", "openid", &[]).await;
    world.clock.advance(Duration::from_secs(1800));
    assert_eq!(world.redeem(&code).await, gone());
}

#[tokio::test]
async fn pkce_is_checked_in_every_combination() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let s256 = &[("code_challenge", CHALLENGE), ("code_challenge_method", "S256")][..];
    let plain = &[("code_challenge", VERIFIER), ("code_challenge_method", "plain")][..];
    let implied = &[("code_challenge", VERIFIER)][..];
    let none = &[][..];
    let wrong = Some(("invalid_grant", "Invalid code_verifier."));
    for (challenge, verifier, want) in [
        (s256, VERIFIER, None),
        (plain, VERIFIER, None),
        (implied, VERIFIER, None),
        (none, "", None),
        (s256, "wrong", wrong),
        (s256, CHALLENGE, wrong),
        (plain, "wrong", wrong),
        (plain, CHALLENGE, wrong),
        (s256, "", Some(("invalid_grant", "Expecting parameter code_verifier in PKCE flow."))),
        (plain, "", Some(("invalid_grant", "Expecting parameter code_verifier in PKCE flow."))),
        (none, VERIFIER, Some(("invalid_request", "No PKCE flow started. Cannot check code_verifier."))),
    ] {
        let code = world.code("kubernetes", "openid", challenge).await;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", CALLBACK),
            ("client_id", "kubernetes"),
            ("client_secret", "demo-secret"),
        ];
        if !verifier.is_empty() {
            fields.push(("code_verifier", verifier));
        }
        let (status, body) = world.token(&fields).await;
        match want {
            None => assert_eq!(status, 200, "{challenge:?} {verifier}: {body}"),
            Some((code, description)) => {
                assert_eq!((status, body), (400, error(code, description)), "{challenge:?} {verifier}")
            }
        }
    }
}

#[tokio::test]
async fn a_refresh_gives_new_tokens_and_the_old_one_ends_everything_after_the_grace() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let invalid =
        || (400, error("invalid_request", "Refresh token is invalid or has already been claimed by another client."));
    let first = world.offline().await;
    world.clock.advance(Duration::from_secs(100));
    let (status, tokens) = world.refresh(&first).await;
    assert_eq!(status, 200, "{tokens}");
    let second = tokens["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    let claims = claims(&tokens["id_token"]);
    assert_eq!(
        (claims["iat"].as_i64(), &claims["nonce"], &claims["email"]),
        (Some(NOW + 100), &"the-nonce".into(), &"Jane@example.com".into())
    );
    assert!(claims["auth_time"].is_null() && claims["c_hash"].is_null() && !claims["at_hash"].is_null());

    // A reply was lost: the previous token gives the current one again, for thirty seconds.
    world.clock.advance(Duration::from_secs(30));
    let (status, again) = world.refresh(&first).await;
    assert_eq!((status, again["refresh_token"].as_str().unwrap()), (200, second.as_str()));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.refresh(&first).await, invalid(), "reuse after the grace");
    assert_eq!(world.refresh(&second).await, invalid(), "ends the thief's and the victim's tokens");
}

#[tokio::test]
async fn a_second_machine_never_logs_the_first_one_out() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let laptop = world.offline().await;
    let desktop = world.offline().await;
    assert_eq!(world.refresh(&laptop).await.0, 200);
    assert_eq!(world.refresh(&desktop).await.0, 200);
}

#[tokio::test]
async fn refresh_requests_are_checked() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let invalid = error("invalid_request", "Refresh token is invalid or has already been claimed by another client.");
    assert_eq!(world.refresh("").await, (400, error("invalid_request", "No refresh token is found in request.")));
    for bad in ["x", "!!!", "Cg", &"A".repeat(60_000)] {
        assert_eq!(world.refresh(bad).await, (400, invalid.clone()), "{}", bad.len());
    }
    let token = world.offline().await;
    let as_other = world
        .token(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &token),
            ("client_id", "other"),
            ("client_secret", "other-secret"),
        ])
        .await;
    assert_eq!(as_other, (400, error("invalid_grant", invalid["error_description"].as_str().unwrap())));

    let with_scope = async |scope: &str| {
        world
            .token(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", &token),
                ("scope", scope),
                ("client_id", "kubernetes"),
                ("client_secret", "demo-secret"),
            ])
            .await
    };
    assert_eq!(
        with_scope("openid groups x").await,
        (400, error("invalid_request", "Requested scopes contain unauthorized scope(s): [\"groups\" \"x\"]."))
    );
    let (status, narrowed) = with_scope(" openid").await;
    assert_eq!((status, claims(&narrowed["id_token"]).get("email")), (200, None));
    let token = narrowed["refresh_token"].as_str().unwrap();
    let (_, full) = world.refresh(token).await;
    assert_eq!(claims(&full["id_token"])["email"], "Jane@example.com", "the stored scopes are unchanged");
}

#[tokio::test]
async fn refresh_tokens_end_as_the_file_says() {
    let expired = (400, error("invalid_request", "Refresh token expired."));
    for (policy, steps, want) in [
        ("{validIfNotUsedFor: 60s}", &[25, 59, 59][..], true),
        ("{validIfNotUsedFor: 60s}", &[25, 3600], false),
        ("{absoluteLifetime: 60s}", &[25, 25], true),
        ("{absoluteLifetime: 60s}", &[25, 25, 25], false),
        ("{validIfNotUsedFor: 0s}", &[400 * 86_400], true),
        ("{}", &[89 * 86_400, 89 * 86_400], true),
        ("{}", &[91 * 86_400], false),
    ] {
        let world =
            World::new(&format!("oauth2: {{skipApprovalScreen: true}}\nexpiry: {{refreshTokens: {policy}}}")).await;
        let mut token = world.offline().await;
        let mut last = (0, Value::Null);
        for step in steps {
            world.clock.advance(Duration::from_secs(*step));
            last = world.refresh(&token).await;
            if let Some(next) = last.1["refresh_token"].as_str() {
                token = next.to_owned();
            }
        }
        if want {
            assert_eq!(last.0, 200, "{policy} {steps:?}: {}", last.1)
        } else {
            assert_eq!(last, expired, "{policy} {steps:?}")
        }
    }
}

#[tokio::test]
async fn rotation_can_be_off_and_reuse_can_be_allowed() {
    let world =
        World::new("oauth2: {skipApprovalScreen: true}\nexpiry: {refreshTokens: {disableRotation: true}}").await;
    let token = world.offline().await;
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(100));
        assert_eq!(world.refresh(&token).await.1["refresh_token"], token.as_str());
    }
    let world = World::new("oauth2: {skipApprovalScreen: true}\nexpiry: {refreshTokens: {reuseInterval: 30s}}").await;
    let first = world.offline().await;
    world.clock.advance(Duration::from_secs(60));
    let second = world.refresh(&first).await.1["refresh_token"].as_str().unwrap().to_owned();
    world.clock.advance(Duration::from_secs(25));
    assert_eq!(
        world.refresh(&first).await.1["refresh_token"],
        second.as_str(),
        "the previous token gives the current one"
    );
    assert_eq!(
        world.refresh(&second).await.1["refresh_token"],
        second.as_str(),
        "within the interval nothing advances"
    );
    let world = World::new("oauth2: {skipApprovalScreen: true}\nexpiry: {refreshTokens: {reuseInterval: 0s}}").await;
    let first = world.offline().await;
    assert_eq!(world.refresh(&first).await.0, 200);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.refresh(&first).await.0, 400, "the file asks for no reuse at all");
}

#[tokio::test]
async fn trust_that_was_withdrawn_gives_no_more_tokens_for_the_peer() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let clients = world.provider.app().store.clients();
    let peer = portcullis_storage::Client {
        id: "peer".into(),
        name: "Peer".into(),
        trusted_peers: vec!["kubernetes".into()],
        ..Default::default()
    };
    clients.create(&peer).await.unwrap();
    let scope = "openid offline_access audience:server:client_id:peer";
    let waiting = world.code("kubernetes", scope, &[]).await;
    let (status, tokens) = world.redeem(&world.code("kubernetes", scope, &[]).await).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!(claims(&tokens["id_token"])["aud"], serde_json::json!(["peer", "kubernetes"]));
    let (status, tokens) = world.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(status, 200, "{tokens}");

    clients.update("peer", |peer| peer.trusted_peers.clear()).await.unwrap();
    let refused = (400, error("invalid_scope", "Client can't request scope(s) [\"audience:server:client_id:peer\"]"));
    let refresh_token = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(world.refresh(refresh_token).await, refused);
    assert_eq!(world.redeem(&waiting).await, refused);
    // Nothing was spent: with the trust back, both still count.
    clients.update("peer", |peer| peer.trusted_peers = vec!["kubernetes".into()]).await.unwrap();
    assert_eq!(world.refresh(refresh_token).await.0, 200);
    assert_eq!(world.redeem(&waiting).await.0, 200);
}

#[tokio::test]
async fn changes_of_the_user_show_at_the_next_refresh() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let store = &world.provider.app().store;
    let user = portcullis_storage::Password {
        email: "new@example.com".into(),
        hash: HASH.into(),
        username: "old".into(),
        user_id: "u9".into(),
        groups: vec!["a".into()],
        ..Default::default()
    };
    store.passwords().create(&user).await.unwrap();
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid profile groups email offline_access", &[]).await;
    let reply = browser.log_in(&url, "new@example.com", "password").await;
    let (_, tokens) = world.redeem(query_of(&browser.finish(reply).await).get("code")).await;
    store
        .passwords()
        .update("new@example.com", |p| {
            p.name = "New Name".into();
            p.groups = vec!["b".into()];
            p.email_verified = Some(false);
        })
        .await
        .unwrap();
    let (_, tokens) = world.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    let fresh = claims(&tokens["id_token"]);
    assert_eq!(
        (&fresh["name"], &fresh["groups"], &fresh["email_verified"]),
        (&"New Name".into(), &serde_json::json!(["b"]), &false.into())
    );
    // Another user has the address now.
    store.passwords().update("new@example.com", |p| p.user_id = "u10".into()).await.unwrap();
    let gone = (500, error("invalid_request", ""));
    assert_eq!(world.refresh(tokens["refresh_token"].as_str().unwrap()).await, gone);
    store.passwords().delete("new@example.com").await.unwrap();
    assert_eq!(world.refresh(tokens["refresh_token"].as_str().unwrap()).await, gone);
}

#[tokio::test]
async fn the_password_grant_is_off_unless_asked_for() {
    let ask = async |world: &World, changes: &[(&str, &str)]| {
        let mut fields = vec![
            ("grant_type", "password"),
            ("scope", "openid email"),
            ("username", "jane@example.com"),
            ("password", "password"),
            ("client_id", "kubernetes"),
            ("client_secret", "demo-secret"),
        ];
        for change in changes {
            fields.retain(|(n, _)| *n != change.0);
            fields.push(*change);
        }
        world.token(&fields).await
    };
    assert_eq!(ask(&World::new("").await, &[]).await, (400, error("unsupported_grant_type", "")));
    let world = World::new("oauth2: {passwordConnector: local}").await;
    let (status, tokens) = ask(&world, &[("nonce", "n1")]).await;
    let token_claims = claims(&tokens["id_token"]);
    assert_eq!(
        (status, &token_claims["nonce"], &token_claims["email"]),
        (200, &"n1".into(), &"Jane@example.com".into())
    );
    assert!(
        token_claims["auth_time"].is_null()
            && token_claims["c_hash"].is_null()
            && !token_claims["at_hash"].is_null()
            && tokens["refresh_token"].is_null()
    );
    let (_, tokens) = ask(&world, &[("scope", "openid offline_access")]).await;
    assert_eq!(world.refresh(tokens["refresh_token"].as_str().unwrap()).await.0, 200);
    for (changes, status, body) in [
        (&[("password", "wrong")][..], 401, error("access_denied", "Invalid username or password")),
        (&[("username", "nobody@example.com")], 401, error("access_denied", "Invalid username or password")),
        (&[("username", "")], 401, error("access_denied", "Invalid username or password")),
        (&[("scope", "email")], 400, error("invalid_request", "Missing required scope(s) [\"openid\"].")),
        (&[("scope", "openid x")], 400, error("invalid_request", "Unrecognized scope(s) [\"x\"]")),
        (
            &[("client_id", "restricted"), ("client_secret", "r")],
            400,
            error("invalid_grant", "Connector not allowed for this client."),
        ),
    ] {
        assert_eq!(ask(&world, changes).await, (status, body), "{changes:?}");
    }
}

#[tokio::test]
async fn without_the_refresh_grant_there_is_no_refresh_token() {
    let world = World::new("oauth2: {grantTypes: [authorization_code], skipApprovalScreen: true}").await;
    let (status, tokens) = world.redeem(&world.code("kubernetes", "openid offline_access", &[]).await).await;
    assert_eq!((status, tokens.get("refresh_token")), (200, None));
}

#[tokio::test]
async fn lifetimes_are_those_of_the_file() {
    let world = World::new("oauth2: {skipApprovalScreen: true}\nexpiry: {idToken: 8h}").await;
    let (_, tokens) = world.redeem(&world.code("kubernetes", "openid", &[]).await).await;
    let claims = claims(&tokens["id_token"]);
    assert_eq!(
        (&tokens["expires_in"], claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()),
        (&28_800.into(), 28_800)
    );
}
