//! `portcullis check` as it is released.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::world::World;

/// The recorded cases of the differential test as lines, and what kube-apiserver's own package answered.
fn recorded() -> (String, Vec<(String, Value)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/authn");
    let (mut lines, mut want) = (String::new(), Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for (at, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let id = format!("{}:{}", path.file_name().unwrap().to_string_lossy(), at + 1);
            let recorded: Value = serde_json::from_str(line).unwrap();
            lines += &question(&id, &recorded);
            lines.push('\n');
            want.push((id, recorded["want"].clone()));
        }
    }
    (lines, want)
}

/// Key sets go in as they are written, members that occur twice included.
fn question(id: &str, recorded: &Value) -> String {
    let own = recorded["issuerJwks"].as_array().unwrap().iter();
    let own: Vec<String> = own.map(|pair| format!("{}:{}", pair[0], pair[1].as_str().unwrap())).collect();
    let head = json!({
        "id": id,
        "config": recorded["file"],
        "initial": recorded["initial"],
        "algs": recorded["algs"],
        "disallowed": recorded["disallowed"],
        "token": recorded["token"],
    });
    let head = head.to_string();
    let jwks = recorded["jwks"].as_str().unwrap();
    format!("{},\"jwks\":{jwks},\"issuerJwks\":{{{}}}}}", head.trim_end_matches('}'), own.join(","))
}

#[test]
fn a_stream_of_kube_apiservers_recorded_cases_is_answered_alike() {
    let (lines, want) = recorded();
    let world = World::new();
    let file = world.write("cases.jsonl", &lines);
    let output =
        world.portcullis(&["check", "--stream"]).stdin(Stdio::from(fs::File::open(file).unwrap())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), want.len());
    let (mut accepted, mut same_words, mut words) = (0, 0, 0);
    for (answer, (id, want)) in answers.iter().zip(&want) {
        assert_eq!(answer["id"], **id);
        assert_eq!(answer["ok"].as_bool().unwrap_or_default(), want["ok"].as_bool().unwrap(), "{id}: {answer}");
        for member in ["user", "anonymous"] {
            assert_eq!(answer[member], want[member], "{id}: {answer}");
        }
        for member in ["err", "initErr", "decodeErr", "jwksErr"] {
            assert_eq!(answer[member].is_string(), want[member].is_string(), "{id}: {answer}, wanted {want}");
            words += usize::from(want[member].is_string());
            same_words += usize::from(want[member].is_string() && answer[member] == want[member]);
        }
        accepted += usize::from(want["ok"] == true);
    }
    println!("{} cases, {accepted} accepted; {same_words} of {words} refusals in the same words", want.len());
    assert!(want.len() >= 750 && accepted * 5 >= want.len() && same_words * 10 >= words * 8);
}

/// The same kubeconfig for the real kubectl and for `check`: the plugin must be told the same.
#[test]
fn a_plugin_is_told_of_the_cluster_as_kubectl_tells_it() {
    let world = World::new();
    let out = world.home().join("told");
    let plugin = world
        .write("plugin", &format!("#!/bin/sh\nprintf %s \"$KUBERNETES_EXEC_INFO\" >'{}'\nexit 1\n", out.display()));
    fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.write("ca.pem", portcullis_testkit::TestCa::new("ca").pem());
    for version in ["v1", "v1beta1"] {
        for provide in [true, false] {
            // Nobody listens there: the plugin is asked first.
            let config = json!({
                "kind": "Config", "apiVersion": "v1", "current-context": "now",
                "contexts": [{"name": "now", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority": "ca.pem",
                    "tls-server-name": "n", "disable-compression": true, "proxy-url": "http://127.0.0.1:1",
                    "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "y"}}]}}],
                "users": [{"name": "u", "user": {"exec": {"command": "./plugin", "interactiveMode": "Never",
                    "apiVersion": format!("client.authentication.k8s.io/{version}"), "provideClusterInfo": provide}}}],
            });
            let config = world.write("config.json", &config.to_string());
            let told = || {
                let told: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
                fs::remove_file(&out).unwrap();
                told
            };
            let mut kubectl = world.command(crate::world::peers().join("kubectl"));
            crate::world::finish(kubectl.args(["get", "--raw", "/version"]).env("KUBECONFIG", &config)).fails(1);
            let theirs = told();
            let exec = config.to_str().unwrap();
            let flags = ["--oidc-issuer-url=https://a", "--oidc-client-id=b", "--jwks=/dev/null"];
            crate::world::finish(&mut world.portcullis(&[&["check", "--exec", exec][..], &flags].concat())).fails(1);
            assert_eq!(told(), theirs, "{version} {provide}");
            assert_eq!(theirs["spec"]["cluster"].is_object(), provide);
        }
    }
}

#[test]
fn a_line_that_is_no_case_is_answered_so_and_fails_the_run() {
    let world = World::new();
    let file = world.write("cases.jsonl", "{}\nx\n");
    let output = world
        .portcullis(&["check", "--stream", "--now", "2026-11-28T12:00:00Z"])
        .stdin(Stdio::from(fs::File::open(file).unwrap()))
        .output()
        .unwrap();
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{said}");
    assert!(out.starts_with("{\"id\":\"\",\"decodeErr\":\"empty config data\"}\n{\"badcase\":\"line 2: "), "{out}");
    assert!(said.starts_with("error: 1 of 2 lines are no cases\nhint: "), "{said}");
}

/// The first recorded case for which `wanted` holds, as files: configuration, keys and token.
fn files(world: &World, wanted: impl Fn(&Value) -> bool) -> [String; 3] {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/authn/audience.jsonl");
    let text = fs::read_to_string(golden).unwrap();
    let case = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|case| wanted(&case["want"]));
    let case = case.unwrap();
    [("authn.json", "file"), ("jwks.json", "jwks"), ("token", "token")].map(|(name, member)| {
        let path = world.write(name, &format!("{}\n", case[member].as_str().unwrap()));
        path.to_str().unwrap().to_owned()
    })
}

#[test]
fn a_token_is_judged_and_explained_and_the_exit_code_says_which() {
    let world = World::new();
    let check = |arguments: &[&str]| {
        let output = world.portcullis(&[&["check"], arguments].concat()).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), out, err)
    };
    let [config, jwks, token] = files(&world, |want| want["ok"] == true);
    let good = ["--config", &config, "--jwks", &jwks, "--token-file", &token];
    let (code, out, err) = check(&good);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.starts_with("accepted\n  user       \"jane\"\n"), "{out}");
    let (code, out, _) = check(&[&good[..], &["-o", "json"]].concat());
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["verdict"], &report["user"]["username"]), (Some(0), &json!("accepted"), &json!("jane")));
    let (code, out, err) = check(&[&good[..], &["--now", "2200-01-01T00:00:00Z"]].concat());
    assert!(code == Some(1) && out.starts_with("refused at the step expiry\n"), "{out}");
    assert!(
        err.contains("error: the token is refused: oidc: verify token: oidc: token is expired")
            && err.contains("\nhint: ")
    );

    let [config, jwks, token] =
        files(&world, |want| want["err"].as_str().is_some_and(|text| text.contains("expected audience")));
    let (code, out, err) = check(&["--authentication-config", &config, "--jwks", &jwks, "--token-file", &token]);
    assert!(code == Some(1) && out.starts_with("refused at the step audience\n"), "{out}{err}");
    let secret = fs::read_to_string(&token).unwrap();
    assert!(!format!("{out}{err}").contains(secret.trim()), "the token is printed");

    for (arguments, code, want) in [
        (&["--token-file", &*token][..], 2, "nothing says whom the cluster trusts"),
        (&["--config", &config], 2, "nothing says where the token is"),
        (&["--config", &config, "--oidc-client-id=x", "--token-file", &token], 2, "mutually exclusive"),
        (&["--config", "nowhere", "--token-file", &token], 1, "cannot read nowhere: No such file"),
        (&["--config", &token, "--token-file", &token], 1, "token:1"),
        (&["--config", &config, "--jwks", &jwks, "--token-file", "nowhere"], 1, "cannot read nowhere: No such file"),
    ] {
        let (got, out, err) = check(arguments);
        assert_eq!((got, out.as_str()), (Some(code), ""), "{arguments:?}: {err}");
        assert!(err.contains(want) && err.contains("\nhint: "), "{arguments:?}: {err}");
    }
}
