//! Checks of authorization requests (dex.md 2.3 and rows 25–52 of section 8).

use super::*;

/// The answer of `/auth/local` to the usual request with changes; an empty value removes a parameter.
async fn ask(world: &World, changes: &[(&str, &str)]) -> Reply {
    let mut pairs: Vec<(&str, &str)> = vec![
        ("client_id", "kubernetes"),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("scope", "openid"),
        ("state", "s t"),
        ("nonce", "n"),
    ];
    for (name, value) in changes {
        pairs.retain(|(n, _)| n != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    world.get(&format!("/auth/local?{}", encode_pairs(&pairs)), &[]).await
}

#[tokio::test]
async fn what_cannot_be_trusted_is_a_page_and_never_a_redirect() {
    let world = World::new("").await;
    for (changes, status, message) in [
        (&[("client_id", "nope")][..], 404, "Invalid client_id."),
        (&[("client_id", "")], 404, "Invalid client_id."),
        (&[("redirect_uri", "")], 400, "Unregistered redirect_uri."),
        (&[("redirect_uri", "https://evil.example/")], 400, "Unregistered redirect_uri."),
        (&[("redirect_uri", "http://localhost:8000/")], 400, "Unregistered redirect_uri."),
        (&[("redirect_uri", "urn:ietf:wg:oauth:2.0:oob")], 400, "Unregistered redirect_uri."),
        (&[("client_id", "cli"), ("redirect_uri", "http://foo.com/bar")], 400, "Unregistered redirect_uri."),
        (&[("client_id", "restricted")], 403, "Connector not allowed for this client."),
        (&[("state", &"x".repeat(20_000))], 400, "Invalid request. Please try again."),
    ] {
        let reply = ask(&world, changes).await;
        assert_eq!(reply.status().as_u16(), status, "{changes:?}");
        assert!(
            page(&reply).contains(message) && reply.headers().get("location").is_none(),
            "{changes:?}: {}",
            page(&reply)
        );
        assert!(crate::authflow::cookies_of(&reply).is_empty());
    }
    for (url, status, message) in [
        ("/auth?client_id=nope", 400, "Invalid client_id provided."),
        ("/auth?client_id=restricted", 400, "No connectors available for this client."),
        ("/auth?client_id=kubernetes&connector_id=ldap", 400, "Connector ID does not match a valid Connector"),
        ("/auth?client_id=a&client_id=b", 400, "The parameter &#34;client_id&#34; is given more than once."),
        ("/auth/local?state=%zz", 400, "The request has a malformed parameter."),
        (
            "/auth/ldap?client_id=kubernetes&redirect_uri=http%3A%2F%2Flocalhost%3A8000&response_type=code&scope=openid",
            400,
            "Connector failed to initialize",
        ),
    ] {
        let reply = world.get(url, &[]).await;
        assert_eq!(reply.status().as_u16(), status, "{url}");
        assert!(page(&reply).contains(message), "{url}: {}", page(&reply));
    }
    for method in [Method::PUT, Method::DELETE, Method::HEAD, Method::POST] {
        let reply = world.send(method.clone(), "/auth/local", "client_id=kubernetes", &[], String::new()).await;
        assert_eq!(reply.status(), 400, "{method}");
    }
}

#[tokio::test]
async fn errors_of_a_trusted_client_are_redirects_with_dexs_texts() {
    let plain_off = World::new("oauth2: {pkce: {codeChallengeMethodsSupported: [S256]}}").await;
    let enforced = World::new("oauth2: {pkce: {enforce: true}}").await;
    let world = World::new("").await;
    type Case<'a> = (&'a World, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let table: &[Case<'_>] = &[
        (&world, &[("connector_id", "bogus")], "invalid_request", "Invalid ConnectorID"),
        (
            &world,
            &[("client_id", "restricted"), ("connector_id", "local")],
            "invalid_request",
            "Connector not allowed for this client",
        ),
        (&world, &[("request", "x")], "request_not_supported", "Server does not support request parameter."),
        (
            &world,
            &[("code_challenge", "c"), ("code_challenge_method", "invalid_method")],
            "invalid_request",
            "Unsupported PKCE challenge method (\"invalid_method\").",
        ),
        (
            &plain_off,
            &[("code_challenge", "c"), ("code_challenge_method", "plain")],
            "invalid_request",
            "Unsupported PKCE challenge method (\"plain\").",
        ),
        (&plain_off, &[("code_challenge", "c")], "invalid_request", "Unsupported PKCE challenge method (\"plain\")."),
        (&enforced, &[], "invalid_request", "PKCE is required. The code_challenge parameter must be provided."),
        (&world, &[("scope", "")], "invalid_scope", "Missing required scope(s) [\"openid\"]."),
        (&world, &[("scope", "email")], "invalid_scope", "Missing required scope(s) [\"openid\"]."),
        (&world, &[("scope", "openid foo bar")], "invalid_scope", "Unrecognized scope(s) [\"foo\" \"bar\"]"),
        (
            &world,
            &[("client_id", "other"), ("scope", "openid audience:server:client_id:kubernetes")],
            "invalid_scope",
            "Client can't request scope(s) [\"audience:server:client_id:kubernetes\"]",
        ),
        (
            &world,
            &[("scope", "openid audience:server:client_id:nobody")],
            "invalid_scope",
            "Client can't request scope(s) [\"audience:server:client_id:nobody\"]",
        ),
        (&world, &[("response_type", "")], "invalid_request", "No response_type provided"),
        (&world, &[("response_type", "bogus")], "invalid_request", "Invalid response type \"bogus\""),
        (&world, &[("response_type", "token")], "unsupported_response_type", "Unsupported response type \"token\""),
        (
            &world,
            &[("response_type", "code id_token")],
            "unsupported_response_type",
            "Unsupported response type \"id_token\"",
        ),
        (&world, &[("prompt", "bogus")], "invalid_request", "Invalid prompt parameter: unknown prompt value"),
        (
            &world,
            &[("prompt", "none login")],
            "invalid_request",
            "Invalid prompt parameter: prompt 'none' cannot be combined with another value",
        ),
        (&world, &[("prompt", "none")], "login_required", ""),
        (&world, &[("max_age", "-1")], "invalid_request", "Invalid max_age value \"-1\""),
        (&world, &[("max_age", "x")], "invalid_request", "Invalid max_age value \"x\""),
        (&world, &[("id_token_hint", "a.b.c")], "invalid_request", "Invalid id_token_hint."),
    ];
    for (world, changes, error, description) in table {
        let reply = ask(world, changes).await;
        assert_eq!(reply.status(), 303, "{changes:?}: {}", page(&reply));
        assert!(location(&reply).starts_with("http://localhost:8000?state=s+t&error="), "{}", location(&reply));
        let query = query_of(&reply);
        assert_eq!(
            (query.get("error"), query.get("error_description"), query.get("iss")),
            (*error, *description, "https://dex.example/dex"),
            "{changes:?}"
        );
        assert!(crate::authflow::cookies_of(&reply).is_empty(), "nothing is kept of a refused request");
    }
}

#[tokio::test]
async fn the_first_failing_check_decides() {
    let world = World::new("").await;
    let everything = [
        ("request", "x"),
        ("code_challenge", "c"),
        ("code_challenge_method", "bad"),
        ("scope", "bad"),
        ("response_type", "bad"),
        ("prompt", "bad"),
        ("max_age", "bad"),
    ];
    let order = [
        "Server does not",
        "Unsupported PKCE",
        "Missing required scope",
        "Invalid response type",
        "Invalid prompt",
        "Invalid max_age",
    ];
    let mends = [
        ("request", ""),
        ("code_challenge", ""),
        ("scope", "openid"),
        ("response_type", "code"),
        ("prompt", ""),
        ("max_age", ""),
    ];
    let mut changes = everything.to_vec();
    for (want, mend) in order.iter().zip(mends) {
        let reply = ask(&world, &changes).await;
        assert!(query_of(&reply).get("error_description").starts_with(want), "{want}: {}", location(&reply));
        changes.retain(|(name, _)| *name != mend.0);
        changes.push(mend);
    }
    assert_eq!(ask(&world, &changes).await.status(), 302);
}

#[tokio::test]
async fn good_requests_of_many_shapes_reach_the_login_form() {
    let world = World::new("").await;
    let hint =
        world.redeem(&world.code("kubernetes", "openid", &[]).await).await.1["id_token"].as_str().unwrap().to_owned();
    world.clock.advance(Duration::from_secs(86_400));
    for changes in [
        &[][..],
        &[("scope", "openid  email groups profile offline_access federated:id ")],
        &[("scope", "openid audience:server:client_id:other audience:server:client_id:kubernetes")],
        &[("code_challenge", "c"), ("code_challenge_method", "S256")],
        &[("code_challenge", "c"), ("code_challenge_method", "plain")],
        &[("code_challenge", "c")],
        &[("nonce", "")],
        &[("state", "")],
        &[("prompt", "login  login consent")],
        &[("max_age", "0")],
        &[("id_token_hint", &hint)],
        &[("connector_id", "local")],
        &[
            ("approval_prompt", "force"),
            ("display", "page"),
            ("login_hint", "x"),
            ("response_mode", "query"),
            ("resource", "r"),
        ],
        &[("client_id", "cli"), ("redirect_uri", "http://127.0.0.1:1234/any/path")],
        &[("client_id", "cli"), ("redirect_uri", "urn:ietf:wg:oauth:2.0:oob")],
        &[("redirect_uri", "https://app.example/cb?keep=1")],
    ] {
        let reply = ask(&world, changes).await;
        assert_eq!(reply.status(), 302, "{changes:?}: {}", page(&reply));
        assert!(location(&reply).starts_with("/dex/auth/local/login?back=&state="), "{}", location(&reply));
    }
}

#[tokio::test]
async fn auth_chooses_the_connector_by_get_and_post() {
    let world = World::new("").await;
    let query = "client_id=kubernetes&scope=openid+email&state=a%26b";
    for reply in [
        world.get(&format!("/auth?{query}"), &[]).await,
        world.get(&format!("/auth?{query}&connector_id=local"), &[]).await,
        world
            .send(Method::POST, "/auth", "", &[("content-type", "application/x-www-form-urlencoded")], query.to_owned())
            .await,
    ] {
        assert_eq!(
            (reply.status().as_u16(), location(&reply).as_str()),
            (302, "/dex/auth/local?client_id=kubernetes&scope=openid+email&state=a%26b")
        );
    }
    let reply = world
        .send(
            Method::POST,
            "/auth",
            "client_id=kubernetes",
            &[("content-type", "application/x-www-form-urlencoded")],
            query.to_owned(),
        )
        .await;
    assert_eq!(reply.status(), 400, "the same parameter in query and body");
}

#[tokio::test]
async fn the_list_of_connectors_shows_when_asked_for_and_only_for_registered_uris() {
    let world = World::new("oauth2: {alwaysShowLoginScreen: true}").await;
    let reply = world.get(&world.auth_url("kubernetes", "openid", &[]).replace("/dex/auth", "/auth"), &[]).await;
    let text = page(&reply);
    assert_eq!(reply.status(), 200);
    assert!(
        text.contains("Continue with Email") && text.contains("to continue to <strong>Kubernetes</strong>"),
        "{text}"
    );
    let reply = world
        .get(
            &world
                .auth_url("kubernetes", "openid", &[("redirect_uri", "https://evil.example")])
                .replace("/dex/auth", "/auth"),
            &[],
        )
        .await;
    assert_eq!(reply.status(), 400);
    // The list's link comes back to the list.
    let link = unescape(text.split("class=\"choice\" href=\"").nth(1).unwrap().split('"').next().unwrap());
    let mut browser = world.browser();
    let reply = browser.get(&link).await;
    let form = browser.get(&location(&reply)).await;
    let text = page(&form);
    assert!(
        text.contains("Use another way to sign in")
            && unescape(&text).contains("href=\"/dex/auth?client_id=kubernetes"),
        "{text}"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_query_panics_or_leads_away(query in "[a-z_=&%0-9+:/.]{0,80}", start in proptest::sample::select(vec!["", "client_id=kubernetes&", "client_id=cli&redirect_uri=http://localhost&"])) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new("").await;
            for path in ["/auth", "/auth/local", "/auth/local/login", "/approval"] {
                let reply = world.get(&format!("{path}?{start}{query}"), &[]).await;
                if let Some(location) = reply.headers().get("location") {
                    let location = location.to_str().unwrap();
                    assert!(location.starts_with("/dex/") || location.starts_with("http://localhost"), "{location}");
                }
            }
        });
    }
}
