//! How often a request asks the store. On a database server each operation is a round trip, and these are what a provider's
//! rate hangs on: docs/store-invariants.md lists them, and is held to what is counted here.

use std::sync::Arc;

use portcullis_storage::MemoryKernel;
use portcullis_storage::conformance::FaultyKernel;

use super::*;

/// A provider whose operations are counted.
struct Counted {
    world: World,
    kernel: Arc<FaultyKernel>,
}

impl Counted {
    /// Client and user are in the file, or in the store.
    async fn new(stored: bool) -> Self {
        let kernel = Arc::new(FaultyKernel::new(Arc::new(MemoryKernel::new()), 1));
        let mut config = config("");
        let in_file = config.store_options();
        if stored {
            config.clients.clear();
            config.passwords.clear();
        }
        let world = World::with(config, kernel.clone(), ProviderOptions::default()).await;
        if stored {
            let store = &world.provider.app().store;
            for client in &in_file.static_clients {
                store.clients().create(client).await.unwrap();
            }
            for user in &in_file.static_passwords {
                store.passwords().create(user).await.unwrap();
            }
        }
        let counted = Self { world, kernel };
        // The first sign-in makes the keys that seal cookies, and the user's list of families.
        counted.world.offline().await;
        counted.taken();
        counted
    }

    /// Reads and writes since the last call.
    fn taken(&self) -> (usize, usize) {
        let counts = self.kernel.take_counts();
        (counts.gets + counts.lists, counts.writes)
    }

    async fn of_a_sign_in(&self) -> Vec<(&'static str, (usize, usize))> {
        let mut trips = Vec::new();
        let mut browser = self.world.browser();
        let url = browser.start("kubernetes", "openid email offline_access", &[]).await;
        let form = browser.get(&url).await;
        trips.push(("authorization request, form", self.taken()));
        let fields =
            [("csrf", hidden(&form, "csrf")), ("login", "jane@example.com".into()), ("password", "password".into())];
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let reply = browser.post(&action(&form), &fields).await;
        trips.push(("password", self.taken()));
        let reply = browser.finish(reply).await;
        trips.push(("consent, code", self.taken()));
        let (status, tokens) = self.world.redeem(query_of(&reply).get("code")).await;
        assert_eq!(status, 200, "{tokens}");
        trips.push(("code for tokens", self.taken()));
        let (status, tokens) = self.world.refresh(tokens["refresh_token"].as_str().unwrap()).await;
        assert_eq!(status, 200, "{tokens}");
        trips.push(("refresh", self.taken()));
        let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
        for (what, path) in
            [("userinfo", "/userinfo"), ("discovery", "/.well-known/openid-configuration"), ("keys", "/keys")]
        {
            let reply = self.world.get(path, &[("authorization", &bearer)]).await;
            assert_eq!(reply.status(), 200, "{what}");
            trips.push((what, self.taken()));
        }
        trips
    }
}

#[tokio::test]
async fn requests_ask_the_store_as_often_as_is_listed() {
    let in_file = Counted::new(false).await.of_a_sign_in().await;
    let stored = Counted::new(true).await.of_a_sign_in().await;
    let invariants = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/store-invariants.md");
    let listed = std::fs::read_to_string(invariants).unwrap();
    for ((what, (reads, writes)), (_, (stored_reads, stored_writes))) in in_file.into_iter().zip(stored) {
        let line = format!("| {what} | {reads}, {writes} | {stored_reads}, {stored_writes} |");
        assert!(listed.lines().any(|listed| listed == line), "not in docs/store-invariants.md: {line}");
    }
}
