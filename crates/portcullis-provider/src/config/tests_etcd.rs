//! `storage: {type: etcd}` on whole files.

use portcullis_storage::{EtcdClientCertificate, EtcdCredentials, EtcdOptions, EtcdTls};

use super::*;

/// A configuration whose `storage.config` is this.
fn with(config: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let text = format!(
        "issuer: http://127.0.0.1:5556/dex\nweb: {{http: 127.0.0.1:5556}}\nenablePasswordDB: true\n\
         storage:\n  type: etcd\n  config: {config}\n"
    );
    let (raw, warnings) = RawConfig::read(&Document::parse(&text, "c.yaml").unwrap().root());
    assert!(warnings.is_empty(), "{warnings:?}");
    raw.validate(&|name| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

fn options(config: &Config) -> &EtcdOptions {
    match &config.storage {
        Storage::Etcd(options) => options,
        other => panic!("{other:?}"),
    }
}

fn notices(config: &Config) -> String {
    config.notices.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_key_of_dexs_is_read_and_expanded() {
    let config = with(
        "{endpoints: ['https://$HOST:2379', 'b:2379'], namespace: $NS/, username: $NAME, password: $PW,
         ssl: {serverName: $NAME.etcd, caFile: /$NS/ca, keyFile: /$NS/key, certFile: /$NS/cert}}",
        &[("HOST", "a"), ("NS", "n"), ("NAME", "dex"), ("PW", "pw-that-must-not-show")],
    )
    .unwrap();
    let expected = EtcdOptions {
        endpoints: vec!["https://a:2379".to_owned(), "b:2379".to_owned()],
        namespace: "n/".to_owned(),
        credentials: Some(EtcdCredentials { username: "dex".to_owned(), password: "pw-that-must-not-show".into() }),
        tls: Some(EtcdTls {
            server_name: Some("dex.etcd".to_owned()),
            ca_file: Some("/n/ca".into()),
            client: Some(EtcdClientCertificate { cert_file: "/n/cert".into(), key_file: "/n/key".into() }),
        }),
        ..EtcdOptions::default()
    };
    assert_eq!(options(&config), &expected);
    assert!(!format!("{config:?}").contains("must-not-show"));
    assert!(!notices(&config).contains("storage"), "{}", notices(&config));
}

#[test]
fn endpoints_alone_are_enough() {
    let config = with("{endpoints: ['http://127.0.0.1:2379']}", &[]).unwrap();
    let endpoints = vec!["http://127.0.0.1:2379".to_owned()];
    assert_eq!(options(&config), &EtcdOptions { endpoints, ..EtcdOptions::default() });
}

#[test]
fn what_is_missing_or_wrong_is_said_with_its_line() {
    for (config, want) in [
        ("{}", "storage.type: etcdclient: no available endpoints"),
        ("{endpoints: []}", "c.yaml:6: storage.config.endpoints: etcdclient: no available endpoints"),
        ("{endpoints: a:1}", "storage.config.endpoints: expected a list"),
        ("{endpoints: ['unix:///run/etcd']}", "\"unix:///run/etcd\" has another scheme than http or https"),
        ("{endpoints: ['unixs:///run/etcd']}", "has another scheme than http or https"),
        (
            "{endpoints: [a:1], ssl: {certFile: c}}",
            "storage.config.ssl.certFile: KeyFile and CertFile must both be present[key: false, cert: true]",
        ),
        (
            "{endpoints: [a:1], ssl: {keyFile: c}}",
            "storage.config.ssl.keyFile: KeyFile and CertFile must both be present[key: true, cert: false]",
        ),
    ] {
        let text = with(config, &[]).unwrap_err().to_string();
        assert!(text.contains(want), "{config}: {text}");
    }
    let text = with("{endpoints: ['http://root:pw-that-must-not-show@a:1']}", &[]).unwrap_err().to_string();
    assert!(text.contains("use `username` and `password`") && !text.contains("must-not-show"), "{text}");
}

#[test]
fn what_has_no_effect_gets_a_word() {
    for (config, word) in [
        ("{endpoints: [a:1], username: dex}", "c.yaml:6: storage.config.username: `username` and `password` count"),
        ("{endpoints: [a:1], password: x}", "storage.config.password: `username` and `password` count only together"),
        ("{endpoints: ['http://a:1'], ssl: {caFile: c}}", "connections to http:// endpoints are not encrypted"),
    ] {
        let config = with(config, &[]).unwrap();
        assert!(notices(&config).contains(word), "{word}: {}", notices(&config));
        assert_eq!(options(&config).credentials, None);
    }
}
