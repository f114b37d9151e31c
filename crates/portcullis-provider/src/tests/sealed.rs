//! Secrets at rest, by the provider's own background work.

use portcullis_runtime::{Secret, Shutdown, Timestamp};
use portcullis_storage::{Client, KeyEncryption, KeyEncryptionKey, PUBLISH_BEFORE, StoreError, StoreOptions};

use super::*;

#[tokio::test]
async fn what_is_in_clear_is_sealed_in_the_background_while_it_is_used() {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let clear = World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
    let token = clear.offline().await;

    let (clock, hand) = Clock::mock(NOW + 60);
    let rng = Rng::seeded(8);
    let config = config("");
    let store = Store::with_options(kernel, clock.clone(), rng.clone(), config.store_options());
    let key = KeyEncryptionKey::new(None, "a test", &[1; 32], rng.clone()).unwrap();
    store.unlock(Some(KeyEncryption::new(Arc::new(key)))).await.unwrap();
    let world = World::on(config, store.clone(), (clock, hand), rng, ProviderOptions::default()).await;
    let shutdown = Shutdown::new();
    let background = world.provider.start(&shutdown);
    let counts = async || {
        let fields = store.sealing_summary(1000).await.unwrap().fields;
        let sealed: u64 = fields.values().flat_map(|counts| counts.sealed.values()).sum();
        (fields.values().map(|counts| counts.clear).sum::<u64>(), sealed)
    };
    assert!(counts().await.0 > 0);
    tokio::time::timeout(Duration::from_secs(30), async {
        // Sign-ins and codes are not sealed again; they are deleted when they are over.
        while !matches!(counts().await, (0, 3..)) {
            world.clock.advance(Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(world.refresh(&token).await.0, 200);
    shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(5), background.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_new_data_key_is_learnt_in_the_middle_of_a_sweep() {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
    let (other_clock, other_hand) = Clock::mock(NOW + 60);
    let clear = Store::with_options(kernel.clone(), other_clock.clone(), Rng::seeded(7), StoreOptions::default());
    let client = |id: String| Client { id, secret: Secret::new("a secret"), ..Client::default() };
    for number in 0..300 {
        clear.clients().create(&client(number.to_string())).await.unwrap();
    }
    let (clock, hand) = Clock::mock(NOW + 60);
    let rng = Rng::seeded(8);
    let config = config("");
    let key = KeyEncryptionKey::new(None, "a test", &[1; 32], rng.clone()).unwrap();
    let keys = KeyEncryption::new(Arc::new(key));
    let store = Store::with_options(kernel.clone(), clock.clone(), rng.clone(), config.store_options());
    store.unlock(Some(keys.clone())).await.unwrap();
    let world = World::on(config, store.clone(), (clock, hand), rng, ProviderOptions::default()).await;
    world.clock.advance(PUBLISH_BEFORE);
    let shutdown = Shutdown::new();
    let background = world.provider.start(&shutdown);
    let bounded = Duration::from_secs(30);
    tokio::time::timeout(bounded, async {
        // The first pages are done: the sweep pauses, and stays there as long as the clock does not move.
        loop {
            let fields = store.sealing_summary(10_000).await.unwrap().fields;
            if fields.values().any(|counts| !counts.sealed.is_empty()) {
                assert!(fields.values().any(|counts| counts.clear > 0), "the sweep is over already");
                break;
            }
            world.clock.advance(Duration::from_millis(50));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();

    // Another replica makes a data key, and seals with it.
    other_hand.advance(2 * PUBLISH_BEFORE);
    let other = Store::with_options(kernel, other_clock, Rng::seeded(9), StoreOptions::default());
    let replace_before = Some(Timestamp::from_unix_seconds(NOW + 60) + PUBLISH_BEFORE);
    other.unlock(Some(KeyEncryption { replace_before, ..keys })).await.unwrap();
    other_hand.advance(PUBLISH_BEFORE);
    other.clients().create(&client("new".to_owned())).await.unwrap();
    assert!(matches!(store.clients().get("new").await, Err(StoreError::MissingKey { .. })));
    // Long before the half minute after which it would be looked at in any case.
    let mut steps = 0;
    while store.clients().get("new").await.is_err() {
        steps += 1;
        assert!(steps < 200, "the data key is learnt when it is missed");
        world.clock.advance(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(5), background.wait()).await.unwrap().unwrap();
}
