//! The flow from request to code, and everything that can go wrong on the way.

use super::*;

#[tokio::test]
async fn the_whole_flow_gives_the_tokens_that_were_asked_for() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let reply = browser.sign_in("kubernetes", "openid email groups profile offline_access federated:id", &[]).await;
    assert_eq!(reply.status(), 303);
    assert!(location(&reply).starts_with("http://localhost:8000?code="), "{}", location(&reply));
    let query = query_of(&reply);
    assert_eq!((query.get("state"), query.get("iss")), ("the-state", "https://dex.example/dex"));
    assert!(browser.flows().is_empty(), "the flow's cookie is gone");
    assert_eq!(browser.cookies.len(), 1, "what stays is the device cookie: {:?}", browser.cookies);
    assert_eq!(reply.headers()["cache-control"], "no-store");

    let reply = world
        .post(
            "/token",
            &[("grant_type", "authorization_code"), ("code", query.get("code")), ("redirect_uri", CALLBACK)],
            &[("authorization", "Basic a3ViZXJuZXRlczpkZW1vLXNlY3JldA==")],
        )
        .await;
    assert_eq!(
        (&reply.headers()["cache-control"], &reply.headers()["pragma"]),
        (&HeaderValue::from_static("no-store"), &HeaderValue::from_static("no-cache"))
    );
    let (status, tokens) = json(&reply);
    assert_eq!(status, 200, "{tokens}");
    let members: Vec<&String> = tokens.as_object().unwrap().keys().collect();
    assert_eq!(members, ["access_token", "token_type", "expires_in", "refresh_token", "id_token"]);
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&"bearer".into(), &86_400.into()));

    let id = claims(&tokens["id_token"]);
    let members: Vec<&String> = id.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        [
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "jti",
            "nonce",
            "at_hash",
            "c_hash",
            "email",
            "email_verified",
            "groups",
            "name",
            "preferred_username",
            "federated_claims"
        ]
    );
    assert_eq!(id["sub"], "CiQwOGE4Njg0Yi1kYjg4LTRiNzMtOTBhOS0zY2QxNjYxZjU0NjYSBWxvY2Fs");
    assert_eq!(id["aud"], "kubernetes");
    assert_eq!(id["exp"].as_i64().unwrap() - id["iat"].as_i64().unwrap(), 86_400);
    assert_eq!((id["iat"].as_i64(), id["auth_time"].as_i64()), (Some(NOW), Some(NOW)));
    assert_eq!(
        (&id["nonce"], &id["email"], &id["email_verified"]),
        (&"the-nonce".into(), &"Jane@example.com".into(), &true.into())
    );
    assert_eq!(id["groups"], serde_json::json!(["admins", "devs"]));
    assert_eq!((&id["name"], &id["preferred_username"]), (&"Jane Doe".into(), &"jd".into()));
    assert_eq!(
        id["federated_claims"],
        serde_json::json!({"connector_id": "local", "user_id": "08a8684b-db88-4b73-90a9-3cd1661f5466"})
    );
    let half = |value: &str| portcullis_jose::half_hash(portcullis_jose::Algorithm::Es256, value);
    assert_eq!(id["at_hash"], half(tokens["access_token"].as_str().unwrap()));
    assert_eq!(id["c_hash"], half(query.get("code")));
    let access = claims(&tokens["access_token"]);
    assert!(access["c_hash"].is_null() && access["jti"] != id["jti"] && access["at_hash"] != id["at_hash"]);

    let jws = tokens["id_token"].as_str().unwrap();
    let header: Value =
        serde_json::from_slice(&portcullis_jose::base64url_decode(jws.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header.as_object().unwrap().keys().collect::<Vec<_>>(), ["alg", "kid"]);
    assert!(world.provider.app().signer.ring().verify(jws).is_ok());
}

#[tokio::test]
async fn only_what_was_asked_for_is_in_the_token() {
    let world = World::new("").await;
    let (_, tokens) = world.redeem(&world.code("kubernetes", "openid", &[("nonce", "")]).await).await;
    let members: Vec<String> = claims(&tokens["id_token"]).as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["iss", "sub", "aud", "exp", "iat", "auth_time", "jti", "at_hash", "c_hash"]);
    assert!(tokens.get("refresh_token").is_none());
}

#[tokio::test]
async fn audiences_of_other_clients_come_first_and_name_the_asker() {
    let world = World::new("").await;
    let (_, tokens) =
        world.redeem(&world.code("kubernetes", "openid audience:server:client_id:other", &[]).await).await;
    let claims = claims(&tokens["id_token"]);
    assert_eq!((&claims["aud"], &claims["azp"]), (&serde_json::json!(["other", "kubernetes"]), &"kubernetes".into()));
}

#[tokio::test]
async fn consent_is_asked_unless_skipped_and_not_forced() {
    let scope = "openid email groups offline_access profile";
    for (more, extra, asks) in [
        ("", &[][..], true),
        ("oauth2: {skipApprovalScreen: true}", &[], false),
        ("oauth2: {skipApprovalScreen: true}", &[("approval_prompt", "force")], true),
        ("oauth2: {skipApprovalScreen: true}", &[("prompt", "consent")], true),
        ("oauth2: {skipApprovalScreen: true}", &[("prompt", "login")], false),
    ] {
        let world = World::new(more).await;
        let mut browser = world.browser();
        let url = browser.start("kubernetes", scope, extra).await;
        let reply = browser.log_in(&url, "JANE@example.com", "password").await;
        let next = browser.get(&location(&reply)).await;
        assert_eq!(location(&next).starts_with("/dex/approval?"), asks, "{more} {extra:?}");
        if asks {
            let text = page(&browser.get(&location(&next)).await);
            for part in [
                "<strong>Kubernetes</strong>",
                "Jane@example.com",
                "View your email address",
                "View your groups",
                "Have offline access",
                "View basic profile information",
                "value=\"approve\"",
                "value=\"rejected\"",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(text.find("value=\"approve\"") < text.find("value=\"rejected\""), "the first button grants");
        }
    }
}

#[tokio::test]
async fn a_refusal_ends_the_flow_with_dexs_page() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    let reply = browser.get(&location(&reply)).await;
    let approval = location(&reply);
    let form = browser.get(&approval).await;
    let kept = browser.cookies.clone();
    let reply = browser.post(&approval, &[("req", &hidden(&form, "req")), ("approval", "rejected")]).await;
    assert_eq!(reply.status(), 500);
    assert!(page(&reply).contains("Approval rejected.") && browser.flows().is_empty());
    browser.cookies = kept;
    let reply = browser.post(&approval, &[("approval", "approve")]).await;
    assert_eq!((reply.status().as_u16(), page(&reply).contains("User session error.")), (400, true), "no way back");
}

#[tokio::test]
async fn an_approval_counts_once() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    let reply = browser.get(&location(&reply)).await;
    let approval = location(&reply);
    let kept = browser.cookies.clone();
    assert_eq!(browser.post(&approval, &[("approval", "approve")]).await.status(), 303);
    // A replay of everything the browser had.
    for again in [&approval, &url, &location(&reply)] {
        browser.cookies = kept.clone();
        let reply = browser.post(again, &[("approval", "approve")]).await;
        assert_ne!(reply.status(), 303, "{again}");
    }
    browser.cookies = kept.clone();
    let reply = browser.post(&approval, &[("approval", "approve")]).await;
    assert_eq!(reply.status(), 400);
    assert!(page(&reply).contains("User session error.") && !page(&reply).contains("Database error."));
    browser.cookies.clear();
    assert_eq!(browser.get(&approval).await.status(), 400, "the back button meets a page, not a code");
}

#[tokio::test]
async fn a_step_needs_the_code_that_this_browser_was_given_for_it() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    let go_on = location(&reply);
    let (approval_hmac, continue_hmac, req) = {
        let next = browser.get(&go_on).await;
        let first = query_of(&reply);
        (query_of(&next).get("hmac").to_owned(), first.get("hmac").to_owned(), first.get("req").to_owned())
    };
    for (path, hmac, status) in [
        ("/dex/approval", "", 401),
        ("/dex/approval", continue_hmac.as_str(), 401),
        ("/dex/approval", "x", 401),
        ("/dex/auth", "", 401),
        ("/dex/auth", approval_hmac.as_str(), 401),
    ] {
        let reply = browser.get(&format!("{path}?req={req}&hmac={hmac}")).await;
        assert_eq!(reply.status().as_u16(), status, "{path} {hmac}");
        assert!(page(&reply).contains("Unauthorized request"));
    }
    for req in ["", "unknown", "aaaaaaaaaaaaaaaaaaaaaaaaa"] {
        for reply in [
            browser.get(&format!("/dex/approval?req={req}&hmac={approval_hmac}")).await,
            browser.post(&format!("/dex/approval?req={req}&hmac={approval_hmac}"), &[]).await,
        ] {
            assert_eq!((reply.status().as_u16(), page(&reply).contains("User session error.")), (400, true), "{req}");
        }
    }
}

#[tokio::test]
async fn another_browser_cannot_take_a_flow_over() {
    // CVE-2022-39222: whoever knew the URL of the consent page could fetch another person's code.
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let mut victim = world.browser();
    let url = victim.start("kubernetes", "openid", &[]).await;
    let reply = victim.log_in(&url, "jane@example.com", "password").await;
    let go_on = location(&reply);
    let mut attacker = world.browser();
    for location in [&go_on, &url] {
        let reply = attacker.get(location).await;
        assert_eq!((reply.status().as_u16(), page(&reply).contains("User session error.")), (400, true));
    }
    // Nor with a cookie of a flow of its own under the victim's name.
    let own = attacker.start("kubernetes", "openid", &[]).await;
    assert_ne!(own, url);
    let value = attacker.cookies.values().next().unwrap().clone();
    let name = victim.flows()[0].clone();
    attacker.cookies.insert(name, value);
    assert_eq!(attacker.get(&go_on).await.status(), 400);
    assert_eq!(victim.get(&go_on).await.status(), 303, "the victim's own flow goes on");
}

#[tokio::test]
async fn a_flow_ends_after_fifteen_minutes() {
    for (at, expired) in [(899, false), (900, true), (100_000, true)] {
        let world = World::new("").await;
        let mut browser = world.browser();
        let url = browser.start("kubernetes", "openid", &[]).await;
        world.clock.advance(Duration::from_secs(at));
        let reply = browser.get(&url).await;
        assert_eq!(reply.status().as_u16(), if expired { 400 } else { 200 }, "{at}");
        assert_eq!(page(&reply).contains("User session has expired."), expired);
    }
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    world.clock.advance(Duration::from_secs(900));
    let reply = browser.get(&location(&reply)).await;
    assert!(page(&reply).contains("User session has expired."));
}

#[tokio::test]
async fn after_the_back_button_one_can_sign_in_again_as_somebody_else() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid email", &[]).await;
    assert_eq!(browser.log_in(&url, "jane@example.com", "password").await.status(), 303);
    let reply = browser.log_in(&url, "joe@example.com", "password").await;
    assert_eq!(reply.status(), 303, "{}", page(&reply));
    assert_eq!(browser.flows().len(), 1);
    let reply = browser.finish(reply).await;
    let (_, tokens) = world.redeem(query_of(&reply).get("code")).await;
    let claims = claims(&tokens["id_token"]);
    assert_eq!((&claims["email"], &claims["email_verified"]), (&"joe@example.com".into(), &false.into()));
}

#[tokio::test]
async fn two_tabs_do_not_disturb_each_other() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let first = browser.start("kubernetes", "openid", &[("state", "one")]).await;
    let second = browser.start("kubernetes", "openid", &[("state", "two")]).await;
    assert_eq!(browser.cookies.len(), 2);
    let reply = browser.log_in(&second, "joe@example.com", "password").await;
    assert_eq!(query_of(&browser.finish(reply).await).get("state"), "two");
    let reply = browser.log_in(&first, "jane@example.com", "password").await;
    assert_eq!(query_of(&browser.finish(reply).await).get("state"), "one");
    assert!(browser.flows().is_empty());
}

#[tokio::test]
async fn a_code_that_cannot_be_redirected_is_shown() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let mut browser = world.browser();
    let reply = browser.sign_in("cli", "openid", &[("redirect_uri", "urn:ietf:wg:oauth:2.0:oob")]).await;
    assert_eq!(reply.status(), 200);
    let text = page(&reply);
    let code = text.split("readonly value=\"").nth(1).unwrap().split('"').next().unwrap();
    let (status, _) = world
        .token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", "urn:ietf:wg:oauth:2.0:oob"),
            ("client_id", "cli"),
        ])
        .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn what_the_redirect_uri_already_says_stays() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let mut browser = world.browser();
    let reply = browser.sign_in("kubernetes", "openid", &[("redirect_uri", "https://app.example/cb?keep=1")]).await;
    assert!(location(&reply).starts_with("https://app.example/cb?keep=1&code="), "{}", location(&reply));
}

#[tokio::test]
async fn stored_clients_and_users_work_like_those_of_the_file() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let store = &world.provider.app().store;
    let client = portcullis_storage::Client {
        id: "stored".into(),
        secret: "s".into(),
        name: "Stored".into(),
        redirect_uris: vec![CALLBACK.into()],
        ..Default::default()
    };
    store.clients().create(&client).await.unwrap();
    let user = portcullis_storage::Password {
        email: "New@Example.com".into(),
        hash: HASH.into(),
        username: "newbie".into(),
        user_id: "u9".into(),
        ..Default::default()
    };
    store.passwords().create(&user).await.unwrap();
    let mut browser = world.browser();
    let url = browser.start("stored", "openid profile email", &[]).await;
    let reply = browser.log_in(&url, "new@example.COM", "password").await;
    let reply = browser.finish(reply).await;
    let (status, tokens) = world
        .token(&[
            ("grant_type", "authorization_code"),
            ("code", query_of(&reply).get("code")),
            ("redirect_uri", CALLBACK),
            ("client_id", "stored"),
            ("client_secret", "s"),
        ])
        .await;
    let claims = claims(&tokens["id_token"]);
    assert_eq!(
        (status, &claims["name"], &claims["email"], &claims["email_verified"]),
        (200, &"newbie".into(), &"New@Example.com".into(), &true.into())
    );
}

/// A stored client with one redirect URI, and a sign-in of Jane's up to her consent: the URLs of the dispatcher and of the
/// consent page.
async fn up_to_consent(world: &World) -> (Browser<'_>, String, String) {
    let client = portcullis_storage::Client {
        id: "stored".into(),
        secret: "s".into(),
        name: "Stored".into(),
        redirect_uris: vec!["https://old.example/cb".into()],
        ..Default::default()
    };
    world.provider.app().store.clients().create(&client).await.unwrap();
    let mut browser = world.browser();
    let url = browser.start("stored", "openid", &[("redirect_uri", "https://old.example/cb")]).await;
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    let go_on = location(&reply);
    let approval = location(&browser.get(&go_on).await);
    (browser, go_on, approval)
}

async fn set_uris(world: &World, uris: &[&str]) {
    let uris: Vec<String> = uris.iter().map(|u| (*u).to_owned()).collect();
    let clients = world.provider.app().store.clients();
    clients.update("stored", |client| client.redirect_uris.clone_from(&uris)).await.unwrap();
}

#[tokio::test]
async fn a_withdrawn_redirect_uri_gets_no_code() {
    let world = World::new("").await;
    let (mut browser, go_on, approval) = up_to_consent(&world).await;
    set_uris(&world, &["https://new.example/cb"]).await;
    let reply = browser.post(&approval, &[("approval", "approve")]).await;
    assert_eq!(reply.status(), 400);
    assert!(page(&reply).contains("Unregistered redirect_uri.") && !reply.headers().contains_key("location"));
    // Nothing is lost if it was a mistake: consent, which led nowhere, is asked for once more.
    set_uris(&world, &["https://old.example/cb"]).await;
    let reply = browser.get(&go_on).await;
    assert_eq!(location(&reply), approval);
    let reply = browser.post(&approval, &[("approval", "approve")]).await;
    assert!(location(&reply).starts_with("https://old.example/cb?code="), "{}", location(&reply));
}

#[tokio::test]
async fn a_client_that_is_gone_gets_no_code() {
    let world = World::new("").await;
    let (mut browser, _, approval) = up_to_consent(&world).await;
    world.provider.app().store.clients().delete("stored").await.unwrap();
    let reply = browser.post(&approval, &[("approval", "approve")]).await;
    assert_eq!((reply.status().as_u16(), page(&reply).contains("Invalid client_id.")), (400, true));
}

#[tokio::test]
async fn a_code_of_a_withdrawn_redirect_uri_gives_nothing() {
    let world = World::new("").await;
    let (mut browser, _, approval) = up_to_consent(&world).await;
    let reply = browser.post(&approval, &[("approval", "approve")]).await;
    let query = query_of(&reply);
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", query.get("code")),
        ("redirect_uri", "https://old.example/cb"),
        ("client_id", "stored"),
        ("client_secret", "s"),
    ];
    set_uris(&world, &["https://new.example/cb"]).await;
    let (status, body) = world.token(&fields).await;
    assert_eq!((status, &body["error"]), (400, &"invalid_grant".into()), "{body}");
    set_uris(&world, &["https://new.example/cb", "https://old.example/cb"]).await;
    assert_eq!(world.token(&fields).await.0, 200, "the code was not spent");
}
