//! `portcullis.encryption` and its environment variables, on whole files.

use std::path::PathBuf;
use std::time::Duration;

use portcullis_storage::{VaultToken, VaultTransitOptions};

use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn with(encryption: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let own = if encryption.is_empty() { String::new() } else { format!("portcullis: {{encryption: {encryption}}}\n") };
    let text = format!(
        "issuer: http://127.0.0.1:5556/dex\nweb: {{http: 127.0.0.1:5556}}\nenablePasswordDB: true\n\
         storage: {{type: memory}}\n{own}"
    );
    let (raw, _) = RawConfig::read(&Document::parse(&text, "c.yaml").unwrap().root());
    raw.validate(&|name| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

fn encryption(encryption: &str, env: &[(&str, &str)]) -> Encryption {
    with(encryption, env).unwrap().encryption
}

fn refused(encryption: &str, env: &[(&str, &str)]) -> String {
    let errors = with(encryption, env).unwrap_err();
    let text = errors.to_string();
    assert!(!format!("{text} {errors:?}").contains("AAECAwQF"), "{text}");
    assert!(text.contains("c.yaml"), "{text}");
    text
}

#[test]
fn without_a_word_nothing_is_sealed() {
    for text in ["", "{}", "{keys: []}"] {
        let got = encryption(text, &[]);
        assert!(got.keys.is_empty() && got.seal, "{text}");
        assert_eq!(got.data_key_lifetime, Duration::from_secs(90 * 24 * 3600));
    }
}

#[test]
fn keys_are_read_in_their_order_from_files_variables_and_vault() {
    let env = [("DIR", "/keys"), ("KEY", KEY), ("VAULT_ADDR", "https://vault:8200"), ("VAULT_TOKEN_FILE", "/token")];
    let got = encryption(
        "{keys: [{vault: {key: portcullis}}, {id: b, file: $DIR/b}, {env: KEY}],
          seal: false, dataKeyLifetime: 720h, replaceDataKeysBefore: '2026-11-27T08:00:00Z'}",
        &env,
    );
    let vault = VaultTransitOptions {
        id: None,
        address: "https://vault:8200".to_owned(),
        mount: "transit".to_owned(),
        key: "portcullis".to_owned(),
        namespace: None,
        token: VaultToken::File(PathBuf::from("/token")),
        ca_file: None,
        proxy: Default::default(),
    };
    let from: Vec<_> = got.keys.iter().map(|key| (key.id.as_deref(), key.from.clone())).collect();
    let value = portcullis_runtime::Secret::new(KEY);
    assert_eq!(
        from,
        [
            (None, KeySource::Vault(Box::new(vault))),
            (Some("b"), KeySource::File(PathBuf::from("/keys/b"))),
            (None, KeySource::Variable { name: "KEY".to_owned(), value }),
        ]
    );
    assert!(!got.seal);
    assert_eq!(got.data_key_lifetime, Duration::from_secs(720 * 3600));
    assert_eq!(got.replace_before.unwrap().rfc3339(), "2026-11-27T08:00:00Z");
    assert!(!format!("{got:?}").contains("AAECAwQF"));
}

#[test]
fn the_file_wins_over_vaults_variables() {
    let env = [
        ("VAULT_ADDR", "https://other:8200"),
        ("VAULT_TOKEN", "s.token"),
        ("VAULT_NAMESPACE", "team"),
        ("VAULT_CACERT", "/ca.pem"),
    ];
    let text =
        "{keys: [{id: v, vault: {address: 'https://vault:8200', mount: kms, key: k, token: s.own, caFile: /own.pem}}]}";
    let KeySource::Vault(got) = encryption(text, &env).keys.remove(0).from else { panic!("no Vault") };
    assert_eq!((got.id.as_deref(), got.address.as_str(), got.mount.as_str()), (Some("v"), "https://vault:8200", "kms"));
    assert_eq!(got.token, VaultToken::Value("s.own".into()));
    assert_eq!((got.namespace.as_deref(), got.ca_file), (Some("team"), Some(PathBuf::from("/own.pem"))));
    let KeySource::Vault(got) = encryption("{keys: [{vault: {key: k}}]}", &env).keys.remove(0).from else { panic!() };
    assert_eq!(got.token, VaultToken::Value("s.token".into()));
    assert_eq!(got.ca_file, Some(PathBuf::from("/ca.pem")));
}

#[test]
fn a_chart_gives_keys_by_variables_alone() {
    let key = |env: &[(&str, &str)]| encryption("", env).keys.into_iter().map(|key| key.from).collect::<Vec<_>>();
    let file = |path: &str| KeySource::File(PathBuf::from(path));
    let value = |name: &str| KeySource::Variable { name: name.to_owned(), value: KEY.into() };
    assert_eq!(key(&[("PORTCULLIS_ENCRYPTION_KEY", KEY)]), [value("PORTCULLIS_ENCRYPTION_KEY")]);
    assert_eq!(key(&[("PORTCULLIS_ENCRYPTION_KEY_FILE", "/k"), ("PORTCULLIS_ENCRYPTION_KEY", "")]), [file("/k")]);
    let all = [
        ("PORTCULLIS_ENCRYPTION_KEY_FILE", "/k"),
        ("PORTCULLIS_ENCRYPTION_OLD_KEY", KEY),
        ("PORTCULLIS_ENCRYPTION_OLD_KEY_FILE", "/old"),
    ];
    assert_eq!(key(&all), [file("/k"), value("PORTCULLIS_ENCRYPTION_OLD_KEY"), file("/old")]);
    let vault = [
        ("PORTCULLIS_ENCRYPTION_VAULT_KEY", "k"),
        ("PORTCULLIS_ENCRYPTION_VAULT_MOUNT", "m"),
        ("VAULT_ADDR", "https://v"),
        ("VAULT_TOKEN", "t"),
    ];
    let got = key(&vault);
    assert!(matches!(&got[..], [KeySource::Vault(o)] if o.key == "k" && o.mount == "m"), "{got:?}");
    let off = encryption("", &[("PORTCULLIS_ENCRYPTION_KEY", KEY), ("PORTCULLIS_ENCRYPTION_SEAL", "false")]);
    assert!(!off.seal);
    let off = [("PORTCULLIS_ENCRYPTION_SEAL", "false")];
    assert!(!encryption("{keys: [{file: /f}]}", &off).seal, "also for keys of the file");
    assert!(encryption("{keys: [{file: /f}], seal: true}", &off).seal, "what the file says counts");
    assert_eq!(encryption("{keys: [{file: /f}]}", &all).keys.len(), 1, "what the file says counts alone");
}

#[test]
fn what_cannot_be_used_is_named_with_its_place_and_never_shown() {
    let short = &KEY[..20];
    for (text, env, want) in [
        ("{keys: [{}]}", &[][..], "portcullis.encryption.keys[0]: the key is given nowhere"),
        ("{keys: [{file: /a, env: B}]}", &[], "given in more than one way"),
        ("{keys: [{env: NOPE}]}", &[], "NOPE is not set"),
        ("{keys: [{env: SHORT}]}", &[("SHORT", short)], "SHORT: a key-encryption key has 32 bytes, this one 15"),
        ("{keys: [{env: ODD}]}", &[("ODD", "AAECAwQF!")], "ODD: a key-encryption key is 32 bytes in base64"),
        ("{keys: [{id: 'a b', file: /a}]}", &[], "a key-encryption key's id has"),
        ("{keys: [{vault: {key: k}}]}", &[("VAULT_TOKEN", "t")], "Vault's address is not given"),
        ("{keys: [{vault: {key: k}}]}", &[("VAULT_ADDR", "https://v")], "there is no token for Vault"),
        ("{keys: [{vault: {key: ../k}}]}", &[("VAULT_ADDR", "https://v"), ("VAULT_TOKEN", "t")], "cannot be the key"),
        ("{keys: [{vault: {key: k}}]}", &[("VAULT_ADDR", "v:1"), ("VAULT_TOKEN", "t")], "no address of a Vault"),
        ("{seal: true}", &[], "there is no key for it"),
        ("{keys: [{file: /a}], dataKeyLifetime: 1h}", &[], "at least 24h"),
        ("{keys: [{file: /a}], dataKeyLifetime: 90d}", &[], "dataKeyLifetime"),
        ("{keys: [{file: /a}], replaceDataKeysBefore: today}", &[], "this is no time"),
        ("{keys: [{file: /a}], key: x}", &[], "unknown key"),
        ("{keys: [{file: /a, secret: x}]}", &[], "unknown key"),
        ("", &[("PORTCULLIS_ENCRYPTION_KEY", KEY), ("PORTCULLIS_ENCRYPTION_KEY_FILE", "/k")], "more than one of"),
        ("", &[("PORTCULLIS_ENCRYPTION_OLD_KEY", KEY)], "no current one"),
        ("", &[("PORTCULLIS_ENCRYPTION_KEY", short)], "PORTCULLIS_ENCRYPTION_KEY: a key-encryption key has 32 bytes"),
    ] {
        let got = refused(text, env);
        assert!(got.contains(want), "{text}: {got}");
    }
    let many = ["{file: /a}"; 9].join(", ");
    assert!(refused(&format!("{{keys: [{many}]}}"), &[]).contains("more than 8 keys"));
    assert_eq!(encryption(&format!("{{keys: [{}]}}", ["{file: /a}"; 8].join(", ")), &[]).keys.len(), 8);
}

#[test]
fn a_plain_connection_to_vault_is_noticed() {
    let text = "{keys: [{vault: {address: 'http://vault:8200', key: k, token: t}}]}";
    let notices = with(text, &[]).unwrap().notices.iter().map(ToString::to_string).collect::<String>();
    assert!(notices.contains("without encryption"), "{notices}");
}
