//! Many at once: one wins.

use std::collections::HashSet;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_redemptions_of_one_code_give_one_success() {
    let world = Arc::new(World::new("oauth2: {skipApprovalScreen: true}").await);
    let code = world.code("kubernetes", "openid offline_access", &[]).await;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (w, c) = (world.clone(), code.clone());
            tokio::spawn(async move { w.redeem(&c).await })
        })
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        let (status, body) = task.await.unwrap();
        match status {
            200 => won.push(body),
            _ => assert_eq!((status, &body["error"]), (400, &"invalid_grant".into()), "{body}"),
        }
    }
    assert_eq!(won.len(), 1, "{} redemptions succeeded", won.len());
    // The code came again, so whoever won has lost the refresh token by now, or never got one.
    if let Some(token) = won[0]["refresh_token"].as_str() {
        assert_eq!(world.refresh(token).await.0, 400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_redemptions_without_a_refresh_token_give_exactly_one_success() {
    let world = Arc::new(World::new("oauth2: {skipApprovalScreen: true}").await);
    let code = world.code("kubernetes", "openid", &[]).await;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (w, c) = (world.clone(), code.clone());
            tokio::spawn(async move { w.redeem(&c).await.0 })
        })
        .collect();
    let mut successes = 0;
    for task in tasks {
        successes += usize::from(task.await.unwrap() == 200);
    }
    assert_eq!(successes, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_refreshes_of_one_token_leave_one_live_branch() {
    let world = Arc::new(World::new("oauth2: {skipApprovalScreen: true}").await);
    let first = world.offline().await;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (w, t) = (world.clone(), first.clone());
            tokio::spawn(async move { w.refresh(&t).await })
        })
        .collect();
    let mut given = HashSet::new();
    for task in tasks {
        let (status, body) = task.await.unwrap();
        assert_eq!(status, 200, "a retry within the grace is served: {body}");
        given.insert(body["refresh_token"].as_str().unwrap().to_owned());
    }
    assert_eq!(given.len(), 1, "everybody got the same successor");
    let next = given.into_iter().next().unwrap();
    assert_ne!(next, first);
    assert_eq!(world.refresh(&next).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_approvals_of_one_flow_give_one_code() {
    let world = Arc::new(World::new("").await);
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    let reply = browser.get(&location(&reply)).await;
    let (approval, cookies) = (location(&reply), browser.cookies.clone());
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (world, approval, cookies) = (world.clone(), approval.clone(), cookies.clone());
            tokio::spawn(async move {
                let mut browser = world.browser();
                browser.cookies = cookies;
                browser.post(&approval, &[("approval", "approve")]).await.status().as_u16()
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(task.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|s| **s == 303).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|s| matches!(s, 303 | 400)), "{statuses:?}");
}
