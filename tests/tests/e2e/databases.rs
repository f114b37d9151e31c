//! Two replicas of the released `portcullis serve` on one database server: who signs in at one is known to the other, also
//! after a kill and after the server itself was killed.

use std::path::PathBuf;
use std::time::Duration;

use portcullis_testkit::{Clock, Database, DatabaseKind, DatabaseOptions, HttpClient, TestCa, free_ports};
use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Running, USER, World};

/// The password of the hash below.
pub(crate) const GOOD: &str = "password";
const HASH: &str = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";

/// The configuration of a replica on this port of the provider whose issuer is elsewhere.
pub(crate) fn config(world: &World, name: &str, port: u16, issuer: u16, storage: &str) -> PathBuf {
    let config = format!(
        "issuer: http://127.0.0.1:{issuer}/dex\nstorage: {storage}\nweb: {{http: '127.0.0.1:{port}'}}\n\
         oauth2: {{passwordConnector: local, skipApprovalScreen: true}}\nenablePasswordDB: true\n\
         staticPasswords:\n- {{email: {USER}, hash: '{HASH}', username: demo, userID: u-1}}\n\
         staticClients:\n- {{id: app, name: App, secret: app-secret, redirectURIs: ['http://localhost:8000']}}\n"
    );
    world.write(name, &config)
}

pub(crate) fn replica(world: &World, port: u16, issuer: u16, storage: &str) -> Running {
    let file = config(world, &format!("replica-{port}.yaml"), port, issuer, storage);
    let mut serves = Running::start(&mut world.portcullis(&["serve", file.to_str().unwrap()]));
    serves.wait_for("listening");
    serves
}

pub(crate) async fn token(http: &HttpClient, port: u16, form: &[(&str, &str)]) -> Result<Value, String> {
    let mut all = vec![("client_id", "app"), ("client_secret", "app-secret")];
    all.extend(form);
    let response = http.post_form(&format!("http://127.0.0.1:{port}/dex/token"), &all, &[]).await;
    let response = response.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&response.body).into_owned();
    if response.status != 200 {
        return Err(format!("{} {text}", response.status));
    }
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

pub(crate) async fn refresh(http: &HttpClient, port: u16, with: &str) -> Result<String, String> {
    let form = [("grant_type", "refresh_token"), ("refresh_token", with)];
    Ok(token(http, port, &form).await?["refresh_token"].as_str().expect("a refresh token").to_owned())
}

async fn replicas_know_each_others_sign_ins(kind: DatabaseKind, storage: impl Fn(u16) -> String) {
    let mut server = Database::start(kind, DatabaseOptions { durable: true, ..DatabaseOptions::default() });
    server.create("dex");
    let storage = storage(server.port());
    let world = World::new();
    let [first, second] = free_ports();
    let http = TestCa::default().http_client();
    let one = replica(&world, first, first, &storage);
    let other = replica(&world, second, first, &storage);

    let form = [("grant_type", "password"), ("username", USER), ("password", GOOD), ("scope", "openid offline_access")];
    let signed_in = token(&http, first, &form).await.unwrap();
    assert!(signed_in["id_token"].is_string(), "{signed_in}");
    let mut current = signed_in["refresh_token"].as_str().unwrap().to_owned();
    for port in [second, first, second] {
        current = refresh(&http, port, &current).await.unwrap();
    }
    let keys = async |port: u16| {
        let answer = http.get(&format!("http://127.0.0.1:{port}/dex/keys"), &[]).await.unwrap();
        serde_json::from_slice::<Value>(&answer.body).unwrap()["keys"][0]["kid"].clone()
    };
    assert_eq!(keys(first).await, keys(second).await, "one signing key");

    // A replica that was killed has kept nothing to itself.
    one.signal(Signal::KILL);
    one.output();
    current = refresh(&http, second, &current).await.unwrap();
    let one = replica(&world, first, first, &storage);
    current = refresh(&http, first, &current).await.unwrap();

    // The database goes, and comes back: clear refusals meanwhile, and no restart afterwards.
    server.kill();
    // A server process that outlives its killed parent may answer once more.
    let mut refused = None;
    for _ in 0..20 {
        match refresh(&http, first, &current).await {
            Ok(next) => current = next,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let refused = refused.expect("a database that is gone is told");
    assert!(refused.starts_with("503 ") || refused.starts_with("500 "), "{refused}");
    server.restart();
    let begun = Clock::system().now();
    let back = loop {
        match refresh(&http, first, &current).await {
            Ok(token) => break token,
            Err(error) => {
                assert!(Clock::system().now() < begun + Duration::from_secs(30), "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    refresh(&http, second, &back).await.unwrap();
    for serves in [one, other] {
        serves.signal(Signal::TERM);
        let log = serves.output();
        let log = String::from_utf8_lossy(&log.stderr).into_owned() + &String::from_utf8_lossy(&log.stdout);
        assert!(!log.contains(Database::PASSWORD), "the password is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_postgresql() {
    let storage = |port| {
        format!(
            "{{type: postgres, config: {{host: 127.0.0.1, port: {port}, user: {}, password: {}, database: dex, ssl: {{mode: disable}}}}}}",
            Database::USER,
            Database::PASSWORD
        )
    };
    replicas_know_each_others_sign_ins(DatabaseKind::Postgres, storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_mariadb() {
    let storage = |port| {
        format!(
            "{{type: mysql, config: {{host: 127.0.0.1, port: {port}, user: {}, password: {}, database: dex, ssl: {{mode: 'false'}}}}}}",
            Database::USER,
            Database::PASSWORD
        )
    };
    replicas_know_each_others_sign_ins(DatabaseKind::MariaDb, storage).await;
}
