//! Bad input: a clear error that names the file, the place and the fix, and nothing is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::world::{World, bin, finish, guide};

/// A change to one of the guide's files, and the two lines that `up` then says: `error: FILE` and the first, `hint: ` and
/// the second.
struct Case {
    from: &'static str,
    to: &'static str,
    error: &'static str,
    hint: &'static str,
}

const VALUES: &[Case] = &[
    Case {
        from: "'$2y$12$VQP6H7iU2C3O59odzJFYYuYhBqUi0wyvbitNdLFdcE8zmsMGIXgHu'",
        to: "'ChangeMe!234'",
        error: ":54: dex.config.staticPasswords[0].hash: malformed bcrypt hash: this is not a bcrypt hash ($2a$, $2b$ or $2y$, cost, 53 characters)",
        hint: "make one with `htpasswd -BnC 12 user` (the part after the colon), and put it in single quotes",
    },
    Case {
        from: "issuer: $NGROK_ENDPOINT",
        to: "issuer: [1, 2]",
        error: ":21: dex.config.issuer: expected a string, found a list",
        hint: "correct the value there",
    },
    Case {
        from: "  config:",
        to: "  config: [",
        error: ":22: error parse config file FILE: while parsing a flow mapping, did not find expected ',' or '}'",
        hint: "the file must be YAML as helm reads it",
    },
    Case {
        from: "type: kubernetes",
        to: "type: floppy",
        error: ":26: dex.config.storage.type: unknown storage type \"floppy\"",
        hint: "use sqlite3, postgres, mysql, etcd, kubernetes or memory",
    },
    Case {
        from: "idToken: '8h'",
        to: "idTokens: '8 hours'",
        error: ":58: dex.config.expiry.idTokens: invalid config value \"8 hours\" for id token expiry: time: unknown unit \" hours\" in duration \"8 hours\"",
        hint: "write a duration such as 30m, 8h or 720h; there is no unit for days",
    },
    Case {
        from: "      name: kubernetes\n",
        to: "",
        error: ":45: dex.config.staticClients[0]: invalid config: Name field is required for a client",
        hint: "add `name`, which people see when they are asked for consent",
    },
    Case {
        from: "- id: kubernetes",
        to: "- id: other",
        error: ":45: dex.config.staticClients: no client with the id \"kubernetes\", which the API server's oidc-client-id asks for",
        hint: "make staticClients[].id and the kubeadm patch's oidc-client-id the same",
    },
    Case {
        from: "enablePasswordDB: true",
        to: "enablePasswordDB: true\n    connectors:\n    - {type: ldap, id: ldap, name: LDAP, config: {}}",
        error: ":43: dex.config.connectors[0]: connectors are not served yet (this one is \"ldap\" of type \"ldap\")",
        hint: "remove `connectors`, and use `enablePasswordDB` with `staticPasswords`",
    },
    Case {
        from: "http: 0.0.0.0:5556",
        to: "http: here",
        error: ":30: dex.config.web.http: \"here\" is no address with a port",
        hint: "write an address such as 127.0.0.1:5556",
    },
    Case {
        from: "level: debug",
        to: "level: loud",
        error: ":23: dex.config.logger.level: slog: level string \"loud\": unknown name",
        hint: "use debug, info, warn or error",
    },
    Case {
        from: "- 'http://localhost:8000'",
        to: "- 'http://localhost:8000/callback'",
        error: ":45: dex.config.staticClients[0]: the sign-in plugin cannot listen on any of the client's redirect URIs",
        hint: "add http://localhost:8000 to the client's redirectURIs",
    },
];

const CLUSTER: &[Case] = &[
    Case {
        from: "kind: Cluster\napiVersion",
        to: "kind: Pod\napiVersion",
        error: ":1: kind: this is no kind cluster config (kind \"Pod\", apiVersion \"kind.x-k8s.io/v1alpha4\")",
        hint: "it must say kind: Cluster and apiVersion: kind.x-k8s.io/v1alpha4",
    },
    Case {
        from: "oidc-username-claim: email",
        to: "oidc-username-claim: [email]",
        error: ":15: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.oidc-username-claim: expected a string, found a list",
        hint: "correct the value there",
    },
    Case {
        from: "oidc-groups-claim: groups",
        to: "oidc-signing-algs: HS256",
        error: ":17: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.oidc-signing-algs: oidc: unsupported signing alg: \"HS256\"",
        hint: "the provider signs with RS256 unless signer.config.algorithm says ES256",
    },
    Case {
        from: "        oidc-client-id: kubernetes\n",
        to: "",
        error: ":13: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs: oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set",
        hint: "add it, with the id of the client in the provider's staticClients that kubectl signs in with",
    },
    Case {
        from: "oidc-issuer-url:",
        to: "oidc-isuer-url:",
        error: ":13: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.oidc-isuer-url: unknown flag: --oidc-isuer-url",
        hint: "did you mean oidc-issuer-url?",
    },
    Case {
        from: "apiServerPort: 6443",
        to: "apiServerPort: 70000",
        error: ":5: networking.apiServerPort: \"70000\" is no port",
        hint: "use a number from 1 to 65535, or -1 for any free port",
    },
    Case {
        from: "apiServerAddress: '127.0.0.1'",
        to: "apiServerAddress: here",
        error: ":4: networking.apiServerAddress: \"here\" is no IP address",
        hint: "use 127.0.0.1, or leave the key out",
    },
    Case {
        from: "role: control-plane",
        to: "role: boss",
        error: ":7: nodes[0].role: unknown role \"boss\"",
        hint: "a node is a control-plane or a worker",
    },
];

#[test]
fn every_mistake_in_the_two_files_names_its_place_and_the_fix() {
    let world = World::new();
    for (flag, file, cases) in [("--values", "values.yaml", VALUES), ("--cluster-config", "kind-config.yaml", CLUSTER)]
    {
        let good = fs::read_to_string(guide(file)).unwrap();
        for case in cases {
            assert!(good.contains(case.from), "{}: the fixture has changed", case.from);
            let path = world.write(file, &good.replace(case.from, case.to));
            let path = path.to_str().unwrap();
            let refused = world.up(&[flag, path]).fails(1);
            let expected =
                [format!("error: {path}{}", case.error.replace("FILE", path)), format!("hint: {}", case.hint)];
            assert_eq!(unnoted(&refused.stderr), expected, "{:?}", case.to);
        }
    }
    assert!(!world.dev("").exists(), "nothing was made");
}

/// The first two lines that are said.
type Lines = (&'static str, &'static str);

/// What is said beside the words about what is changed.
fn unnoted(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| !line.starts_with("  note ")).collect()
}

#[test]
fn truncated_oversized_and_wrongly_encoded_files_are_refused_by_name() {
    let world = World::new();
    let good = fs::read(guide("values.yaml")).unwrap();
    let huge = [b"dex:\n  config:\n    issuer: ".as_slice(), &vec![b'a'; 8 << 20]].concat();
    let deep = [b"dex: ".as_slice(), &vec![b'['; 10_000]].concat();
    let no_text = ("error: FILE is not UTF-8 text", "hint: save it as UTF-8");
    let too_large = ("error: FILE is larger than 1048576 bytes", "hint: is this the right file?");
    let no_kind = "error: FILE:1: the document: this is no kind cluster config (kind \"\", apiVersion \"\")";
    let is_values = (no_kind, "hint: this looks like the chart's values; pass it with --values");
    let cases: [(&[u8], Lines, Lines); 6] = [
        (
            &good[..good.len() / 3],
            (
                "error: FILE:45: dex.config.staticClients[0]: invalid config: Name field is required for a client",
                "FILE:45: dex.config.staticClients[0]: invalid config: Secret or SecretEnv field is required for client \"kubernetes\"",
            ),
            is_values,
        ),
        (&huge, too_large, too_large),
        (
            &deep,
            (
                "error: FILE:1: error parse config file FILE: recursion limit exceeded",
                "hint: the file must be YAML as helm reads it",
            ),
            (
                "error: FILE:1:54: recursion limit exceeded",
                "hint: the file must be YAML as `kind create cluster --config` reads it",
            ),
        ),
        (b"dex: {config: {issuer: '\xe4'}}", no_text, no_text),
        (&[0, 159, 146, 150], no_text, no_text),
        (
            b"",
            (
                "error: FILE: no dex.config in it",
                "hint: give the chart's values file, with the provider's configuration under dex.config",
            ),
            (no_kind, "hint: it must say kind: Cluster and apiVersion: kind.x-k8s.io/v1alpha4"),
        ),
    ];
    for (content, values, cluster) in cases {
        let path = world.home().join("file.yaml");
        fs::write(&path, content).unwrap();
        let path = path.to_str().unwrap();
        for (flag, (first, second)) in [("--values", values), ("--cluster-config", cluster)] {
            let refused = world.up(&[flag, path]).fails(1);
            let said = unnoted(&refused.stderr);
            assert_eq!(said[..2], [first.replace("FILE", path), second.replace("FILE", path)], "{flag}");
        }
    }
    for flag in ["--values", "--cluster-config"] {
        let missing = world.up(&[flag, "/nonexistent/file.yaml"]).fails(1);
        assert_eq!(
            unnoted(&missing.stderr),
            [
                "error: cannot read /nonexistent/file.yaml: No such file or directory (os error 2)".to_owned(),
                format!("hint: give {flag} the path of a file that this user can read")
            ]
        );
    }
}

#[test]
fn a_state_folder_from_a_newer_version_or_a_damaged_one_is_refused_and_kept() {
    let world = World::new();
    world.up(&[]).ok();
    let path = world.dev("state.json");
    let shown = path.display();
    let damaged = format!(
        "hint: remove {shown} and run `{} up` again: keys and certificates beside it are kept",
        bin().join("portcullis").display()
    );
    let newer = "hint: use that Portcullis, or another folder with --state".to_owned();
    for (content, error, hint) in [
        (
            r#"{"version": 999}"#,
            format!("error: {shown} was written by a newer Portcullis (layout 999, this one knows 2)"),
            newer,
        ),
        ("{", format!("error: {shown} is damaged: EOF while parsing an object at line 1 column 1"), damaged.clone()),
        ("[]", format!("error: {shown} is damaged: it names no version"), damaged),
    ] {
        fs::write(&path, content).unwrap();
        let refused = world.up(&[]).fails(1);
        assert_eq!(unnoted(&refused.stderr), [error, hint]);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_state_folder_that_cannot_be_written_is_refused_by_name() {
    let world = World::new();
    let file = world.write("not-a-folder", "");
    let refused = world.up(&["--state", file.to_str().unwrap()]).fails(1);
    assert_eq!(
        unnoted(&refused.stderr),
        [
            format!("error: cannot make {}/dev: Not a directory (os error 20)", file.display()),
            "hint: name a folder with --state".to_owned()
        ]
    );
    let folder = world.home().join("read-only");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let mut up = powerless(&world);
    up.args(["up", "--unattended", "--port", "0", "--issuer-port", "0", "--state", folder.to_str().unwrap()]);
    let refused = finish(&mut up).fails(1);
    assert_eq!(
        unnoted(&refused.stderr),
        [
            format!("error: cannot make {}/dev: Permission denied (os error 13)", folder.display()),
            "hint: choose a folder that you may write to with --state".to_owned()
        ]
    );
    // The same for a kubeconfig: found before anything is made.
    let state = world.home().join("writable");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let kubeconfig = folder.join("config");
    let mut up = powerless(&world);
    up.args(["up", "--unattended", "--port", "0", "--issuer-port", "0", "--state", state.to_str().unwrap()]);
    let refused = finish(up.args(["--kubeconfig", kubeconfig.to_str().unwrap()])).fails(1);
    assert_eq!(
        unnoted(&refused.stderr),
        [
            format!("error: cannot write {}: Permission denied (os error 13)", kubeconfig.display()),
            "hint: let this user write to its folder, or choose another --kubeconfig".to_owned()
        ]
    );
    assert!(!state.join("dev/ca/ca.pem").exists());
}

/// Our program as a user who may not write everywhere: root may, so it becomes nobody. The program is where nobody may read
/// it.
fn powerless(world: &World) -> Command {
    let program = world.home().join("bin/portcullis");
    if !program.exists() {
        fs::copy(bin().join("portcullis"), &program).unwrap();
    }
    if !rustix::process::geteuid().is_root() {
        return world.command(&program);
    }
    fs::set_permissions(world.home(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = world.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

#[test]
fn a_table_that_cannot_be_written_is_a_failure_and_one_that_nobody_reads_is_none() {
    let world = World::new();
    let program = bin().join("portcullis").display().to_string();
    let into = |redirect: &str| {
        let line = format!("'{program}' up --unattended --port 0 --issuer-port 0 {redirect}");
        finish(world.command("bash").args(["-c", &format!("set -o pipefail; {line}")]))
    };
    let full = into("> /dev/full").fails(1);
    let last = full.stderr.lines().last().unwrap();
    assert_eq!(last, "error: cannot write to standard output: No space left on device (os error 28)");
    into("| true").ok();
}

#[test]
fn usage_errors_exit_2_and_commands_that_are_not_built_say_what_to_use() {
    let world = World::new();
    for arguments in [&["up", "--nope"][..], &["frobnicate"], &["up", "--port", "70000"], &["up", "--use"]] {
        finish(&mut world.portcullis(arguments)).fails(2);
    }
    let gateway = finish(&mut world.portcullis(&["gateway", "file.yaml"])).fails(2);
    assert!(gateway.stderr.contains("not built yet"), "{}", gateway.stderr);
    let named = world.up(&["--name", "../x"]).fails(1);
    assert_eq!(
        unnoted(&named.stderr),
        [
            "error: the name \"../x\" is not usable: use 1 to 40 of a-z, 0-9 and '-', with a letter or digit at both ends",
            "hint: choose another with --name"
        ]
    );
}
