//! Wrong passwords, delays, and a pool that is full.

use super::*;

#[tokio::test]
async fn wrong_passwords_and_unknown_names_get_the_same_page_with_the_name_kept() {
    let world = World::new("").await;
    let mut pages = Vec::new();
    for (login, password) in [
        ("jane@example.com", "wrong"),
        ("nobody@example.com", "password"),
        ("jane@example.com", ""),
        ("", "password"),
        ("jane@example.com", "password\u{0}"),
        (&"x".repeat(5000), "x"),
    ] {
        let mut browser = world.browser();
        let url = browser.start("kubernetes", "openid", &[]).await;
        let reply = browser.log_in(&url, login, password).await;
        let text = page(&reply);
        assert_eq!(reply.status(), 401, "{login}");
        assert!(
            text.contains("role=\"alert\">Invalid Email Address and password.<")
                && text.contains("to continue to <strong>Kubernetes</strong>"),
            "{text}"
        );
        assert!(text.contains(&format!("value=\"{login}\"")));
        pages.push(text.replace(login, "").len());
        // The form works again.
        let reply = browser.log_in(&url, "jane@example.com", "password").await;
        assert_eq!(reply.status(), 303);
    }
}

#[tokio::test]
async fn after_ten_failures_an_account_waits_and_is_never_locked() {
    for name in ["jane@example.com", "nobody@example.com"] {
        let world = World::new("").await;
        let mut browser = world.browser();
        let url = browser.start("kubernetes", "openid", &[]).await;
        for _ in 0..10 {
            assert_eq!(browser.log_in(&url, name, "wrong").await.status(), 401);
        }
        let reply = browser.log_in(&url, name, "password").await;
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["retry-after"]),
            (429, &HeaderValue::from_static("1")),
            "{name}"
        );
        assert!(page(&reply).contains("Too many attempts. Please wait 1 second and try again."), "{}", page(&reply));
        assert_eq!(browser.log_in(&url, "joe@example.com", "wrong").await.status(), 401, "others are not concerned");
        world.clock.advance(Duration::from_secs(1));
        let reply = browser.log_in(&url, name, "password").await;
        assert_eq!(reply.status().as_u16(), if name.starts_with("jane") { 303 } else { 401 });
    }
}

#[tokio::test]
async fn an_address_gets_its_share_of_attempts() {
    let world = World::new("portcullis: {passwords: {attemptsPerMinute: 3}}").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    for i in 0..3 {
        assert_eq!(browser.log_in(&url, &format!("u{i}@example.com"), "x").await.status(), 401);
    }
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &HeaderValue::from_static("20")));
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(browser.log_in(&url, "jane@example.com", "password").await.status(), 303);
}

#[tokio::test]
async fn the_password_grant_is_delayed_alike() {
    let world = World::new("oauth2: {passwordConnector: local}\nportcullis: {passwords: {maxFailures: 2}}").await;
    let ask = async |password: &str| {
        let fields = [
            ("grant_type", "password"),
            ("scope", "openid"),
            ("username", "jane@example.com"),
            ("password", password),
            ("client_id", "kubernetes"),
            ("client_secret", "demo-secret"),
        ];
        world.post("/token", &fields, &[]).await
    };
    for _ in 0..2 {
        assert_eq!(ask("wrong").await.status(), 401);
    }
    let reply = ask("password").await;
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &HeaderValue::from_static("1")));
    assert_eq!(json(&reply).1["error"], "temporarily_unavailable");
}

#[tokio::test]
async fn a_full_queue_is_503_with_retry_after() {
    let world =
        World::new("oauth2: {passwordConnector: local}\nportcullis: {passwords: {hashWorkers: 1, hashQueue: 1}}").await;
    let url = {
        let mut b = world.browser();
        let u = b.start("kubernetes", "openid", &[]).await;
        (b.cookies.clone(), u)
    };
    let attempt = async |i: usize| {
        let mut browser = world.browser();
        browser.cookies = url.0.clone();
        browser.log_in(&url.1, &format!("u{i}@example.com"), "x").await
    };
    let replies = futures(vec![attempt(0), attempt(1), attempt(2), attempt(3), attempt(4), attempt(5)]).await;
    let busy: Vec<&Reply> = replies.iter().filter(|r| r.status() == 503).collect();
    assert!(
        !busy.is_empty() && replies.iter().any(|r| r.status() == 401),
        "{:?}",
        replies.iter().map(|r| r.status()).collect::<Vec<_>>()
    );
    assert!(
        busy.iter()
            .all(|r| r.headers().contains_key("retry-after") && page(r).contains("Please try again in a few seconds."))
    );
}

/// Runs futures side by side on this task.
async fn futures<F: Future>(list: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = list.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().map(|(_, output)| output.unwrap()).collect()
}
