//! What is changed in the two files is said, word by word; what is wrong is refused with its place.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::*;

#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct World {
    folder: tempfile::TempDir,
    said: Said,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), said: Said::default() }
    }

    fn steps(&self) -> Steps {
        Steps::new(Box::new(self.said.clone()))
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The words since the last time, without the folder.
    fn words(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.said.0.lock().unwrap())).unwrap();
        let folder = format!("{}/", self.folder.path().display());
        text.lines().map(|line| line.replacen("  note           ", "", 1).replace(&folder, "")).collect()
    }

    fn read(&self, options: &Options) -> Result<Inputs, String> {
        let folder = format!("{}/", self.folder.path().display());
        Sources::read(options).and_then(|sources| Inputs::of(&sources, &Asked::of(options), &self.steps())).map_err(
            |error| {
                let text = error.to_string().replace(&folder, "");
                assert!(!text.contains("hint:"), "hints are apart: {text}");
                format!("{text}\n{}", error.hint().unwrap_or_default())
            },
        )
    }
}

fn options() -> Options {
    Options {
        root: PathBuf::from("/state"),
        root_is_named: false,
        name: None,
        kubeconfig: None,
        port: None,
        issuer_port: None,
        values: None,
        cluster_config: None,
        keep_issuer: false,
        fix_demo_hash: false,
        trust: false,
        use_context: false,
        no_bind: false,
        guide: false,
        home: None,
        unattended: false,
        keep: false,
        keep_state: false,
        issuer: None,
        desktop: false,
        demo_password: None,
        program: PathBuf::from("/bin/portcullis"),
        called: "portcullis".to_owned(),
        environment: Arc::new(|_| None),
    }
}

/// A provider's configuration as chart values; `more` is appended to `dex.config`.
fn values(more: &str) -> String {
    let indented: String = more.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "dex:\n  config:\n    issuer: https://localhost:5554\n    storage: {{type: sqlite3}}\n    enablePasswordDB: true\n    oauth2: {{pkce: {{codeChallengeMethodsSupported: [S256]}}}}\n    staticClients:\n    - {{id: kubernetes, name: k, secret: s, redirectURIs: ['http://localhost:8000']}}\n{indented}"
    )
}

const USER: &str = "staticPasswords:\n- {email: a@b, hash: '$2b$10$bFMH4ZEa8UBqERoiGchjm.yoPC.Bg.b4zWgKqQlCGVXUWP6f/Gjuu', username: ab, userID: x}\n";
const WEB: &str = "web: {https: '127.0.0.1:5554', tlsCert: c, tlsKey: k}\n";

/// A kind config; `arguments` are lines of `extraArgs`.
fn kind(head: &str, arguments: &str) -> String {
    let indented: String = arguments.lines().map(|line| format!("        {line}\n")).collect();
    format!(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n{head}nodes:\n- role: control-plane\n  kubeadmConfigPatches:\n  - |\n    kind: ClusterConfiguration\n    apiServer:\n      extraArgs:\n{indented}"
    )
}

#[test]
fn name_and_ports_of_the_files_are_the_defaults_and_flags_win_with_a_word() {
    let world = World::new();
    let cluster = kind(
        "name: from-file\nnetworking: {apiServerPort: 7443, apiServerAddress: 0.0.0.0}\n",
        "oidc-issuer-url: https://localhost:5554\noidc-client-id: kubernetes\n",
    );
    let cluster_config = Some(world.file("kind.yaml", &cluster));
    let values = Some(
        world.file("values.yaml", &values(&format!("{USER}web: {{https: 127.0.0.1:6554, tlsCert: c, tlsKey: k}}"))),
    );
    let from_files = Options { cluster_config, values, ..options() };
    let inputs = world.read(&from_files).unwrap();
    assert_eq!((inputs.name(), inputs.api_port(), inputs.issuer_port()), ("from-file", 7443, 6554));
    let certificate = [
        "values.yaml:11: dex.config.web.tlsCert: c is replaced by one that `up` makes for localhost: the sign-in plugin and the API server trust the local authority",
        "values.yaml:11: dex.config.web.tlsKey: k is replaced by one that `up` makes for localhost: the sign-in plugin and the API server trust the local authority",
    ];
    let address =
        "kind.yaml:4: networking.apiServerAddress: 0.0.0.0 becomes 127.0.0.1: `up` opens nothing to the network";
    assert_eq!(world.words(), [address, certificate[0], certificate[1]]);

    let given = Options { name: Some("mine".to_owned()), port: Some(1), issuer_port: Some(2), ..from_files };
    let inputs = world.read(&given).unwrap();
    assert_eq!((inputs.name(), inputs.api_port(), inputs.issuer_port()), ("mine", 1, 2));
    assert_eq!(
        world.words(),
        [
            "kind.yaml:3: name: from-file is not used: --name is given",
            "kind.yaml:4: networking.apiServerPort: 7443 is not used: --port is given",
            address,
            certificate[0],
            certificate[1],
            "values.yaml:11: dex.config.web.https: the port 6554 is not used: --issuer-port is given",
        ]
    );
    let inputs = world.read(&options()).unwrap();
    assert_eq!((inputs.name(), inputs.api_port(), inputs.issuer_port()), ("dev", 6443, 5554));
    assert!(world.words().is_empty());
}

#[test]
fn an_issuer_that_is_missing_or_foreign_in_either_file_gets_a_word_or_is_refused() {
    let world = World::new();
    let steps = world.steps();
    let local = "https://localhost:5554";
    for (issuer, argument, words) in [
        (local, "oidc-issuer-url: https://localhost:5554\n", vec![]),
        (
            "''",
            "",
            vec![
                "values.yaml:3: dex.config.issuer: the issuer that is missing becomes https://localhost:5554",
                "kind.yaml:10: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs: the issuer that is missing becomes https://localhost:5554",
            ],
        ),
        (
            "https://x.ngrok.app",
            "oidc-issuer-url: \"\"\n",
            vec![
                "values.yaml:3: dex.config.issuer: the issuer https://x.ngrok.app becomes https://localhost:5554",
                "kind.yaml:11: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.oidc-issuer-url: the issuer that is missing becomes https://localhost:5554",
            ],
        ),
    ] {
        let file = values(&format!("{USER}{WEB}")).replace("https://localhost:5554", issuer);
        let cluster = kind("", &format!("oidc-client-id: kubernetes\n{argument}"));
        let given = Options {
            values: Some(world.file("values.yaml", &file)),
            cluster_config: Some(world.file("kind.yaml", &cluster)),
            ..options()
        };
        let mut inputs = world.read(&given).unwrap();
        world.words();
        assert_eq!(inputs.settle_issuer(5554, false, &steps).unwrap(), local);
        assert_eq!(world.words(), words, "{issuer}");
        let kept = world.read(&given).unwrap().settle_issuer(5554, true, &steps);
        assert_eq!(kept.is_err(), !words.is_empty(), "{issuer}: --keep-issuer refuses what would be changed");
        world.words();
    }
    // Without files there is nothing of the user's to keep.
    assert!(world.read(&options()).unwrap().settle_issuer(5554, true, &steps).is_ok());
}

#[test]
fn flags_that_the_api_server_would_not_take_keep_their_place_and_name_the_fix() {
    let world = World::new();
    let client = "oidc-client-id: kubernetes\n";
    let at = "kind.yaml:11: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.";
    for (arguments, error) in [
        (
            "oidc-isuer-url: https://x\n",
            format!("{at}oidc-isuer-url: unknown flag: --oidc-isuer-url\ndid you mean oidc-issuer-url?"),
        ),
        (
            "oidc-signing-algs: HS256\n",
            format!(
                "{at}oidc-signing-algs: oidc: unsupported signing alg: \"HS256\"\nthe provider signs with RS256 unless signer.config.algorithm says ES256"
            ),
        ),
        (
            "oidc-required-claim: x\n",
            format!(
                "{at}oidc-required-claim: invalid argument \"x\" for \"--oidc-required-claim\" flag: malformed pair, expect string=string\ncorrect the value there"
            ),
        ),
        (
            "oidc_username_claim: \"\"\n",
            format!(
                "{at}oidc_username_claim: invalid authentication configuration: jwt[0].claimMappings.username: Required value: claim or expression is required\ncorrect the value there"
            ),
        ),
    ] {
        let given = Options {
            cluster_config: Some(world.file("kind.yaml", &kind("", &format!("{client}{arguments}")))),
            ..options()
        };
        assert_eq!(world.read(&given).err().unwrap_or_default(), error, "{arguments}");
    }
    let none = Options {
        cluster_config: Some(world.file("kind.yaml", &kind("", "oidc-issuer-url: https://x\n"))),
        ..options()
    };
    assert_eq!(
        world.read(&none).err().unwrap(),
        "kind.yaml:10: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs: oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set\nadd it, with the id of the client in the provider's staticClients that kubectl signs in with"
    );
    world.words();
    let ca = kind("", &format!("{client}oidc-issuer-url: https://localhost:5554\noidc-ca-file: /etc/ca.pem\n"));
    world.read(&Options { cluster_config: Some(world.file("kind.yaml", &ca)), ..options() }).unwrap();
    assert_eq!(
        world.words(),
        [
            "kind.yaml:12: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.oidc-ca-file: /etc/ca.pem is replaced by the local authority, which the provider's certificate is of"
        ]
    );
}

#[test]
fn a_user_and_a_claim_that_cannot_be_had_are_told_apart() {
    let world = World::new();
    let full = USER.replace("username: ab,", "username: ab, name: Ann, preferredUsername: annie,");
    let unverified = USER.replace("username: ab,", "username: ab, emailVerified: false,");
    let user = |name: &str| Demo::User { login: "a@b".to_owned(), kubernetes_name: format!("u:{name}") };
    for (users, claim, want) in [
        (USER, "email", Ok(user("a@b"))),
        (USER, "name", Ok(user("ab"))),
        (full.as_str(), "name", Ok(user("Ann"))),
        (&full, "preferred_username", Ok(user("annie"))),
        (
            USER,
            "preferred_username",
            Err("the API server asks for the claim \"preferred_username\", and the user a@b has no preferredUsername"),
        ),
        (
            &unverified,
            "email",
            Err(
                "the API server asks for the claim \"email\", and the e-mail address of a@b is not verified (emailVerified)",
            ),
        ),
        (
            USER,
            "upn",
            Err("the API server asks for the claim \"upn\", and the provider puts no such claim into its tokens"),
        ),
        ("", "email", Err("nobody to sign in: values.yaml has no local user")),
    ] {
        let arguments =
            format!("oidc-client-id: kubernetes\noidc-username-claim: {claim}\noidc-username-prefix: 'u:'\n");
        let attended = Options {
            values: Some(world.file("values.yaml", &values(&format!("{users}{WEB}")))),
            cluster_config: Some(world.file("kind.yaml", &kind("", &arguments))),
            ..options()
        };
        let inputs = world.read(&attended).unwrap();
        if let Ok(user) = &want {
            assert_eq!(inputs.demo(), user);
        }
        let unattended = world.read(&Options { unattended: true, ..attended });
        match want {
            Ok(_) => assert!(unattended.is_ok(), "{claim}"),
            Err(text) => {
                let error = unattended.err().unwrap();
                assert!(error.contains(text) && error.contains('\n'), "{error}");
                assert!(!matches!(inputs.demo(), Demo::User { .. }));
            }
        }
    }
}

#[test]
fn notices_of_the_configuration_and_its_logger_are_passed_on() {
    let world = World::new();
    let more = format!("{USER}{WEB}logger: {{level: debug, format: json, excludeFields: [client_remote_addr]}}\n");
    let file = values(&more).replace("oauth2: {", "oauth2: {passwordConnector: local, ");
    let inputs = world.read(&Options { values: Some(world.file("values.yaml", &file)), ..options() }).unwrap();
    let words = world.words();
    assert!(
        words.iter().any(
            |word| word.starts_with("values.yaml:6: dex.config.oauth2.passwordConnector: the password grant is on")
        ),
        "{words:?}"
    );
    let logs = inputs.logs();
    assert_eq!((logs.level, logs.format), (Level::DEBUG, LogFormat::Json));
    assert_eq!(logs.exclude_fields, ["client_remote_addr"]);
}

#[test]
fn a_file_that_cannot_be_read_names_its_flag() {
    let world = World::new();
    let missing = world.folder.path().join("no.yaml");
    let error = world.read(&Options { values: Some(missing.clone()), ..options() }).err().unwrap();
    assert_eq!(error, "cannot read no.yaml\ngive --values the path of a file that this user can read");
    let error = world.read(&Options { cluster_config: Some(missing), ..options() }).err().unwrap();
    assert_eq!(error, "cannot read no.yaml\ngive --cluster-config the path of a file that this user can read");
    let large = "#".repeat(usize::try_from(MAX_FILE).unwrap() + 1);
    let error = world.read(&Options { values: Some(world.file("l.yaml", &large)), ..options() }).err().unwrap();
    assert_eq!(error, "l.yaml is larger than 1048576 bytes\nis this the right file?");
    let name = kind("name: No_Name\n", "oidc-client-id: kubernetes\n");
    let error = world.read(&Options { cluster_config: Some(world.file("k.yaml", &name)), ..options() }).err().unwrap();
    assert!(error.starts_with("k.yaml:3: name: the name \"No_Name\" is not usable"), "{error}");
    assert!(error.ends_with("\nchoose another with --name"), "{error}");
    let bad = values(&format!("{USER}web: {{http: '127.0.0.1', https: '127.0.0.1:5554', tlsCert: c, tlsKey: k}}\n"));
    let error = world.read(&Options { values: Some(world.file("v.yaml", &bad)), ..options() }).err().unwrap();
    assert_eq!(
        error,
        "v.yaml:11: dex.config.web.http: \"127.0.0.1\" is no address with a port\nwrite an address such as 127.0.0.1:5556"
    );
}

#[test]
fn a_foreign_issuers_path_is_kept_and_a_placeholder_has_none() {
    for (issuer, path) in [
        ("$NGROK_ENDPOINT", ""),
        ("", ""),
        ("https://a.ngrok.app", ""),
        ("https://a.ngrok.app/", ""),
        ("https://a/dex", "/dex"),
        ("https://a/x y", ""),
        ("https://a/$X", ""),
    ] {
        assert_eq!(issuer_path(issuer), path, "{issuer}");
    }
}

#[test]
fn only_redirect_uris_that_the_plugin_uses_count() {
    for (uri, port) in [
        ("http://localhost:8000", Some(8000)),
        ("http://localhost:8000/", None),
        ("https://localhost:8000", None),
        ("http://localhost:0", None),
        ("http://localhost", None),
        ("http://localhost:80000", None),
    ] {
        assert_eq!(callback_port(uri), port, "{uri}");
    }
}
