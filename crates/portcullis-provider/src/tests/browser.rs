//! What browsers of other sites, and odd browsers, cannot do.

use super::*;

#[tokio::test]
async fn a_login_form_of_another_site_signs_nobody_in() {
    let world = World::new("").await;
    for (name, value) in
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example")]
    {
        let mut browser = world.browser();
        let url = browser.start("kubernetes", "openid", &[]).await;
        let form = browser.get(&url).await;
        let csrf = hidden(&form, "csrf");
        browser.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        browser.headers.insert("host", HeaderValue::from_static("dex.example"));
        let reply = browser
            .post(&action(&form), &[("csrf", &csrf), ("login", "jane@example.com"), ("password", "password")])
            .await;
        assert_eq!(reply.status(), 403, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_login_form_needs_our_token() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let other = {
        let mut b = world.browser();
        let u = b.start("kubernetes", "openid", &[]).await;
        hidden(&b.get(&u).await, "csrf")
    };
    for csrf in ["", "x", &other] {
        let reply =
            browser.post(&url, &[("csrf", csrf), ("login", "jane@example.com"), ("password", "password")]).await;
        assert_eq!(reply.status(), 403, "{csrf}");
    }
    assert_eq!(browser.log_in(&url, "jane@example.com", "password").await.status(), 303, "the flow itself is unharmed");
}

#[tokio::test]
async fn a_consent_button_of_another_site_grants_nothing() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    let reply = browser.get(&location(&reply)).await;
    let approval = location(&reply);
    browser.headers.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
    assert_eq!(browser.post(&approval, &[("approval", "approve")]).await.status(), 403);
    browser.headers.clear();
    assert_eq!(browser.post(&approval, &[("approval", "approve"), ("req", "another")]).await.status(), 400);
    assert_eq!(browser.post(&approval, &[("approval", "approve")]).await.status(), 303);
}

#[tokio::test]
async fn without_cookies_the_page_says_so() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    browser.cookies.clear();
    let reply = browser.get(&url).await;
    let text = page(&reply);
    assert_eq!(reply.status(), 400);
    assert!(text.contains("User session error.") && text.contains("allow cookies"), "{text}");
}

#[tokio::test]
async fn a_plain_connection_gets_plain_cookies() {
    let world = World::new("").await;
    let mut browser = world.browser();
    browser.secure = false;
    let reply = browser.sign_in("kubernetes", "openid", &[]).await;
    assert_eq!(reply.status(), 303);
    let mut browser = world.browser();
    browser.secure = false;
    browser.start("kubernetes", "openid", &[]).await;
    assert!(browser.cookies.keys().all(|name| name.starts_with("portcullis-")), "{:?}", browser.cookies);
}

#[tokio::test]
async fn a_form_for_another_connector_is_refused() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let reply = browser.get(&url.replace("/auth/local/", "/auth/other/")).await;
    assert_eq!((reply.status().as_u16(), page(&reply).contains("Bad connector ID")), (400, true));
}

#[tokio::test]
async fn a_large_state_goes_all_the_way() {
    let world = World::new("oauth2: {skipApprovalScreen: true}").await;
    let state = "s".repeat(9000);
    let mut browser = world.browser();
    let reply = browser.sign_in("kubernetes", "openid", &[("state", &state)]).await;
    assert_eq!(query_of(&reply).get("state"), state);
}

#[tokio::test]
async fn hostile_form_bodies_are_refused() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    for body in ["login=a&login=b", "login=%zz", "login=%ff", "a;b=c"] {
        let reply = browser.send(Method::POST, &url, body.to_owned()).await;
        assert_eq!(reply.status(), 400, "{body}");
    }
    for method in [Method::PUT, Method::DELETE, Method::HEAD] {
        assert_eq!(browser.send(method.clone(), &url, String::new()).await.status(), 400, "{method}");
    }
}
