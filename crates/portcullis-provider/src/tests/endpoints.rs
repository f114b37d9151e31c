//! Discovery, keys, userinfo, health, `/`, static files, CORS, unknown paths.

use super::*;

#[tokio::test]
async fn discovery_is_dexs_document_byte_by_byte() {
    let world = World::new("").await;
    let reply = world.get("/.well-known/openid-configuration", &[]).await;
    assert_eq!(reply.headers()["content-type"], "application/json");
    let want = r#"{
  "issuer": "https://dex.example/dex",
  "authorization_endpoint": "https://dex.example/dex/auth",
  "token_endpoint": "https://dex.example/dex/token",
  "jwks_uri": "https://dex.example/dex/keys",
  "userinfo_endpoint": "https://dex.example/dex/userinfo",
  "grant_types_supported": [
    "authorization_code",
    "refresh_token"
  ],
  "response_types_supported": [
    "code"
  ],
  "subject_types_supported": [
    "public"
  ],
  "id_token_signing_alg_values_supported": [
    "ES256"
  ],
  "code_challenge_methods_supported": [
    "S256",
    "plain"
  ],
  "scopes_supported": [
    "openid",
    "email",
    "groups",
    "profile",
    "offline_access"
  ],
  "token_endpoint_auth_methods_supported": [
    "client_secret_basic",
    "client_secret_post"
  ],
  "claims_supported": [
    "iss",
    "sub",
    "aud",
    "iat",
    "exp",
    "email",
    "email_verified",
    "locale",
    "name",
    "preferred_username",
    "at_hash",
    "groups",
    "federated_claims"
  ],
  "authorization_response_iss_parameter_supported": true
}"#;
    assert_eq!(page(&reply), want);
    let tag = reply.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(world.get("/.well-known/openid-configuration", &[("if-none-match", &tag)]).await.status(), 304);
    assert_eq!(
        world.send(Method::POST, "/.well-known/openid-configuration", "", &[], String::new()).await.status(),
        200,
        "any method"
    );
}

#[tokio::test]
async fn discovery_follows_the_configuration() {
    let config = |issuer: &str, more: &str| {
        let text = BASE.replace("https://dex.example/dex", issuer) + more;
        RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap()
    };
    let options = ProviderOptions { browser_base: Some("http://localhost:5554/ignored".parse().unwrap()) };
    let config = config("https://localhost:5554", "oauth2: {passwordConnector: local, pkce: {enforce: true}}\n");
    let world = World::with(config, Arc::new(MemoryKernel::new()), options).await;
    let (_, doc) = json(&world.get("/.well-known/openid-configuration", &[]).await);
    assert_eq!(doc["authorization_endpoint"], "http://localhost:5554/auth");
    assert_eq!(doc["token_endpoint"], "https://localhost:5554/token");
    assert_eq!(doc["grant_types_supported"], serde_json::json!(["authorization_code", "password", "refresh_token"]));
    assert_eq!(doc["code_challenge_methods_supported"], serde_json::json!(["S256"]));
}

#[tokio::test]
async fn keys_are_cacheable_and_complete() {
    let world = World::new("").await;
    world.provider.app().signer.check().await.unwrap();
    let reply = world.get("/keys", &[]).await;
    assert_eq!(reply.headers()["cache-control"], "max-age=600, must-revalidate");
    let (_, set) = json(&reply);
    let keys = set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2, "the signing one and the next one");
    for key in keys {
        let members: Vec<&String> = key.as_object().unwrap().keys().collect();
        assert_eq!(members, ["use", "kty", "kid", "alg", "crv", "x", "y"]);
        assert_eq!((key["use"].as_str(), key["alg"].as_str()), (Some("sig"), Some("ES256")));
        let kid = key["kid"].as_str().unwrap();
        assert!(kid.len() == 40 && kid.bytes().all(|b| b.is_ascii_hexdigit()), "{kid}");
    }
    let tag = reply.headers()["etag"].to_str().unwrap().to_owned();
    let again = world.get("/keys", &[("if-none-match", &tag)]).await;
    assert_eq!((again.status().as_u16(), again.body().len()), (304, 0));
}

#[tokio::test]
async fn userinfo_takes_the_token_from_header_or_body_and_refuses_others() {
    let world = World::new("").await;
    let (_, tokens) = world.redeem(&world.code("kubernetes", "openid email profile", &[]).await).await;
    let access = tokens["access_token"].as_str().unwrap();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        for method in [Method::GET, Method::POST] {
            let reply = world
                .send(method, "/userinfo", "", &[("authorization", &format!("{scheme} {access}"))], String::new())
                .await;
            let (status, claims) = json(&reply);
            assert_eq!(
                (status, &claims["email"], &claims["aud"]),
                (200, &"Jane@example.com".into(), &"kubernetes".into())
            );
            assert_eq!(reply.headers()["cache-control"], "no-store");
        }
    }
    assert_eq!(json(&world.post("/userinfo", &[("access_token", access)], &[]).await).0, 200);
    let id_token = tokens["id_token"].as_str().unwrap();
    assert_eq!(world.get("/userinfo", &[("authorization", &format!("Bearer {id_token}"))]).await.status(), 200);

    let body = serde_json::json!({"error": "access_denied", "error_description": "Invalid bearer token."});
    for headers in [
        vec![],
        vec![("authorization", "Basic eDp5")],
        vec![("authorization", "Bearer ")],
        vec![("authorization", "Bearer")],
    ] {
        let reply = world.get("/userinfo", &headers).await;
        assert_eq!(reply.headers()["www-authenticate"], "Bearer");
        assert_eq!(json(&reply), (401, body.clone()), "{headers:?}");
    }
    assert_eq!(world.get(&format!("/userinfo?access_token={access}"), &[]).await.status(), 401, "never from the query");
    let mut forged = access.to_owned();
    forged.pop();
    for bad in ["x", "a.b.c", &forged, &format!("{access}x"), "eyJhbGciOiJub25lIn0.e30."] {
        assert_eq!(
            json(&world.get("/userinfo", &[("authorization", &format!("Bearer {bad}"))]).await),
            (403, body.clone()),
            "{bad}"
        );
    }
    world.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(
        world.get("/userinfo", &[("authorization", &format!("Bearer {access}"))]).await.status(),
        403,
        "expired"
    );
}

#[tokio::test]
async fn small_endpoints_answer() {
    let world = World::new("").await;
    let reply = world.get("/healthz", &[]).await;
    assert_eq!((reply.status().as_u16(), page(&reply).as_str()), (200, "Health check passed"));
    let home = page(&world.get("/", &[]).await);
    assert!(
        home.contains("Dex IdP") && home.contains("https://dex.example/dex/.well-known/openid-configuration"),
        "{home}"
    );
    assert_eq!(page(&world.get("/robots.txt", &[]).await), "User-agent: *\nDisallow: /\n");
    assert_eq!(world.get("/static/main.css", &[]).await.headers()["content-type"], "text/css; charset=utf-8");
    for path in ["/nope", "/auth/", "/static/", "/static/../keys", "/device", "/token/introspect", "/callback"] {
        let reply = world.get(path, &[]).await;
        assert_eq!((reply.status().as_u16(), page(&reply).as_str()), (404, "404 page not found\n"), "{path}");
    }
}

#[tokio::test]
async fn configured_headers_go_on_every_answer() {
    let text = BASE.replace("{http: 127.0.0.1:5556}", "{http: 127.0.0.1:5556, headers: {Strict-Transport-Security: max-age=1, Content-Security-Policy: default-src 'self'}}");
    let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
    let world = World::with(config, Arc::new(MemoryKernel::new()), ProviderOptions::default()).await;
    for path in ["/token", "/", "/static/main.css", "/nope"] {
        let reply = world.get(path, &[]).await;
        assert_eq!(reply.headers()["strict-transport-security"], "max-age=1", "{path}");
        assert_eq!(reply.headers()["content-security-policy"], "default-src 'self'", "{path}");
        assert_eq!(reply.headers()["x-content-type-options"], "nosniff", "{path}");
    }
}

#[tokio::test]
async fn cors_is_on_the_endpoints_that_scripts_call_and_on_no_page() {
    let text =
        BASE.replace("{http: 127.0.0.1:5556}", "{http: 127.0.0.1:5556, allowedOrigins: ['https://spa.example']}");
    let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
    let world = World::with(config, Arc::new(MemoryKernel::new()), ProviderOptions::default()).await;
    let origin = [("origin", "https://spa.example")];
    for (path, on) in [
        ("/.well-known/openid-configuration", true),
        ("/keys", true),
        ("/token", true),
        ("/userinfo", true),
        ("/", true),
        ("/auth", false),
        ("/approval", false),
    ] {
        let reply = world.get(path, &origin).await;
        assert_eq!(reply.headers().contains_key("access-control-allow-origin"), on, "{path}");
    }
    let preflight =
        [origin[0], ("access-control-request-method", "POST"), ("access-control-request-headers", "authorization")];
    let reply = world.send(Method::OPTIONS, "/token", "", &preflight, String::new()).await;
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["access-control-allow-headers"]),
        (200, &HeaderValue::from_static("authorization"))
    );
}

#[tokio::test]
async fn an_issuer_without_a_path_works_the_same() {
    let text = BASE
        .replace("https://dex.example/dex", "http://127.0.0.1:5556")
        .replace("enablePasswordDB", "oauth2: {skipApprovalScreen: true}\nenablePasswordDB");
    let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
    let world = World::with(config, Arc::new(MemoryKernel::new()), ProviderOptions::default()).await;
    let code = world.code("kubernetes", "openid", &[]).await;
    let (status, tokens) = world.redeem(&code).await;
    assert_eq!((status, &claims(&tokens["id_token"])["iss"]), (200, &"http://127.0.0.1:5556".into()));
}
