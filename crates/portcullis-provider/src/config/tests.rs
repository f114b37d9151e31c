//! The reader and the validation together, on whole files.

use std::collections::HashMap;
use std::time::Duration;

use portcullis_jose::KeyKind;
use portcullis_oidc::vocabulary::PkceMethod;

use super::*;

const BASE: &str =
    "issuer: http://127.0.0.1:5556/dex\nstorage: {type: memory}\nweb: {http: 127.0.0.1:5556}\nenablePasswordDB: true\n";
const HASH: &str = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";

fn read(text: &str) -> (RawConfig, Vec<Warning>) {
    RawConfig::read(&Document::parse(text, "c.yaml").unwrap().root())
}

fn validate_with(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let env: HashMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    read(text).0.validate(&|name| env.get(name).cloned())
}

fn validate(text: &str) -> Result<Config, ConfigErrors> {
    validate_with(text, &[])
}

/// The base file and more.
fn with(more: &str) -> Result<Config, ConfigErrors> {
    validate(&format!("{BASE}{more}"))
}

fn error(more: &str) -> String {
    with(more).unwrap_err().to_string()
}

#[test]
fn the_guides_file_is_read_and_says_what_it_needs() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/testdata/values.yaml")).unwrap();
    let doc = Document::parse(&text, "values.yaml").unwrap();
    let (mut raw, warnings) = RawConfig::read(&doc.section(&["dex", "config"]).unwrap());
    let all: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(
        all[0].starts_with("values.yaml:58: dex.config.expiry.idToken: ") && all[0].contains("idTokens"),
        "{all:?}"
    );
    assert_eq!(raw.grpc.as_ref().unwrap().place.path, "dex.config.grpc");

    let errors = raw.clone().validate(&|_| None).unwrap_err().to_string();
    for part in ["values.yaml:21: dex.config.issuer: server: can't parse issuer URL", "the gRPC API is not served yet"]
    {
        assert!(errors.contains(part), "{part} in {errors}");
    }

    raw.issuer = Some(Field::given("https://localhost:5554".to_owned()));
    let in_cluster = RawConfig { grpc: None, ..raw.clone() }.validate(&|_| None).unwrap().storage;
    assert!(matches!(in_cluster, Storage::Kubernetes(_)), "{in_cluster:?}");
    raw.storage = Some(RawStorage {
        kind: Some(Field::given("memory".to_owned())),
        place: Field::given(()).place,
        file: None,
        etcd: RawEtcd::default(),
        kubernetes: RawKubernetes::default(),
        database: None,
    });
    raw.grpc = None;
    let config = raw.validate(&|_| None).unwrap();
    assert_eq!(config.expiry.id_tokens, Duration::from_secs(8 * 3600));
    assert_eq!(config.clients[0].redirect_uris, ["https://dex.mural.local/callback", "http://localhost:8000"]);
    assert_eq!(config.passwords[0].email, "oidc-demo-user@example.com");
    assert!(config.passwords[0].email_verified);
    assert!(config.passwords[0].hash.verify("ChangeMe!234"));
    assert_eq!(config.oauth2.grants, [Grant::AuthorizationCode, Grant::Password, Grant::RefreshToken]);
    assert_eq!(config.oauth2.pkce_methods, [PkceMethod::S256, PkceMethod::Plain]);
    assert_eq!(config.logger, Logger { level: -4, json: false, exclude_fields: vec![] });
    assert_eq!(config.telemetry.as_deref(), Some("0.0.0.0:5558"));
    let notices: Vec<String> = config.notices.iter().map(ToString::to_string).collect();
    assert!(
        notices.iter().any(|n| n.contains("the password grant is on"))
            && notices.iter().any(|n| n.contains("plain PKCE")),
        "{notices:?}"
    );
}

#[test]
fn an_empty_file_gives_dex_s_block() {
    for text in ["", "{}", "issuer:\n"] {
        let errors = validate(text).unwrap_err();
        let block = "invalid Config:\n\t-\tno issuer specified in config file\n\t-\tno storage supplied in config file\n\t-\tmust supply a HTTP/HTTPS  address to listen on";
        assert!(errors.to_string().starts_with(block), "{errors}");
        assert!(errors.hints().len() >= 3);
    }
}

#[test]
fn the_block_holds_everything_in_dex_s_order() {
    let text = "staticPasswords: [{email: a, hash: '$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W'}]\nweb: {https: ':1', tlsMinVersion: '1.3', tlsMaxVersion: '1.2'}\ngrpc: {tlsCert: x, tlsMinVersion: '1.1'}\nstorage: {}\n";
    let text = validate(text).unwrap_err().to_string();
    let block: Vec<&str> = text
        .lines()
        .take_while(|l| l.starts_with("\t-\t") || l.starts_with("invalid"))
        .skip(1)
        .map(|l| &l[3..])
        .collect();
    assert_eq!(
        block,
        [
            "no issuer specified in config file",
            "cannot specify static passwords without enabling password db",
            "no storage supplied in config file",
            "no cert specified for HTTPS",
            "no private key specified for HTTPS",
            "TLSMinVersion greater than TLSMaxVersion",
            "no address specified for gRPC",
            "must specific both a gRPC TLS cert and key",
            "supported TLS versions are: 1.2, 1.3",
        ]
    );
}

#[test]
fn keys_match_in_any_case_and_unknown_ones_are_named_with_the_nearest() {
    let (raw, warnings) = read("ISSUER: http://a\nStaticclients:\n- ID: x\n  nam: y\nbanana: 1\n");
    assert_eq!(raw.issuer.as_ref().unwrap().value, "http://a");
    assert_eq!(raw.static_clients[0].id.as_ref().unwrap().value, "x");
    let all: Vec<_> = warnings.iter().map(|w| (w.place.to_string(), w.hint.clone())).collect();
    assert_eq!(
        all,
        [
            (
                "c.yaml:4: staticClients[0].nam".to_owned().replace("staticClients", "Staticclients"),
                Some("did you mean `name`?".to_owned())
            ),
            ("c.yaml:5: banana".to_owned(), None),
        ]
    );
}

#[test]
fn dex_s_strict_switch_refuses_unknown_keys() {
    let text = format!("{BASE}expiry: {{idToken: 8h}}\nbanana: 1\n");
    assert!(validate(&text).is_ok());
    for value in ["true", "1", "T"] {
        let error = validate_with(&text, &[("DEX_CONFIG_DISALLOW_UNKNOWN_FIELDS", value)]).unwrap_err().to_string();
        assert!(
            error.contains("c.yaml:5: expiry.idToken: json: unknown field \"idToken\"")
                && error.contains("unknown field \"banana\""),
            "{error}"
        );
    }
    assert!(validate_with(&text, &[("DEX_CONFIG_DISALLOW_UNKNOWN_FIELDS", "maybe")]).is_ok());
}

#[test]
fn the_right_key_wins_over_the_guides() {
    let config = with("expiry: {idToken: 8h, idTokens: 1h}\n").unwrap();
    assert_eq!(config.expiry.id_tokens, Duration::from_secs(3600));
    assert_eq!(with("").unwrap().expiry.id_tokens, Duration::from_secs(86_400));
}

#[test]
fn scalars_are_not_coerced() {
    for (more, want) in [
        ("logger: {level: 3}", "c.yaml:5: logger.level: expected a string, found a number"),
        ("frontend: {issuer: yes}", "c.yaml:5: frontend.issuer: expected a string, found a boolean"),
        (
            "oauth2: {skipApprovalScreen: 'yes'}",
            "c.yaml:5: oauth2.skipApprovalScreen: expected a boolean, found a string",
        ),
        ("oauth2: [1]", "c.yaml:5: oauth2: expected a map, found a list"),
        ("staticClients: {id: x}", "c.yaml:5: staticClients: expected a list, found a map"),
        (
            "staticClients: [{id: x, name: y, secret: 12345}]",
            "c.yaml:5: staticClients[0].secret: expected a string, found a number",
        ),
    ] {
        let text = error(more);
        assert!(text.contains(want), "{more}: {text}");
        assert!(!text.contains("12345"), "a value that may be secret is shown");
    }
    assert!(validate(&BASE.replace("{http: 127.0.0.1:5556}", "{http: 127.0.0.1:5556, tlsMinVersion: 1.3}")).is_err());
    assert!(with("oauth2: {skipApprovalScreen: on}").unwrap().oauth2.skip_approval);
}

#[test]
fn a_key_given_twice_counts_once_with_a_word() {
    let (raw, warnings) = read("issuer: http://a\nissuer: http://b\n");
    assert_eq!(raw.issuer.unwrap().value, "http://b");
    assert_eq!(warnings[0].place.line, Some(1));
    let (raw, warnings) = read("issuer: http://a\nIssuer: http://b\n");
    assert_eq!(raw.issuer.unwrap().value, "http://a", "Go applies keys in byte order, so the lower-case one is last");
    assert_eq!(warnings.len(), 1);
}

#[test]
fn clients_are_checked_with_dex_s_words() {
    for (client, want) in [
        ("{id: x, secret: s}", "invalid config: Name field is required for a client"),
        ("{name: app, secret: s}", "invalid config: ID or IDEnv field is required for a client"),
        (
            "{name: app, id: x, idEnv: E, secret: s}",
            "invalid config: ID and IDEnv fields are exclusive for client \"x\"",
        ),
        ("{name: app, id: x}", "invalid config: Secret or SecretEnv field is required for client \"x\""),
        (
            "{name: app, id: x, secret: s, secretEnv: E}",
            "invalid config: Secret and SecretEnv fields are exclusive for client \"x\"",
        ),
        (
            "{name: app, id: x, secretEnv: UNSET}",
            "the environment variable \"UNSET\" is empty, so anybody could act as this client",
        ),
        ("{name: app, idEnv: UNSET, secret: s}", "the environment variable \"UNSET\" is empty"),
        (
            "{name: app, id: c, secret: s, refreshTokenLifetime: v}",
            "staticClients: client \"c\": invalid refresh token lifetime \"v\": want \"standalone\" or \"session\"",
        ),
        (
            "{name: app, id: c, secret: s, mfaChain: [x]}",
            "staticClients: client \"c\" references unknown MFA authenticator \"x\"",
        ),
    ] {
        let text = error(&format!("staticClients: [{client}]\n"));
        assert!(text.contains(want), "{client}: {text}");
    }
    let config = validate_with(
        &format!("{BASE}staticClients: [{{name: app, idEnv: I, secretEnv: S}}, {{id: p, name: app, public: true}}]"),
        &[("I", "the-id"), ("S", "the-secret")],
    )
    .unwrap();
    assert_eq!(config.clients[0].id, "the-id");
    assert_eq!(config.clients[0].secret.expose(), "the-secret");
    assert!(config.clients[1].public && config.clients[1].secret.is_empty());
    assert!(!format!("{config:?}").contains("the-secret"));
}

#[test]
fn of_two_clients_or_users_with_one_name_the_last_counts() {
    let config = with(&format!("staticClients: [{{id: a, name: one, secret: s}}, {{id: a, name: two, secret: s}}]\nstaticPasswords: [{{email: A@b, userID: '1', hash: '{HASH}'}}, {{email: a@B, userID: '2', hash: '{HASH}'}}]")).unwrap();
    assert_eq!((config.clients.len(), config.clients[0].name.as_str()), (1, "two"));
    assert_eq!((config.passwords.len(), config.passwords[0].user_id.as_str()), (1, "2"));
    assert_eq!(config.notices.iter().filter(|n| n.message.contains("the last one counts")).count(), 2);
}

#[test]
fn hashes_are_checked_with_their_line() {
    for (hash, want) in [
        ("hash: 'ChangeMe!234'", "c.yaml:6: staticPasswords[0].hash: malformed bcrypt hash: this is not a bcrypt hash"),
        (
            "hash: '$2a$04$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W'",
            "given hash cost = 4 does not meet minimum cost requirement = 10",
        ),
        (
            "hash: '$2a$17$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W'",
            "given hash cost = 17 is above upper bound cost = 16, recommended cost = 12",
        ),
        ("hash: '$2x$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W'", "$2x$ is unsafe"),
        ("hash: ''", "no password hash provided"),
        ("username: x", "no password hash provided"),
        ("hashFromEnv: UNSET", "no password hash provided"),
    ] {
        let text = error(&format!("staticPasswords: [{{email: a, userID: u,\n  {hash}}}]"));
        assert!(text.contains(want), "{hash}: {text}");
        assert!(!text.contains("ChangeMe") && !text.contains("8T4W"), "the value is shown: {text}");
    }
}

#[test]
fn the_guides_own_bad_hash_is_a_problem_of_its_own() {
    let errors =
        with(&format!("staticPasswords: [{{email: a, hash: '{HASH}'}}, {{email: b, hash: '{GUIDE_BAD_HASH}'}}]"))
            .unwrap_err();
    assert_eq!(errors.problems().len(), 1);
    assert_eq!(errors.problems()[0].kind, ProblemKind::GuideHash { password: 1 });
    assert!(errors.hints()[0].contains(GUIDE_GOOD_HASH));
}

#[test]
fn hashes_come_from_the_environment_and_from_base64() {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(HASH);
    let text = format!(
        "{BASE}staticPasswords: [{{email: a, userID: u, hashFromEnv: H}}, {{email: b, userID: v, hash: '{encoded}'}}]"
    );
    let config = validate_with(&text, &[("H", HASH)]).unwrap();
    assert_eq!(config.passwords[0].hash, config.passwords[1].hash);
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    for (more, want) in [
        (
            "connectors: [{type: ldap, id: corp, name: L}]",
            "connectors are not served yet (this one is \"corp\" of type \"ldap\")",
        ),
        ("sessions: {}", "sessions config requires sessions to be enabled (DEX_SESSIONS_ENABLED=true)"),
        ("mfa: {authenticators: []}", "mfa requires sessions to be enabled (DEX_SESSIONS_ENABLED=true)"),
        ("grpc: {addr: ':5557'}", "the gRPC API is not served yet"),
        ("frontend: {dir: /x}", "own templates (frontend.dir) are not supported yet"),
        ("signer: {type: vault}", "the vault signer is not served yet"),
        ("signer: {type: x}", "unknown signer type \"x\""),
        ("signer: {type: local}", "failed to open local signer: signer.config.keysRotationPeriod must be specified"),
        (
            "signer: {type: local, config: {keysRotationPeriod: 6h, algorithm: EdDSA}}",
            "parse signer config: unsupported local signer algorithm \"EdDSA\"",
        ),
        (
            "oauth2: {responseTypes: [code, id_token]}",
            "response type \"id_token\" (implicit and hybrid flows) is not served yet",
        ),
        ("oauth2: {responseTypes: [nonsense]}", "unsupported response_type \"nonsense\""),
        ("oauth2: {grantTypes: [client_credentials]}", "grant type \"client_credentials\" is not served yet"),
        ("oauth2: {pkce: {codeChallengeMethodsSupported: [S512]}}", "unsupported PKCE challenge method \"S512\""),
        ("oauth2: {passwordConnector: ldap}", "there is no connector \"ldap\" that can check passwords"),
        ("logger: {format: xml}", "invalid config: log format is not one of the supported values (json, text): xml"),
        ("expiry: {idTokens: 8}", "expiry.idTokens: expected a string, found a number"),
        (
            "expiry: {idTokens: 8d}",
            "invalid config value \"8d\" for id token expiry: time: unknown unit \"d\" in duration \"8d\"",
        ),
        ("expiry: {refreshTokens: {reuseInterval: x}}", "invalid refresh token expiration policy config"),
        ("web: {http: '5556'}", "\"5556\" is no address to listen on"),
        ("web: {http: ':1', clientRemoteIP: {header: X-F, trustedProxies: [10.0.0.1]}}", "failed to parse CIDR"),
        ("portcullis: {passwords: {maxFailure: 1}}", "portcullis.passwords.maxFailure: unknown key"),
        ("portcullis: {passwords: {maxFailures: 0}}", "must be from 1 to 1000"),
    ] {
        let text = error(more);
        assert!(text.contains(want), "{more}: {text}");
    }
    for (kind, want) in [
        ("etcd", "c.yaml:2: storage.type: etcdclient: no available endpoints"),
        ("nosql", "unknown storage type \"nosql\""),
    ] {
        let text = validate(&BASE.replace("memory", kind)).unwrap_err().to_string();
        assert!(text.contains(want), "{text}");
    }
    let text = validate_with(BASE, &[("DEX_SESSIONS_ENABLED", "1")]).unwrap_err().to_string();
    assert!(text.contains("DEX_SESSIONS_ENABLED"), "{text}");
    assert!(
        validate(&BASE.replace("true", "false")).unwrap_err().to_string().contains("server: no connectors specified")
    );
}

#[test]
fn what_can_be_set_is_set() {
    let config = with(
        "oauth2: {grantTypes: [refresh_token, not-a-grant], alwaysShowLoginScreen: true, pkce: {enforce: true}}\n\
         signer: {type: local, config: {keysRotationPeriod: 1h, algorithm: ES256}}\n\
         expiry: {authRequests: 24h, refreshTokens: {disableRotation: true, reuseInterval: 3s, absoluteLifetime: 720h, validIfNotUsedFor: 48h}}\n\
         logger: {level: WARN+1, format: json, excludeFields: [email]}\n\
         frontend: {issuer: Acme, theme: dark, logoURL: 'https://cdn.example/l.png', extra: {a: b}}\n\
         portcullis: {passwords: {maxFailures: 3, failureWindow: 1m, maxDelay: 10s, attemptsPerMinute: 7, hashWorkers: 2, hashQueue: 9}}\n",
    )
    .unwrap();
    assert_eq!(config.oauth2.grants, [Grant::RefreshToken]);
    assert!(config.oauth2.always_show_login && config.oauth2.pkce_enforce);
    assert_eq!(
        config.oauth2.pkce_methods,
        [PkceMethod::S256],
        "a file with oauth2.pkce has plain off unless it lists it"
    );
    assert_eq!(config.signer, Signer { kind: KeyKind::P256, rotation: Duration::from_secs(3600) });
    assert_eq!(config.expiry.auth_requests, Duration::from_secs(900));
    assert_eq!(
        config.expiry.refresh,
        RefreshPolicy {
            rotate: false,
            reuse_interval: Some(Duration::from_secs(3)),
            absolute_lifetime: Some(Duration::from_secs(720 * 3600)),
            valid_if_not_used_for: Some(Duration::from_secs(48 * 3600)),
        }
    );
    assert_eq!(config.logger, Logger { level: 5, json: true, exclude_fields: vec!["email".to_owned()] });
    assert_eq!((config.frontend.title.as_str(), config.frontend.theme), ("Acme", Theme::Dark));
    assert_eq!(
        config.attempts,
        Attempts {
            max_failures: 3,
            window: Duration::from_secs(60),
            max_delay: Duration::from_secs(10),
            per_minute: 7,
            hash_workers: 2,
            hash_queue: 9
        }
    );
}

#[test]
fn storage_paths_expand_the_environment_unless_switched_off() {
    let text = BASE.replace("{type: memory}", "{type: sqlite3, config: {file: $DIR/dex.db}}");
    let file = |env: &[(&str, &str)]| match validate_with(&text, env).unwrap().storage {
        Storage::Sqlite { file } => file.to_string_lossy().into_owned(),
        _ => String::new(),
    };
    for on in ["1", "t", "T", "TRUE", "true", "True", "", "garbage"] {
        assert_eq!(file(&[("DIR", "/d"), ("DEX_EXPAND_ENV", on)]), "/d/dex.db", "{on}");
    }
    assert_eq!(file(&[("DIR", "/d")]), "/d/dex.db");
    for off in ["0", "f", "F", "FALSE", "false", "False"] {
        assert_eq!(file(&[("DIR", "/d"), ("DEX_EXPAND_ENV", off)]), "$DIR/dex.db", "{off}");
    }
}

proptest::proptest! {
    #[test]
    fn no_configuration_panics(
        key in "(issuer|storage|web|oauth2|expiry|logger|frontend|signer|staticClients|staticPasswords|portcullis|telemetry|grpc)",
        value in "(1|yes|~|'x'|\\[\\]|\\{\\}|\\[\\{\\}\\]|\\[1\\]|\\{type: x, config: 1\\}|\\{idTokens: 9999999h\\}|\\{id: x, hash: '\\$2a\\$'\\}|[a-z0-9]{0,9})",
    ) {
        if let Ok(doc) = Document::parse(&format!("{BASE}{key}: {value}\n"), "c.yaml") {
            let _ = RawConfig::read(&doc.root()).0.validate(&|_| None);
        }
    }
}

#[test]
fn a_proxy_that_must_be_there_and_is_not_named_gets_a_word() {
    let named = "{http: 127.0.0.1:5556, clientRemoteIP: {header: X-Forwarded-For, trustedProxies: [10.0.0.0/8]}}";
    for (issuer, web, word) in [
        ("https://a.example", "{http: 127.0.0.1:5556}", true),
        ("http://a.example", "{http: 127.0.0.1:5556}", false),
        ("https://a.example", "{http: 127.0.0.1:5556, https: '127.0.0.1:5554', tlsCert: c, tlsKey: k}", false),
        ("https://a.example", named, false),
    ] {
        let text = format!("issuer: {issuer}\nstorage: {{type: memory}}\nweb: {web}\nenablePasswordDB: true\n");
        let config = validate(&text).unwrap();
        let words: Vec<String> = config.notices.iter().map(ToString::to_string).collect();
        let found = words.iter().any(|w| w.contains("c.yaml:3: web.http") && w.contains("web.clientRemoteIP.header"));
        assert_eq!(found, word, "{issuer} {web}: {words:?}");
    }
}
