//! The provider on a real etcd, as `portcullis serve` opens it.

use portcullis_runtime::{Clock, Rng};
use portcullis_testkit::{Etcd, free_port};

use super::*;

fn config_on(endpoint: &str) -> Config {
    let storage = format!("storage: {{type: etcd, config: {{endpoints: ['{endpoint}'], namespace: dex/}}}}");
    let text = BASE.replace("storage: {type: memory}", &storage);
    let text = format!("{text}oauth2: {{skipApprovalScreen: true}}\n");
    RawConfig::read(&Document::parse(&text, "c.yaml").unwrap().root()).0.validate(&|_| None).unwrap()
}

/// A replica; the seed is its own.
async fn replica(endpoint: &str, seed: u64) -> World {
    let config = config_on(endpoint);
    let (clock, hand) = Clock::mock(NOW);
    let rng = Rng::seeded(seed);
    let store = crate::open_store(&config, clock.clone(), rng.clone()).await.unwrap();
    World::on(config, store, (clock, hand), rng, ProviderOptions::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_on_one_etcd_share_keys_codes_and_families() {
    let mut etcd = Etcd::start().await;
    let one = replica(&etcd.url(), 1).await;
    let two = replica(&etcd.url(), 2).await;
    let keys = json(&one.get("/keys", &[]).await);
    assert_eq!(keys.0, 200);
    assert_eq!(keys, json(&two.get("/keys", &[]).await));

    let code = one.code("kubernetes", "openid email offline_access", &[]).await;
    let (status, tokens) = two.redeem(&code).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!(one.redeem(&code).await.0, 400, "a code is redeemed once");

    let first = one.offline().await;
    let (status, tokens) = two.refresh(&first).await;
    assert_eq!(status, 200, "{tokens}");
    etcd.kill();
    etcd.restart().await;
    let second = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(one.refresh(second).await.0, 200, "etcd came back, and nobody was started again");
}

#[tokio::test]
async fn an_etcd_that_is_not_there_ends_the_start_with_its_address_and_a_hint() {
    let config = config_on(&format!("http://127.0.0.1:{}", free_port()));
    let Err(error) = crate::open_store(&config, Clock::mock(NOW).0, Rng::seeded(1)).await else {
        panic!("it cannot be opened")
    };
    let text = portcullis_runtime::chain(&error);
    assert!(text.starts_with("failed to initialize storage etcd: the etcd store cannot be opened: "), "{text}");
    assert!(text.contains("cannot connect to etcd at http://127.0.0.1:"), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.contains("storage.config")));
}
