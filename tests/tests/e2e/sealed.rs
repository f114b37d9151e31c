//! The released `portcullis serve` with a key-encryption key: what is in its file, what it says, and what it refuses.

use std::path::Path;

use portcullis_testkit::{HttpClient, TestCa, TransitGrant, TransitStandIn, free_port};
use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Running, USER, World};

/// The password of the hash below.
const GOOD: &str = "password";
const HASH: &str = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

struct Provider {
    world: World,
    port: u16,
    http: HttpClient,
}

impl Provider {
    fn new() -> Self {
        Self { world: World::new(), port: free_port(), http: TestCa::default().http_client() }
    }

    /// Runs with this under `portcullis.encryption`, and these variables.
    fn run(&self, encryption: &str, env: &[(&str, &str)]) -> Running {
        let (port, store) = (self.port, self.world.home().join("store"));
        std::fs::create_dir_all(&store).unwrap();
        let config = format!(
            "issuer: http://127.0.0.1:{port}/dex\nstorage: {{type: sqlite3, config: {{file: '{}'}}}}\n\
             web: {{http: '127.0.0.1:{port}'}}\noauth2: {{passwordConnector: local}}\nenablePasswordDB: true\n\
             portcullis: {{encryption: {encryption}}}\n\
             staticPasswords:\n- {{email: {USER}, hash: '{HASH}', username: demo, userID: u-1}}\n\
             staticClients:\n- {{id: app, name: App, secret: app-secret, redirectURIs: ['http://localhost:8000']}}\n",
            store.join("dex.db").display()
        );
        let file = self.world.write("serve.yaml", &config);
        Running::start(self.world.portcullis(&["serve", file.to_str().unwrap()]).envs(env.iter().copied()))
    }

    /// The same, until it listens.
    fn serve(&self, encryption: &str, env: &[(&str, &str)]) -> Running {
        let mut serves = self.run(encryption, env);
        serves.wait_for("listening");
        serves
    }

    /// It ends by itself; what it said.
    fn refused(&self, encryption: &str, env: &[(&str, &str)]) -> String {
        let output = self.run(encryption, env).output();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("hint: ") && !said.contains("AAECAwQF"), "{said}");
        said
    }

    async fn token(&self, form: &[(&str, &str)]) -> String {
        let mut all = vec![("client_id", "app"), ("client_secret", "app-secret")];
        all.extend(form);
        let url = format!("http://127.0.0.1:{}/dex/token", self.port);
        let response = self.http.post_form(&url, &all, &[]).await.unwrap();
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
        let answer: Value = serde_json::from_slice(&response.body).unwrap();
        answer["refresh_token"].as_str().expect("a refresh token").to_owned()
    }

    async fn sign_in(&self) -> String {
        let scope = "openid offline_access";
        self.token(&[("grant_type", "password"), ("username", USER), ("password", GOOD), ("scope", scope)]).await
    }

    async fn refresh(&self, token: &str) -> String {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// Every byte that is kept.
    fn stored(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.world.home().join("store")).unwrap();
        files.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn end(serves: Running) -> String {
    serves.signal(Signal::TERM);
    let output = serves.output();
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn key_file(provider: &Provider, name: &str, text: &str) -> String {
    let file = provider.world.write(name, text);
    mode(&file, 0o400);
    format!("{{file: '{}'}}", file.display())
}

fn mode(file: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_store_holds_no_secret_and_starts_with_its_key_alone() {
    let provider = Provider::new();
    let key = key_file(&provider, "key", &format!("{KEY}\n"));
    let serves = provider.serve(&format!("{{keys: [{key}]}}"), &[]);
    let first = provider.sign_in().await;
    let second = provider.refresh(&first).await;
    let stored = provider.stored();
    let log = end(serves);
    assert!(log.contains("secrets in the store are sealed") && log.contains("key=\"kek-"), "{log}");
    assert!(!log.contains("are not sealed") && !log.contains("every user of this machine"), "{log}");
    for (stored, when) in [(stored, "while it runs"), (provider.stored(), "afterwards")] {
        assert!(holds(&stored, "\"s."), "{when}");
        // Without a seal a secret begins so.
        assert!(!holds(&stored, "\"p."), "{when}");
        for secret in [&first, &second, &first[first.len() - 60..], KEY, GOOD, "app-secret"] {
            assert!(!holds(&stored, secret), "{secret} is stored {when}");
        }
    }

    let without = provider.refused("{}", &[]);
    assert!(without.contains("sealed with the key-encryption key kek-"), "{without}");
    let id = without.split("key-encryption key ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let other = key_file(&provider, "other", &"ab".repeat(32));
    let other = provider.refused(&format!("{{keys: [{other}]}}"), &[]);
    assert!(other.contains("is wrapped with the key-encryption key kek-"), "{other}");
    let named = format!("{{keys: [{{id: {id}, env: WRONG}}]}}");
    let wrong = provider.refused(&named, &[("WRONG", &"cd".repeat(32))]);
    assert!(wrong.contains("does not open") && wrong.contains("environment variable WRONG"), "{wrong}");
    let missing = provider.refused("{keys: [{file: /nowhere/key}]}", &[]);
    assert!(missing.contains("/nowhere/key"), "{missing}");
    // None of those has overwritten anything: with the key it goes on.
    let open = provider.world.home().join("key");
    mode(&open, 0o444);
    let serves = provider.serve("{}", &[("PORTCULLIS_ENCRYPTION_KEY_FILE", open.to_str().unwrap())]);
    provider.refresh(&second).await;
    let log = end(serves);
    assert!(log.contains("every user of this machine can read the key-encryption key"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_clear_says_so_once_and_holds_nothing_that_can_be_presented() {
    let provider = Provider::new();
    let serves = provider.serve("{}", &[]);
    let first = provider.sign_in().await;
    let second = provider.refresh(&first).await;
    let stored = provider.stored();
    let log = end(serves);
    assert_eq!(log.matches("are not sealed").count(), 1, "{log}");
    assert!(log.contains("PORTCULLIS_ENCRYPTION_KEY_FILE"), "{log}");
    assert!(holds(&stored, "\"p."));
    for secret in [&first, &second, &first[first.len() - 60..], &second[second.len() - 60..], GOOD, "app-secret"] {
        assert!(!holds(&stored, secret), "{secret} is stored");
    }
    // Sealing is switched on: at the next start, and not at once.
    let key = key_file(&provider, "key", KEY);
    let serves = provider.serve(&format!("{{keys: [{key}]}}"), &[]);
    provider.refresh(&second).await;
    let log = end(serves);
    assert!(log.contains("made the first data key") && log.contains("next_seals_from"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_goes_down_stops_nobody_who_has_started() {
    let (provider, mut vault) = (Provider::new(), TransitStandIn::start().await);
    let ca = provider.world.home().join("vault.pem");
    vault.write_ca(&ca);
    vault.rotate("portcullis");
    vault.grant("s.token-of-vault", TransitGrant::Use);
    let url = vault.url();
    let env = [
        ("VAULT_ADDR", url.as_str()),
        ("VAULT_CACERT", ca.to_str().unwrap()),
        ("VAULT_TOKEN", "s.token-of-vault"),
        ("PORTCULLIS_ENCRYPTION_VAULT_KEY", "portcullis"),
    ];
    let serves = provider.serve("{}", &env);
    let token = provider.sign_in().await;
    vault.stop().await;
    let token = provider.refresh(&token).await;
    let log = end(serves);
    assert!(log.contains("secrets in the store are sealed") && log.contains("vault:transit/portcullis"), "{log}");
    assert!(!log.contains("s.token-of-vault"), "{log}");
    assert!(holds(&provider.stored(), "vault:v1:") && !holds(&provider.stored(), "\"p."));

    let down = provider.refused("{}", &env);
    assert!(down.contains("trying again") && down.contains("cannot connect") && down.contains("VAULT_ADDR"), "{down}");
    vault.restart().await;
    vault.revoke("s.token-of-vault");
    let refused = provider.refused("{}", &env);
    assert!(refused.contains("refused the token (403"), "{refused}");
    vault.grant("s.token-of-vault", TransitGrant::Use);
    let serves = provider.serve("{}", &env);
    provider.refresh(&token).await;
    end(serves);
}
