//! Bad input: a clear error that names the file, the place and the fix, and nothing is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::world::{World, guide};

/// A change to one of the guide's files, and what the error must contain.
struct Case {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    says: &'static [&'static str],
}

const VALUES: &[Case] = &[
    Case {
        name: "no bcrypt hash",
        from: "'$2y$12$VQP6H7iU2C3O59odzJFYYuYhBqUi0wyvbitNdLFdcE8zmsMGIXgHu'",
        to: "'ChangeMe!234'",
        says: &["values.yaml:", "hash", "bcrypt"],
    },
    Case {
        name: "issuer of another type",
        from: "issuer: $NGROK_ENDPOINT",
        to: "issuer: [1, 2]",
        says: &["values.yaml:", "issuer"],
    },
    Case { name: "broken YAML", from: "  config:", to: "  config: [", says: &["values.yaml:"] },
    Case { name: "unknown storage", from: "type: kubernetes", to: "type: floppy", says: &["values.yaml:", "floppy"] },
    Case { name: "bad duration", from: "idToken: '8h'", to: "idTokens: '8 hours'", says: &["values.yaml:", "8 hours"] },
    Case { name: "client without a name", from: "      name: kubernetes\n", to: "", says: &["values.yaml:", "name"] },
    Case {
        name: "client that the cluster does not ask for",
        from: "- id: kubernetes",
        to: "- id: other",
        says: &["kubernetes", "values.yaml"],
    },
    Case {
        name: "connector",
        from: "enablePasswordDB: true",
        to: "enablePasswordDB: true\n    connectors:\n    - {type: ldap, id: ldap, name: LDAP, config: {}}",
        says: &["values.yaml:", "ldap"],
    },
];

#[test]
fn every_mistake_in_the_values_names_its_place_and_the_fix() {
    let world = World::new();
    let good = fs::read_to_string(guide("values.yaml")).unwrap();
    for case in VALUES {
        assert!(good.contains(case.from), "{}: the fixture has changed", case.name);
        let path = world.write("values.yaml", &good.replace(case.from, case.to));
        let refused = world.up(&["--values", path.to_str().unwrap()]);
        assert_eq!(refused.code, Some(1), "{}:\n{}", case.name, refused.stderr);
        assert!(refused.stderr.contains("error:"), "{}:\n{}", case.name, refused.stderr);
        for text in case.says {
            assert!(refused.stderr.contains(text), "{}: {text:?} in:\n{}", case.name, refused.stderr);
        }
        assert!(!refused.stderr.contains("panicked"), "{}:\n{}", case.name, refused.stderr);
    }
}

#[test]
fn truncated_oversized_and_wrongly_encoded_files_are_refused_by_name() {
    let world = World::new();
    let good = fs::read(guide("values.yaml")).unwrap();
    let huge = [b"dex:\n  config:\n    issuer: ".as_slice(), &vec![b'a'; 8 << 20]].concat();
    let deep = [b"dex: ".as_slice(), &vec![b'['; 10_000]].concat();
    for (name, content) in [
        ("truncated", &good[..good.len() / 3]),
        ("huge", &huge),
        ("deep", &deep),
        ("latin-1", b"dex: {config: {issuer: '\xe4'}}".as_slice()),
        ("binary", &[0, 159, 146, 150]),
        ("empty", b""),
    ] {
        let path = world.home().join("values.yaml");
        fs::write(&path, content).unwrap();
        let refused = world.up(&["--values", path.to_str().unwrap()]);
        assert_eq!(refused.code, Some(1), "{name}:\n{}", refused.stderr);
        assert!(refused.stderr.contains("values.yaml"), "{name}:\n{}", refused.stderr);
        assert!(refused.stderr.len() < 4_096, "{name}: {} bytes of error", refused.stderr.len());
    }
    let missing = world.up(&["--values", "/nonexistent/values.yaml"]).fails(1);
    assert!(missing.stderr.contains("/nonexistent/values.yaml"), "{}", missing.stderr);
}

#[test]
fn a_cluster_config_that_is_none_is_refused_by_name() {
    let world = World::new();
    let good = fs::read_to_string(guide("kind-config.yaml")).unwrap();
    for (from, to, says) in [
        ("kind: Cluster\napiVersion", "kind: Pod\napiVersion", "kind-config.yaml"),
        ("oidc-username-claim: email", "oidc-username-claim: [email]", "oidc-username-claim"),
        ("oidc-groups-claim: groups", "oidc-signing-algs: HS256", "HS256"),
        ("oidc-client-id: kubernetes\n", "\n", "oidc-client-id"),
    ] {
        assert!(good.contains(from), "{from}: the fixture has changed");
        let path = world.write("kind-config.yaml", &good.replace(from, to));
        let refused = world.up(&["--cluster-config", path.to_str().unwrap()]);
        assert_eq!(refused.code, Some(1), "{to}:\n{}", refused.stderr);
        assert!(refused.stderr.contains(says), "{to}: {says:?} in:\n{}", refused.stderr);
    }
}

#[test]
fn a_state_folder_from_a_newer_version_or_a_damaged_one_is_refused_and_kept() {
    let world = World::new();
    world.up(&[]).ok();
    let path = world.dev("state.json");
    for content in [r#"{"version": 999}"#, "{", "[]"] {
        fs::write(&path, content).unwrap();
        let refused = world.up(&[]).fails(1);
        assert!(refused.stderr.contains("state.json") && refused.stderr.contains("hint:"), "{}", refused.stderr);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_state_folder_that_cannot_be_written_is_refused_by_name() {
    let world = World::new();
    let file = world.write("not-a-folder", "");
    let refused = world.up(&["--state", file.to_str().unwrap()]).fails(1);
    assert!(refused.stderr.contains("not-a-folder"), "{}", refused.stderr);
    // Root may write anywhere, so a read-only folder shows only for others.
    if !rustix::process::geteuid().is_root() {
        let folder = world.home().join("read-only");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
        let refused = world.up(&["--state", folder.to_str().unwrap()]).fails(1);
        assert!(refused.stderr.contains("read-only") && refused.stderr.contains("--state"), "{}", refused.stderr);
    }
}

#[test]
fn usage_errors_exit_2_and_commands_that_are_not_built_say_what_to_use() {
    let world = World::new();
    for arguments in [&["up", "--nope"][..], &["frobnicate"], &["up", "--port", "70000"], &["up", "--use"]] {
        crate::world::finish(&mut world.portcullis(arguments)).fails(2);
    }
    let gateway = crate::world::finish(&mut world.portcullis(&["gateway", "file.yaml"])).fails(2);
    assert!(gateway.stderr.contains("not built yet"), "{}", gateway.stderr);
    let named = world.up(&["--name", "../x"]).fails(1);
    assert!(named.stderr.contains("--name"), "{}", named.stderr);
}
