//! Keys over time.

use super::*;
use crate::provider::BackgroundError;

async fn kids(world: &World) -> Vec<String> {
    let (_, set) = json(&world.get("/keys", &[]).await);
    set["keys"].as_array().unwrap().iter().map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

fn kid(token: &Value) -> String {
    let header = token.as_str().unwrap().split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&portcullis_jose::base64url_decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_stays_while_its_tokens_live() {
    let world = World::new("oauth2: {skipApprovalScreen: true}\nexpiry: {idTokens: 1h}").await;
    let signer = &world.provider.app().signer;
    assert_eq!(kids(&world).await.len(), 1, "before the background work has begun");
    signer.check().await.unwrap();
    let before = kids(&world).await;
    let (_, old) = world.redeem(&world.code("kubernetes", "openid", &[]).await).await;
    assert_eq!(kid(&old["id_token"]), before[0]);

    world.clock.advance(Duration::from_secs(6 * 3600 - 1));
    let (_, late) = world.redeem(&world.code("kubernetes", "openid", &[]).await).await;
    assert_eq!(kid(&late["id_token"]), before[0], "until the last second");
    world.clock.advance(Duration::from_secs(1));
    // Even before the background work notices, the key that everybody knows signs.
    let (_, new) = world.redeem(&world.code("kubernetes", "openid", &[]).await).await;
    assert_eq!(kid(&new["id_token"]), before[1]);
    signer.check().await.unwrap();
    let after = kids(&world).await;
    assert_eq!((after.len(), &after[0]), (3, &before[1]));
    let bearer = format!("Bearer {}", late["access_token"].as_str().unwrap());
    assert_eq!(
        world.get("/userinfo", &[("authorization", &bearer)]).await.status(),
        200,
        "a token of the old key still counts"
    );
    world.clock.advance(Duration::from_secs(3600 + 60));
    assert!(!kids(&world).await.contains(&before[0]), "its last token is over");
}

#[tokio::test]
async fn two_replicas_rotate_once_and_agree() {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let a = World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
    let b = World::with(config(""), kernel, ProviderOptions::default()).await;
    for _ in 0..4 {
        let (x, y) = tokio::join!(a.provider.app().signer.check(), b.provider.app().signer.check());
        x.unwrap();
        y.unwrap();
        a.provider.app().signer.check().await.unwrap();
        b.provider.app().signer.check().await.unwrap();
        assert_eq!(kids(&a).await, kids(&b).await);
        for world in [&a, &b] {
            world.clock.advance(Duration::from_secs(6 * 3600));
        }
    }
}

#[tokio::test]
async fn keys_survive_a_restart() {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let first = World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
    first.provider.app().signer.check().await.unwrap();
    let second = World::with(config(""), kernel, ProviderOptions::default()).await;
    assert_eq!(kids(&first).await, kids(&second).await);
}

#[tokio::test]
async fn a_new_algorithm_comes_with_the_next_key() {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    drop(World::with(config(""), kernel.clone(), ProviderOptions::default()).await);
    let rsa = BASE.replace("ES256", "RS256");
    let rsa = RawConfig::read(&Document::parse(&rsa, "c").unwrap().root()).0.validate(&|_| None).unwrap();
    let world = World::with(rsa, kernel, ProviderOptions::default()).await;
    world.provider.app().signer.check().await.unwrap();
    let (_, set) = json(&world.get("/keys", &[]).await);
    let kinds: Vec<&str> = set["keys"].as_array().unwrap().iter().map(|k| k["alg"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ES256", "RS256"]);
    let (_, doc) = json(&world.get("/.well-known/openid-configuration", &[]).await);
    assert_eq!(doc["id_token_signing_alg_values_supported"], serde_json::json!(["ES256", "RS256"]));
    world.clock.advance(Duration::from_secs(6 * 3600));
    let (_, set) = json(&world.get("/keys", &[]).await);
    assert_eq!(set["keys"][0]["alg"], "RS256");
}

#[tokio::test]
async fn background_work_makes_the_second_key_and_ends_with_shutdown() {
    let world = World::new("").await;
    let shutdown = portcullis_runtime::Shutdown::new();
    let background = world.provider.start(&shutdown);
    tokio::time::timeout(Duration::from_secs(20), async {
        while kids(&world).await.len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(5), background.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_that_panics_ends_the_background_work_with_what_it_said() {
    let world = World::new("").await;
    let shutdown = portcullis_runtime::Shutdown::new();
    world.provider.health().check("broken", || async { panic!("the check hit a bug") });
    let background = world.provider.start(&shutdown);
    let ended = tokio::time::timeout(Duration::from_secs(20), background.wait()).await.unwrap();
    let Err(BackgroundError::Panicked(panic)) = ended else { panic!("{ended:?}") };
    let said = panic.into_panic();
    assert_eq!(said.downcast_ref::<&str>(), Some(&"the check hit a bug"));
    assert!(!shutdown.is_triggered());
}
