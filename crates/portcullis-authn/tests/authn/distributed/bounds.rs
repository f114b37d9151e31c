//! Every bound of distributed claims, crossed: size, time, number at a time, and the issuers that are held.

use std::time::Duration;

use portcullis_runtime::Shutdown;
use portcullis_testkit::Reply;
use serde_json::json;

use super::{DISCOVERY, ENDPOINT, NOW, World, unknown, until};

const JANE: &str = r#"jane ["p:a", "p:b"]"#;
const LATE: &str = "context deadline exceeded";

impl World {
    /// An issuer below the second one.
    fn nth(&self, n: usize) -> String {
        self.claims.url(&format!("/{n}"))
    }

    /// What the `n`-th issuer's discovery answers.
    fn document(&self, n: usize, reply: Reply) {
        self.claims.reply(&format!("/{n}{DISCOVERY}"), reply);
    }

    /// The `n`-th issuer answers for itself, with the keys of all.
    fn up(&self, n: usize) {
        let document = json!({ "issuer": self.nth(n), "jwks_uri": self.claims.url("/keys") });
        self.document(n, Reply::json(&document));
    }

    fn looked_for(&self, n: usize) -> usize {
        self.claims.count(&format!("/{n}{DISCOVERY}"))
    }

    /// A token whose groups come from the `n`-th issuer.
    fn token_of(&self, n: usize) -> String {
        let path = format!("{ENDPOINT}/{n}");
        let claims = json!({ "iss": self.nth(n), "aud": "c", "exp": NOW + 1_000, "groups": ["a", "b"] });
        self.claims.reply(&path, Reply::bytes(self.claims.sign(&claims)));
        self.token_to(&self.claims.url(&path))
    }
}

#[tokio::test]
async fn an_answer_may_be_longer_than_a_header_and_not_longer_than_two_mebibytes() {
    let world = World::warm().await;
    let token = world.token();
    let mut claims = world.groups(&json!(["a", "b"]));
    claims["padding"] = json!("x".repeat(1_500_000));
    let signed = world.claims.sign(&claims);
    assert!(signed.len() > 1_900_000, "{}", signed.len());
    world.claims.reply(ENDPOINT, Reply::bytes(signed.clone()));
    assert_eq!(world.ask(&token).await, JANE);
    let limit = 2 * 1024 * 1024;
    for (spaces, want) in [
        (limit - signed.len(), JANE),
        (
            limit - signed.len() + 1,
            r#"while getting distributed claim "groups": could not decode distributed claim response: it is larger than 2097152 bytes"#,
        ),
    ] {
        world.claims.reply(ENDPOINT, Reply::bytes(format!("{signed}{}", " ".repeat(spaces))));
        assert_eq!(world.ask(&token).await, want);
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_costs_its_own_tokens_and_no_more_than_the_time() {
    let world = World::with(|setup, _| setup.network.timeout = Duration::from_secs(3)).await;
    assert_eq!(world.ask_known(&world.token()).await, JANE);
    world.claims.reply("/hang", Reply::hang());
    let endpoint = world.claims.url("/hang");
    let token = world.token_to(&endpoint);
    let authenticator = world.authenticator.clone();
    let hanging = tokio::spawn(async move { authenticator.authenticate(&token).await });
    until(|| world.claims.count("/hang") == 1).await;
    assert_eq!(world.ask(&world.token()).await, JANE, "others go on");
    let verdict = hanging.await.expect("an answer");
    let want = format!("while getting distributed claim \"groups\": Get {endpoint:?}: {LATE}");
    assert_eq!(verdict.refusal().expect("refused").to_string(), format!("{}{want}", super::PREFIX));
}

#[tokio::test]
async fn keys_that_hang_cost_no_more_than_the_time_either() {
    let world = World::with(|setup, _| setup.network.timeout = Duration::from_secs(3)).await;
    world.claims.reply("/keys", Reply::hang());
    let text = world.ask_known(&world.token()).await;
    assert_eq!(text, format!("verify distributed claim token: failed to verify signature: fetching keys {LATE}"));
}

#[tokio::test]
async fn at_most_sixty_four_endpoints_are_asked_at_a_time_and_the_others_wait() {
    let world = World::warm().await;
    let gate = Shutdown::new();
    let signed = world.claims.sign(&world.groups(&json!(["a", "b"])));
    world.claims.reply("/slow", Reply::bytes(signed).after(gate.clone()));
    let asking: Vec<_> = (0..70)
        .map(|n| {
            // Different access tokens: none can share another one's answer.
            let token = world.issuer.sign(&world.pointing_to(&world.claims.url("/slow"), &format!("t{n}")));
            let authenticator = world.authenticator.clone();
            tokio::spawn(async move { authenticator.authenticate(&token).await.user().is_some() })
        })
        .collect();
    until(|| world.claims.count("/slow") >= 64).await;
    // Whatever else was on its way would have arrived before the answers to these.
    let client = world.claims.http_client();
    for _ in 0..20 {
        client.get(&world.claims.url(DISCOVERY), &[]).await.expect("an answer");
    }
    assert_eq!(world.claims.count("/slow"), 64);
    gate.trigger();
    for asked in asking {
        assert!(asked.await.expect("an answer"), "the last ones waited, and got theirs");
    }
    assert_eq!(world.claims.count("/slow"), 70);
}

#[tokio::test]
async fn a_burst_of_one_token_asks_once_and_one_who_leaves_does_not_take_the_answer_along() {
    let world = World::warm().await;
    let gate = Shutdown::new();
    let signed = world.claims.sign(&world.groups(&json!(["a", "b"])));
    world.claims.reply("/slow", Reply::bytes(signed).after(gate.clone()));
    let token = world.token_to(&world.claims.url("/slow"));
    let ask = || {
        let (authenticator, token) = (world.authenticator.clone(), token.clone());
        tokio::spawn(async move { authenticator.authenticate(&token).await.user().is_some() })
    };
    let first = ask();
    until(|| world.claims.count("/slow") == 1).await;
    let others: Vec<_> = (0..20).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.expect_err("left").is_cancelled());
    until(|| world.claims.count("/slow") == 2).await;
    gate.trigger();
    for other in others {
        assert!(other.await.expect("an answer"));
    }
    assert_eq!(world.claims.count("/slow"), 2, "one for the first, one for all others");
    assert_eq!(world.ask(&token).await, JANE);
    assert_eq!(world.claims.count("/slow"), 3, "and nothing is remembered");
}

#[tokio::test]
async fn at_most_sixteen_issuers_are_looked_for_at_a_time_and_known_ones_stay() {
    let world = World::warm().await;
    let gate = Shutdown::new();
    for n in 0..40 {
        world.document(n, Reply::bytes("").status(404).after(gate.clone()));
        assert_eq!(world.ask(&world.token_of(n)).await, unknown(&world.nth(n)));
    }
    until(|| (0..16).all(|n| world.looked_for(n) == 1)).await;
    // A good one has to wait while none of the sixteen has failed; those that are known are not touched.
    world.up(99);
    let good = world.token_of(99);
    for _ in 0..5 {
        assert_eq!(world.ask(&good).await, unknown(&world.nth(99)));
        assert_eq!(world.ask(&world.token()).await, JANE);
    }
    assert_eq!((0..100).map(|n| world.looked_for(n)).sum::<usize>(), 16);
    assert_eq!(world.claims.count(DISCOVERY), 1);
    // Once they have failed, they give way.
    gate.trigger();
    assert_eq!(world.ask_known(&good).await, JANE);
    for n in 40..80 {
        assert_eq!(world.ask(&world.token_of(n)).await, unknown(&world.nth(n)));
    }
    assert_eq!(world.ask(&good).await, JANE, "failing ones never push a known one out");
    assert_eq!(world.looked_for(99), 1);
}

#[tokio::test]
async fn at_most_sixty_four_issuers_are_held_and_the_one_unused_for_longest_goes() {
    let world = World::new().await;
    for n in 0..70 {
        world.up(n);
        assert_eq!(world.ask_known(&world.token_of(n)).await, JANE, "{n}");
    }
    // The last sixty-four are known; asking keeps them.
    for n in 6..70 {
        assert_eq!(world.ask(&world.token_of(n)).await, JANE, "{n}");
        assert_eq!(world.looked_for(n), 1, "{n}");
    }
    assert_eq!(world.ask(&world.token_of(0)).await, unknown(&world.nth(0)), "forgotten");
    assert_eq!(world.ask_known(&world.token_of(0)).await, JANE, "and found again");
    assert_eq!(world.looked_for(0), 2);
    assert_eq!(world.ask(&world.token_of(6)).await, unknown(&world.nth(6)), "in the place of this one");
}

#[tokio::test]
async fn an_issuer_that_is_no_name_of_one_is_not_looked_for() {
    let world = World::warm().await;
    let claims = |issuer: &str| json!({ "iss": issuer, "aud": "c", "exp": NOW + 1_000, "groups": ["a"] });
    let long = world.claims.url(&format!("/{}", "x".repeat(2_048)));
    world.serve(&claims(&long));
    let shown = format!("{}…", &long[..512]);
    assert_eq!(world.ask(&world.token()).await, unknown(&shown));
    assert_eq!(world.ask(&world.token()).await, unknown(&shown));
    let path = long.strip_prefix(world.claims.issuer()).expect("below it").to_owned();
    assert_eq!(world.claims.count(&format!("{path}{DISCOVERY}")), 0);
}
