//! Data keys wrapped by Vault's transit engine: by a stand-in of the testkit's that encrypts and answers as documented.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use portcullis_runtime::{Secret, http_client::ProxyFromEnv};
use portcullis_storage::{
    KeyEncryption, KeyEncryptionKey, SealingError, Store, StoreOptions, Sweep, SweepStep, Unlocked, VaultToken,
    VaultTransit, VaultTransitOptions,
};
use portcullis_testkit::{Rng, TempDir, TransitGrant, TransitStandIn, temp_dir};

use crate::kit::{Backend, DAY, HOUR, Kit, policy, refresh};

struct World {
    kit: Kit,
    vault: TransitStandIn,
    folder: TempDir,
    started: AtomicU64,
}

impl World {
    async fn new() -> Self {
        let (vault, folder) = (TransitStandIn::start().await, temp_dir());
        vault.write_ca(&folder.path().join("ca.pem"));
        vault.rotate("portcullis");
        vault.grant("s.good", TransitGrant::Use);
        Self { kit: Kit::new(Backend::Memory), vault, folder, started: AtomicU64::new(100) }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn options(&self) -> VaultTransitOptions {
        VaultTransitOptions {
            id: None,
            address: self.vault.url(),
            mount: "transit".to_owned(),
            key: "portcullis".to_owned(),
            namespace: None,
            token: VaultToken::Value(Secret::new("s.good")),
            ca_file: Some(self.folder.path().join("ca.pem")),
            proxy: ProxyFromEnv::default(),
        }
    }

    /// Starts a replica. The clock is moved on while it waits.
    async fn start(&self, options: &VaultTransitOptions) -> (Store, Result<Unlocked, SealingError>) {
        self.start_with(KeyEncryption::new(Arc::new(VaultTransit::new(options).unwrap()))).await
    }

    async fn start_with(&self, keys: KeyEncryption) -> (Store, Result<Unlocked, SealingError>) {
        let store = self.kit.replica(self.started.fetch_add(1, Ordering::SeqCst), StoreOptions::default());
        let starting = store.clone();
        let mut unlocking = tokio::spawn(async move { starting.unlock(Some(keys)).await });
        loop {
            tokio::select! {
                done = &mut unlocking => return (store, done.unwrap()),
                () = tokio::time::sleep(Duration::from_millis(20)) => self.kit.hand.advance(Duration::from_secs(1)),
            }
        }
    }

    async fn refused(&self, options: &VaultTransitOptions, text: &str) {
        let before = self.kit.dump().await;
        let error = self.start(options).await.1.unwrap_err();
        assert!(error.to_string().contains(text), "{text}: {error}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
        assert!(!format!("{error} {error:?}").contains("s.good"), "{error}");
        assert_eq!(self.kit.dump().await, before, "nothing was changed: {error}");
    }
}

#[tokio::test]
async fn data_keys_are_wrapped_in_vault_which_no_request_asks() {
    let mut world = World::new().await;
    let (store, unlocked) = world.start(&world.options()).await;
    assert!(unlocked.unwrap().data_key.is_some());
    assert_eq!(world.vault.take_asked(), ["encrypt"]);
    let family = store.families().new_id();
    let token = store.families().create(&family, crate::kit::new_family("app"), &policy()).await.unwrap();
    let mut token = refresh(&store, &token, &policy()).await.unwrap();
    assert_eq!(world.vault.take_asked(), [] as [&str; 0]);
    let dump = world.kit.dump().await;
    assert!(dump.contains("vault:v1:") && dump.contains("vault:transit/portcullis"), "{dump}");
    let (other, unlocked) = world.start(&world.options()).await;
    unlocked.unwrap();
    assert_eq!(world.vault.take_asked(), ["decrypt", "encrypt"], "to open, and for the version");
    world.vault.stop().await;
    for store in [&store, &other, &store] {
        token = refresh(store, &token, &policy()).await.unwrap();
    }
    world.kit.hand.advance(365 * DAY);
    let error = store.tend_sealing().await.unwrap_err();
    assert!(error.to_string().contains("cannot connect") && error.is_temporary(), "{error}");
    world.vault.restart().await;
    store.tend_sealing().await.unwrap();
    assert_eq!(store.sealing_summary(0).await.unwrap().data_keys.len(), 2);
}

#[tokio::test]
async fn a_rotated_key_of_vaults_wraps_the_data_keys_anew() {
    let world = World::new().await;
    let (store, unlocked) = world.start(&world.options()).await;
    unlocked.unwrap();
    world.vault.rotate("portcullis");
    world.kit.hand.advance(7 * HOUR);
    store.tend_sealing().await.unwrap();
    let dump = world.kit.dump().await;
    assert!(dump.contains("vault:v2:") && !dump.contains("vault:v1:"), "{dump}");
    world.vault.set_min_decryption_version("portcullis", 2);
    world.start(&world.options()).await.1.unwrap();
    world.vault.rotate("portcullis");
    world.vault.set_min_decryption_version("portcullis", 3);
    world.refused(&world.options(), "does not open this any more").await;
}

#[tokio::test]
async fn each_trouble_with_vault_is_named_and_nothing_is_changed() {
    let world = World::new().await;
    let good = world.options();
    for made in [false, true] {
        if made {
            world.start(&good).await.1.unwrap();
        }
        let token = VaultToken::Value(Secret::new("s.bad"));
        world.refused(&VaultTransitOptions { token, ..good.clone() }, "refused the token (403").await;
        let options = |change: &dyn Fn(&mut VaultTransitOptions)| {
            // Under the same id, so that it is asked for what is there.
            let mut options = VaultTransitOptions { id: Some("vault:transit/portcullis".to_owned()), ..good.clone() };
            change(&mut options);
            options
        };
        world.refused(&options(&|o| "elsewhere".clone_into(&mut o.mount)), "nothing at this path (404").await;
        world.refused(&options(&|o| o.namespace = Some("team".to_owned())), "nothing at this path (404").await;
        let unknown = if made { "has no such key (400" } else { "refused the token (403" };
        world.refused(&options(&|o| "other".clone_into(&mut o.key)), unknown).await;
        world.refused(&options(&|o| o.ca_file = None), "TLS").await;
        world.vault.set_sealed(true);
        world.refused(&good, "is sealed (503").await;
        world.vault.set_sealed(false);
        let file = world.folder.path().join("no-token");
        world.refused(&options(&|o| o.token = VaultToken::File(file.clone())), "no-token").await;
        let empty = world.file("empty-token", "\n");
        world.refused(&options(&|o| o.token = VaultToken::File(empty.clone())), "the token is empty").await;
    }
    // Another key under the same name.
    world.vault.delete("portcullis");
    world.vault.rotate("portcullis");
    world.refused(&good, "it has other bytes than").await;
}

#[tokio::test]
async fn a_vault_that_comes_up_late_is_waited_for() {
    let mut world = World::new().await;
    world.vault.set_sealed(true);
    let keys = KeyEncryption::new(Arc::new(VaultTransit::new(&world.options()).unwrap()));
    let store = world.kit.replica(7, StoreOptions::default());
    let starting = store.clone();
    let unlocking = tokio::spawn(async move { starting.unlock(Some(keys)).await });
    while world.vault.take_asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.vault.set_sealed(false);
    while !unlocking.is_finished() {
        world.kit.hand.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unlocking.await.unwrap().unwrap();
    world.vault.stop().await;
    world.refused(&world.options(), "cannot connect").await;
}

#[tokio::test]
async fn the_token_file_is_read_again_and_namespace_and_mount_are_sent() {
    let world = World::new().await;
    world.vault.mount_at("kms/transit", "team");
    let file = world.file("token", "s.good\n");
    let options = VaultTransitOptions {
        mount: "kms/transit".to_owned(),
        namespace: Some("team".to_owned()),
        token: VaultToken::File(file.clone()),
        ..world.options()
    };
    let (store, unlocked) = world.start(&options).await;
    unlocked.unwrap();
    world.vault.revoke("s.good");
    world.vault.grant("s.next", TransitGrant::Use);
    world.kit.hand.advance(365 * DAY);
    assert!(store.tend_sealing().await.unwrap_err().to_string().contains("refused the token"));
    std::fs::write(&file, "s.next").unwrap();
    store.tend_sealing().await.unwrap();
}

#[tokio::test]
async fn from_a_file_to_vault_and_back_without_a_stop() {
    let world = World::new().await;
    let local = || Arc::new(KeyEncryptionKey::new(Some("file"), "a test", &[1; 32], Rng::seeded(1)).unwrap());
    let vault = || Arc::new(VaultTransit::new(&world.options()).unwrap());
    let (before, unlocked) = world.start_with(KeyEncryption::new(local())).await;
    unlocked.unwrap();
    let client = portcullis_storage::Client { id: "c".into(), secret: Secret::new("s"), ..Default::default() };
    before.clients().create(&client).await.unwrap();
    let both = KeyEncryption { older: vec![local()], ..KeyEncryption::new(vault()) };
    let (during, unlocked) = world.start_with(both).await;
    assert_eq!(unlocked.unwrap().not_needed, ["file"]);
    let (after, unlocked) = world.start_with(KeyEncryption::new(vault())).await;
    unlocked.unwrap();
    world.kit.hand.advance(HOUR);
    for store in [&before, &during, &after] {
        // Whoever is still running with the file alone cannot learn the next key, and says so.
        let learnt = store.tend_sealing().await;
        assert_eq!(learnt.is_err(), std::ptr::eq(store, &before), "{learnt:?}");
    }
    let mut sweep = Sweep::default();
    while after.sweep(&mut sweep, 10).await.unwrap() == SweepStep::More {}
    for store in [&during, &after] {
        assert_eq!(store.clients().get("c").await.unwrap().unwrap().secret.expose(), "s");
    }
    // Back, with a Vault that is asked once more.
    let back = KeyEncryption { older: vec![vault()], ..KeyEncryption::new(local()) };
    let (last, unlocked) = world.start_with(back).await;
    assert_eq!(unlocked.unwrap().not_needed, ["vault:transit/portcullis"]);
    assert_eq!(last.clients().get("c").await.unwrap().unwrap().secret.expose(), "s");
}
