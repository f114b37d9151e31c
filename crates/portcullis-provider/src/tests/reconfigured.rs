//! The same provider with a changed file: what has not changed goes on.

use super::*;

impl World {
    /// Another file for the running provider.
    async fn reconfigure(&mut self, text: &str) {
        let read = RawConfig::read(&Document::parse(text, "c.yaml").unwrap().root()).0;
        self.provider = self.provider.reconfigured(read.validate(&|_| None).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn refresh_tokens_and_keys_of_an_unchanged_client_survive_and_lifetimes_are_the_new_ones() {
    let mut world = World::new("").await;
    let (_, keys) = json(&world.get("/keys", &[]).await);
    let refresh = world.offline().await;
    let changed = format!("{BASE}expiry: {{idTokens: 1h}}\n").replace("Jane Doe", "Jane Roe");
    world.reconfigure(&changed).await;
    assert_eq!(json(&world.get("/keys", &[]).await).1, keys);
    let (status, tokens) = world.refresh(&refresh).await;
    assert_eq!(status, 200, "{tokens}");
    let claims = claims(&tokens["id_token"]);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
}

#[tokio::test]
async fn a_sign_in_under_way_ends_in_the_changed_provider() {
    let mut world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let cookies = browser.cookies.clone();
    world.reconfigure(&format!("{BASE}frontend: {{issuer: Other}}\n")).await;
    let mut browser = world.browser();
    browser.cookies = cookies;
    assert_eq!(browser.log_in(&url, "jane@example.com", "password").await.status(), 303);
}

#[tokio::test]
async fn a_removed_client_and_a_removed_user_get_nothing_and_a_new_user_signs_in() {
    let mut world = World::new("").await;
    let (first, second) = (world.offline().await, world.offline().await);
    world
        .reconfigure(&BASE.replace("email: Jane@example.com", "email: new@example.com").replace("08a8684b", "18a8684b"))
        .await;
    let (status, body) = world.refresh(&first).await;
    assert_ne!(status, 200, "Jane is gone: {body}");
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    assert_eq!(browser.log_in(&url, "jane@example.com", "password").await.status(), 401);
    assert_eq!(browser.log_in(&url, "new@example.com", "password").await.status(), 303);
    world.reconfigure(&BASE.replace("id: kubernetes", "id: renamed")).await;
    let (status, body) = world.refresh(&second).await;
    assert_eq!((status, body["error"].as_str()), (401, Some("invalid_client")));
    let reply = world.get(&world.auth_url("kubernetes", "openid", &[]).replace(&world.base(), ""), &[]).await;
    assert_eq!(reply.status(), 400, "{}", page(&reply));
}

#[tokio::test]
async fn what_was_counted_against_guessing_still_counts() {
    let mut world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    for _ in 0..10 {
        assert_eq!(browser.log_in(&url, "jane@example.com", "wrong").await.status(), 401);
    }
    let cookies = browser.cookies.clone();
    world.reconfigure(BASE).await;
    let mut browser = world.browser();
    browser.cookies = cookies;
    assert_eq!(browser.log_in(&url, "jane@example.com", "password").await.status(), 429);
}
